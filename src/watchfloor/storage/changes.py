"""How repositories write a row: compare, store, project, audit, all in the caller's transaction.

Below the repositories of this room, above SQLAlchemy. It does not know what a row means; the repositories say which
fields identify it, which are secret and which fact it projects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.storage.schema import setting

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MASK: Final = "(secret)"
"""What the audit shows in place of a secret, its hash or its sealed form."""


def plain(value: Any) -> Any:
    """``value`` as JSON: enums by value, times in ISO form, tuples as lists."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple | list | frozenset | set):
        items = [plain(v) for v in value]
        return sorted(items) if isinstance(value, frozenset | set) else items
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return value


def fields_of(record: Any) -> dict[str, Any]:
    """The fields of a record, as JSON."""
    return {f.name: plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def differences(
    before: Any | None, after: Any | None, *, ignore: Iterable[str] = (), secret: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """``{"before": …, "after": …}`` with only the fields that differ, secrets masked; empty when nothing does."""
    old = fields_of(before) if before is not None else {}
    new = fields_of(after) if after is not None else {}
    skip, mask = set(ignore), set(secret)
    changed = [n for n in (new or old) if n not in skip and (before is None or after is None or old[n] != new[n])]
    if not changed:
        return {}

    def shown(values: dict[str, Any]) -> dict[str, Any]:
        return {n: MASK if n in mask and values[n] is not None else values[n] for n in changed}

    return {
        **({"before": shown(old)} if before is not None else {}),
        **({"after": shown(new)} if after is not None else {}),
    }


def upsert(tx: ControlTx, table: sa.Table, values: Mapping[str, Any], exists: bool) -> None:
    """Insert or update the one row that the primary key in ``values`` names."""
    keys = [c.name for c in table.primary_key.columns]
    if not exists:
        tx.connection.execute(table.insert().values(dict(values)))
        return
    where = sa.and_(*(table.c[k] == values[k] for k in keys))
    rest = {n: v for n, v in values.items() if n not in keys}
    tx.connection.execute(table.update().where(where).values(rest))


def read_setting(tx: ControlTx, key: str) -> Any | None:
    """The value of the singleton ``key``, or None."""
    return tx.connection.execute(sa.select(setting.c.value).where(setting.c.key == key)).scalar_one_or_none()


def write_setting(tx: ControlTx, key: str, value: Any | None) -> None:
    """Set the singleton ``key``; None forgets it. Not audited: the caller knows what it means."""
    tx.connection.execute(setting.delete().where(setting.c.key == key))
    if value is not None:
        tx.connection.execute(setting.insert().values(key=key, value=value))
