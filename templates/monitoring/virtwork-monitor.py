#!/usr/bin/python3 -I
"""Measures how far the replicas are behind, and says so in the journal and, where it is given a socket, to Prometheus.

virtwork-monitor.service runs it on every node with a database. It keeps one session with this node's server; on a primary it
judges every replica that the config names, whether or not that one is there, on a standby its own receiver.

The lag of a replica is the age of the first byte that it has not replayed: ten times a second the position of the WAL is put
into a ring, and the lag is the time since the first entry above the replica's position. It needs no table and no new
transaction; it is 0 when all is replayed, and grows when nothing arrives. A replica that is away is judged by what it said
last, or by its slot. What is not in the ring is older than the ring: the lag is "at least" so much then.

An answer on a slow link is old when it comes. Its age is taken off, as far as it is more than that of the quickest answer of
the last ten minutes; so nothing depends on what the replica's clock says, only on that it goes.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import os
import selectors
import socket
import sys
import threading
import time
from array import array
from collections import deque
from typing import Any, Callable, Iterator, Optional

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402
import libpq  # noqa: E402

TICK = 0.1
# Between two looks at the replicas, whatever the interval of the lines is.
LOOK = 0.5
# An answer may be as old as that without being late: one comes each second, and is seen at the next look.
PUNCTUAL = 1.2
# How long the ring has all its entries, and how long one a second.
FINE, COARSE = 600.0, 86400.0
# Seconds of silence after which a replica is taken for gone; TCP and wal_sender_timeout take a minute. A replica answers each
# second, unless the config says otherwise.
SILENCE = 10.0
# More of them in one line are more than a line of the journal holds.
PER_LINE = 64
STATEMENTS = {
    "place": "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0')"
             " ELSE pg_current_wal_lsn() END",
    # A base backup says no position, a clone none that is replayed. Of two sessions of a name one is not over yet.
    "senders": "SELECT application_name, state, sent_lsn, write_lsn, flush_lsn, replay_lsn,"
               " extract(epoch FROM reply_time) FROM pg_stat_replication"
               " WHERE state <> 'backup' ORDER BY reply_time NULLS FIRST",
    # One that was never used has no status, and holds back nothing.
    "slots": "SELECT slot_name, coalesce(wal_status, 'missing'), restart_lsn FROM pg_replication_slots WHERE slot_type = 'physical'",
    # Nothing that fails where the node was promoted a moment ago.
    "receiver": "SELECT status, last_msg_receipt_time, extract(epoch FROM clock_timestamp() - last_msg_receipt_time),"
                " pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(),"
                " CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END"
                " FROM (SELECT) one LEFT JOIN pg_stat_wal_receiver ON true",
    "settings": "SELECT pg_size_bytes(current_setting('max_slot_wal_keep_size')),"
                " extract(epoch FROM current_setting('wal_receiver_status_interval')::interval)",
}
STAGES = ("sent", "write", "flush", "replay")
STATUSES = ("reserved", "extended", "unreserved", "lost", "missing")


def position_of(text: str | None) -> int | None:
    """`16/B374D848`, in bytes."""
    if text is None:
        return None
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


class Ring:
    """When the WAL was first seen at which position, of the last day. An entry is 16 bytes, and there are none while nothing is
    written."""

    def __init__(self) -> None:
        self._times = array("d")
        self._positions = array("q")
        self._thinned = 0
        self._due = 0.0

    def add(self, now: float, position: int) -> None:
        times, positions = self._times, self._positions
        # After a crash, and where a node follows another history, less is written than was.
        while positions and positions[-1] > position:
            times.pop()
            positions.pop()
        if not positions or positions[-1] < position:
            times.append(now)
            positions.append(position)
        if now >= self._due:
            self._due = now + 60
            self._thin(now)

    def _thin(self, now: float) -> None:
        times, positions = self._times, self._positions
        start, end = min(self._thinned, len(times)), bisect.bisect_left(times, now - FINE)
        kept: list[int] = []
        for index in range(start, end):
            if not kept or times[index] - times[kept[-1]] >= 1:
                kept.append(index)
        times[start:end] = array("d", [times[index] for index in kept])
        positions[start:end] = array("q", [positions[index] for index in kept])
        gone = min(bisect.bisect_left(times, now - COARSE), max(len(times) - 1, 0))
        del times[:gone]
        del positions[:gone]
        self._thinned = max(0, start + len(kept) - gone)

    def lag(self, position: int | None, now: float) -> tuple[float, bool]:
        """How long more than that has been written, and whether it may be longer."""
        if not self._times:
            return 0.0, True
        if position is None:
            return now - self._times[0], True
        index = bisect.bisect_right(self._positions, position)
        return (now - self._times[index], index == 0) if index < len(self._times) else (0.0, False)

    def __len__(self) -> int:
        return len(self._times)


@dataclasses.dataclass
class Replica:
    """What is known of a replica, from now or from before."""

    name: str
    state: str = ""
    positions: dict[str, Optional[int]] = dataclasses.field(default_factory=lambda: dict.fromkeys(STAGES))
    told: Optional[float] = None
    heard: Optional[float] = None
    delay: float = 0.0
    gaps: deque[tuple[float, float]] = dataclasses.field(default_factory=lambda: deque(maxlen=10))
    slot: str = "missing"
    restart: Optional[int] = None

    @property
    def slot_name(self) -> str:
        return self.name.replace("-", "_")

    def take_sender(self, row: list[str | None] | None, now: float) -> None:
        self.state = ""
        if row is None:
            return
        _, state, *positions, reply = row
        told = dict(zip(STAGES, map(position_of, positions)))
        if told["replay"] is None:
            return
        self.state, self.positions = state or "", told
        if reply is not None and float(reply) != self.told:
            self._hear(float(reply), now)

    def _hear(self, told: float, now: float) -> None:
        # Its clock was set back, which would look like an answer that is late by so much. (One that is set forward does not.)
        if self.told is not None and told < self.told:
            self.gaps.clear()
        self.told, self.heard = told, now
        minute, gap = now // 60, now - told
        if self.gaps and self.gaps[-1][0] == minute:
            gap = min(gap, self.gaps.pop()[1])
        self.gaps.append((minute, gap))
        late = now - told - min(gap for _, gap in self.gaps)
        # Half a second of it was spent on waiting for the look, on average.
        self.delay = late - 0.5 if late > PUNCTUAL else 0.0

    def take_slot(self, row: list[str | None] | None) -> None:
        self.slot = "missing" if row is None else row[1] or ""
        if row is not None and row[2] is not None:
            self.restart = position_of(row[2])


def next_after(now: float, due: float, every: float) -> float:
    """The next time of those that follow each other so; what was missed is left out."""
    return due + every * max(1, math.ceil((now - due) / every))


def number(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


class Sampler:
    """What is measured here. One thread samples; another one may ask for what was found."""

    def __init__(self, node: str, names: tuple[str, ...], interval: float, is_warm: bool,
                 connect: Callable[[], libpq.Connection]) -> None:
        self.node = node
        self.replicas = [Replica(name) for name in names if name != node]
        self.interval = interval
        self._is_warm = is_warm
        self._connect = connect
        self._session: libpq.Connection | None = None
        self.started = time.time()
        self.up = False
        self.role: str | None = None
        self.position: int | None = None
        self.ring = Ring()
        self.receiver: dict[str, Any] = {}
        self._heard = time.monotonic()
        self._receipt: str | None = None
        self._slot_limit, self._silence, self._settings_due = math.inf, SILENCE, 0.0
        self._next_attempt, self._said, self._said_at = 0.0, "", 0.0
        # When the sampling last came round, by the clock that is never set.
        self.sampled = time.monotonic()
        self.found: dict[str, Any] = {"up": False, "role": None, "position": None, "replicas": {}, "receiver": {}}

    def run(self) -> None:
        due = look = line = time.monotonic()
        while True:
            now = time.monotonic()
            is_look, is_line = now >= look, now >= line
            self.tick(is_look)
            if is_line:
                self.tell()
                line = next_after(now, line, self.interval)
            if is_look:
                look = next_after(now, look, LOOK)
            now = time.monotonic()
            due = max(due + TICK, now)
            time.sleep(due - now)

    def tick(self, is_look: bool) -> None:
        try:
            if self._session is None:
                self._open()
            if self._session is not None:
                self._place(self._session)
                if is_look:
                    self._look(self._session)
        except libpq.Failure as failure:
            self._lose(str(failure))
        self.sampled = time.monotonic()
        if is_look:
            self._judge_all()

    def _open(self) -> None:
        now = time.monotonic()
        if now < self._next_attempt:
            return
        self._next_attempt = now + 1
        session = self._connect()
        try:
            for name, statement in STATEMENTS.items():
                session.rows(f"PREPARE {name} AS {statement}")
        except libpq.Failure:
            session.close()
            raise
        self._session, self._settings_due = session, 0.0
        self.up = True
        if self._said:
            lab.log("the server is back")
            self._said = ""

    def _lose(self, reason: str) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
        # A standby of a warm lab refuses everybody: 14 and newer say why, 13 that it starts.
        is_refused = "Hot standby mode is disabled" in reason or (self.role != "primary" and "is starting up" in reason)
        self.up = self._is_warm and is_refused
        if self.up:
            self._become("standby")
        now = time.monotonic()
        if not self.up and (reason != self._said or now - self._said_at >= 600):
            lab.log(f"the server: not yet, trying on ({reason})")
            self._said, self._said_at = reason, now

    def _become(self, role: str) -> None:
        if role != self.role:
            lab.signal("event", {"event": "role", "role": role, "previous": self.role})
            if role == "primary":
                # What was known is of the time before.
                self.replicas = [Replica(replica.name) for replica in self.replicas]
            self.role, self._heard, self.receiver = role, time.monotonic(), {}

    def _place(self, session: libpq.Connection) -> None:
        ((in_recovery, position),) = session.rows("EXECUTE place")
        self._become("standby" if in_recovery == "t" else "primary")
        self.position = position_of(position)
        self.ring.add(time.monotonic(), self.position or 0)

    def _look(self, session: libpq.Connection) -> None:
        now = time.monotonic()
        if now >= self._settings_due:
            ((limit, status),) = session.rows("EXECUTE settings")
            self._slot_limit = math.inf if limit == "-1" else float(limit or 0)
            self._silence = max(SILENCE, 3 * float(status or 0)) if float(status or 0) else math.inf
            self._settings_due = now + 60
        if self.role == "primary":
            senders = {row[0]: row for row in session.rows("EXECUTE senders")}
            slots = {row[0]: row for row in session.rows("EXECUTE slots")}
            now = time.monotonic()
            for replica in self.replicas:
                replica.take_sender(senders.get(replica.name), now)
                replica.take_slot(slots.get(replica.slot_name))
        else:
            ((status, receipt, age, received, replayed, paused),) = session.rows("EXECUTE receiver")
            # The same message does not become younger where the clock is set back.
            if age is not None and receipt != self._receipt:
                self._heard, self._receipt = max(self._heard, time.monotonic() - max(0.0, float(age))), receipt
            self.receiver = {"status": status, "received": position_of(received), "replayed": position_of(replayed),
                             "paused": paused == "t"}

    def _judge_all(self) -> None:
        now = time.monotonic()
        replicas = {replica.name: self._judge(replica, now) for replica in self.replicas} if self.role == "primary" else {}
        receiver: dict[str, Any] = {}
        if self.role == "standby":
            received, replayed = self.receiver.get("received"), self.receiver.get("replayed")
            # What was restored from elsewhere is replayed and was not received.
            behind = None if received is None or replayed is None else max(0, received - replayed)
            # A warm standby tells nothing of itself.
            is_mute = self.up and self._session is None
            receiver = {"status": self.receiver.get("status"), "message_age_seconds": None if is_mute else number(now - self._heard),
                        "received_bytes": received, "replayed_bytes": replayed, "replay_lag_bytes": behind,
                        "paused": self.receiver.get("paused")}
        self.found = {"up": self.up, "role": self.role, "position": self.position, "replicas": replicas, "receiver": receiver}

    def tell(self) -> None:
        """The line for the journal: one, or in a large lab some of one time."""
        found, at = self.found, time.time()
        replicas, receiver = found["replicas"], found["receiver"]
        names = list(replicas)
        for start in range(0, max(1, len(names)), PER_LINE):
            part = {name: replicas[name] for name in names[start:start + PER_LINE]}
            line: dict[str, Any] = {"up": found["up"], "role": found["role"], "position_bytes": found["position"]}
            if found["role"] == "primary":
                line["replicas"] = part
            elif receiver:
                line["receiver"] = receiver
            lab.signal("lag", line, at)

    def _judge(self, replica: Replica, now: float) -> dict[str, Any]:
        replayed = replica.positions["replay"]
        seconds, is_least = self.ring.lag(replica.restart if replayed is None else replayed, now)
        seconds = max(0.0, seconds - replica.delay)
        silence = now - replica.heard if replica.heard is not None else None
        behind = {f"{stage}_bytes": None if place is None or self.position is None else max(0, self.position - place)
                  for stage, place in replica.positions.items()}
        holds = replica.slot not in ("lost", "missing") and replica.restart is not None and self.position is not None
        return {
            "lag_seconds": number(seconds), "at_least": is_least,
            "connected": bool(self.up and replica.state and silence is not None and silence < self._silence),
            "state": replica.state or None, "reply_age_seconds": number(silence), **behind, "slot": replica.slot,
            "retained_bytes": max(0, (self.position or 0) - (replica.restart or 0)) if holds else 0,
        }

    def page(self) -> bytes:
        """The same for Prometheus."""
        lines: list[str] = []
        node = f'node="{self.node}"'
        state = self.found
        replicas, receiver, is_primary = state["replicas"], state["receiver"], state["role"] == "primary"

        def family(name: str, about: str, samples: Iterator[tuple[str, Any]]) -> None:
            lines.extend((f"# HELP virtwork_{name} {about}", f"# TYPE virtwork_{name} gauge"))
            lines.extend(f"virtwork_{name}{{{node}{labels}}} {text_of(value)}" for labels, value in samples)

        def one(value: Any) -> Iterator[tuple[str, Any]]:
            yield "", value

        def each(field: str) -> Iterator[tuple[str, Any]]:
            return ((f',replica="{name}"', found[field]) for name, found in replicas.items())

        family("server_up", "Whether the server of this node takes connections.", one(state["up"]))
        family("server_is_primary", "Whether the server of this node takes writes.", one(state["up"] and is_primary))
        family("sampler_start_time_seconds", "When the sampler started, in seconds since 1970.", one(self.started))
        age = max(0.0, time.monotonic() - self.sampled)
        family("sample_age_seconds", "Time since the server was last asked.", one(age))
        family("sample_time_seconds", "When the server was last asked, in seconds since 1970.", one(time.time() - age))
        family("wal_position_bytes", "Where the WAL of this node ends; on a standby, what it has replayed.", one(state["position"]))
        if is_primary:
            family("slot_limit_bytes", "What a slot may hold back: max_slot_wal_keep_size.", one(self._slot_limit))
            family("replica_lag_seconds", "Age of the first byte that the replica has not replayed.", each("lag_seconds"))
            family("replica_lag_at_least", "Whether the lag may be more: it began before what is known.", each("at_least"))
            family("replica_lag_bytes", "What is written here and not yet sent, written, flushed, replayed.",
                   ((f',replica="{name}",stage="{stage}"', found[f"{stage}_bytes"])
                    for name, found in replicas.items() for stage in STAGES))
            family("replica_connected", "Whether the replica streams, and has answered lately.", each("connected"))
            family("replica_reply_age_seconds", "Time since the last answer of the replica.", each("reply_age_seconds"))
            family("slot_status", "Whether the slot of the replica is in this state.",
                   ((f',replica="{name}",status="{status}"', found["slot"] == status)
                    for name, found in replicas.items() for status in STATUSES))
            family("slot_retained_bytes", "WAL that the slot of the replica holds back.", each("retained_bytes"))
        elif receiver:
            silence = receiver["message_age_seconds"]
            streams = None if silence is None else receiver["status"] == "streaming"
            family("receiver_streaming", "Whether the receiver streams.", one(streams))
            family("receiver_message_age_seconds", "Time since the last message of a primary.", one(silence))
            family("receiver_position_bytes", "What was received, and what of it was replayed.",
                   ((f',stage="{stage}"', receiver[f"{stage}_bytes"]) for stage in ("received", "replayed")))
            family("replay_paused", "Whether replay is paused.", one(receiver["paused"]))
        return ("\n".join(lines) + "\n").encode()


def text_of(value: Any) -> str:
    if value is None:
        return "NaN"
    if value == math.inf:
        return "+Inf"
    return str(int(value) if isinstance(value, bool) else value)


class Scrape:
    """A connection of somebody who asks."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.until = time.monotonic() + 10
        self.request = b""
        self.answer: memoryview | None = None


