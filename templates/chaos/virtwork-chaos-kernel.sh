#!/bin/bash
# Before virtwork-chaos.service: netem for the kernel that runs, where the config lets packages be installed. What fails here
# stops nothing; virtwork-chaos says what it lacks.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh

main() {
  local kernel output package install
  if modprobe sch_netem 2>/dev/null || [[ -z $PACKAGES ]]; then
    return
  fi
  kernel=$(uname -r)
  # Not the family's packages_install: that is for the time before there is a server.
  if command -v dnf >/dev/null; then
    package=kernel-modules-extra-$kernel
    install=(dnf -y --setopt=install_weak_deps=False ${HTTP_PROXY_URL:+"--setopt=proxy=$HTTP_PROXY_URL"} install "$package")
  else
    package=linux-modules-extra-$kernel
    install=(apt-get -q -o DPkg::Lock::Timeout=600
      ${HTTP_PROXY_URL:+-o "Acquire::http::Proxy=$HTTP_PROXY_URL" -o "Acquire::https::Proxy=$HTTP_PROXY_URL"}
      install -y --no-install-recommends "$package")
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  fi
  if output=$("${install[@]}" 2>&1); then
    log "installed $package"
    modprobe sch_netem 2>/dev/null || true
  else
    log "$package could not be installed ($(reason "$output"))"
  fi
}

main || true
exit 0
