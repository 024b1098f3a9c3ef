#!/usr/bin/python3
"""Opens and closes windows of virtwork-chaos between network namespaces, and asks what gets through.

    tests/guests/chaos.py [STORY…]        needs root, PostgreSQL's server, tc, a kernel with cls_u32 and either netem or htb

All of it runs in namespaces of its own, which end with it: network, mounts and processes. Where the kernel has no netem a
stand-in for tc takes htb for its classes and a queue without room for a partition; then delays are not looked at.
"""

import glob
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
WORK = pathlib.Path("/run/virtwork-chaos-test")
BINARIES = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]), default="/usr/bin")
CHAOS = "/usr/local/sbin/virtwork-chaos"
# Of the node, and of others in its network.
ADDRESSES = ("10.9.0.1", "fd00:9::1")
OTHERS = {"db-replica-0": ("10.9.0.2", "fd00:9::2"), "db-replica-1": ("10.9.0.3", "fd00:9::3"),
          "client": ("10.9.0.4", "fd00:9::4")}
LAB = """LAB=db
NODES_HOST=db-nodes
REPLICA_COUNT=2
CHAOS_EFFECTS='{effects}'
CHAOS_WINDOWS='{windows}'
"""
STAND_IN = """#!/bin/bash
tc=/usr/sbin/tc
case $* in
  *" netem "*) [[ -e {work}/no-netem ]] && {{ echo "Error: Specified qdisc kind is unknown." >&2; exit 2; }} ;;&
  "qdisc add "*" prio "*)
    $tc qdisc add dev "$4" root handle "$7" htb default 1 &&
      for class in 1 2; do $tc class add dev "$4" parent "$7" classid "$7$class" htb rate 10gbit || exit; done ;;
  "qdisc add "*" netem "*"loss 100%"*) exec $tc qdisc add dev "$4" parent "$6" bfifo limit 1 ;;
  "qdisc add "*" netem "*) exec $tc qdisc add dev "$4" parent "$6" pfifo limit 1000 ;;
  *) exec $tc "$@" ;;
esac
"""


def run(*words, check=True):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def expect_equal(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, expected {wanted!r}")


def wait_for(what, condition, seconds=20):
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return value


class Service:
    """virtwork-chaos.service: as postgres, with one capability."""

    def __init__(self, effects="latency=80ms", windows=""):
        pathlib.Path("/etc/virtwork/lab.env").write_text(LAB.format(effects=effects, windows=windows))
        self.start()

    def start(self):
        self.log = WORK / f"log.{time.monotonic():.3f}"
        self.process = subprocess.Popen(
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--inh-caps=+net_admin",
             "--ambient-caps=+net_admin", "--bounding-set=-all,+net_admin", "--no-new-privs", CHAOS, "run"],
            stdout=open(self.log, "w"), stderr=subprocess.STDOUT)
        wait_for("the service runs", lambda: '"primary": true' in pathlib.Path("/run/virtwork-chaos/status").read_text()
                 if os.path.exists("/run/virtwork-chaos/status") else False)

    def end(self, kill=False):
        self.process.kill() if kill else self.process.terminate()
        self.process.wait()
        os.unlink("/run/virtwork-chaos/status")

    def events(self):
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def connects(source, address, port, local=0, attempts=1):
    """Whether a connection from somebody's network gets an answer."""
    program = ("import socket, sys; a, p, l = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]);"
               " s = socket.socket(socket.AF_INET6 if ':' in a else socket.AF_INET); s.settimeout(0.8); l and s.bind(('', l));"
               " s.connect((a, p))")
    words = ["ip", "netns", "exec", source, sys.executable, "-c", program, address, str(port), str(local)]
    return any(subprocess.run(words, capture_output=True).returncode == 0 for _ in range(attempts))


def passes(cut=()):
    """PostgreSQL answers everybody but those who are cut off; everything else answers everybody."""
    for name in OTHERS:
        for address in ADDRESSES:
            # Where others have the cores, an answer may come late.
            expect_equal(connects(name, address, 5432, attempts=1 if name in cut else 3), name not in cut,
                         f"{name} reaches {address}")
            expect_equal(connects(name, address, 5432, random.randint(28672, 32767), 3), True,
                         f"HAProxy of {name} reaches {address}")
            for port in (22, 8008):
                expect_equal(connects(name, address, port, attempts=3), True, f"{name} reaches {port} of {address}")


