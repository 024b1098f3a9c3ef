"""A lab: a bundle applied to a namespace of a cluster of its own, whose VMs can be started and stopped."""

import concurrent.futures
import pathlib
import threading
import time

import disks
import kubevirt
import postgres
from container import Container
from machine import Machine
from network import Network, enter_netns
from shell import wait_until

NAMESPACE = "lab"
STORY_UNITS = ("--unit=virtwork-*", "--unit=postgresql*")


class Node:
    """A VM of the lab: its document, its directory, and while it is on its pod and its guest."""

    def __init__(self, vm, directory):
        self.vm = vm
        self.directory = directory
        self.pod = None
        self.guest = None
        self.ready = False
        self.failures = 0

    @property
    def on(self):
        return self.guest is not None and self.guest.running


class Lab:
    """`directory` should be in memory. `system` is what the guests are, an images.System, and `image` golden or plain;
    `containers` chooses the tier; `families` are the cluster's IP families; `router` leads to other labs, each of which is a
    cluster of its own."""

    def __init__(self, name, directory, generator, system, image="golden", containers=True, families=("IPv4",), router=None):
        self.name = name
        self.directory = pathlib.Path(directory)
        self.generator = generator
        self.system = system
        self.image = image
        self.containers = containers
        self.emulated = ()
        self.objects = {}
        self.nodes = {}
        self.passwords = {}
        self.text = ""
        self.network = Network(name, self.directory / "network", NAMESPACE, families, router)
        self.closing = threading.Event()
        self.lock = threading.RLock()
        self.failure = None
        self.promoted = None
        self.controller = threading.Thread(target=self._control, daemon=True)
        self.controller.start()

    # What `oc apply` and `oc delete` do.

    def apply(self, config, passwords=None):
        """Runs gen on `config`, a mapping, and applies what it prints. Running VMs keep what they started with."""
        self.text, self.passwords = self.generator.bundle(self.directory / "config", config, passwords)
        objects = kubevirt.read(self.text)
        with self.lock:
            self.objects.update(objects)
            for (kind, name), document in objects.items():
                if kind == "VirtualMachine":
                    vm = kubevirt.VirtualMachine(document)
                    node = self.nodes.setdefault(name, Node(vm, self.directory / name))
                    node.vm = vm
        for kind, name in objects:
            if kind == "DataVolume" and not self.disk(name).exists():
                self.blank_disk(name)
        return objects

    def provide(self, config, passwords):
        """Makes the Secret that `config` says exists already, where it does."""
        existing = config.get("credentials", {}).get("existing-secret")
        if existing:
            given = {"name": existing} if isinstance(existing, str) else existing
            keys = {key: given.get(key.replace("password", "key"), key) for key in passwords}
            self.objects["Secret", given["name"]] = {"stringData": {keys[key]: passwords[key] for key in passwords}}
            self.passwords = passwords

    def delete(self, name):
        """Deletes a VM with its DataVolumes."""
        node = self.nodes[name]
        if node.on:
            self.stop(name)
        with self.lock:
            del self.nodes[name], self.objects["VirtualMachine", name]
        for volume in node.vm.database_disks():
            del self.objects["DataVolume", volume]
            self.disk(volume).unlink()
        disks.remove(node.directory)

    def disk(self, volume):
        return self.directory / f"{volume}.img"

    def blank_disk(self, volume):
        request = self.objects["DataVolume", volume]["spec"]["storage"]["resources"]["requests"]["storage"]
        disks.blank(self.disk(volume), kubevirt.quantity(request))

    # What KubeVirt does.

    def start(self, *names, image=None, without=()):
        """Starts VMs; `without` are serials of disks that are not attached."""
        for name in names:
            self._start(self.nodes[name], image or self.image, without)

    def _start(self, node, image, without):
        vm = node.vm
        node.directory.mkdir(exist_ok=True)
        with self.lock:
            pod = self.network.add_vm(vm, self.is_container(vm.name))
            node.pod, node.ready, node.failures = pod, False, 0
        seed = node.directory / "cloudinit.iso"
        disks.iso(seed, "cidata", vm.seed(self.objects))
        files = {}
        for disk in vm.file_disks():
            if disk.serial not in without:
                files[disk.serial] = node.directory / f"{disk.name}.iso"
                disks.files_iso(files[disk.serial], disk.source.get("volumeLabel", "cfgdata"),
                                kubevirt.files(disk, self.objects))
        data = {disk.serial: self.disk(volume) for volume, disk in vm.database_disks().items()
                if disk.serial not in without}
        if self.is_container(vm.name):
            guest = Container(vm, f"{self.name}-{vm.name}", node.directory, pod, self.system.layers(image))
        else:
            guest = Machine(vm, node.directory, pod, self.system.disks.path, image, self.system.security)
        node.guest = guest
        guest.start(seed, files, data)

    def is_container(self, name):
        """Whether a VM is a container, and not a machine."""
        return self.containers and name not in self.emulated

    def stop(self, *names):
        """Powers VMs off in order, all at once; each must be down by itself within its grace period."""
        nodes = [self.nodes[name] for name in names]
        threads, problems = [], []

        def power_off(node):
            try:
                ordered, seconds = node.guest.power_off()
                if not ordered:
                    problems.append(f"{node.vm.name} was not down within its grace period, but after {seconds:.0f} s")
            except Exception as error:
                problems.append(f"{node.vm.name}: {error!r}")
            self._gone(node)

        for node in nodes:
            threads.append(threading.Thread(target=power_off, args=[node]))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if problems:
            raise AssertionError("; ".join(problems))

    def power_loss(self, *names):
        """Nobody is told: the network is cut first, so that not even the dying kernel's last packets get out."""
        for name in names:
            self.network.cut(self.nodes[name].pod)
        for name in names:
            self.nodes[name].guest.power_loss()
            self._gone(self.nodes[name])

    def restart(self, *names):
        self.stop(*names)
        self.start(*names)

    def _gone(self, node):
        with self.lock:
            pod, node.pod, node.ready = node.pod, None, False
            self.network.remove_pod(pod)
            self._publish()

    def _control(self):
        """Readiness probes, and what follows from them. A guest that hangs must not delay the others' probes."""
        due = {}
        with concurrent.futures.ThreadPoolExecutor(4, initializer=enter_netns, initargs=(self.network.hub,)) as pool:
            while not self.closing.is_set():
                now = time.monotonic()
                nodes = [node for node in self.nodes.values() if node.pod and due.get(node.pod.address, 0) <= now]
                for node in nodes:
                    due[node.pod.address] = now + self._period(node)
                list(pool.map(self._probe, nodes))
                try:
                    with self.lock:
                        if not self.closing.is_set():
                            self._publish()
                except Exception as error:
                    self.failure = error
                self.closing.wait(0.25)

    def _period(self, node):
        """Seconds between probes. A container that is not ready is asked at each turn, so that a test measures the guest and
        not the probe; a machine without KVM seldom: an answer costs it a second or two, which is most of what it has."""
        if not self.containers or node.vm.name in self.emulated:
            return 4 * node.vm.probe["periodSeconds"]
        return node.vm.probe["periodSeconds"] if node.ready else 0.5

    def _probe(self, node):
        pod = node.pod
        if pod is None:
            return
        if self.network.answers(pod.address, node.vm.probe):
            node.ready, node.failures = node.pod is pod, 0
        else:
            node.failures += 1
            if node.failures >= node.vm.probe.get("failureThreshold", 3):
                node.ready = False

    def _publish(self):
        running = [(node.vm, node.pod, node.ready) for node in self.nodes.values() if node.pod]
        self.network.publish(self.objects, running)

    # What its users see.

    @property
    def prefix(self):
        return next(name for kind, name in self.objects if kind == "VirtualMachine").rpartition("-primary-")[0] or \
            next(name for kind, name in self.objects if kind == "NetworkPolicy")

    @property
    def primary(self):
        """The node that was made as the primary, or was promoted last."""
        return self.promoted or next(name for name in self.nodes if name.endswith("-primary-0"))

    @property
    def replicas(self):
        return sorted((n for n in self.database_nodes if n != self.primary), key=lambda n: (int(n.rpartition("-")[2]), n))

    @property
    def database_nodes(self):
        return [name for name in self.nodes if not name.startswith(f"{self.prefix}-client-")]

    def guest(self, name):
        return self.nodes[name].guest

    def sql(self, name, statement, user="pgbench", password=None, database="pgbench", stranger=False):
        """Asks the server of a VM over the network, with the client password if no other is given."""
        return self.ask(self.nodes[name].pod.address, statement, user, password, database, stranger)

    def ask(self, address, statement, user="pgbench", password=None, database="pgbench", stranger=False):
        """The same of any address, such as a Service's."""
        pod = self.network.stranger if stranger else self.network.client
        password = self.passwords["client-password"] if password is None else password
        return postgres.ask(pod.netns, address, statement, user, password, database)

    def superuser(self, name, statement, database="postgres", timeout=60):
        """Asks in the guest, as postgres."""
        return self.guest(name).run(
            "setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "env", "PGHOST=/run/postgresql",
            "psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-", stdin=statement,
            timeout=timeout)

    def wait_for_primary(self, seconds=180):
        """Until the primary serves a complete benchmark database."""
        return wait_until(f"{self.primary} serves", lambda: self.sql(
            self.primary, "SELECT count(*) > 0 FROM pgbench_branches") == "t", seconds)

    def streaming(self):
        """The application names of the replicas that stream, each through the slot of its own name. A clone streams
        too, but has a second connection, for the base backup."""
        rows = self.sql(self.primary, """
            SELECT application_name FROM pg_stat_replication LEFT JOIN pg_replication_slots ON active_pid = pid
            GROUP BY 1 HAVING bool_and(state = 'streaming' AND slot_name = replace(application_name, '-', '_'))""")
        return set(rows.split())

    def wait_for_streaming(self, *names, seconds=240):
        """Until these replicas, and nobody else, stream."""
        wanted = set(names or self.replicas)
        return wait_until(f"streaming: {', '.join(sorted(wanted))}", lambda: self.streaming() == wanted, seconds, 0.5)

    def wait_for_replay(self, name, seconds=60):
        """Until a replica has replayed what the primary has now."""
        position = self.sql(self.primary, "SELECT pg_current_wal_lsn()")
        return wait_until(f"{name} replays {position}", lambda: self.sql(
            name, f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == "t", seconds)

    def wait_for_journal(self, name, text, seconds=120, interval=0.5):
        return wait_until(f"the journal of {name} says {text!r}", lambda: text in self.journal(name), seconds, interval)

    def journal(self, name):
        """The lines of the lab's units since the start of the VM."""
        return self.guest(name).journal(*STORY_UNITS)

    def story(self, lines=40):
        """The ends of all journals, for a report of a failure."""
        parts = [f"the controller failed: {self.failure!r}"] if self.failure else []
        for name, node in sorted(self.nodes.items()):
            if node.guest:
                warnings = node.guest.journal("--identifier=cloud-init", "--grep=ERROR|Traceback|Invalid")
                journal = [*warnings.splitlines(), *self.journal(name).splitlines()[-lines:]]
                if "virtwork-setup" not in "".join(journal):
                    journal += node.guest.journal().splitlines()[-lines:]
                parts.append("\n".join([f"--- {name} ({'on' if node.on else 'off'}, ready: {node.ready})", *journal]))
        return "\n".join(parts)

    def close(self):
        self.closing.set()
        self.controller.join()
        for node in self.nodes.values():
            if node.guest:
                node.guest.close()
        self.network.close()
