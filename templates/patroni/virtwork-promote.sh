#!/bin/bash
# Makes this standby site the one that takes writes. Run as root, on any node of it.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh

case ${1-} in
  '' | --force) ;;
  *)
    cat <<'TEXT'
Usage: virtwork-promote [--force]

Has the other site stop, and the standby that follows it become the primary of this one as soon as everything has arrived.
With --force although nothing proves that the other site takes no writes any more: stop it first.
TEXT
    [[ $1 == --help ]] || exit 2
    exit 0
    ;;
esac

# The other site is asked at first, stops, is gone for a moment, and then sends what it has left.
deadline=$((SECONDS + 180)) asked=no said=''
until output=$(python3 -I /usr/local/sbin/virtwork-etcd.py promote "$@" 2>&1); do
  [[ $output != *@('was asked to stop'|'has not arrived here')* ]] || asked=yes
  [[ $output == "$said" ]] || printf '%s\n' "$output" >&2
  said=$output
  if [[ $asked == no && $output != *'another node was faster'* ]] || ((SECONDS > deadline)); then
    exit 1
  fi
  sleep 1
done
echo "$LAB takes writes as soon as Patroni has promoted its leader, in some seconds: see virtwork-status"
# shellcheck disable=SC2016  # words of the config
echo 'Now put `promote: true` below `upstream` in the config, or remove `upstream`, and apply it.'
