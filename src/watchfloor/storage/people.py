"""Identity's reads and writes: trusted identity providers, users, signing keys, operators and their sessions.

Below ``identity``, above the tables. Writes compare, store, project what the data plane holds, and audit, all in the
caller's transaction; they return whether anything differed. Operators and sessions are never projected: they belong
to the portal alone. It does not know passwords or tokens, only their hashes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.model.facts import Kind, SigningKey, UserFacts
from watchfloor.model.people import BREAK_GLASS, RiskLevel, Role
from watchfloor.storage import schema
from watchfloor.storage.aliases import save_user_aliases
from watchfloor.storage.changes import differences, plain, upsert

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """An issuer whose RS256 tokens for ``audience`` prove who a user is."""

    issuer: str
    jwks_uri: str
    audience: str
    subject_claim: str = "sub"


@dataclass(frozen=True, slots=True)
class User:
    """A user of agents, known to an identity provider as ``subject``.

    ``manager`` is a user's id; ``criticality`` says how much depends on the account: 0 (most) to 3, None where nobody
    has said. A break-glass account is kept for emergencies: nothing here locks it out.
    """

    id: str
    issuer: str
    subject: str
    updated_at: datetime
    upn: str = ""
    name: str = ""
    is_enabled: bool = True
    epoch: int = 1
    risk: RiskLevel = RiskLevel.NONE
    must_reset_password: bool = False
    not_before: datetime | None = None
    groups: tuple[str, ...] = ()
    department: str = ""
    job_title: str = ""
    manager: str = ""
    criticality: int | None = None
    is_break_glass: bool = False


@dataclass(frozen=True, slots=True)
class SigningKeyPair:
    """A key of the token service. A retired key still verifies until ``retired_at``."""

    kid: str
    public_jwk: Mapping[str, Any]
    sealed: str = field(repr=False)
    created_at: datetime
    retired_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who uses a portal. Without a password hash there is no sign-in by password."""

    id: str
    name: str
    roles: frozenset[Role]
    created_at: datetime
    is_enabled: bool = True
    password_hash: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class OperatorSession:
    """A browser session, or an API token (then ``csrf_token`` is empty), by SHA-256 of its secret."""

    token_hash: str
    operator_id: str
    csrf_token: str = field(repr=False)
    label: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    idp_issuer: str | None = None
    idp_subject: str | None = None
    idp_session: str | None = None
    """Which identity provider signed the operator in, as whom, in which of its sessions."""

    @property
    def is_api_token(self) -> bool:
        """Whether it came from ``issue_api_token``: no cookie carries it, so nobody can forge requests with it."""
        return not self.csrf_token


# -- identity providers -------------------------------------------------------------------------------------------


def list_identity_providers(tx: ControlTx) -> list[IdentityProvider]:
    """Trusted issuers, by issuer."""
    rows = tx.connection.execute(sa.select(schema.identity_provider).order_by("issuer"))
    return [IdentityProvider(**dict(row._mapping)) for row in rows]


def find_identity_provider(tx: ControlTx, issuer: str) -> IdentityProvider | None:
    """The trusted issuer, or None."""
    p = schema.identity_provider
    row = tx.connection.execute(sa.select(p).where(p.c.issuer == issuer)).one_or_none()
    return IdentityProvider(**dict(row._mapping)) if row else None


def save_identity_provider(tx: ControlTx, provider: IdentityProvider, action: str = "provider:update") -> bool:
    """Trust an issuer, or change how."""
    before = find_identity_provider(tx, provider.issuer)
    change = differences(before, provider)
    if not change:
        return False
    values = {
        "issuer": provider.issuer,
        "jwks_uri": provider.jwks_uri,
        "audience": provider.audience,
        "subject_claim": provider.subject_claim,
    }
    upsert(tx, schema.identity_provider, values, before is not None)
    tx.audit(action, f"provider/{provider.issuer}", change)
    return True


# -- users --------------------------------------------------------------------------------------------------------


def _user(row: sa.Row[Any]) -> User:
    return User(**{**dict(row._mapping), "risk": RiskLevel(row.risk), "groups": tuple(row.groups)})


def find_user(tx: ControlTx, user_id: str) -> User | None:
    """The user, or None."""
    row = tx.connection.execute(sa.select(schema.user).where(schema.user.c.id == user_id)).one_or_none()
    return _user(row) if row else None


def find_users(tx: ControlTx, user_ids: Collection[str]) -> dict[str, User]:
    """Those of these users that there are, by id."""
    query = sa.select(schema.user).where(schema.user.c.id.in_(list(user_ids)))
    return {row.id: _user(row) for row in tx.connection.execute(query)}


