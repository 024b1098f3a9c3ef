"""Stories: the life of one lab, told in scenarios that follow each other."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import shutil
import threading
import time
import traceback

from lab import Lab
from postgres import Writer
from shell import Interrupted, pause


def scenario(title, fatal=True):
    """Marks a method of a Story; they run in the order in which they stand. After a failure of one that is `fatal`
    those that follow cannot be judged."""
    def mark(method):
        method.title = title
        method.fatal = fatal
        return method
    return mark


@dataclasses.dataclass
class Result:
    story: str
    title: str
    outcome: str
    seconds: float
    error: str = ""
    details: str = ""
    figures: list = dataclasses.field(default_factory=list)


class Story:
    """One lab, on an images.System."""

    title = ""
    image = "golden"
    containers = True
    emulated = ()
    """VMs of a lab of containers that are machines."""
    lab_kind = Lab
    rounds = 3
    """How often stories repeat what they do at random moments."""
    families = ("IPv4",)
    tools = ()
    """Images whose programs run on this machine."""
    numbers = itertools.count(1)

    def __init__(self, system, generator, directory):
        self.system = system
        self.generator = generator
        self.name = self.named(system)
        self.directory = pathlib.Path(directory)
        self.stack = contextlib.ExitStack()
        self.lab = None
        self.figures = []

    @classmethod
    def named(cls, system):
        return f"{system.name}: {cls.title}" if system else cls.title

    @classmethod
    def scenarios(cls):
        """Those of the stories that it goes on from, then its own."""
        return [member for kind in reversed(cls.__mro__) for member in vars(kind).values()
                if hasattr(member, "title") and callable(member)]

    def setup(self):
        """Makes the lab, without starting it."""

    def new_place(self):
        """A name that is unique on this machine, and a directory of that name that ends with the story."""
        name = f"vw{os.getpid()}-{next(self.numbers)}"
        directory = self.directory / name
        directory.mkdir(parents=True)
        self.stack.callback(shutil.rmtree, directory, ignore_errors=True)
        return name, directory

    def new_lab(self, system=None, router=None):
        """A lab whose files and processes end with the story, on the story's system if no other is given."""
        name, directory = self.new_place()
        lab = self.lab_kind(name, directory, self.generator, system or self.system, self.image, self.containers,
                            self.families, router)
        lab.emulated = self.emulated
        self.stack.callback(lab.close)
        return lab

    @contextlib.contextmanager
    def timed(self, what):
        """Measures what the block takes, for the table of the report."""
        started = time.monotonic()
        yield
        self.figures.append((what, time.monotonic() - started))

    def new_writer(self, kind=Writer):
        writer = kind(self.lab)
        self.stack.callback(writer.stop)
        return writer

    def told(self):
        """What happened in the lab, for the report of a failure."""
        return self.lab.story()

    def run(self, report):
        """Runs the scenarios; those that are not reached count as failed."""
        broken = False
        try:
            for method in self.scenarios():
                if broken:
                    report(Result(self.name, method.title, "not reached", 0))
                    continue
                started = time.monotonic()
                outcome, error, details = "passed", "", ""
                try:
                    if self.lab is None:
                        self.setup()
                    method(self)
                except Interrupted:
                    raise
                except Exception as failure:
                    outcome, broken = "failed", method.fatal
                    error = "".join(traceback.format_exception_only(type(failure), failure))
                    details = traceback.format_exc() + (self.told() if self.lab else "")
                report(Result(self.name, method.title, outcome, time.monotonic() - started, error, details, self.figures))
                self.figures = []
        finally:
            self.stack.close()


def config(system, **changes):
    """A small lab that costs little: a mapping for gen. `changes` replace keys, mappings key by key."""
    base = {
        "name": "db",
        "replica-count": 1,
        "wal-keep-size": "32MB",
        "pgbench-scale": 2,
        "pgbench": {"clients": 2, "threads": 1, "duration": 10, "pause": 1, "rate": 60},
        "postgresql": {"max-slot-wal-keep-size": "64MB",
                       "parameters": {"max_wal_size": "64MB", "min_wal_size": "32MB"}},
        "guest": {"image": system.image, "packages": "preinstalled"},
        "vm": {"data-disk-size": "4Gi"},
    }
    for key, value in changes.items():
        key = key.replace("_", "-")
        base[key] = {**base.get(key, {}), **value} if isinstance(value, dict) else value
    return base


def expect(truth, message):
    if not truth:
        raise AssertionError(message)


def expect_equal(found, wanted, what):
    expect(found == wanted, f"{what}: {found!r}, expected {wanted!r}")


class ArgumentWatch:
    """Looks at the arguments of every process of this machine, those in containers too, for as long as it runs."""

    def __init__(self, *needles):
        self.needles = [needle.encode() for needle in needles]
        self.found = set()
        self.sweeps = 0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        while not self.ending.wait(0.2):
            self.sweeps += 1
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    try:
                        arguments = pathlib.Path(entry.path, "cmdline").read_bytes()
                    except OSError:
                        continue
                    if any(needle in arguments for needle in self.needles):
                        self.found.add(arguments.replace(b"\0", b" ").decode(errors="replace"))

    def stop(self):
        self.ending.set()
        self.thread.join()


__all__ = ["ArgumentWatch", "Result", "Story", "config", "expect", "expect_equal", "pause", "scenario"]
