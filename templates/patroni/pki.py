"""pki.py SEED NODE DIRECTORY: the keys of a node, made anew at each boot.

Every node derives the same authority from the file SEED, and signs a key of its own with it: ca.crt, node.crt and node.key
in DIRECTORY. So there is no certificate to hand out, none in Git, and none that expires: their dates are fixed, since the
clocks of two nodes may differ. Who has the seed can talk to etcd and Patroni, nobody else.
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
[node]
basicConstraints = CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:{node}, DNS:localhost, IP:127.0.0.1, IP:::1
"""


def hkdf(secret: bytes, purpose: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256."""
    key = hmac.digest(b"virtwork", secret, hashlib.sha256)
    output = block = b""
    while len(output) < length:
        block = hmac.digest(key, block + purpose + bytes([len(output) // 32 + 1]), hashlib.sha256)
        output += block
    return output[:length]


def private_key(seed: bytes) -> str:
    """A P-256 key as SEC 1 has it, without its public part, which openssl computes. 16 bytes more than the order has make
    all keys equally likely."""
    scalar = int.from_bytes(hkdf(seed, b"authority P-256", 48), "big") % (P256_ORDER - 1) + 1
    der = bytes.fromhex("30310201010420") + scalar.to_bytes(32, "big") + bytes.fromhex("a00a06082a8648ce3d030107")
    return f"-----BEGIN EC PRIVATE KEY-----\n{base64.encodebytes(der).decode()}-----END EC PRIVATE KEY-----\n"


def openssl(directory: str, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: openssl {words[0]}: {' '.join(done.stderr.split())}")


def make(seed: bytes, node: str, target: pathlib.Path) -> None:
    target.mkdir(exist_ok=True)
    target.chmod(0o755)
    with tempfile.TemporaryDirectory(dir="/run/virtwork") as work:
        place = pathlib.Path(work)
        (place / "openssl.cnf").write_text(OPENSSL.format(node=node))
        (place / "index").touch()
        (place / "ca.key").write_text(private_key(seed))
        openssl(work, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "node.key")
        sign = ("ca", "-batch", "-notext", "-config", "openssl.cnf", *DATES, "-keyfile", "ca.key")
        for name, subject, options in (("ca", "virtwork lab", ["-selfsign"]), ("node", node, ["-cert", "ca.crt"])):
            openssl(work, "req", "-new", "-config", "openssl.cnf", "-key", f"{name}.key", "-subj", f"/CN={subject}",
                    "-out", f"{name}.csr")
            section = "authority" if name == "ca" else "node"
            openssl(work, *sign, *options, "-extensions", section, "-in", f"{name}.csr", "-out", f"{name}.crt")
        for name, mode in (("node.key", 0o600), ("node.crt", 0o644), ("ca.crt", 0o644)):
            (place / name).chmod(mode)
            temporary = target / f"{name}.new"
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(descriptor, "wb") as file:
                file.write((place / name).read_bytes())
            temporary.chmod(mode)
            temporary.rename(target / name)


def main() -> None:
    os.umask(0o077)
    source, node, directory = sys.argv[1:]
    try:
        seed = pathlib.Path(source).read_bytes().strip()
    except OSError:
        sys.exit("error: it is missing")
    if len(seed) < 16:
        sys.exit("error: it has less than 16 bytes")
    make(seed, node, pathlib.Path(directory))


main()