def find_user_by_subject(tx: ControlTx, issuer: str, subject: str) -> User | None:
    """The user whom ``issuer`` calls ``subject``, or None."""
    u = schema.user
    row = tx.connection.execute(sa.select(u).where(u.c.issuer == issuer, u.c.subject == subject)).one_or_none()
    return _user(row) if row else None


def find_users_by_upn(tx: ControlTx, upn: str, issuers: Collection[str]) -> list[User]:
    """Users of these issuers who sign in as ``upn``, in whatever case, by id."""
    u = schema.user
    query = sa.select(u).where(u.c.issuer.in_(list(issuers)), sa.func.lower(u.c.upn) == upn.lower(), u.c.upn != "")
    return [_user(row) for row in tx.connection.execute(query.order_by("id"))]


def list_users(tx: ControlTx) -> list[User]:
    """Users by id."""
    return [_user(row) for row in tx.connection.execute(sa.select(schema.user).order_by("id"))]


def not_before_for(now: datetime) -> datetime:
    """The first second in which a sign-in counts as later than a revocation at ``now``: ``ceil(now) + 1``.

    Identity providers tell times in whole seconds. So a sign-in of the very second of the revocation, before or after
    it, is refused, and whoever signs in again does so two seconds later: rather a retry than a stolen session.
    """
    return datetime.fromtimestamp(math.ceil(now.timestamp()) + 1, UTC)


def without_sessions(user: User, now: datetime) -> User:
    """``user`` with every session ended: a higher epoch, and no sign-in from before ``now`` is exchanged any more."""
    not_before = not_before_for(now)
    if user.not_before is not None:
        not_before = max(not_before, user.not_before)
    return replace(user, epoch=user.epoch + 1, not_before=not_before)


def user_facts(user: User) -> UserFacts:
    """What the data plane knows of ``user``; a break-glass account is in the group of that name."""
    is_marked = user.is_break_glass and BREAK_GLASS not in user.groups
    return UserFacts(
        id=user.id,
        upn=user.upn,
        name=user.name,
        is_enabled=user.is_enabled,
        epoch=user.epoch,
        risk=user.risk,
        must_reset_password=user.must_reset_password,
        not_before=user.not_before,
        groups=(*user.groups, BREAK_GLASS) if is_marked else user.groups,
    )


def save_user(tx: ControlTx, user: User, action: str = "user:update", reason: str = "") -> bool:
    """Store and project ``user``."""
    before = find_user(tx, user.id)
    change = differences(before, user, ignore=("updated_at",))
    if not change:
        return False
    values = {
        "id": user.id,
        "upn": user.upn,
        "name": user.name,
        "is_enabled": user.is_enabled,
        "epoch": user.epoch,
        "risk": user.risk.value,
        "must_reset_password": user.must_reset_password,
        "not_before": user.not_before,
        "groups": list(user.groups),
        "issuer": user.issuer,
        "subject": user.subject,
        "updated_at": user.updated_at,
        "department": user.department,
        "job_title": user.job_title,
        "manager": user.manager,
        "criticality": user.criticality,
        "is_break_glass": user.is_break_glass,
    }
    upsert(tx, schema.user, values, before is not None)
    if before is None or user_facts(before) != user_facts(user):
        tx.project(Kind.USER, user.id, user_facts(user))
    save_user_aliases(tx, before, user)
    tx.audit(action, f"user/{user.id}", {**change, **({"reason": reason} if reason else {})})
    return True


# -- signing keys -------------------------------------------------------------------------------------------------


def list_signing_keys(tx: ControlTx) -> list[SigningKeyPair]:
    """Keys of the token service, newest first."""
    k = schema.signing_key
    rows = tx.connection.execute(sa.select(k).order_by(k.c.created_at.desc(), k.c.kid))
    return [SigningKeyPair(**dict(row._mapping)) for row in rows]


def save_signing_key(tx: ControlTx, key: SigningKeyPair, action: str) -> bool:
    """Store a key and project its public half."""
    k = schema.signing_key
    before = next((found for found in list_signing_keys(tx) if found.kid == key.kid), None)
    change = differences(before, key, secret=("sealed",), ignore=("public_jwk",))
    if not change:
        return False
    values = {
        "kid": key.kid,
        "public_jwk": dict(key.public_jwk),
        "sealed": key.sealed,
        "created_at": key.created_at,
        "retired_at": key.retired_at,
    }
    upsert(tx, k, values, before is not None)
    if before is None:
        tx.project(Kind.SIGNING_KEY, key.kid, SigningKey(kid=key.kid, jwk=key.public_jwk))
    tx.audit(action, f"signing-key/{key.kid}", change)
    return True


def delete_signing_key(tx: ControlTx, kid: str, action: str = "signing-key:delete") -> bool:
    """Forget a key: nothing that it signed verifies any more."""
    k = schema.signing_key
    if not tx.connection.execute(k.delete().where(k.c.kid == kid)).rowcount:
        return False
    tx.project(Kind.SIGNING_KEY, kid, None)
    tx.audit(action, f"signing-key/{kid}", {})
    return True


