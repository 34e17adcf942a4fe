"""Sending what waits in the outbox: signed when it goes out, retried with growing pauses, handed to who fetches.

A job calls ``deliver_all`` for streams that are pushed (RFC 8935); the door for fetching calls ``fetch`` (RFC 8936).
A crash between an answer and its note sends an event again: it has the same ``jti``, so the receiver takes it once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from watchfloor.identity import keys
from watchfloor.identity.keys import Signer
from watchfloor.identity.signals import http, tokens
from watchfloor.identity.signals.streams import PUSH, Us, header_place
from watchfloor.model.errors import InputError, Unavailable
from watchfloor.storage import streams
from watchfloor.storage.streams import DELIVERED, FAILED, Outgoing, Stream

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.vault import Vault

FIRST_DELAY: Final = 5.0
LONGEST_DELAY: Final = 600.0
GIVE_UP: Final = timedelta(days=7)
"""An event that nobody took for so long is given up, and shown as failed."""

KEEP: Final = timedelta(days=30)
"""How long it is remembered what became of an event."""

AT_ONCE: Final = 100
_LEASE_SECONDS: Final = 120.0
_FINAL: Final = frozenset({"invalid_request", "invalid_key", "invalid_issuer", "invalid_audience", "invalid_state"})
"""Answers that would be the same next time; the others (of authentication) may be mended by an operator."""

_log = logging.getLogger(__name__)


def deliver_all(store: SqlControlStore, vault: Vault, us: Us) -> int:
    """Push what waits for streams that are due; how many events were taken. ``us`` is who we are."""
    with store.read() as tx:
        due = [
            s
            for s in streams.list_streams(tx)
            if s.method == PUSH
            and s.status == "enabled"
            and (s.next_try_at is None or s.next_try_at <= tx.now)
            and streams.count_waiting(tx, s.id)
        ]
        over = streams.has_settled(tx, tx.now - KEEP)
    if over:
        with store.tx("system:signals", audited=False) as tx:
            streams.forget_settled(tx, tx.now - KEEP)
    return sum(_deliver(store, vault, us, stream) for stream in due)


def _deliver(store: SqlControlStore, vault: Vault, us: Us, stream: Stream) -> int:
    lease = store.lease(f"stream:{stream.id}", _LEASE_SECONDS)
    if lease is None:
        return 0
    count = 0
    try:
        with store.read() as tx:
            outgoing, tokens_by_id = _signed(tx, vault, us, stream, AT_ONCE)
        header = vault.unseal(stream.sealed, header_place(stream.id)).decode() if stream.sealed is not None else ""
        for each in outgoing:
            try:
                error = _push(stream, tokens_by_id[each.id], header)
            except Unavailable as failure:
                _put_off(store, stream, each, str(failure), failure.retry_after)
                break
            with store.tx("system:signals", audited=False) as tx:
                streams.settle(tx, stream.id, [each.id], FAILED if error else DELIVERED, error)
                streams.note_stream(tx, stream.id, failures=0, next_try_at=None, problem=error[:1000])
            count += not error
            if not lease.renew():
                break
    finally:
        lease.release()
    return count


def _push(stream: Stream, token: str, header: str) -> str:
    """Why it will never be taken; empty if it was. Raises ``Unavailable`` for what may work later."""
    answer = http.post(stream.endpoint_url, token.encode(), kind=f"application/{tokens.SET_TYPE}", authorization=header)
    if 200 <= answer.status < 300:
        return ""
    err = ""
    if answer.status == 400:
        try:
            said = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            said = None
        err = str(said.get("err", ""))[:100] if isinstance(said, dict) else ""
        if err in _FINAL:
            return f"refused: {err}"
    raise Unavailable(
        f"the receiver answers {answer.status}{f' ({err})' if err.isprintable() and err else ''}.",
        retry_after=answer.retry_after,
    )


def _put_off(store: SqlControlStore, stream: Stream, outgoing: Outgoing, problem: str, retry_after: float) -> None:
    with store.tx("system:signals", audited=False) as tx:
        now = streams.find_stream(tx, stream.id)
        failures = (now.failures if now else 0) + 1
        pause = max(retry_after, min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 20)))
        next_try_at = tx.now + timedelta(seconds=pause)
        streams.note_stream(tx, stream.id, failures=failures, next_try_at=next_try_at, problem=problem[:1000])
        if outgoing.created_at + GIVE_UP <= tx.now:
            streams.settle(tx, stream.id, [outgoing.id], FAILED, f"given up: {problem}")
    if failures == 1:
        _log.warning("stream %s: %s", stream.id, problem)


def fetch(
    store: SqlControlStore, vault: Vault, us: Us, stream: Stream, body: Mapping[str, Any]
) -> tuple[dict[str, str], bool]:
    """Settle what ``body`` acknowledges and reports, and what waits then: tokens by ``jti``, and whether there is more.

    Raises ``InputError``.
    """
    taken, refused, most = _read(body)
    if taken or refused:
        with store.tx("system:signals", audited=False) as tx:
            streams.settle(tx, stream.id, taken, DELIVERED)
            for jti, error in refused.items():
                streams.settle(tx, stream.id, [jti], FAILED, error)
            streams.note_stream(tx, stream.id, problem=next(iter(refused.values()), "")[:1000])
    if stream.status != "enabled" or most == 0:
        with store.read() as tx:
            return {}, stream.status == "enabled" and streams.count_waiting(tx, stream.id) > 0
    with store.read() as tx:
        outgoing, signed = _signed(tx, vault, us, stream, most)
        return signed, streams.count_waiting(tx, stream.id) > len(outgoing)


def _read(body: Mapping[str, Any]) -> tuple[list[str], dict[str, str], int]:
    taken, errors, most = body.get("ack", []), body.get("setErrs", {}), body.get("maxEvents", AT_ONCE)
    if not isinstance(taken, list) or len(taken) > 1000 or not all(isinstance(jti, str) for jti in taken):
        raise InputError("must be a list of at most 1000 jti.", where="ack")
    if not isinstance(errors, Mapping) or len(errors) > 1000:
        raise InputError("must be an object with at most 1000 members.", where="setErrs")
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:
        raise InputError("must be a whole number from 0.", where="maxEvents")
    refused: dict[str, str] = {}
    for jti, said in errors.items():
        if not isinstance(said, Mapping):
            raise InputError("must be objects with err and description.", where="setErrs")
        text = f"{said.get('err', '')}: {said.get('description', '')}"[:500]
        refused[str(jti)] = "refused: " + "".join(c if c.isprintable() else " " for c in text)
    return taken, refused, min(most, AT_ONCE)


def _signed(tx: ControlTx, vault: Vault, us: Us, stream: Stream, most: int) -> tuple[list[Outgoing], dict[str, str]]:
    outgoing = streams.waiting(tx, stream.id, most)
    receiver = streams.find_receiver(tx, stream.receiver_id)
    if not outgoing or receiver is None or not receiver.is_enabled:
        return [], {}
    signer = keys.open_key(keys.current_key(tx), vault)
    return outgoing, {each.id: _token(signer, us, receiver.audience, each) for each in outgoing}


def _token(signer: Signer, us: Us, audience: str, outgoing: Outgoing) -> str:
    claims = dict(outgoing.claims)
    subject = dict(claims["sub_id"])
    if subject.get("iss") == "":
        subject["iss"] = us.token_issuer
    return tokens.build(
        signer,
        {
            **claims,
            "sub_id": subject,
            "iss": us.issuer,
            "aud": audience,
            "jti": outgoing.id,
            "iat": int(outgoing.created_at.timestamp()),
        },
    )
