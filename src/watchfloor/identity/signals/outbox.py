"""Telling others: what happens to our users goes into the outbox, in the transaction in which it happens.

Above ``storage.streams``; ``response`` calls ``emit`` inside its own transaction, so that a revoke and the word of it
are one commit. ``deliver`` signs and sends, or a receiver fetches. It does no I/O and knows no key.

What is told is what operators decide here. What others told us is not told on: two products that believe each other
would go on for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from watchfloor.identity.signals.events import CAEP, CREDENTIAL_CHANGE, RISK_LEVEL_CHANGE, SESSION_REVOKED
from watchfloor.model.ids import ordered_id
from watchfloor.model.people import RiskLevel
from watchfloor.storage import streams
from watchfloor.storage.streams import Outgoing, Stream

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

TOLD: Final = (SESSION_REVOKED, CREDENTIAL_CHANGE, RISK_LEVEL_CHANGE)
"""Kinds of events that receivers can ask for."""

LEVELS: Final[Mapping[RiskLevel, str]] = {
    RiskLevel.NONE: "LOW",
    RiskLevel.LOW: "LOW",
    RiskLevel.MEDIUM: "MEDIUM",
    RiskLevel.HIGH: "HIGH",
}


class Told(Protocol):
    """What happened. ``kind`` is CAEP's name; ``issuer`` and ``subject`` name a user as their provider does, and are
    empty for agents. ``reason`` is for administrators. ``transaction``: what several events belong together by.
    ``change``: CAEP's word for what became of a password."""

    @property
    def kind(self) -> str: ...
    @property
    def subject_kind(self) -> str: ...
    @property
    def subject_id(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def reason(self) -> str: ...
    @property
    def issuer(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def upn(self) -> str: ...
    @property
    def level(self) -> RiskLevel | None: ...
    @property
    def previous_level(self) -> RiskLevel | None: ...
    @property
    def transaction(self) -> str: ...
    @property
    def change(self) -> str: ...


class SignalEmitter:
    """``emit`` as a value: what ``response`` is given."""

    def emit(self, tx: ControlTx, key: str, event: Told) -> Mapping[str, str]:
        """See ``emit``."""
        return emit(tx, key, event)


def emit(tx: ControlTx, key: str, event: Told) -> Mapping[str, str]:
    """Put ``event`` into the outbox of every stream that asked for it, unless one of this ``key`` is there.

    What shows it: the ``jti`` by stream, none if nobody asked. Raises ``ValueError`` for a kind nobody can ask for.
    """
    kind = CAEP + event.kind
    if kind not in TOLD:
        raise ValueError(f"{event.kind!r} is no event that is told")
    payload = _payload(kind, event)
    sub_id = _subject(event)
    names = [subject_hash(sub_id)]
    if event.upn:
        names.append(subject_hash({"format": "email", "email": event.upn}))
    claims = {
        "sub_id": sub_id,
        "events": {kind: payload},
        **({"txn": event.transaction} if event.transaction else {}),
    }
    shown: dict[str, str] = {}
    for stream in streams.list_streams(tx):
        if kind in stream.events_requested and not streams.is_excluded(tx, stream.id, names):
            jti = put(tx, stream, key, claims)
            if jti:
                shown[stream.id] = jti
    return shown


def put(tx: ControlTx, stream: Stream, key: str, claims: Mapping[str, Any]) -> str:
    """Put ``claims`` into the outbox of ``stream`` under ``key``; its ``jti``, empty if nothing may be kept for it."""
    if stream.status == "disabled":
        return ""
    short = key if len(key) <= 200 else hashlib.sha256(key.encode()).hexdigest()
    return streams.put(tx, Outgoing(ordered_id("set"), stream.id, short, claims, tx.now)).id


def subject_hash(subject: Mapping[str, Any]) -> str:
    """What a subject identifier is compared by; mail addresses in whatever case."""
    plain = {name: value.lower() if name == "email" else value for name, value in subject.items()}
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _subject(event: Told) -> dict[str, str]:
    if event.subject_kind == "user" and event.issuer:
        return {"format": "iss_sub", "iss": event.issuer, "sub": event.subject}
    # Known by our own tokens: whoever delivers knows their issuer.
    return {"format": "iss_sub", "iss": "", "sub": f"{event.subject_kind}:{event.subject_id}"}


def _payload(kind: str, event: Told) -> dict[str, Any]:
    reason = event.reason.strip() or "decided by the security operations centre"
    payload: dict[str, Any] = {
        "event_timestamp": int(event.at.timestamp()),
        "initiating_entity": "user" if event.change == "update" else "admin",
        "reason_admin": {"en": reason},
    }
    if kind == CREDENTIAL_CHANGE:
        payload |= {"credential_type": "password", "change_type": event.change or "revoke"}
    if kind == RISK_LEVEL_CHANGE:
        principal = "USER" if event.subject_kind == "user" else "APPLICATION"
        level = LEVELS[event.level or RiskLevel.NONE]
        payload |= {"principal": principal, "current_level": level, "risk_reason": reason}
        if event.previous_level is not None:
            payload["previous_level"] = LEVELS[event.previous_level]
    return payload
