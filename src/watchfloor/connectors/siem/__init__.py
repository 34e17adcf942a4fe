"""Other SIEMs: alerts and decisions streamed to them as OCSF events, over syslog or HTTP.

    stream   what is new behind a stored cursor -> a sink, at least once
    syslog   a sink: RFC 5424 over TCP, TLS or UDP
    http     a sink: JSON lines, POSTed

``open_sink`` makes a sink of a URL. What was said in conversations is never part of the stream.
"""

from __future__ import annotations

import ssl
from hashlib import blake2b
from typing import Final
from urllib.parse import urlsplit

from watchfloor.connectors.siem.http import HttpSink
from watchfloor.connectors.siem.stream import Sink, stream, stream_to_all
from watchfloor.connectors.siem.syslog import SyslogSink, Transport
from watchfloor.model.errors import InputError
from watchfloor.model.urls import outbound_problem

__all__ = ["HttpSink", "Sink", "SyslogSink", "open_sink", "stream", "stream_to_all"]

_SYSLOG: Final[dict[str, tuple[Transport, int]]] = {
    "syslog+tcp": ("tcp", 601),
    "syslog+tls": ("tls", 6514),
    "syslog+udp": ("udp", 514),
}
"""Scheme: transport and the port that belongs to it."""


def open_sink(url: str, *, token: str = "") -> Sink:
    """The sink at ``url``: ``syslog+tls://host:6514``, ``syslog+tcp://…``, ``syslog+udp://…`` or ``https://…``.

    ``token`` is sent as a bearer token over HTTP. The name of a sink, and with it the place where its stream goes on,
    hangs on the URL. Raises ``InputError`` for what is no such URL.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InputError("this is no URL.", where=url[:100]) from None
    name = f"{host}-{blake2b(url.encode(), digest_size=6).hexdigest()}"
    if parts.scheme in _SYSLOG:
        transport, usual = _SYSLOG[parts.scheme]
        if not host or parts.path.strip("/") or parts.username is not None:
            raise InputError("an address of syslog is scheme, host and port.", where=url[:100])
        context = ssl.create_default_context() if transport == "tls" else None
        return SyslogSink(name, host, port or usual, transport, context=context)
    if problem := outbound_problem(url, require_tls=bool(token)):
        remedy = f"Or write one of {', '.join(_SYSLOG)}://host:port."
        raise InputError(problem, where=url[:100], remedy=remedy)
    return HttpSink(name, url, token=token)
