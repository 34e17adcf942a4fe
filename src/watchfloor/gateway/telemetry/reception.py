"""What every telemetry door does with a request, whatever it came over: admit, decode, map, store, count.

    admit    whose token is this, and may they send now?
    decode   bytes -> spans, and what is no span
    map      a span -> rows; what its source may not say is set aside
    store    durable, each event once; only then is there an answer

Above are ``http`` and ``grpc``, which turn the answer and the refusals into their protocol's own. Quarantined parts are
stored beside the events, in the same append: an answer that counts them means that they can be looked at.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from watchfloor.gateway.telemetry import a365, events_json, mapping, otlp_json, otlp_proto
from watchfloor.gateway.telemetry.health import Health
from watchfloor.gateway.telemetry.intake import Intake, Item, Taken, reject_key, span_key
from watchfloor.gateway.telemetry.quotas import Quotas
from watchfloor.gateway.telemetry.sources import Source, SourceRefused, Sources
from watchfloor.gateway.telemetry.spans import Decoded, Reject, Sender, Span, Unreadable
from watchfloor.model.errors import Unavailable

_LOG: Final = logging.getLogger(__name__)

FORMS: Final[dict[str, Callable[[bytes], Decoded]]] = {
    "a365": a365.decode,
    "otlp-http": otlp_proto.decode,
    "otlp-json": otlp_json.decode,
    "otlp-grpc": otlp_proto.decode,
    "events": events_json.decode,
}
"""Doors (``SourceDoor``), and how each reads a body."""

MAX_EVENTS: Final = 20_000
"""Events in one request; more are refused as a whole."""
_REASONS_TOLD: Final = 3


class OverQuota(Unavailable):
    """The source sends more than it may."""

    code = "over_quota"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request. ``message`` says what is wrong with the rejected ones, empty if none is."""

    accepted: int
    rejected: int
    message: str = ""


class Reception:
    """One process's. ``now`` gives Unix nanoseconds."""

    def __init__(
        self,
        sources: Sources,
        quotas: Quotas,
        intake: Intake,
        health: Health,
        *,
        tenant: str,
        worker_id: str,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._sources, self._quotas, self._intake, self._health = sources, quotas, intake, health
        self._sender = Sender(tenant, "", "", "", worker_id)
        self._now = now

    def admit(self, authorization: str | None) -> Source:
        """Whose token it is. Raises ``SourceRefused``, and ``Unavailable`` while nobody can know."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise SourceRefused("Send the source's token: Authorization: Bearer wfsrc_….")
        return self._sources.authenticate(token.strip())

    async def receive(
        self, source: Source, door: str, body: bytes, address: str, *, agent_id: str = "", sent_size: int | None = None
    ) -> Answer:
        """Take ``body`` in; all that the answer counts is durable. ``agent_id``: the agent that the address names.

        Raises ``Unreadable`` for a body that is no request, ``OverQuota``, and ``Unavailable`` if it cannot be stored.
        """
        sender = replace(self._sender, source_id=source.id, door=door, address=address, agent_id=agent_id)
        decoded = FORMS[door](body)
        count = len(decoded.spans) + len(decoded.rejects)
        if count > MAX_EVENTS:
            raise Unreadable(f"A request takes at most {MAX_EVENTS} spans; send several.")
        wait = self._quotas.take(source.id, count, source.events_per_second)
        if wait > 0:
            self._health.throttled(source.id, door)
            raise OverQuota(
                f"The source {source.id} may send {source.events_per_second} events a second.", retry_after=wait
            )
        received = self._now()
        items, rejects = self._items(decoded, source, sender, received)
        quarantined = [self._quarantine(reject, body, sender, received) for reject in rejects]
        try:
            taken = await self._intake.take([*items, *quarantined])
        except Unavailable:
            self._health.throttled(source.id, door)
            raise
        # What even the tables do not take is quarantined in turn; it was not told apart before.
        late = [r for r in (self._refused(item, decoded, sender) for item in taken.refused) if r is not None]
        if late:
            await self._intake.take([self._quarantine(reject, body, sender, received) for reject in late])
            rejects += late
        self._count(source, door, decoded, len(rejects), taken, sent_size or len(body), received)
        told = "; ".join(dict.fromkeys(f"{r.place}: {r.reason}" for r in rejects[:_REASONS_TOLD]))
        return Answer(len(items) - len(late), len(rejects), told)

    def _items(
        self, decoded: Decoded, source: Source, sender: Sender, received: int
    ) -> tuple[list[Item], list[Reject]]:
        items, rejects = [], list(decoded.rejects)
        for span in decoded.spans:
            try:
                found = mapping.rows(span, sender, received)
            except Exception:  # a span that we cannot map is ours to mend; its neighbours are not to pay for it
                _LOG.exception("a span could not be mapped")
                rejects.append(_of(span, "It could not be read; the receiver's log says more."))
                continue
            agent = found.activity.get("AgentId", "")
            if not source.may_speak_for(agent):
                rejects.append(_of(span, f"The source {source.id} may not say what {agent or 'no agent'} did."))
                continue
            if sender.agent_id and agent and agent != sender.agent_id:
                rejects.append(_of(span, f"The address is for the agent {sender.agent_id}, the span is of {agent}."))
                continue
            rows = [("AgentActivity", found.activity), *(("AgentContent", row) for row in found.contents)]
            items.append(Item(span_key(sender, span), rows))
        return items, rejects

    @staticmethod
    def _quarantine(reject: Reject, body: bytes, sender: Sender, received: int) -> Item:
        row, content = mapping.reject_rows(reject, sender, received)
        rows = [("TelemetryRejects", row), ("AgentContent", content)]
        return Item(reject_key(sender, reject, body), rows, is_reject=True)

    @staticmethod
    def _refused(item: Item, decoded: Decoded, sender: Sender) -> Reject | None:
        span = next((s for s in decoded.spans if span_key(sender, s) == item.key), None)
        return None if span is None else _of(span, "It cannot be stored: a value fits no column.")

    def _count(
        self,
        source: Source,
        door: str,
        decoded: Decoded,
        rejected: int,
        taken: Taken,
        size: int,
        received: int,
    ) -> None:
        # INVARIANT: what was received is what was stored, known before, and rejected, however often it is sent.
        ends = [span.end for span in decoded.spans if 0 < span.end <= received]
        self._health.taken(
            source.id,
            door,
            received=len(decoded.spans) + len(decoded.rejects),
            stored=taken.stored,
            duplicates=taken.duplicates,
            rejected=rejected,
            size=size,
            newest=max(ends) // 1000 if ends else None,
            lag=(self._now() - min(ends)) / 1e9 if ends else None,
        )


def _of(span: Span, reason: str) -> Reject:
    original = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_span_id,
        "name": span.name,
        "startTimeUnixNano": span.start,
        "endTimeUnixNano": span.end,
        "attributes": dict(span.attributes),
        "resource": dict(span.resource),
    }
    return Reject(f"span {span.span_id}", reason, original, span.trace_id, span.span_id)
