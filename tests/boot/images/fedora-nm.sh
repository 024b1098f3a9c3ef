#!/bin/bash
# fedora-nm.sh ROOT POOL: the Fedora stand-in with NetworkManager in the place of systemd-networkd, and with cloud-init
# writing NetworkManager's files, as on Fedora. systemd-resolved answers there, too.
set -euo pipefail
root=$1
install -m 0755 /dev/stdin "$root/usr/sbin/policy-rc.d" <<<$'#!/bin/sh\nexit 101'
# Debian's addgroup is in Perl, of which this root has not enough.
chroot "$root" groupadd --system netdev
ln -s /bin/true "$root/usr/local/sbin/addgroup"
DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$root" sh -c 'dpkg --install /mnt/*.deb'
rm "$root/usr/sbin/policy-rc.d" "$root/usr/local/sbin/addgroup" "$root/etc/systemd/network/10-dhcp.network"
chroot "$root" systemctl --quiet mask systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service
chroot "$root" systemctl --quiet enable NetworkManager.service NetworkManager-wait-online.service
# Debian leaves interfaces of ifupdown alone.
rm -f "$root/etc/network/interfaces"
cat >"$root/etc/cloud/cloud.cfg.d/91_fedora.cfg" <<'CFG'
# In the order of Fedora's cloud-init.
system_info: {network: {renderers: [netplan, network-manager, networkd, sysconfig, eni]}}
CFG
