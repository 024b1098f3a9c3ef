#!/bin/bash
# Runs at every boot of a replica, before postgresql.service: clones the primary where there is no data, and
# again where the data can never catch up.
set -euo pipefail

ROLE=replica

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh
# shellcheck source=templates/replica/standby.sh
. /usr/local/lib/virtwork/standby.sh

main() {
  # What the readiness probe goes by.
  rm -f /run/postgresql/virtwork.streamed
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
  settings=$(printf "primary_conninfo = '%s'\nprimary_slot_name = '%s'" \
    "$(connection replicator "$STREAMING_PASSFILE")" "$SLOT")
  configure "$PGDATA" "$settings"
  for name in max_connections max_worker_processes max_wal_senders \
    max_prepared_transactions:max_prepared_xacts max_locks_per_transaction:max_locks_per_xact; do
    recorded=$(control_value "$PGDATA" "${name#*:} setting")
    name=${name%:*}
    configured=$(as_postgres postgres -D "$PGDATA" -C "$name")
    if ((configured < recorded)); then
      log "$name stays at $recorded, what the primary last had, until the next restart"
      settings+=$'\n'"$name = '$recorded'"
    fi
  done
  configure "$PGDATA" "$settings"
}

# An existing standby: started without the primary's consent, unless it is proven hopeless, but not connected to it
# before it may follow. Nothing is written before that is decided: the disk may be full.
inspect() {
  local verdict handed=''
  forbid_streaming
  # What the watcher saw of the running server can no longer be asked for.
  if [[ -e /run/virtwork/verdict ]]; then
    handed=$(</run/virtwork/verdict)
    rm /run/virtwork/verdict
  fi
  # Judged again, because `discard` has to be true now.
  # shellcheck disable=SC2119  # not with the script's arguments
  verdict=$(judge)
  if [[ $handed == keep* && $verdict == @(follow*|wait*) ]]; then
    verdict=$handed
  fi
  case $verdict in
    follow) ;;
    follow*) ensure_slot >/dev/null 2>&1 || true ;;
    wait*) log "starting the standby as it is: ${verdict#* }" ;;
    *)
      log "this standby can never catch up again: ${verdict#* }"
      set_aside "${verdict%% *}"
      ;;
  esac
}

# Data that the primary is proven to have, too, is worth nothing beside it. Other data may be all that is left of
# it: it is kept, each time anew, as long as there is room.
set_aside() {
  local aside=$PGDATA.previous number=1
  if [[ $1 == discard ]]; then
    log "removing $PGDATA: the primary has all of it"
    mv -T "$PGDATA" "$PGDATA.discard"
    remove_data "$PGDATA.discard"
  else
    check_room
    while [[ -e $aside ]]; do
      number=$((number + 1)) aside=$PGDATA.previous-$number
    done
    log "keeping the data, which the primary may not have, as $aside"
    mv -T "$PGDATA" "$aside"
  fi
}

# Room for a clone beside the data that is kept: a tenth more and 64 MiB, since the databases go on growing, and 1 GiB
# for the WAL of the meantime; in KiB.
check_room() {
  local need wal=$((1 << 20))
  need=$(ask_primary 'SELECT sum(pg_database_size(oid))::bigint / 1024 FROM pg_database' 2>/dev/null) ||
    fail "the primary $PRIMARY_HOST does not say how large its databases are"
  if has_wal_disk; then
    check_free "$WAL_MOUNT" "$wal"
    wal=0
  fi
  check_free "$DATA_MOUNT" $((need + need / 10 + 65536 + wal))
}

# check_free DIRECTORY KIB
check_free() {
  local free
  free=$(df -k --output=avail "$1" | tail -n 1)
  ((free > $2)) ||
    refuse "$PGDATA is kept, because nothing proves that the primary has its data, but a clone beside it needs" \
      "$(($2 / 1024)) MiB in $1 and $((free / 1024)) MiB are free; nothing was touched; grow the disk and restart" \
      "the VM, or copy what is kept here (${PGDATA##*/}*) elsewhere first, with \`cp -aL\`"
}

