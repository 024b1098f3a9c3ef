"""TLS: who has a certificate of the lab's authority is believed, and nobody else; nothing of the lab itself goes in clear."""

import datetime
import os

from scenarios.client import Ledgers
from scenarios.patroni import Patroni
from scenarios.topology import PRECIOUS, Promotions
from shell import CommandFailed, in_netns, run, wait_until
from story import ArgumentWatch, config, expect, expect_equal, pause, scenario

CLIENT = "db-client-0"
NAMESPACE = "lab"
PASSWORDS = {"client-password": "Kor7Client: it's \\ ü", "ca-seed": "Kor7Seed, of which all keys come"}
OPENSSL = """
[req]
distinguished_name = name
[name]
[ca]
default_ca = lab
[lab]
new_certs_dir = .
database = index
rand_serial = yes
default_md = sha256
unique_subject = no
policy = policy
[policy]
commonName = supplied
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
[leaf]
basicConstraints = CA:false
extendedKeyUsage = {usage}
{names}
"""


class Authority:
    """One outside of the lab, as a company has it."""

    def __init__(self, place):
        self.place = place
        place.mkdir()
        (place / "index").touch()
        self.sign("ca", "company")

    def sign(self, file, subject, usage="serverAuth", names="", end=None):
        now = datetime.datetime.now(datetime.timezone.utc)
        start, end = now - datetime.timedelta(days=90), end or now + datetime.timedelta(days=900)
        dates = [when.strftime("%Y%m%d%H%M%SZ") for when in (start, end)]
        names = f"subjectAltName = {names}" if names else ""
        (self.place / "openssl.cnf").write_text(OPENSSL.format(usage=usage, names=names))
        of = ["-selfsign", "-extensions", "authority"] if file == "ca" else ["-cert", "ca.crt", "-extensions", "leaf"]
        for words in (("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{file}.key"),
                      ("req", "-new", "-config", "openssl.cnf", "-key", f"{file}.key", "-subj", f"/CN={subject}", "-out", "csr"),
                      ("ca", "-batch", "-notext", "-config", "openssl.cnf", "-startdate", dates[0], "-enddate", dates[1],
                       "-keyfile", "ca.key", *of, "-in", "csr", "-out", f"{file}.crt")):
            run("env", "-C", str(self.place), "openssl", *words)

    def secret(self, file):
        """As an object."""
        return {"stringData": {key: (self.place / path).read_text() for key, path in (
            ("tls.crt", f"{file}.crt"), ("tls.key", f"{file}.key"), ("ca.crt", "ca.crt"))}}


class Connections:
    """What stories with TLS ask."""

    def connect(self, words, user="pgbench"):
        """From a pod of the namespace."""
        lab = self.lab
        return run(*in_netns(lab.network.client.netns, "psql", "-XAtqw", "-d",
                             f"user={user} dbname=pgbench connect_timeout=5 sslcert=/none {words}", "-c",
                             "SELECT version || ' ' || pg_is_in_recovery() FROM pg_stat_ssl WHERE pid = pg_backend_pid()"),
                   env={**os.environ, "PGPASSWORD": lab.passwords["client-password"]}, timeout=30)

    def accepted(self, words, expected="TLSv1.3 false"):
        expect_equal(self.connect(words), expected, words)

    def turned_away(self, words, messages, user="pgbench"):
        try:
            self.connect(words, user)
        except CommandFailed as error:
            expect(any(message in str(error) for message in messages.split("|")), f"{words}: refused, but because: {error}")
        else:
            raise AssertionError(f"{words}: accepted")

    def authority(self, name):
        """What virtwork-ca prints on a node, in a file."""
        path = self.directory / f"{self.lab.name}-ca.crt"
        path.write_text(self.lab.guest(name).run("virtwork-ca") + "\n")
        return path

    def services(self, authority):
        """Both Services by their names, short and full, and each node by its own."""
        lab = self.lab
        verified = f"sslmode=verify-full sslrootcert={authority}"
        for service, expected in (("primary", "TLSv1.3 false"), ("replicas", "TLSv1.3 true")):
            address = lab.network.service_address(f"{lab.prefix}-{service}")
            for domain in ("", f".{NAMESPACE}", f".{NAMESPACE}.svc", f".{NAMESPACE}.svc.cluster.local"):
                self.accepted(f"host={lab.prefix}-{service}{domain} hostaddr={address} {verified}", expected)
        for name in lab.database_nodes:
            expected = "TLSv1.3 false" if name == lab.primary else "TLSv1.3 true"
            for domain in ("", f".{lab.prefix}-nodes.{NAMESPACE}.svc.cluster.local"):
                self.accepted(f"host={name}{domain} hostaddr={lab.nodes[name].pod.address} {verified}", expected)
        address = lab.network.service_address(f"{lab.prefix}-primary")
        self.turned_away(f"host=db.example.org hostaddr={address} {verified}", "does not match host name")
        self.turned_away(f"host={address} sslmode=disable", "no encryption")
        self.turned_away(f"host={address} sslmode=require ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.1",
                         "SSL error|no protocols")

    def nothing_in_clear(self):
        """Of all sessions that came over the network, as each server sees them."""
        for name in self.lab.database_nodes:
            clear = self.lab.superuser(name, """
                SELECT coalesce(string_agg(concat_ws(' ', usename, application_name, client_addr), ', '), '')
                FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE client_addr IS NOT NULL AND NOT ssl""")
            expect_equal(clear, "", f"sessions in clear on {name}")

    def replicator_without_password(self):
        lab = self.lab
        expect_equal(lab.superuser(lab.primary, "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'replicator'"), "t",
                     "replicator has no password")
        expect("replication-password" not in lab.text, "the bundle has a password of replicator")
        expect("replication-password" not in lab.passwords, "gen made a password for replicator")
        for name in lab.database_nodes:
            found = lab.guest(name).run("grep", "-rls", "replicator:", "/run/postgresql", check=False)
            expect_equal(found, "", f"files on {name} with a password of replicator")
            sent = lab.superuser(name, "SELECT count(*) FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) "
                                 "WHERE client_dn IS DISTINCT FROM '/CN=replicator'")
            expect_equal(sent, "0", f"standbys of {name} without a certificate of replicator")

    def nothing_told(self):
        expect_equal(self.watch.found, set(), "arguments with a secret")
        for name in self.lab.nodes:
            if self.lab.nodes[name].on:
                expect("Kor7" not in self.lab.guest(name).run("journalctl", "--quiet"), f"a secret in the journal of {name}")


