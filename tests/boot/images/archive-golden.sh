# shellcheck shell=bash
# archive-golden.sh ROOT POOL: a golden image with what an archive takes, installed as their users install them.
set -euo pipefail
here=$(dirname "$0")
root=$1
# shellcheck source=tests/boot/images/archive-packages.sh
. "$here/archive-packages.sh"
install -m 0755 /dev/stdin "$root/usr/sbin/policy-rc.d" <<<$'#!/bin/sh\nexit 101'
apt() {
  DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$root" apt-get.real -q -y -o Dir::Etc::sourcelist=/mnt/sources.list "$@"
}
apt -o 'Acquire::AllowInsecureRepositories=true' update
apt --no-install-recommends install "${ARCHIVE[@]}"
rm -rf "$root/usr/sbin/policy-rc.d" "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root/var/log/package-calls"
