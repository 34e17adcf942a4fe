"""Shapes of answers: what the API shows of each thing.

Pydantic models, each with the one function that makes it. Nothing secret has a field here: no hash, no sealed value, no
token. Above the model and the repositories; routers return these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from watchfloor.guard.definitions import inspect
from watchfloor.model.agents import AgentState, CredentialOwner, PinState, Scope, ServerState, ToolEffect, VersionState
from watchfloor.model.cases import Alert
from watchfloor.model.people import RiskLevel
from watchfloor.model.posture import RiskBand
from watchfloor.model.risk import Risk, RiskState
from watchfloor.model.verdicts import Severity
from watchfloor.portal.case_views import AlertView, IncidentView, RecordView, alert_view, record_view
from watchfloor.registry.inventory import AgentDetail, ServerDetail
from watchfloor.registry.lifecycle import verbs
from watchfloor.response.catalog import Action
from watchfloor.response.runner import Performed
from watchfloor.storage.actions import ActionRecord, AuditEntry
from watchfloor.storage.holds import Hold, HoldStatus
from watchfloor.storage.inventory import Agent, Binding, Tool
from watchfloor.storage.people import User
from watchfloor.storage.policies import PolicyVersion

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """Some of many. ``next`` goes into the parameter that the route names, to get what follows; null: that was all."""

    items: list[T]
    next: str | None = None


def page(items: Sequence[T], limit: int, key: str) -> Page[T]:
    """A page whose last item's ``key`` leads on, if it is full."""
    last = str(getattr(items[-1], key)) if items and len(items) >= limit else None
    return Page[T](items=list(items), next=last)


# -- response -----------------------------------------------------------------------------------------------------


class PerformedView(BaseModel):
    """What was done, and when it held: no call that starts after ``acknowledged_at`` on this host escapes it."""

    record: str
    action: str
    subject: str
    revision: int | None
    epoch: int | None
    committed_at: datetime
    acknowledged_at: datetime
    proof: dict[str, Any]
    undo: str | None
    no_undo: str


def performed_view(done: Performed) -> PerformedView:
    """An action as acknowledged."""
    return PerformedView(
        record=done.record_id,
        action=done.action,
        subject=done.subject,
        revision=done.revision,
        epoch=done.epoch,
        committed_at=done.committed_at,
        acknowledged_at=done.acknowledged_at,
        proof=dict(done.proof),
        undo=done.undo,
        no_undo=done.no_undo,
    )


class OptionView(BaseModel):
    """Something that may be asked for along with an action."""

    name: str
    label: str


class ActionView(BaseModel):
    """An action that an operator can take; ``may`` says whether this one may."""

    id: str
    title: str
    subject: str
    permission: str
    says: str
    undo: str | None
    no_undo: str
    needs_reason: bool
    precondition: str
    read_back: str
    options: list[OptionView]
    may: bool


def action_view(action: Action, may: bool) -> ActionView:
    """An action as shown."""
    return ActionView(
        id=action.id,
        title=action.title,
        subject=action.subject,
        permission=action.permission.value,
        says=action.says,
        undo=action.undo,
        no_undo=action.no_undo,
        needs_reason=action.needs_reason,
        precondition=action.precondition,
        read_back=action.read_back,
        options=[OptionView(name=option.name, label=option.label) for option in action.options],
        may=may,
    )


class ApprovalView(BaseModel):
    """One approval of a hold."""

    by: str
    at: datetime
    reason: str = ""
    instead_of: str | None = None


class HoldView(BaseModel):
    """A call that waits, or waited, for an operator. ``approvers``: of each group whoever approves must be one."""

    id: str
    invocation_id: str
    payload_hash: str
    agent_id: str
    user_id: str | None
    server_id: str
    tool: str
    reason: str
    policies: list[str]
    status: HoldStatus
    created_at: datetime
    expires_at: datetime
    approvers: list[list[str]]
    approvals_needed: int
    approvals: list[ApprovalView]
    decided_by: str | None
    decided_at: datetime | None
    answer: str
    used_by: str | None


