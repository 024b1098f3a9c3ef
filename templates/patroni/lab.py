"""What the lab's programs share: its values, its keys, how it asks other nodes, and its voice in the journal.

lab.py PATH: whether Patroni of this node says yes, for instance to /primary.
"""

import http.client
import json
import math
import os
import pathlib
import shlex
import ssl
import sys
import time
from typing import Any, Callable

PKI = pathlib.Path("/run/virtwork-pki")
NODE = os.uname().nodename.partition(".")[0]


def values() -> dict[str, str]:
    """lab.env, which is written for a shell."""
    words = shlex.split(pathlib.Path("/etc/virtwork/lab.env").read_text(), comments=True)
    return dict(word.split("=", 1) for word in words)


LAB = values()
ETCD_NODES = LAB["ETCD_NODES"].split()


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def context(server: bool = False) -> ssl.SSLContext:
    """TLS with this node's certificate, and for nobody without one of the lab's."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    tls.load_cert_chain(PKI / "node.crt", PKI / "node.key")
    tls.load_verify_locations(PKI / "ca.crt")
    tls.verify_mode = ssl.CERT_REQUIRED
    return tls


def ask(host: str, port: int, path: str, document: Any = None, method: str = "", seconds: float = 3) -> Any:
    """What a node answers over HTTPS, as JSON; OSError when it does not, ValueError when it refuses."""
    connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=context())
    try:
        body = None if document is None else json.dumps(document)
        connection.request(method or ("GET" if document is None else "POST"), path, body,
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
    if answer.status != 200:
        raise ValueError(f"{host}: {answer.status} {' '.join(text.split())[:200]}")
    return json.loads(text)


def retry(seconds: float, what: str, attempt: Callable[[], Any], limit: float = math.inf) -> Any:
    """Its answer as soon as it raises neither OSError nor ValueError: for ever, or for so many seconds, with a line when it
    fails first, when the reason changes, and every ten minutes."""
    previous, said, started = "", 0.0, time.monotonic()
    while True:
        try:
            return attempt()
        except (OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            if reason != previous or time.monotonic() - said >= 600:
                log(f"{what}: not yet, trying on ({reason})")
                previous, said = reason, time.monotonic()
        if time.monotonic() - started > limit:
            return None
        time.sleep(seconds)


if __name__ == "__main__":
    try:
        ask("localhost", 8008, sys.argv[1])
    except (OSError, ValueError):
        sys.exit(1)
