"""Telemetry on its way: spans, the bodies that they travel in, and an exporter that nobody has to wait for.

Knows OpenTelemetry's JSON and the form of Agent 365's SDK, and nothing of agents: ``agents/instrument.py`` says what
there is to tell. Spans go out in the background, many at a time; a receiver that has no room for them is asked again
when it says; what never arrives is counted and logged. None of it delays or fails the work that it tells of.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

_LOG: Final = logging.getLogger(__name__)
_EVERY_SECONDS: Final = 0.5
_MOST_A_REQUEST: Final = 200
_MOST_WAITING: Final = 20_000
_TRIES: Final = 6
_LONGEST_WAIT_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 3.0
_TRY_AGAIN: Final = frozenset({408, 429, 502, 503, 504})
_KINDS: Final = {"internal": 1, "server": 2, "client": 3}

Value = str | int | float | bool
"""Of an attribute; structures are sent as JSON text."""
Attributes = Mapping[str, Value]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Who tells of spans. ``a365_agent``: the agent for which Agent 365's SDK sends them, in its own way; without one
    they are sent as OpenTelemetry's."""

    resource: Attributes
    scope: str
    a365_agent: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a moment (Unix nanoseconds) of a span."""

    name: str
    time: int
    attributes: Attributes


@dataclass(slots=True)
class Span:
    """One step. Times are Unix nanoseconds; ``kind`` is internal, server or client; ``error`` is its message, None
    where nothing went wrong."""

    program: Program
    name: str
    kind: str
    trace_id: str
    start: int
    end: int = 0
    parent_id: str = ""
    attributes: dict[str, Value] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    error: str | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def traceparent(self) -> str:
        """How W3C Trace Context names it to whoever is called in its course."""
        return f"00-{self.trace_id}-{self.id}-01"


# -- bodies -------------------------------------------------------------------------------------------------------


def otlp(spans: Sequence[Span]) -> dict[str, Any]:
    """OTLP's JSON."""
    return _body(spans, _pairs, _otlp_span)


def agent365(spans: Sequence[Span]) -> dict[str, Any]:
    """The body of Agent 365's SDK: attributes are plain objects, kinds and codes are names, times are numbers."""
    return _body(spans, dict, _a365_span)


def _body(
    spans: Sequence[Span], attributes: Callable[[Attributes], Any], told: Callable[[Span], dict[str, Any]]
) -> dict[str, Any]:
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": attributes(program.resource)},
                "scopeSpans": [
                    {"scope": {"name": program.scope}, "spans": [told(s) for s in spans if s.program is program]}
                ],
            }
            for program in dict.fromkeys(s.program for s in spans)
        ]
    }


def _otlp_span(span: Span) -> dict[str, Any]:
    events = [{"name": e.name, "timeUnixNano": str(e.time), "attributes": _pairs(e.attributes)} for e in span.events]
    return {
        "traceId": span.trace_id,
        "spanId": span.id,
        "parentSpanId": span.parent_id,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _pairs(span.attributes),
        "events": events,
        "status": {} if span.error is None else {"code": 2, "message": span.error},
    }


def _a365_span(span: Span) -> dict[str, Any]:
    events = [{"timeUnixNano": e.time, "name": e.name, "attributes": dict(e.attributes)} for e in span.events]
    return {
        "traceId": span.trace_id,
        "spanId": span.id,
        "parentSpanId": span.parent_id or None,
        "name": span.name,
        "kind": span.kind.upper(),
        "startTimeUnixNano": span.start,
        "endTimeUnixNano": span.end,
        "attributes": span.attributes,
        "events": events or None,
        "links": None,
        "status": {"code": "UNSET" if span.error is None else "ERROR", "message": span.error or ""},
    }


def _pairs(attributes: Attributes) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in attributes.items()]


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


# -- the way there ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sent:
    """Spans and what became of them: taken, refused by the receiver one by one, lost."""

    taken: int = 0
    refused: int = 0
    lost: int = 0


class Exporter:
    """Sends spans to ``receiver`` while its block runs, and for a moment after it what is left.

    ``tenant`` is what Agent 365's addresses name. Knows no errors: ``sent`` tells what happened.
    """

    def __init__(self, http: httpx.AsyncClient, receiver: str, token: str, *, tenant: str) -> None:
        self._http, self._receiver, self._tenant = http, receiver.rstrip("/"), tenant
        self._headers = {"authorization": f"Bearer {token}"}
        self._waiting: deque[Span] = deque()
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.sent = Sent()

    def tell(self, span: Span) -> None:
        """Take a span that has ended. Never waits."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(span)
        else:
            self.sent.lost += 1

    async def __aenter__(self) -> Exporter:
        """Begin."""
        self._task = asyncio.create_task(self._work(), name="telemetry")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Send what is left, if that can be done soon."""
        assert self._task is not None
        self._ending.set()
        await asyncio.wait([self._task], timeout=_GRACE_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.sent.lost += len(self._waiting)
        self._waiting.clear()
        if self.sent.lost:
            _LOG.warning("%d spans of telemetry never arrived at %s", self.sent.lost, self._receiver)

    async def _work(self) -> None:
        while self._waiting or not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _EVERY_SECONDS)
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_A_REQUEST))]
                for path, spans, body in self._requests(batch):
                    await self._deliver(path, len(spans), body)

    def _requests(self, batch: Sequence[Span]) -> Iterator[tuple[str, Sequence[Span], dict[str, Any]]]:
        """Path, spans and body of each request that ``batch`` takes."""
        for agent_id in dict.fromkeys(span.program.a365_agent for span in batch):
            spans = [span for span in batch if span.program.a365_agent == agent_id]
            if agent_id:
                path = f"/observabilityService/tenants/{self._tenant}/otlp/agents/{agent_id}/traces?api-version=1"
                yield path, spans, agent365(spans)
            else:
                yield "/v1/traces", spans, otlp(spans)

    async def _deliver(self, path: str, count: int, body: dict[str, Any]) -> None:
        """Post ``count`` spans until they are taken, or it makes no sense any more."""
        self.sent.lost += count  # until we know better: whatever ends this early, they did not arrive
        problem = ""
        for attempt in range(_TRIES):
            wait = 0.25 * 2**attempt
            try:
                answer = await self._http.post(f"{self._receiver}{path}", json=body, headers=self._headers)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if answer.is_success:
                    self._count(count, answer)
                    return
                problem = f"HTTP {answer.status_code}: {answer.text[:300]}"
                if answer.status_code not in _TRY_AGAIN:
                    break
                with contextlib.suppress(ValueError):
                    wait = float(answer.headers.get("retry-after", wait))
            await asyncio.sleep(min(wait, _LONGEST_WAIT_SECONDS))
        _LOG.warning("%d spans of telemetry are lost: %s", count, problem)

    def _count(self, count: int, answer: httpx.Response) -> None:
        partly: dict[str, Any] = {}
        with contextlib.suppress(ValueError, AttributeError):  # what cannot be read refuses nothing
            partly = answer.json().get("partialSuccess") or {}
        refused = int(partly.get("rejectedSpans", 0))
        if refused:
            _LOG.info("%d spans of telemetry were refused: %s", refused, partly.get("errorMessage", ""))
        self.sent.lost -= count
        self.sent.taken += count - refused
        self.sent.refused += refused
