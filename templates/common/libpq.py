"""PostgreSQL's own client library, for programs of the guest: as much of it as they need. It is there wherever psql is, and
takes parameters as bytes, which psql does not.
"""

from __future__ import annotations

import ctypes
from typing import Sequence

CONNECTION_OK = 0
# The states of a result that are no failure: an empty query, a command's, a query's.
DONE = (0, 1, 2)
BYTEA = 17

_pq = ctypes.CDLL("libpq.so.5")
_pq.PQconnectdbParams.restype = ctypes.c_void_p
_pq.PQexecParams.restype = ctypes.c_void_p
for _name in ("PQerrorMessage", "PQgetvalue", "PQresultErrorMessage"):
    getattr(_pq, _name).restype = ctypes.c_char_p


class Failure(Exception):
    """The server refused a statement, or is gone."""


class Connection:
    """A session, if nothing else is said of this node's server and as the user of the operating system. Not for two threads
    at a time. Keywords are those of libpq."""

    def __init__(self, application: str, **given: str) -> None:
        options = {"host": "/run/postgresql", "dbname": "postgres", "application_name": application, "client_encoding": "UTF8",
                   "options": "-c statement_timeout=0 -c client_min_messages=warning", **given}
        names = (ctypes.c_char_p * (len(options) + 1))(*(name.encode() for name in options), None)
        values = (ctypes.c_char_p * (len(options) + 1))(*(value.encode() for value in options.values()), None)
        self._session = ctypes.c_void_p(_pq.PQconnectdbParams(names, values, 0))
        if _pq.PQstatus(self._session) != CONNECTION_OK:
            message = self._message()
            self.close()
            raise Failure(message)

    def rows(self, statement: str, *parameters: str | bytes) -> list[list[str | None]]:
        """What one statement returns; its parameters are text, or bytes for a bytea."""
        raw = [value.encode() if isinstance(value, str) else value for value in parameters]
        count = len(raw)
        types = (ctypes.c_uint * count)(*(0 if isinstance(value, str) else BYTEA for value in parameters))
        lengths = (ctypes.c_int * count)(*map(len, raw))
        formats = (ctypes.c_int * count)(*(0 if isinstance(value, str) else 1 for value in parameters))
        result = ctypes.c_void_p(_pq.PQexecParams(self._session, statement.encode(), count, types,
                                                  (ctypes.c_char_p * count)(*raw), lengths, formats, 0))
        try:
            if _pq.PQresultStatus(result) not in DONE:
                raise Failure(_line(_pq.PQresultErrorMessage(result)) or self._message())
            return [[self._value(result, row, column) for column in range(_pq.PQnfields(result))]
                    for row in range(_pq.PQntuples(result))]
        finally:
            _pq.PQclear(result)

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
