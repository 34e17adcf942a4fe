"""Who is at risk and why: users and agents, what was seen about them, and how it came to that.

Above ``storage.risks``. Detections tell of alerts of every severity, so reasons are for those who may read all alerts;
the level itself is on each user and agent. What is decided of a risk goes through ``response``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.errors import NotFound
from watchfloor.model.people import Permission, RiskLevel
from watchfloor.model.risk import Risk, RiskChange, RiskDetection, RiskState
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import Page, RiskView, risk_view
from watchfloor.response.risk_orders import RiskVerdict, decide
from watchfloor.storage import odata, risk_lists, risks
from watchfloor.storage.risk_lists import RiskQuery, RiskySubject

router = APIRouter(prefix="/api/risk", tags=["soc"])

Reader = Annotated[Viewer, permit(Permission.ALERT_READ)]
RiskOf = Literal["user", "agent"]


class RiskySubjectView(BaseModel):
    """A user or an agent about whom something was seen."""

    kind: RiskOf
    id: str
    name: str
    upn: str
    is_enabled: bool
    level: RiskLevel
    state: RiskState
    detail: str
    because: str
    updated_at: datetime | None


class RiskDetectionView(BaseModel):
    """One thing that was seen. ``detection`` is Microsoft's name where there is one; ``source``: who saw it."""

    id: str
    detection: str
    title: str
    level: RiskLevel
    state: RiskState
    source: str
    detail: str
    alert_id: str | None
    first_at: datetime
    last_at: datetime
    noted_at: datetime


class RiskChangeView(BaseModel):
    """A change of level or state."""

    at: datetime
    actor: str
    activity: str
    level: RiskLevel
    state: RiskState
    detail: str
    because: str


class DismissBody(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(max_length=2000)


class RiskDetailView(BaseModel):
    """A risk with everything behind it, newest first."""

    kind: RiskOf
    id: str
    name: str
    risk: RiskView
    detections: list[RiskDetectionView]
    history: list[RiskChangeView]


def _subject_view(subject: RiskySubject) -> RiskySubjectView:
    now: Risk = subject.risk
    return RiskySubjectView(
        kind="user" if subject.kind == risks.USER else "agent",
        id=subject.id,
        name=subject.name,
        upn=subject.upn,
        is_enabled=subject.is_enabled,
        level=now.level,
        state=now.state,
        detail=now.detail,
        because=now.because,
        updated_at=now.updated_at,
    )


@router.get("", summary="Users and agents about whom something was seen")
def list_risks(
    viewer: Reader,
    deps: Deps,
    kind: Annotated[RiskOf | None, Query()] = None,
    state: Annotated[RiskState | None, Query(description="Only those in this state.")] = None,
    before: Annotated[str, Query(max_length=250, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Page[RiskySubjectView]:
    """Users, then agents, each by id; settled ones, too."""
    condition = odata.Compare("riskState", "eq", state.value) if state else None
    kinds: list[str] = [kind] if kind else list(risks.KINDS)
    seen_kind, _, seen_id = before.partition("/")
    found: list[RiskySubject] = []
    with deps.control.read() as tx:
        for each in kinds:
            if seen_kind in kinds and kinds.index(each) < kinds.index(seen_kind):
                continue
            asked = RiskQuery(condition, limit=limit - len(found), before=seen_id if each == seen_kind else "")
            found += risk_lists.list_subjects(tx, each, asked)
            if len(found) >= limit:
                break
    following = f"{found[-1].kind}/{found[-1].id}" if len(found) >= limit else None
    return Page(items=[_subject_view(each) for each in found], next=following)


@router.get("/{kind}/{subject_id}", summary="One risk, what was seen, and how it came to that")
def read_risk(kind: RiskOf, subject_id: str, viewer: Reader, deps: Deps) -> RiskDetailView:
    """Of a user or an agent about whom nothing was seen, too."""
    with deps.control.read() as tx:
        subject = risk_lists.find_subject(tx, kind, subject_id)
        if subject is None:
            raise NotFound(f"there is no {kind} {subject_id!r}.", where=kind)
        return RiskDetailView(
            kind=kind,
            id=subject.id,
            name=subject.name,
            risk=risk_view(risks.find(tx, kind, subject_id)),
            detections=[_detection_view(each) for each in risks.detections(tx, kind, subject_id)],
            history=[_change_view(each) for each in risks.history(tx, kind, subject_id)],
        )


@router.post("/user/{user_id}/dismiss", status_code=204, summary="Say that nothing seen about a user counts")
def dismiss_user_risk(
    user_id: str, body: DismissBody, viewer: Annotated[Viewer, permit(Permission.USER_DISMISS_RISK)], deps: Deps
) -> None:
    """Not of your own account. What is seen from now on counts again."""
    decide(deps.control, deps.epoch, viewer.id, risks.USER, RiskVerdict.DISMISSED, [user_id], body.reason)


@router.post("/agent/{agent_id}/dismiss", status_code=204, summary="Say that nothing seen about an agent counts")
def dismiss_agent_risk(
    agent_id: str, body: DismissBody, viewer: Annotated[Viewer, permit(Permission.AGENT_BLOCK)], deps: Deps
) -> None:
    """Not of an agent that you built. What is seen from now on counts again."""
    decide(deps.control, deps.epoch, viewer.id, risks.AGENT, RiskVerdict.DISMISSED, [agent_id], body.reason)


def _detection_view(detection: RiskDetection) -> RiskDetectionView:
    return RiskDetectionView.model_validate(detection, from_attributes=True)


def _change_view(change: RiskChange) -> RiskChangeView:
    return RiskChangeView.model_validate(change, from_attributes=True)
