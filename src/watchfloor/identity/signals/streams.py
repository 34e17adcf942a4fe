"""Streams as receivers manage them, and receivers as operators do: SSF 1.0's management, without HTTP.

Above ``storage.streams`` and ``outbox``; the portal's doors translate. A receiver has one stream, sees nothing of other
receivers, and has events pushed only to hosts that an operator named for it. Tokens are 256 random bits; their SHA-256
is kept.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from watchfloor.identity.signals import outbox
from watchfloor.identity.signals.events import VERIFICATION, parse_subject
from watchfloor.model.errors import Conflict, Denied, InputError, NotFound, Unavailable
from watchfloor.model.ids import is_name, ordered_id
from watchfloor.model.urls import outbound_problem
from watchfloor.storage import streams
from watchfloor.storage.streams import SignalReceiver, Stream

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.vault import Vault

PUSH: Final = "urn:ietf:rfc:8935"
POLL: Final = "urn:ietf:rfc:8936"
READ: Final = "ssf.read"
MANAGE: Final = "ssf.manage"
SCOPES: Final = (READ, MANAGE)
STATUSES: Final = ("enabled", "paused", "disabled")
TOKEN_PREFIX: Final = "wfssf_"  # noqa: S105 - it lets secret scanners recognise a token that went astray
VERIFICATION_SECONDS: Final = 30
"""How often a receiver may ask for a verification event."""

_MOST_EXCLUDED: Final = 10_000
_MOST_EVENTS: Final = 100


@dataclass(frozen=True, slots=True)
class Us:
    """Who we are to receivers: ``issuer`` of events, and of our own tokens, whose keys sign both."""

    issuer: str
    token_issuer: str

    @property
    def jwks_uri(self) -> str:
        """Where the keys are published."""
        return f"{self.token_issuer}/jwks"


class VerificationTooSoon(Unavailable):
    """The receiver asked for a verification event a moment ago."""

    code = "too_often"


@dataclass(frozen=True, slots=True)
class Issued:
    """A receiver and its new token, which is stored nowhere."""

    receiver: SignalReceiver
    token: str = field(repr=False)


# -- receivers, as operators handle them --------------------------------------------------------------------------


def get_receiver(tx: ControlTx, receiver_id: str) -> SignalReceiver:
    """The receiver. Raises ``NotFound``."""
    found = streams.find_receiver(tx, receiver_id)
    if found is None:
        raise NotFound(f"there is no receiver {receiver_id!r}.", where="receiver")
    return found


def create_receiver(
    tx: ControlTx, receiver_id: str, *, audience: str, scopes: Collection[str], push_hosts: Collection[str]
) -> Issued:
    """A new receiver with its token. Raises ``InputError``; ``Conflict`` if there is one of this id."""
    if not is_name(receiver_id):
        raise InputError(
            f"{receiver_id[:80]!r} cannot be the id of a receiver.",
            where="id",
            remedy="Use 1 to 64 lower-case letters, digits, '.', '_' and '-'.",
        )
    if streams.find_receiver(tx, receiver_id) is not None:
        raise Conflict(f"there is a receiver {receiver_id} already.", where="id", remedy="Choose another id.")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise InputError("must be some of SSF's.", where="scopes", remedy=f"Scopes: {', '.join(SCOPES)}.")
    for host in push_hosts:
        if urlsplit(f"https://{host}").hostname != host or outbound_problem(f"https://{host}"):
            raise InputError(f"{host[:80]!r} is no host that may be called.", where="push_hosts")
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    made = SignalReceiver(
        id=receiver_id,
        audience=audience or receiver_id,
        token_hash=_hash(token),
        created_at=tx.now,
        updated_at=tx.now,
        updated_by=tx.actor,
        scopes=tuple(sorted(set(scopes))),
        push_hosts=tuple(sorted(set(push_hosts))),
    )
    streams.save_receiver(tx, made)
    return Issued(made, token)


def renew_token(tx: ControlTx, receiver_id: str) -> Issued:
    """A new token; the one before is refused from now on. Raises ``NotFound``."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    made = replace(get_receiver(tx, receiver_id), token_hash=_hash(token), updated_at=tx.now, updated_by=tx.actor)
    streams.save_receiver(tx, made)
    return Issued(made, token)


