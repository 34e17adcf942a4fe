"""Provisioning as it is stored: SCIM providers, what they said of users, and their groups.

Below ``identity.scim``, above the tables. What operators decide compares, stores and audits, and so do groups; what was
said of a user is kept beside ``people.User``, whose changes are audited where they are saved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.storage.changes import differences, upsert
from watchfloor.storage.people import User, find_users
from watchfloor.storage.schema import scim_group, scim_member, scim_provider, scim_user, user

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_AT_ONCE = 500
"""Values in one statement."""


@dataclass(frozen=True, slots=True)
class ScimProvider:
    """Somebody who tells of the users of ``issuer``, with the SHA-256 of their bearer token.

    ``subject``: the attribute (``externalId`` or ``userName``) that is what the issuer's tokens call a user.
    """

    id: str
    issuer: str
    subject: str
    token_hash: str = field(repr=False)
    created_at: datetime
    updated_at: datetime
    updated_by: str = ""
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of a user. ``user_name`` is in lower case; ``document`` holds the attributes that we take."""

    user_id: str
    user_name: str
    external_id: str
    document: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    is_held: bool = False
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A group of ``issuer``. Members have ``name`` among their ``User.groups``."""

    id: str
    issuer: str
    name: str
    created_at: datetime
    updated_at: datetime
    external_id: str = ""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A user, and what was said of it; None for one who came another way."""

    user: User
    said: Said | None


# -- providers ----------------------------------------------------------------------------------------------------


def list_providers(tx: ControlTx) -> list[ScimProvider]:
    """SCIM providers by id."""
    rows = tx.connection.execute(sa.select(scim_provider).order_by("id"))
    return [ScimProvider(**dict(row._mapping)) for row in rows]


def _find(tx: ControlTx, where: sa.ColumnElement[bool]) -> ScimProvider | None:
    row = tx.connection.execute(sa.select(scim_provider).where(where)).one_or_none()
    return ScimProvider(**dict(row._mapping)) if row else None


def find_provider(tx: ControlTx, provider_id: str) -> ScimProvider | None:
    """The provider, or None."""
    return _find(tx, scim_provider.c.id == provider_id)


def find_provider_of(tx: ControlTx, issuer: str) -> ScimProvider | None:
    """The provider that tells of the users of ``issuer``, or None."""
    return _find(tx, scim_provider.c.issuer == issuer)


def find_provider_by_token(tx: ControlTx, token_hash: str) -> ScimProvider | None:
    """The provider with this token, or None."""
    return _find(tx, scim_provider.c.token_hash == token_hash)


def save_provider(tx: ControlTx, provider: ScimProvider) -> bool:
    """Store ``provider``; whether anything differed."""
    before = find_provider(tx, provider.id)
    ignored = ("created_at", "updated_at", "updated_by")
    change = differences(before, provider, secret=("token_hash",), ignore=ignored)
    if not change:
        return False
    values = {
        "id": provider.id,
        "issuer": provider.issuer,
        "subject": provider.subject,
        "token_hash": provider.token_hash,
        "is_enabled": provider.is_enabled,
        "created_at": before.created_at if before else provider.created_at,
        "updated_at": provider.updated_at,
        "updated_by": provider.updated_by,
    }
    upsert(tx, scim_provider, values, before is not None)
    tx.audit("provisioner:update" if before else "provisioner:create", f"provisioner/{provider.id}", change)
    return True


def delete_provider(tx: ControlTx, provider_id: str) -> bool:
    """Take no word of a provider any more; its users stay as they are."""
    if not tx.connection.execute(scim_provider.delete().where(scim_provider.c.id == provider_id)).rowcount:
        return False
    tx.audit("provisioner:delete", f"provisioner/{provider_id}", {})
    return True


# -- users --------------------------------------------------------------------------------------------------------

_JOINED = user.outerjoin(scim_user, scim_user.c.user_id == user.c.id)


