#!/bin/bash
# virtwork-archive-command push|get|get-sure|get-from|has NAME PATH [TOOL]: what PostgreSQL calls to archive a file of its WAL, and to fetch
# one. It asks virtwork-archive.service and waits for its answer: SELinux lets PostgreSQL and what it calls neither connect to a
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

# A lab that is made from an archive, and a restore check, take every failure for its end, but those above 128, which end the
# recovery. 1 says that the archive has it not.
failed=2
[[ $1 != get-* ]] || failed=130

until runs; do
  if [[ $1 != get-* ]]; then
    echo 'virtwork-archive.service does not run' >&2
    exit "$failed"
  fi
  sleep 1
done
trap 'rm -f "$request" "$request.new" "$request.answer"' EXIT
printf '%s\n' "$1" "$2" "$path" >"$request.new" || exit "$failed"
mv "$request.new" "$request" || exit "$failed"
turn=0
until [[ -e $request.answer ]]; do
  sleep 0.05
  turn=$((turn + 1))
  ((turn % 100)) || runs || exit "$failed"
done
read -r status <"$request.answer" || exit "$failed"
[[ $1 != get-* || $status == [01] ]] || status=$failed
exit "$status"
