#!/usr/bin/python3
"""Runs the load on a PostgreSQL server of this machine, and compares what it says with what the database has.

    tests/guests/load.py        needs root, PostgreSQL's server with pgbench

All of it runs in namespaces of its own, which end with it: network, mounts and processes.
"""

import contextlib
import glob
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
WORK = pathlib.Path("/run/virtwork-load-test")
BINARIES = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]), default="/usr/bin")
DATA = WORK / "data"
LAB = """LAB=db
REPLICA_COUNT=1
PGBENCH_CLIENTS=2
PGBENCH_THREADS=2
PGBENCH_DURATION={duration}
PGBENCH_PAUSE=3
PGBENCH_RATE={rate}
PGBENCH_PROTOCOL=simple
"""
AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")


def run(*words, check=True):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def expect(truth, message):
    if not truth:
        raise AssertionError(message)


def wait_for(what, condition, seconds=60):
    until = time.monotonic() + seconds
    while not (value := condition()):
        expect(time.monotonic() < until, f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return value


def server(action, *options):
    """Its own options stay the same."""
    settings = "-c listen_addresses=127.0.0.1 -c unix_socket_directories=/run/postgresql -c fsync=off"
    run(*AS_POSTGRES, f"{BINARIES}/pg_ctl", action, "-w", "-s", "-D", DATA, "-l", WORK / "server.log", *options,
        *(["-o", settings] if action != "stop" else []))


def sql(statement):
    return run(f"{BINARIES}/psql", "-XAtqw", "-h", "/run/postgresql", "-U", "pgbench", "-c", statement, "pgbench")


class Load:
    def __init__(self, further="", duration=12, rate=50):
        sql("TRUNCATE pgbench_history")
        pathlib.Path("/etc/virtwork/lab.env").write_text(LAB.format(duration=duration, rate=rate) + further)
        self.log = WORK / f"log.{time.monotonic():.3f}"
        self.process = subprocess.Popen([*AS_POSTGRES, "env", "-i", f"PATH={os.environ['PATH']}", f"TMPDIR={WORK}/tmp",
                                         "/usr/local/sbin/virtwork-database.py"], stdout=open(self.log, "w"),
                                        stderr=subprocess.STDOUT)

    def lines(self, part, target="primary"):
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if (line["part"], line["target"]) == (part, target)]

    def says(self, text):
        return text in self.log.read_text()

    def round(self, target="primary"):
        before = len(self.lines("round", target))
        return wait_for("a round ends", lambda: self.lines("round", target)[before:])[0]

    def end(self):
        """In order, and nothing of it stays."""
        self.process.terminate()
        expect(self.process.wait(8) == 0, f"its status is {self.process.returncode}")
        expect(os.listdir(WORK / "tmp") == [], f"it left {os.listdir(WORK / 'tmp')}")


def counted():
    load = Load()
    told = load.round()
    rows = int(sql("SELECT count(*) FROM pgbench_history"))
    expect(told["complete"] and told["transactions"] == rows > 0, f"{rows} rows of history, and {told}")
    expect(abs(told["tps"] - 50) < 15, f"not 50 transactions/s: {told}")
    expect(told["p50_ms"] <= told["p95_ms"] <= told["p99_ms"] <= told["max_ms"], f"percentiles: {told}")
    parts = [line for line in load.lines("interval") if line["round"] == told["round"]]
    expect([round(line["seconds"]) for line in parts] == [10, 2], f"intervals: {parts}")
    expect(sum(line["transactions"] for line in parts) == rows, f"intervals do not add up to {rows}: {parts}")
    load.end()


def broken_off():
    for how in ("fast", "immediate"):
        load = Load(duration=15)
        wait_for("it runs", lambda: int(sql("SELECT count(*) FROM pgbench_history")) > 20)
        server("restart", "-m", how)
        told = load.round()
        rows = int(sql("SELECT count(*) FROM pgbench_history"))
        expect(told["complete"] and told["interruptions"] == 1, f"the round: {told}")
        expect(14 < told["seconds"] < 17, f"it was to be 15 s: {told}")
        expect(told["transactions"] <= rows <= told["transactions"] + told["failed"], f"{rows} rows of history, and {told}")
        expect(load.says("round broken off: ") and load.says("broken off once"), "the journal does not say so")
        load.end()


def demoted():
    """A round ends where the server becomes a standby, and the load goes on when it is promoted."""
    load = Load(duration=300)
    wait_for("it runs", lambda: int(sql("SELECT count(*) FROM pgbench_history")) > 20)
    server("stop", "-m", "fast")
    wait_for("it waits", lambda: load.says("does not answer: waiting"))
    run(*AS_POSTGRES, "touch", DATA / "standby.signal")
    server("start")
    told = load.round()
    expect(not told["complete"] and told["transactions"] > 0, f"the round: {told}")
    expect(load.says("the server is a standby: no load here"), "the journal does not say so")
    server("promote")
    wait_for("it runs again", lambda: load.log.read_text().count("load: 2 clients") == 2)
    load.end()
    expect(not load.lines("round")[-1]["complete"], "a round that was stopped says it is complete")


