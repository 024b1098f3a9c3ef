#!/bin/bash
# Beside the server, for what the node is now.
#
# A primary asks the other nodes whether one knows of a newer timeline, and then fences itself; it gives the roles the Secret's
# passwords, marks its start where that failed, and drops slots that nobody will use again.
#
# A standby that lost its WAL, its slot or its primary says "accepting connections" and tries for ever, and one whose
# primary was restored mixes two histories. This loop finds the primary, lets the standby stream only from one that it may
# follow, has the set-up clone again where it never will, keeps slots for the others, in case it is promoted, and says for
# the readiness probe when WAL last streamed.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh
# shellcheck source=templates/manual/standby.sh
. /usr/local/lib/virtwork/standby.sh
# shellcheck source=templates/common/database.sh
. /usr/local/lib/virtwork/database.sh

trap 'exit 0' TERM

# How long streaming may be allowed, or the own WAL be replayed, without anything that moves, before the history is
# taken for another one. A primary keeps the slot of a peer that is gone for a minute (wal_sender_timeout).
SECONDS_STUCK=90
SECONDS_BETWEEN_COMPARISONS=60
SECONDS_BETWEEN_JUDGEMENTS=2
SECONDS_BETWEEN_QUESTIONS=5
SECONDS_BETWEEN_SLOTS=10
# A slot of a replica that the config no longer has goes after so long without an address.
SECONDS_ORPHANED=600
# More than a primary writes between its start and the mark of it.
MARK_MARGIN=$((64 << 20))

# What the last look saw: `primary`, `unknown` (no answer), `waiting` or `streaming`; how far WAL was replayed;
# whether the startup process waits for WAL, and not for a query, a pause or its disk; whether the primary says nothing.
state='' replayed='' hungry='' quiet=''
last_receiver='' verdict='' why_waiting=''
NOW=0 allowed_at=-60 judged_at=0 compared_at=0 stuck_at='' stuck_since=0
asked_at=-60 tended_at=-60 slots_at=-60 noted_name='' noted_at=''
declare -A orphaned_since=()

local_sql() {
  as_postgres timeout 20 psql -XAtqw -d postgres -c "$1" 2>/dev/null
}

# A WAL receiver that is there at two looks streams. One that never is finds WAL that does not fit, again and again.
look() {
  local kind receiver
  if [[ $STANDBY_MODE == warm && -e $PGDATA/standby.signal ]]; then
    look_warm
    return
  fi
  IFS='|' read -r kind receiver quiet replayed hungry < <(local_sql "SELECT
      CASE WHEN pg_is_in_recovery() THEN 'waiting' ELSE 'primary' END,
      (SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'),
      (SELECT last_msg_receipt_time < now() - interval '4 s' FROM pg_stat_wal_receiver),
      pg_last_wal_replay_lsn(),
      EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup'
        AND wait_event IN ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval'))" || echo unknown)
  saw "$kind" "$receiver"
}

# It takes no queries: its processes are there to see, the primary says how far it is.
look_warm() {
  local kind=unknown receiver='' process pid
  replayed='' hungry='' quiet=t
  postmaster_status
  if [[ $POSTMASTER == standby ]]; then
    kind=waiting
    read -r pid <"$PGDATA/postmaster.pid" || pid=0
    for process in $(cat "/proc/$pid/task/$pid/children" 2>/dev/null || true); do
      if [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$process/cmdline") == *walreceiver*streaming* ]]; then
        receiver=$process
      fi
    done
  fi
  saw "$kind" "$receiver"
}

saw() {
  state=$1
  if [[ $1 == waiting && -n $2 && $2 == "$last_receiver" ]]; then
    state=streaming
  fi
  last_receiver=$2
}

tell() {
  case $state in
    streaming) log "streaming from $PRIMARY_HOST" ;;
    waiting) log "not streaming from $PRIMARY_HOST" ;;
    primary) log "this node is the primary" ;;
    unknown) log "this server takes no queries" ;;
  esac
}

# Has a server that waits for its next attempt try at once, also one that takes no queries yet.
wake() {
  local pid=''
  read -r pid 2>/dev/null <"$PGDATA/postmaster.pid" || true
  [[ -z $pid ]] || kill -HUP "$pid" 2>/dev/null || true
}

