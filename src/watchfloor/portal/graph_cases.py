"""Graph's security API for alerts and incidents: what SOAR playbooks, msticpy and Graph's own clients speak.

    GET    /security/alerts_v2, /security/incidents
           $filter $top $skip $skiptoken $orderby $count $select, and of incidents $expand=alerts
    GET, PATCH …/{id}
    POST   …/{id}/comments

Under ``/v1.0`` and ``/beta``. Who sees what is decided in ``storage.cases``, as for our own API: a role that may read
only serious alerts gets unresolved high and critical ones, and incidents told from those alone. Triage goes through
``storage.triage``. Errors leave as Graph's clients read them. Source: Graph's reference of ``security: alerts_v2`` and
``security: incidents``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from operator import itemgetter
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from watchfloor.detection.publishing import read_directory
from watchfloor.model.cases import Alert, AlertStatus, Classification, Determination, Incident, IncidentStatus
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal import graph_lists, graph_shapes
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.graph_lists import Asked
from watchfloor.portal.kusto import GRAPH, graph_json
from watchfloor.storage import case_fields, cases, odata, people, triage
from watchfloor.storage.cases import CaseQuery
from watchfloor.storage.control import ControlTx

router = APIRouter(tags=[GRAPH])

_ROOT: Final = "https://graph.microsoft.com/{version}/$metadata#security/{name}"
_TOP: Final = {"alerts_v2": (100, 1000), "incidents": (50, 50)}
"""Resources in a page: the usual number, and the most."""
_MOST_CUT_DOWN: Final = 2_000
"""Incidents that are looked through for a viewer who sees only some of their alerts, the newest first."""
_MOST_EXPANDED: Final = 150
"""Alerts that are shown within one incident."""
_MOST_COMMENTS: Final = 20
_TIMES: Final = ("createdDateTime", "lastUpdateDateTime")

Reader = Annotated[Viewer, permit(Permission.ALERT_READ_SERIOUS)]
Triager = Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE)]
E = TypeVar("E", bound=StrEnum)


def _asked(request: Request, name: str) -> Asked:
    usual, most = _TOP[name]
    expands = ("alerts",) if name == "incidents" else ()
    return graph_lists.asked(request, usual=usual, most=most, orders=_TIMES, expands=expands)


# -- routes -------------------------------------------------------------------------------------------------------


@router.get("/v1.0/security/alerts_v2", summary="Graph: list alerts")
async def alerts_v1(request: Request, viewer: Reader, deps: Deps) -> Response:
    """As far as the viewer may see them."""
    return await run_in_threadpool(_list_alerts, request, viewer, deps)


@router.get("/beta/security/alerts_v2", summary="Graph (beta): list alerts")
async def alerts_beta(request: Request, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_list_alerts, request, viewer, deps)


@router.get("/v1.0/security/incidents", summary="Graph: list incidents")
async def incidents_v1(request: Request, viewer: Reader, deps: Deps) -> Response:
    """As far as the viewer may see them."""
    return await run_in_threadpool(_list_incidents, request, viewer, deps)


@router.get("/beta/security/incidents", summary="Graph (beta): list incidents")
async def incidents_beta(request: Request, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_list_incidents, request, viewer, deps)


@router.get("/v1.0/security/alerts_v2/{alert_id}", summary="Graph: one alert")
async def alert_v1(request: Request, alert_id: str, viewer: Reader, deps: Deps) -> Response:
    """One that may not be seen is not found."""
    return await run_in_threadpool(_read_alert, request, viewer, deps, alert_id)


@router.get("/beta/security/alerts_v2/{alert_id}", summary="Graph (beta): one alert")
async def alert_beta(request: Request, alert_id: str, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_read_alert, request, viewer, deps, alert_id)


@router.get("/v1.0/security/incidents/{incident_id}", summary="Graph: one incident")
async def incident_v1(request: Request, incident_id: str, viewer: Reader, deps: Deps) -> Response:
    """With ``$expand=alerts``, its alerts, too."""
    return await run_in_threadpool(_read_incident, request, viewer, deps, incident_id)


@router.get("/beta/security/incidents/{incident_id}", summary="Graph (beta): one incident")
async def incident_beta(request: Request, incident_id: str, viewer: Reader, deps: Deps) -> Response:
    """The same."""
    return await run_in_threadpool(_read_incident, request, viewer, deps, incident_id)


@router.patch("/v1.0/security/alerts_v2/{alert_id}", summary="Graph: triage an alert")
async def patch_alert_v1(request: Request, alert_id: str, viewer: Triager, deps: Deps) -> Response:
    """status, classification, determination, assignedTo."""
    return await _patch(request, viewer, deps, _patch_alert, alert_id)


@router.patch("/beta/security/alerts_v2/{alert_id}", summary="Graph (beta): triage an alert")
async def patch_alert_beta(request: Request, alert_id: str, viewer: Triager, deps: Deps) -> Response:
    """The same."""
    return await _patch(request, viewer, deps, _patch_alert, alert_id)


@router.patch("/v1.0/security/incidents/{incident_id}", summary="Graph: triage an incident")
async def patch_incident_v1(request: Request, incident_id: str, viewer: Triager, deps: Deps) -> Response:
    """status, classification, determination, assignedTo, customTags. Resolving needs a classification."""
    return await _patch(request, viewer, deps, _patch_incident, incident_id)


@router.patch("/beta/security/incidents/{incident_id}", summary="Graph (beta): triage an incident")
async def patch_incident_beta(request: Request, incident_id: str, viewer: Triager, deps: Deps) -> Response:
    """The same."""
    return await _patch(request, viewer, deps, _patch_incident, incident_id)


@router.post("/v1.0/security/alerts_v2/{alert_id}/comments", summary="Graph: comment on an alert")
async def comment_alert_v1(request: Request, alert_id: str, viewer: Triager, deps: Deps) -> Response:
    """Answers all of its comments."""
    return await _write(request, viewer, deps, _comment_alert, alert_id)


@router.post("/beta/security/alerts_v2/{alert_id}/comments", summary="Graph (beta): comment on an alert")
async def comment_alert_beta(request: Request, alert_id: str, viewer: Triager, deps: Deps) -> Response:
    """The same."""
    return await _write(request, viewer, deps, _comment_alert, alert_id)


@router.post("/v1.0/security/incidents/{incident_id}/comments", summary="Graph: comment on an incident")
async def comment_incident_v1(request: Request, incident_id: str, viewer: Triager, deps: Deps) -> Response:
    """Answers all of its comments."""
    return await _write(request, viewer, deps, _comment_incident, incident_id)


@router.post("/beta/security/incidents/{incident_id}/comments", summary="Graph (beta): comment on an incident")
async def comment_incident_beta(request: Request, incident_id: str, viewer: Triager, deps: Deps) -> Response:
    """The same."""
    return await _write(request, viewer, deps, _comment_incident, incident_id)


# -- reading ------------------------------------------------------------------------------------------------------


def _context(request: Request, name: str, *, is_one: bool = False) -> dict[str, str]:
    root = _ROOT.format(version=graph_lists.version(request), name=name)
    return {"@odata.context": f"{root}/$entity" if is_one else root}


def _shown_alerts(tx: ControlTx, viewer: Viewer, deps: PortalDeps, found: Sequence[Alert]) -> list[dict[str, Any]]:
    directory = read_directory(tx, found)
    written: dict[str, list[Any]] = {}
    if cases.sees_everything(viewer.permissions):
        for entry in triage.comments(tx, alert_ids=[each.id for each in found]):
            written.setdefault(entry.alert_id or "", []).append(entry)
    return [
        graph_shapes.alert(each, directory, written.get(each.id, ()), tenant=deps.tenant, base_url=deps.public_url)
        for each in found
    ]


def _shown_incidents(
    tx: ControlTx, viewer: Viewer, deps: PortalDeps, found: Sequence[Incident], *, expand: bool
) -> list[dict[str, Any]]:
    everything = cases.sees_everything(viewer.permissions)
    visible: dict[str, list[Alert]] = {}
    if expand or not everything:
        for each in found:
            mine = cases.CaseFilter(incident_id=each.id)
            limit = _MOST_EXPANDED if everything else len(each.alert_ids)
            visible[each.id] = cases.list_alerts(tx, viewer.permissions, mine, limit)
    written: dict[str, list[Any]] = {}
    if everything:
        for entry in triage.comments(tx, incident_ids=[each.id for each in found]):
            written.setdefault(entry.incident_id or "", []).append(entry)
    shown = []
    for each in found:
        body = graph_shapes.incident(
            each, visible.get(each.id, ()), written.get(each.id, ()), tenant=deps.tenant, base_url=deps.public_url
        )
        if expand:
            body["alerts"] = _shown_alerts(tx, viewer, deps, visible[each.id][:_MOST_EXPANDED])
        shown.append(body)
    return shown


def _list_alerts(request: Request, viewer: Viewer, deps: PortalDeps) -> Response:
    asked = _asked(request, "alerts_v2")
    fields = case_fields.alert_fields(deps.tenant)
    query = _query(asked, fields)
    with deps.control.read() as tx:
        found = cases.find_alerts(tx, viewer.permissions, query)
        shown = _shown_alerts(tx, viewer, deps, found)
        total = cases.count_alerts(tx, viewer.permissions, query) if asked.count else None
    return _page(request, "alerts_v2", asked, shown, total)


def _list_incidents(request: Request, viewer: Viewer, deps: PortalDeps) -> Response:
    asked = _asked(request, "incidents")
    fields = case_fields.incident_fields(deps.tenant)
    with deps.control.read() as tx:
        if cases.sees_everything(viewer.permissions):
            query = _query(asked, fields)
            found = cases.find_incidents(tx, query)
            shown = _shown_incidents(tx, viewer, deps, found, expand=asked.expand)
            total = cases.count_incidents(tx, query) if asked.count else None
        else:
            shown, total = _cut_down(tx, viewer, deps, asked, fields)
    return _page(request, "incidents", asked, shown, total)


def _cut_down(
    tx: ControlTx, viewer: Viewer, deps: PortalDeps, asked: Asked, fields: Mapping[str, odata.Field]
) -> tuple[list[dict[str, Any]], int | None]:
    """For who sees only some alerts: incidents are filtered by what is told of them, not by what is stored."""
    condition = odata.parse(asked.filter, fields) if asked.filter else None
    found = cases.list_incidents(tx, viewer.permissions, limit=_MOST_CUT_DOWN)
    told = _shown_incidents(tx, viewer, deps, found, expand=asked.expand)
    kept = [each for each in told if condition is None or odata.matches(condition, each, fields)]
    for name, is_descending in reversed(asked.order):
        kept.sort(key=itemgetter(name), reverse=is_descending)
    if asked.before and not asked.order:
        kept = [each for each in kept if each["id"] < asked.before]
    return kept[asked.skip : asked.skip + asked.top], len(kept) if asked.count else None


def _query(asked: Asked, fields: Mapping[str, odata.Field]) -> CaseQuery:
    condition = odata.to_sql(odata.parse(asked.filter, fields), fields) if asked.filter else None
    order = []
    for name, is_descending in asked.order:
        column = fields[name].column
        assert column is not None, "only fields of the table are sorted by"
        order.append(column.desc() if is_descending else column.asc())
    return CaseQuery(condition, tuple(order), asked.top, asked.skip, "" if order else asked.before)


def _page(request: Request, name: str, asked: Asked, shown: list[dict[str, Any]], total: int | None) -> Response:
    return graph_json(request, graph_lists.page(request, _context(request, name), asked, shown, total))


def _read_alert(request: Request, viewer: Viewer, deps: PortalDeps, alert_id: str) -> Response:
    with deps.control.read() as tx:
        found = cases.find_alert(tx, viewer.permissions, alert_id)
        if found is None:
            raise NotFound(f"there is no alert {alert_id!r}.", where="id")
        shown = _shown_alerts(tx, viewer, deps, [found])[0]
    return _one(request, "alerts_v2", shown)


def _read_incident(request: Request, viewer: Viewer, deps: PortalDeps, incident_id: str) -> Response:
    asked = _asked(request, "incidents")
    with deps.control.read() as tx:
        found = cases.find_incident(tx, viewer.permissions, incident_id)
        if found is None:
            raise NotFound(f"there is no incident {incident_id!r}.", where="id")
        shown = _shown_incidents(tx, viewer, deps, [found], expand=asked.expand)[0]
    return _one(request, "incidents", shown)


def _one(request: Request, name: str, shown: Mapping[str, Any]) -> Response:
    wanted = [part.strip() for part in request.query_params.get("$select", "").split(",") if part.strip()]
    return graph_json(request, {**_context(request, name, is_one=True), **graph_shapes.select(shown, wanted)})


# -- triage -------------------------------------------------------------------------------------------------------

Change = Callable[[Request, Viewer, PortalDeps, str, Mapping[str, Any]], Response]
Write = Callable[[Request, Viewer, PortalDeps, str, Sequence[str]], Response]


async def _patch(request: Request, viewer: Viewer, deps: PortalDeps, change: Change, subject: str) -> Response:
    sent = graph_lists.parsed(await request.body())
    if not isinstance(sent, dict):
        raise InputError("this is no object.", where="body")
    return await run_in_threadpool(change, request, viewer, deps, subject, sent)


async def _write(request: Request, viewer: Viewer, deps: PortalDeps, write: Write, subject: str) -> Response:
    """Comments: one, as Graph documents it, or a list of some, as its client for Python sends them."""
    sent = graph_lists.parsed(await request.body())
    each = sent if isinstance(sent, list) else [sent]
    if not 0 < len(each) <= _MOST_COMMENTS or not all(isinstance(one, dict) for one in each):
        raise InputError(f"this is neither a comment nor a list of at most {_MOST_COMMENTS}.", where="body")
    texts = [_text(one, "comment", triage.LONGEST_COMMENT) or "" for one in each]
    request.state.answers_list = isinstance(sent, list)
    return await run_in_threadpool(write, request, viewer, deps, subject, texts)


def _text(sent: Mapping[str, Any], name: str, longest: int = 200) -> str | None:
    """The text member ``name``: None if it is left out, empty for null."""
    if name not in sent:
        return None
    value = sent[name]
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest:
        raise InputError(f"this is no text of at most {longest} characters.", where=name)
    return value


def _choice(sent: Mapping[str, Any], name: str, kind: type[E]) -> E | None:
    text = _text(sent, name)
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"{text!r} is not known.", where=name, remedy=f"One of {', '.join(kind)}.") from None


def _operator(tx: ControlTx, sent: Mapping[str, Any]) -> str | None:
    assigned_to = _text(sent, "assignedTo")
    if assigned_to and people.find_operator(tx, assigned_to) is None:
        raise InputError(f"there is no operator {assigned_to!r}.", where="assignedTo")
    return assigned_to


def _patch_alert(
    request: Request, viewer: Viewer, deps: PortalDeps, alert_id: str, sent: Mapping[str, Any]
) -> Response:
    with deps.control.tx(viewer.id) as tx:
        if cases.find_alert(tx, viewer.permissions, alert_id) is None:
            raise NotFound(f"there is no alert {alert_id!r}.", where="id")
        changed = triage.triage_alert(
            tx,
            alert_id,
            status=_choice(sent, "status", AlertStatus),
            classification=_choice(sent, "classification", Classification),
            determination=_choice(sent, "determination", Determination),
            assigned_to=_operator(tx, sent),
        )
        shown = _shown_alerts(tx, viewer, deps, [changed])[0]
    return _one(request, "alerts_v2", shown)


def _patch_incident(
    request: Request, viewer: Viewer, deps: PortalDeps, incident_id: str, sent: Mapping[str, Any]
) -> Response:
    tags = sent.get("customTags")
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise InputError("this is no list of texts.", where="customTags")
    with deps.control.tx(viewer.id) as tx:
        if cases.find_incident(tx, viewer.permissions, incident_id) is None:
            raise NotFound(f"there is no incident {incident_id!r}.", where="id")
        changed = triage.triage_incident(
            tx,
            incident_id,
            status=_choice(sent, "status", IncidentStatus),
            classification=_choice(sent, "classification", Classification),
            determination=_choice(sent, "determination", Determination),
            assigned_to=_operator(tx, sent),
            tags=tags,
            comment=(_text(sent, "resolvingComment", triage.LONGEST_COMMENT) or "").strip(),
        )
        shown = _shown_incidents(tx, viewer, deps, [changed], expand=False)[0]
    return _one(request, "incidents", shown)


def _comment_alert(request: Request, viewer: Viewer, deps: PortalDeps, alert_id: str, texts: Sequence[str]) -> Response:
    with deps.control.tx(viewer.id) as tx:
        if cases.find_alert(tx, viewer.permissions, alert_id) is None:
            raise NotFound(f"there is no alert {alert_id!r}.", where="id")
        for text in texts:
            triage.comment(tx, text, alert_id=alert_id)
        written = triage.comments(tx, alert_ids=[alert_id])
    return _comments(request, f"alerts_v2('{alert_id}')/comments", written)


def _comment_incident(
    request: Request, viewer: Viewer, deps: PortalDeps, incident_id: str, texts: Sequence[str]
) -> Response:
    with deps.control.tx(viewer.id) as tx:
        if cases.find_incident(tx, viewer.permissions, incident_id) is None:
            raise NotFound(f"there is no incident {incident_id!r}.", where="id")
        for text in texts:
            triage.comment(tx, text, incident_id=incident_id)
        written = triage.comments(tx, incident_ids=[incident_id])
    return _comments(request, f"incidents('{incident_id}')/comments", written)


def _comments(request: Request, name: str, written: Sequence[Any]) -> Response:
    shown = [graph_shapes.comment(each) for each in written]
    return graph_json(request, shown if request.state.answers_list else {**_context(request, name), "value": shown})