def _visible(issuer: str, where: Mapping[str, str | bool], subject: str) -> sa.ColumnElement[bool]:
    """Users of ``issuer`` that were not deleted and fit ``where``: attributes in lower case, with their values."""
    by_external_id = subject == "externalId"
    external_id = sa.func.coalesce(scim_user.c.external_id, user.c.subject if by_external_id else "")
    name = sa.func.coalesce(sa.func.nullif(user.c.upn, ""), user.c.id) if by_external_id else user.c.subject
    columns: dict[str, sa.ColumnElement[Any]] = {
        "id": user.c.id,
        "username": sa.func.coalesce(scim_user.c.user_name, sa.func.lower(name)),
        "externalid": external_id,
        "active": user.c.is_enabled,
    }
    wanted = {n: v.lower() if n == "username" and isinstance(v, str) else v for n, v in where.items()}
    conditions = [columns[attribute] == value for attribute, value in wanted.items()]
    return sa.and_(user.c.issuer == issuer, sa.func.coalesce(scim_user.c.is_deleted, sa.false()).is_(sa.false()),
                   *conditions)  # fmt: skip


def list_users(
    tx: ControlTx, provider: ScimProvider, where: Mapping[str, str | bool], *, skip: int, limit: int
) -> tuple[list[Provisioned], int]:
    """A page of the users that ``provider`` sees and that fit ``where``, by id, and how many there are."""
    visible = _visible(provider.issuer, where, provider.subject)
    total = tx.connection.execute(sa.select(sa.func.count()).select_from(_JOINED).where(visible)).scalar() or 0
    query = sa.select(user.c.id).select_from(_JOINED).where(visible).order_by(user.c.id)
    ids = list(tx.connection.execute(query.offset(skip).limit(limit)).scalars()) if limit else []
    users = find_users(tx, ids)
    return [Provisioned(users[user_id], find_said(tx, user_id)) for user_id in ids], int(total)


def find_said(tx: ControlTx, user_id: str) -> Said | None:
    """What was said of a user, or None."""
    row = tx.connection.execute(sa.select(scim_user).where(scim_user.c.user_id == user_id)).one_or_none()
    return Said(**dict(row._mapping)) if row else None


def save_said(tx: ControlTx, said: Said) -> None:
    """Keep what was said of a user. Not audited: the user is."""
    values = {
        "user_id": said.user_id,
        "user_name": said.user_name,
        "external_id": said.external_id,
        "document": dict(said.document),
        "is_held": said.is_held,
        "is_deleted": said.is_deleted,
        "created_at": said.created_at,
        "updated_at": said.updated_at,
    }
    upsert(tx, scim_user, values, find_said(tx, said.user_id) is not None)


def seen_users(tx: ControlTx, issuer: str, user_ids: Collection[str]) -> set[str]:
    """Those of these users that the provider of ``issuer`` sees."""
    visible = sa.and_(_visible(issuer, {}, ""), user.c.id.in_(list(user_ids)))
    return set(tx.connection.execute(sa.select(user.c.id).select_from(_JOINED).where(visible)).scalars())


def list_provisioned(tx: ControlTx) -> set[str]:
    """Ids of the users that a provider told of."""
    return set(tx.connection.execute(sa.select(scim_user.c.user_id)).scalars())


# -- groups -------------------------------------------------------------------------------------------------------


def _group(row: sa.Row[Any]) -> Group:
    return Group(row.id, row.issuer, row.display_name, row.created_at, row.updated_at, row.external_id)


def find_group(tx: ControlTx, group_id: str) -> Group | None:
    """The group, or None."""
    row = tx.connection.execute(sa.select(scim_group).where(scim_group.c.id == group_id)).one_or_none()
    return _group(row) if row else None


