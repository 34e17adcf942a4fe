"""Posture over the API: indicators, findings by agent and by indicator, exceptions, and how it was day by day.

Above ``detection.posture`` and ``storage.posture``. What indicators tell of alerts is told only as far as the viewer
may read alerts: whoever sees the unresolved serious ones alone is told of those alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from watchfloor.detection import posture_scan
from watchfloor.detection.posture import Check, Side, find, shipped, state_of
from watchfloor.model.errors import Conflict, Denied, InputError
from watchfloor.model.people import Permission
from watchfloor.model.posture import FindingState, RiskBand, Weight
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import Page
from watchfloor.registry import inventory
from watchfloor.registry.lifecycle import builders
from watchfloor.storage import posture
from watchfloor.storage.control import ControlTx
from watchfloor.storage.posture import AgentPosture, Exemption, Finding, FindingFilter

router = APIRouter(prefix="/api", tags=["posture"])

LONGEST: Final = timedelta(days=366)
"""How long a finding may be accepted."""
_SERIOUS: Final = frozenset({"critical", "high"})
"""What of an alert indicator's evidence is told to who sees serious alerts only."""


class IndicatorView(BaseModel):
    """An indicator, and of how many agents it is active, could not be assessed, and is accepted."""

    id: str
    title: str
    raises: list[Side]
    level: Weight
    why: str
    recommendation: str
    blind_spots: str
    query: str
    active: int
    excepted: int
    not_assessed: int


class ExceptionView(BaseModel):
    """A finding that somebody accepts."""

    agent_id: str
    indicator: str
    reason: str
    created_at: datetime
    created_by: str
    expires_at: datetime
    is_expired: bool


class PostureFindingView(BaseModel):
    """A finding. ``last_seen``: when it last held, as far as anybody has looked."""

    agent_id: str
    indicator: str
    title: str
    level: Weight
    raises: list[Side]
    state: FindingState
    evidence: dict[str, Any]
    recommendation: str
    since: datetime
    last_seen: datetime
    exception: ExceptionView | None


class StandingView(BaseModel):
    """How one indicator stands for an agent. Without ``finding`` it never held."""

    indicator: str
    title: str
    state: FindingState
    finding: PostureFindingView | None


class AgentPostureView(BaseModel):
    """How risky an agent is by what it is, and why. ``reasons``: the gravest indicators of each side."""

    agent_id: str
    risk: RiskBand
    likelihood: Weight | None
    impact: Weight | None
    reasons: list[str]
    since: datetime | None
    scanned_at: datetime | None
    indicators: list[StandingView]


class DayView(BaseModel):
    """What the last scan of a day counted: agents by risk, active findings and unknown ones by indicator."""

    day: str
    risk: dict[str, int]
    active: dict[str, int]
    not_assessed: dict[str, int]


class PostureView(BaseModel):
    """The company's posture: agents by risk, and when that was last looked at."""

    scanned_at: datetime | None
    risk: dict[RiskBand, int]
    findings: int
    excepted: int


