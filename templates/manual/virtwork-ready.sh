#!/bin/bash
# Answers a question over HTTP. `/node`, which the other nodes ask: what data this node has; true also while no server runs.
# Any other path is the readiness probe's: 200 when this node is usable, else 503 and why. A primary is usable when it
# accepts writes; a standby when it answers queries (a warm one: when its server runs) and has streamed from its primary in
# the last minute, so that reads go on while the primary restarts. The connection is input and output.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/wal.sh
. /usr/local/lib/virtwork/wal.sh
# shellcheck source=templates/manual/peers.sh
. /usr/local/lib/virtwork/peers.sh

# From the set-up, once it has seen the disks: BINDIR and PGDATA.
PREPARED=/run/virtwork/prepared
# When virtwork-watch.sh last saw it stream: a WAL receiver that has only just begun proves nothing.
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

# From what lies on the disk, never from what was configured.
tell_node() {
  local text="node=$NODE" state=primary running=no node timeline end
  if [[ ! -e $PREPARED ]]; then
    answer '200 OK' "$text"$'\nstate=unknown'
  elif [[ ! -e $PGDATA/PG_VERSION ]]; then
    answer '200 OK' "$text"$'\nstate=blank'
  fi
  [[ ! -e $PGDATA/standby.signal ]] || state=standby
  data_facts "$PGDATA" || true
  postmaster_status
  if [[ $POSTMASTER == @(ready|standby) ]]; then
    running=yes
  elif [[ $(systemctl is-active postgresql.service) == @(active|activating|reloading) ]]; then
    running=soon
  fi
  text+=$'\n'"state=$state"$'\n'"system=$DATA_SYSTEM"$'\n'"timeline=$DATA_TIMELINE"$'\n'"running=$running"
  if [[ -e $(fenced_file) ]]; then
    read -r node timeline <"$(fenced_file)" || true
    text+=$'\n'"fenced=${node:-unknown}/${timeline:-0}"
  fi
  # How far its WAL goes takes longer.
  if [[ $1 == /node/position ]] && end=$(end_of_wal "$PGDATA"); then
    text+=$'\n'"position=${end#* }"
  fi
  answer '200 OK' "$text"
}

# By TCP and with the password, as a client would; to whom a certificate has to name this node.
state() {
  PGHOST=$NODE PGHOSTADDR=127.0.0.1 PGCONNECT_TIMEOUT=3 timeout 4 "$BINDIR/psql" -XAtqw \
    -d "user=pgbench dbname=pgbench$(tls_words "$NODE" pgbench)" 2>&1 <<'SQL'
SELECT CASE
  WHEN pg_is_in_recovery() THEN 'standby'
  WHEN current_setting('transaction_read_only') = 'on' THEN 'read-only'
  ELSE 'primary'
END;
SQL
}

warm() {
  [[ $STANDBY_MODE == warm && -e $PGDATA/standby.signal ]] || return 1
  postmaster_status
  [[ $POSTMASTER == standby ]]
}

main() {
  local line path='' now free seconds
  # A connection that is closed with unread input loses the answer. Nobody may keep it open for long.
  SECONDS=0
  while ((SECONDS < 3)) && IFS= read -r -t 2 line && [[ $line != $'\r' && -n $line ]]; do
    [[ -n $path ]] || read -r _ path _ <<<"$line"
  done
  if [[ -e $PREPARED ]]; then
    # shellcheck source=/dev/null
    . "$PREPARED"
    PATH=$BINDIR:$PATH
  fi
  if [[ $path == /node* ]]; then
    tell_node "$path"
  fi
  [[ -e $PREPARED ]] || not_ready 'the set-up has not seen the disks yet'
  [[ ! -e $(fenced_file) ]] || not_ready "$(fenced_reason)"
  if warm; then
    now=standby
  else
    now=$(state) || not_ready "$(reason "$now")"
  fi
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
