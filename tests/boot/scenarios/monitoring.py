"""The sampler of replication: its lag is that of a row with the time, whatever the link does, and no series ever goes away."""

import json
import subprocess
import sys
import time

from scenarios.checks import SCRAPE, Checks
from scenarios.patroni import Patroni
from scenarios.topology import Promotions
from shell import CommandFailed, in_netns, run, wait_until
from story import config, expect, expect_equal, pause, scenario

PORT = 9188
# What others report: CNPG, postgres_exporter, pgMonitor and PGO have a gauge of this kind.
THEIRS = ("SELECT CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0"
          " ELSE greatest(0, extract(epoch FROM now() - pg_last_xact_replay_timestamp())) END")
TRUTH = "SELECT extract(epoch FROM clock_timestamp() - at) FROM heartbeat"
CLOSE = 1.5


class Scrapes(Checks):
    """What Prometheus and the journal are told."""

    def scrape(self, name, pod=None):
        """The metrics of a node, as a pod of another namespace gets them."""
        pod = pod or self.lab.network.stranger
        text = run(*in_netns(pod.netns, sys.executable, "-c", SCRAPE, f"http://{self.lab.nodes[name].pod.address}:{PORT}/metrics"))
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {series: float(value) for series, _, value in lines}

    def of(self, metrics, name, replica):
        return metrics[f'virtwork_replica_{name}{{node="{self.lab.primary}",replica="{replica}"}}']

    def lines(self, name):
        output = self.lab.guest(name).run("journalctl", "-t", "virtwork-monitor", "-o", "cat")
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return [line for line in lines if line["signal"] == "lag"]