class Tls(Connections, Ledgers, Promotions):
    title = "TLS"

    def setup(self):
        self.lab = self.new_lab()
        self.watch = ArgumentWatch("Kor7Client", "Kor7Seed")
        self.stack.callback(self.watch.stop)
        self.config = config(self.system, replica_count=2, tls={"client-certificates": True}, client={"count": 1},
                             pgbench={"read-replicas": 1}, vm={"data-disk-size": "6Gi"})
        self.lab.apply(self.config, PASSWORDS)

    @scenario("forming: standbys log in by certificates and have no password; the ledger and readers verify; nothing goes in clear")
    def forming(self):
        lab = self.lab
        lab.start(*lab.nodes)
        self.formed()
        self.all_ready(120)
        self.gets_on()
        self.nothing_lost("after forming")
        self.replicator_without_password()
        self.nothing_in_clear()
        self.services(self.authority(lab.primary))
        expect_equal(lab.superuser(lab.primary, "SHOW ssl_min_protocol_version"), "TLSv1.2", "the least version")
        wait_until("the load reads on a replica", lambda: any(lab.superuser(
            name, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") > "0" for name in lab.replicas), 60)
        self.turned_away(f"host={lab.nodes[lab.primary].pod.address} dbname=postgres sslmode=require", "valid client certificate", "replicator")
        for name in lab.nodes:
            for path in ("/run/postgresql/virtwork.tls/server.key", "/run/postgresql/virtwork.tls/replicator.key"):
                if name != CLIENT:
                    self.unreadable(lab.guest(name), name, path)
        expect_equal(lab.guest(CLIENT).run("bash", "-c", "ls /run/virtwork-client"), "ca.crt\npgpass", "files of the client")
        self.nothing_told()

    @scenario("all boot again, with new certificates: who was given the authority before still verifies them")
    def reboot(self):
        lab = self.lab
        authority = self.authority(CLIENT)
        self.writer = self.new_writer()
        lab.restart(*lab.nodes)
        self.settled(*lab.database_nodes)
        self.all_ready(120)
        self.services(authority)
        self.gets_on()

    @scenario("another node is promoted after a power cut; the old primary comes back by pg_rewind, over TLS")
    def promoted(self):
        lab = self.lab
        old = self.isolated_rows("only_old")
        lab.power_loss(old)
        self.promote_best(*lab.replicas)
        lab.wait_for_streaming(*(name for name in lab.replicas if name != old))
        lab.start(old)
        self.fenced(old)
        self.rejoin(old, "rewound a copy")
        expect_equal(self.rows_kept(old, self.copies(old)[0], "only_old"), str(PRECIOUS), "rows that only it had")
        self.nothing_in_clear()
        self.replicator_without_password()
        self.gets_on()

    @scenario("a standby that lost its slot clones again, over TLS")
    def cloned(self):
        lab = self.lab
        name = lab.replicas[-1]
        lab.stop(name)
        self.lose_slots(name)
        lab.start(name)
        lab.wait_for_streaming()
        self.in_journal(name, "the clone is complete")
        self.nothing_in_clear()

    @scenario("certificates of an existing Secret, and a password for replicator again: one that does not fit stops the set-up")
    def existing(self):
        lab = self.lab
        self.company = Authority(self.directory / f"{lab.name}-company")
        self.company.sign("other", "other")
        names = ", ".join(f"DNS:{name}" for name in (*lab.database_nodes, "db-primary", "db-replicas"))
        self.company.sign("server", "db", names=names)
        self.config["tls"] = {"existing-secret": "lab-tls"}
        lab.apply(self.config, {**PASSWORDS, "replication-password": "Kor7Repl"})
        lab.objects["Secret", "lab-tls"] = self.company.secret("server")
        broken = lab.replicas[-1]
        lab.objects["Secret", "lab-tls"]["stringData"]["tls.key"] = self.company.secret("other")["stringData"]["tls.key"]
        lab.stop(*lab.nodes)
        lab.start(broken)
        lab.wait_for_journal(broken, "stopped: no certificate: error: `tls.key` and `tls.crt` of the disk tls do not belong together")
        lab.stop(broken)
        lab.objects["Secret", "lab-tls"] = self.company.secret("server")
        lab.start(*lab.nodes)
        lab.wait_for_primary()
        lab.wait_for_streaming()
        self.all_ready(120)
        verified = f"sslmode=verify-full sslrootcert={self.company.place}/ca.crt"
        address = lab.network.service_address("db-primary")
        self.accepted(f"host=db-primary hostaddr={address} {verified}")
        self.nothing_in_clear()
        self.gets_on()
        expect_equal(lab.superuser(lab.primary, "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'replicator'"), "f",
                     "replicator has a password again")

    @scenario("the certificate is about to expire, then has expired: the journals say so, clients and standbys refuse; a new one mends it")
    def expired(self):
        lab = self.lab
        names = ", ".join(f"DNS:{name}" for name in (*lab.database_nodes, "db-primary", "db-replicas"))
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=150)
        self.company.sign("server", "db", names=names, end=end)
        lab.objects["Secret", "lab-tls"] = self.company.secret("server")
        lab.restart(*lab.nodes)
        lab.wait_for_streaming()
        for name in lab.database_nodes:
            self.in_journal(name, "warning: the certificate of the servers expires in 0.0 hours")
        while datetime.datetime.now(datetime.timezone.utc) < end:
            pause(1)
        address = lab.network.service_address("db-primary")
        pod = lab.nodes[lab.primary].pod.address
        self.turned_away(f"host=db-primary hostaddr={pod} sslmode=verify-full sslrootcert={self.company.place}/ca.crt",
                         "certificate has expired|certificate verify failed")
        for name in lab.database_nodes:
            expect_equal(lab.guest(name).run("systemctl", "is-active", "virtwork-certificates.timer"), "active", f"the timer of {name}")
            lab.guest(name).run("systemctl", "start", "virtwork-certificates.service")
            lab.wait_for_journal(name, "warning: the certificate of the servers has expired, on ", 20)
        name = lab.replicas[0]
        lab.restart(name)
        lab.wait_for_journal(name, "warning: the certificate of the servers has expired, on ", 60)
        pause(15)
        expect(name not in lab.streaming(), f"{name} streams from a server with an expired certificate")
        self.company.sign("server", "db", names=names)
        lab.objects["Secret", "lab-tls"] = self.company.secret("server")
        lab.restart(*lab.nodes)
        lab.wait_for_streaming()
        self.all_ready(120)
        self.accepted(f"host=db-primary hostaddr={address} sslmode=verify-full sslrootcert={self.company.place}/ca.crt")
        self.gets_on()
        self.nothing_lost("after all that")
        self.nothing_told()


class PatroniTls(Connections, Ledgers, Patroni):
    title = "TLS, under Patroni"

    def setup(self):
        self.lab = self.new_lab()
        self.watch = ArgumentWatch("Kor7Client", "Kor7Seed")
        self.stack.callback(self.watch.stop)
        self.config = self.lab_config(replica_count=1, tls={"client-certificates": True}, client={"count": 1})
        self.lab.apply(self.config, PASSWORDS)

    @scenario("forming: standbys log in by certificates and have no password; HAProxy passes TLS through; nothing goes in clear")
    def forming(self):
        lab = self.lab
        self.forms()
        wait_until("the client is ready", lambda: lab.nodes[CLIENT].ready, 120)
        self.gets_on()
        self.nothing_lost("after forming")
        self.replicator_without_password()
        self.nothing_in_clear()
        self.services(self.authority(lab.primary))
        self.nothing_told()

    @scenario("the leader loses its power: the next one leads by TLS, the old one comes back by pg_rewind or a clone, over TLS")
    def failover(self):
        lab = self.lab
        authority = self.authority(CLIENT)
        old = lab.primary
        lab.power_loss(old)
        wait_until("another one leads", lambda: lab.leader() not in (None, old), 120)
        lab.start(old)
        self.settled()
        self.services(authority)
        self.nothing_in_clear()
        self.replicator_without_password()
        self.gets_on()

    @scenario("a switchover leads on, over TLS")
    def switched(self):
        lab = self.lab
        old = lab.primary
        new = lab.replicas[0]
        lab.patronictl("switchover", "--force", "--leader", old, "--candidate", new, "db")
        wait_until(f"{new} leads", lambda: lab.leader() == new, 60)
        self.settled()
        self.nothing_in_clear()
        self.nothing_told()
