# shellcheck shell=bash disable=SC2317,SC2153
# What differs in a lab that has another site beside it. Sourced by the programs of a manual lab right before their own work
# begins: a function here stands in front of the one of that name, where the program has it, and calls that as `former_NAME`.
#
# A standby site: its head follows the primary of the other site, the others follow the head, as long as no node of this lab
# is a primary. (Warm standbys serve no others, so that all of them follow the other site.) What a node *is* stands on its
# disk, never in the config: data of a primary becomes a standby's only when the other site is proven to be on a newer
# timeline, and a standby becomes a primary by `virtwork-promote` alone.

: "${UPSTREAM_HOST:=}" "${UPSTREAM_PORT:=5432}" "${UPSTREAM_SSLMODE:=}" "${UPSTREAM_CA:=}" "${UPSTREAM_HEAD:=}" "${UPSTREAM_PROMOTE:=no}"

# Of a node that was promoted as that of a standby site: the site that it followed.
PROMOTED=virtwork.promoted
# Of a node of a standby site: the other site, for when the config names it no longer.
FOLLOWED=virtwork.upstream
# Of the head of a standby site: the timeline and the position on which it asked the other site to stop. What that one writes last
# has to be here from then on, also when it does not answer any more.
ASKED=virtwork.asked-to-stop
# Of a node of a standby site: the newest timeline with which this site took over, 0 for never, for when nobody can be asked.
TAKEN=virtwork.taken-over
# Where nothing proves that the other site has stopped, it may begin timelines of its own before it hears of this one. So many are
# left to it: two timelines of one number that began elsewhere cannot be told apart by it.
TIMELINES_LEFT=16
# Of the head of a standby site: with which timeline this site had taken over before it followed the other one again.
GIVEN_BACK=virtwork.given-back
# Where libpq reads the CA: SELinux lets PostgreSQL read it there.
UPSTREAM_CA_FILE=/run/postgresql/virtwork.upstream-ca.crt
# The mark in the archive: `read` prints it as a line of JSON, and ends with 1 where there is none, with another status where the
# archive does not say; `write SITE SYSTEM TIMELINE`. Without an archive there is no such program.
SITE_MARK=/usr/local/sbin/virtwork-site-mark
# A watcher reads it every ten seconds, may have begun a read that fails just then, and looks after other things meanwhile.
SECONDS_TO_READ=15 SECONDS_FOR_MARK=60
# A person says that this boot goes on without having read it.
WITHOUT_MARK=/run/virtwork/without-site-mark

# keep NAME: fails where the program has no such function.
keep() {
  declare -F "$1" >/dev/null && eval "former_$1() $(declare -f "$1" | tail -n +2)"
}

is_standby_site() {
  [[ -n $UPSTREAM_HOST ]]
}

follows_upstream() {
  [[ $NODE == "$UPSTREAM_HEAD" || $STANDBY_MODE == warm ]]
}

# Whether PRIMARY_HOST is a standby of this lab that this node may follow.
is_cascade() {
  is_standby_site && ! follows_upstream && [[ ${PRIMARY_HOST:-} == "$UPSTREAM_HEAD" ]]
}

# ask_upstream STATEMENT: the other site's primary.
ask_upstream() {
  PRIMARY_HOST=$UPSTREAM_HOST ask_primary "$1"
}

