"""Advanced hunting: run KQL, watch it, cancel it, page through it; named lists; the schema for editors.

Every run is in the audit log with who, what, how much and how long; strings that the author marked (``h"..."``) are
masked there. A viewer sees the content tables only with the permission to read contents. Above ``storage.hunts``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import orjson
import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from watchfloor.kql.ranges import parse_range
from watchfloor.kql.schema import Schema
from watchfloor.kql.values import TICKS_PER_DAY
from watchfloor.model.errors import Conflict, InputError
from watchfloor.model.people import Permission
from watchfloor.portal import wire
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.storage import hunting, lists
from watchfloor.storage.compiler import described_views, ticks
from watchfloor.storage.hunts import Run
from watchfloor.storage.ports import Limits, Scope
from watchfloor.storage.tables import TABLES

router = APIRouter(prefix="/api/hunting", tags=["hunting"])

MAX_ROWS: Final = 100_000
MAX_SECONDS: Final = 600.0
ARROW: Final = "application/vnd.apache.arrow.stream"
_PAGE: Final = 1000
_LOOK_SECONDS: Final = 0.25


class ColumnView(BaseModel):
    """A column of a result: its name and KQL type."""

    name: str
    type: str


class RunView(BaseModel):
    """A run. ``progress``: the share done, 0 to 1, null where it is not known. ``rows`` and ``notes`` (what there is to
    say besides) are known at the end."""

    id: str
    state: str
    query: str
    seconds: float
    progress: float | None
    rows: int | None = None
    error: str | None = None
    notes: list[str] = []


class Runs(BaseModel):
    """Runs, newest first."""

    items: list[RunView]


class ResultView(BaseModel):
    """Rows as arrays: datetimes ISO 8601 with Z, timespans ``d.hh:mm:ss.fffffff``, dynamic as JSON values."""

    id: str
    columns: list[ColumnView]
    rows: list[list[Any]]
    total: int
    next: int | None = None
    seconds: float
    visualization: dict[str, Any] | None = None


class HuntBody(BaseModel):
    """A query. ``timespan``: how far back tables are read (ISO 8601: P7D, start/end). ``wait`` false: only begin it."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(max_length=1_000_000)
    timespan: str | None = Field(default=None, max_length=200)
    timeout_seconds: float = Field(default=60.0, gt=0, le=MAX_SECONDS)
    max_rows: int = Field(default=10_000, ge=1, le=MAX_ROWS)
    wait: bool = True


class CheckBody(BaseModel):
    """A query to check."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(max_length=1_000_000)


class FaultView(BaseModel):
    """One thing that is wrong with a query; ``start`` and ``end`` are characters, line and column count from 1."""

    kind: str
    message: str
    remedy: str
    line: int
    column: int
    start: int
    end: int


class CheckView(BaseModel):
    """What binding a query says: its faults, or the columns that it gives (null where only its data knows them)."""

    faults: list[FaultView]
    columns: list[ColumnView] | None


class ListView(BaseModel):
    """A named list, without its rows."""

    name: str
    description: str
    key_column: str
    columns: list[ColumnView]
    row_count: int
    updated_at: datetime
    updated_by: str


class Lists(BaseModel):
    """Named lists, by name."""

    items: list[ListView]


class ListColumns(BaseModel):
    """A named list and its columns."""

    name: str
    columns: list[ColumnView]


class DescribedColumn(ColumnView):
    """A column of a table, and what it means."""

    doc: str


class TableView(BaseModel):
    """A table or view that can be hunted in. ``is_content``: it holds message contents."""

    name: str
    doc: str
    is_content: bool
    columns: list[DescribedColumn]


class SchemaView(BaseModel):
    """What an editor needs to complete names: tables and named lists of this viewer, functions of the language."""

    tables: list[TableView]
    lists: list[ListColumns]
    functions: list[dict[str, Any]]


# -- what a viewer may see ---------------------------------------------------------------------------------------------


def scope_of(deps: PortalDeps, viewer: Viewer) -> Scope:
    """Tables and tenants that ``viewer`` may hunt in."""
    may_read_content = Permission.CONTENT_READ in viewer.permissions
    visible = frozenset(name for name, table in TABLES.items() if may_read_content or not table.is_content)
    return Scope(tenants=(deps.tenant,), tables=visible)


def visible_schema(deps: PortalDeps, viewer: Viewer) -> Schema:
    """The catalogue, without what ``viewer`` may not see."""
    schema = deps.hunter.schema()
    visible = scope_of(deps, viewer).tables
    tables = {name: t for name, t in schema.tables.items() if visible is None or name in visible}
    views = {name: v for name, v in schema.views.items() if visible is None or v.reads <= visible}
    return replace(schema, tables=tables, views=views)


def request_for(
    deps: PortalDeps,
    viewer: Viewer,
    text: str,
    *,
    door: str,
    timespan: str | None,
    limits: Limits,
    default_days: int | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> hunting.Request:
    """A run of ``text`` for ``viewer``; ``default_days``: how far back where nothing says so. Raises ``InputError``."""
    check_text(text)
    now = ticks(deps.now())
    since: int | None = None
    until: int | None = None
    if timespan:
        try:
            since, until = parse_range(timespan, now)
        except ValueError as error:
            raise InputError(f"{error}.", where="timespan", remedy="Write ISO 8601: P7D, or start/end.") from None
    elif default_days is not None:
        since = now - default_days * TICKS_PER_DAY
    return hunting.Request(
        text=text, scope=scope_of(deps, viewer), limits=limits, since=since, until=until, door=door,
        parameters=parameters or {}, now=now,
    )  # fmt: skip


def check_text(text: str) -> None:
    """Raises ``InputError`` for what cannot be stored or sent on: halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"character {error.start + 1} is half a character.", where="query") from None


