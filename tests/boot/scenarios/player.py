"""The lab's own WAL player: what it says of each segment is what happened."""

import base64
import json
import lzma
import re
import threading
import zlib

from scenarios.checks import Checks
from shell import CommandFailed, run, wait_until
from story import config, expect, expect_equal, pause, scenario

SEGMENT = 16 << 20
# Those of Klio's page on its own player.
RECIPES = {
    "sent": '[.[] | select(.error == "")] | length',
    "average": '[.[] | select(.error == "") | .elapsedTime | tonumber] | add / length',
    "failed": '.[] | select(has("error") and .error != "")',
}
COMPRESSED = 40


class Player(Checks):
    title = "WAL player"

    def setup(self):
        self.lab = self.new_lab()
        self.config = config(self.system, replica_count=2, wal_player={
            "target": "replication", "length": 4, "compressed-percent": COMPRESSED, "schedule": "once", "replica-timeout": 15},
            pgbench={"rate": 5}, postgresql={"max-slot-wal-keep-size": "2GB", "parameters": {
                "max_wal_size": "256MB", "min_wal_size": "80MB"}}, vm={"data-disk-size": "8Gi"})
        self.lab.apply(self.config)

    def play(self, *options, status=0, timeout=300):
        """A run by hand: its lines for the segments, and its last one."""
        try:
            output = self.lab.guest(self.lab.primary).run("virtwork-wal-player", *options, timeout=timeout)
            expect_equal(0, status, "exit status of the player")
        except CommandFailed as error:
            expect(status and f"status {status}" in str(error), f"the player: {error}")
            output = str(error)
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        expect_equal([line["signal"] for line in lines], ["wal-segment"] * (len(lines) - 1) + ["wal-run"], "signals")
        return lines[:-1], lines[-1]

    def recipe(self, name, lines):
        return run("jq", "-s", RECIPES[name], stdin="".join(json.dumps(line) + "\n" for line in lines))

    def position(self):
        return int(self.lab.superuser(self.lab.primary, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"))

    @scenario("forming, and the one run that the config asks for: noted, and not played again after a restart")
    def forming(self):
        lab = self.lab
        lab.start(*lab.nodes)
        self.formed()
        count = "SELECT count(*) FROM virtwork.wal_player_runs"
        wait_until("the run is noted", lambda: lab.superuser(lab.primary, f"""
            SELECT to_regclass('virtwork.wal_player_runs') IS NOT NULL""") == "t" and lab.superuser(lab.primary, count) == "1", 120)
        lines = [json.loads(line) for line in lab.guest(lab.primary).run(
            "journalctl", "-t", "virtwork-wal-player", "-o", "cat").splitlines() if line.startswith("{")]
        expect_equal([line["signal"] for line in lines], ["wal-segment"] * 4 + ["wal-run"], "lines in the journal")
        expect_equal(lines[-1]["failures"], 0, "failures of the run")
        lab.restart(lab.primary)
        self.formed()
        pause(25)
        expect_equal(lab.superuser(lab.primary, count), "1", "runs after a restart")

    @scenario("100 segments to two replicas: bytes agree with the distance of positions, Klio's recipes with the lines")
    def hundred(self):
        lab = self.lab
        before = self.position()
        lines, summary = self.play("--length", "100", "--jobs", "2")
        moved = self.position() - before
        expect_equal(len(lines), 100, "lines")
        expect_equal((summary["segments"], summary["failures"], summary["notWritten"]), (100, 0, 0), "counts")
        expect_equal(summary["bytes"], 100 * SEGMENT, "bytes of the summary")
        # Where a run begins and ends in a segment is not known from outside.
        expect(100 * SEGMENT <= moved <= 103 * SEGMENT, f"100 segments are {100 * SEGMENT} bytes, positions moved {moved}")
        expect_equal(self.recipe("sent", lines), "100", "files sent, by Klio's recipe")
        expect(float(self.recipe("average", lines)) > 0, "average by Klio's recipe")
        expect_equal(self.recipe("failed", [*lines, summary]), "", "failures by Klio's recipe")
        for line in lines:
            expect_equal(set(line["replicas"]), set(lab.replicas), "replicas of a line")
            expect(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["startTime"]), line["startTime"])
            slowest = max(times["flushed_ms"] for times in line["replicas"].values())
            expect(abs(max(slowest, 0) - line["elapsedTime"] / 1e6) < 1, f"elapsedTime is not that of the slowest: {line}")
            for name, times in line["replicas"].items():
                expect(times["received_ms"] <= times["flushed_ms"] <= times["replayed_ms"], f"order of {name}: {times}")
        names = [line["walFullPath"].rpartition("/")[2] for line in lines]
        expect_equal(names, sorted(set(names)), "names of the segments")
        self.figures += [("100 segments", summary["seconds"])]
        self.told = summary

    @scenario(f"a segment compresses to {COMPRESSED} %, as the config says, with two algorithms; one of 100 % does not")
    def compressed(self):
        lab = self.lab
        for percent, options in ((COMPRESSED, ()), (100, ("--compressed-percent", "100"))):
            lines, _ = self.play("--length", "2", *options)
            data = self.in_data(lab.primary, f"base64 -w 0 {lines[0]['walFullPath']}")
            data = base64.b64decode(data)
            expect_equal(len(data), SEGMENT, "bytes of the segment")
            for algorithm, left in (("deflate", len(zlib.compress(data, 6))), ("LZMA", len(lzma.compress(data, preset=0)))):
                share = 100 * left / SEGMENT
                expect(abs(share - percent) <= 5, f"{algorithm} leaves {share:.1f} % of a segment of {percent} %")

    @scenario("a slow link shows: 80 ms to a replica are 80 ms more in its times, and in the percentiles")
    def slow(self):
        lab = self.lab
        slow, quick = lab.replicas
        primary = lab.nodes[lab.primary].pod.address
        with lab.network.delayed(lab.nodes[slow].pod, primary, 80):
            self.reconnect()
            lines, summary = self.play("--length", "20", "--rate", "64MB")
            expect_equal(summary["failures"], 0, "failures")
            slowest = summary["replicas"][slow]["flushed"]["p50_ms"]
            expect(slowest >= 160, f"a segment and its answer take twice 80 ms, but p50 is {slowest} ms")
            expect(summary["p50_ms"] >= 160, f"p50 of all: {summary['p50_ms']} ms")
            other = summary["replicas"][quick]["flushed"]["p50_ms"]
            expect(other < slowest - 80, f"the other one is slow, too: {other} ms")
        self.figures += [("p50 of the slow replica", slowest / 1000), ("p50 of the other one", other / 1000)]
        self.reconnect()

    def reconnect(self):
        lab = self.lab
        lab.superuser(lab.primary, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        pause(1)
        lab.wait_for_streaming()

    @scenario("a replica stopped half-way: an error for each segment that it lacks, and no hang; it catches up")
    def stopped(self):
        lab = self.lab
        gone = lab.replicas[1]
        stop = threading.Timer(4, lambda: lab.guest(gone).run("systemctl", "stop", "postgresql.service"))
        stop.start()
        lines, summary = self.play("--length", "20", "--rate", "32MB", status=1)
        stop.join()
        failed = [line for line in lines if line["error"]]
        expect(0 < len(failed) < 20, f"{len(failed)} of 20 segments failed")
        expect(all(line["error"] == f"{gone}: not flushed within 15 s" for line in failed), f"errors: {failed[0]['error']}")
        expect_equal((summary["failures"], summary["segments"]), (len(failed), 20), "counts of the summary")
        expect_equal(len(json.loads(f"[{self.recipe('failed', lines).replace('}' + chr(10) + '{', '},{')}]")), len(failed),
                     "failures by Klio's recipe")
        expect(summary["seconds"] < 60, f"the run took {summary['seconds']} s")
        lab.guest(gone).run("systemctl", "start", "postgresql.service")
        lab.wait_for_streaming()

    @scenario("a standby refuses to play; two runs at a time are refused; an interrupt ends a run with a summary")
    def refused(self):
        lab = self.lab
        try:
            lab.guest(lab.replicas[0]).run("virtwork-wal-player")
        except CommandFailed as error:
            expect("status 2" in str(error) and "is a standby" in str(error), str(error))
        else:
            raise AssertionError("a standby plays")
        output = self.in_data(lab.primary, """
            virtwork-wal-player --length 50 --rate 8MB >/tmp/run.txt 2>&1 & first=$!
            sleep 3
            virtwork-wal-player --length 1 2>&1 && exit 1
            kill -INT $first
            wait $first || echo "status $?"
            cat /tmp/run.txt""")
        expect("another run is under way" in output and "status 1" in output, output)
        lines = output.splitlines()
        expect(lines[-1].startswith('{"signal": "wal-run"'), f"the last line is no summary: {output}")
        summary = json.loads(lines[-1])
        expect_equal((summary["signal"], summary["stoppedBecause"]), ("wal-run", "interrupted"), "the last line")
