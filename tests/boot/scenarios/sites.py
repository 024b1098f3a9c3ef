"""Two sites: clusters with a router between them, and a store of objects that both reach."""

import contextlib
import datetime
import json
import subprocess

import images
import postgres
from authority import Authority
from patroni import SiteLab
from postgres import Sampler, Writer
from router import Router
from shell import CommandFailed, in_netns, run, wait_until
from store import ObjectStore
from story import ArgumentWatch, config, expect, expect_equal, pause, scenario

from scenarios.topology import Promotions

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
        return {self.production: "production.test", self.standby: "standby.test"}.get(lab, "another lab")

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
        # Of the two: the first one chooses them.
        for key, value in changes.items():
            wanted[key.replace("_", "-")] = value
        for key in [key for key, value in wanted.items() if value is None]:
            del wanted[key]
        return lab.apply(wanted, self.production.passwords or None)

    def keys(self, lab, name="archive-keys"):
        """The Secret with the store's keys, in a lab's cluster."""
        lab.objects["Secret", name] = self.store.secret()
        return name

    def forms(self, lab):
        with self.at(lab):
            lab.start(*lab.nodes)
            self.formed()

    def from_outside(self, lab, statement, user="pgbench", options=""):
        """Asks a site as a client of the other one does, by its name outside."""
        address = self.router.names[self.outside(lab)]
        return self.as_client(self.other(lab), f"host={self.outside(lab)} hostaddr={address} user={user} dbname=pgbench {options}",
                              statement)

    def as_client(self, lab, words, statement, password=None, wrapper=()):
        """Asks from a pod of a lab."""
        return postgres.connect(lab.network.client.netns, words, statement,
                                self.production.passwords["client-password"] if password is None else password, wrapper=wrapper)

    def in_guest(self, lab, name, program, *arguments, check=True):
        """A Python program in a guest, as root."""
        return lab.guest(name).run("python3", "-", *arguments, stdin=program, check=check, timeout=120)

    def followed(self, lab):
        """The nodes of the other site that stream from this one, each through a slot."""
        other = self.configs[self.other(lab)]["name"]
        rows = lab.superuser(lab.primary, f"""SELECT application_name FROM pg_stat_replication JOIN pg_replication_slots
            ON active_pid = pid WHERE state = 'streaming' AND application_name LIKE '{other}-%'""")
        return rows.split()

    def wait_for_site(self, lab, seconds=240):
        """Until a standby site follows: its head the other site, its other nodes the head."""
        other = self.other(lab)
        wait_until(f"{self.outside(lab)} follows {self.outside(other)}", lambda: self.followed(other) == [lab.primary], seconds)
        lab.wait_for_streaming(seconds=seconds)

    def caught_up(self, lab, seconds=120):
        """Until each node of a standby site has replayed what the other site has now."""
        other = self.other(lab)
        position = other.superuser(other.primary, "SELECT pg_current_wal_lsn()")
        for name in lab.database_nodes:
            wait_until(f"{name} replays {position}", lambda name=name: lab.superuser(
                name, f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == "t", seconds)

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


class Tls(Sites):
    title = "certificates"

    def setup(self):
        super().setup()
        self.place = self.new_place()[1]
        self.config["tls"] = {"names": ["production.test"]}
        self.config["service"] = {"type": "LoadBalancer"}
        self.apply(self.production)

    def asks(self, ca, options="", user="pgbench", password=None, host="production.test", wrapper=(), statement="SELECT 'in'"):
        """Asks production from the other cluster, by a name, with a CA as PEM text."""
        file = self.place / "root.crt"
        file.write_text(ca)
        return self.as_client(
            self.standby, f"host={host} hostaddr={self.router.names['production.test']} user={user} "
            f"dbname={'postgres' if user == 'replicator' else 'pgbench'} sslmode=verify-full sslrootcert={file} connect_timeout=5 "
            f"{options}", statement, password, wrapper)

    def turned_away(self, messages, *arguments, **named):
        try:
            answer = self.asks(*arguments, **named)
        except CommandFailed as error:
            expect(any(message in str(error) for message in messages.split("|")), f"refused, but because: {error}")
        else:
            raise AssertionError(f"let in, and should have heard {messages}: {answer}")

    def serial(self):
        """That of the certificate that production shows."""
        shown = run(*in_netns(self.standby.network.client.netns, "openssl", "s_client", "-starttls", "postgres", "-connect",
                              f"{self.router.names['production.test']}:5432"), check=False)
        return run("openssl", "x509", "-noout", "-serial", stdin=shown)

    def faulted(self, reason, wrapper=()):
        """What openssl finds about the certificate that production shows: libpq does not say."""
        file = self.place / "authority.crt"
        file.write_text(self.authority.ca)
        shown = run(*in_netns(self.standby.network.client.netns, *wrapper, "openssl", "s_client", "-starttls", "postgres", "-connect",
                              f"{self.router.names['production.test']}:5432", "-CAfile", str(file)), check=False)
        expect("Verify return code: " in shown and reason in shown.rpartition("Verify return code: ")[2].partition("\n")[0], shown)

    @staticmethod
    def authority_key(certificate):
        return run("openssl", "x509", "-noout", "-pubkey", "-subject", stdin=certificate)

    @staticmethod
    def clock(**shift):
        """What lets a program believe that it is another time."""
        return ("faketime", (datetime.datetime.now() + datetime.timedelta(**shift)).strftime("%Y-%m-%d %H:%M:%S"))

    @scenario("derived: verify-full by every name; a wrong CA, a wrong name, clear text and TLS 1.1 are refused")
    def derived(self):
        lab = self.production
        self.forms(lab)
        self.ca = lab.guest(lab.primary).run("virtwork-ca")
        for name in lab.database_nodes:
            # Each node signs the same authority's certificate, and no two signatures are alike.
            expect_equal(self.authority_key(lab.guest(name).run("virtwork-ca")), self.authority_key(self.ca), f"the CA by {name}")
        for host in ("production.test", f"{PRODUCTION}-primary", f"{PRODUCTION}-primary.lab", f"{PRODUCTION}-primary.lab.svc"):
            expect_equal(self.asks(self.ca, host=host), "in", f"verify-full by {host}")
        self.turned_away("certificate verify failed", self.authority.ca)
        self.turned_away("does not match host name", self.ca, host="elsewhere.test")
        self.turned_away("no encryption|SSL off", self.ca, "sslmode=disable")
        self.turned_away("protocol", self.ca, "ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.1")
        for name in lab.replicas:
            words = lab.superuser(name, "SELECT conninfo FROM pg_stat_wal_receiver")
            expect("sslmode=verify-" in words, f"{name} does not verify whom it follows: {words}")
        expect_equal(lab.superuser(lab.primary, "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)"), "t",
                     "replication is encrypted")

    @scenario("a boot makes another certificate, of the same authority; clients whose clock is years behind or ahead take it")
    def renewed(self):
        lab = self.production
        for shift in ({"days": -7000}, {"days": 10000}):
            expect_equal(self.asks(self.ca, wrapper=self.clock(**shift)), "in", f"with a clock {shift}")
        before = self.serial()
        lab.restart(lab.primary)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        expect(self.serial() != before, "the same certificate after a boot")
        expect_equal(self.asks(self.ca), "in", "with the CA of before")

    @scenario("the replication role by certificate alone: there is no password, and none lets in")
    def client_certificates(self):
        lab = self.production
        self.apply(lab, tls={"names": ["production.test"], "client-certificates": True})
        lab.restart(*lab.nodes)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        expect_equal(lab.superuser(lab.primary, "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'replicator'"), "t",
                     "the role has no password")
        self.turned_away("certificate", self.ca, user="replicator", password=lab.passwords.get("replication-password", "x"))
        leaf, key = self.authority.issue("replicator")
        for name, content in (("client.crt", leaf), ("client.key", key)):
            (self.place / name).write_text(content)
            (self.place / name).chmod(0o600)
        self.turned_away("certificate|unknown ca", self.ca, f"sslcert={self.place}/client.crt sslkey={self.place}/client.key",
                         user="replicator", password="x")
        expect_equal(self.asks(self.ca), "in", "a client with its password")
        expect_equal(lab.superuser(lab.primary, "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) "
                                   "WHERE client_dn = '/CN=replicator'"), str(len(lab.replicas)), "replicas with a certificate")

    @scenario("from a Secret: its certificate is shown; one that has expired is refused by clients, and said")
    def existing(self):
        lab = self.production
        names = ["production.test", *(f"{PRODUCTION}-{kind}" for kind in ("primary", "replicas", "nodes")), *lab.database_nodes]
        lab.objects["Secret", "own-tls"] = self.authority.secret("production", names)
        self.apply(lab, tls={"existing-secret": "own-tls"})
        lab.restart(*lab.nodes)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        expect_equal(self.asks(self.authority.ca), "in", "verify-full")
        self.turned_away("certificate verify failed", self.ca)
        # Good since yesterday, for thirty days.
        for shift, expected in (({"days": -2}, "not yet valid"), ({"hours": 1}, None), ({"days": 29}, None), ({"days": 31}, "expired")):
            if expected:
                self.turned_away("certificate verify failed", self.authority.ca, wrapper=self.clock(**shift))
                self.faulted(expected, self.clock(**shift))
            else:
                expect_equal(self.asks(self.authority.ca, wrapper=self.clock(**shift)), "in", f"with a clock {shift}")
        now = datetime.datetime.now(datetime.timezone.utc)
        lab.objects["Secret", "own-tls"] = self.authority.secret("production", names, begins=now - datetime.timedelta(days=9),
                                                                 ends=now - datetime.timedelta(hours=1))
        lab.restart(lab.primary)
        lab.wait_for_journal(lab.primary, "expired")
        # Its own probe is a client like others.
        lab.wait_for_journal(lab.primary, "alert certificate expired")
        expect(not lab.nodes[lab.primary].ready, "a server is ready whose certificate no client takes")

    @scenario("from cert-manager: the Certificate asks for every name, and what it is given is shown")
    def cert_manager(self):
        lab = self.production
        self.apply(lab, tls={"cert-manager": {"issuer": "of-the-tests"}, "names": ["production.test"]})
        self.issue(lab)
        lab.restart(*lab.nodes)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        expect_equal(self.asks(self.authority.ca), "in", "verify-full")
        expect_equal(self.asks(self.authority.ca, host=f"{PRODUCTION}-primary"), "in", "verify-full within the cluster")

    def issue(self, lab):
        """What cert-manager does."""
        for (kind, _), document in list(lab.objects.items()):
            if kind == "Certificate":
                spec = document["spec"]
                names = [*spec.get("dnsNames", []), *spec.get("ipAddresses", [])]
                lab.objects["Secret", spec["secretName"]] = self.authority.secret(spec.get("commonName", names[0]), names)


class SiteWriter(Writer):
    """Writes through the Service of the site that takes writes: `lab` is changed when that changes. What it had acknowledged is
    the ledger of both."""

    TABLE = "boot_test_rows_of_sites"


class Pair(Sites):
    """A story of a production site and a standby site with one archive and TLS."""

    archived = True

    def setup(self):
        super().setup()
        self.configs[self.standby]["upstream"] = {"host": "production.test"}

    def site(self, name, **changes):
        outside = {PRODUCTION: "production.test", STANDBY: "standby.test"}[name]
        archive = {"archive": self.store.config("archive-keys", "pair")} if self.archived else {}
        for lab in (self.production, self.standby):
            self.keys(lab)
        return config(self.system, **{
            "name": name, "tls": {"names": [outside]}, "service": {"type": "LoadBalancer"},
            "postgresql": {"allowed-clients": [OUTSIDE]}, "vm": {"data-disk-size": "8Gi"}, **archive, **changes})

    def new_ledger(self):
        writer = SiteWriter(self.production)
        self.stack.callback(writer.stop)
        return writer

    def counted(self, lab):
        """Every node of a site has each row that a client was told of."""
        for name in lab.database_nodes:
            numbers = list(self.ledger.acknowledged)
            if lab is self.ledger.lab and name == lab.primary:
                pass
            elif lab is self.ledger.lab:
                lab.wait_for_replay(name)
            else:
                self.caught_up(lab)
            rows = lab.sql(name, f"SELECT n FROM {self.ledger.TABLE}")
            missing = sorted(set(numbers) - {int(row) for row in rows.split()})
            expect_equal(missing, [], f"acknowledged rows up to {numbers[-1]} that are missing on {name}")

    def gets_on(self, rows=20, seconds=90):
        count = len(self.ledger.acknowledged)
        wait_until("rows are acknowledged", lambda: len(self.ledger.acknowledged) > count + rows, seconds)

    def archive_position(self, lab):
        """The last file that was archived, and how many failed."""
        return lab.superuser(lab.primary, "SELECT last_archived_wal, failed_count FROM pg_stat_archiver").split("|")

    def archives(self, lab, seconds=180):
        """Until a segment that is closed now is in the archive."""
        file = lab.superuser(lab.primary, """SELECT pg_walfile_name(pg_current_wal_lsn()) FROM pg_switch_wal()""")
        wait_until(f"{file} or a later one is archived", lambda: lab.superuser(
            lab.primary, f"SELECT last_archived_wal >= '{file}' FROM pg_stat_archiver") == "t", seconds)
        return file

    def recycle(self, lab, slot, seconds=180):
        """Writes WAL until a slot has lost what it waits for, and so have files that are kept for all."""
        statement = "SELECT pg_switch_wal() FROM pg_logical_emit_message(true, 'boot', repeat('x', 100000));\n"

        def lost():
            lab.superuser(lab.primary, statement * 4 + "CHECKPOINT;")
            return lab.superuser(lab.primary, "SELECT count(*) FILTER (WHERE wal_status <> 'lost') FROM pg_replication_slots "
                                 f"WHERE slot_name = '{slot}'") == "0"

        wait_until(f"the slot {slot} is lost", lost, seconds)


class Standby(Pair):
    title = "a standby site"

    @scenario("production forms and archives; the standby site clones its primary over TLS, cascades, and serves reads only")
    def forming(self):
        secrets = [self.store.secret_key]
        self.apply(self.production)
        secrets += self.production.passwords.values()
        self.watch = ArgumentWatch(*secrets)
        self.secrets = secrets
        self.forms(self.production)
        self.archives(self.production)
        self.ledger = self.new_ledger()
        self.apply(self.standby)
        with self.timed("the standby site: blank disks -> all stream"):
            self.standby.start(*self.standby.nodes)
            self.wait_for_site(self.standby)
        expect_equal(self.production.superuser(self.production.primary, """
            SELECT ssl, version >= 'TLSv1.2' FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)
            WHERE application_name LIKE 'east-%'"""), "t|t", "the standby site's connection is encrypted")
        words = self.standby.superuser(self.standby.primary, "SELECT conninfo FROM pg_stat_wal_receiver")
        expect("sslmode=verify-full" in words and "host=production.test" in words, f"the head connects otherwise: {words}")
        self.counted(self.standby)
        for service in ("primary", "replicas"):
            address = self.standby.network.service_address(f"{STANDBY}-{service}")
            wait_until(f"{STANDBY}-{service} answers", lambda address=address: self.standby.ask(
                address, "SELECT pg_is_in_recovery()") == "t", 60)
        with self.at(self.standby):
            self.refused("read-only", self.standby.primary, "CREATE TABLE nobody (n int)")

    @scenario("no secret is in user-data, arguments or journals", fatal=False)
    def secret(self):
        self.watch.stop()
        expect_equal(self.watch.found, set(), "arguments with a secret")
        for lab in self.configs:
            for document in [value for (kind, name), value in lab.objects.items()
                             if kind != "Secret" or name.endswith("-cloudinit")]:
                for secret in self.secrets:
                    expect(secret not in json.dumps(document), f"a secret in {document['kind']} {document['metadata']['name']}")
            for name in lab.nodes:
                journal = lab.guest(name).journal()
                for secret in self.secrets:
                    expect(secret not in journal, f"a secret in the journal of {name}")
                for path in lab.guest(name).run("find", "/run/postgresql", "/run/virtwork", "/etc/virtwork", "-type", "f").split():
                    content = lab.guest(name).run("cat", path, check=False)
                    if any(secret in content for secret in self.secrets):
                        self.unreadable(lab.guest(name), name, path)

    @scenario("the link is cut for longer than the slot's cap: the site goes on from the archive, and streams when the link is back")
    def cut(self):
        head = self.standby.primary
        slot = self.slot_of_site()
        with self.parted():
            wait_until("production has nobody of the other site", lambda: self.followed(self.production) == [], 60)
            self.recycle(self.production, slot)
            self.archives(self.production)
            with self.timed("what is archived -> the cut-off site has it"):
                self.caught_up(self.standby, 180)
        with self.timed("the link is back -> the site streams"):
            self.wait_for_site(self.standby, 180)
        with self.at(self.standby):
            self.not_in_journal(head, "cloning")
        self.counted(self.standby)

    def slot_of_site(self):
        return self.standby.primary.replace("-", "_")

    @scenario("the archive is away, then silent, then full: production goes on, says so, and catches up")
    def archive_gone(self):
        lab = self.production
        for kind, gone, back in (("away", self.store.stop, self.store.start),
                                 ("silent", self.store.lose, lambda: self.store.lose(off=False)),
                                 ("full", self.store.fill, self.store.make_room)):
            said, back_again = self.said(lab, "archive-away"), self.said(lab, "archive-back")
            gone()
            try:
                lab.superuser(lab.primary, "SELECT pg_switch_wal() FROM pg_logical_emit_message(true, 'boot', 'x')")
                wait_until(f"{kind}: the primary says so", lambda said=said: self.said(lab, "archive-away") > said, 240)
                self.gets_on()
            finally:
                back()
            with self.timed(f"the archive was {kind}, is back -> it has all"):
                self.archives(lab)
                wait_until(f"{kind}: the primary says that it is back", lambda count=back_again: self.said(lab, "archive-back") > count, 60)
        expect_equal(self.said(lab, "archive-gap"), 0, "gaps")
        self.wait_for_site(self.standby)
        self.counted(self.standby)

    def said(self, lab, signal):
        return lab.journal(lab.primary).count(f'"signal": "{signal}"')

    @scenario("the standby site takes over, the old production follows it, and back again, twice: the ledger's count is right each time")
    def fail_over_and_back(self):
        for number in range(2):
            for new in (self.standby, self.production):
                old = self.other(new)
                with self.timed(f"round {number + 1}: {self.outside(new)} takes over -> a client writes"):
                    self.ledger.stop()
                    new.guest(new.primary).run("virtwork-promote", timeout=240)
                    self.ledger.lab = new
                    self.ledger.resume()
                    self.gets_on()
                expect_equal(self.writers(), [new.primary], "nodes that take writes")
                with self.timed(f"round {number + 1}: {self.outside(old)} follows"):
                    self.apply(new, upstream=None)
                    self.apply(old, upstream={"host": self.outside(new)})
                    old.restart(*old.database_nodes)
                    self.wait_for_site(old, 300)
                self.gets_on()
                for lab in self.configs:
                    self.counted(lab)
        self.whose_mark(PRODUCTION)

    def whose_mark(self, name):
        mark, = (entry for entry in self.store.objects("pair") if entry.endswith("virtwork-site.json"))
        expect_equal(json.loads(self.store.read(mark))["site"], name, "the site that the archive's mark names")

    @scenario("the site that was left is started by an old config: it reads the mark, and never takes a write")
    def old_config(self):
        """The standby site is promoted by force while production is off, and production starts by the config that it had."""
        lab = self.production
        self.caught_up(self.standby)
        self.ledger.stop()
        lab.power_loss(*lab.database_nodes)
        self.standby.guest(self.standby.primary).run("virtwork-promote", timeout=240)
        self.ledger.lab = self.standby
        self.ledger.resume()
        self.gets_on()
        self.whose_mark(STANDBY)
        with self.parted():
            sampler = Sampler(lab, *lab.database_nodes)
            lab.start(*lab.database_nodes)
            lab.wait_for_journal(lab.primary, STANDBY)
            pause(15)
            expect_equal(sampler.stop(), {}, "when a node of the old site took writes")

    def writers(self):
        found = []
        for lab in self.configs:
            for name in lab.database_nodes:
                with contextlib.suppress(CommandFailed):
                    if lab.nodes[name].on and lab.superuser(name, "SELECT pg_is_in_recovery()") == "f":
                        found.append(name)
        return found


class PatroniPair(Sites):
    title = "a standby site under Patroni"
    lab_kind = SiteLab

    def setup(self):
        super().setup()
        self.apply(self.production)
        self.apply(self.standby, upstream={"host": "production.test"})

    def site(self, name, **changes):
        outside = {PRODUCTION: "production.test", STANDBY: "standby.test"}[name]
        return config(self.system, name=name, failover={"mode": "patroni", "ttl": 20}, tls={"names": [outside]},
                      service={"type": "LoadBalancer"}, postgresql={"allowed-clients": [OUTSIDE]}, **changes)

    def forms(self, lab):
        lab.start(*lab.nodes)
        wait_until("all nodes are ready", lambda: all(lab.nodes[name].ready for name in lab.database_nodes), 300)
        lab.wait_for_streaming()
        lab.wait_for_primary()

    @scenario("production and a standby site form: its leader streams through the site's one slot, the others from it")
    def forming(self):
        self.forms(self.production)
        self.ledger = SiteWriter(self.production)
        self.stack.callback(self.ledger.stop)
        with self.timed("the standby site: blank disks -> all stream"):
            self.standby.start(*self.standby.nodes)
            self.site_follows(self.standby)
        self.counted(self.standby)

    def site_follows(self, lab, seconds=300):
        other = self.other(lab)
        slot = self.configs[lab]["name"]
        wait_until(f"{self.outside(lab)} follows {self.outside(other)}", lambda: other.superuser(other.primary, f"""
            SELECT application_name FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid
            WHERE state = 'streaming' AND slot_name = '{slot}'""") == lab.primary, seconds)
        lab.wait_for_streaming(seconds=seconds)
        wait_until("all nodes are ready", lambda: all(lab.nodes[name].ready for name in lab.database_nodes), seconds)

    @scenario("production's leader changes, and its former one is killed: the site goes on through a slot that is there already")
    def production_changes(self):
        lab = self.production
        for kind in ("switchover", "power loss"):
            former = lab.primary
            wait_until("the slot is on each node", lambda: all(lab.superuser(
                name, f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{STANDBY}'") == "1" for name in lab.database_nodes), 90)
            with self.timed(f"{kind} of production -> the site streams"):
                if kind == "switchover":
                    lab.patronictl("switchover", "--force", "--leader", former, "--candidate", lab.replicas[0])
                else:
                    lab.power_loss(former)
                wait_until("another leads", lambda former=former: (lead := lab.leader()) and lead != former and lab.superuser(
                    lead, "SELECT pg_is_in_recovery()") == "f", 120)
                self.streams(self.standby)
            if kind == "power loss":
                lab.start(former)
            lab.wait_for_streaming(seconds=300)
            with self.at(self.standby):
                for name in self.standby.database_nodes:
                    expect_equal(self.standby.journal(name).count("cloning the leader"), 1, f"clones of {name}")
        self.counted(self.standby)

    def streams(self, lab, seconds=180):
        wait_until(f"{self.outside(lab)} streams", lambda: lab.superuser(
            lab.primary, "SELECT status FROM pg_stat_wal_receiver") == "streaming", seconds)

    @scenario("the head of the site loses its power: another one follows production, through the same slot")
    def head_lost(self):
        lab = self.standby
        former = lab.primary
        with self.timed("power loss of the head -> another one streams"):
            lab.power_loss(former)
            wait_until("another heads the site", lambda: (lead := lab.leader()) and lead != former, 120)
            self.streams(lab)
        lab.start(former)
        self.site_follows(lab)
        self.counted(lab)

    @scenario("the site is promoted, the old production follows it, and back again: no acknowledged row is missing")
    def there_and_back(self):
        """By a command while the other site takes writes and is asked to stop, by the config, and by force where it is gone."""
        for number, how in enumerate(("command", "config", "force", "command")):
            new = (self.standby, self.production)[number % 2]
            old = self.other(new)
            before = self.timeline(old)
            with self.timed(f"{self.outside(new)} promoted by {how} -> a client writes"):
                self.ledger.stop()
                if how == "config":
                    self.apply(new, upstream={"host": self.outside(old), "promote": True})
                    new.restart(*new.database_nodes)
                elif how == "command":
                    new.guest(new.primary).run("virtwork-promote", timeout=240)
                else:
                    self.refused_by_force_alone(old, new)
                wait_until("it takes writes", lambda new=new: (lead := new.leader()) and new.superuser(
                    lead, "SELECT pg_is_in_recovery()") == "f", 240)
                self.ledger.lab = new
                self.ledger.resume()
                self.gets_on(10)
            if how != "force":
                expect_equal(self.writers(old), [], "nodes of the old site that take writes")
            # Without a proof beyond what the old site begins by itself when it starts.
            expect_equal(self.timeline(new), before + (17 if how == "force" else 1), f"the timeline after a takeover by {how}")
            with self.timed(f"{self.outside(old)} follows"):
                self.apply(new, upstream=None)
                self.apply(old, upstream={"host": self.outside(new)})
                old.restart(*old.nodes)
                self.site_follows(old)
            self.gets_on(10)
            for lab in self.configs:
                self.counted(lab)

    def refused_by_force_alone(self, old, new):
        """Nothing proves that the other site, which is off, takes no writes."""
        self.caught_up(new)
        old.stop(*old.nodes)
        try:
            new.guest(new.primary).run("virtwork-promote", timeout=120)
        except CommandFailed as error:
            expect("--force" in str(error), f"virtwork-promote refuses, but says: {error}")
        else:
            raise AssertionError("a site was promoted while nobody knows of the other one")
        new.guest(new.primary).run("virtwork-promote", "--force", timeout=120)
        # It starts as what it was, and stops when it hears of the other site.
        old.start(*old.nodes)

    def timeline(self, lab):
        return int(lab.superuser(lab.primary, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"), 16)

    def writers(self, lab):
        return [name for name in lab.database_nodes if lab.nodes[name].on and
                lab.superuser(name, "SELECT pg_is_in_recovery()") == "f"]

    def gets_on(self, rows=20, seconds=90):
        count = len(self.ledger.acknowledged)
        wait_until("rows are acknowledged", lambda: len(self.ledger.acknowledged) > count + rows, seconds)

    def counted(self, lab):
        numbers = list(self.ledger.acknowledged)
        if lab is not self.ledger.lab:
            self.caught_up(lab)
        for name in lab.database_nodes if lab is not self.ledger.lab else [lab.primary]:
            rows = lab.sql(name, f"SELECT n FROM {self.ledger.TABLE}")
            missing = sorted(set(numbers) - {int(row) for row in rows.split()})
            expect_equal(missing, [], f"acknowledged rows up to {numbers[-1]} that are missing on {name}")


class Archive(Pair):
    title = "one archive for two sites"

    @scenario("production forms, archives and makes a base backup")
    def forming(self):
        self.apply(self.production)
        self.forms(self.production)
        self.ledger = self.new_ledger()
        self.archives(self.production)
        wait_until("there is a base backup", self.backups, 240)

    def backups(self):
        return self.production.guest(self.production.primary).run("virtwork-archive", "list", check=False)

    @scenario("a standby site is made from the archive alone, follows it, and streams as soon as there is a link")
    def alone(self):
        self.apply(self.standby)
        with self.parted():
            with self.timed("blank disks -> the site has what is archived"):
                self.standby.start(*self.standby.nodes)
                wait_until("the head takes queries", lambda: self.standby.superuser(
                    self.standby.primary, "SELECT pg_is_in_recovery()") == "t", 300)
            self.gets_on()
            self.archives(self.production)
            self.caught_up(self.standby, 180)
        with self.timed("a link -> the site streams"):
            self.wait_for_site(self.standby, 180)
        self.counted(self.standby)

    @scenario("a table is dropped; a lab that is restored to the moment before has it")
    def point_in_time(self):
        lab = self.production
        lab.sql(lab.primary, "CREATE TABLE precious AS SELECT generate_series(1, 1000) AS n")
        moment = lab.sql(lab.primary, "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS+00')")
        # A target is a whole second, and what is committed in it may come after it.
        pause(2)
        moment = lab.sql(lab.primary, f"SELECT to_char('{moment}'::timestamptz AT TIME ZONE 'UTC' + interval '1 s', 'YYYY-MM-DD HH24:MI:SS') || '+00'")
        self.gets_on(40)
        lab.sql(lab.primary, "DROP TABLE precious")
        self.gets_on()
        self.archives(lab)
        third = self.restored(restore={"time": moment, "from": "pair"})
        with self.timed("blank disks -> the restored lab takes writes"):
            third.start(*third.nodes)
            third.wait_for_primary(300)
        expect_equal(third.sql(third.primary, "SELECT count(*) FROM precious"), "1000", "rows of the dropped table")
        expect_equal(third.superuser(third.primary, "SELECT pg_is_in_recovery()"), "f", "recovery")
        third.sql(third.primary, "CREATE TABLE afterwards (n int)")
        self.gets_on()

    def restored(self, **changes):
        """A third lab from the same archive, with a part of its own to archive to."""
        third = self.new_lab(router=self.router)
        self.keys(third)
        wanted = config(self.system, name="third", replica_count=0, vm={"data-disk-size": "8Gi"},
                        archive=self.store.config("archive-keys", "third"), **changes)
        third.apply(wanted, self.production.passwords)
        self.configs[third] = wanted
        return third
