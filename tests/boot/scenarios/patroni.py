"""Labs under Patroni: who leads, who follows, what is kept, and who may say so."""

import contextlib
import json
import random
import re
import time

from patroni import DirectWriter, PatroniLab, RemoteSampler, Sampler
from scenarios.checks import SCRAPE, Checks
from shell import wait_until
from story import config, expect, expect_equal, pause, scenario

TTL = 20
LOOP_WAIT = 6
ETCD_ELECTION = 5
PROXY = 5
"""How long HAProxy may take to see who leads, and a client to try again."""
PRECIOUS = 1000


class Patroni(Checks):
    """What the stories have in common."""

    lab_kind = PatroniLab
    synchronous = False

    def lab_config(self, **changes):
        return config(self.system, failover={"mode": "patroni", "ttl": TTL}, **changes)

    def forms(self):
        lab = self.lab
        with self.timed("blank disks -> all nodes ready, all replicas stream"):
            lab.start(*lab.nodes)
            self.all_ready()
            lab.wait_for_streaming()
        lab.wait_for_primary()
        self.systems = {name: self.identifier(name) for name in lab.database_nodes}
        expect_equal(len(set(self.systems.values())), 1, "number of system identifiers")
        self.writer = self.new_writer()
        self.direct = DirectWriter(lab)
        self.stack.callback(self.direct.stop)

    def tell(self, name):
        """What the programs that decide said, and when it was not what Patroni says at each look."""
        return "\n".join(line for line in self.lab.journal(name).splitlines() if "virtwork-" in line)

    def all_ready(self, seconds=400):
        wait_until("all nodes are ready", lambda: all(node.ready for node in self.lab.nodes.values() if node.on), seconds)

    def sampled(self):
        sampler = Sampler(self.lab)
        self.stack.callback(sampler.stop)
        return sampler

    def never_two(self, sampler):
        sampler.stop()
        expect(any(sampler.samples.values()), "nothing was sampled")
        expect_equal(sampler.together(), [], "moments at which two nodes took writes")

    @contextlib.contextmanager
    def outage(self, what, seconds, former=None):
        """What the block does to the leader costs at most the given seconds, by Patroni's own settings, until a new session
        through the Service has a row acknowledged; by another leader, if there is a former one. Labs that share two cores
        with others need longer: the figure stands in the report, and twice as many seconds are a fault."""
        sessions = self.writer.sessions
        started = time.monotonic()
        yield
        wait_until(f"{what}: a row is acknowledged through the Service", lambda: self.writer.sessions > sessions,
                   3 * seconds + 60, 0.05)
        took = time.monotonic() - started
        self.figures.append((f"{what} -> a row is acknowledged through the Service (settings: {seconds} s)", took))
        leader = self.lab.primary
        if former:
            expect(leader != former, f"{former} still leads")
        expect(took <= 2 * seconds, f"{what}: took {took:.1f} s, Patroni's settings imply {seconds}")

    def settled(self, *names):
        """All follow one leader, and no row is missing that a client was told of, through the Service or directly."""
        lab = self.lab
        lab.wait_for_streaming(seconds=300)
        self.all_ready()
        for name in lab.database_nodes:
            expect_equal(self.identifier(name), self.systems[name], f"system identifier of {name}")
        for writer in (self.writer, self.direct):
            count = len(writer.acknowledged)
            wait_until("the writer gets on", lambda writer=writer, count=count: len(writer.acknowledged) > count + 3, 60)
            for name in lab.database_nodes:
                acknowledged = list(writer.acknowledged)
                if name != lab.primary:
                    lab.wait_for_replay(name)
                missing = writer.missing(name, acknowledged)
                if missing and not self.synchronous:
                    self.kept_aside(writer, missing)
                else:
                    expect_equal(missing, [], f"acknowledged rows missing on {name}")
        self.load_runs()

    def kept_aside(self, writer, missing):
        """Without synchronous standbys a successor may lack rows that a client was told of: they are in a copy."""
        condition = f"{writer.TABLE} WHERE n IN ({', '.join(map(str, missing))})"
        found = [self.rows_kept(name, copy, condition) for name in self.lab.database_nodes for copy in self.copies(name)]
        expect(str(len(missing)) in found, f"acknowledged rows {missing} are neither on the leader nor in a copy: {found}")
        writer.acknowledged = sorted(set(writer.acknowledged) - set(missing))

    def members(self):
        text = self.lab.guest(self.lab.primary).run("bash", "-c", """
            etcdctl --cacert /run/virtwork-pki/ca.crt --cert /run/virtwork-pki/node.crt --key /run/virtwork-pki/node.key \
              --endpoints https://localhost:2379 member list""")
        return sorted(line.split(", ")[2] for line in text.splitlines() if line.split(", ")[5] == "false")

    def copies(self, name):
        return self.in_data(name, "ls -d $PGDATA.previous* 2>/dev/null | sort -V || true").split()

    def rows_kept(self, name, directory, table):
        """Counts in a copy that was kept aside, with the commands of docs/patroni.md."""
        return self.in_data(name, f"""
            . /usr/local/lib/virtwork/lib.sh && find_binaries && unset PGOPTIONS
            copy={directory}
            as_postgres pg_ctl -D "$copy" -w -t 30 -l /tmp/kept.log start -o "-c port=5433 -c listen_addresses='' \
              -c primary_conninfo='' -c primary_slot_name='' -c archive_mode=off -c synchronous_standby_names='' \
              -c hba_file=$copy/pg_hba.conf -c ident_file=$copy/pg_ident.conf -c unix_socket_directories=/run/postgresql" >/dev/null ||
              {{ cat /tmp/kept.log >&2; exit 1; }}
            as_postgres psql -XAtqw -h /run/postgresql -p 5433 -d pgbench -c 'SELECT count(*) FROM {table}'
            as_postgres pg_ctl -D "$copy" -w stop >/dev/null""")


