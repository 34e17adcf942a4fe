"""A sink over syslog: an RFC 5424 message for each event, its text the event as ASCII JSON.

Over TCP and TLS messages are framed by their length (RFC 6587, RFC 5425) and each batch has its connection: the
receiver acknowledges by reading to its end and closing. UDP has no acknowledgement: what is lost there is lost, and
what is too large for a datagram is cut down to what identifies it.
"""

from __future__ import annotations

import fcntl
import json
import socket
import ssl
import struct
import termios
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from watchfloor.model import ocsf
from watchfloor.model.errors import Unavailable

Transport = Literal["tcp", "tls", "udp"]

_DATAGRAM: Final = 8_192
"""Octets of a message over UDP; receivers are asked to take 2,048, those that take JSON take more."""

_FACILITY: Final = 13
"""Log audit."""

_SEVERITY: Final = {1: 6, 2: 5, 3: 4, 4: 3, 5: 2}
"""Syslog's severity of OCSF's: informational, notice, warning, error, critical."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT: Final[tuple[str, ...]] = (
    "class_uid", "category_uid", "activity_id", "type_uid", "severity_id", "time", "message", "metadata", "status_id",
    "action_id", "disposition_id", "is_alert",
)  # fmt: skip
"""What is left of an event that is too large for a datagram."""


class SyslogSink:
    """Sends to a receiver at ``host`` and ``port``; ``context`` is what TLS trusts. ``seconds``: how long it waits for
    the receiver at each step."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        transport: Transport,
        *,
        context: ssl.SSLContext | None = None,
        seconds: float = 10.0,
    ) -> None:
        self.name, self._address, self._transport = name, (host, port), transport
        self._context, self._seconds = context, seconds

    def send(self, events: Sequence[ocsf.Event]) -> None:
        """See ``Sink.send``."""
        try:
            if self._transport == "udp":
                self._send_datagrams(events)
            else:
                self._send_stream(events)
        except OSError as error:
            raise Unavailable(f"{self.name} does not take events: {error or type(error).__name__}.") from error

    def _send_datagrams(self, events: Sequence[ocsf.Event]) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as sender:
            for event in events:
                text = message(event)
                sender.sendto(text if len(text) <= _DATAGRAM else message(_cut(event)), address)

    def _send_stream(self, events: Sequence[ocsf.Event]) -> None:
        frames = b"".join(b"%d %s" % (len(text), text) for text in map(message, events))
        with socket.create_connection(self._address, timeout=self._seconds) as connection:
            if self._context is None:
                connection.sendall(frames)
                _finish(connection)
            else:
                with self._context.wrap_socket(connection, server_hostname=self._address[0]) as secured:
                    secured.sendall(frames)
                    _finish_secured(secured)


def message(event: ocsf.Event) -> bytes:
    """``event`` as a syslog message."""
    at = _EPOCH + timedelta(milliseconds=int(event.get("time", 0)))
    priority = _FACILITY * 8 + _SEVERITY.get(event.get("severity_id", 1), 6)
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = json.dumps(event, separators=(",", ":"))
    return f"<{priority}>1 {stamp} {_host()} watchfloor - OCSF{event['class_uid']} - {text}".encode("ascii")


def _host() -> str:
    """This machine's name, as a header takes it."""
    return "".join(c for c in socket.gethostname() if "!" <= c <= "~")[:255] or "-"


def _cut(event: ocsf.Event) -> ocsf.Event:
    kept: ocsf.Event = {name: event[name] for name in _KEPT if name in event}
    kept["metadata"] = {**kept.get("metadata", {}), "is_truncated": True}
    return kept | {"message": str(event.get("message", ""))[:1000]}


def _finish(connection: socket.socket) -> None:
    """Wait until the receiver has read everything: it closes its side then.

    One that leaves its side open has taken everything once its machine has confirmed the last octet.
    """
    connection.shutdown(socket.SHUT_WR)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        if _unconfirmed(connection):
            raise


def _finish_secured(connection: ssl.SSLSocket) -> None:
    """The same over TLS: both sides say that they have come to the end."""
    try:
        connection.unwrap()
    except TimeoutError:
        if _unconfirmed(connection):
            raise
    except ssl.SSLError as error:
        if not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            raise


def _unconfirmed(connection: socket.socket) -> int:
    """Octets that the other machine has not confirmed."""
    found: int = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    return found
