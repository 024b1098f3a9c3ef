#!/usr/bin/python3 -I
"""What Patroni calls where it would remove data: nothing goes that may be the last copy of what was acknowledged.

virtwork-rejoin.py initialise --datadir=DIRECTORY
    makes a new database, for Patroni's bootstrap.
virtwork-rejoin.py clone --datadir=DIRECTORY --connstring=CONNINFO
    makes a copy of the leader. What lies in DIRECTORY is removed where the leader is proven to have it, else kept aside.
virtwork-rejoin.py aside --datadir=DIRECTORY --connstring=CONNINFO
    is the first half of that, for a node whose Patroni does not run.
virtwork-rejoin.py -D DIRECTORY --source-server CONNINFO [OPTION…]
    is pg_rewind, which takes back what this node wrote after the leader's history left its own. Where that holds commits
    which may have been acknowledged, a copy is kept aside first. When pg_rewind cannot do it, the leader is cloned.

Whatever is made is made beside its place and renamed. Without room for a copy nothing is touched: the program waits until
there is, and says so.

When is a commit after the fork worth a copy? Without synchronous standbys always: its client was told that it is committed.
With them a commit is acknowledged only when a standby has it, and only such a standby takes over by itself. So nothing is
copied where the one that took over was among those that this node's commits waited for, which it noted while it led: after a
hundred crashes the disk has no hundred copies of what no client was ever told. Where somebody made another node the leader, by
`patronictl failover`, there is a copy. (A session that sets synchronous_commit to local or off asks for no better.)
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import syslog
import time

MARGIN = 1 << 30
KEPT = "virtwork.kept"
WAITED_FOR = "virtwork.waited-for"
NODE = os.uname().nodename.partition(".")[0]
Position = int
# Patroni may be killed, and systemd leaves what it had started. A program that went on alone would one day find a leader, and
# the data of a server that runs by then.
BOUND = ("setpriv", "--pdeathsig", "KILL", "--")


def log(text: str) -> None:
    """To the journal at once: Patroni shows what a program printed when it has ended."""
    syslog.syslog(text)


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL,
                          env={**os.environ, "LC_ALL": "C", **(env or {})})


def number(position: str) -> Position:
    high, low = position.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def text(position: Position) -> str:
    return f"{position >> 32:X}/{position & 0xffffffff:X}"


class Unknown(Exception):
    """Something that would have to be known for a proof."""


class Data:
    """A data directory whose server does not run."""

    def __init__(self, directory: pathlib.Path, binaries: pathlib.Path):
        self.directory = directory
        self.binaries = binaries
        done = run(str(binaries / "pg_controldata"), "-D", str(directory))
        control = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
        self.control = {label: value.strip() for label, value in control.items()}
        if "Database system identifier" not in self.control:
            raise Unknown(f"pg_control of {directory} cannot be read")
        self.system = self.control["Database system identifier"]
        self.timeline = int(self.control["Latest checkpoint's TimeLineID"])
        self.start = number(self.control["Latest checkpoint location"])
        recovered = number(self.control["Minimum recovery ending location"])
        if recovered > self.start:
            self.start = recovered
            self.timeline = int(self.control["Min recovery ending loc's timeline"])

    def records(self, since: Position, *options: str) -> list[str]:
        """pg_waldump's lines from a position on to the end of what is here."""
        done = run(str(self.binaries / "pg_waldump"), "-p", str(self.directory / "pg_wal"), "-t", str(self.timeline), "-s",
                   text(since), *options)
        ended = re.search(r"invalid record length|invalid magic number|unexpected pageaddr|record with incorrect|"
                          r"invalid resource manager|invalid info bits|contrecord|incorrect (prev-link|resource)|"
                          r"out-of-sequence|could not find a valid record after", done.stderr)
        if done.returncode != 0 and not ended:
            raise Unknown(f"the WAL after {text(since)} cannot be read: {done.stderr.strip()[-200:]}")
        return done.stdout.splitlines()

    def commits(self, since: Position) -> list[str]:
        """The commits after a position: what a client may have been told."""
        lines = self.records(since, "-r", "Transaction")
        return [line for line in lines if re.search(r"desc: (COMMIT|PREPARE)", line)]

    def end(self) -> Position:
        """Where the last record begins that is here."""
        lines = self.records(number(self.control["Latest checkpoint location"]))
        if not lines:
            raise Unknown("its WAL has no record")
        found = re.search(r"lsn: ([0-9A-F]+/[0-9A-F]+)", lines[-1])
        assert found
        return max(number(found[1]), self.start)

    def newest_timeline(self) -> int:
        """Of the WAL that is here, also of what was received and is not replayed yet: pg_control says nothing of that."""
        names = (path.name for path in (self.directory / "pg_wal").iterdir())
        return max((int(name[:8], 16) for name in names if re.fullmatch(r"[0-9A-F]{24}", name)), default=0)

    def history(self) -> list[tuple[str, Position]] | None:
        """Which timelines its own came from, and where each was left; None when that is not here."""
        try:
            return forks((self.directory / f"pg_wal/{self.timeline:08X}.history").read_text())
        except OSError:
            return None

    def waited_for(self) -> set[str]:
        """The standbys that commits waited for on this timeline, where this node led. Noted beside the running leader by
        virtwork-patroni-watch.sh: Patroni's own settings are written anew before they are needed here. Copied along by
        clones and by pg_rewind, hence the node's name in it."""
        try:
            node, timeline, *names = (self.directory / WAITED_FOR).read_text().split()
        except (OSError, ValueError):
            return set()
        return set(names) if (node, timeline) == (NODE, str(self.timeline)) else set()


