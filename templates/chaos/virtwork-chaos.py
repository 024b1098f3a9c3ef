#!/usr/bin/python3 -I
"""Makes the network bad on which WAL comes to the replicas, and nothing else of it.

virtwork-chaos start [--latency 80ms] [--jitter 20ms] [--loss 0.5%] [--rate 10mbit] [--partition] [--target VM] [--for SECONDS]
    begins a window by hand, on the primary. Without an effect it is that of the config; without a target all replicas; without
    --for until it is stopped. It takes the place of the schedule meanwhile, and ends with a restart of the VM.
virtwork-chaos stop
    ends the window that is open, also one of the schedule; the next one comes when it is due.
virtwork-chaos status
    says what is going on.
virtwork-chaos run
    is what virtwork-chaos.service does: the schedule, and what is asked for by hand.
virtwork-chaos clear
    takes away what a run left.

Only the node that sends WAL can delay it: on a replica the same would delay its answers. So the packets are those of this
node's PostgreSQL (TCP from port 5432) to the addresses of the targets. Sessions of clients that a replica's HAProxy hands on
come from there, too; it connects from ports 28672 to 32767, which are let through. SSH, readiness, clients and all other
nodes have nothing of it.

A schedule begins when a primary first reads it; that moment is in the data, and so it is the same after a restart and for
the next primary.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402
import libpq  # noqa: E402

RUN = pathlib.Path("/run/virtwork-chaos")
REQUEST, STATUS = RUN / "request", RUN / "status"
# Of the queue by which one is known as ours. Its first class is as before, what is in the second is late, lost or both.
HANDLE = 0x7643
QUEUE, GOOD, BAD = f"{HANDLE:x}:", f"{HANDLE:x}:1", f"{HANDLE:x}:2"
POSTGRESQL = ["sport", "5432", "0xffff"]
HAPROXY = ["dport", "0x7000", "0xf000"]
# More than what TCP has under way to some replicas at once; a queue that is full would lose what only was to be late.
LIMIT = "20000"
PATTERNS = {"latency": r"[0-9]{1,9}(us|ms|s)", "jitter": r"[0-9]{1,9}(us|ms|s)", "loss": r"[0-9]{1,2}(\.[0-9]{1,3})?%",
            "rate": r"[0-9]{1,9}(kbit|mbit|gbit)", "partition": r"yes"}
ENDED = threading.Event()


@dataclasses.dataclass(frozen=True)
class Effects:
    """How bad the network is, and to whom."""

    words: tuple[tuple[str, str], ...]
    targets: tuple[str, ...]

    @classmethod
    def parse(cls, values: dict[str, str]) -> Effects:
        """Of `latency=80ms target=db-replica-0` and the like; what tc would not take is refused here."""
        for key, value in values.items():
            if key != "target" and not re.fullmatch(PATTERNS[key], value):
                raise ValueError(f"{key} cannot be {value!r}")
        if "jitter" in values and "latency" not in values:
            raise ValueError("jitter needs latency")
        if "partition" in values and len(values) > 1 + ("target" in values):
            raise ValueError("with partition nothing passes, early or late")
        targets = tuple(values["target"].split(",")) if values.get("target") else ()
        for target in targets:
            if target not in lab.databases():
                raise ValueError(f"{target} is no node of this lab with a database")
        return cls(tuple((key, values[key]) for key in PATTERNS if key in values), targets)

    def netem(self) -> list[str]:
        given = dict(self.words)
        if "partition" in given:
            return ["loss", "100%"]
        delay = ["delay", given["latency"], *([given["jitter"]] if "jitter" in given else [])] if "latency" in given else []
        return [*delay, *(word for key in ("loss", "rate") if key in given for word in (key, given[key]))]


@dataclasses.dataclass(frozen=True)
class Window:
    """A time in which the network is bad: an occurrence of the schedule's, or one by hand. Times are of the clock."""

    id: str
    start: float
    end: float | None
    effects: Effects

    def fields(self, state: str, **more: Any) -> dict[str, Any]:
        return {"event": "chaos", "id": self.id, "state": state, "start": lab.stamp(self.start),
                "end": None if self.end is None else lab.stamp(self.end), **dict(self.effects.words),
                "targets": list(self.effects.targets) or "all", **more}


