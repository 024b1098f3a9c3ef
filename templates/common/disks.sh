# shellcheck shell=bash
# The disks: found by serial, made only when blank, refused when they hold anything that is not ours.
# Sourced by the set-up scripts.

disk_path() {
  printf '/dev/disk/by-id/virtio-%s' "$1"
}

# mount_disk SERIAL LABEL DIRECTORY: ext4 with that label, in that directory, as large as the disk.
mount_disk() {
  local device label=$2 directory=$3 found status=0
  device=$(disk_path "$1")
  wait_for_disk "$device"

  if mountpoint -q "$directory"; then
    is_mounted "$device" "$directory" ||
      refuse "$directory is a mount point of another disk than $device; nothing was touched; unmount it"
    grow_file_system "$device"
    return
  fi

  # blkid says 2 (nothing found) for a disk that it cannot open, too.
  head -c 1048576 "$device" >/dev/null || refuse "$device cannot be read; nothing was written to it"
  found=$(blkid -p -o export "$device") || status=$?
  if ((status == 2)); then
    log "$device is blank: making an ext4 file system labelled $label"
    mkfs.ext4 -q -m 0 -L "$label" "$device"
    sync
  elif ((status != 0)) || ! is_ours "$label" <<<"$found"; then
    found=$(grep -E '^(TYPE|LABEL|PTTYPE)=' <<<"$found" | paste -sd ' ')
    refuse "$device is neither blank nor ext4 labelled $label (found: ${found:-contradictory signatures});" \
      "nothing was written to it; attach a blank disk, or wipe this one if its data may go"
  fi

  check_file_system "$device"
  mkdir -p "$directory"
  mount -t ext4 -o noatime,nodev,nosuid "$device" "$directory"
  is_mounted "$device" "$directory" || refuse "$device was mounted, but $directory does not show it"
  log "mounted $device on $directory"
  grow_file_system "$device"
}

wait_for_disk() {
  retry 1 "waiting for the disk $1" is_attached "$1"
}

is_attached() {
  [[ -b $1 ]] || {
    echo 'the VM has no such disk'
    return 1
  }
}

is_ours() {
  local found
  found=$(cat)
  grep -qx 'TYPE=ext4' <<<"$found" && grep -qxF "LABEL=$1" <<<"$found" && ! grep -q '^PTTYPE=' <<<"$found"
}

# Compares device numbers: findmnt shows the kernel's name of the disk, which need not be the one asked for.
is_mounted() {
  mountpoint -q "$2" && [[ $(mountpoint -d "$2") == "$(mountpoint -x "$1")" ]]
}

check_file_system() {
  local output status=0 blocks block_size size
  # e2fsck says of this nothing that helps: "without -a or -p options".
  output=$(dumpe2fs -h "$1" 2>/dev/null) || output=''
  blocks=$(sed -n 's/^Block count: *//p' <<<"$output")
  block_size=$(sed -n 's/^Block size: *//p' <<<"$output")
  size=$(blockdev --getsize64 "$1")
  if [[ -n $blocks && -n $block_size ]] && ((blocks * block_size > size)); then
    refuse "$1 has $((size >> 20)) MiB, but its file system $((blocks * block_size >> 20)): the disk was made" \
      "smaller; nothing was written to it; give it its old size again, or attach the disk this is a copy of"
  fi
  output=$(e2fsck -p "$1" 2>&1) || status=$?
  if ((status & 4)); then
    refuse "e2fsck cannot mend $1 by itself ($(reason "$output")); its data is as it was;" \
      "copy the disk, then run \`e2fsck -f $1\`"
  elif ((status > 3)); then
    fail "e2fsck of $1: $(reason "$output")"
  elif ((status > 0)); then
    log "e2fsck mended the file system of $1"
  fi
}

grow_file_system() {
  local output
  if ! output=$(resize2fs "$1" 2>&1 >/dev/null); then
    log "warning: the file system of $1 could not be grown ($(reason "$output"))"
  elif [[ $output != *'Nothing to do'* ]]; then
    log "the file system of $1 grew with its disk"
  fi
}

# The uid of postgres differs between families and images. Contents first, the top last: it is what is looked
# at, so an interrupted change is taken up again at the next boot.
own_directory() {
  [[ $(stat -c %U:%G:%a "$1") == postgres:postgres:700 ]] && return
  log "giving $1 to postgres"
  find "$1" -xdev -mindepth 1 -exec chown -h postgres:postgres {} +
  chmod 0700 "$1"
  chown postgres:postgres "$1"
}
