"""Machines that enforce SELinux: what the lab does is what the policy lets it do."""

from scenarios.checks import Checks
from scenarios.machines import Emulated
from scenarios.patroni import OneMachine
from shell import CommandFailed, wait_until
from story import expect, expect_equal, scenario

DENIAL = "^type=(AVC|USER_AVC) .*denied|^type=(USER_)?SELINUX_ERR"

TYPES = {"/var/lib/pgsql": "postgresql_db_t", "/var/lib/pgsql/data/PG_VERSION": "postgresql_db_t",
         "/run/postgresql/virtwork.pgpass": "postgresql_runtime_t", "/etc/virtwork/lab.env": "etc_t",
         "/usr/local/sbin/virtwork-ready.sh": "bin_t"}


class Enforcing(Checks):
    def enforcing(self):
        return [name for name in self.lab.nodes if not self.lab.is_container(name)]

    def enforces(self, name, program, domain):
        """SELinux enforces, and all processes of a program are in a domain."""
        guest = self.lab.guest(name)
        expect_equal(guest.run("getenforce"), "Enforcing", f"SELinux of {name}")
        expect_equal(set(guest.run("ps", "-C", program, "-o", "label=").split()), {f"system_u:system_r:{domain}:s0"},
                     f"domains of the processes of {program} on {name}")

    def nothing_denied(self):
        """No exception is made: what Debian's policy denies to Debian itself is allowed by the image's own module."""
        for name in self.enforcing():
            expect_equal(self.denials(name), [], f"denials of {name}")
            audit = dict(line.split(None, 1) for line in self.lab.guest(name).run("auditctl", "-s").splitlines())
            expect_equal((audit["enabled"], audit["lost"]), ("1", "0"), f"audit of {name}: enabled, lost records")

    def denials(self, name):
        """What was denied since the boot, as the audit log has it: it lies on the root that this boot began with."""
        return self.lab.guest(name).run("grep", "-rhE", DENIAL, "/var/log/audit", check=False).splitlines()

    def type_of(self, name, path):
        return self.lab.guest(name).run("stat", "-c", "%C", path).split(":")[2]


class Selinux(Enforcing, Emulated):
    title = "two machines that enforce SELinux, ephemeral roots"

    def setup(self):
        self.lab = self.new_lab()
        self.lab.apply(self.machine_config())

    @scenario("forming from blank disks, all started at once: the replica streams, the load runs")
    def forming(self):
        with self.timed("blank disks -> the replica streams"):
            self.lab.start(*self.lab.nodes)
            self.serves_and_streams()
        self.forms()
        self.load_runs()

    @scenario("both enforce, the server in its own domain; data, passwords and scripts have the labels of their places",
              fatal=False)
    def confined(self):
        for name in self.lab.nodes:
            self.enforces(name, "postgres", "postgresql_t")
            types = {path: self.type_of(name, path) for path in TYPES}
            expect_equal(types, TYPES, f"types on {name}")

    @scenario("no denial in the audit log since the boot", fatal=False)
    def no_denial(self):
        self.nothing_denied()

    @scenario("both restarted, fresh roots, one file of the data with a foreign label: labelled again, nothing made anew")
    def restart(self):
        lab = self.lab
        self.writer = self.new_writer()
        wait_until("the writer writes", lambda: len(self.writer.acknowledged) > 20, 120)
        # As in an image of a disk that was made where there is no SELinux.
        for name in lab.nodes:
            lab.guest(name).run("chcon", "-t", "var_lib_t", "/var/lib/pgsql/data/PG_VERSION")
        lab.restart(*lab.nodes)
        self.comes_back(*lab.nodes)
        self.load_runs()
        for name in lab.nodes:
            expect_equal(self.type_of(name, "/var/lib/pgsql/data/PG_VERSION"), "postgresql_db_t", f"type on {name}")

    @scenario("again no denial, and cloud-init and all units are well", fatal=False)
    def still_no_denial(self):
        for name in self.lab.nodes:
            self.boots_cleanly(name)
        self.nothing_denied()

    @scenario("a password file elsewhere in /run is closed to the server, and the audit log has that denial", fatal=False)
    def would_be_seen(self):
        for name in self.lab.nodes:
            self.lab.guest(name).run("install", "-o", "postgres", "-g", "postgres", "-m", "0600", "/dev/null", "/run/pgpass")
            self.refused_in_guest(name, "SELECT pg_read_file('/run/pgpass')")
            denials = self.denials(name)
            expect(denials and all(":postgresql_t:" in line and "pgpass" in line for line in denials),
                   f"denials of {name}: {denials}")

    def refused_in_guest(self, name, statement):
        try:
            self.lab.superuser(name, statement)
        except CommandFailed as error:
            expect("Permission denied" in str(error), f"refused, but because: {error}")
        else:
            raise AssertionError(f"{name} allows {statement}")


