"""Two sites: clusters with a router between them, and a store of objects that both reach."""

import contextlib
import json
import subprocess

import images
import postgres
from authority import Authority
from router import Router
from scenarios.topology import Promotions
from shell import CommandFailed, in_netns, run, wait_until
from store import PORT, ObjectStore
from story import config, expect, expect_equal, scenario

PRODUCTION, STANDBY = "west", "east"
"""The names of the two labs: those of their nodes are unique then."""
OUTSIDE = "198.18.0.0/16"
"""What comes in through the edge of a cluster."""


class Sites(Promotions):
    """A story with two labs, `production` and `standby`, which are what they were made as. `lab` and `config` are those of the
    one that it looks at. Each has a name of its own outside that leads to its primary's Service."""

    tools = (images.VERSITYGW,)

    def setup(self):
        name, directory = self.new_place()
        self.router = Router(name, directory / "router")
        self.stack.callback(self.router.close)
        self.authority = Authority(directory / "authority")
        self.store = ObjectStore(images.VERSITYGW.path / "versitygw", self.router, self.authority, directory / "store")
        self.stack.callback(self.store.close)
        self.production, self.standby = (self.new_lab(router=self.router) for _ in range(2))
        self.configs = {self.production: self.site(PRODUCTION), self.standby: self.site(STANDBY)}
        for lab in self.configs:
            self.router.names[self.outside(lab)] = lab.network.balancer_address(f"{self.configs[lab]['name']}-primary")
        self.look_at(self.production)

    def site(self, name, **changes):
        """The config of a lab that is exposed."""
        return config(self.system, name=name, service={"type": "LoadBalancer", "insecure": True},
                      postgresql={"allowed-clients": [OUTSIDE]}, **changes)

    def outside(self, lab):
        """What the world calls a site."""
        return {self.production: "production.test", self.standby: "standby.test"}[lab]

    def other(self, lab):
        return self.standby if lab is self.production else self.production

    def look_at(self, lab):
        self.lab, self.config = lab, self.configs[lab]

    @contextlib.contextmanager
    def at(self, lab):
        """Looks at a lab for as long as the block takes."""
        before = self.lab
        self.look_at(lab)
        try:
            yield lab
        finally:
            self.look_at(before)

    def told(self):
        return "\n".join(f"===== {self.outside(lab)}\n{lab.story()}" for lab in self.configs)

    def apply(self, lab, **changes):
        """Applies the config of a lab, changed for good: a key that is None goes. Both have the same credentials."""
        wanted = self.configs[lab]
        for key, value in changes.items():
            wanted[key.replace("_", "-")] = value
        for key in [key for key, value in wanted.items() if value is None]:
            del wanted[key]
        return lab.apply(wanted, self.production.passwords or None)

    def forms(self, lab):
        with self.at(lab):
            lab.start(*lab.nodes)
            self.formed()

    def from_outside(self, lab, statement, user="pgbench", options=""):
        """Asks a site as a client of the other one does, by its name outside."""
        address = self.router.names[self.outside(lab)]
        return self.as_client(self.other(lab), f"host={self.outside(lab)} hostaddr={address} user={user} dbname=pgbench {options}",
                              statement)

    def as_client(self, lab, words, statement, password=None):
        """Asks from a pod of a lab."""
        return postgres.connect(lab.network.client.netns, words, statement,
                                lab.passwords["client-password"] if password is None else password)

    def in_guest(self, lab, name, program, *arguments, check=True):
        """A Python program in a guest, as root."""
        return lab.guest(name).run("python3", "-", *arguments, stdin=program, check=check, timeout=120)

    def parted(self):
        """The link between the sites, and nothing else, is cut."""
        return self.router.parted(self.production.network.link, self.standby.network.link)


RESOLVE = "import socket, sys; print(*sorted({entry[4][0] for entry in socket.getaddrinfo(sys.argv[1], 5432)}))"
REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close(); print('reached')"
STATUS = """
import ssl, sys, urllib.error, urllib.request
try:
    context = ssl.create_default_context(cadata=sys.argv[2]) if sys.argv[2] else None
    print(urllib.request.urlopen(sys.argv[1], timeout=5, context=context).status)
except urllib.error.HTTPError as error:
    print(error.code)
except (urllib.error.URLError, TimeoutError) as error:
    print(getattr(error, "reason", error))
"""