def delete_receiver(tx: ControlTx, receiver_id: str) -> None:
    """Forget a receiver, its token and its stream. Raises ``NotFound``."""
    if not streams.delete_receiver(tx, receiver_id):
        get_receiver(tx, receiver_id)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def authenticate(tx: ControlTx, token: str, scope: str) -> SignalReceiver | None:
    """Whose token this is, or None. Raises ``Denied`` if it lacks ``scope``; who may manage may read."""
    found = streams.find_receiver_by_token(tx, _hash(token)) if len(token) <= 200 else None
    if found is None or not found.is_enabled:
        return None
    if scope not in found.scopes and MANAGE not in found.scopes:
        raise Denied(f"This needs the scope {scope}.")
    return found


# -- streams, as receivers handle them ----------------------------------------------------------------------------


def own(tx: ControlTx, receiver: SignalReceiver, stream_id: Any) -> Stream:
    """The receiver's stream of this id. Raises ``InputError``, ``NotFound``; others' streams do not exist for it."""
    if not isinstance(stream_id, str) or not stream_id:
        raise InputError("is missing.", where="stream_id")
    found = streams.find_stream_of(tx, receiver.id)
    if found is None or found.id != stream_id:
        raise NotFound("there is no such stream.", where="stream_id")
    return found


def create(tx: ControlTx, vault: Vault, receiver: SignalReceiver, body: Mapping[str, Any]) -> Stream:
    """A new stream as ``body`` asks for it. Raises ``InputError``; ``Conflict`` if the receiver has one."""
    if streams.find_stream_of(tx, receiver.id) is not None:
        raise Conflict("you have a stream already.", where="stream", remedy="Update or delete it.")
    blank = Stream(ordered_id("ssf"), receiver.id, POLL, tx.now, tx.now, events_requested=outbox.TOLD)
    made = _with(vault, receiver, blank, body)
    streams.save_stream(tx, made)
    return made


def update(tx: ControlTx, vault: Vault, receiver: SignalReceiver, body: Mapping[str, Any], *, replaces: bool) -> Stream:
    """Change a stream; with ``replaces``, what ``body`` leaves out is as in a new one. Raises ``InputError``,
    ``NotFound``."""
    stream = own(tx, receiver, body.get("stream_id"))
    if replaces:
        if "delivery" not in body:
            raise InputError("is missing.", where="delivery", remedy="PATCH changes only what it names.")
        stream = replace(stream, events_requested=outbox.TOLD, description="", sealed=None)
    made = replace(_with(vault, receiver, stream, body), updated_at=tx.now)
    streams.save_stream(tx, made)
    return made


def delete(tx: ControlTx, receiver: SignalReceiver, stream_id: Any) -> None:
    """Delete a stream with what waits for it. Raises ``InputError``, ``NotFound``."""
    streams.delete_stream(tx, own(tx, receiver, stream_id))


def set_status(tx: ControlTx, receiver: SignalReceiver, body: Mapping[str, Any]) -> Stream:
    """Pause a stream (events wait), disable it (nothing is kept) or go on. Raises ``InputError``, ``NotFound``."""
    stream = own(tx, receiver, body.get("stream_id"))
    status = body.get("status")
    if status not in STATUSES:
        raise InputError("is none.", where="status", remedy=f"One of {', '.join(STATUSES)}.")
    made = replace(stream, status=str(status), status_reason=_text(body, "reason", 300), updated_at=tx.now)
    streams.save_stream(tx, made)
    return made


def set_subject(tx: ControlTx, receiver: SignalReceiver, body: Mapping[str, Any], *, wanted: bool) -> None:
    """Tell a receiver of a subject, or do not. Everybody is told of unless removed. Raises ``InputError``,
    ``NotFound``."""
    stream = own(tx, receiver, body.get("stream_id"))
    subject = parse_subject(body.get("subject"), where="subject")
    if subject.format not in ("email", "iss_sub"):
        raise InputError("names nobody here.", where="subject.format", remedy="email or iss_sub.")
    named = {"format": subject.format, **subject.values}
    if wanted:
        streams.include(tx, stream.id, outbox.subject_hash(named))
        return
    if streams.count_excluded(tx, stream.id) >= _MOST_EXCLUDED:
        raise InputError(f"more than {_MOST_EXCLUDED} subjects are removed already.", where="subject")
    streams.exclude(tx, stream.id, outbox.subject_hash(named), named)