streaming() {
  local start next
  # A primary that lost its power says no goodbye: its successor may be there before the connection is given up.
  if [[ $quiet == t && $(question "$PRIMARY_HOST" /node) != "peer $PRIMARY_HOST primary "*' yes - '* ]]; then
    waiting
    return
  fi
  forbid_streaming
  why_waiting='' stuck_at=''
  echo "$NOW" >/run/postgresql/virtwork.streamed
  if [[ $STANDBY_MODE == warm ]]; then
    start=$(replayed_start) || start=''
  else
    start=$(local_sql "$NEWEST_START") || start=''
    if ((NOW - slots_at >= SECONDS_BETWEEN_SLOTS)); then
      slots_at=$NOW
      copy_slots || true
    fi
  fi
  if [[ -n $start ]]; then
    write_start "$PGDATA" "$start" || true
    # PostgreSQL does not notice other WAL that happens to fit.
    if ((NOW - compared_at >= SECONDS_BETWEEN_COMPARISONS)); then
      next=$(next_start "$start") || next=''
      if [[ $next == unknown ]]; then
        verdict="keep $RESTORED: it never saw the start that this standby goes back to"
      elif [[ -n $replayed && $next == */* ]] && (($(lsn "$replayed") > $(lsn "$next") + MARK_MARGIN)); then
        verdict="keep $RESTORED: it went on from $next, this standby streams on from its own"
      else
        compared_at=$NOW
      fi
    fi
  fi
}

# Of a warm standby: the primary's newest start, once the primary says that this standby has replayed what was written until
# it was asked for that start.
replayed_start() {
  local position name at
  IFS='|' read -r position name at < <(ask_primary "SELECT
    (SELECT min(replay_lsn) FROM pg_stat_replication WHERE application_name = '$NODE' AND state = 'streaming'),
    ($NEWEST_START), pg_current_wal_lsn()" 2>/dev/null) || return 1
  if [[ $name != "$noted_name" && $name =~ ^[0-9a-f-]{36}$ && $at == */* ]]; then
    noted_name=$name noted_at=$at
    return 1
  fi
  [[ -n $noted_name && $position == */* ]] && (($(lsn "$position") >= $(lsn "$noted_at"))) || return 1
  printf '%s' "$noted_name"
}

# What the primary keeps for the others, kept here, too: so none of them has to clone when this node is promoted. And a slot
# for the primary itself, which may be the next to follow.
copy_slots() {
  local wanted name position pattern=${LAB//-/_}_'(primary_0|replica_[0-9]+)' list=''
  wanted=$(ask_primary "SELECT slot_name, restart_lsn FROM pg_replication_slots WHERE slot_type = 'physical'
    AND restart_lsn IS NOT NULL AND coalesce(wal_status, '') <> 'lost'" 2>/dev/null) || return 1
  while IFS='|' read -r name position; do
    if [[ $name =~ ^$pattern$ && $position =~ ^[0-9A-F]+/[0-9A-F]+$ && $name != "$SLOT" ]]; then
      list+="${list:+, }('$name', pg_lsn '$position')"
    fi
  done <<<"$wanted"$'\n'"${PRIMARY_HOST//-/_}|$replayed"
  [[ -n $list ]] || return 0
  as_postgres timeout 60 psql -XAtqw -d postgres <<SQL >/dev/null 2>&1
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
  WHERE slot_type = 'physical' AND NOT active AND slot_name ~ '^$pattern\$' AND (wal_status = 'lost'
    OR slot_name NOT IN (SELECT name FROM (VALUES $list) AS wanted (name, position)));
SELECT pg_create_physical_replication_slot(name, true) FROM (VALUES $list) AS wanted (name, position)
  WHERE name NOT IN (SELECT slot_name FROM pg_replication_slots);
SELECT pg_replication_slot_advance(slot_name, position)
  FROM (VALUES $list) AS wanted (name, position) JOIN pg_replication_slots ON slot_name = name
  WHERE NOT active AND position > restart_lsn AND pg_is_in_recovery();
SQL
}

waiting() {
  local start why
  compared_at=0
  ((NOW - judged_at >= SECONDS_BETWEEN_JUDGEMENTS)) || return 0
  judged_at=$NOW
  # Whoever answers next may be another.
  data_facts "$PGDATA" || true
  if find_primary "$DATA_SYSTEM" && ask_primary 'SELECT 1' >/dev/null 2>&1; then
    start=$(local_sql "$NEWEST_START") || start=''
    [[ -z $start ]] || write_start "$PGDATA" "$start" || true
    # A position beside an older start than the one that it goes back to would be no pair.
    verdict=$(judge "$start" "${start:+$replayed}")
  else
    verdict="wait ${WHY:-the primary $PRIMARY_HOST does not answer}"
  fi
  # Each node asks each: the more there are, the more seldom.
  tick
  judged_at=$((NOW + ${#PEERS[@]} / 4))
  # Only the time counts in which it might have moved.
  if [[ $replayed != "$stuck_at" || $hungry != t || $verdict != @(follow*|*"$REPLAY_FIRST") ||
    $verdict == follow* && $((NOW - allowed_at)) -gt 10 ]]; then
    stuck_at=$replayed stuck_since=$NOW
  elif ((NOW - stuck_since >= SECONDS_STUCK)) && why=$(stuck); then
    verdict="keep $why"
  fi
  case $verdict in
    follow*)
      [[ $STANDBY_MODE == hot ]] || note_start
      point_to_primary || return 0
      if [[ ! -e $STREAMING_PASSFILE ]] && { [[ $verdict == follow ]] || ensure_slot >/dev/null 2>&1; }; then
        allow_streaming
        ((NOW - allowed_at < 10)) || wake
        allowed_at=$NOW
      fi
      ;;
    wait*)
      forbid_streaming
      if [[ $verdict != "$why_waiting" ]]; then
        log "waiting: ${verdict#* }"
        why_waiting=$verdict
      fi
      ;;
    *) forbid_streaming ;;
  esac
}

# A warm standby cannot be asked which start of the primary it has replayed. But all that it has is also in the history of the
# primary's newest start, when it ends before the one that followed the start that is noted; and what comes next is of that.
note_start() {
  local newest next
  newest=$(ask_primary "$NEWEST_START" 2>/dev/null) || return 0
  next=$(next_start "$(read_start "$PGDATA")") || return 0
  if [[ $next == */* && $newest =~ ^[0-9a-f-]{36}$ && $(judge) == follow* ]]; then
    write_start "$PGDATA" "$newest" || true
  fi
}

