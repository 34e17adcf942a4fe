"""Two doors of other products, over the same engine: Kusto's REST API and Graph's runHuntingQuery.

Unmodified clients come here: azure-kusto-data and what is built on it, Grafana's Azure Data Explorer plugin, msticpy,
anything that speaks Graph. Queries run through ``hunting``, as everybody's; errors leave as each door's clients read
them. Sources: the Kusto REST documentation, the clients' own code, the Graph reference of ``security: runHuntingQuery``
(default: 30 days; at most 100,000 rows).
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from watchfloor.kql.values import TICKS_PER_SECOND, format_datetime, parse_timespan
from watchfloor.model.errors import Denied, InputError, NotFound, PastLimit, Unavailable, WatchfloorError
from watchfloor.model.people import Permission
from watchfloor.portal import wire
from watchfloor.portal.auth import PUBLIC, Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.hunting import MAX_ROWS, MAX_SECONDS, answered, request_for, visible_schema
from watchfloor.portal.kusto_show import show
from watchfloor.portal.problems import Unauthenticated
from watchfloor.storage.compiler import ticks
from watchfloor.storage.hunting import Cancelled
from watchfloor.storage.hunts import Run, TooMany
from watchfloor.storage.ports import Limits

KUSTO: Final = "kusto"
GRAPH: Final = "graph"

kusto = APIRouter(tags=[KUSTO])
graph = APIRouter(tags=[GRAPH])

_DEFAULT_SECONDS: Final = 240.0
_GRAPH_DAYS: Final = 30
_GRAPH_SECONDS: Final = 180.0
_CONTEXT: Final = "https://graph.microsoft.com/{version}/$metadata#microsoft.graph.security.huntingQueryResults"
_COMMENTS: Final = re.compile(r"\s*(?://[^\n]*\n\s*)*")
_DATABASES: Final = ("netdefaultdb", "default")
"""What clients write that name no database."""

Caller = Annotated[Viewer, permit(Permission.HUNT_RUN)]


# -- Kusto ------------------------------------------------------------------------------------------------------------


@kusto.post("/v2/rest/query", summary="Kusto: run a query (answer v2)")
async def query_v2(request: Request, viewer: Caller, deps: Deps) -> Response:
    """Frames, whole: ``IsProgressive`` is never true."""
    return await _kusto(request, viewer, deps, version=2)


@kusto.post("/v1/rest/query", summary="Kusto: run a query (answer v1)")
async def query_v1(request: Request, viewer: Caller, deps: Deps) -> Response:
    """Queries, and the management commands that Grafana sends here."""
    return await _kusto(request, viewer, deps, version=1)


@kusto.post("/v1/rest/mgmt", summary="Kusto: read-only management commands")
async def manage_v1(request: Request, viewer: Caller, deps: Deps) -> Response:
    """``.show`` and nothing else."""
    return await _kusto(request, viewer, deps, version=1, is_management=True)


@kusto.get("/v1/rest/auth/metadata", dependencies=[PUBLIC], summary="Kusto: how to sign in")
def auth_metadata() -> Response:
    """There is nothing: clients then use the token that they were given."""
    raise NotFound("there is no sign-in here.", where="auth", remedy="Send an API token of Watchfloor.")


async def _kusto(
    request: Request, viewer: Viewer, deps: PortalDeps, *, version: int, is_management: bool = False
) -> Response:
    text, database, properties = _kusto_body(await request.body())
    now = ticks(deps.now())
    schema = await run_in_threadpool(visible_schema, deps, viewer)
    if database and database.lower() not in (schema.database.lower(), *_DATABASES):
        raise InputError(f"there is no database {database!r}.", where="db", remedy=f"Use {schema.database}.")
    command = _COMMENTS.sub("", text, count=1)
    if command.startswith("."):
        shown = show(command, schema)
        table = ("PrimaryResult", shown.columns, shown.rows)
        return _json(request, wire.v1([table]) if version == 1 else _frames(request, [table], now))
    if is_management:
        raise InputError("this door takes management commands.", where="csl", remedy="Send queries to /v2/rest/query.")

    def answer(run: Run) -> Response:
        hunted = run.result()
        tables = [("PrimaryResult", hunted.columns, hunted.values())]
        tables += [(name, other.columns, other.values()) for name, other in hunted.others]
        if version == 1:
            return _json(request, wire.v1(tables, hunted.visualization or {}))
        statistics = {
            "ExecutionTime": round(run.seconds, 6),
            "dataset_statistics": [{"table_row_count": hunted.rows, "table_size": hunted.nbytes}],
        }
        return _json(request, _frames(request, tables, now, hunted.visualization, statistics))

    options, parameters = (_member(properties, name) for name in ("Options", "Parameters"))
    asked = request_for(
        deps,
        viewer,
        text,
        door=KUSTO,
        timespan=None,
        limits=Limits(_seconds(options.get("servertimeout")), _rows(options.get("truncationmaxrecords"))),
        parameters=parameters,
    )
    return await answered(asked, request, viewer, deps, answer)


def _kusto_body(raw: bytes) -> tuple[str, str, Mapping[str, Any]]:
    try:
        sent = orjson.loads(raw)
        text, database, properties = sent["csl"], sent.get("db") or "", sent.get("properties") or {}
        if isinstance(properties, str):  # azure-kusto-data sends JSON inside JSON, Grafana an object
            properties = orjson.loads(properties) if properties.strip() else {}
        if not (isinstance(text, str) and isinstance(database, str) and isinstance(properties, dict)):
            raise TypeError("db and csl are text, properties an object")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f'this is not {{"db", "csl", "properties"}}: {error}.', where="body") from None
    return text, database, properties


def _member(properties: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = properties.get(name) or properties.get(name.lower()) or {}
    if not isinstance(found, dict):
        raise InputError("this is not an object.", where=f"properties.{name}")
    return found


def _seconds(value: Any) -> float:
    if value is None:
        return _DEFAULT_SECONDS
    found = parse_timespan(value) if isinstance(value, str) else None
    if found is None or found <= 0:
        raise InputError(f"{value!r} is not a time such as 00:04:00.", where="properties.Options.servertimeout")
    return min(found / TICKS_PER_SECOND, MAX_SECONDS)


def _rows(value: Any) -> int:
    if value is None:
        return MAX_ROWS
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError("this is not a number of rows.", where="properties.Options.truncationmaxrecords")
    return min(value, MAX_ROWS)


def _frames(
    request: Request,
    tables: wire.Tables,
    now: int,
    visualization: Mapping[str, Any] | None = None,
    statistics: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    activity, client = _ids(request)
    return wire.v2(tables, visualization, at=now, request_id=client, activity_id=activity, statistics=statistics or {})


# -- Graph ------------------------------------------------------------------------------------------------------------


@graph.post("/v1.0/security/runHuntingQuery", summary="Graph: run a hunting query")
async def graph_v1(request: Request, viewer: Caller, deps: Deps) -> Response:
    """``{"Query", "Timespan"}`` to ``{"schema", "results"}``."""
    return await _graph(request, viewer, deps, "v1.0")


@graph.post("/beta/security/runHuntingQuery", summary="Graph (beta): run a hunting query")
async def graph_beta(request: Request, viewer: Caller, deps: Deps) -> Response:
    """The same."""
    return await _graph(request, viewer, deps, "beta")


async def _graph(request: Request, viewer: Viewer, deps: PortalDeps, version: str) -> Response:
    text, timespan = _graph_body(await request.body())
    asked = request_for(
        deps,
        viewer,
        text,
        door=GRAPH,
        timespan=timespan,
        default_days=_GRAPH_DAYS,
        limits=Limits(_GRAPH_SECONDS, MAX_ROWS),
    )

    def answer(run: Run) -> Response:
        hunted = run.result()
        return _json(request, wire.graph(hunted.columns, hunted.values(), _CONTEXT.format(version=version)))

    return await answered(asked, request, viewer, deps, answer)


def _graph_body(raw: bytes) -> tuple[str, str | None]:
    try:
        sent = {str(key).lower(): value for key, value in orjson.loads(raw).items()}
        text, timespan = sent["query"], sent.get("timespan")
        if not isinstance(text, str) or not (timespan is None or isinstance(timespan, str)):
            raise TypeError("Query and Timespan are text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f'this is not {{"Query", "Timespan"}}: {error}.', where="body") from None
    return text, timespan


# -- answers ----------------------------------------------------------------------------------------------------------


def _ids(request: Request) -> tuple[str, str]:
    """Our id of this request, and the client's."""
    if not hasattr(request.state, "activity"):
        request.state.activity = str(uuid.uuid4())
    ours: str = request.state.activity
    sent = request.headers.get("x-ms-client-request-id") or request.headers.get("client-request-id") or ours
    return ours, sent[:200]


