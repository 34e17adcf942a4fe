"""What the organisation knows by itself besides its people and domains: partners' addresses, accounts, channels.

Lists of names, kept as settings and projected for the guard, to which a known name is a trusted origin whoever brought
it up (``guard.provenance.directory``). Every change is audited. Who may change them is the caller's to check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from watchfloor.model.errors import InputError
from watchfloor.model.facts import DirectoryNames, Kind
from watchfloor.model.ids import is_name
from watchfloor.storage.changes import write_setting
from watchfloor.storage.schema import setting

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST_NAMES: Final = 20_000
"""Names in one list."""
LONGEST_NAME: Final = 320
_PREFIX: Final = "known-names/"
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class KnownNames:
    """A list of names; ``names`` are sorted, without doubles. One without names is none."""

    id: str
    names: tuple[str, ...] = ()


def list_known_names(tx: ControlTx) -> list[KnownNames]:
    """Every list, by id."""
    query = sa.select(setting.c.key, setting.c.value).where(setting.c.key.like(f"{_PREFIX}%")).order_by(setting.c.key)
    return [
        KnownNames(row.key.removeprefix(_PREFIX), tuple(row.value["names"])) for row in tx.connection.execute(query)
    ]


def find_known_names(tx: ControlTx, list_id: str) -> KnownNames | None:
    """The list, or None."""
    return next((known for known in list_known_names(tx) if known.id == list_id), None)


def save_known_names(tx: ControlTx, wanted: KnownNames) -> bool:
    """Store and project a list, in place of what it held; without names it is removed. Whether anything differed.

    Raises ``InputError`` for a list that is too long or a name that is no name.
    """
    names = tuple(sorted({" ".join(name.split()) for name in wanted.names}))
    if not is_name(wanted.id):
        raise InputError(f"{wanted.id!r} cannot be an id.", where="id")
    if len(names) > MOST_NAMES:
        raise InputError(f"a list has at most {MOST_NAMES} names.", where="names", remedy="Make several.")
    for name in names:
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise InputError(
                f"{name[:40]!r} is no name.", where="names", remedy=f"1 to {LONGEST_NAME} characters that print."
            )
    before = find_known_names(tx, wanted.id)
    known = before.names if before is not None else ()
    if names == known:
        return False
    write_setting(tx, f"{_PREFIX}{wanted.id}", {"names": list(names)} if names else None)
    tx.project(Kind.DIRECTORY, wanted.id, DirectoryNames(names) if names else None)
    added, removed = sorted(set(names) - set(known)), sorted(set(known) - set(names))
    tx.audit(
        "known-names:update",
        f"known-names/{wanted.id}",
        {
            "count": [len(known), len(names)],
            "added": added[:_SHOWN],
            "removed": removed[:_SHOWN],
        },
    )
    return True
