#!/bin/bash
# container.sh TARGET POOL: the root file system of Debian guests in containers, as cloud images have it: netplan,
# systemd-networkd, systemd-resolved, cloud-init, no PostgreSQL.
set -euo pipefail
here=$(dirname "$0")
target=$1 pool=$2
# shellcheck source=tests/boot/images/packages.sh
. "$here/packages.sh"

# With a merged /usr, as Debian's installers make it; Debian 11 has no package that sees to it.
# shellcheck disable=SC2016  # mmdebstrap's $1
mmdebstrap --quiet --variant=apt \
  --setup-hook='for d in bin lib lib64 sbin; do mkdir -p "$1/usr/$d" && ln -s "usr/$d" "$1/$d"; done' \
  --include="$(IFS=,; echo "${CONTAINER[*]}")" '' "$target" "deb [trusted=yes] copy:$pool ./"
cp -r --preserve=mode "$here/common/." "$here/container/." "$target/"
# shellcheck source=tests/boot/images/cloud.sh
. "$here/cloud.sh" "$target"
ln -s ../boot-test-disks.service "$target/etc/systemd/system/sysinit.target.wants/boot-test-disks.service"
