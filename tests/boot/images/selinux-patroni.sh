#!/bin/bash
# selinux-patroni.sh TARGET SELINUX PATRONI: the disk of SELINUX with Patroni, etcd and HAProxy as in the layer PATRONI, and
# with Fedora's rules for HAProxy.
set -euo pipefail
here=$(dirname "$0")
target=$1 enforcing=$2 patroni=$3
root=$target/root
mkdir -p "$root"
cp "$enforcing"/{vmlinuz,initrd} "$target/"
cp --sparse=always "$enforcing/golden.raw" "$target/golden.raw"
mount -o loop "$target/golden.raw" "$root"
mount -t proc proc "$root/proc"
bash "$here/patroni-fedora-golden.sh" "$root" '' "$patroni"

contexts=/etc/selinux/default/contexts/files/file_contexts
# That of SELINUX, which no module has.
cp "$root$contexts.local" "$target/local"
cp "$here/selinux-patroni/boot-test-patroni.cil" "$root/tmp/"
chroot "$root" semodule --noreload --install=/tmp/boot-test-patroni.cil
rm "$root/tmp/boot-test-patroni.cil"
mv "$target/local" "$root$contexts.local"
umount "$root/proc"

policy=$(echo "$root"/etc/selinux/default/policy/policy.*)
chroot "$root" setfiles -F -c "${policy#"$root"}" "$contexts" /
# As in SELINUX.
chroot "$root" chcon system_u:object_r:bin_t:s0 /usr/bin/journalctl
umount "$root"
rmdir "$root"
