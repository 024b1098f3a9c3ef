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

# Without -n: pgbench vacuums and empties pgbench_history before each round.
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
    log "round broken off: $(reason "$output")"
    pause 10
  fi
}

# The history grows by 54 bytes a transaction, in a long and fast round beyond any disk: emptied where it has
# 512 MiB. Whoever reads the table keeps it for five seconds at most.
bound_history() {
  while true; do
    pause 30
    "$BINDIR/psql" -XAtqw 2>/dev/null <<'SQL' || true
SET lock_timeout = '5s';
SELECT pg_relation_size('pgbench_history') > 512 * 1048576 AND NOT pg_is_in_recovery() AS full \gset
\if :full
TRUNCATE pgbench_history;
\echo emptied pgbench_history in the middle of a round: it had 512 MiB
\endif
SQL
  done
}

main() {
  local now previous=''
  bound_history &
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
