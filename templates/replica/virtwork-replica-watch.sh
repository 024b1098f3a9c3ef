#!/bin/bash
# A standby that lost its WAL, its slot or its primary says "accepting connections" and tries for ever. This
# loop asks the primary when no WAL is streaming, and has the set-up clone again once that is proven hopeless.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/replica/standby.sh
. /usr/local/lib/virtwork/standby.sh

PATH=$(binary_directory):$PATH
PGDATA=$(data_directory "$(postgres --version | sed -E 's/^.*\) ([0-9]+).*$/\1/')")
trap 'exit 0' TERM

# primary, streaming, or waiting with the position up to which WAL was received. pg_last_wal_receive_lsn() is
# null until all local WAL is replayed and the first byte is asked for; until then, no position proves
# anything.
# With a restore_command the missing WAL may still come from an archive.
local_state() {
  as_postgres timeout 60 psql -XAtqw -d postgres 2>/dev/null <<'SQL' || echo unknown
SELECT CASE
  WHEN NOT pg_is_in_recovery() THEN 'primary'
  WHEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') THEN 'streaming'
  WHEN pg_last_wal_receive_lsn() IS NULL OR current_setting('restore_command') <> '' THEN 'waiting'
  ELSE 'waiting ' || greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
END;
SQL
}

main() {
  local state position previous='' verdict suspicion=no
  while true; do
    pause 30
    read -r state position < <(local_state)
    if [[ $state != "$previous" ]]; then
      case $state in
        streaming) log "streaming from $PRIMARY_HOST" ;;
        waiting) log "not streaming from $PRIMARY_HOST" ;;
        primary) log "this node was promoted: nothing to watch" ;;
        unknown) log "this server takes no queries" ;;
      esac
      previous=$state
    fi
    verdict=''
    if [[ $state == waiting || $state == unknown && -e $PGDATA/standby.signal ]] &&
      ensure_slot >/dev/null 2>&1; then
      verdict=$(never_again "$position") || verdict=''
    fi
    if [[ -z $verdict ]]; then
      suspicion=no
    elif [[ $suspicion == no ]]; then
      suspicion=yes
    else
      log "cloning again: ${verdict#* }"
      as_postgres tee "$PGDATA/virtwork.position" <<<"$position" >/dev/null
      # Stops PostgreSQL and this watcher, which require it, and starts them again afterwards.
      exec systemctl --no-block restart virtwork-setup.service
    fi
  done
}

main
exit
