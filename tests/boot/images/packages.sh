# shellcheck shell=bash disable=SC2034  # sourced by the recipes
# What the images hold, as Debian packages without their recommended ones. RELEASE is Debian's.

# What every cloud image has, since Debian 12. The images of Debian 11 have ifupdown, which does not understand network
# data that matches interfaces by name: what is tested with that release is its PostgreSQL.
COMMON=(systemd systemd-sysv udev dbus cloud-init netplan.io iproute2 e2fsprogs fdisk mount passwd procps kmod
  ca-certificates tzdata python3)
# A part of systemd before.
[[ $RELEASE == bullseye ]] || COMMON+=(systemd-resolved)
# ISO 9660 through FUSE: the machine's kernel need not know that file system.
CONTAINER=("${COMMON[@]}" fuseiso)
# Machines boot Debian 13 alone, and one of them enforces SELinux.
MACHINE=()
SELINUX=()
if [[ $RELEASE == trixie ]]; then
  MACHINE=("${COMMON[@]}" linux-image-cloud-amd64 initramfs-tools busybox)
  SELINUX=(selinux-policy-default selinux-utils policycoreutils auditd)
fi
# What a Debian guest installs, and what the random configs add to it.
GOLDEN=(postgresql qemu-guest-agent)
EXTRA=(tree jq)
