#!/usr/bin/python3
"""Archives a PostgreSQL server of this machine to a store that speaks S3, with both tools, and to a directory; and makes others from that.

    tests/guests/archive.py VERSITYGW [pgbackrest|barman-cloud|posix]
                                needs root, PostgreSQL's server, pgbackrest, barman-cli-cloud, python3-boto3, openssl

All of it runs in namespaces of its own, which end with it: network, mounts and processes.
"""

import gzip
import http.server
import json
import os
import pathlib
import signal
import ssl
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import load  # noqa: E402
from load import AS_POSTGRES, BINARIES, DATA, REPOSITORY, WORK, expect, run, wait_for  # noqa: E402

RUN = pathlib.Path("/run/postgresql/virtwork.archive")
STORE = WORK / "store"
BUCKET = "archive"
SECRET = "Kor7/Secret+Key%of the store"
PROGRAM, TOOLS = "", ("pgbackrest", "barman-cloud", "posix")
MOUNT = pathlib.Path("/mnt/virtwork-archive")
tool = ""
processes = {}


def env(prefix, further=""):
    (pathlib.Path("/etc/virtwork") / "lab.env").write_text(f"""LAB=db
REPLICA_COUNT=0
ARCHIVE_TYPE={'posix' if tool == 'posix' else 's3'}
ARCHIVE_TOOL={'pgbackrest' if tool == 'posix' else tool}
ARCHIVE_HOST=s3.test
ARCHIVE_PORT=9443
ARCHIVE_REGION=eu-west-1
ARCHIVE_BUCKET={BUCKET}
ARCHIVE_PATH_STYLE=yes
ARCHIVE_CA=/etc/virtwork/archive-ca.crt
ARCHIVE_NFS=''
ARCHIVE_PREFIX={prefix}
ARCHIVE_MAX_PENDING={256 << 20}
ARCHIVE_FULL_EVERY=1
ARCHIVE_RETENTION=2
{further}""")


def archive(*words, host="db-primary-0", check=True):
    """The program, on a machine of that name."""
    done = subprocess.run(["unshare", "--uts", "sh", "-c", f'hostname {host}; exec /usr/local/sbin/virtwork-archive "$@"', "-",
                           *map(str, words)], capture_output=True, text=True)
    expect(not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}")
    return done


def signals(text, kind):
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in lines if line["signal"] == kind]


def journal():
    return (WORK / "archive.log").read_text()


def said(kind, since=0):
    return signals(journal()[since:], kind)


def start_service(data=DATA):
    archive("prepare", BINARIES, data)
    with open(WORK / "archive.log", "a") as log:
        processes["service"] = subprocess.Popen([*AS_POSTGRES, "/usr/local/sbin/virtwork-archive", "serve"], stdout=log, stderr=log)
    wait_for("the service runs", (RUN / "alive").exists)


def stop_service():
    processes["service"].kill()
    processes["service"].wait()


def restart_service(data=DATA):
    stop_service()
    start_service(data)


def contents():
    """Where the archive lies on this machine."""
    return STORE / "posix" if tool == "posix" else STORE / "data" / BUCKET