class Life(Patroni):
    title = "Patroni, golden image"

    def setup(self):
        self.lab = self.new_lab()
        self.config = self.lab_config(replica_count=1)
        self.lab.apply(self.config)

    @scenario("forming: from blank disks, both Services lead where they should, nobody calls the package manager")
    def forming(self):
        self.forms()
        lab = self.lab
        for name in lab.database_nodes:
            calls = lab.guest(name).run("cat", "/var/log/package-calls", check=False)
            expect_equal(calls, "", f"calls of the package manager on {name}")
        self.load_runs()
        self.services_lead()
        for name in lab.nodes:
            expect_equal(lab.guest(name).run("systemctl", "is-enabled", "etcd.service", check=False), "masked",
                         f"the distribution's etcd on {name}")

    def services_lead(self):
        lab = self.lab
        for service, wanted in (("primary", "f"), ("replicas", "t")):
            address = lab.network.service_address(f"{lab.prefix}-{service}")
            wait_until(f"db-{service} leads to the right nodes", lambda address=address, wanted=wanted: {
                self.ask(address, "SELECT pg_is_in_recovery()") for _ in range(4)} == {wanted}, 30)

    def ask(self, address, statement):
        from postgres import ask
        return ask(self.lab.network.client.netns, address, statement, "pgbench", self.lab.passwords["client-password"], "pgbench")

    @scenario("nobody without the lab's keys: Patroni takes no orders, etcd says nothing; no password is readable", fatal=False)
    def closed(self):
        lab = self.lab
        leader = lab.primary
        for name in lab.database_nodes:
            for method, path in (("POST", "/switchover"), ("POST", "/restart"), ("POST", "/reinitialize"), ("POST", "/failover"),
                                 ("PATCH", "/config"), ("PUT", "/config"), ("DELETE", "/restart"), ("POST", "/reload"),
                                 ("DELETE", "/switchover"), ("POST", "/failsafe")):
                status = lab.ask_patroni(name, method, path)
                expect(status in (401, 403), f"{method} {path} of Patroni on {name} without a certificate: {status}")
            expect_equal(lab.ask_patroni(name, "GET", "/readiness"), 200, f"readiness of {name}")
            self.unreadable(lab.guest(name), name, "/run/postgresql/virtwork.patroni.yml")
            self.unreadable(lab.guest(name), name, "/run/virtwork-pki/node.key")
        for name in lab.nodes:
            for port in (2379, 2380):
                answer = lab.ask_etcd(name, port)
                expect(isinstance(answer, Exception), f"etcd on {name}, port {port}, without a certificate: {answer}")
            seed = lab.passwords["ca-seed"]
            hits = lab.guest(name).run("grep", "-rlF", "-f", "-", "/etc", "/run", "/tmp", "/var/lib", "/var/log", stdin=seed,
                                       check=False)
            expect_equal(hits, "", f"where the seed of the keys lies on {name}")
        expect_equal(lab.primary, leader, "who leads")

    @scenario("a switchover with patronictl: the former leader follows without a rewind")
    def switchover(self):
        lab = self.lab
        former = lab.primary
        sampler = self.sampled()
        candidate = lab.replicas[0]
        with self.outage("switchover", 2 * LOOP_WAIT + PROXY, former):
            lab.patronictl("switchover", "--force", "--leader", former, "--candidate", candidate)
        self.settled()
        self.never_two(sampler)
        self.not_in_journal(former, "keeping a copy", "cloning")
        self.services_lead()

    @scenario("the postmaster of the leader is killed: it comes back in its place, with all that was acknowledged")
    def killed(self):
        lab = self.lab
        former = lab.primary
        sampler = self.sampled()
        pid = lab.guest(former).run("head", "-n", "1", self.in_data(former, "echo $PGDATA") + "/postmaster.pid")
        with self.outage("postmaster killed", 2 * LOOP_WAIT + PROXY):
            lab.guest(former).run("kill", "-9", pid)
        self.settled()
        self.never_two(sampler)

    @scenario("power loss of the leader under load: its successor has all rows; it comes back by a rewind")
    def power_loss(self):
        lab = self.lab
        former = lab.primary
        pause(2)
        with self.outage("power loss of the leader", TTL + LOOP_WAIT + ETCD_ELECTION + PROXY, former):
            lab.power_loss(former)
        with self.timed("start of the former leader -> it streams"):
            lab.start(former)
            lab.wait_for_streaming(seconds=300)
        self.settled()

    @scenario("the leader loses its network: it gives up before its successor begins, and follows when it is back")
    def partition(self):
        lab = self.lab
        former = lab.primary
        sampler = self.sampled()
        with self.outage("network cut of the leader", TTL + LOOP_WAIT + ETCD_ELECTION + PROXY, former):
            lab.network.cut(lab.nodes[former].pod)
        pause(5)
        lab.network.cut(lab.nodes[former].pod, off=False)
        self.settled()
        self.never_two(sampler)

    @scenario("etcd without a majority: the leader goes on, since all members answer it; and nothing changes when it is back")
    def etcd_lost(self):
        lab = self.lab
        leader = lab.primary
        others = [name for name in lab.nodes if name != leader]
        for name in others:
            lab.guest(name).run("systemctl", "stop", "virtwork-etcd.service")
        count = len(self.writer.acknowledged)
        pause(2 * TTL)
        wait_until("rows are acknowledged without etcd", lambda: len(self.writer.acknowledged) > count + 100, 10)
        for name in others:
            lab.guest(name).run("systemctl", "start", "--no-block", "virtwork-etcd.service")
        self.settled()
        expect_equal(lab.primary, leader, "who leads")

    @scenario("rows that only the leader had when it lost its power: kept aside, once, when it comes back to its successor")
    def kept(self):
        former, follower = self.diverged("precious")
        self.in_journal(former, "keeping a copy of the data as", "rewound to the leader's history")
        self.no_copy_twice(former)

    @scenario("a former leader that lost the WAL from before another took over: it clones, and goes on as a copy of its leader")
    def cloned_instead(self):
        lab = self.lab
        former, follower = lab.primary, lab.replicas[0]
        lab.network.cut(lab.nodes[former].pod)
        # What it writes until it gives up is in a segment that the other one never has.
        lab.superuser(former, "SELECT pg_switch_wal()")
        lab.superuser(former, "CHECKPOINT")
        wait_until("the other leads", lambda: lab.leader() == follower, 120)
        lab.guest(former).run("systemctl", "stop", "virtwork-patroni.service", timeout=120)
        self.in_data(former, """
            redo=$(pg_controldata "$PGDATA" | sed -n "s/^Latest checkpoint's REDO WAL file: *//p")
            cd "$PGDATA/pg_wal"
            for segment in [0-9A-F]*; do
              if [[ ${#segment} == 24 && $segment < $redo ]]; then rm "$segment"; fi
            done""")
        lab.network.cut(lab.nodes[former].pod, off=False)
        lab.guest(former).run("systemctl", "start", "virtwork-patroni.service")
        self.settled()
        self.in_journal(former, "cloning the leader instead")
        # A copy that had gone on by itself would stop where its leader gets.
        for _ in range(3):
            lab.superuser(follower, "SELECT pg_switch_wal()")
            pause(2)
        self.settled()

    @scenario("power loss of all at once: the same database and the same etcd come back")
    def all_power_loss(self):
        lab = self.lab
        pause(2)
        lab.power_loss(*lab.nodes)
        with self.timed("start of all after a power loss -> all replicas stream"):
            lab.start(*lab.nodes)
            lab.wait_for_streaming(seconds=300)
        self.settled()
        for name in lab.database_nodes:
            self.not_in_journal(name, "founding the cluster", "initialising", "cloning")

    def diverged(self, table, meanwhile=lambda former: None):
        """The leader acknowledges rows while its replica is cut off, and loses its power; the replica takes over, and the
        former leader comes back. Both, by name."""
        lab = self.lab
        former, follower = lab.primary, lab.replicas[0]
        self.writer.stop()
        self.direct.stop()
        lab.network.cut(lab.nodes[follower].pod)
        lab.sql(former, f"CREATE TABLE {table} (n bigint); INSERT INTO {table} SELECT generate_series(1, {PRECIOUS});")
        lab.power_loss(former)
        lab.network.cut(lab.nodes[follower].pod, off=False)
        wait_until("the other leads", lambda: lab.leader() == follower, 120)
        lab.start(former)
        meanwhile(former)
        lab.wait_for_streaming(seconds=300)
        copy = self.copies(former)[-1]
        expect_equal(self.rows_kept(former, copy, table), str(PRECIOUS), f"rows of {table} in {copy}")
        expect_equal(lab.sql(follower, f"SELECT to_regclass('{table}') IS NULL"), "t", "the rows are not on the leader")
        self.writer = self.new_writer()
        self.direct = DirectWriter(lab)
        self.stack.callback(self.direct.stop)
        self.settled()
        return former, follower

    def no_copy_twice(self, name):
        lab = self.lab
        before = self.copies(name)
        lab.restart(name)
        self.settled()
        expect_equal(self.copies(name), before, f"copies on {name}")


