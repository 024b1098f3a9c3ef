#!/bin/bash
# Runs at every boot of the primary, before postgresql.service, and changes only what is missing or different.
set -euo pipefail

ROLE=primary

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh
# shellcheck source=templates/primary/database.sh
. /usr/local/lib/virtwork/database.sh

main() {
  prepare_node
  if [[ ! -e $PGDATA/PG_VERSION ]]; then
    initialise
  fi
  if [[ -e $PGDATA/standby.signal ]]; then
    log "$PGDATA has standby.signal: somebody made this node a standby, so it is started as it is"
  else
    configure "$PGDATA"
    # Made by this function alone. virtwork-primary-watch.sh removes it when the database is gone.
    if [[ ! -e $PGDATA/virtwork.provisioned ]]; then
      provision
    fi
  fi
  start_units virtwork-primary-watch.service
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
provision() {
  start_privately
  ensure_roles
  ensure_database
  stop_privately
  write_file "$PGDATA/virtwork.provisioned" 'Roles and pgbench tables are complete.'
}

# Without synchronous standbys: there are none yet, and every commit would wait for them.
start_privately() {
  log "starting PostgreSQL on its socket only"
  as_postgres /usr/local/sbin/virtwork-server-start.sh before
  as_postgres systemd-cat -t postgres pg_ctl start --silent --wait --timeout=86400 -D "$PGDATA" \
    -o "-c listen_addresses='' -c unix_socket_directories=$PGHOST -c synchronous_standby_names=''" ||
    fail "PostgreSQL does not start; its own lines above say why"
  trap 'pg_ctl_stop || true' EXIT
  as_postgres /usr/local/sbin/virtwork-server-start.sh after
}

pg_ctl_stop() {
  as_postgres pg_ctl stop --silent --wait --timeout=3600 --mode=fast -D "$PGDATA"
}

stop_privately() {
  trap - EXIT
  pg_ctl_stop
}

main
exit
