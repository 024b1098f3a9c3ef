"""Certificates of PostgreSQL, in DIRECTORY: ca.crt, server.crt and server.key, and where the role replicator logs in by a
certificate replicator.crt and replicator.key.

certificates.py derive SEED DIRECTORY
    signs them, for an authority that all nodes derive from the file SEED. They never expire.
certificates.py copy SECRET DIRECTORY [REPLICATOR]
    takes them from the disks of Secrets with tls.crt, tls.key and ca.crt, when they fit together.
certificates.py derive-authority SEED DIRECTORY, copy-authority SECRET DIRECTORY
    is ca.crt alone, for a client.
certificates.py check
    says which of them have expired, or are about to.
"""

from __future__ import annotations

import datetime
import os
import pathlib
import pwd
import re
import subprocess
import sys
from typing import Any

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402

PURPOSE = b"postgresql authority P-256"
DIRECTORIES = (pathlib.Path("/run/postgresql/virtwork.tls"), pathlib.Path("/run/virtwork-client"))
WHOSE = {"server.crt": "the certificate of the servers", "replicator.crt": "the certificate of replicator",
         "ca.crt": "the authority"}
NOTICE = datetime.timedelta(days=14)
SECONDS_FOR_NAMES = 30
HAS_REPLICATOR = lab.LAB["TLS_REPLICATOR"] == "certificate"


# Names.

def search_domain() -> str:
    """That of the nodes, such as db-nodes.lab.svc.cluster.local; ValueError where the network has not said it."""
    start = f"{lab.LAB['NODES_HOST']}."
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        try:
            lines = pathlib.Path(path).read_text().splitlines()
        except OSError:
            continue
        for word in (word for line in lines if line.startswith("search") for word in line.split()[1:]):
            # It comes from the network, and goes into openssl's configuration.
            if word.startswith(start) and re.fullmatch(r"[A-Za-z0-9.-]+", word):
                return word.rstrip(".")
    raise ValueError(f"no search domain begins with {start}")


def names() -> list[str]:
    """Whatever the lab itself and people call this node and the Services that may lead to it, as subjectAltName has it."""
    name, nodes = lab.LAB["LAB"], lab.LAB["NODES_HOST"]
    called = [f"{lab.NODE}.{nodes}", f"{name}-primary", f"{name}-replicas", nodes]
    found = [lab.NODE, "localhost", *called]
    domain = lab.retry(1, "the names of the certificate", search_domain, SECONDS_FOR_NAMES)
    if domain:
        namespace, *rest = domain.split(".")[1:]
        ends = [namespace, f"{namespace}.svc", ".".join((namespace, *rest))]
        found += [f"{one}.{end}" for one in called for end in ends]
    else:
        lab.log("warning: the certificate has no names but those within the namespace: the network says none of its domain")
    found += [one for one in lab.LAB["TLS_NAMES"].split() if not is_address(one)]
    addresses = ["127.0.0.1", "::1", *filter(is_address, lab.LAB["TLS_NAMES"].split())]
    return [*(f"DNS:{one}" for one in dict.fromkeys(found)), *(f"IP:{one}" for one in addresses)]


def is_address(name: str) -> bool:
    return ":" in name or re.fullmatch(r"[0-9.]+", name) is not None


# What openssl says of a file.

def openssl(*words: str, text: str | None = None) -> str:
    """ValueError with the line that says why where it fails."""
    done = subprocess.run(["openssl", *words], input=text or "", capture_output=True, text=True, check=False,
                          env={**os.environ, "LC_ALL": "C"})
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        marked = [line for line in lines if re.match(r"error \d", line)]
        raise ValueError((marked or lines[-1:] or ["openssl failed"])[0])
    return done.stdout


