"""Chaos on the network: WAL is late, slow or cut, when it should be and only then; everything else goes on. Machines have a
kernel of their own, with netem; the one that containers share may lack it."""

import json
import time

from scenarios.checks import Checks
from scenarios.machines import MINUTES, Emulated
from shell import CommandFailed, run, wait_until
from story import config, expect, expect_equal, pause, scenario

LATE = 5
"""Seconds: more than an emulated machine takes by itself, and less than a receiver waits."""


class ChaosChecks(Checks):
    """What both tiers ask."""

    def events(self, name):
        """The windows that the journal of a node tells of."""
        lines = [line.partition("{")[2] for line in self.lab.journal(name).splitlines() if '"event": "chaos"' in line]
        return [json.loads("{" + line) for line in lines]

    def chaos(self, *words, status=0):
        """`virtwork-chaos` on the primary: what it says."""
        try:
            output = self.lab.guest(self.lab.primary).run("bash", "-c", '"$@" 2>&1', "-", "virtwork-chaos", *words, timeout=120)
        except CommandFailed as error:
            expect(status and f"status {status}" in str(error), f"virtwork-chaos {words}: {error}")
            return str(error)
        expect_equal(0, status, f"exit status of virtwork-chaos {words}")
        return output

    def status(self):
        """What it says now; nothing before the service runs."""
        return self.lab.guest(self.lab.primary).run("virtwork-chaos", "status", check=False)

    def queues(self, name):
        """The lines of tc that are ours."""
        output = self.lab.guest(name).run("tc", "qdisc", "show")
        return [line for line in output.splitlines() if "7643:" in line]


