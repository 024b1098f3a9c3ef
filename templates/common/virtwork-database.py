#!/usr/bin/python3 -I
"""The load: bounded rounds of pgbench for as long as this server accepts writes, and what its clients saw. Runs as postgres.

A round is a run of pgbench, or one for each step of a shape. What breaks a run off, such as a restart of the server, does not
end the round: the rest of it follows when the server is back. pgbench tells of each transaction through named pipes, so that
nothing of it lies on a disk.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Iterator

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402
import libpq  # noqa: E402

# Steps of equal length, in percent of the rate.
SHAPES = {
    "steady": (100,),
    "burst": (20, 20, 20, 20, 20, 20, 20, 20, 100, 100),
    "ramp": (10, 20, 30, 40, 50, 60, 70, 80, 90, 100),
    # From midnight on: quiet at night, busy in the morning, a dip at noon, a longer one after work.
    "diurnal": (20, 15, 12, 10, 10, 15, 25, 40, 65, 85, 95, 100, 85, 80, 95, 100, 95, 85, 70, 60, 50, 40, 30, 25),
}
SCRIPTS = {"tpcb": "tpcb-like", "select": "select-only", "simple": "simple-update"}
# Seconds of a line for an interval.
INTERVAL = 10
# Bytes of the history that are too many: it grows by 54 bytes a transaction, in a long and fast round beyond any disk.
HISTORY = 512 << 20
# A replica that is gone without a word is found by TCP.
REMOTE = "connect_timeout=5 tcp_user_timeout=10000 keepalives_idle=5 keepalives_interval=5 keepalives_count=2"
# Somebody wants this program to end.
ENDED = threading.Event()
# Lines of two threads stay apart.
VOICE = threading.Lock()


class Tally:
    """Transactions and how long they took, as counts of microseconds rounded to 8 binary digits: within 0.8 %."""

    def __init__(self) -> None:
        self.times: collections.Counter[int] = collections.Counter()
        self.failed = 0

    def add(self, time_taken: bytes) -> None:
        """What pgbench writes there: microseconds, or why there are none."""
        if not time_taken.isdigit():
            self.failed += 1
            return
        microseconds = int(time_taken)
        shift = max(0, microseconds.bit_length() - 8)
        self.times[microseconds >> shift << shift] += 1

    def merge(self, other: Tally) -> None:
        self.times.update(other.times)
        self.failed += other.failed

    @property
    def average(self) -> float | None:
        """In milliseconds."""
        count = sum(self.times.values())
        return sum(value * number for value, number in self.times.items()) / count / 1000 if count else None

    def fields(self, seconds: float) -> dict[str, Any]:
        """Each percentile is the least value that so many percent are not above."""
        count, passed, ordered = sum(self.times.values()), 0, sorted(self.times.items())
        wanted = {percent: math.ceil(count * percent / 100) for percent in (50, 95, 99)}
        found: dict[int, float] = {}
        for value, number in ordered:
            passed += number
            for percent, rank in wanted.items():
                if passed >= rank:
                    found.setdefault(percent, value / 1000)
        average = self.average
        return {"transactions": count, "failed": self.failed, "seconds": round(seconds, 3),
                "tps": round(count / seconds, 3) if seconds else None,
                "latency_ms": None if average is None else round(average, 3),
                **{f"p{percent}_ms": found.get(percent) for percent in wanted},
                "max_ms": ordered[-1][0] / 1000 if ordered else None}


@dataclasses.dataclass(frozen=True)
class Load:
    """What runs where. `target` is what signals call it, `name` what people do."""

    target: str
    name: str
    connection: str
    clients: int
    threads: int
    script: str


@dataclasses.dataclass(frozen=True)
class Profile:
    """How long rounds are, and how fast."""

    shape: str
    seconds: int
    pause: int
    rate: int | None

    def steps(self) -> Iterator[tuple[int, int | None]]:
        """The seconds and the rate of each."""
        table = SHAPES[self.shape]
        for number, percent in enumerate(table):
            seconds = self.seconds * (number + 1) // len(table) - self.seconds * number // len(table)
            yield seconds, self.rate and max(1, self.rate * percent // 100)


class Round:
    """One round, which may have been broken off and gone on with."""

    def __init__(self, load: Load, profile: Profile) -> None:
        self.load, self.profile = load, profile
        self.begun = time.time()
        self.steps = list(profile.steps())
        self.step = 0
        self.left: float = self.steps[0][0]
        self.total = Tally()
        self.seconds = 0.0
        self.interruptions = 0

    @property
    def done(self) -> bool:
        return self.step == len(self.steps)

    @property
    def rest(self) -> float:
        """Seconds that are still to be run."""
        return 0 if self.done else self.left + sum(seconds for seconds, _ in self.steps[self.step + 1:])

    def go_on(self, wanted: Callable[[], bool]) -> str:
        """Runs what is left of it, until it is done, or something breaks it off: what."""
        while not self.done:
            seconds, reason = Run(self).play(wanted)
            self.seconds += seconds
            self.left -= seconds
            if self.left < 1 or not reason:
                self.step += 1
                self.left = 0 if self.done else self.steps[self.step][0]
            if reason:
                self.interruptions += not (self.done or ENDED.is_set())
                return reason
        return ""

    def tell(self) -> None:
        self.signal("round", self.total, self.begun, time.time(), self.seconds,
                    complete=self.done, interruptions=self.interruptions)
        if self.done:
            after = {0: "", 1: ", broken off once"}.get(self.interruptions, f", broken off {self.interruptions} times")
            count = sum(self.total.times.values())
            lab.log(f"{self.load.name} done: {count / self.seconds if self.seconds else 0:.1f} transactions/s,"
                    f" latency {self.total.average or 0:.1f} ms{after}")

    def signal(self, part: str, tally: Tally, start: float, end: float, seconds: float, **more: Any) -> None:
        in_step = part == "interval"
        with VOICE:
            lab.signal("load", {
                "part": part, "round": lab.stamp(self.begun), "target": self.load.target, "start": lab.stamp(start),
                "end": lab.stamp(end), "shape": self.profile.shape, "script": self.load.script,
                "step": self.step + 1 if in_step else None, "steps": len(self.steps),
                "rate": self.steps[self.step][1] if in_step else self.profile.rate, **tally.fields(seconds), **more})


class Run:
    """One run of pgbench, told of in intervals."""

    def __init__(self, of: Round) -> None:
        self.round, self.load = of, of.load
        self.seconds = max(1, round(of.left))
        self.rate = of.steps[of.step][1]
        # Without -n pgbench vacuums, and empties its history: at the beginning of a round, and on a primary.
        self.is_first = of.load.target == "primary" and not of.seconds
        self.intervals: dict[int, Tally] = {}
        self.told = 0
        self.output = bytearray()

    def command(self, log: str) -> list[str]:
        options = [f"{binaries()}/pgbench", "-c", str(self.load.clients), "-j", str(self.load.threads), "-T", str(self.seconds),
                   "-M", lab.LAB["PGBENCH_PROTOCOL"], "-b", SCRIPTS[self.load.script], "-l", f"--log-prefix={log}"]
        if not self.is_first:
            options.append("-n")
        if self.rate:
            options += ["-R", str(self.rate)]
        return [*options, self.load.connection]

    def play(self, wanted: Callable[[], bool]) -> tuple[float, str]:
        """How many seconds it ran, and what broke it off."""
        directory = tempfile.mkdtemp(prefix="load.")
        try:
            return self._play(f"{directory}/log", wanted)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _play(self, prefix: str, wanted: Callable[[], bool]) -> tuple[float, str]:
        # The pipes are named after the process, so it waits for them: the shell becomes pgbench.
        process = subprocess.Popen(["sh", "-c", 'read -r _; exec "$@"', "sh", *self.command(prefix)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdin and process.stdout
        selector = selectors.DefaultSelector()
        output = process.stdout.fileno()
        selector.register(output, selectors.EVENT_READ)
        pipes = {}
        for number in range(self.load.threads):
            path = f"{prefix}.{process.pid}" + (f".{number}" if number else "")
            os.mkfifo(path, 0o600)
            pipe = Pipe(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            pipes[pipe.descriptor] = pipe
            selector.register(pipe.descriptor, selectors.EVENT_READ)
        self.started, begun = time.time(), time.monotonic()
        process.stdin.write(b"\n")
        process.stdin.close()
        stopped = False
        while output in selector.get_map():
            for key, _ in selector.select(0.5):
                descriptor = key.fd
                if descriptor == output:
                    data = os.read(output, 1 << 16)
                    self.output += data if len(self.output) < 1 << 20 else b""
                else:
                    data = pipes[descriptor].read()
                    self._note(pipes[descriptor].lines(data))
                if not data:
                    selector.unregister(descriptor)
                    if descriptor in pipes:
                        pipes[descriptor].last = math.inf
            # pgbench goes on by the clock as it was at its beginning (14 and newer): somebody may set it.
            self._tell(min(self.started + time.monotonic() - begun, *(pipe.last for pipe in pipes.values())))
            if not stopped and (ENDED.is_set() or not wanted()):
                stopped = True
                process.terminate()
        status = process.wait()
        for pipe in pipes.values():
            while data := pipe.read():
                self._note(pipe.lines(data))
            os.close(pipe.descriptor)
        process.stdout.close()
        seconds = time.monotonic() - begun
        lost = len(re.findall(r"^pgbench: error: client \d+ .*aborted", self.output.decode(errors="replace"), re.M))
        if lost:
            self._interval(self.started + seconds)[1].failed += lost
        self._tell(math.inf, seconds)
        if stopped:
            return seconds, "the load is stopped" if ENDED.is_set() else "this server is no primary any more"
        return seconds, "" if status == 0 else reason(self.output.decode(errors="replace")) or f"pgbench ended with {status}"

    def _note(self, lines: Iterator[tuple[float, bytes]]) -> None:
        tally, until = Tally(), 0.0
        for at, time_taken in lines:
            # Thousands of lines a second, nearly all of one interval.
            if at >= until:
                number, tally = self._interval(at)
                until = self.started + (number + 1) * INTERVAL
            tally.add(time_taken)

    def _interval(self, at: float) -> tuple[int, Tally]:
        """That of a time; what comes after the last one belongs to it, and what comes late to the next that is told."""
        number = min(max(int((at - self.started) // INTERVAL), self.told), (self.seconds - 1) // INTERVAL)
        return number, self.intervals.setdefault(number, Tally())

    def _tell(self, upto: float, ran: float | None = None) -> None:
        """Tells of the intervals that are over by then; with `ran`, of all."""
        last = (self.seconds - 1) // INTERVAL
        while self.told <= last:
            start = self.told * INTERVAL
            is_last = self.told == last or (ran is not None and ran <= start + INTERVAL)
            if ran is None and (is_last or upto < self.started + start + INTERVAL):
                return
            tally = self.intervals.pop(self.told, Tally())
            end: float = start + INTERVAL
            if ran is not None and is_last:
                end = ran
                for late in self.intervals.values():
                    tally.merge(late)
            self.round.total.merge(tally)
            self.round.signal("interval", tally, self.started + start, self.started + end, end - start)
            self.told += 1
            if is_last:
                return


class Pipe:
    """What one thread of pgbench says of its transactions."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.last = 0.0
        self._rest = b""

    def read(self) -> bytes:
        try:
            return os.read(self.descriptor, 1 << 16)
        except BlockingIOError:
            return b""

    def lines(self, data: bytes) -> Iterator[tuple[float, bytes]]:
        """When each transaction ended, and what it took. A line: client, number, time, script, seconds, microseconds."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            fields = line.split()
            if len(fields) >= 6 and fields[4].isdigit() and fields[5].isdigit():
                self.last = int(fields[4]) + int(fields[5]) / 1e6
                yield self.last, fields[2]


class Loop:
    """Rounds, one after the other."""

    def __init__(self, load: Load, profile: Profile) -> None:
        self.load, self.profile = load, profile
        self.round: Round | None = None

    def go_on(self, wanted: Callable[[], bool]) -> None:
        """Runs a round, or the rest of one, and then rests."""
        self.round = self.round or Round(self.load, self.profile)
        why = self.round.go_on(wanted)
        if why and not self.round.done:
            lab.log(f"{self.load.name} broken off: {why}; {math.ceil(self.round.rest)} s of it are left")
            if not ENDED.is_set():
                ENDED.wait(10)
                return
        self.end()
        ENDED.wait(self.profile.pause)

    def end(self) -> None:
        """Tells of the round as far as it came."""
        if self.round:
            self.round.tell()
            self.round = None


class Server:
    """This node's, as the load sees it."""

    def __init__(self) -> None:
        self.state = ""

    def look(self) -> str:
        try:
            session = connect()
            try:
                self.state = "standby" if session.rows("SELECT pg_is_in_recovery()") == [["t"]] else "primary"
            finally:
                session.close()
        except libpq.Failure:
            self.state = "down"
        return self.state


