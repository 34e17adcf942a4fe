"""Conditional access: read, check, publish, import and export its policies, and ask what they would do.

Above ``identity.access``, which lets nothing unchecked count. The same policies in Graph's own routes are in
``graph_access``, the pages in ``access_pages``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.guard.access import graph
from watchfloor.guard.access.evaluate import Attempt, evaluate, why_not
from watchfloor.guard.access.policy import AccessPolicy, check, read
from watchfloor.identity import access as conditional_access
from watchfloor.identity import access_trial
from watchfloor.model.access import AccessState, Control
from watchfloor.model.agents import TokenMode, ToolEffect
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.people import Permission, RiskLevel
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.hunting import RunView, run_view, scope_of
from watchfloor.portal.policies import CheckView, ProblemView
from watchfloor.portal.views import Page
from watchfloor.storage import access, inventory, people
from watchfloor.storage.access import AccessPolicyVersion
from watchfloor.storage.control import ControlTx
from watchfloor.storage.past_calls import MOST_DAYS
from watchfloor.storage.ports import Limits
from watchfloor.storage.profiles import agent_profile

router = APIRouter(prefix="/api/access", tags=["conditional access"])

_SECONDS: Final = 3600.0
Reader = Annotated[Viewer, permit(Permission.ACCESS_READ)]
Writer = Annotated[Viewer, permit(Permission.ACCESS_WRITE)]
PolicyBody = Annotated[dict[str, Any], Body(description="The policy (docs/conditional-access.md).")]
Confirm = Annotated[bool, Query(description="Publish a policy that would lock people out all the same.")]


class AccessPolicyView(BaseModel):
    """A version of an access policy."""

    id: str
    version: int
    display_name: str
    state: AccessState
    body: dict[str, Any]
    is_current: bool
    published_at: datetime
    published_by: str


class PublishedView(AccessPolicyView):
    """A policy as published; ``warnings`` say what may not be as meant."""

    warnings: list[str] = []


class AccessPolicyDetailView(AccessPolicyView):
    """A policy with its other versions."""

    versions: list[AccessPolicyView]


class ImportBody(BaseModel):
    """Policies as Graph writes them. ``dry_run``: only say what would come of it."""

    model_config = ConfigDict(extra="forbid")

    policies: list[dict[str, Any]] = Field(min_length=1, max_length=500)
    dry_run: bool = False
    confirm: bool = False


class ImportedView(BaseModel):
    """What came of one policy. ``unenforced``: what it says and nobody here can check, by place; then it only reports,
    however it came."""

    id: str
    display_name: str
    state: AccessState | None
    imported: bool
    unenforced: dict[str, Any]
    warnings: list[str] = []
    problems: list[ProblemView] = []


class TrialBody(BaseModel):
    """Policies to try as if they were enabled (without any: those that are there), and how far back."""

    model_config = ConfigDict(extra="forbid")

    policies: list[dict[str, Any]] = Field(default=[], max_length=500)
    days: int = Field(default=30, ge=1, le=MOST_DAYS)


class SignInBody(BaseModel):
    """Somebody who uses an agent. What is not given is as it is now; ``policies`` stand in place of those of the same
    id or beside them, as if they were enabled."""

    model_config = ConfigDict(extra="forbid")

    user: str | None = Field(default=None, max_length=300)
    agent: str = Field(max_length=300)
    server: str = Field(default="", max_length=300)
    tool: str = Field(default="", max_length=300)
    mode: TokenMode | None = None
    methods: list[str] = Field(default=["pwd"], max_length=20, description="amr of the sign-in.")
    signed_in_minutes_ago: float = Field(default=0, ge=0, le=525_600)
    user_risk: RiskLevel | None = None
    agent_risk: RiskLevel | None = None
    sign_in_risk: RiskLevel = RiskLevel.NONE
    policies: list[dict[str, Any]] = Field(default=[], max_length=100)


class AppliedView(BaseModel):
    """What one policy says. ``applies``: whether all of its conditions fit; if not, ``because`` names the first that
    does not."""

    id: str
    display_name: str
    state: AccessState
    applies: bool
    control: Control
    because: list[str]


class SignInView(BaseModel):
    """What would be demanded: the strictest of the enabled policies. ``reason_code``: what a refused caller is told."""

    control: Control
    reason_code: str
    max_age: int | None
    policies: list[AppliedView]


def policy_view(policy: AccessPolicyVersion) -> AccessPolicyView:
    """A version as the API shows it."""
    return AccessPolicyView(
        id=policy.id,
        version=policy.version,
        display_name=policy.name,
        state=policy.state,
        body=dict(policy.body),
        is_current=policy.is_current,
        published_at=policy.published_at,
        published_by=policy.published_by,
    )


def _published(done: conditional_access.Published) -> PublishedView:
    return PublishedView(**policy_view(done.policy).model_dump(), warnings=list(done.warnings))


# -- policies -----------------------------------------------------------------------------------------------------


@router.get("/policies", summary="Policies of conditional access")
def list_access_policies(viewer: Reader, deps: Deps) -> Page[AccessPolicyView]:
    """All of them, disabled ones too, by id."""
    with deps.control.read() as tx:
        return Page(items=[policy_view(p) for p in access.current_policies(tx)])


@router.post("/policies/check", summary="Check an access policy without publishing it")
def check_access_policy(body: PolicyBody, viewer: Reader) -> CheckView:
    """Every problem at once. Nothing is stored."""
    problems = [ProblemView(where=p.where, message=p.message, remedy=p.remedy) for p in check(body)]
    return CheckView(ok=not problems, problems=problems)


@router.get("/policies/{policy_id}", summary="One access policy with its versions")
def read_access_policy(policy_id: str, viewer: Reader, deps: Deps) -> AccessPolicyDetailView:
    """The version that counts; of a withdrawn policy the last."""
    with deps.control.read() as tx:
        versions = access.list_versions(tx, policy_id)
    if not versions:
        raise NotFound(f"there is no access policy {policy_id!r}.", where="policy")
    found = next((v for v in versions if v.is_current), versions[0])
    return AccessPolicyDetailView(**policy_view(found).model_dump(), versions=[policy_view(v) for v in versions])


@router.put("/policies/{policy_id}", summary="Publish an access policy")
def publish_access_policy(
    policy_id: str, body: PolicyBody, viewer: Writer, deps: Deps, confirm: Confirm = False
) -> PublishedView:
    """Checked, given the next version, and asked about every call that starts after the answer."""
    if body.get("id", policy_id) != policy_id:
        raise InputError(f"the policy says it is {body['id']!r}.", where="id", remedy=f"Write {policy_id!r}.")
    with deps.control.tx(viewer.id) as tx:
        done = conditional_access.publish(tx, {**body, "id": policy_id}, confirm=confirm)
    deps.nudge("require_password_changes")
    return _published(done)


@router.delete("/policies/{policy_id}", status_code=204, summary="Take an access policy away")
def withdraw_access_policy(policy_id: str, viewer: Writer, deps: Deps) -> None:
    """Its versions stay."""
    with deps.control.tx(viewer.id) as tx:
        access.withdraw_policy(tx, policy_id)


# -- from Entra and back ------------------------------------------------------------------------------------------


@router.post("/import", summary="Import policies of Entra's conditional access")
def import_access_policies(body: ImportBody, viewer: Writer, deps: Deps) -> Page[ImportedView]:
    """Each as far as it can be enforced here; what cannot is told and kept, and keeps its policy from being enabled."""
    with deps.control.tx(viewer.id, audited=not body.dry_run) as tx:
        to_user, to_agent, _, _ = conditional_access.directory_names(tx)
        found = [(graph.from_graph(each, user_id=to_user, agent_id=to_agent)) for each in body.policies]
        return Page(items=[_import(tx, each, body) for each in found])


def _import(tx: ControlTx, found: dict[str, Any], body: ImportBody) -> ImportedView:
    unenforced = found.get("unenforced") or {}
    warnings = []
    if unenforced and found.get("state") == AccessState.ENABLED:
        found["state"] = AccessState.REPORT_ONLY.value
        warnings.append("It was enabled; here it only reports, for it says what nobody here can check.")
    view = ImportedView(
        id=str(found["id"]),
        display_name=str(found.get("displayName", "")),
        state=None,
        imported=False,
        unenforced=unenforced,
        warnings=warnings,
    )
    problems = check(found)
    view.problems = [ProblemView(where=p.where, message=p.message, remedy=p.remedy) for p in problems]
    if problems:
        return view
    view.state = AccessState(found["state"])
    if body.dry_run:
        policy = read(view.id, 0, found)
        danger = conditional_access.find_lock_out(tx, policy)
        view.warnings += [danger] if danger is not None else []
        view.warnings += conditional_access.unknown_names(tx, policy)
        return view
    view.warnings += conditional_access.publish(tx, found, confirm=body.confirm).warnings
    view.imported = True
    return view


@router.get("/export", summary="Access policies as Entra's conditional access has them")
def export_access_policies(viewer: Reader, deps: Deps) -> dict[str, Any]:
    """Graph's list. What Graph has no member for stands in annotations (``@watchfloor.…``)."""
    with deps.control.read() as tx:
        _, _, from_user, from_agent = conditional_access.directory_names(tx)
        return {
            "value": [
                graph.to_graph(p.body, modified=p.published_at, user_id=from_user, agent_id=from_agent)
                for p in access.current_policies(tx)
            ]
        }


