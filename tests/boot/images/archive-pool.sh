#!/bin/bash
# archive-pool.sh TARGET POOL: POOL, and what labs with an archive need beside it, as a flat repository. Guests install from
# it too. All of it is of the first release of $RELEASE, also in trixie-forky, but for pgBackRest, which has to know its PostgreSQL.
set -euo pipefail
here=$(dirname "$0")
target=$1 pool=$2
# shellcheck source=tests/boot/images/archive-packages.sh
. "$here/archive-packages.sh"

state=$target/state
mkdir -p "$target/partial" "$state"/{lists/partial,preferences.d}
own=$(. /etc/os-release && echo "$VERSION_CODENAME")
for release in ${RELEASE//-/ }; do
  # shellcheck disable=SC2016  # apt-get's own variables
  apt-get indextargets 'Identifier: Packages' 'Origin: Debian' --format \
    'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(REPO_URI) $(CODENAME) $(COMPONENT)' |
    sed "s/ $own/ $release/" >>"$state/sources.list"
done
if [[ $RELEASE == *-* ]]; then
  cat >"$state/preferences" <<PREFERENCES
Package: *
Pin: release n=${RELEASE#*-}*
Pin-Priority: 100

Package: src:pgbackrest
Pin: release n=${RELEASE#*-}*
Pin-Priority: 990
PREFERENCES
fi
# What the pool has counts as installed: only the rest is fetched.
sed '/^Package: /a Status: install ok installed' "$pool/Packages" >"$state/status"
apt() {
  apt-get -q -y -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache::archives="$target" \
    -o Dir::Cache::pkgcache='' -o Dir::Cache::srcpkgcache='' -o Dir::Etc::sourcelist="$state/sources.list" \
    -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences="$state/preferences" -o Dir::Etc::preferencesparts=/dev/null \
    -o Acquire::Check-Valid-Until=false -o Debug::NoLocking=true -o APT::Sandbox::User=root "$@"
}
apt update
apt --no-install-recommends --download-only install "${ARCHIVE[@]}"
rm -rf "$target/partial" "$state"
ln "$pool"/*.deb "$target/"
cd "$target"
apt-ftparchive packages . >Packages
apt-ftparchive release . >Release
echo 'deb [trusted=yes] copy:/mnt ./' >sources.list