class Scrapes(threading.Thread):
    """Answers on sockets that systemd listens on: any number of askers, however slow, cost one thread, 32 connections and ten
    seconds for each."""

    MOST = 32

    def __init__(self, listeners: list[socket.socket], page: Callable[[], bytes]) -> None:
        super().__init__(daemon=True)
        self._listeners = listeners
        self._page = page
        self._made, self._text = 0.0, b""
        self._selector = selectors.DefaultSelector()
        self._open: list[Scrape] = []

    def run(self) -> None:
        for listener in self._listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(1 if self._open else None):
                try:
                    if key.data is None:
                        self._accept(key.fileobj)  # type: ignore[arg-type]
                    elif key.data in self._open:
                        self._go_on(key.data)
                except BlockingIOError:
                    pass
                except OSError:
                    self._close(key.data)
            now = time.monotonic()
            for scrape in [scrape for scrape in self._open if scrape.until < now]:
                self._close(scrape)

    def _accept(self, listener: socket.socket) -> None:
        peer, _ = listener.accept()
        peer.setblocking(False)
        while len(self._open) >= self.MOST:
            self._close(self._open[0])
        scrape = Scrape(peer)
        self._open.append(scrape)
        self._selector.register(peer, selectors.EVENT_READ, scrape)

    def _go_on(self, scrape: Scrape) -> None:
        if scrape.answer is None:
            data = scrape.peer.recv(4096)
            scrape.request += data
            if not data or len(scrape.request) > 16384:
                self._close(scrape)
            elif b"\r\n\r\n" in scrape.request:
                scrape.answer = memoryview(self._answer(scrape.request))
                self._selector.modify(scrape.peer, selectors.EVENT_WRITE, scrape)
            return
        scrape.answer = scrape.answer[scrape.peer.send(scrape.answer):]
        if not scrape.answer:
            self._close(scrape)

    def _answer(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].split(b" ")
        path = words[1].partition(b"?")[0] if len(words) == 3 else b""
        if words[0] not in (b"GET", b"HEAD") or path != b"/metrics":
            return b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 9\r\nConnection: close\r\n\r\n/metrics\n"
        now = time.monotonic()
        if now - self._made > 0.2:
            self._made, self._text = now, self._page()
        head = ("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                f"Content-Length: {len(self._text)}\r\nConnection: close\r\n\r\n").encode()
        return head if words[0] == b"HEAD" else head + self._text

    def _close(self, scrape: Scrape | None) -> None:
        if scrape in self._open:
            assert scrape is not None
            self._open.remove(scrape)
            self._selector.unregister(scrape.peer)
            scrape.peer.close()


def listeners() -> list[socket.socket]:
    """What systemd passed on."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    return [socket.socket(fileno=3 + index) for index in range(int(os.environ.get("LISTEN_FDS", "0")))]


def main() -> int:
    lab.become_postgres()
    sampler = Sampler(lab.NODE, lab.databases(), int(lab.LAB["MONITOR_INTERVAL"]), lab.LAB["STANDBY_MODE"] == "warm",
                      lambda: libpq.Connection("virtwork-monitor", connect_timeout="5"))
    sockets = listeners()
    if sockets:
        Scrapes(sockets, sampler.page).start()
    sampler.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
