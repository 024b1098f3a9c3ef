# shellcheck shell=bash
# Positions in the WAL, and where the WAL on a disk ends. Needs no running server. Sourced.

# lsn X/Y: as one number; text_lsn NUMBER: the other way round.
lsn() {
  printf '%d' $((16#${1%/*} << 32 | 16#${1#*/}))
}

text_lsn() {
  printf '%X/%X' $(($1 >> 32)) $(($1 & 0xffffffff))
}

# control_value DIRECTORY LABEL: a line of pg_controldata.
control_value() {
  pg_controldata -D "$1" | sed -n "s/^$2: *//p" | grep .
}

# end_of_wal DIRECTORY: timeline and end of the last whole record that lies in pg_wal, as `TIMELINE NUMBER`: as much
# as this directory can hold, also what a standby received and never replayed. Fails when there is none.
end_of_wal() {
  local wal=$1/pg_wal segment_size name start timeline until newest=yes record
  segment_size=$(control_value "$1" 'Bytes per WAL segment') || return 1
  # The newest first. Files for later hold what they held before they were recycled, so their first page
  # names another place. A segment may hold nothing but the end of a record that began in the one before.
  while read -r name; do
    start=$(((16#${name:8:8} << 32) + 16#${name:16:8} * segment_size))
    [[ $(od -An -tu8 -j8 -N8 "$wal/$name" | tr -d ' ') == "$start" ]] || continue
    timeline=$((16#${name:0:8}))
    # Without an end pg_waldump waits five seconds for the next file, which is not there after the newest.
    until=()
    [[ $newest == no ]] || until=(-e "$(text_lsn $((start + segment_size)))")
    newest=no
    record=$(pg_waldump -p "$wal" -t "$timeline" -s "$(text_lsn "$start")" "${until[@]}" 2>/dev/null | tail -n 1) || true
    if [[ -n $record ]]; then
      echo "$timeline $(end_of_record "$1" "$record")"
      return
    fi
  done < <(find "$wal/" -maxdepth 1 -type f -printf '%f\n' | grep -xE '[0-9A-F]{24}' | sort -k1.9,1.24r -k1.1,1.8r)
  return 1
}

# end_of_recovery DIRECTORY: where a server that is started with it goes on, as a number. That is less than there
# may be in pg_wal: files of another time, or of a disk that was not restored with this one. Fails when in doubt.
end_of_recovery() {
  local wal=$1/pg_wal timeline last record
  last=$(control_value "$1" 'Latest checkpoint location') || return 1
  timeline=$(control_value "$1" "Latest checkpoint's TimeLineID") || return 1
  if [[ $(control_value "$1" 'Database cluster state') != 'shut down' ]]; then
    # "error in WAL record at 0/5000028: invalid record length at 0/5000060: …": the first is the last that is whole
    last=$(pg_waldump -q -p "$wal" -t "$timeline" -s "$last" 2>&1 |
      sed -nE 's|^.*error in WAL record at ([0-9A-F]+/[0-9A-F]+): .*$|\1|p')
    [[ -n $last ]] || return 1
  fi
  record=$(pg_waldump -p "$wal" -t "$timeline" -s "$last" -n 1 2>/dev/null | head -n 1)
  [[ -n $record ]] || return 1
  end_of_record "$1" "$record"
}

# end_of_record DIRECTORY LINE: of a line of pg_waldump, as a number:
# "rmgr: XLOG len (rec/tot): 114/ 114, tx: 0, lsn: 0/01528B50, prev 0/01528B18, desc: …"
end_of_record() {
  local segment_size page_size length start end
  segment_size=$(control_value "$1" 'Bytes per WAL segment') || return 1
  page_size=$(control_value "$1" 'WAL block size') || return 1
  read -r length start < <(sed -E 's|^[^/]*/tot\): *[0-9]+/ *([0-9]+), .* lsn: ([0-9A-F]+/[0-9A-F]+), .*$|\1 \2|' <<<"$2")
  end=$(record_end "$(lsn "$start")" "$length" "$segment_size" "$page_size")
  # What follows a switch is empty up to the next segment, and so counted by the server.
  if [[ $2 == *'desc: SWITCH'* ]]; then
    end=$(((end / segment_size + 1) * segment_size))
  fi
  echo "$end"
}

# record_end START LENGTH SEGMENT_SIZE PAGE_SIZE: a record goes on behind the header of each page that it
# crosses into, 24 bytes, at the start of a segment 40; the next one begins at a multiple of 8 (xlogreader.c).
record_end() {
  local end=$1 left=$2 room
  while true; do
    room=$(($4 - end % $4))
    if ((left <= room)); then
      echo $(((end + left + 7) / 8 * 8))
      return
    fi
    left=$((left - room))
    end=$((end + room))
    end=$((end + (end % $3 == 0 ? 40 : 24)))
  done
}