# -- running ----------------------------------------------------------------------------------------------------------


@router.post("/run", summary="Run a query", response_model=ResultView | RunView)
async def run_query(
    body: HuntBody, request: Request, viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)], deps: Deps
) -> Any:
    """The rows (JSON, or an Arrow stream where ``Accept`` asks for it); with ``wait`` false only the run's id.

    A caller that hangs up cancels its query.
    """
    limits = Limits(timeout_seconds=body.timeout_seconds, max_rows=body.max_rows)
    asked = request_for(deps, viewer, body.query, door="api", timespan=body.timespan, limits=limits)
    if not body.wait:
        return run_view(deps.hunts.start(asked, viewer.id))
    return await answered(asked, request, viewer, deps, lambda run: _rows(run, request, 0, body.max_rows))


async def answered(
    asked: hunting.Request, request: Request, viewer: Viewer, deps: PortalDeps, answer: Callable[[Run], Response]
) -> Response:
    """Run ``asked`` to its end and answer it; cancel it when nobody waits for the answer any more.

    Waiting holds no thread; ``answer``, which turns rows into bytes, gets one.
    """
    run = deps.hunts.start(asked, viewer.id)
    end = asyncio.wrap_future(run.ended)
    while not (await asyncio.wait({end}, timeout=_LOOK_SECONDS))[0]:
        if await request.is_disconnected():
            await run_in_threadpool(deps.hunts.cancel, run.id, viewer.id)
            raise hunting.Cancelled("The query was cancelled: its caller hung up.")
    return await run_in_threadpool(answer, run)


@router.get("/runs", summary="My runs")
def list_runs(viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)], deps: Deps) -> Runs:
    """Those that run, and those whose results are still kept."""
    return Runs(items=[run_view(run) for run in deps.hunts.of(viewer.id)])


@router.get("/runs/{run_id}", summary="How a run fares")
def read_run(run_id: str, viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)], deps: Deps) -> RunView:
    """Its state and progress."""
    return run_view(deps.hunts.find(run_id, viewer.id))


@router.get("/runs/{run_id}/rows", summary="Rows of a run, page by page", response_model=ResultView)
def read_rows(
    run_id: str,
    request: Request,
    viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)],
    deps: Deps,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = _PAGE,
) -> Any:
    """``after`` takes ``next`` of the page before. Arrow where ``Accept`` asks for it: then everything at once."""
    run = deps.hunts.find(run_id, viewer.id)
    if not run.is_over:
        raise Conflict("the query is still running.", where="run", remedy="Ask again, or cancel it.")
    return _rows(run, request, after, limit)


@router.delete("/runs/{run_id}", summary="Cancel a run")
def cancel_run(run_id: str, viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)], deps: Deps) -> RunView:
    """It stops at once; a run that has ended stays as it is."""
    run = deps.hunts.cancel(run_id, viewer.id)
    with suppress(TimeoutError):
        run.ended.result(2.0)
    return run_view(run)


@router.post("/check", summary="Check a query without running it")
def check_query(body: CheckBody, viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)], deps: Deps) -> CheckView:
    """Everything that is wrong with it, each with its place; or the columns that it gives."""
    check_text(body.query)
    checked = deps.hunter.check(body.query, scope_of(deps, viewer))
    faults = [
        FaultView(
            kind=error.kind,
            message=error.message,
            remedy=error.remedy,
            line=error.line,
            column=error.column,
            start=error.span.start,
            end=error.span.end,
        )
        for error in checked.errors
    ]
    columns = None if checked.columns is None else _columns(checked.columns)
    return CheckView(faults=faults, columns=columns)