# Writes PRIMARY_HOST into the settings, which takes a reload.
point_to_primary() {
  local settings
  settings=$(sed -E '/^primary_(conninfo|slot_name) = /d' "$PGDATA/virtwork.conf")
  settings+=$'\n'$(standby_settings)
  cmp -s "$PGDATA/virtwork.conf" - <<<"$settings" || {
    # A full disk must not end this loop.
    (write_file "$PGDATA/virtwork.conf" "$settings") || return 1
    log "following $PRIMARY_HOST from now on"
    wake
  }
}

# Prints why, where nothing is missing and yet nothing moves.
stuck() {
  local answer flushed
  [[ -n $replayed && $hungry == t ]] && answer=$(interview '') &&
    [[ $(answer_of active "$answer") == false ]] &&
    IFS='|' read -r _ _ flushed _ < <(answer_of identity "$answer") &&
    (($(lsn "$flushed") > $(lsn "$replayed"))) &&
    (($(df -k --output=avail "$PGDATA/pg_wal/" | tail -n 1) > 65536)) || return 1
  echo "it replayed up to $replayed and finds no continuation in the primary's WAL, which goes up to $flushed"
}

# Also while the server takes no queries: it may still answer its clients.
ask_for_newer() {
  if ((NOW - asked_at >= SECONDS_BETWEEN_QUESTIONS)); then
    data_facts "$PGDATA" || return 0
    ask_peers /node
    tick
    asked_at=$((NOW + ${#PEERS[@]} / 20))
    if is_newer_known; then
      stop_writing
    fi
    no_rival || [[ $WHY == "$why_waiting" ]] || log "warning: $WHY, and so does this node; stop one of the two"
    why_waiting=$WHY
  fi
}

primary() {
  if ((NOW - tended_at >= 60)); then
    tended_at=$NOW
    # Where it failed after the start.
    as_postgres /usr/local/sbin/virtwork-server-start.sh after || true
    drop_lost_slots || true
  fi
  drop_orphans || true
}

# Another node was promoted: at once, and with a mark that holds at each later start.
stop_writing() {
  local pid=''
  # shellcheck disable=SC2086  # two words
  fence $NEWER || log 'warning: the fence could not be noted on the disk'
  read -r pid 2>/dev/null <"$PGDATA/postmaster.pid" || true
  [[ -z $pid ]] || kill -INT "$pid" 2>/dev/null || true
  log "fencing this node: ${NEWER% *} is on timeline ${NEWER#* }, this node on $DATA_TIMELINE"
  # Which refuses to start it again, and says what to do.
  systemctl --no-block restart virtwork-setup.service
  exit
}

# Once after each start as a primary, and after a promotion.
refresh() {
  as_postgres /usr/local/sbin/virtwork-server-start.sh after || true
  if ! has_database; then
    log "database pgbench is gone: building it anew"
    rm -f "$PGDATA/virtwork.provisioned"
    exec systemctl --no-block restart virtwork-setup.service
  fi
  write_file "$PGDATA/virtwork.provisioned" 'Roles and pgbench tables are complete.'
  read_pgpass
  ensure_roles
  check_scale
  # Before the first one on a new timeline pg_rewind takes this node for one of the old timeline. It may take minutes.
  superuser_sql -c 'CHECKPOINT' >/dev/null 2>&1 &
}

drop_lost_slots() {
  superuser_sql <<SQL 2>/dev/null
SELECT 'dropped the lost slot ' || slot_name || pg_drop_replication_slot(slot_name)::text
  FROM pg_replication_slots
  WHERE slot_type = 'physical' AND NOT active AND wal_status = 'lost' AND NOT pg_is_in_recovery();
SELECT 'dropped the slot of this node itself' || pg_drop_replication_slot(slot_name)::text
  FROM pg_replication_slots WHERE slot_name = '$SLOT' AND NOT active AND NOT pg_is_in_recovery();
SQL
}

# Slots of replicas that the config had once. REPLICA_COUNT is of this node's start: that alone proves nothing.
drop_orphans() {
  local slot number
  # Names that cannot be asked for do not say that somebody is gone.
  [[ ${SILENT[*]} != *"the names"* ]] || return 0
  while read -r slot; do
    number=${slot##*_}
    if ((number < REPLICA_COUNT)) || addresses "$LAB-replica-$number" >/dev/null; then
      unset "orphaned_since[$slot]"
    elif ((NOW - ${orphaned_since[$slot]:=$NOW} >= SECONDS_ORPHANED)); then
      superuser_sql -c "SELECT pg_drop_replication_slot('$slot')" >/dev/null 2>&1 || continue
      log "dropped the slot $slot: the config has $REPLICA_COUNT replicas, and it has had no address for $SECONDS_ORPHANED s"
      unset "orphaned_since[$slot]"
    fi
  done < <(superuser_sql -c "SELECT slot_name FROM pg_replication_slots
    WHERE slot_type = 'physical' AND NOT active AND slot_name ~ '^${LAB//-/_}_replica_[0-9]{1,9}\$'")
}

main() {
  local told='' suspicion=no
  find_postgres
  # Whom a standby that streams was last told to follow.
  PRIMARY_HOST=$(sed -nE "s/^primary_conninfo = 'host=([a-z0-9-]+) .*$/\1/p" "$PGDATA/virtwork.conf" | tail -n 1)
  while true; do
    tick
    if [[ ! -e $PGDATA/standby.signal ]]; then
      ask_for_newer
    fi
    look
    # A WAL receiver that has just begun is no news yet.
    if [[ $state != "$told" && ($state != waiting || -z $last_receiver) ]]; then
      tell
      told=$state
      if [[ $state == primary ]]; then
        refresh
      fi
    fi
    verdict=''
    if [[ $state == streaming ]]; then
      streaming
    elif [[ $state == primary ]]; then
      primary
    elif [[ -e $PGDATA/standby.signal ]]; then
      waiting
    fi
    # Twice: between two answers a server may have been replaced.
    if [[ $verdict == @(keep|rewind|discard)* ]]; then
      if [[ $suspicion == yes ]]; then
        log "cloning again: ${verdict#* }"
        # Not on the disk: at another boot there may be another primary.
        printf '%s\n' "$verdict" >/run/virtwork/verdict
        # Stops PostgreSQL and this watcher, which require it, and starts them again afterwards.
        systemctl --no-block restart virtwork-setup.service || rm -f /run/virtwork/verdict
        exit
      fi
      suspicion=yes
    elif [[ -n $verdict || $state == streaming && $compared_at != 0 ]]; then
      suspicion=no
    fi
    case $state in
      primary) pause 5 ;;
      streaming) pause 3 ;;
      *) pause 1 ;;
    esac
  done
}

main
exit