class Source:
    """The leader."""

    def __init__(self, conninfo: str, binaries: pathlib.Path):
        # Patroni names no database of another site.
        self.conninfo = conninfo if "dbname=" in conninfo else f"{conninfo} dbname=postgres"
        self.psql = str(binaries / "psql")
        system, timeline, flushed, _ = self.command("IDENTIFY_SYSTEM").split("|")
        self.system, self.timeline, self.flushed = system, int(timeline), number(flushed)

    def ask(self, statement: str, options: str = "") -> str:
        done = run(self.psql, "-XAtqw", "-d", f"{self.conninfo} connect_timeout=10 application_name=virtwork {options}",
                   "-c", statement, env={"PGOPTIONS": "-c statement_timeout=60s"} if not options else None)
        if done.returncode != 0:
            raise Unknown(f"the leader does not answer: {' '.join(done.stderr.split())[:200]}")
        return done.stdout.strip()

    def command(self, statement: str) -> str:
        """Of the replication protocol."""
        return self.ask(statement, "replication=database")

    def fork(self, timeline: int) -> Position | None:
        """Where the leader's history left a timeline; nothing if it never was on it."""
        return next((position for name, position in self.history() if name == str(timeline)), None)

    def history(self) -> list[tuple[str, Position]]:
        return forks(self.command(f"TIMELINE_HISTORY {self.timeline}").partition("|")[2])


def forks(history: str) -> list[tuple[str, Position]]:
    """The lines of a history file: a timeline, and where it was left."""
    lines = (line.split() for line in history.splitlines())
    return [(words[0], number(words[1])) for words in lines if len(words) > 1 and words[0].isdigit()]


def successor(timeline: int, fork: Position) -> str:
    """Who took over from a timeline at a position, by what Patroni keeps in etcd; nothing where that is not said. A new leader
    writes it down some seconds after it took over. A leader of another site may have left the timeline elsewhere."""
    sys.path.insert(0, "/usr/local/lib/virtwork")
    import lab
    import tls
    deadline = time.monotonic() + 3 * int(lab.LAB["PATRONI_LOOP_WAIT"]) + 5
    while time.monotonic() < deadline:
        try:
            for entry in tls.ask("localhost", 8008, "/history"):
                if entry[:2] == [timeline, fork] and len(entry) > 4:
                    return str(entry[4])
        except (OSError, ValueError):
            pass
        time.sleep(1)
    return ""


def is_synchronous() -> bool:
    """Whether it still is Patroni's rule that only synchronous standbys take over. What the leader noted may be two seconds
    old, but whoever is taken off its list while the rule holds does not take over either."""
    import tls
    try:
        return bool(tls.ask("localhost", 8008, "/config").get("synchronous_mode"))
    except (OSError, ValueError):
        return False


