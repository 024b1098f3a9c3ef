#!/bin/bash
# Beside Patroni. On the leader: roles with the Secret's passwords, the benchmark's tables, no members of nodes that are gone,
# slots of other sites. On a replica: a new clone where it can never catch up, which Patroni does not notice. At the head of a
# standby site: its slot at the other one.
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
SECONDS_WITHOUT_WAL=60
streamed_at=0 pruned_at=0 headed_at=-60 is_head=no
declare -A site_slots=()

# `leader TIMELINE SYNCHRONOUS_STANDBY…`, `streaming`, `waiting` (a standby without a WAL receiver that streams) or `down`.
look() {
  as_postgres timeout 20 psql -XAtqw -d postgres 2>/dev/null <<'SQL' || echo down
SELECT pg_is_in_recovery() AS is_standby \gset
\if :is_standby
SELECT CASE WHEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') THEN 'streaming' ELSE 'waiting' END;
\else
SELECT concat_ws(' ', 'leader', ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int,
  regexp_replace(regexp_replace(current_setting('synchronous_standby_names'), '^\s*(FIRST|ANY)?\s*\d+\s*\(', '', 'i'),
    '[^a-zA-Z0-9-]+', ' ', 'g'));
\endif
SQL
}

# For virtwork-rejoin.py, when this node is no longer the leader.
note_waited_for() {
  write_file "$PGDATA/virtwork.waited-for" "$NODE $*"
}

lead() {
  ensure_roles
  ensure_database
  check_scale
}

# A setting of the server that runs here.
setting() {
  as_postgres postgres -D "$PGDATA" -C "$1" 2>/dev/null
}

# Of the leader, as Patroni told the standby. Not with `grep -P`: it compiles its pattern to memory that is executed, which
# SELinux may deny.
conninfo() {
  local info word words='user=replicator dbname=postgres connect_timeout=5'
  info=$(setting primary_conninfo) || return 1
  for word in host port sslmode sslrootcert sslcert sslkey; do
    if [[ $info =~ (^| )$word=\'?([^\'\ ]+) ]]; then
      words+=" $word=${BASH_REMATCH[2]}"
    fi
  done
  [[ $words == *\ host=* ]] || return 1
  echo "$words"
}

# Slots of other sites: Patroni drops those that it does not know, and keeps those that it does on each node that may lead. One
# whose WAL is lost is of no use any more; a site that comes back makes another one.
keep_site_slots() {
  local slot lost
  while IFS='|' read -r slot lost; do
    [[ -n $slot && ${site_slots[$slot]-} != "$lost" ]] || continue
    if [[ $lost == t ]]; then
      python3 -I /usr/local/sbin/virtwork-etcd.py forget-slot "$slot" || continue
      log "the slot $slot of another site has lost WAL: it goes"
    else
      python3 -I /usr/local/sbin/virtwork-etcd.py keep-slot "$slot" || continue
      log "another site follows this one through the slot $slot, which is kept for it"
    fi
    site_slots[$slot]=$lost
  done < <(superuser_sql -c "SELECT slot_name, wal_status = 'lost' AND NOT active FROM pg_replication_slots
    WHERE slot_type = 'physical' AND NOT temporary AND slot_name !~ '^${LAB//-/_}_node_[0-9]+\$'" 2>/dev/null)
}

# At the head of a standby site: the slot that Patroni wants at the other one, where a node of that site or nobody has made it.
tend_head() {
  local slot leader output
  headed_at=$NOW
  if [[ -z ${UPSTREAM_HOST+set} ]] || ! python3 -I /usr/local/lib/virtwork/tls.py /standby-leader; then
    is_head=no
    return
  fi
  [[ $is_head == yes ]] || log "this node is at the head of a standby site, which follows $UPSTREAM_HOST"
  is_head=yes
  if [[ $1 == waiting ]] && leader=$(conninfo) && slot=$(setting primary_slot_name) && [[ -n $slot ]]; then
    output=$(as_postgres timeout 20 psql -XAtqw -d "$leader" -c "SELECT pg_create_physical_replication_slot('$slot', true)
      WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$slot')" 2>/dev/null) || return 0
    [[ -z $output ]] || log "made the slot $slot at $UPSTREAM_HOST"
  fi
}

# The slot is lost, or the WAL after what was received is gone: said by the leader, or it is not so. Names of WAL files are
# reckoned here, since standbys, which the leader of a standby site is, do not tell them.
hopeless() {
  local leader position slot
  leader=$(conninfo) || return 1
  slot=$(setting primary_slot_name) || return 1
  position=$(as_postgres psql -XAtqw -d postgres -c \
    'SELECT coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())' 2>/dev/null) || position=''
  # A server that takes no queries may have the WAL that it needs.
  [[ $position == */* ]] || position=FFFFFFFF/0
  [[ $(as_postgres timeout 20 psql -XAtqw -d "$leader" -c "SELECT (NOT pg_is_in_recovery() OR '${UPSTREAM_HOST+yes}' = 'yes') AND (
      coalesce((SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = '$slot' AND NOT active), false)
      OR (SELECT min(substr(name, 9)) > (SELECT lpad(upper(to_hex(segment / files)), 8, '0')
            || lpad(upper(to_hex(segment % files)), 8, '0')
          FROM (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS size) AS s,
            LATERAL (SELECT 4294967296 / size AS files, div(pg_wal_lsn_diff('$position', '0/0'), size)::bigint AS segment) AS w)
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
  local now names previous=''
  find_postgres
  read_pgpass
  tick
  streamed_at=$NOW
  while true; do
    tick
    read -r now names < <(look)
    # A server that has only just been made is not this script's before Patroni is done with it.
    if [[ $now == leader && $previous != leader ]] && ! python3 -I /usr/local/lib/virtwork/tls.py /primary; then
      now=down
    fi
    if [[ $now == leader ]]; then
      # shellcheck disable=SC2086  # words
      note_waited_for $names
      keep_site_slots
    fi
    # Where etcd did not answer before Patroni started.
    if [[ ! -e /run/postgresql/virtwork.configured && $now == @(leader|streaming) ]]; then
      as_postgres python3 -I /usr/local/sbin/virtwork-etcd.py settle
    fi
    if [[ $now == @(streaming|waiting) ]] && ((NOW - headed_at >= 10)); then
      tend_head "$now"
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