def hold_view(hold: Hold, *, with_reason: bool = True) -> HoldView:
    """A hold as shown; its reason quotes values of the call."""
    return HoldView.model_validate(hold if with_reason else replace(hold, reason=""), from_attributes=True)


class DelegationView(BaseModel):
    """Who answers holds in whose place, from when until when."""

    id: str
    from_operator: str
    to_operator: str | None
    to_role: str | None
    reason: str
    starts_at: datetime
    ends_at: datetime
    created_at: datetime


class AuditView(BaseModel):
    """An entry of the audit log."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    hash: str


def audit_view(entry: AuditEntry) -> AuditView:
    """An audit entry as shown."""
    return AuditView.model_validate(entry, from_attributes=True)


# -- registry and people ------------------------------------------------------------------------------------------


class AgentView(BaseModel):
    """An agent in a list. The counts are of unresolved alerts; ``posture`` is its risk by what it is, not by what it
    did."""

    id: str
    name: str
    description: str
    state: AgentState
    version: str
    platform: str
    model: str
    risk: RiskLevel
    posture: RiskBand
    maker_id: str | None
    owner_id: str | None
    sponsor_id: str | None
    high_alerts: int
    critical_alerts: int
    created_at: datetime
    updated_at: datetime
    updated_by: str


class BindingView(BaseModel):
    """An agent may use a tool."""

    agent_id: str
    server_id: str
    tool: str
    credential_owner: CredentialOwner
    scope: Scope


class AgentVersionView(BaseModel):
    """A version of an agent, with what was decided of it. ``version`` is its maker's name for the build."""

    number: int
    version: str
    manifest_hash: str
    state: VersionState
    created_at: datetime
    created_by: str
    decided_at: datetime | None
    decided_by: str | None
    reason: str
    conditions: str
    audience: list[str] | None


class AgentDetailView(AgentView):
    """An agent with its versions, what it may use and what it declares of itself."""

    epoch: int
    verbs: list[str]
    versions: list[AgentVersionView]
    bindings: list[BindingView]
    manifest: dict[str, Any]
    risk_details: RiskView
    alerts: list[AlertView]
    records: list[RecordView]


def _agent_fields(agent: Agent, high: int, critical: int, posture: RiskBand) -> dict[str, Any]:
    names = (
        "id", "name", "description", "state", "version", "platform", "model", "risk", "maker_id", "owner_id",
        "sponsor_id", "created_at", "updated_at", "updated_by",
    )  # fmt: skip
    counts = {"high_alerts": high, "critical_alerts": critical}
    return {n: getattr(agent, n) for n in names} | counts | {"posture": posture}


def agent_view(agent: Agent, high: int, critical: int, posture: RiskBand) -> AgentView:
    """An agent as shown in a list."""
    return AgentView(**_agent_fields(agent, high, critical, posture))


def binding_view(binding: Binding) -> BindingView:
    """A binding as shown; its credential stays in the vault."""
    return BindingView.model_validate(binding, from_attributes=True)


def agent_detail_view(
    detail: AgentDetail,
    high: int,
    critical: int,
    posture: RiskBand,
    alerts: Sequence[Alert],
    records: Sequence[ActionRecord],
    risk_details: RiskView,
) -> AgentDetailView:
    """An agent with everything around it that the viewer may see."""
    return AgentDetailView(
        **_agent_fields(detail.agent, high, critical, posture),
        epoch=detail.agent.epoch,
        risk_details=risk_details,
        verbs=[v.value for v in verbs(detail.agent.state)],
        versions=[AgentVersionView.model_validate(v, from_attributes=True) for v in detail.versions],
        bindings=[binding_view(b) for b in detail.bindings],
        manifest=dict(detail.agent.manifest),
        alerts=[alert_view(a) for a in alerts],
        records=[record_view(r) for r in records],
    )


class FindingView(BaseModel):
    """A passage of a tool's definition that tells the model what to do."""

    path: str
    severity: Severity
    span: tuple[int, int]
    excerpt: str


