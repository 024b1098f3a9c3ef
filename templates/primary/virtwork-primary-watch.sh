#!/bin/bash
# Beside the running primary: gives the roles the Secret's passwords once after each boot, then drops the slots of
# replicas that went away. A slot that is `lost` has let its WAL go (max_slot_wal_keep_size) and can never be used
# again; a replica that comes back makes itself a new one.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh
# shellcheck source=templates/primary/database.sh
. /usr/local/lib/virtwork/database.sh

trap 'exit 0' TERM

refresh() {
  if ! has_database; then
    log "database pgbench is gone: building it anew"
    rm -f "$PGDATA/virtwork.provisioned"
    exec systemctl --no-block restart virtwork-setup.service
  fi
  read_pgpass
  ensure_roles
  check_scale
}

drop_lost_slots() {
  superuser_sql <<'SQL' 2>/dev/null
SELECT 'dropped the lost slot ' || slot_name || pg_drop_replication_slot(slot_name)::text
  FROM pg_replication_slots
  WHERE slot_type = 'physical' AND NOT active AND wal_status = 'lost' AND NOT pg_is_in_recovery();
SQL
}

main() {
  find_postgres
  retry 1 "waiting for the server" superuser_sql -c 'SELECT 1'
  if [[ $(superuser_sql -c 'SELECT pg_is_in_recovery()') == f ]]; then
    refresh
  fi
  while true; do
    # Where it failed after the start.
    as_postgres /usr/local/sbin/virtwork-server-start.sh after || true
    drop_lost_slots || true
    pause 60
  done
}

main
exit
