#!/bin/bash
# Drops the slots of replicas that went away. A slot that is `lost` has let its WAL go
# (max_slot_wal_keep_size) and can never be used again; a replica that comes back makes itself a new one.
# Runs as postgres.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh

BINDIR=$(binary_directory)
trap 'exit 0' TERM

drop_lost_slots() {
  "$BINDIR/psql" -XAtqw -d postgres <<'SQL' 2>/dev/null
SELECT 'dropped the lost slot ' || slot_name || pg_drop_replication_slot(slot_name)::text
  FROM pg_replication_slots
  WHERE slot_type = 'physical' AND NOT active AND wal_status = 'lost' AND NOT pg_is_in_recovery();
SQL
}

main() {
  while true; do
    drop_lost_slots || true
    pause 60
  done
}

main
exit
