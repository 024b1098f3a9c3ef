#!/bin/bash
# Runs at every boot of the primary, before postgresql.service, and changes only what is missing or different.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh

main() {
  prepare_node
  if [[ ! -e $PGDATA/PG_VERSION ]]; then
    initialise
  fi
  if [[ -e $PGDATA/standby.signal ]]; then
    log "$PGDATA has standby.signal: somebody made this node a standby, so it is started as it is"
  else
    configure "$PGDATA"
    start_privately
    ensure_roles
    ensure_database
    stop_privately
  fi
  start_units virtwork-slots.service
}

initialise() {
  log "initialising $PGDATA with PostgreSQL $PG_MAJOR"
  as_postgres mkdir -p "${PGDATA%/*}"
  new_wal_directory
  # Not postgresql-setup: it knows no staging directory, and Debian has none.
  as_postgres initdb -D "$PGDATA.new" --auth-local=peer --auth-host=scram-sha-256 --data-checksums \
    --locale=C.UTF-8 --encoding=UTF8 "${WAL_OPTIONS[@]}" >/dev/null
  adopt
}

# Nobody but this script gets in before roles and tables are there: a replica would clone half a database.
# Without synchronous standbys: there are none yet, and every commit would wait for them.
start_privately() {
  log "starting PostgreSQL on its socket only"
  as_postgres systemd-cat -t postgres pg_ctl start --silent --wait --timeout=86400 -D "$PGDATA" \
    -o "-c listen_addresses='' -c unix_socket_directories=$PGHOST -c synchronous_standby_names=''" ||
    refuse "PostgreSQL does not start; its own lines above say why; mend that, then restart the VM"
  trap 'pg_ctl_stop || true' EXIT
}

pg_ctl_stop() {
  as_postgres pg_ctl stop --silent --wait --timeout=3600 --mode=fast -D "$PGDATA"
}

stop_privately() {
  trap - EXIT
  pg_ctl_stop
}

superuser_sql() {
  PGOPTIONS='-c client_min_messages=warning' as_postgres psql -XAtq -v ON_ERROR_STOP=1 -d postgres "$@"
}

# At every boot, so that a changed Secret takes effect. psql gets the passwords through two file descriptors:
# they stand in no argument, file or environment; what could log the statements is switched off.
ensure_roles() {
  superuser_sql -f - 3<<<"$REPLICATION_PASSWORD" 4<<<"$CLIENT_PASSWORD" <<'SQL'
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
ALTER ROLE replicator LOGIN REPLICATION PASSWORD :'replication_password';
ALTER ROLE pgbench LOGIN PASSWORD :'client_password';
GRANT pg_monitor TO pgbench;
SQL
  log "roles replicator and pgbench have the Secret's passwords"
}

# Built under another name, so that a database called pgbench is always a complete one.
ensure_database() {
  local branches output
  if [[ $(superuser_sql -c "SELECT 1 FROM pg_database WHERE datname = 'pgbench'") != 1 ]]; then
    log "building the pgbench tables at scale $PGBENCH_SCALE (about $((PGBENCH_SCALE * 15)) MB)"
    superuser_sql -c 'DROP DATABASE IF EXISTS pgbench_init' -c 'CREATE DATABASE pgbench_init OWNER pgbench' \
      -c 'REVOKE CONNECT ON DATABASE pgbench_init FROM PUBLIC'
    output=$(as_postgres pgbench -i -q -s "$PGBENCH_SCALE" --partitions="$PGBENCH_PARTITIONS" \
      -U pgbench pgbench_init 2>&1) || {
      log "pgbench -i failed: ${output##*$'\n'}"
      return 1
    }
    superuser_sql -c 'ALTER DATABASE pgbench_init RENAME TO pgbench'
    log "the pgbench tables are complete"
  fi
  branches=$(superuser_sql -d pgbench -c 'SELECT count(*) FROM public.pgbench_branches' 2>&1) || true
  [[ $branches == "$PGBENCH_SCALE" ]] ||
    log "warning: pgbench-scale is $PGBENCH_SCALE, but the tables have scale ${branches##*$'\n'}; they are" \
      "kept (drop database pgbench and restart the VM to build them anew)"
}

main
exit
