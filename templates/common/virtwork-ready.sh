#!/bin/bash
# Answers one readiness probe: 200 when this node is usable, else 503 and why. A primary is usable when it accepts
# writes; a standby when it answers queries and has streamed from its primary in the last minute, so that reads go
# on while the primary restarts. Runs as postgres, with the connection as input and output.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh

BINDIR=$(binary_directory)
# When virtwork-replica-watch.sh last saw it stream: a WAL receiver that has only just begun proves nothing.
STREAMED=/run/postgresql/virtwork.streamed
SECONDS_WITHOUT_PRIMARY=60

answer() {
  printf 'HTTP/1.0 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n' \
    "$1" $((${#2} + 1)) "$2"
  exit
}

not_ready() {
  answer '503 Service Unavailable' "not ready: $1"
}

# By TCP and with the password, as a client would.
state() {
  PGHOST=127.0.0.1 PGCONNECT_TIMEOUT=3 timeout 4 "$BINDIR/psql" -XAtqw -U pgbench -d pgbench 2>&1 <<'SQL'
SELECT CASE
  WHEN pg_is_in_recovery() THEN 'standby'
  WHEN current_setting('transaction_read_only') = 'on' THEN 'read-only'
  ELSE 'primary'
END;
SQL
}

main() {
  local line now free seconds
  # A connection that is closed with unread input loses the answer. Nobody may keep it open for long.
  SECONDS=0
  while ((SECONDS < 3)) && IFS= read -r -t 2 line && [[ $line != $'\r' && -n $line ]]; do
    :
  done
  now=$(state) || not_ready "$(reason "$now")"
  case $now in
    primary)
      [[ -w $DATA_MOUNT ]] || not_ready "$DATA_MOUNT is read-only"
      free=$(df -k --output=avail "$DATA_MOUNT" | tail -n 1)
      ((free >= 1024)) || not_ready "$DATA_MOUNT is full"
      answer '200 OK' 'ready: accepts writes'
      ;;
    standby)
      [[ -s $STREAMED ]] || not_ready 'it has not streamed from its primary yet'
      tick
      seconds=$((NOW - $(<"$STREAMED")))
      ((seconds < SECONDS_WITHOUT_PRIMARY)) || not_ready "it has not streamed from its primary for $seconds s"
      answer '200 OK' "ready: streamed from its primary $seconds s ago"
      ;;
    read-only) not_ready 'default_transaction_read_only is on' ;;
    *) not_ready "$now" ;;
  esac
}

main