class Roads(Sites):
    title = "two clusters"

    def setup(self):
        super().setup()
        self.apply(self.production)
        self.apply(self.standby)

    @scenario("two labs form in clusters of their own: the same addresses, names of their own, and no way but what is exposed")
    def apart(self):
        for lab in self.configs:
            self.forms(lab)
        addresses = [{node.pod.address for node in lab.nodes.values()} for lab in self.configs]
        expect(addresses[0] & addresses[1], f"the pods of both have addresses of their own: {addresses}")
        for lab in self.configs:
            other = self.other(lab)
            expect_equal(self.from_outside(other, "SELECT count(*) > 0 FROM pgbench_branches"), "t", f"{self.outside(other)} answers")
            guest, theirs = lab.primary, other.primary
            expect_equal(self.in_guest(lab, guest, RESOLVE, self.outside(other)), self.router.names[self.outside(other)],
                         f"{self.outside(other)} in {guest}")
            expect_equal(self.in_guest(lab, guest, REACH, self.outside(other), "5432"), "reached", f"{self.outside(other)} from {guest}")
            for name, port in ((theirs, "5432"), (f"{other.prefix}-primary", "5432"), (self.outside(other), "22"),
                               (self.outside(other), "8008")):
                expect_equal(self.in_guest(lab, guest, REACH, name, port, check=False), "", f"{name}:{port} from {guest}")
        seen = self.from_outside(self.standby, "SELECT client_addr FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        expect_equal(seen, self.standby.network.link.node, "the address of a client from outside")

    @scenario("the router cuts and delays what goes between them, and nobody is told")
    def links(self):
        session = subprocess.Popen(
            in_netns(self.standby.network.client.netns, "psql", "-XAtqw", "-d",
                     f"host={self.router.names['production.test']} user=pgbench dbname=pgbench"),
            env={"PATH": "/usr/bin:/bin", "PGPASSWORD": self.production.passwords["client-password"]}, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self.stack.callback(session.kill)

        def ask():
            session.stdin.write("SELECT 'here';\n")
            return session.stdout.readline().strip()

        expect_equal(ask(), "here", "a session")
        with self.parted():
            try:
                answer = self.from_outside(self.production, "SELECT 1", options="connect_timeout=3")
            except CommandFailed as error:
                expect("timeout" in str(error), f"a cut link says: {error}")
            else:
                raise AssertionError(f"production.test answers over a cut link: {answer}")
            expect_equal(self.reached_store(self.standby), "403", "the store, while the sites are apart")
        expect_equal(ask(), "here", "the session after the cut")
        with self.router.delayed(150):
            with self.timed("a statement over a link of 150 ms each way"):
                self.from_outside(self.production, "SELECT 1")
        expect(self.figures[-1][1] > 0.9, "the link was not slow")
        session.kill()
        session.communicate()

    @scenario("both reach the store of objects by HTTPS; it can be away, silent, full, and back")
    def objects(self):
        for lab in self.configs:
            expect_equal(self.reached_store(lab), "403", f"the store for somebody without keys, from {lab.primary}")
            expect("CERTIFICATE_VERIFY_FAILED" in self.reached_store(lab, ca=""), "the store's certificate is taken without its CA")
        lab = self.production
        self.store.stop()
        expect("refused" in self.reached_store(lab), "the store is away")
        self.store.start()
        self.store.lose()
        expect("timed out" in self.reached_store(lab), "the store is silent")
        self.store.lose(off=False)
        expect_equal(self.reached_store(lab), "403", "the store is back")
        expect_equal(self.put(lab, "one", 1), "200", "an object")
        self.store.fill()
        expect("InsufficientStorage" in self.put(lab, "two", 1 << 20), "the store is full")
        self.store.make_room()
        expect_equal(self.put(lab, "two", 1 << 20), "200", "an object after that")
        expect_equal(self.store.objects(), ["one", "two"], "objects")

    def reached_store(self, lab, ca=None):
        return self.in_guest(lab, lab.primary, STATUS, self.store.endpoint, self.store.ca if ca is None else ca)

    def put(self, lab, name, size):
        return self.in_guest(lab, lab.primary, PUT, json.dumps({
            "endpoint_url": self.store.endpoint, "region_name": "eu-west-1", "aws_access_key_id": self.store.access_key,
            "aws_secret_access_key": self.store.secret_key}), self.store.ca, self.store.bucket, name, str(size))


PUT = """
import json, sys, tempfile
import boto3, botocore.config, botocore.exceptions
settings, ca, bucket, name, size = sys.argv[1:]
with tempfile.NamedTemporaryFile("w") as file:
    file.write(ca)
    file.flush()
    client = boto3.client("s3", verify=file.name, **json.loads(settings), config=botocore.config.Config(
        s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
    try:
        print(client.put_object(Bucket=bucket, Key=name, Body=b"x" * int(size))["ResponseMetadata"]["HTTPStatusCode"])
    except botocore.exceptions.ClientError as error:
        print(error.response["Error"]["Code"])
"""