class ExceptionBody(BaseModel):
    """Why a finding is accepted, and until when."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=2_000, pattern=r"\S")
    expires_at: AwareDatetime


def _hidden(viewer: Viewer) -> frozenset[str]:
    """Indicators of which the viewer is told only what comes of unresolved serious alerts."""
    if Permission.ALERT_READ in viewer.permissions:
        return frozenset()
    return frozenset(check.indicator.id for check in shipped() if check.is_of_alerts)


def _excepted(one: Exemption, now: datetime) -> ExceptionView:
    return ExceptionView(
        agent_id=one.agent_id,
        indicator=one.indicator,
        reason=one.reason,
        created_at=one.created_at,
        created_by=one.created_by,
        expires_at=one.expires_at,
        is_expired=one.expires_at <= now,
    )


def _finding(
    check: Check,
    one: Finding,
    exceptions: Mapping[posture.Key, Exemption],
    scanned: datetime | None,
    now: datetime,
    hidden: frozenset[str],
) -> PostureFindingView:
    evidence = orjson.loads(one.evidence)
    if one.indicator in hidden:
        evidence = {name: value for name, value in evidence.items() if name in _SERIOUS}
    accepted = exceptions.get(one.key)
    return PostureFindingView(
        agent_id=one.agent_id,
        indicator=one.indicator,
        title=check.indicator.title,
        level=one.level,
        raises=list(check.indicator.raises),
        state=FindingState.ACTIVE if one.ended_at is None else FindingState.NOT_ACTIVE,
        evidence=evidence,
        recommendation=check.indicator.recommendation,
        since=one.since,
        last_seen=one.ended_at or max(scanned or one.since, one.since),
        exception=_excepted(accepted, now) if accepted else None,
    )


def _is_told(one: Finding, hidden: frozenset[str]) -> bool:
    grave = one.level in (Weight.HIGH, Weight.CRITICAL) and one.ended_at is None
    return one.indicator not in hidden or grave


@router.get("/posture", summary="Agents by risk, and how many findings there are")
def read_posture(viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> PostureView:
    """As of the last scan. Agents that none has looked at yet are not evaluated."""
    now, hidden = deps.now(), _hidden(viewer)
    with deps.control.read() as tx:
        bands = posture.bands(tx)
        counts = dict.fromkeys(RiskBand, 0)
        for agent_id in posture.registered(tx):
            counts[bands.get(agent_id, RiskBand.NOT_EVALUATED)] += 1
        last = posture.last_scan(tx)
        findings = posture.count_findings(tx, FindingFilter(hidden=hidden), now)
        excepted = posture.count_findings(tx, FindingFilter(excepted=True, hidden=hidden), now)
    return PostureView(
        scanned_at=last.at if last else None,
        risk=counts,
        findings=sum(findings.values()),
        excepted=sum(excepted.values()),
    )


@router.get("/posture/indicators", summary="Every indicator with what to do about it, and of how many agents it holds")
def list_indicators(viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> Page[IndicatorView]:
    """Those that hold most often and gravest first: the recommendations, in the order in which they pay off."""
    now, hidden = deps.now(), _hidden(viewer)
    with deps.control.read() as tx:
        active = posture.count_findings(tx, FindingFilter(hidden=hidden), now)
        excepted = posture.count_findings(tx, FindingFilter(excepted=True, hidden=hidden), now)
        days = posture.list_days(tx, now.date().isoformat())
    unknown = days[-1][1]["not_assessed"] if days else {}
    views = [
        IndicatorView(
            **check.indicator.model_dump(include=_TOLD),
            active=active.get(check.indicator.id, 0),
            excepted=excepted.get(check.indicator.id, 0),
            not_assessed=unknown.get(check.indicator.id, 0),
        )
        for check in shipped()
    ]
    return Page(items=sorted(views, key=lambda v: (-v.level.rank, -(v.active - v.excepted), v.id)))


_TOLD: Final = {"id", "title", "raises", "level", "why", "recommendation", "blind_spots", "query"}


@router.get("/posture/findings", summary="Findings, by agent and indicator")
def list_findings(
    viewer: Annotated[Viewer, permit(Permission.AGENT_READ)],
    deps: Deps,
    agent: Annotated[str, Query(max_length=200)] = "",
    indicator: Annotated[str, Query(max_length=63)] = "",
    level: Weight | None = None,
    risk: RiskBand | None = None,
    state: FindingState = FindingState.ACTIVE,
    excepted: bool | None = None,
    after: Annotated[str, Query(max_length=300)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Page[PostureFindingView]:
    """Active ones, or with ``state=not_active`` those that held once; ``risk`` is the agent's. ``after`` takes
    ``next``. What could not be assessed is told with each agent, and counted with each indicator."""
    if state is FindingState.NOT_ASSESSED:
        raise InputError("there is no finding of what could not be assessed.", where="state", remedy="Ask an agent.")
    if indicator:
        find(indicator)
    now, hidden = deps.now(), _hidden(viewer)
    filters = FindingFilter(agent, indicator, level, risk, state is FindingState.NOT_ACTIVE, excepted, hidden)
    with deps.control.read() as tx:
        found = posture.find_findings(tx, filters, now, after=after, limit=limit)
        exceptions = posture.list_exceptions(tx)
        last = posture.last_scan(tx)
    checks = {check.indicator.id: check for check in shipped()}
    scanned = last.at if last else None
    items = [
        _finding(checks[one.indicator], one, exceptions, scanned, now, hidden)
        for one in found
        if one.indicator in checks
    ]
    return Page(items=items, next="/".join(found[-1].key) if len(found) >= limit else None)


@router.get("/posture/trend", summary="Agents by risk, and findings by indicator, day by day")
def read_trend(
    viewer: Annotated[Viewer, permit(Permission.AGENT_READ)],
    deps: Deps,
    days: Annotated[int, Query(ge=1, le=1000)] = 30,
) -> Page[DayView]:
    """What the last scan of each of the last ``days`` (UTC) counted, the oldest first; days without a scan are
    missing."""
    since, hidden = (deps.now() - timedelta(days=days - 1)).date().isoformat(), _hidden(viewer)
    with deps.control.read() as tx:
        found = posture.list_days(tx, since)
    return Page(
        items=[
            DayView(
                day=day,
                risk=body["bands"],
                active={name: n for name, n in body["indicators"].items() if name not in hidden},
                not_assessed=body["not_assessed"],
            )
            for day, body in found
        ]
    )


@router.get("/posture/exceptions", summary="Findings that somebody accepts")
def list_exceptions(viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> Page[ExceptionView]:
    """By agent and indicator; expired ones stay until they are taken back."""
    with deps.control.read() as tx:
        return Page(items=[_excepted(one, deps.now()) for one in posture.list_exceptions(tx).values()])


@router.get("/agents/{agent_id}/posture", summary="How risky an agent is, and how every indicator stands for it")
def read_agent_posture(
    agent_id: str, viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps
) -> AgentPostureView:
    """With evidence, recommendations and exceptions. Before the first scan everything is not assessed."""
    with deps.control.read() as tx:
        return _agent_posture(tx, agent_id, _hidden(viewer), deps.now())


def _agent_posture(tx: ControlTx, agent_id: str, hidden: frozenset[str], now: datetime) -> AgentPostureView:
    inventory.get_agent(tx, agent_id)
    known: AgentPosture | None = posture.list_agents(tx, agent_id).get(agent_id)
    findings = {i: one for (_, i), one in posture.list_findings(tx, agent_id).items() if _is_told(one, hidden)}
    exceptions = posture.list_exceptions(tx, agent_id)
    last = posture.last_scan(tx)
    scanned = last.at if last else None
    active = {name for name, one in findings.items() if one.ended_at is None}
    unknown = {check.indicator.id for check in shipped()} if known is None else set(known.not_assessed)
    return AgentPostureView(
        agent_id=agent_id,
        risk=known.band if known else RiskBand.NOT_EVALUATED,
        likelihood=known.likelihood if known else None,
        impact=known.impact if known else None,
        reasons=[name for name in (known.reasons if known else ()) if name in active or name not in hidden],
        since=known.since if known else None,
        scanned_at=scanned,
        indicators=[
            StandingView(
                indicator=name,
                title=check.indicator.title,
                state=state_of(name, active, unknown),
                finding=_finding(check, findings[name], exceptions, scanned, now, hidden) if name in findings else None,
            )
            for check in shipped()
            for name in (check.indicator.id,)
        ],
    )


@router.put("/agents/{agent_id}/posture/exceptions/{indicator}", summary="Accept a finding until a day")
def save_exception(
    agent_id: str,
    indicator: str,
    body: ExceptionBody,
    viewer: Annotated[Viewer, permit(Permission.POSTURE_WRITE)],
    deps: Deps,
) -> AgentPostureView:
    """It stays, with the reason, and counts for nothing until then. Not by whoever built the agent; alerts are resolved
    instead."""
    check, now = find(indicator), deps.now()
    if check.is_of_alerts:
        raise InputError("alerts are not accepted as posture.", where="indicator", remedy="Resolve the alerts.")
    if not now < body.expires_at <= now + LONGEST:
        raise InputError("an exception ends within a year from now.", where="expires_at", remedy="Name a day.")
    with deps.control.tx(viewer.id) as tx:
        if viewer.id in builders(inventory.get_agent(tx, agent_id).agent):
            raise Denied(f"{viewer.id} built agent {agent_id}, so somebody else has to accept its risks.")
        found = posture.list_findings(tx, agent_id).get((agent_id, indicator))
        if found is None or found.ended_at is not None:
            raise Conflict(f"{indicator} does not hold for this agent.", where="indicator")
        posture.save_exception(
            tx, Exemption(agent_id, indicator, body.reason.strip(), tx.now, viewer.id, body.expires_at)
        )
        posture_scan.reweigh(tx, agent_id, now)
        return _agent_posture(tx, agent_id, _hidden(viewer), now)


@router.delete("/agents/{agent_id}/posture/exceptions/{indicator}", summary="Accept a finding no longer")
def delete_exception(
    agent_id: str, indicator: str, viewer: Annotated[Viewer, permit(Permission.POSTURE_WRITE)], deps: Deps
) -> AgentPostureView:
    """It counts again at once."""
    with deps.control.tx(viewer.id) as tx:
        posture.delete_exception(tx, agent_id, indicator)
        posture_scan.reweigh(tx, agent_id, deps.now())
        return _agent_posture(tx, agent_id, _hidden(viewer), deps.now())