@router.get("/schema", summary="Tables, columns and functions")
def read_schema(viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)], deps: Deps) -> SchemaView:
    """What queries of this viewer can name."""
    schema = visible_schema(deps, viewer)
    tables = [
        TableView(
            name=table.name,
            doc=table.doc,
            is_content=table.is_content,
            columns=[DescribedColumn(name=c.name, type=c.type, doc=c.doc) for c in table.columns],
        )
        for table in sorted((*TABLES.values(), *described_views().values()), key=lambda t: t.name)
        if table.name in schema.tables or table.name in schema.views
    ]
    named = [
        ListColumns(name=found.name, columns=[ColumnView(name=c.name, type=c.type) for c in found.columns])
        for found in schema.lists.values()
    ]
    return SchemaView(tables=tables, lists=named, functions=hunting.completion())


def run_view(run: Run) -> RunView:
    return RunView(
        id=run.id,
        state=run.state.value,
        query=run.request.text,
        seconds=round(run.seconds, 3),
        progress=run.progress,
        rows=run.hunted.rows if run.is_over and run.hunted else None,
        error=str(run.error) if run.is_over and run.error else None,
        notes=list(run.request.notes) if run.is_over else [],
    )


def _columns(columns: Sequence[tuple[str, str]]) -> list[ColumnView]:
    return [ColumnView(name=name, type=type_) for name, type_ in columns]


def _rows(run: Run, request: Request, after: int, limit: int) -> Response:
    hunted = run.result()
    if ARROW in request.headers.get("accept", ""):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, hunted.table.schema) as writer:
            writer.write_table(hunted.table, max_chunksize=65_536)
        return Response(sink.getvalue().to_pybytes(), media_type=ARROW)
    rows = hunted.values(after, limit)
    following = after + len(rows)
    # Many cells: they are written as they are, not validated one by one against the shape that they have by making.
    body = ResultView.model_construct(
        id=run.id,
        columns=_columns(hunted.columns),
        rows=[[wire.cell(v, t) for v, (_, t) in zip(row, hunted.columns, strict=True)] for row in rows],
        total=hunted.rows,
        next=following if following < hunted.rows else None,
        seconds=round(run.seconds, 3),
        visualization=hunted.visualization,
    )
    return Response(orjson.dumps(dict(body), default=dict), media_type="application/json")


# -- named lists ------------------------------------------------------------------------------------------------------


@router.get("/lists", summary="Named lists")
def list_lists(viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)], deps: Deps) -> Lists:
    """In a query, ``_GetWatchlist("name")`` gives the rows; so does the name itself where no table has it."""
    with deps.control.read() as tx:
        return Lists(items=[_list_view(found) for found in lists.all_lists(tx)])


@router.put("/lists/{name}", summary="Upload a named list as CSV")
async def put_list(
    name: str,
    request: Request,
    viewer: Annotated[Viewer, permit(Permission.LIST_WRITE)],
    deps: Deps,
    description: Annotated[str, Query(max_length=2000)] = "",
    key: Annotated[str, Query(max_length=100)] = "",
    types: Annotated[str, Query(max_length=4000, description="column:type, separated by commas")] = "",
) -> ListView:
    """The body is the CSV: a line of column names, then rows. It replaces a list of that name."""
    try:
        text = (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"this is not UTF-8 (byte {error.start}).", where="body") from None
    given = {}
    for part in filter(None, (p.strip() for p in types.split(","))):
        column, _, type_ = part.rpartition(":")
        if not column:
            raise InputError(f"{part!r} is not column:type.", where="types")
        given[column] = type_

    def save() -> ListView:
        content = lists.read_csv(text, given)
        with deps.control.tx(viewer.id) as tx:
            return _list_view(lists.save_list(tx, name, content, description=description, key_column=key))

    return await run_in_threadpool(save)


@router.get("/lists/{name}", summary="A named list as CSV")
def get_list(name: str, viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)], deps: Deps) -> Response:
    """As it was uploaded."""
    with deps.control.read() as tx:
        content = lists.read_content(tx, name)
    return Response(lists.to_csv(content), media_type="text/csv; charset=utf-8")


@router.delete("/lists/{name}", status_code=204, summary="Delete a named list")
def delete_list(name: str, viewer: Annotated[Viewer, permit(Permission.LIST_WRITE)], deps: Deps) -> None:
    """Queries that name it are refused from then on."""
    with deps.control.tx(viewer.id) as tx:
        lists.delete_list(tx, name)


def _list_view(found: lists.ListSummary) -> ListView:
    return ListView(
        name=found.name,
        description=found.description,
        key_column=found.key_column,
        columns=_columns(found.columns),
        row_count=found.row_count,
        updated_at=found.updated_at.astimezone(UTC),
        updated_by=found.updated_by,
    )