def list_groups(
    tx: ControlTx, issuer: str, where: Mapping[str, str | bool], *, skip: int = 0, limit: int
) -> tuple[list[Group], int]:
    """A page of the groups of ``issuer`` that fit ``where``, by id, and how many there are.

    ``where``: attributes in lower case, with their values; ``members`` is a user's id.
    """
    conditions = [scim_group.c.issuer == issuer]
    for attribute, value in where.items():
        text = str(value)
        if attribute == "displayname":
            conditions.append(scim_group.c.name_key == text.lower())
        elif attribute in ("members", "members.value"):
            inside = sa.select(scim_member.c.group_id).where(scim_member.c.user_id == text)
            conditions.append(scim_group.c.id.in_(inside))
        else:
            conditions.append({"id": scim_group.c.id, "externalid": scim_group.c.external_id}[attribute] == text)
    total = tx.connection.execute(sa.select(sa.func.count()).select_from(scim_group).where(*conditions)).scalar() or 0
    query = sa.select(scim_group).where(*conditions).order_by("id").offset(skip).limit(limit)
    return [_group(row) for row in tx.connection.execute(query)] if limit else [], int(total)


def save_group(tx: ControlTx, group: Group) -> bool:
    """Store ``group``; whether anything differed."""
    before = find_group(tx, group.id)
    change = differences(before, group, ignore=("created_at",))
    if not change:
        return False
    values = {
        "id": group.id,
        "issuer": group.issuer,
        "display_name": group.name,
        "name_key": group.name.lower(),
        "external_id": group.external_id,
        "created_at": before.created_at if before else group.created_at,
        "updated_at": group.updated_at,
    }
    upsert(tx, scim_group, values, before is not None)
    tx.audit("group:update" if before else "group:create", f"group/{group.id}", change)
    return True


def delete_group(tx: ControlTx, group: Group) -> None:
    """Forget a group and who was in it."""
    tx.connection.execute(scim_member.delete().where(scim_member.c.group_id == group.id))
    tx.connection.execute(scim_group.delete().where(scim_group.c.id == group.id))
    tx.audit("group:delete", f"group/{group.id}", {"before": {"name": group.name, "issuer": group.issuer}})


def members(tx: ControlTx, group_id: str) -> list[str]:
    """Ids of the users in a group, in order."""
    query = sa.select(scim_member.c.user_id).where(scim_member.c.group_id == group_id).order_by("user_id")
    return list(tx.connection.execute(query).scalars())


def change_members(tx: ControlTx, group_id: str, *, joining: Collection[str], leaving: Collection[str]) -> None:
    """Let users join who are not in the group, and leave who are. Not audited: the users are."""
    for start in range(0, len(gone := list(leaving)), _AT_ONCE):
        those = scim_member.c.user_id.in_(gone[start : start + _AT_ONCE])
        tx.connection.execute(scim_member.delete().where(scim_member.c.group_id == group_id, those))
    if joining:
        rows = [{"group_id": group_id, "user_id": user_id} for user_id in joining]
        tx.connection.execute(scim_member.insert(), rows)


def groups_of(tx: ControlTx, user_id: str) -> list[Group]:
    """The groups of a user that a provider told of, by name."""
    joined = scim_group.join(scim_member, scim_member.c.group_id == scim_group.c.id)
    query = sa.select(scim_group).select_from(joined).where(scim_member.c.user_id == user_id)
    return [_group(row) for row in tx.connection.execute(query.order_by("display_name", scim_group.c.id))]


def list_group_names(tx: ControlTx, user_ids: Collection[str] | None = None) -> dict[str, frozenset[str]]:
    """Names of the groups that providers told of, by the ids of their members: of these users, or of everybody."""
    joined = scim_group.join(scim_member, scim_member.c.group_id == scim_group.c.id)
    query = sa.select(scim_member.c.user_id, scim_group.c.display_name).select_from(joined)
    if user_ids is not None:
        query = query.where(scim_member.c.user_id.in_(list(user_ids)))
    found: dict[str, set[str]] = {}
    for user_id, name in tx.connection.execute(query):
        found.setdefault(user_id, set()).add(name)
    return {user_id: frozenset(names) for user_id, names in found.items()}
