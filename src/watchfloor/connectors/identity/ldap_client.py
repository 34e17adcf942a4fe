"""A connection to an LDAP server: signed in, one question at a time, within a deadline.

Above ``ldap_wire``, below the ``ldap`` connector. Over ``ldaps://``, or ``ldap://`` with StartTLS; without TLS only to
this machine. Certificates are verified, referrals not followed. It knows no schema.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from watchfloor.connectors.identity import ldap_wire as wire
from watchfloor.identity.connector import ConnectorRefused
from watchfloor.model.errors import InputError, Unavailable
from watchfloor.model.urls import is_loopback, outbound_problem

PAGE: Final = 200
"""Entries that are asked for at once."""
MOST_ENTRIES: Final = 1_000_000

_NO_SUCH_ATTRIBUTE, _NO_SUCH_OBJECT, _WRONG_CREDENTIALS, _NO_RIGHT = 16, 32, 49, 50
_LATER: Final = frozenset({51, 52})  # busy, unavailable
_REFUSED: Final = {
    8: "it demands a stronger way to sign in; use ldaps:// or startTls",
    13: "it demands TLS; use ldaps:// or startTls",
    _WRONG_CREDENTIALS: "the credentials of the connector are wrong; give bindDn and bindPassword anew",
    _NO_RIGHT: "the connector's account may not do this; give bindDn the right to",
    53: "it is not willing to",
    65: "its schema does not allow it; is ppolicy loaded?",
    17: "it does not know the attribute; is ppolicy loaded?",
}


class NoSuchEntry(Exception):
    """There is no entry of this name, or it does not have the value that was to be removed."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a directory is and as whom it is asked. ``timeout``: seconds for one question with its answer."""

    url: str
    bind_dn: str
    bind_password: str
    start_tls: bool = False
    ca: str = ""
    timeout: float = 10.0

    def __post_init__(self) -> None:
        problem = url_problem(self.url, start_tls=self.start_tls)
        if problem:
            raise InputError(problem, where="url")

    def __repr__(self) -> str:
        return f"Server({self.url!r})"


def url_problem(url: str, *, start_tls: bool) -> str | None:
    """Why ``url`` may not be asked, as a sentence; None if it may."""
    parts = urlsplit(url)
    if parts.scheme not in ("ldap", "ldaps") or parts.path.strip("/") or parts.query:
        return "This must be ldaps://host[:port] or ldap://host[:port]."
    is_secure = parts.scheme == "ldaps" or start_tls
    as_http = url.replace(parts.scheme, "https" if is_secure else "http", 1)
    problem = outbound_problem(as_http, require_tls=True)
    if problem and not is_secure and not is_loopback(as_http):
        return "The URL must begin with ldaps://, or startTls be true: a password is sent there."
    return problem