# -- operators ----------------------------------------------------------------------------------------------------


def _operator(row: sa.Row[Any]) -> Operator:
    return Operator(**{**dict(row._mapping), "roles": frozenset(Role(r) for r in row.roles)})


def find_operator(tx: ControlTx, operator_id: str) -> Operator | None:
    """The operator, or None."""
    o = schema.operator
    row = tx.connection.execute(sa.select(o).where(o.c.id == operator_id)).one_or_none()
    return _operator(row) if row else None


def list_operators(tx: ControlTx) -> list[Operator]:
    """Operators by id."""
    return [_operator(row) for row in tx.connection.execute(sa.select(schema.operator).order_by("id"))]


def save_operator(tx: ControlTx, operator: Operator, action: str = "operator:update") -> bool:
    """Store ``operator``."""
    before = find_operator(tx, operator.id)
    change = differences(before, operator, secret=("password_hash",), ignore=("created_at",))
    if not change:
        return False
    values = {
        "id": operator.id,
        "name": operator.name,
        "password_hash": operator.password_hash,
        "roles": plain(operator.roles),
        "is_enabled": operator.is_enabled,
        "created_at": before.created_at if before else operator.created_at,
    }
    upsert(tx, schema.operator, values, before is not None)
    tx.audit(action, f"operator/{operator.id}", change)
    return True


def find_session(tx: ControlTx, token_hash: str) -> OperatorSession | None:
    """The session or API token with this hash, expired or not."""
    s = schema.operator_session
    row = tx.connection.execute(sa.select(s).where(s.c.token_hash == token_hash)).one_or_none()
    return OperatorSession(**dict(row._mapping)) if row else None


def list_sessions(tx: ControlTx, operator_id: str) -> list[OperatorSession]:
    """Sessions and API tokens of an operator, oldest first."""
    s = schema.operator_session
    query = sa.select(s).where(s.c.operator_id == operator_id).order_by(s.c.created_at, s.c.token_hash)
    return [OperatorSession(**dict(row._mapping)) for row in tx.connection.execute(query)]


def add_session(tx: ControlTx, session: OperatorSession, action: str, *, address: str = "") -> None:
    """Store a new session or API token; the audit names neither its secret nor its hash."""
    tx.connection.execute(
        schema.operator_session.insert().values(
            token_hash=session.token_hash,
            operator_id=session.operator_id,
            csrf_token=session.csrf_token,
            label=session.label,
            created_at=session.created_at,
            seen_at=session.seen_at,
            expires_at=session.expires_at,
            idp_issuer=session.idp_issuer,
            idp_subject=session.idp_subject,
            idp_session=session.idp_session,
        )
    )
    detail = {"label": session.label, "expires_at": session.expires_at.isoformat()}
    if address:
        detail["address"] = address
    if session.idp_issuer:
        detail |= {"protocol": "openid", "issuer": session.idp_issuer}
    tx.audit(action, f"operator/{session.operator_id}", detail)


def touch_session(tx: ControlTx, token_hash: str, seen_at: datetime) -> None:
    """Note that a session was used. Not audited."""
    s = schema.operator_session
    tx.connection.execute(s.update().where(s.c.token_hash == token_hash).values(seen_at=seen_at))


def delete_session(tx: ControlTx, session: OperatorSession, action: str, *, address: str = "") -> None:
    """End one session or API token; ``address``: where from."""
    s = schema.operator_session
    if tx.connection.execute(s.delete().where(s.c.token_hash == session.token_hash)).rowcount:
        told = {"label": session.label, **({"address": address} if address else {})}
        tx.audit(action, f"operator/{session.operator_id}", told)


def delete_sessions(
    tx: ControlTx, operator_id: str, *, keep: str | None = None, label: str | None = None, action: str
) -> int:
    """End sessions and API tokens of an operator, all but ``keep`` (a hash), or only those with ``label``; how many."""
    s = schema.operator_session
    query = s.delete().where(s.c.operator_id == operator_id)
    if keep is not None:
        query = query.where(s.c.token_hash != keep)
    if label is not None:
        query = query.where(s.c.label == label)
    ended: int = tx.connection.execute(query).rowcount
    if ended:
        tx.audit(action, f"operator/{operator_id}", {"ended": ended})
    return ended


def delete_expired_sessions(tx: ControlTx, now: datetime) -> int:
    """Forget sessions and tokens that expired before ``now``; how many. Not audited: they were dead already."""
    s = schema.operator_session
    ended: int = tx.connection.execute(s.delete().where(s.c.expires_at <= now)).rowcount
    return ended
