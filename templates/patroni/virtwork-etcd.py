#!/usr/bin/python3 -I
"""Becomes etcd, once it is known which cluster this node belongs to.

A node with etcd's data just goes on. One without may be new, or may have lost its disk: if it simply came back under its old
identity, it would have forgotten what it had voted for, and the cluster what was decided. So
- the first node founds the cluster, and only when every other one of etcd's nodes says that it has neither etcd's data nor a
  database: a node that is not there may have both. Until then each node without etcd's data says so on etcd's own port.
- all others, and the first one when it lost its disk, are taken in as new members: whoever had their name is taken out first.
"""

from __future__ import annotations

import base64
import http.server
import json
import math
import os
import pathlib
import shutil
import signal
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
    # Called again beside a server that runs: its watcher reads the mark then, and has more to do than to wait.
    is_running = in_shell(IS_RUNNING).returncode == 0
    if MARK.exists() and not is_running:
        lab.retry(5, "waiting for the archive's mark of the site that takes writes", check_mark, math.inf)
    if not CONFIGURED.exists():
        lab.retry(1, "putting the config's settings into etcd", configure, 15)
    if "UPSTREAM_HOST" in lab.LAB and has_database() and not is_running:
        lab.retry(2, "comparing this node's data with the other site's", step_aside, math.inf)


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
    if change_settings(lambda there: merge(there, {**wanted, **site_settings(there, wanted["standby_cluster"])})):
        lab.log("the lab's common settings are now those of the config that this node started with")
    CONFIGURED.touch()


# Sites. What one *is* stands in etcd, never in the config alone: a site that takes writes becomes a standby only when the other
# one has gone on with its data, and a standby site takes over only when the other one is proven to take no writes, or a person
# says so. `standby_cluster` without a host is a site that had to stop and does not follow anybody yet: Patroni then has no primary.
# Its servers show that by their restore_command, which proves more than that they are standbys: so is a leader to be.
# `virtwork_outlasts` is the site that this one took over from without a proof, `virtwork_took_over` the timeline that it last took
# over with. Numbers of timelines say little else here, because each start of a whole lab under Patroni begins one: marks and
# demands of other sites are compared with that one, and a site that takes over without a proof leaves some out.

STOPPED = {"restore_command": "/bin/false", "create_replica_methods": ["virtwork"]}
MARK = pathlib.Path("/usr/local/sbin/virtwork-site-mark")
# A person's word, for this boot. Where those that run here can see it, who are not root.
WITHOUT_MARK = pathlib.Path("/run/postgresql/virtwork.without-site-mark")
WITHOUT_COMPARISON = pathlib.Path("/run/postgresql/virtwork.without-comparison")
# What another site had said of its history when this node's data was compared with it.
COMPARED = data_mount() / "virtwork.compared"
# As many as the other site may begin by itself until it hears of this one.
LEFT_OUT = 16
NO_TIMELINE = "left out by virtwork"
# As in labs by hand: a primary reads the mark every ten seconds, and that may take it a while.
SECONDS_FOR_MARK = 45


