"""Reads and writes of how operators sign in: second factors, identities at a provider, sign-ins under way.

Below ``identity``, above the tables; every write is audited in the caller's transaction, except what is only under way.
It knows no secret but sealed, and no token but its hash.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from watchfloor.storage.changes import upsert
from watchfloor.storage.schema import operator_session
from watchfloor.storage.schema_sign_in import operator_factor, operator_identity, sign_on, used_token

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class Factor:
    """An operator's second factor; until it is confirmed it is not asked for."""

    operator_id: str
    sealed: str = field(repr=False)
    is_confirmed: bool
    last_step: int
    recovery: tuple[str, ...] = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom an issuer's ``subject`` signs in as; None: whoever comes first under the operator's name."""

    operator_id: str
    issuer: str
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class SignOn:
    """One sign-in that is under way at the identity provider."""

    state_hash: str
    browser_hash: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    target: str
    expires_at: int


# -- second factors -----------------------------------------------------------------------------------------------


def find_factor(tx: ControlTx, operator_id: str) -> Factor | None:
    """The operator's second factor, confirmed or not."""
    f = operator_factor
    row = tx.connection.execute(sa.select(f).where(f.c.operator_id == operator_id)).one_or_none()
    return Factor(**{**dict(row._mapping), "recovery": tuple(row.recovery)}) if row else None


def with_factor(tx: ControlTx, operator_ids: Collection[str]) -> set[str]:
    """Those of these operators who have confirmed one."""
    f = operator_factor
    query = sa.select(f.c.operator_id).where(f.c.is_confirmed, f.c.operator_id.in_(list(operator_ids)))
    return set(tx.connection.execute(query).scalars())


def save_factor(tx: ControlTx, factor: Factor, action: str) -> None:
    """Store it; the audit tells neither key nor codes, but how many codes are left."""
    values = {
        "operator_id": factor.operator_id,
        "sealed": factor.sealed,
        "is_confirmed": factor.is_confirmed,
        "last_step": factor.last_step,
        "recovery": list(factor.recovery),
        "created_at": factor.created_at,
    }
    upsert(tx, operator_factor, values, find_factor(tx, factor.operator_id) is not None)
    tx.audit(action, f"operator/{factor.operator_id}", {"recovery_codes": len(factor.recovery)})


def delete_factor(tx: ControlTx, operator_id: str, action: str) -> bool:
    """Forget it; whether there was one."""
    f = operator_factor
    if not tx.connection.execute(f.delete().where(f.c.operator_id == operator_id)).rowcount:
        return False
    tx.audit(action, f"operator/{operator_id}", {})
    return True


# -- identities ---------------------------------------------------------------------------------------------------


def find_identity(tx: ControlTx, operator_id: str) -> Identity | None:
    """Through which provider the operator signs in, if so."""
    i = operator_identity
    row = tx.connection.execute(sa.select(i).where(i.c.operator_id == operator_id)).one_or_none()
    return Identity(**dict(row._mapping)) if row else None


def find_identity_of(tx: ControlTx, issuer: str, subject: str) -> Identity | None:
    """Whom ``issuer`` calls ``subject``."""
    i = operator_identity
    row = tx.connection.execute(sa.select(i).where(i.c.issuer == issuer, i.c.subject == subject)).one_or_none()
    return Identity(**dict(row._mapping)) if row else None


def save_identity(tx: ControlTx, identity: Identity, action: str) -> None:
    """Store it."""
    values = {"operator_id": identity.operator_id, "issuer": identity.issuer, "subject": identity.subject}
    upsert(tx, operator_identity, values, find_identity(tx, identity.operator_id) is not None)
    detail = {"issuer": identity.issuer, "subject": identity.subject}
    tx.audit(action, f"operator/{identity.operator_id}", detail)


# -- sign-ins under way -------------------------------------------------------------------------------------------


def add_sign_on(tx: ControlTx, sign_on_: SignOn, now: int, most: int) -> bool:
    """Keep it, unless ``most`` are under way already; those whose time is over are forgotten."""
    s = sign_on
    tx.connection.execute(s.delete().where(s.c.expires_at <= now))
    if tx.connection.execute(sa.select(sa.func.count()).select_from(s)).scalar_one() >= most:
        return False
    tx.connection.execute(
        s.insert().values(
            state_hash=sign_on_.state_hash,
            browser_hash=sign_on_.browser_hash,
            nonce=sign_on_.nonce,
            verifier=sign_on_.verifier,
            target=sign_on_.target,
            expires_at=sign_on_.expires_at,
        )
    )
    return True


def take_sign_on(tx: ControlTx, state_hash: str, now: int) -> SignOn | None:
    """The sign-in that is under way, once: it is gone afterwards."""
    s = sign_on
    row = tx.connection.execute(sa.select(s).where(s.c.state_hash == state_hash)).one_or_none()
    if row is None or not tx.connection.execute(s.delete().where(s.c.state_hash == state_hash)).rowcount:
        return None
    return SignOn(**dict(row._mapping)) if row.expires_at > now else None


def use_token(tx: ControlTx, key: str, expires_at: int, now: int) -> bool:
    """Count a token that counts once; False if it was counted before."""
    u = used_token
    tx.connection.execute(u.delete().where(u.c.expires_at <= now))
    if tx.connection.execute(sa.select(u.c.key).where(u.c.key == key)).one_or_none() is not None:
        return False
    tx.connection.execute(u.insert().values(key=key, expires_at=expires_at))
    return True


# -- sessions of a provider ---------------------------------------------------------------------------------------


def end_sessions_of(tx: ControlTx, issuer: str, *, subject: str | None, session_id: str | None, action: str) -> int:
    """End sessions that came through ``issuer``: that one session of the provider, else all of ``subject``."""
    s = operator_session
    matches = [s.c.idp_issuer == issuer]
    if session_id is not None:
        matches.append(s.c.idp_session == session_id)
    if subject is not None:
        matches.append(s.c.idp_subject == subject)
    if len(matches) == 1:
        return 0
    rows = tx.connection.execute(sa.select(s.c.token_hash, s.c.operator_id).where(*matches)).all()
    if not rows:
        return 0
    tx.connection.execute(s.delete().where(s.c.token_hash.in_([row.token_hash for row in rows])))
    for operator_id in sorted({row.operator_id for row in rows}):
        tx.audit(action, f"operator/{operator_id}", {"ended": sum(r.operator_id == operator_id for r in rows)})
    return len(rows)
