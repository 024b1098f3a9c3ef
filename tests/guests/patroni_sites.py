#!/usr/bin/python3
"""What becomes of a site under Patroni by the config that a node starts with, by what etcd has and by what the other site says:
the decisions of templates/patroni/virtwork-etcd.py, without etcd and without any server."""

import json
import pathlib
import subprocess
import sys
import tempfile
import types

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SITE = {"host": "west.example.com", "port": 5432, "primary_slot_name": "east", "create_replica_methods": ["virtwork"]}
GONE = "connection to server failed: Connection refused"


class Node:
    """The program on a node of the lab `east`, with a timeline of its own; `state` is the other site's, and `later` what follows on
    that; `received` whether all of its WAL is here, `mark` whether the archive takes a mark of the site, or the one that it has,
    `shutdown` whether the WAL here ends with one. `histories` are those of the timelines of both, `took_over` is etcd's note."""

    def __init__(self, directory, promote="no", state=("primary", 1), timeline=1, received=True, mark=False, later=(),
                 shutdown=False, histories=("", "1 0/3000000"), note=None, took_over=None):
        self.said, self.asked = [], []
        lab = types.ModuleType("lab")
        lab.NODE, lab.ETCD_NODES = "east-node-0", ["east-node-0"]
        lab.LAB = {"LAB": "east", "UPSTREAM_PROMOTE": promote, "UPSTREAM_HOST": SITE["host"], "UPSTREAM_PORT": "5432"}
        lab.log = self.said.append
        tls = types.ModuleType("tls")
        tls.ask = lambda host, port, path, seconds: self.settings
        sys.modules["lab"], sys.modules["tls"] = lab, tls
        text = (REPOSITORY / "templates/patroni/virtwork-etcd.py").read_text()
        text = text.replace("def data_mount() -> pathlib.Path:\n", f"def data_mount() -> pathlib.Path:\n    return pathlib.Path({directory!r})\n")
        self.program = types.ModuleType("program")
        exec(compile(text.removesuffix("main()\n"), "virtwork-etcd.py", "exec"), self.program.__dict__)
        states = iter([state, *later])
        self.program.facts = lambda site: next(states, (later or [state])[-1])
        self.program.own_timeline = lambda: timeline
        self.program.ask = lambda site, statement: histories[1] if "history" in statement else self.asked.append(statement) or "0/5000000"
        self.program.local = lambda statement: "7" if "system_identifier" in statement else "t" if received else "f"
        self.program.own_history = lambda own: self.program.forks(histories[0])
        self.ends_with_shutdown = self.program.ends_with_shutdown
        self.program.ends_with_shutdown = lambda since: shutdown
        self.program.has_database = lambda: True
        self.settings = {name: value for name, value in (("virtwork_outlasts", note), ("virtwork_took_over", took_over)) if value}
        self.program.settings_there = lambda: self.settings
        self.program.change_settings = lambda change: self.settings.update(settings=change(self.settings))
        self.program.time = types.SimpleNamespace(sleep=lambda seconds: None)
        self.program.MARK = pathlib.Path(directory, "site-mark" if mark else "nowhere")
        if mark:
            read = f"echo '{json.dumps(mark)}'" if isinstance(mark, dict) else "exit 1"
            self.program.MARK.write_text(f'#!/bin/sh\n[ "$1" = write ] && echo "$4" >>{directory}/marks || {read}\n')
            self.program.MARK.chmod(0o755)

    def decides(self, there, wanted):
        """The settings afterwards, or what speaks against it."""
        try:
            return self.program.merge(there, {"ttl": 30, **self.program.site_settings(there, wanted)})
        except ValueError as error:
            return str(error)


