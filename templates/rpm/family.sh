# shellcheck shell=bash
# Fedora, CentOS Stream, RHEL, AlmaLinux: the distribution's postgresql.service and its paths.
# shellcheck disable=SC2034  # read by the scripts that source this file

DATA_MOUNT=/var/lib/pgsql
WAL_MOUNT=$DATA_MOUNT/wal

packages_present() {
  rpm -q --quiet --whatprovides "$@"
}

packages_install() {
  dnf -y --setopt=install_weak_deps=False ${HTTP_PROXY_URL:+"--setopt=proxy=$HTTP_PROXY_URL"} install "$@"
}

binary_directory() {
  echo /usr/bin
}

data_directory() {
  echo /var/lib/pgsql/data
}

# There are none: the one server is postgresql.service.
stop_clusters() {
  :
}

# The unit came with the package, our drop-in with cloud-init.
install_service() {
  systemctl daemon-reload
}

label_files() {
  if selinuxenabled; then
    restorecon -RF "$DATA_MOUNT"
  fi
}
