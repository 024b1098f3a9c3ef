#!/bin/bash
# Beside Patroni. On the leader: roles with the Secret's passwords, the benchmark's tables, no members of nodes that are gone.
# On a replica: a new clone where it can never catch up, which Patroni does not notice.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh
# shellcheck source=templates/common/database.sh
. /usr/local/lib/virtwork/database.sh
# Labs with an archive have it.
if [[ -n ${ARCHIVE_TYPE:-} ]]; then
  # shellcheck source=templates/archive/archive.sh
  . /usr/local/lib/virtwork/archive.sh
fi

trap 'exit 0' TERM

NODE=$(uname -n)
NODE=${NODE%%.*}
SECONDS_WITHOUT_WAL=60
streamed_at=0 pruned_at=0

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

# The archive has what the leader no longer has, or cannot be asked now. A slot that is lost goes, and Patroni makes another.
goes_on_from_archive() {
  local position facts leader slot
  [[ -n ${ARCHIVE_TYPE:-} ]] || return 1
  slot=$(setting primary_slot_name) || return 1
  facts=$(pg_controldata -D "$PGDATA") || return 1
  position=$(as_postgres psql -XAtqw -d postgres -c \
    'SELECT coalesce(pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn())' 2>/dev/null) || position=''
  [[ $position == */* ]] || position=$(sed -n 's/^Minimum recovery ending location: *//p' <<<"$facts")
  # shellcheck disable=SC2046  # words
  [[ $(archived $((16#${position%/*} << 32 | 16#${position#*/})) \
    $(sed -nE "s/^(Latest checkpoint's TimeLineID|Min recovery ending loc's timeline): *//p" <<<"$facts")) != no ]] || return 1
  leader=$(conninfo) || return 0
  as_postgres timeout 20 psql -XAtqw -d "$leader" -c "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
    WHERE slot_name = '$slot' AND wal_status = 'lost' AND NOT active" >/dev/null 2>&1 || true
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

# What there is to do beside another site.
tend_site() {
  :
}
if [[ -e /usr/local/lib/virtwork/patroni-site.sh ]]; then
  # shellcheck source=templates/patroni/patroni-site.sh
  . /usr/local/lib/virtwork/patroni-site.sh
fi

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
    fi
    # Where etcd did not answer before Patroni started, or the other site still took writes.
    if [[ ! -e /run/postgresql/virtwork.configured && $now == @(leader|streaming|waiting) ]]; then
      as_postgres python3 -I /usr/local/sbin/virtwork-etcd.py settle
    fi
    tend_site "$now" "${names%% *}"
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
      if hopeless && ! goes_on_from_archive; then
        clone_again
      fi
    fi
    [[ $now == @(waiting|down) ]] || streamed_at=$NOW
    pause 2
  done
}

main
exit
