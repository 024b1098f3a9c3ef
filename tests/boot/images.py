"""Images, built by the recipes in images/ and cached by the hash of what they are made from."""

import fcntl
import functools
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

from shell import CommandFailed, Interrupted, pause, run

RECIPES = pathlib.Path(__file__).parent / "images"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "virtwork-gen-boot"


class Image:
    """A recipe with the images it is built on. Its path holds what the recipe made."""

    def __init__(self, name, inputs, parents=(), layers=None, salt=""):
        self.name = name
        self.inputs = inputs
        self.parents = parents
        self.layers = layers
        self.salt = salt

    @functools.cache  # a recipe that is edited while labs run is for the next run
    def digest(self):
        state = hashlib.sha256(self.salt.encode())
        for parent in self.parents:
            state.update(parent.digest().encode())
        for entry in (f"{self.name}.sh", *self.inputs):
            path = RECIPES / entry
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            for file in files:
                state.update(f"\0{file.relative_to(RECIPES)}\0{file.stat().st_mode & 0o111 != 0}\0".encode())
                state.update(file.read_bytes())
        return state.hexdigest()[:12]

    @property
    def path(self):
        return CACHE / f"{self.name}-{self.digest()}"

    def build(self):
        """Builds what is missing, parents first."""
        for parent in self.parents:
            parent.build()
        if self.path.exists():
            return
        started = time.monotonic()
        print(f"image {self.name}: building", flush=True)
        partial = self.path.with_suffix(".partial")
        _remove(partial)
        recipe = [str(RECIPES / f"{self.name}.sh")]
        if self.layers is not None:
            lower = ":".join(str(layer.path) for layer in self.layers)
            others = [p for p in self.parents if p is not POOL and p not in self.layers]
            arguments = [str(RECIPES / "layer.sh"), *recipe, partial, lower, POOL.path, *(p.path for p in others)]
        else:
            arguments = [*recipe, partial, *(parent.path for parent in self.parents)]
        log = self.path.with_suffix(".log")
        with open(log, "wb") as output:
            process = subprocess.Popen(["unshare", "--mount", "bash", *map(str, arguments)], stdout=output,
                                       stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            while process.poll() is None:
                pause(0.2)
        except Interrupted:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode != 0:
            raise CommandFailed(f"image {self.name} could not be built:\n" + log.read_text(errors="replace")[-4000:])
        partial.rename(self.path)
        print(f"image {self.name}: built in {time.monotonic() - started:.0f} s", flush=True)


def _remove(path):
    for leftover in (path, path.with_name(path.name + ".work"), path.with_name(path.name + ".root")):
        shutil.rmtree(leftover, ignore_errors=True)


POOL = Image("pool", ["packages.sh"], salt=run("uname", "-m"))
CONTAINER = Image("container", ["packages.sh", "cloud.sh", "common", "container"], [POOL])
GOLDEN = Image("golden", ["packages.sh", "layer.sh"], [CONTAINER, POOL], layers=[CONTAINER])
RPMS = Image("rpms", ["rpms"], [GOLDEN])
FEDORA = Image("fedora", ["layer.sh", "fedora"], [CONTAINER, POOL], layers=[CONTAINER])
FEDORA_GOLDEN = Image("fedora-golden", ["layer.sh"], [FEDORA, CONTAINER, RPMS, POOL], layers=[FEDORA, CONTAINER])
MACHINE = Image("machine", ["packages.sh", "cloud.sh", "golden.sh", "common", "machine"], [POOL])

ROOTS = {
    ("debian", "plain"): [CONTAINER],
    ("debian", "golden"): [GOLDEN, CONTAINER],
    ("rpm", "plain"): [FEDORA, CONTAINER],
    ("rpm", "golden"): [FEDORA_GOLDEN, FEDORA, CONTAINER],
}
"""The layers of a container's root, upmost first, by family and whether PostgreSQL is in it."""


def build(images):
    """Builds images; one run at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for image in images:
            image.build()
