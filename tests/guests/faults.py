#!/usr/bin/python3
"""Does to the ledger's program what nobody does to a database in good order, and compares what it says then.

    tests/guests/faults.py [STORY…]        needs root, PostgreSQL's server, nft

As tests/guests/ledger.py, whose servers and namespaces it takes.
"""

import contextlib
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import ledger as lib  # noqa: E402
from ledger import RECORDS, Ledger, Server, expect_equal, run, service, wait_for  # noqa: E402

PATHS = ("service", "hosts")
FIRST, SECOND = (Server(name) for name in lib.NODES)


def begin():
    run("rm", "-rf", RECORDS, f"{RECORDS}.previous")
    ledger = Ledger(rate=20)
    ledger.answers()
    ledger.writes()
    return ledger


def nothing_lost(ledger):
    for path, line in ledger.verify().items():
        expect_equal((line["lost"], line["duplicated"]), (0, 0), f"{path}: lost, duplicated")


def set_up(server, name, value):
    server.sql(f"ALTER SYSTEM SET {name} = '{value}'")
    server.sql("SELECT pg_reload_conf()")


def reset(server, name):
    server.sql(f"ALTER SYSTEM RESET {name}")
    server.sql("SELECT pg_reload_conf()")


def cancelled_by_a_person():
    """A commit that waits for a standby, and is cancelled, is no acknowledgement: no standby has it."""
    ledger = begin()
    set_up(FIRST, "synchronous_standby_names", "nobody")
    wait_for("commits wait", lambda: FIRST.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") >= "2")
    time.sleep(0.5)
    before = {path: ledger.status()["paths"][path]["acknowledged"] for path in PATHS}
    FIRST.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    time.sleep(1)
    after = {path: ledger.status()["paths"][path]["acknowledged"] for path in PATHS}
    reset(FIRST, "synchronous_standby_names")
    ledger.writes()
    told = ledger.verify()
    ledger.stop()
    expect_equal(after, before, "acknowledged, after commits that waited were cancelled")
    assert all(line["inDoubt"]["committed"] for line in told.values()), told


def idle_sessions_end():
    """A setting that ends sessions which rest ends none of the ledger's."""
    set_up(FIRST, "idle_session_timeout", "300ms")
    run("rm", "-rf", RECORDS)
    ledger = Ledger(rate=1)
    ledger.answers()
    time.sleep(8)
    failures = {path: ledger.status()["paths"][path]["failure"] for path in PATHS}
    totals = {path: ledger.status()["paths"][path]["inDoubt"] for path in PATHS}
    ledger.stop()
    reset(FIRST, "idle_session_timeout")
    expect_equal(failures, dict.fromkeys(PATHS), f"failures; {totals}")


def own_disk_full():
    """It says so in a line, dies, and goes on when there is room: with new ids."""
    run("rm", "-rf", RECORDS)
    RECORDS.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", RECORDS)
    try:
        ledger = begin_here()
        filler = RECORDS / "filler"
        with contextlib.suppress(OSError), open(filler, "wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        expect_equal(ledger.process.wait(20), 1, "its status")
        log = (lib.WORK / "log").read_text()
        assert log.rstrip().splitlines()[-1].startswith("failed: the ledger's own disk: "), log[-400:]
        again = subprocess.run(["/usr/local/sbin/virtwork-ledger", "run"], capture_output=True, text=True, timeout=20)
        expect_equal(again.returncode, 1, "its status on a full disk")
        assert "Traceback" not in again.stderr and "No space left" in again.stderr, again.stderr
        filler.unlink()
        ledger = begin_here()
        nothing_lost(ledger)
        ledger.stop()
    finally:
        run("umount", RECORDS)


def begin_here():
    ledger = Ledger(rate=20)
    ledger.answers()
    ledger.writes()
    return ledger


def tables_gone():
    """What is emptied is lost; what is dropped is made again."""
    ledger = begin()
    for statement in ("TRUNCATE virtwork.ledger", "DROP TABLE virtwork.ledger", "DROP SCHEMA virtwork CASCADE",
                      "DROP INDEX virtwork.ledger_ids"):
        known = {path: ledger.verify()[path]["lost"] for path in PATHS}
        FIRST.sql(statement, "pgbench")
        ledger.writes()
        told = ledger.verify()
        for path in PATHS:
            assert (told[path]["lost"] > known[path]) == ("INDEX" not in statement), (statement, told[path])
    known = {path: ledger.verify()[path]["acknowledged"] for path in PATHS}
    FIRST.sql("DROP DATABASE pgbench WITH (FORCE)")
    time.sleep(2)
    FIRST.sql("CREATE DATABASE pgbench OWNER pgbench")
    ledger.writes()
    told = ledger.verify()
    for path in PATHS:
        assert told[path]["lost"] >= known[path], told[path]
    ledger.stop()


ODD = {"datestyle": "German, DMY", "intervalstyle": "iso_8601", "timezone": "Asia/Kathmandu", "bytea_output": "escape",
       "extra_float_digits": "0", "statement_timeout": "20ms", "lock_timeout": "20ms", "search_path": "nowhere",
       "default_transaction_isolation": "serializable", "log_statement": "all", "client_min_messages": "debug1",
       "standard_conforming_strings": "off", "array_nulls": "off", "enable_tidscan": "off", "quote_all_identifiers": "on"}


def odd_settings():
    """Whatever the config sets for sessions: times are what they are, and nothing is given up."""
    for name, value in ODD.items():
        set_up(FIRST, name, value)
    service(FIRST)
    SECOND.clone(FIRST)
    set_up(SECOND, "default_transaction_isolation", "serializable")
    ledger = begin()
    line = wait_for("it reads", lambda: [line for line in ledger.signals("ledger") if line["reads"]["count"]])[-1]
    assert 0 <= line["reads"]["staleness_ms"] < 5000, line["reads"]
    nothing_lost(ledger)
    failures = {path: line["paths"][path]["failures"] for path in PATHS}
    FIRST.sql("DELETE FROM virtwork.ledger WHERE id < 20", "pgbench")
    time.sleep(1)
    told = ledger.verify()
    ledger.stop()
    SECOND.kill()
    for name in ODD:
        reset(FIRST, name)
    expect_equal(failures, dict.fromkeys(PATHS, 0), "failures")
    for path, line in told.items():
        assert line["lost"] >= 15 and line["lostFrom"].startswith(time.strftime("%Y-%m-%d", time.gmtime())), line


def no_connections():
    """A server that takes nobody more: a gap, and its reason."""
    ledger = begin()
    FIRST.sql("ALTER ROLE pgbench CONNECTION LIMIT 0")
    FIRST.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgbench'")
    time.sleep(3)
    FIRST.sql("ALTER ROLE pgbench CONNECTION LIMIT -1")
    ledger.writes()
    for path in PATHS:
        gap = ledger.signals("ledger-gap", path=path)[-1]
        assert 2.5 < gap["seconds"] < 5, gap
    nothing_lost(ledger)
    ledger.stop()


def ends_in_time():
    """SIGTERM, whatever the server does."""
    for state in ("frozen", "waits for a standby"):
        ledger = begin()
        if state == "frozen":
            FIRST.signal(signal.SIGSTOP)
        else:
            set_up(FIRST, "synchronous_standby_names", "nobody")
        time.sleep(3)
        began = time.monotonic()
        ledger.stop()
        took = time.monotonic() - began
        print(f"  {state}: {took:.1f} s")
        FIRST.signal(signal.SIGCONT)
        reset(FIRST, "synchronous_standby_names")
        assert took < 9, f"{state}: {took} s"


def two_databases():
    """One path leads to a database of another identity: an accident of the network, and no reason to forget the other one."""
    ledger = begin()
    name = ledger.status()["ledger"]
    SECOND.initialise()
    service(SECOND)
    FIRST.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgbench'")
    time.sleep(12)
    now = ledger.status()
    events = ledger.signals("ledger-database")
    service(FIRST)
    ledger.writes()
    ledger.stop()
    SECOND.kill()
    expect_equal(now["ledger"], name, f"the ledger; told: {events}")
    assert now["paths"]["service"]["seconds"] > 8, now
    expect_equal(now["paths"]["hosts"]["failure"], None, "the other path")


def older_image():
    """A promotion, then all is put back to before it: what came since is lost, and is told."""
    SECOND.clone(FIRST)
    ledger = begin()
    run("cp", "-a", FIRST.data, f"{FIRST.data}.image")
    FIRST.kill()
    SECOND.sql("SELECT pg_promote()")
    service(SECOND)
    ledger.writes()
    nothing_lost(ledger)
    wait_for("it knows the timeline", lambda: ledger.status()["timeline"] > 1)
    SECOND.kill()
    run("rm", "-rf", FIRST.data)
    run("mv", f"{FIRST.data}.image", FIRST.data)
    with contextlib.suppress(OSError):
        (FIRST.data / "postmaster.pid").unlink()
    service(FIRST)
    FIRST.start()
    ledger.writes()
    lines = wait_for("it compares", lambda: [line for line in ledger.signals("ledger-verify") if line["newlyLost"]], 90)
    print(f"  {[(line['path'], line['newlyLost'], line['timeline']) for line in lines]}")
    expect_equal({line["timeline"] for line in lines}, {1}, "timeline")
    ledger.stop()


def own_image():
    """The client's disk is put back to an older state: it begins anew, and no number is used again."""
    ledger = begin()
    name = ledger.status()["ledger"]
    ledger.stop()
    run("cp", "-a", RECORDS, f"{RECORDS}.image")
    ledger = begin_here()
    wait_for("more ids than were reserved", lambda: ledger.status()["paths"]["hosts"]["acknowledged"] > 1100, 60)
    ledger.stop()
    run("rm", "-rf", RECORDS)
    run("mv", f"{RECORDS}.image", RECORDS)
    ledger = begin_here()
    nothing_lost(ledger)
    assert ledger.status()["ledger"] != name, name
    expect_equal(FIRST.sql(f"SELECT count(*) FROM virtwork.ledger WHERE ledger = '{name}'", "pgbench"), "0", "rows of before")
    ledger.stop()


def never_compared():
    """Where nothing can be compared the disk does not fill up."""
    run("rm", "-rf", RECORDS)
    ledger = Ledger(rate=1000, retain=3000)
    ledger.answers()
    FIRST.sql("ALTER TABLE virtwork.ledger OWNER TO postgres; GRANT INSERT ON virtwork.ledger TO pgbench", "pgbench")
    wait_for("it writes", lambda: ledger.status()["paths"]["hosts"]["acknowledged"] > 70000, 150)
    kept = len(list(RECORDS.glob("ledger.[0-9]*")))
    FIRST.sql("ALTER TABLE virtwork.ledger OWNER TO pgbench", "pgbench")
    nothing_lost(ledger)
    ledger.stop()
    assert kept <= 3, kept


def thread_dies():
    """What nobody expected in a thread ends the program."""
    pathlib.Path("/etc/virtwork/lab.env").write_text("LAB=db\nREPLICA_COUNT=1\n")
    program = "import sys, threading, time; sys.path.insert(0, '/usr/local/lib/virtwork'); import lab; " \
              "threading.Thread(target=lambda: 1 / 0, daemon=True).start(); time.sleep(5)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    expect_equal((done.returncode, "ZeroDivisionError" in done.stderr), (1, True), f"status of a program: {done.stderr}")


STORIES = (thread_dies, cancelled_by_a_person, idle_sessions_end, own_disk_full, tables_gone, odd_settings, no_connections, ends_in_time, two_databases,
           older_image, own_image, never_compared)


def stories(wanted):
    program = pathlib.Path("/usr/local/sbin/virtwork-ledger")
    text = program.read_text()
    program.write_text(text.replace("ANOTHER, RESTORED = 30.0, 300.0", "ANOTHER, RESTORED = 15.0, 15.0"))
    assert program.read_text() != text
    service(FIRST)
    FIRST.initialise()
    for story in STORIES:
        if not wanted or story.__name__ in wanted:
            yield story.__name__.replace("_", " "), story


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        lib.inside(lambda: stories(sys.argv[2:]))
    else:
        sys.exit(lib.outside(__file__, *sys.argv[1:]))