def unproven(data: Data, source: Source) -> str:
    """Why the leader may lack something of what is here; nothing when it is proven to have all that counts."""
    if data.system != source.system:
        return f"its system identifier is {data.system}, the leader's {source.system}"
    if data.timeline > source.timeline:
        return f"it is on timeline {data.timeline}, the leader on {source.timeline}"
    newest = data.newest_timeline()
    if newest > data.timeline and newest != source.timeline:
        return f"it received WAL of timeline {newest} and has not replayed it; the leader is on {source.timeline}"
    # Disks that were restored, and two sites, may bring two timelines of one number.
    history = data.history() if data.timeline > 1 else None
    if history is not None and history != [fork for fork in source.history() if int(fork[0]) < data.timeline]:
        return f"its timeline {data.timeline} began elsewhere than the leader's of that number"
    if data.timeline == source.timeline:
        end = data.end()
        return "" if end < source.flushed else f"it has WAL up to {text(end)}, the leader up to {text(source.flushed)}"
    fork = source.fork(data.timeline)
    if fork is None:
        return f"the leader never was on its timeline {data.timeline}"
    if data.start < fork and data.end() < fork:
        return ""
    commits = data.commits(fork)
    if not commits:
        log(f"nothing was committed here after the leader's history left it, at {text(fork)}")
        return ""
    next_leader = successor(data.timeline, fork)
    if next_leader in data.waited_for() and is_synchronous():
        log(f"{len(commits)} transactions were committed here after the leader's history left it, at {text(fork)}, and none "
            f"was acknowledged: commits waited for {next_leader}, which took over. They go")
        return ""
    return (f"{len(commits)} transactions were committed here after the leader's history left it, at {text(fork)}, and "
            f"{next_leader or 'somebody'} took over, for whom they did not wait")


def judge(directory: pathlib.Path, binaries: pathlib.Path, conninfo: str) -> str:
    """The same, where what cannot be known proves nothing. It waits for the leader, though."""
    said = ""
    while True:
        try:
            source = Source(conninfo, binaries)
            break
        except (Unknown, ValueError) as error:
            if str(error) != said:
                said = str(error)
                log(f"waiting for the leader: not yet, trying on ({said})")
            time.sleep(2)
    try:
        return unproven(Data(directory, binaries), source)
    except (Unknown, ValueError, KeyError, OSError) as error:
        return f"it cannot be told whether the leader has all of it ({error})"


# Copies that are kept.

def size(directory: pathlib.Path) -> int:
    """What a copy of it takes, with its WAL."""
    roots = [directory, directory / "pg_wal"] if (directory / "pg_wal").is_symlink() else [directory]
    return sum(int(run("du", "-sk", "--", f"{root}/").stdout.split()[0]) << 10 for root in roots)


def wait_for_room(directory: pathlib.Path, need: int, why: str) -> None:
    said = 0.0
    while (free := shutil.disk_usage(directory.parent).free) < need:
        if time.monotonic() - said > 600 or not said:
            log(f"stopped: {directory} is kept, because {why}; what is to be done needs {need >> 20} MiB beside it and "
                f"{free >> 20} MiB are free; nothing was touched; grow the disk, or copy what is kept here "
                f"({directory.name}.previous*) elsewhere and remove it")
            said = time.monotonic()
        time.sleep(5)


def name_of_copy(directory: pathlib.Path) -> pathlib.Path:
    copy, count = directory.with_name(directory.name + ".previous"), 1
    while copy.exists():
        count += 1
        copy = directory.with_name(f"{directory.name}.previous-{count}")
    return copy


def copied_before(directory: pathlib.Path, state: str) -> bool:
    """Whether a copy of the same state is there: an attempt that was cut off begins again."""
    return any(path.read_text() == state for path in directory.parent.glob(f"{directory.name}.previous*/{KEPT}"))