def site_settings(there: Any, wanted: Any) -> dict[str, Any]:
    """What becomes of `standby_cluster`, and of the note beside it, by a config that this node started with."""
    former, note = there.get("standby_cluster"), there.get("virtwork")
    as_it_is = {"standby_cluster": former, "virtwork": note}
    follows = {"virtwork": None, "virtwork_outlasts": None, "slots": slots_of_sites(there, "primary")}
    if former and former.get("host"):
        if wanted and lab.LAB["UPSTREAM_PROMOTE"] == "yes":
            return promotion(former, by_force=False)
        if not wanted:
            lab.log(f"this site goes on following {former['host']}, although the config has no `upstream`: `virtwork-promote` has "
                    "it take writes")
            return as_it_is
        return {"standby_cluster": instead(former, wanted), "virtwork": note}
    if former:
        if not wanted or lab.LAB["UPSTREAM_PROMOTE"] == "yes":
            lab.log(f"nothing is written here any more: the site {note} has taken over; give the config an `upstream`, apply it and "
                    "restart the VMs")
            return as_it_is
        # Two sites that follow each other would have no way out but --force.
        if has_database():
            state, timeline = facts(wanted)
            if state != "primary":
                raise ValueError(f"the site {note} has taken over, and {wanted['host']} takes no writes yet ({state})")
            # Patroni goes by numbers, and would have it go on from data that only looks alike.
            if relation(wanted, timeline, own_timeline()) == "elsewhere":
                raise ValueError(f"timeline {own_timeline()} of this site began elsewhere than that of {wanted['host']}, and Patroni cannot "
                                 "tell the two apart. Have this site made anew: stop all its VMs, keep their data disks, the witness's "
                                 "too, for what only they have, and start all of them with blank ones")
        lab.log(f"this site follows {wanted['host']} from now on")
        return {"standby_cluster": instead(former, wanted), **follows}
    if wanted and lab.LAB["UPSTREAM_PROMOTE"] != "yes":
        state, timeline = facts(wanted)
        if state == "primary" and timeline > (own := own_timeline()) and relation(wanted, timeline, own) == "same":
            lab.log(f"{wanted['host']} has gone on with this lab's data, on timeline {timeline}: this site follows it from now on")
            return {"standby_cluster": wanted, **follows}
        lab.log(f"the config has `upstream`, and this site takes writes: it goes on, because {wanted['host']} has not gone on with "
                f"its data ({state})")
    return as_it_is


def slots_of_sites(there: Any, cluster_type: str | None) -> Any:
    """Kept by primaries alone, or also by a site that had to stop: the other one has the rest of its WAL through it."""
    return {name: {"cluster_type": cluster_type} for name in there.get("slots") or {}} or None


def instead(former: Any, wanted: Any) -> Any:
    """For merge(), which would leave what only the former had."""
    return dict.fromkeys(former) | wanted


def relation(site: Any, timeline: int, own: int) -> str:
    """Of this site's timeline to the history of another site: `same` where that has it, `unknown` where it has none of that number,
    `elsewhere` where it has one that began elsewhere. Each start of a whole lab under Patroni begins a timeline."""
    return compare(history_of(site, timeline), timeline, own)


def history_of(site: Any, timeline: int) -> list[tuple[str, str]]:
    return forks(ask(site, f"SELECT convert_from(pg_read_binary_file('pg_wal/{timeline:08X}.history'), 'UTF8')")) if timeline > 1 else []


def compare(theirs: list[tuple[str, str]], timeline: int, own: int) -> str:
    if str(own) not in [*(name for name, _ in theirs), str(timeline)]:
        return "unknown"
    return "same" if [fork for fork in theirs if int(fork[0]) < own] == own_history(own) else "elsewhere"


def own_history(own: int) -> list[tuple[str, str]]:
    if own == 1:
        return []
    done = in_shell(f'cat "$PGDATA/pg_wal/{own:08X}.history"')
    if done.returncode != 0:
        raise ValueError(f"the history of timeline {own} is not here")
    return forks(done.stdout)


def forks(history: str) -> list[tuple[str, str]]:
    """The lines of a history file: a timeline, and where it was left."""
    lines = (line.split() for line in history.splitlines())
    return [(words[0], words[1]) for words in lines if len(words) > 1 and words[0].isdigit()]


