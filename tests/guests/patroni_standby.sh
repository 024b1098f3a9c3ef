#!/bin/bash
# What templates/patroni/ takes for granted of Patroni's standby_cluster, tried on Patroni itself: two sites of one node each on
# loopback. By hand, as root, where patroni, python3-etcd, etcd-server and PostgreSQL are installed, such as in a chroot of the
# boot tests' patroni-golden image:
#
#     unshare --mount --net --pid --fork --mount-proc bash tests/guests/patroni_standby.sh
#
# in namespaces of its own, whose first process is a bash: Patroni waits for servers that nobody reaps.
set -euo pipefail
ip link set lo up
work=$(mktemp -d)
chown postgres "$work"
cd "$work"
binaries=$(echo /usr/lib/postgresql/*/bin)
export PATH=$binaries:$PATH LC_ALL=C
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

etcd --data-dir "$work/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --log-level error >etcd.log 2>&1 &

cat >clone.sh <<'CLONE'
#!/bin/bash
for word in "$@"; do
  case $word in
    --datadir=*) directory=${word#*=} ;;
    --connstring=*) source=${word#--connstring=} ;;
  esac
done
exec pg_basebackup -D "$directory" -X stream --checkpoint=fast -d "$source"
CLONE
chmod 0755 clone.sh

# configure NAME PORT API DYNAMIC
configure() {
  cat >"$1.json" <<CONFIG
{"scope": "$1", "name": "$1-node-0", "etcd3": {"hosts": ["127.0.0.1:2379"]},
 "restapi": {"listen": "127.0.0.1:$3", "connect_address": "127.0.0.1:$3"}, "bootstrap": {"dcs": $4, "initdb": ["data-checksums"]},
 "postgresql": {"listen": "127.0.0.1:$2", "connect_address": "127.0.0.1:$2", "bin_dir": "$binaries", "data_dir": "$work/$1",
  "pgpass": "$work/$1.pgpass", "use_unix_socket": true,
  "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "replicator", "password": "r"},
                     "rewind": {"username": "replicator", "password": "r"}},
  "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
  "parameters": {"unix_socket_directories": "$work", "wal_keep_size": "64MB"},
  "create_replica_methods": ["virtwork"], "virtwork": {"command": "$work/clone.sh", "keep_data": true}}}
CONFIG
  chown postgres "$1.json"
}

# site PORT SLOT: whom a standby site follows.
site() {
  echo "\"standby_cluster\": {\"host\": \"127.0.0.1\", \"port\": $1, \"primary_slot_name\": \"$2\", \"create_replica_methods\": [\"virtwork\"]}"
}

sql() {
  psql -XAtqw -h "$work" -p "$1" -U postgres -d postgres -c "$2" 2>&1 || true
}

change() {
  python3 -c 'import sys, urllib.request as web
web.urlopen(web.Request(sys.argv[1], data=sys.argv[2].encode(), method="PATCH", headers={"Content-Type": "application/json"})).read()' \
    "http://127.0.0.1:$1/config" "$2"
}

status() {
  python3 -c 'import sys, urllib.error, urllib.request as web
try:
    print(web.urlopen(sys.argv[1]).status)
except urllib.error.HTTPError as error:
    print(error.code)' "http://127.0.0.1:$1$2"
}

# expect WHAT WANTED COMMAND…: within a minute.
expect() {
  local what=$1 wanted=$2 found='' attempt
  shift 2
  for ((attempt = 0; attempt < 60; attempt++)); do
    found=$("$@")
    if [[ $found == "$wanted" ]]; then
      echo "passed: $what"
      return
    fi
    sleep 1
  done
  echo "failed: $what: $found, expected $wanted"
  tail -n 20 west.log
  tail -n 20 east.log
  exit 1
}

start() {
  setpriv --reuid=postgres --regid=postgres --init-groups patroni "$work/$1.json" >>"$1.log" 2>&1 &
}

settings='"ttl": 20, "loop_wait": 3, "retry_timeout": 5, "postgresql": {"use_pg_rewind": true, "use_slots": true}'
configure west 5501 8101 "{$settings}"
configure east 5502 8102 "{$settings, $(site 5501 east)}"
start west
expect "production takes writes" f sql 5501 'SELECT pg_is_in_recovery()'
sleep 3
sql 5501 "ALTER ROLE replicator PASSWORD 'r'; GRANT pg_monitor TO replicator;
  GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text),
    pg_read_binary_file(text, bigint, bigint, boolean) TO replicator; CREATE TABLE t (n int)"
start east
expect "a standby site clones with a method of its own" t sql 5502 'SELECT pg_is_in_recovery()'
sql 5501 "SELECT FROM pg_create_physical_replication_slot('east', true)"
change 8101 '{"slots": {"east": {"type": "physical", "cluster_type": "primary"}}}'
expect "it streams through its slot, which is kept" t sql 5501 "SELECT active FROM pg_replication_slots WHERE slot_name = 'east'"
expect "/leader of it" 200 status 8102 /leader
expect "/primary of it" 503 status 8102 /primary
expect "/standby-leader of it" 200 status 8102 /standby-leader

for ((n = 1; n <= 4000; n++)); do echo "INSERT INTO t VALUES ($n) RETURNING n;"; done |
  psql -XAtqw -h "$work" -p 5501 -U postgres -d postgres >acknowledged 2>/dev/null &
sleep 0.5
change 8101 '{"standby_cluster": {"restore_command": "/bin/false", "create_replica_methods": ["virtwork"]}}'
expect "without a host production takes no writes" t sql 5501 'SELECT pg_is_in_recovery()'
expect "its /leader" 200 status 8101 /leader
expect "the other site gets all that was acknowledged" "$(tail -n 1 acknowledged)" sql 5502 'SELECT max(n) FROM t'
change 8102 '{"standby_cluster": null}'
expect "the other site takes writes" f sql 5502 'SELECT pg_is_in_recovery()'
sql 5502 "INSERT INTO t VALUES (9001); SELECT FROM pg_create_physical_replication_slot('west', true)"
change 8102 '{"slots": {"west": {"type": "physical", "cluster_type": "primary"}}}'
change 8101 "{$(site 5502 west | sed 's/: {/: {"restore_command": null, /')}"
expect "the old production follows" 9001 sql 5501 'SELECT max(n) FROM t'
expect "and keeps no slot for whom it follows" '' sql 5501 "SELECT slot_name FROM pg_replication_slots WHERE slot_name = 'east'"
change 8101 '{"standby_cluster": null}'
expect "both take writes by mistake" f sql 5501 'SELECT pg_is_in_recovery()'
sql 5501 'INSERT INTO t VALUES (9990)'
sql 5502 'INSERT INTO t VALUES (9002)'
sql 5502 'CHECKPOINT'
change 8101 "{$(site 5502 west)}"
expect "one is rewound to the other" '9002|0' sql 5501 'SELECT max(n) FILTER (WHERE n < 9900), count(*) FILTER (WHERE n = 9990) FROM t'
