"""Connectors of identity providers, and the accounts that their directories listed: reads and writes.

Above the tables, below ``registry`` (which declares connectors) and ``connectors.identity`` (which uses them). Nothing
of this is projected: gateway workers neither call identity providers nor hold their secrets. Writes compare, store
and audit in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.storage.changes import differences, upsert
from watchfloor.storage.schema_directory import directory_account, identity_connector

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class Connector:
    """How an identity provider is acted upon. ``sealed``: its secrets, each opens with ``secret_place``."""

    issuer: str
    kind: str
    settings: Mapping[str, Any]
    updated_at: datetime
    updated_by: str = ""
    sealed: Mapping[str, str] = field(default_factory=dict, repr=False)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    synced_at: datetime | None = None
    accounts: int = 0
    sync_problem: str = ""


@dataclass(frozen=True, slots=True)
class SeenAccount:
    """An account that a directory listed, and the user that it is here."""

    issuer: str
    subject: str
    user_id: str
    is_enabled: bool = True
    is_held_disabled: bool = False
    email: str = ""
    gone_at: datetime | None = None


def secret_place(issuer: str, name: str) -> str:
    """What a connector's secret is bound to in the vault: it opens nowhere else."""
    return f"connector/{issuer}/{name}"


def _connector(row: sa.Row[Any]) -> Connector:
    return Connector(**dict(row._mapping))


def list_connectors(tx: ControlTx) -> list[Connector]:
    """Connectors by issuer."""
    return [_connector(row) for row in tx.connection.execute(sa.select(identity_connector).order_by("issuer"))]


def find_connector(tx: ControlTx, issuer: str) -> Connector | None:
    """The connector for users of ``issuer``, or None."""
    c = identity_connector
    row = tx.connection.execute(sa.select(c).where(c.c.issuer == issuer)).one_or_none()
    return _connector(row) if row else None


_NOT_SAID = ("sealed", "updated_at", "updated_by", "synced_at", "accounts", "sync_problem")


def save_connector(tx: ControlTx, connector: Connector) -> bool:
    """Store how a provider is acted upon; what was seen of its directory stays as it is."""
    before = find_connector(tx, connector.issuer)
    change = differences(before, connector, ignore=_NOT_SAID, secret=("fingerprints",))
    if not change:
        return False
    values = {
        "issuer": connector.issuer,
        "kind": connector.kind,
        "settings": dict(connector.settings),
        "sealed": dict(connector.sealed),
        "fingerprints": dict(connector.fingerprints),
        "updated_at": connector.updated_at,
        "updated_by": connector.updated_by,
        **({} if before is not None else {"synced_at": None, "accounts": 0, "sync_problem": ""}),
    }
    upsert(tx, identity_connector, values, before is not None)
    tx.audit("connector:update" if before else "connector:create", f"connector/{connector.issuer}", change)
    return True


def delete_connector(tx: ControlTx, issuer: str) -> bool:
    """Forget a connector with its secrets. Users that its directory listed stay as they are."""
    c = identity_connector
    if not tx.connection.execute(c.delete().where(c.c.issuer == issuer)).rowcount:
        return False
    tx.connection.execute(directory_account.delete().where(directory_account.c.issuer == issuer))
    tx.audit("connector:delete", f"connector/{issuer}", {})
    return True


def note_sync(tx: ControlTx, issuer: str, *, accounts: int | None = None, problem: str = "") -> None:
    """Note how reading a directory went: to the end (``accounts``), or why not. Not audited: what it changed is."""
    c = identity_connector
    values: dict[str, Any] = {"sync_problem": problem}
    if accounts is not None:
        values |= {"accounts": accounts, "synced_at": tx.now}
    tx.connection.execute(c.update().where(c.c.issuer == issuer).values(values))


# -- accounts -----------------------------------------------------------------------------------------------------


def list_accounts(tx: ControlTx, issuer: str) -> dict[str, SeenAccount]:
    """Accounts that the directory of ``issuer`` listed, by subject."""
    d = directory_account
    query = sa.select(d).where(d.c.issuer == issuer).order_by(d.c.subject)
    return {row.subject: SeenAccount(**dict(row._mapping)) for row in tx.connection.execute(query)}


def save_account(tx: ControlTx, before: SeenAccount | None, account: SeenAccount) -> bool:
    """Note an account. Not audited: what that means for its user is."""
    if before == account:
        return False
    values = {name: getattr(account, name) for name in directory_account.c.keys()}  # noqa: SIM118  columns, no mapping
    upsert(tx, directory_account, values, before is not None)
    return True


def gone(account: SeenAccount, now: datetime) -> SeenAccount:
    """``account`` as one that its directory no longer lists."""
    return replace(account, gone_at=account.gone_at or now, is_enabled=False)
