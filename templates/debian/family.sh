# shellcheck shell=bash
# Debian and Ubuntu: a unit of our own in the shape of the RPM one, instead of postgresql-common's clusters,
# which cannot adopt a data directory again after the root disk was lost.
# shellcheck disable=SC2034  # read by the scripts that source this file

DATA_MOUNT=/var/lib/postgresql
WAL_MOUNT=$DATA_MOUNT/wal

packages_present() {
  local status
  status=$(dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>/dev/null) && ! grep -qvx installed <<<"$status"
}

packages_install() {
  local options=(-q -o DPkg::Lock::Timeout=600)
  # Packages of PostgreSQL start postgresql.service and wait for it: it must not be ours, see install_service.
  rm -f /etc/systemd/system/postgresql.service
  systemctl daemon-reload
  if [[ -n $HTTP_PROXY_URL ]]; then
    options+=(-o "Acquire::http::Proxy=$HTTP_PROXY_URL" -o "Acquire::https::Proxy=$HTTP_PROXY_URL")
  fi
  # needrestart, on Ubuntu, could restart the very unit that runs this.
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  # A boot that was cut off in the middle of an installation leaves dpkg to be finished first.
  dpkg --configure -a && apt-get "${options[@]}" update &&
    apt-get "${options[@]}" install -y --no-install-recommends "$@"
}

# Of several majors the newest.
binary_directory() {
  local newest
  newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
  printf '%s' "${newest%/postgres}"
}

data_directory() {
  echo "/var/lib/postgresql/$1/main"
}

# Only now that the packages are there: their postinst starts postgresql.service and would wait for ours,
# which waits for the set-up, which waits for the postinst.
install_service() {
  systemctl stop 'postgresql@*.service'
  ln -sfn /dev/null /etc/systemd/system/postgresql@.service
  sed "s/@MAJOR@/$PG_MAJOR/g" /usr/local/share/virtwork/postgresql.service \
    >/etc/systemd/system/postgresql.service
  systemctl daemon-reload
}

label_files() {
  :
}
