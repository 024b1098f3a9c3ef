"""Failover by hand: a standby is promoted, the others follow, the old primary never writes again and comes back as a standby."""

import random
import re
import time

from postgres import HostsWriter, Sampler
from scenarios.checks import Checks
from shell import CommandFailed, wait_until
from story import config, expect, expect_equal, pause, scenario

PRECIOUS = 500


class Promotions(Checks):
    """Steps of stories in which nodes are promoted."""

    def promote(self, name, *options):
        """Runs virtwork-promote, and applies what it says."""
        output = self.lab.guest(name).run("virtwork-promote", *options, timeout=180)
        self.lab.promoted = name
        key = re.search("^primary-node: (.+)$", output, re.M)
        expect(key, f"virtwork-promote does not say what to put into the config: {output}")
        self.config["primary-node"] = key[1]
        self.lab.apply(self.config)
        return output

    def promote_best(self, *names):
        """The node among these that virtwork-promote says has most."""
        for _ in range(3):
            try:
                return names[0], self.promote(names[0])
            except CommandFailed as error:
                other = re.search("(\\S+) has received WAL up to .* promote that one|(\\S+) is on timeline .* promote that one", str(error))
                if not other:
                    raise
                names = [other[1] or other[2]]
        raise AssertionError("virtwork-promote names one node after the other")

    def rejoin(self, name, expected):
        """Runs virtwork-rejoin, which has to say what it did."""
        output = self.lab.guest(name).run("virtwork-rejoin", timeout=300)
        expect(expected in output, f"virtwork-rejoin does not say {expected!r}: {output}")
        self.lab.wait_for_streaming()
        return output

    def isolated_rows(self, table):
        """Cuts the primary off and has it acknowledge rows that nobody else gets."""
        lab = self.lab
        name = lab.primary
        lab.network.cut(lab.nodes[name].pod)
        lab.superuser(name, f"CREATE TABLE {table} AS SELECT generate_series(1, {PRECIOUS}) AS n", database="pgbench")
        return name

    def status(self, name, *texts):
        output = self.lab.guest(name).run("virtwork-status")
        for text in texts:
            expect(re.search(text, output), f"virtwork-status on {name} does not say {text!r}:\n{output}")
        return output

    def slots(self, name):
        return set(self.lab.superuser(name, "SELECT slot_name FROM pg_replication_slots").split())

    def slots_everywhere(self):
        """Each node keeps slots for all others."""
        lab = self.lab
        slots = {name: name.replace("-", "_") for name in lab.nodes}
        for name in lab.nodes:
            wanted = set(slots.values()) - {slots[name]} - ({slots[lab.primary]} if name == lab.primary else set())
            wait_until(f"{name} has the slots of the others", lambda name=name, wanted=wanted: self.slots(name) == wanted, 60)

    def one_primary(self):
        """Who says that it is no standby."""
        return [name for name in self.lab.nodes if self.lab.nodes[name].on and
                self.lab.superuser(name, "SELECT pg_is_in_recovery()") == "f"]

    def fenced(self, name):
        wait_until(f"{name} is fenced", lambda: "virtwork-rejoin" in self.readiness(name), 120)
        wait_until(f"{name} runs no server", lambda: self.lab.guest(name).run(
            "systemctl", "is-active", "postgresql.service", check=False) in ("inactive", "failed"), 120)

    def readiness(self, name):
        return self.lab.guest(name).run("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8008; "
                                        "printf 'GET /readiness HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3")


