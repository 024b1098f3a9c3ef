"""A VM as a systemd-nspawn container: fast, with real cloud-init, systemd, file systems and network.

What it stands in for: udev (links by serial, from the harness), and where the kernel lacks ISO 9660, FUSE reads it.
The NoCloud disk is a real one that cloud-init finds by its label, so it is read anew at every boot. Power loss is
EXT4's own shutdown of the mounted disks without a flush, then SIGKILL: what was not written is gone.
"""

import contextlib
import fcntl
import os
import pathlib
import signal
import struct
import subprocess
import time

import disks
from shell import CommandFailed, TimedOut, end, run, wait_until

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
ENTER = 'for group; do [ "$group" = -- ] && break; echo $$ >"$group/cgroup.procs"; shift; done; shift; exec "$@"'
"""A shell enters the control groups before it becomes systemd-nspawn, which makes its own below them."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Container:
    """`name` is unique on this machine, `directory` keeps the root while it is persistent and the images of a start."""

    def __init__(self, vm, name, directory, pod, layers):
        self.vm = vm
        self.name = name
        self.directory = pathlib.Path(directory)
        self.pod = pod
        self.layers = layers
        self.root = self.directory / "root"
        self.loops = {}
        self.groups = []
        self.process = None
        self.init = None

    def start(self, seed, files, data):
        """Boots with `seed`, the NoCloud image; `files` (read-only) and `data` are images by serial."""
        upper, work = self.directory / "upper", self.directory / "work"
        if not self.vm.persistent_root:
            disks.remove(upper)
        disks.remove(work)
        for path in (upper, work, self.root):
            path.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "overlay", "overlay", "-o",
            f"lowerdir={':'.join(str(layer) for layer in self.layers)},upperdir={upper},workdir={work}", self.root)
        for serial, image in {**data, **files, "": seed}.items():
            readonly = [] if serial in data else ["--read-only"]
            self.loops[serial] = run("losetup", "--find", "--show", *readonly, image)
        links = " ".join(f"{serial}={device}" for serial, device in self.loops.items() if serial)
        self.groups = [group / f"boot-test-{self.name}" for group in _control_groups()]
        for group in self.groups:
            group.mkdir()
        with open(self.directory / "console.log", "ab") as console:
            self.process = subprocess.Popen(
                ["sh", "-c", ENTER, "sh", *map(str, self.groups), "--",
                 "systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit",
                 f"--directory={self.root}", f"--machine={self.name}", "--hostname=localhost",
                 f"--network-namespace-path=/run/netns/{self.pod.guest_netns}", "--capability=CAP_NET_ADMIN",
                 "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only", "--bind=/dev/fuse",
                 *(f"--bind={device}" for device in self.loops.values()), f"--setenv=BOOT_TEST_DISKS={links}",
                 "--boot"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True)
        self.init = wait_until(f"the start of {self.name}", self._find_init, 20, 0.05)

    def _find_init(self):
        if self.process.poll() is not None:
            raise TimedOut(f"{self.name} did not start: " + (self.directory / "console.log").read_text()[-2000:])
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        own = os.readlink("/proc/self/ns/pid")
        return next((int(pid) for pid in children if os.readlink(f"/proc/{pid}/ns/pid") != own), None)

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def run(self, *argv, stdin="", timeout=60, check=True):
        """A command as root in the guest."""
        return run("nsenter", "-t", self.init, "-m", "-u", "-i", "-n", "-p", "--",
                   "env", "-i", f"PATH={PATH}", "LC_ALL=C.UTF-8", *argv, stdin=stdin, timeout=timeout, check=check)

    def journal(self, *options):
        """The journal of this start; also of a guest that is off, while it keeps its root."""
        boots = [] if "--boot" in options else ["--boot"]
        return run("journalctl", "--quiet", "--no-pager", "--output=short-monotonic",
                   f"--directory={self.directory / 'upper/var/log/journal'}", *boots, *options, check=False)

    def power_off(self):
        """The power button: whether the guest went down by itself within its grace period, and in how many seconds."""
        started = time.monotonic()
        os.kill(self.init, signal.SIGRTMIN + 4)
        try:
            self.process.wait(self.vm.grace_period)
            ordered = True
        except subprocess.TimeoutExpired:
            ordered = False
        self._release()
        return ordered, time.monotonic() - started

    def power_loss(self):
        for directory in self._mounted():
            handle = os.open(f"/proc/{self.init}/root{directory}", os.O_RDONLY)
            try:
                fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
            finally:
                os.close(handle)
        os.kill(self.init, signal.SIGKILL)
        self.process.wait(60)
        self._release()

    def _mounted(self):
        """Where the guest has mounted its own disks; one place for each."""
        numbers = [os.stat(device).st_rdev for device in self.loops.values()]
        own = {f"{os.major(number)}:{os.minor(number)}" for number in numbers}
        mounts = {}
        for line in pathlib.Path(f"/proc/{self.init}/mountinfo").read_text().splitlines():
            left, right = line.split(" - ")
            number, directory = left.split()[2], left.split()[4]
            if number in own and right.split()[0] == "ext4":
                mounts[number] = directory
        return mounts.values()

    def _release(self):
        end(self.process, 20)
        for group in self.groups:
            for path, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
        run("umount", self.root, check=False)
        while self.loops:
            _, device = self.loops.popitem()
            file = _backing_file(device)
            run("losetup", "--detach", device, check=False)
            # A mount that is still going away keeps the device; a second one on the same file would ruin it. Another lab
            # may take the device as soon as it is free.
            wait_until(f"{device} is free", lambda device=device, file=file: not file or _backing_file(device) != file,
                       60, 0.05)

    def close(self):
        """Ends it whatever its state."""
        if self.running and self.init:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                os.kill(self.init, signal.SIGKILL)
                self.process.wait(30)
        if self.process:
            self._release()


def _backing_file(device):
    """The file behind a loop device; nothing where there is none, or not any more."""
    try:
        return pathlib.Path("/sys/block", device[5:], "loop/backing_file").read_text()
    except OSError:
        return None


def _control_groups():
    """This process's group in the hierarchies that a container's systemd needs: systemd's own and version 2's."""
    groups = []
    lines = [line.split(":", 2) for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()]
    own = {hierarchy: path for _, hierarchy, path in lines}
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        kind, _, options = right.split()[:3]
        directory = left.split()[4]
        if kind == "cgroup2":
            groups.append(pathlib.Path(directory + own.get("", "/")))
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            groups.append(pathlib.Path(directory + own.get("name=systemd", "/")))
    if not groups:
        raise CommandFailed("no control groups: neither version 2 nor systemd's hierarchy is mounted")
    return groups
