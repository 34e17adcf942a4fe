"""Graph's catalogue of Copilot packages over our registry: an agent is a package.

    GET   /copilot/admin/catalog/packages[/{id}]
    POST  /copilot/admin/catalog/packages/{id}/block, unblock      204
    POST  /copilot/admin/catalog/packages/{id}/reassign            {"userId": "..."} → 204

Reading under ``/v1.0`` and ``/beta``, orders under ``/beta``, as Graph has them; $filter $top $skip $skiptoken $count
$select. A block is the same as anywhere: one transaction, the next call refused, its proof within seconds. ``$filter``
takes what Graph documents (comparisons and ``any``, joined by ``and``). Retired agents are no packages. A version that
waits to be decided about is a pending request: ``publish`` for a new agent, ``update`` for one that was live.
Source: Graph's reference of ``copilotPackage`` and ``copilotPackageDetail``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from watchfloor.model.agents import AgentState
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal import graph_lists, graph_shapes
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.graph_shapes import moment
from watchfloor.portal.kusto import GRAPH, graph_json
from watchfloor.registry import owners
from watchfloor.registry.readers import ANY_TENANT, EVERYONE, GROUP
from watchfloor.response.catalog import Order
from watchfloor.response.runner import Operator, perform
from watchfloor.storage import inventory, odata, versions
from watchfloor.storage.inventory import Agent
from watchfloor.storage.odata import Field, Type

router = APIRouter(tags=[GRAPH])

_PATH: Final = "/copilot/admin/catalog/packages"
_ROOT: Final = "https://graph.microsoft.com/{version}/$metadata#copilot/admin/catalog/packages"
_REASON: Final = "{} through Graph's API"
_PREFIX: Final = "P_"
_USUAL, _MOST = 100, 999
_FIELDS: Final[Mapping[str, Field]] = {
    "supportedHosts": Field(Type.TEXTS),
    "elementTypes": Field(Type.TEXTS),
    "lastModifiedDateTime": Field(Type.TIME),
    "platform": Field(Type.TEXT),
    "requestStatus": Field(Type.TEXT),
    "requestType": Field(Type.TEXT),
}

Reader = Annotated[Viewer, permit(Permission.AGENT_READ)]
Keeper = Annotated[Viewer, permit(Permission.REGISTRY_WRITE)]
Blocker = Annotated[Viewer, permit(Permission.AGENT_BLOCK)]


def package(agent: Agent, is_waiting: bool) -> dict[str, Any]:
    """An agent as a package. What Graph knows and we do not is null. ``is_waiting``: a version of it was submitted."""
    is_open = agent.state is AgentState.PUBLISHED
    audience = agent.manifest.get("sharedWith", ())
    is_for_some = bool(audience) and EVERYONE not in audience
    return {
        "id": _PREFIX + agent.id,
        "displayName": agent.name,
        "type": "custom",
        "shortDescription": agent.description,
        "isBlocked": agent.state is AgentState.BLOCKED,
        "supportedHosts": ["Copilot"],
        "createdDateTime": moment(agent.created_at),
        "lastModifiedDateTime": moment(agent.updated_at),
        "publisher": agent.maker_id,
        "availableTo": "none" if not is_open else "some" if is_for_some else "all",
        "deployedTo": "all" if is_open else "none",
        "elementTypes": ["bot"],
        "platform": agent.platform,
        "version": agent.version,
        "manifestVersion": None,
        "manifestId": agent.id,
        "appId": None,
        "assetId": agent.id,
        "agentIdentityId": agent.id,
        "requestType": None if not is_waiting else "publish" if agent.state is AgentState.SUBMITTED else "update",
        "requestStatus": "pending" if is_waiting else None,
    }


def _allowed(agent: Agent) -> list[dict[str, str]]:
    named = (who for who in agent.manifest.get("sharedWith", ()) if who not in (EVERYONE, ANY_TENANT))
    return [
        {"resourceType": "group", "resourceId": who.removeprefix(GROUP)}
        if who.startswith(GROUP)
        else {"resourceType": "user", "resourceId": who}
        for who in named
    ]


def package_detail(agent: Agent, is_waiting: bool, elements: list[dict[str, Any]]) -> dict[str, Any]:
    """The same with what is told of one package alone."""
    return {
        **package(agent, is_waiting),
        "longDescription": str(agent.manifest.get("instructions") or agent.description),
        "allowedUsersAndGroups": _allowed(agent),
        "acquireUsersAndGroups": [],
        "elementDetails": elements,
    }


@router.get("/v1.0" + _PATH, summary="Graph: list agents as packages")
async def packages_v1(request: Request, viewer: Reader, deps: Deps) -> Response:
    """By id."""
    return await run_in_threadpool(_list, request, deps)


@router.get("/beta" + _PATH, summary="Graph (beta): list agents as packages")
async def packages_beta(request: Request, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_list, request, deps)


@router.get("/v1.0" + _PATH + "/{package_id}", summary="Graph: one agent as a package")
async def package_v1(request: Request, package_id: str, viewer: Reader, deps: Deps) -> Response:
    """With its tools."""
    return await run_in_threadpool(_read, request, deps, package_id)


@router.get("/beta" + _PATH + "/{package_id}", summary="Graph (beta): one agent as a package")
async def package_beta(request: Request, package_id: str, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_read, request, deps, package_id)


@router.post("/beta" + _PATH + "/{package_id}/block", status_code=204, summary="Graph (beta): block a package")
def block_package(package_id: str, viewer: Blocker, deps: Deps) -> Response:
    """When this answers, no tool call of the agent that starts later is allowed on this host."""
    return _order(deps, viewer, package_id, "block_agent", "blocked")


@router.post("/beta" + _PATH + "/{package_id}/unblock", status_code=204, summary="Graph (beta): unblock a package")
def unblock_package(package_id: str, viewer: Blocker, deps: Deps) -> Response:
    """Not by whoever built the agent."""
    return _order(deps, viewer, package_id, "unblock_agent", "unblocked")


@router.post("/beta" + _PATH + "/{package_id}/reassign", status_code=204, summary="Graph (beta): reassign a package")
async def reassign_package(request: Request, package_id: str, viewer: Keeper, deps: Deps) -> Response:
    """`userId`: who owns the agent from now on. Its owner does not hand it over."""
    sent = graph_lists.parsed(await request.body())
    user_id = sent.get("userId") if isinstance(sent, dict) else None
    if not isinstance(user_id, str) or not 0 < len(user_id) <= 200:
        raise InputError("this is no user's id.", where="userId", remedy='Send {"userId": "..."}.')
    await run_in_threadpool(_reassign, deps, viewer, _agent_id(package_id), user_id)
    return Response(status_code=204)


def _reassign(deps: PortalDeps, viewer: Viewer, agent_id: str, user_id: str) -> None:
    with deps.control.tx(viewer.id) as tx:
        owners.reassign(tx, agent_id, {"owner": user_id}, _REASON.format("reassigned"))


def _order(deps: PortalDeps, viewer: Viewer, package_id: str, action: str, done: str) -> Response:
    agent_id = _agent_id(package_id)
    with deps.control.read() as tx:
        agent = inventory.find_agent(tx, agent_id)
    if agent is None or (agent.state is AgentState.BLOCKED) is not (action == "block_agent"):
        operator = Operator(viewer.id, viewer.permissions)
        perform(deps.control, deps.epoch, deps.now, operator, action, Order(agent_id, _REASON.format(done)))
    deps.nudge("prove_blocks")
    return Response(status_code=204)


def _agent_id(package_id: str) -> str:
    if not package_id.startswith(_PREFIX):
        raise NotFound(f"there is no package {package_id!r}.", where="id")
    return package_id.removeprefix(_PREFIX)


def _context(request: Request) -> str:
    return _ROOT.format(version=graph_lists.version(request))


def _condition(text: str) -> odata.Condition | None:
    if not text:
        return None
    found = odata.parse(text, _FIELDS)
    waiting = [found]
    while waiting:
        part = waiting.pop()
        if isinstance(part, odata.Not) or (isinstance(part, odata.Junction) and not part.is_all):
            raise InputError("or and not are not supported here.", where="$filter", remedy="Join conditions by and.")
        if isinstance(part, odata.Junction):
            waiting += part.parts
    return found


def _list(request: Request, deps: PortalDeps) -> Response:
    asked = graph_lists.asked(request, usual=_USUAL, most=_MOST, orders=())
    condition = _condition(asked.filter)
    with deps.control.read() as tx:
        agents = [agent for agent in inventory.list_agents(tx) if agent.state is not AgentState.RETIRED]
        waiting = versions.waiting_agents(tx)
    found = [package(agent, agent.id in waiting) for agent in agents]
    if condition is not None:
        found = [each for each in found if odata.matches(condition, each, _FIELDS)]
    total = len(found) if asked.count else None
    shown = [each for each in found if each["id"] > asked.before][asked.skip : asked.skip + asked.top]
    return graph_json(request, graph_lists.page(request, {"@odata.context": _context(request)}, asked, shown, total))


def _read(request: Request, deps: PortalDeps, package_id: str) -> Response:
    agent_id = _agent_id(package_id)
    with deps.control.read() as tx:
        agent = inventory.find_agent(tx, agent_id)
        bindings = inventory.list_bindings(tx, agent_id=agent_id)
        is_waiting = agent_id in versions.waiting_agents(tx)
    if agent is None or agent.state is AgentState.RETIRED:
        raise NotFound(f"there is no package {package_id!r}.", where="id")
    elements = [{"id": f"{b.server_id}/{b.tool}", "elementType": "tool"} for b in bindings]
    wanted = [part.strip() for part in request.query_params.get("$select", "").split(",") if part.strip()]
    detail = graph_shapes.select(package_detail(agent, is_waiting, elements), wanted)
    return graph_json(request, {"@odata.context": f"{_context(request)}/$entity", **detail})
