"""A primary and a standby on this machine, each with the sampler of the guests, and a link between them that can be slow,
narrow or cut. Needs root, and a PostgreSQL that is installed."""

import asyncio
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
BIN = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)
PRIMARY, REPLICA = "db-primary-0", "db-replica-0"
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{directory}'
hot_standby = on
wal_level = replica
max_wal_senders = 10
max_replication_slots = 10
max_slot_wal_keep_size = '{slots}'
max_wal_size = '64MB'
min_wal_size = '32MB'
shared_buffers = '32MB'
fsync = off
wal_receiver_timeout = '10s'
wal_receiver_status_interval = '{status}'
tcp_user_timeout = '30s'
{more}
"""


def as_postgres(*command, **options):
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *map(str, command)]


def run(*command, stdin="", check=True, timeout=120):
    done = subprocess.run(as_postgres(*command), input=stdin, capture_output=True, text=True, timeout=timeout, cwd="/")
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stderr or done.stdout}")
    return done.stdout.strip()


class Link:
    """What goes through a port of this machine to another one, in order: so much later, at most so fast, or not at all."""

    def __init__(self, port, target):
        self.port, self.target = port, target
        self.delay, self.rate, self.is_cut = 0.0, 0, False
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self._meet, "127.0.0.1", self.port))
        self.loop.run_forever()

    async def _meet(self, reader, writer):
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._carry(reader, back, False), self._carry(there, writer, True))

    async def _carry(self, reader, writer, is_wal):
        pieces = asyncio.Queue(4096)

        async def read():
            data = b"-"
            while data:
                try:
                    data = await reader.read(4096 if self.rate else 1 << 16)
                except ConnectionError:
                    data = b""
                await pieces.put((self.loop.time() + self.delay, data))

        reading = asyncio.ensure_future(read())
        try:
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(max(0, due - self.loop.time()))
                if self.rate and is_wal:
                    await asyncio.sleep(len(data) / self.rate)
                while self.is_cut:
                    await asyncio.sleep(0.05)
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            reading.cancel()
            writer.close()

    def close(self):
        async def end():
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


class Server:
    """A server and its sampler."""

    def __init__(self, node, directory, port, env):
        self.node, self.directory, self.port, self.metrics_port, self.env = node, directory, port, port + 1, env
        self.data = directory / node
        self.sampler = None
        self.journal = directory / f"{node}.journal"

    def start(self):
        run(BIN / "pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", f"{self.data}.log", "start", "-o", f"-p {self.port}")

    def stop(self, mode="fast"):
        run(BIN / "pg_ctl", "-D", self.data, "-w", "-m", mode, "stop", check=False)

    def psql(self, statement, database="postgres"):
        return run(BIN / "psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-h", self.directory, "-p", self.port, "-d", database,
                   "-f", "-", stdin=statement)

    def watch(self):
        with open(self.journal, "ab") as log:
            self.sampler = subprocess.Popen(
                as_postgres(sys.executable, HERE / "launch.py", self.node, self.metrics_port, self.directory, self.port, self.env),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")

    def unwatch(self):
        if self.sampler:
            self.sampler.send_signal(signal.SIGCONT)
            self.sampler.kill()
            self.sampler.wait()
            self.sampler = None

    def processes(self):
        """The postmaster and its children."""
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        children = pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]

    def signal(self, number):
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def scrape(self, timeout=4):
        """Its metrics by name and labels; None when there is no answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=timeout) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if not line.startswith("#")}


class Pair:
    def __init__(self, directory, port, slots="64MB", status="1s", replicas=1, more=""):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        os.chmod(self.directory, 0o755)
        shutil.chown(self.directory, "postgres", "postgres")
        env = self.directory / "lab.env"
        env.write_text(f"LAB=db\nREPLICA_COUNT={replicas}\nSTANDBY_MODE=hot\nMONITOR_INTERVAL=1\n")
        self.primary = Server(PRIMARY, self.directory, port, env)
        self.replica = Server(REPLICA, self.directory, port + 2, env)
        self.link = Link(port + 4, port)
        settings = SETTINGS.format(directory=self.directory, slots=slots, status=status, more=more)
        run(BIN / "initdb", "-D", self.primary.data, "-A", "trust", "--no-sync")
        with open(self.primary.data / "postgresql.conf", "a") as conf:
            conf.write(settings)
        self.primary.start()
        self.primary.psql("SELECT pg_create_physical_replication_slot('db_replica_0', true);"
                          "CREATE TABLE heartbeat (at timestamptz); INSERT INTO heartbeat VALUES (clock_timestamp());")
        run(BIN / "pg_basebackup", "-D", self.replica.data, "-X", "stream", "-c", "fast", "-h", self.directory, "-p", port)
        with open(self.replica.data / "postgresql.conf", "a") as conf:
            conf.write(f"primary_conninfo = 'host=127.0.0.1 port={self.link.port} user=postgres application_name={REPLICA} "
                       "connect_timeout=10'\nprimary_slot_name = 'db_replica_0'\n")
        (self.replica.data / "standby.signal").touch()
        self.replica.start()
        self.load = None

    @property
    def servers(self):
        return self.primary, self.replica

    def write(self, rate):
        """So many transactions in a second that move a heartbeat, each with about 2 kB of WAL beside it."""
        script = self.directory / "heartbeat.sql"
        script.write_text("BEGIN; UPDATE heartbeat SET at = clock_timestamp();"
                          "SELECT pg_logical_emit_message(true, 'load', repeat('x', 2000)); COMMIT;\n")
        self.load = subprocess.Popen(
            as_postgres(BIN / "pgbench", "-n", "-f", script, "-R", rate, "-T", "100000", "-h", self.directory, "-p",
                        self.primary.port, "postgres"),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def rest(self):
        if self.load:
            self.load.kill()
            self.load.wait()
            self.load = None

    def truth(self):
        """The age of the last heartbeat that the replica has, by the one clock of this machine."""
        return float(self.replica.psql("SELECT extract(epoch FROM clock_timestamp() - at) FROM heartbeat"))

    def close(self):
        self.link.is_cut = False
        self.rest()
        for server in self.servers:
            server.unwatch()
            if (server.data / "postmaster.pid").exists():
                with contextlib.suppress(OSError):
                    server.signal(signal.SIGCONT)
                server.stop("immediate")
        self.link.close()
        shutil.rmtree(self.directory)


