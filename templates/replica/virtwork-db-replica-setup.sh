#!/bin/bash
# Runs at every boot of a replica, before postgresql.service: clones the primary where there is no data, and
# again where the data can never catch up.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh
# shellcheck source=templates/replica/standby.sh
. /usr/local/lib/virtwork/standby.sh

main() {
  prepare_node
  if [[ -e $PGDATA/PG_VERSION && ! -e $PGDATA/standby.signal ]]; then
    log "$PGDATA has no standby.signal: this node was promoted, so it is started as it is"
  else
    if [[ -e $PGDATA/PG_VERSION ]]; then
      inspect
    fi
    if [[ ! -e $PGDATA/PG_VERSION ]]; then
      clone
    fi
    configure_standby
  fi
  start_units virtwork-replica-watch.service
}

# A standby never starts with less of these than its primary had when it last wrote that into the WAL; not
# even once the primary has less itself, because the record that says so can then no longer be replayed. So
# what was lowered is lowered here at the restart after the primary's. (pg_controldata shortens two names.)
configure_standby() {
  local settings name recorded configured
  settings=$(printf "primary_conninfo = '%s'\nprimary_slot_name = '%s'" "$(connection replicator)" "$SLOT")
  configure "$PGDATA" "$settings"
  for name in max_connections max_worker_processes max_wal_senders \
    max_prepared_transactions:max_prepared_xacts max_locks_per_transaction:max_locks_per_xact; do
    recorded=$(local_value "${name#*:} setting")
    name=${name%:*}
    configured=$(as_postgres postgres -D "$PGDATA" -C "$name")
    if ((configured < recorded)); then
      log "$name stays at $recorded, what the primary last had, until the next restart"
      settings+=$'\n'"$name = '$recorded'"
    fi
  done
  configure "$PGDATA" "$settings"
}

# An existing standby: started without the primary's consent, unless it is proven hopeless.
inspect() {
  local verdict position=''
  # Left by the watcher. The primary is asked again, because this may be another boot, with another primary.
  if [[ -e $PGDATA/virtwork.position ]]; then
    position=$(<"$PGDATA/virtwork.position")
    rm "$PGDATA/virtwork.position"
  fi
  if ! ensure_slot >/dev/null 2>&1; then
    log "the primary $PRIMARY_HOST does not answer: starting the standby as it is"
    return
  fi
  verdict=$(never_again "$position") || return 0
  log "this standby can never catch up again: ${verdict#* }"
  set_aside "${verdict%% *}"
}

# Data that the primary has, too, is worth nothing beside it. Other data may be all that is left of it.
set_aside() {
  if [[ $1 == discard ]]; then
    log "removing $PGDATA"
    mv -T "$PGDATA" "$PGDATA.discard"
    rm -rf "$PGDATA.discard"
  else
    check_room
    log "keeping the data that the primary does not have as $PGDATA.previous"
    rm -rf "$PGDATA.previous"
    mv -T "$PGDATA" "$PGDATA.previous"
  fi
  collect_wal_directories
}

# Room for a clone beside the data that is kept, with 1 GiB for the WAL of the meantime, in KiB.
check_room() {
  local need have
  need=$(ask_primary 'SELECT sum(pg_database_size(oid))::bigint / 1024 FROM pg_database')
  need=$((need + 1048576))
  have=$(df -k --output=avail "$DATA_MOUNT" | tail -n 1)
  if [[ -e $PGDATA.previous ]]; then
    have=$((have + $(du -sk "$PGDATA.previous" | cut -f 1)))
  fi
  ((have > need)) ||
    refuse "$PGDATA is kept, because the primary does not have its data, but a clone beside it needs" \
      "$((need / 1024)) MiB and $((have / 1024)) MiB are free; nothing was touched; grow the data disk, or" \
      "remove $PGDATA if its data may go, then restart the VM"
}

clone() {
  as_postgres mkdir -p "${PGDATA%/*}"
  retry "waiting for the primary $PRIMARY_HOST" ensure_slot
  check_primary_version
  log "cloning $PRIMARY_HOST into $PGDATA through the slot $SLOT"
  SECONDS=0
  retry "cloning" clone_once
  as_postgres touch "$PGDATA.new/standby.signal"
  adopt
  log "the clone is complete after $SECONDS s"
}

# pg_basebackup copies a server of any older major, and then nothing can start the copy.
check_primary_version() {
  local version
  until version=$(replication_command 'SHOW server_version_num') && [[ $version =~ ^[0-9]+$ ]]; do
    pause 5
  done
  ((version / 10000 == PG_MAJOR)) ||
    refuse "the primary has PostgreSQL $((version / 10000)), but this image has $PG_MAJOR; nothing was" \
      "touched; boot an image with PostgreSQL $((version / 10000))"
}

# Always from scratch and with a new slot: what a broken clone leaves is of no use, and a lost slot neither.
# shellcheck disable=SC2317  # called by retry
clone_once() {
  rm -rf "$PGDATA.new"
  collect_wal_directories
  new_wal_directory
  as_postgres pg_receivewal --no-password --drop-slot -S "$SLOT" \
    -d "$(connection replicator)" 2>/dev/null || true
  ensure_slot && as_postgres pg_basebackup --no-password -D "$PGDATA.new" -d "$(connection replicator)" \
    -X stream -S "$SLOT" --checkpoint=fast "${WAL_OPTIONS[@]}"
}

main
exit
