-- The settings of a running server of one major (initdb's defaults will do), as tests/settings/merge reads them:
--   psql -XAt -F "$(printf '\t')" -U postgres -f tests/settings/settings.sql > 18.tsv
-- Columns: major, name, type, unit, min, max, words.

WITH builds AS (SELECT current_setting('server_version_num')::int / 10000 AS major),
-- What pg_settings does not say, from the check hooks of guc_tables.c and from trying each setting with '' and
-- with rubbish: lists of fixed words, text that must not be empty, bounds that only show when the server starts.
lists(name, since, words) AS (VALUES
  ('createrole_self_grant', 16, '{set,inherit}'),
  ('datestyle', 13, '{iso,sql,postgres,german,ymd,dmy,mdy,us,euro,european,noneuro,noneuropean,default}'),
  ('debug_io_direct', 16, '{data,wal,wal_init}'),
  ('log_connections', 18, '{on,off,all,receipt,authentication,authorization,setup_durations}'),
  ('log_destination', 13, '{stderr,csvlog,syslog}'),
  ('log_destination', 15, '{stderr,csvlog,jsonlog,syslog}'),
  ('restrict_nonsystem_relation_kind', 13, '{view,foreign-table}')),
not_empty(name) AS (VALUES
  ('client_encoding'), ('default_table_access_method'), ('lc_messages'), ('log_timezone'), ('timezone'),
  ('timezone_abbreviations')),
-- max_wal_size, min_wal_size: two segments of 16 MB; max_stack_depth: systemd's 8 MB stack less 512 kB;
-- max_files_per_process: tried (18 has this bound itself)
bounds(name, min, max) AS (VALUES
  ('max_wal_size', '32', NULL), ('min_wal_size', '32', NULL), ('max_stack_depth', NULL, '7680'),
  ('max_files_per_process', '64', NULL)),
-- a build without these libraries does not list the words; the distributions' builds have them
libraries(name, since, word) AS (VALUES
  ('default_toast_compression', 14, 'lz4'), ('wal_compression', 15, 'lz4'), ('wal_compression', 15, 'zstd'),
  ('io_method', 18, 'io_uring')),
-- GUC_DISALLOW_IN_FILE, which pg_settings does not show: they belong to sessions; it does not list the last five
session(name) AS (VALUES
  ('transaction_deferrable'), ('transaction_isolation'), ('transaction_read_only'),
  ('is_superuser'), ('role'), ('seed'), ('session_authorization'), ('ssl_renegotiation_limit')),
-- names of before, which the server still takes (map_old_guc_names in guc.c)
old(name, now) AS (VALUES
  ('force_parallel_mode', 'debug_parallel_query'), ('sort_mem', 'work_mem'),
  ('ssl_ecdh_curve', 'ssl_groups'), ('vacuum_mem', 'maintenance_work_mem')),
known AS (
  SELECT lower(name) AS name, vartype, context, unit, min_val, max_val, enumvals FROM pg_settings
  UNION ALL
  SELECT old.name, vartype, context, unit, min_val, max_val, enumvals FROM old
    JOIN pg_settings ON pg_settings.name = old.now
    WHERE current_setting(old.name, true) IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_settings WHERE pg_settings.name = old.name)
  UNION ALL
  SELECT name, 'string', 'user', NULL, NULL, NULL, NULL FROM session
    WHERE name NOT IN (SELECT name FROM pg_settings)),
words AS (
  SELECT DISTINCT ON (name) name, words::text[] FROM lists, builds WHERE since <= major ORDER BY name, since DESC)
SELECT major, name,
  CASE WHEN context = 'internal' THEN 'read-only'
    WHEN name IN (SELECT name FROM session) THEN 'session'
    WHEN vartype = 'string' AND words IS NOT NULL THEN 'list'
    WHEN vartype = 'string' THEN 'text'
    ELSE vartype END,
  unit,
  CASE WHEN name IN (SELECT name FROM not_empty) THEN '1' ELSE coalesce(bounds.min, min_val) END,
  coalesce(bounds.max, max_val),
  array_to_string(CASE WHEN vartype = 'enum' THEN enumvals || ARRAY(
      SELECT word FROM libraries WHERE libraries.name = known.name AND since <= major AND word <> ALL (enumvals)
      ORDER BY word)
    WHEN vartype = 'string' THEN words END, ',')
FROM builds, known LEFT JOIN words USING (name) LEFT JOIN bounds USING (name)
ORDER BY name;
