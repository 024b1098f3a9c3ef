"""Images, built by the recipes in images/ and cached by the hash of what they are made from."""

import dataclasses
import fcntl
import functools
import hashlib
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import time

from shell import CommandFailed, Interrupted, pause

RECIPES = pathlib.Path(__file__).parent / "images"
MACHINE = platform.machine()
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "virtwork-gen-boot"


class Image:
    """A recipe with the images it is built on. Its path holds what the recipe made. `release` is Debian's, and the
    recipe's $RELEASE."""

    def __init__(self, name, release, inputs, parents=(), layers=None):
        self.name = name
        self.release = release
        self.inputs = inputs
        self.parents = parents
        self.layers = layers

    @functools.cache  # a recipe that is edited while labs run is for the next run
    def digest(self):
        state = hashlib.sha256(f"{MACHINE} {self.release}".encode())
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
        return CACHE / f"{self.name}-{self.release}-{self.digest()}"

    def build(self):
        """Builds what is missing, parents first."""
        for parent in self.parents:
            parent.build()
        if self.path.exists():
            return
        started = time.monotonic()
        print(f"image {self.name} of {self.release}: building", flush=True)
        partial = self.path.with_suffix(".partial")
        _remove(partial)
        recipe = [str(RECIPES / f"{self.name}.sh")]
        if self.layers is not None:
            lower = ":".join(str(layer.path) for layer in self.layers)
            others = [parent for parent in self.parents if parent not in self.layers]
            arguments = [str(RECIPES / "layer.sh"), *recipe, partial, lower, *(parent.path for parent in others)]
        else:
            arguments = [*recipe, partial, *(parent.path for parent in self.parents)]
        log = self.path.with_suffix(".log")
        with open(log, "wb") as output:
            process = subprocess.Popen(["unshare", "--mount", "bash", *map(str, arguments)], stdout=output,
                                       stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
                                       env={**os.environ, "RELEASE": self.release})
        try:
            while process.poll() is None:
                pause(0.2)
        except Interrupted:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode != 0:
            raise CommandFailed(f"image {self.name} of {self.release} could not be built:\n"
                                + log.read_text(errors="replace")[-4000:])
        partial.rename(self.path)
        print(f"image {self.name} of {self.release}: built in {time.monotonic() - started:.0f} s", flush=True)


def _remove(path):
    for leftover in (path, path.with_name(path.name + ".work"), path.with_name(path.name + ".root")):
        shutil.rmtree(leftover, ignore_errors=True)


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """What the harness boots for an image that gen knows as `image`. `release` is the Debian it is made from, `major`
    that of its PostgreSQL. Layers of a container's root, upmost first: `plain` without and `golden` with PostgreSQL;
    `disks` are those of a machine, `security` what its kernel is told of security modules. `repository` is what its guests
    install from, by the path at the mirror."""

    name: str
    family: str
    image: str
    major: int
    pool: Image
    plain: tuple
    golden: tuple
    repository: dict
    disks: Image | None = None
    security: str = "audit=0 apparmor=0"

    def layers(self, kind):
        return [layer.path for layer in getattr(self, kind)]

    def packages(self):
        """Where guests install from: directories by the first part of their path."""
        return {name: image.path for name, image in self.repository.items()}

    def versions(self):
        """The versions of what matters, for the report. All of a system comes from its one pool."""
        index = (self.pool.path / "Packages").read_text()
        found = dict(re.findall(r"^Package: (\S+)\n(?:.+\n)*?Version: (\S+)$", index, re.M))
        wanted = {f"postgresql-{self.major}": "PostgreSQL", "systemd": "systemd", "cloud-init": "cloud-init"}
        return ", ".join(f"{title} {found[package].partition('-')[0]}" for package, title in wanted.items())


def _debian(name, release, major, machines=False):
    pool = Image("pool", release, ["packages.sh"])
    container = Image("container", release, ["packages.sh", "cloud.sh", "common", "container"], [pool])
    golden = Image("golden", release, ["packages.sh", "layer.sh"], [container, pool], layers=[container])
    disks = Image("machine", release, ["packages.sh", "cloud.sh", "golden.sh", "common", "machine"], [pool])
    return System(f"debian-{name}", "debian", f"quay.io/containerdisks/debian:{name}", major, pool, (container,),
                  (golden, container), {"debian": pool}, disks if machines else None)


def _fedora(name, base):
    """A stand-in for Fedora: a layer over Debian."""
    (container,), (golden, _) = base.plain, base.golden
    rpms = Image("rpms", base.pool.release, ["rpms"], [golden])
    plain = Image("fedora", base.pool.release, ["layer.sh", "fedora"], [container, base.pool], layers=[container])
    full = Image("fedora-golden", base.pool.release, ["layer.sh"], [plain, container, base.pool, rpms],
                 layers=[plain, container])
    return System(f"fedora-{name}", "rpm", f"quay.io/containerdisks/fedora:{name}", base.major, base.pool,
                  (plain, container), (full, plain, container), {"fedora": rpms})