def shaped():
    """Steps, at their rates, of two loads at once."""
    load = Load("LOAD_SHAPE=ramp\nLOAD_PERIOD=30\nLOAD_SCRIPT=simple\nLOAD_READERS=2\n", rate=100)
    told = load.round()
    reads = wait_for("the reads end", lambda: load.lines("round", "replicas"))[0]
    for target, line in (("primary", told), ("replicas", reads)):
        steps = [part for part in load.lines("interval", target) if part["round"] == line["round"]]
        expect([(part["step"], part["rate"]) for part in steps] == [(step, 10 * step) for step in range(1, 11)], f"steps: {steps}")
        expect(line["complete"] and abs(line["tps"] - 55) < 15, f"not 55 transactions/s: {line}")
    expect(told["script"] == "simple" and reads["script"] == "select", f"scripts: {told}, {reads}")
    load.end()


def unlimited():
    """What counting costs."""
    load = Load("LOAD_SCRIPT=select\n", duration=10, rate="")
    told = load.round()
    ticks = sum(map(int, pathlib.Path(f"/proc/{load.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    cost = 1e6 * ticks / os.sysconf("SC_CLK_TCK") / told["transactions"]
    print(f"  {told['tps']:.0f} transactions/s, {cost:.1f} µs of CPU for each", flush=True)
    expect(cost < 20, f"{cost} µs")
    load.end()


def frozen():
    """A server that does not answer keeps no load from its end, in a round and between two."""
    for when in ("in a round", "between rounds"):
        load = Load(duration=300 if when == "in a round" else 2)
        wait_for("it runs", lambda: int(sql("SELECT count(*) FROM pgbench_history")) > 20)
        if when == "between rounds":
            load.round()
        processes = [int(line) for line in run("pgrep", "-x", "postgres").split()]
        signal_all(processes, signal.SIGSTOP)
        time.sleep(5)
        load.end()
        signal_all(processes, signal.SIGCONT)


def signal_all(processes, number):
    """Those that are still there."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def stories():
    return counted, broken_off, shaped, unlimited, frozen, demoted


def inside(stories=stories):
    """As the first process of its own namespaces."""
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    WORK.mkdir()
    for place in ("/etc", "/usr/local"):
        upper, work = WORK / f"upper{place.replace('/', '-')}", WORK / f"work{place.replace('/', '-')}"
        upper.mkdir()
        work.mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", place)
    for directory in (WORK, WORK / "tmp", pathlib.Path("/run/postgresql")):
        directory.mkdir(exist_ok=True)
        run("chown", "postgres", directory)
    os.makedirs("/etc/virtwork", exist_ok=True)
    pathlib.Path("/etc/hosts").write_text("127.0.0.1 localhost db-replicas\n")
    for template, place in (("common/lab.py", "lib/virtwork/lab.py"), ("common/libpq.py", "lib/virtwork/libpq.py"),
                            ("debian/family.sh", "lib/virtwork/family.sh"),
                            ("common/virtwork-database.py", "sbin/virtwork-database.py")):
        run("install", "-D", "-m", "0755", REPOSITORY / "templates" / template, pathlib.Path("/usr/local", place))
    run("ip", "link", "set", "lo", "up")
    run(*AS_POSTGRES, f"{BINARIES}/initdb", "-D", DATA, "--auth=trust", "--no-sync")
    server("start")
    run(f"{BINARIES}/psql", "-XAtqw", "-h", "/run/postgresql", "-U", "postgres", "-c", "CREATE ROLE pgbench LOGIN", "-c",
        "CREATE DATABASE pgbench OWNER pgbench", "postgres")
    run(f"{BINARIES}/pgbench", "-i", "-q", "-s", "2", "-h", "/run/postgresql", "-U", "pgbench", "pgbench")
    try:
        for story in stories():
            started = time.monotonic()
            print(story.__name__.replace("_", " "), flush=True)
            story()
            print(f"  {time.monotonic() - started:.0f} s", flush=True)
    except BaseException:
        for file in sorted(WORK.glob("log.*"))[-1:]:
            print(f"--- {file}", *file.read_text().splitlines()[-40:], sep="\n")
        raise


def outside(program):
    """The shell is there for orphans, which somebody has to wait for."""
    return subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child",
                           "bash", "-c", '"$@"; exit', "-", sys.executable, program, "inside"]).returncode


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        inside()
    else:
        sys.exit(outside(__file__))
