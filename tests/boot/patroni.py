"""A lab under Patroni, as its users and its nodes see it."""

import contextlib
import http.client
import os
import ssl
import subprocess
import threading
import time

from lab import Lab
from network import UNVERIFIED, enter_netns
from postgres import Writer
from shell import CommandFailed, in_netns, wait_until

SAMPLE = """
while :; do
  while :; do
    echo "SELECT extract(epoch FROM clock_timestamp()), NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off';"
    sleep 0.1
  done | psql -XAtqw -d 'host=/run/postgresql dbname=postgres connect_timeout=1' 2>/dev/null
  sleep 0.05
done
"""


class PatroniLab(Lab):
    """`primary` is whoever leads now."""

    @property
    def primary(self):
        return wait_until("one node leads", self.leader, 120)

    @property
    def replicas(self):
        primary = self.primary
        return [name for name in self.database_nodes if name != primary]

    @property
    def database_nodes(self):
        return sorted((name for name in self.nodes if "-node-" in name), key=lambda name: int(name.rpartition("-")[2]))

    def leader(self):
        """The one node that takes writes; nothing where there is none, or more than one."""
        found = []
        for name in self.database_nodes:
            if self.nodes[name].on:
                with contextlib.suppress(CommandFailed, subprocess.TimeoutExpired):
                    if self.sql(name, "SELECT pg_is_in_recovery()", database="postgres") == "f":
                        found.append(name)
        return found[0] if len(found) == 1 else None

    def patronictl(self, *words, node=None):
        return self.guest(node or self.primary).run("env", "HOME=/root", "patronictl", *words)

    def ask_patroni(self, name, method, path):
        """The status that Patroni of a node answers to somebody without a certificate, who may come from anywhere."""
        result = []

        def ask():
            enter_netns(self.network.hub)
            connection = http.client.HTTPSConnection(self.nodes[name].pod.address, 8008, timeout=5, context=UNVERIFIED)
            try:
                connection.request(method, path, body="{}", headers={"Content-Type": "application/json"})
                result.append(connection.getresponse().status)
            except (OSError, http.client.HTTPException) as error:
                result.append(error)
            finally:
                connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return result[0]

    def ask_etcd(self, name, port):
        """What etcd answers to somebody without a certificate; an exception when it does not."""
        result = []

        def ask():
            enter_netns(self.network.hub)
            connection = http.client.HTTPSConnection(self.nodes[name].pod.address, port, timeout=5, context=UNVERIFIED)
            try:
                connection.request("GET", "/version")
                result.append(connection.getresponse().read())
            except (OSError, ssl.SSLError, http.client.HTTPException) as error:
                result.append(error)
            finally:
                connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return result[0]


class SiteLab(PatroniLab):
    """`primary` is whoever is at its head: in a standby site a standby."""

    def leader(self):
        found = [name for name in self.database_nodes if self.nodes[name].on and self.ask_patroni(name, "GET", "/leader") == 200]
        return found[0] if len(found) == 1 else None


class DirectWriter(Writer):
    """Writes to all nodes by a connection string of several hosts, past Services and HAProxy."""

    TABLE = "boot_test_rows_direct"

    def _where(self):
        pods = [pod for name in self.lab.database_nodes if (pod := self.lab.nodes[name].pod)]
        return f"host={','.join(pod.address for pod in pods)} target_session_attrs=read-write"


class Sampler:
    """Asks each node in its guest ten times a second whether it takes writes."""

    def __init__(self, lab):
        self.lab = lab
        self.samples = {}
        self.processes = {}
        for name in lab.database_nodes:
            self.follow(name)

    def follow(self, name):
        """Also after each start of a VM."""
        guest = self.lab.guest(name)
        samples = self.samples.setdefault(name, [])
        process = subprocess.Popen(
            ["nsenter", "-t", str(guest.init), "-m", "-u", "-i", "-n", "-p", "--", "setpriv", "--reuid=postgres",
             "--regid=postgres", "--init-groups", "bash", "-c", SAMPLE],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={"PATH": os.environ["PATH"]}, start_new_session=True)
        self.processes[name] = process

        def read():
            for line in process.stdout:
                moment, _, writable = line.strip().partition("|")
                if writable == "t":
                    samples.append(float(moment))

        threading.Thread(target=read, daemon=True).start()

    def together(self):
        """Moments at which two nodes took writes."""
        found = []
        for first in self.samples:
            for second in self.samples:
                if first < second:
                    others = sorted(self.samples[second])
                    for moment in self.samples[first]:
                        if any(abs(moment - other) <= 0.1 for other in others if abs(moment - other) < 1):
                            found.append((first, second, moment))
        return found

    def stop(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


class RemoteSampler(Sampler):
    """The same over the network, through a session to each node: for machines, whose clocks are their own."""

    def follow(self, name):
        lab = self.lab
        samples = self.samples.setdefault(name, [])
        statement = "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off';"
        process = subprocess.Popen(
            in_netns(lab.network.client.netns, "bash", "-c",
                     f"while sleep 0.1; do echo \"{statement}\"; done | psql -XAtqw -d "
                     f"'host={lab.nodes[name].pod.address} user=pgbench dbname=postgres connect_timeout=10'"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PGPASSWORD": lab.passwords["client-password"]}, start_new_session=True)
        self.processes[name] = process

        def read():
            for line in process.stdout:
                if line.strip() == "t":
                    samples.append(time.time())

        threading.Thread(target=read, daemon=True).start()
