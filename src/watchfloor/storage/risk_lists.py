"""Risky users and agents and their detections as lists, by conditions in Graph's words.

Beside ``risks``, which keeps them; ``portal`` and ``cli`` read here. Who may read them is the caller's to check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.people import RiskLevel
from watchfloor.model.risk import Risk, RiskDetection, RiskState
from watchfloor.storage import odata
from watchfloor.storage.odata import Field, Type
from watchfloor.storage.risks import USER, detection_from
from watchfloor.storage.schema import agent, risk, risk_detection, user

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_LEVELS: Final = {**{level.value: (level.value,) for level in RiskLevel}, "hidden": (), "unknownFutureValue": ()}
_STATES: Final = {**{state.value: (state.value,) for state in RiskState}, "unknownFutureValue": ()}


@dataclass(frozen=True, slots=True)
class RiskySubject:
    """A user or an agent with its risk; ``upn`` and ``platform`` are empty for the other kind."""

    kind: str
    id: str
    name: str
    upn: str
    platform: str
    is_enabled: bool
    risk: Risk


@dataclass(frozen=True, slots=True)
class RiskQuery:
    """What is asked for: a condition and an order over ``fields_of``, and a page. ``before``: the last id seen."""

    condition: odata.Condition | None = None
    order: tuple[tuple[str, bool], ...] = ()
    limit: int = 100
    skip: int = 0
    before: str = ""


def subject_fields(kind: str) -> dict[str, Field]:
    """What risky users or agents may be filtered by."""
    r = risk.c
    named = (
        {"userDisplayName": Field(Type.TEXT, user.c.name), "userPrincipalName": Field(Type.TEXT, user.c.upn)}
        if kind == USER
        else {"agentDisplayName": Field(Type.TEXT, agent.c.name)}
    )
    return named | {
        "id": Field(Type.TEXT, r.subject_id),
        "riskLevel": Field(Type.CHOICE, r.level, _LEVELS),
        "riskState": Field(Type.CHOICE, r.state, _STATES),
        "riskDetail": Field(Type.TEXT, r.detail),
        "riskLastUpdatedDateTime": Field(Type.TIME, r.updated_at),
    }


def detection_fields(kind: str) -> dict[str, Field]:
    """What detections about users or agents may be filtered by."""
    d = risk_detection.c
    named = (
        {
            "userId": Field(Type.TEXT, d.subject_id),
            "userDisplayName": Field(Type.TEXT, user.c.name),
            "userPrincipalName": Field(Type.TEXT, user.c.upn),
        }
        if kind == USER
        else {"agentId": Field(Type.TEXT, d.subject_id), "agentDisplayName": Field(Type.TEXT, agent.c.name)}
    )
    return named | {
        "id": Field(Type.TEXT, d.id),
        "riskEventType": Field(Type.TEXT, d.detection),
        "riskLevel": Field(Type.CHOICE, d.level, _LEVELS),
        "riskState": Field(Type.CHOICE, d.state, _STATES),
        "source": Field(Type.TEXT, d.source),
        "activityDateTime": Field(Type.TIME, d.last_at),
        "detectedDateTime": Field(Type.TIME, d.noted_at),
        "lastUpdatedDateTime": Field(Type.TIME, d.updated_at),
    }


def list_subjects(tx: ControlTx, kind: str, asked: RiskQuery = RiskQuery()) -> list[RiskySubject]:
    """Those about whom something was ever seen, by id unless ``order`` says otherwise."""
    query = _subjects(kind)
    if asked.before:
        query = query.where(risk.c.subject_id > asked.before)
    query = _asked(query, asked, subject_fields(kind)).order_by(risk.c.subject_id)
    return [_subject(kind, row) for row in tx.connection.execute(query.limit(asked.limit).offset(asked.skip))]


def count_subjects(tx: ControlTx, kind: str, asked: RiskQuery) -> int:
    """How many ``list_subjects`` would page through."""
    query = _asked(_subjects(kind), RiskQuery(asked.condition), subject_fields(kind))
    return tx.connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one()


def find_subject(tx: ControlTx, kind: str, subject_id: str) -> RiskySubject | None:
    """One user or agent, at risk or not; None where there is none."""
    table = user if kind == USER else agent
    query = _columns(kind).select_from(
        table.outerjoin(risk, sa.and_(risk.c.kind == kind, risk.c.subject_id == table.c.id))
    )
    row = tx.connection.execute(query.where(table.c.id == subject_id)).one_or_none()
    return _subject(kind, row) if row else None


def list_detections(
    tx: ControlTx, kind: str, asked: RiskQuery = RiskQuery()
) -> list[tuple[RiskDetection, RiskySubject]]:
    """Detections about users or agents, each with whom it is about, newest first unless ``order`` says otherwise."""
    query = _detections(kind)
    if asked.before:
        query = query.where(risk_detection.c.id < asked.before)
    query = _asked(query, asked, detection_fields(kind)).order_by(risk_detection.c.id.desc())
    rows = tx.connection.execute(query.limit(asked.limit).offset(asked.skip)).all()
    return [(_detection(row), _subject(kind, row)) for row in rows]


def count_detections(tx: ControlTx, kind: str, asked: RiskQuery) -> int:
    """How many ``list_detections`` would page through."""
    query = _asked(_detections(kind), RiskQuery(asked.condition), detection_fields(kind))
    return tx.connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one()


def _detection(row: Any) -> RiskDetection:
    """The columns of the detection begin with ``d_``."""
    return detection_from({name[2:]: value for name, value in row._mapping.items() if name.startswith("d_")})


def _columns(kind: str) -> sa.Select[Any]:
    r = risk.c
    if kind == USER:
        who = [user.c.id, user.c.name, user.c.upn, sa.literal("").label("platform"), user.c.is_enabled, user.c.risk]
    else:
        enabled = (agent.c.state == "published").label("is_enabled")
        who = [agent.c.id, agent.c.name, sa.literal("").label("upn"), agent.c.platform, enabled, agent.c.risk]
    return sa.select(
        *who, r.state.label("risk_state"), r.detail.label("risk_detail"), r.because, r.updated_at, r.changes_at
    )


def _subjects(kind: str) -> sa.Select[Any]:
    table = user if kind == USER else agent
    joined = risk.join(table, table.c.id == risk.c.subject_id)
    return _columns(kind).select_from(joined).where(risk.c.kind == kind, risk.c.state != RiskState.NONE.value)


def _detections(kind: str) -> sa.Select[Any]:
    table, d = (user if kind == USER else agent), risk_detection
    joined = d.join(table, table.c.id == d.c.subject_id).outerjoin(
        risk, sa.and_(risk.c.kind == kind, risk.c.subject_id == d.c.subject_id)
    )
    columns = _columns(kind).add_columns(*(column.label(f"d_{column.name}") for column in d.c))
    return columns.select_from(joined).where(d.c.kind == kind)


def _asked(query: sa.Select[Any], asked: RiskQuery, fields: Mapping[str, Field]) -> sa.Select[Any]:
    if asked.condition is not None:
        query = query.where(odata.to_sql(asked.condition, fields))
    for name, is_descending in asked.order:
        column = fields[name].column
        assert column is not None
        query = query.order_by(column.desc() if is_descending else column.asc())
    return query


def _subject(kind: str, row: Any) -> RiskySubject:
    level = RiskLevel(row.risk)
    if row.risk_state is None:
        found = Risk(level, RiskState.NONE if level is RiskLevel.NONE else RiskState.AT_RISK)
    else:
        state = RiskState(row.risk_state)
        found = Risk(level, state, (), row.updated_at, row.risk_detail, row.because, row.changes_at)
    return RiskySubject(kind, row.id, row.name, row.upn, row.platform, bool(row.is_enabled), found)
