"""Canaries: values and tools that nobody has a reason to touch, projected to the gateways, which tell of a touch.

Kept as settings. Of a value, only what is needed to know it again is stored (``guard.detectors.canary``): nothing that
is kept says it. Every change is audited. Who may change them is the caller's to check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from watchfloor.model.facts import CanaryFacts, Kind
from watchfloor.storage.changes import write_setting
from watchfloor.storage.schema import setting

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST: Final = 100
"""Each is looked for in everything that passes."""
_PREFIX: Final = "canary/"


def list_canaries(tx: ControlTx) -> list[CanaryFacts]:
    """All of them, by id."""
    query = sa.select(setting.c.value).where(setting.c.key.like(f"{_PREFIX}%")).order_by(setting.c.key)
    return [CanaryFacts.from_json(value) for value in tx.connection.scalars(query)]


def save_canary(tx: ControlTx, canary: CanaryFacts) -> None:
    """Store and project a canary, in place of one of its id. Audited without what it is known by."""
    write_setting(tx, f"{_PREFIX}{canary.id}", canary.to_json())
    tx.project(Kind.CANARY, canary.id, canary)
    tx.audit("canary:save", f"canary/{canary.id}", {"tool": canary.tool, "length": canary.length})


def delete_canary(tx: ControlTx, canary_id: str) -> None:
    """Nobody looks for it any more. Audited; one that is not there changes nothing."""
    if not any(canary.id == canary_id for canary in list_canaries(tx)):
        return
    write_setting(tx, f"{_PREFIX}{canary_id}", None)
    tx.project(Kind.CANARY, canary_id, None)
    tx.audit("canary:delete", f"canary/{canary_id}")