class Haproxy(Enforcing, OneMachine):
    """HAProxy in the domain that Fedora's policy has for it, with the boolean that it needs there."""

    title = "Patroni on a machine that enforces SELinux"
    # Not the first node, which makes the database.
    machine = "db-node-1"
    emulated = (machine,)
    BOOLEAN = "haproxy_connect_any"

    @scenario("forming: a machine that enforces joins etcd, clones the leader and streams")
    def forming(self):
        self.machine_forms()
        self.identity = self.identifier(self.machine), self.data_directory(self.machine)

    @scenario("HAProxy is in a domain of its own, its boolean on: rows go through 5000 to the leader, 5001 leads to a replica")
    def proxied(self):
        self.leads(1)
        self.enforces(self.machine, "haproxy", "haproxy_t")
        self.enforces(self.machine, "postgres", "postgresql_t")

    @scenario("no denial in the audit log since the boot", fatal=False)
    def no_denial(self):
        self.nothing_denied()

    @scenario("restarted, fresh root: the boolean is on again, nothing made anew, nothing denied")
    def restart(self):
        self.lab.restart(self.machine)
        self.machine_streams(self.machine)
        self.leads(2)
        expect_equal((self.identifier(self.machine), self.data_directory(self.machine)), self.identity,
                     "database of the machine")
        self.not_in_journal(self.machine, "founding", "new member", "initialising", "cloning", "keeping")
        self.nothing_denied()

    @scenario("the boolean off: nothing leads to 5432, HAProxy does not bind 5001, the audit log has both; on: it leads again",
              fatal=False)
    def off(self):
        guest = self.lab.guest(self.machine)
        guest.run("setsebool", self.BOOLEAN, "off")
        try:
            self.through(5000, "SELECT 1")
        except CommandFailed as error:
            expect("closed the connection" in str(error), f"nothing through 5000, but because: {error}")
        else:
            raise AssertionError("5000 leads to 5432 without the boolean")
        self.denied("name_connect", "dest=5432")
        guest.run("systemctl", "restart", "virtwork-haproxy.service")
        self.lab.wait_for_journal(self.machine, "cannot bind socket (Permission denied)", 120, 3)
        self.denied("name_bind", "src=5001")
        others = [line for line in self.denials(self.machine) if " dest=5432 " not in line and " src=5001 " not in line]
        expect_equal(others, [], "other denials")
        guest.run("setsebool", self.BOOLEAN, "on")
        self.leads(3)

    def leads(self, rows):
        """A row is written through the machine's port 5000, the last of so many; 5001 leads to a replica."""
        guest = self.lab.guest(self.machine)
        guest.run("systemctl", "start", "virtwork-haproxy.service")
        expect_equal(guest.run("cat", f"/sys/fs/selinux/booleans/{self.BOOLEAN}"), "1 1", self.BOOLEAN)
        for statement in ("CREATE TABLE IF NOT EXISTS through_haproxy (n int PRIMARY KEY)",
                          f"INSERT INTO through_haproxy VALUES ({rows}) ON CONFLICT DO NOTHING"):
            self.patiently(5000, statement)
        expect_equal(self.patiently(5000, "SELECT count(*), pg_is_in_recovery() FROM through_haproxy"), f"{rows}|f",
                     "rows, and whether 5000 leads to a replica")
        expect_equal(self.patiently(5001, "SELECT pg_is_in_recovery()"), "t", "whether 5001 leads to a replica")

    def patiently(self, port, statement):
        """An emulated HAProxy may find each server down for a moment, because it gets its answers too late."""
        return wait_until(f"{port} leads somewhere", lambda: [self.through(port, statement)], 300, 2)[0]

    def through(self, port, statement):
        return self.lab.ask(f"{self.lab.nodes[self.machine].pod.address} port={port}", statement)

    def denied(self, permission, what):
        wait_until(f"the audit log has {permission}, {what}", lambda: [
            line for line in self.denials(self.machine)
            if f"{{ {permission} }}" in line and f" {what} " in line and ":haproxy_t:" in line], 60, 2)
