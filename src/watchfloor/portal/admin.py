"""The registry for people: agents, tool servers, manifests, and the audit log.

Above ``registry`` and ``response``. Alert counts here obey the viewer's permissions like everywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.agents import AgentState, ToolEffect
from watchfloor.model.errors import Denied
from watchfloor.model.people import Permission
from watchfloor.model.posture import RiskBand
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.users import ActionBody
from watchfloor.portal.views import (
    ActionView,
    AgentDetailView,
    AgentView,
    AuditView,
    Page,
    PerformedView,
    ServerView,
    action_view,
    agent_detail_view,
    agent_view,
    audit_view,
    page,
    performed_view,
    risk_view,
    server_view,
)
from watchfloor.registry import inventory as registry
from watchfloor.registry import manifest, pinning
from watchfloor.response.catalog import ACTIONS, Order
from watchfloor.response.runner import Operator, perform
from watchfloor.storage import actions, cases, posture, risks
from watchfloor.storage.cases import AgentAlerts, CaseFilter
from watchfloor.storage.control import ControlTx

router = APIRouter(prefix="/api", tags=["registry"])

_NEEDS_MORE: Final = {
    "policy": Permission.POLICY_WRITE,
    "known-names": Permission.POLICY_WRITE,
    "provider": Permission.OPERATOR_WRITE,
}
"""Kinds of things in a manifest that registry.write alone does not cover: what is stopped, and whom we believe."""

_SIGN_IN: Final = frozenset({"issuer", "subject"})
"""Fields of a known user that decide whose sign-in is theirs: changing them hands their rights to somebody else."""


class ManifestBody(BaseModel):
    """A manifest. ``expected`` is the digest of the plan that was agreed to."""

    model_config = ConfigDict(extra="forbid")

    manifest: str = Field(max_length=4_000_000)
    expected: str | None = Field(default=None, max_length=100)


class ApproveToolBody(BaseModel):
    """``observed``: the hash of the definition that was looked at. ``effect`` corrects what was worked out."""

    model_config = ConfigDict(extra="forbid")

    observed: str = Field(default="", max_length=64)
    effect: ToolEffect | None = None
    reason: str = Field(default="", max_length=2000)


class UnblockBody(ActionBody):
    """``version``: the number of the version that the agent is to be."""

    version: int | None = Field(default=None, ge=1, le=2**31 - 1)


def counts_by_agent(tx: ControlTx, viewer: Viewer) -> dict[str, AgentAlerts]:
    """Unresolved serious alerts by agent, as far as the viewer may see them."""
    return {a.agent_id: a for a in cases.serious_alerts_by_agent(tx, viewer.permissions)}


def agent_detail(tx: ControlTx, viewer: Viewer, agent_id: str) -> AgentDetailView:
    """One agent with all that the viewer may see. Raises ``NotFound``."""
    detail = registry.get_agent(tx, agent_id)
    counts = counts_by_agent(tx, viewer).get(agent_id, AgentAlerts(agent_id, 0, 0))
    alerts = cases.list_alerts(tx, viewer.permissions, CaseFilter(agent_id=agent_id), 50)
    records = actions.list_records(tx, subject=f"agent/{agent_id}", limit=20)
    everything = cases.sees_everything(viewer.permissions)
    now = risk_view(risks.find(tx, risks.AGENT, agent_id), with_reasons=everything)
    band = posture.bands(tx, agent_id).get(agent_id, RiskBand.NOT_EVALUATED)
    return agent_detail_view(detail, counts.high, counts.critical, band, alerts, records, now)


@router.get("/actions", summary="Every action, and whether you may take it")
def list_actions(viewer: Annotated[Viewer, permit(Permission.PORTAL_USE)]) -> Page[ActionView]:
    """What each does and what undoes it."""
    return Page(items=[action_view(a, a.permission in viewer.permissions) for a in ACTIONS.values()])


@router.get("/agents", summary="Agents")
def list_agents(
    viewer: Annotated[Viewer, permit(Permission.AGENT_READ)],
    deps: Deps,
    state: AgentState | None = None,
    posture_risk: Annotated[RiskBand | None, Query(alias="posture")] = None,
) -> Page[AgentView]:
    """All of them by id, each with its unresolved high and critical alerts counted, and its risk (docs/posture.md)."""
    with deps.control.read() as tx:
        counts = counts_by_agent(tx, viewer)
        found = registry.list_agents(tx, state=state)
        bands = posture.bands(tx)
    none = AgentAlerts("", 0, 0)
    judged = [(agent, bands.get(agent.id, RiskBand.NOT_EVALUATED)) for agent in found]
    views = [
        agent_view(a, counts.get(a.id, none).high, counts.get(a.id, none).critical, band)
        for a, band in judged
        if posture_risk in (None, band)
    ]
    return Page(items=views)


@router.get("/agents/{agent_id}", summary="One agent: builds, tools, alerts, what was done")
def read_agent(agent_id: str, viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> AgentDetailView:
    """Alerts as far as the viewer may see them."""
    with deps.control.read() as tx:
        return agent_detail(tx, viewer, agent_id)


def _perform(
    deps: PortalDeps,
    viewer: Viewer,
    action: str,
    subject: str,
    body: ActionBody,
    parameters: Mapping[str, str] | None = None,
) -> PerformedView:
    order = Order(subject, body.reason, body.incident_id, parameters or {})
    operator = Operator(viewer.id, viewer.permissions)
    return performed_view(perform(deps.control, deps.epoch, deps.now, operator, action, order))


@router.post("/agents/{agent_id}/block", summary="Stop an agent")
def block_agent(
    agent_id: str, body: ActionBody, viewer: Annotated[Viewer, permit(Permission.AGENT_BLOCK)], deps: Deps
) -> PerformedView:
    """When this answers, no tool call of the agent that starts later is allowed on this host."""
    done = _perform(deps, viewer, "block_agent", agent_id, body)
    deps.nudge("prove_blocks")
    return done


@router.post("/agents/{agent_id}/unblock", summary="Let a blocked agent work again")
def unblock_agent(
    agent_id: str, body: UnblockBody, viewer: Annotated[Viewer, permit(Permission.AGENT_BLOCK)], deps: Deps
) -> PerformedView:
    """Not by whoever built it. It is the version that was approved since, or the one that was live."""
    parameters = {"version": str(body.version)} if body.version is not None else {}
    return _perform(deps, viewer, "unblock_agent", agent_id, body, parameters)


@router.get("/servers", summary="Tool servers with their tools")
def list_servers(viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> Page[ServerView]:
    """All of them, by id."""
    with deps.control.read() as tx:
        return Page(items=[server_view(s) for s in registry.list_servers(tx)])


@router.get("/servers/{server_id}", summary="One tool server with its tools")
def read_server(server_id: str, viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> ServerView:
    """Tools with their approved and their last observed definition."""
    with deps.control.read() as tx:
        return server_view(registry.get_server(tx, server_id))


@router.post("/servers/{server_id}/refresh-tools", summary="Ask a tool server what it lists now")
async def refresh_tools(
    server_id: str, viewer: Annotated[Viewer, permit(Permission.REGISTRY_WRITE)], deps: Deps
) -> dict[str, Any]:
    """What is new, what changed since it was approved, what is gone. A changed tool is refused until it is approved."""
    report = await pinning.refresh_tools(deps.control, deps.vault, server_id, actor=viewer.id)
    deps.nudge("watch_tools")
    return report.to_json()


@router.post("/servers/{server_id}/tools/{name:path}/approve", summary="Approve a tool as it was listed last")
def approve_tool(
    server_id: str,
    name: str,
    body: ApproveToolBody,
    viewer: Annotated[Viewer, permit(Permission.REGISTRY_WRITE)],
    deps: Deps,
) -> PerformedView:
    """With ``observed``, only if that still is the hash of the definition listed last."""
    parameters = {"observed": body.observed, "effect": body.effect.value if body.effect else ""}
    order = Order(f"{server_id}/{name}", body.reason, parameters=parameters)
    operator = Operator(viewer.id, viewer.permissions)
    return performed_view(perform(deps.control, deps.epoch, deps.now, operator, "approve_tool", order))


@router.get("/audit", summary="The audit log, newest first")
def list_audit(
    viewer: Annotated[Viewer, permit(Permission.AUDIT_READ)],
    deps: Deps,
    actor: Annotated[str, Query(max_length=300)] = "",
    action: Annotated[str, Query(max_length=300)] = "",
    subject: Annotated[str, Query(max_length=700)] = "",
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[AuditView]:
    """``before`` takes ``next``. Verify the chain with ``watchfloor audit verify``."""
    with deps.control.read() as tx:
        found = actions.list_audit(tx, actor=actor, action=action, subject=subject, before=before, limit=limit)
    return page([audit_view(e) for e in found], limit, "seq")


def _check_reach(viewer: Viewer, planned: manifest.Plan) -> None:
    for change in planned.changes:
        permission = _NEEDS_MORE.get(change.kind)
        what = f"a {change.kind}"
        if change.kind == "user" and change.action == "update" and _SIGN_IN & {f.name for f in change.fields}:
            permission, what = Permission.OPERATOR_WRITE, f"who signs in as {change.id}"
        if permission is not None and permission not in viewer.permissions:
            raise Denied(f"This manifest changes {what}, which needs the permission {permission.value}.")


@router.post("/manifests/plan", summary="What applying a manifest would change")
def plan_manifest(
    body: ManifestBody, viewer: Annotated[Viewer, permit(Permission.REGISTRY_WRITE)], deps: Deps
) -> dict[str, Any]:
    """Every change with its fields; secrets show as fingerprints. Nothing is stored."""
    with deps.control.read(viewer.id) as tx:
        return manifest.plan(tx, body.manifest, deps.vault).to_json()


@router.post("/manifests/apply", summary="Make the company what the manifest says")
def apply_manifest(
    body: ManifestBody, viewer: Annotated[Viewer, permit(Permission.REGISTRY_WRITE)], deps: Deps
) -> dict[str, Any]:
    """All of it or nothing. With ``expected``, only if the changes are those of the plan with that digest."""
    with deps.control.tx(viewer.id) as tx:
        applied = manifest.apply(tx, body.manifest, deps.vault, expected=body.expected)
        _check_reach(viewer, applied.plan)
    deps.nudge("refresh_tool_lists")
    return applied.to_json()
