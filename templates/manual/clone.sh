# shellcheck shell=bash
# How data of another node comes here, and what becomes of the data that was here. Sourced by the set-up.

# From the moment at which the data goes away from its place, or other data begins to come there, until that is there: a boot
# in between, with nobody to ask, must not take this disk for a blank one and begin a lab anew.
mark_clone() {
  as_postgres mkdir -p "${PGDATA%/*}"
  as_postgres touch "$PGDATA.cloning"
  sync "${PGDATA%/*}"
}

is_cloning() {
  [[ -e $PGDATA.cloning ]]
}

# The clone, or the rewound copy, takes its place.
adopt_clone() {
  adopt
  rm -f "$PGDATA.cloning"
}

# Data that the primary is proven to have, too, is worth nothing beside it. Other data may be all that is left of
# it: it is kept, each time anew, as long as there is room.
set_aside() {
  local aside
  if [[ $1 == discard ]]; then
    log "removing $PGDATA: the primary has all of it"
    mark_clone
    mv -T "$PGDATA" "$PGDATA.discard"
    remove_data "$PGDATA.discard"
  else
    check_room
    aside=$(aside)
    log "keeping the data, which the primary may not have, as $aside"
    mark_clone
    mv -T "$PGDATA" "$aside"
  fi
}

aside() {
  local name=$PGDATA.previous number=1
  while [[ -e $name ]]; do
    number=$((number + 1)) name=$PGDATA.previous-$number
  done
  printf '%s' "$name"
}

