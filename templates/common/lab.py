"""What the lab's programs in Python share: its values, its voice in the journal, and the form of its signals."""

from __future__ import annotations

import datetime
import json
import math
import os
import pathlib
import pwd
import shlex
import sys
import threading
import time
import traceback
from typing import Any, Callable

NODE = os.uname().nodename.partition(".")[0]


def values() -> dict[str, str]:
    """lab.env, which is written for a shell."""
    words = shlex.split(pathlib.Path("/etc/virtwork/lab.env").read_text(), comments=True)
    return dict(word.split("=", 1) for word in words)


LAB = values()
# The members of etcd, in labs under Patroni.
ETCD_NODES = LAB.get("ETCD_NODES", "").split()


def databases() -> tuple[str, ...]:
    """The nodes that have a database, by the config."""
    name, count = LAB["LAB"], int(LAB["REPLICA_COUNT"])
    if ETCD_NODES:
        return tuple(f"{name}-node-{number}" for number in range(count + 1))
    return (f"{name}-primary-0", *(f"{name}-replica-{number}" for number in range(count)))


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def stamp(seconds: float) -> str:
    """A time of the clock, with microseconds, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def signal(kind: str, fields: dict[str, Any], at: float | None = None) -> dict[str, Any]:
    """A line of docs/signals.md, printed."""
    line = {"signal": kind, "time": stamp(time.time() if at is None else at), "node": NODE, **fields}
    print(json.dumps(line), flush=True)
    return line


def _end(failed: threading.ExceptHookArgs) -> None:
    """What nobody expected in a thread ends the program, which systemd starts again: otherwise it would only seem to work."""
    if isinstance(failed.exc_value, SystemExit):
        return
    if isinstance(failed.exc_value, OSError):
        log(f"failed: {failed.exc_value}")
    else:
        traceback.print_exception(failed.exc_type, failed.exc_value, failed.exc_traceback)
    os._exit(1)


threading.excepthook = _end


def become_postgres() -> None:
    """Who may log in here without a password."""
    user = pwd.getpwnam("postgres")
    if os.getuid() != user.pw_uid:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


def retry(seconds: float, what: str, attempt: Callable[[], Any], limit: float = math.inf) -> Any:
    """Its answer as soon as it raises neither OSError nor ValueError: for ever, or for so many seconds, with a line when it
    fails first, when the reason changes, and every ten minutes."""
    previous, said, started = "", 0.0, time.monotonic()
    while True:
        try:
            return attempt()
        except (OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            if reason != previous or time.monotonic() - said >= 600:
                log(f"{what}: not yet, trying on ({reason})")
                previous, said = reason, time.monotonic()
        if time.monotonic() - started > limit:
            return None
        time.sleep(seconds)