class Topology(Promotions):
    title = "failover by hand"

    def setup(self):
        self.lab = self.new_lab()
        self.config = config(self.system, replica_count=2)
        self.lab.apply(self.config)

    @scenario("forming: each standby keeps slots for the others, and each node says what it is")
    def forming(self):
        lab = self.lab
        with self.timed("blank disks -> all replicas stream"):
            lab.start(*lab.nodes)
            lab.wait_for_streaming()
        self.formed()
        self.slots_everywhere()
        self.writer = self.new_writer()
        self.status(lab.primary, r"role +primary", r"db-replica-0 +streaming", r"db_replica_1 +active", r"db-replica-1 +standby +1 +runs")
        self.status(lab.replicas[0], r"role +standby \(hot\)", r"upstream +\S+ streaming", r"db-primary-0 +primary +1 +runs")
        for command in ("virtwork-promote", "virtwork-rejoin", "virtwork-status"):
            expect("Usage" in lab.guest(lab.primary).run(command, "--help"), f"{command} --help")
        for name, command, message in ((lab.primary, "virtwork-promote", "is the primary already"),
                                       (lab.replicas[0], "virtwork-promote", "db-primary-0 runs as primary, or is starting"),
                                       (lab.replicas[0], "virtwork-rejoin", "is a standby already"),
                                       (lab.primary, "virtwork-rejoin", "no node runs as primary")):
            self.declined(name, command, message)

    @scenario("the primary loses its power with rows that only it has; the one promoted writes, the others follow, load runs")
    def failover(self):
        lab = self.lab
        clones = self.clones()
        self.old = self.isolated_rows("only_old")
        lab.power_loss(self.old)
        started = time.monotonic()
        new, _ = self.promote_best(*lab.replicas[:1])
        wait_until("the Service leads to it", lambda: lab.nodes[new].ready, 60)
        count = len(self.writer.acknowledged)
        wait_until("a client writes", lambda: len(self.writer.acknowledged) > count, 60)
        self.figures.append(("power loss -> a client writes through the Service", time.monotonic() - started))
        others = {name for name in lab.replicas if name != self.old}
        lab.wait_for_streaming(*others)
        self.figures.append(("power loss -> all others follow", time.monotonic() - started))
        expect_equal({name: clones[name] for name in others}, {name: self.clones()[name] for name in others}, "clones")
        self.load_runs()
        wait_until("the promotion is marked at the fork", lambda: self.mark_at_fork(new), 60)

    @scenario("the old primary boots again: not one session of it accepts writes, it says how to rejoin, and stays so over boots")
    def fence(self):
        lab = self.lab
        sampler = Sampler(lab, self.old, per_second=20)
        lab.start(self.old)
        self.fenced(self.old)
        self.in_journal(self.old, f"stopped: {lab.primary} is on timeline 2", "`virtwork-rejoin`")
        pause(12)
        lab.restart(self.old)
        self.fenced(self.old)
        lab.guest(self.old).run("systemctl", "start", "postgresql.service", check=False)
        pause(3)
        expect_equal(sampler.stop(), {}, "when the old primary took writes")
        expect(sampler.samples > 100, f"only {sampler.samples} samples")
        self.status(self.old, "fenced", "virtwork-rejoin")

    @scenario("no room to keep what only it has: rejoining stops and changes nothing; with room it rewinds and keeps it")
    def rejoining(self):
        lab = self.lab
        self.fill(self.old, leave=64)
        self.declined(self.old, "virtwork-rejoin", "not done")
        self.in_journal(self.old, "stopped:", "is kept, because nothing proves")
        expect_equal(self.copies(self.old), [], "copies")
        self.in_data(self.old, "rm $(dirname $PGDATA)/filler")
        with self.timed("virtwork-rejoin by pg_rewind"):
            self.rejoin(self.old, "rewound a copy")
        expect_equal(self.rows_kept(self.old, self.copies(self.old)[0], "only_old"), str(PRECIOUS), "rows that only it had")
        self.no_rows_missing_but_kept()
        self.slots_everywhere()

    @scenario("the primary is cut off and goes on, another is promoted, the cut heals: the old one fences itself; its WAL is gone, so it clones")
    def partition(self):
        lab = self.lab
        old = self.isolated_rows("only_cut_off")
        lab.superuser(old, "SELECT pg_switch_wal(); CHECKPOINT; CREATE TABLE more (n int); SELECT pg_switch_wal(); CHECKPOINT; "
                      "CREATE TABLE again (n int); SELECT pg_switch_wal(); CREATE TABLE last (n int)", database="pgbench")
        name, output = self.promote_best(self.old)
        expect("no answer of" in output, f"virtwork-promote does not warn of the silent primary: {output}")
        lab.wait_for_streaming(*(n for n in lab.replicas if n != old))
        healed = time.monotonic()
        lab.network.cut(lab.nodes[old].pod, off=False)
        self.fenced(old)
        self.figures.append(("cut healed -> the old primary is fenced", time.monotonic() - healed))
        self.in_data(old, """
            needed=$(pg_controldata -D $PGDATA | sed -n "s/^Latest checkpoint's REDO WAL file: *//p")
            cd $PGDATA/pg_wal && ls | grep -xE '[0-9A-F]{24}' | sort | awk -v needed=$needed '$0 < needed' | xargs rm""")
        with self.timed("virtwork-rejoin by a clone"):
            self.rejoin(old, "the clone is complete")
        expect_equal(self.rows_kept(old, self.copies(old)[-1], "only_cut_off"), str(PRECIOUS), "rows that only it had")
        self.load_runs()

    @scenario("a planned switchover: stop the primary's server, promote, rejoin: nothing lost, nothing kept, nothing copied")
    def switchover(self):
        lab = self.lab
        old, copies = lab.primary, {name: len(self.copies(name)) for name in lab.nodes}
        before = list(self.writer.acknowledged)
        lab.guest(old).run("systemctl", "stop", "postgresql.service", timeout=120)
        self.promote_best(*[n for n in lab.replicas if n != old][:1])
        self.rejoin(old, "follows it with the data that it has")
        expect_equal(self.writer.missing(lab.primary, before[-100:]), [], "acknowledged rows that are missing")
        expect_equal({name: len(self.copies(name)) for name in lab.nodes}, copies, "copies")
        self.slots_everywhere()

    @scenario("after a promotion the whole lab loses its power and comes back at once: never two nodes that take writes")
    def all_at_once(self):
        lab = self.lab
        old = lab.primary
        lab.power_loss(old)
        self.promote_best(*[n for n in lab.replicas if n != old][:1])
        lab.wait_for_streaming(*(n for n in lab.replicas if n != old))
        lab.power_loss(*(n for n in lab.nodes if n != old))
        sampler = Sampler(lab)
        lab.start(*lab.nodes)
        lab.wait_for_primary()
        self.fenced(old)
        lab.wait_for_streaming(*(n for n in lab.replicas if n != old))
        pause(3)
        expect_equal(list(sampler.stop()), [lab.primary], "nodes that took writes")
        expect(sampler.samples > 60, f"only {sampler.samples} samples")
        self.rejoin(old, "streams from the new primary")
        self.load_runs()

    @scenario("the disk of the former primary is lost and replaced: it clones, also where nobody is primary at first")
    def blank(self):
        lab = self.lab
        name = "db-primary-0"
        if lab.primary == name:
            lab.guest(name).run("systemctl", "stop", "postgresql.service", timeout=120)
            lab.stop(name)
            survivor = [n for n in lab.replicas if n != name][0]
        else:
            lab.stop(name)
            survivor = None
        lab.blank_disk(f"{name}-data")
        lab.start(name)
        if survivor:
            lab.wait_for_journal(name, "so nothing is initialised here")
            self.promote(survivor)
        lab.wait_for_streaming()
        self.in_journal(name, "the clone is complete")
        self.not_in_journal(name, "initialising")
        self.load_runs()

    @scenario("replica-count lowered: the slot of the removed replica goes everywhere; raised again: it clones")
    def fewer(self):
        lab = self.lab
        self.writer.stop()
        if lab.primary == "db-replica-1":
            old = lab.primary
            lab.guest(old).run("systemctl", "stop", "postgresql.service", timeout=120)
            self.promote_best("db-replica-0")
            self.rejoin(old, "streams from the new primary")
        self.config["replica-count"] = 1
        lab.apply(self.config)
        files = lab.objects["ConfigMap", "db-guest"]["data"]
        expect("SECONDS_ORPHANED=600" in files["virtwork-watch.sh"], "how long a slot is kept")
        files["virtwork-watch.sh"] = files["virtwork-watch.sh"].replace("SECONDS_ORPHANED=600", "SECONDS_ORPHANED=20")
        lab.delete("db-replica-1")
        lab.restart(*lab.nodes)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        lab.wait_for_journal(lab.primary, "dropped the slot db_replica_1")
        self.slots_everywhere()
        self.config["replica-count"] = 2
        lab.apply(self.config)
        lab.start("db-replica-1")
        lab.wait_for_streaming()
        self.in_journal("db-replica-1", "the clone is complete")
        self.slots_everywhere()

    def clones(self):
        """How often each node that is on has cloned since its start."""
        return {name: self.lab.journal(name).count("] cloning ") + self.lab.journal(name).count(": cloning ")
                for name, node in self.lab.nodes.items() if node.on}

    def declined(self, name, command, message):
        try:
            output = self.lab.guest(name).run(*command.split(), timeout=300)
        except CommandFailed as error:
            expect(message in str(error), f"{command} on {name} was refused, but says: {error}")
        else:
            raise AssertionError(f"{command} on {name} was not refused: {output}")

    def mark_at_fork(self, name):
        """The start of a promoted server is marked where its timeline begins."""
        mark = self.lab.superuser(name, "SELECT position FROM virtwork.server_starts WHERE started = pg_postmaster_start_time()")
        fork = self.in_data(name, "awk '/^[0-9]/ { print $2 }' $(ls $PGDATA/pg_wal/*.history | tail -n 1) | tail -n 1")
        return mark == fork

    def no_rows_missing_but_kept(self):
        """What was acknowledged is on all nodes, or in the copy that the old primary kept."""
        lab = self.lab
        acknowledged = list(self.writer.acknowledged)
        missing = self.writer.missing(lab.primary, acknowledged)
        if missing:
            rows = ", ".join(map(str, missing))
            copy = self.copies(self.old)[0]
            kept = self.rows_kept(self.old, copy, f"{self.writer.TABLE} WHERE n IN ({rows})")
            expect_equal(kept, str(len(missing)), "missing rows that were kept")


