"""Versions of agents: what each was, and what is different between two of them.

Above ``registry``. Whoever may read agents reads those of every agent; a maker only those of their own.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from watchfloor.model.errors import NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.users import ActionBody
from watchfloor.portal.views import AgentVersionView, Page, PerformedView, performed_view
from watchfloor.registry.inventory import answers_for
from watchfloor.registry.version_diff import Difference, Reach, compare
from watchfloor.response.catalog import Order
from watchfloor.response.runner import Operator, perform
from watchfloor.storage import inventory, versions
from watchfloor.storage.control import ControlTx
from watchfloor.storage.inventory import Agent
from watchfloor.storage.versions import AgentVersion

router = APIRouter(prefix="/api", tags=["registry"])

Reader = Annotated[Viewer, permit(Permission.AGENT_READ_OWN)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


class VersionDetailView(AgentVersionView):
    """A version with its manifest; ``document`` is the text that was submitted, null where it was applied."""

    agent_id: str
    manifest: dict[str, Any]
    document: str | None
    note: str
    checks: list[dict[str, Any]]


class DifferenceView(BaseModel):
    """One difference. ``wider``: the agent can do more, or more can use it, than before."""

    where: str
    reach: Reach
    says: str
    before: Any
    after: Any


class DiffView(BaseModel):
    """What became different on the way from version ``before`` (null: there was none) to version ``after``."""

    agent_id: str
    before: int | None
    after: int
    differences: list[DifferenceView]


def version_view(version: AgentVersion) -> AgentVersionView:
    """A version as shown in a list."""
    return AgentVersionView.model_validate(version, from_attributes=True)


def version_detail_view(version: AgentVersion) -> VersionDetailView:
    """A version with everything that is kept of it."""
    return VersionDetailView.model_validate(version, from_attributes=True)


def difference_view(difference: Difference) -> DifferenceView:
    """A difference as shown."""
    return DifferenceView.model_validate(difference, from_attributes=True)


def require_agent(tx: ControlTx, viewer: Viewer, agent_id: str) -> Agent:
    """The agent, if the viewer may see it. Raises ``NotFound``, also where it is somebody else's."""
    agent = inventory.find_agent(tx, agent_id)
    sees = Permission.AGENT_READ in viewer.permissions or (agent is not None and answers_for(agent, viewer.id))
    if agent is None or not sees:
        raise NotFound(f"there is no agent {agent_id!r}.", where="agent")
    return agent


def require_version(tx: ControlTx, agent_id: str, number: int) -> AgentVersion:
    """The version. Raises ``NotFound``."""
    version = versions.find_version(tx, agent_id, number)
    if version is None:
        raise NotFound(f"agent {agent_id!r} has no version {number}.", where="number")
    return version


@router.get("/agents/{agent_id}/versions", summary="Every version of an agent")
def list_versions(agent_id: str, viewer: Reader, deps: Deps) -> Page[AgentVersionView]:
    """Newest first: applied and submitted ones, also those that were declined."""
    with deps.control.read() as tx:
        require_agent(tx, viewer, agent_id)
        found = versions.list_versions(tx, agent_id)
    return Page(items=[version_view(v) for v in reversed(found)])


@router.get("/agents/{agent_id}/versions/{number}", summary="One version of an agent")
def read_version(agent_id: str, number: Number, viewer: Reader, deps: Deps) -> VersionDetailView:
    """Its manifest as it was, and what was checked."""
    with deps.control.read() as tx:
        require_agent(tx, viewer, agent_id)
        return version_detail_view(require_version(tx, agent_id, number))


@router.post("/agents/{agent_id}/versions/{number}/block", summary="Rule a version out")
def block_version(
    agent_id: str,
    number: Number,
    body: ActionBody,
    viewer: Annotated[Viewer, permit(Permission.AGENT_BLOCK)],
    deps: Deps,
) -> PerformedView:
    """Its build does not come back. If it is live, the agent is blocked, and is unblocked only as another build."""
    order = Order(f"{agent_id}/{number}", body.reason, body.incident_id)
    operator = Operator(viewer.id, viewer.permissions)
    done = performed_view(perform(deps.control, deps.epoch, deps.now, operator, "block_version", order))
    deps.nudge("prove_blocks")
    return done


@router.get("/agents/{agent_id}/versions/{number}/diff", summary="What is different in a version")
def diff_version(
    agent_id: str,
    number: Number,
    viewer: Reader,
    deps: Deps,
    against: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> DiffView:
    """From version ``against``, or else the last live one before it, to this one. What lets it do more stands first."""
    with deps.control.read() as tx:
        require_agent(tx, viewer, agent_id)
        after = require_version(tx, agent_id, number)
        before = (
            require_version(tx, agent_id, against)
            if against is not None
            else versions.last_live_before(tx, agent_id, number)
        )
    differences = compare(before.manifest if before else None, after.manifest)
    return DiffView(
        agent_id=agent_id,
        before=before.number if before else None,
        after=number,
        differences=[difference_view(d) for d in differences],
    )
