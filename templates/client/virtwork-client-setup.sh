#!/bin/bash
# virtwork-client-setup.sh: runs at every boot of a client, before its ledger, and changes only what is missing or different.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/common/node.sh
. /usr/local/lib/virtwork/node.sh

OWNER=virtwork-ledger
DIRECTORY=/var/lib/virtwork
# The directory is the service's own.
PASSWORD=/run/virtwork-client/pgpass

main() {
  # shellcheck disable=SC2034  # read by install_packages
  PACKAGES=$CLIENT_PACKAGES
  install_packages
  systemctl --no-block start qemu-guest-agent.service 2>/dev/null || true
  python3 -I -c 'import ctypes; ctypes.CDLL("libpq.so.5")' 2>/dev/null ||
    refuse "not installed: libpq; use an image that has PostgreSQL's client, or let this one install packages"
  mount_disk data virtwork-data "$DIRECTORY"
  # No data of a server lies in these places: a disk of a node was attached to a client.
  [[ ! -e $DIRECTORY/data/PG_VERSION && -z $(compgen -G "$DIRECTORY/*/main/PG_VERSION") ]] ||
    refuse "the data disk is that of a database; nothing was touched; attach the client's own"
  create_owner
  DATA_MOUNT=$DIRECTORY label_files
  read_client_password
  set_up_authority "${PASSWORD%/*}"
  systemctl --no-block start virtwork-ledger.service
  log "set-up is complete, starting the ledger"
}

# The uid may be another one after each loss of the root disk.
create_owner() {
  id "$OWNER" >/dev/null 2>&1 ||
    useradd --system --user-group --no-create-home --home-dir "$DIRECTORY" --shell /usr/sbin/nologin "$OWNER"
  [[ $(stat -c %U:%a "$DIRECTORY") == "$OWNER:700" ]] && return
  find "$DIRECTORY" -xdev -mindepth 1 -exec chown -h "$OWNER:$OWNER" {} +
  chmod 0700 "$DIRECTORY"
  chown "$OWNER:$OWNER" "$DIRECTORY"
}

# Of the Secret the client's password alone: a file that nobody else can read.
read_client_password() {
  local device mount=/run/virtwork/credentials
  device=$(disk_path credentials)
  wait_for_disk "$device"
  install -d -m 0700 /run/virtwork "$mount"
  mountpoint -q "$mount" || mount -o ro,nosuid,nodev,noexec "$device" "$mount"
  read_password CLIENT_PASSWORD "$mount/$CLIENT_KEY"
  umount "$mount"
  check_password "$CLIENT_KEY" "$CLIENT_PASSWORD"
  install -d -m 0755 "${PASSWORD%/*}"
  (umask 077 && printf '*:*:*:pgbench:%s\n' "$(escape_pgpass "$CLIENT_PASSWORD")" >"$PASSWORD.new")
  chown "$OWNER:$OWNER" "$PASSWORD.new"
  mv -f "$PASSWORD.new" "$PASSWORD"
}

main
exit
