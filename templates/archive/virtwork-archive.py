#!/usr/bin/python3 -I
"""The archive of WAL and base backups, with pgBackRest or barman-cloud. Runs as postgres.

    virtwork-archive serve                      archives and fetches WAL for PostgreSQL; makes the first base backup
    virtwork-archive backup                     makes a base backup, where this server takes writes
    virtwork-archive check                      restores the newest one beside the data, where this is the last node
    virtwork-archive list                       shows the base backups
    virtwork-archive prepare BINDIR DATA        writes what the programs read
    virtwork-archive standby DIRECTORY WALDIR SYSTEM
                                                makes a standby's data of the newest base backup, for that database
    virtwork-archive lab DIRECTORY WALDIR       makes a lab's data, as `restore` of the config says
                                                (WALDIR may be empty, SYSTEM `any`)

The rule that everything here follows: the primary goes on. What the archive does not take waits in pg_wal, up to
ARCHIVE_MAX_PENDING; beyond that WAL goes without having been archived. That gap is noted beside the data, and as soon as
the archive takes something again there is a new base backup after it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import fcntl
import gzip
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from typing import Any, Iterator

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402
import libpq  # noqa: E402
import store  # noqa: E402
from store import RUN, STANZA, Away  # noqa: E402

CLAIM = "virtwork-archive.json"
WAL_FILE = re.compile(r"[0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history")
SEGMENT = re.compile(r"[0-9A-F]{24}")
# Seconds between two lines about an archive that is still away.
REPEATED = 600
# Seconds for which an answer that costs a transfer is true enough, and after which one costs too much to ask again at once.
REMEMBERED = 20.0
SLOW = 2.0
# Seconds for which it is true enough whose archive it is, and in which another one that claims it at the same time has done so.
CLAIMED = 600.0
CLAIMING = 5.0
# What a fetch or a transfer of one segment may take.
PATIENCE = 120.0
# Beside a restored backup there is room for the WAL that it takes.
MARGIN = 1 << 30
# What belongs to the node that a backup is of.
OWN_FILES = ("virtwork.provisioned", "virtwork.pending-start", "virtwork.fenced", "virtwork.rejoin", "virtwork.server-start",
             "virtwork.promoted", "virtwork.upstream", "virtwork.given-back", "virtwork.asked-to-stop",
             "postmaster.pid", "standby.signal", "recovery.signal")


class Refused(Exception):
    """Something that only a person can settle."""


class Stranger(Away):
    """What is there is another database's."""


def place() -> tuple[pathlib.Path, pathlib.Path]:
    """The directories of the programs and of the data."""
    found = json.loads((RUN / "place").read_text())
    return pathlib.Path(found["bindir"]), pathlib.Path(found["data"])