def _json(request: Request, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    ours, client = _ids(request)
    names = (
        ("x-ms-activity-id", "x-ms-client-request-id")
        if _door(request) == KUSTO
        else ("request-id", "client-request-id")
    )
    named = dict(zip(names, (ours, client), strict=True))
    return Response(orjson.dumps(content), status, {**named, **(headers or {})}, "application/json")


def graph_json(request: Request, content: Any) -> Response:
    """An answer of Graph's door, with the ids that its clients log."""
    return _json(request, content)


def _door(request: Request) -> str:
    """Which of the two doors the request came through; empty for neither."""
    tags = getattr(request.scope.get("route"), "tags", ())
    return next((door for door in (KUSTO, GRAPH) if door in tags), "")


_STATUS: Final[tuple[tuple[type[WatchfloorError], int, str, str], ...]] = (
    (Unauthenticated, 401, "Unauthorized", "InvalidAuthenticationToken"),
    (Denied, 403, "Forbidden", "Forbidden"),
    (TooMany, 429, "TooManyRequests", "TooManyRequests"),
    (PastLimit, 400, "LimitsExceeded", "BadRequest"),
    (Cancelled, 400, "Cancelled", "BadRequest"),
    (Unavailable, 503, "ServiceUnavailable", "ServiceUnavailable"),
    (InputError, 400, "BadRequest", "BadRequest"),
    (WatchfloorError, 500, "InternalServiceError", "InternalServerError"),
)
"""Error to status, Kusto's code, Graph's code; the first family that fits decides."""


def error_answer(request: Request, error: WatchfloorError) -> Response | None:
    """``error`` as the door's clients read it; None if the request came through neither door."""
    door = _door(request)
    if not door:
        return None
    status, code, graph_code = next(row[1:] for row in _STATUS if isinstance(error, row[0]))
    if isinstance(error, NotFound) and (request.method == "GET" or door == GRAPH):
        status, code, graph_code = 404, "NotFound", "NotFound"
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(getattr(error, "retry_after", 1.0))))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="watchfloor"'
    at = format_datetime(ticks(request.app.state.deps.now()))
    ours, client = _ids(request)
    if door == KUSTO:
        body = wire.kusto_error(code, str(error), activity_id=ours, at=at, is_permanent=status not in (429, 503))
    else:
        inner = {"date": at, "request-id": ours, "client-request-id": client}
        body = {"error": {"code": graph_code, "message": str(error), "innerError": inner}}
    return _json(request, body, status, headers)
