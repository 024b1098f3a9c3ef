#!/usr/bin/python3 -I
"""Keeps a ledger of what the database acknowledged, outside of the database.

virtwork-ledger status
    shows on one screen what the ledger says now
virtwork-ledger verify
    compares every row that is kept with the database, now. Exit status 1 where acknowledged rows are lost
virtwork-ledger run
    is what virtwork-ledger.service runs

It commits numbered rows all the time through each path to the primary: `service` is the primary's Service, `hosts` a list of
all nodes, of which libpq takes the one that accepts writes. An acknowledgement counts once it is on this machine's own disk.
A row whose answer never came is in doubt: it is not sent again, and the database is asked later what became of it. After
each gap, and every minute, the rows that the database has are compared with those it acknowledged.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from typing import Any, Iterator

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402
import libpq  # noqa: E402

DIRECTORY = pathlib.Path("/var/lib/virtwork/ledger")
# Where the readiness probe asks, and the commands of this program.
PORT = 8008
# Ids that are counted, and reserved, together.
BLOCK = 1000
# A file of this size is followed by another one, so that old lines can go.
FILE_SIZE = 4 << 20
# Commits in a second that one session is trusted with: more than 20 ms for each are rare.
OF_ONE_SESSION = 50
# Seconds without an acknowledgement that are a gap.
GAP = 1.0
# Seconds of order after a gap until the rows are compared.
SETTLED = 5.0
PERIOD, VERIFY_PERIOD = 10.0, 60.0
# Seconds without a word of the database until another one is taken for its successor, and without one of its newest timeline
# until an older one is: it was restored.
ANOTHER, RESTORED = 30.0, 300.0
# Rows that are removed at once.
PIECE = 20000
# Seconds between two attempts to connect, and those that a statement may take.
PAUSE, PATIENCE = 0.2, 10.0
# A link that is cut is noticed within three or four seconds, whether or not something was being sent.
LINK = {"user": "pgbench", "dbname": "pgbench", "connect_timeout": "2", "target_session_attrs": "read-write",
        "tcp_user_timeout": "3000", "keepalives_idle": "1", "keepalives_interval": "1", "keepalives_count": "3"}
# What is known of an id: nothing, or that it was never sent; the server said that it has it; the server said nothing, and
# does not show it; it was acknowledged, and is no longer there; in doubt, and there.
UNKNOWN, ACKNOWLEDGED, DOUBTED, LOST, COMMITTED = range(5)
MARKS = {"+": ACKNOWLEDGED, "?": DOUBTED, "-": LOST}
TABLE = """
CREATE SCHEMA IF NOT EXISTS virtwork;
CREATE TABLE IF NOT EXISTS virtwork.ledger (ledger text NOT NULL, path text NOT NULL, id bigint NOT NULL,
  sent timestamptz NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_ids ON virtwork.ledger (ledger, path, id)
"""
INSERT = "INSERT INTO virtwork.ledger VALUES ($1, $2, $3, to_timestamp($4::double precision))"
COUNT = f"""
SELECT id / {BLOCK}, count(*), sum(id % {BLOCK}), sum((id % {BLOCK}) * (id % {BLOCK})) FROM virtwork.ledger
WHERE ledger = $1 AND path = $2 AND id >= $3 AND id < $4 GROUP BY 1"""
IDS = "SELECT id, count(*) FROM virtwork.ledger WHERE ledger = $1 AND path = $2 AND id >= $3 AND id < $4 GROUP BY 1"
HIGHEST = "SELECT max(id) FROM virtwork.ledger WHERE ledger = $1 AND path = $2"
# In pieces: one statement for all of them may take longer than it is given, each time.
DELETE = f"""
WITH gone AS (DELETE FROM virtwork.ledger WHERE ctid = ANY (ARRAY(SELECT ctid FROM virtwork.ledger WHERE %s LIMIT {PIECE}))
  RETURNING 1) SELECT count(*) FROM gone"""
OLD_ROWS = DELETE % "ledger = $1 AND path = $2 AND id < $3"
ROWS_OF_OTHERS = DELETE % "left(ledger, length($1)) = $1 AND ledger <> $2"
NEWEST = """
SELECT pg_is_in_recovery(), extract(epoch FROM max(sent)) FROM unnest($2::text[]) AS paths (name), LATERAL (
  SELECT sent FROM virtwork.ledger WHERE ledger = $1 AND path = name ORDER BY id DESC LIMIT 1) AS newest"""

_voice = threading.Lock()


def tell(kind: str, fields: dict[str, Any]) -> None:
    """A signal. Threads must not speak at the same time."""
    with _voice:
        lab.signal(kind, fields)


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


class Book:
    """What has to outlive a loss of power: lines that are only ever added to files, of which the oldest go, and a summary of
    what went. Each start begins a new file, so a line that was torn stays the last one of its file and is never read."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        summary = directory / "summary.json"
        self.summary: dict[str, Any] = json.loads(summary.read_text()) if summary.exists() else {}
        self._summary_lock = threading.Lock()
        # The highest id of each path in each file that is complete.
        self.highest: dict[pathlib.Path, dict[str, int]] = {}
        self._file: Any = None
        self._closed = False

    def files(self) -> list[pathlib.Path]:
        return sorted(self.directory.glob("ledger.[0-9]*"))

    def read(self) -> Iterator[tuple[str, str, int, float]]:
        """Mark, path, id and time of each line."""
        for file in self.files():
            highest = self.highest.setdefault(file, {})
            for line in self.lines_of(file):
                highest[line[1]] = max(line[2], highest.get(line[1], 0))
                yield line

    @staticmethod
    def lines_of(file: pathlib.Path) -> Iterator[tuple[str, str, int, float]]:
        with open(file, encoding="ascii", errors="replace") as lines:
            for line in lines:
                words = line.split(" ")
                try:
                    if len(words) != 4 or not line.endswith("\n"):
                        raise ValueError
                    yield words[0], words[1], int(words[2]), float(words[3])
                except ValueError:
                    # What was never synced; nothing that counts comes after it.
                    return

    def add(self, lines: list[tuple[str, str, int, float]]) -> None:
        """On the disk when this returns."""
        if self._file is None or self._file.tell() > FILE_SIZE:
            self._next_file()
        self._file.write("".join(f"{mark} {path} {number} {at:.6f}\n" for mark, path, number, at in lines))
        self._file.flush()
        os.fdatasync(self._file.fileno())
        highest = self.highest[pathlib.Path(self._file.name)]
        for _, path, number, _ in lines:
            highest[path] = max(number, highest.get(path, 0))

    def _next_file(self) -> None:
        if self._file is not None:
            self._file.close()
        files = self.files()
        number = int(files[-1].suffix[1:]) + 1 if files else 1
        path = self.directory / f"ledger.{number:010}"
        self._file = open(path, "x", encoding="ascii")
        self.highest[path] = {}
        self._sync_directory()

    def forget(self, bases: dict[str, int]) -> None:
        """Removes the files that have nothing from these ids on."""
        for file in self.files():
            if self._file is not None and str(file) == self._file.name:
                return
            if any(number >= bases.get(path, 0) for path, number in self.highest.get(file, {}).items()):
                return
            file.unlink()
            self.highest.pop(file, None)

    def save(self, summary: dict[str, Any]) -> None:
        with self._summary_lock:
            # A comparison may last longer than its ledger, and the directory is another one's then.
            if self._closed:
                return
            self.summary = summary
            new = self.directory / "summary.json.new"
            with open(new, "w", encoding="ascii") as file:
                json.dump(summary, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.directory / "summary.json")
            self._sync_directory()

    def _sync_directory(self) -> None:
        handle = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def close(self) -> None:
        with self._summary_lock:
            self._closed = True
        if self._file is not None:
            self._file.close()


class Path:
    """One way to the primary, and what is known of each id that went it: from `base` on here, of older ones in `past`."""

    def __init__(self, ledger: Ledger, name: str, saved: dict[str, Any]) -> None:
        self.ledger = ledger
        self.name = name
        self.base: int = saved.get("base", 0)
        self.past: Counter[str] = Counter(saved.get("past", {}))
        self.longest: dict[str, Any] | None = saved.get("longestGap")
        self.states = bytearray()
        # Rows that the database should have, by block: how many, and two sums of their ids.
        self.sums: dict[int, list[int]] = {}
        # Blocks that are not as they should be, and known to be so: rows, and what they should have been.
        self.examined: dict[int, tuple[Any, Any]] = {}
        self.duplicates: dict[int, int] = {}
        self.next = self.reserved = max(saved.get("next", 0), self.base)
        self.reserving = False
        self.open: set[int] = set()
        self.lock = threading.Condition()
        self.due = time.monotonic()
        # The last acknowledgement: of the clock that nobody sets, and of the other one.
        self.last: tuple[float, float] | None = None
        self.failure: str | None = None
        self.doubts = 0
        self.server: str | None = None
        self.settled_at: float | None = None
        self.latencies: list[float] = []
        self.failures = 0
        self.gap = 0.0

    # What is known of ids. All of these with the lock.

    def set(self, number: int, state: int) -> None:
        place = number - self.base
        if place < 0:
            return
        if place >= len(self.states):
            self.states.extend(bytes(place + 1 - len(self.states)))
        before, self.states[place] = self.states[place], state
        change = (state in (ACKNOWLEDGED, COMMITTED)) - (before in (ACKNOWLEDGED, COMMITTED))
        if change:
            sums, rest = self.sums.setdefault(number // BLOCK, [0, 0, 0]), number % BLOCK
            sums[0] += change
            sums[1] += change * rest
            sums[2] += change * rest * rest

    def get(self, number: int) -> int:
        place = number - self.base
        return self.states[place] if 0 <= place < len(self.states) else UNKNOWN

    def totals(self) -> dict[str, Any]:
        count = {state: self.states.count(bytes([state])) for state in (ACKNOWLEDGED, DOUBTED, LOST, COMMITTED)}
        return {
            "acknowledged": self.past["acknowledged"] + count[ACKNOWLEDGED] + count[LOST],
            "lost": self.past["lost"] + count[LOST],
            "duplicated": self.past["duplicated"] + sum(self.duplicates.values()),
            "inDoubt": {"committed": self.past["committed"] + count[COMMITTED],
                        "notCommitted": self.past["notCommitted"] + count[DOUBTED]},
        }

    def expected(self, upper: int) -> dict[int, tuple[int, int, int]]:
        """What each block should have below `upper`."""
        found = {block: (sums[0], sums[1], sums[2]) for block, sums in self.sums.items() if (block + 1) * BLOCK <= upper}
        last = upper // BLOCK
        rests = [number % BLOCK for number in range(max(last * BLOCK, self.base), upper)
                 if self.get(number) in (ACKNOWLEDGED, COMMITTED)]
        found[last] = (len(rests), sum(rests), sum(rest * rest for rest in rests))
        return {block: sums for block, sums in found.items() if sums[0]}

    def forget(self, base: int) -> None:
        """Ids below are only counted from now on."""
        old = self.states[:base - self.base]
        for name, states in (("acknowledged", (ACKNOWLEDGED, LOST)), ("lost", (LOST,)), ("committed", (COMMITTED,)),
                             ("notCommitted", (DOUBTED,))):
            self.past[name] += sum(old.count(bytes([state])) for state in states)
        for block in [block for block in self.duplicates if block < base // BLOCK]:
            self.past["duplicated"] += self.duplicates.pop(block)
        self.sums = {block: sums for block, sums in self.sums.items() if block >= base // BLOCK}
        self.examined = {block: seen for block, seen in self.examined.items() if block >= base // BLOCK}
        del self.states[:base - self.base]
        self.base = base

    def saved(self) -> dict[str, Any]:
        return {"base": self.base, "next": self.reserved, "past": dict(self.past), "longestGap": self.longest}

    # What sessions do.

    def take(self) -> int | None:
        """The next id, when its time has come. Nothing is ever sent under an id that is not reserved on the disk."""
        with self.lock:
            if self.reserved - self.next <= BLOCK // 2 and not self.reserving:
                self.reserving = True
                self.ledger.note("R", self, self.reserved + BLOCK)
            while self.next >= self.reserved:
                if self.ledger.ended.is_set():
                    return None
                self.lock.wait(1)
            number: int = self.next
            self.next += 1
            self.open.add(number)
            # What was missed is not made up for.
            at = self.due = max(self.due + 1 / self.ledger.rate, time.monotonic() - 0.5)
        if self.ledger.ended.wait(max(0.0, at - time.monotonic())):
            with self.lock:
                self.open.discard(number)
            return None
        return number

    def acknowledged(self, number: int, began: float, server: str, timeline: int) -> None:
        now, wall = time.monotonic(), time.time()
        line = None
        with self.lock:
            self.latencies.append(now - began)
            if self.last is not None:
                gap = now - self.last[0]
                self.gap = max(self.gap, gap)
                if gap > GAP:
                    line = {"path": self.name, "seconds": round(gap, 3), "start": lab.stamp(self.last[1]),
                            "end": lab.stamp(wall), "cause": self.failure or "the commit took so long",
                            "inDoubt": self.doubts, "from": self.server, "to": server, "timeline": timeline}
                    if self.longest is None or gap > self.longest["seconds"]:
                        self.longest = {key: line[key] for key in ("seconds", "start", "end", "cause")}
                    self.settled_at = now + SETTLED
            self.last, self.failure, self.doubts, self.server = (now, wall), None, 0, server
        self.ledger.note("+", self, number)
        if line:
            tell("ledger-gap", line)

    def doubted(self, number: int) -> None:
        with self.lock:
            self.doubts += 1
        self.ledger.note("?", self, number)

    def failed(self, reason: str) -> None:
        with self.lock:
            self.failures += 1
            is_first, self.failure = self.failure is None, self.failure or reason[:300]
        if is_first:
            lab.log(f"{self.name}: trying on ({reason})")

    def noted(self, mark: str, number: int) -> None:
        """Is on the disk."""
        with self.lock:
            if mark == "R":
                self.reserved, self.reserving = number, False
                self.lock.notify_all()
            else:
                self.set(number, MARKS[mark])
                self.open.discard(number)

    def period(self, seconds: float) -> dict[str, Any]:
        """What happened since the last call."""
        now = time.monotonic()
        with self.lock:
            latencies, self.latencies = sorted(self.latencies), []
            failures, self.failures = self.failures, 0
            gap, self.gap = self.gap, 0.0
            if self.last is not None:
                gap = max(gap, now - self.last[0])
            totals = self.totals()

        def percentile(share: float) -> float | None:
            return milliseconds(latencies[min(len(latencies) - 1, int(share * len(latencies)))]) if latencies else None

        return {"commits": len(latencies), "commitsPerSecond": round(len(latencies) / seconds, 1), "failures": failures,
                "p50_ms": percentile(0.5), "p99_ms": percentile(0.99), "max_ms": percentile(1),
                "longestGap_ms": milliseconds(gap) if self.last is not None else None, **totals}


class Ledger:
    """A ledger of one database."""

    def __init__(self, directory: pathlib.Path, ended: threading.Event) -> None:
        values = lab.LAB
        self.rate, self.retain = int(values["LEDGER_RATE"]), int(values["LEDGER_RETAIN"])
        self.read_rate = int(values["LEDGER_READ_RATE"])
        self.ended = ended
        self.foreign: str | None = None
        self.book = Book(directory)
        saved = self.book.summary
        # Of no other one, whatever becomes of this disk.
        self.name: str = saved.get("ledger") or f"{lab.NODE}.{base64.b32encode(os.urandom(5)).decode().lower()}"
        self.system: str | None = saved.get("system")
        self.timeline: int = saved.get("timeline", 0)
        self.since: str = saved.get("since") or lab.stamp(time.time())
        # A server on an older timeline that was told of last.
        self.former: tuple[int, str] | None = None
        # When it was heard of last, and on its newest timeline.
        self.heard = self.newest = time.monotonic()
        # Paths whose ids were compared with those in the database.
        self.aligned: set[str] = set()
        self.identity, self.preparing = threading.Lock(), threading.Lock()
        name, nodes = values["LAB"], list(lab.databases())
        self.hosts = {"service": [f"{name}-primary"], "hosts": nodes}
        paths = saved.get("paths", {})
        self.paths = {path: Path(self, path, paths.get(path, {})) for path in self.hosts}
        for mark, path, number, _ in self.book.read():
            of = self.paths.get(path)
            if of is None:
                continue
            if mark == "R":
                of.next = of.reserved = max(of.reserved, number)
            elif mark in MARKS:
                of.set(number, MARKS[mark])
        self.noting = threading.Condition()
        self.notes: list[tuple[str, Path, int, float]] = []
        self.notes_given = self.notes_written = 0
        self.closing = threading.Event()
        self.verifying = threading.Lock()
        self.verified: dict[str, Any] | None = None
        self.reads: list[float] = []
        self.read_failures = 0
        self.read_lock = threading.Lock()
        self.old_rows = True
        self.save()

    def save(self) -> None:
        paths = {}
        for name, path in self.paths.items():
            with path.lock:
                paths[name] = path.saved()
        self.book.save({"ledger": self.name, "system": self.system, "timeline": self.timeline, "since": self.since,
                        "paths": paths})

    # The disk.

    def note(self, mark: str, path: Path, number: int) -> None:
        """Soon on the disk: many at once, so no commit waits for the disk of this machine, unless that hangs."""
        with self.noting:
            # (The caller may hold the lock of a path where it reserves.)
            while mark != "R" and len(self.notes) > 50_000 and not self.ended.is_set():
                self.noting.wait(1)
            self.notes.append((mark, path, number, time.time()))
            self.notes_given += 1
            self.noting.notify_all()

    def await_notes(self) -> None:
        """Until all that was noted is on the disk."""
        with self.noting:
            given = self.notes_given
            while self.notes_written < given and not self.ended.is_set():
                self.noting.wait(0.5)

    def write_notes(self) -> None:
        """A thread. Without it nothing counts, so its end is that of the program."""
        try:
            while True:
                with self.noting:
                    while not self.notes and not self.closing.is_set():
                        self.noting.wait(0.5)
                    notes, self.notes = self.notes, []
                if not notes:
                    return
                self.book.add([(mark, path.name, number, at) for mark, path, number, at in notes])
                for mark, path, number, _ in notes:
                    path.noted(mark, number)
                with self.noting:
                    self.notes_written += len(notes)
                    self.noting.notify_all()
        except OSError as error:
            lab.log(f"failed: the ledger's own disk: {error}")
            os._exit(1)

    # The database.

    def connect(self, path: str, patience: float, turn: int = 0) -> tuple[libpq.Connection, int]:
        """A session with the primary, and its timeline. `turn`: a host that swallows connections is not the first for ever."""
        hosts = self.hosts[path]
        turn %= len(hosts)
        session = libpq.Connection("virtwork-ledger", host=",".join(hosts[turn:] + hosts[:turn]), **LINK)
        try:
            session.patience = PATIENCE
            # A session may rest longer than a setting of the config wants. (13 does not know it.)
            session.rows("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'")
            ((system, timeline, table),) = session.rows(
                "SELECT system_identifier::text, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int::text,"
                " to_regclass('virtwork.ledger_ids')::text FROM pg_control_system()")
            self.recognise(system or "", int(timeline or 0), session.host)
            if table is None:
                with self.preparing:
                    for statement in TABLE.split(";"):
                        session.rows(statement)
            if path not in self.aligned:
                self.align(session, self.paths[path])
            session.patience = patience
            return session, int(timeline or 0)
        except BaseException:
            session.close()
            raise

    def align(self, session: libpq.Connection, path: Path) -> None:
        """Once for each start: a disk that was put back to an older state would use ids again, and miss rows that went since."""
        ((highest,),) = session.rows(HIGHEST, self.name, path.name)
        with path.lock:
            if path.name in self.aligned:
                return
            if highest is None or int(highest) < path.reserved:
                self.aligned.add(path.name)
                return
        lab.log(f"{path.name}: the database has rows up to {highest}, this disk knows of {path.reserved}: it is an older one")
        self.foreign = self.system
        self.ended.set()
        raise libpq.Failure("the disk of the ledger is an older one")

    def recognise(self, system: str, timeline: int, server: str) -> None:
        with self.identity:
            now = time.monotonic()
            if self.system not in (None, system):
                # Names may lead astray for a while, and one of two paths alone.
                if now - max(self.heard, *(path.last[0] for path in self.paths.values() if path.last)) > ANOTHER:
                    self.foreign = system
                    self.ended.set()
                raise libpq.Failure(f"{server} has another database, with the system identifier {system}")
            self.heard = now
            before, former, is_older = self.timeline or None, None, timeline < self.timeline
            if not is_older:
                self.newest = now
            elif now - self.newest <= RESTORED:
                former = (timeline, server)
            if timeline == self.timeline or former and former == self.former:
                return
            self.system, self.timeline, self.former = system, self.timeline if former else timeline, former
            self.newest = self.newest if former else now
        self.save()
        if before is not None and former is None:
            # A promotion may have been too quick for a gap.
            for path in self.paths.values():
                path.settled_at = time.monotonic() + SETTLED
        tell("ledger-database", {"ledger": self.name, "system": system, "server": server, "timeline": timeline,
                                 "timelineBefore": before, "former": former is not None})

    def write(self, path: Path, turn: int) -> None:
        """A thread: one session after the other."""
        patience = PATIENCE
        while not self.ended.is_set():
            try:
                session, timeline = self.connect(path.name, patience, turn)
            except libpq.Failure as failure:
                path.failed(str(failure))
                turn += 1
                self.ended.wait(PAUSE)
                continue
            server = session.host
            try:
                while (number := path.take()) is not None:
                    began = time.monotonic()
                    try:
                        session.rows(INSERT, self.name, path.name, str(number), f"{time.time():.6f}")
                        if session.warning:
                            # Such as that a person ended the wait for standbys: the row is there, and perhaps nowhere else.
                            raise libpq.Failure(session.warning)
                    except libpq.Failure:
                        path.doubted(number)
                        raise
                    path.acknowledged(number, began, server, timeline)
                    if timeline == self.timeline:
                        self.newest = time.monotonic()
                    if patience != PATIENCE:
                        session.patience = patience = PATIENCE
            except libpq.NoAnswer as failure:
                path.failed(str(failure))
                # Perhaps the commit waits for standbys: the server keeps a process for each session that is given up.
                patience = min(2 * patience, 300)
            except libpq.Failure as failure:
                path.failed(str(failure))
                self.ended.wait(PAUSE)
            finally:
                session.close()

    def read(self) -> None:
        """A thread: how old is what the replicas' Service shows? A connection stays with one replica, so it is made anew."""
        names = "{" + ",".join(self.paths) + "}"
        options = {**LINK, "target_session_attrs": "any", "host": f"{lab.LAB['LAB']}-replicas"}
        said = ""
        while not self.ended.wait(PAUSE):
            try:
                session = libpq.Connection("virtwork-ledger", **options)
                try:
                    session.patience = PATIENCE
                    until = time.monotonic() + PERIOD / 2
                    while time.monotonic() < until and not self.ended.wait(1 / self.read_rate):
                        at = time.time()
                        ((is_standby, sent),) = session.rows(NEWEST, self.name, names)
                        # A promoted node may stand behind this Service, too; and who writes nothing cannot tell.
                        if is_standby != "t":
                            self.ended.wait(1)
                            break
                        if sent is not None and self.writes():
                            with self.read_lock:
                                self.reads.append(max(0.0, at - float(sent)))
                finally:
                    session.close()
                said = ""
            except libpq.Failure as failure:
                with self.read_lock:
                    self.read_failures += 1
                if not said:
                    said = str(failure)
                    lab.log(f"reads: trying on ({said})")

    def writes(self) -> bool:
        now = time.monotonic()
        return any(path.last is not None and now - path.last[0] < GAP for path in self.paths.values())

    # Comparing.

    def verify(self, reason: str, thoroughly: bool = False) -> dict[str, Any]:
        """Compares what the database has with what it acknowledged. Raises libpq.Failure when it cannot."""
        with self.verifying:
            session = self.of_primary()
            try:
                # What is deleted need not wait for standbys.
                session.rows("SET synchronous_commit = off")
                result = {name: self.verify_path(session, path, reason, thoroughly) for name, path in self.paths.items()}
                self.prune(session)
            finally:
                session.close()
            self.verified = {"time": lab.stamp(time.time()), "reason": reason}
            return result

    def of_primary(self) -> libpq.Connection:
        failure = libpq.Failure("nothing was tried")
        for path in ("hosts", "service"):
            try:
                session, timeline = self.connect(path, VERIFY_PERIOD)
            except libpq.Failure as reason:
                failure = reason
                continue
            if timeline >= self.timeline:
                return session
            # A former primary that nobody has stopped yet knows nothing of what its successor acknowledged.
            failure = libpq.Failure(f"{session.host} is on timeline {timeline}, another primary was on {self.timeline}")
            session.close()
        raise failure

    def verify_path(self, session: libpq.Connection, path: Path, reason: str, thoroughly: bool) -> dict[str, Any]:
        began = time.monotonic()
        with path.lock:
            # Of everything below, the answer is on the disk.
            low, upper = path.base, min(path.open, default=path.next)
            expected = path.expected(upper)
        key = (self.name, path.name)
        rows = session.rows(COUNT, *key, str(low), str(upper))
        found = {int(block or 0): (int(count or 0), int(sum_ or 0), int(squares or 0)) for block, count, sum_, squares in rows}
        differing = [block for block in sorted(expected.keys() | found.keys())
                     if thoroughly or found.get(block) != expected.get(block)
                     and path.examined.get(block) != (found.get(block), expected.get(block))]
        lost: list[int] = []
        back: list[int] = []
        for first, last in runs(differing, 100):
            counts = {int(number or 0): int(count or 0) for number, count in
                      session.rows(IDS, *key, str(max(low, first * BLOCK)), str(min(upper, (last + 1) * BLOCK)))}
            with path.lock:
                for block in range(first, last + 1):
                    self.examine(path, block, range(max(low, block * BLOCK), min(upper, (block + 1) * BLOCK)), counts, lost, back)
        times = self.times_of(path.name, lost) if lost else None
        for mark, numbers in (("-", lost), ("+", back)):
            for number in numbers:
                self.note(mark, path, number)
        if lost or back:
            # Remembered before it is told, so it is told once.
            self.await_notes()
        with path.lock:
            expected = path.expected(upper)
            path.examined.update({block: (found.get(block), expected.get(block)) for block in differing})
            totals = path.totals()
        line = {"path": path.name, "reason": reason, "server": session.host, "timeline": self.timeline, **totals,
                "newlyLost": len(lost), "lostIds": ranges(lost), "lostFrom": times[0] if times else None,
                "lostTo": times[1] if times else None, "back": len(back),
                "seconds": round(time.monotonic() - began, 3)}
        tell("ledger-verify", line)
        return line

    @staticmethod
    def examine(path: Path, block: int, numbers: range, counts: dict[int, int], lost: list[int], back: list[int]) -> None:
        further = 0
        for number in numbers:
            count, state = counts.get(number, 0), path.get(number)
            further += max(0, count - 1)
            if count and state == LOST:
                back.append(number)
                path.set(number, ACKNOWLEDGED)
            elif count and state in (UNKNOWN, DOUBTED):
                path.set(number, COMMITTED)
            elif not count and state == ACKNOWLEDGED:
                lost.append(number)
                path.set(number, LOST)
            elif not count and state == COMMITTED:
                path.set(number, DOUBTED)
        if further:
            path.duplicates[block] = further
        else:
            path.duplicates.pop(block, None)

    def times_of(self, path: str, numbers: list[int]) -> tuple[str, str] | None:
        """When the first and the last of these were acknowledged."""
        wanted = set(numbers)
        times = [at for file in self.book.files() for mark, of, number, at in self.book.lines_of(file)
                 if mark == "+" and of == path and number in wanted]
        return (lab.stamp(min(times)), lab.stamp(max(times))) if times else None

    def prune(self, session: libpq.Connection) -> None:
        """Keeps the last rows of each path, here and there; what was compared just now may go."""
        self.forget(self.retain)
        for name, path in self.paths.items():
            self.delete(session, OLD_ROWS, self.name, name, str(path.base))
        if self.old_rows:
            # Of ledgers whose disk this machine no longer has.
            self.delete(session, ROWS_OF_OTHERS, lab.NODE + ".", self.name)
            self.old_rows = False

    def delete(self, session: libpq.Connection, statement: str, *parameters: str) -> None:
        while not self.ended.is_set() and session.rows(statement, *parameters) == [[str(PIECE)]]:
            pass

    def forget(self, kept: int) -> bool:
        """All but the last so many rows of each path are only counted from now on. Whether there were any."""
        any_gone = False
        for path in self.paths.values():
            with path.lock:
                base = (min(path.open, default=path.next) - kept) // BLOCK * BLOCK
                if base > path.base:
                    path.forget(base)
                    any_gone = True
        self.save()
        self.book.forget({name: path.base for name, path in self.paths.items()})
        return any_gone

    # Telling.

    def status(self) -> dict[str, Any]:
        paths = {}
        for name, path in self.paths.items():
            with path.lock:
                now = time.monotonic()
                paths[name] = {**path.totals(), "longestGap": path.longest, "failure": path.failure,
                               "lastAcknowledgement": lab.stamp(path.last[1]) if path.last else None,
                               "seconds": round(now - path.last[0], 3) if path.last else None}
        return {"ledger": self.name, "system": self.system, "timeline": self.timeline or None, "since": self.since,
                "paths": paths, "verified": self.verified}

    def report(self, seconds: float) -> None:
        with self.read_lock:
            reads, self.reads = sorted(self.reads), []
            failures, self.read_failures = self.read_failures, 0
        line: dict[str, Any] = {"seconds": round(seconds, 3),
                                "paths": {name: path.period(seconds) for name, path in self.paths.items()}}
        if self.read_rate:
            line["reads"] = {"count": len(reads), "failures": failures,
                             "staleness_ms": milliseconds(reads[len(reads) // 2]) if reads else None,
                             "maxStaleness_ms": milliseconds(reads[-1]) if reads else None}
        tell("ledger", line)

    def run(self) -> None:
        threads = [threading.Thread(target=self.write, args=(path, turn), daemon=True) for path in self.paths.values()
                   for turn in range(-(-self.rate // OF_ONE_SESSION))]
        if self.read_rate:
            threads.append(threading.Thread(target=self.read, daemon=True))
        verifier = threading.Thread(target=self.verify_regularly, daemon=True)
        writer = threading.Thread(target=self.write_notes, daemon=True)
        for thread in (*threads, verifier, writer):
            thread.start()
        began = time.monotonic()
        while not self.ended.wait(max(0.0, began + PERIOD - time.monotonic())):
            now = time.monotonic()
            self.report(now - began)
            began = now
            self.save()
        given_up = time.monotonic() + 3
        for thread in threads:
            thread.join(max(0.0, given_up - time.monotonic()))
        self.closing.set()
        writer.join(3)
        self.save()

    def verify_regularly(self) -> None:
        due, reason, said = time.monotonic() + PERIOD, "start", ""
        while not self.ended.wait(0.5):
            now = time.monotonic()
            settled = [path for path in self.paths.values() if path.settled_at is not None and path.settled_at <= now]
            if not settled and now < due:
                continue
            if settled:
                reason = "gap"
            for path in settled:
                path.settled_at = None
            try:
                self.verify(reason)
                said = ""
            except libpq.Failure as failure:
                if str(failure) != said:
                    said = str(failure)
                    lab.log(f"not verified: {said}")
                # The disk is bounded, whatever the database says.
                with self.verifying:
                    if self.forget(2 * self.retain):
                        lab.log("rows are counted without a comparison, which has not succeeded for too long")
                for path in settled:
                    path.settled_at = now + SETTLED
            due, reason = max(due, now + VERIFY_PERIOD), "periodic"


def runs(numbers: list[int], most: int) -> Iterator[tuple[int, int]]:
    """First and last of each run of numbers that follow each other, none longer than `most`."""
    first = last = None
    for number in numbers:
        if first is not None and last is not None and (number != last + 1 or number - first >= most):
            yield first, last
            first = None
        first, last = number if first is None else first, number
    if first is not None and last is not None:
        yield first, last


def ranges(numbers: list[int]) -> str:
    """`3-7, 9`, and no endless line."""
    words = [str(first) if first == last else f"{first}-{last}" for first, last in runs(sorted(numbers), 1 << 62)]
    return ", ".join(words[:20]) + (f" and {len(words) - 20} more" if len(words) > 20 else "")


class Answers(http.server.BaseHTTPRequestHandler):
    """The readiness probe's question, and those of this program's commands, which come from this machine alone."""

    ledger: Ledger
    # Seconds for who asks, so that connections on which nothing is said do not add up.
    timeout = 10

    def do_GET(self) -> None:
        self.answer(200, self.ledger.status())

    def do_POST(self) -> None:
        if self.client_address[0] not in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            self.answer(403, {"failure": "from this machine alone"})
            return
        try:
            self.answer(200, {"paths": self.ledger.verify("manual", thoroughly=True)})
        except libpq.Failure as failure:
            self.answer(503, {"failure": str(failure)})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Each probe would be a line."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Both families, where there are both.
    address_family = socket.AF_INET6 if os.path.exists("/proc/net/if_inet6") else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asks and hangs up is no fault."""


def run(directory: pathlib.Path) -> int:
    terminated = threading.Event()
    current: list[threading.Event] = []

    def terminate(*_: Any) -> None:
        terminated.set()
        for ended in current:
            ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, terminate)
    server = None
    while not terminated.is_set():
        ended = threading.Event()
        current[:] = [ended]
        ledger = Ledger(directory, ended)
        Answers.ledger = ledger
        if server is None:
            server = Server(("", PORT), Answers)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        lab.log(f"ledger {ledger.name}: {ledger.rate} commits a second through each of {', '.join(ledger.paths)}")
        if not terminated.is_set():
            ledger.run()
        ledger.book.close()
        if ledger.foreign is not None:
            set_aside(directory, ledger)
    return 0


def set_aside(directory: pathlib.Path, ledger: Ledger) -> None:
    """Another database, or an older disk: what is known says nothing of it. It is kept, once."""
    previous = directory.with_name(directory.name + ".previous")
    shutil.rmtree(previous, ignore_errors=True)
    directory.rename(previous)
    tell("ledger-database", {"ledger": None, "system": ledger.foreign, "server": None, "timeline": None,
                             "timelineBefore": None, "systemBefore": ledger.system, "kept": str(previous)})


def ask(method: str, path: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("localhost", PORT, timeout=300)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def table(rows: list[list[Any]]) -> str:
    text = [["-" if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*text)]
    return "\n".join("  ".join(cell.ljust(width) if place == 0 else cell.rjust(width)
                               for place, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in text)


def counts(paths: dict[str, Any]) -> list[list[Any]]:
    return [["path", "acknowledged", "lost", "duplicated", "in doubt: committed", "not committed"],
            *([name, path["acknowledged"], path["lost"], path["duplicated"], path["inDoubt"]["committed"],
               path["inDoubt"]["notCommitted"]] for name, path in paths.items())]


def show_status() -> int:
    _, status = ask("GET", "/status")
    print(f"ledger {status['ledger']} since {status['since']}: database {status['system'] or '-'},"
          f" timeline {status['timeline'] or '-'}\n")
    print(table(counts(status["paths"])), "\n")
    for name, path in status["paths"].items():
        gap = path["longestGap"]
        print(f"{name}: last acknowledgement " + (f"{path['seconds']} s ago" if path["lastAcknowledgement"] else "none yet") +
              (f"; now: {path['failure']}" if path["failure"] else ""))
        print("  longest gap " + (f"{gap['seconds']} s, {gap['start']} to {gap['end']}: {gap['cause']}" if gap else "none over 1 s"))
    verified = status["verified"]
    print("\ncompared with the database " + (f"at {verified['time']} ({verified['reason']})" if verified else "not yet"))
    return 0


def show_verification() -> int:
    status, answer = ask("POST", "/verify")
    if status != 200:
        lab.log(f"error: {answer['failure']}")
        return 2
    print(table(counts(answer["paths"])))
    for name, path in answer["paths"].items():
        if path["newlyLost"]:
            print(f"{name}: {path['newlyLost']} rows lost that were not known to be, acknowledged {path['lostFrom']} to"
                  f" {path['lostTo']}: {path['lostIds']}")
        if path["back"]:
            print(f"{name}: {path['back']} rows that were lost are back")
    return 1 if any(path["lost"] for path in answer["paths"].values()) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["status", "verify", "run"])
    command = parser.parse_args().command
    if command == "run":
        try:
            return run(DIRECTORY)
        except OSError as error:
            lab.log(f"failed: {error}")
            return 1
    try:
        return show_status() if command == "status" else show_verification()
    except OSError as error:
        lab.log(f"error: the ledger does not answer ({error}); journalctl -u virtwork-ledger says why")
        return 2


if __name__ == "__main__":
    sys.exit(main())