@dataclasses.dataclass(frozen=True)
class Rule:
    """A window of the schedule, in seconds from its beginning."""

    number: int
    at: int
    seconds: int | None
    every: int | None
    effects: Effects

    def window(self, elapsed: float, origin: float) -> Window | None:
        """Its occurrence at that time."""
        if elapsed < self.at:
            return None
        turn = int((elapsed - self.at) // self.every) if self.every else 0
        start = self.at + turn * (self.every or 0)
        if self.seconds is not None and elapsed >= start + self.seconds:
            return None
        end = None if self.seconds is None else origin + start + self.seconds
        return Window(f"{self.number}.{turn + 1}", origin + start, end, self.effects)


def targets_of(effects: Effects) -> tuple[str, ...]:
    """The names to ask for. One answers for all nodes; that this one is among them does no harm."""
    return effects.targets or (lab.LAB["NODES_HOST"],)


def pairs(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in text.split())


def schedule() -> list[Rule]:
    rules = []
    for number, text in enumerate(filter(None, lab.LAB["CHAOS_WINDOWS"].split("; ")), 1):
        values = pairs(text)
        at, seconds, every = (int(values.pop(key)) if key in values else None for key in ("at", "for", "every"))
        rules.append(Rule(number, at or 0, seconds, every, Effects.parse(values)))
    return rules


def tc(*words: str) -> None:
    """Each call is a list of words that were checked: no shell sees them."""
    done = subprocess.run(["tc", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise OSError(" ".join(done.stdout.decode(errors="replace").split()) or f"tc ended with {done.returncode}")


def root_queue(device: str) -> str:
    """The handle of a device's queue; `0:` is the kernel's own."""
    done = subprocess.run(["tc", "qdisc", "show", "dev", device], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found = re.search(r"^qdisc \S+ ([0-9a-f]*:) root", done.stdout.decode(errors="replace"), re.M)
    return found[1] if found else "0:"


def devices() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def clear(device: str) -> None:
    if root_queue(device) == QUEUE:
        tc("qdisc", "del", "dev", device, "root")


def set_up(device: str, netem: list[str]) -> None:
    """All packets to the first class. A queue that somebody else made is left alone."""
    handle = root_queue(device)
    if handle not in ("0:", QUEUE):
        raise OSError(f"{device} has a queue of somebody else's ({handle})")
    clear(device)
    tc("qdisc", "add", "dev", device, "root", "handle", QUEUE, "prio", "bands", "2", "priomap", *["0"] * 16)
    try:
        tc("qdisc", "add", "dev", device, "parent", BAD, "netem", "limit", LIMIT, *netem)
    except OSError:
        clear(device)
        raise


def choose(device: str, addresses: frozenset[str]) -> None:
    """Which packets go to the second class, anew: those to some addresses, but for what HAProxy asked for, which comes first."""
    for protocol, word, first, ours in (("ip", "ip", 10, {a for a in addresses if ":" not in a}),
                                        ("ipv6", "ip6", 20, {a for a in addresses if ":" in a})):
        for preference in (first, first + 1):
            try:
                tc("filter", "del", "dev", device, "parent", QUEUE, "protocol", protocol, "pref", str(preference))
            except OSError:
                pass  # there is none yet
        if not ours:
            continue
        add = ["filter", "add", "dev", device, "parent", QUEUE, "protocol", protocol]
        is_tcp = ["match", word, "protocol", "6", "0xff"]
        tc(*add, "pref", str(first), "u32", *is_tcp, "match", word, *POSTGRESQL, "match", word, *HAPROXY, "flowid", GOOD)
        for address in sorted(ours):
            tc(*add, "pref", str(first + 1), "u32", *is_tcp, "match", word, *POSTGRESQL,
               "match", word, "dst", f"{address}/{32 if word == 'ip' else 128}", "flowid", BAD)


def why_not() -> str:
    """What this kernel lacks, tried on the loopback device for a moment; nothing when it lacks nothing."""
    try:
        clear("lo")
        set_up("lo", ["delay", "1ms"])
        try:
            choose("lo", frozenset(["192.0.2.1", "2001:db8::1"]))
        finally:
            clear("lo")
    except FileNotFoundError:
        return "tc is not installed (package iproute-tc or iproute2)"
    except OSError as error:
        return (f"the kernel {os.uname().release} has no netem ({error}): boot one that has it, or install"
                " kernel-modules-extra or linux-modules-extra of this very kernel")
    return ""


class Resolver:
    """The addresses of the targets. Names are asked for all the time, since pods move, and in a thread: an answer that does not
    come must not keep a window open."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._found: dict[str, frozenset[str]] = {}
        self._wake = threading.Event()
        threading.Thread(target=self._ask, daemon=True).start()

    def addresses(self, names: tuple[str, ...]) -> frozenset[str]:
        if names != self._names:
            self._names = names
            self._wake.set()
        return frozenset().union(*(self._found.get(name, frozenset()) for name in names))

    def _ask(self) -> None:
        while True:
            for name in self._names:
                try:
                    found = socket.getaddrinfo(name, 5432, type=socket.SOCK_STREAM)
                    self._found[name] = frozenset(str(answer[4][0]).partition("%")[0] for answer in found)
                except socket.gaierror as error:
                    # A name that is gone is a pod that is; one that cannot be asked for keeps its addresses.
                    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
                        self._found.pop(name, None)
                except OSError:
                    pass
            self._wake.wait(3 if self._names else None)
            self._wake.clear()


def device_to(address: str) -> str | None:
    done = subprocess.run(["ip", "-o", "route", "get", address], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found = re.search(r" dev (\S+)", done.stdout.decode(errors="replace"))
    return found[1] if found and found[1] != "lo" else None


class Link:
    """What is set up, by device: what netem does, and to which addresses."""

    def __init__(self) -> None:
        self._state: dict[str, tuple[list[str], frozenset[str]]] = {}
        self._routes: dict[str, str | None] = {}

    def make(self, netem: list[str], addresses: frozenset[str]) -> None:
        for address in addresses - set(self._routes):
            self._routes[address] = device_to(address)
        wanted: dict[str, set[str]] = {}
        for address in addresses:
            device = self._routes[address]
            if device:
                wanted.setdefault(device, set()).add(address)
        for device in [*self._state]:
            if device not in wanted:
                self._state.pop(device)
                clear(device)
        for device, ours in wanted.items():
            state = (netem, frozenset(ours))
            before = self._state.get(device)
            if state == before:
                continue
            try:
                if before is None or before[0] != netem:
                    set_up(device, netem)
                if before is None or before[1] != state[1]:
                    choose(device, state[1])
            except OSError:
                self._state.pop(device, None)
                clear(device)
                raise
            self._state[device] = state

    def unmake(self) -> None:
        self._state.clear()
        self._routes.clear()
        for device in devices():
            clear(device)


class Server:
    """Whether this node sends WAL, as its server says; while that says nothing, as it said last. A thread asks: a server that
    does not answer must not keep a window open."""

    # Seconds that a statement may take.
    PATIENCE = 10.0

    def __init__(self, wants_origin: bool) -> None:
        self.is_primary = False
        self.origin: float | None = None
        self._wants_origin = wants_origin
        self._session: libpq.Connection | None = None
        self._silent_until = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not ENDED.is_set():
            try:
                self._look()
            except libpq.Failure as failure:
                if self._session:
                    self._session.close()
                self._session = None
                if self.is_primary and self._wants_origin and self.origin is None and time.monotonic() >= self._silent_until:
                    self._silent_until = time.monotonic() + 600
                    lab.log(f"the schedule: not yet, trying on ({failure})")
            ENDED.wait(2)

    def _look(self) -> None:
        if self._session is None:
            self._session = libpq.Connection("virtwork-chaos", connect_timeout="5")
            self._session.patience = self.PATIENCE
        is_primary = self._session.rows("SELECT pg_is_in_recovery()") == [["f"]]
        if not is_primary:
            self.origin = None
        self.is_primary = is_primary
        if is_primary and self._wants_origin and self.origin is None:
            self.origin = self._begin(self._session)

    @staticmethod
    def _begin(session: libpq.Connection) -> float:
        """When this schedule began: now, where no primary has read it yet."""
        session.rows("SET synchronous_commit = local")
        session.rows("CREATE SCHEMA IF NOT EXISTS virtwork")
        session.rows("CREATE TABLE IF NOT EXISTS virtwork.chaos_schedules (schedule text PRIMARY KEY, begun timestamptz NOT NULL)")
        # A hundred windows are more than an entry of an index holds.
        digest = hashlib.sha256(lab.LAB["CHAOS_WINDOWS"].encode()).hexdigest()
        session.rows("INSERT INTO virtwork.chaos_schedules VALUES ($1, clock_timestamp()) ON CONFLICT DO NOTHING", digest)
        ((begun,),) = session.rows("SELECT extract(epoch FROM begun) FROM virtwork.chaos_schedules WHERE schedule = $1", digest)
        return float(begun or 0)


class Daemon:
    """Opens and closes windows."""

    def __init__(self) -> None:
        self.rules = schedule()
        self.server, self.link, self.resolver = Server(bool(self.rules)), Link(), Resolver()
        self.open: Window | None = None
        self.by_hand: Window | None = None
        self.skipped = ""
        self.fault = ""
        self.lacks = ""
        self._written = ""
        # Asked for before they are needed, so that a window opens when it should.
        self._names = tuple({name for rule in self.rules for name in targets_of(rule.effects)} or [lab.LAB["NODES_HOST"]])

    def run(self) -> int:
        self.link_down()
        self.lacks = why_not()
        if self.lacks:
            lab.log(f"no chaos on this network: {self.lacks}")
        tried = time.monotonic()
        while not ENDED.is_set():
            if self.lacks and time.monotonic() - tried > 60:
                self.lacks, tried = why_not(), time.monotonic()
            self.read_request()
            self.turn(self.due() if not self.lacks else None)
            self.write_status()
            left = self.open.end - time.time() if self.open and self.open.end else 1.0
            ENDED.wait(min(0.5, max(0.01, left)))
        self.turn(None, "the service is stopped")
        return 0

    def due(self) -> Window | None:
        if not self.server.is_primary:
            return None
        now = time.time()
        if self.by_hand and (self.by_hand.end is None or now < self.by_hand.end):
            return self.by_hand
        self.by_hand = None
        origin = self.server.origin
        if origin is None:
            return None
        for rule in self.rules:
            window = rule.window(now - origin, origin)
            if window and window.id != self.skipped:
                return window
        return None

    def turn(self, due: Window | None, why: str = "") -> None:
        if self.open and (due is None or due.id != self.open.id):
            window, self.open = self.open, None
            self.link_down()
            over = window.end is not None and time.time() >= window.end
            why = why or ("over" if over else "this node is no primary any more" if not self.server.is_primary
                          else "stopped")
            lab.signal("event", window.fields("end", reason=why))
        if due is None:
            self.fault = ""
            self.resolver.addresses(self._names)
            return
        addresses = self.resolver.addresses(targets_of(due.effects))
        if self.open is None:
            self.open = due
            lab.signal("event", due.fields("start", resumed=time.time() - due.start > 10))
        try:
            self.link.make(due.effects.netem(), addresses)
            self.fault = ""
        except OSError as error:
            if str(error) != self.fault:
                self.fault = str(error)
                lab.log(f"chaos on the network: not yet, trying on ({error})")

    def link_down(self) -> None:
        try:
            self.link.unmake()
        except OSError as error:
            lab.log(f"warning: the network could not be made good again: {error}")

    def read_request(self) -> None:
        try:
            request = json.loads(REQUEST.read_text())
            REQUEST.unlink()
        except (OSError, ValueError):
            return
        if request["what"] == "stop":
            self.skipped = self.open.id if self.open else ""
            self.by_hand = None
        else:
            start = time.time()
            end = start + request["seconds"] if request["seconds"] else None
            self.by_hand = Window(f"hand-{lab.stamp(start)}", start, end, Effects.parse(request["effects"]))

    def write_status(self) -> None:
        status = json.dumps({
            "primary": self.server.is_primary, "lacks": self.lacks, "fault": self.fault,
            "open": self.open.fields("open") if self.open else None,
            "schedule_begun": lab.stamp(self.server.origin) if self.server.origin else None})
        if status != self._written:
            new = STATUS.with_suffix(".new")
            new.write_text(status)
            new.rename(STATUS)
            self._written = status


def status() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(STATUS.read_text())
        return found
    except FileNotFoundError:
        raise SystemExit("error: virtwork-chaos.service does not run (systemctl status virtwork-chaos)") from None


def ask(request: dict[str, Any], is_done: Any) -> int:
    """Hands a request to the service and waits until it is done."""
    if status()["lacks"]:
        raise SystemExit(f"error: no chaos on this network: {status()['lacks']}")
    if not status()["primary"]:
        raise SystemExit(f"error: {lab.NODE} is a standby, and WAL is sent by the primary"
                         " (`virtwork-status` says which node that is)")
    before = status()["open"]
    new = REQUEST.with_suffix(".new")
    new.write_text(json.dumps(request))
    new.rename(REQUEST)
    given_up = time.monotonic() + 10
    while REQUEST.exists() or not is_done(before, status()["open"]):
        if time.monotonic() > given_up:
            raise SystemExit("error: the service does not answer (journalctl -u virtwork-chaos)")
        time.sleep(0.1)
    return show()


def show() -> int:
    found = status()
    window = found["open"]
    if window:
        effects = " ".join(f"{key} {window[key]}" for key in PATTERNS if key in window).replace(" yes", "")
        targets = window["targets"] if window["targets"] == "all" else ", ".join(window["targets"])
        print(f"open: {window['id']}: {effects}; to {targets}; until {window['end'] or 'it is stopped'}")
    else:
        print("closed: the network is as it is" if found["primary"] else "closed: this node is a standby")
    if found["lacks"] or found["fault"]:
        print(f"but: {found['lacks'] or found['fault']}")
    if lab.LAB["CHAOS_WINDOWS"] and found["schedule_begun"]:
        print(f"the schedule began at {found['schedule_begun']}: {lab.LAB['CHAOS_WINDOWS']}")
    return 0


def start(given: argparse.Namespace) -> int:
    effects = {key: getattr(given, key) for key in PATTERNS if getattr(given, key)}
    effects = effects or {key: value for key, value in pairs(lab.LAB["CHAOS_EFFECTS"]).items() if key != "target"}
    if not effects:
        raise SystemExit("error: the config has no effect; give one, such as --latency 80ms")
    target = ",".join(given.target) or pairs(lab.LAB["CHAOS_EFFECTS"]).get("target", "")
    if target:
        effects["target"] = target
    try:
        Effects.parse(effects)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    return ask({"what": "start", "effects": effects, "seconds": given.seconds},
               lambda before, now: now and now != before and now["id"].startswith("hand-"))


def duration(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,7}", text):
        raise argparse.ArgumentTypeError("seconds, 1 to 99999999")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    begin = commands.add_parser("start", help="begin a window by hand")
    for key, example in (("latency", "80ms"), ("jitter", "20ms"), ("loss", "0.5%%"), ("rate", "10mbit")):
        begin.add_argument(f"--{key}", metavar=example.replace("%%", "%"))
    begin.add_argument("--partition", action="store_const", const="yes")
    begin.add_argument("--target", action="append", default=[], metavar="VM", help="such as db-replica-0; may be repeated")
    begin.add_argument("--for", dest="seconds", type=duration, default=0, metavar="SECONDS")
    for name in ("stop", "status", "run", "clear"):
        commands.add_parser(name)
    given = parser.parse_args()
    if given.command == "run":
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ENDED.set())
        return Daemon().run()
    if given.command == "clear":
        for device in devices():
            clear(device)
        return 0
    try:
        lab.become_postgres()
    except PermissionError:
        parser.error("run it as root, or as postgres")
    if given.command == "start":
        return start(given)
    if given.command == "stop":
        return ask({"what": "stop"}, lambda before, now: not before or not now or now["id"] != before["id"])
    return show()


if __name__ == "__main__":
    sys.exit(main())