class TwoNodes(Life):
    title = "Patroni, two nodes and a witness"

    @scenario("no room for a copy beside data that has to be kept: it stops and says so, and goes on once there is")
    def no_room(self):
        lab = self.lab
        leader = lab.primary
        self.in_data(leader, """
            free=$(df -k --output=avail $PGDATA | tail -n 1)
            fallocate -l $((free - 300 * 1024))K $(dirname $PGDATA)/filler""")

        def make_room(former):
            lab.wait_for_journal(former, "stopped: /var/lib", 300)
            pause(10)
            self.in_data(former, "rm $(dirname $PGDATA)/filler")

        self.diverged("no_room", make_room)

    @scenario("a rolling restart of all, the leader last")
    def rolling(self):
        lab = self.lab
        leader = lab.primary
        with self.timed("rolling restart of all nodes"):
            for name in [name for name in lab.nodes if name != leader] + [leader]:
                lab.restart(name)
                lab.wait_for_streaming(seconds=300)
        self.settled()

    @scenario("all stopped at once, and all root disks lost: the same database and the same etcd come back")
    def all_restart(self):
        lab = self.lab
        lab.stop(*lab.nodes)
        with self.timed("start of all -> all replicas stream"):
            lab.start(*lab.nodes)
            lab.wait_for_streaming(seconds=300)
        self.settled()
        for name in lab.database_nodes:
            self.not_in_journal(name, "founding the cluster", "initialising", "cloning")

    @scenario("a replica's disk is replaced by a blank one: its etcd is taken in as a new member, its database is a clone")
    def blank_replica(self):
        self.replaced(self.lab.replicas[0])

    @scenario("the same with the node that founded the lab, and with the witness")
    def blank_founder(self):
        lab = self.lab
        founder = lab.database_nodes[0]
        if lab.primary == founder:
            lab.patronictl("switchover", "--force", "--leader", founder, "--candidate", lab.replicas[0])
            wait_until("another leads", lambda: lab.leader() not in (None, founder), 60)
            self.settled()
        self.replaced(founder)
        self.replaced(next(name for name in lab.nodes if "-witness-" in name))

    def replaced(self, name):
        lab = self.lab
        lab.stop(name)
        for volume in lab.nodes[name].vm.database_disks():
            lab.blank_disk(volume)
        lab.start(name)
        lab.wait_for_journal(name, "has a vote")
        lab.wait_for_streaming(seconds=300)
        self.in_journal(name, "which has lost its data: replacing the member")
        self.settled()
        expect_equal(self.members(), sorted(lab.nodes), "members of etcd")

    @scenario("a replica away until its slot is lost clones again by itself")
    def slot_lost(self):
        lab = self.lab
        replica = lab.replicas[0]
        lab.stop(replica)
        leader = lab.leader()
        switch = "SELECT pg_switch_wal() FROM pg_logical_emit_message(true, 'boot', repeat('x', 100000));\n"
        for _ in range(4):
            lab.superuser(leader, switch * 4 + "CHECKPOINT;")
        lab.start(replica)
        lab.wait_for_streaming(seconds=300)
        self.in_journal(replica, "can never catch up again", "the leader has all of it", "the clone is complete")
        self.settled()

    @scenario("a changed config reaches the lab as its nodes restart: settings of each node, and those that all have in common")
    def changed(self):
        lab = self.lab
        self.config["postgresql"]["parameters"] |= {"max_connections": 150, "work_mem": "5MB"}
        lab.apply(self.config)
        leader = lab.primary
        for name in [*lab.replicas, leader]:
            lab.restart(name)
            lab.wait_for_streaming(seconds=300)
        self.settled()
        for name in lab.database_nodes:
            wait_until(f"the settings of {name}", lambda name=name: lab.superuser(
                name, "SELECT current_setting('max_connections') || ' ' || current_setting('work_mem')") == "150 5MB", 60)