class Warm(Promotions):
    title = "warm standbys"

    def setup(self):
        self.lab = self.new_lab()
        self.config = config(self.system, replica_count=2)
        self.config["postgresql"]["standby-mode"] = "warm"
        self.lab.apply(self.config)

    @scenario("warm standbys stream, are ready and take no queries; they note the start of the primary that they replayed")
    def forming(self):
        lab = self.lab
        lab.start(*lab.nodes)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        self.all_ready()
        self.writer = self.new_writer()
        newest = lab.superuser(lab.primary, "SELECT name FROM virtwork.server_starts ORDER BY number DESC LIMIT 1")
        for name in lab.replicas:
            self.refused("not accepting connections|Hot standby mode is disabled", name, "SELECT 1")
            wait_until(f"{name} has noted what it goes back to", lambda name=name: self.in_data(
                name, "cat $PGDATA/virtwork.server-start") == newest, 60)
        self.status(lab.replicas[0], r"role +standby \(warm\)", "takes no queries")

    @scenario("without its primary a warm standby is not ready after a minute, and follows again")
    def alone(self):
        lab = self.lab
        lab.power_loss(lab.primary)
        wait_until("a replica without a primary is not ready", lambda: not lab.nodes[lab.replicas[0]].ready, 120)
        lab.start(lab.primary)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        self.all_ready()

    @scenario("a warm standby is promoted, the other follows, the old primary rejoins")
    def failover(self):
        lab = self.lab
        self.old = self.isolated_rows("only_old")
        lab.power_loss(self.old)
        new, _ = self.promote_best(*lab.replicas[:1])
        with self.timed("promoted -> the other warm standby follows"):
            lab.wait_for_streaming(*(n for n in lab.replicas if n != self.old))
        self.load_runs()
        lab.start(self.old)
        self.fenced(self.old)
        self.rejoin(self.old, "streams from the new primary")
        expect_equal(self.rows_kept(self.old, self.copies(self.old)[0], "only_old", "-c hot_standby=on"), str(PRECIOUS),
                     "rows that only it had")
        self.all_ready(90)