def queues():
    return [line for line in run("tc", "qdisc", "show").splitlines() if "7643:" in line]


def by_hand():
    service = Service()
    passes()
    expect_equal(queues(), [], "queues before a window")
    run(CHAOS, "start", "--partition", "--target", "db-replica-1")
    wait_for("a queue", queues)
    passes(cut=("db-replica-1",))
    run(CHAOS, "start", "--partition", "--for", "60")
    wait_for("both are cut off", lambda: not connects("db-replica-0", ADDRESSES[0], 5432))
    passes(cut=("db-replica-0", "db-replica-1"))
    run(CHAOS, "stop")
    passes()
    expect_equal(queues(), [], "queues after a window")
    expect_equal([event["state"] for event in service.events()], ["start", "end", "start", "end"], "events")
    for words in (["--loss", "5;reboot"], ["--loss", "100%"], ["--target", "db-replica-9"], ["--jitter", "5ms"],
                  ["--partition", "--rate", "1mbit"], ["--latency", "80"]):
        done = subprocess.run([CHAOS, "start", *words], capture_output=True, text=True)
        expect_equal((done.returncode, done.stderr.startswith("error: ")), (1, True), f"start {words}: {done.stderr}")
    service.end()


def moved():
    """A pod that has another address from now on."""
    service = Service()
    run(CHAOS, "start", "--partition", "--target", "db-replica-0")
    wait_for("it is cut off", lambda: not connects("db-replica-0", ADDRESSES[0], 5432))
    names({**OTHERS, "db-replica-0": OTHERS["client"]})
    wait_for("the new address is cut off", lambda: not connects("client", ADDRESSES[0], 5432))
    passes(cut=("client",))
    names(OTHERS)
    service.end()
    expect_equal(queues(), [], "queues after the service")


def scheduled():
    windows = "at=4 for=12 partition=yes target=db-replica-0; at=18 for=3 every=20 latency=50ms"
    service = Service(windows=windows)
    wait_for("the window opens", service.events)
    (start,) = service.events()
    expect_equal((start["id"], start["targets"], start["resumed"]), ("1.1", ["db-replica-0"], False), "the first event")
    wait_for("it is cut off", lambda: not connects("db-replica-0", ADDRESSES[0], 5432), 5)
    passes(cut=("db-replica-0",))
    service.end(kill=True)
    expect_equal(bool(queues()), True, "queues after a service that was killed")
    run(CHAOS, "clear")
    expect_equal(queues(), [], "queues after they were cleared")
    service.start()
    again = wait_for("the window goes on", service.events)[0]
    expect_equal([again[key] for key in ("id", "start", "end")], [start[key] for key in ("id", "start", "end")], "the window")
    over = wait_for("the window is over", lambda: service.events()[1:])[0]
    expect_equal(over["reason"], "over", "why it ended")
    expect_equal(abs(seconds(over["time"]) - seconds(start["end"])) < 0.5, True, f"it ended at {over['time']}, not {start['end']}")
    passes()
    following = wait_for("the next one opens", lambda: service.events()[2:])[0]
    expect_equal((following["id"], following["latency"], following["targets"]), ("2.1", "50ms", "all"), "the next one")
    service.end()
    expect_equal(service.events()[-1]["reason"], "the service is stopped", "why it ended")
    expect_equal(queues(), [], "queues after the service")


def endless_schedule():
    """So many windows begin like one: their text is more than an entry of an index holds."""
    rng = random.Random(1)
    targets = [f"db-replica-{number}" for number in range(2)]
    windows = [f"at={1000 * number + 5} for={rng.randint(10, 990)} latency={rng.randint(50, 999)}ms jitter={rng.randint(1, 49)}ms"
               f" loss=0.{rng.randint(100, 999)}% rate={rng.randint(100_000, 999_999)}kbit target={rng.choice(targets)}"
               for number in range(1000)]
    service = Service(windows="; ".join(["at=0 for=4 partition=yes", *windows]))
    wait_for("the window opens", service.events)
    expect_equal(service.events()[0]["id"], "1.1", "the first event")
    service.end()


