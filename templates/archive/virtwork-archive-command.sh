#!/bin/bash
# virtwork-archive-command push|get|get-from|has NAME PATH [TOOL]: what PostgreSQL calls to archive a file of its WAL, and to fetch one. It
# asks virtwork-archive.service and waits for its answer: SELinux lets PostgreSQL and what it calls neither connect to a
# store nor read its keys. All that the two have in common is a directory of small files, which PostgreSQL may write.
set -euo pipefail
export LC_ALL=C

RUN=/run/postgresql/virtwork.archive
request=$RUN/requests/$1.$2.$$
path=$3
[[ $path == /* ]] || path=$PWD/$path

# The service notes the seconds since the boot, each second.
runs() {
  local beat=0 now
  read -r beat _ 2>/dev/null <"$RUN/alive" || true
  read -r now _ </proc/uptime
  ((${now%.*} - ${beat%.*} <= 15))
}

if ! runs; then
  echo 'virtwork-archive.service does not run' >&2
  exit 2
fi
trap 'rm -f "$request" "$request.new" "$request.answer"' EXIT
printf '%s\n' "$1" "$2" "$path" >"$request.new"
mv "$request.new" "$request"
turn=0
until [[ -e $request.answer ]]; do
  sleep 0.05
  turn=$((turn + 1))
  ((turn % 100)) || runs || exit 2
done
read -r status <"$request.answer"
exit "$status"
