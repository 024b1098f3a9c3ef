#!/usr/bin/python3 -I
"""Writes WAL on the primary and measures how it comes to the replicas, segment by segment.

virtwork-wal-player [--length N] [--jobs N] [--rate BYTES] [--compressed-percent N] [--time-limit SECONDS]
    plays once, now. Options replace what the config says. Prints a line of JSON for each segment, and one for the run; to
    a terminal a bar, too.
virtwork-wal-player --scheduled
    is what virtwork-wal-player.service runs: it plays when the schedule of the config says so, where this node is the primary.

Each writer sends messages of up to 1 MiB that PostgreSQL writes into its WAL and nothing else (pg_logical_emit_message): no
table grows, no page is written but those of the WAL. Their bytes are random and never the same; where they are to compress,
a part of each 4 KiB is zeros. A run begins in a new segment. What else writes WAL meanwhile, such as pgbench, is in the
segments, too.

A segment starts when it is whole on the primary's disk, which is when a walsender may send the last of it, and ends when
the last replica says that it has it on its disk. So the time of a segment is what a replica is behind, not how long it took
to fill. Times are those of this node: it looks every 5 ms at what the replicas have said.

Exit status: 0 every replica flushed each segment, 1 not so, 2 the run could not begin.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import signal
import sys
import threading
import time
from typing import Any, Callable, Iterator

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402
import libpq  # noqa: E402

LOOK = 0.005
MESSAGE = 1 << 20
# How much of a message is laid out alike: the shorter, the more an algorithm loses at the seams.
UNIT = 4096
# Any number that nothing else in the lab uses: two runs at a time would measure each other.
LOCK = 7021934
PREFIX = "virtwork-wal-player"
STAGES = ("received", "flushed", "replayed")
# Somebody wants this program to end.
ENDED = threading.Event()


@dataclasses.dataclass(frozen=True)
class Run:
    """What is played."""

    length: int
    jobs: int
    rate: int | None
    compressed_percent: int
    time_limit: int
    replicas: tuple[str, ...]


@dataclasses.dataclass
class Segment:
    """One segment and, in seconds since the epoch, when it was whole here and who had it when."""

    number: int
    whole: float | None = None
    times: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def lacks(self, replicas: tuple[str, ...], stages: tuple[str, ...] = STAGES) -> list[str]:
        return [name for name in replicas if not all(stage in self.times.get(name, {}) for stage in stages)]

    @property
    def end(self) -> float:
        """When the last replica that flushed it had done so."""
        assert self.whole is not None
        return max([times["flushed"] for times in self.times.values() if "flushed" in times], default=self.whole)


class Clock:
    """The time of day that no adjustment moves during a run."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return self._offset + time.monotonic()