class ThreeNodes(Patroni):
    title = "Patroni, three nodes, synchronous"
    synchronous = True

    def setup(self):
        self.lab = self.new_lab()
        self.config = self.lab_config(replica_count=2, postgresql={"synchronous": {"method": "any"}})
        self.lab.apply(self.config)
        self.random = random.Random(20)

    @scenario("forming")
    def forming(self):
        self.forms()
        names = wait_until("commits wait for a standby", lambda: self.lab.superuser(
            self.lab.primary, "SHOW synchronous_standby_names"), 60)
        expect(re.match(r"ANY 1 \(", names), f"what a commit waits for: {names}")

    @scenario("the leader killed at random moments: no acknowledged row is lost, no copy kept of what nobody was told")
    def kills(self):
        lab = self.lab
        for number in range(self.rounds):
            former = lab.primary
            wait_until("the leader has noted that commits wait for both others",
                       lambda former=former: self.noted(former) == set(lab.database_nodes) - {former}, 60)
            pause(self.random.uniform(0, LOOP_WAIT))
            kind = self.random.choice(["power", "postmaster", "all processes"])
            sampler = self.sampled()
            with self.outage(f"round {number + 1}, {kind}", TTL + LOOP_WAIT + ETCD_ELECTION + PROXY):
                if kind == "power":
                    lab.power_loss(former)
                else:
                    programs = "postgres" if kind == "postmaster" else "postgres|etcd|patroni"
                    lab.guest(former).run("bash", "-c", f"pkill -9 '^({programs})$' || true")
            if kind == "power":
                lab.start(former)
            self.settled()
            self.never_two(sampler)
            expect_equal(self.copies(former), [], f"copies on {former}; its journal:\n{self.tell(former)}\n")

    def noted(self, name):
        """For whom the commits of the leader wait, as it noted it. A kill within two seconds after Patroni took one back in
        finds an older note, and a copy is kept that need not be."""
        node, timeline, *names = self.in_data(name, "cat $PGDATA/virtwork.waited-for 2>/dev/null || echo - -").split()
        current = self.lab.superuser(name, "SELECT timeline_id FROM pg_control_checkpoint()")
        return set(names) if (node, timeline) == (name, current) else set()

    @scenario("a node less: its slot and its voice in etcd go")
    def fewer(self):
        lab = self.lab
        if lab.primary == "db-node-2":
            lab.patronictl("switchover", "--force", "--leader", "db-node-2", "--candidate", "db-node-0")
            wait_until("another leads", lambda: lab.leader() not in (None, "db-node-2"), 60)
        self.config["replica-count"] = 1
        lab.delete("db-node-2")
        lab.apply(self.config)
        lab.start("db-witness-0")
        lab.wait_for_journal("db-witness-0", "has a vote")
        self.in_journal("db-witness-0", "db-node-2 is no longer in the lab: taking it out")
        expect_equal(self.members(), sorted(lab.nodes), "members of etcd")
        leader = lab.primary
        wait_until("the slot is gone or given a time", lambda: lab.sql(
            leader, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'db_node_2' AND active") == "0", 60)
        for name in [*lab.replicas, leader]:
            lab.restart(name)
            lab.wait_for_streaming(seconds=300)
        self.settled()


class Packages(Patroni):
    title = "Patroni, installed by the guests"
    image = "plain"

    def setup(self):
        self.lab = self.new_lab()
        self.requests = self.lab.network.serve_packages(self.system.packages())
        self.lab.apply(self.lab_config(guest={"image": self.system.image, "packages": "install"},
                                       monitoring={"metrics": True, "postgres-exporter": True}))

    @scenario("packages installed: nothing runs on the root disk, the lab forms")
    def forming(self):
        self.forms()
        lab = self.lab
        for name in lab.nodes:
            leftovers = lab.guest(name).run("bash", "-c", "ls -d /var/lib/etcd/*/member 2>/dev/null || true")
            expect_equal(leftovers, "", f"etcd on the root disk of {name}")
        self.settled()

    @scenario("the distribution's exporter serves its own metrics, of each node's role")
    def exporter(self):
        lab = self.lab
        for name in lab.database_nodes:
            text = wait_until(f"the exporter of {name} answers", lambda: lab.guest(name).run(
                "python3", "-c", SCRAPE, "http://localhost:9187/metrics", check=False), 60, 2)
            metrics = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
            expect_equal(metrics.get("pg_up"), "1", f"pg_up of {name}")
            expect_equal(metrics.get("pg_replication_is_replica"), str(int(name != lab.primary)), f"pg_replication_is_replica of {name}")


class OneMachine(Patroni):
    """One of the nodes is an emulated machine. The others are containers: an emulated etcd is too slow to agree on anything."""

    emulated = ("db-node-0",)
    watchdog = "automatic"
    MINUTES = 1800

    def setup(self):
        self.lab = self.new_lab()
        self.lab.apply(config(self.system, replica_count=1, pgbench_scale=1, pgbench={"clients": 1, "rate": 5},
                              failover={"mode": "patroni", "ttl": 120, "loop-wait": 20, "retry-timeout": 50,
                                        "watchdog": self.watchdog},
                              vm={"memory": "1Gi", "cpu-cores": 1}))

    def machine_forms(self):
        """Until the replica streams. No HAProxy runs then: a handshake costs an emulated machine a second, and HAProxy asks
        for several each second."""
        lab = self.lab
        machine, = self.emulated
        other, = (name for name in lab.database_nodes if name != machine)
        with self.timed("blank disks -> the replica streams"):
            lab.start(*lab.nodes)
            lab.wait_for_journal(other, "from 5000 to the leader", 300)
            lab.guest(other).run("systemctl", "stop", "virtwork-haproxy.service")
            self.machine_streams(machine)

    def machine_streams(self, machine):
        """The same for a machine that was started."""
        lab = self.lab
        lab.guest(machine).wait_for_agent(self.MINUTES)
        wait_until("HAProxy of the machine", lambda: lab.guest(machine).run(
            "systemctl", "is-active", "virtwork-haproxy.service", check=False) == "active", self.MINUTES, 5)
        lab.guest(machine).run("systemctl", "stop", "virtwork-haproxy.service")
        wait_until("a leader", lab.leader, self.MINUTES, 5)
        wait_until("the replica streams", lambda: lab.streaming() == set(lab.replicas), self.MINUTES, 5)


class Watchdog(OneMachine):
    """The machine leads, with KubeVirt's watchdog, which the other node does not have."""

    title = "Patroni on a machine, watchdog"
    # Of a golden image gen does not know whether its kernel has the driver.
    watchdog = "required"

    @scenario("forming: Patroni of the machine requires its watchdog")
    def forming(self):
        lab = self.lab
        self.machine_forms()
        self.in_journal("db-node-0", "resets this machine when Patroni does not answer")
        self.in_journal("db-node-1", "this guest has no i6300esb watchdog")
        text = lab.guest("db-node-0").run("cat", "/run/postgresql/virtwork.patroni.yml")
        expect_equal(json.loads(text)["watchdog"]["mode"], "required", "mode of the watchdog")
        if lab.primary != "db-node-0":
            lab.patronictl("switchover", "--force", "--leader", "db-node-1", "--candidate", "db-node-0")
            wait_until("the machine leads", lambda: lab.leader() == "db-node-0", self.MINUTES, 5)

    @scenario("Patroni of the leader hangs: its machine is reset before its successor takes writes")
    def hangs(self):
        lab = self.lab
        guest = lab.guest("db-node-0")
        sampler = RemoteSampler(lab)
        self.stack.callback(sampler.stop)
        wait_until("the leader is sampled", lambda: len(sampler.samples["db-node-0"]) > 20, 120)
        pid = guest.run("systemctl", "show", "--property=MainPID", "--value", "virtwork-patroni.service")
        started = time.monotonic()
        guest.run("kill", "-STOP", pid)
        wait_until("the machine is reset", lambda: not guest.running, 300, 0.2)
        self.figures.append(("Patroni hangs -> its machine is reset", time.monotonic() - started))
        wait_until("the other takes writes", lambda: sampler.samples["db-node-1"], 300, 0.2)
        self.figures.append(("Patroni hangs -> the other takes writes", time.monotonic() - started))
        self.never_two(sampler)
