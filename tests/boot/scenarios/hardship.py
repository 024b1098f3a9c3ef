"""Full disks, disks and Secrets that are not as they should be, and what the readiness probe says of it all."""

import os

from scenarios.checks import Checks
from shell import wait_until
from story import config, expect, expect_equal, pause, scenario


class Hardship(Checks):
    title = "full disks, wrong disks, readiness"

    def setup(self):
        self.lab = self.new_lab()
        self.config = config(self.system)
        self.lab.apply(self.config)

    @scenario("ready means usable: not before it streams, not a minute after it lost its primary, not read-only")
    def readiness(self):
        lab = self.lab
        replica, = lab.replicas
        lab.start(replica)
        lab.wait_for_journal(replica, "waiting for the primary")
        expect(not lab.nodes[replica].ready, "a replica without a primary is ready")
        lab.start(lab.primary)
        self.formed()
        self.writer = self.new_writer()
        self.all_ready()
        for name in lab.nodes:
            policy = lab.guest(name).run("systemctl", "show", "--property=OOMPolicy", "postgresql.service")
            expect_equal(policy, "OOMPolicy=continue", f"what systemd does on {name} when one backend is killed for its memory")
        lab.superuser(lab.primary, "ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()")
        wait_until("a primary that takes no writes is not ready", lambda: not lab.nodes[lab.primary].ready, 60)
        self.says_not_ready(lab.primary, "default_transaction_read_only is on")
        lab.superuser(lab.primary, "SET default_transaction_read_only = off; "
                      "ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()")
        wait_until("the primary is ready again", lambda: lab.nodes[lab.primary].ready, 60)
        lab.stop(lab.primary)
        pause(20)
        expect(lab.nodes[replica].ready, "a replica stops serving reads as soon as its primary restarts")
        wait_until("a replica without a primary is not ready", lambda: not lab.nodes[replica].ready, 90)
        self.says_not_ready(replica, "it has not streamed from its primary for")
        # longer than a replica may be stuck
        pause(45)
        lab.start(lab.primary)
        self.all_ready(90)
        self.not_in_journal(replica, "can never catch up")

    @scenario("no client gets in any more: the primary is not ready, and its replica still comes back to it")
    def no_connection(self):
        lab = self.lab
        streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        lab.superuser(lab.primary, "ALTER ROLE pgbench CONNECTION LIMIT 0")
        wait_until("the primary is not ready", lambda: not lab.nodes[lab.primary].ready, 60)
        lab.superuser(lab.primary, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        wait_until("the stream is broken", lambda: lab.superuser(lab.primary, streams) == "0", 10, 0.05)
        wait_until("the replica streams again", lambda: lab.superuser(lab.primary, streams) == "1", 180)
        lab.superuser(lab.primary, "ALTER ROLE pgbench CONNECTION LIMIT -1")
        wait_until("the primary is ready again", lambda: lab.nodes[lab.primary].ready, 60)

    @scenario("a full disk of a running replica and a lost slot: proven, so the data makes room for a clone")
    def full_and_lost(self):
        lab = self.lab
        replica, = lab.replicas
        self.fill(replica)
        wait_until("the replica stops", lambda: not self.streams(replica), 120)
        self.lose_slots(replica)
        self.room_made(replica)

    @scenario("the same over a restart of the VM, after the primary dropped the lost slot")
    def full_and_restarted(self):
        lab = self.lab
        replica, = lab.replicas
        self.fill(replica)
        lab.stop(replica)
        self.lose_slots(replica)
        wait_until("the primary drops the lost slot", lambda: lab.sql(
            lab.primary, "SELECT count(*) FROM pg_replication_slots") == "0", 120)
        lab.start(replica)
        self.room_made(replica)

    @scenario("a full disk of the primary: not ready, after a restart one line, and it goes on by itself when there is room")
    def full_primary(self):
        lab = self.lab
        name = lab.primary
        self.fill(name)
        wait_until("a primary with a full disk is not ready", lambda: not lab.nodes[name].ready, 60)
        self.says_not_ready(name, "is full")
        lab.stop(name)
        lab.start(name)
        lab.wait_for_journal(name, "waiting for room on the disk", 60)
        pause(12)
        expect_equal(lab.journal(name).count("waiting for room on the disk"), 1, "lines on the full disk")
        self.in_data(name, "rm $(dirname $PGDATA)/filler")
        lab.wait_for_primary()
        lab.wait_for_streaming()
        self.no_rows_missing()

    @scenario("the pgbench database dropped, and the VM restarted as the warning says: it is built anew")
    def rebuilt(self):
        lab = self.lab
        self.writer.stop()
        self.config["pgbench-scale"] = 3
        lab.apply(self.config)
        lab.restart(lab.primary)
        lab.wait_for_journal(lab.primary, "drop database pgbench and restart the VM to build them anew")
        lab.superuser(lab.primary, "DROP DATABASE pgbench WITH (FORCE)")
        lab.restart(lab.primary)
        lab.wait_for_journal(lab.primary, "the pgbench tables are complete")
        lab.wait_for_primary()
        lab.wait_for_streaming()
        expect_equal(lab.sql(lab.primary, "SELECT count(*) FROM pgbench_branches"), "3", "branches")

    @scenario("a disk that is not attached: said, not waited for in silence", fatal=False)
    def no_disk(self):
        lab = self.lab
        name = lab.replicas[0]
        lab.stop(name)
        lab.start(name, without=["data"])
        lab.wait_for_journal(name, "waiting for the disk /dev/disk/by-id/virtio-data: not yet, trying on "
                             "(the VM has no such disk)")

    @scenario("a Secret that is not UTF-8: refused where it is read", fatal=False)
    def not_utf8(self):
        lab = self.lab
        name = lab.replicas[0]
        lab.stop(name)
        secret = lab.objects["Secret", "db-credentials"]["data"]
        before, secret["client-password"] = secret["client-password"], "/wD//g=="
        lab.start(name)
        lab.wait_for_journal(name, "`client-password` is missing, empty, longer than 128 bytes, not UTF-8")
        secret["client-password"] = before
        lab.stop(name)

    @scenario("a disk smaller than its file system: refused with that reason, bytes unchanged", fatal=False)
    def smaller(self):
        lab = self.lab
        name = lab.replicas[0]
        os.truncate(lab.disk(f"{name}-data"), 2 << 30)
        lab.start(name)
        lab.wait_for_journal(name, "the disk was made smaller; nothing was written to it")
        lab.stop(name)

    @scenario("a long round: its history is emptied before it fills the disk", fatal=False)
    def history(self):
        lab = self.lab
        self.config["pgbench"]["duration"] = 3600
        lab.apply(self.config)
        lab.restart(lab.primary)
        self.load_runs()
        lab.superuser(lab.primary, "INSERT INTO pgbench_history SELECT 1, 1, 1, 1, now() "
                      "FROM generate_series(1, 11000000)", database="pgbench", timeout=180)
        lab.wait_for_journal(lab.primary, "emptied pgbench_history in the middle of a round", 90)
        size = int(lab.sql(lab.primary, "SELECT pg_relation_size('pgbench_history')"))
        expect(size < 64 << 20, f"pgbench_history has {size} bytes")
        self.load_runs()

    def says_not_ready(self, name, text):
        body = self.lab.guest(name).run("curl", "--silent", "http://127.0.0.1:8008/readiness", check=False) or \
            self.lab.guest(name).run("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8008; "
                                     "printf 'GET /readiness HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3")
        expect(text in body, f"{name} says {body!r}")

    def streams(self, name):
        return name in self.lab.streaming()

    def room_made(self, replica):
        lab = self.lab
        lab.wait_for_journal(replica, "the primary has all of it", 240)
        wait_until("the clone", lambda: "the clone is complete" in lab.journal(replica).rpartition(
            "the primary has all of it")[2], 120)
        self.in_journal(replica, "can never catch up", "the primary has all of it")
        self.in_data(replica, "rm $(dirname $PGDATA)/filler")
        lab.wait_for_streaming()
        self.no_rows_missing()

    def fill(self, name):
        """Fills a data disk to the last block."""
        self.in_data(name, """
            filler=$(dirname $PGDATA)/filler
            fallocate -l $(df -k --output=avail $PGDATA | tail -n 1)K $filler
            dd if=/dev/zero of=$filler oflag=append conv=notrunc bs=4k 2>/dev/null || true""")