clone() {
  local attempt=0 output why
  as_postgres mkdir -p "${PGDATA%/*}"
  retry 2 "waiting for the primary $PRIMARY_HOST" ensure_slot
  check_primary_version
  log "cloning $PRIMARY_HOST into $PGDATA through the slot $SLOT"
  SECONDS=0
  exec 3>&1
  until output=$(clone_once 2>&1); do
    attempt=$((attempt + 1))
    why=$(reason "$output")
    log "cloning: attempt $attempt failed (${why:-no reason given})"
    # The longer the more often it failed, and never in step with the other replicas.
    pause $(((attempt < 5 ? 1 << attempt : 30) + RANDOM % (2 + 2 * attempt)))
  done
  as_postgres touch "$PGDATA.new/standby.signal"
  adopt
  log "the clone is complete after $SECONDS s"
}

# pg_basebackup copies a server of any older major, and then nothing can start the copy.
check_primary_version() {
  local version
  until version=$(replication_command 'SHOW server_version_num' 2>/dev/null) && [[ $version =~ ^[0-9]+$ ]]; do
    pause 2
  done
  ((version / 10000 == PG_MAJOR)) ||
    refuse "the primary has PostgreSQL $((version / 10000)), but this image has $PG_MAJOR; nothing was" \
      "touched; boot an image with PostgreSQL $((version / 10000))"
}

# Always from scratch and with a new slot: what a broken clone leaves is of no use, and a lost slot neither.
clone_once() {
  local start status
  remove_data "$PGDATA.new"
  take_turn || return 1
  new_wal_directory
  # Before the copy begins, so that whatever is copied goes back to this start, or to a later one.
  # Where it cannot say, the clone just proves nothing.
  start=$(ask_primary "$NEWEST_START" 2>/dev/null) || start=''
  status=$(slot_status) || return 1
  if [[ -n $status ]]; then
    receivewal --drop-slot || return 1
  fi
  receivewal --create-slot --if-not-exists || return 1
  as_postgres pg_basebackup --no-password -D "$PGDATA.new" -d "$(connection replicator)" \
    -X stream -S "$SLOT" --checkpoint=fast "${WAL_OPTIONS[@]}" || return 1
  # The slot holds back nothing any more when others moved the WAL on by more than the cap meanwhile.
  status=$(slot_status) || return 1
  if [[ $status == lost || -z $status ]]; then
    echo "error: the primary gave the slot $SLOT up during the clone (max_slot_wal_keep_size)"
    return 1
  fi
  # Files of the primary's own that came along.
  rm -f "$PGDATA.new"/{virtwork.provisioned,virtwork.pending-start,"$START_FILE"}
  [[ -z $start ]] || write_start "$PGDATA.new" "$start"
}

# Each base backup moves the WAL by almost two segments. What a slot may hold back has to do for the clone itself and
# for the next ones, until it streams: so many run at a time. A turn is a lock of a session on the primary, and ends
# with it, however this clone ends.
take_turn() {
  local answer
  coproc TURN { as_postgres psql -XAtqw -d "$(connection pgbench) dbname=postgres" 2>&1; }
  # shellcheck disable=SC2154  # bash sets TURN
  cat >&"${TURN[1]}" <<'SQL'
SELECT hashtext('virtwork clone') AS clone, floor(random() *
  greatest(1, pg_size_bytes(current_setting('max_slot_wal_keep_size')) / pg_size_bytes('96MB')))::int AS turn \gset
SELECT CASE WHEN pg_try_advisory_lock(:clone, :turn) THEN 'turn' ELSE 'busy' END AS answer \gset
\echo :answer
SELECT 'turn' FROM pg_advisory_lock(:clone, :turn);
SQL
  read -r answer <&"${TURN[0]}" || answer='error: the primary does not answer'
  if [[ $answer == busy ]]; then
    log 'waiting for other clones to end' >&3
    read -r answer <&"${TURN[0]}" || answer='error: the primary does not answer'
  fi
  [[ $answer == turn ]] || {
    echo "$answer"
    return 1
  }
}

main
exit
