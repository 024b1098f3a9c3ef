# shellcheck shell=bash
# cloud.sh ROOT, sourced: what cloud images of Debian have beside their packages, and a recorder of apt-get's calls.
root=$1
: >"$root/etc/machine-id"
rm -f "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
mkdir -p "$root/var/log/journal"
chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  e2scrub_all.timer fstrim.timer e2scrub_reap.service
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
chroot "$root" dpkg-divert --quiet --rename --divert /usr/bin/apt-get.real --add /usr/bin/apt-get
install -m 0755 /dev/stdin "$root/usr/bin/apt-get" <<'SH'
#!/bin/sh
echo "apt-get $*" >>/var/log/package-calls
exec /usr/bin/apt-get.real "$@"
SH
if [[ $RELEASE == bullseye ]]; then
  # where cloud-init brings ifupdown along, and prefers it
  echo 'system_info: {network: {renderers: [netplan]}}' >"$root/etc/cloud/cloud.cfg.d/91_netplan.cfg"
fi
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/etc/apt/sources.list.d/*
echo 'deb [trusted=yes] http://mirror.test/debian ./' >"$root/etc/apt/sources.list"