def ask_for_verification(tx: ControlTx, receiver: SignalReceiver, body: Mapping[str, Any]) -> None:
    """Send a verification event with the receiver's ``state``. Raises ``InputError``, ``NotFound``,
    ``VerificationTooSoon``."""
    stream = own(tx, receiver, body.get("stream_id"))
    state = _text(body, "state", 500)
    interval = timedelta(seconds=VERIFICATION_SECONDS)
    if stream.verification_at is not None and stream.verification_at + interval > tx.now:
        raise VerificationTooSoon("You asked a moment ago.", retry_after=VERIFICATION_SECONDS)
    streams.note_stream(tx, stream.id, verification_at=tx.now)
    claims = {
        "sub_id": {"format": "opaque", "id": stream.id},
        "events": {VERIFICATION: {"state": state} if state else {}},
    }
    outbox.put(tx, stream, ordered_id("verification"), claims)


def shown(stream: Stream, receiver: SignalReceiver, issuer: str) -> dict[str, Any]:
    """``stream`` as SSF shows it. The Authorization header that we send is not shown."""
    endpoint = stream.endpoint_url if stream.method == PUSH else poll_url(issuer, stream.id)
    return {
        "stream_id": stream.id,
        "iss": issuer,
        "aud": receiver.audience,
        "delivery": {"method": stream.method, "endpoint_url": endpoint},
        "events_supported": list(outbox.TOLD),
        "events_requested": list(stream.events_requested),
        "events_delivered": [kind for kind in outbox.TOLD if kind in stream.events_requested],
        "min_verification_interval": VERIFICATION_SECONDS,
        **({"description": stream.description} if stream.description else {}),
    }


def poll_url(issuer: str, stream_id: str) -> str:
    """Where a stream is fetched."""
    return f"{issuer}/ssf/streams/{stream_id}/poll"


def header_place(stream_id: str) -> str:
    """What the Authorization header of a stream is sealed for."""
    return f"stream/{stream_id}"


def _with(vault: Vault, receiver: SignalReceiver, stream: Stream, body: Mapping[str, Any]) -> Stream:
    if "events_requested" in body:
        stream = replace(stream, events_requested=_events(body["events_requested"]))
    if "description" in body:
        stream = replace(stream, description=_text(body, "description", 500))
    if "delivery" not in body:
        return stream
    delivery = body["delivery"]
    if not isinstance(delivery, Mapping) or delivery.get("method") not in (PUSH, POLL):
        raise InputError("is none that we offer.", where="delivery.method", remedy=f"{PUSH} or {POLL}.")
    if delivery["method"] == POLL:
        return replace(stream, method=POLL, endpoint_url="", sealed=None)
    url = _text(delivery, "endpoint_url", 2000, "delivery.")
    problem = outbound_problem(url, require_tls=True)
    if problem:
        raise InputError(problem, where="delivery.endpoint_url")
    host = urlsplit(url).hostname or ""
    if host not in receiver.push_hosts:
        raise InputError(
            f"events are not pushed to {host}.",
            where="delivery.endpoint_url",
            remedy="Ask the operators to add it to this receiver's push_hosts, or poll.",
        )
    header = _text(delivery, "authorization_header", 4000, "delivery.")
    if header:
        if not header.isascii():
            raise InputError("must be ASCII.", where="delivery.authorization_header")
        sealed: str | None = vault.seal(header.encode(), header_place(stream.id))
    else:
        # Left out at another address, it would hand the secret of the old one to the new one.
        sealed = stream.sealed if url == stream.endpoint_url and "authorization_header" not in delivery else None
    return replace(stream, method=PUSH, endpoint_url=url, sealed=sealed)


def _events(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_EVENTS or not all(isinstance(v, str) for v in value):
        raise InputError(f"must be a list of at most {_MOST_EVENTS} event types.", where="events_requested")
    return tuple(v for v in dict.fromkeys(value) if v in outbox.TOLD)


def _text(body: Mapping[str, Any], name: str, limit: int, prefix: str = "") -> str:
    value = body.get(name, "")
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > limit or (value and not value.isprintable()):
        raise InputError(f"must be a text of at most {limit} characters that print.", where=prefix + name)
    return value
