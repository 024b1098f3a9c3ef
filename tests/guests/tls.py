#!/usr/bin/python3
"""Connects to PostgreSQL servers of this machine with the certificates that nodes make, and without them.

    tests/guests/tls.py        needs root, PostgreSQL's server, openssl

All of it runs in namespaces of its own, which end with it: network, mounts, host name and processes.
"""

import contextlib
import datetime
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from functools import partial

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from load import AS_POSTGRES, BINARIES, REPOSITORY, expect, run, wait_for  # noqa: E402

WORK = pathlib.Path("/run/virtwork-tls-test")
TLS = pathlib.Path("/run/postgresql/virtwork.tls")
CLIENT = pathlib.Path("/run/virtwork-client")
LIBRARY = pathlib.Path("/usr/local/lib/virtwork")
NODES = {"db-primary-0": "127.0.0.11", "db-replica-0": "127.0.0.12"}
SEED = "a seed that nobody guesses"
LAB = """LAB=db
NODES_HOST=db-nodes
REPLICA_COUNT=1
STANDBY_MODE=hot
PGBENCH_SCALE=1
TLS_SOURCE={source}
TLS_SEED_KEY=ca-seed
TLS_REPLICATOR={replicator}
TLS_NAMES='db.example.com 192.0.2.10 db-replica-0'
"""
SETTINGS = """
listen_addresses = '{address}'
unix_socket_directories = '{socket}'
fsync = off
wal_keep_size = '64MB'
wal_log_hints = on
wal_retrieve_retry_interval = '200ms'
ssl = on
ssl_min_protocol_version = 'TLSv1.2'
ssl_cert_file = '/run/postgresql/virtwork.tls/server.crt'
ssl_key_file = '/run/postgresql/virtwork.tls/server.key'
ssl_ca_file = '/run/postgresql/virtwork.tls/ca.crt'
"""
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
DAY = datetime.timedelta(days=1)


def lab(source="derived", replicator="password"):
    pathlib.Path("/etc/virtwork/lab.env").write_text(LAB.format(source=source, replicator=replicator))


def shell(text, check=True, node="db-primary-0"):
    """A script of a node, with what its set-up sources."""
    program = (f". {LIBRARY}/lib.sh; . {LIBRARY}/standby.sh; . {LIBRARY}/database.sh; PATH={BINARIES}:$PATH; "
               f"NODE={node} SLOT={node.replace('-', '_')}; ")
    done = subprocess.run(["bash", "-euc", program + text], capture_output=True, text=True)
    expect(done.returncode == 0 or not check, f"{text}: {done.stdout}{done.stderr}")
    return done.stdout.strip() if check else done


