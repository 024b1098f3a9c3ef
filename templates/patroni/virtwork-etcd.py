#!/usr/bin/python3 -I
"""Becomes etcd, once it is known which cluster this node belongs to.

A node with etcd's data just goes on. One without may be new, or may have lost its disk: if it simply came back under its old
identity, it would have forgotten what it had voted for, and the cluster what was decided. So
- the first node founds the cluster, and only when every other one of etcd's nodes says that it has neither etcd's data nor a
  database: a node that is not there may have both. Until then each node without etcd's data says so on etcd's own port.
- all others, and the first one when it lost its disk, are taken in as new members: whoever had their name is taken out first.
"""

import base64
import http.server
import json
import math
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Callable

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402
import tls  # noqa: E402

CLIENTS, PEERS = 2379, 2380
# Patroni writes little, and fsync takes its time on a busy disk: with the defaults, 100 and 1000 ms, leaders would change then.
HEARTBEAT, ELECTION = 250, 1500
PRUNE_AFTER = 600


def data_mount() -> pathlib.Path:
    for line in pathlib.Path("/usr/local/lib/virtwork/family.sh").read_text().splitlines():
        if line.startswith("DATA_MOUNT="):
            return pathlib.Path(line.partition("=")[2])
    raise ValueError("family.sh has no DATA_MOUNT")


DIRECTORY = data_mount() / "etcd"
# A person's word that etcd's data is lost for good.
PERMISSION = data_mount() / "found-etcd"
CONFIGURED = pathlib.Path("/run/postgresql/virtwork.configured")


def has_data() -> bool:
    return any((DIRECTORY / "member/wal").glob("*.wal"))


def has_database() -> bool:
    return any(path.exists() for pattern in ("data*/PG_VERSION", "*/main*/PG_VERSION") for path in data_mount().glob(pattern))


def peer_url(node: str) -> str:
    return f"https://{node}:{PEERS}"


# What the others see of a node that waits.

