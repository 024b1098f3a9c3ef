"""A store of objects that speaks S3, outside both sites: versitygw over a file system of its own."""

import contextlib
import http.client
import os
import pathlib
import secrets
import ssl
import subprocess
import threading

import disks
from network import enter_netns
from shell import end, in_netns, run, wait_until

PORT = 9443
REGION = "eu-west-1"


class ObjectStore:
    """`program` is versitygw, `router` leads to it as NAME.test. Its disk holds so many bytes. It has one bucket."""

    def __init__(self, program, router, authority, directory, name="s3", bucket="archive", size=512 << 20):
        self.program = program
        self.router = router
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.netns, self.link = router.add_host(name)
        self.host = f"{name}.test"
        self.endpoint = f"https://{self.host}:{PORT}"
        self.bucket = bucket
        self.access_key = "BOOT" + secrets.token_hex(8).upper()
        self.secret_key = secrets.token_urlsafe(30)
        self.ca = authority.ca
        leaf, key = authority.issue(self.host)
        (self.directory / "tls.crt").write_text(leaf)
        (self.directory / "tls.key").write_text(key)
        self.process = None
        self.root = self.directory / "objects"
        self.root.mkdir()
        image = self.directory / "disk.img"
        disks.blank(image, size)
        run("mke2fs", "-q", "-t", "ext4", "-m", "0", image)
        run("mount", "-o", "loop", image, self.root)
        (self.root / "data" / bucket).mkdir(parents=True)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        """Back, with all that it had."""
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                in_netns(self.netns, self.program, "--port", f":{PORT}", "--region", REGION, "--cert",
                         self.directory / "tls.crt", "--key", self.directory / "tls.key", "posix", self.root / "data"),
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), "ROOT_ACCESS_KEY_ID": self.access_key,
                     "ROOT_SECRET_ACCESS_KEY": self.secret_key},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_until(f"{self.endpoint} answers", self._answers, 30, 0.1)

    def stop(self):
        """Away: connections are refused."""
        end(self.process)

    def lose(self, off=True):
        """Away, or back: nothing that is sent to it arrives, and nobody is told."""
        self.router.cut(self.link, off=off)

    def fill(self):
        """Full, but for a little."""
        run("bash", "-c", 'free=$(df -k --output=avail "$1" | tail -n 1); fallocate -l $((free - 64))K "$1/ballast"', "-", self.root)

    def make_room(self):
        (self.root / "ballast").unlink()

    def secret(self, access_key="access-key", secret_key="secret-key"):
        """Its keys as a Secret."""
        return {"stringData": {access_key: self.access_key, secret_key: self.secret_key}}

    def config(self, existing_secret, prefix=None):
        """The section `archive` for it."""
        section = {"type": "s3", "endpoint": self.endpoint, "bucket": self.bucket, "region": REGION, "path-style": True,
                   "ca": self.ca, "existing-secret": existing_secret}
        return {**section, "prefix": prefix} if prefix else section

    def objects(self, prefix=""):
        """The names of its objects that begin so."""
        root = self.root / "data" / self.bucket
        names = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        return sorted(name for name in names if name.startswith(prefix) and not name.startswith(".sgwtmp"))

    def read(self, name):
        return (self.root / "data" / self.bucket / name).read_text()

    def _ask(self, method, path):
        """The status that somebody without keys is answered."""
        result = []

        def ask():
            enter_netns(self.netns)
            context = ssl.create_default_context(cadata=self.ca)
            context.check_hostname = False
            connection = http.client.HTTPSConnection("127.0.0.1", PORT, timeout=5, context=context)
            try:
                connection.request(method, path)
                result.append(connection.getresponse().status)
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return result[0] if result else None

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError("versitygw ended: " + (self.directory / "log").read_text()[-2000:])
        return self._ask("GET", "/")

    def close(self):
        if self.process:
            end(self.process)
        with contextlib.suppress(OSError):
            run("umount", self.root, check=False)
