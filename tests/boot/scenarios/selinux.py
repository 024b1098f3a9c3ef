"""Machines that enforce SELinux: what the lab does is what the policy lets it do."""

from scenarios.machines import Emulated
from shell import CommandFailed, wait_until
from story import expect, expect_equal, scenario

DENIAL = "^type=(AVC|USER_AVC) .*denied|^type=(USER_)?SELINUX_ERR"

TYPES = {"/var/lib/pgsql": "postgresql_db_t", "/var/lib/pgsql/data/PG_VERSION": "postgresql_db_t",
         "/run/postgresql/virtwork.pgpass": "postgresql_runtime_t", "/etc/virtwork/lab.env": "etc_t",
         "/usr/local/sbin/virtwork-ready.sh": "bin_t"}


class Selinux(Emulated):
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
            guest = self.lab.guest(name)
            expect_equal(guest.run("getenforce"), "Enforcing", f"SELinux of {name}")
            expect_equal(set(guest.run("ps", "-C", "postgres", "-o", "label=").split()),
                         {"system_u:system_r:postgresql_t:s0"}, f"domains of PostgreSQL's processes on {name}")
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

    def nothing_denied(self):
        """No exception is made: what Debian's policy denies to Debian itself is allowed by the image's own module."""
        for name in self.lab.nodes:
            expect_equal(self.denials(name), [], f"denials of {name}")
            audit = dict(line.split(None, 1) for line in self.lab.guest(name).run("auditctl", "-s").splitlines())
            expect_equal((audit["enabled"], audit["lost"]), ("1", "0"), f"audit of {name}: enabled, lost records")

    def denials(self, name):
        """What was denied since the boot, as the audit log has it: it lies on the root that this boot began with."""
        return self.lab.guest(name).run("grep", "-rhE", DENIAL, "/var/log/audit", check=False).splitlines()

    def type_of(self, name, path):
        return self.lab.guest(name).run("stat", "-c", "%C", path).split(":")[2]

    def refused_in_guest(self, name, statement):
        try:
            self.lab.superuser(name, statement)
        except CommandFailed as error:
            expect("Permission denied" in str(error), f"refused, but because: {error}")
        else:
            raise AssertionError(f"{name} allows {statement}")
