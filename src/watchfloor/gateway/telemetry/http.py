"""The telemetry doors over HTTP.

    POST /v1/traces                                                        OTLP, protobuf or JSON
    POST /observabilityService/tenants/{tenant}/otlp/agents/{agent}/traces Agent 365's SDK, 2.0
    POST /observability/tenants/{tenant}/otlp/agents/{agent}/traces        Agent 365's SDK, 1.0
    POST /events/v1                                                        Watchfloor's own events
    GET  /healthz, /readyz, /metrics

Refusals are those of OTLP/HTTP 1.x: 400 for what cannot be read, 401 for a token that does not count, 413, 415, 429 and
503 with Retry-After; parts that were not taken are told in the answer (partial success). Bodies may be gzipped.
"""

from __future__ import annotations

import logging
import math
import re
import zlib
from collections.abc import Callable
from typing import Any, Final

import orjson
from google.rpc.status_pb2 import Status

from watchfloor.gateway import asgi
from watchfloor.gateway.asgi import Addresses, BodyTooLarge, CallerGone, Receive, Scope, Send
from watchfloor.gateway.telemetry import otlp_proto
from watchfloor.gateway.telemetry.reception import Answer, OverQuota, Reception
from watchfloor.gateway.telemetry.sources import SourceRefused
from watchfloor.gateway.telemetry.spans import Unreadable
from watchfloor.model.errors import Unavailable

_LOG: Final = logging.getLogger(__name__)
_A365: Final = re.compile(r"/observability(?:Service)?/tenants/([^/]{1,200})/otlp/agents/([^/]{1,200})/traces/?")
_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_GROWTH: Final = 16
"""A gzipped body may be so many times as large as what is taken plain."""


class TelemetryApp:
    """The receiver's doors as an ASGI application. ``problems``: why it should get no requests."""

    def __init__(
        self,
        reception: Callable[[], Reception],
        addresses: Addresses,
        *,
        max_body_bytes: int,
        problems: Callable[[], list[str]],
        metrics: Callable[[], str],
        startup: Callable[[], Any],
        shutdown: Callable[[], Any],
    ) -> None:
        self._reception, self._addresses, self._max_body = reception, addresses, max_body_bytes
        self._problems, self._metrics = problems, metrics
        self._startup, self._shutdown = startup, shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            if scope["method"] == "POST":
                await self._post(scope, receive, send)
            else:
                await self._about(scope["path"], scope["method"], send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        door, agent_id = _door(scope["path"], kind)
        is_binary = door == "otlp-http"
        try:
            if not door:
                await asgi.answer_json(send, 404, {"error": "not_found"})
                return
            if kind not in (_PROTOBUF, _JSON):
                await _refuse(send, 415, f"Content-Type must be {_PROTOBUF} or {_JSON}.", is_binary=False)
                return
            # Before the body is read: who may not send should not make us work.
            reception = self._reception()
            source = reception.admit(headers.get(b"authorization"))
            length = scope_length(scope)
            raw = await asgi.read_body(receive, self._max_body, length)
            body = _plain(raw, headers.get(b"content-encoding", ""), self._max_body * _GROWTH)
            address = self._addresses.of(scope, headers.get(b"x-forwarded-for"))
            answer = await reception.receive(source, door, body, address, agent_id=agent_id, sent_size=len(raw))
            await _accept(send, door, answer)
        except CallerGone:
            return
        except SourceRefused as error:
            await _refuse(send, 401, str(error), is_binary=is_binary, more=[(b"www-authenticate", b"Bearer")])
        except BodyTooLarge:
            await _refuse(
                send, 413, f"A request has at most {self._max_body} bytes; send several.", is_binary=is_binary
            )
        except Unreadable as error:
            await _refuse(send, 400, str(error), is_binary=is_binary)
        except Unavailable as error:
            status = 429 if isinstance(error, OverQuota) else 503
            after = b"%d" % max(1, math.ceil(error.retry_after))
            await _refuse(send, status, str(error), is_binary=is_binary, more=[(b"retry-after", after)])
        except Exception:  # whatever it was, the sender keeps its events and comes back
            _LOG.exception("a telemetry request failed")
            more = [(b"retry-after", b"5")]
            await _refuse(send, 503, "The request could not be taken in.", is_binary=is_binary, more=more)

    async def _about(self, path: str, method: str, send: Send) -> None:
        if method not in ("GET", "HEAD"):
            await asgi.answer_json(send, 405, {"error": "method_not_allowed"})
        elif path == "/healthz":
            await asgi.answer_json(send, 200, {"status": "alive"})
        elif path == "/readyz":
            problems = self._problems()
            status = "not ready" if problems else "ready"
            await asgi.answer_json(send, 503 if problems else 200, {"status": status, "problems": problems})
        elif path == "/metrics":
            await asgi.answer(send, 200, self._metrics().encode(), [(b"content-type", b"text/plain; version=0.0.4")])
        elif _door(path, _JSON)[0]:
            await asgi.answer_json(send, 405, {"error": "method_not_allowed", "remedy": "POST it."})
        else:
            await asgi.answer_json(send, 404, {"error": "not_found"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._startup()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._shutdown()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _door(path: str, kind: str) -> tuple[str, str]:
    """(door, agent that the path names); '' where there is none."""
    if path in ("/v1/traces", "/v1/traces/"):
        return ("otlp-json" if kind == _JSON else "otlp-http"), ""
    if path in ("/events/v1", "/events/v1/"):
        return "events", ""
    match = _A365.fullmatch(path)
    if match is None:
        return "", ""
    return ("otlp-http" if kind == _PROTOBUF else "a365"), match[2]


def scope_length(scope: Scope) -> bytes | None:
    """The declared length of the body."""
    return next((value for name, value in scope["headers"] if name == b"content-length"), None)


def _plain(body: bytes, encoding: str, limit: int) -> bytes:
    """``body`` without its compression. Raises ``Unreadable``, ``BodyTooLarge`` before it has grown past ``limit``."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Unreadable(f"Content-Encoding {encoding[:40]} is not taken; send gzip, or none.")
    unpacking = zlib.decompressobj(31 if encoding != "deflate" else 15)
    try:
        plain = unpacking.decompress(body, limit)
    except zlib.error as error:
        raise Unreadable(f"The body is not {encoding}: {error}") from error
    if unpacking.unconsumed_tail:
        raise BodyTooLarge
    if not unpacking.eof:
        raise Unreadable(f"The {encoding} body ends too early.")
    return plain


async def _accept(send: Send, door: str, answer: Answer) -> None:
    if door == "otlp-http":
        body = otlp_proto.response(answer.rejected, answer.message)
        await asgi.answer(send, 200, body, [(b"content-type", _PROTOBUF.encode())])
        return
    value: dict[str, Any] = {}
    if answer.rejected:
        count = str(answer.rejected) if door != "events" else answer.rejected  # 64-bit integers are text in OTLP's JSON
        value["partialSuccess"] = {"rejectedSpans": count, "errorMessage": answer.message}
    if door == "events":
        value = {"accepted": answer.accepted, "rejected": answer.rejected}
        if answer.message:
            value["message"] = answer.message
    await asgi.answer(send, 200, orjson.dumps(value))


async def _refuse(
    send: Send, status: int, message: str, *, is_binary: bool, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    """A refusal as OTLP/HTTP has it: a Status in the form of the request."""
    if is_binary:
        body, kind = Status(message=message).SerializeToString(), _PROTOBUF.encode()
    else:
        body, kind = orjson.dumps({"message": message}), _JSON.encode()
    await asgi.answer(send, status, body, [(b"content-type", kind), *(more or [])])