def seconds(stamp):
    whole, _, rest = stamp.rstrip("Z").partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{rest}")


def without_netem():
    (WORK / "no-netem").touch()
    service = Service(windows="at=0 latency=80ms")
    time.sleep(3)
    lines = service.log.read_text().splitlines()
    expect_equal((len(lines), lines[0].startswith("no chaos on this network: the kernel ")), (1, True), f"what it says: {lines}")
    expect_equal(service.process.poll(), None, "its status")
    done = subprocess.run([CHAOS, "start"], capture_output=True, text=True)
    expect_equal((done.returncode, "no chaos on this network" in done.stderr), (1, True), f"start: {done.stderr}")
    expect_equal(queues(), [], "queues")
    service.end()
    (WORK / "no-netem").unlink()


def foreign_queue():
    """What an administrator made stays, and is named."""
    run("/usr/sbin/tc", "qdisc", "add", "dev", "bridge", "root", "handle", "5:", "pfifo")
    service = Service()
    run(CHAOS, "start", "--partition")
    wait_for("it says so", lambda: "bridge has a queue of somebody else's (5:)" in service.log.read_text())
    expect_equal("somebody else's" in run(CHAOS, "status"), True, "the status")
    passes()
    service.end()
    expect_equal("pfifo 5: root" in run("/usr/sbin/tc", "qdisc", "show", "dev", "bridge"), True, "the queue is there")


def frozen_server():
    """A server that does not answer keeps no window open, and the service ends when it is told to."""
    service = Service()
    run(CHAOS, "start", "--partition", "--for", "5")
    postmaster = int((WORK / "data/postmaster.pid").read_text().split()[0])
    processes = [postmaster, *map(int, run("pgrep", "-P", postmaster).split())]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        over = wait_for("the window is over", lambda: service.events()[1:], 15)[0]
        expect_equal(abs(seconds(over["time"]) - seconds(over["end"])) < 0.5, True, f"it ended at {over['time']}, not {over['end']}")
        time.sleep(12)
        began = time.monotonic()
        service.end()
        expect_equal(time.monotonic() - began < 5, True, "it ends in time")
    finally:
        for process in processes:
            try:
                os.kill(process, signal.SIGCONT)
            except ProcessLookupError:
                pass
    expect_equal(queues(), [], "queues after the service")


def psql(statement):
    run(f"{BINARIES}/psql", "-XAtqw", "-h", "/run/postgresql", "-U", "postgres",
        *(word for part in statement.split("; ") for word in ("-c", part)), "postgres")


def schedule_refused():
    """A schedule that cannot be kept is told of, and begins when it can; one of any length can."""
    draw = random.Random(1)
    windows = "; ".join(f"at={draw.randrange(10**8)} for=1 every={draw.randrange(10**8, 10**9)} latency={draw.randrange(999)}ms"
                        f" loss={draw.randrange(99)}.{draw.randrange(999)}% target=db-replica-{draw.randrange(2)}"
                        for _ in range(99)) + "; at=0 latency=80ms"
    psql("DROP SCHEMA IF EXISTS virtwork CASCADE")
    psql("ALTER SYSTEM SET default_transaction_read_only = on")
    psql("SELECT pg_reload_conf()")
    service = Service(windows=windows)
    wait_for("it says why", lambda: "the schedule: not yet, trying on (ERROR: cannot execute" in service.log.read_text())
    psql("SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only")
    psql("SELECT pg_reload_conf()")
    wait_for("it begins", service.events)
    service.end()


def durations():
    service = Service()
    for seconds_given in ("0", "-5", "1e3", "999999999999"):
        done = subprocess.run([CHAOS, "start", "--for", seconds_given], capture_output=True, text=True)
        expect_equal(done.returncode, 2, f"--for {seconds_given}: {done.stderr}")
    service.end()


