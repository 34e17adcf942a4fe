"""Policies: read, check and publish.

Above ``registry.policies``, which lets nothing unchecked into force. Every version ever published stays, so that a
recorded decision can be replayed.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.guard.policy import check_policy
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.hunting import RunView, run_view, scope_of
from watchfloor.portal.views import Page, PolicyView, policy_view
from watchfloor.registry import policies as registry_policies
from watchfloor.registry.policy_trial import PolicyTrial, candidate_set
from watchfloor.storage import policies
from watchfloor.storage.past_calls import MOST_DAYS
from watchfloor.storage.ports import Limits

router = APIRouter(prefix="/api/policies", tags=["policies"])

_SECONDS: Final = 3600.0
PolicyBody = Annotated[dict[str, Any], Body(description="The policy, as its YAML file would say it.")]


class ProblemView(BaseModel):
    """What is wrong with a policy, and how to mend it."""

    where: str
    message: str
    remedy: str


class CheckView(BaseModel):
    """Whether a policy can be published, and everything that keeps it from that."""

    ok: bool
    problems: list[ProblemView]


class BacktestBody(BaseModel):
    """Policies to try beside those in force (or in place of those of the same id), which to leave out, how far back."""

    model_config = ConfigDict(extra="forbid")

    policies: list[dict[str, Any]] = Field(default=[], max_length=500)
    without: list[str] = Field(default=[], max_length=500)
    days: int = Field(default=7, ge=1, le=MOST_DAYS)


class PolicyDetailView(PolicyView):
    """A policy with its other versions."""

    versions: list[PolicyView]


@router.get("", summary="Policies in force")
def list_policies(viewer: Annotated[Viewer, permit(Permission.POLICY_READ)], deps: Deps) -> Page[PolicyView]:
    """All of them, by id."""
    with deps.control.read() as tx:
        return Page(items=[policy_view(p) for p in policies.current_policies(tx)])


@router.post("/check", summary="Check a policy without publishing it")
def check(body: PolicyBody, viewer: Annotated[Viewer, permit(Permission.POLICY_READ)]) -> CheckView:
    """Every problem at once. Nothing is stored."""
    problems = [ProblemView(where=p.where, message=p.message, remedy=p.remedy) for p in check_policy(body)]
    return CheckView(ok=not problems, problems=problems)


@router.post("/backtest", status_code=202, summary="Decide the calls of the past days again, with other policies")
def backtest(body: BacktestBody, viewer: Annotated[Viewer, permit(Permission.POLICY_READ)], deps: Deps) -> RunView:
    """Begins a run; watch, cancel and page through it at ``/api/hunting/runs``. Its rows are the calls that would have
    ended differently, its notes say of how many. Without policies: what today's detectors make of those calls."""
    with deps.control.read() as tx:
        candidates = candidate_set(tx, body.policies, body.without)
    trial = PolicyTrial(
        text=f"policies over {body.days} days",
        scope=scope_of(deps, viewer),
        limits=Limits(timeout_seconds=_SECONDS),
        door="backtest",
        activity=deps.activity,
        candidates=candidates,
        days=body.days,
        end=deps.now(),
    )
    return run_view(deps.hunts.start(trial, viewer.id))


@router.get("/{policy_id}", summary="One policy with its versions")
def read_policy(
    policy_id: str,
    viewer: Annotated[Viewer, permit(Permission.POLICY_READ)],
    deps: Deps,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> PolicyDetailView:
    """The version in force, or the one asked for; of a withdrawn policy the last."""
    with deps.control.read() as tx:
        versions = policies.list_policy_versions(tx, policy_id)
        found = policies.find_policy(tx, policy_id, version)
    if found is None and versions and version is None:
        found = versions[0]
    if found is None:
        raise NotFound(
            f"there is no policy {policy_id!r}" + (f" version {version}." if version else "."), where="policy"
        )
    return PolicyDetailView(**policy_view(found).model_dump(), versions=[policy_view(v) for v in versions])


@router.put("/{policy_id}", summary="Publish a policy")
def publish_policy(
    policy_id: str, body: PolicyBody, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps
) -> PolicyView:
    """Checked, given the next version, and in force for every call that starts after the answer."""
    if body.get("id", policy_id) != policy_id:
        raise InputError(f"the policy says it is {body['id']!r}.", where="id", remedy=f"Write {policy_id!r}.")
    with deps.control.tx(viewer.id) as tx:
        return policy_view(registry_policies.publish(tx, {**body, "id": policy_id}))


@router.delete("/{policy_id}", status_code=204, summary="Take a policy out of force")
def withdraw_policy(policy_id: str, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps) -> None:
    """Its versions stay, for replay."""
    with deps.control.tx(viewer.id) as tx:
        registry_policies.withdraw(tx, policy_id)
