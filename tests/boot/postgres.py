"""Talking to PostgreSQL from outside the guests."""

import os
import subprocess
import threading
import time

from shell import CommandFailed, in_netns, run


def ask(netns, address, statement, user, password, database, timeout=30):
    """The unaligned output of a statement. An empty password sends none."""
    return connect(netns, f"host={address} user={user} dbname={database}", statement, password, timeout)


def connect(netns, words, statement, password, timeout=30, wrapper=()):
    """The same of whom a connection string names, with psql in the hands of another program."""
    env = {**os.environ, "PGCONNECT_TIMEOUT": "5"}
    if password:
        env["PGPASSWORD"] = password
    return run(*in_netns(netns, *wrapper, "psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", words, "-f", "-"),
               stdin=statement, timeout=timeout, env=env)


class Writer:
    """Writes numbered rows into a table of its own through the primary's Service, and remembers those that the server
    acknowledged. A row that failed is not repeated: its number is left out. `sessions` counts those with a row."""

    TABLE = "boot_test_rows"

    def __init__(self, lab, per_second=20):
        self.lab = lab
        self.pause = 1 / per_second
        self.acknowledged = []
        self.sessions = 0
        self.ending = threading.Event()
        lab.sql(lab.primary, f"CREATE TABLE IF NOT EXISTS {self.TABLE} (n bigint PRIMARY KEY)")
        self.number = int(lab.sql(lab.primary, f"SELECT coalesce(max(n), 0) FROM {self.TABLE}"))
        self.resume()

    def resume(self):
        """Goes on, at first and after a stop."""
        self.ending.clear()
        self.thread = threading.Thread(target=self._write, daemon=True)
        self.thread.start()

    def _write(self):
        while not self.ending.is_set():
            self._session()
            self.ending.wait(0.5)

    def _where(self):
        """The hosts of a connection string."""
        return f"host={self.lab.network.service_address(f'{self.lab.prefix}-primary')}"

    def _session(self):
        """One connection, until it breaks."""
        lab = self.lab
        session = subprocess.Popen(
            in_netns(lab.network.client.netns, "psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-d",
                     f"{self._where()} user=pgbench dbname=pgbench connect_timeout=2 tcp_user_timeout=3000 "
                     "keepalives_idle=1 keepalives_interval=1 keepalives_count=3"),
            env={**os.environ, "PGPASSWORD": lab.passwords["client-password"]}, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        first = True
        try:
            while not self.ending.is_set():
                self.number += 1
                session.stdin.write(f"INSERT INTO {self.TABLE} VALUES ({self.number}) RETURNING n;\n")
                session.stdin.flush()
                if session.stdout.readline().strip() != str(self.number):
                    break
                self.acknowledged.append(self.number)
                self.sessions += first
                first = False
                time.sleep(self.pause)
        except OSError:
            pass
        finally:
            session.kill()
            session.communicate()

    def missing(self, name, numbers):
        """The rows of these numbers that the server of a VM does not have."""
        rows = self.lab.sql(name, f"SELECT n FROM {self.TABLE}")
        return sorted(set(numbers) - {int(row) for row in rows.split()})

    def stop(self):
        self.ending.set()
        self.thread.join(20)


class HostsWriter(Writer):
    """The same through a string of all hosts, of which libpq takes the one that accepts writes."""

    TABLE = "boot_test_rows_by_hosts"

    def _where(self):
        pods = [node.pod for node in list(self.lab.nodes.values())]
        return f"host={','.join(pod.address for pod in pods if pod)} target_session_attrs=read-write"


class Sampler:
    """Asks each node all the time whether it would take a write, through its own address, as a client. `writable` has the
    times at which each said so."""

    def __init__(self, lab, *names, per_second=10):
        self.lab = lab
        self.names = names or list(lab.nodes)
        self.pause = 1 / per_second
        self.samples = 0
        self.writable = {}
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._sample, args=[name], daemon=True) for name in self.names]
        for thread in self.threads:
            thread.start()

    def _sample(self, name):
        while not self.ending.wait(self.pause):
            pod = self.lab.nodes[name].pod
            if pod is None:
                continue
            self.samples += 1
            try:
                answer = run(*in_netns(self.lab.network.client.netns, "psql", "-XAtqw", "-d",
                                       f"host={pod.address} user=pgbench dbname=pgbench connect_timeout=2", "-c",
                                       "SELECT pg_is_in_recovery()"), timeout=10,
                             env={**os.environ, "PGPASSWORD": self.lab.passwords["client-password"]})
            except (CommandFailed, OSError, subprocess.TimeoutExpired):
                continue
            if answer == "f":
                self.writable.setdefault(name, []).append(time.monotonic())

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(20)
        return self.writable
