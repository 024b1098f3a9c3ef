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

# Of several majors the one with data in its place, else the newest.
binary_directory() {
  local program directory newest=''
  while read -r program; do
    directory=${program%/postgres} newest=${directory:-$newest}
    major=${directory%/bin}
    if [[ -e $DATA_MOUNT/${major##*/}/main/PG_VERSION ]]; then
      break
    fi
  done < <(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V)
  printf '%s' "$newest"
}

data_directory() {
  echo "$DATA_MOUNT/$1/main"
}

# The package's clusters, each a postgresql@MAJOR-NAME.service.
stop_clusters() {
  systemctl stop 'postgresql@*.service'
  ln -sfn /dev/null /etc/systemd/system/postgresql@.service
}

# Only now that the packages are there: their postinst starts postgresql.service and would wait for ours,
# which waits for the set-up, which waits for the postinst.
install_service() {
  sed "s/@MAJOR@/$PG_MAJOR/g" /usr/local/share/virtwork/postgresql.service \
    >/etc/systemd/system/postgresql.service
  systemctl daemon-reload
}

label_files() {
  :
}
