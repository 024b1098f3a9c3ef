#!/bin/bash
# The load: bounded rounds of pgbench for as long as this server accepts writes. Runs as postgres.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh

BINDIR=$(binary_directory)
unset PGOPTIONS
export PGUSER=pgbench PGDATABASE=pgbench
trap 'exit 0' TERM

state() {
  case $("$BINDIR/psql" -XAtqwc 'SELECT pg_is_in_recovery()' 2>/dev/null) in
    f) echo primary ;;
    t) echo standby ;;
    *) echo down ;;
  esac
}

# Without -n: pgbench vacuums and empties pgbench_history before each round, so it stays bounded.
run_round() {
  local output options=(-c "$PGBENCH_CLIENTS" -j "$PGBENCH_THREADS" -T "$PGBENCH_DURATION")
  options+=(-M "$PGBENCH_PROTOCOL")
  if [[ -n $PGBENCH_RATE ]]; then
    options+=(-R "$PGBENCH_RATE")
  fi
  if output=$("$BINDIR/pgbench" "${options[@]}" 2>&1); then
    awk '/^latency average/ { latency = $4 } /^tps/ { tps = $3 }
      END { printf "round done: %.1f transactions/s, latency %.1f ms\n", tps, latency }' <<<"$output"
  else
    log "round broken off: $(tail -n 1 <<<"$output")"
    pause 10
  fi
}

main() {
  local now previous=''
  while true; do
    now=$(state)
    if [[ $now != "$previous" ]]; then
      case $now in
        primary)
          log "load: $PGBENCH_CLIENTS clients, $PGBENCH_THREADS threads, rounds of $PGBENCH_DURATION s" \
            "with pauses of $PGBENCH_PAUSE s, ${PGBENCH_RATE:-unlimited} transactions/s," \
            "$PGBENCH_PROTOCOL protocol"
          ;;
        standby) log "the server is a standby: no load here" ;;
        down) log "the server or its database does not answer: waiting" ;;
      esac
      previous=$now
    fi
    if [[ $now == primary ]]; then
      run_round
      pause "$PGBENCH_PAUSE"
    else
      pause 5
    fi
  done
}

main
exit
