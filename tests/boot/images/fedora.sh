#!/bin/bash
# fedora.sh ROOT POOL: what a Fedora cloud image shows to cloud-init and to the guest's scripts, over Debian's. SELinux
# and real RPMs are not here: dnf, rpm, selinuxenabled and restorecon are stand-ins.
set -euo pipefail
here=$(dirname "$0")
root=$1
cp -r --preserve=mode "$here/fedora/." "$root/"
chmod 0755 "$root"/usr/bin/{dnf,rpm} "$root"/usr/sbin/{restorecon,selinuxenabled}
rm -f "$root/etc/os-release" "$root"/etc/debian_version "$root"/etc/apt/sources.list
cat >"$root/etc/os-release" <<'OS'
NAME="Fedora Linux"
ID=fedora
VERSION_ID=44
PRETTY_NAME="Fedora Linux 44 (stand-in of the boot tests)"
OS
echo 'Fedora release 44 (stand-in of the boot tests)' >"$root/etc/fedora-release"
sed -i 's/^\( *distro: \)debian$/\1fedora/' "$root/etc/cloud/cloud.cfg"
grep -q 'distro: fedora' "$root/etc/cloud/cloud.cfg"
# Fedora sets the host name through hostnamectl, and orders this unit so that the bus is there.
sed '/^Before=sysinit.target/d; s/^After=networking.service/After=dbus.socket/' \
  "$root/lib/systemd/system/cloud-init-network.service" >"$root/etc/systemd/system/cloud-init-network.service"
rm -f "$root"/usr/sbin/netplan "$root"/usr/bin/apt-get
# Fedora's postgres is 26:26; Debian gives that gid to a group of its own.
chroot "$root" groupdel tape