class Chaos(Emulated, ChaosChecks):
    title = "chaos on the network of WAL, three machines"

    def setup(self):
        self.lab = self.new_lab()
        self.config = self.machine_config(replica_count=2, chaos_network={"latency": f"{LATE}s"})
        self.lab.apply(self.config)

    def lags(self):
        """What the primary says: seconds until each replica has written what it was sent."""
        rows = self.lab.sql(self.lab.primary, "SELECT application_name, coalesce(extract(epoch FROM write_lag), 0) "
                            "FROM pg_stat_replication ORDER BY 1")
        return {name: float(lag) for name, lag in (line.split("|") for line in rows.splitlines())}

    def received(self, name):
        """How far it has WAL; since a start in what it replayed."""
        return int(self.lab.sql(name, "SELECT pg_wal_lsn_diff(coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), "
                                "'0/0')::bigint"))

    def others_have_nothing_of_it(self):
        """SSH, readiness and clients of the primary, and of the replicas."""
        lab = self.lab
        for name in lab.nodes:
            started = time.monotonic()
            lab.sql(name, "SELECT 1")
            expect(time.monotonic() - started < LATE, f"a client of {name} waits for {time.monotonic() - started:.1f} s")
            expect(lab.nodes[name].ready, f"{name} is not ready any more")
            lab.guest(name).run("true", timeout=60)

    @scenario("forming: without a schedule nothing happens, and nothing is set up")
    def forming(self):
        self.lab.start(*self.lab.nodes)
        self.forms()
        wait_until("virtwork-chaos runs", lambda: "closed: the network is as it is" in self.status(), MINUTES, 5)
        for name in self.lab.nodes:
            expect_equal(self.queues(name), [], f"queues of {name}")
            self.not_in_journal(name, "no chaos on this network")

    @scenario("by hand, to one replica: its WAL is late, that of the other is not, nor is anything else; then it is over by itself")
    def late(self):
        lab = self.lab
        slow, quick = lab.replicas
        self.chaos("start", "--target", slow, "--for", "90")
        wait_until(f"{slow} is late", lambda: self.lags().get(slow, 0) >= LATE, 80, 1)
        lags = self.lags()
        expect(lags[quick] < LATE, f"{quick} is late, too: {lags}")
        self.others_have_nothing_of_it()
        wait_until("the window is over", lambda: "closed" in self.status(), 180, 5)
        wait_until(f"{slow} is in time", lambda: self.lags().get(slow, LATE) < LATE, 120, 2)
        expect_equal(self.queues(lab.primary), [], "queues after the window")
        start, end = self.events(lab.primary)
        expect_equal((start["state"], end["state"], end["reason"], start["id"]), ("start", "end", "over", end["id"]), "events")
        self.figures += [(f"write lag of {slow}, {LATE} s late", lags[slow]), (f"write lag of {quick} meanwhile", lags[quick])]

    @scenario("a partition: replicas receive nothing, sessions that try anew neither; clients, SSH and readiness do not notice")
    def partition(self):
        lab = self.lab
        self.chaos("start", "--partition")
        pause(3)
        before = {name: self.received(name) for name in lab.replicas}
        written = lab.sql(lab.primary, "SELECT pg_current_wal_lsn()")
        self.others_have_nothing_of_it()
        pause(10)
        expect_equal({name: self.received(name) for name in lab.replicas}, before, "what replicas received meanwhile")
        moved = int(lab.sql(lab.primary, f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{written}')::bigint"))
        expect(moved > 0, "the primary wrote nothing")
        # A receiver that connects anew gets nothing, either.
        anew = lab.replicas[0]
        lab.guest(anew).run("systemctl", "restart", "postgresql.service", timeout=300)
        wait_until(f"{anew} answers", lambda: lab.sql(anew, "SELECT 1"), MINUTES, 3)
        pause(20)
        expect(self.received(anew) <= before[anew], "a new session gets through")
        expect("open: hand-" in self.status(), "the status does not tell of the window")
        self.chaos("stop")
        expect_equal(self.queues(lab.primary), [], "queues after a stop")
        self.serves_and_streams()

    @scenario("a power loss in a window of the schedule: it goes on after the boot, and ends when it would have")
    def boot_in_a_window(self):
        lab = self.lab
        self.config["chaos-network"]["schedule"] = [{"at": 30, "for": 600}]
        lab.apply(self.config)
        lab.restart(lab.primary)
        self.comes_back(lab.primary)
        wait_until("the window opens", lambda: self.events(lab.primary), MINUTES, 5)
        (start,) = self.events(lab.primary)
        expect_equal((start["id"], start["state"], start["resumed"]), ("1.1", "start", False), "the first event")
        lab.power_loss(lab.primary)
        lab.start(lab.primary)
        wait_until("the window goes on", lambda: self.events(lab.primary), MINUTES, 5)
        again = self.events(lab.primary)[0]
        expect_equal((again["id"], again["start"], again["end"], again["resumed"]), ("1.1", start["start"], start["end"], True),
                     "the window after the boot")
        wait_until("the window is over", lambda: len(self.events(lab.primary)) > 1, MINUTES, 5)
        over = self.events(lab.primary)[1]
        late = abs(seconds(over["time"]) - seconds(start["end"]))
        expect_equal(over["reason"], "over", "why it ended")
        expect(late < 5, f"it ended {late:.1f} s beside its time")
        self.figures += [("end of the window beside its time", late)]
        self.serves_and_streams()

    @scenario("a service that is killed or stopped in a window leaves nothing behind")
    def ended(self):
        lab = self.lab
        guest = lab.guest(lab.primary)
        for how in (("kill", "--signal=KILL", "virtwork-chaos.service"), ("stop", "virtwork-chaos.service")):
            wait_until("virtwork-chaos runs", lambda: "closed" in self.status(), 300, 5)
            self.chaos("start")
            wait_until("a queue", lambda: self.queues(lab.primary), 60, 1)
            guest.run("systemctl", *how)
            wait_until("no queue", lambda: not self.queues(lab.primary), 60, 1)

    @scenario("switched off: at the next start nothing of it is left")
    def switched_off(self):
        lab = self.lab
        del self.config["chaos-network"]
        lab.apply(self.config)
        lab.restart(lab.primary)
        self.comes_back(lab.primary)
        expect_equal(self.queues(lab.primary), [], "queues")
        expect_equal(lab.guest(lab.primary).run("bash", "-c", "ls /usr/local/sbin /etc/systemd/system | grep chaos || true"), "",
                     "files")


def seconds(stamp):
    """Of a time in a signal."""
    whole, _, rest = stamp.rstrip("Z").partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{rest}")


class SharedKernel(ChaosChecks):
    title = "chaos on the network of WAL, on the kernel of this machine"

    def setup(self):
        self.lab = self.new_lab()
        self.lab.apply(config(self.system, chaos_network={"latency": "200ms", "schedule": "always"}))

    @scenario("a kernel without netem: one line says so, nothing restarts, the lab runs; with netem the window is open")
    def told(self):
        lab = self.lab
        lab.start(*lab.nodes)
        self.formed()
        # A host with the module lets its containers have it.
        if run("bash", "-c", "modprobe sch_netem 2>/dev/null && echo yes || true").strip() == "yes":
            wait_until("the window is open", lambda: self.events(lab.primary), 60)
            return
        lab.wait_for_journal(lab.primary, "no chaos on this network: the kernel")
        pause(12)
        for name in lab.nodes:
            journal = lab.journal(name)
            expect_equal(journal.count("no chaos on this network"), 1, f"lines of {name}")
            shown = lab.guest(name).run("systemctl", "show", "-p", "NRestarts,ActiveState", "virtwork-chaos.service")
            expect_equal(sorted(shown.split()), ["ActiveState=active", "NRestarts=0"], f"the service of {name}")
        expect_equal(self.events(lab.primary), [], "windows")
        expect("no chaos on this network" in self.chaos("start", status=1), "it can be started by hand")
        self.load_runs()