def leaves_out(place):
    """The histories that a server finds which is promoted."""
    for what, timeline, took_over, histories, expected in (
            ("a site that took over without a proof", 5, 22, "1\t0/3000000\n4\t0/9000000", range(6, 22)),
            ("on its first timeline", 1, 4, "", (2, 3)),
            ("a site that took over with a proof", 5, 6, "1\t0/3000000", ()),
            ("a failover later", 22, 22, "1\t0/3000000", ()),
            ("a site that never took over", 5, None, "1\t0/3000000", ())):
        for mode in ("on", "off"):
            with tempfile.TemporaryDirectory(dir=place) as directory:
                wal = pathlib.Path(directory, "pg_wal")
                (wal / "archive_status").mkdir(parents=True)
                (wal / f"{timeline:08X}.history").write_text(histories)
                node = Node(directory, timeline=timeline, took_over=took_over, histories=(histories, ""))
                node.program.local = lambda statement: directory if "data_directory" in statement else mode
                node.program.leave_out()
                found = {path.name for path in wal.glob("*") if path.is_file()} - {f"{timeline:08X}.history"}
                assert found == {f"{number:08X}.history" for number in expected}, f"{what}: {found}"
                archives(node, wal / "archive_status", sorted(found) if mode == "on" else [], took_over)
                for name in found:
                    before = [line.split("\t")[:2] for line in histories.splitlines()]
                    lines = [line.split("\t") for line in (wal / name).read_text().splitlines()]
                    # None that a server goes on with which is on that timeline: it is past the position.
                    assert [line[:2] for line in lines] == [*before, [str(timeline), before[-1][1] if before else "0/1000000"]], lines
                    assert all(len(line) == 3 for line in lines), lines
                starts(directory)
                assert {path.name for path in wal.glob("*") if path.is_file()} == {f"{timeline:08X}.history"}, what
                assert not list((wal / "archive_status").iterdir())
        print(f"passed: {what} leaves out {len(expected)} timelines, and none that nothing followed on")
    with tempfile.TemporaryDirectory(dir=place) as directory:
        wal = pathlib.Path(directory, "pg_wal")
        (wal / "archive_status").mkdir(parents=True)
        node = Node(directory, timeline=5, took_over=9, histories=("1\t0/3000000", ""))
        node.program.local = lambda statement: directory if "data_directory" in statement else "on"
        (wal / "00000007.history").write_text("1\t0/3000000\treal\n")
        node.program.leave_out()
        assert (wal / "00000007.history").read_text() == "1\t0/3000000\treal\n"
        (wal / "00000009.history").write_text("5\t0/A000000\tno recovery target specified\n")
        starts(directory)
        assert len(list(wal.glob("*.history"))) == 4, list(wal.iterdir())
        print("passed: those that a timeline followed on stay, as do those that are real")
        # Nothing that goes wrong keeps Patroni from promoting.
        node.program.lab.log = node.said.append
        node.program.leave_out = lambda: 1 / 0
        sys.argv[1:], argv = ["leave-out"], sys.argv[1:]
        node.program.main()
        sys.argv[1:] = argv
        node.program.signal.alarm(0)
        assert "not all timelines are left out" in node.said[-1], node.said
        print("passed: whatever fails, the promotion goes on")


def archives(node, status, names, took_over):
    """All but the first one, and that when they and the one that followed are archived."""
    for expected, real in ((names[1:], ""), (names[1:], ""), (names, "done")):
        if names and real:
            (status / f"{took_over:08X}.history.done").touch()
        node.program.archive_left_out()
        found = {path.stem for path in status.iterdir() if path.stem in names}
        assert found == set(expected), (found, expected)
        for path in status.glob("*.ready"):
            path.rename(path.with_suffix(".done"))
    for path in status.glob(f"{took_over or 0:08X}.*"):
        path.unlink()


def starts(directory):
    """As Patroni starts a server."""
    text = (REPOSITORY / "templates/patroni/virtwork-postgres.sh").read_text()
    family = pathlib.Path(directory, "family.sh")
    family.write_text(f"binary_directory() {{ echo {directory}; }}\n")
    pathlib.Path(directory, "postgres").write_text("#!/bin/sh\n")
    pathlib.Path(directory, "postgres").chmod(0o755)
    subprocess.run(["bash", "-c", text.replace("/usr/local/lib/virtwork/family.sh", str(family)), "postgres", "-D", directory, "--config-file=x"],
                   check=True)


