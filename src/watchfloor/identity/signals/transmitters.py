"""Transmitters as operators handle them: whom we believe, of which users, with which secret.

Above ``storage.signals``; the portal calls it. Secrets are sealed; nobody can read them again.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

from watchfloor.identity.signals import http
from watchfloor.identity.signals.receive import secret_place
from watchfloor.model.errors import Conflict, InputError, NotFound, Unavailable
from watchfloor.model.ids import is_name
from watchfloor.model.urls import outbound_problem
from watchfloor.storage import people, signals
from watchfloor.storage.signals import Transmitter

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.vault import Vault

_MOST_ISSUERS: Final = 50


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a transmitter counts. ``secret`` None leaves the one that is; empty takes it away."""

    issuer: str
    jwks_uri: str
    audience: str
    speaks_for: Collection[str] = ()
    poll_url: str = ""
    verification_url: str = ""
    stream_id: str = ""
    secret: str | None = field(default=None, repr=False)
    is_enabled: bool = True


def get(tx: ControlTx, transmitter_id: str) -> Transmitter:
    """The transmitter. Raises ``NotFound``."""
    found = signals.find_transmitter(tx, transmitter_id)
    if found is None:
        raise NotFound(f"there is no transmitter {transmitter_id!r}.", where="transmitter")
    return found


def put(tx: ControlTx, vault: Vault, transmitter_id: str, terms: Terms) -> Transmitter:
    """Make or change a transmitter. Raises ``InputError``; ``Conflict`` if another one has its issuer.

    It speaks for users of its own issuer unless ``speaks_for`` says otherwise; each must be a known identity provider.
    """
    if not is_name(transmitter_id):
        raise InputError(
            f"{transmitter_id[:80]!r} cannot be the id of a transmitter.",
            where="id",
            remedy="Use 1 to 64 lower-case letters, digits, '.', '_' and '-'.",
        )
    before = signals.find_transmitter(tx, transmitter_id)
    other = signals.find_transmitter_of(tx, terms.issuer)
    if other is not None and other.id != transmitter_id:
        raise Conflict(f"{other.id} has this issuer already.", where="issuer")
    for where in ("issuer", "audience"):
        if not getattr(terms, where).strip() or not getattr(terms, where).isprintable():
            raise InputError("is missing, or does not print.", where=where)
    for where in ("jwks_uri", "poll_url", "verification_url"):
        url = getattr(terms, where)
        problem = outbound_problem(url, require_tls=True) if url or where == "jwks_uri" else None
        if problem:
            raise InputError(problem, where=where)
    speaks_for = tuple(sorted(set(terms.speaks_for))) or (terms.issuer,)
    known = {provider.issuer for provider in people.list_identity_providers(tx)}
    if unknown := [issuer for issuer in speaks_for if issuer not in known]:
        raise InputError(
            f"{unknown[0][:200]!r} is no identity provider of ours.",
            where="speaks_for",
            remedy=f"Name those whose users this is about: {', '.join(sorted(known)) or 'there is none yet'}.",
        )
    if len(speaks_for) > _MOST_ISSUERS:
        raise InputError(f"name at most {_MOST_ISSUERS} issuers.", where="speaks_for")
    sealed = before.sealed if before else None
    if terms.secret is not None:
        sealed = vault.seal(_secret(terms.secret), secret_place(transmitter_id)) if terms.secret else None
    made = Transmitter(
        id=transmitter_id,
        issuer=terms.issuer,
        jwks_uri=terms.jwks_uri,
        audience=terms.audience,
        speaks_for=speaks_for,
        created_at=tx.now,
        updated_at=tx.now,
        updated_by=tx.actor,
        poll_url=terms.poll_url,
        verification_url=terms.verification_url,
        stream_id=terms.stream_id,
        sealed=sealed,
        is_enabled=terms.is_enabled,
    )
    signals.save_transmitter(tx, made)
    return get(tx, transmitter_id)


def _secret(secret: str) -> bytes:
    if len(secret) < 16 or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise InputError("must be 16 or more ASCII characters without spaces.", where="secret")
    return secret.encode()


def delete(tx: ControlTx, transmitter_id: str) -> None:
    """Believe a transmitter no more. Raises ``NotFound``."""
    if not signals.delete_transmitter(tx, transmitter_id):
        get(tx, transmitter_id)


def ask_for_verification(store: SqlControlStore, vault: Vault, transmitter_id: str, actor: str) -> str:
    """Ask a transmitter for a verification event; the state that it has to come with.

    Raises ``NotFound``; ``InputError`` if it is not known where to ask; ``Unavailable`` if it will not.
    """
    state = secrets.token_urlsafe(16)
    with store.tx(actor) as tx:
        transmitter = get(tx, transmitter_id)
        if not transmitter.verification_url or not transmitter.stream_id:
            raise InputError("are needed to ask.", where="verification_url, stream_id", remedy="Set both first.")
        # Before asking: the event may be here sooner than the answer.
        signals.note_transmitter(tx, transmitter_id, expected_state=state)
        tx.audit("transmitter:verify", f"transmitter/{transmitter_id}", {})
    authorization = ""
    if transmitter.sealed is not None:
        authorization = f"Bearer {vault.unseal(transmitter.sealed, secret_place(transmitter_id)).decode()}"
    body = orjson.dumps({"stream_id": transmitter.stream_id, "state": state})
    answer = http.post(transmitter.verification_url, body, kind="application/json", authorization=authorization)
    if not 200 <= answer.status < 300:
        raise Unavailable(f"{transmitter.verification_url} answers {answer.status}.")
    return state