def certificates(*words):
    """What the program says; the exit status goes with it."""
    done = subprocess.run([sys.executable, "-I", str(LIBRARY / "certificates.py"), *map(str, words)], capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip()


def derive():
    secret = WORK / "credentials"
    secret.mkdir(exist_ok=True)
    (secret / "ca-seed").write_text(SEED + "\n")
    expect(certificates("derive", secret / "ca-seed", TLS) == (0, ""), "the certificates are derived without a word")


class Authority:
    """One of somebody else."""

    def __init__(self, name, start=None, end=None):
        self.place = WORK / name
        self.place.mkdir()
        (self.place / "index").touch()
        self.sign("ca", name, start, end)

    def openssl(self, *words):
        run("env", "-C", self.place, "openssl", *words)

    def sign(self, file, subject, start=None, end=None, usage="serverAuth", names=""):
        now = datetime.datetime.now(datetime.timezone.utc)
        dates = [when.strftime("%Y%m%d%H%M%SZ") for when in (start or now - 2 * DAY, end or now + 900 * DAY)]
        names = f"subjectAltName = {names}" if names else ""
        (self.place / "openssl.cnf").write_text(OPENSSL.format(usage=usage, names=names))
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{file}.key")
        self.openssl("req", "-new", "-config", "openssl.cnf", "-key", f"{file}.key", "-subj", f"/CN={subject}", "-out", "csr")
        of = ["-selfsign", "-extensions", "authority"] if file == "ca" else ["-cert", "ca.crt", "-extensions", "leaf"]
        self.openssl("ca", "-batch", "-notext", "-config", "openssl.cnf", "-startdate", dates[0], "-enddate", dates[1], "-keyfile",
                     "ca.key", *of, "-in", "csr", "-out", f"{file}.crt")

    def secret(self, name, file):
        """As the disk of a Secret."""
        place = WORK / "disks" / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for key, path in (("tls.crt", f"{file}.crt"), ("tls.key", f"{file}.key"), ("ca.crt", "ca.crt")):
            shutil.copy(self.place / path, place / key)
        return place


class Server:
    def __init__(self, name):
        self.name, self.address = name, NODES[name]
        self.data, self.socket = WORK / name, WORK / f"{name}.socket"
        self.socket.mkdir(exist_ok=True)
        run("chown", "postgres", self.socket)

    def initialise(self):
        run(*AS_POSTGRES, f"{BINARIES}/initdb", "-D", self.data, "--auth-local=peer", "--auth-host=scram-sha-256", "--data-checksums",
            "--no-sync")
        self.configure()
        self.start()

    def configure(self, further="", hba="passwords"):
        """Managed lines come first, and what initdb wrote stays below them."""
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(SETTINGS.format(address=self.address, socket=self.socket) + further)
        managed = (REPOSITORY / f"templates/tls/{hba}/pg_hba.conf").read_text()
        rest = WORK / f"{self.name}.rest"
        if not rest.exists():
            shutil.copy(self.data / "pg_hba.conf", rest)
        (self.data / "pg_hba.conf").write_text(managed + rest.read_text())

    def start(self):
        run(*AS_POSTGRES, f"{BINARIES}/pg_ctl", "start", "-w", "-s", "-D", self.data, "-l", WORK / f"{self.name}.log")

    def stop(self):
        run(*AS_POSTGRES, f"{BINARIES}/pg_ctl", "stop", "-w", "-s", "-m", "fast", "-D", self.data)

    def sql(self, statement):
        return run(*AS_POSTGRES, f"{BINARIES}/psql", "-XAtqw", "-h", self.socket, "-d", "postgres", "-c", statement)


def connect(words, role="pgbench"):
    """The answer, and whether it is one."""
    done = subprocess.run([*AS_POSTGRES, f"{BINARIES}/psql", "-XAtqw", "-d",
                           f"user={role} dbname=postgres passfile=/run/postgresql/virtwork.pgpass connect_timeout=5 {words}",
                           "-c", "SELECT version || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"],
                          capture_output=True, text=True)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def accepted(words, role="pgbench"):
    known, answer = connect(words, role)
    expect(known and re.fullmatch(r"TLSv1\.[23] true", answer), f"{role}, {words}: {answer}")


def refused(words, why, role="pgbench"):
    known, answer = connect(words, role)
    expect(not known and re.search(why, answer), f"{role}, {words}: {answer}, expected {why}")


def tls_words(host, role="pgbench"):
    return f"host={host}{shell(f'tls_words {host} {role}')}".replace("sslmode", " sslmode", 1)


# The stories.

def derived(primary):
    for name in ("db-primary-0", "db-primary", "db-replicas", "db-primary-0.db-nodes", "db-primary.lab", "db-primary.lab.svc",
                 "db-primary.lab.svc.cluster.local", "db-primary-0.db-nodes.lab.svc.cluster.local", "db.example.com"):
        accepted(tls_words(name))
    accepted(tls_words("localhost") + f" hostaddr={primary.address}")
    refused(tls_words("elsewhere.example.com"), "does not match host name|server certificate for")
    refused("host=db-primary-0 sslmode=disable", "pg_hba.conf rejects connection .* no encryption")
    refused("host=127.0.0.11 sslmode=disable", "pg_hba.conf rejects connection .* no encryption")
    refused("host=db-primary-0 sslmode=require sslcert=/none ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.1", "SSL error|protocol")
    Authority("wrong")
    refused(f"host=db-primary-0 sslmode=verify-full sslrootcert={WORK}/wrong/ca.crt sslcert=/none", "certificate verify failed|self.signed certificate")
    # That of etcd and Patroni, of the same seed.
    run(sys.executable, "-I", LIBRARY / "pki.py", WORK / "credentials/ca-seed", "db-primary-0", "/run/virtwork-pki")
    refused("host=db-primary-0 sslmode=verify-full sslrootcert=/run/virtwork-pki/ca.crt sslcert=/none", "certificate verify failed")


def passwords(primary):
    accepted(tls_words("db-primary-0", "replicator"), "replicator")
    refused("host=db-primary-0 sslmode=disable", "pg_hba.conf rejects connection", "replicator")
    system = shell("PRIMARY_HOST=db-primary-0; replication_command IDENTIFY_SYSTEM")
    expect("|" in system, f"the replication protocol: {system}")


def authorities_are_one(primary):
    """What one node verifies with is what another one signs for; a client has the authority alone."""
    before = (TLS / "ca.crt").read_bytes()
    shutil.copy(TLS / "ca.crt", WORK / "ca-of-another.crt")
    derive()
    expect((TLS / "ca.crt").read_bytes() != before, "each signature is another one")
    accepted(f"host=db-primary sslmode=verify-full sslrootcert={WORK}/ca-of-another.crt sslcert=/none")
    primary.sql("SELECT pg_reload_conf()")
    time.sleep(1)
    accepted(f"host=db-primary sslmode=verify-full sslrootcert={WORK}/ca-of-another.crt sslcert=/none")
    expect(certificates("derive-authority", WORK / "credentials/ca-seed", CLIENT) == (0, ""), "the client's authority")
    expect(sorted(os.listdir(CLIENT)) == ["ca.crt"], f"a client has {os.listdir(CLIENT)}")
    accepted(f"host=db-primary sslmode=verify-full sslrootcert={CLIENT}/ca.crt sslcert=/none")
    shown = run("bash", REPOSITORY / "templates/tls/virtwork-ca")
    expect(shown == (TLS / "ca.crt").read_text().strip(), "virtwork-ca shows another one")
    run("openssl", "x509", "-in", TLS / "server.crt", "-noout", "-checkend", 10**9)
    modes = {path.name: (oct(path.stat().st_mode & 0o777), path.owner()) for path in TLS.iterdir()}
    expect(modes == {"ca.crt": ("0o644", "root"), "server.crt": ("0o644", "root"), "server.key": ("0o600", "postgres")}, modes)
    for seed, said in (("", "less than 16 bytes"), ("short", "less than 16 bytes")):
        (WORK / "credentials/short-seed").write_text(seed)
        status, text = certificates("derive", WORK / "credentials/short-seed", TLS)
        expect(status and f"`short-seed`: it has {said}" in text, text)


def python(primary):
    """libpq.py does by itself what the shell's functions say."""
    program = """
import sys; sys.path.insert(0, '/usr/local/lib/virtwork')
import libpq
session = libpq.Connection('test', host='db-primary-0', user='pgbench', passfile='/run/postgresql/virtwork.pgpass')
print(session.rows('SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()'))
try:
    libpq.Connection('test', host='elsewhere.example.com', user='pgbench', passfile='/run/postgresql/virtwork.pgpass')
except libpq.Failure as failure:
    print(failure)
print(libpq.words(libpq.tls()))
"""
    said = run(*AS_POSTGRES, sys.executable, "-I", "-c", program).splitlines()
    expect(said[0] == "[['true']]" and "does not match host name" in said[1] and said[2].startswith("sslmode=verify-full"), said)


def streaming(primary):
    """A standby follows once it has what it logs in with, and not before; afterwards pg_rewind takes the old primary back."""
    for replicator, hba in (("password", "passwords"), ("certificate", "certificates")):
        lab(replicator=replicator)
        derive()
        primary.configure(hba=hba)
        primary.stop()
        primary.start()
        shell(f"PGHOST={primary.socket}; REPLICATION_PASSWORD={'secret' if hba == 'passwords' else ''} CLIENT_PASSWORD=measured; ensure_roles")
        pgpass("secret" if hba == "passwords" else "")
        has_password = primary.sql("SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'replicator'")
        expect(has_password == ("t" if hba == "passwords" else "f"), f"replicator's password: {has_password}")
        standby = Server("db-replica-0")
        node = "PRIMARY_HOST=db-primary-0; "
        shell(node + "receivewal --create-slot --if-not-exists", node="db-replica-0")
        shell(node + f"as_postgres pg_basebackup --no-password -D {standby.data} -d \"$(connection replicator)\" -X stream "
              "-S \"$SLOT\" --checkpoint=fast --no-sync", node="db-replica-0")
        settings = shell(node + "standby_settings", node="db-replica-0")
        expect("sslmode=verify-full" in settings and ("sslkey=" in settings) == (replicator == "certificate"), settings)
        standby.configure(settings + "\n", hba)
        (standby.data / "standby.signal").touch()
        standby.start()
        time.sleep(2)
        receivers = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
        expect(standby.sql(receivers) == "0", "it streams before it may")
        shell("allow_streaming; [[ -e $STREAMING_PASSFILE ]]")
        wait_for("it streams", partial(lambda node, query: node.sql(query) == "1", standby, receivers), 10)
        expect(primary.sql("SELECT ssl::text FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)") == "true", "it streams in clear")
        wait_for("what it logs in with goes", lambda: not pathlib.Path("/run/postgresql/virtwork.streaming.pgpass").exists(), 10)
        # The old primary writes on after the promotion.
        run(*AS_POSTGRES, f"{BINARIES}/pg_ctl", "promote", "-w", "-s", "-D", standby.data)
        standby.sql("CHECKPOINT")
        primary.sql("CREATE TABLE late (a int)")
        primary.stop()
        shell(f"PRIMARY_HOST=db-replica-0; as_postgres pg_rewind -D {primary.data} "
              "--source-server=\"$(connection replicator) dbname=postgres\"")
        standby.stop()
        run("rm", "-rf", standby.data)
        run("rm", "-f", primary.data / "standby.signal")
        # What pg_rewind copied listens elsewhere.
        primary.configure(hba=hba)
        primary.start()
        primary.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def by_certificate(primary):
    """Whoever is replicator has a certificate of that name from the lab's authority, and nothing else will do."""
    words = tls_words("db-primary-0", "replicator")
    accepted(words, "replicator")
    refused(tls_words("db-primary-0"), "connection requires a valid client certificate", "replicator")
    refused(words.replace("sslmode=verify-full", "sslmode=disable"), "pg_hba.conf rejects connection", "replicator")
    sys.path.insert(0, str(LIBRARY))
    import pki
    seed = pki.read_seed(str(WORK / "credentials/ca-seed"))
    owner = TLS.joinpath("server.key").stat().st_uid
    for name, purpose, subject, usage, why in (
        ("of-pgbench", b"postgresql authority P-256", "pgbench", "clientAuth", "certificate authentication failed"),
        ("for-servers", b"postgresql authority P-256", "replicator", "serverAuth", "unsupported certificate|unsuitable certificate|alert"),
        ("of-etcd", b"authority P-256", "replicator", "clientAuth", "unknown ca|alert|SSL error"),
    ):
        pki.make(seed, purpose, [pki.Leaf("x", subject, usage)], WORK / name, owner)
        words = tls_words("db-primary-0").replace(f"{TLS}/none.crt", f"{WORK}/{name}/x.crt")
        refused(f"{words} sslkey={WORK}/{name}/x.key", why, "replicator")
    accepted(tls_words("db-primary-0"))


def of_a_secret(primary):
    """Certificates of somebody else: what does not fit together is refused, and what is there stays."""
    lab("secret", "certificate")
    names = "DNS:db-primary-0, DNS:db-replica-0, DNS:db-primary, DNS:db-replicas"
    company = Authority("company")
    company.sign("server", "db", names=names)
    company.sign("replicator", "replicator", usage="clientAuth")
    company.sign("other", "other", usage="clientAuth")
    of_role = company.secret("tls-replicator", "replicator")
    expect(certificates("copy", company.secret("tls", "server"), TLS, of_role) == (0, ""), "certificates that fit")
    primary.stop()
    primary.start()
    accepted(tls_words("db-primary-0"))
    accepted(tls_words("db-primary-0", "replicator"), "replicator")
    good = (TLS / "server.crt").read_bytes()
    for key in ("tls.crt", "tls.key", "ca.crt"):
        secret = company.secret("tls", "server")
        (secret / key).unlink()
        status, said = certificates("copy", secret, TLS, of_role)
        expect(status and said == f"error: the Secret of the disk tls has no key `{key}`", said)
        (secret / key).write_text("hello\n")
        status, said = certificates("copy", secret, TLS, of_role)
        expect(status and f"`{key}` of the disk tls" in said, said)
    secret = company.secret("tls", "server")
    shutil.copy(company.place / "other.key", secret / "tls.key")
    status, said = certificates("copy", secret, TLS, of_role)
    expect(status and "do not belong together" in said, said)
    run("openssl", "pkey", "-in", company.place / "server.key", "-aes256", "-passout", "pass:hidden", "-out", secret / "tls.key")
    status, said = certificates("copy", secret, TLS, of_role)
    expect(status and "without a password" in said, said)
    secret = company.secret("tls", "server")
    shutil.copy(WORK / "wrong/ca.crt", secret / "ca.crt")
    status, said = certificates("copy", secret, TLS, of_role)
    expect(status and "`tls.crt` of the disk tls: error 20" in said, said)
    status, said = certificates("copy", company.secret("tls", "server"), TLS, company.secret("tls-replicator", "other"))
    expect(status and "common name" in said, said)
    status, said = certificates("copy", company.secret("tls", "replicator"), TLS, of_role)
    expect(status and "error 26" in said, said)
    expect((TLS / "server.crt").read_bytes() == good, "a Secret that is wrong took the place of what was there")
    company.sign("nameless", "db", names="DNS:db-replica-0")
    status, said = certificates("copy", company.secret("tls", "nameless"), TLS, company.secret("tls-replicator", "replicator"))
    expect(not status and "does not have the names db-primary-0, db-primary, db-replicas" in said, said)
    expect(certificates("copy-authority", company.secret("tls", "server"), CLIENT) == (0, ""), "the client's authority")


def dates(primary):
    """What has expired is said, and who verifies refuses it; what is about to is said before."""
    now = datetime.datetime.now(datetime.timezone.utc)
    company = Authority("dated")
    names = "DNS:db-primary-0, DNS:db-primary, DNS:db-replicas"
    company.sign("replicator", "replicator", usage="clientAuth")
    company.sign("stale", "replicator", usage="clientAuth", end=now - DAY)
    for end, said in ((now - DAY, "warning: the certificate of the servers has expired, on "),
                      (now + 5 * DAY, "warning: the certificate of the servers expires in 4 days, on "),
                      (now + DAY, "warning: the certificate of the servers expires in "), (now + 100 * DAY, "")):
        company.sign("server", "db", now - 90 * DAY, end, names=names)
        status, text = certificates("copy", company.secret("tls", "server"), TLS, company.secret("tls-replicator", "replicator"))
        expect(not status and text.startswith(said) and bool(text) == bool(said), f"{end}: {text}")
        expect(certificates("check") == (0, text) or said.startswith("warning: the certificate of the servers expires"), text)
        primary.stop()
        primary.start()
        if end < now:
            refused(tls_words("db-primary-0"), "certificate has expired|certificate verify failed")
            refused(tls_words("db-primary-0", "replicator"), "certificate has expired|certificate verify failed", "replicator")
            probe = shell("tls_words db-primary-0 pgbench")
            expect("verify-full" in probe, probe)
        else:
            accepted(tls_words("db-primary-0"))
    status, text = certificates("copy", company.secret("tls", "server"), TLS, company.secret("tls-replicator", "stale"))
    expect(not status and "the certificate of replicator has expired" in text and "the primary refuses this node" in text, text)
    refused(tls_words("db-primary-0", "replicator"), "certificate expired|SSL error", "replicator")
    # One that ends while the server runs: the hourly look says so.
    company.sign("server", "db", end=now + datetime.timedelta(seconds=20), names=names)
    certificates("copy", company.secret("tls", "server"), TLS, company.secret("tls-replicator", "replicator"))
    primary.stop()
    primary.start()
    accepted(tls_words("db-primary-0"))
    wait_for("it says so", lambda: "the certificate of the servers has expired" in certificates("check")[1], 60)
    refused(tls_words("db-primary-0"), "certificate has expired|certificate verify failed")


def set_up(primary):
    """What a set-up does with the disks, which are directories here."""
    disks = f"""disk_path() {{ echo {WORK}/disks/$1; }}; wait_for_disk() {{ [[ -d $1 ]]; }}
        mount() {{ command mount --bind "${{@: -2:1}}" "${{@: -1}}"; }}; systemctl() {{ echo "systemctl $*"; }}; """
    company = Authority("set-up")
    company.sign("server", "db", names="DNS:db-primary-0, DNS:db-primary, DNS:db-replicas")
    company.sign("replicator", "replicator", usage="clientAuth")
    company.secret("tls", "server")
    company.secret("tls-replicator", "replicator")
    shutil.copytree(WORK / "credentials", WORK / "disks/credentials")
    for replicator in ("certificate", "password"):
        for source, said in (("secret", "systemctl --no-block start virtwork-certificates.timer"), ("derived", "")):
            lab(source, replicator)
            shutil.rmtree(TLS)
            shutil.rmtree(CLIENT)
            CLIENT.mkdir()
            told = shell(disks + f"set_up_tls; set_up_authority {CLIENT}").splitlines()
            expect(told == [said, said] if said else not told, told)
            wanted = {"ca.crt", "server.crt", "server.key"} | ({"replicator.crt", "replicator.key"} if replicator == "certificate" else set())
            expect(set(os.listdir(TLS)) == wanted and os.listdir(CLIENT) == ["ca.crt"], f"{os.listdir(TLS)}, {os.listdir(CLIENT)}")
            is_company = (TLS / "ca.crt").read_bytes() == (company.place / "ca.crt").read_bytes()
            expect(is_company == (source == "secret"), f"{source}: the authority is another one")
            expect("/run/virtwork/" not in pathlib.Path("/proc/mounts").read_text(), "a disk stays mounted")
    lab("secret", "password")
    (WORK / "disks/tls/tls.key").write_text("")
    done = shell(disks + "set_up_tls", check=False)
    expect(done.returncode == 78 and "stopped: no certificate: error: the Secret of the disk tls has no key `tls.key`; nothing was touched"
           in done.stdout, f"{done.returncode}: {done.stdout}{done.stderr}")
    expect("/run/virtwork/" not in pathlib.Path("/proc/mounts").read_text(), "a disk stays mounted after a refusal")


def pgpass(replicator):
    lines = (f"*:*:*:replicator:{replicator}\n" if replicator else "") + "*:*:*:pgbench:measured\n"
    path = pathlib.Path("/run/postgresql/virtwork.pgpass")
    path.write_text(lines)
    path.chmod(0o600)
    run("chown", "postgres", path)


def inside():
    """As the first process of its own namespaces."""
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    WORK.mkdir()
    for place in ("/etc", "/usr/local"):
        upper, work = WORK / f"upper{place.replace('/', '-')}", WORK / f"work{place.replace('/', '-')}"
        upper.mkdir()
        work.mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", place)
    run("hostname", "db-primary-0")
    for directory in (pathlib.Path("/run/postgresql"), pathlib.Path("/run/virtwork"), CLIENT, pathlib.Path("/etc/virtwork")):
        directory.mkdir(exist_ok=True)
    run("chown", "postgres", "/run/postgresql", WORK)
    ours = "db-primary db-replicas db-primary-0.db-nodes db-primary.lab db-primary.lab.svc db-primary.lab.svc.cluster.local " \
        "db-primary-0.db-nodes.lab.svc.cluster.local db.example.com elsewhere.example.com"
    pathlib.Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.0.11 db-primary-0 {ours}\n127.0.0.12 db-replica-0\n")
    with contextlib.suppress(OSError):
        pathlib.Path("/etc/resolv.conf").unlink()
    pathlib.Path("/etc/resolv.conf").write_text("search db-nodes.lab.svc.cluster.local lab.svc.cluster.local\n")
    for template in ("common/lib.sh", "common/lab.py", "common/libpq.py", "common/pki.py", "common/wal.sh", "common/database.sh",
                     "manual/standby.sh", "manual/peers.sh", "tls/tls.sh", "tls/certificates.py", "debian/family.sh"):
        run("install", "-D", REPOSITORY / "templates" / template, LIBRARY / template.partition("/")[2])
    run("ip", "link", "set", "lo", "up")
    lab()
    derive()
    primary = Server("db-primary-0")
    primary.initialise()
    shell(f"PGHOST={primary.socket}; REPLICATION_PASSWORD=secret CLIENT_PASSWORD=measured; ensure_roles")
    pgpass("secret")
    try:
        for story in (derived, passwords, authorities_are_one, python, streaming, by_certificate, of_a_secret, dates, set_up):
            started = time.monotonic()
            print(story.__name__.replace("_", " "), flush=True)
            story(primary)
            print(f"  {time.monotonic() - started:.0f} s", flush=True)
    except BaseException:
        for file in sorted(WORK.glob("*.log")):
            print(f"--- {file}", *file.read_text().splitlines()[-30:], sep="\n")
        raise
    primary.stop()


def outside():
    return subprocess.run(["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child",
                           "bash", "-c", '"$@"; exit', "-", sys.executable, __file__, "inside"]).returncode


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        inside()
    else:
        sys.exit(outside())
