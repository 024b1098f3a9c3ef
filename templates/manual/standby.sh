# shellcheck shell=bash
# What set-up, watcher and commands need of a node that follows another: its identity, the primary's answers, and the proof
# that this standby can never catch up again. PRIMARY_HOST is set by find_primary. Sourced.

# shellcheck source=templates/common/wal.sh
. /usr/local/lib/virtwork/wal.sh
# shellcheck source=templates/manual/peers.sh
. /usr/local/lib/virtwork/peers.sh

# Labs with an archive have it.
if [[ -n ${ARCHIVE_TYPE:-} ]]; then
  # shellcheck source=templates/archive/archive.sh
  . /usr/local/lib/virtwork/archive.sh
fi

check_host_name
SLOT=${NODE//-/_}
# The primary, as far as it is known.
PRIMARY_HOST=''

STREAMING_PASSFILE=/run/postgresql/virtwork.streaming.pgpass

# connection ROLE [PASSFILE [NAME]]: NAME is what the primary calls it, as a synchronous standby by the name of its node.
# Nobody sends a FIN when a primary loses power: without keepalives a clone would hang for two hours, and with
# data under way, when keepalives do not run, for the 15 minutes of TCP's retransmissions.
connection() {
  printf '%s' "host=$PRIMARY_HOST port=5432 user=$1 application_name=${3:-$NODE} passfile=${2:-$PGPASSFILE}" \
    ' connect_timeout=10 keepalives_idle=10 keepalives_interval=10 keepalives_count=3 tcp_user_timeout=30000' \
    "$(tls_words "$PRIMARY_HOST" "$1" "${2:-}")"
}

# As the WAL receiver asks, so that one answers when the other does: not counted in max_connections. And not in the
# database pgbench, which may be dropped and built anew.
ask_primary() {
  as_postgres timeout 20 psql -XAtqw -d "$(connection replicator) replication=database dbname=postgres" -c "$1"
}

# A command of the replication protocol, for instance IDENTIFY_SYSTEM.
replication_command() {
  as_postgres timeout 20 psql -XAtqw -d "$(connection replicator) replication=true" -c "$1"
}

receivewal() {
  as_postgres timeout 60 pg_receivewal --no-password -S "$SLOT" -d "$(connection replicator)" "$@"
}

# What the primary says of our slot: nothing when it has none.
slot_status() {
  ask_primary "SELECT coalesce(wal_status, 'unknown') FROM pg_replication_slots WHERE slot_name = '$SLOT'"
}

# Asked for first: a second slot of the name is an ERROR in the primary's journal. A lost one is of no use.
ensure_slot() {
  local status
  status=$(slot_status) || return 1
  if [[ $status == lost ]]; then
    receivewal --drop-slot || return 1
    status=''
  fi
  [[ -n $status ]] || receivewal --create-slot --if-not-exists
}

# shellcheck disable=SC2034  # read by the scripts that source this file
NEWEST_START='SELECT name FROM virtwork.server_starts ORDER BY number DESC LIMIT 1'
START_FILE=virtwork.server-start

# write_start DIRECTORY NAME: which start of the primary the data in a directory goes back to, for when its server
# does not run. On a full disk the older name stays: it proves less, never too much.
write_start() {
  if [[ $(read_start "$1") != "$2" ]]; then
    write_as_postgres "$1/$START_FILE" "$2"
  fi
}

# write_as_postgres PATH TEXT: a whole file or nothing.
write_as_postgres() {
  (umask 0077 && as_postgres tee "$1.new" >/dev/null 2>&1 <<<"$2") && sync "$1.new" && mv -f "$1.new" "$1" && sync "${1%/*}"
}

read_start() {
  grep -xE '[0-9a-f-]{36}' "$1/$START_FILE" 2>/dev/null || true
}

# next_start NAME: where the primary's own WAL began when it was started again after NAME; `current` when it was not;
# `unknown` when it never saw that start; `pending` while its last start has no name yet; `unanswered` when it cannot
# say.
next_start() {
  local answer
  answer=$(interview "$1") || return 1
  answer_of next "$answer" || echo unanswered
}

# interview NAME [POSITION]: everything that the primary is asked at a time, in one session: between two its server may
# have been replaced, and behind a Service without endpoints each may take the whole timeout of a connection. A line
# `WHAT=ANSWER` each; none where a statement failed, for instance because a table or a right is missing. Fails when the
# session broke off.
interview() {
  local answer questions=()
  questions=(
    -c IDENTIFY_SYSTEM
    -c "SELECT 'recovery=' || pg_is_in_recovery()"
    -c "SELECT 'slot=' || coalesce(max(coalesce(wal_status, 'unknown')), 'none')
      FROM pg_replication_slots WHERE slot_name = '$SLOT'"
    -c "SELECT 'active=' || active FROM pg_replication_slots WHERE slot_name = '$SLOT'"
  )
  [[ -z $1 ]] || questions+=(-c "SELECT 'next=' || CASE
    WHEN NOT EXISTS (SELECT FROM virtwork.server_starts WHERE started = pg_postmaster_start_time()) THEN 'pending'
    ELSE coalesce((SELECT coalesce(
        (SELECT CASE later.position WHEN '0/0' THEN 'unanswered' ELSE later.position::text END
          FROM virtwork.server_starts AS later
          WHERE later.number > known.number ORDER BY later.number LIMIT 1), 'current')
      FROM virtwork.server_starts AS known WHERE known.name = '$1'), 'unknown') END")
  # pg_walfile_name gives the segment before for a position on a boundary, hence the position after it.
  [[ -z ${2:-} ]] || questions+=(-c "SELECT 'removed=' ||
    (min(substr(name, 9)) > substr(pg_walfile_name('$(text_lsn $(($2 + 1)))'), 9))
    FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}\$'")
  answer=$(as_postgres timeout 30 psql -XAtqw -d "$(connection replicator) replication=database dbname=postgres" \
    "${questions[@]}" -c "SELECT 'complete=yes'" 2>/dev/null) || true
  [[ $(answer_of complete "$answer") == yes ]] || return 1
  sed -E 's/^([0-9]+\|[0-9]+\|.*)$/identity=\1/' <<<"$answer"
}

# answer_of WHAT ANSWERS: fails when there is none.
answer_of() {
  sed -n "s/^$1=//p" <<<"$2" | grep .
}

# shellcheck disable=SC2120  # the set-up calls it without arguments
# judge [START REPLAYED]: prints what is to become of this standby, in one word, and why:
#   follow   the primary's history contains all that is here, as far as that can be known: stream from it;
#            `follow slotless` when the primary has no slot for it
#   wait     the primary does not answer, or it cannot be told yet
#   discard  it can never follow again, and it is proven that the primary has all data that is here
#   rewind   it left the primary's history for a timeline, or a part of one, that the primary does not have
#   keep     it can never follow again, or must not, and that is not proven
# START is the newest start of the primary that the running server has replayed, REPLAYED how far it is. With no
# server running the file's start is taken, which may be older, and so proves less, and where the WAL ends.
#
# Everything local is read before the primary is asked: a standby never has WAL which its primary had not
# flushed before. Timeline and position are a pair: one without the other proves nothing.
judge() {
  local system timeline position end here start answer other_system other_timeline flushed fork next slot gone=''
  if ! system=$(control_value "$PGDATA" 'Database system identifier') ||
    ! timeline=$(control_value "$PGDATA" "Latest checkpoint's TimeLineID") ||
    ! position=$(lsn "$(control_value "$PGDATA" 'Latest checkpoint location')") ||
    ! here=$(lsn "$(control_value "$PGDATA" 'Minimum recovery ending location')"); then
    echo 'wait pg_control cannot be read'
    return
  fi
  if ((here > position)); then
    position=$here
    timeline=$(control_value "$PGDATA" "Min recovery ending loc's timeline")
  fi
  if end=$(end_of_wal "$PGDATA") && ((${end#* } > position)); then
    read -r timeline position <<<"$end"
  fi

  start=${1:-$(read_start "$PGDATA")}
  if [[ -z $PRIMARY_HOST ]]; then
    echo "wait ${WHY:-no primary is known}"
    return
  fi
  if ! answer=$(interview "$start" "$position") ||
    ! IFS='|' read -r other_system other_timeline flushed _ < <(answer_of identity "$answer"); then
    echo "wait the primary $PRIMARY_HOST does not answer"
    return
  elif [[ $other_system != "$system" ]]; then
    echo "keep its system identifier is $system, the primary's $other_system"
    return
  elif [[ $(answer_of recovery "$answer") != false ]]; then
    echo 'wait the primary is in recovery'
    return
  elif ((timeline > other_timeline)); then
    echo "keep it is on timeline $timeline, the primary on $other_timeline"
    return
  elif ((timeline == other_timeline)); then
    if ((position > $(lsn "$flushed"))); then
      echo "keep it has WAL up to $(text_lsn "$position"), the primary only up to $flushed"
      return
    fi
  else
    fork=$(fork_of "$timeline" "$other_timeline") || {
      echo 'wait the primary does not tell its history'
      return
    }
    if [[ -z $fork ]] || ((position > $(lsn "$fork"))); then
      echo "rewind timeline $other_timeline of $PRIMARY_HOST left timeline $timeline before the position of this node" \
        "($(text_lsn "$position"), ${fork:-never on it})"
      return
    fi
  fi

  # The same timeline and a lower position prove nothing of a primary whose disk was restored: it has gone on
  # from an older position, with other WAL.
  next=$(answer_of next "$answer") || next=unanswered
  if [[ $next == pending ]]; then
    echo 'wait the primary has only just started'
    return
  fi
  if [[ $next == unknown ]]; then
    echo "keep $RESTORED: it never saw the start that this standby goes back to"
    return
  fi
  if [[ -n ${2:-} && $next == */* ]] && (($(lsn "$2") > $(lsn "$next"))); then
    echo "keep $RESTORED: it went on from $next, this standby from $2"
    return
  fi

  slot=$(answer_of slot "$answer") || slot=unknown
  if [[ $slot == lost ]]; then
    gone="its slot $SLOT is lost: the primary no longer has the WAL that is missing here"
  elif [[ (-n ${ARCHIVE_TYPE:-} || -z $(restore_command)) && $(answer_of removed "$answer") == true ]]; then
    gone="the primary has removed the WAL after $(text_lsn "$position")"
  fi
  if [[ -n $gone && -n ${ARCHIVE_TYPE:-} ]]; then
    case $(archived "$position" "$timeline" "$other_timeline") in
      yes)
        gone=''
        # Streaming goes on with a slot of its own when all is replayed that the archive has.
        [[ $slot != lost ]] || slot=none
        ;;
      no) gone+=', and the archive has not' ;;
      *)
        echo "wait $gone, and the archive does not answer"
        return
        ;;
    esac
  fi
  if [[ -z $gone ]]; then
    # Whose WAL lies there beyond that is known when it has been replayed.
    if [[ $next == */* ]] && ((position > $(lsn "$next"))); then
      echo "wait $REPLAY_FIRST"
    elif [[ $slot == none ]]; then
      echo 'follow slotless'
    else
      echo 'follow'
    fi
  elif [[ $next == current ]] || { [[ $next == */* ]] && ((position <= $(lsn "$next"))); }; then
    echo "discard $gone"
  else
    echo "keep $gone, and nothing proves that it has all that is here"
  fi
}

RESTORED='the primary was restored from an earlier state'
REPLAY_FIRST='it has to replay its own WAL first'

# The WAL receiver asks for whole segments: connected to a restored primary it overwrites the WAL that is here, and that
# the data that is here needs, before anything notices. So it has a password file of its own, or the key of its certificate in
# one, which is there only for the seconds in which it connects after `judge` has said `follow`. It goes by itself: whoever
# made it may be waiting for an answer of a primary that is gone.
allow_streaming() {
  streaming_secret |
    install -o postgres -g postgres -m 0600 /dev/stdin "$STREAMING_PASSFILE"
  {
    sleep "$SECONDS_TO_CONNECT"
    forbid_streaming
  } &
  # Else bash tells of its end.
  disown
}
SECONDS_TO_CONNECT=4

streaming_secret() {
  if [[ ${TLS_REPLICATOR:-password} == password ]]; then
    grep '^\*:\*:\*:replicator:' "$PGPASSFILE"
  else
    cat /run/postgresql/virtwork.tls/replicator.key
  fi
}

# What postgresql.conf's include says of it.
standby_settings() {
  printf "primary_conninfo = '%s'\nprimary_slot_name = '%s'" "$(connection replicator "$STREAMING_PASSFILE")" "$SLOT"
}

forbid_streaming() {
  rm -f "$STREAMING_PASSFILE"
}

# fork_of TIMELINE NEWER: where the history of NEWER leaves TIMELINE; nothing if it never was on it.
fork_of() {
  local history
  history=$(replication_command "TIMELINE_HISTORY $2" 2>/dev/null) || return 1
  [[ -n $history ]] || return 1
  awk -v timeline="$1" '{ sub(/^[^|]*\|/, "") } $1 == timeline { print $2; exit }' <<<"$history"
}

# With one, the missing WAL may still come from an archive.
restore_command() {
  as_postgres postgres -D "$PGDATA" -C restore_command 2>/dev/null || true
}
