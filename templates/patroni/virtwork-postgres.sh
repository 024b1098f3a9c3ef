#!/bin/bash
# Becomes PostgreSQL, as Patroni wants it. Patroni calls it with --single where data was not shut down, to recover it alone, after
# it has removed the mark of a standby (ensure_clean_shutdown in its rewind.py). A clone that has never been started looks like
# that, too. Alone it would go on where the backup ends, by itself, on the timeline of its leader: nothing could tell it from a
# copy any more, and it would never stream. So that is refused, and Patroni starts it as the standby that it is.
set -euo pipefail

# Not into this environment, which the server inherits.
directory=$(
  # shellcheck source=templates/debian/family.sh
  . /usr/local/lib/virtwork/family.sh
  binary_directory
)

if [[ ${1-} == --single && ${2-} == -D && -e ${3-}/backup_label ]]; then
  echo "virtwork: $3 is a copy that was never started; it is not recovered alone" >&2
  exit 1
fi

# How Patroni starts it. Before a promotion virtwork-etcd.py leaves out timelines; where none followed, no server would start with
# their histories as the newest ones.
if [[ ${1-} == -D && ${3-} == --config-file=* ]]; then
  histories=("$2"/pg_wal/????????.history)
  for ((number = ${#histories[@]} - 1; number >= 0; number--)); do
    grep -qs 'left out by virtwork$' "${histories[number]}" || break
    name=${histories[number]##*/}
    rm -f "$2/pg_wal/archive_status/$name".* "${histories[number]}"
  done
fi
exec "$directory/postgres" "$@"