def notes() -> pathlib.Path:
    """What this node notes of the archive, and where backups are tried: beside the data."""
    directory = place()[1].parent / "virtwork.archive"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def run(*words: str, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """A program of the archive. What it says is read here, and shown only where it failed."""
    try:
        return subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL,
                              env=store.environment(), cwd="/", timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise Away(f"{pathlib.Path(words[0]).name} did not end within {patience:.0f} s") from error
    except OSError as error:
        raise Away(f"{words[0]}: {error.strerror}") from error


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line that says why a program failed."""
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    start = next((index for index, line in enumerate(lines) if re.search(r"ERROR|[Ee]rror|denied|refused", line)), 0)
    # pgBackRest says on the next line what happened to the repository.
    said = " ".join(lines[start:start + 2]) if lines[start:] and lines[start].endswith(":") else "".join(lines[start:start + 1])
    return said[:300] or f"it ended with {done.returncode}"


def identifier(path: pathlib.Path, offset: int) -> str:
    """A system identifier in a file of PostgreSQL."""
    try:
        with open(path, "rb") as file:
            found = file.read(offset + 8)[offset:]
    except OSError as error:
        raise Away(f"{path}: {error.strerror}") from error
    if len(found) < 8:
        raise Away(f"{path} is cut off")
    return str(int.from_bytes(found, sys.byteorder))


def database(data: pathlib.Path) -> str:
    """Whose data it is. pg_control begins with that."""
    return identifier(data / "global/pg_control", 0)


def writer(segment: pathlib.Path) -> str:
    """Whose WAL it is. That is in the header of the first page."""
    return identifier(segment, 24)


def asking(path: pathlib.Path) -> pathlib.Path:
    """The data whose server fetches WAL to that path; this node's where that is elsewhere."""
    data = path.parent.parent
    return data if (data / "global/pg_control").exists() else place()[1]


def number(position: str) -> int:
    high, low = position.split("/")
    return (int(high, 16) << 32) + int(low, 16)


@dataclasses.dataclass
class Backup:
    """A base backup."""

    label: str
    kind: str
    # Seconds of the clock, and positions.
    stopped: float
    position: int
    bytes: int


class Tool:
    """What writes and reads an archive."""

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = lab.LAB["ARCHIVE_PREFIX"] if prefix is None else prefix

    def begin(self, data: pathlib.Path) -> None:
        """Before the first file."""

    def owner(self) -> str | None:
        """Whose WAL lies there, by the files themselves; None: there is nothing."""
        raise NotImplementedError

    def push(self, path: pathlib.Path) -> None:
        raise NotImplementedError

    def fetch(self, name: str, path: pathlib.Path) -> bool:
        """Whether the archive has it."""
        raise NotImplementedError

    def backups(self) -> list[Backup]:
        """Those that can be restored, the newest last."""
        raise NotImplementedError

    def back_up(self, full: bool) -> None:
        raise NotImplementedError

    def expire(self) -> None:
        """Deletes what is older than those that stay."""
        raise NotImplementedError

    def restore(self, backup: Backup, directory: pathlib.Path) -> None:
        raise NotImplementedError


class Pgbackrest(Tool):
    def command(self, *words: str, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        store.reach()
        return run("pgbackrest", f"--config={RUN}/pgbackrest.conf", f"--stanza={STANZA}", f"--repo1-path={store.root(self.prefix)}",
                   *words, patience=patience)

    def done(self, *words: str, patience: float = PATIENCE) -> str:
        done = self.command(*words, patience=patience)
        if done.returncode != 0:
            raise Away(reason(done))
        return done.stdout

    def begin(self, data: pathlib.Path) -> None:
        # Not where it is there: it would want the lock of a backup that waits for the very file.
        if self.owner() is None:
            self.done("--no-online", f"--pg1-path={data}", "stanza-create")

    def info(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.done("--output=json", "info"))
        for stanza in listed:
            for told in (*stanza.get("repo", []), stanza):
                # It ends well, and shows nothing, where the store does not answer.
                if told.get("status", {}).get("code") == 99:
                    raise Away(str(told["status"].get("message")).partition("\n")[0])
        return listed

    def owner(self) -> str | None:
        found = [str(known["system-id"]) for stanza in self.info() for known in stanza.get("db", [])]
        return found[-1] if found else None

    def push(self, path: pathlib.Path) -> None:
        self.done(f"--pg1-path={path.parent.parent}", "archive-push", str(path))

    def fetch(self, name: str, path: pathlib.Path) -> bool:
        # It wants to see whose WAL that is.
        done = self.command(f"--pg1-path={asking(path)}", "archive-get", name, str(path))
        if done.returncode not in (0, 1):
            raise Away(reason(done))
        return done.returncode == 0

    def backups(self) -> list[Backup]:
        found = []
        for stanza in self.info():
            for backup in stanza.get("backup", []):
                if not backup.get("error"):
                    found.append(Backup(backup["label"], backup["type"], backup["timestamp"]["stop"],
                                        number(backup["lsn"]["stop"]), backup["info"]["size"]))
        return sorted(found, key=lambda backup: backup.stopped)

    def back_up(self, full: bool) -> None:
        self.done(f"--type={'full' if full else 'diff'}", "--no-expire-auto", "backup", patience=86400)

    def expire(self) -> None:
        self.done("expire", patience=3600)

    def restore(self, backup: Backup, directory: pathlib.Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.done(f"--pg1-path={directory}", f"--set={backup.label}", "--type=none", "restore", patience=86400)


class Barman(Tool):
    def command(self, program: str, *words: str, patience: float = PATIENCE,
                options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        store.reach()
        return run(f"barman-cloud-{program}", "--cloud-provider", "aws-s3", "--endpoint-url", store.endpoint(), *options,
                   f"s3://{lab.LAB['ARCHIVE_BUCKET']}/{self.prefix}", STANZA, *words, patience=patience)

    def done(self, program: str, *words: str, patience: float = PATIENCE, options: tuple[str, ...] = ()) -> str:
        done = self.command(program, *words, patience=patience, options=options)
        if done.returncode != 0:
            raise Away(reason(done))
        return done.stdout

    def owner(self) -> str | None:
        for key in store.keys_below(f"{self.prefix}/{STANZA}/wals/"):
            name = key.rpartition("/")[2].partition(".gz")[0]
            if SEGMENT.fullmatch(name):
                with tempfile.TemporaryDirectory(dir=notes(), prefix="look.") as directory:
                    path = pathlib.Path(directory) / name
                    if self.fetch(name, path):
                        return writer(path)
        return "unknown" if store.keys_below(f"{self.prefix}/{STANZA}/") else None

    def push(self, path: pathlib.Path) -> None:
        # It makes a bucket that is not there, and an empty one says that there is no mark of another site.
        if store.get(CLAIM, self.prefix) is None:
            raise Away(f"{CLAIM} is gone")
        self.done("wal-archive", str(path), options=("--gzip",))

    def fetch(self, name: str, path: pathlib.Path) -> bool:
        # Not with barman-cloud-wal-restore: it gives the half segment `X.partial` where `X` is asked for, and ends with 1 of what
        # is not there, of a bucket that is not, and where it breaks off.
        packed = store.get("/".join((STANZA, "wals", *([name[:16]] if "." not in name[:16] else []), f"{name}.gz")), self.prefix)
        if packed is None:
            return False
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(packed)) as content, open(path, "wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Away(f"{name}.gz is damaged: {error}") from error
        return True

    def backups(self) -> list[Backup]:
        listed = json.loads(self.done("backup-list", options=("--format", "json"))).get("backups_list", [])
        found = []
        for backup in listed:
            if backup.get("status") != "DONE":
                continue
            stopped = datetime.datetime.fromisoformat(self.moment(backup["end_time"]))
            if stopped.tzinfo is None:
                stopped = stopped.replace(tzinfo=datetime.timezone.utc)
            found.append(Backup(backup["backup_id"], "full", stopped.timestamp(), number(backup["end_xlog"]),
                                backup.get("size") or 0))
        return sorted(found, key=lambda backup: backup.stopped)

    @staticmethod
    def moment(text: str) -> str:
        """Barman has written times in two ways: ISO's, and `Sat Nov 28 12:00:00 2026`, in UTC."""
        try:
            return datetime.datetime.strptime(text, "%a %b %d %H:%M:%S %Y").isoformat()
        except ValueError:
            return text

    def back_up(self, full: bool) -> None:
        self.done("backup", options=("--gzip", "--immediate-checkpoint"), patience=86400)

    def expire(self) -> None:
        self.done("backup-delete", options=("--retention-policy", f"REDUNDANCY {lab.LAB['ARCHIVE_RETENTION']}"), patience=3600)

    def restore(self, backup: Backup, directory: pathlib.Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.done("restore", backup.label, str(directory), patience=86400)


def tool(prefix: str | None = None) -> Tool:
    return (Barman if lab.LAB["ARCHIVE_TOOL"] == "barman-cloud" else Pgbackrest)(prefix)


def claim(archive: Tool) -> dict[str, Any] | None:
    """Whose archive it is, as that one has said."""
    content = store.get(CLAIM, archive.prefix)
    try:
        return None if content is None else dict(json.loads(content))
    except (ValueError, TypeError) as error:
        raise Away(f"{CLAIM} holds something else") from error


def owner(archive: Tool) -> str | None:
    """A system identifier; None: nobody has archived there yet. Where the claim is lost, the files say whose they are."""
    held = claim(archive)
    return archive.owner() if held is None else str(held.get("system"))


def stranger(archive: Tool, found: str, system: str) -> Stranger:
    return Stranger(f"`{archive.prefix}` is the archive of another database (system identifier {found}, this one's is {system})")


def begin(archive: Tool, data: pathlib.Path) -> None:
    """Nobody archives to what is another database's."""
    system, held = database(data), claim(archive)
    if held is None:
        found = archive.owner()
        if found in (None, system):
            store.put(CLAIM, json.dumps({"system": system, "tool": lab.LAB["ARCHIVE_TOOL"]}).encode() + b"\n")
            # Another one may be doing the same: the last one has it.
            time.sleep(CLAIMING)
            held = claim(archive)
        else:
            held = {"system": found}
    found = str((held or {}).get("system"))
    if found != system:
        raise Stranger(f"{stranger(archive, found, system)}: give one of the two another `archive.prefix`, or empty it")
    if (held or {}).get("tool") != lab.LAB["ARCHIVE_TOOL"]:
        raise Away(f"`{archive.prefix}` was begun with `tool: {(held or {}).get('tool')}`: set `archive.tool` to that, or choose another prefix")
    archive.begin(data)


class Reach:
    """What is said of an archive that does not do what it is asked."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.since = 0.0
        self.said = 0.0
        self.why = ""

    def failed(self, why: str, **fields: Any) -> None:
        now = time.monotonic()
        if not self.since:
            self.since = now
        if not self.said or now - self.said >= REPEATED:
            self.said, self.why = now, why
            lab.log(f"the archive is away: {why}; the server goes on")
            lab.signal("archive-away", {"asked": self.kind, "seconds": round(now - self.since, 1), "reason": why, **fields})

    def worked(self, **fields: Any) -> None:
        if self.since:
            seconds = round(time.monotonic() - self.since, 1)
            self.since = self.said = 0.0
            lab.log(f"the archive is back after {seconds:.0f} s")
            lab.signal("archive-back", {"asked": self.kind, "seconds": seconds, **fields})


class Service:
    """Does what PostgreSQL asks for, a few requests at a time."""

    def __init__(self) -> None:
        self.bindir, self.data = place()
        self.tool = tool()
        self.begun = 0.0
        self.checked: dict[tuple[str, str], float] = {}
        self.pushes, self.fetches = Reach("push"), Reach("get")
        self.gap = notes() / "gap.json"
        self.busy: set[str] = set()
        self.fetched_in_vain = 0.0
        self.known: dict[str, tuple[float, int]] = {}
        self.pushed = threading.Event()

    def pending(self) -> tuple[int, int]:
        """Files that wait, and their bytes."""
        names = [path.name for path in (self.data / "pg_wal/archive_status").glob("*.ready")]
        segments = [name for name in names if SEGMENT.fullmatch(name[:-6])]
        return len(names), len(segments) * self.segment_bytes()

    def segment_bytes(self) -> int:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            return next(path for path in (self.data / "pg_wal").iterdir() if SEGMENT.fullmatch(path.name)).stat().st_size
        return 16 << 20

    def waiting(self) -> dict[str, int]:
        files, size = self.pending()
        return {"pendingFiles": files, "pendingBytes": size}

    def begin(self) -> None:
        """Now and again: two that begin an archive at once do not see each other at first."""
        if not self.begun or time.monotonic() - self.begun > CLAIMED:
            begin(self.tool, self.data)
            self.begun = time.monotonic()

    def push(self, name: str, path: pathlib.Path) -> int:
        if SEGMENT.fullmatch(name) and self.pending()[1] > int(lab.LAB["ARCHIVE_MAX_PENDING"]):
            self.drop(name)
            return 0
        try:
            self.begin()
            self.tool.push(path)
        except (Away, OSError) as error:
            self.begun = 0.0
            files, size = self.pending()
            self.pushes.failed(str(error), pendingFiles=files, pendingBytes=size)
            if size > int(lab.LAB["ARCHIVE_MAX_PENDING"]):
                self.drop(name)
                return 0
            return 1
        self.pushes.worked(**self.waiting())
        self.pushed.set()
        return 0

    def drop(self, name: str) -> None:
        """The oldest file that waits, which is the one that is asked for, goes without having been archived."""
        gap: dict[str, Any] = {"from": name, "files": 0}
        is_new = not self.gap.exists()
        with contextlib.suppress(OSError, ValueError):
            gap = json.loads(self.gap.read_text())
        gap.update({"to": name, "files": gap["files"] + 1})
        with contextlib.suppress(OSError):
            store.write(self.gap, json.dumps(gap))
        if is_new or gap["files"] % 64 == 0:
            lab.log(f"more than {int(lab.LAB['ARCHIVE_MAX_PENDING']) >> 20} MB of WAL wait for the archive: {name} goes without having"
                    " been archived, so that the disk does not fill; a base backup follows when the archive is back")
            lab.signal("archive-gap", {**gap, **self.waiting()})

    def fetch(self, name: str, path: pathlib.Path, request: pathlib.Path) -> int:
        """For a standby: a failure is no end, because it looks for the file elsewhere and asks again."""
        started = time.monotonic()
        if self.fetched_in_vain and started - self.fetched_in_vain < REMEMBERED:
            return 1
        try:
            found = self.deliver(self.tool, name, path, database(asking(path)), request)
        except (Away, OSError) as error:
            # At a promotion the last answer counts: what fails at once is asked anew each time. A store that hangs holds nobody up.
            if time.monotonic() - started > SLOW:
                self.fetched_in_vain = time.monotonic()
            self.fetches.failed(str(error))
            return 1
        self.fetched_in_vain = 0.0
        self.fetches.worked()
        return 0 if found else 1

    def deliver(self, source: Tool, name: str, path: pathlib.Path, system: str, request: pathlib.Path) -> bool:
        """A whole file or none, of that database: PostgreSQL puts what it fetches in the place of its own WAL before it looks whose
        it is. A segment tells that itself; a history does not, so there it is the archive's owner who counts. And to who still waits:
        a server that was started again asks for another file with the same path."""
        at = self.checked.get((source.prefix, system))
        if at is None or time.monotonic() - at > CLAIMED:
            found = owner(source)
            if found is None:
                return False
            if found != system:
                raise stranger(source, found, system)
            self.checked[source.prefix, system] = time.monotonic()
        beside = path.parent / f"{path.name}.virtwork{threading.current_thread().name.rpartition('_')[2]}"
        try:
            if not source.fetch(name, beside):
                return False
            if SEGMENT.fullmatch(name) and writer(beside) != system:
                raise Stranger(f"{name} in `{source.prefix}` is of another database (system identifier {writer(beside)}, this one's is {system})")
            if not request.exists():
                # No answer, and none that is remembered.
                raise Refused("nobody waits for it any more")
            os.rename(beside, path)
            return True
        finally:
            beside.unlink(missing_ok=True)

    def fetch_surely(self, source: Tool, name: str, path: pathlib.Path, request: pathlib.Path) -> int:
        """For what is made from an archive: what cannot be asked for now is waited for, since `there is none` is taken for the end of
        it."""
        while request.exists():
            try:
                return 0 if self.deliver(source, name, path, database(asking(path)), request) else 1
            except Stranger as error:
                lab.log(str(error))
                return 2
            except (Away, OSError) as error:
                self.fetches.failed(str(error))
                time.sleep(5)
        return 2

    def has(self, name: str, request: pathlib.Path) -> int:
        """0: the archive has the segment, 1: it has not, 2: it cannot be asked."""
        at, answer = self.known.get(name, (0.0, 2))
        if at and time.monotonic() - at < REMEMBERED:
            return answer
        try:
            with tempfile.TemporaryDirectory(dir=notes(), prefix="look.") as directory:
                answer = 0 if self.deliver(self.tool, name, pathlib.Path(directory) / name, database(self.data), request) else 1
        except Stranger as error:
            self.fetches.failed(str(error))
            answer = 1
        except (Away, OSError) as error:
            self.fetches.failed(str(error))
            answer = 2
        self.known = {name: (time.monotonic(), answer)}
        return answer

    def answer(self, request: pathlib.Path) -> None:
        status = 2
        try:
            kind, name, where = request.read_text().splitlines()
            path = pathlib.Path(where)
            if not WAL_FILE.fullmatch(name):
                lab.log(f"{name} is no file of the WAL")
            elif kind == "push":
                status = self.push(name, path)
            elif kind == "get":
                status = self.fetch(name, path, request)
            elif kind in ("get-sure", "get-from"):
                status = self.fetch_surely(self.tool if kind == "get-sure" else tool(lab.LAB.get("RESTORE_FROM")), name, path, request)
            else:
                status = self.has(name, request)
        # Whatever it is: PostgreSQL waits for an answer.
        except Exception as error:
            lab.log(f"{request.name}: {error!r}")
        with contextlib.suppress(OSError):
            # Nobody waits any more where it is gone.
            if request.exists():
                store.write(request.with_name(request.name + ".answer"), f"{status}\n")
            request.unlink()
        self.busy.discard(request.name)

    def serve(self) -> None:
        requests = RUN / "requests"
        threading.Thread(target=self.keep, daemon=True).start()
        with concurrent.futures.ThreadPoolExecutor(4) as workers:
            beat = swept = served = 0.0
            while True:
                now = time.monotonic()
                if now - beat >= 1:
                    beat = now
                    with contextlib.suppress(OSError):
                        store.write(RUN / "alive", pathlib.Path("/proc/uptime").read_text())
                if now - swept >= 60:
                    swept = now
                    self.sweep(requests)
                for request in sorted(requests.iterdir()):
                    # Where it was answered meanwhile it is gone.
                    if request.suffix not in (".new", ".answer") and not request.name.startswith(".") and \
                            request.name not in self.busy and request.exists():
                        self.busy.add(request.name)
                        served = now
                        workers.submit(self.answer, request)
                time.sleep(0.02 if now - served < 5 else 0.2)

    @staticmethod
    def sweep(requests: pathlib.Path) -> None:
        """What somebody left who was killed."""
        for path in requests.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > 900 and path.suffix in (".new", ".answer"):
                    path.unlink()

    def keep(self) -> None:
        """A base backup where there is none, or none after a gap."""
        is_sure = False
        while True:
            self.pushed.wait()
            self.pushed.clear()
            if is_sure and not self.gap.exists():
                continue
            try:
                if self.gap.exists():
                    for history in sorted((self.data / "pg_wal").glob("????????.history")):
                        self.tool.push(history)
                elif self.tool.backups():
                    is_sure = True
                    continue
                # The set-up stops the server once more, and begins anew after that.
                is_sure = takes_writes() and back_up(full=True)
            except (Away, OSError) as error:
                lab.log(f"no base backup yet: {error}")
            if not is_sure:
                time.sleep(10)
                self.pushed.set()


def takes_writes() -> bool:
    try:
        session = libpq.Connection("virtwork archive", connect_timeout="10")
        try:
            return session.rows("SELECT pg_is_in_recovery()") == [["f"]]
        finally:
            session.close()
    except libpq.Failure:
        return False


@contextlib.contextmanager
def alone(name: str) -> Iterator[bool]:
    """Whether nobody else is at it."""
    with open(RUN / name, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def back_up(full: bool = False) -> bool:
    """Whether there is a new base backup."""
    with alone("backup.lock") as is_alone:
        if not is_alone:
            lab.log("another base backup is being made")
            return False
        started, archive, gap = time.monotonic(), tool(), notes() / "gap.json"
        label, dropped, left = "", b"", None
        try:
            with contextlib.suppress(FileNotFoundError):
                dropped = gap.read_bytes()
            begin(archive, place()[1])
            before = archive.backups()
            since = next((index for index, backup in enumerate(reversed(before)) if backup.kind == "full"), None)
            is_full = full or since is None or since + 1 >= int(lab.LAB["ARCHIVE_FULL_EVERY"])
            archive.back_up(is_full)
            made = [backup for backup in archive.backups() if backup.label not in [other.label for other in before]]
            if not made:
                raise Away("the archive does not show the new base backup")
            label = made[-1].label
            with contextlib.suppress(OSError):
                # What was dropped meanwhile needs another one.
                if gap.read_bytes() == dropped:
                    gap.unlink()
            try:
                archive.expire()
            except Away as error:
                # The new one counts all the same: else another one would follow at once, and so on.
                left = f"what is older was not deleted: {error}"
                lab.log(left)
            seconds = round(time.monotonic() - started, 1)
            lab.log(f"base backup {label} is complete after {seconds:.0f} s")
            lab.signal("archive-backup", {"result": "ok", "backup": label, "type": made[-1].kind, "seconds": seconds,
                                          "bytes": made[-1].bytes or None, "backups": len(archive.backups()), "reason": left})
            return True
        except (Away, OSError, ValueError, KeyError) as error:
            lab.log(f"no base backup: {error}")
            lab.signal("archive-backup", {"result": "failed", "backup": label or None, "type": None,
                                          "seconds": round(time.monotonic() - started, 1), "bytes": None, "backups": None,
                                          "reason": str(error)})
            return False


class Scratch:
    """A server over restored files that nobody else talks to."""

    def __init__(self, directory: pathlib.Path, source: str, *settings: str) -> None:
        self.directory = directory
        own = ["listen_addresses=", f"unix_socket_directories={directory}", "port=5432", "archive_mode=off", "hot_standby=on",
               "primary_conninfo=", "primary_slot_name=", "synchronous_standby_names=", "ssl=off", "shared_buffers=16MB",
               "logging_collector=off", "log_destination=stderr", "autovacuum=off", "max_slot_wal_keep_size=-1",
               f"restore_command=/usr/local/sbin/virtwork-archive-command {source} %f %p", *settings]
        self.log = directory / "virtwork.scratch.log"
        (directory / "recovery.signal").touch()
        with open(self.log, "w") as log:
            options = [word for setting in own for word in ("-c", setting)]
            self.process = subprocess.Popen([str(place()[0] / "postgres"), "-D", str(directory), *options],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")

    def ask(self, statement: str, database: str = "postgres") -> list[list[str | None]]:
        session = libpq.Connection("virtwork archive", host=str(self.directory), dbname=database, user="postgres",
                                   connect_timeout="10")
        try:
            return session.rows(statement)
        finally:
            session.close()

    def wait(self, statement: str, patience: float) -> bool:
        """Until it answers `t`. False: the server ended before."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            with contextlib.suppress(libpq.Failure):
                if self.ask(statement) == [["t"]]:
                    return True
            time.sleep(0.5)
        raise Away(f"recovery did not end within {patience:.0f} s")

    def why(self) -> str:
        # Connections that came too early are no reason.
        lines = [line for line in self.log.read_text(errors="replace").splitlines()
                 if re.search("FATAL|PANIC|ERROR", line) and "the database system is " not in line]
        return (lines or ["it does not say why"])[-1].strip()

    def stop(self, mode: str) -> None:
        """`fast` leaves data that can go on, `immediate` what is thrown away."""
        if self.process.poll() is None:
            self.process.send_signal({"fast": 2, "immediate": 3}[mode])
        self.process.wait(600)


def check() -> bool:
    """The newest base backup, restored and brought to where it is consistent."""
    if lab.NODE != lab.databases()[-1]:
        return True
    with alone("check.lock") as is_alone:
        if not is_alone:
            return True
        started, archive, directory = time.monotonic(), tool(), notes() / "check"
        fields: dict[str, Any] = {"result": "failed", "backup": None, "seconds": None, "databases": None, "reason": None}
        server = None
        try:
            shutil.rmtree(directory, ignore_errors=True)
            backups = archive.backups()
            if not backups:
                raise Refused("there is no base backup yet")
            newest = backups[-1]
            fields["backup"] = newest.label
            # Barman's list does not always say how large one is: then as large as what is here.
            size = newest.bytes or int(libpq_size())
            free = shutil.disk_usage(directory.parent).free
            if free < size * 11 // 10 + MARGIN:
                raise Refused(f"it needs {(size * 11 // 10 + MARGIN) >> 20} MiB beside the data, and {free >> 20} MiB are free")
            restore_files(archive, newest, directory, "")
            server = Scratch(directory, "get-sure", "recovery_target=immediate", "recovery_target_action=pause")
            if not server.wait("SELECT pg_get_wal_replay_pause_state() = 'paused'" if major(directory) >= 14 else
                               "SELECT pg_is_wal_replay_paused()", 6 * 3600):
                raise Away(server.why())
            names = [row[0] for row in server.ask("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1")]
            for name in names:
                server.ask("SELECT count(*) FROM pg_class", str(name))
            fields.update({"result": "ok", "databases": names})
        except Refused as error:
            fields.update({"result": "skipped", "reason": str(error)})
        except (Away, OSError, ValueError, KeyError, libpq.Failure) as error:
            fields["reason"] = str(error)
        finally:
            if server:
                server.stop("immediate")
            shutil.rmtree(directory, ignore_errors=True)
        fields["seconds"] = round(time.monotonic() - started, 1)
        lab.log(f"the restore check of {fields['backup']}: {fields['result']}{': ' + fields['reason'] if fields['reason'] else ''}")
        lab.signal("archive-check", fields)
        return bool(fields["result"] != "failed")


def libpq_size() -> str:
    session = libpq.Connection("virtwork archive", connect_timeout="10")
    try:
        return str(session.rows("SELECT sum(pg_database_size(oid))::bigint FROM pg_database")[0][0])
    finally:
        session.close()


def major(directory: pathlib.Path) -> int:
    return int((directory / "PG_VERSION").read_text())


def restore_files(archive: Tool, backup: Backup, directory: pathlib.Path, wal_directory: str) -> None:
    """The files of a backup, without what is another node's; their WAL where it belongs."""
    archive.restore(backup, directory)
    directory.chmod(0o700)
    wal = directory / "pg_wal"
    if wal.is_symlink():
        wal.unlink()
    wal.mkdir(mode=0o700, exist_ok=True)
    if wal_directory:
        for path in wal.iterdir():
            shutil.move(str(path), wal_directory)
        wal.rmdir()
        wal.symlink_to(wal_directory)
    (wal / "archive_status").mkdir(mode=0o700, exist_ok=True)
    for name in OWN_FILES:
        (directory / name).unlink(missing_ok=True)
    built = int(re.sub(r"\D.*", "", run(str(place()[0] / "postgres"), "--version").stdout.rpartition(") ")[2]) or 0)
    if major(directory) != built:
        raise Refused(f"base backup {backup.label} is of PostgreSQL {major(directory)}, and this image has {built}")


def make_standby(directory: pathlib.Path, wal_directory: str, system: str) -> None:
    """The newest base backup; where the database is another one than it should be, nothing."""
    archive, started = tool(), time.monotonic()
    found = owner(archive)
    if found and system not in ("any", found):
        raise stranger(archive, found, system)
    backups = archive.backups()
    if not backups:
        raise Away("there is no base backup in it yet")
    newest = backups[-1]
    restore_files(archive, newest, directory, wal_directory)
    found = database(directory)
    if system not in ("any", found):
        raise Away(f"its system identifier is {found}, the primary's {system}")
    lab.signal("archive-restore", {"what": "standby", "backup": newest.label, "seconds": round(time.monotonic() - started, 1)})


def candidates(backups: list[Backup]) -> list[Backup]:
    """The backups that may be before the target, the newest first."""
    target, value = lab.LAB["RESTORE_TARGET"], lab.LAB["RESTORE_VALUE"]
    if target == "time":
        # As Python 3.9 reads it.
        text = re.sub(r"Z$", "+00:00", value.replace("T", " "))
        text = re.sub(r"([+-]\d\d)$", r"\1:00", text)
        text = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text)
        whole, fraction, zone = re.fullmatch(r"([^.]*?)(?:\.(\d+))?([+-]\d\d:\d\d)", text).groups()  # type: ignore[union-attr]
        moment = datetime.datetime.fromisoformat(f"{whole}.{(fraction or '0').ljust(6, '0')}{zone}").timestamp()
        backups = [backup for backup in backups if backup.stopped <= moment]
    elif target == "lsn":
        backups = [backup for backup in backups if backup.position <= number(value)]
    return backups[::-1]


def target_settings() -> list[str]:
    target, value = lab.LAB["RESTORE_TARGET"], lab.LAB["RESTORE_VALUE"]
    if target == "time":
        # The server reads it before it knows zones by name.
        value = value.replace("Z", "+00")
    chosen = [] if target == "latest" else [f"recovery_target_{target}={value}", "recovery_target_action=promote"]
    return [*chosen, "recovery_target_timeline=latest"]


def make_lab(directory: pathlib.Path, wal_directory: str) -> None:
    """A backup, and the WAL after it up to the target; it ends as a primary on a timeline of its own, shut down."""
    source, target = lab.LAB["RESTORE_FROM"], lab.LAB["RESTORE_TARGET"]
    wanted = f"{target} {lab.LAB['RESTORE_VALUE']}".strip()
    archive, started = tool(source), time.monotonic()
    tried = candidates(archive.backups())
    if not tried:
        raise Refused(f"the archive `{source}` has no base backup that is older than {wanted}")
    for backup in tried:
        lab.log(f"restoring base backup {backup.label} of `{source}`, then the WAL up to {wanted}")
        shutil.rmtree(directory, ignore_errors=True)
        if wal_directory:
            for path in pathlib.Path(wal_directory).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        restore_files(archive, backup, directory, wal_directory)
        server = Scratch(directory, "get-from", "hot_standby=on", *target_settings())
        try:
            if server.wait("SELECT NOT pg_is_in_recovery()", 30 * 86400):
                rows = server.ask("SELECT pg_current_wal_lsn()::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
                position, timeline = str(rows[0][0]), int(str(rows[0][1]), 16)
                server.ask("CHECKPOINT")
                server.stop("fast")
                server.log.unlink()
                with contextlib.suppress(FileNotFoundError):
                    (directory / "recovery.signal").unlink()
                lab.log(f"the lab is restored up to {position}, on timeline {timeline}")
                lab.signal("archive-restore", {"what": "lab", "backup": backup.label, "from": source, "target": target,
                                               "position": position, "timeline": timeline,
                                               "seconds": round(time.monotonic() - started, 1)})
                return
            why = server.why()
        finally:
            server.stop("immediate")
        # The newest may be of a server that others had left behind by then.
        if "is not a child of this server's history" in why:
            continue
        if "recovery target was reached" not in why and "recovery ended before" not in why:
            raise Away(f"the restored server ended: {why}")
        # A restore point may be before the backup; what is after the end of the WAL is in none.
        if target != "name":
            break
    raise Refused(f"the archive `{source}` ends before {wanted}, or has no such point")


def main() -> int:
    words = sys.argv[1:]
    if words in (["--help"], ["-h"]):
        print((__doc__ or "").strip())
        return 0
    if not words or words[0] not in ("serve", "backup", "check", "list", "prepare", "standby", "lab"):
        lab.log(__doc__ or "")
        return 64
    lab.become_postgres()
    os.umask(0o077)
    try:
        if words[0] == "serve":
            Service().serve()
        elif words[0] == "backup":
            # The timer is on each node.
            return 0 if not takes_writes() or back_up() else 1
        elif words[0] == "check":
            return 0 if check() else 1
        elif words[0] == "list":
            for backup in tool().backups():
                print(f"{backup.label}  {backup.kind:4}  {lab.stamp(backup.stopped)}  {f'{backup.bytes >> 20} MiB' if backup.bytes else ''}".rstrip())
        elif words[0] == "prepare":
            store.prepare(*words[1:])
        elif words[0] == "standby":
            make_standby(pathlib.Path(words[1]), words[2], words[3])
        else:
            make_lab(pathlib.Path(words[1]), words[2])
        return 0
    except Refused as error:
        lab.log(f"error: {error}")
        return 78
    except (Away, OSError, ValueError, KeyError, libpq.Failure) as error:
        lab.log(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
