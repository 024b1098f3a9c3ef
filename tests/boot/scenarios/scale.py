"""Replicas join and leave a running lab."""

from scenarios.checks import Checks
from shell import wait_until
from story import config, expect, expect_equal, scenario


class Scale(Checks):
    title = "more and fewer replicas"

    def setup(self):
        self.lab = self.new_lab()
        self.config = config(self.system, replica_count=8, pgbench_scale=1, pgbench={"clients": 1, "rate": 30},
                             postgresql={"parameters": {"max_wal_size": "64MB", "min_wal_size": "32MB",
                                                        "shared_buffers": "32MB"}})
        self.lab.apply(self.config)

    @scenario("eight replicas clone at the same time under load, with a slot cap for two: none takes another's WAL")
    def eight(self):
        lab = self.lab
        lab.start(lab.primary)
        lab.wait_for_primary()
        with self.timed("eight clones at once"):
            lab.start(*lab.replicas)
            lab.wait_for_streaming(seconds=400)
        self.formed()
        journals = {name: lab.journal(name) for name in lab.replicas}
        again = {name: lines for name, journal in journals.items()
                 if (lines := [line for line in journal.splitlines() if "cloning: attempt" in line or "cloning again" in line])}
        expect_equal(again, {}, "clones that failed, by replica")
        self.writer = self.new_writer()
        self.load_runs()
        self.no_rows_missing()

    @scenario("replica-count raised to 10 without touching the running VMs")
    def ten(self):
        self.grow(10)
        self.no_rows_missing()

    @scenario("replica-count lowered to 2: orphan slots stay bounded, and go away")
    def lowered(self):
        lab = self.lab
        gone = lab.replicas[2:]
        self.config["replica-count"] = 2
        kept = [lab.objects["VirtualMachine", name] for name in lab.replicas[:2]]
        lab.apply(self.config)
        for name in gone:
            lab.delete(name)
        expect_equal([lab.objects["VirtualMachine", name] for name in lab.replicas], kept, "the other replicas' VMs")
        lab.wait_for_streaming()
        self.lose_slots(*gone)
        held = int(lab.sql(lab.primary, """
            SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::bigint
            FROM pg_replication_slots WHERE wal_status <> 'lost'"""))
        expect(held < 128 << 20, f"the slots hold back {held} bytes of WAL")
        wait_until("the orphan slots are gone", lambda: lab.sql(
            lab.primary, "SELECT count(*) FROM pg_replication_slots") == "2", 150)
        lab.wait_for_streaming()
        self.no_rows_missing()

    @scenario("a newer PostgreSQL beside the one whose data is on the disk: the latter goes on")
    def two_majors(self):
        lab = self.lab
        name = lab.replicas[0]
        guest, before = lab.guest(name), self.data_directory(name)
        guest.run("mkdir", "-p", "/usr/lib/postgresql/99")
        guest.run("ln", "-s", f"../{self.system.major}/bin", "/usr/lib/postgresql/99/bin")
        guest.run("systemctl", "restart", "virtwork-setup.service", timeout=120)
        lab.wait_for_streaming()
        expect_equal(self.data_directory(name), before, f"data directory of {name}")

    def grow(self, count):
        """Raises replica-count and starts the new VMs; the old ones keep their documents and their lives."""
        lab = self.lab
        before = {name: (lab.objects["VirtualMachine", name], lab.guest(name).init, self.server_start(name))
                  for name in lab.nodes}
        self.config["replica-count"] = count
        lab.apply(self.config)
        lab.start(*(name for name in lab.nodes if name not in before))
        lab.wait_for_streaming(seconds=600)
        for name, old in before.items():
            expect_equal((lab.objects["VirtualMachine", name], lab.guest(name).init, self.server_start(name)), old,
                         f"document, life and server start of {name}")

    def server_start(self, name):
        return self.lab.sql(name, "SELECT pg_postmaster_start_time()")
