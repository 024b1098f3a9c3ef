"""A VM as a machine of QEMU's software emulation: its own kernel, udev, PCI, ISO 9660, DHCP, guest agent, power button.

Power loss is SIGKILL of QEMU. Memory is gone, and so is all that the guest's kernel had not yet handed to the disk; what it
had handed over is kept in the host's page cache, flushed or not. So a missing fsync shows, a missing flush of the disk's own
cache does not.
"""

import base64
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time

from shell import CommandFailed, TimedOut, end, in_netns, pause, run, wait_until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What is switched off costs an emulated machine time and changes nothing that a test looks at.
CPU = "max,la57=off,avx=off,avx2=off,xsave=off,smap=off,smep=off,umip=off,pku=off"
KERNEL = "console=ttyS0 quiet loglevel=3 mitigations=off init_on_alloc=0 nowatchdog tsc=reliable"


class Machine:
    """`directory` keeps the root while it is persistent, the console's log and the sockets; `images` is a directory with
    vmlinuz, initrd and for each kind of image KIND.raw; `security` is what the kernel is told of security modules."""

    def __init__(self, vm, directory, pod, images, kind, security):
        self.vm = vm
        self.directory = pathlib.Path(directory)
        self.pod = pod
        self.images = pathlib.Path(images)
        self.kind = kind
        self.security = security
        self.root = self.directory / "root.qcow2"
        self.serial = self.directory / "serial.log"
        self.console = self.directory / "console.log"
        self.process = None
        self.agent = None
        self.monitor = None

    def start(self, seed, files, data):
        """Boots with `seed`, the NoCloud image; `files` (read-only) and `data` are images by serial."""
        if not (self.vm.persistent_root and self.root.exists()):
            self.root.unlink(missing_ok=True)
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", self.images / f"{self.kind}.raw", self.root)
        disks = [_disk("root", self.root, form="qcow2"), _disk("cloudinit", seed, readonly=True)]
        disks += [_disk(serial, path, serial, readonly=True) for serial, path in files.items()]
        disks += [_disk(serial, path, serial) for serial, path in data.items()]
        # The PCI layout of KubeVirt's machines: each device behind a port of its own, the network's first, so that it is
        # called enp1s0.
        devices = [f"virtio-net-pci,netdev=pod,mac={_mac(self.vm.uuid)},romfile=", "virtio-serial-pci",
                   "virtio-rng-pci", *(device for device, _ in disks)]
        ports = []
        for number, device in enumerate(devices, 1):
            ports += ["-device", f"pcie-root-port,id=port{number},chassis={number}",
                      "-device", f"{device},bus=port{number}"]
        if self.vm.watchdog:
            # Without -no-reboot it would begin anew; so the harness sees that it was reset.
            (kind, settings), = ((kind, settings) for kind, settings in self.vm.watchdog.items() if kind != "name")
            ports += ["-device", f"{kind},bus=pcie.0", "-action", f"watchdog={settings['action']}"]
        log = open(self.directory / "qemu.log", "wb")
        self.process = subprocess.Popen(
            in_netns(
                self.pod.netns, "qemu-system-x86_64", "-name", self.vm.name, "-nodefaults", "-no-user-config", "-display",
                "none", "-machine", "q35,usb=off,vmport=off,hpet=off", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", CPU,
                "-smp", "1", "-m", f"{self.vm.memory // 2**20}M", "-uuid", self.vm.uuid, "-kernel", self.images / "vmlinuz",
                "-initrd", self.images / "initrd", "-append", f"{KERNEL} {self.security}", "-no-reboot",
                "-chardev", f"file,id=serial,path={self.serial}", "-serial", "chardev:serial",
                "-chardev", f"file,id=console,path={self.console}",
                "-netdev", "tap,id=pod,ifname=guest0,script=no,downscript=no",
                *(word for _, drive in disks for word in ("-blockdev", drive)), *ports,
                "-device", "virtconsole,chardev=console",
                "-chardev", f"socket,id=agent,path={self._socket('agent')},server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
                "-qmp", f"unix:{self._socket('monitor')},server=on,wait=off"),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()
        self.monitor = wait_until(f"the start of {self.vm.name}", self._connect_monitor, 30, 0.05)
        self.agent = _Agent(self._socket("agent"))

    def _socket(self, name):
        return self.directory / f"{name}.sock"

    def _connect_monitor(self):
        if self.process.poll() is not None:
            raise TimedOut(f"{self.vm.name} did not start: " + (self.directory / "qemu.log").read_text()[-2000:])
        return _Monitor(self._socket("monitor"))

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def wait_for_agent(self, seconds=180):
        """Until the guest agent answers; how long that took."""
        started = time.monotonic()
        wait_until(f"the guest agent of {self.vm.name}", self.agent.ping, seconds, 0.5)
        return time.monotonic() - started

    def run(self, *argv, stdin="", timeout=300, check=True):
        """A command as root in the guest, by its agent: in seconds, or in minutes where others have the cores."""
        status, output, errors = self.agent.execute(
            "/usr/bin/env", ["-i", f"PATH={PATH}", "LC_ALL=C.UTF-8", *map(str, argv)], stdin, timeout)
        if check and status != 0:
            raise CommandFailed(f"{' '.join(map(str, argv))}: status {status}\n{errors}{output}".rstrip())
        return output.rstrip("\n")

    def journal(self, *options):
        """The journal of this start; of a guest that is off or has no agent yet what the console showed of it."""
        if self.running and self.agent.ping():
            boots = [] if "--boot" in options else ["--boot"]
            return self.run("journalctl", "--quiet", "--no-pager", "--output=short-monotonic", *boots, *options, check=False)
        lines = self.console_lines()
        patterns = [option.removeprefix("--grep=") for option in options if option.startswith("--grep=")]
        if patterns:
            return "\n".join(line for line in lines if all(re.search(pattern, line) for pattern in patterns))
        return "\n".join(lines[-200:])

    def console_lines(self):
        """What the machine showed on its consoles: the kernel's last words on the serial one, the journal on the other."""
        text = "".join(path.read_text(errors="replace") for path in (self.serial, self.console) if path.exists())
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", line) for line in text.splitlines()]

    def power_off(self):
        """The power button, as KubeVirt presses it: whether the guest went down by itself within its grace period, and in
        how many seconds."""
        started = time.monotonic()
        self.monitor.execute("system_powerdown")
        try:
            self.process.wait(self.vm.grace_period)
            ordered = True
        except subprocess.TimeoutExpired:
            ordered = False
        self._release()
        return ordered, time.monotonic() - started

    def power_loss(self):
        self.process.kill()
        self.process.wait(60)
        self._release()

    def grow(self, serial, size):
        """A volume that grows while the VM runs."""
        self.monitor.execute("block_resize", node_name=serial, size=size)

    def _release(self):
        end(self.process, 20)
        for connection in (self.agent, self.monitor):
            if connection:
                connection.close()

    def close(self):
        """Ends it whatever its state."""
        if self.process:
            self.process.kill()
            self.process.wait(30)
            self._release()


def _disk(name, path, serial=None, form="raw", readonly=False):
    """The arguments of a virtio disk: its device and its block device. As writethrough is off, a flush of the guest is a
    flush of the file."""
    drive = {"node-name": name, "driver": form, "read-only": readonly,
             "file": {"driver": "file", "filename": str(path), "read-only": readonly}}
    if not readonly:
        drive |= {"discard": "unmap", "file": drive["file"] | {"discard": "unmap"}}
    return f"virtio-blk-pci,drive={name},write-cache=on" + (f",serial={serial}" if serial else ""), json.dumps(drive)


def _mac(uuid):
    """A locally administered address of the VM's own."""
    digits = uuid.replace("-", "")
    return ":".join(["02", *(digits[i:i + 2] for i in range(0, 10, 2))])


class _Lines:
    """A socket of JSON documents, one a line."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.buffer = b""

    def send(self, document):
        self.socket.sendall(json.dumps(document).encode() + b"\n")

    def receive(self, seconds):
        """The next line, or TimedOut."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(f"no answer within {seconds} s")
            self.socket.settimeout(left)
            try:
                received = self.socket.recv(65536)
            except TimeoutError:
                continue
            if not received:
                raise OSError("the other end closed the connection")
            self.buffer += received
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def close(self):
        self.socket.close()


class _Monitor:
    """QEMU's own control socket."""

    def __init__(self, path):
        self.lines = _Lines(path)
        self.lines.receive(10)
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        self.lines.send({"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}})
        while True:
            answer = json.loads(self.lines.receive(10))
            if "error" in answer:
                raise CommandFailed(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self.lines.close()


class _Agent:
    """qemu-guest-agent in the guest. One question at a time; each begins with a synchronisation, since answers to
    questions that nobody waited for any more may still be in the way."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.RLock()
        self.lines = None
        self.serial = int.from_bytes(os.urandom(3), "big")

    def ping(self, seconds=3):
        try:
            self.ask("guest-ping", wait=seconds)
            return True
        except CommandFailed:
            return False

    def ask(self, command, wait=20, **arguments):
        with self.lock:
            try:
                if self.lines is None:
                    self.lines = _Lines(self.path)
                    self._synchronise(wait)
                self.lines.send({"execute": command, "arguments": arguments})
                answer = json.loads(self.lines.receive(wait))
            except (TimedOut, OSError, ValueError) as error:
                self.close()
                raise CommandFailed(f"the guest agent does not answer to {command}: {error}") from error
        if "error" in answer:
            raise CommandFailed(f"{command}: {answer['error'].get('desc', answer['error'])}")
        return answer["return"]

    def _synchronise(self, wait):
        self.serial += 1
        self.lines.send({"execute": "guest-sync-delimited", "arguments": {"id": self.serial}})
        deadline = time.monotonic() + wait
        while True:
            line = self.lines.receive(max(0.1, deadline - time.monotonic())).rpartition(b"\xff")[2]
            try:
                if json.loads(line).get("return") == self.serial:
                    return
            except ValueError:
                pass

    def execute(self, path, arguments, stdin="", timeout=60):
        """Status, output and errors of a program."""
        started = self.ask("guest-exec", path=path, arg=arguments, **{
            "input-data": base64.b64encode(stdin.encode()).decode(), "capture-output": True})
        deadline = time.monotonic() + timeout
        wait = 0.05
        while True:
            state = self.ask("guest-exec-status", pid=started["pid"])
            if state["exited"]:
                texts = [base64.b64decode(state.get(key, "")).decode(errors="replace") for key in ("out-data", "err-data")]
                return state.get("exitcode", -state.get("signal", 1)), *texts
            if time.monotonic() > deadline:
                raise CommandFailed(f"{' '.join(arguments)}: not done within {timeout} s")
            pause(wait)
            wait = min(wait * 1.5, 1)

    def close(self):
        with self.lock:
            if self.lines:
                self.lines.close()
                self.lines = None
