"""Certificates as somebody else makes them: an authority of the tests."""

import datetime
import pathlib

from shell import run

DAY = datetime.timedelta(days=1)
SETTINGS = """
[ca]
default_ca = own
[own]
certificate = {directory}/ca.crt
private_key = {directory}/ca.key
database = {directory}/index
new_certs_dir = {directory}
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[leaf]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = {names}
"""


class Authority:
    """`ca` is its certificate as PEM text. `directory` is its own."""

    def __init__(self, directory, name="CA of the tests"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        (self.directory / "index").touch()
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
            "-subj", f"/CN={name}", "-keyout", self.directory / "ca.key", "-out", self.directory / "ca.crt",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self.ca = (self.directory / "ca.crt").read_text()

    def issue(self, name, names=(), begins=None, ends=None):
        """Certificate and key for a common name, with names and addresses as alternative names; good from yesterday for thirty
        days, if nothing else is said."""
        now = datetime.datetime.now(datetime.timezone.utc)
        entries = [f"IP:{entry}" if entry.replace(".", "").isdigit() or ":" in entry else f"DNS:{entry}" for entry in names or (name,)]
        settings, request, key, leaf = (self.directory / file for file in ("settings", "request", "leaf.key", "leaf.crt"))
        settings.write_text(SETTINGS.format(directory=self.directory, names=", ".join(entries)))
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", key, "-out", request)
        run("openssl", "ca", "-batch", "-notext", "-config", settings, "-extensions", "leaf", "-in", request, "-out", leaf,
            "-startdate", _stamp(begins or now - DAY), "-enddate", _stamp(ends or now + 30 * DAY))
        return leaf.read_text(), key.read_text()

    def secret(self, name, names=(), begins=None, ends=None, ca=None):
        """The same as a Secret of type kubernetes.io/tls has it, with the CA beside it."""
        leaf, key = self.issue(name, names, begins, ends)
        return {"stringData": {"tls.crt": leaf, "tls.key": key, "ca.crt": ca or self.ca}}


def _stamp(moment):
    return moment.strftime("%Y%m%d%H%M%SZ")