def blocks(path: pathlib.Path) -> list[str]:
    """The certificates of a file, of which the first one is that which the file is about."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        text = ""
    return re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", text, re.DOTALL)


def dates(block: str) -> tuple[datetime.datetime, datetime.datetime]:
    lines = openssl("x509", "-noout", "-startdate", "-enddate", text=block).splitlines()
    when = [datetime.datetime.strptime(line.partition("=")[2], "%b %d %H:%M:%S %Y %Z") for line in lines]
    start, end = (one.replace(tzinfo=datetime.timezone.utc) for one in when)
    return start, end


# Those of a Secret.

def of_secret(secret: pathlib.Path, key: str) -> pathlib.Path:
    path = secret / key
    if not path.is_file() or path.stat().st_size == 0:
        sys.exit(f"error: the Secret of the disk {secret.name} has no key `{key}`")
    if key != "tls.key" and not blocks(path):
        sys.exit(f"error: `{key}` of the disk {secret.name} holds no certificate")
    return path


def pair(secret: pathlib.Path, authority: pathlib.Path, purpose: str) -> tuple[pathlib.Path, pathlib.Path]:
    """A certificate and its key, when they belong together, are of the authority, and are for this purpose."""
    certificate, key = of_secret(secret, "tls.crt"), of_secret(secret, "tls.key")
    try:
        of_key = openssl("pkey", "-in", str(key), "-passin", "pass:", "-pubout")
    except ValueError:
        sys.exit(f"error: `tls.key` of the disk {secret.name} is no private key that can be read without a password")
    try:
        if of_key != openssl("x509", "-noout", "-pubkey", text=blocks(certificate)[0]):
            sys.exit(f"error: `tls.key` and `tls.crt` of the disk {secret.name} do not belong together")
        # What has expired is told, and no fault of the Secret.
        openssl("verify", "-no_check_time", "-no-CApath", "-purpose", purpose, "-CAfile", str(authority), "-untrusted",
                str(certificate), str(certificate))
    except ValueError as error:
        sys.exit(f"error: `tls.crt` of the disk {secret.name}: {error}")
    return certificate, key


def warn_of_names(certificate: pathlib.Path) -> None:
    """A node that is new may have a certificate which was made before it."""
    wanted = [lab.NODE, f"{lab.LAB['LAB']}-primary", f"{lab.LAB['LAB']}-replicas"]
    if lab.ETCD_NODES:
        # Patroni asks its own server by this one.
        wanted.append("localhost")
    block = blocks(certificate)[0]
    missing = [name for name in wanted if "NOT" in openssl("x509", "-noout", "-checkhost", name, text=block)]
    if missing:
        lab.log(f"warning: the certificate of the servers does not have the names {', '.join(missing)}: who verifies it refuses "
                "this node by those; when the Secret has one that does, stop and start the VM")


def copy(secret: pathlib.Path, target: pathlib.Path, replicator: pathlib.Path | None) -> None:
    import pki
    authority = of_secret(secret, "ca.crt")
    pairs = {"server": pair(secret, authority, "sslserver")}
    if replicator:
        pairs["replicator"] = pair(replicator, authority, "sslclient")
        subject = openssl("x509", "-noout", "-subject", "-nameopt", "multiline", text=blocks(pairs["replicator"][0])[0])
        if re.findall(r"commonName\s*= (.*)", subject) != ["replicator"]:
            sys.exit(f"error: the common name of `tls.crt` of the disk {replicator.name} is not `replicator`")
    warn_of_names(pairs["server"][0])
    owner = pwd.getpwnam("postgres").pw_uid
    target.mkdir(exist_ok=True)
    target.chmod(0o755)
    for name, (certificate, key) in pairs.items():
        pki.put(target / f"{name}.key", key.read_bytes(), 0o600, owner)
        pki.put(target / f"{name}.crt", certificate.read_bytes(), 0o644)
    pki.put(target / "ca.crt", authority.read_bytes(), 0o644)


def derive(seed: str, target: pathlib.Path) -> None:
    import pki
    leaves = [pki.Leaf("server", lab.NODE, "serverAuth", names())]
    if HAS_REPLICATOR:
        leaves.append(pki.Leaf("replicator", "replicator", "clientAuth"))
    pki.make(read_seed(seed), PURPOSE, leaves, target, pwd.getpwnam("postgres").pw_uid)


def read_seed(seed: str) -> bytes:
    import pki
    try:
        return pki.read_seed(seed)
    except SystemExit as error:
        sys.exit(f"error: the Secret's key `{pathlib.Path(seed).name}`: {str(error).replace('error: ', '')}")


# Their dates.

def state(name: str, directory: pathlib.Path, now: datetime.datetime) -> str:
    """What is to be said of a file; of several certificates in it a chain is as good as the worst, and authorities as the best."""
    lives = [dates(block) for block in blocks(directory / name)]
    if not lives:
        return ""
    choose: Any = max if name == "ca.crt" else min
    start, end = choose(lives, key=lambda life: life[1])
    fate = "renew it in the Secret, then stop and start the VM"
    consequence = {"server.crt": "who verifies it refuses this node", "replicator.crt": "the primary refuses this node",
                   "ca.crt": "nobody is trusted any more"}[name]
    if end <= now:
        return f"{WHOSE[name]} has expired, on {lab.stamp(end.timestamp())}: {consequence}; {fate}"
    if start > now:
        return f"{WHOSE[name]} is not valid before {lab.stamp(start.timestamp())}: {consequence}; is the clock right?"
    if end - now < min(NOTICE, (end - start) / 3):
        left = end - now
        days = f"{left.days} days" if left.days > 1 else f"{left.total_seconds() / 3600:.1f} hours"
        return f"{WHOSE[name]} expires in {days}, on {lab.stamp(end.timestamp())}: then {consequence}; {fate}"
    return ""


def check() -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    for directory in filter(pathlib.Path.is_dir, DIRECTORIES):
        for name in WHOSE:
            said = state(name, directory, now)
            if said:
                lab.log(f"warning: {said}")


def main() -> None:
    os.umask(0o077)
    action, *paths = sys.argv[1:]
    if action == "check":
        check()
        return
    source, target = paths[0], pathlib.Path(paths[1])
    if action == "derive":
        derive(source, target)
    elif action == "derive-authority":
        import pki
        pki.make(read_seed(source), PURPOSE, [], target)
    elif action == "copy":
        copy(pathlib.Path(source), target, pathlib.Path(paths[2]) if paths[2:] else None)
        check()
    elif action == "copy-authority":
        authority = of_secret(pathlib.Path(source), "ca.crt").read_bytes()
        (target / "ca.crt.new").write_bytes(authority)
        (target / "ca.crt.new").chmod(0o644)
        (target / "ca.crt.new").rename(target / "ca.crt")
        check()


if __name__ == "__main__":
    main()