class Connection:
    """One signed-in connection; see ``open``."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        self._server, self._socket = server, connection
        self._buffer = bytearray()
        self._number = 0
        self._deadline = time.monotonic() + server.timeout

    @classmethod
    @contextlib.contextmanager
    def open(cls, server: Server) -> Iterator[Self]:
        """Connect and sign in. Raises ``Unavailable``, ``ConnectorRefused``."""
        parts = urlsplit(server.url)
        host, port = parts.hostname or "", parts.port or (636 if parts.scheme == "ldaps" else 389)
        try:
            raw = socket.create_connection((host, port), timeout=server.timeout)
        except OSError as error:
            raise Unavailable(f"{server.url} does not answer: {error.strerror or error}.") from error
        connection = cls(server, raw)
        try:
            if parts.scheme == "ldaps":
                connection._secure(host)
            elif server.start_tls:
                connection._check(connection._ask(wire.start_tls), "StartTLS")
                connection._secure(host)
            connection._check(connection._ask(wire.bind, server.bind_dn, server.bind_password), "signing in")
            yield connection
        except ssl.SSLCertVerificationError as error:
            raise ConnectorRefused(
                f"{server.url} shows a certificate that nobody vouches for: {error.verify_message}. Set ca."
            ) from error
        except OSError as error:
            raise Unavailable(f"{server.url} broke off: {error.strerror or error}.") from error
        except wire.BadMessage as error:
            raise Unavailable(f"{server.url} does not speak LDAP: {error}.") from error
        finally:
            connection._close()

    def search(self, base: str, asked: wire.Filter, attributes: Sequence[str]) -> Iterator[wire.Response]:
        """Entries, page by page. Raises rather than end early."""
        cookie, count = b"", 0
        while True:
            self._number += 1
            seconds = max(1, int(self._server.timeout))
            self._send(wire.search(self._number, base, asked, attributes, page=PAGE, cookie=cookie, seconds=seconds))
            while (found := self._receive()).tag != wire.SEARCH_DONE:
                if found.tag == wire.SEARCH_ENTRY:
                    count += 1
                    if count > MOST_ENTRIES:
                        raise Unavailable(f"{self._server.url} lists more than {MOST_ENTRIES} entries below {base}.")
                    yield found
            self._check(found, "searching")
            cookie = found.cookie
            if not cookie:
                return

    def modify(self, dn: str, changes: Sequence[tuple[int, str, Sequence[str]]]) -> None:
        """Change an entry. Raises ``NoSuchEntry``, ``ConnectorRefused``, ``Unavailable``."""
        self._check(self._ask(wire.modify, dn, changes), "changing an entry")

    def _secure(self, host: str) -> None:
        try:
            context = ssl.create_default_context(cafile=self._server.ca or None)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"{self._server.ca} cannot be read: {error}.", where="ca") from error
        if self._buffer:  # what came in the clear is not to count as said over TLS
            raise wire.BadMessage("it went on before TLS was there")
        self._socket.settimeout(max(0.01, self._deadline - time.monotonic()))
        self._socket = context.wrap_socket(self._socket, server_hostname=host)

    def _ask(self, request: Callable[..., bytes], *arguments: object) -> wire.Response:
        self._number += 1
        self._send(request(self._number, *arguments))
        return self._receive()

    def _send(self, message: bytes) -> None:
        self._deadline = time.monotonic() + self._server.timeout
        self._socket.settimeout(self._server.timeout)
        self._socket.sendall(message)

    def _receive(self) -> wire.Response:
        while True:
            size = wire.frame(self._buffer)
            if size and len(self._buffer) >= size:
                message = bytes(self._buffer[:size])
                del self._buffer[:size]
                found = wire.parse(message)
                if found.id != self._number:
                    # 0 is the server's notice that it hangs up.
                    raise wire.BadMessage(found.text or "an answer to another question")
                return found
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("it takes too long")
            self._socket.settimeout(left)
            chunk = self._socket.recv(65_536)
            if not chunk:
                raise ConnectionError("the connection was closed")
            self._buffer += chunk

    def _check(self, found: wire.Response, doing: str) -> None:
        if found.code == 0:
            return
        if found.code in (_NO_SUCH_OBJECT, _NO_SUCH_ATTRIBUTE):
            raise NoSuchEntry
        # What the server says may be shown: no request of ours holds a secret but the bind, and no server repeats it.
        said = f" ({found.text[:200]})" if found.text and found.code != _WRONG_CREDENTIALS else ""
        if found.code in _LATER:
            raise Unavailable(f"{self._server.url} is busy{said}.", retry_after=5.0)
        why = _REFUSED.get(found.code, f"result code {found.code}")
        raise ConnectorRefused(f"{self._server.url} refuses {doing}: {why}{said}.")

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(wire.unbind(self._number + 1))
        self._socket.close()


def first(values: Mapping[str, tuple[bytes, ...]], name: str) -> str:
    """The first value of an attribute as text; empty if there is none."""
    found = values.get(name.lower()) or (b"",)
    return found[0].decode("utf-8", "replace")
