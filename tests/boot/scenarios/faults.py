"""What goes wrong while a lab forms, and disks that are not the lab's."""

import contextlib
import hashlib
import os
import tempfile

from scenarios.checks import Checks
from shell import pause, run
from story import config, expect_equal, scenario

BLOCK = 4096


class Faults(Checks):
    title = "power loss while forming, disks of others"

    def setup(self):
        self.lab = self.new_lab()
        # A scale that takes seconds, so that the power goes in the middle.
        self.config = config(self.system, replica_count=1, pgbench_scale=15)
        self.lab.apply(self.config)

    @scenario("power loss in each step of the first initialisation: the next boot goes on")
    def initialisation(self):
        lab = self.lab
        for line in ("making an ext4 file system", "initialising", "starting PostgreSQL on its socket",
                     "building the pgbench tables"):
            lab.start(lab.primary)
            lab.wait_for_journal(lab.primary, line, interval=0.05)
            lab.power_loss(lab.primary)
        lab.start(lab.primary)
        lab.wait_for_primary()
        expect_equal(lab.sql(lab.primary, "SELECT count(*) FROM pgbench_branches"), "15", "branches")
        expect_equal(lab.sql(lab.primary, "SELECT count(*) FROM pgbench_accounts"), "1500000", "accounts")
        expect_equal(lab.superuser(lab.primary, "SELECT datname FROM pg_database WHERE datname LIKE 'pgbench%'"),
                     "pgbench", "databases")

    @scenario("power loss of the replica, then of the primary, during the first clone: it completes")
    def clone(self):
        lab = self.lab
        replica, = lab.replicas
        lab.start(replica)
        lab.wait_for_journal(replica, "cloning", interval=0.05)
        pause(0.5)
        lab.power_loss(replica)
        lab.start(replica)
        lab.wait_for_journal(replica, "cloning", interval=0.05)
        pause(0.3)
        lab.power_loss(lab.primary)
        lab.start(lab.primary)
        self.formed()
        self.in_journal(replica, "the clone is complete")

    @scenario("a data directory of another PostgreSQL major: refused, nothing written")
    def other_major(self):
        lab = self.lab
        self.writer = self.new_writer()
        pause(1)
        self.writer.stop()
        lab.stop(*lab.nodes)
        major = str(self.system.major)
        before = {}
        for name in lab.nodes:
            with self.mounted(name) as directory:
                self.change_major(directory, major, "12")
                before[name] = self.contents(directory)
        lab.start(*lab.nodes)
        for name in lab.nodes:
            lab.wait_for_journal(name, "is a data directory of PostgreSQL 12")
        lab.stop(*lab.nodes)
        for name in lab.nodes:
            with self.mounted(name) as directory:
                expect_equal(self.contents(directory), before[name], f"contents of the data disk of {name}")
                self.change_major(directory, "12", major)
        lab.start(*lab.nodes)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        expect_equal(self.writer.missing(lab.primary, self.writer.acknowledged), [], "acknowledged rows missing")

    @scenario("foreign disks (ext4, swap, ext2 with the lab's label, a partition table): refused, bytes unchanged")
    def foreign_disks(self):
        lab = self.lab
        lab.stop(*lab.nodes)
        self.config["replica-count"] = 3
        lab.apply(self.config)
        disks = {name: lab.disk(f"{name}-data") for name in lab.nodes}
        for name in lab.nodes:
            lab.blank_disk(f"{name}-data")
        ext4, swap, ext2, partitioned = disks.values()
        run("mkfs.ext4", "-q", "-L", "archive", ext4)
        run("mkswap", "-q", swap)
        run("mkfs.ext2", "-q", "-L", "virtwork-data", ext2)
        run("sfdisk", "--quiet", partitioned, stdin="label: gpt\n,100M\n")
        before = {name: digest(path) for name, path in disks.items()}
        lab.start(*lab.nodes)
        for name in lab.nodes:
            lab.wait_for_journal(name, "nothing was written to it")
            mounted = lab.guest(name).run("findmnt", "-nr", "--source", "/dev/disk/by-id/virtio-data", check=False)
            expect_equal(mounted, "", f"mounts of the data disk of {name}")
        lab.stop(*lab.nodes)
        for name, path in disks.items():
            expect_equal(digest(path), before[name], f"bytes of the data disk of {name}")

    @contextlib.contextmanager
    def mounted(self, name):
        """The data disk of a VM that is off."""
        with tempfile.TemporaryDirectory() as directory:
            run("mount", "-o", "loop", self.lab.disk(f"{name}-data"), directory)
            try:
                yield directory
            finally:
                run("umount", directory)

    def change_major(self, directory, old, new):
        if self.system.family == "debian":
            os.rename(f"{directory}/{old}", f"{directory}/{new}")
            path = f"{directory}/{new}/main/PG_VERSION"
        else:
            path = f"{directory}/data/PG_VERSION"
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{new}\n")

    def contents(self, directory):
        """Names, modes, owners, times and contents of everything below."""
        listing = run("find", directory, "-printf", "%P %m %U %G %s %T@\n")
        sums = run("bash", "-c", 'cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum', "-", directory)
        return hashlib.sha256("\n".join([*sorted(listing.split("\n")), sums]).encode()).hexdigest()


def digest(path):
    """Of the blocks of a sparse file that are not zero, and of their places."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        end = 0
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                return state.hexdigest()
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            for place in range(start - start % BLOCK, end, BLOCK):
                block = os.pread(file.fileno(), BLOCK, place)
                if block.strip(b"\0"):
                    state.update(f"{place} ".encode() + block)
