#!/bin/bash
# One screen: the lab as this node sees it. Run as root.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh

NODE=$(uname -n)
NODE=${NODE%%.*}
CONFIG=/run/postgresql/virtwork.patroni.yml

title() {
  printf '\n%s\n' "$*"
}

state_of() {
  systemctl is-active "$1.service" || true
}

printf '%s: etcd %s' "$NODE" "$(state_of virtwork-etcd)"
if [[ -e $CONFIG ]]; then
  printf ', Patroni %s, HAProxy %s, load %s' "$(state_of virtwork-patroni)" "$(state_of virtwork-haproxy)" \
    "$(state_of virtwork-database)"
fi
printf ', set-up %s\n' "$(state_of virtwork-setup)"

title "etcd's members"
python3 -I /usr/local/sbin/virtwork-etcd.py members || echo 'etcd does not answer: it has no majority, or does not run here'

if [[ -e $CONFIG ]]; then
  title "the nodes, by Patroni"
  timeout 30 patronictl -c "$CONFIG" list 2>/dev/null || echo 'Patroni cannot reach etcd'
  if [[ -n ${UPSTREAM_HOST+set} ]]; then
    title "the other site, $UPSTREAM_HOST"
    as_postgres psql -XAqw -F ' ' -P footer=off -d postgres -c "SELECT sender_host, sender_port, status, slot_name,
        now() - last_msg_receipt_time AS heard FROM pg_stat_wal_receiver" 2>/dev/null || echo 'the server takes no queries'
  fi
  title 'slots and standbys here'
  as_postgres psql -XAqw -F ' ' -P footer=off -d postgres -c "SELECT slot_name, active, wal_status,
      pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
        restart_lsn)::bigint AS bytes_held FROM pg_replication_slots ORDER BY 1" \
    -c "SELECT application_name, state, sync_state, pg_wal_lsn_diff(sent_lsn, replay_lsn)::bigint AS bytes_behind
      FROM pg_stat_replication ORDER BY 1" 2>/dev/null || echo 'the server takes no queries'
  title "the data disk"
  df -h --output=size,used,avail,target "$DATA_MOUNT"
  find_binaries
  for copy in "$PGDATA".previous*; do
    [[ ! -e $copy ]] || echo "kept aside: $copy"
  done
fi

title 'the last lines of the story'
journalctl --quiet --no-pager --output=short-iso -n 15 -u 'virtwork-*' | cut -c1-200
