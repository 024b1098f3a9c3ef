#!/usr/bin/python3
"""What becomes of a site under Patroni by the config that a node starts with, by what etcd has and by what the other site says:
the decisions of templates/patroni/virtwork-etcd.py, without etcd and without any server."""

import pathlib
import sys
import tempfile
import types

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SITE = {"host": "west.example.com", "port": 5432, "primary_slot_name": "east", "create_replica_methods": ["virtwork"]}
GONE = "connection to server failed: Connection refused"


class Node:
    """The program on a node of the lab `east`, with a timeline of its own; `state` is the other site's, and `later` what follows on
    that; `received` whether all of its WAL is here, `mark` whether the archive takes a mark of the site, `shutdown` whether the WAL
    here ends with one. `histories` are those of the timelines of both."""

    def __init__(self, directory, promote="no", state=("primary", 1), timeline=1, received=True, mark=False, later=(),
                 shutdown=False, histories=("", "1 0/3000000"), note=None):
        self.said, self.asked = [], []
        lab = types.ModuleType("lab")
        lab.NODE, lab.ETCD_NODES = "east-node-0", ["east-node-0"]
        lab.LAB = {"LAB": "east", "UPSTREAM_PROMOTE": promote, "UPSTREAM_HOST": SITE["host"], "UPSTREAM_PORT": "5432"}
        lab.log = self.said.append
        sys.modules["lab"], sys.modules["tls"] = lab, types.ModuleType("tls")
        text = (REPOSITORY / "templates/patroni/virtwork-etcd.py").read_text()
        text = text.replace("def data_mount() -> pathlib.Path:\n", f"def data_mount() -> pathlib.Path:\n    return pathlib.Path({directory!r})\n")
        self.program = types.ModuleType("program")
        exec(compile(text.removesuffix("main()\n"), "virtwork-etcd.py", "exec"), self.program.__dict__)
        states = iter([state, *later])
        self.program.facts = lambda site: next(states, (later or [state])[-1])
        self.program.own_timeline = lambda: timeline
        self.program.ask = lambda site, statement: histories[1] if "history" in statement else self.asked.append(statement) or "0/5000000"
        self.program.local = lambda statement: "t" if received else "f"
        self.program.own_history = lambda own: self.program.forks(histories[0])
        self.program.ends_with_shutdown = lambda: shutdown
        self.program.has_database = lambda: True
        self.settings = {"virtwork_outlasts": note} if note else {}
        self.program.settings_there = lambda: self.settings
        self.program.change_settings = lambda change: self.settings.update(settings=change(self.settings))
        self.program.time = types.SimpleNamespace(sleep=lambda seconds: None)
        self.program.MARK = pathlib.Path("/bin/true" if mark else "/nowhere")

    def decides(self, there, wanted):
        """The settings afterwards, or what speaks against it."""
        try:
            return self.program.merge(there, {"ttl": 30, **self.program.site_settings(there, wanted)})
        except ValueError as error:
            return str(error)


def main():
    stopped = {"standby_cluster": {"restore_command": "/bin/false", "create_replica_methods": ["virtwork"]}, "virtwork": "west on timeline 2"}
    follows = {"standby_cluster": SITE}
    plain = {}
    outlasts = {"virtwork_outlasts": {"host": SITE["host"], "port": 5432}}
    cases = [
        ("a lab that has no other site", {}, plain, None, plain),
        ("another address of the other site", {}, {"standby_cluster": {**SITE, "host": "old"}}, SITE, follows),
        ("`upstream` removed", {}, follows, None, follows),
        ("promoted while the other site goes on", {"promote": "yes"}, follows, SITE, "still is a primary"),
        ("promoted: the other site stops, and comes back", {"promote": "yes", "later": [(GONE, 0), ("stopped", 1)]}, follows, SITE, plain),
        ("promoted: the other site stops for good", {"promote": "yes", "later": [("primary", 1), (GONE, 0)], "shutdown": True}, follows, SITE,
         plain),
        ("promoted: the other site is gone before its last WAL is here", {"promote": "yes", "later": [("primary", 1), (GONE, 0)]}, follows,
         SITE, "may be missing"),
        ("promoted: the other site has a standby as its leader for a moment", {"promote": "yes", "state": ("standby", 1)}, follows, SITE,
         "is a standby"),
        ("promoted: the same after it was asked", {"promote": "yes", "later": [("standby", 1), ("primary", 1)]}, follows, SITE,
         "still is a primary"),
        ("promoted when the other site has stopped", {"promote": "yes", "state": ("stopped", 1)}, follows, SITE, plain),
        ("promoted before all has arrived", {"promote": "yes", "state": ("stopped", 1), "received": False}, follows, SITE, "has not arrived here"),
        ("promoted when the other site is gone", {"promote": "yes", "state": (GONE, 0)}, follows, SITE, "nothing proves"),
        ("the same where the archive takes a mark", {"promote": "yes", "state": (GONE, 0), "mark": True}, follows, SITE, outlasts),
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
        node = Node(directory, state=("stopped", 4), timeline=2, note=SITE)
        node.program.outlast()
        assert node.settings["settings"] == {}, node.settings
        print("passed: until it has stopped")
        kept = {"slots": {"west": {"type": "physical", "cluster_type": "primary"}}}
        node = Node(directory, state=("primary", 2))
        node.settings = dict(kept)
        node.program.stop_site("west", "2")
        found = node.settings["settings"]
        assert found == {**stopped, "slots": {"west": {"type": "physical"}}}, found
        assert Node(directory, state=("primary", 2)).decides(found, SITE) == {"ttl": 30, **follows, **kept}
        print("passed: a site that had to stop keeps the slot of the other one until it follows that")


main()
