# shellcheck shell=bash disable=SC2034  # sourced by the recipes
# What the images hold, as Debian packages without their recommended ones.

# What every cloud image has.
COMMON=(systemd systemd-sysv systemd-resolved udev dbus cloud-init netplan.io iproute2 e2fsprogs fdisk mount passwd procps
  kmod ca-certificates tzdata python3)
# ISO 9660 through FUSE: the machine's kernel need not know that file system.
CONTAINER=("${COMMON[@]}" fuseiso)
MACHINE=("${COMMON[@]}" linux-image-cloud-amd64 initramfs-tools busybox)
# What a Debian guest installs, and what the random configs add to it.
GOLDEN=(postgresql qemu-guest-agent)
EXTRA=(tree jq)
