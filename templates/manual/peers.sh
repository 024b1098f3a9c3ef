# shellcheck shell=bash
# What the nodes of a lab tell each other: what data each has, on which timeline, and who is the primary. Sourced.

# A line of an answer.
ANSWER='^(node=[a-z0-9-]+|state=(unknown|blank|primary|standby)|(system|timeline|position)=[0-9]+|running=(yes|soon)|'
ANSWER+='fenced=[a-z0-9/-]+)$'

NODE=$(uname -n)
NODE=${NODE%%.*}
# A primary that was restarted may not know better than those that were not: they are waited for, but not for ever.
SECONDS_FOR_PEERS=60
# Who was waited for in vain since the boot.
WAITED=/run/postgresql/virtwork.waited

is_node() {
  [[ $1 == "$LAB"-* && ${1#"$LAB"-} =~ ^(primary-0|replica-[0-9]{1,9})$ ]]
}

check_host_name() {
  is_node "$NODE" ||
    refuse "the host name is $NODE, not that of a node of $LAB: all nodes would share a slot; nothing was touched;" \
      "let cloud-init set the host name (no preserve_hostname in the image)"
}

# data_facts DIRECTORY: sets DATA_SYSTEM and DATA_TIMELINE, the newest timeline that the data knows of.
data_facts() {
  local label value file
  DATA_SYSTEM='' DATA_TIMELINE=0
  while IFS=: read -r label value; do
    value=${value##* }
    case $label in
      'Database system identifier') DATA_SYSTEM=$value ;;
      "Latest checkpoint's TimeLineID" | "Min recovery ending loc's timeline")
        ((value <= DATA_TIMELINE)) || DATA_TIMELINE=$value
        ;;
    esac
  done < <(pg_controldata -D "$1" 2>/dev/null)
  for file in "$1"/pg_wal/*.history; do
    file=${file##*/}
    if [[ $file =~ ^[0-9A-F]{8}\.history$ ]]; then
      value=$((16#${file%.history}))
      ((value <= DATA_TIMELINE)) || DATA_TIMELINE=$value
    fi
  done
  [[ -n $DATA_SYSTEM ]]
}

# Sets POSTMASTER: its status in words of PostgreSQL (`ready`, `standby` without queries, `starting`); nothing when it
# does not run.
postmaster_status() {
  local lines
  POSTMASTER=''
  if mapfile -t lines 2>/dev/null <"$PGDATA/postmaster.pid" && [[ ${lines[0]:-} =~ ^[0-9]+$ ]] &&
    [[ $(cat "/proc/${lines[0]}/comm" 2>/dev/null) == postgres ]]; then
    POSTMASTER=${lines[7]:-starting}
    POSTMASTER=${POSTMASTER%% *}
  fi
}

# What became of a primary that saw a newer timeline; it stays over boots.
fenced_file() {
  printf '%s' "$PGDATA/virtwork.fenced"
}

# fence NODE TIMELINE
fence() {
  local file
  file=$(fenced_file)
  # A full disk has room for the name, and that is what counts.
  printf '%s %s\n' "$1" "$2" 2>/dev/null >"$file.new" || true
  chown --reference="$PGDATA" "$file.new" 2>/dev/null || true
  sync "$file.new" || true
  mv -f "$file.new" "$file" || return 1
  sync "$PGDATA"
}

fenced_reason() {
  local node timeline
  read -r node timeline <"$(fenced_file)" || true
  printf '%s' "${node:-another node} is on timeline ${timeline:-(not noted)}, newer than that of this node: another node was promoted;" \
    " nothing is written here any more; run \`virtwork-rejoin\` to make this node a standby of the new primary"
}

# addresses NAME: each once. Fails when there is none.
addresses() {
  getent ahosts "$1" | awk '!seen[$1]++ { print $1 }' | grep .
}

# By the whole name: the single label leads to the loopback interface.
own_addresses() {
  local domain
  domain=$(awk -v service="$NODES_HOST." '$1 == "search" {
    for (i = 2; i <= NF; i++) if (index($i, service) == 1) { print $i; exit } }' \
    /etc/resolv.conf /run/systemd/resolve/resolv.conf 2>/dev/null) || true
  [[ -n $domain ]] && addresses "$NODE.$domain"
}

# question ADDRESS PATH: a line `peer NODE STATE SYSTEM TIMELINE RUNNING FENCED POSITION ADDRESS`, with `-` for what was not
# said, or `silent ADDRESS`. What is no answer of a node of this lab is silence. A node that is there takes the connection at
# once; to answer may take it longer, where the load leaves it little of its CPUs.
question() {
  local answer='' line key value node='' state='' system=- timeline=0 running=no fenced=- position=- asker reply
  # shellcheck disable=SC2016  # the inner shell's
  exec {reply}< <(exec timeout 15 bash -c 'exec 3<>"/dev/tcp/$1/8008" && echo connected &&
    printf "GET %s HTTP/1.0\r\n\r\n" "$2" >&3 && cat <&3' - "$1" "$2" 2>/dev/null)
  asker=$!
  if IFS= read -r -t 5 -u "$reply" line && [[ $line == connected ]]; then
    answer=$(cat <&"$reply")
    wait "$asker" || answer=''
  else
    kill "$asker" 2>/dev/null || true
  fi
  exec {reply}<&-
  while IFS='=' read -r key value; do
    if [[ $key=$value =~ $ANSWER ]]; then
      printf -v "$key" '%s' "$value"
    fi
  done <<<"$answer"
  if is_node "$node" && [[ -n $state ]]; then
    printf 'peer %s %s %s %s %s %s %s %s\n' "$node" "$state" "$system" "$timeline" "$running" "$fenced" "$position" "$1"
  else
    printf 'silent %s\n' "$1"
  fi
}
# ask_peers PATH: asks all other nodes at once. Sets PEERS, the lines of `question` without their first word, and SILENT, the
# addresses that did not answer. While the names do not know this node itself they are not trusted: `the names`.
ask_peers() {
  local all own address kind rest known=no asked=()
  local -A heard=()
  PEERS=() SILENT=()
  all=$(addresses "$NODES_HOST") || all=''
  own=$(own_addresses) || own=''
  for address in $all; do
    if [[ $'\n'$own$'\n' == *$'\n'"$address"$'\n'* ]]; then
      known=yes
    else
      asked+=("$address")
    fi
  done
  [[ $known == yes ]] || SILENT+=("the names of $NODES_HOST")
  while read -r kind rest; do
    if [[ $kind == silent ]]; then
      SILENT+=("$rest")
    elif [[ ${rest%% *} != "$NODE" && -z ${heard[${rest%% *}]:-} ]]; then
      heard[${rest%% *}]=yes
      PEERS+=("$rest")
    fi
  done < <(for address in "${asked[@]}"; do question "$address" "$1" & done; wait)
}

# hear_peers CHECK: asks until CHECK succeeds, or each peer has answered, or was waited for once since the boot. Fails when
# CHECK never succeeded.
hear_peers() {
  local since said=no peer node state missing
  tick
  since=$NOW
  while true; do
    ask_peers /node
    if "$1"; then
      return 0
    fi
    missing=("${SILENT[@]}")
    for peer in "${PEERS[@]}"; do
      read -r node state _ <<<"$peer"
      # It answers, but has not seen its disk yet.
      [[ $state != unknown ]] || missing+=("$node")
    done
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | grep -vxF -f <(cat "$WAITED" 2>/dev/null || true) | grep . || true)
    ((${#missing[@]} > 0)) || return 1
    tick
    if ((NOW - since >= SECONDS_FOR_PEERS)); then
      log "going on without an answer of $(join "${missing[@]}")"
      { cat "$WAITED" 2>/dev/null || true; printf '%s\n' "${missing[@]}"; } >"$WAITED.new"
      mv -f "$WAITED.new" "$WAITED"
      return 1
    fi
    if [[ $said == no ]] && ((NOW - since >= 2)); then
      log "asking the other nodes what they know, for $SECONDS_FOR_PEERS s at most: no answer yet of $(join "${missing[@]}")"
      said=yes
    fi
    pause 0.5
  done
}

# join WORD…: with commas.
join() {
  local text
  text=$(printf '%s, ' "$@")
  printf '%s' "${text%, }"
}

# Whether a peer has the data of DATA_SYSTEM on a newer timeline than DATA_TIMELINE: sets NEWER to its name and timeline;
# of several to that of the primary.
is_newer_known() {
  local peer node state system timeline best=$DATA_TIMELINE
  NEWER=''
  for peer in "${PEERS[@]}"; do
    read -r node state system timeline _ <<<"$peer"
    [[ $system == "$DATA_SYSTEM" ]] || continue
    if ((timeline > best)) || [[ -n $NEWER && $timeline == "$best" && $state == primary ]]; then
      best=$timeline NEWER="$node $timeline"
    fi
  done
  [[ -n $NEWER ]]
}

# Whether no other node writes on the same timeline. Sets WHY.
no_rival() {
  local peer node state system timeline running fenced
  WHY=''
  for peer in "${PEERS[@]}"; do
    read -r node state system timeline running fenced _ <<<"$peer"
    if [[ $state == primary && $system == "$DATA_SYSTEM" && $timeline == "$DATA_TIMELINE" && $running == yes &&
      $fenced == - ]]; then
      WHY="$node runs as primary on the same timeline $timeline"
    fi
  done
  [[ -z $WHY ]]
}

# Before a server opens its port that would accept writes: does anybody know of a newer timeline? Ends with 78 if so.
ask_before_writing() {
  local said=''
  [[ ! -e $(fenced_file) ]] || refuse "$(fenced_reason)"
  # What the server says of such a directory says more.
  data_facts "$PGDATA" || return 0
  if hear_peers is_newer_known; then
    # shellcheck disable=SC2086  # two words
    fence $NEWER
    refuse "$(fenced_reason)"
  fi
  until no_rival; do
    [[ $said == "$WHY" ]] || log "not starting: $WHY; stop one of the two"
    said=$WHY
    pause 5
    ask_peers /node
    if is_newer_known; then
      # shellcheck disable=SC2086  # two words
      fence $NEWER
      refuse "$(fenced_reason)"
    fi
  done
}

# find_primary [SYSTEM]: sets PRIMARY_HOST to the node that runs as primary on the newest timeline of that system; where no
# node has that system as primary, or none is given, of the only other one. Fails and sets WHY when there is none, or more
# than one.
find_primary() {
  local peer node state system timeline running fenced newest=0 other='' found=() others=() seen=()
  PRIMARY_HOST='' WHY=''
  ask_peers /node
  for peer in "${PEERS[@]}"; do
    read -r node state system timeline running fenced _ <<<"$peer"
    if [[ $system == "${1:-}" ]]; then
      ((timeline <= newest)) || newest=$timeline
    fi
  done
  for peer in "${PEERS[@]}"; do
    read -r node state system timeline running fenced _ <<<"$peer"
    if [[ $fenced != - ]]; then
      state=fenced
    elif [[ $state == primary && $running != yes ]]; then
      state='primary, stopped'
    fi
    seen+=("$node $state")
    [[ $state == primary ]] || continue
    if [[ $system == "${1:-}" ]]; then
      if ((timeline == newest)); then
        found+=("$node")
      else
        other=$node
      fi
    else
      others+=("$node")
    fi
  done
  if ((${#found[@]} == 0)) && [[ -z $other ]]; then
    found=("${others[@]}")
  fi
  if ((${#found[@]} == 1)); then
    PRIMARY_HOST=${found[0]}
  elif ((${#found[@]} > 1)); then
    WHY="$(join "${found[@]}") all say that they are the primary"
  elif [[ -n $other ]]; then
    WHY="$other is primary on an older timeline than the newest, $newest"
  else
    ((${#SILENT[@]} == 0)) || seen+=("$(join "${SILENT[@]}") silent")
    mapfile -t seen < <(printf '%s\n' "${seen[@]}" | sort)
    WHY="no node runs as primary (${seen[0]:+$(join "${seen[@]}")})"
  fi
  [[ -n $PRIMARY_HOST ]]
}

# await SECONDS WHAT COMMAND…: as `retry`, but in this shell, and the reason is WHY.
await() {
  local seconds=$1 what=$2 previous='' said=0
  shift 2
  until "$@"; do
    tick
    if [[ $WHY != "$previous" ]] || ((NOW - said >= 600)); then
      log "$what: not yet, trying on ($WHY)"
      previous=$WHY said=$NOW
    fi
    pause "$seconds"
  done
}
