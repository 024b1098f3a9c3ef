"""The load: what it says its clients saw is what the database has; rounds go on after what broke them off."""

import json

from scenarios.checks import Checks
from shell import wait_until
from story import config, expect, expect_equal, scenario

ROUND = 40


class Load(Checks):
    title = "the load and what it says"

    def setup(self):
        self.lab = self.new_lab()
        self.config = config(self.system, pgbench={"clients": 2, "threads": 2, "duration": ROUND, "pause": 25, "rate": 50,
                                                   "read-replicas": 2})
        self.lab.apply(self.config)

    def lines(self, part, target="primary"):
        """The signals of the load since the start of the primary."""
        text = self.lab.guest(self.lab.primary).run("journalctl", "-b", "-t", "virtwork-database", "-o", "cat")
        found = [json.loads(line) for line in text.splitlines() if line.startswith('{"signal": "load"')]
        return [line for line in found if (line["part"], line["target"]) == (part, target)]

    def next_round(self, target="primary"):
        before = len(self.lines("round", target))
        return wait_until("a round ends", lambda: self.lines("round", target)[before:], 4 * ROUND)[0]

    @scenario("a round: as many transactions as rows of history, at the rate, in intervals that add up; reads on the replica, too")
    def counted(self):
        lab = self.lab
        lab.start(*lab.nodes)
        self.formed()
        told = self.next_round()
        rows = int(lab.sql(lab.primary, "SELECT count(*) FROM pgbench_history"))
        expect_equal((told["complete"], told["interruptions"], told["failed"]), (True, 0, 0), "the round")
        expect_equal(told["transactions"], rows, "transactions of the round, and rows of history")
        expect(abs(told["tps"] - 50) < 10, f"{told['tps']} transactions/s were to be 50")
        expect(told["p50_ms"] <= told["p95_ms"] <= told["p99_ms"] <= told["max_ms"], f"percentiles: {told}")
        parts = [line for line in self.lines("interval") if line["round"] == told["round"]]
        expect_equal(sum(line["transactions"] for line in parts), rows, "transactions of the intervals")
        expect_equal(len(parts), ROUND // 10, "intervals of the round")
        self.in_journal(lab.primary, "round done: ")
        reads = self.lines("round", "replicas") or [self.next_round("replicas")]
        expect(reads[0]["complete"] and reads[0]["transactions"] > 0 and reads[0]["script"] == "select", f"reads: {reads}")

    @scenario("the server restarts in the middle of a round: the rest of it follows, and it is counted whole")
    def broken_off(self):
        lab = self.lab
        self.next_round()
        wait_until("the next round is under way", lambda: self.lines("interval")[-1]["round"] > self.lines("round")[-1]["round"],
                   90)
        lab.guest(lab.primary).run("systemctl", "restart", "postgresql.service")
        told = self.next_round()
        rows = int(lab.sql(lab.primary, "SELECT count(*) FROM pgbench_history"))
        expect_equal((told["complete"], told["interruptions"]), (True, 1), "the round")
        expect(ROUND - 2 < told["seconds"] < ROUND + 3, f"it ran {told['seconds']} s")
        expect(told["transactions"] <= rows <= told["transactions"] + told["failed"],
               f"{told['transactions']} transactions and {told['failed']} failed, {rows} rows of history")
        expect(told["failed"] <= 2, f"{told['failed']} clients lost their connection")
        self.in_journal(lab.primary, "round broken off: ", "broken off once")

    @scenario("a shape: its steps one after the other, each at its rate")
    def shape(self):
        lab = self.lab
        pgbench = self.config["pgbench"]
        del pgbench["duration"], pgbench["pause"]
        pgbench.update({"shape": "ramp", "period": 120, "script": "simple", "rate": 100})
        lab.apply(self.config)
        lab.restart(lab.primary)
        self.formed()
        steps = wait_until("three steps", lambda: [line for line in self.lines("interval") if line["seconds"] > 5][2:], 120)
        found = [line for line in self.lines("interval") if line["seconds"] > 5][:3]
        expect_equal({(line["shape"], line["script"], line["steps"]) for line in found}, {("ramp", "simple", 10)}, "the shape")
        expect(steps[-1]["step"] > 1, f"it is still in the first step: {steps}")
        for line in found:
            expect_equal(line["rate"], 10 * line["step"], f"rate of step {line['step']}")
            expect(abs(line["tps"] - line["rate"]) < 0.5 * line["rate"] + 5, f"{line['tps']} transactions/s, not {line['rate']}")
