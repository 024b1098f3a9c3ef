# shellcheck shell=bash
# patroni-fedora-golden.sh ROOT POOL PATRONI: the Fedora stand-in as a golden image with Patroni, etcd and HAProxy: the files
# that installing them brought to Debian (PATRONI is that layer), and the users that their packages make.
set -euo pipefail
root=$1 patroni=$3
tar -C "$patroni" --exclude=usr/share/doc --exclude=usr/lib/systemd -cf - usr etc/haproxy | tar -C "$root" -xf -
for user in etcd haproxy; do
  chroot "$root" useradd -r -M -d "/var/lib/$user" -s /usr/sbin/nologin "$user"
done
chroot "$root" ldconfig
