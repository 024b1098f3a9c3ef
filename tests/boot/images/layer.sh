#!/bin/bash
# layer.sh RECIPE TARGET LOWER POOL [ARGUMENT…]: runs `bash RECIPE ROOT POOL [ARGUMENT…]` where ROOT is an overlay that
# writes to TARGET and reads LOWER below it. To be run in a mount namespace of its own, which takes the mounts along.
set -euo pipefail
recipe=$1 target=$2 lower=$3 pool=$4
root=$target.root
mkdir -p "$target" "$target.work" "$root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$target,workdir=$target.work" "$root"
mount --bind "$pool" "$root/mnt"
mount -t proc proc "$root/proc"
bash "$recipe" "$root" "$pool" "${@:5}"
umount "$root/proc" "$root/mnt" "$root"
rm -rf "$target.work" "$root"