def promotion(former: Any, by_force: bool, note: str = "") -> dict[str, Any]:
    """The settings of a site that takes over. Two must not take writes together: ValueError until the other one is proven not to."""
    timeline = own_timeline()
    is_proven = False
    if former.get("host"):
        state, theirs = facts(former)
        if state == "primary":
            lab.log(f"asking {former['host']} to take no more writes")
            since = ask(former, f"SELECT pg_current_wal_insert_lsn() FROM virtwork.yield_to('{lab.LAB['LAB']}', {timeline + 1})")
            is_proven = wait_until_stopped(former, by_force, since)
        elif state == "stopped":
            is_proven = theirs == timeline and has_all_of(former)
            if not by_force and not is_proven:
                raise ValueError(f"{former['host']} takes no writes any more; its last WAL has not arrived here")
        elif state == "standby" and not by_force:
            raise ValueError(f"{former['host']} is a standby, and has not stopped for this site: it, or whom it follows, may take writes "
                             "soon; try again, or stop it and give `virtwork-promote --force`")
        elif not by_force and not MARK.exists():
            raise ValueError(f"nothing proves that {former['host']} takes no writes any more ({state}): stop it first, and then give "
                             "`virtwork-promote --force`")
    elif not by_force:
        raise ValueError("another site has taken over from this one: let it follow that first, or give `virtwork-promote --force`")
    # Beyond what this site was asked to stop for, and what the archive says.
    timeline = max(timeline, int(note.rpartition(" ")[2]) if note else 0)
    if MARK.exists():
        timeline = max(timeline, newest_mark(timeline, by_force))
    takes_over = timeline + 1 + (0 if is_proven else LEFT_OUT)
    if MARK.exists():
        write_mark(takes_over, by_force, is_proven)
    lab.log(f"this site takes over, with timeline {takes_over}")
    return {"standby_cluster": None, "virtwork": None, "virtwork_took_over": takes_over,
            "virtwork_outlasts": {"host": former["host"], "port": former["port"]} if former.get("host") and not is_proven else None}


