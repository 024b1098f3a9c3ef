#!/bin/bash
# What a standby site judges, with real servers: production, the head that follows it, and a replica of the head.
#
#   tests/guests/sites.sh        needs root, PostgreSQL's server
#
# The guests' own scripts are sourced, with other directories; ports and host names are the test's.
# shellcheck disable=SC2016  # what stands in single quotes is for other shells
set -euo pipefail

REPOSITORY=$(cd "$(dirname "$0")/../.." && pwd)
BIN=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
WORK=$(mktemp -d /tmp/virtwork-sites.XXXXXX)
export WORK BIN
PRODUCTION=5601 HEAD=5602 REPLICA=5603

as() {
  setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"
}

finish() {
  for name in production head replica; do
    as "$BIN/pg_ctl" -D "$WORK/$name" -m immediate stop >/dev/null 2>&1 || true
  done
  rm -rf "$WORK"
}
trap finish EXIT

expect() { # WHAT PATTERN TEXT
  # shellcheck disable=SC2053  # a pattern
  [[ $3 == $2 ]] || {
    printf 'failed: %s: %s, expected %s\n' "$1" "$3" "$2" >&2
    exit 1
  }
  printf 'passed: %s\n' "$1"
}

start() { # NAME PORT
  as "$BIN/pg_ctl" -D "$WORK/$1" -w -l "$WORK/$1.log" -o "-p $2 -c unix_socket_directories=$WORK/run -c listen_addresses=127.0.0.1" \
    start >/dev/null
}

stop() {
  as "$BIN/pg_ctl" -D "$WORK/$1" -m fast -w stop >/dev/null
}

sql() { # PORT STATEMENT [ROLE]
  as "$BIN/psql" -XAtq -h "$WORK/run" -p "$1" -U "${3:-postgres}" -d postgres -c "$2" 2>&1
}

# in_node NAME PORT DIRECTORY CODE: with the functions that the node's set-up has.
in_node() {
  unshare --uts bash -c 'hostname "$1" && MYPORT=$2 PGDATA=$WORK/$3 && . "$WORK/node.sh" && eval "$4"' - "$@" 2>&1
}

# What virtwork-server-start.sh does after a server has started.
mark() { # PORT DIRECTORY
  unshare --uts bash -c 'hostname standby-primary-0; export MYPORT=$1; PGDATA=$WORK/$2
    setpriv --reuid=postgres --regid=postgres --init-groups -- env "PATH=$BIN:$PATH" bash -c "
      PGDATA=$PGDATA; . $WORK/lib/start.sh; PENDING=$PGDATA/virtwork.pending-start; START=$PGDATA/virtwork.server-start
      . $WORK/lib/site.sh; after"' - "$@"
}

newest_start() {
  sql "$PRODUCTION" 'SELECT name FROM virtwork.server_starts ORDER BY number DESC LIMIT 1'
}

goes_back_to() { # START NAME…
  for name in "${@:2}"; do
    echo "$1" >"$WORK/$name/virtwork.server-start"
    chown postgres: "$WORK/$name/virtwork.server-start"
  done
}

clone() { # PORT NAME SLOT
  sql "$1" "SELECT pg_create_physical_replication_slot('$3')" >/dev/null
  as "$BIN/pg_basebackup" -D "$WORK/$2" -d "host=$WORK/run port=$1 user=replicator" -X stream -S "$3" --checkpoint=fast
  as touch "$WORK/$2/standby.signal"
  sed -i '/^primary_/d' "$WORK/$2/postgresql.conf"
  echo "primary_conninfo = 'host=$WORK/run port=$1 user=replicator application_name=$2'
primary_slot_name = '$3'" >>"$WORK/$2/postgresql.conf"
}

more_wal() {
  for _ in 1 2 3 4 5 6; do
    sql "$PRODUCTION" "SELECT pg_switch_wal() FROM pg_logical_emit_message(true, 'x', repeat('x', 100000))" >/dev/null
  done
  sql "$PRODUCTION" CHECKPOINT
}

