"""The client's ledger: what it says of gaps and losses is what happened."""

import contextlib
import datetime
import json
import time

from scenarios.patroni import Patroni
from scenarios.topology import Promotions
from shell import CommandFailed, in_netns, run, wait_until
from story import ArgumentWatch, config, expect, expect_equal, pause, scenario

CLIENT = "db-client-0"
PATHS = ("service", "hosts")
SLOW = 600
"""Milliseconds each way. A connection takes five ways there and back, and is given ten seconds."""
PASSWORDS = {"replication-password": "Kor7Repl: it's \\", "client-password": "Kor7Client: it's \\ ü"}


class Ledgers:
    """What stories with a client ask of it."""

    def signals(self, kind, **fields):
        lines = self.lab.guest(CLIENT).run("journalctl", "--quiet", "-t", "virtwork-ledger", "-o", "cat").splitlines()
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in parsed if line["signal"] == kind and fields.items() <= line.items()]

    def ledger_paths(self):
        """As `status` has it, which asks the same."""
        output = self.lab.guest(CLIENT).run("python3", "-c", "import urllib.request; "
                                            "print(urllib.request.urlopen('http://127.0.0.1:8008/').read().decode())")
        return json.loads(output)["paths"]

    def gets_on(self, *paths, seconds=120):
        before = self.ledger_paths()
        wait_until(f"the ledger gets on through {paths or PATHS}", lambda: all(
            now["acknowledged"] > before[path]["acknowledged"] + 50 for path, now in self.ledger_paths().items()
            if path in (paths or PATHS)), seconds)

    def verified(self):
        """By hand, every row: the lines of both paths."""
        try:
            output, status = self.lab.guest(CLIENT).run("virtwork-ledger", "verify", timeout=120), 0
        except CommandFailed as error:
            expect("status 1" in str(error), str(error))
            output, status = str(error), 1
        lines = {line["path"]: line for line in self.signals("ledger-verify", reason="manual")}
        expect_equal(status, int(any(line["lost"] for line in lines.values())), f"exit status of\n{output}")
        return lines

    def nothing_lost(self, why):
        for path, line in self.verified().items():
            expect_equal((line["lost"], line["duplicated"]), (0, 0), f"{why}: lost and duplicated by the path {path}")

    def gap(self, path, began, what):
        """The one that began with the fault: its length must be that between the fault and the first acknowledgement after it."""
        def found():
            return [line for line in self.signals("ledger-gap", path=path) if seconds_of(line["end"]) > began]
        line = max(wait_until(f"the gap of {path} is told", found, 60), key=lambda line: line["seconds"])
        expect(abs(seconds_of(line["start"]) - began) < 2, f"{what}: the gap began at {line['start']}, the fault at {began}")
        self.figures.append((f"{what}: gap by the path {path}", line["seconds"]))
        return line

    def acknowledged(self, path):
        """The ids on the client's disk."""
        return {int(number) for number in self.lab.guest(CLIENT).run(
            "bash", "-c", f"cat /var/lib/virtwork/ledger/ledger.[0-9]* | awk '$1 == \"+\" && $2 == \"{path}\" {{ print $3 }}'").split()}

    def missing(self, name, path):
        """Acknowledged, and not there. Older ones than the oldest that is there are not kept."""
        acknowledged, rows = self.acknowledged(path), self.rows(name, path)
        return {number for number in acknowledged if number > min(rows)} - rows

    def rows(self, name, path):
        return {int(number) for number in self.lab.sql(name, f"SELECT id FROM virtwork.ledger WHERE path = '{path}'").split()}


def seconds_of(stamp):
    return datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc).timestamp()