def leave_out() -> None:
    """Before Patroni promotes a server: its timeline is to have the number that this site takes over with, and PostgreSQL takes the one
    after the newest history that it finds. Histories that are left out say that this timeline was left where it began: no server
    that is on it goes on with one of them, as one could to whom they come before the real one. None starts with them alone, so
    virtwork-postgres.sh removes them where the promotion did not follow."""
    took_over = int(tls.ask("localhost", 8008, "/config", seconds=2).get("virtwork_took_over") or 0)
    if not took_over or took_over <= (own := own_timeline()) + 1:
        return
    begun = own_history(own)
    lines = [*begun, (str(own), begun[-1][1] if begun else "0/1000000")]
    history = "".join(f"{name}\t{position}\t{NO_TIMELINE}\n" for name, position in lines)
    wal = pathlib.Path(local("SHOW data_directory")) / "pg_wal"
    for timeline in range(own + 1, took_over):
        path = wal / f"{timeline:08X}.history"
        if not path.exists():
            with open(path.with_suffix(".virtwork"), "w") as file:
                file.write(history)
                file.flush()
                os.fsync(file.fileno())
            os.rename(file.name, path)
    directory = os.open(wal, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    lab.log(f"leaving out the timelines from {own + 1} to {took_over - 1}")


IS_RUNNING = 'read -r pid <"$PGDATA/postmaster.pid" && [[ $(</proc/$pid/comm) == postgres ]]'


def step_aside() -> None:
    """Before a server starts that was away when its site began to follow another one: as in site_settings(). Nobody compares it later,
    so it waits for the other site, unless the data is of a timeline that was compared before."""
    site = settings_there().get("standby_cluster") or {}
    if not site.get("host"):
        return
    own = max(int(control(label)) for label in ("Latest checkpoint's TimeLineID", "Min recovery ending loc's timeline"))
    try:
        state, timeline = facts(site)
        if state not in ("primary", "standby", "stopped"):
            raise ValueError(state)
        history = history_of(site, timeline)
        found = compare(history, timeline, own)
    except ValueError as error:
        if was_compared(site, own) or WITHOUT_COMPARISON.exists():
            return
        raise ValueError(f"{error}; where you know that the data here is of that site's history, go on with `touch {WITHOUT_COMPARISON}`"
                         ) from None
    if found == "elsewhere":
        lab.log(f"timeline {own} of this node began elsewhere than that of {site['host']}")
        words = " ".join(f"{name}={value}" for name, value in connection(site).items())
        in_shell(f'/usr/local/sbin/virtwork-rejoin.py aside "--datadir=$PGDATA" "--connstring={words}"')
    else:
        note_comparison(site, timeline, history)


def whose(site: Any) -> list[Any]:
    return [site["host"], site["port"], control("Database system identifier")]


def note_comparison(site: Any, timeline: int, history: list[tuple[str, str]]) -> None:
    beside = COMPARED.with_suffix(".new")
    beside.write_text(json.dumps({"site": whose(site), "timeline": timeline, "history": history}))
    beside.rename(COMPARED)


def compared() -> Any:
    try:
        return json.loads(COMPARED.read_text())
    except (OSError, ValueError):
        return {}


def was_compared(site: Any, own: int) -> bool:
    note = compared()
    try:
        return note.get("site") == whose(site) and compare([(name, position) for name, position in note["history"]], note["timeline"],
                                                           own) == "same"
    except ValueError:
        return False


def keep_comparison() -> None:
    """Beside a standby that streams: it may have been made just now, or the other site has begun a timeline meanwhile."""
    site = settings_there().get("standby_cluster") or {}
    if site.get("host"):
        note = compared()
        state, timeline = facts(site)
        if state == "primary" and [note.get("site"), note.get("timeline")] != [whose(site), timeline]:
            history = history_of(site, timeline)
            if compare(history, timeline, own_timeline()) == "same":
                note_comparison(site, timeline, history)


def write_mark(timeline: int, by_force: bool, is_proven: bool) -> None:
    done = subprocess.run([str(MARK), "write", lab.LAB["LAB"], local("SELECT system_identifier FROM pg_control_system()"),
                           str(timeline)], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0 and not by_force:
        raise ValueError(f"the archive does not take the mark of this site ({' '.join(done.stderr.split())[-200:]})")
    if done.returncode == 0 and not is_proven and not by_force:
        lab.log(f"waiting {SECONDS_FOR_MARK} s, in which a primary of the other site reads the mark and stops")
        time.sleep(SECONDS_FOR_MARK)


def newest_mark(timeline: int, by_force: bool) -> int:
    """The timeline of another site's mark that is newer than what is here, else 0."""
    try:
        mark = read_mark()
    except ValueError as error:
        if by_force:
            return 0
        raise ValueError(f"the archive does not say which site takes writes ({error})") from None
    if not mark or mark[0] == lab.LAB["LAB"] or mark[1] != local("SELECT system_identifier FROM pg_control_system()") or mark[2] <= timeline:
        return 0
    if not by_force:
        raise ValueError(f"by the archive's mark the site {mark[0]} took over on timeline {mark[2]}, and this one is on {timeline}: let it "
                         "follow first")
    return mark[2]


def wait_until_stopped(site: Any, by_force: bool, since: str) -> bool:
    """After it was asked, up to a position: whether it is proven to have stopped. A site by hand shuts its server down, which sends
    everything before; under Patroni it comes back in some seconds as a standby, and sends what it has then. A shutdown alone may be
    that of a switchover there."""
    state, gone = "", 0
    for _ in range(60):
        state, theirs = facts(site)
        try:
            if state == "stopped" and theirs == own_timeline() and has_all_of(site):
                return True
        except ValueError:
            # When it comes back its Service leads nowhere for a moment.
            pass
        gone = 0 if state in ("primary", "stopped", "standby") else gone + 1
        # It gets time to come back.
        if gone >= 5 and ends_with_shutdown(since) or gone == 15 and by_force:
            return False
        if gone == 15:
            raise ValueError(f"{site['host']} was asked to take no more writes, and does not answer since ({state}); the WAL here does not "
                             "end with its shutdown, so what it wrote last may be missing: try again when it answers, or stop it and "
                             "give `virtwork-promote --force`")
        time.sleep(2)
    raise ValueError(f"{site['host']} was asked to take no more writes some minutes ago, and still is a {state}: stop it first")


def has_all_of(site: Any) -> bool:
    """Whether all WAL of a standby is here, when it has replayed what it has."""
    replayed = []
    for _ in range(2):
        replayed.append(ask(site, "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')"))
        time.sleep(1)
    received = local(f"SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) >= '{replayed[1]}'")
    return replayed[0] == replayed[1] and received == "t"


def ends_with_shutdown(since: str) -> bool:
    """Whether the last record here is that of an orderly shutdown after a position."""
    if local(f"SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) > '{since}'") != "t":
        return False
    end = local("SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())")
    high, low = (int(half, 16) for half in end.split("/"))
    # From the beginning of its page, where a shutdown's record is alone with what is before it.
    start = f"{high:X}/{max(low - 1, 0) >> 20 << 20:X}"
    return "CHECKPOINT_SHUTDOWN" in in_shell(
        f'pg_waldump -p "$PGDATA/pg_wal" -t {own_timeline()} -s {start} -e {end} 2>/dev/null | tail -n 1').stdout


def promote(by_force: bool) -> None:
    """By hand."""
    def change(there: Any) -> Any:
        former = there.get("standby_cluster")
        if not former:
            raise ValueError("this site follows no other one")
        return merge(there, promotion(former, by_force, there.get("virtwork") or ""))

    if not change_settings(change):
        raise ValueError("etcd has no settings of this site yet")


def outlast() -> None:
    """Beside the leader of a site that took over while the other one was away: it has to stop when it is back. Where nothing had
    proven that it took no writes, it may have a newer timeline by its own."""
    note = settings_there().get("virtwork_outlasts")
    if not note and "UPSTREAM_HOST" not in lab.LAB:
        return
    site = note or {"host": lab.LAB["UPSTREAM_HOST"], "port": lab.LAB["UPSTREAM_PORT"]}
    state, timeline = facts(site)
    own = own_timeline()
    if state == "primary" and (note or timeline < own):
        lab.log(f"{site['host']} still takes writes, on timeline {timeline}: asking it to stop")
        ask(site, f"SELECT virtwork.yield_to('{lab.LAB['LAB']}', {max(own, timeline + 1)})")
    # A standby may be about to lead, since each start of a whole lab begins with standbys: but not one of this site's own timeline.
    elif note and (state == "stopped" or state == "standby" and timeline == own and relation(site, timeline, own) == "same"):
        change_settings(lambda there: merge(there, {"virtwork_outlasts": None}))


def stop_site(site: str, timeline: str) -> None:
    """Another site has taken over: Patroni has no primary from its next look on, and serves what is here to standbys. A config that
    has an `upstream` counts from then on."""
    change_settings(lambda there: there if there.get("standby_cluster") else
                    merge(there, {"standby_cluster": STOPPED, "virtwork": f"{site} on timeline {timeline}",
                                  "slots": slots_of_sites(there, None)}))
    if lab.LAB.get("UPSTREAM_PROMOTE") == "no":
        CONFIGURED.unlink(missing_ok=True)


def read_mark() -> tuple[str, str, int] | None:
    """Site, system identifier and timeline; None where there is no mark. ValueError when the archive does not say."""
    try:
        done = subprocess.run([str(MARK), "read"], capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        raise ValueError("no answer of the archive within 60 s") from None
    # A program that breaks off ends with 1, too, but not without a word.
    if done.returncode == 1 and not done.stdout + done.stderr:
        return None
    if done.returncode != 0:
        raise ValueError(" ".join(done.stderr.split())[-200:])
    mark = json.loads(done.stdout)
    return str(mark["site"]), str(mark["system"]), int(mark["timeline"])


def check_mark() -> None:
    """Before this site takes writes at its start: whether the archive says that another one has taken over meanwhile."""
    there = settings_there()
    if not there or there.get("standby_cluster"):
        return
    try:
        mark = read_mark()
    except ValueError as error:
        if WITHOUT_MARK.exists():
            return
        raise ValueError(f"{error}; where you know that no other site takes writes, go on with `touch {WITHOUT_MARK}`") from None
    obey(mark, control("Database system identifier"), int(control("Latest checkpoint's TimeLineID")))


def obey(mark: tuple[str, str, int] | None, system: str, timeline: int) -> None:
    # Numbers rise here with each start of the whole lab: what counts is whether this site took over after that mark.
    took_over = int(settings_there().get("virtwork_took_over") or 0)
    if mark and mark[0] != lab.LAB["LAB"] and mark[1] == system and mark[2] >= took_over:
        lab.log(f"the site {mark[0]} has taken over on timeline {mark[2]}, this one is on {timeline}: it takes no writes any more")
        stop_site(mark[0], str(mark[2]))


def control(label: str) -> str:
    """Of the data that is here, whose server may not run."""
    text = in_shell('pg_controldata -D "$PGDATA"').stdout
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(f"{label}:")), "0")


def in_shell(command: str) -> subprocess.CompletedProcess[str]:
    """With PostgreSQL's programs, and PGDATA."""
    return subprocess.run(["bash", "-c", f". /usr/local/lib/virtwork/lib.sh; find_binaries; {command}"], capture_output=True, text=True,
                          check=False, env={**os.environ, "LC_ALL": "C"})


def own_timeline() -> int:
    return int(local("SELECT CASE WHEN pg_is_in_recovery() THEN greatest(timeline_id, min_recovery_end_timeline, received_tli) ELSE "
                     "('x' || substr(pg_walfile_name(CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END), 1, 8))::bit(32)::int END "
                     "FROM pg_control_checkpoint() CROSS JOIN pg_control_recovery() LEFT JOIN pg_stat_get_wal_receiver() ON true"))


def facts(site: Any) -> tuple[str, int]:
    """`primary`, `stopped`, `standby`, or why it cannot be told, and the timeline. Of other data than this site's it says so."""
    try:
        system, timeline, state = ask(site, f"""
            SELECT system_identifier, CASE WHEN pg_is_in_recovery() THEN timeline_id ELSE ('x' || substr(pg_walfile_name(
                CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END), 1, 8))::bit(32)::int END,
              CASE WHEN NOT pg_is_in_recovery() THEN 'primary'
                WHEN current_setting('restore_command') = '{STOPPED["restore_command"]}' THEN 'stopped' ELSE 'standby' END
            FROM pg_control_system(), pg_control_checkpoint()""").split("|")
    except ValueError as error:
        return str(error), 0
    if system != control("Database system identifier"):
        return "its data is of another system", 0
    return state, int(timeline)


def local(statement: str) -> str:
    """ValueError while the server of this node takes no queries."""
    return query({"host": "/run/postgresql", "dbname": "postgres"}, statement, "postgres")


def ask(site: Any, statement: str) -> str:
    """Of the primary of another site, as the nodes here reach it."""
    return query({**connection(site), "connect_timeout": "5"}, statement)


def connection(site: Any) -> dict[str, str]:
    found = json.loads(pathlib.Path("/run/postgresql/virtwork.patroni.yml").read_text())["postgresql"]["authentication"]
    words = {name: str(value) for name, value in found["replication"].items() if name.startswith("ssl")}
    return {"host": str(site["host"]), "port": str(site["port"]), "user": "replicator", "dbname": "postgres", **words}


def query(words: dict[str, str], statement: str, user: str = "") -> str:
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user and os.geteuid() == 0 else []
    try:
        done = subprocess.run([*become, "psql", "-XAtqw", "-d", " ".join(f"{name}='{value}'" for name, value in words.items()), "-c",
                               statement], capture_output=True, text=True, check=False, timeout=30,
                              env={**os.environ, "LC_ALL": "C", "PGPASSFILE": "/run/postgresql/virtwork.pgpass"})
    except subprocess.TimeoutExpired:
        raise ValueError("no answer within 30 s") from None
    if done.returncode != 0:
        raise ValueError(" ".join(done.stderr.split())[-200:])
    return done.stdout.strip()


def keep_slot(name: str, is_kept: bool) -> None:
    """The slot of another site: Patroni keeps it on every node that may lead. Not where this lab follows another one itself."""
    change_settings(lambda there: merge(there, {"slots": {
        name: {"type": "physical", "cluster_type": "primary"} if is_kept else None}}))


def yields(timeline: str) -> None:
    """Beside a leader: whether another site has asked this one to stop, after this one took over itself. That is noted in the database,
    too, which needs no etcd then."""
    own = lab.LAB["LAB"]
    found = local(f"SELECT site || '|' || timeline FROM virtwork.sites WHERE site <> '{own}' AND timeline > coalesce((SELECT timeline "
                  f"FROM virtwork.sites WHERE site = '{own}'), 0) ORDER BY timeline DESC LIMIT 1")
    if not found:
        return
    site, theirs = found.split("|")
    took_over = int(settings_there().get("virtwork_took_over") or 0)
    if took_over >= int(theirs):
        local(f"SET synchronous_commit = local; INSERT INTO virtwork.sites (site, timeline) VALUES ('{own}', {took_over}) "
              "ON CONFLICT (site) DO UPDATE SET timeline = excluded.timeline, at = clock_timestamp()")
        return
    lab.log(f"the site {site} has taken over on timeline {theirs}, this one is on {timeline}: it takes no writes any more")
    stop_site(site, theirs)


def keep_number(timeline: int) -> None:
    """Beside a leader: the number that this site took over with is a lower one where not all could be left out. Demands of other sites
    would be taken for older ones."""
    if int(settings_there().get("virtwork_took_over") or 0) > timeline:
        change_settings(lambda there: merge(there, {"virtwork_took_over": timeline}))
        if MARK.exists():
            write_mark(timeline, True, True)


def archive_left_out() -> None:
    """Beside a leader with an archive: who has that alone looks for histories without a gap. The first one comes last, when the real
    one is there that follows on them: none would start with less."""
    if local("SHOW archive_mode") == "off":
        return
    wal = pathlib.Path(local("SHOW data_directory")) / "pg_wal"
    left_out = {int(path.stem, 16) for path in wal.glob("????????.history") if path.read_text().endswith(f"{NO_TIMELINE}\n")}

    def marked(timeline: int, suffix: str) -> pathlib.Path:
        return wal / f"archive_status/{timeline:08X}.history.{suffix}"

    for timeline in left_out:
        last = timeline
        while timeline - 1 not in left_out and last in left_out:
            last += 1
        if all(marked(later, "done").exists() for later in range(timeline + 1, last + 1)) and not (
                marked(timeline, "done").exists() or marked(timeline, "ready").exists()):
            marked(timeline, "ready").touch()
            if os.geteuid() == 0:
                shutil.chown(marked(timeline, "ready"), "postgres", "postgres")


def lead(timeline: str) -> None:
    """Beside a leader, every ten seconds: what cannot be said now is said later."""
    def heed_demands() -> None:
        keep_number(int(timeline))
        yields(timeline)

    def heed_mark() -> None:
        if MARK.exists():
            obey(read_mark(), local("SELECT system_identifier FROM pg_control_system()"), int(timeline))

    for step in (heed_demands, heed_mark, outlast, archive_left_out):
        try:
            step()
        except (OSError, ValueError):
            pass


def settings_there() -> Any:
    """Those that etcd has; none before there are any."""
    found = ask_store("range", {"key": key("config")}).get("kvs")
    return json.loads(base64.b64decode(found[0]["value"])) if found else {}


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


def too_late(number: int, frame: Any) -> None:
    raise TimeoutError("no answer within 5 s")


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
    if sys.argv[1:2] == ["promote"]:
        try:
            promote(sys.argv[2:] == ["--force"])
        except (OSError, ValueError) as error:
            sys.exit(f"virtwork-promote: {error}")
        return
    if sys.argv[1:2] == ["lead"]:
        lead(sys.argv[2])
        return
    if sys.argv[1:] == ["leave-out"]:
        # Patroni does not promote where this fails, and its leader's office ends.
        signal.signal(signal.SIGALRM, too_late)
        signal.alarm(5)
        try:
            leave_out()
        except Exception as error:
            lab.log(f"warning: not all timelines are left out that should be: {error}")
        signal.alarm(0)
        return
    if sys.argv[1:] == ["keep-comparison"]:
        try:
            keep_comparison()
        except (OSError, ValueError):
            pass
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