replayed() { # PORT
  local position
  position=$(sql "$PRODUCTION" 'SELECT pg_current_wal_lsn()')
  for _ in {1..100}; do
    [[ $(sql "$1" "SELECT pg_last_wal_replay_lsn() >= '$position'") != t ]] || return 0
    sleep 0.1
  done
}

judge_replica() {
  in_node standby-replica-0 "$REPLICA" replica "PRIMARY_HOST=standby-primary-0; data_facts \$PGDATA; judge $*"
}

judge_head() {
  in_node standby-primary-0 "$HEAD" head "PRIMARY_HOST=127.0.0.1; data_facts \$PGDATA; judge"
}

prepare() {
  local file
  mkdir "$WORK"/{lib,etc,run}
  for file in manual/standby.sh manual/peers.sh manual/site.sh manual/virtwork-server-start.sh common/lib.sh common/wal.sh common/yield.sql debian/family.sh; do
    sed "s#/usr/local/lib/virtwork#$WORK/lib#g; s#/etc/virtwork#$WORK/etc#g; s#PGPORT=5432#PGPORT=\${MYPORT}#; s#/run/postgresql#$WORK/run#g" \
      "$REPOSITORY/templates/$file" >"$WORK/lib/${file#*/}"
  done
  sed '/^find_binaries/d; /^case /,$d' "$WORK/lib/virtwork-server-start.sh" >"$WORK/lib/start.sh"
  sed -n '/^  is_shut_down() {/,/^  }/p' "$WORK/lib/site.sh" >"$WORK/lib/is_shut_down.sh"
  cat >"$WORK/etc/lab.env" <<END
LAB=standby
NODES_HOST=standby-nodes
REPLICA_COUNT=1
STANDBY_MODE=hot
SYNCHRONOUS_COUNT=0
UPSTREAM_HOST=127.0.0.1
UPSTREAM_PORT=$PRODUCTION
UPSTREAM_SSLMODE=disable
UPSTREAM_CA=''
UPSTREAM_HEAD=standby-primary-0
UPSTREAM_PROMOTE=no
END
  cat >"$WORK/node.sh" <<END
. $WORK/lib/lib.sh
. $WORK/lib/standby.sh
. $WORK/lib/site.sh
PATH=$BIN:\$PATH
eval "site_connection() \$(declare -f connection | tail -n +2)"
connection() {
  site_connection "\$@" | sed "s#host=standby-primary-0 port=5432#host=$WORK/run port=$HEAD#"
}
END
  chown -R postgres: "$WORK"
  chmod 0755 "$WORK"
}

form() {
  as "$BIN/initdb" -D "$WORK/production" --data-checksums --auth=trust >/dev/null
  printf '%s\n' 'wal_keep_size = 32MB' 'max_slot_wal_keep_size = 64MB' 'min_wal_size = 32MB' 'max_wal_size = 64MB' 'fsync = off' \
    >>"$WORK/production/postgresql.conf"
  start production "$PRODUCTION"
  # As at the first start of a lab: the roles come after it.
  mark "$PRODUCTION" production
  sql "$PRODUCTION" 'CREATE ROLE replicator LOGIN REPLICATION; CREATE ROLE pgbench LOGIN; GRANT pg_monitor TO replicator, pgbench'
  stop production
  start production "$PRODUCTION"
  mark "$PRODUCTION" production
  clone "$PRODUCTION" head standby_primary_0
  start head "$HEAD"
  clone "$HEAD" replica standby_replica_0
  start replica "$REPLICA"
  replayed "$HEAD"
  replayed "$REPLICA"
  goes_back_to "$(newest_start)" head replica
}