def connect() -> libpq.Connection:
    session = libpq.Connection("virtwork-load", user="pgbench", dbname="pgbench", port="5432", connect_timeout="4")
    # A server that does not answer must not keep this program from its end.
    session.patience = 4.0
    return session


def bound_history() -> None:
    """Empties the history where it is too large. Whoever reads the table keeps it for five seconds at most."""
    while not ENDED.wait(30):
        try:
            session = connect()
            try:
                session.patience = 60
                session.rows("SET lock_timeout = '5s'")
                if session.rows("SELECT pg_relation_size('public.pgbench_history') > $1::bigint AND NOT pg_is_in_recovery()",
                                str(HISTORY)) == [["t"]]:
                    session.rows("TRUNCATE public.pgbench_history")
                    lab.log("emptied pgbench_history in the middle of a round: it had 512 MiB")
            finally:
                session.close()
        except libpq.Failure:
            pass


def binaries() -> str:
    """Where PostgreSQL's programs are, as the set-up finds them."""
    return subprocess.run(["bash", "-c", ". /usr/local/lib/virtwork/family.sh && binary_directory"], check=True,
                          stdout=subprocess.PIPE).stdout.decode().strip()


def reason(output: str) -> str:
    """The line that says why: the first that is marked as an error, else the last. libpq's hints start with a tab."""
    lines = [line for line in output.splitlines() if line.strip() and not re.match(r"\t| *\^|LINE \d", line)]
    marked = [line for line in lines if re.search(r"[Ee]rror|ERROR|FATAL|PANIC|No space left", line)]
    return (marked or lines[-1:] or [""])[0]


