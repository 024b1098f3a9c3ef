#!/bin/bash
# Around every start of the server, by postgresql.service and by the set-up, as postgres.
#
# `before` lets no server that would accept writes start where another node knows of a newer timeline, waits while the disk
# is full, and writes down where the server will go on. `after` leaves a mark in the
# database of a server that accepts writes: a random name, and that position. The marks are what a replica proves its
# history with. A primary whose disk was restored writes other WAL at positions that it had passed before, on the same
# timeline and with the same system identifier: nothing else tells the two apart. `after` does nothing where the running
# server has its mark, so that the watchers can make up for one that failed.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/wal.sh
. /usr/local/lib/virtwork/wal.sh
# shellcheck source=templates/manual/peers.sh
. /usr/local/lib/virtwork/peers.sh

find_binaries
# On the data disk, and the least of all starts since the last mark: a start may end before its mark is made.
PENDING=$PGDATA/virtwork.pending-start
START=$PGDATA/virtwork.server-start

before() {
  local position pending
  [[ -e $PGDATA/standby.signal ]] || ask_before_writing
  retry 5 "waiting for room on the disk" has_room
  if [[ ! -e $PGDATA/standby.signal ]]; then
    position=$(end_of_recovery "$PGDATA") || position=0
    if [[ -e $PENDING ]]; then
      pending=$(<"$PENDING")
      if [[ ! $pending =~ ^[0-9]+$ ]] || ((pending < position)); then
        position=$((pending))
      fi
    fi
    printf '%s\n' "$position" >"$PENDING.new"
    sync "$PENDING.new"
    mv -f "$PENDING.new" "$PENDING"
    sync "$PGDATA"
  fi
}

# A server that finds no room for a WAL segment stops again, with seven lines each time.
# shellcheck disable=SC2317  # called by retry
has_room() {
  local directory free
  for directory in "$PGDATA" "$PGDATA/pg_wal/"; do
    free=$(df -k --output=avail "$directory" | tail -n 1)
    if ((free < 16384)); then
      echo "error: $((free / 1024)) MiB are free in $directory and PostgreSQL needs 16;" \
        "grow the disk, or remove what is not PostgreSQL's"
      return 1
    fi
  done
}

# Where a promotion, in the middle of the server's life, left the timeline before it; 0/0 when that is not known.
fork() {
  local timeline position=''
  timeline=$(psql -XAtqw -d postgres \
    -c "SELECT CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END")
  if [[ $timeline =~ ^[0-9A-F]{8}$ && -f $PGDATA/pg_wal/$timeline.history ]]; then
    position=$(awk '$1 ~ /^[0-9]+$/ { position = $2 } END { print position }' "$PGDATA/pg_wal/$timeline.history")
  fi
  [[ $position =~ ^[0-9A-F]+/[0-9A-F]+$ ]] || position=0/0
  printf '%s' "$position"
}

after() {
  local position answer name
  # The unit and the watcher may call it at once.
  exec 8>/run/postgresql/virtwork.server-start.lock
  flock -w 60 8
  PGOPTIONS+=' -c client_min_messages=warning -c synchronous_commit=local -c default_transaction_read_only=off'
  PGOPTIONS+=' -c lock_timeout=5s -c statement_timeout=20s'
  # Without it this server was started as a standby. With 0/0 nothing is proven of what was written before.
  if [[ -e $PENDING ]]; then
    position=$(text_lsn "$(<"$PENDING")")
  else
    position=$(fork)
  fi
  answer=$(psql -XAtqw -v ON_ERROR_STOP=1 -v position="$position" -d postgres <<'SQL'
SELECT pg_is_in_recovery() AS is_standby, to_regclass('virtwork.server_starts') IS NOT NULL AS has_table \gset
\if :is_standby
  \q
\endif
\if :has_table
  SELECT EXISTS (SELECT FROM virtwork.server_starts WHERE started = pg_postmaster_start_time()) AS has_mark \gset
  \if :has_mark
    SELECT 'marked ' || name FROM virtwork.server_starts WHERE started = pg_postmaster_start_time();
    \q
  \endif
\endif
BEGIN;
CREATE SCHEMA IF NOT EXISTS virtwork;
CREATE TABLE IF NOT EXISTS virtwork.server_starts (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name uuid NOT NULL DEFAULT gen_random_uuid(),
  position pg_lsn NOT NULL,
  started timestamptz NOT NULL DEFAULT pg_postmaster_start_time() UNIQUE
);
COMMENT ON TABLE virtwork.server_starts IS
  'each start of a server that accepts writes: a random name, and where its own WAL begins';
SELECT format('GRANT USAGE ON SCHEMA virtwork TO %I; GRANT SELECT ON virtwork.server_starts TO %I', rolname, rolname)
  FROM pg_roles WHERE rolname IN ('replicator', 'pgbench') \gexec
INSERT INTO virtwork.server_starts (position) VALUES (:'position') ON CONFLICT (started) DO NOTHING;
DELETE FROM virtwork.server_starts WHERE number <= (SELECT max(number) - 100000 FROM virtwork.server_starts);
COMMIT;
SELECT 'marked ' || name FROM virtwork.server_starts WHERE started = pg_postmaster_start_time();
SQL
  )
  [[ $answer == marked\ * ]] || return 0
  # What this data goes back to, should it once have to follow another node.
  name=${answer#marked }
  if [[ $(cat "$START" 2>/dev/null) != "$name" ]] && printf '%s\n' "$name" >"$START.new"; then
    sync "$START.new"
    mv -f "$START.new" "$START"
    sync "$PGDATA"
  fi
  # A file that comes back with a power loss would pass for the least position of the next start, too.
  if [[ -e $PENDING ]]; then
    rm -f "$PENDING"
    sync "$PGDATA"
  fi
}

case $1 in
  before) before ;;
  after) after ;;
esac
exit
