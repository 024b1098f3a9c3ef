"""The archive's place, as the lab's programs see it: how it is reached, what its programs are told, and the few small objects
in it that are the lab's own.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import socket
import sys
import tempfile
import threading
from typing import Any

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402

# Where the set-up and PostgreSQL leave what they want. Everything in it is for postgres alone.
RUN = pathlib.Path("/run/postgresql/virtwork.archive")
# Where an NFS export is mounted.
MOUNT = pathlib.Path("/mnt/virtwork-archive")
# What both programs call the database.
STANZA = "virtwork"


class Away(Exception):
    """The archive cannot be asked now."""


def is_store() -> bool:
    return lab.LAB["ARCHIVE_TYPE"] == "s3"


def write(path: pathlib.Path, text: str) -> None:
    """A whole file that only postgres can read, or nothing happens."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.rename(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def keys() -> tuple[str, str]:
    access, secret = (RUN / "keys").read_text().splitlines()
    return access, secret


def prepare(bindir: str, data: str) -> None:
    """What the programs read, from the values of the lab and the keys that the set-up has left."""
    for name in ("requests", "lock"):
        (RUN / name).mkdir(exist_ok=True)
    write(RUN / "place", json.dumps({"bindir": bindir, "data": data}))
    values = lab.LAB
    repository = {"path": root(values["ARCHIVE_PREFIX"]), "retention-full": values["ARCHIVE_RETENTION"]}
    if is_store():
        access, secret = keys()
        write(RUN / "credentials", f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
        style = "path" if values["ARCHIVE_PATH_STYLE"] == "yes" else "virtual"
        write(RUN / "config", f"[default]\nregion = {values['ARCHIVE_REGION']}\ns3 =\n  addressing_style = {style}\n")
        repository.update({
            "type": "s3", "s3-bucket": values["ARCHIVE_BUCKET"], "s3-endpoint": values["ARCHIVE_HOST"],
            "s3-region": values["ARCHIVE_REGION"], "s3-uri-style": "path" if style == "path" else "host",
            "storage-port": values["ARCHIVE_PORT"], "s3-key": access, "s3-key-secret": secret})
        if values["ARCHIVE_CA"]:
            repository["storage-ca-file"] = values["ARCHIVE_CA"]
    lines = ["[global]", *(f"repo1-{name}={value}" for name, value in repository.items()),
             "repo1-bundle=y", "compress-type=lz4", "start-fast=y", "process-max=2", "io-timeout=10", "archive-timeout=300",
             "log-level-console=off", "log-level-file=off", "log-level-stderr=error", "log-timestamp=n",
             f"lock-path={RUN}/lock", f"[{STANZA}]", f"pg1-path={data}", "pg1-socket-path=/run/postgresql", "pg1-user=postgres"]
    write(RUN / "pgbackrest.conf", "\n".join(lines) + "\n")


def environment() -> dict[str, str]:
    """Of barman's programs, and of boto3. Of what the image or the config sets for others nothing counts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PGBACKREST_"))}
    own = {"AWS_SHARED_CREDENTIALS_FILE": f"{RUN}/credentials", "AWS_CONFIG_FILE": f"{RUN}/config", "AWS_MAX_ATTEMPTS": "2",
           "AWS_EC2_METADATA_DISABLED": "true", "LC_ALL": "C.UTF-8", "PGHOST": "/run/postgresql", "PGUSER": "postgres",
           # Newer ones add checksums that many stores refuse.
           "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"}
    if lab.LAB["ARCHIVE_CA"]:
        own["AWS_CA_BUNDLE"] = lab.LAB["ARCHIVE_CA"]
    return {**kept, **own}


def endpoint() -> str:
    return f"https://{lab.LAB['ARCHIVE_HOST']}:{lab.LAB['ARCHIVE_PORT']}"


def root(prefix: str) -> str:
    """Where an archive lies, as pgBackRest calls it."""
    return f"/{prefix}" if is_store() else f"{MOUNT}/{prefix}"


def reach() -> None:
    """Raises Away at once where a program would try for minutes."""
    try:
        if is_store():
            socket.create_connection((lab.LAB["ARCHIVE_HOST"], int(lab.LAB["ARCHIVE_PORT"])), timeout=5).close()
        else:
            # It is mounted by being looked at.
            os.listdir(MOUNT)
            if os.stat(MOUNT).st_dev == os.stat(MOUNT.parent).st_dev:
                raise Away(f"{lab.LAB['ARCHIVE_NFS']} is not mounted")
    except OSError as error:
        where = endpoint() if is_store() else lab.LAB["ARCHIVE_NFS"]
        raise Away(f"{where}: {error.strerror or error}") from error


@functools.lru_cache(maxsize=None)
def session() -> Any:
    os.environ.update(environment())
    import boto3
    from botocore.config import Config

    return boto3.client("s3", endpoint_url=endpoint(), config=Config(connect_timeout=5, read_timeout=20))


MAKING = threading.Lock()


def client() -> Any:
    """boto3's. Only what needs it loads it, which takes a second; threads may share one, and not make it at once."""
    with MAKING:
        return session()


def get(name: str, prefix: str | None = None) -> bytes | None:
    """A small object beside the archive; None: there is none."""
    prefix = lab.LAB["ARCHIVE_PREFIX"] if prefix is None else prefix
    reach()
    if not is_store():
        try:
            return pathlib.Path(root(prefix), name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Away(str(error)) from error
    try:
        answer = client().get_object(Bucket=lab.LAB["ARCHIVE_BUCKET"], Key=f"{prefix}/{name}")
        content: bytes = answer["Body"].read()
        return content
    # Whatever else it is: no answer, and never `there is none`.
    except Exception as error:
        if code(error) == "NoSuchKey":
            return None
        raise Away(str(error)) from error


def code(error: Exception) -> str:
    """What the store calls it. Only its own word counts: boto3 says `404` of what anybody on the way answers, and of a bucket
    that is not there the store says `NoSuchBucket`."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def keys_below(start: str) -> list[str]:
    """Of a store: what lies there, the first thousand of it."""
    reach()
    try:
        listed = client().list_objects_v2(Bucket=lab.LAB["ARCHIVE_BUCKET"], Prefix=start)
        return [str(found["Key"]) for found in listed.get("Contents", [])]
    except Exception as error:
        raise Away(str(error)) from error


def put(name: str, content: bytes) -> None:
    """Writes one, and reads it back: what is not there then was not written."""
    prefix = lab.LAB["ARCHIVE_PREFIX"]
    reach()
    if is_store():
        try:
            client().put_object(Bucket=lab.LAB["ARCHIVE_BUCKET"], Key=f"{prefix}/{name}", Body=content)
        except Exception as error:
            raise Away(str(error)) from error
    else:
        try:
            directory = pathlib.Path(root(prefix))
            directory.mkdir(parents=True, exist_ok=True)
            write(directory / name, content.decode())
        except OSError as error:
            raise Away(str(error)) from error
    if get(name) != content:
        raise Away(f"{name} is not what was written there")