class ToolView(BaseModel):
    """A tool. ``approved`` and ``observed`` are its definitions, where they are known."""

    server_id: str
    name: str
    description: str
    effect: ToolEffect
    pin_state: PinState
    pin: str
    observed_hash: str
    is_blocked: bool
    allow_when_stale: bool
    approved: dict[str, Any] | None
    observed: dict[str, Any] | None
    findings: list[FindingView] = Field(description="What does not belong into the definition listed last.")
    updated_at: datetime


def tool_view(tool: Tool) -> ToolView:
    """A tool as shown."""
    definitions: Mapping[str, Any] = tool.definition
    return ToolView(
        server_id=tool.server_id,
        name=tool.name,
        description=tool.description,
        effect=tool.effect,
        pin_state=tool.pin_state,
        pin=tool.pin,
        observed_hash=tool.observed_hash,
        is_blocked=tool.is_blocked,
        allow_when_stale=tool.allow_when_stale,
        approved=definitions.get("approved"),
        observed=definitions.get("observed"),
        findings=[
            FindingView(path=s.path, severity=s.severity, span=s.span, excerpt=s.excerpt)
            for s in inspect(definitions.get("observed") or {})
        ],
        updated_at=tool.updated_at,
    )


class ServerView(BaseModel):
    """A tool server with its tools and the agents that are bound to it."""

    id: str
    name: str
    description: str
    url: str
    state: ServerState
    is_trusted: bool
    has_credential: bool
    timeout_seconds: float
    tools_listed_at: datetime | None
    tools_list_error: str | None
    tools: list[ToolView]
    bindings: list[BindingView]


def server_view(detail: ServerDetail) -> ServerView:
    """A tool server as shown."""
    server = detail.server
    return ServerView(
        id=server.id,
        name=server.name,
        description=server.description,
        url=server.url,
        state=server.state,
        is_trusted=server.is_trusted,
        has_credential=server.credential_id is not None,
        timeout_seconds=server.timeout_seconds,
        tools_listed_at=server.tools_listed_at,
        tools_list_error=server.tools_list_error,
        tools=[tool_view(t) for t in detail.tools],
        bindings=[binding_view(b) for b in detail.bindings],
    )


class RiskView(BaseModel):
    """How risky a user or an agent is. ``reasons`` are sentences, gravest first, for who may read every alert;
    ``changes_at``: when it fades next if nothing else happens."""

    level: RiskLevel
    state: RiskState
    detail: str
    because: str
    reasons: list[str]
    updated_at: datetime | None
    changes_at: datetime | None


def risk_view(risk: Risk, *, with_reasons: bool = True) -> RiskView:
    """A risk as shown; without reasons to whoever may not read what they tell of."""
    shown = risk if with_reasons else replace(risk, reasons=(), because="")
    return RiskView.model_validate(shown, from_attributes=True)


class UserView(BaseModel):
    """A user of agents."""

    id: str
    name: str
    upn: str
    issuer: str
    subject: str
    is_enabled: bool
    risk: RiskLevel
    must_reset_password: bool
    not_before: datetime | None
    epoch: int
    groups: list[str]
    department: str
    job_title: str
    manager: str
    criticality: int | None
    is_break_glass: bool


def user_view(user: User) -> UserView:
    """A user as shown."""
    return UserView.model_validate(user, from_attributes=True)


class UserDetailView(UserView):
    """A user with what the viewer may see of their alerts, incidents and risk."""

    risk_details: RiskView
    alerts: list[AlertView]
    incidents: list[IncidentView]
    records: list[RecordView]


class PolicyView(BaseModel):
    """A version of a policy; ``body`` is as its file says it."""

    id: str
    version: int
    is_current: bool
    published_at: datetime
    published_by: str
    body: dict[str, Any]


def policy_view(policy: PolicyVersion) -> PolicyView:
    """A policy as shown."""
    return PolicyView.model_validate(policy, from_attributes=True)


AgentDetailView.model_rebuild()
