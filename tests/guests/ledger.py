#!/usr/bin/python3
"""Tells the ledger's program truths about two PostgreSQL servers of this machine, and compares what it says of them.

    tests/guests/ledger.py        needs root, PostgreSQL's server, nft

All of it runs in namespaces of its own, which end with it: network, mounts and processes.
"""

import contextlib
import glob
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
WORK = pathlib.Path("/run/virtwork-ledger-test")
BINARIES = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]), default="/usr/bin")
NODES = {"db-primary-0": "127.0.0.11", "db-replica-0": "127.0.0.12"}
RECORDS = pathlib.Path("/var/lib/virtwork/ledger")
LAB = """LAB=db
NODES_HOST=db-nodes
REPLICA_COUNT=1
LEDGER_RATE={rate}
LEDGER_READ_RATE=20
LEDGER_RETAIN={retain}
"""
SETTINGS = """
listen_addresses = '{address}'
unix_socket_directories = ''
fsync = off
wal_keep_size = '256MB'
wal_receiver_timeout = '3s'
wal_retrieve_retry_interval = '200ms'
hot_standby_feedback = on
"""


def run(*words, check=True):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def postgres(*words, check=True):
    return run("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--", *words, check=check)


def expect_equal(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, expected {wanted!r}")


def wait_for(what, condition, seconds=30):
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return value


class Server:
    def __init__(self, name):
        self.address = NODES[name]
        self.data = WORK / name

    def initialise(self):
        run("rm", "-rf", self.data)
        postgres(f"{BINARIES}/initdb", "-D", self.data, "--auth=trust", "--no-sync")
        self.configure()
        self.start()
        self.sql("CREATE ROLE pgbench LOGIN; CREATE ROLE replicator LOGIN REPLICATION")
        self.sql("CREATE DATABASE pgbench OWNER pgbench")

    def configure(self, further=""):
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(SETTINGS.format(address=self.address) + further)
        with open(self.data / "pg_hba.conf", "a") as file:
            file.write("host all,replication all 127.0.0.0/8 trust\n")

    def clone(self, of):
        run("rm", "-rf", self.data)
        postgres(f"{BINARIES}/pg_basebackup", "-D", self.data, "-d", f"host={of.address} user=replicator", "-R", "--checkpoint=fast",
                 "--no-sync")
        self.configure(f"primary_conninfo = 'host={of.address} user=replicator application_name=standby'\n")
        (self.data / "postgresql.auto.conf").write_text("")
        self.start()

    def start(self):
        postgres(f"{BINARIES}/pg_ctl", "start", "-w", "-s", "-D", self.data, "-l", WORK / "server.log")

    def kill(self):
        """Without a last word."""
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        self.signal(signal.SIGKILL)
        wait_for("the server is gone", lambda: not os.path.exists(f"/proc/{postmaster}"))

    def signal(self, number):
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        for process in (postmaster, *map(int, run("pgrep", "-P", postmaster).split())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def sql(self, statement, database="postgres"):
        return run(f"{BINARIES}/psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-h", self.address, "-U", "postgres", "-d", database,
                   "-c", statement)

    def ids(self, ledger, path):
        return {int(line) for line in self.sql("SELECT id FROM virtwork.ledger WHERE"
                                               f" ledger = '{ledger}' AND path = '{path}'", "pgbench").split()}


class Ledger:
    def __init__(self, rate=100, retain=500000):
        pathlib.Path("/etc/virtwork/lab.env").write_text(LAB.format(rate=rate, retain=retain))
        self.lines = WORK / f"lines.{time.monotonic():.0f}"
        self.process = subprocess.Popen(["/usr/local/sbin/virtwork-ledger", "run"], stdout=open(self.lines, "w"),
                                        stderr=open(WORK / "log", "a"))

    def signals(self, kind, **fields):
        lines = [json.loads(line) for line in self.lines.read_text().splitlines()]
        return [line for line in lines if line["signal"] == kind and fields.items() <= line.items()]

    def status(self):
        with urllib.request.urlopen("http://127.0.0.1:8008/status") as answer:
            return json.loads(answer.read())

    def verify(self):
        output = subprocess.run(["/usr/local/sbin/virtwork-ledger", "verify"], capture_output=True, text=True)
        if output.returncode > 1:
            raise AssertionError(output.stderr)
        last = {line["path"]: line for line in self.signals("ledger-verify", reason="manual")}
        expect_equal(output.returncode, int(any(line["lost"] for line in last.values())), "exit status of verify")
        return last

    def writes(self, *paths):
        before = {path: self.status()["paths"][path]["acknowledged"] for path in paths or ("service", "hosts")}
        wait_for(f"{', '.join(before)} get on", lambda: all(
            self.status()["paths"][path]["acknowledged"] > count + 20 for path, count in before.items()))

    def answers(self):
        def asked():
            with contextlib.suppress(OSError):
                return self.status()
        return wait_for("it answers", asked)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait(20)


def acknowledged(path):
    """What is on the ledger's disk."""
    lines = [line.split(" ") for file in sorted(RECORDS.glob("ledger.[0-9]*")) for line in open(file) if line.endswith("\n")]
    return {int(words[2]) for words in lines if words[0] == "+" and words[1] == path}


def service(server):
    """The primary's Service leads there; the replicas' to the second node."""
    names = {"db-primary": server.address, "db-replicas": NODES["db-replica-0"], "localhost": "127.0.0.1", **NODES}
    pathlib.Path("/etc/hosts").write_text("".join(f"{address} {name}\n" for name, address in names.items()))


@contextlib.contextmanager
def cut(*addresses):
    """Nobody hears of them, and nobody is told."""
    rules = "".join(f"ip saddr {address} drop; ip daddr {address} drop; " for address in addresses)
    run("nft", f"table ip cut {{ chain out {{ type filter hook output priority 0; {rules}}}; }}")
    yield
    run("nft", "delete table ip cut")


def gap_of(ledger, path, began, ended):
    """The gap of a fault must be what it was, within what writing and connecting again takes."""
    gap = wait_for("the gap is told", lambda: ledger.signals("ledger-gap", path=path))[-1]
    print(f"  {path}: gap {gap['seconds']} s of {ended - began:.1f} s without a server; {gap['inDoubt']} in doubt; {gap['cause'][:100]}")
    return gap


def killed_and_restarted(primary, ledger):
    ledger.writes()
    began = time.monotonic()
    primary.kill()
    time.sleep(3)
    primary.start()
    ended = time.monotonic()
    ledger.writes()
    for path in ("service", "hosts"):
        gap = gap_of(ledger, path, began, ended)
        assert -0.3 < gap["seconds"] - (ended - began) < 1, gap
    wait_for("it compares after the gap", lambda: len(ledger.signals("ledger-verify", reason="gap")) >= 2)
    for path, line in ledger.verify().items():
        expect_equal((line["lost"], line["duplicated"]), (0, 0), f"{path}: lost, duplicated")


def link_cut(primary, ledger):
    ledger.writes()
    for seconds in (2, 8):
        began = time.monotonic()
        with cut(primary.address):
            time.sleep(seconds)
        ended = time.monotonic()
        ledger.writes()
        for path in ("service", "hosts"):
            gap = gap_of(ledger, path, began, ended)
            # what is on its way is sent again at growing intervals; a connection is tried for two seconds
            assert -0.3 < gap["seconds"] - seconds < 3.5, gap


def frozen(primary, ledger):
    """The machine answers, the server does not."""
    ledger.writes()
    began = time.monotonic()
    primary.signal(signal.SIGSTOP)
    time.sleep(14)
    # a session that was asked, or one that was just being opened
    gives_up = re.compile("no answer for 10 s|timeout expired")
    wait_for("it gives up", lambda: all(gives_up.search(path["failure"] or "") for path in ledger.status()["paths"].values()))
    primary.signal(signal.SIGCONT)
    ended = time.monotonic()
    ledger.writes()
    for path in ("service", "hosts"):
        gap_of(ledger, path, began, ended)


def torn(primary, ledger):
    """The ledger dies, and what it wrote last is torn; no id is used again."""
    ledger.writes()
    ledger.stop(signal.SIGKILL)
    files = sorted(RECORDS.glob("ledger.[0-9]*"))
    with open(files[-1], "a") as file:
        file.write("+ service 99")
    before = {path: acknowledged(path) for path in ("service", "hosts")}
    sent = {path: primary.ids(json.loads((RECORDS / "summary.json").read_text())["ledger"], path) for path in before}
    ledger = Ledger()
    ledger.answers()
    ledger.writes()
    for path, line in ledger.verify().items():
        new = acknowledged(path) - before[path]
        assert min(new) > max(sent[path] | before[path]), f"{path}: an id is used again"
        expect_equal((line["lost"], line["duplicated"]), (0, 0), f"{path}: lost, duplicated after its own death")
        expect_equal(line["inDoubt"]["committed"], len(sent[path] - before[path]), f"{path}: committed without an acknowledgement kept")
    return ledger


def by_hand(primary, ledger):
    """What somebody deletes is lost, each row once; what comes twice is seen; what comes back is."""
    name = ledger.status()["ledger"]
    ledger.writes()
    # That one of its own would come in between, and be the one that tells.
    wait_for("it has compared after its start", lambda: {line["path"] for line in ledger.signals(
        "ledger-verify", reason="start")} == {"service", "hosts"}, 60)
    for path in ("service", "hosts"):
        victims = random.sample(sorted(acknowledged(path) & primary.ids(name, path)), 7)
        where = f"ledger = '{name}' AND path = '{path}' AND id IN ({', '.join(map(str, victims))})"
        primary.sql(f"CREATE TABLE kept_{path} AS SELECT * FROM virtwork.ledger WHERE {where};"
                    f"DELETE FROM virtwork.ledger WHERE {where}", "pgbench")
        line = ledger.verify()[path]
        expect_equal((line["newlyLost"], line["lost"], line["duplicated"]), (7, 7, 0), f"{path}: rows deleted by hand")
        shown = {number for words in line["lostIds"].split(", ") for number in
                 range(int(words.split("-")[0]), int(words.split("-")[-1]) + 1)}
        expect_equal(shown, set(victims), f"{path}: the ids that are shown")
        expect_equal((ledger.verify()[path]["newlyLost"], ledger.verify()[path]["lost"]), (0, 7), f"{path}: told once")
        primary.sql(f"INSERT INTO virtwork.ledger SELECT * FROM kept_{path}; INSERT INTO virtwork.ledger SELECT * FROM"
                    f" kept_{path} LIMIT 3", "pgbench")
        line = ledger.verify()[path]
        expect_equal((line["back"], line["lost"], line["duplicated"]), (7, 0, 3), f"{path}: back, and three of them twice")


def asynchronous(primary, standby, ledger):
    """What had not arrived is lost: exactly the acknowledged rows that the standby does not have."""
    name = ledger.status()["ledger"]
    wait_for("the standby streams", lambda: primary.sql("SELECT count(*) FROM pg_stat_replication") == "1")
    ledger.writes()
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
    standby.sql("SELECT pg_reload_conf()")
    wait_for("nothing streams", lambda: primary.sql("SELECT count(*) FROM pg_stat_replication") == "0")
    time.sleep(2)
    primary.kill()
    # until all is on the ledger's disk
    time.sleep(0.5)
    wanted = {path: acknowledged(path) - standby.ids(name, path) for path in ("service", "hosts")}
    standby.sql("SELECT pg_promote()")
    standby.sql("ALTER SYSTEM RESET primary_conninfo")
    service(standby)
    wait_for("it compares after the gap", lambda: {line["path"] for line in ledger.signals("ledger-verify", reason="gap", timeline=2)}
             == {"service", "hosts"})
    for path, line in ledger.verify().items():
        print(f"  {path}: {line['lost']} lost, as the positions say {len(wanted[path])}")
        expect_equal(line["lost"], len(wanted[path]), f"{path}: lost")
        assert line["lost"] > 30, line
        told = ledger.signals("ledger-verify", path=path, timeline=2)
        expect_equal(sum(line["newlyLost"] for line in told), len(wanted[path]), f"{path}: told")


def synchronous(primary, standby, ledger):
    """Nothing is lost, and a stall without a standby leaves no heap of sessions."""
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
    primary.sql("SELECT pg_reload_conf()")
    standby.clone(primary)
    wait_for("it is synchronous", lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == "sync")
    ledger.writes()
    standby.kill()
    time.sleep(25)
    count = int(primary.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'virtwork-ledger'"))
    print(f"  {count} sessions after 25 s without a standby")
    assert count <= 8, f"{count} sessions"
    standby.start()
    ledger.writes()
    lost = {path: line["lost"] for path, line in ledger.verify().items()}
    primary.kill()
    standby.sql("SELECT pg_promote()")
    service(standby)
    ledger.writes()
    expect_equal({path: line["lost"] for path, line in ledger.verify().items()}, lost, "lost with a synchronous standby")


def bounded(primary, ledger):
    """Old rows go here and there; the counts stay."""
    ledger.stop()
    ledger = Ledger(rate=1000, retain=3000)
    ledger.answers()
    name = ledger.status()["ledger"]
    wait_for("it writes", lambda: all(path["acknowledged"] > 12000 for path in ledger.status()["paths"].values()), 60)
    line = ledger.verify()
    line = ledger.verify()
    for path in ("service", "hosts"):
        assert len(primary.ids(name, path)) < 6000, len(primary.ids(name, path))
        assert line[path]["acknowledged"] > 12000, line
    return ledger


def costs(ledger):
    """What the ledger itself takes, at 200 commits a second and path."""
    ledger.stop()
    ledger = Ledger(rate=200)
    ledger.answers()
    ledger.writes()

    def used():
        fields = pathlib.Path(f"/proc/{ledger.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    count = len(ledger.signals("ledger"))
    wait_for("a line", lambda: len(ledger.signals("ledger")) > count)
    before = used()
    wait_for("another line", lambda: len(ledger.signals("ledger")) > count + 1)
    share = (used() - before) / 10
    line = ledger.signals("ledger")[-1]["paths"]
    print(f"  {100 * share:.1f} % of a core; {[(path, line[path]['commitsPerSecond'], line[path]['p99_ms']) for path in line]}")
    assert all(path["commitsPerSecond"] > 190 for path in line.values()), line
    assert share < 0.5, share
    return ledger


def another_database(primary, ledger):
    name, system = ledger.status()["ledger"], ledger.status()["system"]
    primary.kill()
    run("rm", "-rf", primary.data)
    primary.initialise()
    wait_for("it begins anew", lambda: ledger.status()["ledger"] != name and ledger.status()["system"] not in (None, system), 60)
    ledger.writes()
    line, = ledger.signals("ledger-database", systemBefore=system)
    assert json.loads(pathlib.Path(line["kept"], "summary.json").read_text())["ledger"] == name
    for path, line in ledger.verify().items():
        expect_equal((line["lost"], line["duplicated"]), (0, 0), f"{path}: of the new database")


def stories():
    first, second = (Server(name) for name in NODES)
    service(first)
    first.initialise()
    second.clone(first)
    ledger = Ledger()
    ledger.answers()
    ledger.writes()
    yield "killed and restarted", lambda: killed_and_restarted(first, ledger)
    yield "a cut link", lambda: link_cut(first, ledger)
    yield "a frozen server", lambda: frozen(first, ledger)
    result = []
    yield "its own death", lambda: result.append(torn(first, ledger))
    ledger = result.pop()
    yield "by hand", lambda: by_hand(first, ledger)
    yield "asynchronous", lambda: asynchronous(first, second, ledger)
    yield "synchronous", lambda: synchronous(second, first, ledger)
    yield "costs", lambda: result.append(costs(ledger))
    ledger = result.pop()
    yield "bounded", lambda: result.append(bounded(first, ledger))
    ledger = result.pop()
    yield "another database", lambda: another_database(first, ledger)
    status = subprocess.run(["/usr/local/sbin/virtwork-ledger", "status"], capture_output=True, text=True)
    print(status.stdout)
    for line in ledger.signals("ledger")[-1:]:
        print(json.dumps(line))
    ledger.stop()


def inside(stories=stories):
    """As the first process of its own namespaces."""
    run("ip", "link", "set", "lo", "up")
    WORK.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", WORK)
    for place in ("/etc", "/usr/local", "/var/lib"):
        upper, work = WORK / f"upper{place.replace('/', '-')}", WORK / f"work{place.replace('/', '-')}"
        upper.mkdir()
        work.mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", place)
    run("chown", "postgres", WORK)
    for template, place in (("common/lab.py", "lib/virtwork/lab.py"), ("common/libpq.py", "lib/virtwork/libpq.py"),
                            ("client/virtwork-ledger.py", "sbin/virtwork-ledger")):
        run("install", "-D", "-m", "0755", REPOSITORY / "templates" / template, pathlib.Path("/usr/local", place))
    for directory in ("/etc/virtwork", "/var/lib/virtwork"):
        run("rm", "-rf", directory)
        os.makedirs(directory)
    try:
        for title, story in stories():
            started = time.monotonic()
            print(title, flush=True)
            story()
            print(f"  {time.monotonic() - started:.0f} s", flush=True)
    except BaseException:
        for file in [*WORK.glob("server.log"), *WORK.glob("log"), *sorted(WORK.glob("lines.*"))[-1:]]:
            print(f"--- {file}", *file.read_text().splitlines()[-40:], sep="\n")
        raise


def outside(program, *arguments):
    """The shell is there for orphans, which somebody has to wait for."""
    return subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child",
                           "bash", "-c", '"$@"; exit', "-", sys.executable, program, "inside", *arguments]).returncode


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        inside()
    else:
        sys.exit(outside(__file__))