# Sets OTHER_SYSTEM, OTHER_TIMELINE and OTHER_RECOVERY (t, f) of the other site. Fails and sets WHY when it does not answer.
upstream_facts() {
  local answer
  OTHER_SYSTEM='' OTHER_TIMELINE='' OTHER_RECOVERY=''
  answer=$(ask_upstream "SELECT system_identifier, CASE WHEN pg_is_in_recovery() THEN timeline_id
      ELSE ('x' || substr(pg_walfile_name(CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END), 1, 8))::bit(32)::int END,
      pg_is_in_recovery() FROM pg_control_system(), pg_control_checkpoint()" 2>&1) || true
  if [[ ! $answer =~ ^[0-9]+\|[0-9]{1,9}\|[tf]$ ]]; then
    WHY="$UPSTREAM_HOST does not answer ($(reason "$answer"))"
    return 1
  fi
  IFS='|' read -r OTHER_SYSTEM OTHER_TIMELINE OTHER_RECOVERY <<<"$answer"
}

# Whether the other site has gone on with this lab's data, on a newer timeline. Sets WHY where it has not.
is_upstream_newer() {
  upstream_facts || return 1
  if [[ $OTHER_SYSTEM != "$DATA_SYSTEM" ]]; then
    WHY="the data of $UPSTREAM_HOST is of another system, $OTHER_SYSTEM, than that of this node, $DATA_SYSTEM"
  elif [[ $OTHER_RECOVERY == t ]]; then
    WHY="$UPSTREAM_HOST is a standby itself"
  elif ((OTHER_TIMELINE <= DATA_TIMELINE)); then
    WHY="$UPSTREAM_HOST is on timeline $OTHER_TIMELINE, no newer than that of this node, $DATA_TIMELINE"
  else
    return 0
  fi
  return 1
}

# Whether this site took over with the timeline that it is on: by what the data says.
has_taken_over() {
  data_facts "$PGDATA" && [[ $(as_postgres timeout 20 psql -XAtqw -d postgres \
    -c "SELECT timeline FROM virtwork.sites WHERE site = '$LAB'" 2>/dev/null) == "$DATA_TIMELINE" ]]
}

# The newest timeline with which this site took over, 0 for never. Fails when nobody says: a warm standby takes no queries.
own_takeover() {
  local answer statement="SELECT coalesce(max(timeline), 0) FROM virtwork.sites WHERE site = '$LAB'"
  answer=$(as_postgres timeout 20 psql -XAtqw -d postgres -c "$statement" 2>/dev/null) ||
    answer=$([[ -n $PRIMARY_HOST ]] && ask_primary "$statement" 2>/dev/null) ||
    answer=$(cat "$PGDATA/$TAKEN" 2>/dev/null) || answer=''
  [[ $answer =~ ^[0-9]{1,9}$ ]] && printf '%s' "$answer"
}

# Whether this site took over, as far as this node knows, and the other one has not done so since. One that does not say so has not.
outlasts_upstream() {
  local own other
  own=$(cat "$PGDATA/$TAKEN" 2>/dev/null) && [[ $own =~ ^[1-9][0-9]{0,8}$ ]] || return 1
  other=$(ask_upstream "SELECT coalesce(max(timeline), 0) FROM virtwork.sites WHERE site <> '$LAB'" 2>/dev/null) || other=''
  [[ ! $other =~ ^[0-9]{1,9}$ ]] || ((other <= own))
}

# By which site this one was asked to stop, and with which timeline, since it took over itself: that of a failover within a site says
# nothing of other sites. `site timeline`.
DEMAND_OF_OTHER="SELECT site || ' ' || timeline FROM virtwork.sites WHERE site <> '$LAB'
  AND timeline > (SELECT coalesce(max(timeline), 0) FROM virtwork.sites WHERE site = '$LAB') ORDER BY timeline DESC LIMIT 1"

has_mark() {
  [[ -x $SITE_MARK ]]
}

# Sets MARK_SITE, MARK_SYSTEM and MARK_TIMELINE, empty where there is no mark. Fails and sets WHY when it cannot be read.
read_mark() {
  local answer status=0
  MARK_SITE='' MARK_SYSTEM='' MARK_TIMELINE=''
  answer=$(timeout "$SECONDS_TO_READ" "$SITE_MARK" read 2>&1) || status=$?
  # A program that breaks off ends with 1, too, but not without a word.
  [[ $status != 1 || -n $answer ]] || return 0
  if ((status != 0)); then
    WHY="the archive does not say which site accepts writes ($(reason "$answer"))"
    return 1
  fi
  MARK_SITE=$(mark_value site '"([a-z][a-z0-9-]*)"' "$answer")
  MARK_SYSTEM=$(mark_value system '"([0-9]+)"' "$answer")
  MARK_TIMELINE=$(mark_value timeline '([0-9]{1,9})' "$answer")
  if [[ -z $MARK_SITE || -z $MARK_SYSTEM || -z $MARK_TIMELINE ]]; then
    WHY="the archive's mark of the site that accepts writes cannot be understood"
    return 1
  fi
}

# mark_value KEY PATTERN JSON
mark_value() {
  sed -nE "s/^.*\"$1\": *$2[,}].*\$/\\1/p" <<<"$3" | head -n 1
}

# living_timeline: that of the WAL here. A standby takes history files from the archive also of timelines that it can never be on,
# and DATA_TIMELINE counts them.
living_timeline() {
  local end
  end=$(end_of_wal "$PGDATA") && printf '%s' "${end% *}"
}

# is_marked_by_other TIMELINE: whether the mark is another site's, which has gone on with this data, on TIMELINE or a newer one. A
# primary may have come to the same one, by a failover within its site; a standby has it from the other site. Sets NEWER.
is_marked_by_other() {
  [[ -n $MARK_SITE && $MARK_SITE != "$LAB" && $MARK_SYSTEM == "$DATA_SYSTEM" ]] &&
    { ((MARK_TIMELINE >= $1)) || [[ ! -e $PGDATA/standby.signal && ! -e $PGDATA/$PROMOTED ]]; } && NEWER="$MARK_SITE $MARK_TIMELINE"
}

if keep connection; then
  # What is said last counts.
  connection() {
    local words
    words=$(former_connection "$@")
    if is_standby_site && [[ $PRIMARY_HOST == "$UPSTREAM_HOST" ]]; then
      words=${words/ port=5432 / port=$UPSTREAM_PORT }
      words+=" sslmode=$UPSTREAM_SSLMODE"
      case $UPSTREAM_SSLMODE in
        verify-*) words+=" sslrootcert=$([[ -n $UPSTREAM_CA ]] && echo "$UPSTREAM_CA_FILE" || echo /run/postgresql/virtwork.tls/ca.crt)" ;;
        # With a CA that is there libpq verifies in this mode, too; this site's own says nothing of the other one.
        require) words+=' sslrootcert=/run/postgresql/virtwork.tls/none.crt' ;;
      esac
    fi
    printf '%s' "$words"
  }
fi

