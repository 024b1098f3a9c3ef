# shellcheck shell=bash
# What happens at every boot of a node, before postgresql.service; only what is missing or different is changed. Sourced by
# the set-up scripts, which differ in what a blank disk becomes: `begin`.

# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh
# shellcheck source=templates/manual/standby.sh
. /usr/local/lib/virtwork/standby.sh
# shellcheck source=templates/manual/clone.sh
. /usr/local/lib/virtwork/clone.sh
# shellcheck source=templates/common/database.sh
. /usr/local/lib/virtwork/database.sh

# On the data disk, from `virtwork-rejoin` until it is done: a boot in between goes on with it.
REJOIN=virtwork.rejoin

set_up() {
  # What the readiness probe goes by.
  rm -f /run/postgresql/virtwork.streamed
  # The others ask from now on what this node has.
  systemctl --no-block start virtwork-ready.socket
  prepare_node
  [[ -z ${ARCHIVE_TYPE:-} ]] || prepare_archive
  write_file /run/virtwork/prepared "$(printf 'BINDIR=%q\nPGDATA=%q' "$BINDIR" "$PGDATA")"
  [[ ! -e $PGDATA/PG_VERSION ]] || rm -f "$PGDATA.cloning"
  if [[ ! -e $PGDATA/PG_VERSION ]]; then
    begin
  elif [[ -e $PGDATA/$REJOIN ]]; then
    rejoin
  elif [[ -e $(fenced_file) ]]; then
    refuse "$(fenced_reason)"
  elif [[ -e $PGDATA/standby.signal ]]; then
    inspect
  fi
  if [[ ! -e $PGDATA/PG_VERSION ]]; then
    clone
  fi
  if [[ -e $PGDATA/standby.signal ]]; then
    configure_standby
  else
    configure "$PGDATA"
    # Made by this function, and by virtwork-watch.sh on a promoted node; removed when the database is gone.
    if [[ ! -e $PGDATA/virtwork.provisioned ]]; then
      provision
    fi
  fi
  start_units virtwork-watch.service
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

# A standby never starts with less of these than its primary had when it last wrote that into the WAL; not
# even once the primary has less itself, because the record that says so can then no longer be replayed. So
# what was lowered is lowered here at the restart after the primary's. (pg_controldata shortens two names.)
configure_standby() {
  local settings name recorded configured
  # Any name does while it may not connect.
  settings=$(PRIMARY_HOST=${PRIMARY_HOST:-$LAB-primary-0} standby_settings)
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
  data_facts "$PGDATA" || true
  find_primary "$DATA_SYSTEM" || true
  # Judged again, because `discard` has to be true now.
  # shellcheck disable=SC2119  # not with the script's arguments
  verdict=$(judge)
  if [[ $handed == @(keep|rewind)* && $verdict == @(follow*|wait*) ]]; then
    verdict=$handed
  fi
  case $verdict in
    follow) ;;
    follow*) ensure_slot >/dev/null 2>&1 || true ;;
    wait*) log "starting the standby as it is: ${verdict#* }" ;;
    rewind*)
      log "this node cannot follow with the data that it has: ${verdict#* }"
      rewind
      ;;
    *)
      log "this standby can never catch up again: ${verdict#* }"
      set_aside "${verdict%% *}"
      ;;
  esac
}

# Asked for by a person: this node becomes a standby of the primary that there is now, whatever it was.
rejoin() {
  local verdict said=''
  data_facts "$PGDATA" || refuse "$PGDATA/global/pg_control cannot be read; nothing was touched"
  forbid_streaming
  while true; do
    await 2 "waiting for the new primary" find_primary "$DATA_SYSTEM"
    # shellcheck disable=SC2119  # not with the script's arguments
    verdict=$(judge)
    # No server replays here what is noted as not replayed.
    [[ $verdict != *"$REPLAY_FIRST" ]] || verdict="keep ${verdict#* }"
    [[ $verdict == wait* ]] || break
    [[ $verdict == "$said" ]] || log "asking $PRIMARY_HOST: ${verdict#* }"
    said=$verdict
    pause 2
  done
  case $verdict in
    follow*)
      [[ $verdict == follow ]] || ensure_slot >/dev/null 2>&1 || true
      log "$PRIMARY_HOST has all that is here: this node follows it with the data that it has"
      ;;
    rewind*)
      log "this node has what $PRIMARY_HOST has not: ${verdict#* }"
      rewind
      ;;
    *)
      log "this node cannot follow with the data that it has: ${verdict#* }"
      set_aside "${verdict%% *}"
      ;;
  esac
  [[ -e $PGDATA/PG_VERSION ]] || return 0
  # The mark of the fence goes last but one: without standby.signal it has to hold.
  as_postgres touch "$PGDATA/standby.signal"
  rm -f "$PGDATA"/{virtwork.provisioned,virtwork.pending-start}
  sync "$PGDATA"
  rm -f "$(fenced_file)"
  rm -f "$PGDATA/$REJOIN"
  sync "$PGDATA"
}