def steps_aside(directory):
    """What becomes of a node's data before its server starts."""
    followed = {"standby_cluster": SITE}
    branched = {"histories": ("1 0/3000000", "1 0/2000000\n2 0/4000000"), "state": ("primary", 3)}
    plain = {"histories": ("1 0/3000000", "1 0/3000000\n2 0/4000000"), "state": ("primary", 3)}
    later = {"histories": ("1 0/3000000", "1 0/3000000\n2 0/4000000\n3 0/5000000"), "state": ("primary", 4)}
    gone = {"state": (GONE, 0)}
    compared = pathlib.Path(directory, "virtwork.compared")

    def starts_with(conditions, own, minimum=0, touched=False):
        """Whether the data is set aside; or why it waits."""
        node = Node(directory, timeline=own, **{"histories": ("1 0/3000000", ""), **conditions})
        node.settings = followed
        node.program.control = lambda label: "7" if "identifier" in label else str(minimum if label.startswith("Min") else own)
        done = []
        node.program.in_shell = lambda command: done.append(command)
        node.program.connection = lambda site: {"host": site["host"]}
        node.program.WITHOUT_COMPARISON = pathlib.Path(directory if touched else "/nowhere")
        try:
            node.program.step_aside()
        except ValueError as error:
            return str(error)
        return any("virtwork-rejoin.py aside" in command for command in done)

    def runs_with(conditions, own):
        """Beside a server that streams."""
        node = Node(directory, timeline=own, **conditions)
        node.settings = followed
        node.program.control = lambda label: "7"
        node.program.keep_comparison()

    for what, run, expected in (
            ("the other site is gone, and nothing was compared", lambda: starts_with(gone, 2), "touch"),
            ("the same with a person's word", lambda: starts_with(gone, 2, touched=True), False),
            ("the other site's timeline began elsewhere", lambda: starts_with(branched, 2), True),
            ("that proves nothing", lambda: starts_with(gone, 2), "touch"),
            ("the other site's has the same beginning", lambda: starts_with(plain, 2), False),
            ("then the other site is gone", lambda: starts_with(gone, 2), False),
            ("but the data is of another timeline", lambda: starts_with(gone, 3), "touch"),
            ("or was promoted just before", lambda: starts_with(gone, 2, minimum=3), "touch"),
            ("the other site begins another timeline", lambda: runs_with(later, 3) or starts_with(
                {**gone, "histories": ("1 0/3000000\n2 0/4000000", "")}, 3), False),
            ("or had one of that number that began elsewhere", lambda: starts_with(
                {**gone, "histories": ("1 0/3000000\n2 0/4500000", "")}, 3), "touch"),
            ("the note is of no use", lambda: compared.write_text("{") and starts_with(gone, 2), "touch"),
            ("a new copy streams", lambda: compared.unlink() or runs_with(plain, 2) or starts_with(gone, 2), False)):
        found = run()
        assert expected in found if isinstance(expected, str) and isinstance(found, str) else found is expected, f"{what}: {found}"
        print(f"passed: before a start: {what}")


