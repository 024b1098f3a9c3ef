# golden.sh ROOT POOL: PostgreSQL installed as its users install it, so with the cluster that Debian makes, and
# nothing of cloud-init's left.
set -euo pipefail
here=$(dirname "$0")
root=$1
# shellcheck source=tests/boot/images/packages.sh
. "$here/packages.sh"
install -m 0755 /dev/stdin "$root/usr/sbin/policy-rc.d" <<<$'#!/bin/sh\nexit 101'
apt() {
  DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$root" apt-get.real -q -y -o Dir::Etc::sourcelist=/mnt/sources.list "$@"
}
apt -o 'Acquire::AllowInsecureRepositories=true' update
apt --no-install-recommends install "${GOLDEN[@]}"
rm -rf "$root/usr/sbin/policy-rc.d" "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root/var/log/package-calls"
