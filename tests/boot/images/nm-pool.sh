#!/bin/bash
# nm-pool.sh TARGET ROOT: NetworkManager and what it needs beside the packages of ROOT, of the first release of $RELEASE.
set -euo pipefail
target=$1 root=$2

state=$target/state
mkdir -p "$target/partial" "$state"/{lists/partial,preferences.d}
own=$(. /etc/os-release && echo "$VERSION_CODENAME")
# shellcheck disable=SC2016  # apt-get's own variables
apt-get indextargets 'Identifier: Packages' 'Origin: Debian' --format \
  'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(REPO_URI) $(CODENAME) $(COMPONENT)' |
  sed "s/ $own/ ${RELEASE%%-*}/" >"$state/sources.list"
cp "$root/var/lib/dpkg/status" "$state/status"
apt() {
  apt-get -q -y -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache::archives="$target" \
    -o Dir::Cache::pkgcache='' -o Dir::Cache::srcpkgcache='' -o Dir::Etc::sourcelist="$state/sources.list" \
    -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o Acquire::Check-Valid-Until=false -o Debug::NoLocking=true -o APT::Sandbox::User=root "$@"
}
apt update
apt --no-install-recommends --download-only install network-manager
rm -rf "$target/partial" "$state"
