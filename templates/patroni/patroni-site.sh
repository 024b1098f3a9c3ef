# shellcheck shell=bash
# What virtwork-patroni-watch.sh has to do in a lab that has another site beside it. Sourced.

headed_at=-60 is_head=no yields_at=-60 has_function=no compared_at=-60
declare -A site_slots=()

# tend_site STATE TIMELINE: at each look.
tend_site() {
  case $1 in
    leader)
      is_head=no
      keep_site_slots
      if ((NOW - yields_at >= 10)); then
        yields_at=$NOW
        [[ $has_function == yes ]] || make_function || true
        python3 -I /usr/local/sbin/virtwork-etcd.py lead "$2"
      fi
      ;;
    streaming | waiting)
      ((NOW - headed_at < 10)) || tend_head "$1"
      if [[ $1 == streaming && -n ${UPSTREAM_HOST+set} ]] && ((NOW - compared_at >= 60)); then
        compared_at=$NOW
        as_postgres python3 -I /usr/local/sbin/virtwork-etcd.py keep-comparison
      fi
      ;;
  esac
}

# Slots of other sites: Patroni drops those that it does not know, and keeps those that it does on each node that may lead. One
# whose WAL is lost is of no use any more; a site that comes back makes another one.
keep_site_slots() {
  local slot lost
  while IFS='|' read -r slot lost; do
    [[ -n $slot && ${site_slots[$slot]-} != "$lost" ]] || continue
    if [[ $lost == t ]]; then
      python3 -I /usr/local/sbin/virtwork-etcd.py forget-slot "$slot" || continue
      log "the slot $slot of another site has lost WAL: it goes"
    else
      python3 -I /usr/local/sbin/virtwork-etcd.py keep-slot "$slot" || continue
      log "another site follows this one through the slot $slot, which is kept for it"
    fi
    site_slots[$slot]=$lost
  done < <(superuser_sql -c "SELECT slot_name, wal_status = 'lost' AND NOT active FROM pg_replication_slots
    WHERE slot_type = 'physical' AND NOT temporary AND slot_name !~ '^${LAB//-/_}_node_[0-9]+\$'" 2>/dev/null)
}

# What another site calls to have this one stop: as manual labs have it.
make_function() {
  superuser_sql -f /usr/local/lib/virtwork/yield.sql && has_function=yes
}

# At the head of a standby site: the slot that Patroni wants at the other one, where a node of that site or nobody has made it.
tend_head() {
  local slot leader output
  headed_at=$NOW
  if [[ -z ${UPSTREAM_HOST+set} ]] || ! python3 -I /usr/local/lib/virtwork/tls.py /standby-leader; then
    is_head=no
    return
  fi
  [[ $is_head == yes ]] || log "this node is at the head of a standby site, which follows $UPSTREAM_HOST"
  is_head=yes
  if [[ $1 == waiting ]] && leader=$(conninfo) && slot=$(setting primary_slot_name) && [[ -n $slot ]]; then
    output=$(as_postgres timeout 20 psql -XAtqw -d "$leader" -c "SELECT pg_create_physical_replication_slot('$slot', true)
      WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$slot')" 2>/dev/null) || return 0
    [[ -z $output ]] || log "made the slot $slot at $UPSTREAM_HOST"
  fi
}