if keep find_primary; then
  # shellcheck disable=SC2120  # the same argument
  # A node of this lab that accepts writes comes first; and one that would, and is stopped, is no reason to follow somebody else.
  find_primary() {
    local peer node state running fenced head=stopped
    former_find_primary "$@" && return
    is_standby_site || return 1
    for peer in "${PEERS[@]}"; do
      read -r node state _ _ running fenced _ <<<"$peer"
      [[ $state != primary || $fenced != - ]] || return 1
      [[ $node != "$UPSTREAM_HEAD" || $state != standby || $running != yes ]] || head=runs
    done
    if follows_upstream; then
      PRIMARY_HOST=$UPSTREAM_HOST
    elif [[ $head == runs ]]; then
      PRIMARY_HOST=$UPSTREAM_HEAD
    else
      WHY="$UPSTREAM_HEAD, which follows the other site, does not run as a standby"
      return 1
    fi
  }
fi

if keep question; then
  # By name only whoever this node follows is asked: whether he still is what he was. The other site answers SQL alone.
  question() {
    if is_standby_site && [[ $1 == "$UPSTREAM_HOST" ]]; then
      if upstream_facts && [[ $OTHER_RECOVERY == f ]]; then
        printf 'peer %s primary %s %s yes - - %s\n' "$1" "$OTHER_SYSTEM" "$OTHER_TIMELINE" "$1"
      else
        printf 'silent %s\n' "$1"
      fi
    elif is_standby_site && [[ $1 == "$UPSTREAM_HEAD" ]]; then
      former_question "$@" | sed 's/^\(peer [^ ]*\) standby /\1 primary /'
    else
      former_question "$@"
    fi
  }
fi

if keep fenced_reason; then
  fenced_reason() {
    local site timeline
    read -r site timeline 2>/dev/null <"$(fenced_file)" || true
    if is_node "${site:-}"; then
      former_fenced_reason
    else
      printf '%s' "the site ${site:-(not noted)} has taken over on timeline ${timeline:-(not noted)}: nothing is written here any more;" \
        " to have this lab follow it, give the config an \`upstream\`, apply it and restart the VMs"
    fi
  }
fi

