"""PostgreSQL's own client library, for programs of the guest: as much of it as they need. It is there wherever psql is, and
takes parameters as bytes, which psql does not.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import threading
import time
from typing import Any, Sequence

import lab

CONNECTION_OK = 0
# The states of a result that are no failure: an empty query, a command's, a query's.
DONE = (0, 1, 2)
# Whatever the config sets for sessions. A standby answers nothing that is to be serializable.
SETTINGS = ("-c statement_timeout=0 -c client_min_messages=warning -c search_path=pg_catalog"
            " -c default_transaction_isolation=read\\ committed")
BYTEA = 17
# Of the authority that signs the servers' certificates, where there is TLS: on a node, and on a client.
AUTHORITIES = ("/run/postgresql/virtwork.tls/ca.crt", "/run/virtwork-client/ca.crt")

_pq = ctypes.CDLL("libpq.so.5")
_Notice = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)
_pq.PQconnectdbParams.restype = ctypes.c_void_p
for _name in ("PQexecParams", "PQgetCancel", "PQgetResult"):
    getattr(_pq, _name).restype = ctypes.c_void_p
for _name in ("PQerrorMessage", "PQgetvalue", "PQhost", "PQresultErrorMessage"):
    getattr(_pq, _name).restype = ctypes.c_char_p


def tls() -> dict[str, str]:
    """What a connection by TCP says besides: nothing in labs without TLS."""
    if "TLS_SOURCE" not in lab.LAB:
        return {}
    known = [name for name in AUTHORITIES if os.path.exists(name)]
    authority = (known or AUTHORITIES)[0]
    # A certificate of its own, in a file that is not there: libpq would look into the home directory.
    return {"sslmode": "verify-full", "sslrootcert": authority, "sslcert": f"{os.path.dirname(authority)}/none.crt"}


def words(options: dict[str, str]) -> str:
    """Keywords for a program that takes a connection string; values without blanks."""
    return " ".join(f"{name}={value}" for name, value in options.items())


class Failure(Exception):
    """The server refused a statement, or is gone."""


class NoAnswer(Failure):
    """The server took longer than the connection's patience."""


class Connection:
    """A session, if nothing else is said of this node's server and as the user of the operating system. Not for two threads
    at a time. Keywords are those of libpq."""

    # Seconds that a statement may take: after them it is given up, and the connection with it.
    patience: float | None = None

    def __init__(self, application: str, **given: str) -> None:
        by_tcp = {} if given.get("host", "/").startswith("/") else tls()
        options = {"host": "/run/postgresql", "dbname": "postgres", "application_name": application, "client_encoding": "UTF8",
                   "options": SETTINGS, **by_tcp, **given}
        names = (ctypes.c_char_p * (len(options) + 1))(*(name.encode() for name in options), None)
        values = (ctypes.c_char_p * (len(options) + 1))(*(value.encode() for value in options.values()), None)
        self._session = ctypes.c_void_p(_pq.PQconnectdbParams(names, values, 0))
        if _pq.PQstatus(self._session) != CONNECTION_OK:
            message = self._message()
            self.close()
            raise Failure(message)
        # What the server warned of at the last statement.
        self.warning = ""
        # Kept for as long as libpq may call it.
        self._notice = _Notice(self._warn)
        _pq.PQsetNoticeProcessor(self._session, self._notice, None)

    def _warn(self, _: int, message: bytes) -> None:
        self.warning = _line(message)
        print(self.warning, file=sys.stderr, flush=True)

    def rows(self, statement: str, *parameters: str | bytes) -> list[list[str | None]]:
        """What one statement returns; its parameters are text, or bytes for a bytea."""
        self.warning = ""
        raw = [value.encode() if isinstance(value, str) else value for value in parameters]
        count = len(raw)
        types = (ctypes.c_uint * count)(*(0 if isinstance(value, str) else BYTEA for value in parameters))
        lengths = (ctypes.c_int * count)(*map(len, raw))
        formats = (ctypes.c_int * count)(*(0 if isinstance(value, str) else 1 for value in parameters))
        result = self._execute(statement.encode(), count, types, (ctypes.c_char_p * count)(*raw), lengths, formats, 0)
        try:
            if _pq.PQresultStatus(result) not in DONE:
                raise Failure(_line(_pq.PQresultErrorMessage(result)) or self._message())
            return [[self._value(result, row, column) for column in range(_pq.PQnfields(result))]
                    for row in range(_pq.PQntuples(result))]
        finally:
            _pq.PQclear(result)

    @property
    def host(self) -> str:
        """Of several hosts, the one that this is a session of."""
        return (_pq.PQhost(self._session) or b"").decode()

    def _execute(self, *statement: Any) -> ctypes.c_void_p:
        if self.patience is None:
            return ctypes.c_void_p(_pq.PQexecParams(self._session, *statement))
        if not _pq.PQsendQueryParams(self._session, *statement):
            raise Failure(self._message())
        given_up = time.monotonic() + self.patience
        answer = select.poll()
        answer.register(_pq.PQsocket(self._session), select.POLLIN)
        while True:
            if not _pq.PQconsumeInput(self._session):
                raise Failure(self._message())
            if not _pq.PQisBusy(self._session):
                break
            left = given_up - time.monotonic()
            if left <= 0:
                self._cancel()
                raise NoAnswer(f"no answer for {self.patience:.0f} s")
            answer.poll(left * 1000)
        result = ctypes.c_void_p(_pq.PQgetResult(self._session))
        if not result:
            raise Failure(self._message())
        while further := _pq.PQgetResult(self._session):
            _pq.PQclear(ctypes.c_void_p(further))
        return result

    def _cancel(self) -> None:
        """Asks the server to stop. One that waits for its standbys would keep the process of a session that is gone. A
        thread asks, because a dead host takes its time."""
        request = ctypes.c_void_p(_pq.PQgetCancel(self._session))

        def ask() -> None:
            _pq.PQcancel(request, ctypes.create_string_buffer(256), 256)
            _pq.PQfreeCancel(request)

        threading.Thread(target=ask, daemon=True).start()

    def close(self) -> None:
        _pq.PQfinish(self._session)
        self._session = ctypes.c_void_p()

    @staticmethod
    def _value(result: ctypes.c_void_p, row: int, column: int) -> str | None:
        if _pq.PQgetisnull(result, row, column):
            return None
        value: bytes = _pq.PQgetvalue(result, row, column)
        return value.decode()

    def _message(self) -> str:
        return _line(_pq.PQerrorMessage(self._session)) or "the server does not answer"


def _line(message: Sequence[int] | None) -> str:
    return " ".join(bytes(message or b"").decode(errors="replace").split())
