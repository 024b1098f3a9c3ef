"""How a node asks another one over TLS, each with a certificate of the lab.

tls.py PATH: whether Patroni of this node says yes, for instance to /primary.
"""

import http.client
import json
import pathlib
import ssl
import sys
from typing import Any

PKI = pathlib.Path("/run/virtwork-pki")


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


if __name__ == "__main__":
    try:
        ask("localhost", 8008, sys.argv[1])
    except (OSError, ValueError):
        sys.exit(1)
