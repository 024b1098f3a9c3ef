#!/bin/bash
# pool.sh TARGET: the packages of all images of $RELEASE and their dependencies, as a flat repository. Guests install
# from it too. They come from where this machine has its own Debian from. Of two releases, as in trixie-forky, the
# second gives PostgreSQL and what that cannot do without.
set -euo pipefail
here=$(dirname "$0")
target=$1
# shellcheck source=tests/boot/images/packages.sh
. "$here/packages.sh"

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

Package: src:postgresql-18 src:postgresql-common src:glibc
Pin: release n=${RELEASE#*-}*
Pin-Priority: 990
PREFERENCES
fi
# An empty status file makes apt fetch the whole closure, and not only what this machine lacks.
: >"$state/status"
# Releases that nobody changes any more are past the dates that they were valid until.
apt() {
  apt-get -q -y -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache::archives="$target" \
    -o Dir::Cache::pkgcache='' -o Dir::Cache::srcpkgcache='' -o Dir::Etc::sourcelist="$state/sources.list" \
    -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences="$state/preferences" -o Dir::Etc::preferencesparts=/dev/null \
    -o Acquire::Check-Valid-Until=false -o Debug::NoLocking=true -o APT::Sandbox::User=root "$@"
}
apt update
apt --no-install-recommends --download-only install \
  '?essential' apt "${CONTAINER[@]}" "${MACHINE[@]}" "${SELINUX[@]}" "${GOLDEN[@]}" "${EXTRA[@]}"
rm -rf "$target/partial" "$state"
cd "$target"
apt-ftparchive packages . >Packages
apt-ftparchive release . >Release
echo 'deb [trusted=yes] copy:/mnt ./' >sources.list
