# shellcheck shell=bash
# What set-up and watcher of a replica both need: its identity, the primary's answers, and the proof that this
# standby can never catch up again. Sourced by both.

NODE=$(uname -n)
NODE=${NODE%%.*}
[[ $NODE == *-replica-* ]] ||
  refuse "the host name is $NODE, not that of a replica: all nodes would share a slot; nothing was touched;" \
    "let cloud-init set the host name (no preserve_hostname in the image)"
SLOT=${NODE//-/_}

# Nobody sends a FIN when a primary loses power: without keepalives a clone would hang for two hours, and with
# data under way, when keepalives do not run, for the 15 minutes of TCP's retransmissions.
connection() {
  printf '%s' "host=$PRIMARY_HOST port=5432 user=$1 application_name=$NODE passfile=$PGPASSFILE" \
    ' connect_timeout=10 keepalives_idle=10 keepalives_interval=10 keepalives_count=3 tcp_user_timeout=30000'
}

ask_primary() {
  as_postgres timeout 60 psql -XAtqw -d "$(connection pgbench) dbname=pgbench" -c "$1" 2>/dev/null
}

# A command of the replication protocol, for instance IDENTIFY_SYSTEM.
replication_command() {
  as_postgres timeout 60 psql -XAtqw -d "$(connection replicator) replication=true" -c "$1" 2>/dev/null
}

ensure_slot() {
  as_postgres timeout 60 pg_receivewal --no-password --create-slot --if-not-exists -S "$SLOT" \
    -d "$(connection replicator)"
}

local_value() {
  as_postgres pg_controldata -D "$PGDATA" | sed -n "s/^$1: *//p" | grep .
}

# lsn X/Y: as one number; text_lsn NUMBER: the other way round.
lsn() {
  printf '%d' $((16#${1%/*} << 32 | 16#${1#*/}))
}

text_lsn() {
  printf '%X/%X' $(($1 >> 32)) $(($1 & 0xffffffff))
}

# never_again POSITION: prints a verdict and returns 0 when it is proven that this standby can never follow
# the primary again; returns 1 in any doubt, so also when the primary does not answer. The verdict is `keep`
# (it has data that the primary does not have) or `discard`, and the reason. POSITION is what a running
# standby with no more local WAL has received; empty if that is not known.
# Everything local is read before the primary is asked: a standby never has WAL which its primary had not
# flushed before. Position and timeline are a pair from pg_control: one without the other proves nothing.
never_again() {
  local system timeline position here other_system other_timeline flushed fork status
  system=$(local_value 'Database system identifier') || return 1
  timeline=$(local_value "Latest checkpoint's TimeLineID") || return 1
  position=$(lsn "$(local_value 'Latest checkpoint location')") || return 1
  here=$(lsn "$(local_value 'Minimum recovery ending location')") || return 1
  if ((here > position)); then
    position=$here
    timeline=$(local_value "Min recovery ending loc's timeline") || return 1
  fi

  IFS='|' read -r other_system other_timeline flushed _ < <(replication_command IDENTIFY_SYSTEM) || return 1
  if [[ $other_system != "$system" ]]; then
    echo "keep its system identifier is $system, the primary's $other_system"
    return
  fi
  [[ $(ask_primary 'SELECT pg_is_in_recovery()') == f ]] || return 1

  if ((timeline > other_timeline)); then
    echo "keep it is on timeline $timeline, the primary on $other_timeline"
    return
  elif ((timeline == other_timeline)); then
    if ((position > $(lsn "$flushed"))); then
      echo "keep it has WAL up to $(text_lsn "$position"), the primary only up to $flushed"
      return
    fi
  else
    fork=$(fork_of "$timeline" "$other_timeline") || return 1
    if [[ -z $fork ]] || ((position > $(lsn "$fork"))); then
      echo "keep the primary's timeline $other_timeline left timeline $timeline before its position" \
        "($(text_lsn "$position"), ${fork:-never on it})"
      return
    fi
  fi

  status=$(ask_primary "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '$SLOT'") || return 1
  if [[ $status == lost ]]; then
    echo "discard its slot $SLOT is lost: the primary no longer has the WAL that is missing here"
    return
  fi
  if [[ -n $1 ]] && [[ $(is_removed "$1") == t ]]; then
    echo "discard the primary has removed the WAL after $1"
    return
  fi
  return 1
}

# fork_of TIMELINE NEWER: where the history of NEWER leaves TIMELINE; nothing if it never was on it.
fork_of() {
  local history
  history=$(replication_command "TIMELINE_HISTORY $2") || return 1
  [[ -n $history ]] || return 1
  awk -v timeline="$1" '{ sub(/^[^|]*\|/, "") } $1 == timeline { print $2; exit }' <<<"$history"
}

# pg_walfile_name gives the segment before for a position on a boundary, hence the position after it.
is_removed() {
  local next
  next=$(text_lsn $(($(lsn "$1") + 1)))
  ask_primary "SELECT min(substr(name, 9)) > substr(pg_walfile_name('$next'), 9)
    FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}\$'"
}
