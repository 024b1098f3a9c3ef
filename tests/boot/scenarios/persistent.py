"""A lab with persistent roots and a WAL disk, on images without PostgreSQL: the guests install it."""

from scenarios.checks import Checks
from story import config, expect, expect_equal, pause, scenario

LATE = 45
"""Seconds that the primary comes after its replica: enough for several rounds of every retry."""


class Persistent(Checks):
    title = "persistent roots, WAL disk, packages installed"
    image = "plain"

    def setup(self):
        self.lab = self.new_lab()
        self.config = config(self.system, guest={"packages": "install", "root-disk": "persistent"}, vm={
            "data-disk-size": "2Gi", "wal-disk-size": "4Gi"})
        self.lab.apply(self.config)

    @scenario("the package mirror is unreachable at first, then reachable")
    def mirror(self):
        lab = self.lab
        lab.start(*lab.replicas)
        self.first_start = lab.replicas[0]
        lab.wait_for_journal(self.first_start, "packages: attempt 2 failed")
        self.requests = lab.network.serve_packages(self.system.packages())
        lab.wait_for_journal(self.first_start, "packages installed", 180)
        expect(self.requests, "nothing was asked of the mirror")

    @scenario(f"forming: the replica first, the primary {LATE} s later (a real lab: two minutes)")
    def forming(self):
        lab = self.lab
        lab.wait_for_journal(self.first_start, "waiting for the primary")
        pause(LATE)
        lab.start(lab.primary)
        self.formed()
        self.load_runs()

    @scenario("the WAL is on its own disk", fatal=False)
    def wal_disk(self):
        for name in self.lab.nodes:
            source = self.in_data(name, "findmnt -nro SOURCE --target $(readlink -f $PGDATA/pg_wal)")
            link = self.lab.guest(name).run("readlink", "-f", "/dev/disk/by-id/virtio-wal")
            expect_equal(self.lab.guest(name).run("readlink", "-f", source), link, f"device of the WAL of {name}")

    @scenario("restart of replica, primary, and twice of both: nothing made anew, no row lost, no package call")
    def restarts(self):
        lab = self.lab
        self.writer = self.new_writer()
        calls = {name: self.package_calls(name) for name in lab.nodes}
        directories = {name: self.data_directory(name) for name in lab.nodes}
        self.restarted(lab.replicas[0])
        self.restarted(lab.primary)
        for _ in range(2):
            self.restarted(*lab.nodes)
        for name in lab.nodes:
            expect_equal(self.package_calls(name), calls[name], f"calls of the package manager on {name}")
            expect_equal(self.data_directory(name), directories[name], f"data directory of {name}")

    @scenario("a changed wal-keep-size and rotated passwords reach a persistent root at its next start")
    def changed(self):
        lab = self.lab
        self.writer.stop()
        old = lab.passwords["client-password"]
        self.config["wal-keep-size"] = "48MB"
        lab.apply(self.config, {"replication-password": "rotated r", "client-password": "rotated c"})
        lab.restart(*lab.nodes)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        for name in lab.nodes:
            expect_equal(lab.sql(name, "SHOW wal_keep_size"), "48MB", f"wal_keep_size on {name}")
        self.refused("password authentication failed", lab.primary, "SELECT 1", password=old)
        self.writer = self.new_writer()

    @scenario("changed, added and removed files reach a persistent root at its next start, unchanged ones are left alone")
    def changed_files(self):
        lab = self.lab
        name = lab.replicas[0]
        files = lab.objects["ConfigMap", "db-guest"]["data"]
        before = dict(files)
        files["lib.sh"] += "# changed\n"
        files["extra.conf"] = "extra\n"
        files["files.txt"] += "replica 0600 extra.conf /etc/virtwork/extra.conf\n"
        count = len(self.placed("all", files) + self.placed("replica", files))
        self.restarted(name)
        self.in_journal(name, f"installed 2 of {count} files of the replica")
        expect_equal(lab.guest(name).run("cat", "/usr/local/lib/virtwork/lib.sh"), files["lib.sh"].rstrip("\n"), "lib.sh")
        expect_equal(lab.guest(name).run("stat", "-c", "%a", "/etc/virtwork/extra.conf"), "600", "mode of extra.conf")
        self.restarted(name)
        self.in_journal(name, f"installed 0 of {count} files of the replica")
        files.clear()
        files.update(before)
        self.restarted(name)
        self.in_journal(name, f"installed 1 of {count - 1} files of the replica")
        self.gone(name, "/etc/virtwork/extra.conf")

    @scenario("a ConfigMap that lacks a file: said, no other file is replaced, and nothing runs")
    def incomplete_files(self):
        lab = self.lab
        name = lab.replicas[0]
        files = lab.objects["ConfigMap", "db-guest"]["data"]
        before = dict(files)
        files["lib.sh"] += "# changed\n"
        del files["wal.sh"]
        lab.restart(name)
        lab.wait_for_journal(name, "failed: installing /usr/local/lib/virtwork/wal.sh")
        self.nothing_runs(name)
        expect("# changed" not in lab.guest(name).run("cat", "/usr/local/lib/virtwork/lib.sh"), "lib.sh was replaced")
        files.clear()
        files.update(before)
        self.restarted(name)

    @scenario("a VM without the ConfigMap's disk: said in one line, and nothing runs of what the root still has")
    def no_files(self):
        lab = self.lab
        name = lab.replicas[0]
        line = "waiting for the disk /dev/disk/by-id/virtio-guest: not yet, trying on (the VM has no such disk)"
        lab.stop(name)
        lab.start(name, without=["guest"])
        lab.wait_for_journal(name, line)
        pause(15)
        self.nothing_runs(name)
        expect_equal(lab.journal(name).count(line), 1, "lines that say it")
        self.restarted(name)

    @scenario("power loss of both under load: no acknowledged row lost")
    def power_loss(self):
        pause(3)
        self.lab.power_loss(*self.lab.nodes)
        self.lab.start(*self.lab.nodes)
        self.settled(*self.lab.nodes)

    def package_calls(self, name):
        return self.lab.guest(name).run("cat", "/var/log/package-calls")

    def placed(self, role, files):
        """The places of the files of a role."""
        return [line.split()[3] for line in files["files.txt"].splitlines() if line.split()[0] == role]

    def gone(self, name, path):
        expect_equal(self.lab.guest(name).run("bash", "-c", f"ls -d {path} 2>/dev/null || true"), "", "what stayed")

    def nothing_runs(self, name):
        units = self.lab.guest(name).run("systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating",
                                         "virtwork-*", "postgresql*")
        running = [line.split()[0] for line in units.splitlines()]
        expect_equal([unit for unit in running if not unit.startswith("virtwork-install@")], [], "what runs")
