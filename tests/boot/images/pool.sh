#!/bin/bash
# pool.sh TARGET: the packages of all images and their dependencies, from the machine's own apt sources, as a flat
# repository. Guests install from it too.
set -euo pipefail
here=$(dirname "$0")
target=$1
# shellcheck source=tests/boot/images/packages.sh
. "$here/packages.sh"

mkdir -p "$target/partial"
# An empty status file makes apt fetch the whole closure, and not only what this machine lacks.
: >"$target/status"
apt-get -q -y -o Dir::State::status="$target/status" -o Dir::State::extended_states="$target/extended" \
  -o Dir::Cache::archives="$target" -o Debug::NoLocking=true -o APT::Sandbox::User=root \
  --no-install-recommends --download-only install \
  '?essential' apt "${CONTAINER[@]}" "${MACHINE[@]}" "${GOLDEN[@]}" "${EXTRA[@]}"
rm -rf "$target/partial" "$target/status" "$target/extended"
cd "$target"
apt-ftparchive packages . >Packages
apt-ftparchive release . >Release
echo 'deb [trusted=yes] copy:/mnt ./' >sources.list
