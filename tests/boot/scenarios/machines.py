"""Machines: what containers cannot show. Disks by serial, ISO 9660, DHCP, the guest agent, the power button, power loss."""

import json

from scenarios.checks import Checks
from scenarios.families import IPV6, Families
from shell import wait_until
from story import config, expect, expect_equal, pause, scenario

MINUTES = 1200
"""How long emulated machines may take, in seconds, also where they share their cores."""


class Emulated(Checks):
    """A story of machines with as little memory as gen allows."""

    containers = False

    def machine_config(self, **changes):
        return config(self.system, pgbench_scale=1, pgbench={"clients": 1, "rate": 20},
                      vm={"memory": "1Gi", "cpu-cores": 1}, **changes)

    def serves_and_streams(self):
        """Waits for it. Asks seldom: a log-in costs an emulated machine a second."""
        lab = self.lab
        wait_until(f"{lab.primary} serves", lambda: lab.sql(
            lab.primary, "SELECT count(*) > 0 FROM pgbench_branches") == "t", MINUTES, 3)
        wait_until("the replicas stream", lambda: lab.streaming() == set(lab.replicas), MINUTES, 3)

    def forms(self):
        lab = self.lab
        self.serves_and_streams()
        for name in lab.nodes:
            lab.guest(name).wait_for_agent(MINUTES)
        self.systems = {name: self.identifier(name) for name in lab.nodes}
        expect_equal(len(set(self.systems.values())), 1, "number of system identifiers")
        self.directories = {name: self.data_directory(name) for name in lab.nodes}

    def comes_back(self, *restarted):
        """After a start of some: everybody streams from the same data as before, no acknowledged row is missing."""
        lab = self.lab
        self.serves_and_streams()
        for name in restarted:
            lab.guest(name).wait_for_agent(MINUTES)
            self.not_in_journal(name, "cloning", "initialising", "is blank", "building the pgbench tables")
        for name in lab.nodes:
            expect_equal(self.identifier(name), self.systems[name], f"system identifier of {name}")
            expect_equal(self.data_directory(name), self.directories[name], f"data directory of {name}")
        self.no_rows_missing()

    def boots_cleanly(self, name):
        """cloud-init is done without errors, and no unit has failed."""
        guest = self.lab.guest(name)
        # What `cloud-init status` reads, and says "done" of when it is there and has no errors.
        result = json.loads(wait_until(f"the end of cloud-init on {name}", lambda: guest.run(
            "cat", "/run/cloud-init/result.json"), MINUTES, 3))["v1"]
        expect_equal(result["errors"], [], f"errors of cloud-init of {name}")
        expect("NoCloud" in result["datasource"], f"data source of {name}: {result['datasource']}")
        wait_until(f"{name} has booted", lambda: guest.run(
            "systemctl", "is-system-running", check=False) in ("running", "degraded"), MINUTES, 3)
        expect_equal(guest.run("systemctl", "list-units", "--failed", "--plain", "--no-legend"), "", f"failed units of {name}")


