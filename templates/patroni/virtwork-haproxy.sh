#!/bin/bash
# Becomes HAProxy: port 5000 leads to the leader, 5001 to the replicas, as Patroni says of each node. A node that does not
# exist (yet, or any more) stops nothing: names are asked for all the time.
set -euo pipefail

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh

NODE=$(uname -n)
NODE=${NODE%%.*}
CONFIG=/run/virtwork-haproxy/haproxy.cfg

# HAProxy asks for names as they stand: the domain is that of all nodes' addresses.
domain() {
  local name
  name=$(getent ahosts "$NODES_HOST" | awk '$3 { print $3; exit }')
  [[ $name == *.* ]] || {
    echo "error: $NODES_HOST has no address"
    return 1
  }
  echo "$name"
}

# Where the network of WAL may be made bad, sessions of clients are known by the ports that they come from: none that the
# kernel would choose. HAProxy keeps to them only with an address of its own, of the family that names then must have.
# (Without one it ignores them and says nothing: its issue 2204.)
source_ports() {
  local address own family=ipv4
  if [[ -z ${CHAOS_WINDOWS+set} ]]; then
    return
  fi
  address=$(getent ahosts "$1" | awk '!first { first = $1 } $1 ~ /:/ { six = $1; exit } END { print six ? six : first }')
  own=$(ip -o route get "$address" | sed -nE 's/.* src ([^ ]+).*/\1/p')
  if [[ $address == *:* ]]; then
    family=ipv6 own="[$own]"
  fi
  echo " resolve-prefer $family source $own:$2"
}

# servers DOMAIN PORTS
servers() {
  local number node source
  source=$(source_ports "$@")
  for ((number = 0; number <= REPLICA_COUNT; number++)); do
    node=$LAB-node-$number
    if [[ $node == "$NODE" ]]; then
      # A guest behind masquerade does not reach itself by its pod's address.
      echo "  server $node 127.0.0.1:5432 verifyhost $node"
    else
      echo "  server $node $node.$1:5432 verifyhost $node resolvers pods init-addr none$source"
    fi
  done
}

# The leader of a standby site takes no writes, but it is whom its Service leads to; that of a site that had to stop sends what
# it has left.
configuration() {
  local leader=/primary
  if [[ -e /usr/local/lib/virtwork/patroni-site.sh ]]; then
    leader=/leader
  fi
  cat <<END
global
  maxconn 8000
defaults
  mode tcp
  # Who is gone without a word is found by TCP's keepalives. Sessions may be idle for as long as they like.
  option clitcpka
  option srvtcpka
  timeout connect 3s
  timeout client 24d
  timeout server 24d
  timeout check 3s
  option httpchk
  default-server check check-ssl port 8008 inter 2s fastinter 500ms downinter 1s fall 2 rise 1 verify required \
ca-file /run/virtwork-pki/ca.crt on-marked-down shutdown-sessions
resolvers pods
  parse-resolv-conf
  accepted_payload_size 8192
  timeout resolve 1s
  timeout retry 1s
  hold valid 2s
  hold nx 5s
listen read-write
  bind $1:5000$3
  http-check send meth OPTIONS uri $leader
  http-check expect status 200
$(servers "$2" 28672-30719)
listen read-only
  bind $1:5001$3
  balance roundrobin
  http-check send meth OPTIONS uri /replica
  http-check expect status 200
$(servers "$2" 30720-32767)
END
}

main() {
  local every='*' both=''
  if [[ -e /proc/net/if_inet6 ]]; then
    every='[::]' both=' v4v6'
  fi
  retry 2 "waiting for the names of the nodes" domain
  configuration "$every" "$(domain)" "$both" >"$CONFIG"
  log "from 5000 to the leader, from 5001 to the replicas, of nodes 0 to $REPLICA_COUNT"
  exec haproxy -W -db -f "$CONFIG"
}

main
