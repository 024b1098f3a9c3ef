# shellcheck shell=bash
# What labs with an archive do besides: at each boot, when data is made, and when WAL is missing. Sourced.

ARCHIVE_RUN=/run/postgresql/virtwork.archive

# The keys of the store, for postgres alone, and the units that use them. They do not wait for the set-up, nor it for them.
prepare_archive() {
  local device directory=/run/virtwork/archive access='' secret='' unit schedule
  install -d -o postgres -g postgres -m 0700 "$ARCHIVE_RUN"
  if [[ $ARCHIVE_TYPE == s3 ]]; then
    device=$(disk_path archive)
    wait_for_disk "$device"
    install -d -m 0700 /run/virtwork "$directory"
    mountpoint -q "$directory" || mount -o ro,nosuid,nodev,noexec "$device" "$directory"
    read_password access "$directory/$ARCHIVE_ACCESS_KEY"
    read_password secret "$directory/$ARCHIVE_SECRET_KEY"
    umount "$directory"
    check_password "$ARCHIVE_ACCESS_KEY" "$access"
    check_password "$ARCHIVE_SECRET_KEY" "$secret"
    write_file "$ARCHIVE_RUN/keys" "$access"$'\n'"$secret"
  else
    mount_export
  fi
  as_postgres /usr/local/sbin/virtwork-archive prepare "$BINDIR" "$PGDATA" || fail "what the archive's programs read could not be written"
  for unit in backup check; do
    schedule=$ARCHIVE_BACKUP_SCHEDULE
    [[ $unit == backup ]] || schedule=$ARCHIVE_CHECK_SCHEDULE
    install -d "/run/systemd/system/virtwork-archive-$unit.timer.d"
    printf '[Timer]\nOnCalendar=%s\n' "$schedule" >"/run/systemd/system/virtwork-archive-$unit.timer.d/schedule.conf"
  done
  systemctl daemon-reload
  systemctl --no-block restart virtwork-archive.service virtwork-archive-{backup,check}.timer
}

# Mounted when it is looked at, so that a server that is away is asked again. Soft: what cannot be written is an error, and
# is tried anew. Without a cache of names: for a minute it would say that there is no mark of another site, or give the one before.
mount_export() {
  local name
  install -d /mnt/virtwork-archive
  name=$(systemd-escape --path /mnt/virtwork-archive)
  printf '[Mount]\nWhat=%s\nWhere=/mnt/virtwork-archive\nType=nfs\nOptions=soft,lookupcache=none,timeo=50,retrans=2,nosuid,nodev,noexec\nTimeoutSec=30\n' \
    "$ARCHIVE_NFS" >"/run/systemd/system/$name.mount"
  printf '[Automount]\nWhere=/mnt/virtwork-archive\n' >"/run/systemd/system/$name.automount"
  systemctl daemon-reload
  systemctl start "$name.automount"
}

# A copy of the newest base backup, which costs the primary nothing; in a standby site also while nobody answers. Fails where
# there is none, and the primary is cloned.
clone_from_archive() {
  local system=any output
  if may_clone; then
    system=$(replication_command IDENTIFY_SYSTEM 2>/dev/null) || return 1
    system=${system%%|*}
    check_primary_version
  elif [[ -z ${UPSTREAM_HOST:-} ]]; then
    return 1
  fi
  remove_data "$PGDATA.new"
  new_wal_directory
  SECONDS=0
  [[ -n ${ARCHIVE_SAID:-} ]] || log "restoring the newest base backup of the archive into $PGDATA"
  output=$(as_postgres /usr/local/sbin/virtwork-archive standby "$PGDATA.new" "$(wal_directory)" "$system" 2>&1) || {
    output=$(reason "$output")
    [[ $output == "${ARCHIVE_SAID:-}" ]] || log "not from the archive (${output#error: })"
    ARCHIVE_SAID=$output
    remove_data "$PGDATA.new"
    return 1
  }
  grep '^{' <<<"$output" || true
  as_postgres touch "$PGDATA.new/standby.signal"
  adopt_clone
  log "the standby is restored from the archive after $SECONDS s"
}

# The directory of WAL_OPTIONS; nothing where the WAL lies with the data.
wal_directory() {
  local option=${WAL_OPTIONS[0]-}
  printf '%s' "${option#--waldir=}"
}

# A blank disk, in a lab that is made from an archive.
restore_lab() {
  local output status=0
  log "making this lab from the archive $RESTORE_FROM, until $RESTORE_TARGET ${RESTORE_VALUE:-}"
  as_postgres mkdir -p "${PGDATA%/*}"
  new_wal_directory
  # It takes its time: what it says is told at once.
  exec 3>&1
  output=$(as_postgres /usr/local/sbin/virtwork-archive lab "$PGDATA.new" "$(wal_directory)" 2>&1 3>&- |
    tee >(grep --line-buffered -v '^error: ' >&3)) || status=$?
  exec 3>&-
  if ((status == 78)); then
    remove_data "$PGDATA.new"
    refuse "$(reason "$output"); nothing was touched; change \`restore\`, or remove it for a new database"
  fi
  ((status == 0)) || fail "restoring: $(reason "$output")"
  adopt
}

# archived POSITION TIMELINE…: whether the archive has the segment of the position, a number, on one of the timelines: `yes`,
# `no`, or `unknown`. An older timeline may have been left within the segment, so the newest comes first.
archived() {
  local position=$1 size name timeline status answer=no
  shift
  size=$(pg_controldata -D "$PGDATA" | sed -n 's/^Bytes per WAL segment: *//p') || size=0
  ((size > 0)) || size=$((16 << 20))
  for timeline in $(printf '%s\n' "$@" | sort -run); do
    name=$(printf '%08X%08X%08X' "$timeline" $((position >> 32)) $(((position & 0xffffffff) / size)))
    status=0
    as_postgres /usr/local/sbin/virtwork-archive-command has "$name" / 2>/dev/null || status=$?
    case $status in
      0)
        echo yes
        return
        ;;
      1) ;;
      *) answer=unknown ;;
    esac
  done
  echo "$answer"
}
