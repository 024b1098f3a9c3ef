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

# Two nodes may change the settings at once.
until output=$(python3 -I /usr/local/sbin/virtwork-etcd.py promote "$@" 2>&1); do
  [[ $output == *'another node was faster'* ]] || {
    printf '%s\n' "$output" >&2
    exit 1
  }
  sleep 1
done
printf '%s\n' "$output"
echo "$LAB takes writes as soon as Patroni has promoted its leader, in some seconds: see virtwork-status"
# shellcheck disable=SC2016  # words of the config
echo 'Now put `promote: true` below `upstream` in the config, or remove `upstream`, and apply it.'
