"""Fetching security events where a transmitter does not push them: RFC 8936.

A job calls ``poll_all``. What was taken is acknowledged in the request that asks for more, what was refused is reported
there; an event that was taken and whose acknowledgement got lost comes again and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from watchfloor.identity.signals import http
from watchfloor.identity.signals.receive import Receiver, secret_place
from watchfloor.identity.signals.tokens import SetRefused
from watchfloor.model.errors import Unavailable
from watchfloor.storage import signals
from watchfloor.storage.signals import Transmitter

if TYPE_CHECKING:
    from watchfloor.storage.control import SqlControlStore
    from watchfloor.storage.vault import Vault

AT_ONCE: Final = 50
_ROUNDS: Final = 40
"""Requests of one run; the next goes on."""

_LEASE_SECONDS: Final = 120.0
_log = logging.getLogger(__name__)


def poll_all(store: SqlControlStore, vault: Vault, receiver: Receiver) -> int:
    """Fetch from every transmitter that is to be polled; how many events were new.

    One that fails has it noted and keeps no other from being asked. While another server polls one, it is left alone.
    """
    with store.read() as tx:
        polled = [t for t in signals.list_transmitters(tx) if t.poll_url and t.is_enabled]
    count = 0
    for transmitter in polled:
        lease = store.lease(f"signals:{transmitter.id}", _LEASE_SECONDS)
        if lease is None:
            continue
        problem = ""
        try:
            count += _poll(transmitter, _authorization(vault, transmitter), receiver)
        except Unavailable as error:
            problem = str(error)
        finally:
            lease.release()
        if problem != transmitter.problem:
            if problem:
                _log.warning("transmitter %s: %s", transmitter.id, problem)
            with store.tx("system:signals", audited=False) as tx:
                signals.note_transmitter(tx, transmitter.id, problem=problem[:1000])
    return count


def _authorization(vault: Vault, transmitter: Transmitter) -> str:
    if transmitter.sealed is None:
        return ""
    return f"Bearer {vault.unseal(transmitter.sealed, secret_place(transmitter.id)).decode()}"


def _poll(transmitter: Transmitter, authorization: str, receiver: Receiver) -> int:
    new, taken, refused, is_over = 0, list[str](), dict[str, dict[str, str]](), False
    for _ in range(_ROUNDS):
        sets, is_more = _ask(transmitter.poll_url, authorization, taken, refused, 0 if is_over else AT_ONCE)
        taken, refused = [], {}
        for jti, token in sets.items():
            try:
                found = receiver.take(token, transmitter)
            except SetRefused as error:
                refused[jti] = {"err": error.err, "description": str(error)}
                _log.warning("transmitter %s: %s is refused: %s", transmitter.id, jti[:80], error)
            else:
                taken.append(jti)
                new += found.is_new
        if is_over or not (taken or refused):
            break
        is_over = not is_more
    return new


def _ask(
    url: str, authorization: str, taken: list[str], refused: Mapping[str, Any], most: int
) -> tuple[dict[str, str], bool]:
    """Tokens by ``jti``, and whether more are waiting."""
    asked: dict[str, Any] = {"maxEvents": most, "returnImmediately": True}
    if taken:
        asked["ack"] = taken
    if refused:
        asked["setErrs"] = dict(refused)
    answer = http.post(url, orjson.dumps(asked), kind="application/json", authorization=authorization)
    if answer.status != 200:
        raise Unavailable(f"{url} answers {answer.status}.")
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        document = None
    sets = document.get("sets", {}) if isinstance(document, dict) else None
    if not isinstance(sets, dict):
        raise Unavailable(f"{url} does not answer as RFC 8936 has it.")
    return {jti: token for jti, token in sets.items() if isinstance(token, str)}, document.get("moreAvailable") is True