class Waiting(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"node": lab.NODE, "state": "database" if has_database() else "blank"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Responder(http.server.ThreadingHTTPServer):
    """Each connection shakes hands in a thread of its own, so that one that says nothing holds up nobody."""

    daemon_threads = True
    address_family = socket.AF_INET6 if pathlib.Path("/proc/net/if_inet6").exists() else socket.AF_INET

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(3)
        super().finish_request(tls.context(server=True).wrap_socket(request, server_side=True), client_address)


def others() -> dict[str, str]:
    """What each other node says of itself: `blank`, `database` (without etcd's data), or `cluster`. ValueError when one does
    not answer, unless another one has a cluster."""
    states, silent = {}, []
    for node in lab.ETCD_NODES:
        if node != lab.NODE:
            try:
                answer = tls.ask(node, PEERS, "/members")
                states[node] = "cluster" if isinstance(answer, list) else str(answer["state"])
            except (OSError, ValueError) as error:
                silent.append(f"{node}: {error}")
    if silent and "cluster" not in states.values():
        raise ValueError("; ".join(silent))
    return states


def decide() -> bool:
    """True when this node is to found the cluster, False when there is one; ValueError while neither is known."""
    if lab.NODE != lab.ETCD_NODES[0]:
        try:
            if "cluster" in others().values():
                return False
        except ValueError:
            pass
        raise ValueError(f"{lab.ETCD_NODES[0]} has not founded the cluster yet")
    states = others()
    if "cluster" in states.values():
        return False
    databases = [node for node, state in states.items() if state == "database"]
    if has_database():
        databases.append(lab.NODE)
    if not databases or lab.NODE in databases and PERMISSION.exists():
        return True
    raise ValueError(f"there is a database on {', '.join(databases)}, but etcd's data is on no disk: attach the disks that "
                     f"belong together; if it is lost for good and the database of {lab.NODE} is the one that counts, "
                     f"`touch {PERMISSION}` there")


def found_or_join() -> bool:
    """Whether this node is to found the cluster."""
    server = Responder(("", PEERS), Waiting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        founder = lab.NODE == lab.ETCD_NODES[0]
        what = "founding etcd's cluster: asking the others" if founder else "joining etcd's cluster"
        return bool(lab.retry(1, what, decide))
    finally:
        server.shutdown()
        server.server_close()


# The cluster's members.

def ask_cluster(path: str, document: Any, seconds: float = 7) -> Any:
    """The answer of the first other node that has one; with a majority gone none has."""
    error: Exception = OSError("no other node answers")
    for node in lab.ETCD_NODES:
        if node != lab.NODE:
            try:
                return tls.ask(node, CLIENTS, f"/v3/cluster/member/{path}", document, seconds=seconds)
            except (OSError, ValueError) as failure:
                error = failure
    raise error


def resolves(node: str) -> bool:
    """Whether there is a pod of the name. Only an answer that there is none counts as no, which a single label does not get:
    hence with the domain that all nodes' names have."""
    try:
        domain = socket.getaddrinfo(lab.LAB["NODES_HOST"], PEERS, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)[0][3]
    except socket.gaierror:
        return True
    if "." not in domain:
        return True
    try:
        socket.getaddrinfo(f"{node}.{domain}", PEERS, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return error.errno not in (socket.EAI_NONAME, socket.EAI_NODATA)
    return True


def was_taken_out() -> bool:
    """Whether the cluster goes on without this member, whose data is then of no use. A member lists what it has seen itself,
    which may be of a time before this node came in: what it says counts only once it has read something that a majority
    agreed on."""
    for node in lab.ETCD_NODES:
        if node != lab.NODE:
            try:
                tls.ask(node, CLIENTS, "/v3/kv/range", {"key": key("config")}, seconds=2)
                members = tls.ask(node, CLIENTS, "/v3/cluster/member/list", {}, seconds=2)["members"]
                return not any(peer_url(lab.NODE) in member["peerURLs"] and member.get("name") for member in members)
            except (OSError, ValueError):
                pass
    return False


def join() -> str:
    """Takes this node in as a new member; the value of --initial-cluster."""
    url = peer_url(lab.NODE)
    members = ask_cluster("list", {})["members"]
    mine = next((member for member in members if url in member["peerURLs"]), None)
    if mine:
        # Also one that never said its name: the leader may have sent it data that was lost since, and would send no more.
        if mine.get("name"):
            lab.log(f"etcd: the cluster knows {lab.NODE}, which has lost its data: replacing the member {int(mine['ID']):x}")
        ask_cluster("remove", {"ID": mine["ID"]})
        members.remove(mine)
    for member in members:
        name = member.get("name", "")
        if name and name not in lab.ETCD_NODES and not resolves(name):
            lab.log(f"etcd: {name} is no longer in the lab: taking it out")
            ask_cluster("remove", {"ID": member["ID"]})
    if any(member.get("isLearner") for member in members):
        raise ValueError("another node is being taken in")
    # Without a vote until it has all data: a voter that is not there yet would cost a cluster of one its majority.
    ask_cluster("add", {"peerURLs": [url], "isLearner": True})
    lab.log(f"etcd: {lab.NODE} is taken in as a new member")
    members = ask_cluster("list", {})["members"]
    pairs = []
    for member in members:
        for address in member["peerURLs"]:
            pairs.append(f"{lab.NODE if address == url else member.get('name') or address.split('/')[2].split(':')[0]}={address}")
    return ",".join(pairs)


def vote() -> None:
    """Gives this node its vote, as soon as the cluster finds that it has all data."""
    if not tls.ask("localhost", CLIENTS, "/v3/maintenance/status", {}).get("isLearner"):
        return
    for member in ask_cluster("list", {})["members"]:
        if peer_url(lab.NODE) in member["peerURLs"] and member.get("isLearner"):
            ask_cluster("promote", {"ID": member["ID"]})
            lab.log(f"etcd: {lab.NODE} has a vote")


def key(name: str) -> str:
    return base64.b64encode(f"/service/{lab.LAB['LAB']}/{name}".encode()).decode()


def settle() -> None:
    """Before Patroni starts: what the node that may make a database left when it was cut off goes, and the config's settings
    that all nodes have in common get where Patroni reads them. Each node does that once after its start: the one that
    started last has the newest config."""
    if lab.NODE == lab.ETCD_NODES[0]:
        lab.retry(1, "waiting for etcd", begin_anew, math.inf if not has_database() else 15)
    if not CONFIGURED.exists():
        lab.retry(1, "putting the config's settings into etcd", configure, 15)


def begin_anew() -> None:
    """Patroni of all nodes would wait for ever for the one that was cut off when it made the database: the mark that
    somebody is at it is taken away, since nobody is."""
    compare = [{"key": key("initialize"), "target": "VALUE", "result": "EQUAL", "value": ""},
               {"key": key("initialize"), "target": "CREATE", "result": "GREATER", "create_revision": "0"}]
    change = {"compare": compare, "success": [{"request_delete_range": {"key": key("initialize")}}]}
    if ask_store("txn", change).get("succeeded"):
        lab.log("Patroni was cut off when it made the database: it may begin anew")


def configure() -> None:
    wanted = json.loads(subprocess.run(["python3", "-I", "/usr/local/lib/virtwork/patroni-config.py", "dynamic"], check=True,
                                       capture_output=True, text=True).stdout)
    # Without settings the first node brings them along with the database.
    if change_settings(lambda there: merge(there, wanted)):
        lab.log("the lab's common settings are now those of the config that this node started with")
    CONFIGURED.touch()


def keep_slot(name: str, is_kept: bool) -> None:
    """The slot of another site: Patroni keeps it on every node that may lead. Not where this lab is a standby site itself."""
    change_settings(lambda there: merge(there, {"slots": {
        name: {"type": "physical", "cluster_type": "primary"} if is_kept else None}}))


def change_settings(change: Callable[[Any], Any]) -> bool:
    """Whether the settings that are there, if there are any, were others than those that they are now."""
    found = ask_store("range", {"key": key("config")}).get("kvs")
    if not found:
        return False
    there = json.loads(base64.b64decode(found[0]["value"]))
    wanted = change(there)
    if wanted == there:
        return False
    value = base64.b64encode(json.dumps(wanted).encode()).decode()
    document = {"compare": [{"key": key("config"), "target": "MOD", "result": "EQUAL",
                             "mod_revision": found[0]["mod_revision"]}],
                "success": [{"request_put": {"key": key("config"), "value": value}}]}
    if not ask_store("txn", document).get("succeeded"):
        raise ValueError("another node was faster")
    return True


def merge(there: Any, wanted: Any) -> Any:
    """What is wanted, and what is there besides; what is wanted to be nothing goes."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        both = there | {name: merge(there.get(name), value) for name, value in wanted.items()}
        return {name: value for name, value in both.items() if value is not None}
    return wanted


def ask_store(path: str, document: Any) -> Any:
    """etcd's data, of the first member that answers."""
    error: Exception = OSError("no node answers")
    for node in sorted(lab.ETCD_NODES, key=lambda name: name != lab.NODE):
        try:
            return tls.ask(node, CLIENTS, f"/v3/kv/{path}", document, seconds=5)
        except (OSError, ValueError) as failure:
            error = failure
    raise error


def prune() -> None:
    """Takes out members that are not etcd's nodes of this lab and have had no pod for ten minutes: this node's own list may
    be older than the lab. Called once a minute by the leader's watcher."""
    directory = pathlib.Path("/run/virtwork/etcd-gone")
    directory.mkdir(parents=True, exist_ok=True)
    members = tls.ask("localhost", CLIENTS, "/v3/cluster/member/list", {}) if lab.NODE in lab.ETCD_NODES else \
        ask_cluster("list", {})
    for member in members["members"]:
        name = member.get("name", "")
        mark = directory / (name or "unnamed")
        if not name or name in lab.ETCD_NODES or resolves(name):
            mark.unlink(missing_ok=True)
        elif not mark.exists():
            mark.touch()
        elif time.time() - mark.stat().st_mtime >= PRUNE_AFTER:
            lab.log(f"etcd: {name} is no longer in the lab: taking it out")
            ask_cluster("remove", {"ID": member["ID"]})
            mark.unlink()


def members() -> None:
    """For people: a line each, with what it says of itself."""
    try:
        known = tls.ask("localhost", CLIENTS, "/v3/cluster/member/list", {})["members"]
    except (OSError, ValueError):
        known = ask_cluster("list", {})["members"]
    for member in sorted(known, key=lambda member: str(member.get("name", ""))):
        name = member.get("name", "(not started)")
        try:
            status = tls.ask(name, CLIENTS, "/v3/maintenance/status", {})
            state = "leads" if status.get("leader") == member["ID"] else "follows"
            state = f"{state}, {int(status['dbSize']) >> 10} KiB" + (", has no vote yet" if status.get("isLearner") else "")
        except (OSError, ValueError) as error:
            state = f"does not answer ({error})"
        print(f"{name}: {state}")


def become_etcd(state: str, cluster: str) -> None:
    every = "[::]" if pathlib.Path("/proc/net/if_inet6").exists() else "0.0.0.0"
    files = {"cert-file": "node.crt", "key-file": "node.key", "trusted-ca-file": "ca.crt"}
    options = {
        "name": lab.NODE,
        "data-dir": DIRECTORY,
        "listen-peer-urls": f"https://{every}:{PEERS}",
        "listen-client-urls": f"https://{every}:{CLIENTS}",
        "initial-advertise-peer-urls": peer_url(lab.NODE),
        "advertise-client-urls": f"https://{lab.NODE}:{CLIENTS}",
        "initial-cluster-token": lab.LAB["LAB"],
        "initial-cluster-state": state,
        "initial-cluster": cluster,
        "heartbeat-interval": HEARTBEAT,
        "election-timeout": ELECTION,
        # Nothing here grows for ever: old revisions, WAL files (of 64 MB) and snapshots go.
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "snapshot-count": 10000,
        "max-wals": 2,
        "max-snapshots": 2,
        "logger": "zap",
        "log-level": "error",
    }
    for prefix in ("", "peer-"):
        options |= {prefix + option: tls.PKI / name for option, name in files.items()}
    arguments = [f"--{option}={value}" for option, value in options.items()]
    arguments += ["--client-cert-auth", "--peer-client-cert-auth"]
    # A peer is whoever has a certificate of the lab. Its address proves nothing more: names follow pods with a delay.
    arguments += ["--experimental-peer-skip-client-san-verification"]
    os.execvp("etcd", ["etcd", *arguments])


def main() -> None:
    if sys.argv[1:] == ["prune"]:
        try:
            prune()
        except (OSError, ValueError):
            pass
        return
    if sys.argv[1:] == ["members"]:
        try:
            members()
        except (OSError, ValueError):
            sys.exit(1)
        return
    if sys.argv[1:] == ["vote"]:
        if len(lab.ETCD_NODES) > 1:
            lab.retry(1, "waiting for a vote in etcd's cluster", vote)
        return
    if sys.argv[1:] == ["settle"]:
        settle()
        return
    if sys.argv[1:2] in (["keep-slot"], ["forget-slot"]):
        try:
            keep_slot(sys.argv[2], sys.argv[1] == "keep-slot")
        except (OSError, ValueError):
            sys.exit(1)
        return
    DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    if has_data() and was_taken_out():
        lab.log(f"etcd: the cluster has taken {lab.NODE} out: its data of then is removed")
        shutil.rmtree(DIRECTORY / "member")
    if has_data():
        # That word was for one time.
        PERMISSION.unlink(missing_ok=True)
        become_etcd("existing", f"{lab.NODE}={peer_url(lab.NODE)}")
    if found_or_join():
        lab.log("etcd: none of its nodes has its data: founding the cluster")
        become_etcd("new", f"{lab.NODE}={peer_url(lab.NODE)}")
    become_etcd("existing", lab.retry(2, "joining etcd's cluster", join))


main()
