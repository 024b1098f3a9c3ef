#!/bin/bash
# virtwork-patroni-setup.sh node|witness: runs at every boot, before etcd, Patroni and HAProxy, and changes only what is
# missing or different. What becomes of a node's data is Patroni's to say.
set -euo pipefail

ROLE=$1

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh
# Nodes with a database have it, in labs with an archive.
if [[ -n ${ARCHIVE_TYPE:-} && $ROLE == node ]]; then
  # shellcheck source=templates/archive/archive.sh
  . /usr/local/lib/virtwork/archive.sh
fi

NODE=$(uname -n)
NODE=${NODE%%.*}
PKI=/run/virtwork-pki
CONFIG=/run/postgresql/virtwork.patroni.yml

main() {
  [[ $NODE == *-"$ROLE"-* ]] ||
    refuse "the host name is $NODE, not that of a $ROLE: etcd and Patroni would take it for another; nothing was" \
      "touched; let cloud-init set the host name (no preserve_hostname in the image)"
  replace_services
  [[ $ROLE == node ]] || PACKAGES=$WITNESS_PACKAGES
  install_packages
  # Again: on Debian the installation takes its hands off postgresql.service.
  replace_services
  systemctl --no-block start qemu-guest-agent.service 2>/dev/null || true
  mount_disk data virtwork-data "$DATA_MOUNT"
  if [[ $ROLE == node ]]; then
    find_postgres
    check_version
    own_directory "$DATA_MOUNT"
    mount_wal_disk
    label_files
    derive_keys postgres
    remove_data "$PGDATA.new"
    remove_data "$PGDATA.discard"
    read_credentials
    set_up_tls
    [[ -z ${ARCHIVE_TYPE:-} ]] || prepare_archive
    choose_watchdog
    gather_authorities
    configure_patroni
    allow_haproxy
  else
    # No PostgreSQL, hence no user of that name.
    [[ $(stat -c %U "$DATA_MOUNT") == etcd ]] || chown -R etcd:etcd "$DATA_MOUNT"
    derive_keys etcd
    install -d /run/systemd/system/virtwork-etcd.service.d
    printf '[Service]\nUser=etcd\n' >/run/systemd/system/virtwork-etcd.service.d/user.conf
    systemctl daemon-reload
  fi
  start_services
}

# The distribution's units would run on the root disk, and the packages of Debian start them.
replace_services() {
  local unit
  for unit in etcd patroni haproxy postgresql; do
    ln -sfn /dev/null "/etc/systemd/system/$unit.service"
  done
  systemctl daemon-reload
  systemctl stop etcd.service patroni.service haproxy.service postgresql.service 2>/dev/null || true
  stop_clusters
}

# derive_keys USER: an authority that every node derives from the Secret, and a key of this node with a certificate of that,
# for the user that etcd and Patroni run as.
derive_keys() {
  local device directory=/run/virtwork/credentials output
  device=$(disk_path credentials)
  wait_for_disk "$device"
  install -d -m 0700 /run/virtwork "$directory"
  mountpoint -q "$directory" || mount -o ro,nosuid,nodev,noexec "$device" "$directory"
  output=$(python3 -I /usr/local/lib/virtwork/pki.py "$directory/$CA_SEED_KEY" "$NODE" "$PKI" 2>&1) || {
    umount "$directory"
    refuse "no keys from the Secret's key \`$CA_SEED_KEY\`: $(reason "$output"); nothing was touched; mend the Secret," \
      "then stop and start the VM"
  }
  umount "$directory"
  chown "$1" "$PKI/node.key"
}

# A node that hangs has to be reset before another one takes over. Found by its name: a machine may have others, which
# reset nothing.
choose_watchdog() {
  local identity device=''
  WATCHDOG=''
  [[ $PATRONI_WATCHDOG != off ]] || return 0
  modprobe i6300esb 2>/dev/null || true
  for identity in /sys/class/watchdog/*/identity; do
    if [[ -r $identity && $(<"$identity") == i6300ESB* ]]; then
      device=${identity%/identity}
      WATCHDOG=/dev/${device##*/}
    fi
  done
  if [[ -n $WATCHDOG ]]; then
    chown postgres "$WATCHDOG"
    log "watchdog: $WATCHDOG resets this machine when Patroni does not answer"
  elif [[ $PATRONI_WATCHDOG == required ]]; then
    log "warning: this guest has no i6300esb watchdog (kernel $(uname -r)): a leader that hangs goes on for a while" \
      "beside its successor"
  fi
}

# Patroni connects to the other site as it does to nodes of this one: by the authorities of both.
gather_authorities() {
  local directory=/run/postgresql/virtwork.tls file text=''
  [[ ${UPSTREAM_SSLMODE-} == verify-* ]] || return 0
  for file in "$directory/ca.crt" "${UPSTREAM_CA-}"; do
    [[ ! -s $file ]] || text+=$(<"$file")$'\n'
  done
  install -d -o postgres -g postgres -m 0700 "$directory"
  write_file "$directory/sites.crt" "$text"
}

configure_patroni() {
  local text
  text=$(VIRTWORK_WATCHDOG=$WATCHDOG as_postgres python3 -I /usr/local/lib/virtwork/patroni-config.py "$NODE" "$BINDIR" \
    "$PGDATA" "$PKI" "$PGPASSFILE") || fail "Patroni's configuration could not be made"
  write_file "$CONFIG" "$text"
  rm -f /run/postgresql/virtwork.configured
  # Where patronictl looks, for root.
  install -d -m 0700 /root/.config /root/.config/patroni
  ln -sfn "$CONFIG" /root/.config/patroni/patronictl.yaml
}

# HAProxy's domain in Fedora's policy (policy/modules/contrib/rhcs.te) may bind 5000 and ask Patroni on 8008, but bind 5001
# and connect to 5432 only with this boolean. For this boot: -P would rebuild the policy on the root disk. There a script does
# not lead into that domain; where one does, HAProxy would not start.
allow_haproxy() {
  if [[ -e /sys/fs/selinux/booleans/haproxy_connect_any ]]; then
    setsebool haproxy_connect_any on || log "warning: SELinux's boolean haproxy_connect_any could not be turned on"
  fi
}

start_services() {
  local units=()
  if [[ " $ETCD_NODES " == *" $NODE "* ]]; then
    units+=(virtwork-etcd.service)
  fi
  if [[ $ROLE == node ]]; then
    units+=(virtwork-patroni.service virtwork-haproxy.service virtwork-patroni-watch.service virtwork-database.service)
    log "set-up is complete, starting Patroni with PostgreSQL $PG_MAJOR"
  else
    log "set-up is complete, starting etcd"
  fi
  systemctl --no-block start "${units[@]}"
}

main
exit
