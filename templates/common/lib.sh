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
export PGOPTIONS="$PGOPTIONS -c search_path=public"

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

# retry WHAT COMMAND…: until it succeeds, for ever; a line when it fails first and when the reason changes.
retry() {
  local what=$1 reason previous='' seconds=1
  shift
  until reason=$("$@" 2>&1); do
    # libpq's hints start with a tab; what comes last without one is the reason.
    reason=$(grep -v $'^\t' <<<"$reason" | tail -n 1)
    if [[ $reason != "$previous" ]]; then
      log "$what: not yet, trying on (${reason:-$1 failed})"
      previous=$reason
    fi
    pause "$seconds"
    seconds=$((seconds < 16 ? seconds * 2 : 30))
  done
}
