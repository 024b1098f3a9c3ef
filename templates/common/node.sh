# shellcheck shell=bash
# The steps that all nodes take alike, in the order of prepare_node. Sourced by the set-up scripts.

# shellcheck source=templates/common/disks.sh
. /usr/local/lib/virtwork/disks.sh

# Whatever nobody thought of may pass: the unit is restarted. BASH_COMMAND holds the names of variables, not
# their values.
set -o errtrace
trap 'log "failed in ${BASH_SOURCE[0]##*/}, line $LINENO: $BASH_COMMAND; trying again in 30 s" >&2' ERR

HBA_BEGIN='# virtwork begin: these lines are written anew at every boot, put your own below them'
HBA_END='# virtwork end'
INCLUDE="include = 'virtwork.conf'"

prepare_node() {
  install_packages
  stop_postgres_of_image
  systemctl --no-block start qemu-guest-agent.service 2>/dev/null || true

  mount_disk data virtwork-data "$DATA_MOUNT"
  find_postgres
  check_version
  own_directory "$DATA_MOUNT"
  mount_wal_disk
  label_files
  remove_data "$PGDATA.new"
  remove_data "$PGDATA.discard"
  install_service
  read_credentials
  set_up_tls
}

install_packages() {
  local packages output attempt=0 seconds=5
  # shellcheck disable=SC2153  # PACKAGES comes from lab.env
  read -ra packages <<<"$PACKAGES"
  if ((${#packages[@]} == 0)) || packages_present "${packages[@]}"; then
    return
  fi
  until output=$(packages_install "${packages[@]}" 2>&1); do
    attempt=$((attempt + 1))
    log "packages: attempt $attempt failed ($(reason "$output"));" \
      "next one in $seconds s"
    pause "$seconds"
    seconds=$((seconds < 60 ? seconds * 2 : 60))
  done
  log "packages installed: $PACKAGES"
}

# Ours is never running here: it requires virtwork-setup.service and is stopped whenever that is.
stop_postgres_of_image() {
  if systemctl is-active --quiet postgresql.service; then
    log "stopping the image's own postgresql.service"
    systemctl stop postgresql.service
  fi
  stop_clusters
}

find_postgres() {
  local program missing=()
  find_binaries
  for program in initdb pg_basebackup pg_controldata pg_ctl pg_receivewal pg_rewind pg_waldump pgbench postgres psql; do
    [[ -x $BINDIR/$program ]] || missing+=("$program")
  done
  ((${#missing[@]} == 0)) ||
    refuse "not installed: ${missing[*]} (looked in $BINDIR); use an image that has" \
      "PostgreSQL's server and contrib programs, or let this one install packages"
  ((PG_MAJOR >= 13)) || refuse "this image has PostgreSQL $PG_MAJOR; the lab needs 13 or newer"
  ((PG_MAJOR < 14)) || PGOPTIONS+=' -c idle_session_timeout=0'
  ((PG_MAJOR < 17)) || PGOPTIONS+=' -c transaction_timeout=0'
}

# Every place where either family keeps a data directory: on Debian, another major is another directory.
check_version() {
  local file version
  for file in "$DATA_MOUNT"/data/PG_VERSION "$DATA_MOUNT"/*/main/PG_VERSION; do
    [[ -e $file ]] || continue
    version=$(<"$file")
    [[ $version == "$PG_MAJOR" && $file == "$PGDATA/PG_VERSION" ]] ||
      refuse "${file%/PG_VERSION} is a data directory of PostgreSQL $version, but this image has PostgreSQL" \
        "$PG_MAJOR with its data in $PGDATA; nothing was touched; boot an image with PostgreSQL $version"
  done
  if [[ ! -e $PGDATA/PG_VERSION && -d $PGDATA && -n $(ls -A "$PGDATA") ]]; then
    refuse "$PGDATA holds files but no PG_VERSION; nothing was touched; move them away"
  fi
}

# ROLE is the set-up script's.
has_wal_disk() {
  [[ " $WAL_DISKS " == *" $ROLE "* ]]
}

mount_wal_disk() {
  local wal=$PGDATA/pg_wal
  if ! has_wal_disk; then
    [[ ! -L $wal ]] ||
      refuse "$wal is on a separate disk, but the config has none; nothing was touched;" \
        "set wal-disk-size again"
    return
  fi
  [[ -L $wal || ! -d $wal ]] ||
    refuse "$wal is a directory on the data disk: a WAL disk cannot be added to an existing node;" \
      "nothing was touched; unset wal-disk-size, or give the node blank disks"
  mount_disk wal virtwork-wal "$WAL_MOUNT"
  own_directory "$WAL_MOUNT"
  [[ ! -L $wal || $(readlink -m "$wal") == "$WAL_MOUNT"/* && -d $wal ]] ||
    refuse "$wal points to $(readlink "$wal"), which is not on this WAL disk; the data was not" \
      "touched; attach the WAL disk that belongs to this data disk, or give the node blank disks"
}

# A new directory on the WAL disk for each new data directory, as options for initdb and pg_basebackup:
# both want it empty, and the old one belongs to the data directory that is kept aside.
# shellcheck disable=SC2034  # WAL_OPTIONS is read by the scripts that source this file
new_wal_directory() {
  WAL_OPTIONS=()
  if has_wal_disk; then
    # What a start left that was cut off before anything was in it.
    find "$WAL_MOUNT" -maxdepth 1 -name 'pg_wal.*' -empty -delete
    WAL_OPTIONS=("--waldir=$(as_postgres mktemp -d "$WAL_MOUNT/pg_wal.XXXXXX")")
  fi
}

# remove_data DIRECTORY: with its WAL, which may lie on the WAL disk. Nothing else there is ever removed: whose it is
# cannot be known, since copies that were kept may have been renamed or moved.
remove_data() {
  local wal other own=yes
  wal=$(readlink -m "$1/pg_wal")
  # A copy that was cut off still points to where it is from.
  for other in "${1%/*}"/*/pg_wal; do
    [[ $other == "$1/pg_wal" || ! $other -ef $wal ]] || own=no
  done
  if [[ $wal == "$WAL_MOUNT"/pg_wal.* && $own == yes ]]; then
    rm -rf "$wal"
  fi
  rm -rf "$1"
}

# The Secret attached as a disk -> REPLICATION_PASSWORD and CLIENT_PASSWORD, in this shell only, and a pgpass
# file. Where replicator logs in by a certificate there is no key of a password for it.
read_credentials() {
  local device directory=/run/virtwork/credentials lines=''
  device=$(disk_path credentials)
  wait_for_disk "$device"
  install -d -m 0700 /run/virtwork "$directory"
  # The files on it are 0644, so the directory above has to be closed.
  mountpoint -q "$directory" || mount -o ro,nosuid,nodev,noexec "$device" "$directory"
  read_password REPLICATION_PASSWORD "$directory/$REPLICATION_KEY"
  read_password CLIENT_PASSWORD "$directory/$CLIENT_KEY"
  umount "$directory"

  if [[ -n $REPLICATION_KEY ]]; then
    check_password "$REPLICATION_KEY" "$REPLICATION_PASSWORD"
    lines="*:*:*:replicator:$(escape_pgpass "$REPLICATION_PASSWORD")"$'\n'
  fi
  check_password "$CLIENT_KEY" "$CLIENT_PASSWORD"
  [[ -d /run/postgresql ]] || install -d -o postgres -g postgres -m 0755 /run/postgresql
  write_file "$PGPASSFILE" "$lines*:*:*:pgbench:$(escape_pgpass "$CLIENT_PASSWORD")"
}

# read_password VARIABLE FILE: the bytes of the file without one final newline; nothing if there is no file.
read_password() {
  local -n password=$1
  password=''
  # At the end of the file read fails; that it does not means a NUL byte.
  if [[ -f $2 ]] && IFS= read -r -d '' password <"$2"; then
    password=''
  fi
  password=${password%$'\n'}
}

# 128 bytes: before PostgreSQL 14 libpq cuts a line of a password file at 320 bytes, and escapes double some.
# UTF-8: the databases are, and the server refuses any other bytes in a statement.
check_password() {
  if [[ -z $2 || $2 == *[$'\r\n']* ]] || ((${#2} > 128)) || ! iconv -f UTF-8 -t UTF-8 <<<"$2" >/dev/null 2>&1; then
    refuse "the Secret's key \`$1\` is missing, empty, longer than 128 bytes, not UTF-8, or not one line of" \
      "text; nothing was touched; mend the Secret, then stop and start the VM"
  fi
}

# The passwords that read_credentials has written there.
# shellcheck disable=SC2034  # read by the scripts that source this file
read_pgpass() {
  REPLICATION_PASSWORD=$(unescape_pgpass replicator)
  CLIENT_PASSWORD=$(unescape_pgpass pgbench)
}

unescape_pgpass() {
  sed -nE "/^\*:\*:\*:$1:/ { s///; s/\\\\(.)/\\1/g; p; }" "$PGPASSFILE"
}

escape_pgpass() {
  # shellcheck disable=SC2001  # in ${1//…/&} the meaning of & differs between versions of bash
  sed 's/[\\:]/\\&/g' <<<"$1"
}

# write_file PATH TEXT: a whole file that only postgres can read, or nothing happens. One that is there already
# is left alone: a restart must not need room on a full disk.
write_file() {
  local output
  if [[ -f $1 ]] && cmp -s "$1" - <<<"$2"; then
    return
  fi
  output=$({ install -o postgres -g postgres -m 0600 /dev/stdin "$1.new" <<<"$2" && sync "$1.new"; } 2>&1) ||
    fail "writing $1: $(reason "$output")"
  mv -f "$1.new" "$1"
}

# configure DIRECTORY [SETTINGS]: the managed settings as an include that comes last, the managed pg_hba lines
# first (the first match decides). The rest of both files is the user's. All is read before any is written.
configure() {
  local directory=$1 managed main managed_hba hba auto
  managed=$(</etc/virtwork/postgresql.conf)
  managed_hba=$(</etc/virtwork/pg_hba.conf)
  main=$(sed "/^$INCLUDE\$/d" "$directory/postgresql.conf")
  hba=$(sed "/^$HBA_BEGIN\$/,/^$HBA_END\$/d" "$directory/pg_hba.conf")
  # This file beats every include: a primary_conninfo in it would hide ours.
  auto=$(sed -E '/^primary_(conninfo|slot_name)[ =]/d' "$directory/postgresql.auto.conf")
  write_file "$directory/virtwork.conf" "$managed${2:+$'\n'$2}"
  write_file "$directory/postgresql.conf" "$main"$'\n'"$INCLUDE"
  write_file "$directory/pg_hba.conf" "$HBA_BEGIN"$'\n'"$managed_hba"$'\n'"$HBA_END"$'\n'"$hba"
  write_file "$directory/postgresql.auto.conf" "$auto"
}

# The staged data directory becomes the real one, on disk, in one step.
adopt() {
  rmdir "$PGDATA" 2>/dev/null || true
  sync
  mv -T "$PGDATA.new" "$PGDATA"
  sync
}

# Queued, not waited for: these units are ordered after the one that runs this script.
start_units() {
  systemctl --no-block start postgresql.service virtwork-database.service virtwork-ready.socket "$@"
  log "set-up is complete, starting PostgreSQL $PG_MAJOR"
}