def read_replicas(server: Server, loop: Loop) -> None:
    """Reads for as long as the load is here; a restart of this server does not stop them."""
    while not ENDED.is_set():
        if server.state == "primary":
            loop.go_on(lambda: server.state != "standby")
        else:
            if server.state == "standby":
                loop.end()
            ENDED.wait(1)
    loop.end()


def main() -> int:
    values = lab.LAB
    shape, script = values.get("LOAD_SHAPE", "steady"), values.get("LOAD_SCRIPT", "tpcb")
    rate = int(values["PGBENCH_RATE"] or 0) or None
    seconds = int(values.get("LOAD_PERIOD") or values["PGBENCH_DURATION"])
    profile = Profile(shape, seconds, int(values["PGBENCH_PAUSE"]), rate)
    clients, threads = int(values["PGBENCH_CLIENTS"]), int(values["PGBENCH_THREADS"])
    readers = int(values.get("LOAD_READERS") or 0)
    os.environ.update(LC_ALL="C", PGCLIENTENCODING="UTF8", PGHOST="/run/postgresql", PGPORT="5432", PGUSER="pgbench",
                      PGPASSFILE="/run/postgresql/virtwork.pgpass")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ENDED.set())
    server, loop = Server(), Loop(Load("primary", "round", "pgbench", clients, threads, script), profile)
    threading.Thread(target=bound_history, daemon=True).start()
    replicas = f"host={values['LAB']}-replicas dbname=pgbench {REMOTE} {libpq.words(libpq.tls())}"
    reads = Loop(Load("replicas", "round of reads", replicas, readers, min(threads, readers), "select"), profile)
    reader = threading.Thread(target=read_replicas, args=(server, reads), daemon=True)
    if readers:
        reader.start()
    previous = ""
    while not ENDED.is_set():
        now = server.look()
        if now != previous:
            lab.log({
                "primary": f"load: {clients} clients, {threads} threads, rounds of {seconds} s with pauses of {profile.pause} s,"
                           f" {rate or 'unlimited'} transactions/s, {values['PGBENCH_PROTOCOL']} protocol"
                           + (f", shape {shape}" if shape != "steady" else "") + (f", {script}" if script != "tpcb" else "")
                           + (f"; {readers} clients read on the replicas" if readers else ""),
                "standby": "the server is a standby: no load here",
                "down": "the server or its database does not answer: waiting",
            }[now])
            previous = now
        if now == "primary":
            loop.go_on(lambda: True)
        else:
            if now == "standby":
                loop.end()
            ENDED.wait(5)
    loop.end()
    if readers:
        reader.join(8)
    return 0


if __name__ == "__main__":
    sys.exit(main())