class Payload:
    """What the writers write: the next so many bytes, and when they may be written."""

    def __init__(self, run: Run, total: int) -> None:
        self._left = total
        self._seconds_per_byte = 1 / run.rate if run.rate else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()
        self._random = max(1, round(UNIT * run.compressed_percent / 100))
        # Pauses stay below a fifth of a second at low rates.
        self._most = MESSAGE if not run.rate else min(MESSAGE, max(UNIT, run.rate // 5 // UNIT * UNIT))

    def take(self, stopped: threading.Event) -> bytes | None:
        """A message, when its time has come; None when there is no more."""
        with self._lock:
            size = min(self._most, self._left)
            self._left -= size
            at, self._next = self._next, max(self._next, time.monotonic() - 1) + size * self._seconds_per_byte
        if size <= 0 or stopped.wait(max(0.0, at - time.monotonic())):
            return None
        return self._bytes(size)

    def _bytes(self, size: int) -> bytes:
        units = -(-size // UNIT)
        step = self._random
        if step == UNIT:
            return os.urandom(size)
        noise, zeros = os.urandom(units * step), bytes(UNIT - step)
        return b"".join(noise[unit * step:(unit + 1) * step] + zeros for unit in range(units))[:size]


class Player:
    """A run that is under way."""

    def __init__(self, run: Run, session: libpq.Connection) -> None:
        self.run = run
        self.session = session
        self.clock = Clock()
        self.stopped = threading.Event()
        self.failures: list[str] = []
        self.feedback = threading.Event()
        (row,) = session.rows("SELECT current_setting('data_directory'), setting::bigint, pg_switch_wal() IS NOT NULL"
                              " FROM pg_settings WHERE name = 'wal_segment_size'")
        self.directory, self.size = f"{row[0]}/pg_wal", int(row[1] or 0)
        (row,) = session.rows("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,"
                              " ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int")
        insert, self.timeline = int(row[0] or 0), int(row[1] or 0)
        self.first = insert // self.size
        self.begun = self.clock.now()
        self.segments = [Segment(self.first + index) for index in range(run.length)]
        self.end = (self.first + run.length) * self.size
        self.payload = Payload(run, self.end - insert)

    def path(self, number: int) -> str:
        per_log = (1 << 32) // self.size
        return f"{self.directory}/{self.timeline:08X}{number // per_log:08X}{number % per_log:08X}"

    def play(self) -> Iterator[Segment]:
        """Each segment as soon as nothing more is to be learnt of it."""
        threads = [threading.Thread(target=self._write, daemon=True) for _ in range(self.run.jobs)]
        asker = threading.Thread(target=self._ask_for_replays, daemon=True)
        for thread in (*threads, asker):
            thread.start()
        whole = done = 0
        while done < len(self.segments):
            if ENDED.is_set():
                self.stop()
            now, position, replicas = self._look()
            while whole < len(self.segments) and position >= (self.segments[whole].number + 1) * self.size:
                self.segments[whole].whole = now
                whole += 1
                self.feedback.set()
            for segment in self.segments[done:whole]:
                self._note(segment, replicas, now)
            while done < whole and self._is_over(self.segments[done], now):
                yield self.segments[done]
                done += 1
            if self.stopped.is_set() and done == whole:
                return
            time.sleep(LOOK)

    def stop(self) -> None:
        self.stopped.set()
        self.feedback.set()

    def dismiss(self) -> None:
        """Ends the other sessions: one of them may wait for a synchronous standby, and would for ever."""
        self.stop()
        try:
            self.session.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1"
                              " AND pid <> pg_backend_pid()", PREFIX)
        except libpq.Failure:
            pass

    def _look(self) -> tuple[float, int, dict[str, tuple[int, ...]]]:
        """When, how far the WAL is on this disk, and what each replica said last."""
        rows = self.session.rows(
            "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint, application_name,"
            " pg_wal_lsn_diff(write_lsn, '0/0')::bigint, pg_wal_lsn_diff(flush_lsn, '0/0')::bigint,"
            " pg_wal_lsn_diff(replay_lsn, '0/0')::bigint FROM (SELECT) one LEFT JOIN pg_stat_replication ON true")
        found = {row[1]: tuple(int(value or 0) for value in row[2:]) for row in rows if row[1]}
        return self.clock.now(), int(rows[0][0] or 0), {name: found[name] for name in self.run.replicas if name in found}

    def _note(self, segment: Segment, replicas: dict[str, tuple[int, ...]], now: float) -> None:
        boundary = (segment.number + 1) * self.size
        for name, positions in replicas.items():
            times = segment.times.setdefault(name, {})
            for stage, position in zip(STAGES, positions):
                if position >= boundary:
                    times.setdefault(stage, now)

    def _is_over(self, segment: Segment, now: float) -> bool:
        assert segment.whole is not None
        return not segment.lacks(self.run.replicas) or self.stopped.is_set() or now - segment.whole > self.run.time_limit

    def _write(self) -> None:
        try:
            session = libpq.Connection(PREFIX)
            # A writer waits for this disk alone, also where commits wait for standbys.
            session.rows("SET synchronous_commit = local")
            while (message := self.payload.take(self.stopped)) is not None:
                rows = session.rows("SELECT pg_wal_lsn_diff(pg_logical_emit_message(true, $1, $2), '0/0')::bigint",
                                    PREFIX, message)
                if int(rows[0][0] or 0) > self.end:
                    break
        except libpq.Failure as failure:
            self.failures.append(str(failure))
            self.stop()

    def _ask_for_replays(self) -> None:
        """A standby says how far it has replayed when it has received something, every ten seconds, and when it has replayed a
        commit with remote_apply (XACT_COMPLETION_APPLY_FEEDBACK in PostgreSQL's xact.h). So one follows each segment. With
        synchronous standbys it waits for them: here, and nowhere else."""
        try:
            session = libpq.Connection(PREFIX)
            session.rows("SET synchronous_commit = remote_apply")
            while not self.stopped.is_set():
                self.feedback.wait()
                self.feedback.clear()
                session.rows("SELECT pg_logical_emit_message(true, $1, $2)", PREFIX, b"")
        except libpq.Failure as failure:
            if not self.stopped.is_set():
                lab.log(f"warning: replicas may say late how far they have replayed: {failure}")


def line_of(player: Player, segment: Segment) -> dict[str, Any]:
    """Klio's names for what Klio's player tells, too."""
    assert segment.whole is not None
    missing = segment.lacks(player.run.replicas, ("flushed",))
    error = ""
    if missing and player.stopped.is_set():
        error = f"{', '.join(missing)}: not flushed when the run was stopped"
    elif missing:
        error = f"{', '.join(missing)}: not flushed within {player.run.time_limit} s"
    end = player.clock.now() if missing else segment.end
    return {
        "signal": "wal-segment", "time": lab.stamp(player.clock.now()), "node": lab.NODE, "run": lab.stamp(player.begun),
        "walFullPath": player.path(segment.number), "startTime": lab.stamp(segment.whole), "endTime": lab.stamp(end),
        "elapsedTime": round((end - segment.whole) * 1e9), "error": error, "bytes": player.size,
        "replicas": {name: {f"{stage}_ms": milliseconds(segment, name, stage) for stage in STAGES}
                     for name in player.run.replicas},
    }


def milliseconds(segment: Segment, name: str, stage: str) -> float | None:
    at = segment.times.get(name, {}).get(stage)
    return None if at is None or segment.whole is None else round((at - segment.whole) * 1000, 3)


def percentiles(values: list[float]) -> dict[str, float | None]:
    """Each is a value that was measured: the least one that so many percent are not above."""
    ordered = sorted(values)
    return {f"p{percent}_ms": round(ordered[math.ceil(len(ordered) * percent / 100) - 1], 3) if ordered else None
            for percent in (50, 95, 99)}


def summary_of(player: Player, lines: list[dict[str, Any]]) -> dict[str, Any]:
    good = [line for line in lines if not line["error"]]
    whole = [segment for segment in player.segments if segment.whole is not None]
    seconds = max([segment.end for segment in whole], default=player.begun) - player.begun
    moved = len(good) * player.size
    return {
        "signal": "wal-run", "time": lab.stamp(player.clock.now()), "node": lab.NODE, "run": lab.stamp(player.begun),
        "segments": len(lines), "failures": len(lines) - len(good), "notWritten": player.run.length - len(lines),
        "bytes": moved, "seconds": round(seconds, 6),
        "megabytesPerSecond": round(moved / 1e6 / seconds, 3) if seconds else None,
        **percentiles([line["elapsedTime"] / 1e6 for line in good]),
        "replicas": {name: {stage: percentiles([line["replicas"][name][f"{stage}_ms"] for line in lines
                                                if line["replicas"][name][f"{stage}_ms"] is not None]) for stage in STAGES}
                     for name in player.run.replicas},
        "stoppedBecause": player.failures[0] if player.failures else "interrupted" if player.stopped.is_set() else "",
    }


def show(done: int, length: int, started: float, size: int) -> None:
    if sys.stderr.isatty():
        bar = "#" * (30 * done // length)
        rate = done * size / 1e6 / max(time.monotonic() - started, 0.001)
        print(f"\r[{bar:30}] {done}/{length} segments, {rate:.1f} MB/s ", end="\n" if done == length else "", file=sys.stderr,
              flush=True)


def play(run: Run) -> int:
    session = libpq.Connection(PREFIX)
    if session.rows("SELECT pg_is_in_recovery()") != [["f"]]:
        lab.log(f"error: {lab.NODE} is a standby: the player writes on the primary (`virtwork-status` says which node that is)")
        return 2
    if session.rows("SELECT pg_try_advisory_lock($1::bigint)", str(LOCK)) != [["t"]]:
        lab.log("error: another run is under way")
        return 2
    player = Player(run, session)
    lines: list[dict[str, Any]] = []
    started = time.monotonic()
    try:
        show(0, run.length, started, player.size)
        for segment in player.play():
            lines.append(line_of(player, segment))
            print(json.dumps(lines[-1]), flush=True)
            show(len(lines), run.length, started, player.size)
    except libpq.Failure as failure:
        player.failures.append(str(failure))
        player.stop()
    summary = summary_of(player, lines)
    print(json.dumps(summary), flush=True)
    try:
        note(session, player, summary)
    except libpq.Failure as failure:
        lab.log(f"warning: the run could not be noted: {failure}")
    player.dismiss()
    return 0 if not summary["failures"] and not summary["stoppedBecause"] else 1


def note(session: libpq.Connection, player: Player, summary: dict[str, Any]) -> None:
    """For whoever is the primary when the next run is due."""
    session.rows("SET synchronous_commit = local")
    session.rows("CREATE SCHEMA IF NOT EXISTS virtwork")
    session.rows("CREATE TABLE IF NOT EXISTS virtwork.wal_player_runs"
                 " (started timestamptz PRIMARY KEY, summary jsonb NOT NULL)")
    session.rows("INSERT INTO virtwork.wal_player_runs VALUES ($1::timestamptz, $2::jsonb)", lab.stamp(player.begun),
                 json.dumps(summary))


def follow_schedule(run: Run, schedule: str) -> int:
    """Plays once in the life of the data, or as often as the schedule says; what was played is in the data, and so goes with
    the role of the primary."""
    said = ""
    while schedule != "manual" and not ENDED.is_set():
        try:
            if is_due(run, schedule):
                play(run)
            said = ""
        except libpq.Failure as failure:
            if str(failure) != said:
                said = str(failure)
                lab.log(f"not yet, trying on: {said}")
        ENDED.wait(10)
    return 0


def is_due(run: Run, schedule: str) -> bool:
    session = libpq.Connection(PREFIX)
    try:
        if session.rows("SELECT pg_is_in_recovery()") != [["f"]]:
            return False
        ((known,),) = session.rows("SELECT to_regclass('virtwork.wal_player_runs')")
        if known:
            ((passed,),) = session.rows("SELECT extract(epoch FROM now() - max(started)) FROM virtwork.wal_player_runs")
            if passed is not None and (schedule == "once" or float(passed) < int(schedule)):
                return False
        # Replicas that are cloned, or just started, are given the time for that.
        given_up = time.monotonic() + 300
        while time.monotonic() < given_up and not ENDED.is_set():
            rows = session.rows("SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'")
            if {name for (name,) in rows} >= set(run.replicas):
                break
            ENDED.wait(2)
        return not ENDED.is_set()
    finally:
        session.close()


def bytes_of(text: str) -> int:
    """A size as PostgreSQL writes it."""
    for unit, power in (("kB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30)):
        if text.endswith(unit):
            return int(text[:-len(unit)]) * power
    return int(text)


def between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not from {least} to {most}")
        return value
    return number


def main() -> int:
    values = lab.LAB
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=between(1, 100_000), default=values["PLAYER_LENGTH"], metavar="N", help="segments")
    parser.add_argument("--jobs", type=between(1, 16), default=values["PLAYER_JOBS"], metavar="N", help="writers")
    parser.add_argument("--rate", type=bytes_of, default=values["PLAYER_RATE"] or "0", metavar="SIZE",
                        help="of all writers in a second, such as 8MB; 0 is as fast as they can")
    parser.add_argument("--compressed-percent", type=between(1, 100), default=values["PLAYER_COMPRESSED_PERCENT"], metavar="N",
                        help="what a good compression leaves of it")
    parser.add_argument("--time-limit", type=between(1, 3600), default=values["PLAYER_TIME_LIMIT"], metavar="SECONDS",
                        help="how long a replica may take for a segment")
    parser.add_argument("--scheduled", action="store_true", help="play when the config's schedule says so")
    given = parser.parse_args()
    replicas = tuple(name for name in lab.databases() if name != lab.NODE)
    run = Run(given.length, given.jobs, given.rate or None, given.compressed_percent, given.time_limit, replicas)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ENDED.set())
    try:
        lab.become_postgres()
    except PermissionError:
        parser.error("run it as root, or as postgres")
    try:
        return follow_schedule(run, values["PLAYER_SCHEDULE"]) if given.scheduled else play(run)
    except libpq.Failure as failure:
        lab.log(f"error: {failure}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