# -- what if ------------------------------------------------------------------------------------------------------


@router.post("/what-if", status_code=202, summary="Whom access policies would have hit in the past days")
def try_access_policies(body: TrialBody, viewer: Reader, deps: Deps) -> RunView:
    """Begins a run; watch, cancel and page through it at ``/api/hunting/runs``. Its rows are the calls that would have
    been refused, one for each policy; its notes say of how many users and agents."""
    with deps.control.read() as tx:
        policies, known = access_trial.candidates(tx, body.policies), access_trial.profiles(tx)
    trial = access_trial.AccessTrial(
        text=f"access policies over {body.days} days",
        scope=scope_of(deps, viewer),
        limits=Limits(timeout_seconds=_SECONDS),
        door="backtest",
        activity=deps.activity,
        policies=policies,
        profiles=known,
        days=body.days,
        end=deps.now(),
    )
    return run_view(deps.hunts.start(trial, viewer.id))


@router.post("/evaluate", summary="What access policies would say to one sign-in")
def evaluate_sign_in(body: SignInBody, viewer: Reader, deps: Deps) -> SignInView:
    """Every policy with whether it applies and why. Nothing is stored."""
    with deps.control.read() as tx:
        attempt = _attempt(tx, body)
        tried = {p.id: p for p in access_trial.candidates(tx, body.policies)} if body.policies else {}
        there = {p.id: read(p.id, p.version, p.body) for p in access.current_policies(tx)}
    policies: dict[str, AccessPolicy] = {**there, **tried}
    age = timedelta(minutes=body.signed_in_minutes_ago).total_seconds()
    answer = evaluate(policies.values(), attempt, tuple(body.methods), age)
    views = [
        AppliedView(id=p.id, display_name=p.name, state=p.state, applies=True, control=p.control,
                    because=list(p.because))
        for p in answer.policies
    ]  # fmt: skip
    for policy in policies.values():
        if (reason := why_not(policy, attempt)) is not None:
            views.append(
                AppliedView(id=policy.id, display_name=policy.name, state=policy.state, applies=False,
                            control=Control.GRANT, because=[reason])
            )  # fmt: skip
    return SignInView(
        control=answer.control, reason_code=answer.control.refusal_code, max_age=answer.max_age, policies=views
    )


def _attempt(tx: ControlTx, body: SignInBody) -> Attempt:
    to_user, to_agent, _, _ = conditional_access.directory_names(tx)
    user = people.find_user(tx, to_user(body.user)) if body.user else None
    if body.user and user is None:
        raise NotFound(f"there is no user {body.user!r}.", where="user")
    agent = inventory.find_agent(tx, to_agent(body.agent))
    if agent is None:
        raise NotFound(f"there is no agent {body.agent!r}.", where="agent")
    tool = inventory.find_tool(tx, body.server, body.tool) if body.tool else None
    facts, known = people.user_facts(user) if user is not None else None, inventory.agent_facts(agent)
    if facts is not None and body.user_risk is not None:
        facts = replace(facts, risk=body.user_risk)
    if body.agent_risk is not None:
        known = replace(known, risk=body.agent_risk)
    effect = None if not body.tool else tool.effect if tool is not None else ToolEffect.UNKNOWN
    mode = body.mode or (TokenMode.OBO if user is not None else TokenMode.AGENT)
    return Attempt(facts, agent.id, known, mode, body.server, effect, body.sign_in_risk, agent_profile(agent))
