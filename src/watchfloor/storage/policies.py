"""Policies: every version ever published, which one is in force, and which pairs a policy set's hash stands for.

Below ``registry`` and the portal, above the tables. Publishing projects the body for the data plane and audits. It does
not know whether a policy makes sense: check it first (``registry.policies``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.facts import Kind, PolicyFacts
from watchfloor.model.ids import is_name
from watchfloor.storage.schema import policy, policy_set

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

SHIPPED: Final = "watchfloor"
"""Publisher of the policies that come with the product: a newer shipped body replaces only these."""


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A published policy. ``body`` is as written, with the ``version`` that publishing gave it."""

    id: str
    version: int
    body: Mapping[str, Any]
    is_current: bool
    published_at: datetime
    published_by: str

    @property
    def facts(self) -> PolicyFacts:
        """What the data plane knows of it."""
        return PolicyFacts(id=self.id, version=self.version, body=self.body)


def same_policy(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two bodies say the same; ``version`` does not count, publishing assigns it."""

    def canonical(body: Mapping[str, Any]) -> str:
        return json.dumps({k: v for k, v in body.items() if k != "version"}, sort_keys=True)

    return canonical(one) == canonical(other)


def current_policies(tx: ControlTx) -> list[PolicyVersion]:
    """The policies in force, by id."""
    rows = tx.connection.execute(sa.select(policy).where(policy.c.is_current).order_by(policy.c.id))
    return [PolicyVersion(**dict(row._mapping)) for row in rows]


def find_policy(tx: ControlTx, policy_id: str, version: int | None = None) -> PolicyVersion | None:
    """One version of a policy (the current one without ``version``), or None."""
    query = sa.select(policy).where(policy.c.id == policy_id)
    query = query.where(policy.c.is_current if version is None else policy.c.version == version)
    row = tx.connection.execute(query).one_or_none()
    return PolicyVersion(**dict(row._mapping)) if row else None


def list_policy_versions(tx: ControlTx, policy_id: str) -> list[PolicyVersion]:
    """Every version of a policy, newest first."""
    query = sa.select(policy).where(policy.c.id == policy_id).order_by(policy.c.version.desc())
    return [PolicyVersion(**dict(row._mapping)) for row in tx.connection.execute(query)]


def publish_policy(tx: ControlTx, body: Mapping[str, Any], publisher: str | None = None) -> int:
    """Put ``body`` in force and return its version; a body equal to the one in force changes nothing.

    ``publisher`` is the transaction's actor unless given. Raises ``InputError`` if ``body`` has no proper ``id``.
    """
    policy_id = body.get("id")
    if not isinstance(policy_id, str) or not is_name(policy_id):
        raise InputError(
            f"{policy_id!r} cannot be the id of a policy.",
            where="id",
            remedy="Use 1 to 64 lower-case letters, digits, '.', '_' and '-'.",
        )
    before = find_policy(tx, policy_id)
    if before is not None and same_policy(before.body, body):
        return before.version
    highest: int = tx.connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(policy.c.version), 0)).where(policy.c.id == policy_id)
    ).scalar_one()
    version = highest + 1
    stored = {**body, "version": version}
    tx.connection.execute(policy.update().where(policy.c.id == policy_id).values(is_current=False))
    tx.connection.execute(
        policy.insert().values(
            id=policy_id,
            version=version,
            body=stored,
            is_current=True,
            published_at=tx.now,
            published_by=publisher or tx.actor,
        )
    )
    tx.project(Kind.POLICY, policy_id, PolicyFacts(id=policy_id, version=version, body=stored))
    before_body = before.body if before else {}
    changed = sorted(k for k in {*before_body, *body} if k != "version" and before_body.get(k) != body.get(k))
    tx.audit("policy:publish", f"policy/{policy_id}", {"version": version, "changed": changed})
    return version


def withdraw_policy(tx: ControlTx, policy_id: str) -> None:
    """Take a policy out of force; its versions stay for replay. Raises ``NotFound`` if none is in force."""
    before = find_policy(tx, policy_id)
    if before is None:
        raise NotFound(f"no policy {policy_id!r} is in force.", where="id")
    tx.connection.execute(policy.update().where(policy.c.id == policy_id).values(is_current=False))
    tx.project(Kind.POLICY, policy_id, None)
    tx.audit("policy:withdraw", f"policy/{policy_id}", {"version": before.version})


def load_defaults(tx: ControlTx, bodies: Iterable[Mapping[str, Any]]) -> list[str]:
    """Publish the policies that come with the product; ids of those that changed.

    One that an administrator has replaced, or withdrawn, stays as the administrator left it.
    """
    published = []
    for body in bodies:
        versions = list_policy_versions(tx, str(body.get("id")))
        if versions and (not versions[0].is_current or versions[0].published_by != SHIPPED):
            continue
        if not versions or not same_policy(versions[0].body, body):
            publish_policy(tx, body, SHIPPED)
            published.append(str(body["id"]))
    return published


def record_policy_set(tx: ControlTx, set_hash: str, members: Sequence[tuple[str, int]]) -> bool:
    """Keep which (policy, version) pairs ``set_hash`` stands for, so that decisions can be replayed."""
    known = tx.connection.execute(sa.select(policy_set.c.hash).where(policy_set.c.hash == set_hash)).one_or_none()
    if known is not None:
        return False
    pairs = sorted([policy_id, version] for policy_id, version in members)
    tx.connection.execute(policy_set.insert().values(hash=set_hash, members=pairs, created_at=tx.now))
    return True


def find_policy_set(tx: ControlTx, set_hash: str) -> list[PolicyVersion] | None:
    """The policies that a set's hash stands for, by id; None if the hash is not known."""
    members = tx.connection.execute(
        sa.select(policy_set.c.members).where(policy_set.c.hash == set_hash)
    ).scalar_one_or_none()
    if members is None:
        return None
    found = [find_policy(tx, policy_id, version) for policy_id, version in members]
    return sorted((p for p in found if p is not None), key=lambda p: p.id)
