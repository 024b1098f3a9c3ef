-- What another site calls to have this one stop writing, and the note of it.
SELECT pg_is_in_recovery() AS is_standby, to_regprocedure('virtwork.yield_to(text, integer)') IS NOT NULL AS has_function \gset
\if :is_standby
  \q
\endif
\if :has_function
\else
BEGIN;
CREATE SCHEMA IF NOT EXISTS virtwork;
CREATE TABLE IF NOT EXISTS virtwork.sites (
  site text PRIMARY KEY,
  timeline integer NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE virtwork.sites IS 'which site took over, and with which timeline: all others stop writing';
CREATE FUNCTION virtwork.yield_to(text, integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp SET synchronous_commit = local AS $$
BEGIN
  IF $1 IS NULL OR $1 !~ '^[a-z][a-z0-9-]{0,62}$' THEN
    RAISE 'no name of a site: %', $1;
  ELSIF $2 IS NULL OR $2 <= ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer THEN
    RAISE 'timeline % is no newer than that of this server', $2;
  ELSIF (SELECT count(*) FROM virtwork.sites) >= 100 THEN
    RAISE 'too many sites';
  END IF;
  INSERT INTO virtwork.sites AS known (site, timeline) VALUES ($1, $2)
    ON CONFLICT (site) DO UPDATE SET timeline = greatest(known.timeline, excluded.timeline), at = clock_timestamp();
END $$;
COMMENT ON FUNCTION virtwork.yield_to(text, integer) IS 'has this site stop writing, for another one that takes over';
REVOKE ALL ON FUNCTION virtwork.yield_to(text, integer) FROM PUBLIC;
COMMIT;
\endif
-- At the first start of a lab the role is still to come.
SELECT format('GRANT USAGE ON SCHEMA virtwork TO %1$I; GRANT SELECT ON virtwork.sites TO %1$I;'
    ' GRANT EXECUTE ON FUNCTION virtwork.yield_to(text, integer) TO %1$I', rolname)
  FROM pg_roles WHERE rolname = 'replicator' AND NOT (has_schema_privilege(oid, 'virtwork', 'USAGE')
    AND has_table_privilege(oid, 'virtwork.sites', 'SELECT') AND has_function_privilege(oid, 'virtwork.yield_to(text, integer)', 'EXECUTE')) \gexec