class Client(Ledgers, Promotions):
    title = "a client with a ledger"

    def setup(self):
        self.lab = self.new_lab()
        self.watch = ArgumentWatch("Kor7Repl", "Kor7Client")
        self.stack.callback(self.watch.stop)
        self.config = config(self.system, replica_count=2, client={"count": 1, "rate": 100, "retain": 10000},
                             pgbench={"rate": 20}, postgresql={"max-slot-wal-keep-size": "1GB"}, vm={"data-disk-size": "6Gi"})
        self.config["postgresql"]["synchronous"] = {"count": 1}
        self.lab.apply(self.config, PASSWORDS)

    @scenario("forming: it writes through both paths and reads; nobody reaches it, and its password is in one file alone")
    def forming(self):
        lab = self.lab
        lab.start(*lab.nodes)
        self.formed()
        wait_until("the client is ready", lambda: lab.nodes[CLIENT].ready, 120)
        self.gets_on()
        self.nothing_lost("after forming")
        line = wait_until("a line with reads", lambda: [line for line in self.signals("ledger")
                                                        if (line["reads"]["staleness_ms"] is not None)], 60)[-1]
        expect(0 <= line["reads"]["staleness_ms"] < 5000, f"staleness of reads: {line['reads']}")
        # Of 100: what is asked for is a matter of the machine, that both paths get on is not.
        expect(all(path["commitsPerSecond"] > 10 for path in line["paths"].values()), f"commits a second: {line['paths']}")
        for port in (5432, 8008):
            try:
                run(*in_netns(lab.network.client.netns, "timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{lab.nodes[CLIENT].pod.address}/{port}"))
            except CommandFailed:
                continue
            raise AssertionError(f"a pod of the namespace reaches port {port} of the client")
        guest = lab.guest(CLIENT)
        self.unreadable(guest, CLIENT, "/run/virtwork-client/pgpass")
        found = guest.run("grep", "-rlsE", "Kor[7](Repl|Client)", "/run", "/etc", "/var/lib", "/var/log", check=False).split()
        expect_equal([path for path in found if not path.startswith("/run/virtwork/guest")], ["/run/virtwork-client/pgpass"],
                     "files with a password")
        expect_equal(self.watch.found, set(), "arguments with a password")
        expect("Kor7" not in guest.run("journalctl", "--quiet"), "a password in the journal")

    @scenario("kill -9 of the primary's server, which is started again: the gap is told, nothing is lost")
    def killed(self):
        lab = self.lab
        self.gets_on()
        began = time.time()
        lab.guest(lab.primary).run("pkill", "-KILL", "-o", "-x", "postgres")
        self.gets_on()
        for path in PATHS:
            gap = self.gap(path, began, "kill -9")
            expect(gap["cause"], f"no cause: {gap}")
        wait_until("it compares by itself after the gap", lambda: self.signals("ledger-verify", reason="gap"), 60)
        self.nothing_lost("after kill -9")

    @scenario("the client loses its power: it goes on with new numbers, knows no row that is not there, and nothing is lost")
    def own_power_loss(self):
        lab = self.lab
        self.gets_on()
        lab.power_loss(CLIENT)
        name = lab.sql(lab.primary, "SELECT DISTINCT ledger FROM virtwork.ledger")
        sent = {path: self.rows(lab.primary, path) for path in PATHS}
        lab.start(CLIENT)
        wait_until("the client is ready", lambda: lab.nodes[CLIENT].ready, 120)
        self.gets_on()
        expect_equal(lab.sql(lab.primary, "SELECT DISTINCT ledger FROM virtwork.ledger"), name, "the ledger")
        for path, line in self.verified().items():
            expect_equal((line["lost"], line["duplicated"]), (0, 0), f"{path}: lost and duplicated")
            new = self.rows(lab.primary, path) - sent[path]
            expect(min(new) > max(sent[path]), f"{path}: a number is used again")
            expect(line["inDoubt"]["committed"] < 200, f"{path}: {line['inDoubt']}")

    @scenario("the primary loses its power, then another one its network, with synchronous standbys: gaps as they were, nothing lost")
    def promoted(self):
        lab = self.lab
        for what in ("power cut", "network cut"):
            self.gets_on()
            old, began = lab.primary, time.time()
            if what == "power cut":
                lab.power_loss(old)
            else:
                lab.network.cut(lab.nodes[old].pod)
            new, _ = self.promote_best(*lab.replicas)
            self.gets_on()
            for path in PATHS:
                self.gap(path, began, what)
            wait_until("it saw the new timeline", lambda new=new: [
                line for line in self.signals("ledger-database") if line["timelineBefore"]], 30)
            self.nothing_lost(what)
            if what == "power cut":
                lab.start(old)
            else:
                lab.network.cut(lab.nodes[old].pod, off=False)
            self.fenced(old)
            self.rejoin(old, "streams from the new primary")
            self.nothing_lost(f"{what}, with the old primary back")

    @scenario("asynchronous over a slow link, then promoted: lost is exactly what had not arrived, each row told once")
    def asynchronous(self):
        lab = self.lab
        old = lab.primary
        address = lab.nodes[old].pod.address
        lab.superuser(old, "ALTER SYSTEM SET synchronous_standby_names = ''")
        lab.superuser(old, "SELECT pg_reload_conf()")
        with contextlib.ExitStack() as links:
            changes = [links.enter_context(lab.network.delayed(lab.nodes[name].pod, address, SLOW)) for name in lab.replicas]
            lab.superuser(old, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
            pause(1)
            lab.wait_for_streaming(seconds=120)
            pause(12)
            stale = wait_until("reads are stale", lambda: [line["reads"]["staleness_ms"] for line in self.signals("ledger")[-1:]
                                                           if (line["reads"]["staleness_ms"] or 0) > SLOW * 0.8], 60)[-1]
            self.figures.append((f"staleness of reads over a link of {SLOW} ms", stale / 1000))
            # what is under way would still arrive
            for change in changes:
                change(60_000)
            pause(1)
            lab.power_loss(old)
        new, _ = self.promote_best(*lab.replicas)
        self.gets_on()
        wait_until("it compares after the gap", lambda: {
            line["path"] for line in self.signals("ledger-verify") if line["newlyLost"]} == set(PATHS), 120)
        for path, line in self.verified().items():
            lost = self.missing(new, path)
            told = sum(line["newlyLost"] for line in self.signals("ledger-verify", path=path))
            expect_equal((line["lost"], told), (len(lost), len(lost)), f"{path}: lost and told")
            expect(line["lost"] > 20, f"{path}: only {line['lost']} rows lost of a second")
            first = [line for line in self.signals("ledger-verify", path=path) if line["newlyLost"]][0]
            self.figures.append((f"{path}: {line['lost']} rows lost, acknowledged within",
                                 seconds_of(first["lostTo"]) - seconds_of(first["lostFrom"])))

    @scenario("old rows go, in the database and on the client's disk; the counts stay")
    def rotated(self):
        lab = self.lab
        total = {path: line["acknowledged"] for path, line in self.ledger_paths().items()}
        wait_until("enough rows", lambda: all(line["acknowledged"] > 13000 for line in self.ledger_paths().values()), 300, 2)
        for path, line in self.verified().items():
            expect(line["acknowledged"] > total[path], f"{path}: {line['acknowledged']} acknowledged, {total[path]} before")
            count = len(self.rows(lab.primary, path))
            expect(count < 12500, f"{path}: {count} rows are kept, {line['acknowledged']} acknowledged")
        status = lab.guest(CLIENT).run("virtwork-ledger", "status")
        expect("longest gap" in status and "acknowledged" in status, status)


class PatroniClient(Ledgers, Patroni):
    title = "a client with a ledger, under Patroni"
    synchronous = True

    def setup(self):
        self.lab = self.new_lab()
        self.config = self.lab_config(replica_count=2, client={"count": 1, "rate": 50}, postgresql={"synchronous": {"method": "any"}})
        self.lab.apply(self.config)

    @scenario("forming: it writes through both paths")
    def forming(self):
        self.forms()
        wait_until("the client is ready", lambda: self.lab.nodes[CLIENT].ready, 120)
        self.gets_on()
        self.nothing_lost("after forming")

    @scenario("the leader loses its power: both paths come to the next one, nothing is lost")
    def failover(self):
        lab = self.lab
        old, began = lab.primary, time.time()
        lab.power_loss(old)
        self.gets_on(seconds=180)
        for path in PATHS:
            self.gap(path, began, "power cut")
        self.nothing_lost("after the power cut")
        lab.start(old)
        self.nothing_lost("with the old leader back")
