"""Policies of conditional access: every version ever published, and which one counts.

Below ``registry.access`` and the portal, above the tables. Publishing projects the body for the gateways and audits. It
does not know whether a policy makes sense: ``registry.access`` checks before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.access import AccessState
from watchfloor.model.errors import NotFound
from watchfloor.model.facts import AccessPolicyFacts, Kind
from watchfloor.storage.schema_access import access_policy

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

SHIPPED: Final = "watchfloor"
"""Publisher of the policies that come with the product: a newer shipped body replaces only these."""


@dataclass(frozen=True, slots=True)
class AccessPolicyVersion:
    """A published access policy. ``body`` is as written."""

    id: str
    version: int
    body: Mapping[str, Any]
    is_current: bool
    published_at: datetime
    published_by: str

    @property
    def state(self) -> AccessState:
        """Whether it counts."""
        return AccessState(self.body["state"])

    @property
    def name(self) -> str:
        """Its display name."""
        return str(self.body["displayName"])

    @property
    def facts(self) -> AccessPolicyFacts:
        """What the data plane knows of it."""
        return AccessPolicyFacts(self.id, self.version, self.body)


def _policy(row: sa.Row[Any]) -> AccessPolicyVersion:
    return AccessPolicyVersion(**dict(row._mapping))


def current_policies(tx: ControlTx) -> list[AccessPolicyVersion]:
    """The policies that were not withdrawn, disabled ones too, by id."""
    p = access_policy
    return [_policy(row) for row in tx.connection.execute(sa.select(p).where(p.c.is_current).order_by(p.c.id))]


def find_policy(tx: ControlTx, policy_id: str, version: int | None = None) -> AccessPolicyVersion | None:
    """One version of a policy (the current one without ``version``), or None."""
    p = access_policy
    query = sa.select(p).where(p.c.id == policy_id)
    query = query.where(p.c.is_current if version is None else p.c.version == version)
    row = tx.connection.execute(query).one_or_none()
    return _policy(row) if row else None


def list_versions(tx: ControlTx, policy_id: str) -> list[AccessPolicyVersion]:
    """Every version of a policy, newest first."""
    p = access_policy
    query = sa.select(p).where(p.c.id == policy_id).order_by(p.c.version.desc())
    return [_policy(row) for row in tx.connection.execute(query)]


def publish_policy(tx: ControlTx, body: Mapping[str, Any], publisher: str | None = None) -> int:
    """Let ``body`` count from now on and return its version; one equal to what is there changes nothing.

    ``publisher`` is the transaction's actor unless given.
    """
    policy_id = str(body["id"])
    versions = list_versions(tx, policy_id)
    before = next((v for v in versions if v.is_current), None)
    if before is not None and _canonical(before.body) == _canonical(body):
        return before.version
    version = versions[0].version + 1 if versions else 1
    p = access_policy
    tx.connection.execute(p.update().where(p.c.id == policy_id).values(is_current=False))
    stored = AccessPolicyVersion(policy_id, version, dict(body), True, tx.now, publisher or tx.actor)
    tx.connection.execute(
        p.insert().values(
            id=policy_id, version=version, body=dict(body), is_current=True, published_at=stored.published_at,
            published_by=stored.published_by,
        )
    )  # fmt: skip
    tx.project(Kind.ACCESS_POLICY, policy_id, None if stored.state is AccessState.DISABLED else stored.facts)
    old = before.body if before is not None else {}
    changed = sorted(name for name in {*old, *body} if old.get(name) != body.get(name))
    tx.audit("access-policy:publish", f"access-policy/{policy_id}",
             {"version": version, "state": stored.state.value, "changed": changed})  # fmt: skip
    return version


def withdraw_policy(tx: ControlTx, policy_id: str) -> None:
    """Take a policy away; its versions stay. Raises ``NotFound``."""
    before = find_policy(tx, policy_id)
    if before is None:
        raise NotFound(f"there is no access policy {policy_id!r}.", where="id")
    p = access_policy
    tx.connection.execute(p.update().where(p.c.id == policy_id).values(is_current=False))
    tx.project(Kind.ACCESS_POLICY, policy_id, None)
    tx.audit("access-policy:withdraw", f"access-policy/{policy_id}", {"version": before.version})


def load_defaults(tx: ControlTx, bodies: Iterable[Mapping[str, Any]]) -> list[str]:
    """Publish the policies that come with the product; ids of those that changed.

    One that an administrator has replaced, or withdrawn, stays as the administrator left it.
    """
    published = []
    for body in bodies:
        versions = list_versions(tx, str(body["id"]))
        if versions and (not versions[0].is_current or versions[0].published_by != SHIPPED):
            continue
        if not versions or _canonical(versions[0].body) != _canonical(body):
            publish_policy(tx, body, SHIPPED)
            published.append(str(body["id"]))
    return published


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True)
