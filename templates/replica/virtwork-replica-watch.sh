#!/bin/bash
# A standby that lost its WAL, its slot or its primary says "accepting connections" and tries for ever, and one whose
# primary was restored mixes two histories. This loop lets the standby stream only from a primary that it may follow,
# has the set-up clone again where it never will, and says for the readiness probe when WAL last streamed.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/replica/standby.sh
. /usr/local/lib/virtwork/standby.sh

find_binaries
trap 'exit 0' TERM

# How long streaming may be allowed, or the own WAL be replayed, without anything that moves, before the history is
# taken for another one. A primary keeps the slot of a peer that is gone for a minute (wal_sender_timeout).
SECONDS_STUCK=90
SECONDS_BETWEEN_COMPARISONS=60
SECONDS_BETWEEN_JUDGEMENTS=2
# More than a primary writes between its start and the mark of it.
MARK_MARGIN=$((64 << 20))

# What the last look saw: `primary`, `unknown` (no answer), `waiting` or `streaming`; how far WAL was replayed;
# whether the startup process waits for WAL, and not for a query, a pause or its disk.
state='' replayed='' hungry=''
last_receiver='' verdict='' why_waiting=''
NOW=0 allowed_at=-60 judged_at=0 compared_at=0 stuck_at='' stuck_since=0

local_sql() {
  as_postgres timeout 60 psql -XAtqw -d postgres -c "$1" 2>/dev/null
}

# A WAL receiver that is there at two looks streams. One that never is finds WAL that does not fit, again and again.
look() {
  local kind receiver
  IFS='|' read -r kind receiver replayed hungry < <(local_sql "SELECT
      CASE WHEN pg_is_in_recovery() THEN 'waiting' ELSE 'primary' END,
      (SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'),
      pg_last_wal_replay_lsn(),
      EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup'
        AND wait_event IN ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval'))" || echo unknown)
  state=$kind
  if [[ $kind == waiting && -n $receiver && $receiver == "$last_receiver" ]]; then
    state=streaming
  fi
  last_receiver=$receiver
}

tell() {
  case $state in
    streaming) log "streaming from $PRIMARY_HOST" ;;
    waiting) log "not streaming from $PRIMARY_HOST" ;;
    primary) log "this node was promoted: nothing to watch" ;;
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
  forbid_streaming
  why_waiting='' stuck_at=''
  echo "$NOW" >/run/postgresql/virtwork.streamed
  start=$(local_sql "$NEWEST_START") || start=''
  if [[ -n $start ]]; then
    write_start "$PGDATA" "$start" || true
    # PostgreSQL does not notice other WAL that happens to fit.
    if ((NOW - compared_at >= SECONDS_BETWEEN_COMPARISONS)); then
      next=$(next_start "$start") || next=''
      if [[ $next == unknown ]]; then
        verdict="keep $RESTORED: it never saw the start that this standby goes back to"
      elif [[ $next == */* ]] && (($(lsn "$replayed") > $(lsn "$next") + MARK_MARGIN)); then
        verdict="keep $RESTORED: it went on from $next, this standby streams on from its own"
      else
        compared_at=$NOW
      fi
    fi
  fi
}

waiting() {
  local start why
  compared_at=0
  ((NOW - judged_at >= SECONDS_BETWEEN_JUDGEMENTS)) || return 0
  judged_at=$NOW
  # Whoever answers next may be another.
  if ask_primary 'SELECT 1' >/dev/null 2>&1; then
    start=$(local_sql "$NEWEST_START") || start=''
    [[ -z $start ]] || write_start "$PGDATA" "$start" || true
    # A position beside an older start than the one that it goes back to would be no pair.
    verdict=$(judge "$start" "${start:+$replayed}")
  else
    verdict='wait the primary does not answer'
  fi
  # Only the time counts in which it might have moved.
  if [[ $replayed != "$stuck_at" || $hungry != t || $verdict != @(follow*|*"$REPLAY_FIRST") ||
    $verdict == follow* && $((NOW - allowed_at)) -gt 10 ]]; then
    stuck_at=$replayed stuck_since=$NOW
  elif ((NOW - stuck_since >= SECONDS_STUCK)) && why=$(stuck); then
    verdict="keep $why"
  fi
  case $verdict in
    follow*)
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

main() {
  local told='' suspicion=no
  while true; do
    tick
    look
    # A WAL receiver that has just begun is no news yet.
    if [[ $state != "$told" && ($state != waiting || -z $last_receiver) ]]; then
      tell
      told=$state
    fi
    verdict=''
    if [[ $state == streaming ]]; then
      streaming
    elif [[ $state == primary ]]; then
      # A standby that was promoted while it ran.
      as_postgres /usr/local/sbin/virtwork-server-start.sh after || true
    elif [[ -e $PGDATA/standby.signal ]]; then
      waiting
    fi
    # Twice: between two answers a server may have been replaced.
    if [[ $verdict == @(keep|discard)* ]]; then
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
      primary) pause 60 ;;
      streaming) pause 5 ;;
      *) pause 1 ;;
    esac
  done
}

main
exit