def start_store():
    if tool == "posix":
        run("mount", "--bind", STORE / "posix", MOUNT)
        return
    with open(WORK / "store.log", "a") as log:
        processes["store"] = subprocess.Popen(
            [PROGRAM, "--port", ":9443", "--region", "eu-west-1", "--cert", WORK / "s3.crt", "--key", WORK / "s3.key", "posix",
             STORE / "data"], stdout=log, stderr=log, cwd=WORK,
            env={"PATH": os.environ["PATH"], "HOME": str(WORK), "ROOT_ACCESS_KEY_ID": "BOOTACCESS", "ROOT_SECRET_ACCESS_KEY": SECRET})
    wait_for("the store answers", lambda: subprocess.run(
        ["openssl", "s_client", "-connect", "s3.test:9443"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0)


def stop_store():
    if tool == "posix":
        run("umount", "-l", MOUNT)
        return
    processes["store"].kill()
    processes["store"].wait()


def make_store():
    """On a disk of its own, by a CA of the test."""
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=CA of the test", "-keyout", WORK / "ca.key",
        "-out", "/etc/virtwork/archive-ca.crt")
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=s3.test", "-keyout", WORK / "s3.key", "-out", WORK / "s3.csr")
    (WORK / "san").write_text("subjectAltName=DNS:s3.test\n")
    run("openssl", "x509", "-req", "-in", WORK / "s3.csr", "-CA", "/etc/virtwork/archive-ca.crt", "-CAkey", WORK / "ca.key", "-days", "2",
        "-extfile", WORK / "san", "-out", WORK / "s3.crt")
    with open("/etc/hosts", "a") as hosts:
        hosts.write("127.0.0.1 s3.test\n")
    run("truncate", "-s", "1G", WORK / "disk.img")
    run("mke2fs", "-q", "-t", "ext4", "-m", "0", WORK / "disk.img")
    STORE.mkdir()
    run("mount", "-o", "loop", WORK / "disk.img", STORE)
    (STORE / "data" / BUCKET).mkdir(parents=True)
    run("install", "-d", "-o", "postgres", STORE / "posix")
    run("mount", "-t", "tmpfs", "tmpfs", "/mnt")
    MOUNT.mkdir()


def sql(statement, directory="/run/postgresql", user="postgres", database="postgres"):
    return run(f"{BINARIES}/psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-h", directory, "-U", user, "-d", database, "-c", statement)


def archived(seconds=120):
    """Until a segment that is closed now is in the archive."""
    file = sql("SELECT pg_walfile_name(pg_current_wal_lsn()) FROM pg_logical_emit_message(true, 'test', 'x')")
    sql("SELECT pg_switch_wal()")
    wait_for(f"{file} is archived", lambda: sql(f"SELECT last_archived_wal >= '{file}' FROM pg_stat_archiver") == "t", seconds)
    return file


def segments(count):
    for _ in range(count):
        sql("SELECT pg_logical_emit_message(true, 'test', 'x')")
        sql("SELECT pg_switch_wal()")


def waiting():
    return int(sql("SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"))


class Watch(threading.Thread):
    """Arguments of all processes, as anybody sees them."""

    def __init__(self):
        super().__init__(daemon=True)
        self.found = set()
        self.start()

    def run(self):
        while True:
            for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words = path.read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if SECRET in words:
                    self.found.add(words)
            time.sleep(0.02)


watch = None


def archives():
    archived()
    made = wait_for("the first base backup", lambda: said("archive-backup"), 180)
    expect(made[0]["result"] == "ok" and made[0]["type"] == "full", f"the first base backup: {made}")


def killed():
    """The service ends; nothing is lost, and what waits is archived when it is back."""
    stop_service()
    time.sleep(16)
    failed = int(sql("SELECT failed_count FROM pg_stat_archiver"))
    segments(2)
    wait_for("archiving fails", lambda: int(sql("SELECT failed_count FROM pg_stat_archiver")) > failed)
    start_service()
    archived()


def gone():
    """Away, then full: the server goes on, it is said once, and then the archive has all."""

    def fill():
        run("bash", "-c", 'free=$(df -k --output=avail "$1" | tail -n 1); fallocate -l $((free - 64))K "$1/ballast"', "-", STORE)

    for how, lose, bring in (("away", stop_store, start_store), ("full", fill, (STORE / "ballast").unlink)):
        since = len(journal())
        lose()
        segments(2)
        # what does not compress
        sql("CREATE TABLE IF NOT EXISTS noise AS SELECT 1 AS n, ''::bytea AS b")
        for _ in range(3):
            sql("INSERT INTO noise SELECT n, decode(string_agg(md5(random()::text), ''), 'hex') FROM generate_series(1, 1000) n, "
                "generate_series(1, 100) GROUP BY n")
            sql("SELECT pg_switch_wal()")
        told = wait_for(f"{how}: it is said", lambda since=since: said("archive-away", since), 150)
        sql("CREATE TABLE goes_on (n int); DROP TABLE goes_on")
        time.sleep(5)
        expect(len(said("archive-away", since)) == 1, f"{how}: said more than once: {told}")
        print(f"  {how}: {told[0]['reason']}", flush=True)
        bring()
        archived(180)
        wait_for(f"{how}: that it is back is said", lambda since=since: said("archive-back", since), 60)
        expect(waiting() <= 1, f"{how}: {waiting()} files still wait")
        sql("DROP TABLE noise")


def bounded():
    """More WAL than may wait goes without having been archived; a base backup follows."""
    env("db", f"ARCHIVE_MAX_PENDING={64 << 20}\n")
    restart_service()
    archived()
    since = len(journal())
    stop_store()
    segments(12)
    wait_for("a gap is said", lambda: said("archive-gap", since), 120)
    wait_for("no more waits than may", lambda: waiting() <= 5, 120)
    expect((WORK / "virtwork.archive/gap.json").exists(), "the gap is not noted")
    start_store()
    archived(180)
    wait_for("a base backup follows", lambda: [line for line in said("archive-backup", since) if line["result"] == "ok"], 240)
    expect(not (WORK / "virtwork.archive/gap.json").exists(), "the gap stays noted")
    env("db")
    restart_service()


def retention():
    for _ in range(2):
        sql("CREATE TABLE IF NOT EXISTS rows (n int); INSERT INTO rows SELECT generate_series(1, 100)")
        told = signals(archive("backup").stdout, "archive-backup")
        expect(told[0]["result"] == "ok", f"{told}")
    listed = archive("list").stdout.splitlines()
    expect(len(listed) == 2, f"kept: {listed}")
    # Nothing is left of a backup that nobody needs, WAL neither.
    print(f"  {listed}", flush=True)


def checked():
    expect(archive("check", host="db-other").stdout == "", "another node checks, too")
    told = signals(archive("check").stdout, "archive-check")
    expect(told[0]["result"] == "ok" and "pgbench" in told[0]["databases"], f"{told}")
    expect(not (WORK / "virtwork.archive/check").exists(), "the check leaves its copy")
    # The newest backup is damaged.
    files = sorted(path for path in (contents() / "db").rglob("*") if path.is_file()
                   and (path.name in ("data.tar.gz",) or "bundle" in str(path) or "pg_control" in path.name or path.name.startswith("PG_VERSION")))
    victim = max(files, key=lambda path: path.stat().st_mtime)
    content = victim.read_bytes()
    victim.write_bytes(content[:len(content) // 2])
    told = signals(archive("check", check=False).stdout, "archive-check")
    victim.write_bytes(content)
    expect(told[0]["result"] == "failed", f"of a damaged backup ({victim}): {told}")
    print(f"  damaged: {told[0]['reason']}", flush=True)
    # Both tools know a file by its attributes.
    archive("backup")


class Server:
    """Another one, made from the archive."""

    def __init__(self, directory):
        self.directory = directory
        run(*AS_POSTGRES, f"{BINARIES}/pg_ctl", "start", "-w", "-s", "-t", "120", "-D", directory, "-l", WORK / f"{directory.name}.log",
            "-o", f"-c listen_addresses= -c unix_socket_directories={directory} -c archive_mode=off -c fsync=off")

    def ask(self, statement, database="postgres"):
        return sql(statement, self.directory, database=database)

    def end(self):
        run(*AS_POSTGRES, f"{BINARIES}/pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", self.directory)
        run("rm", "-rf", self.directory)


def standby():
    """From the archive alone, and on from it."""
    system = sql("SELECT system_identifier FROM pg_control_system()")
    directory = WORK / "standby"
    done = archive("standby", directory, "", "1234", check=False)
    expect(done.returncode == 1 and "system identifier" in done.stderr, f"for another database: {done}")
    run("rm", "-rf", directory)
    archive("standby", directory, "", system)
    run(*AS_POSTGRES, "touch", directory / "standby.signal")
    with open(directory / "postgresql.auto.conf", "a") as conf:
        conf.write("restore_command = '/usr/local/sbin/virtwork-archive-command get %f %p'\n")
    follower = Server(directory)
    sql("CREATE TABLE followed AS SELECT 1 AS n")
    archived()
    wait_for("the standby has it", lambda: follower.ask("SELECT to_regclass('followed') IS NOT NULL") == "t", 60)
    name = sql("SELECT last_archived_wal FROM pg_stat_archiver")
    command = [*AS_POSTGRES, "/usr/local/sbin/virtwork-archive-command", "has"]
    expect(subprocess.run([*command, name, "/"]).returncode == 0, "the archive has not what it has")
    expect(subprocess.run([*command, "00000009000000990000000A", "/"]).returncode == 1, "the archive has what it has not")
    stop_store()
    expect(subprocess.run([*command, "00000009000000990000000B", "/"]).returncode == 2, "it is known although nobody answers")
    start_store()
    follower.end()


def as_replica(directory, command):
    """What a node of a lab says with the lab's own functions, on that data."""
    script = f""". /usr/local/lib/virtwork/lib.sh; . /usr/local/lib/virtwork/standby.sh
        PATH={BINARIES}:$PATH PGDATA={directory} PRIMARY_HOST=localhost; {command}"""
    done = subprocess.run(["unshare", "--uts", "bash", "-c", 'hostname db-replica-0; exec bash -c "$1"', "-", script],
                          capture_output=True, text=True)
    expect(done.returncode == 0, f"{command}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def lost_slot():
    """A standby whose slot is lost follows all the same where the archive has what is missing."""
    sql("ALTER SYSTEM SET max_slot_wal_keep_size = '32MB'")
    sql("SELECT pg_reload_conf(), pg_create_physical_replication_slot('db_replica_0', true)")
    sql("DO $$ BEGIN CREATE ROLE replicator LOGIN REPLICATION; EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT pg_monitor TO replicator")
    directory = WORK / "replica"
    archive("standby", directory, "", "any")
    run(*AS_POSTGRES, "touch", directory / "standby.signal")
    with open(directory / "postgresql.auto.conf", "a") as conf:
        conf.write("restore_command = '/usr/local/sbin/virtwork-archive-command get %f %p'\nprimary_slot_name = 'db_replica_0'\n"
                   "primary_conninfo = 'host=localhost user=replicator'\n")
    replica = Server(directory)
    streams = "SELECT count(*) = 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"
    wait_for("it streams", lambda: replica.ask(streams) == "t")
    run(*AS_POSTGRES, f"{BINARIES}/pg_ctl", "stop", "-w", "-s", "-m", "fast", "-D", directory)

    def is_lost():
        segments(4)
        sql("CHECKPOINT")
        return sql("SELECT wal_status FROM pg_replication_slots") == "lost"

    wait_for("the slot is lost", is_lost)
    archived()
    expect(as_replica(directory, "judge") == "follow slotless", f"with the archive: {as_replica(directory, 'judge')}")
    said = as_replica(directory, "ARCHIVE_TYPE=; judge")
    expect(said.startswith(("keep", "discard")) and "is lost" in said, f"without one: {said}")
    stop_store()
    restart_service()
    said = as_replica(directory, "judge")
    expect(said.startswith("wait") and "the archive does not answer" in said, f"while it is away: {said}")
    start_store()
    restart_service()
    as_replica(directory, "ensure_slot")
    expect(sql("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'db_replica_0'") != "lost", "the slot stays lost")
    replica = Server(directory)
    wait_for("it streams again", lambda: replica.ask(streams) == "t")
    replica.end()
    wait_for("the slot is free", lambda: sql("SELECT active FROM pg_replication_slots") == "f")
    sql("SELECT pg_drop_replication_slot('db_replica_0')")
    sql("ALTER SYSTEM RESET max_slot_wal_keep_size")
    sql("SELECT pg_reload_conf()")


def point_in_time():
    system = sql("SELECT system_identifier FROM pg_control_system()")
    sql("SELECT pg_create_restore_point('long ago')")
    archived()
    for _ in range(1):
        archive("backup")
    sql("CREATE TABLE precious AS SELECT generate_series(1, 1000) AS n")
    sql("SELECT pg_create_restore_point('precious')")
    time.sleep(0.1)
    moment = sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00')")
    position = sql("SELECT pg_current_wal_lsn()")
    time.sleep(0.1)
    sql("DROP TABLE precious")
    sql("CREATE TABLE later (n int)")
    archived()
    for target, value, has_precious in (("time", moment, "t"), ("lsn", position, "t"), ("name", "precious", "t"),
                                        ("name", "long ago", "f"), ("latest", "", "f")):
        env("other", f"RESTORE_FROM=db\nRESTORE_TARGET={target}\nRESTORE_VALUE='{value}'\n")
        # As on a node that has no data yet.
        restart_service(WORK / "none/main")
        directory, wal = WORK / "restored", WORK / "restored-wal"
        run("install", "-d", "-o", "postgres", "-m", "0700", wal)
        told = signals(archive("lab", directory, wal).stdout, "archive-restore")
        expect(told[0]["timeline"] > 1 and told[0]["target"] == target, f"{told}")
        expect((directory / "pg_wal").is_symlink() and not (directory / "recovery.signal").exists(), "what was made")
        restored = Server(directory)
        expect(restored.ask("SELECT pg_is_in_recovery()") == "f", "it is in recovery")
        expect(restored.ask("SELECT to_regclass('precious') IS NOT NULL") == has_precious, f"{target} {value}: precious")
        expect(restored.ask("SELECT to_regclass('later') IS NOT NULL") == ("t" if target == "latest" else "f"), f"{target}: later")
        expect(restored.ask("SELECT system_identifier FROM pg_control_system()") == system, "the system identifier")
        restored.ask("CREATE TABLE afterwards (n int)")
        restored.end()
        run("rm", "-rf", wal)
    for target, value, words in (("time", "2001-01-01 00:00:00+00", "no base backup that is older"), ("time", "2099-01-01 00:00:00Z", "ends before"),
                                 ("name", "never made", "ends before"), ("lsn", "FF/0", "ends before")):
        env("other", f"RESTORE_FROM=db\nRESTORE_TARGET={target}\nRESTORE_VALUE='{value}'\n")
        restart_service()
        done = archive("lab", WORK / "restored", "", check=False)
        expect(done.returncode == 78 and words in done.stderr, f"{target} {value}: {done}")
        run("rm", "-rf", WORK / "restored")
    env("db")
    restart_service()
    archived()


def another_database():
    """Nobody archives over what is another's."""
    since = len(journal())
    run("bash", "-c", 'f=$(find "$1" -name virtwork-archive.json); sed -i "s/\\"system\\": \\"[0-9]*/\\"system\\": \\"42/" "$f"', "-", contents() / "db")
    restart_service()
    segments(1)
    told = wait_for("it is refused", lambda: said("archive-away", since), 60)
    expect("another database" in told[0]["reason"], f"{told}")
    run("bash", "-c", 'find "$1" -name virtwork-archive.json -delete', "-", contents() / "db")
    archived()


def claim_file():
    return contents() / "db/virtwork-archive.json"


def ask(kind, name, path="/"):
    """What PostgreSQL's commands end with."""
    return subprocess.run([*AS_POSTGRES, "/usr/local/sbin/virtwork-archive-command", kind, name, path], capture_output=True).returncode


def foreign():
    """Nothing of another database is delivered, by its claim, or by its files where the claim is lost; and nothing put over it."""
    file = archived()
    other = WORK / "foreign"
    run(*AS_POSTGRES, f"{BINARIES}/initdb", "-D", other, "-A", "trust", "--no-sync")
    own = other / "pg_wal/00000001000000990000000B"
    run("install", "-o", "postgres", "-m", "0600", next((other / "pg_wal").glob("0*")), own)
    target = other / "pg_wal/RECOVERYXLOG"
    for how in ("with a claim", "without one"):
        if how == "without one":
            claim_file().unlink()
        restart_service(other)
        expect(ask("get", file, target) == 1 and not target.exists(), f"{how}: WAL of another database is delivered")
        expect(ask("has", file) == 1, f"{how}: it has this database's WAL")
        expect(ask("push", own.name, own) != 0, f"{how}: it takes another database's WAL")
    expect(not claim_file().exists(), "another database claims it")
    # Of this database all is there, also without a claim.
    restart_service()
    target = DATA / "pg_wal/virtwork-test"
    expect(ask("get", file, target) == 0, "its own WAL is not delivered without a claim")
    target.unlink()
    segments(1)
    wait_for("it claims what is its own again", claim_file().exists)
    run("rm", "-rf", other)


def another_segment():
    """One segment of another database among its own."""
    if tool != "barman-cloud":
        return
    file = archived()
    path, target = contents() / f"db/virtwork/wals/{file[:16]}/{file}.gz", DATA / "pg_wal/virtwork-test"
    good = path.read_bytes()
    content = bytearray(gzip.decompress(good))
    content[24] ^= 1
    for stored, found in ((gzip.compress(content, 1), False), (good[:len(good) // 2], False), (good, True)):
        # Over the store, which knows the size.
        put_object(f"db/virtwork/wals/{file[:16]}/{file}.gz", stored)
        expect((ask("get", file, target) == 0) == found == target.exists(), f"a segment of {len(stored)} bytes: delivered {not found}")
    target.unlink()


def put_object(key, content):
    """As another program of the lab."""
    script = ("import sys; sys.path.insert(0, '/usr/local/lib/virtwork'); import lab, store; lab.become_postgres(); "
              f"store.client().put_object(Bucket={BUCKET!r}, Key={key!r}, Body=sys.stdin.buffer.read())")
    subprocess.run(["/usr/bin/python3", "-c", script], input=content, check=True)


def half():
    """What a promoted server leaves half written is not the segment."""
    file = archived()
    for name, found in (("00000001000000990000000C", 1), (file, 0)):
        path, target = DATA / f"pg_wal/{name}.partial", DATA / "pg_wal/virtwork-test"
        run("bash", "-c", 'head -c 1M "$1" >"$2"; truncate -s 16M "$2"; chown postgres "$2"; chmod 0600 "$2"', "-", whole(file), path)
        expect(ask("push", path.name, path) == 0, f"{path.name} is not archived")
        expect(ask("get", name, target) == found, f"{name}: with a half one")
        expect(ask("has", name) == found, f"{name}: has, with a half one")
        if found == 0:
            expect(target.read_bytes() == whole(file).read_bytes(), "another content")
            target.unlink()
        path.unlink()


def whole(file):
    """A segment of this server, kept: it may recycle its own."""
    kept = WORK / f"{file}.kept"
    if not kept.exists():
        expect(ask("get", file, DATA / "pg_wal/virtwork-test") == 0, "the archive has not what it has")
        run("mv", DATA / "pg_wal/virtwork-test", kept)
    return kept


def no_answer():
    """What is no answer of the archive is not taken for one."""
    def unknown(how):
        restart_service()
        expect(ask("has", "00000009000000990000000A") == 2, f"{how}: taken for `it has it not`")
        done = subprocess.run(["/usr/local/sbin/virtwork-site-mark", "read"], capture_output=True, text=True)
        expect(done.returncode == 2 and done.stderr, f"{how}: taken for `no mark`: {done}")
        expect(archive("list", check=False).returncode == 1, f"{how}: taken for an empty list")
        env("other", "RESTORE_FROM=db\nRESTORE_TARGET=latest\nRESTORE_VALUE=''\n")
        done = archive("lab", WORK / "restored", "", check=False)
        env("db")
        expect(done.returncode == 1, f"{how}: the restore is given up: {done}")

    file = archived()
    if tool == "posix":
        run("umount", "-l", MOUNT)
        unknown("not mounted")
        start_store()
    else:
        # Barman makes a bucket that goes while it is at it.
        wait_for("nothing waits", lambda: waiting() == 0)
        time.sleep(2)
        contents().rename(STORE / "data/elsewhere")
        unknown("no bucket")
        (STORE / "data/elsewhere").rename(contents())
        stop_store()
        # Something on the way.
        class Nothing(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_error(404)

            do_HEAD = do_PUT = do_POST = do_GET

            def log_message(self, *words):
                pass

        server = http.server.ThreadingHTTPServer(("", 9443), Nothing)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(WORK / "s3.crt", WORK / "s3.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        unknown("a 404 of a load balancer")
        server.shutdown()
        server.server_close()
        start_store()
    restart_service()
    # Where the request cannot be left.
    (RUN / "requests").chmod(0o500)
    expect(ask("has", file) == 2 and ask("get-from", file, DATA / "pg_wal/virtwork-test") == 130, "no request, and an answer")
    (RUN / "requests").chmod(0o700)
    # What failed at once is asked anew: at a promotion the last answer counts.
    stop_store()
    target = DATA / "pg_wal/virtwork-test"
    expect(ask("get", file, target) == 1, "away, and delivered")
    start_store()
    expect(ask("get", file, target) == 0, "it is back, and still away")
    target.unlink()


def given_up():
    """Who does not wait any more gets nothing: the next one may ask for another file with the same path."""
    if tool == "posix":
        return
    file, target = archived(), DATA / "pg_wal/virtwork-test"
    processes["store"].send_signal(signal.SIGSTOP)
    asked = subprocess.Popen([*AS_POSTGRES, "/usr/local/sbin/virtwork-archive-command", "get", file, target])
    time.sleep(1.5)
    asked.terminate()
    asked.wait()
    wait_for("the request is gone", lambda: not [path for path in (RUN / "requests").iterdir() if path.name.startswith("get")])
    processes["store"].send_signal(signal.SIGCONT)
    time.sleep(3)
    expect(not list(target.parent.glob("virtwork-test*")), "it is delivered to nobody")
    expect(ask("get", file, target) == 0, "it is not delivered")
    target.unlink()


def two_writers():
    """Somebody else's claim is seen at the next base backup, without a restart."""
    archived()
    kept = claim_file().read_bytes()
    claim = json.loads(kept)
    set_claim(json.dumps({**claim, "system": "42"}).encode())
    told = signals(archive("backup", check=False).stdout, "archive-backup")
    set_claim(kept)
    expect(told[0]["result"] == "failed" and "another database" in told[0]["reason"], f"{told}")


def set_claim(content):
    if tool == "posix":
        claim_file().write_bytes(content)
    else:
        put_object("db/virtwork-archive.json", content)


def undeletable():
    """What is old cannot be deleted: the new base backup counts all the same, and no other one follows."""
    for _ in range(2):
        archive("backup")
    kept = [path for path in (contents() / "db").rglob("20??????[-T]*") if path.is_dir()]
    run("chattr", "-R", "+i", *kept)
    told = signals(archive("backup", check=False).stdout, "archive-backup")
    run("chattr", "-R", "-i", *kept)
    expect(told[0]["result"] == "ok" and "not deleted" in str(told[0]["reason"]), f"{told}")
    print(f"  {told[0]['reason']}", flush=True)
    archive("backup")


def site_mark():
    def mark(*words):
        return subprocess.run(["/usr/local/sbin/virtwork-site-mark", *words], capture_output=True, text=True)

    done = mark("read")
    expect((done.returncode, done.stdout) == (1, ""), f"without a mark: {done}")
    done = mark("write", "east", "123", "7")
    expect(done.returncode == 0, f"{done}")
    done = mark("read")
    found = json.loads(done.stdout)
    expect((found["site"], found["system"], found["timeline"]) == ("east", "123", 7), f"{found}")
    stop_store()
    expect(mark("read").returncode == 2 and mark("write", "west", "123", "8").returncode == 2, "away, and no failure")
    start_store()
    expect(json.loads(mark("read").stdout)["site"] == "east", "what was not written is there")
    expect(mark("write", "east", "123", "x").returncode == 64, "a timeline that is none")


def no_secret():
    expect(watch.found == set(), f"in arguments: {watch.found}")
    for path in (WORK / "archive.log", WORK / "server.log"):
        expect(SECRET not in path.read_text(errors="replace"), f"in {path}")
    for path in RUN.rglob("*"):
        if path.is_file():
            expect(path.stat().st_mode & 0o077 == 0, f"others can read {path}")
    expect(RUN.stat().st_mode & 0o077 == 0, "others can look into the directory")


STORIES = (archives, killed, gone, bounded, retention, checked, standby, lost_slot, point_in_time, another_database, foreign,
           another_segment, half, no_answer, given_up, two_writers, undeletable, site_mark, no_secret)


def stories():
    global tool, watch
    for name, place in (("archive/store.py", "lib/virtwork/store.py"), ("archive/virtwork-archive.py", "sbin/virtwork-archive"),
                        ("archive/virtwork-archive-command.sh", "sbin/virtwork-archive-command"),
                        ("archive/virtwork-site-mark.py", "sbin/virtwork-site-mark"), ("archive/archive.sh", "lib/virtwork/archive.sh"),
                        ("common/lib.sh", "lib/virtwork/lib.sh"), ("common/wal.sh", "lib/virtwork/wal.sh"),
                        ("manual/peers.sh", "lib/virtwork/peers.sh"), ("manual/standby.sh", "lib/virtwork/standby.sh")):
        run("install", "-D", "-m", "0755", REPOSITORY / "templates" / name, pathlib.Path("/usr/local", place))
    make_store()
    run("install", "-d", "-o", "postgres", "-m", "0700", RUN)
    (RUN / "keys").write_text(f"BOOTACCESS\n{SECRET}\n")
    run("chown", "postgres", RUN / "keys")
    run("chmod", "0600", RUN / "keys")
    watch = Watch()
    sql("ALTER SYSTEM SET archive_mode = on")
    only = os.environ.get("ONLY", "").split()
    for name in TOOLS:
        tool = name
        print(f"-- {tool}", flush=True)
        (WORK / "archive.log").write_text("")
        env("db")
        start_store()
        start_service()
        sql("ALTER SYSTEM SET archive_command = '/usr/local/sbin/virtwork-archive-command push %f %p "
            f"{'barman' if tool == 'barman-cloud' else 'pgbackrest'}'")
        load.server("restart")
        sql("DROP TABLE IF EXISTS followed, precious, later, rows, noise")
        for story in STORIES:
            if not only or story.__name__ in only:
                yield story
        stop_service()
        stop_store()
        run("bash", "-c", 'rm -rf "$1"/* "$2"', "-", contents(), WORK / "virtwork.archive")


if __name__ == "__main__":
    if sys.argv[1] == "inside":
        PROGRAM, TOOLS = os.environ["VERSITYGW"], os.environ["TOOLS"].split()
        try:
            load.inside(stories)
        except BaseException:
            print("--- the service", *journal().splitlines()[-30:], sep="\n")
            print("--- the server", *(WORK / "server.log").read_text().splitlines()[-15:], sep="\n")
            raise
    else:
        os.environ.update({"VERSITYGW": str(pathlib.Path(sys.argv[1]).resolve()), "TOOLS": " ".join(sys.argv[2:] or TOOLS)})
        sys.exit(load.outside(__file__))