follow() {
  expect 'the head follows production' follow "$(judge_head)"
  expect 'the replica follows the head' follow "$(judge_replica)"
  sql "$HEAD" 'SELECT pg_wal_replay_pause()' >/dev/null
  until [[ $(sql "$HEAD" 'SELECT pg_get_wal_replay_pause_state()') == paused ]]; do sleep 0.1; done
  sql "$PRODUCTION" 'CREATE TABLE one AS SELECT generate_series(1, 1000)'
  replayed "$REPLICA"
  expect 'a head that has replayed less is waited for' 'wait standby-primary-0 has not replayed what this node has' \
    "$(judge_replica "$(newest_start)" "$(sql "$REPLICA" 'SELECT pg_last_wal_replay_lsn()')")"
  sql "$HEAD" 'SELECT pg_wal_replay_resume()' >/dev/null
  replayed "$HEAD"
  stop production
  sleep 0.5
  expect 'the WAL of a head ends with the shutdown of production' yes \
    "$(in_node standby-primary-0 "$HEAD" head '. $WORK/lib/is_shut_down.sh; set -euo pipefail; is_shut_down 0/0 && echo yes')"
  expect 'an older shutdown is none' no \
    "$(in_node standby-primary-0 "$HEAD" head ". \$WORK/lib/is_shut_down.sh; set -euo pipefail
      is_shut_down '$(sql "$HEAD" 'SELECT pg_last_wal_receive_lsn()')' || echo no")"
  start production "$PRODUCTION"
  mark "$PRODUCTION" production
  replayed "$HEAD"
  replayed "$REPLICA"
  goes_back_to "$(newest_start)" head replica
  expect 'a restart of production changes nothing' follow "$(judge_replica)"
  stop replica
  sql "$HEAD" "SELECT pg_drop_replication_slot('standby_replica_0')" >/dev/null
  expect 'without a slot it follows, too' 'follow slotless' "$(judge_replica)"
}

throw_away() {
  more_wal
  replayed "$HEAD"
  sql "$HEAD" CHECKPOINT
  more_wal
  replayed "$HEAD"
  sql "$HEAD" CHECKPOINT
  expect 'what the head lacks is thrown away where production proves that it has it' 'discard *' "$(judge_replica)"
  stop production
  expect 'and not while production is away' 'wait *is not known yet' "$(judge_replica)"
  start production "$PRODUCTION"
  mark "$PRODUCTION" production
}

take_over() {
  local yield="SELECT virtwork.yield_to"
  expect 'production is no newer' '*no newer than that of this node, 1' \
    "$(in_node standby-primary-0 "$HEAD" head 'data_facts $PGDATA; is_upstream_newer || echo "$WHY"')"
  expect 'production yields to no older timeline' '*timeline 1 is no newer*' "$(sql "$PRODUCTION" "$yield('standby', 1)" replicator)"
  expect 'production yields to no rubbish' '*no name of a site*' "$(sql "$PRODUCTION" "$yield('../x', 2)" replicator)"
  expect 'production yields to no client' '*permission denied*' "$(sql "$PRODUCTION" "$yield('standby', 2)" pgbench)"
  sql "$PRODUCTION" "$yield('standby', 2)" replicator
  expect 'production yields' 'standby|2' "$(sql "$PRODUCTION" 'SELECT site, timeline FROM virtwork.sites')"
  stop production
  as touch "$WORK/head/virtwork.promoted"
  as "$BIN/pg_ctl" -D "$WORK/head" -w promote >/dev/null
  mark "$HEAD" head
  sql "$HEAD" CHECKPOINT
  expect 'the data says who took over' yes "$(in_node standby-primary-0 "$HEAD" head 'has_taken_over && echo yes')"
  start production "$PRODUCTION"
  mark "$PRODUCTION" production
  expect 'nothing of a promoted site is given up for what it came from' 'wait it is on timeline 2*' "$(judge_head)"
  sql "$PRODUCTION" 'CREATE TABLE only_here AS SELECT 1'
  stop production
  expect 'production with rows of its own is rewound' 'newer?rewind *' "$(in_node standby-primary-0 "$PRODUCTION" production \
    "UPSTREAM_PORT=$HEAD PRIMARY_HOST=127.0.0.1; data_facts \$PGDATA; is_upstream_newer && echo newer; judge")"
}

((EUID == 0)) || { echo 'run it as root' >&2; exit 2; }
prepare
form
follow
throw_away
take_over