class Machines(Emulated):
    title = "three machines, golden image, ephemeral roots"

    def setup(self):
        self.lab = self.new_lab()
        self.lab.apply(self.machine_config(replica_count=2))

    @scenario("forming from blank disks, all started at once: both replicas stream under their own name and slot")
    def forming(self):
        with self.timed("blank disks -> all replicas stream"):
            self.lab.start(*self.lab.nodes)
            self.serves_and_streams()
        self.forms()

    @scenario("cloud-init is done without errors, no unit has failed", fatal=False)
    def clean(self):
        for name in self.lab.nodes:
            self.boots_cleanly(name)
        # Its exit status counts warnings, too. The image has no ssh-keygen, which is no fault of user-data.
        status = json.loads(self.lab.guest(self.lab.primary).run("cloud-init", "status", "--format", "json", check=False))
        warnings = [warning for level in status["recoverable_errors"].values() for warning in level
                    if not warning.startswith("Failed generating key type")]
        expect_equal((status["status"], warnings), ("done", []), "cloud-init of the primary")

    @scenario("disks by their serial, the data disk with our label, Secret and ConfigMap as ISO 9660", fatal=False)
    def disks(self):
        for name in self.lab.nodes:
            guest = self.lab.guest(name)

            def tag(serial, key):
                return guest.run("blkid", "-p", "-s", key, "-o", "value", f"/dev/disk/by-id/virtio-{serial}")

            expect_equal((tag("data", "LABEL"), tag("data", "TYPE")), ("virtwork-data", "ext4"), f"data disk of {name}")
            expect_equal((tag("credentials", "LABEL"), tag("credentials", "TYPE")), ("cfgdata", "iso9660"),
                         f"credentials disk of {name}")
            expect_equal(guest.run("findmnt", "-no", "SOURCE", "/var/lib/postgresql"),
                         guest.run("readlink", "-f", "/dev/disk/by-id/virtio-data"), f"what {name} has mounted")
            expect_equal((tag("guest", "LABEL"), tag("guest", "TYPE")), ("virtwork", "iso9660"), f"disk of the files of {name}")
            expect_equal(guest.run("findmnt", "-rno", "TARGET", "-t", "iso9660"), "/run/virtwork/guest",
                         f"what stays mounted on {name}, and no Secret")

    @scenario("hostname and address as KubeVirt gives them, single labels resolve through the domains that DHCP offers",
              fatal=False)
    def names(self):
        lab = self.lab
        service = lab.network.service_address(f"{lab.prefix}-primary")
        for name, node in lab.nodes.items():
            guest = node.guest
            expect_equal(guest.run("uname", "-n"), name, "hostname")
            lease = guest.run("bash", "-c", "grep -hE '^(ADDRESS|NETMASK)=' /run/systemd/netif/leases/*")
            expect_equal(lease.split(), ["ADDRESS=10.0.2.2", "NETMASK=255.255.255.0"], f"lease of {name}")
            links = json.loads(guest.run("ip", "-json", "-4", "address", "show", "scope", "global"))
            expect_equal([(link["ifname"], own["local"]) for link in links for own in link["addr_info"]],
                         [("enp1s0", "10.0.2.2")], f"addresses of {name}")
            domains = guest.run("resolvectl", "domain", "enp1s0").partition(":")[2].split()
            expect_equal(domains, node.vm.search_domains("lab"), f"search domains of {name}")
            wanted = {f"{lab.prefix}-primary": (service, f"{lab.prefix}-primary.lab.svc.cluster.local")}
            wanted |= {peer: (other.pod.address, f"{peer}.{node.vm.subdomain}.lab.svc.cluster.local")
                       for peer, other in lab.nodes.items() if peer != name}
            for label, line, answer in self.lookups(name, wanted):
                expect_equal(tuple(line.split()[::2]), wanted[label], f"getent ahosts {label} on {name}")
                expect(wanted[label][0] in answer.split(), f"resolvectl query {label} on {name}: {answer}")

    def lookups(self, name, labels):
        """What the C library, asked as libpq asks it, and systemd-resolved say of each label."""
        output = self.lab.guest(name).run("bash", "-c", """
            for label; do
              echo "$label|$(getent ahosts "$label" | head -n 1)|$(resolvectl query --legend=no "$label" 2>&1 | tr '\\n' ' ')"
            done""", "-", *labels)
        return [line.split("|") for line in output.splitlines()]

    @scenario("the guest agent tells KubeVirt name and address", fatal=False)
    def agent(self):
        for name, node in self.lab.nodes.items():
            expect(node.guest.agent.ping(20), f"the agent of {name} does not answer")
            expect_equal(node.guest.agent.ask("guest-get-host-name")["host-name"], name, "name by the agent")
            links = {link["name"]: link for link in node.guest.agent.ask("guest-network-get-interfaces")}
            expect("10.0.2.2" in [own["ip-address"] for own in links["enp1s0"]["ip-addresses"]], f"address of {name}")

    @scenario("password files are closed", fatal=False)
    def password_files(self):
        for name in self.lab.nodes:
            guest = self.lab.guest(name)
            expect_equal(guest.run("stat", "-c", "%a %U:%G", "/run/postgresql/virtwork.pgpass"), "600 postgres:postgres",
                         f"pgpass of {name}")
            expect_equal(guest.run("stat", "-c", "%a %U:%G", "/run/virtwork"), "700 root:root", f"/run/virtwork of {name}")
            passwords = "\n".join(self.lab.passwords.values())
            hits = guest.run("grep", "-rlF", "-f", "-", "/etc", "/run", "/tmp", "/var/lib/cloud", "/var/log", stdin=passwords,
                             check=False, timeout=300)
            expect_equal(hits, "/run/postgresql/virtwork.pgpass", f"files of {name} with a password")

    @scenario("power loss of the primary under load, fresh root: no acknowledged row lost, nothing made anew")
    def power_loss(self):
        lab = self.lab
        self.writer = self.new_writer()
        lab.guest(lab.primary).run("touch", "/root/of-the-first-boot")
        wait_until("the writer writes", lambda: len(self.writer.acknowledged) > 50, 120)
        self.load_runs()
        lab.power_loss(lab.primary)
        pause(3)
        lab.start(lab.primary)
        self.comes_back(lab.primary)
        self.in_journal(lab.primary, "was not properly shut down; automatic recovery in progress")
        expect_equal(lab.guest(lab.primary).run("ls", "/root"), "", "root's home on a fresh root")
        self.load_runs()

    @scenario("the power button of a replica: down in order within the grace period, then back without a new clone")
    def power_button(self):
        lab = self.lab
        replica = lab.replicas[0]
        lab.stop(replica)
        with self.timed("start of a replica -> it streams"):
            lab.start(replica)
            self.serves_and_streams()
        self.comes_back(replica)
        self.in_journal(replica, "database system was shut down in recovery")


    @scenario("a disk that grows while the VM runs: restarting virtwork-setup.service grows the file system", fatal=False)
    def grows(self):
        lab = self.lab
        name = lab.replicas[0]
        guest = lab.guest(name)
        before = int(self.in_data(name, "df -k --output=size $PGDATA | tail -n 1"))
        guest.grow("data", 5 << 30)
        guest.run("systemctl", "restart", "virtwork-setup.service", timeout=600)
        after = int(self.in_data(name, "df -k --output=size $PGDATA | tail -n 1"))
        expect(after > before * 1.2, f"the file system had {before} KiB and has {after}")
        self.serves_and_streams()


