#!/bin/bash
# fedora-golden.sh ROOT POOL RPMS: the Fedora stand-in with its packages installed.
set -euo pipefail
root=$1 rpms=$3
mount --bind "$rpms" "$root/srv"
mv "$root/etc/yum.repos.d/mirror.repo" "$root/tmp/"
printf 'baseurl=file:///srv\n' >"$root/etc/yum.repos.d/mirror.repo"
chroot "$root" dnf -y install postgresql-server postgresql-contrib qemu-guest-agent
mv "$root/tmp/mirror.repo" "$root/etc/yum.repos.d/"
umount "$root/srv"
rm -rf "$root/var/log/package-calls" "$root"/run/*
