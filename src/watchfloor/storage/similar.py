"""Have we seen this before? Incidents that share people, things and kinds of findings with one.

What is rare says more than what is common, so a shared address or user weighs more than a shared agent or tool. Only
for viewers who may read every alert: it looks at all of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from watchfloor.model.cases import EntityKind, Incident, IncidentStatus
from watchfloor.storage.cases import incident_from
from watchfloor.storage.schema import alert, alert_entity, incident

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_WEIGHTS: Final = {
    EntityKind.ADDRESS: 5,
    EntityKind.USER: 4,
    EntityKind.TOOL: 2,
    EntityKind.AGENT: 2,
    EntityKind.SERVER: 1,
}
_RULE_WEIGHT: Final = 2
_MOST_ENTITIES: Final = 50
_MOST_SHARED: Final = 2_000
"""Pairs of shared things that are looked at, the newest alerts first."""
_WORDS: Final = {
    EntityKind.ADDRESS: "address",
    EntityKind.USER: "user",
    EntityKind.TOOL: "tool",
    EntityKind.AGENT: "agent",
    EntityKind.SERVER: "tool server",
}


@dataclass(frozen=True, slots=True)
class Similar:
    """An incident, how much it shares, and what."""

    incident: Incident
    score: int
    reasons: tuple[str, ...]


def similar_to(tx: ControlTx, incident_id: str, limit: int = 10) -> list[Similar]:
    """Incidents that are like this one, the most alike first. Merged ones are left out."""
    own_alerts = sa.select(alert.c.id).where(alert.c.incident_id == incident_id)
    own = tx.connection.execute(
        sa.select(alert_entity.c.kind, alert_entity.c.entity_id)
        .where(alert_entity.c.alert_id.in_(own_alerts), alert_entity.c.kind.in_([kind.value for kind in _WEIGHTS]))
        .distinct()
        .order_by(alert_entity.c.kind, alert_entity.c.entity_id)
        .limit(_MOST_ENTITIES)
    ).all()
    rules = set(
        tx.connection.execute(sa.select(alert.c.rule_id).where(alert.c.incident_id == incident_id).distinct()).scalars()
    )
    if not own:
        return []
    shared: defaultdict[str, set[tuple[EntityKind, str]]] = defaultdict(set)
    rules_of: defaultdict[str, set[str]] = defaultdict(set)
    query = (
        sa.select(alert.c.incident_id, alert.c.rule_id, alert_entity.c.kind, alert_entity.c.entity_id)
        .join(alert, alert.c.id == alert_entity.c.alert_id)
        .where(
            sa.tuple_(alert_entity.c.kind, alert_entity.c.entity_id).in_([tuple(row) for row in own]),
            alert.c.incident_id.is_not(None),
            alert.c.incident_id != incident_id,
        )
        .order_by(alert.c.id.desc())
        .limit(_MOST_SHARED)
    )
    for other, rule_id, kind, entity_id in tx.connection.execute(query):
        shared[other].add((EntityKind(kind), entity_id))
        if rule_id in rules:
            rules_of[other].add(rule_id)
    scores = {
        other: sum(_WEIGHTS[kind] for kind, _ in things) + _RULE_WEIGHT * len(rules_of[other])
        for other, things in shared.items()
    }
    best = sorted(scores, key=lambda other: (-scores[other], other))[: 2 * limit]
    rows = tx.connection.execute(
        sa.select(incident).where(incident.c.id.in_(best), incident.c.status != IncidentStatus.REDIRECTED.value)
    )
    found = [
        Similar(incident_from(row, ()), scores[row.id], _reasons(shared[row.id], rules_of[row.id])) for row in rows
    ]
    return sorted(found, key=lambda each: (-each.score, each.incident.id))[:limit]


def _reasons(things: set[tuple[EntityKind, str]], rules: set[str]) -> tuple[str, ...]:
    told = [
        f"same {_WORDS[kind]} {entity_id}" for kind, entity_id in sorted(things, key=lambda t: (-_WEIGHTS[t[0]], t))
    ]
    return (*told, *(f"same rule {rule_id}" for rule_id in sorted(rules)))
