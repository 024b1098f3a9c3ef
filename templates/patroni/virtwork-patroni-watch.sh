#!/bin/bash
# Beside Patroni. Once after each start of the node: the config's settings that all nodes have in common, into etcd: the node
# that started last has the newest config. On the leader: roles with the Secret's passwords, the benchmark's tables, no
# members of nodes that are gone. On a replica: a new clone where it can never catch up, which Patroni does not notice.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh
# shellcheck source=templates/common/database.sh
. /usr/local/lib/virtwork/database.sh

trap 'exit 0' TERM

NODE=$(uname -n)
NODE=${NODE%%.*}
export PATRONICTL_CONFIG_FILE=/run/postgresql/virtwork.patroni.yml
SECONDS_WITHOUT_WAL=60
configured=no streamed_at=0 pruned_at=0

# `leader`, `streaming`, `waiting` (a standby without a WAL receiver that streams) or `down`.
look() {
  as_postgres timeout 20 psql -XAtqw -d postgres -c "SELECT CASE WHEN NOT pg_is_in_recovery() THEN 'leader'
    WHEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') THEN 'streaming' ELSE 'waiting' END" \
    2>/dev/null || echo down
}

# patronictl says `Not changed` and writes nothing where it is all there.
configure_lab() {
  local output
  output=$(python3 -I /usr/local/lib/virtwork/patroni-config.py dynamic | patronictl edit-config --force --apply - 2>&1) ||
    return 1
  configured=yes
  [[ $output == *'Not changed'* ]] || log "the lab's common settings are those of the config that this node started with"
}

lead() {
  ensure_roles
  ensure_database
  check_scale
}

# Of the leader, as Patroni told the standby.
conninfo() {
  local host
  host=$(as_postgres postgres -D "$PGDATA" -C primary_conninfo 2>/dev/null | grep -oP "host='?\K[^' ]+") || return 1
  echo "host=$host port=5432 user=replicator dbname=postgres connect_timeout=5"
}

# The slot is lost, or the WAL after what was received is gone: said by the leader, or it is not so.
hopeless() {
  local leader position
  leader=$(conninfo) || return 1
  position=$(as_postgres psql -XAtqw -d postgres -c \
    'SELECT coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())' 2>/dev/null) || position=''
  # A server that takes no queries may have the WAL that it needs.
  [[ $position == */* ]] || position=FFFFFFFF/0
  [[ $(as_postgres timeout 20 psql -XAtqw -d "$leader" -c "SELECT NOT pg_is_in_recovery() AND (
      coalesce((SELECT wal_status = 'lost' FROM pg_replication_slots
        WHERE slot_name = '${NODE//-/_}' AND NOT active), false)
      OR (SELECT min(substr(name, 9)) > substr(pg_walfile_name('$position'), 9)
        FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}\$'))" 2>/dev/null) == t ]]
}

# Not with `patronictl reinit`: Patroni 3 removes the data before anything has judged it.
clone_again() {
  local leader
  leader=$(conninfo)
  log "this standby can never catch up again: the leader no longer has the WAL that is missing here"
  systemctl stop virtwork-patroni.service
  as_postgres /usr/local/sbin/virtwork-rejoin.py aside "--datadir=$PGDATA" "--connstring=$leader" || true
  systemctl start --no-block virtwork-patroni.service
}

main() {
  local now previous=''
  find_postgres
  read_pgpass
  tick
  streamed_at=$NOW
  while true; do
    tick
    now=$(look)
    if [[ $configured == no && $now == @(leader|streaming) ]]; then
      configure_lab || true
    fi
    if [[ $now != "$previous" ]]; then
      case $now in
        leader) log "this node leads" && lead ;;
        streaming) log "this node is a replica and streams" ;;
        waiting) log "this node is a replica and does not stream" ;;
        down) log "this server takes no queries" ;;
      esac
      previous=$now
    fi
    if [[ $now == leader ]] && ((NOW - pruned_at >= 60)); then
      pruned_at=$NOW
      python3 -I /usr/local/sbin/virtwork-etcd.py prune
    elif [[ $now == @(waiting|down) && -e $PGDATA/standby.signal ]] && ((NOW - streamed_at >= SECONDS_WITHOUT_WAL)); then
      streamed_at=$NOW
      if hopeless; then
        clone_again
      fi
    fi
    [[ $now == @(waiting|down) ]] || streamed_at=$NOW
    pause 2
  done
}

main
exit
