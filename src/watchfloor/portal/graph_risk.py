"""Graph's identity protection API: risky users and agents, their detections and history, and what is decided of them.

    GET   /identityProtection/riskyUsers[/{id}[/history]], /identityProtection/riskDetections[/{id}]
    POST  /identityProtection/riskyUsers/confirmCompromised, confirmSafe, dismiss     {"userIds": [...]}
    GET   /identityProtection/riskyAgents[/{id}], /identityProtection/agentRiskDetections[/{id}]
    POST  /identityProtection/riskyAgents/confirmCompromised, confirmSafe, dismiss    {"agentIds": [...]}

Users under ``/v1.0`` and ``/beta``, agents under ``/beta``, as Graph has them; $filter $top $skip $skiptoken $orderby
$count $select. Detections tell of alerts, so who may read only serious alerts reads none of this. Source: Graph's
reference of ``riskyUser``, ``riskDetection``, ``riskyAgent`` and ``agentRiskDetection``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal import graph_lists, graph_shapes
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.graph_lists import Asked
from watchfloor.portal.graph_risk_shapes import agent_detection, history_item, risky_agent, risky_user, user_detection
from watchfloor.portal.kusto import GRAPH, graph_json
from watchfloor.portal.responses import JOB
from watchfloor.response.risk_orders import RiskVerdict, decide
from watchfloor.storage import odata, risk_lists, risks
from watchfloor.storage.risk_lists import RiskQuery

router = APIRouter(tags=[GRAPH])

_ROOT: Final = "https://graph.microsoft.com/{version}/$metadata#identityProtection/{name}"
_USUAL, _MOST = 100, 500
_REASON: Final = "decided through Graph's API"
_ORDERS: Final = ("riskLastUpdatedDateTime",)
_DETECTION_ORDERS: Final = ("activityDateTime", "detectedDateTime", "lastUpdatedDateTime")

Reader = Annotated[Viewer, permit(Permission.ALERT_READ)]
UserConfirmer = Annotated[Viewer, permit(Permission.USER_CONFIRM_COMPROMISED)]
UserJudge = Annotated[Viewer, permit(Permission.USER_DISMISS_RISK)]
AgentConfirmer = Annotated[Viewer, permit(Permission.AGENT_CONFIRM_COMPROMISED)]
AgentJudge = Annotated[Viewer, permit(Permission.AGENT_BLOCK)]


# -- users --------------------------------------------------------------------------------------------------------


@router.get("/v1.0/identityProtection/riskyUsers", summary="Graph: list risky users")
async def risky_users_v1(request: Request, viewer: Reader, deps: Deps) -> Response:
    """Whoever anything was ever seen about, also if it is settled by now."""
    return await run_in_threadpool(_list_subjects, request, deps, risks.USER)


@router.get("/beta/identityProtection/riskyUsers", summary="Graph (beta): list risky users")
async def risky_users_beta(request: Request, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_list_subjects, request, deps, risks.USER)


@router.get("/v1.0/identityProtection/riskyUsers/{user_id}", summary="Graph: one user's risk")
async def risky_user_v1(request: Request, user_id: str, viewer: Reader, deps: Deps) -> Response:
    """Of a user about whom nothing was seen, too."""
    return await run_in_threadpool(_read_subject, request, deps, risks.USER, user_id)


@router.get("/beta/identityProtection/riskyUsers/{user_id}", summary="Graph (beta): one user's risk")
async def risky_user_beta(request: Request, user_id: str, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_read_subject, request, deps, risks.USER, user_id)


@router.get("/v1.0/identityProtection/riskyUsers/{user_id}/history", summary="Graph: how a user's risk came about")
async def user_history_v1(request: Request, user_id: str, viewer: Reader, deps: Deps) -> Response:
    """Every change of level or state, newest first."""
    return await run_in_threadpool(_read_history, request, deps, user_id)


@router.get(
    "/beta/identityProtection/riskyUsers/{user_id}/history", summary="Graph (beta): how a user's risk came about"
)
async def user_history_beta(request: Request, user_id: str, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_read_history, request, deps, user_id)


@router.get("/v1.0/identityProtection/riskDetections", summary="Graph: list detections about users")
async def risk_detections_v1(request: Request, viewer: Reader, deps: Deps) -> Response:
    """Newest first."""
    return await run_in_threadpool(_list_detections, request, deps, risks.USER)


@router.get("/beta/identityProtection/riskDetections", summary="Graph (beta): list detections about users")
async def risk_detections_beta(request: Request, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_list_detections, request, deps, risks.USER)


@router.get("/v1.0/identityProtection/riskDetections/{detection_id}", summary="Graph: one detection about a user")
async def risk_detection_v1(request: Request, detection_id: str, viewer: Reader, deps: Deps) -> Response:
    """With its state."""
    return await run_in_threadpool(_read_detection, request, deps, risks.USER, detection_id)


@router.get(
    "/beta/identityProtection/riskDetections/{detection_id}", summary="Graph (beta): one detection about a user"
)
async def risk_detection_beta(request: Request, detection_id: str, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_read_detection, request, deps, risks.USER, detection_id)


# -- agents -------------------------------------------------------------------------------------------------------


@router.get("/beta/identityProtection/riskyAgents", summary="Graph (beta): list risky agents")
async def risky_agents(request: Request, viewer: Reader, deps: Deps) -> Response:
    """Every agent that anything was ever seen about, also if it is settled by now."""
    return await run_in_threadpool(_list_subjects, request, deps, risks.AGENT)


@router.get("/beta/identityProtection/riskyAgents/{agent_id}", summary="Graph (beta): one agent's risk")
async def risky_agent_one(request: Request, agent_id: str, viewer: Reader, deps: Deps) -> Response:
    """Of an agent about which nothing was seen, too."""
    return await run_in_threadpool(_read_subject, request, deps, risks.AGENT, agent_id)


@router.get("/beta/identityProtection/agentRiskDetections", summary="Graph (beta): list detections about agents")
async def agent_risk_detections(request: Request, viewer: Reader, deps: Deps) -> Response:
    """Newest first."""
    return await run_in_threadpool(_list_detections, request, deps, risks.AGENT)


@router.get(
    "/beta/identityProtection/agentRiskDetections/{detection_id}", summary="Graph (beta): one detection about an agent"
)
async def agent_risk_detection(request: Request, detection_id: str, viewer: Reader, deps: Deps) -> Response:
    """With its state."""
    return await run_in_threadpool(_read_detection, request, deps, risks.AGENT, detection_id)


# -- orders -------------------------------------------------------------------------------------------------------


@router.post(
    "/v1.0/identityProtection/riskyUsers/confirmCompromised", status_code=204, summary="Graph: users are compromised"
)
async def confirm_users_v1(request: Request, viewer: UserConfirmer, deps: Deps) -> Response:
    """`userIds`: when this answers, no session of theirs lives, and they owe a new password; identity providers are
    asked to do the same. The same guards as anywhere: what needs a second operator is refused here."""
    return await _order(request, viewer, deps, risks.USER, RiskVerdict.COMPROMISED)


@router.post(
    "/beta/identityProtection/riskyUsers/confirmCompromised",
    status_code=204,
    summary="Graph (beta): users are compromised",
)
async def confirm_users_beta(request: Request, viewer: UserConfirmer, deps: Deps) -> Response:
    """The same."""
    return await _order(request, viewer, deps, risks.USER, RiskVerdict.COMPROMISED)


@router.post("/v1.0/identityProtection/riskyUsers/confirmSafe", status_code=204, summary="Graph: users are safe")
async def safe_users_v1(request: Request, viewer: UserJudge, deps: Deps) -> Response:
    """`userIds`: what was seen was right to happen."""
    return await _order(request, viewer, deps, risks.USER, RiskVerdict.SAFE)


@router.post("/beta/identityProtection/riskyUsers/confirmSafe", status_code=204, summary="Graph (beta): users are safe")
async def safe_users_beta(request: Request, viewer: UserJudge, deps: Deps) -> Response:
    """The same."""
    return await _order(request, viewer, deps, risks.USER, RiskVerdict.SAFE)


@router.post("/v1.0/identityProtection/riskyUsers/dismiss", status_code=204, summary="Graph: dismiss users' risk")
async def dismiss_users_v1(request: Request, viewer: UserJudge, deps: Deps) -> Response:
    """`userIds`: nothing of what was seen counts."""
    return await _order(request, viewer, deps, risks.USER, RiskVerdict.DISMISSED)


@router.post(
    "/beta/identityProtection/riskyUsers/dismiss", status_code=204, summary="Graph (beta): dismiss users' risk"
)
async def dismiss_users_beta(request: Request, viewer: UserJudge, deps: Deps) -> Response:
    """The same."""
    return await _order(request, viewer, deps, risks.USER, RiskVerdict.DISMISSED)


@router.post(
    "/beta/identityProtection/riskyAgents/confirmCompromised",
    status_code=204,
    summary="Graph (beta): agents are compromised",
)
async def confirm_agents(request: Request, viewer: AgentConfirmer, deps: Deps) -> Response:
    """`agentIds`: when this answers they are in quarantine: blocked, their tokens and secrets dead, what they waited
    for refused. The same guards as anywhere: what needs a second operator is refused here."""
    return await _order(request, viewer, deps, risks.AGENT, RiskVerdict.COMPROMISED)


@router.post(
    "/beta/identityProtection/riskyAgents/confirmSafe", status_code=204, summary="Graph (beta): agents are safe"
)
async def safe_agents(request: Request, viewer: AgentJudge, deps: Deps) -> Response:
    """`agentIds`: what was seen was right to happen. Not by whoever built one of them; one in quarantine is released,
    which takes `agent.confirm_compromised` as well."""
    return await _order(request, viewer, deps, risks.AGENT, RiskVerdict.SAFE)


@router.post(
    "/beta/identityProtection/riskyAgents/dismiss", status_code=204, summary="Graph (beta): dismiss agents' risk"
)
async def dismiss_agents(request: Request, viewer: AgentJudge, deps: Deps) -> Response:
    """`agentIds`: nothing of what was seen counts. Otherwise as confirming them safe."""
    return await _order(request, viewer, deps, risks.AGENT, RiskVerdict.DISMISSED)


async def _order(request: Request, viewer: Viewer, deps: PortalDeps, kind: str, verdict: RiskVerdict) -> Response:
    sent = graph_lists.parsed(await request.body())
    member = f"{kind}Ids"
    ids = sent.get(member) if isinstance(sent, dict) else None
    if not isinstance(ids, list) or not all(isinstance(each, str) and len(each) <= 200 for each in ids):
        raise InputError("this is no list of ids.", where=member, remedy=f'Send {{"{member}": ["..."]}}.')
    await run_in_threadpool(decide, deps.control, deps.epoch, viewer.id, kind, verdict, ids, _REASON)
    deps.nudge(JOB)
    return Response(status_code=204)


# -- reading ------------------------------------------------------------------------------------------------------

_NAMES: Final = {risks.USER: ("riskyUsers", "riskDetections"), risks.AGENT: ("riskyAgents", "agentRiskDetections")}
_SUBJECTS: Final[Mapping[str, Callable[[risk_lists.RiskySubject], dict[str, Any]]]] = {
    risks.USER: risky_user,
    risks.AGENT: risky_agent,
}
_DETECTIONS: Final = {risks.USER: user_detection, risks.AGENT: agent_detection}


def _context(request: Request, name: str, *, is_one: bool = False) -> dict[str, str]:
    root = _ROOT.format(version=graph_lists.version(request), name=name)
    return {"@odata.context": f"{root}/$entity" if is_one else root}


def _query(asked: Asked, fields: Mapping[str, odata.Field]) -> RiskQuery:
    condition = odata.parse(asked.filter, fields) if asked.filter else None
    return RiskQuery(condition, asked.order, asked.top, asked.skip, "" if asked.order else asked.before)


def _list_subjects(request: Request, deps: PortalDeps, kind: str) -> Response:
    asked = graph_lists.asked(request, usual=_USUAL, most=_MOST, orders=_ORDERS)
    query = _query(asked, risk_lists.subject_fields(kind))
    with deps.control.read() as tx:
        shown = [_SUBJECTS[kind](each) for each in risk_lists.list_subjects(tx, kind, query)]
        total = risk_lists.count_subjects(tx, kind, query) if asked.count else None
    context = _context(request, _NAMES[kind][0])
    return graph_json(request, graph_lists.page(request, context, asked, shown, total))


def _list_detections(request: Request, deps: PortalDeps, kind: str) -> Response:
    asked = graph_lists.asked(request, usual=_USUAL, most=_MOST, orders=_DETECTION_ORDERS)
    query = _query(asked, risk_lists.detection_fields(kind))
    with deps.control.read() as tx:
        found = risk_lists.list_detections(tx, kind, query)
        total = risk_lists.count_detections(tx, kind, query) if asked.count else None
    shown = [_DETECTIONS[kind](detection, subject) for detection, subject in found]
    context = _context(request, _NAMES[kind][1])
    return graph_json(request, graph_lists.page(request, context, asked, shown, total))


def _read_subject(request: Request, deps: PortalDeps, kind: str, subject_id: str) -> Response:
    with deps.control.read() as tx:
        found = risk_lists.find_subject(tx, kind, subject_id)
    if found is None:
        raise NotFound(f"there is no {kind} {subject_id!r}.", where="id")
    return _one(request, _NAMES[kind][0], _SUBJECTS[kind](found))


def _read_detection(request: Request, deps: PortalDeps, kind: str, detection_id: str) -> Response:
    condition = odata.Compare("id", "eq", detection_id)
    with deps.control.read() as tx:
        found = risk_lists.list_detections(tx, kind, RiskQuery(condition, limit=1))
    if not found:
        raise NotFound(f"there is no detection {detection_id!r}.", where="id")
    return _one(request, _NAMES[kind][1], _DETECTIONS[kind](*found[0]))


def _read_history(request: Request, deps: PortalDeps, user_id: str) -> Response:
    with deps.control.read() as tx:
        found = risk_lists.find_subject(tx, risks.USER, user_id)
        if found is None:
            raise NotFound(f"there is no user {user_id!r}.", where="id")
        shown = [history_item(each, found) for each in risks.history(tx, risks.USER, user_id)]
    context = _context(request, f"riskyUsers('{user_id}')/history")
    return graph_json(request, {**context, "value": shown})


def _one(request: Request, name: str, shown: Mapping[str, Any]) -> Response:
    wanted = [part.strip() for part in request.query_params.get("$select", "").split(",") if part.strip()]
    return graph_json(request, {**_context(request, name, is_one=True), **graph_shapes.select(shown, wanted)})
