"""Risk of users and agents as it is stored: detections, what they come to, and the history of that.

Below ``identity.risk`` (what people and providers say), ``detection`` (what alerts say) and ``triage`` (what became of
alerts); above the tables. ``model.risk`` adds detections up; here the sum is kept in step with what the data plane
knows: ``User.risk`` and the agent's, saved and projected in the caller's transaction, each change audited and in the
history.

INVARIANT: a risk that was confirmed stays high until it is dismissed, confirmed safe or remediated; nothing fades it.
INVARIANT: the level is a function of the detections that are open and of the time, never of the order in which they
came: each occurrence has a key and is stored once, with the span of all its activity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.ids import ordered_id
from watchfloor.model.people import RiskLevel
from watchfloor.model.risk import OPEN, RANK, Risk, RiskChange, RiskDetection, RiskState, add_up, limited
from watchfloor.storage import inventory, people
from watchfloor.storage.changes import upsert
from watchfloor.storage.schema import risk, risk_change, risk_detection

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

USER: Final = "user"
AGENT: Final = "agent"
KINDS: Final = (USER, AGENT)
_MOST_REASONS: Final = 10
_AT_ONCE: Final = 500
"""Values in one condition."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A detection as it is noted. ``key`` says which occurrence it is; ``exact``: what is stored says what this says,
    instead of the gravest of both."""

    detection: str
    level: RiskLevel
    source: str
    detail: str
    key: str
    first_at: datetime
    last_at: datetime
    alert_id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = False


# -- reading ------------------------------------------------------------------------------------------------------


def find(tx: ControlTx, kind: str, subject_id: str) -> Risk:
    """The risk of a user or an agent, with reasons. Raises ``NotFound`` for one that there is not."""
    risk_now = find_brief(tx, kind, subject_id)
    return replace(risk_now, reasons=tuple(d.reason for d in _gravest(tx, kind, subject_id)))


def find_brief(tx: ControlTx, kind: str, subject_id: str) -> Risk:
    """As ``find``, without reasons."""
    level = _levels(tx, kind, [subject_id]).get(subject_id)
    if level is None:
        raise NotFound(f"there is no {kind} {subject_id!r}.", where=kind)
    return _risk(_row(tx, kind, subject_id), level)


def find_states(tx: ControlTx, kind: str) -> dict[str, Risk]:
    """Every stored risk of this kind, by id, without reasons."""
    query = sa.select(risk).where(risk.c.kind == kind)
    return {row.subject_id: _risk(row, RiskLevel(row.level)) for row in tx.connection.execute(query)}


def detections(tx: ControlTx, kind: str, subject_id: str, *, limit: int = 200) -> list[RiskDetection]:
    """What was seen about a user or an agent, open or not, newest activity first."""
    d = risk_detection
    query = sa.select(d).where(d.c.kind == kind, d.c.subject_id == subject_id)
    rows = tx.connection.execute(query.order_by(d.c.last_at.desc(), d.c.id.desc()).limit(limit))
    return [detection_from(dict(row._mapping)) for row in rows]


def open_under(tx: ControlTx, kind: str, key: str) -> list[RiskDetection]:
    """Open detections with this key that weigh something, of every user or agent."""
    d = risk_detection
    weighs = sa.and_(d.c.level != RiskLevel.NONE.value, d.c.state.in_([state.value for state in OPEN]))
    rows = tx.connection.execute(sa.select(d).where(d.c.kind == kind, d.c.key == key, weighs))
    return [detection_from(dict(row._mapping)) for row in rows]


def history(tx: ControlTx, kind: str, subject_id: str, *, limit: int = 200) -> list[RiskChange]:
    """How the risk came to what it is, newest first."""
    c = risk_change
    query = sa.select(c).where(c.c.kind == kind, c.c.subject_id == subject_id).order_by(c.c.id.desc()).limit(limit)
    return [
        RiskChange(**{**dict(row._mapping), "level": RiskLevel(row.level), "state": RiskState(row.state)})
        for row in tx.connection.execute(query)
    ]


def detection_from(row: Mapping[str, Any]) -> RiskDetection:
    """The detection in ``row``."""
    return RiskDetection(**{**row, "level": RiskLevel(row["level"]), "state": RiskState(row["state"])})


def _risk(row: sa.Row[Any] | None, level: RiskLevel) -> Risk:
    if row is None:
        return Risk(level, RiskState.NONE if level is RiskLevel.NONE else RiskState.AT_RISK)
    return Risk(level, RiskState(row.state), (), row.updated_at, row.detail, row.because, row.changes_at)


def _row(tx: ControlTx, kind: str, subject_id: str) -> sa.Row[Any] | None:
    query = sa.select(risk).where(risk.c.kind == kind, risk.c.subject_id == subject_id)
    return tx.connection.execute(query).one_or_none()


def _levels(tx: ControlTx, kind: str, subject_ids: Collection[str]) -> dict[str, RiskLevel]:
    """The level that the data plane knows, of those of these subjects that there are."""
    if kind == USER:
        return {user.id: user.risk for user in people.find_users(tx, subject_ids).values()}
    if kind == AGENT:
        return {agent.id: agent.risk for agent in inventory.find_agents(tx, subject_ids).values()}
    raise InputError(f"{kind!r} has no risk.", where="kind", remedy=f"One of {', '.join(KINDS)}.")


def _is_open(kind: str, subject_id: str) -> sa.ColumnElement[bool]:
    d = risk_detection
    return sa.and_(d.c.kind == kind, d.c.subject_id == subject_id, d.c.state.in_([s.value for s in OPEN]))


def _gravest(tx: ControlTx, kind: str, subject_id: str) -> list[RiskDetection]:
    d = risk_detection
    rank = sa.case({level.value: rank for level, rank in RANK.items()}, value=d.c.level, else_=0)
    query = sa.select(d).where(_is_open(kind, subject_id)).order_by(rank.desc(), d.c.last_at.desc(), d.c.id)
    return [detection_from(dict(row._mapping)) for row in tx.connection.execute(query.limit(_MOST_REASONS))]


# -- what was seen ------------------------------------------------------------------------------------------------


def record(tx: ControlTx, kind: str, subject_id: str, *seen: Seen) -> Risk:
    """Keep detections and add up anew. One that is known changes nothing, but for activity that it did not have.

    What was settled counts again once its activity goes on; what happened before a remediation is over. Raises
    ``NotFound``, and ``InputError`` for a name or key that cannot be kept.
    """
    before = find_brief(tx, kind, subject_id)
    known = _known(tx, kind, subject_id, [each.key for each in seen])
    changed: list[RiskDetection] = []
    for each in seen:
        if not 0 < len(each.detection) <= 100 or not 0 < len(each.key) <= 300:
            raise InputError("a detection has a name of 1 to 100 and a key of 1 to 300 characters.", where="detection")
        old = known.get(each.key)
        now = _merged(tx, kind, subject_id, old, replace(each, level=limited(each.detection, each.level)))
        if now != old:
            upsert(tx, risk_detection, {**_values(now), "updated_at": tx.now}, old is not None)
            known[each.key] = now
            changed.append(now)
    if not changed:
        return before
    told = [
        {"detection": d.detection, "level": d.level.value, "source": d.source, "alert": d.alert_id}
        for d in changed[:_MOST_REASONS]
    ]
    tx.audit("risk:detect", f"{kind}/{subject_id}", {"detections": told, "count": len(changed)})
    return _add_up(tx, kind, subject_id, "risk:detect", changed[-1].title, detection_id=changed[-1].id)


def _known(tx: ControlTx, kind: str, subject_id: str, keys: Sequence[str]) -> dict[str, RiskDetection]:
    d = risk_detection
    found: dict[str, RiskDetection] = {}
    for start in range(0, len(keys), _AT_ONCE):
        chosen = d.c.key.in_(keys[start : start + _AT_ONCE])
        query = sa.select(d).where(d.c.kind == kind, d.c.subject_id == subject_id, chosen)
        found |= {row.key: detection_from(dict(row._mapping)) for row in tx.connection.execute(query)}
    return found


def _merged(tx: ControlTx, kind: str, subject_id: str, known: RiskDetection | None, seen: Seen) -> RiskDetection:
    if known is None:
        state = _state_of(_row(tx, kind, subject_id), seen.last_at)
        return RiskDetection(
            ordered_id("rsk"), kind, subject_id, seen.detection, seen.level, state, seen.source, seen.detail[:1000],
            seen.key, seen.first_at, seen.last_at, tx.now, tx.now, seen.alert_id, dict(seen.facts),
        )  # fmt: skip
    if seen.exact:
        first, last, level = seen.first_at, seen.last_at, seen.level
    else:
        first, last = min(known.first_at, seen.first_at), max(known.last_at, seen.last_at)
        level = max(known.level, seen.level, key=RANK.__getitem__)
    state, facts = known.state, known.facts
    if last > known.last_at and state not in OPEN:
        state, facts = _state_of(_row(tx, kind, subject_id), last), {**facts, "taken_back": False}
    detail = seen.detail[:1000] if last > known.last_at or seen.exact else known.detail
    return replace(known, first_at=first, last_at=last, level=level, state=state, detail=detail, facts=facts)


def _state_of(row: sa.Row[Any] | None, last_at: datetime) -> RiskState:
    """Of a detection with activity up to then."""
    is_over = row is not None and row.remediated_at is not None and last_at <= row.remediated_at
    return RiskState.REMEDIATED if is_over else RiskState.AT_RISK


def _values(detection: RiskDetection) -> dict[str, Any]:
    return {
        "id": detection.id, "kind": detection.kind, "subject_id": detection.subject_id,
        "detection": detection.detection, "level": detection.level.value, "state": detection.state.value,
        "source": detection.source, "detail": detection.detail, "key": detection.key, "alert_id": detection.alert_id,
        "facts": dict(detection.facts), "first_at": detection.first_at, "last_at": detection.last_at,
        "noted_at": detection.noted_at, "updated_at": detection.updated_at,
    }  # fmt: skip


def judge_alerts(tx: ControlTx, judged: Mapping[str, bool]) -> None:
    """Take back what alerts said, or let it count again: alert id to whether it turned out to be nothing."""
    d = risk_detection
    ids = list(judged)
    touched: dict[tuple[str, str], RiskDetection] = {}
    for start in range(0, len(ids), _AT_ONCE):
        query = sa.select(d).where(d.c.alert_id.in_(ids[start : start + _AT_ONCE]))
        for row in tx.connection.execute(query).all():
            detection = detection_from(dict(row._mapping))
            assert detection.alert_id is not None
            changed = _judged(tx, detection, is_nothing=judged[detection.alert_id])
            if changed is not None:
                values = {"state": changed.state.value, "facts": dict(changed.facts), "updated_at": tx.now}
                tx.connection.execute(d.update().where(d.c.id == changed.id).values(**values))
                touched[changed.kind, changed.subject_id] = changed
    for (kind, subject_id), detection in sorted(touched.items()):
        is_back = detection.state in OPEN
        activity = "risk:detect" if is_back else "risk:take-back"
        because = f"alert {detection.alert_id} {'is no false alarm after all' if is_back else 'was a false alarm'}"
        tx.audit(activity, f"{kind}/{subject_id}", {"id": detection.id, "alert": detection.alert_id})
        # Graph's word for a detection that went with its alert.
        empty = (RiskState.DISMISSED, "m365DAdminDismissedDetection")
        _add_up(tx, kind, subject_id, activity, because, detection_id=detection.id, empty=empty)


def _judged(tx: ControlTx, detection: RiskDetection, *, is_nothing: bool) -> RiskDetection | None:
    if is_nothing and detection.state in OPEN:
        return replace(detection, state=RiskState.DISMISSED, facts={**detection.facts, "taken_back": True})
    if not is_nothing and detection.facts.get("taken_back"):
        state = _state_of(_row(tx, detection.kind, detection.subject_id), detection.last_at)
        return replace(detection, state=state, facts={**detection.facts, "taken_back": False})
    return None


# -- what it comes to ---------------------------------------------------------------------------------------------


def confirm(tx: ControlTx, kind: str, subject_id: str, seen: Seen) -> Risk:
    """Keep what an operator confirmed: high until somebody settles it. Confirmed already: nothing changes."""
    before = find_brief(tx, kind, subject_id)
    if before.state is RiskState.CONFIRMED_COMPROMISED:
        return before
    known = _merged(tx, kind, subject_id, None, seen)
    confirmed = replace(known, state=RiskState.CONFIRMED_COMPROMISED)
    upsert(tx, risk_detection, _values(confirmed), exists=False)
    tx.audit("risk:confirm-compromised", f"{kind}/{subject_id}", {"reason": seen.detail})
    return _store(
        tx, kind, subject_id,
        Risk(RiskLevel.HIGH, RiskState.CONFIRMED_COMPROMISED, detail=seen.detection, because=seen.detail),
        "risk:confirm-compromised", confirmed.id,
    )  # fmt: skip


def settle(
    tx: ControlTx, kind: str, subject_id: str, state: RiskState, *, activity: str, detail: str, because: str
) -> Risk:
    """Close every open detection with ``state``; the level is none. Where nothing is open, nothing changes."""
    before = find_brief(tx, kind, subject_id)
    d = risk_detection
    closed = tx.connection.execute(
        d.update().where(_is_open(kind, subject_id)).values(state=state.value, updated_at=tx.now)
    ).rowcount
    if not closed and before.level is RiskLevel.NONE and before.state not in OPEN:
        return before
    tx.audit(activity, f"{kind}/{subject_id}", {"reason": because, "detections": closed, "level": before.level.value})
    settled = Risk(RiskLevel.NONE, state, detail=detail, because=because)
    return _store(tx, kind, subject_id, settled, activity, None)


def fade(tx: ControlTx, limit: int = 500) -> int:
    """Lower risks whose detections have faded by now, those due longest first; how many were looked at."""
    query = sa.select(risk.c.kind, risk.c.subject_id).where(risk.c.changes_at <= tx.now)
    due = tx.connection.execute(query.order_by(risk.c.changes_at).limit(limit)).all()
    for kind, subject_id in due:
        _add_up(tx, kind, subject_id, "risk:fade", "nothing of the kind has happened since", is_told=True)
    return len(due)


def is_due(tx: ControlTx) -> bool:
    """Whether ``fade`` has something to do."""
    return tx.connection.execute(sa.select(risk.c.kind).where(risk.c.changes_at <= tx.now).limit(1)).first() is not None


def _add_up(
    tx: ControlTx,
    kind: str,
    subject_id: str,
    activity: str,
    because: str,
    *,
    detection_id: str | None = None,
    empty: tuple[RiskState, str] = (RiskState.NONE, "none"),
    is_told: bool = False,
) -> Risk:
    """Add up what is open and store what it comes to; ``empty``: the state and detail if that is nothing."""
    row = _row(tx, kind, subject_id)
    state = RiskState(row.state) if row is not None else RiskState.NONE
    detail, changes_at = (row.detail if row is not None else "none"), None
    if state is RiskState.CONFIRMED_COMPROMISED:
        level, because = RiskLevel.HIGH, row.because if row is not None else because
    else:
        level, changes_at = add_up(_newest(tx, kind, subject_id), tx.now)
        if level is not RiskLevel.NONE:
            state, detail = RiskState.AT_RISK, "none"
        elif state is RiskState.AT_RISK:
            state, detail = empty
    if is_told and (row is None or level.value != row.level):
        tx.audit(activity, f"{kind}/{subject_id}", {"level": level.value})
    result = Risk(level, state, detail=detail, because=because, changes_at=changes_at)
    return _store(tx, kind, subject_id, result, activity, detection_id)


def _newest(tx: ControlTx, kind: str, subject_id: str) -> list[tuple[RiskLevel, datetime]]:
    """The newest activity of open detections, by level: what fades later counts for all others of its level."""
    d = risk_detection
    query = sa.select(d.c.level, sa.func.max(d.c.last_at)).where(_is_open(kind, subject_id)).group_by(d.c.level)
    return [(RiskLevel(level), at) for level, at in tx.connection.execute(query)]


def _store(tx: ControlTx, kind: str, subject_id: str, result: Risk, activity: str, detection_id: str | None) -> Risk:
    """Store ``result``, note it in the history if level or state differ, and tell the data plane a new level."""
    row = _row(tx, kind, subject_id)
    differs = row is None or (row.level, row.state) != (result.level.value, result.state.value)
    remediated_at = tx.now if activity == "risk:remediate" else row.remediated_at if row is not None else None
    values = {
        "kind": kind,
        "subject_id": subject_id,
        "level": result.level.value,
        "state": result.state.value,
        "detail": result.detail,
        "because": result.because[:1000],
        "updated_at": tx.now if row is None or differs else row.updated_at,
        "changes_at": result.changes_at,
        "remediated_at": remediated_at,
    }
    upsert(tx, risk, values, row is not None)
    if differs:
        tx.connection.execute(
            risk_change.insert().values(
                id=ordered_id("rch"), kind=kind, subject_id=subject_id, at=tx.now, actor=tx.actor, activity=activity,
                level=result.level.value, state=result.state.value, detail=result.detail,
                because=result.because[:1000], detection_id=detection_id,
            )
        )  # fmt: skip
        _tell(tx, kind, subject_id, result.level, result.because)
    return find(tx, kind, subject_id)


def _tell(tx: ControlTx, kind: str, subject_id: str, level: RiskLevel, reason: str) -> None:
    """Keep the level that the data plane knows in step."""
    if kind == USER:
        user = people.find_user(tx, subject_id)
        if user is not None and user.risk is not level:
            people.save_user(tx, replace(user, risk=level, updated_at=tx.now), "user:set-risk", reason)
        return
    agent = inventory.find_agent(tx, subject_id)
    if agent is not None and agent.risk is not level:
        # ``updated_by`` is who built it, and whoever judges an agent has not.
        changed = replace(agent, risk=level, updated_at=tx.now)
        inventory.save_agent(tx, changed, "agent:set-risk", reason)


def known_subjects(tx: ControlTx, kind: str, subject_ids: Iterable[str]) -> Sequence[str]:
    """Those of these that there are, by id."""
    return sorted(_levels(tx, kind, set(subject_ids)))
