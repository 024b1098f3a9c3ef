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
    configure "$PGDATA" "$(standby_settings)"
  fi
  start_units virtwork-replica-watch.service
}

standby_settings() {
  printf "primary_conninfo = '%s'\nprimary_slot_name = '%s'\n" "$(connection replicator)" "$SLOT"
}

# An existing standby: started without the primary's consent, unless it is proven hopeless.
inspect() {
  local verdict
  if [[ -e $PGDATA/virtwork.reclone ]]; then
    verdict=$(<"$PGDATA/virtwork.reclone")
    retry "waiting for the primary $PRIMARY_HOST" ensure_slot
  elif ! ensure_slot >/dev/null 2>&1; then
    log "the primary $PRIMARY_HOST does not answer: starting the standby as it is"
    return
  elif ! verdict=$(never_again ''); then
    return
  fi
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
  log "cloning $PRIMARY_HOST into $PGDATA through the slot $SLOT"
  SECONDS=0
  retry "cloning" clone_once
  as_postgres touch "$PGDATA.new/standby.signal"
  configure "$PGDATA.new" "$(standby_settings)"
  adopt
  log "the clone is complete after $SECONDS s"
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