# Room for a clone beside the data that is kept: a tenth more and 64 MiB, since the databases go on growing, and 1 GiB
# for the WAL of the meantime; in KiB.
check_room() {
  local need wal=$((1 << 20))
  need=$(ask_primary 'SELECT sum(pg_database_size(oid))::bigint / 1024 FROM pg_database' 2>/dev/null) ||
    fail "the primary ${PRIMARY_HOST:-(none)} does not say how large its databases are"
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

# The data of a node that went on when another was promoted. All of it is kept; a copy is taken back to where the new
# timeline begins, and then is a standby's. Where that does not work, a clone.
rewind() {
  local output start aside
  check_room
  if ! output=$(rewind_copy 2>&1); then
    log "pg_rewind is of no use here ($(reason "$output")): cloning instead"
    remove_data "$PGDATA.new"
    set_aside keep
    return
  fi
  aside=$(aside)
  log "rewound a copy to the history of $PRIMARY_HOST, and keeping the data as it was, as $aside"
  mark_clone
  sync
  mv -T "$PGDATA" "$aside"
  adopt_clone
}

rewind_copy() {
  local start
  remove_data "$PGDATA.new"
  # Before its first checkpoint the promoted server calls itself by its old timeline, and pg_rewind would do nothing.
  wait_for_checkpoint || return 1
  start=$(ask_primary "$NEWEST_START" 2>/dev/null) || start=''
  copy_data || return 1
  # pg_rewind has a server of one session end the recovery of a copy that was not shut down.
  rm -f "$PGDATA.new"/{standby.signal,recovery.signal,postmaster.pid}
  as_postgres pg_rewind -D "$PGDATA.new" --source-server="$(connection replicator) dbname=postgres" || return 1
  forget_primary "$PGDATA.new"
  [[ -z $start ]] || write_start "$PGDATA.new" "$start"
  as_postgres touch "$PGDATA.new/standby.signal"
}

# The WAL may lie on a disk of its own.
copy_data() {
  as_postgres cp -a "$PGDATA" "$PGDATA.new" || return 1
  if [[ -L $PGDATA/pg_wal ]]; then
    new_wal_directory
    rm "$PGDATA.new/pg_wal"
    as_postgres cp -a "$PGDATA/pg_wal/." "${WAL_OPTIONS[0]#--waldir=}/" || return 1
    as_postgres ln -s "${WAL_OPTIONS[0]#--waldir=}" "$PGDATA.new/pg_wal"
  fi
}

wait_for_checkpoint() {
  local attempt said newest
  for ((attempt = 0; attempt < 300; attempt++)); do
    # shellcheck disable=SC2034  # named for the reader
    IFS='|' read -r said newest < <(ask_primary "SELECT timeline_id,
      ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int FROM pg_control_checkpoint()") || true
    [[ -z $said || $said != "$newest" ]] || return 0
    pause 1
  done
  echo "error: $PRIMARY_HOST made no checkpoint on its timeline within 5 minutes"
  return 1
}

clone() {
  local attempt=0 output why
  mark_clone
  await 2 "waiting for the primary" may_begin_clone
  [[ ! -e $PGDATA/PG_VERSION ]] || return 0
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
    # It may be another one now.
    await 2 "waiting for the primary" may_clone
  done
  as_postgres touch "$PGDATA.new/standby.signal"
  adopt_clone
  log "the clone is complete after $SECONDS s"
}

# The archive comes first where there is one.
may_begin_clone() {
  if [[ -n ${ARCHIVE_TYPE:-} ]] && clone_from_archive; then
    return
  fi
  may_clone
}

# Without data there is nothing to lose, so the node that begins the lab is asked alone first.
may_clone() {
  PRIMARY_HOST=$LAB-primary-0
  if [[ $NODE == "$PRIMARY_HOST" || $(question "$PRIMARY_HOST" /node) != "peer $PRIMARY_HOST primary "*' yes - - '* ]]; then
    find_primary || return 1
  fi
  WHY=$(ensure_slot 2>&1) || {
    WHY=$(reason "$WHY")
    return 1
  }
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
  as_postgres pg_basebackup --no-password -D "$PGDATA.new" -d "$(connection replicator '' "'$NODE clone'")" \
    -X stream -S "$SLOT" --checkpoint=fast "${WAL_OPTIONS[@]}" || return 1
  # The slot holds back nothing any more when others moved the WAL on by more than the cap meanwhile.
  status=$(slot_status) || return 1
  if [[ $status == lost || -z $status ]]; then
    echo "error: the primary gave the slot $SLOT up during the clone (max_slot_wal_keep_size)"
    return 1
  fi
  # Files of the primary's own that came along.
  forget_primary "$PGDATA.new"
  [[ -z $start ]] || write_start "$PGDATA.new" "$start"
}

# forget_primary DIRECTORY: removes what the primary has noted of itself.
forget_primary() {
  rm -f "$1"/{virtwork.provisioned,virtwork.pending-start,virtwork.fenced,virtwork.rejoin,"$START_FILE"}
}

# Each base backup moves the WAL by almost two segments. What a slot may hold back has to do for the clone itself and
# for the next ones, until it streams: so many run at a time, and none begins while it would cost a replica its slot that
# has just been cloned and does not stream yet. One that is away holds up nobody for more than a minute. A turn is a lock
# of a session on the primary, and ends with it, however this clone ends.
take_turn() {
  local answer attempt
  coproc TURN { as_postgres psql -XAtqw -d "$(connection pgbench '' "'$NODE clone'") dbname=postgres" 2>&1; }
  # shellcheck disable=SC2154  # bash sets TURN
  cat >&"${TURN[1]}" <<'SQL'
SELECT hashtext('virtwork clone') AS clone, floor(random() *
  greatest(1, pg_size_bytes(current_setting('max_slot_wal_keep_size')) / pg_size_bytes('96MB')))::int AS turn \gset
SELECT CASE WHEN pg_try_advisory_lock(:clone, :turn) THEN 'free' ELSE 'busy' END;
SELECT 'wait' FROM pg_advisory_lock(:clone, :turn);
SQL
  hear
  [[ $answer != busy ]] || log 'waiting for other clones to end' >&3
  [[ $answer != @(busy|free) ]] || hear
  for ((attempt = 0; attempt < 60; attempt++)); do
    [[ $answer == wait ]] || break
    ((attempt != 1)) || log 'waiting for a replica that was just cloned to stream' >&3
    ((attempt == 0)) || pause 1
    cat >&"${TURN[1]}" <<SQL
SELECT CASE WHEN EXISTS (SELECT FROM pg_replication_slots
    WHERE NOT active AND slot_name <> '$SLOT' AND wal_status <> 'lost'
      AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) + pg_size_bytes('32MB') >
        nullif(pg_size_bytes(current_setting('max_slot_wal_keep_size')), -1))
  THEN 'wait' ELSE 'turn' END;
SQL
    hear
  done
  [[ $answer == @(turn|wait) ]] || {
    echo "$answer"
    return 1
  }
}

# The next line that the session says, in take_turn's own variable: a subshell has no part in a coprocess.
hear() {
  read -r answer <&"${TURN[0]}" || answer='error: the primary does not answer'
}
