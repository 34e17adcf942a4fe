"""Graph's conditional access API, for the tools that manage Entra's policies: ``/identity/conditionalAccess/policies``.

Under ``/v1.0`` and ``/beta``: list, read, create, change, delete. What is sent and cannot be enforced here refuses the
request, unless the policy is disabled or report-only; the import of our own API keeps such policies and says so. A
policy that would lock people out needs the header ``Prefer: watchfloor.confirm``. Source: Graph's reference of
``conditionalAccessRoot`` and ``conditionalAccessPolicy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from watchfloor.guard.access import graph
from watchfloor.identity import access as conditional_access
from watchfloor.model.errors import Conflict, InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.kusto import GRAPH, graph_json
from watchfloor.storage import access
from watchfloor.storage.access import AccessPolicyVersion
from watchfloor.storage.control import ControlTx

router = APIRouter(tags=[GRAPH])

CONFIRM: Final = "watchfloor.confirm"
_PATH: Final = "/identity/conditionalAccess/policies"
_ROOT: Final = "https://graph.microsoft.com/{version}/$metadata#identity/conditionalAccess/policies"
_OPTIONS: Final = frozenset({"$top", "$select", "$count"})
_MOST: Final = 1_000

Reader = Annotated[Viewer, permit(Permission.ACCESS_READ)]
Writer = Annotated[Viewer, permit(Permission.ACCESS_WRITE)]


@router.get("/v1.0" + _PATH, summary="Graph: list policies of conditional access")
async def access_policies_v1(request: Request, viewer: Reader, deps: Deps) -> Response:
    """$top, $select, $count."""
    return await run_in_threadpool(_list, request, deps)


@router.get("/beta" + _PATH, summary="Graph (beta): list policies of conditional access")
async def access_policies_beta(request: Request, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_list, request, deps)


@router.get("/v1.0" + _PATH + "/{policy_id}", summary="Graph: one policy of conditional access")
async def access_policy_v1(request: Request, policy_id: str, viewer: Reader, deps: Deps) -> Response:
    """$select."""
    return await run_in_threadpool(_read, request, deps, policy_id)


@router.get("/beta" + _PATH + "/{policy_id}", summary="Graph (beta): one policy of conditional access")
async def access_policy_beta(request: Request, policy_id: str, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_read, request, deps, policy_id)


@router.post("/v1.0" + _PATH, status_code=201, summary="Graph: create a policy of conditional access")
async def create_access_policy_v1(request: Request, viewer: Writer, deps: Deps) -> Response:
    """Its id is made of its name, unless it brings one."""
    return await run_in_threadpool(_create, request, viewer, deps, await request.body())


@router.post("/beta" + _PATH, status_code=201, summary="Graph (beta): create a policy of conditional access")
async def create_access_policy_beta(request: Request, viewer: Writer, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_create, request, viewer, deps, await request.body())


@router.patch("/v1.0" + _PATH + "/{policy_id}", status_code=204, summary="Graph: change a policy of conditional access")
async def change_access_policy_v1(request: Request, policy_id: str, viewer: Writer, deps: Deps) -> Response:
    """Members that are not sent stay; objects are sent whole."""
    return await run_in_threadpool(_change, request, viewer, deps, policy_id, await request.body())


@router.patch(
    "/beta" + _PATH + "/{policy_id}", status_code=204, summary="Graph (beta): change a policy of conditional access"
)
async def change_access_policy_beta(request: Request, policy_id: str, viewer: Writer, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_change, request, viewer, deps, policy_id, await request.body())


@router.delete(
    "/v1.0" + _PATH + "/{policy_id}", status_code=204, summary="Graph: delete a policy of conditional access"
)
async def delete_access_policy_v1(policy_id: str, viewer: Writer, deps: Deps) -> Response:
    """Its versions stay, for the audit."""
    return await run_in_threadpool(_delete, viewer, deps, policy_id)


@router.delete(
    "/beta" + _PATH + "/{policy_id}", status_code=204, summary="Graph (beta): delete a policy of conditional access"
)
async def delete_access_policy_beta(policy_id: str, viewer: Writer, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_delete, viewer, deps, policy_id)


# -- what they do -------------------------------------------------------------------------------------------------


def _context(request: Request, *, is_one: bool = False) -> str:
    root = _ROOT.format(version=request.url.path.split("/", 2)[1])
    return f"{root}/$entity" if is_one else root


def _shown(tx: ControlTx, policy: AccessPolicyVersion) -> dict[str, Any]:
    _, _, from_user, from_agent = conditional_access.directory_names(tx)
    first = access.list_versions(tx, policy.id)[-1]
    return graph.to_graph(
        policy.body, created=first.published_at, modified=policy.published_at, user_id=from_user, agent_id=from_agent
    )


def _selected(request: Request, body: dict[str, Any]) -> dict[str, Any]:
    wanted = {name.strip() for name in request.query_params.get("$select", "").split(",") if name.strip()}
    return {name: value for name, value in body.items() if name in wanted or name == "id"} if wanted else body


def _options(request: Request) -> None:
    unknown = sorted(name for name in request.query_params if name.startswith("$") and name not in _OPTIONS)
    if unknown:
        raise InputError(f"{unknown[0]} is not supported here.", where=unknown[0], remedy=", ".join(sorted(_OPTIONS)))


def _list(request: Request, deps: PortalDeps) -> Response:
    _options(request)
    top = request.query_params.get("$top", str(_MOST))
    if not (top.isascii() and top.isdigit() and 0 < int(top) <= _MOST):
        raise InputError(f"{top!r} is no number of 1 to {_MOST}.", where="$top")
    with deps.control.read() as tx:
        policies = access.current_policies(tx)
        shown = [_selected(request, _shown(tx, policy)) for policy in policies[: int(top)]]
    body: dict[str, Any] = {"@odata.context": _context(request)}
    if request.query_params.get("$count", "").lower() == "true":
        body["@odata.count"] = len(policies)
    return graph_json(request, {**body, "value": shown})


def _find(tx: ControlTx, policy_id: str) -> AccessPolicyVersion:
    found = access.find_policy(tx, policy_id)
    if found is None:
        raise NotFound(f"there is no access policy {policy_id!r}.", where="id")
    return found


def _read(request: Request, deps: PortalDeps, policy_id: str) -> Response:
    _options(request)
    with deps.control.read() as tx:
        shown = _selected(request, _shown(tx, _find(tx, policy_id)))
    return graph_json(request, {"@odata.context": _context(request, is_one=True), **shown})


def _body(raw: bytes) -> Mapping[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InputError("the body is no JSON.", where="body") from None
    if not isinstance(body, dict):
        raise InputError("the body must be an object.", where="body")
    return body


def _create(request: Request, viewer: Viewer, deps: PortalDeps, raw: bytes) -> Response:
    with deps.control.tx(viewer.id) as tx:
        body = _ours(tx, _body(raw))
        if access.find_policy(tx, body["id"]) is not None:
            raise Conflict(f"there is an access policy {body['id']!r} already.", where="id", remedy="PATCH it.")
        done = conditional_access.publish(tx, body, confirm=_confirms(request))
        shown = _shown(tx, done.policy)
    deps.nudge("require_password_changes")
    answer = graph_json(request, {"@odata.context": _context(request, is_one=True), **shown})
    answer.status_code = 201
    return answer


def _change(request: Request, viewer: Viewer, deps: PortalDeps, policy_id: str, raw: bytes) -> Response:
    sent = _body(raw)
    if sent.get("id", policy_id) != policy_id:
        raise InputError("the id of a policy cannot be changed.", where="id")
    with deps.control.tx(viewer.id) as tx:
        before = _shown(tx, _find(tx, policy_id))
        body = _ours(tx, {**before, **sent, "id": policy_id})
        conditional_access.publish(tx, {**body, "id": policy_id}, confirm=_confirms(request))
    deps.nudge("require_password_changes")
    return Response(status_code=204)


def _delete(viewer: Viewer, deps: PortalDeps, policy_id: str) -> Response:
    with deps.control.tx(viewer.id) as tx:
        access.withdraw_policy(tx, policy_id)
    return Response(status_code=204)


def _ours(tx: ControlTx, body: Mapping[str, Any]) -> dict[str, Any]:
    to_user, to_agent, _, _ = conditional_access.directory_names(tx)
    return graph.from_graph(body, user_id=to_user, agent_id=to_agent)


def _confirms(request: Request) -> bool:
    return CONFIRM in request.headers.get("prefer", "").lower()