class PlainMachine(Emulated):
    title = "one machine, plain image, persistent root"
    image = "plain"

    def setup(self):
        self.lab = self.new_lab()
        self.requests = self.lab.network.serve_packages(self.system.packages())
        self.lab.apply(self.machine_config(replica_count=0, guest={"packages": "install", "root-disk": "persistent"}))

    @scenario("installs its packages for real, from a repository, and serves")
    def install(self):
        lab = self.lab
        lab.start(lab.primary)
        self.forms()
        self.in_journal(lab.primary, "packages installed")
        expect(any(request.endswith(".deb") for request in self.requests), "nothing was fetched from the repository")
        self.boots_cleanly(lab.primary)

    @scenario("power loss under load, same root: no acknowledged row lost, no package call, nothing made anew")
    def power_loss(self):
        lab = self.lab
        self.writer = self.new_writer()
        wait_until("the writer writes", lambda: len(self.writer.acknowledged) > 50, 120)
        self.load_runs()
        calls = lab.guest(lab.primary).run("cat", "/var/log/package-calls")
        lab.power_loss(lab.primary)
        lab.start(lab.primary)
        self.comes_back(lab.primary)
        expect_equal(lab.guest(lab.primary).run("cat", "/var/log/package-calls"), calls, "calls of the package manager")
        self.boots_cleanly(lab.primary)


class Ipv6Machines(Emulated, Families):
    title = "two machines with IPv6 alone, golden image"
    families = ("IPv6",)

    def setup(self):
        self.lab = self.new_lab()
        base = self.machine_config()
        self.lab.apply(self.family_config(IPV6, pgbench_scale=1, pgbench=base["pgbench"], vm=base["vm"]))

    @scenario("forming from blank disks: cloud-init is done without errors, the replica streams over IPv6")
    def forming(self):
        with self.timed("blank disks -> all replicas stream"):
            self.lab.start(*self.lab.nodes)
            self.serves_and_streams()
        self.forms()
        for name in self.lab.nodes:
            self.boots_cleanly(name)
        self.streams_over_ipv6()

    @scenario("a guest has the addresses and default route of IPv6, and completes single-label names")
    def addresses(self):
        self.guests_have_their_families()
