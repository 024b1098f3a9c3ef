#!/bin/bash
# install.sh ROLE: installs the files of a role from the disk that this script lies on, then starts the set-up.
#
# virtwork-install@ROLE.service runs it at every boot, before anything of the lab: a root that stays gets what the config
# says now. No file is replaced before all new ones are on the disk beside the old. A boot that is cut off in between
# leaves nothing that runs: the next one installs the rest first.
set -euo pipefail

export LC_ALL=C
ROLE=$1
SOURCE=${0%/*}
# The paths of what was installed, for the boot that finds one of them no longer in the list.
INSTALLED=/usr/local/lib/virtwork/installed

fail() {
  printf 'failed: %s; trying again in 30 s\n' "$*"
  exit 1
}

# files.txt has a line `role mode key path` for each file; the role may be `all`.
main() {
  local role mode key path output paths=() staged=()
  while read -r role mode key path; do
    [[ $role == all || $role == "$ROLE" ]] || continue
    paths+=("$path")
    if [[ -f $path ]] && cmp -s "$SOURCE/$key" "$path" && [[ 0$(stat -c %a "$path") == "$mode" ]]; then
      continue
    fi
    output=$(install -D -m "$mode" "$SOURCE/$key" "$path.new" 2>&1) || fail "installing $path: $output"
    staged+=("$path")
  done <"$SOURCE/files.txt"
  ((${#paths[@]} > 0)) || fail "files.txt has no file for the role $ROLE"
  if ((${#staged[@]} > 0)); then
    replace "${staged[@]}"
  fi
  remove_old "${paths[@]}"
  systemctl daemon-reload
  printf 'installed %d of %d files of the %s, the others were there already\n' "${#staged[@]}" "${#paths[@]}" "$ROLE"
  systemctl start --no-block virtwork-setup.service
}

replace() {
  local path output
  # With the labels of their places, where there is SELinux.
  if command -v restorecon >/dev/null; then
    restorecon -F "${@/%/.new}"
  fi
  output=$(sync "${@/%/.new}" 2>&1) || fail "writing to the root disk: $output"
  for path in "$@"; do
    mv -fT "$path.new" "$path"
  done
}

# Files that only an older list had: a drop-in that stayed would stay in force.
remove_old() {
  local path paths output
  paths=$(printf '%s\n' "$@" | sort)
  if [[ -f $INSTALLED ]]; then
    while read -r path; do
      rm -f "$path"
    done < <(comm -13 - "$INSTALLED" <<<"$paths")
  fi
  if ! cmp -s - "$INSTALLED" <<<"$paths"; then
    output=$(install -D -m 0644 /dev/stdin "$INSTALLED.new" 2>&1 <<<"$paths") || fail "installing $INSTALLED: $output"
    mv -f "$INSTALLED.new" "$INSTALLED"
  fi
  sync
}

main
exit