def _patroni(base):
    """The same with Patroni, etcd and HAProxy: layers of their own, so that the other images stay as they are."""
    release = base.pool.release
    pool = Image("patroni-pool", release, ["patroni-packages.sh"], [base.pool])
    golden = Image("patroni-golden", release, ["patroni-packages.sh", "layer.sh"], [*base.golden, pool], layers=[*base.golden])
    disks = base.disks and Image("patroni-machine", release, ["patroni-packages.sh", "patroni-golden.sh"], [base.disks, pool])
    return dataclasses.replace(base, name=f"{base.name}-patroni", pool=pool, golden=(golden, *base.golden),
                               repository={"debian": pool}, disks=disks)


def _patroni_fedora(base, patroni):
    """The RPM family as a golden image; its own repositories have no Patroni."""
    golden = Image("patroni-fedora-golden", base.pool.release, ["layer.sh"], [*base.golden, base.pool, patroni.golden[0]],
                   layers=[*base.golden])
    return dataclasses.replace(base, name=f"{base.name}-patroni", pool=patroni.pool, golden=(golden, *base.golden))


def _archive(base):
    """The same with what an archive takes: layers of their own, so that the other images stay as they are."""
    release = base.pool.release
    pool = Image("archive-pool", release, ["archive-packages.sh"], [base.pool])
    golden = Image("archive-golden", release, ["archive-packages.sh", "layer.sh"], [*base.golden, pool], layers=[*base.golden])
    return dataclasses.replace(base, name=f"{base.name}-archive", pool=pool, golden=(golden, *base.golden), repository={"debian": pool})


def _archive_fedora(base, archive):
    """The RPM family as a golden image."""
    golden = Image("archive-fedora-golden", base.pool.release, ["layer.sh"], [*base.golden, base.pool, archive.golden[0]],
                   layers=[*base.golden])
    return dataclasses.replace(base, name=f"{base.name}-archive", pool=archive.pool, golden=(golden, *base.golden))


def _enforcing(name, base):
    """The stand-in for Fedora as a machine that enforces SELinux, over a Debian that boots as one."""
    release = base.pool.release
    rpms = Image("rpms", release, ["rpms"], [base.golden[0]])
    disks = Image("selinux", release, ["packages.sh", "fedora.sh", "fedora", "fedora-golden.sh", "selinux"],
                  [base.disks, base.pool, rpms])
    # The backlog keeps what the kernel has to say before auditd runs.
    return System(f"fedora-{name}-selinux", "rpm", f"quay.io/containerdisks/fedora:{name}", base.major, base.pool, (), (),
                  {"fedora": rpms}, disks, "security=selinux selinux=1 enforcing=1 audit=1 audit_backlog_limit=8192")


def _enforcing_patroni(base, patroni):
    """The same with Patroni. A lab's other nodes are containers, which enforce nothing: `patroni` is their layout's."""
    disks = Image("selinux-patroni", base.pool.release, ["patroni-fedora-golden.sh", "selinux-patroni"],
                  [base.disks, patroni.golden[0]])
    return dataclasses.replace(base, name=f"{base.name}-patroni", pool=patroni.pool, plain=patroni.plain,
                               golden=patroni.golden, disks=disks)


def _network_manager(base):
    """The same with NetworkManager: a layer of its own, so that the other images stay as they are."""
    release = base.pool.release
    pool = Image("nm-pool", release, [], [base.plain[-1]])
    layer = Image("fedora-nm", release, ["layer.sh"], [*base.golden, pool], layers=[*base.golden])
    return dataclasses.replace(base, name=f"{base.name}-networkmanager", golden=(layer, *base.golden))


DEBIAN_11 = _debian("11", "bullseye", 13)
DEBIAN_12 = _debian("12", "bookworm", 15)
DEBIAN_13 = _debian("13", "trixie", 17, machines=True)
# Debian 13 with the next release's PostgreSQL and what that links with: all of the next one would be a systemd that no
# longer boots as a container on a host with control groups of version 1.
FORKY = _debian("forky", "trixie-forky", 18)
FEDORA_44 = _fedora("44", FORKY)
DEBIAN_13_PATRONI = _patroni(DEBIAN_13)
FEDORA_44_PATRONI = _patroni_fedora(FEDORA_44, _patroni(FORKY))
FEDORA_44_SELINUX = _enforcing("44", DEBIAN_13)
FEDORA_44_SELINUX_PATRONI = _enforcing_patroni(FEDORA_44_SELINUX, _patroni_fedora(_fedora("44", DEBIAN_13), DEBIAN_13_PATRONI))
FEDORA_44_NM = _network_manager(FEDORA_44)
DEBIAN_13_ARCHIVE = _archive(DEBIAN_13)
DEBIAN_13_PATRONI_ARCHIVE = _archive(DEBIAN_13_PATRONI)
FEDORA_44_ARCHIVE = _archive_fedora(FEDORA_44, _archive(FORKY))
VERSITYGW = Image("versitygw", "1.8.0", [])
"""Its release is its own. It holds the program `versitygw`."""
SYSTEMS = [DEBIAN_11, DEBIAN_12, DEBIAN_13, FORKY, FEDORA_44]


def build(images):
    """Builds images; one run at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for image in images:
            image.build()