def main():
    stopped = {"standby_cluster": {"restore_command": "/bin/false", "create_replica_methods": ["virtwork"]}, "virtwork": "west on timeline 2"}
    follows = {"standby_cluster": SITE}
    plain = {}
    proven = {"virtwork_took_over": 2}
    outlasts = {"virtwork_took_over": 18, "virtwork_outlasts": {"host": SITE["host"], "port": 5432}}
    mark = {"site": "west", "system": "7", "timeline": 7}
    cases = [
        ("a lab that has no other site", {}, plain, None, plain),
        ("another address of the other site", {}, {"standby_cluster": {**SITE, "host": "old"}}, SITE, follows),
        ("`upstream` removed", {}, follows, None, follows),
        ("promoted while the other site goes on", {"promote": "yes"}, follows, SITE, "still is a primary"),
        ("promoted: the other site stops, and comes back", {"promote": "yes", "later": [(GONE, 0), ("stopped", 1)]}, follows, SITE, proven),
        ("promoted: the other site stops, and is away for a moment", {"promote": "yes", "shutdown": True, "later": [
            ("primary", 1), (GONE, 0), (GONE, 0), ("stopped", 1)]}, follows, SITE, proven),
        ("promoted: it has gone on with another timeline when it stops", {"promote": "yes", "later": [("stopped", 2)]}, follows, SITE,
         "still is a stopped"),
        ("promoted when it has stopped on another one", {"promote": "yes", "state": ("stopped", 2)}, follows, SITE, "has not arrived here"),
        ("promoted: the other site stops for good", {"promote": "yes", "later": [("primary", 1), (GONE, 0)], "shutdown": True}, follows, SITE,
         outlasts),
        ("promoted: the other site is gone before its last WAL is here", {"promote": "yes", "later": [("primary", 1), (GONE, 0)]}, follows,
         SITE, "may be missing"),
        ("promoted: the other site has a standby as its leader for a moment", {"promote": "yes", "state": ("standby", 1)}, follows, SITE,
         "is a standby"),
        ("promoted: the same after it was asked", {"promote": "yes", "later": [("standby", 1), ("primary", 1)]}, follows, SITE,
         "still is a primary"),
        ("promoted when the other site has stopped", {"promote": "yes", "state": ("stopped", 1)}, follows, SITE, proven),
        ("promoted before all has arrived", {"promote": "yes", "state": ("stopped", 1), "received": False}, follows, SITE, "has not arrived here"),
        ("promoted when the other site is gone", {"promote": "yes", "state": (GONE, 0)}, follows, SITE, "nothing proves"),
        ("the same where the archive takes a mark", {"promote": "yes", "state": (GONE, 0), "mark": True}, follows, SITE, outlasts),
        ("the same where it has one of another site", {"promote": "yes", "state": (GONE, 0), "mark": mark}, follows, SITE, "let it follow first"),
        ("the same where that is not newer", {"promote": "yes", "state": (GONE, 0), "mark": {**mark, "timeline": 1}}, follows, SITE, outlasts),
        ("the same where that is of other data", {"promote": "yes", "state": (GONE, 0), "mark": {**mark, "system": "8"}}, follows, SITE, outlasts),
        ("`upstream` given to a site that takes writes", {}, plain, SITE, plain),
        ("the same when the other site has gone on", {"state": ("primary", 2)}, plain, SITE, follows),
        ("the same when it has gone on from a second timeline", {"state": ("primary", 3), "timeline": 2,
                                                    "histories": ("1 0/3000000", "1 0/3000000\n2 0/4000000")}, plain, SITE, follows),
        ("the same when it has gone on from before", {"state": ("primary", 3), "timeline": 2,
                                                      "histories": ("1 0/3000000", "1 0/2000000\n2 0/4000000")}, plain, SITE, plain),
        ("the same when that is a standby", {"state": ("standby", 2)}, plain, SITE, plain),
        ("a promoted site by a config that says so", {"promote": "yes", "state": ("primary", 2)}, plain, SITE, plain),
        ("a site that had to stop, by its old config", {}, stopped, None, stopped),
        ("the same with an `upstream`", {}, stopped, SITE, follows),
        ("the same with one whose timeline of that number is another", {"state": ("primary", 3), "timeline": 2, "histories": (
            "1 0/3000000", "1 0/2000000\n2 0/4000000")}, stopped, SITE, "began elsewhere"),
        ("the same with one that has none of that number", {"state": ("primary", 3), "timeline": 4, "histories": (
            "1 0/3000000\n3 0/4000000", "1 0/2000000\n2 0/4000000")}, stopped, SITE, follows),
        ("the same with one that takes no writes yet", {"state": ("standby", 1)}, stopped, SITE, "takes no writes yet"),
        ("the same with `promote: true`", {"promote": "yes"}, stopped, SITE, stopped),
    ]
    with tempfile.TemporaryDirectory() as directory:
        for what, conditions, there, wanted, expected in cases:
            found = Node(directory, **conditions).decides(there, wanted)
            if isinstance(expected, str):
                assert expected in str(found), f"{what}: {found}, expected {expected!r}"
            else:
                assert found == {"ttl": 30, **expected}, f"{what}: {found}, expected {expected}"
            print(f"passed: {what}")
        for what, conditions, expected in (
                ("a site that comes back and takes writes is asked to stop", {"timeline": 2}, ["SELECT virtwork.yield_to('east', 2)"]),
                ("one with the same number is not", {"timeline": 1}, []),
                ("it is, where this site took over without a proof", {"timeline": 2, "state": ("primary", 4), "note": SITE},
                 ["SELECT virtwork.yield_to('east', 5)"])):
            node = Node(directory, **conditions)
            node.program.outlast()
            assert node.asked == expected, f"{what}: {node.asked}"
            print(f"passed: {what}")
        for state, is_over in ((("stopped", 4), True), (("standby", 1), False), (("standby", 2), True), ((GONE, 0), False)):
            node = Node(directory, state=state, timeline=2, note=SITE, histories=("1 0/3000000", "1 0/3000000"))
            node.program.outlast()
            assert ("settings" in node.settings) == is_over and not node.settings.get("settings"), (state, node.settings)
        print("passed: until it has stopped, or follows; a standby may be about to lead")
        branched = Node(directory, state=("standby", 2), timeline=2, note=SITE, histories=("1 0/3000000", "1 0/2000000"))
        branched.program.outlast()
        assert "settings" not in branched.settings
        print("passed: one of another timeline of that number may, too")
        for what, mark, took_over, is_obeyed in (
                ("another site's", ("west", "7", 4), None, True), ("its own", ("east", "7", 9), None, False),
                ("one of other data", ("west", "8", 9), None, False), ("an older one, on a timeline of a high number", ("west", "7", 4), 5, False),
                ("one since it took over", ("west", "7", 6), 5, True)):
            node = Node(directory, took_over=took_over)
            node.program.obey(mark, "7", 8)
            assert ("settings" in node.settings) == is_obeyed, f"{what}: {node.settings}"
            print(f"passed: a mark that is {what}{' stops this site' if is_obeyed else ''}")
        for what, found, took_over, expected in (
                ("no demand", "", 5, []), ("a demand of a site", "west|6", None, ["west on timeline 6"]),
                ("one since this site took over", "west|6", 5, ["west on timeline 6"]), ("one of before", "west|5", 5, [])):
            node = Node(directory, took_over=took_over)
            noted = []
            node.program.local = lambda statement: noted.append(statement) if "INSERT" in statement else found
            node.program.yields("9")
            assert [node.settings["settings"]["virtwork"]] == expected if "settings" in node.settings else not expected, f"{what}: {node.settings}"
            assert bool(noted) == (what == "one of before"), noted
            print(f"passed: {what}")
        for timeline, expected in ((6, 6), (22, None), (23, None)):
            node = Node(directory, took_over=22)
            node.program.keep_number(timeline)
            assert node.settings.get("settings", {}).get("virtwork_took_over") == expected, node.settings
        print("passed: a takeover whose timeline has a lower number is known by that")
        node = Node(directory, state=("stopped", 1))
        answers = iter([None, False, True])

        def has_all_of(site):
            if (answer := next(answers)) is None:
                raise ValueError(GONE)
            return answer

        node.program.has_all_of = has_all_of
        assert node.program.wait_until_stopped(SITE, False, "0/5000000")
        print("passed: a site that comes back, and whose Service leads nowhere for a moment")
        node = Node(directory, received=False)
        assert not node.ends_with_shutdown("0/5000000")
        print("passed: a shutdown before the demand proves nothing")
        # By force: beyond what it was asked to stop for, and beyond the archive's mark.
        for conditions, note, expected in (({}, "", 18), ({}, "west on timeline 9", 26), ({"mark": {"site": "west", "system": "7", "timeline": 30}}, "", 47)):
            node = Node(directory, state=(GONE, 0), **conditions)
            found = node.program.promotion({} if note else SITE, True, note)
            assert found["virtwork_took_over"] == expected, found
        assert pathlib.Path(directory, "marks").read_text().split()[-1] == "47"
        print("passed: a takeover by force has a number of its own, and the mark says the same")
        assert Node(directory, state=("stopped", 1), received=False).program.promotion(SITE, True)["virtwork_outlasts"]
        leaves_out(directory)
        steps_aside(directory)
        kept = {"slots": {"west": {"type": "physical", "cluster_type": "primary"}}}
        node = Node(directory, state=("primary", 2))
        node.settings = dict(kept)
        node.program.stop_site("west", "2")
        found = node.settings["settings"]
        assert found == {**stopped, "slots": {"west": {"type": "physical"}}}, found
        assert Node(directory, state=("primary", 2)).decides(found, SITE) == {"ttl": 30, **follows, **kept}
        print("passed: a site that had to stop keeps the slot of the other one until it follows that")


main()