class Synchronous(Promotions):
    """`rounds` times the primary is killed at a random moment, a standby promoted, and the old primary brought back."""

    title = "synchronous standbys, the primary killed again and again"

    def setup(self):
        self.lab = self.new_lab()
        self.random = random.Random(self.rounds)
        self.config = config(self.system, replica_count=2)
        self.config["postgresql"]["synchronous"] = {"count": 1}
        self.lab.apply(self.config)

    @scenario("forming: commits wait for a standby, the lab's own statements and its clones do not count")
    def forming(self):
        lab = self.lab
        lab.start(*lab.nodes)
        self.formed()
        wait_until("a standby is synchronous", lambda: lab.sql(
            lab.primary, "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')") > "0", 60)
        self.writers = [self.new_writer(), self.new_writer(HostsWriter)]
        lab.stop(*lab.replicas)
        counts = [len(writer.acknowledged) for writer in self.writers]
        pause(5)
        expect(all(len(writer.acknowledged) <= count + 1 for writer, count in zip(self.writers, counts)),
               "commits are acknowledged without a standby")
        lab.restart(lab.primary)
        wait_until("the start is marked without a standby", lambda: lab.superuser(
            lab.primary, "SELECT count(*) FROM virtwork.server_starts WHERE started = pg_postmaster_start_time()") == "1", 60)
        lab.start(*lab.replicas)
        lab.wait_for_streaming()

    @scenario("the primary killed at random moments, in turn by a power cut, kill -9 and a cut network: no acknowledged row lost")
    def killed(self):
        for number in range(self.rounds):
            self.round(number, ("power", "kill", "cut")[number % 3])

    def round(self, number, kind):
        lab = self.lab
        wait_until("both writers get on", self.writing(), 90)
        pause(self.random.uniform(0, 6))
        old = lab.primary
        started = time.monotonic()
        if kind == "power":
            lab.power_loss(old)
        elif kind == "kill":
            # and systemd does not start it again, which it would be about to: a node that is starting is no dead one
            lab.guest(old).run("bash", "-c", "systemctl mask --runtime --quiet postgresql.service; "
                               "pkill -KILL -o -x postgres; systemctl stop postgresql.service", check=False)
        else:
            lab.network.cut(lab.nodes[old].pod)
        acknowledged = [list(writer.acknowledged) for writer in self.writers]
        new, _ = self.promote_best(*self.random.sample([n for n in lab.replicas if n != old], 2))
        wait_until("the new primary is ready", lambda: lab.nodes[new].ready, 60)
        writable = time.monotonic() - started
        lab.wait_for_streaming(*(n for n in lab.replicas if n != old))
        following = time.monotonic() - started
        for writer, rows in zip(self.writers, acknowledged):
            expect_equal(writer.missing(new, rows), [], f"round {number + 1} ({kind}): acknowledged rows that are missing")
        if kind == "power":
            lab.start(old)
        elif kind == "cut":
            lab.network.cut(lab.nodes[old].pod, off=False)
        else:
            lab.guest(old).run("systemctl", "unmask", "--runtime", "--quiet", "postgresql.service")
            lab.guest(old).run("systemctl", "start", "postgresql.service", check=False)
        self.fenced(old)
        self.rejoin(old, "streams from the new primary")
        self.figures += [(f"round {number + 1} ({kind}): killed -> the new primary is ready", writable),
                         (f"round {number + 1} ({kind}): killed -> the other standby follows", following),
                         (f"round {number + 1} ({kind}): killed -> the old primary has rejoined", time.monotonic() - started)]
        wait_until("both writers get on", self.writing(), 90)
        for writer in self.writers:
            expect_equal(writer.missing(new, list(writer.acknowledged)), [], f"round {number + 1} ({kind}): rows missing at its end")
        self.in_data(old, "rm -rf $PGDATA.previous*")

    def writing(self):
        counts = [len(writer.acknowledged) for writer in self.writers]
        return lambda: all(len(writer.acknowledged) > count + 3 for writer, count in zip(self.writers, counts))
