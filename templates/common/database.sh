# shellcheck shell=bash
# What a primary has to have in its database: the roles and the benchmark's tables. Sourced.

superuser_sql() {
  PGOPTIONS="$PGOPTIONS -c client_min_messages=warning -c synchronous_commit=local" \
    as_postgres psql -XAtq -v ON_ERROR_STOP=1 -d postgres "$@"
}

# At every boot, so that a changed Secret takes effect. psql gets the passwords through two file descriptors:
# they stand in no argument, file or environment; what could log or show the statements is switched off.
ensure_roles() {
  superuser_sql -v replicator="${TLS_REPLICATOR:-password}" -f - 3<<<"$REPLICATION_PASSWORD" 4<<<"$CLIENT_PASSWORD" <<'SQL'
SET track_activities = off;
SET log_statement = none;
SET log_min_duration_statement = -1;
SET log_min_duration_sample = -1;
SET log_transaction_sample_rate = 0;
SET log_min_error_statement = panic;
SET debug_print_parse = off;
SET debug_print_rewritten = off;
SET debug_print_plan = off;
SET pg_stat_statements.track_utility = off;
SET pgaudit.log = 'none';
SET password_encryption = 'scram-sha-256';
\set replication_password `cat <&3`
\set client_password `cat <&4`
SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY['replicator', 'pgbench']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
SELECT :'replicator' = 'password' AS has_password \gset
\if :has_password
ALTER ROLE replicator LOGIN REPLICATION PASSWORD :'replication_password';
\else
ALTER ROLE replicator LOGIN REPLICATION PASSWORD NULL;
\endif
ALTER ROLE pgbench LOGIN PASSWORD :'client_password';
GRANT pg_monitor TO pgbench, replicator;
-- What pg_rewind asks.
GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text),
  pg_read_binary_file(text, bigint, bigint, boolean) TO replicator;
SQL
  if [[ ${TLS_REPLICATOR:-password} == password ]]; then
    log "roles replicator and pgbench have the Secret's passwords"
  else
    log "role pgbench has the Secret's password, and replicator none: it logs in by its certificate"
  fi
}

# Built under another name, so that a database called pgbench is always a complete one.
ensure_database() {
  local output
  if has_database; then
    return
  fi
  log "building the pgbench tables at scale $PGBENCH_SCALE (about $((PGBENCH_SCALE * 15)) MB)"
  superuser_sql -c 'DROP DATABASE IF EXISTS pgbench_init' -c 'CREATE DATABASE pgbench_init OWNER pgbench' \
    -c 'REVOKE CONNECT ON DATABASE pgbench_init FROM PUBLIC'
  output=$(PGOPTIONS="$PGOPTIONS -c search_path=public" as_postgres pgbench -i -q -s "$PGBENCH_SCALE" --partitions="$PGBENCH_PARTITIONS" \
    -U pgbench pgbench_init 2>&1) || fail "pgbench -i: $(reason "$output")"
  superuser_sql -c 'ALTER DATABASE pgbench_init RENAME TO pgbench'
  log "the pgbench tables are complete"
}

# A server that is about to stop has not lost its database.
has_database() {
  local count
  count=$(superuser_sql -c "SELECT count(*) FROM pg_database WHERE datname = 'pgbench'") ||
    fail "the server does not say whether it has the database pgbench"
  ((count == 1))
}

# Not as a superuser: the owner of the tables may have put a view in the place of one, whose functions run as who asks.
check_scale() {
  local branches
  branches=$(as_postgres psql -XAtq -U pgbench -d pgbench -c 'SELECT count(*) FROM public.pgbench_branches' 2>&1) || true
  [[ $branches == "$PGBENCH_SCALE" ]] ||
    log "warning: pgbench-scale is $PGBENCH_SCALE, but the tables have scale $(reason "$branches"); they are" \
      "kept (drop database pgbench and restart the VM to build them anew)"
}
