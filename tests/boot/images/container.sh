#!/bin/bash
# container.sh TARGET POOL: the root file system of Debian guests in containers, as cloud images have it: netplan,
# systemd-networkd, systemd-resolved, cloud-init, no PostgreSQL.
set -euo pipefail
here=$(dirname "$0")
target=$1 pool=$2
# shellcheck source=tests/boot/images/packages.sh
. "$here/packages.sh"

mmdebstrap --quiet --variant=apt --include="$(IFS=,; echo "${CONTAINER[*]}")" '' "$target" \
  "deb [trusted=yes] copy:$pool ./"
cp -r --preserve=mode "$here/common/." "$here/container/." "$target/"
# shellcheck source=tests/boot/images/cloud.sh
. "$here/cloud.sh" "$target"
ln -s ../boot-test-disks.service "$target/etc/systemd/system/sysinit.target.wants/boot-test-disks.service"
