"""The gateway's doors over HTTP, one connection a worker: what ``response.proof`` asks with.

A worker says who it is (``/healthz``), and the same connection goes on to the doors, so that each answer is known to be
that worker's. The standard library's client is enough: no redirects, no proxies, no pool.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from watchfloor.model.errors import Unavailable
from watchfloor.response.proof import Question

_NO_DOOR: Final = (404, 405)
_MOST_BYTES: Final = 1 << 20


@dataclass(slots=True)
class GatewayLine:
    """See ``response.proof.Line``."""

    connection: HTTPConnection
    worker: str = ""

    def ask(self, question: Question) -> tuple[int, Mapping[str, Any]] | None:
        """See ``response.proof.Line``."""
        status, body = self.request(question.method, question.path, question.headers, question.body)
        # What has no such door answers without a reason; a door that refuses an agent names one.
        if status in _NO_DOOR and body.get("error") in (None, "not_found", "method_not_allowed"):
            return None
        return status, body

    def request(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes = b""
    ) -> tuple[int, Mapping[str, Any]]:
        """Status and JSON of one request; no JSON is an empty object. Raises ``Unavailable``."""
        try:
            self.connection.request(method, path, content or None, dict(headers))
            response = self.connection.getresponse()
            raw = response.read(_MOST_BYTES)
        except (OSError, HTTPException) as error:
            self.connection.close()
            raise Unavailable(f"The gateway did not answer: {error or type(error).__name__}.") from error
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        return response.status, body if isinstance(body, dict) else {}


@dataclass(frozen=True, slots=True)
class GatewayDoors:
    """The gateway at ``url``. ``timeout`` in seconds, for connecting and for each answer."""

    url: str
    timeout: float = 3.0

    @contextmanager
    def connect(self) -> Iterator[GatewayLine]:
        """See ``response.proof.Gateway``."""
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(
                host, port, timeout=self.timeout, context=ssl.create_default_context()
            )
        else:
            connection = HTTPConnection(host, port, timeout=self.timeout)
        line = GatewayLine(connection)
        try:
            _, body = line.request("GET", "/healthz", {})
            line.worker = str(body.get("worker") or "")
            yield line
        finally:
            connection.close()
