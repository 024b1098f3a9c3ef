# shellcheck shell=bash
# machine.sh TARGET POOL: disks for QEMU as Debian's cloud images are (netplan, systemd-networkd, systemd-resolved,
# cloud-init, udev), plain.raw without and golden.raw with PostgreSQL; and Debian's cloud kernel with a small initrd,
# to be booted directly.
set -euo pipefail
here=$(dirname "$0")
target=$1 pool=$2
# shellcheck source=tests/boot/images/packages.sh
. "$here/packages.sh"
root=$target/root
mkdir -p "$target"

# The initrd that Debian's hook would make starts a udev of its own: many seconds in emulation.
mmdebstrap --quiet --variant=apt --include="$(IFS=,; echo "${MACHINE[*]}")" \
  --dpkgopt='path-exclude=/etc/kernel/postinst.d/initramfs-tools' '' "$root" "deb [trusted=yes] copy:$pool ./"
cp -r --preserve=mode "$here/common/." "$here/machine/." "$root/"
# shellcheck source=tests/boot/images/cloud.sh
. "$here/cloud.sh" "$root"
printf 'LABEL=root / ext4 defaults 0 0\n' >"$root/etc/fstab"
# Each of these costs an emulated machine a second, and no test looks at it.
chroot "$root" systemctl --quiet mask systemd-pstore.service systemd-tmpfiles-clean.timer systemd-binfmt.service \
  systemd-random-seed.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
  proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount dev-hugepages.mount dev-mqueue.mount \
  sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
  modprobe@{configfs,dm_mod,drm,efi_pstore,fuse,loop}.service getty@tty1.service serial-getty@{hvc0,ttyS0}.service

# initrd: loads the drivers of console and root disk, mounts the root and becomes its init.
initrd=$target/initrd.d
mkdir -p "$initrd"/{bin,dev,root}
for file in /bin/busybox $(chroot "$root" ldd /bin/busybox | grep -o '/[^ ]*'); do
  install -D "$root$file" "$initrd$file"
done
version=$(basename "$root"/lib/modules/*)
modules=()
for file in $(chroot "$root" modprobe --set-version "$version" --show-depends --all virtio_pci virtio_console \
  virtio_blk | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
  # since Debian 13 compressed, which busybox does not read
  module=${file##*/} module=${module%.xz}
  if [[ $file == *.xz ]]; then xz --decompress --stdout "$root$file"; else cat "$root$file"; fi >"$initrd/$module"
  modules+=("$module")
done
install -m 0755 /dev/stdin "$initrd/init" <<SH
#!/bin/busybox sh
busybox mount -t devtmpfs dev /dev
for module in ${modules[*]}; do busybox insmod "/\$module"; done
until busybox mount -t ext4 LABEL=root /root; do busybox usleep 50000; done
busybox umount /dev
exec busybox switch_root /root /sbin/init
SH
chroot "$initrd" /bin/busybox sh -c 'busybox find . | busybox cpio -o -H newc' >"$target/initrd"
cp "$root"/boot/vmlinuz-* "$target/vmlinuz"
rm -rf "$initrd" "${root:?}"/boot/*

# disk NAME: $root as NAME.raw, so that no guest has tables left to initialise.
disk() {
  truncate -s 4G "$target/$1.raw"
  mke2fs -q -t ext4 -L root -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" "$target/$1.raw"
}
disk plain
mount --bind "$pool" "$root/mnt"
mount -t proc proc "$root/proc"
bash "$here/golden.sh" "$root"
# Containers boot with the cluster that Debian makes. Here it would cost a start and a stop of PostgreSQL a boot.
chroot "$root" pg_dropcluster "$(basename "$root"/usr/lib/postgresql/*)" main
umount "$root/proc" "$root/mnt"
disk golden
rm -rf "$root"
