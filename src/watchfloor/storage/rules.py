"""Detection rules in control state: those that operators wrote, how rules fare and which are off, suppressions.

Below ``detection`` and the portal, above the tables; everything in the caller's transaction. It does not know what a
rule means: bodies are checked before they come here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.cases import AlertStatus, Entity, EntryKind
from watchfloor.model.errors import NotFound
from watchfloor.model.ids import new_id
from watchfloor.storage import triage
from watchfloor.storage.schema import alert, custom_rule, rule_state, suppression

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

LONGEST_TEXT: Final = 1_000


@dataclass(frozen=True, slots=True)
class RuleState:
    """How one rule fares. Times are milliseconds; ``strikes``: failures in a row; ``reason``: why it is disabled.

    A rule that is not in KQL has a state only once it was switched, and nothing is counted in it; its ``position`` is
    where it was switched on.
    """

    rule_id: str
    is_enabled: bool = True
    reason: str = ""
    position: int = 0
    seen: int = 0
    strikes: int = 0
    runs: int = 0
    rows: int = 0
    hits: int = 0
    total_ms: float = 0.0
    last_ms: float = 0.0
    last_run_at: datetime | None = None
    last_error: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class CustomRule:
    """A rule that an operator wrote."""

    id: str
    body: Mapping[str, Any]
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class Suppression:
    """Alerts that are resolved as they are raised. Empty ``rule_id``: of every rule; empty kind: about anything."""

    id: str
    rule_id: str
    entity_kind: str
    entity_id: str
    reason: str
    created_at: datetime
    created_by: str
    expires_at: datetime

    def covers(self, rule_id: str, entities: Iterable[Entity]) -> bool:
        """Whether an alert of that rule, about these entities, is one of them."""
        if self.rule_id and self.rule_id != rule_id:
            return False
        return not self.entity_kind or any(
            e.kind.value == self.entity_kind and e.id == self.entity_id for e in entities
        )


# -- how rules fare ---------------------------------------------------------------------------------------------------


def states(tx: ControlTx) -> dict[str, RuleState]:
    """Every state that is known, by rule."""
    rows = tx.connection.execute(sa.select(rule_state))
    return {row.rule_id: RuleState(**row._mapping) for row in rows}


def switched_off(tx: ControlTx) -> frozenset[str]:
    """Ids of the rules that must not raise anything."""
    return frozenset(tx.connection.scalars(sa.select(rule_state.c.rule_id).where(~rule_state.c.is_enabled)))


def begin(tx: ControlTx, state: RuleState) -> None:
    """Store the first state of a rule; one that is there stays."""
    if tx.connection.execute(sa.select(rule_state.c.rule_id).where(rule_state.c.rule_id == state.rule_id)).first():
        return
    tx.connection.execute(rule_state.insert().values(**_values(state), rule_id=state.rule_id))


def move(tx: ControlTx, steps: Sequence[tuple[RuleState, RuleState]]) -> set[str]:
    """Store the second state of each pair whose rule still stands where the first says; the rules that moved.

    Called in the transaction that stores what was found: both happen, or neither does. One that somebody else has moved
    or switched meanwhile stays as they left it.
    """
    wanted = {before.rule_id for before, _ in steps}
    query = sa.select(rule_state).where(rule_state.c.rule_id.in_(wanted)).with_for_update()
    known = {row.rule_id: (row.position, row.seen, row.is_enabled) for row in tx.connection.execute(query)}
    fresh = [(b, a) for b, a in steps if known.get(b.rule_id) == (b.position, b.seen, b.is_enabled)]
    if fresh:
        names = {f"to_{name}": name for name in _values(fresh[0][1])}
        update = (
            rule_state.update()
            .where(rule_state.c.rule_id == sa.bindparam("of"))
            .values({name: sa.bindparam(bound) for bound, name in names.items()})
        )
        rows = [{"of": b.rule_id, **{f"to_{n}": v for n, v in _values(a).items()}} for b, a in fresh]
        tx.connection.execute(update, rows)
    return {before.rule_id for before, _ in fresh}


def set_enabled(tx: ControlTx, rule_id: str, enabled: bool, reason: str, position: int | None = None) -> None:
    """Let a rule run, or not; ``position``: where it goes on from. Audited. Raises ``NotFound``."""
    values: dict[str, Any] = {"is_enabled": enabled, "reason": reason[:LONGEST_TEXT], "strikes": 0}
    if position is not None:
        values["position"] = position
    done = tx.connection.execute(rule_state.update().where(rule_state.c.rule_id == rule_id).values(**values))
    if done.rowcount == 0:
        raise NotFound(f"there is no rule {rule_id!r} that can be switched.", where="rule")
    tx.audit("rule:enable" if enabled else "rule:disable", f"rule/{rule_id}", {"reason": reason[:LONGEST_TEXT]})


def _values(state: RuleState) -> dict[str, Any]:
    return {
        "is_enabled": state.is_enabled,
        "reason": state.reason[:LONGEST_TEXT],
        "position": state.position,
        "seen": state.seen,
        "strikes": state.strikes,
        "runs": state.runs,
        "rows": state.rows,
        "hits": state.hits,
        "total_ms": state.total_ms,
        "last_ms": state.last_ms,
        "last_run_at": state.last_run_at,
        "last_error": state.last_error[:LONGEST_TEXT],
        "note": state.note[:LONGEST_TEXT],
    }


# -- rules that operators wrote ---------------------------------------------------------------------------------------


def custom_rules(tx: ControlTx) -> list[CustomRule]:
    """All of them, by id."""
    return [CustomRule(**row._mapping) for row in tx.connection.execute(sa.select(custom_rule).order_by("id"))]


def find_custom_rule(tx: ControlTx, rule_id: str) -> CustomRule | None:
    """One of them, or None."""
    row = tx.connection.execute(sa.select(custom_rule).where(custom_rule.c.id == rule_id)).one_or_none()
    return CustomRule(**row._mapping) if row else None


def save_custom_rule(tx: ControlTx, rule_id: str, body: Mapping[str, Any]) -> CustomRule:
    """Store a checked body, new or in place of what was there. Audited."""
    before = find_custom_rule(tx, rule_id)
    values = {"body": dict(body), "updated_at": tx.now, "updated_by": tx.actor}
    if before is None:
        tx.connection.execute(custom_rule.insert().values(id=rule_id, created_at=tx.now, created_by=tx.actor, **values))
    else:
        tx.connection.execute(custom_rule.update().where(custom_rule.c.id == rule_id).values(**values))
    old = before.body if before else {}
    changed = sorted(k for k in {*old, *body} if old.get(k) != body.get(k))
    tx.audit("rule:update" if before else "rule:create", f"rule/{rule_id}", {"changed": changed})
    found = find_custom_rule(tx, rule_id)
    assert found is not None
    return found


def delete_custom_rule(tx: ControlTx, rule_id: str) -> None:
    """Forget a rule and how it fared; its alerts stay. Audited. Raises ``NotFound``."""
    if tx.connection.execute(custom_rule.delete().where(custom_rule.c.id == rule_id)).rowcount == 0:
        raise NotFound(f"there is no custom rule {rule_id!r}.", where="rule")
    tx.connection.execute(rule_state.delete().where(rule_state.c.rule_id == rule_id))
    tx.audit("rule:delete", f"rule/{rule_id}")


# -- suppressions -----------------------------------------------------------------------------------------------------


def suppressions(tx: ControlTx, *, active_at: datetime | None = None) -> list[Suppression]:
    """All of them, newest first; with ``active_at``, those in force then."""
    query = sa.select(suppression).order_by(suppression.c.created_at.desc(), suppression.c.id)
    if active_at is not None:
        query = query.where(suppression.c.expires_at > active_at)
    return [Suppression(**row._mapping) for row in tx.connection.execute(query)]


def add_suppression(
    tx: ControlTx, *, rule_id: str, entity_kind: str, entity_id: str, reason: str, expires_at: datetime
) -> Suppression:
    """Resolve alerts of a rule, about an entity, as they are raised from now on. Audited."""
    added = Suppression(
        new_id("sup"), rule_id, entity_kind, entity_id, reason[:LONGEST_TEXT], tx.now, tx.actor, expires_at
    )
    tx.connection.execute(
        suppression.insert().values(
            id=added.id,
            rule_id=added.rule_id,
            entity_kind=added.entity_kind,
            entity_id=added.entity_id,
            reason=added.reason,
            created_at=added.created_at,
            created_by=added.created_by,
            expires_at=added.expires_at,
        )
    )
    detail = {"rule": rule_id, "kind": entity_kind, "entity": entity_id, "reason": added.reason}
    tx.audit("suppression:create", f"suppression/{added.id}", {**detail, "expires": expires_at.isoformat()})
    return added


def delete_suppression(tx: ControlTx, suppression_id: str) -> None:
    """End a suppression; what it resolved stays resolved. Audited. Raises ``NotFound``."""
    if tx.connection.execute(suppression.delete().where(suppression.c.id == suppression_id)).rowcount == 0:
        raise NotFound(f"there is no suppression {suppression_id!r}.", where="suppression")
    tx.audit("suppression:delete", f"suppression/{suppression_id}")


def resolve_suppressed(tx: ControlTx, alert_id: str, by: Suppression) -> None:
    """The alert is kept, and resolved as expected, with the reason in its activity log."""
    tx.connection.execute(
        alert.update()
        .where(alert.c.id == alert_id)
        .values(
            status=AlertStatus.RESOLVED.value,
            classification="informationalExpectedActivity",
            resolved_at=tx.now,
            updated_at=tx.now,
        )
    )
    text = f"Suppressed until {by.expires_at:%Y-%m-%d %H:%M} UTC: {by.reason}"
    triage.note(tx, EntryKind.CHANGED, alert_id=alert_id, text=text, detail={"suppression": by.id})
