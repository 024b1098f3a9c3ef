# shellcheck shell=bash
# archive-fedora-golden.sh ROOT POOL ARCHIVE: the Fedora stand-in as a golden image with barman's programs and boto3: the files
# that installing them brought to Debian (ARCHIVE is that layer). Fedora has no pgBackRest.
set -euo pipefail
root=$1 archive=$3
tar -C "$archive" --exclude=usr/share/doc --exclude=usr/lib/systemd --exclude='*pgbackrest*' -cf - usr | tar -C "$root" -xf -
chroot "$root" ldconfig
