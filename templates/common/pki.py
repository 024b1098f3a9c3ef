"""pki.py SEED NODE DIRECTORY: the keys of a node for etcd and Patroni, made anew at each boot; certificates.py makes those for
PostgreSQL with the same functions.

Every node derives the same authority from the file SEED, and signs a key of its own with it: ca.crt, node.crt and node.key
in DIRECTORY. So there is no certificate to hand out, none in Git, and none that expires: their dates are fixed, since the
clocks of two nodes may differ. Who has the seed can talk to etcd and Patroni, nobody else. Each purpose has an authority of its
own: a certificate of one is worth nothing for another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple, Sequence

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
DATES = ("-startdate", "20000101000000Z", "-enddate", "99991231235959Z")

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
subjectKeyIdentifier = hash
"""
LEAF = """
[{file}]
basicConstraints = CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = {usage}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Leaf(NamedTuple):
    """A key, and a certificate of it: the name of both files, whose it is, what for, and what else he is called."""

    file: str
    subject: str
    usage: str
    names: Sequence[str] = ()

    def section(self) -> str:
        """Of openssl's configuration."""
        names = f"subjectAltName = {', '.join(self.names)}\n" if self.names else ""
        return LEAF.format(file=self.file, usage=self.usage) + names


def hkdf(secret: bytes, purpose: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256."""
    key = hmac.digest(b"virtwork", secret, hashlib.sha256)
    output = block = b""
    while len(output) < length:
        block = hmac.digest(key, block + purpose + bytes([len(output) // 32 + 1]), hashlib.sha256)
        output += block
    return output[:length]


def private_key(seed: bytes, purpose: bytes) -> str:
    """A P-256 key as SEC 1 has it, without its public part, which openssl computes. 16 bytes more than the order has make
    all keys equally likely."""
    scalar = int.from_bytes(hkdf(seed, purpose, 48), "big") % (P256_ORDER - 1) + 1
    der = bytes.fromhex("30310201010420") + scalar.to_bytes(32, "big") + bytes.fromhex("a00a06082a8648ce3d030107")
    return f"-----BEGIN EC PRIVATE KEY-----\n{base64.encodebytes(der).decode()}-----END EC PRIVATE KEY-----\n"


def openssl(directory: str, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: openssl {words[0]}: {' '.join(done.stderr.split())}")


def read_seed(source: str) -> bytes:
    try:
        seed = pathlib.Path(source).read_bytes().strip()
    except OSError:
        sys.exit("error: it is missing")
    if len(seed) < 16:
        sys.exit("error: it has less than 16 bytes")
    return seed


def put(target: pathlib.Path, content: bytes, mode: int, owner: int = -1) -> None:
    """A whole file or nothing, with the label of its directory and never open to more than `mode`."""
    temporary = target.with_name(f"{target.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, owner, -1)
    temporary.rename(target)


def make(seed: bytes, purpose: bytes, leaves: Sequence[Leaf], target: pathlib.Path, owner: int = -1) -> None:
    target.mkdir(exist_ok=True)
    target.chmod(0o755)
    with tempfile.TemporaryDirectory(dir="/run/virtwork") as work:
        place = pathlib.Path(work)
        (place / "openssl.cnf").write_text(OPENSSL + "".join(leaf.section() for leaf in leaves))
        (place / "index").touch()
        (place / "ca.key").write_text(private_key(seed, purpose))
        sign = ("ca", "-batch", "-notext", "-config", "openssl.cnf", *DATES, "-keyfile", "ca.key")
        for leaf in (Leaf("ca", "virtwork lab", ""), *leaves):
            section, options = (leaf.file, ["-cert", "ca.crt"]) if leaf.usage else ("authority", ["-selfsign"])
            if leaf.usage:
                openssl(work, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{leaf.file}.key")
            openssl(work, "req", "-new", "-config", "openssl.cnf", "-key", f"{leaf.file}.key", "-subj", f"/CN={leaf.subject}",
                    "-out", f"{leaf.file}.csr")
            openssl(work, *sign, *options, "-extensions", section, "-in", f"{leaf.file}.csr", "-out", f"{leaf.file}.crt")
        for leaf in leaves:
            put(target / f"{leaf.file}.key", (place / f"{leaf.file}.key").read_bytes(), 0o600, owner)
            put(target / f"{leaf.file}.crt", (place / f"{leaf.file}.crt").read_bytes(), 0o644)
        put(target / "ca.crt", (place / "ca.crt").read_bytes(), 0o644)


def main() -> None:
    os.umask(0o077)
    source, node, directory = sys.argv[1:]
    names = (f"DNS:{node}", "DNS:localhost", "IP:127.0.0.1", "IP:::1")
    leaf = Leaf("node", node, "serverAuth, clientAuth", names)
    make(read_seed(source), b"authority P-256", [leaf], pathlib.Path(directory))


if __name__ == "__main__":
    main()
