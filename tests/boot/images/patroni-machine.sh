# shellcheck shell=bash
# patroni-machine.sh TARGET MACHINE POOL: the disks of MACHINE, with Patroni, etcd and HAProxy in golden.raw.
set -euo pipefail
here=$(dirname "$0")
target=$1 machine=$2 pool=$3
root=$target/root
mkdir -p "$root"
cp "$machine"/{vmlinuz,initrd} "$target/"
cp --sparse=always "$machine/golden.raw" "$target/golden.raw"
mount -o loop "$target/golden.raw" "$root"
mount --bind "$pool" "$root/mnt"
mount -t proc proc "$root/proc"
bash "$here/patroni-golden.sh" "$root"
umount "$root/proc" "$root/mnt" "$root"
rmdir "$root"
