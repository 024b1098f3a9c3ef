"""What every release of PostgreSQL has to do: form, restart, lose its power, its slots, its primary."""

import re

from scenarios.checks import Checks
from shell import wait_until
from story import config, expect, expect_equal, pause, scenario


class Core(Checks):
    title = "core, golden image, ephemeral roots"

    def setup(self):
        self.lab = self.new_lab()
        self.config = config(self.system, replica_count=2)
        self.lab.apply(self.config)

    @scenario("forming: all start at once, with the PostgreSQL of the image, and nobody calls the package manager")
    def forming(self):
        lab = self.lab
        with self.timed("blank disks -> all replicas stream"):
            lab.start(*lab.nodes)
            lab.wait_for_streaming()
        self.formed()
        for name in lab.nodes:
            expect_equal(int(lab.sql(name, "SHOW server_version_num")) // 10000, self.system.major, f"major of {name}")
            calls = lab.guest(name).run("cat", "/var/log/package-calls", check=False)
            expect_equal(calls, "", f"calls of the package manager on {name}")
        self.load_runs()
        self.writer = self.new_writer()

    @scenario("restart of everything, twice in a row: nothing made anew")
    def restart_all(self):
        lab = self.lab
        for _ in range(2):
            lab.stop(*lab.nodes)
            with self.timed("start of all -> all replicas stream"):
                lab.start(*lab.nodes)
                lab.wait_for_streaming()
            self.settled(*lab.nodes)
            # the slots, which are there already
            self.not_in_journal(lab.primary, "already exists")

    @scenario("power loss of the primary under load: no acknowledged row lost, each start is marked where its WAL ended")
    def primary_power_loss(self):
        lab = self.lab
        for _ in range(3):
            pause(3)
            lab.power_loss(lab.primary)
            lab.start(lab.primary)
            self.settled(lab.primary)
            self.marked_at_the_end()

    @scenario("power loss of a replica, then of everything")
    def all_power_loss(self):
        lab = self.lab
        lab.power_loss(lab.replicas[0])
        lab.start(lab.replicas[0])
        lab.wait_for_streaming()
        self.not_in_journal(lab.replicas[0], "cloning")
        pause(3)
        lab.power_loss(*lab.nodes)
        lab.start(*lab.nodes)
        self.settled(*lab.nodes)

    @scenario("a replica away until its slot is lost clones again, with the slot lost and with the slot gone")
    def slot_lost(self):
        lab = self.lab
        first, second = lab.replicas
        lab.stop(first, second)
        self.lose_slots(first, second)
        lab.start(first)
        lab.wait_for_streaming(first)
        # Once a minute the primary drops lost slots; after that it says what else is missing.
        self.in_journal(first, "the clone is complete")
        self.in_journal_either(first, "can never catch up again: its slot",
                               "can never catch up again: the primary has removed the WAL")
        wait_until("the primary drops the other lost slot", lambda: second.replace("-", "_") not in lab.sql(
            lab.primary, "SELECT slot_name FROM pg_replication_slots"), 120)
        lab.start(second)
        lab.wait_for_streaming(first, second, seconds=300)
        self.in_journal(second, "the clone is complete")
        self.no_rows_missing()

    @scenario("a replica promoted by hand beside the primary, which fences itself; made primary again on purpose, it writes")
    def promoted(self):
        lab = self.lab
        old, (first, second) = lab.primary, lab.replicas
        self.writer.stop()
        lab.superuser(second, "SELECT pg_promote()")
        lab.wait_for_journal(second, "this node is the primary")
        with self.timed("promoted by hand -> the old primary is fenced"):
            lab.wait_for_journal(old, "`virtwork-rejoin`")
        lab.superuser(second, "CREATE TABLE promoted AS SELECT 1 AS n")
        wait_until("its start is marked", lambda: self.marks_of_running_server(second) == "1", 120)
        lab.promoted = second
        lab.wait_for_streaming(first)
        lab.power_loss(second)
        lab.start(second)
        wait_until("it accepts writes", lambda: lab.nodes[second].ready, 120)
        lab.superuser(second, "INSERT INTO promoted VALUES (2)")
        expect_equal(lab.superuser(second, "SELECT count(*) FROM promoted"), "2", "rows of the promoted node")
        lab.guest(second).run("systemctl", "stop", "postgresql.service", timeout=120)
        output = lab.guest(old).run("virtwork-promote", "--force", timeout=180)
        expect("primary-node: primary-0" in output, f"virtwork-promote --force says {output}")
        lab.promoted = None
        lab.stop(second)
        lab.blank_disk(f"{second}-data")
        lab.start(second)
        lab.wait_for_streaming()
        self.in_journal(second, "is blank", "the clone is complete")
        self.writer = self.new_writer()
        self.no_rows_missing()

    def marked_at_the_end(self):
        """The primary's start is marked with the position at which its server found the end of its WAL."""
        lab = self.lab
        said = re.findall(r"invalid record length at ([0-9A-F]+/[0-9A-F]+)", lab.journal(lab.primary))
        redone = re.findall(r"redo done at ([0-9A-F]+/[0-9A-F]+)", lab.journal(lab.primary))
        expect(redone, "the server recovered nothing, so this says nothing")
        wait_until("the start is marked", lambda: self.marks_of_running_server(lab.primary) == "1", 60)
        mark = lab.sql(lab.primary, "SELECT position FROM virtwork.server_starts ORDER BY number DESC LIMIT 1",
                       database="postgres")
        if said:
            expect_equal(mark, said[0], "where the start is marked, against where the server found the end")
        else:
            # what follows is the rest of an older file, and another complaint
            expect(number(mark) > number(redone[0]), f"marked at {mark}, but the last record begins at {redone[0]}")

    def marks_of_running_server(self, name):
        return self.lab.superuser(
            name, "SELECT count(*) FROM virtwork.server_starts WHERE started = pg_postmaster_start_time()")


def number(position):
    """A position in the WAL, X/Y."""
    high, low = position.split("/")
    return (int(high, 16) << 32) + int(low, 16)