def keep_copy(directory: pathlib.Path, data: Data | None, why: str) -> None:
    state = f"{data.timeline} {text(data.end())}\n" if data else ""
    if state and copied_before(directory, state):
        return
    wait_for_room(directory, size(directory) * 11 // 10 + MARGIN, why)
    copy = name_of_copy(directory)
    log(f"keeping a copy of the data as {copy}: {why}")
    partial = directory.with_name(directory.name + ".new")
    shutil.rmtree(partial, ignore_errors=True)
    copy_tree(directory, partial)
    (partial / KEPT).write_text(state)
    os.sync()
    partial.rename(copy)
    os.sync()


def copy_tree(directory: pathlib.Path, target: pathlib.Path) -> None:
    subprocess.run([*BOUND, "cp", "-a", "--reflink=auto", "--", str(directory), str(target)], check=True)
    wal = target / "pg_wal"
    if wal.is_symlink():
        wal.unlink()
        subprocess.run([*BOUND, "cp", "-a", "--reflink=auto", "--", f"{directory / 'pg_wal'}/", str(wal)], check=True)


def wait_for_server(directory: pathlib.Path) -> None:
    """Until no server runs with the data that is to go."""
    said = False
    while is_running(directory):
        if not said:
            log(f"waiting: a server runs with {directory}; nothing is touched while it does")
            said = True
        time.sleep(2)


def is_running(directory: pathlib.Path) -> bool:
    try:
        pid = (directory / "postmaster.pid").read_text().split()[0]
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
    except (OSError, IndexError):
        return False


def remove(directory: pathlib.Path, wal_mount: str) -> None:
    """With its WAL, unless another directory here has the same: a copy that was cut off still points to where it is from."""
    wal = directory / "pg_wal"
    if wal_mount and wal.is_symlink() and wal.resolve().parent == pathlib.Path(wal_mount):
        others = {path.resolve() for path in directory.parent.glob("*/pg_wal") if path != wal}
        if wal.resolve() not in others:
            shutil.rmtree(wal.resolve(), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


# New data directories.

def wal_options(wal_mount: str) -> list[str]:
    if not wal_mount:
        return []
    for path in pathlib.Path(wal_mount).glob("pg_wal.*"):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return ["--waldir=" + run("mktemp", "-d", f"{wal_mount}/pg_wal.XXXXXX").stdout.strip()]


def adopt(directory: pathlib.Path) -> None:
    if directory.exists() and not any(directory.iterdir()):
        directory.rmdir()
    os.sync()
    directory.with_name(directory.name + ".new").rename(directory)
    os.sync()


def from_archive(what: str, directory: pathlib.Path, wal_mount: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Data made of a base backup, in the place of a new directory."""
    partial = directory.with_name(directory.name + ".new")
    remove(partial, wal_mount)
    wal = "".join(wal_options(wal_mount)).replace("--waldir=", "")
    done = run(*BOUND, "/usr/local/sbin/virtwork-archive", what, str(partial), wal, *words)
    for line in done.stderr.splitlines():
        log(line)
    return done


def initialise(directory: pathlib.Path, binaries: pathlib.Path, wal_mount: str) -> None:
    partial = directory.with_name(directory.name + ".new")
    directory.parent.mkdir(parents=True, exist_ok=True)
    if "RESTORE_FROM" in lab_values():
        log("making this lab from an archive")
        # Patroni begins a bootstrap that failed anew, and would remove what is there: there is nothing.
        if from_archive("lab", directory, wal_mount).returncode != 0:
            time.sleep(30)
            sys.exit(1)
        adopt(directory)
        return
    log(f"initialising {directory}")
    remove(partial, wal_mount)
    subprocess.run([str(binaries / "initdb"), "-D", str(partial), "--auth-local=peer", "--auth-host=scram-sha-256",
                    "--data-checksums", "--locale=C.UTF-8", "--encoding=UTF8", *wal_options(wal_mount)],
                   check=True, stdout=subprocess.DEVNULL)
    adopt(directory)


def set_aside(directory: pathlib.Path, binaries: pathlib.Path, wal_mount: str, conninfo: str) -> None:
    why = judge(directory, binaries, conninfo)
    wait_for_server(directory)
    if why:
        # A clone takes about as much as what is here.
        wait_for_room(directory, size(directory) * 11 // 10 + MARGIN, why)
        copy = name_of_copy(directory)
        log(f"keeping the data as {copy}: {why}")
        directory.rename(copy)
        os.sync()
    else:
        log(f"removing {directory}: the leader has all of it")
        discard = directory.with_name(directory.name + ".discard")
        directory.rename(discard)
        remove(discard, wal_mount)


def clone(directory: pathlib.Path, binaries: pathlib.Path, wal_mount: str, conninfo: str) -> None:
    """Never fails: Patroni would remove what is here."""
    if directory.exists() and any(directory.iterdir()):
        set_aside(directory, binaries, wal_mount, conninfo)
    attempt = 0
    while True:
        started = time.monotonic()
        failure = clone_once(directory, binaries, wal_mount, conninfo)
        if not failure:
            log(f"the clone is complete after {time.monotonic() - started:.0f} s")
            return
        attempt += 1
        log(f"cloning: attempt {attempt} failed ({failure})")
        time.sleep(min(2 ** attempt, 30))


def slot_at(conninfo: str) -> str:
    """The slot of this node at a server: that of the whole site at the one of another site."""
    sys.path.insert(0, "/usr/local/lib/virtwork")
    import lab
    host = re.search(r"(?:^| )host='?([^' ]+)", conninfo)
    is_upstream = host is not None and host[1] == lab.LAB.get("UPSTREAM_HOST")
    return (lab.LAB["LAB"] if is_upstream else NODE).replace("-", "_")


def clone_once(directory: pathlib.Path, binaries: pathlib.Path, wal_mount: str, conninfo: str) -> str:
    slot = slot_at(conninfo)
    partial = directory.with_name(directory.name + ".new")
    directory.parent.mkdir(parents=True, exist_ok=True)
    remove(partial, wal_mount)
    try:
        source = Source(conninfo, binaries)
        # Anew, so that it holds back what the clone needs, whatever it held before.
        source.ask(f"SELECT pg_drop_replication_slot('{slot}') FROM pg_replication_slots WHERE slot_name = '{slot}'")
        source.ask(f"SELECT pg_create_physical_replication_slot('{slot}', true)")
    except (Unknown, ValueError) as error:
        # Another site that does not answer may have left all that is needed in the archive that both have.
        if slot != NODE.replace("-", "_") and "ARCHIVE_TYPE" in lab_values() and \
                from_archive("standby", directory, wal_mount, "any").returncode == 0:
            (partial / KEPT).unlink(missing_ok=True)
            adopt(directory)
            return ""
        return str(error)
    # The archive comes first where there is one.
    if "ARCHIVE_TYPE" in lab_values() and from_archive("standby", directory, wal_mount, source.system).returncode == 0:
        (partial / KEPT).unlink(missing_ok=True)
        adopt(directory)
        return ""
    remove(partial, wal_mount)
    log(f"cloning the leader into {directory} through the slot {slot}")
    # Under another name than the member's: what receives the WAL of a clone is no standby that a commit may wait for.
    name = f"clone of {slot}"
    done = run(*BOUND, str(binaries / "pg_basebackup"), "--no-password", "-D", str(partial), "-X", "stream", "-S", slot,
               "--checkpoint=fast", "-d", f"{conninfo} connect_timeout=10 application_name='{name}'", *wal_options(wal_mount))
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
    (partial / KEPT).unlink(missing_ok=True)
    adopt(directory)
    return ""


def rewind(arguments: list[str], binaries: pathlib.Path, wal_mount: str) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-D", dest="data")
    parser.add_argument("--source-server", dest="source")
    options, _ = parser.parse_known_args(arguments)
    program = str(binaries / "pg_rewind")
    if not options.data or not options.source:
        os.execv(program, [program, *arguments])
    directory = pathlib.Path(options.data)
    why = judge(directory, binaries, options.source)
    if why:
        try:
            data: Data | None = Data(directory, binaries)
        except Unknown:
            data = None
        keep_copy(directory, data, why)
    if (directory / "backup_label").exists():
        # pg_rewind would recover it alone first, without what makes it a standby.
        log("this is a copy that was never started: cloning the leader instead")
    else:
        done = run(*BOUND, program, *arguments)
        print(done.stdout, end="", flush=True)
        print(done.stderr, end="", file=sys.stderr, flush=True)
        if done.returncode == 0:
            log("rewound to the leader's history")
            return 0
        log(f"pg_rewind failed ({done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no reason given'}): cloning "
            "the leader instead")
    wait_for_server(directory)
    discard = directory.with_name(directory.name + ".discard")
    directory.rename(discard)
    remove(discard, wal_mount)
    clone(directory, binaries, wal_mount, options.source)
    return 0


def main() -> int:
    syslog.openlog("virtwork-rejoin")
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--datadir", default="")
    parser.add_argument("--connstring", default="")
    words = sys.argv[1:]
    binaries = pathlib.Path(family("binary_directory"))
    # Where the WAL disk is mounted, if there is one.
    wal_mount = family("! mountpoint -q $WAL_MOUNT || echo $WAL_MOUNT")
    if words[:1] not in (["aside"], ["clone"], ["initialise"]):
        return rewind(words, binaries, wal_mount)
    options, _ = parser.parse_known_args(words[1:])
    directory = pathlib.Path(options.datadir)
    if words[0] == "initialise":
        initialise(directory, binaries, wal_mount)
    elif words[0] == "aside":
        set_aside(directory, binaries, wal_mount, options.connstring)
    else:
        clone(directory, binaries, wal_mount, options.connstring)
    return 0


def lab_values() -> dict[str, str]:
    sys.path.insert(0, "/usr/local/lib/virtwork")
    import lab
    return lab.LAB


def family(command: str) -> str:
    return run("bash", "-c", f". /usr/local/lib/virtwork/family.sh; {command}").stdout.strip()


if __name__ == "__main__":
    if os.environ.get("VIRTWORK_BOUND") != "yes":
        os.environ["VIRTWORK_BOUND"] = "yes"
        os.execvp(BOUND[0], [*BOUND, sys.executable, "-I", *sys.argv])
    sys.exit(main())
