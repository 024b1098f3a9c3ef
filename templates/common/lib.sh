# shellcheck shell=bash
# What all scripts of the lab share: the values, the voice, the patience. Sourced, never run.

# shellcheck source=/dev/null
. /etc/virtwork/lab.env
# shellcheck source=/dev/null
. /usr/local/lib/virtwork/family.sh

# Messages and the labels of pg_controldata are read here, so programs must not translate them.
export LC_ALL=C PGCLIENTENCODING=UTF8 PGHOST=/run/postgresql PGPORT=5432
# In this directory and nowhere else: SELinux lets PostgreSQL read neither iso9660 nor the rest of /run.
export PGPASSFILE=/run/postgresql/virtwork.pgpass

# Settings of the config must not stop the lab's own statements. (The load unsets this.)
PGOPTIONS='-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0'
# Superusers call no function that somebody else has made: before 15 everybody may, in public.
# A standby answers nothing that is to be serializable.
export PGOPTIONS="$PGOPTIONS -c search_path=pg_catalog -c default_transaction_isolation=read\\ committed"

# One journal line per step.
log() {
  printf '%s\n' "$*"
}

# A finding that only a person can settle. 78 is EX_CONFIG: virtwork-setup.service is not restarted after it.
refuse() {
  log "stopped: $*"
  exit 78
}

# Not runuser: its PAM session would add two journal lines to every command.
as_postgres() {
  setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"
}

# A plain sleep would be finished before a trap runs, and then be reported as "Terminated".
pause() {
  sleep "$1" &
  wait $!
}

# A failure that may pass: the unit is started again after its RestartSec.
fail() {
  log "failed: $*; trying again in 30 s"
  exit 1
}

# reason OUTPUT: the line of a program's output that says why it failed: the first that is marked as an error,
# else the last one. libpq's hints start with a tab, and what comes after an error is mostly tidying up.
reason() {
  awk '/^\t|^ *\^|^LINE [0-9]/ { next }
    !marked && /[Ee]rror|ERROR|FATAL|PANIC|No space left|^E:/ { marked = $0 }
    NF { last = $0 }
    END { print marked ? marked : last }' <<<"$1"
}

# With TLS: certificates of a server (`set_up_tls`), the authority for a client (`set_up_authority DIRECTORY`), and words of each
# connection by TCP (`tls_words HOST ROLE [KEY]`).
set_up_tls() {
  :
}
set_up_authority() {
  :
}
tls_words() {
  :
}
if [[ -n ${TLS_SOURCE:-} ]]; then
  # shellcheck source=templates/tls/tls.sh
  . /usr/local/lib/virtwork/tls.sh
fi

# Sets NOW: seconds since the boot, which no correction of the clock moves.
# shellcheck disable=SC2034  # read by the scripts that source this file
tick() {
  read -r NOW _ </proc/uptime
  NOW=${NOW%.*}
}

# retry SECONDS WHAT COMMAND…: until it succeeds, for ever, with so many seconds in between; a line when it
# fails first, when the reason changes, and every ten minutes.
retry() {
  local seconds=$1 what=$2 output why previous='' said
  shift 2
  until output=$("$@" 2>&1); do
    why=$(reason "$output")
    why=${why:-$1 failed}
    tick
    if [[ $why != "$previous" ]] || ((NOW - said >= 600)); then
      log "$what: not yet, trying on ($why)"
      previous=$why said=$NOW
    fi
    pause "$seconds"
  done
}

# Sets BINDIR, PG_MAJOR and PGDATA. With several majors installed it is the one that has data here.
find_binaries() {
  BINDIR=$(binary_directory)
  PATH=$BINDIR:$PATH
  PG_MAJOR=$("$BINDIR/postgres" --version | sed -E 's/^.*\) ([0-9]+).*$/\1/')
  # shellcheck disable=SC2034  # read by the scripts that source this file
  PGDATA=$(data_directory "$PG_MAJOR")
}