class Monitoring(Scrapes, Promotions):
    title = "monitoring"

    def setup(self):
        self.lab = self.new_lab()
        self.config = config(
            self.system, replica_count=2, pgbench={"rate": 20}, vm={"data-disk-size": "8Gi"},
            postgresql={"max-slot-wal-keep-size": "1GB", "parameters": {"max_wal_size": "256MB", "min_wal_size": "80MB"}},
            monitoring={"metrics": True, "rules": {}, "dashboard": True, "postgres-exporter": True})
        self.lab.apply(self.config)

    def beat(self):
        """Writes the time ten times a second on the primary."""
        lab = self.lab
        lab.superuser(lab.primary, "CREATE TABLE IF NOT EXISTS heartbeat (at timestamptz);"
                      "INSERT INTO heartbeat SELECT clock_timestamp() WHERE NOT EXISTS (SELECT FROM heartbeat)")
        lab.guest(lab.primary).run(
            "systemd-run", "--quiet", "--unit=heartbeat", "--property=User=postgres", "--setenv=PGHOST=/run/postgresql", "bash", "-c",
            r"echo 'UPDATE heartbeat SET at = clock_timestamp() \watch 0.1' | psql -Xq -d postgres >/dev/null")
        pause(3)

    def compare(self, what, replica, seconds, least=0.0):
        """For so long, ours has to be close to the truth, which has to reach `least`. The worst of each goes to the report."""
        lab = self.lab
        wrong, most, theirs = 0.0, 0.0, 0.0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = float(lab.superuser(replica, TRUTH))
            metrics = self.scrape(lab.primary)
            after = float(lab.superuser(replica, TRUTH))
            for name in lab.replicas:
                for metric in ("lag_seconds", "connected", "reply_age_seconds"):
                    self.of(metrics, metric, name)
            ours = self.of(metrics, "lag_seconds", replica)
            # The truth moved between the two looks at it.
            low, high = min(before, after), max(before, after)
            wrong = max(wrong, low - ours, ours - high)
            most = max(most, ours)
            theirs = max(theirs, float(lab.superuser(replica, THEIRS)))
            pause(0.7)
        self.figures += [(f"{what}: lag by our metric", most), (f"{what}: by the metric of others", theirs),
                         (f"{what}: ours was off by", wrong)]
        expect(most >= least, f"{what}: the lag was {most:.1f} s, not {least} s")
        expect(wrong <= CLOSE, f"{what}: ours was {wrong:.2f} s off")
        return metrics

    @scenario("forming: each node tells its lag each second, and serves it to pods of any namespace")
    def forming(self):
        lab = self.lab
        lab.start(*lab.nodes)
        self.formed()
        for name in lab.nodes:
            metrics = wait_until(f"{name} serves metrics", lambda name=name: self.scrape(name), 60)
            expect_equal(metrics[f'virtwork_server_is_primary{{node="{name}"}}'], float(name == lab.primary), f"{name} is primary")
            expect_equal(self.scrape(name, lab.network.client).keys(), metrics.keys(), "what a pod of the namespace gets")
        expect_equal(lab.sql(lab.replicas[0], "SHOW wal_receiver_status_interval"), "1s", "wal_receiver_status_interval")
        pause(10)
        told = self.lines(lab.primary)[-8:]
        expect_equal([sorted(line["replicas"]) for line in told], [lab.replicas] * 8, "replicas of the last lines")
        expect(all(line["replicas"][name]["connected"] for line in told for name in lab.replicas), f"not connected: {told[-1]}")
        expect_equal(self.lines(lab.replicas[0])[-1]["receiver"]["status"], "streaming", "status of a receiver")

    @scenario("an image without the exporter says so once, and nothing listens there")
    def no_exporter(self):
        journal = self.lab.guest(self.lab.primary).journal("--unit=prometheus-postgres-exporter.service")
        expect("the image has no package prometheus-postgres-exporter" in journal, f"nothing about the exporter:\n{journal}")
        expect(journal.count("has no package") <= 2, f"not once:\n{journal}")

    @scenario("200 who ask and say nothing, or read nothing, disturb neither the sampling nor those who do")
    def slow_scrapers(self):
        lab = self.lab
        holder = """
import socket, sys, time
peers = []
for number in range(200):
    peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
    peer.sendall(b"" if number % 2 else b"GET /metrics HTTP/1.1\\r\\n\\r\\n")
    peers.append(peer)
print("held", flush=True)
time.sleep(15)
"""
        address = lab.nodes[lab.primary].pod.address
        command = in_netns(lab.network.stranger.netns, sys.executable, "-c", holder, address, str(PORT))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as others:
            expect_equal(others.stdout.readline(), "held\n", "what they do")
            for _ in range(5):
                metrics = self.scrape(lab.primary)
                expect(metrics[f'virtwork_sample_age_seconds{{node="{lab.primary}"}}'] < 1, "the sampler waits")
                pause(2)
        seconds = [float(line["time"][17:-1]) for line in self.lines(lab.primary)[-15:]]
        gap = max((after - before) % 60 for before, after in zip(seconds, seconds[1:]))
        expect(gap < 2, f"{gap:.1f} s without a line")

    @scenario("idle: 0 for as long as nothing is written")
    def idle(self):
        lab = self.lab
        lab.guest(lab.primary).run("systemctl", "stop", "virtwork-database.service")
        pause(5)
        worst = 0.0
        for _ in range(15):
            metrics = self.scrape(lab.primary)
            worst = max(worst, *(self.of(metrics, "lag_seconds", name) for name in lab.replicas))
            pause(1)
        expect(worst <= CLOSE, f"{worst} s behind in an idle lab")
        self.figures += [("idle: lag by our metric", worst)]
        lab.guest(lab.primary).run("systemctl", "start", "virtwork-database.service")
        self.beat()

    @scenario("a slow link, 5 s each way, then one of 30 kB/s: ours is the age of the row, and the others' 0")
    def links(self):
        lab = self.lab
        slow = lab.replicas[0]
        with lab.network.delayed(lab.nodes[slow].pod, lab.nodes[lab.primary].pod.address, 0) as change:
            lab.superuser(lab.primary, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
            pause(3)
            lab.wait_for_streaming()
            pause(5)
            change(5000)
            pause(12)
            self.compare("5 s each way", slow, 20, least=4)
            change(0)
            pause(12)
            change(0, 30_000)
            lab.superuser(lab.primary, "SELECT pg_logical_emit_message(true, 'boot', repeat('x', 1000000))")
            pause(5)
            self.compare("30 kB/s", slow, 25, least=10)
        lab.superuser(lab.primary, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        lab.wait_for_streaming()
        lab.wait_for_replay(slow)

    @scenario("a cut link and a paused replay: the lag grows on, and the series stay")
    def away(self):
        lab = self.lab
        gone = lab.replicas[1]
        pause(5)
        lab.network.cut(lab.nodes[gone].pod)
        metrics = self.compare("cut", gone, 20, least=15)
        expect_equal(self.of(metrics, "connected", gone), 0, "connected, 20 s after the cut")
        expect_equal(self.of(metrics, "connected", lab.replicas[0]), 1, "connected of the other one")
        lab.network.cut(lab.nodes[gone].pod, off=False)
        lab.wait_for_streaming()
        lab.wait_for_replay(gone)
        # what it replayed is known when it says so, and when somebody looks
        pause(3)
        lab.superuser(gone, "SELECT pg_wal_replay_pause()")
        self.compare("replay paused", gone, 15, least=12)
        expect_equal(self.scrape(gone)[f'virtwork_replay_paused{{node="{gone}"}}'], 1, "replay is paused, by its own node")
        lab.superuser(gone, "SELECT pg_wal_replay_resume()")
        lab.wait_for_replay(gone)

    @scenario("after a promotion the new primary tells the lag of all others, the old one among them")
    def promotion(self):
        lab = self.lab
        old = lab.primary
        lab.power_loss(old)
        with self.timed("from the promotion to the new primary's series"):
            self.promote_best(*lab.replicas[:2])
            new = lab.primary
            others = sorted(name for name in lab.nodes if name != new)
            wait_until(f"{new} tells of {others}", lambda: all(
                f'virtwork_replica_lag_seconds{{node="{new}",replica="{name}"}}' in self.scrape(new) for name in others), 60)
        metrics = self.scrape(new)
        expect_equal(self.of(metrics, "connected", old), 0, "connected of the one that is off")
        pause(5)
        expect(self.of(self.scrape(new), "lag_seconds", old) >= 5, "the one that is off is not behind")
        lab.start(old)
        self.fenced(old)
        self.rejoin(old, "streams from the new primary")
        wait_until(f"{old} is connected and has caught up", lambda: self.of(self.scrape(new), "connected", old) == 1
                   and self.of(self.scrape(new), "lag_seconds", old) <= CLOSE, 60)
        expect_equal(self.scrape(old)[f'virtwork_server_is_primary{{node="{old}"}}'], 0, "the old one is primary")


class PatroniMonitoring(Scrapes, Patroni):
    title = "monitoring under Patroni"

    def setup(self):
        self.lab = self.new_lab()
        self.lab.apply(self.lab_config(monitoring={"metrics": True, "interval": 5, "rules": {}}))

    def tells(self, leader):
        """One node is primary, and tells of all others that they follow it; nobody else tells of replicas."""
        lab = self.lab
        metrics = {name: self.scrape(name) for name in lab.database_nodes}
        told = {series for found in metrics.values() for series in found if series.startswith("virtwork_replica_lag_seconds")}
        wanted = {f'virtwork_replica_lag_seconds{{node="{leader}",replica="{name}"}}' for name in lab.database_nodes if name != leader}
        primaries = [name for name in metrics if metrics[name][f'virtwork_server_is_primary{{node="{name}"}}'] == 1]
        return primaries == [leader] and told == wanted and all(
            metrics[leader][series.replace("lag_seconds", "connected")] == 1 and metrics[leader][series] < CLOSE for series in wanted)

    @scenario("forming: the leader tells the lag of all others, each five seconds in its journal, and a witness nothing")
    def forming(self):
        lab = self.lab
        self.forms()
        wait_until("the leader tells", lambda: self.tells(lab.primary), 60)
        pause(12)
        times = [float(line["time"][17:-1]) for line in self.lines(lab.primary)[-3:]]
        gaps = [round((after - before) % 60) for before, after in zip(times, times[1:])]
        expect_equal(gaps, [5, 5], "seconds between lines")
        witness = next(name for name in lab.nodes if name not in lab.database_nodes)
        try:
            self.scrape(witness)
        except CommandFailed as error:
            expect("refused" in str(error), str(error))
        else:
            raise AssertionError("a witness serves metrics")

    @scenario("a switchover, then the loss of the leader: the series follow")
    def follows(self):
        lab = self.lab
        old, new = lab.primary, lab.replicas[0]
        lab.patronictl("switchover", "--force", "--leader", old, "--candidate", new)
        wait_until(f"{new} leads", lambda: lab.leader() == new, 60)
        with self.timed("a switchover -> the new leader tells of all others"):
            wait_until(f"{new} tells", lambda: self.tells(new), 60)
        lab.power_loss(new)
        wait_until(f"{old} leads", lambda: lab.leader() == old, 120)
        metrics = wait_until(f"{old} tells", lambda: self.scrape(old), 30)
        pause(5)
        metrics = self.scrape(old)
        expect_equal(self.of(metrics, "connected", new), 0, "connected of the one that is off")
        lab.start(new)
        wait_until(f"{old} tells that {new} follows", lambda: self.tells(old), 240)
