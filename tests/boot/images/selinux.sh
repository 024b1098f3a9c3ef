#!/bin/bash
# selinux.sh TARGET MACHINE POOL RPMS: golden.raw, a disk for QEMU of the Fedora stand-in that enforces SELinux by Debian's
# reference policy, with its real tools; labelled here, since a guest would need minutes for it. MACHINE is Debian's
# machine, whose kernel and initrd it boots with.
set -euo pipefail
here=$(dirname "$0")
target=$1 machine=$2 pool=$3 rpms=$4
# shellcheck source=tests/boot/images/packages.sh
. "$here/packages.sh"
root=$target/root
mkdir -p "$root"
cp --reflink=auto "$machine"/{vmlinuz,initrd} "$target/"
mount -o loop,ro "$machine/plain.raw" /mnt
cp -a /mnt/. "$root/"
umount /mnt
mount --bind "$pool" "$root/mnt"
mount -t proc proc "$root/proc"

bash "$here/fedora.sh" "$root" "$pool"
rm "$root"/usr/sbin/{restorecon,selinuxenabled}
apt() {
  DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$root" apt-get.real -q -y -o Dir::Etc::sourcelist=/mnt/sources.list "$@"
}
apt -o 'Acquire::AllowInsecureRepositories=true' update
apt --no-install-recommends install "${SELINUX[@]}"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
bash "$here/fedora-golden.sh" "$root" "$pool" "$rpms"

sed -i 's/^SELINUX=.*/SELINUX=enforcing/' "$root/etc/selinux/config"
cp "$here/selinux/boot-test.cil" "$root/tmp/"
chroot "$root" semodule --noreload --install=/tmp/boot-test.cil
rm "$root/tmp/boot-test.cil"
contexts=/etc/selinux/default/contexts/files/file_contexts
# As in Fedora's postgresql.fc, which finds these in /usr/bin, where the stand-in has links.
for program in "$root"/usr/lib/postgresql/*/bin/*; do
  case ${program##*/} in
    initdb | pg_ctl | postgres) type=postgresql_exec_t ;;
    *) type=bin_t ;;
  esac
  printf '%s\t--\tsystem_u:object_r:%s:s0\n' "${program#"$root"}" "$type"
done >>"$root$contexts.local"
umount "$root/proc" "$root/mnt"

policy=$(echo "$root"/etc/selinux/default/policy/policy.*)
chroot "$root" setfiles -F -c "${policy#"$root"}" "$contexts" /
# Its domain here is that of a unit of systemd's, which may not read the journal: no script would get a line of it.
chroot "$root" chcon system_u:object_r:bin_t:s0 /usr/bin/journalctl
truncate -s 4G "$target/golden.raw"
mke2fs -q -t ext4 -L root -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" "$target/golden.raw"
rm -rf "$root"