if keep interview; then
  # The head is in recovery, where some functions are not to be had, and rightly so.
  interview() {
    local answer
    if is_cascade; then
      answer=$(interview_head "$@") || return 1
      if [[ $(answer_of promoted "$answer") == false ]]; then
        printf '%s\n' "$answer"
        return
      fi
    fi
    former_interview "$@"
  }

  # What it has not replayed it cannot tell of.
  interview_head() {
    local answer size position=${replayed:-} questions
    questions=(
      -c IDENTIFY_SYSTEM
      -c "SELECT 'promoted=' || NOT pg_is_in_recovery()"
      -c "SELECT 'recovery=false'"
      -c "SELECT 'slot=' || coalesce(max(coalesce(wal_status, 'unknown')), 'none')
        FROM pg_replication_slots WHERE slot_name = '$SLOT'"
      -c "SELECT 'active=' || active FROM pg_replication_slots WHERE slot_name = '$SLOT'"
    )
    if [[ -n ${2:-} ]]; then
      position=$(text_lsn "$2")
      size=$(control_value "$PGDATA" 'Bytes per WAL segment') || return 1
      questions+=(-c "SELECT 'removed=' || (min(substr(name, 9)) > '$(segment_of "$2" "$size")')
        FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}\$'")
    fi
    [[ -z $1 || -z $position ]] || questions+=(-c "SELECT 'next=' || CASE
      WHEN coalesce(pg_last_wal_replay_lsn(), '0/0') < '$position' THEN 'pending'
      ELSE coalesce((SELECT coalesce(
          (SELECT CASE later.position WHEN '0/0' THEN 'unanswered' ELSE later.position::text END
            FROM virtwork.server_starts AS later
            WHERE later.number > known.number ORDER BY later.number LIMIT 1), 'current')
        FROM virtwork.server_starts AS known WHERE known.name = '$1'), 'unknown') END")
    answer=$(as_postgres timeout 30 psql -XAtqw -d "$(connection replicator) replication=database dbname=postgres" \
      "${questions[@]}" -c "SELECT 'complete=yes'" 2>/dev/null) || true
    [[ $(answer_of complete "$answer") == yes ]] || return 1
    sed -E 's/^([0-9]+\|[0-9]+\|.*)$/identity=\1/' <<<"$answer"
  }

  # segment_of POSITION SIZE: the name of its file, without the timeline.
  segment_of() {
    printf '%08X%08X' $(($1 / (1 << 32))) $(($1 % (1 << 32) / $2))
  }

  keep judge
  # The head may have less than this node for a while, when it was cloned anew or has only just become the head; and nothing
  # goes away because a standby has it, too: the other site's primary has to.
  judge() {
    local verdict
    verdict=$(former_judge "$@")
    # What this site has gone on with is not given up for what it came from, also while its own primary is silent.
    if is_standby_site && [[ $PRIMARY_HOST == "$UPSTREAM_HOST" ]] &&
      { [[ $verdict == "keep it is on timeline "* ]] || { [[ $verdict == @(keep|rewind|discard)* ]] && outlasts_upstream; }; }; then
      verdict="wait ${verdict#* }"
    elif is_cascade && [[ $(ask_primary 'SELECT pg_is_in_recovery()' 2>/dev/null) != f ]]; then
      case $verdict in
        "keep it has WAL up to "* | "keep it is on timeline "*) verdict="wait ${verdict#* }" ;;
        'wait the primary has only just started') verdict="wait $UPSTREAM_HEAD has not replayed what this node has" ;;
        discard*) verdict=$(confirmed "$verdict" "$@") ;;
      esac
    fi
    if is_standby_site && [[ -n $PRIMARY_HOST ]]; then
      verdict=${verdict//the primary/$PRIMARY_HOST}
    fi
    printf '%s\n' "$verdict"
  }

  # confirmed VERDICT [START REPLAYED]: with the same as `judge`. Where the other site has the WAL still, it does not say by
  # itself whose that is.
  confirmed() {
    local verdict=$1 other next
    shift
    other=$(PRIMARY_HOST=$UPSTREAM_HOST former_judge "$@")
    next=$(PRIMARY_HOST=$UPSTREAM_HOST next_start "${1:-$(read_start "$PGDATA")}") || next=''
    if [[ $other == wait* || -z $next ]]; then
      verdict="wait ${verdict#* }; whether $UPSTREAM_HOST has all that is here is not known yet"
    elif [[ $other != discard* && ($other != follow* || $next != @(current|*/*)) ]]; then
      verdict="keep ${verdict#* }, and $UPSTREAM_HOST does not prove that it has all that is here"
    fi
    printf '%s\n' "$verdict"
  }
fi

# The set-up.

if declare -F set_up >/dev/null; then
  keep prepare_node
  prepare_node() {
    former_prepare_node
    prepare_upstream
    [[ -n ${ARCHIVE_TYPE:-} ]] || look_at_site
  }

  if keep prepare_archive; then
    # Only then its mark can be read.
    prepare_archive() {
      former_prepare_archive
      look_at_site
    }
  fi

  look_at_site() {
    write_file /run/virtwork/prepared "$(printf 'BINDIR=%q\nPGDATA=%q' "$BINDIR" "$PGDATA")"
    if [[ -e $PGDATA/PG_VERSION && ! -e $PGDATA/standby.signal && ! -e $PGDATA/$REJOIN ]] && data_facts "$PGDATA"; then
      may_go_on
    fi
  }

  prepare_upstream() {
    is_standby_site || return 0
    [[ -z $UPSTREAM_CA ]] || install -o postgres -g postgres -m 0644 "$UPSTREAM_CA" "$UPSTREAM_CA_FILE"
    [[ $UPSTREAM_PORT != 5432 ]] && command -v selinuxenabled >/dev/null && selinuxenabled || return 0
    # The WAL receiver may connect to PostgreSQL's port alone.
    if ! semanage port -l 2>/dev/null | grep -qE "^postgresql_port_t .*[ ,]$UPSTREAM_PORT(,|$)"; then
      # Below 1024 it is a service of the system that would not get its port any more.
      semanage port -a -t postgresql_port_t -p tcp "$UPSTREAM_PORT" 2>/dev/null ||
        { ((UPSTREAM_PORT >= 1024)) && semanage port -m -t postgresql_port_t -p tcp "$UPSTREAM_PORT"; } ||
        fail "SELinux was not told that port $UPSTREAM_PORT is PostgreSQL's (semanage, of policycoreutils-python-utils)"
      log "SELinux: port $UPSTREAM_PORT is PostgreSQL's"
    fi
  }

  # The data here is a primary's. It goes on as one where no other site has taken over; where the config wants it to follow
  # the other site it does so as soon as that is proven to have gone on with the same data; until then it does neither.
  may_go_on() {
    local said='' node=''
    read -r node _ 2>/dev/null <"$(fenced_file)" || true
    if is_standby_site && ! is_node "$node"; then
      until is_upstream_newer; do
        if [[ $UPSTREAM_PROMOTE == yes || -e $PGDATA/$PROMOTED ]] && [[ ! -e $(fenced_file) ]]; then
          [[ $UPSTREAM_PROMOTE == yes ]] ||
            log "this site was promoted: it goes on, although the config still has \`upstream\`; set \`promote: true\` there, or remove it"
          check_mark
          return
        fi
        [[ $said == "$WHY" ]] ||
          log "not starting: the config has \`upstream\`, and this node's data is that of a primary; it follows once the other site" \
            "is promoted, but $WHY; to go on as the primary where you know that the other site accepts no writes, remove \`upstream\`," \
            "apply and restart the VM"
        said=$WHY
        pause 5
      done
      log "$UPSTREAM_HOST has gone on with this lab's data, on timeline $OTHER_TIMELINE: this node, on $DATA_TIMELINE, becomes a standby"
      fence upstream "$OTHER_TIMELINE"
      write_file "$PGDATA/$REJOIN" "asked for by the config's \`upstream\`"
      sync "$PGDATA"
    elif [[ ! -e $(fenced_file) ]]; then
      check_mark
    fi
  }

  # Waits until it can be read: somebody may have taken over meanwhile.
  check_mark() {
    local said=''
    has_mark || return 0
    until read_mark; do
      [[ ! -e $WITHOUT_MARK ]] || {
        log "going on without the archive's mark, as asked for: $WHY"
        return
      }
      [[ $said == "$WHY" ]] ||
        log "not starting: $WHY; where you know that no other site accepts writes, go on with \`touch $WITHOUT_MARK\`"
      said=$WHY
      pause 5
    done
    if is_marked_by_other "$DATA_TIMELINE"; then
      # shellcheck disable=SC2086  # two words
      fence $NEWER
      refuse "$(fenced_reason)"
    fi
  }

  if keep begin && is_standby_site; then
    # Whatever this node was made as.
    begin() {
      clone
    }
  fi

  keep rejoin
  rejoin() {
    former_rejoin
    rm -f "$PGDATA/$PROMOTED"
  }

  keep forget_primary
  forget_primary() {
    former_forget_primary "$1"
    rm -f "$1"/{"$PROMOTED","$FOLLOWED","$GIVEN_BACK","$ASKED","$TAKEN"}
  }

  keep may_clone
  may_clone() {
    is_standby_site || {
      former_may_clone
      return
    }
    # shellcheck disable=SC2119  # not with the script's arguments
    find_primary || return 1
    WHY=$(ensure_slot 2>&1) || {
      WHY=$(reason "$WHY")
      return 1
    }
  }

  keep take_turn
  # A base backup of a standby does not move the WAL on.
  take_turn() {
    if ! is_cascade || [[ $(ask_primary 'SELECT pg_is_in_recovery()') != t ]]; then
      former_take_turn
    fi
  }

  keep wait_for_checkpoint
  wait_for_checkpoint() {
    local attempt
    if ! is_cascade || [[ $(ask_primary 'SELECT pg_is_in_recovery()' 2>/dev/null) != t ]]; then
      former_wait_for_checkpoint
      return
    fi
    for ((attempt = 0; attempt < 300; attempt++)); do
      [[ $(ask_primary 'SELECT timeline_id FROM pg_control_checkpoint()' 2>/dev/null) != \
        $(replication_command IDENTIFY_SYSTEM 2>/dev/null | cut -d '|' -f 2) ]] || return 0
      pause 1
    done
    echo "error: $PRIMARY_HOST made no restart point on its timeline within 5 minutes"
    return 1
  }
fi

# The watcher.

if keep ask_for_newer; then
  site_asked_at=-60 upstream_asked_at=-60 promoted_at=-60 given_back_at=-60 taken_at=-60

  # The other nodes of this lab do not know of the other site.
  ask_for_newer() {
    former_ask_for_newer
    ((NOW - site_asked_at >= 10)) && data_facts "$PGDATA" || return 0
    if has_mark && read_mark && is_marked_by_other "$DATA_TIMELINE"; then
      stop_writing
    fi
    if is_standby_site && ((NOW - upstream_asked_at >= 10)); then
      ask_other_site
    fi
    NEWER=$(local_sql "$DEMAND_OF_OTHER") || NEWER=''
    [[ -z $NEWER ]] || stop_writing
    tick
    site_asked_at=$NOW
  }

  # One that does not answer takes its time, and this loop has more to do.
  ask_other_site() {
    if is_upstream_newer; then
      NEWER="upstream $OTHER_TIMELINE"
      stop_writing
    elif [[ -z $OTHER_SYSTEM ]]; then
      tick
      upstream_asked_at=$((NOW + 50))
      return
    elif is_upstream_behind; then
      # It was away when this site took over.
      [[ -n ${OTHER_ASKED:-} ]] || log "$UPSTREAM_HOST still accepts writes, on timeline $OTHER_TIMELINE: asking it to stop"
      OTHER_ASKED=yes
      ask_upstream "SELECT virtwork.yield_to('$LAB', $DATA_TIMELINE)" >/dev/null 2>&1 ||
        log "warning: $UPSTREAM_HOST does not stop: two sites accept writes; stop it"
    elif [[ -z ${RIVAL:-} && $OTHER_SYSTEM == "$DATA_SYSTEM" && $OTHER_RECOVERY == f && $OTHER_TIMELINE == "$DATA_TIMELINE" ]]; then
      # Each was promoted without the other, and neither is the newer one.
      RIVAL=yes
      log "warning: $UPSTREAM_HOST accepts writes on the same timeline, $DATA_TIMELINE: two sites accept writes; stop one of them"
    fi
    upstream_asked_at=$NOW
  }

  # With the answers of is_upstream_newer.
  is_upstream_behind() {
    [[ $OTHER_SYSTEM == "$DATA_SYSTEM" && $OTHER_RECOVERY == f ]] && ((OTHER_TIMELINE < DATA_TIMELINE))
  }

  keep look
  look() {
    former_look
    # The name of a host has dots.
    if is_standby_site && [[ -z $PRIMARY_HOST ]]; then
      PRIMARY_HOST=$(sed -nE "s/^primary_conninfo = 'host=([a-z0-9.:-]+) .*$/\1/p" "$PGDATA/virtwork.conf" | tail -n 1)
    fi
    if is_standby_site && [[ -e $PGDATA/standby.signal && $state == streaming && $(cat "$PGDATA/$FOLLOWED" 2>/dev/null) != "$UPSTREAM_HOST" ]]; then
      write_as_postgres "$PGDATA/$FOLLOWED" "$UPSTREAM_HOST" || true
    fi
    # Once it is known whom it follows.
    if [[ $NODE == "$UPSTREAM_HEAD" && -e $PGDATA/standby.signal && $PRIMARY_HOST == "$UPSTREAM_HOST" ]]; then
      if [[ $UPSTREAM_PROMOTE == yes ]]; then
        take_over_once
      elif [[ $state == streaming ]] && ((NOW - given_back_at >= 10)); then
        given_back_at=$NOW
        note_given_back || true
      fi
    fi
    if is_standby_site && [[ -e $PGDATA/standby.signal && $state == streaming ]] && ((NOW - taken_at >= 10)); then
      taken_at=$NOW
      note_taken || true
    fi
  }

  # A `promote: true` that stands in the config still when the other site has taken over in turn asks for nothing any more: two
  # sites with one would take the writes from each other for ever. It does again where this site has followed without it.
  take_over_once() {
    local taken
    [[ $state == @(streaming|waiting) ]] && ((NOW - promoted_at >= 60)) && ! has_taken_over || return 0
    promoted_at=$NOW
    if ! taken=$(own_takeover); then
      log "the config has \`promote: true\`, and nobody says whether this site has taken over already: trying on"
    elif ((taken == 0 || taken > DATA_TIMELINE)) || [[ $taken == "$(cat "$PGDATA/$GIVEN_BACK" 2>/dev/null)" ]]; then
      log "the config has \`promote: true\`: promoting this site"
      systemd-run --quiet --collect --unit=virtwork-site-promote --property=SyslogIdentifier=virtwork-promote \
        /usr/local/sbin/virtwork-promote || true
    else
      promoted_at=$((NOW + 3600))
      log "the config's \`promote: true\` was done with timeline $taken, and $UPSTREAM_HOST has gone on since: this site follows;" \
        "remove it, or run \`virtwork-promote\` to take over again"
    fi
  }

  note_taken() {
    local taken
    taken=$(own_takeover) || return 1
    [[ $(cat "$PGDATA/$TAKEN" 2>/dev/null) == "$taken" ]] || write_as_postgres "$PGDATA/$TAKEN" "$taken"
  }

  # Where it was only demanded so far nothing is over.
  note_given_back() {
    local taken
    data_facts "$PGDATA" && taken=$(own_takeover) || return 1
    if ((taken != 0 && taken <= DATA_TIMELINE)) && [[ $(cat "$PGDATA/$GIVEN_BACK" 2>/dev/null) != "$taken" ]]; then
      write_as_postgres "$PGDATA/$GIVEN_BACK" "$taken"
    fi
  }
fi

# After each start of a server that accepts writes: what the other site calls to have this one stop, and a note of who took over.
if keep after; then
  after() {
    former_after
    psql -XAtqw -v ON_ERROR_STOP=1 -v site="$([[ ! -e $PGDATA/$PROMOTED ]] || echo "$LAB")" -d postgres <<'SQL'
SELECT pg_is_in_recovery() OR to_regclass('virtwork.server_starts') IS NULL AS is_not_ready \gset
\if :is_not_ready
  \q
\endif
\i /usr/local/lib/virtwork/yield.sql
INSERT INTO virtwork.sites AS known (site, timeline)
  SELECT :'site', timeline FROM (VALUES (('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer)) AS own (timeline)
    WHERE :'site' <> '' AND NOT EXISTS (SELECT FROM virtwork.sites AS newer WHERE newer.site = :'site' AND newer.timeline >= own.timeline)
  ON CONFLICT (site) DO UPDATE SET timeline = excluded.timeline, at = clock_timestamp();
SQL
  }
fi

# virtwork-promote.

if keep check_standbys; then
  # What belongs to the whole site comes before the look at the other standbys, which may still receive WAL of the other site.
  check_standbys() {
    local end
    [[ -e $(fenced_file) ]] || hand_over
    [[ ${OTHER_STOPPED:-no} == no ]] || settle
    end=$(end_of_wal "$PGDATA") || give_up "where the WAL in $PGDATA ends cannot be told"
    former_check_standbys "${end#* }"
    mark_site
  }

  # What arrived last goes on to the other nodes, and that is no sign of another primary.
  settle() {
    local attempt before='' now
    for ((attempt = 0; attempt < 30; attempt++)); do
      ask_peers /node/position
      now=$(printf '%s\n' "${PEERS[@]}" | sort)
      ((attempt == 0)) || [[ $now != "$before" ]] || return 0
      before=$now
      pause 1
    done
  }

  # The other site has to stop first, or to be proven stopped.
  hand_over() {
    local attempt answer followed asked since
    LIVING=$(living_timeline) || give_up "where the WAL in $PGDATA ends cannot be told"
    if has_taken_over; then
      heed_mark
      ! is_standby_site || ! is_upstream_newer || object "$UPSTREAM_HOST has taken over since, on timeline $OTHER_TIMELINE: let it follow first"
      return 0
    fi
    if ! is_standby_site; then
      heed_mark
      heed_demand
      followed=$(cat "$PGDATA/$FOLLOWED" 2>/dev/null) || followed=''
      [[ -z $followed ]] || has_mark ||
        object "this site followed $followed, which may still accept writes, and the config no longer says how it is reached: put" \
          "\`upstream\` back with \`promote: true\`, or stop it first and give --force"
      return 0
    fi
    # Nobody is gone for one connection that failed.
    for ((attempt = 0; attempt < 5; attempt++)); do
      ! upstream_facts || break
      has_mark || break
      pause 5
    done
    if [[ -z $OTHER_SYSTEM ]]; then
      # That it stopped once does not say that nobody made it go on since.
      has_mark || object "$WHY: nothing proves that it accepts no writes any more; stop it first, and then give --force"
      heed_mark
      log "warning: $WHY: a primary that still runs there accepts writes until it sees that this site took over"
      asked='' since=''
      read -r asked since 2>/dev/null <"$PGDATA/$ASKED" || true
      [[ $asked != "$LIVING" ]] || await_shutdown "$since"
    elif [[ $OTHER_SYSTEM != "$DATA_SYSTEM" ]]; then
      object "the data of $UPSTREAM_HOST is of another system than that of this node"
    elif is_upstream_stopped && read -r asked since 2>/dev/null <"$PGDATA/$ASKED" && [[ $asked == "$LIVING" ]]; then
      await_shutdown "$since"
      OTHER_STOPPED=yes
    elif [[ $OTHER_RECOVERY == t ]]; then
      object "$UPSTREAM_HOST is a standby: whoever it follows may accept writes"
    elif ((OTHER_TIMELINE > LIVING)); then
      object "$UPSTREAM_HOST is on timeline $OTHER_TIMELINE, this node on $LIVING: let it follow first"
    else
      # What it wrote after that is the proof; an older shutdown may be the end of what is here.
      since=$(end_of_wal "$PGDATA") || give_up "where the WAL in $PGDATA ends cannot be told"
      since=$(text_lsn "${since#* }")
      write_as_postgres "$PGDATA/$ASKED" "$LIVING $since" || give_up "$PGDATA cannot be written to; nothing was changed"
      log "asking $UPSTREAM_HOST to accept no more writes"
      if ! answer=$(ask_upstream "SELECT pg_current_wal_insert_lsn() FROM virtwork.yield_to('$LAB', $((DATA_TIMELINE + 1)))" 2>&1); then
        object "$UPSTREAM_HOST accepts writes, and does not stop for this site ($(reason "$answer")): stop it first"
        return 0
      fi
      [[ ! $answer =~ ^[0-9A-F]+/[0-9A-F]+$ ]] || since=$answer
      write_as_postgres "$PGDATA/$ASKED" "$LIVING $since" || true
      SECONDS=0
      # It may be behind a Service that leads nowhere by then.
      for ((attempt = 0; attempt < 2 && SECONDS < 120; )); do
        if upstream_facts && ! is_upstream_stopped; then
          attempt=0
        else
          attempt=$((attempt + 1))
        fi
        pause 1
      done
      ((attempt == 2)) || object "$UPSTREAM_HOST still accepts writes after $SECONDS s: stop it first"
      await_shutdown "$since"
      # Silence may be the network's, or a restart's: one that was not fenced is back by now.
      for ((attempt = 0; attempt < 5; attempt++)); do
        if upstream_facts && ! is_upstream_stopped; then
          object "$UPSTREAM_HOST accepts writes again: try again, or stop it first"
          return 0
        fi
        pause 1
      done
      OTHER_STOPPED=yes
      log "$UPSTREAM_HOST accepts no more writes"
    fi
  }

  # One under Patroni that had to stop; any other standby may be about to lead.
  is_upstream_stopped() {
    [[ $OTHER_RECOVERY == t && $(ask_upstream "SELECT current_setting('restore_command') = '/bin/false'" 2>/dev/null) == t ]]
  }

  # On a standby of a site that was asked to stop: the demand is in its data.
  heed_demand() {
    DEMAND=$(as_postgres timeout 20 psql -XAtqw -d postgres -c "$DEMAND_OF_OTHER" 2>/dev/null) || DEMAND=''
    [[ -z $DEMAND ]] ||
      object "the site ${DEMAND% *} asked this one to stop, to take over on timeline ${DEMAND#* }: where it did, give this config an" \
        "\`upstream\` that leads to it"
  }

  # await_shutdown SINCE
  await_shutdown() {
    is_shut_down "$1" ||
      object "the WAL here does not end with the shutdown of $UPSTREAM_HOST: what it wrote last may be missing, and stays there; have" \
        "that one go on and this node stream first, with \`virtwork-promote --force\` there; or give --force here; never both"
  }

  # Where the other site does not say itself how far it is.
  heed_mark() {
    local WHY
    has_mark || return 0
    if ! read_mark; then
      object "$WHY: where you know that no other site does, give --force"
    elif is_marked_by_other $((LIVING + 1)); then
      object "by the archive's mark the site $MARK_SITE took over on timeline $MARK_TIMELINE, and this node is on $DATA_TIMELINE: let it" \
        "follow first"
    fi
  }

  # A server that stops sends everything to the standbys that stream, its shutdown last: after a checkpoint, which takes its time.
  # is_shut_down SINCE: with a record after that position.
  is_shut_down() {
    local end position start size last=0 patience=10
    # A warm one does not say whether it streams.
    [[ $STANDBY_MODE == hot ]] || patience=60
    size=$(control_value "$PGDATA" 'Bytes per WAL segment') || return 1
    for ((SECONDS = 0; SECONDS < last + patience && SECONDS < 600; )); do
      end=$(end_of_wal "$PGDATA") || return 1
      position=${end#* }
      start=$(((position - 1) / size * size))
      pg_waldump -p "$PGDATA/pg_wal" -t "${end% *}" -s "$(text_lsn "$start")" -e "$(text_lsn "$position")" 2>/dev/null |
        tail -n 1 | grep -q CHECKPOINT_SHUTDOWN && ((position > $(lsn "$1"))) && return
      [[ -z $(as_postgres timeout 20 psql -XAtqw -d postgres \
        -c "SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'" 2>/dev/null) ]] || last=$SECONDS
      pause 0.5
    done
    return 1
  }

  # Before this site accepts a write: who else would has to be able to see it.
  mark_site() {
    local answer node='' timeline
    read -r node timeline _ 2>/dev/null <"$(fenced_file)" || true
    has_mark && read_mark && is_marked_by_other $((${LIVING:-$DATA_TIMELINE} + 1)) || MARK_TIMELINE=''
    is_standby_site || [[ -e $PGDATA/$FOLLOWED || -n $MARK_TIMELINE || -n ${DEMAND:-} ]] || { [[ -n $node ]] && ! is_node "$node"; } || return 0
    if has_mark && ! has_taken_over; then
      [[ ${timeline:-} =~ ^[0-9]{1,5}$ ]] && ((timeline > DATA_TIMELINE)) || timeline=$DATA_TIMELINE
      # Asked for by force: newer than that of the site that is left.
      [[ -z $MARK_TIMELINE ]] || ((MARK_TIMELINE <= timeline)) || timeline=$MARK_TIMELINE
      answer=$(timeout 60 "$SITE_MARK" write "$LAB" "$DATA_SYSTEM" "$((timeline + 1))" 2>&1) ||
        object "the archive does not take the mark of this site ($(reason "$answer"))"
      WHY='the archive does not give the mark of this site back'
      if ! read_mark || [[ $MARK_SITE != "$LAB" ]]; then
        object "$WHY"
      fi
      RESERVED=$timeline
      if [[ ${OTHER_STOPPED:-no} == no ]]; then
        log "waiting $SECONDS_FOR_MARK s, in which a primary of the other site reads the mark and stops"
        pause "$SECONDS_FOR_MARK"
        drain
        # Two that wrote it have both waited: the last one has it.
        if ! read_mark || [[ $MARK_SITE != "$LAB" ]]; then
          object "the mark in the archive is not this site's any more"
        fi
      fi
    fi
    if ! has_mark && [[ ${OTHER_STOPPED:-no} == no ]] && ! has_taken_over; then
      RESERVED=$((DATA_TIMELINE + TIMELINES_LEFT))
    fi
    [[ -z ${DEMAND:-} ]] || ((${DEMAND#* } <= RESERVED)) || RESERVED=${DEMAND#* }
    # Also where a site was made to go on by force: its number counts against older demands.
    write_as_postgres "$PGDATA/$PROMOTED" "$(cat "$PGDATA/$FOLLOWED" 2>/dev/null || echo "${UPSTREAM_HOST:-${node:-another site}}")" ||
      give_up "$PGDATA cannot be written to; nothing was promoted"
  }

  # What the other site archived until it stopped is here first. An archive that does not answer says nothing.
  drain() {
    local end answer attempt none=0
    [[ -n ${ARCHIVE_TYPE:-} && ! -e $(fenced_file) ]] || return 0
    for ((attempt = 0; attempt < 15; attempt++)); do
      answer=unknown
      ! end=$(end_of_wal "$PGDATA") || answer=$(archived "${end#* }" "${end% *}")
      [[ $answer == no ]] && none=$((none + 1)) || none=0
      ((none < 2)) || return 0
      # An answer is remembered for 20 s.
      pause 21
    done
    object "the archive has WAL of the other site that is not here yet, or does not answer"
  }

  keep promote_standby
  promote_standby() {
    local end
    end=$(end_of_wal "$PGDATA") || give_up "where the WAL in $PGDATA ends cannot be told"
    former_promote_standby "${end#* }"
  }

  keep tell_service
  # The Service leads to the head already.
  tell_service() {
    if [[ $NODE == "$UPSTREAM_HEAD" ]]; then
      log "the other standbys follow by themselves; the Service $LAB-primary leads here"
    else
      former_tell_service
    fi
  }

  keep tell
  tell() {
    former_tell
    if is_standby_site && [[ $UPSTREAM_PROMOTE != yes ]]; then
      log "this site is promoted: put \`promote: true\` below \`upstream\` in its config, or remove \`upstream\`; the other site follows it" \
        "when it gets an \`upstream\`"
    fi
  }
fi

# virtwork-status.

if keep own; then
  own() {
    # Before the tables.
    # shellcheck source=/dev/null
    [[ ! -e $PREPARED ]] || . "$PREPARED"
    if [[ -n ${PGDATA:-} && -e $PGDATA/$PROMOTED && ! -e $PGDATA/standby.signal ]]; then
      line site "promoted; it followed $(<"$PGDATA/$PROMOTED")"
    elif is_standby_site; then
      line site "standby site of $UPSTREAM_HOST port $UPSTREAM_PORT, whose head is $UPSTREAM_HEAD"
    fi
    former_own
  }
fi