def names(addresses):
    lines = ["127.0.0.1 localhost"]
    for name, own in addresses.items():
        also = "" if name == "client" else " db-nodes"
        lines += [f"{address} {name}{also}" for address in own]
    pathlib.Path("/etc/hosts").write_text("\n".join(lines) + "\n")


def inside():
    """As the first process of its own namespaces."""
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    WORK.mkdir()
    for place in ("/etc", "/usr/local"):
        upper, work = WORK / f"upper{place.replace('/', '-')}", WORK / f"work{place.replace('/', '-')}"
        upper.mkdir()
        work.mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", place)
    run("chown", "postgres", WORK)
    os.makedirs("/etc/virtwork", exist_ok=True)
    for directory in ("/run/virtwork-chaos", "/run/postgresql"):
        os.makedirs(directory)
        run("chown", "postgres", directory)
    for template, place in (("common/lab.py", "lib/virtwork/lab.py"), ("common/libpq.py", "lib/virtwork/libpq.py"),
                            ("chaos/virtwork-chaos.py", "sbin/virtwork-chaos")):
        run("install", "-D", "-m", "0755", REPOSITORY / "templates" / template, pathlib.Path("/usr/local", place))
    run("ip", "link", "set", "lo", "up")
    os.makedirs("/run/netns", exist_ok=True)
    run("ip", "link", "add", "bridge", "type", "bridge")
    for address, bits in zip(ADDRESSES, (24, 64)):
        run("ip", "address", "add", f"{address}/{bits}", "dev", "bridge", *(["nodad"] if bits == 64 else []))
    run("ip", "link", "set", "bridge", "up")
    for number, (name, own) in enumerate(OTHERS.items()):
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", f"to{number}", "master", "bridge", "up")
        for address, bits in zip(own, (24, 64)):
            run("ip", "-n", name, "address", "add", f"{address}/{bits}", "dev", "eth0", *(["nodad"] if bits == 64 else []))
        run("ip", "-n", name, "link", "set", "eth0", "up")
    names(OTHERS)
    stand_in()
    data = WORK / "data"
    as_postgres = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")
    run(*as_postgres, f"{BINARIES}/initdb", "-D", data, "--auth=trust", "--no-sync")
    run(*as_postgres, f"{BINARIES}/pg_ctl", "start", "-w", "-s", "-D", data, "-l", WORK / "server.log", "-o",
        "-c listen_addresses=* -c unix_socket_directories=/run/postgresql -c fsync=off")
    listeners = [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=999)
                 for port in (22, 8008)]
    try:
        stories = (by_hand, moved, scheduled, endless_schedule, without_netem, foreign_queue, frozen_server, schedule_refused,
                   durations)
        for story in map(globals().get, sys.argv[2:]) if sys.argv[2:] else stories:
            started = time.monotonic()
            print(story.__name__.replace("_", " "), flush=True)
            story()
            print(f"  {time.monotonic() - started:.0f} s", flush=True)
    except BaseException:
        for file in sorted(WORK.glob("log.*"))[-2:]:
            print(f"--- {file}", *file.read_text().splitlines()[-40:], sep="\n")
        raise
    finally:
        for listener in listeners:
            listener.close()


def stand_in():
    """Also with netem, to be able to take it away."""
    has_netem = subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem"], capture_output=True).returncode == 0
    if has_netem:
        run("tc", "qdisc", "del", "dev", "lo", "root")
    print(f"this kernel has {'netem' if has_netem else 'no netem: a stand-in cuts and does not delay'}", flush=True)
    text = STAND_IN.format(work=WORK)
    if has_netem:
        text = "\n".join(text.splitlines()[:3] + ["esac", 'exec $tc "$@"']).replace(";;&", ";;") + "\n"
    pathlib.Path("/usr/local/sbin/tc").write_text(text)
    os.chmod("/usr/local/sbin/tc", 0o755)


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        os.environ["PATH"] = f"/usr/local/sbin:{os.environ['PATH']}"
        inside()
    else:
        # The shell is there for orphans, which somebody has to wait for.
        sys.exit(subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child",
                                 "bash", "-c", '"$@"; exit', "-", sys.executable, __file__, "inside", *sys.argv[1:]]).returncode)
