"""How telemetry arrives: each source through each door, what waits on the way, and what could not be taken.

Above the event store, asked in KQL, and ``storage.sources``. The originals of what was quarantined are contents:
reading one needs its own permission and is in the audit log before it leaves.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Protocol, runtime_checkable

from fastapi import APIRouter, Query
from pydantic import BaseModel

from watchfloor.model.errors import NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.decisions import Contents, shown
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.views import Page
from watchfloor.storage import sources
from watchfloor.storage.activity import literal, moment

router = APIRouter(prefix="/api/pipeline", tags=["telemetry"])

RATE_WINDOW: Final = timedelta(minutes=5)
DAY: Final = timedelta(days=1)
WEEK: Final = timedelta(days=7)
_MOST_FLOWS: Final = 10_000

Name = Annotated[str, Query(max_length=300)]


@runtime_checkable
class Reports(Protocol):
    """An event store that says how far it is behind its log: the store process. One in this process has no log."""

    def health(self) -> dict[str, Any]:
        """See ``RemoteStore.health``."""
        ...


class FlowView(BaseModel):
    """What comes from a source through one door.

    ``events_per_second`` and ``lag_seconds`` (the worst) are of the last five minutes, the counts of the last day,
    ``last_event`` (by its sender's clock) and ``last_report`` of the last week; null: nothing came.
    """

    door: str
    last_event: datetime | None
    last_report: datetime | None
    events_per_second: float
    lag_seconds: float | None
    requests: int
    received: int
    stored: int
    duplicates: int
    rejected: int
    throttled: int
    bytes: int


class SourceFlowsView(BaseModel):
    """A source and what comes from it. ``is_known``: it still exists."""

    id: str
    name: str
    is_known: bool
    is_enabled: bool
    flows: list[FlowView]


class BacklogView(BaseModel):
    """Events that are durable and not yet in the event store. ``set_aside``: batches that fit no table."""

    rows: int
    bytes: int
    oldest_seconds: float
    set_aside: int


class NewestView(BaseModel):
    """The event that the store took in last."""

    position: int
    happened_at: datetime
    stored_at: datetime


class PipelineView(BaseModel):
    """Every source, and what lies between the doors and the event store; ``backlog`` null: not known."""

    sources: list[SourceFlowsView]
    backlog: BacklogView | None
    newest: NewestView | None
    faults: list[str]


class RejectView(BaseModel):
    """A span or event that a door could not take. ``position`` is its place in the list."""

    id: str
    position: int
    at: datetime
    source_id: str
    door: str
    trace_id: str
    span_id: str
    place: str
    reason: str
    size_bytes: int
    address: str


# -- how it fares -----------------------------------------------------------------------------------------------------


@router.get("", summary="How telemetry arrives")
def read_pipeline(viewer: Annotated[Viewer, permit(Permission.SOURCE_READ)], deps: Deps) -> PipelineView:
    """Sources by id, also those that never sent anything and those that were deleted within the week."""
    flows = _flows(deps)
    with deps.control.read() as tx:
        known = {source.id: source for source in sources.list_sources(tx)}
    views = [
        SourceFlowsView(
            id=source_id,
            name=known[source_id].name if source_id in known else source_id,
            is_known=source_id in known,
            is_enabled=source_id in known and known[source_id].is_enabled,
            flows=flows.get(source_id, []),
        )
        for source_id in sorted(known.keys() | flows.keys())
    ]
    said = deps.events.health() if isinstance(deps.events, Reports) else {}
    return PipelineView(sources=views, backlog=_backlog(said), newest=_newest(deps), faults=said.get("faults", []))


def _flows(deps: PortalDeps) -> dict[str, list[FlowView]]:
    now = deps.now()
    counted = ("Requests", "Received", "Stored", "Duplicates", "Rejected", "Throttled", "Bytes")
    recent, of_day = f"Timestamp > {moment(now - RATE_WINDOW)}", f"Timestamp > {moment(now - DAY)}"
    table = deps.activity.query(
        f"PipelineHealth | where Timestamp > {moment(now - WEEK)} | summarize"
        f" {', '.join(f'{name} = sumif({name}, {of_day})' for name in counted)},"
        f" Recent = sumif(Received, {recent}), Lag = maxif(LagSeconds, {recent}),"
        " LastEvent = max(LastEventTime), LastReport = max(Timestamp)"
        " by SourceId, SourceDoor | sort by SourceId asc, SourceDoor asc",
        _MOST_FLOWS,
    )
    flows: dict[str, list[FlowView]] = {}
    for row in table.to_pylist():
        flow = FlowView(
            door=row["SourceDoor"],
            last_event=_utc(row["LastEvent"]),
            last_report=_utc(row["LastReport"]),
            events_per_second=round((row["Recent"] or 0) / RATE_WINDOW.total_seconds(), 3),
            lag_seconds=row["Lag"],
            **{name.lower(): row[name] or 0 for name in counted},
        )
        flows.setdefault(row["SourceId"], []).append(flow)
    return flows


def _backlog(said: dict[str, Any]) -> BacklogView | None:
    waiting = said.get("backlog")
    if waiting is None:
        return None
    return BacklogView(
        rows=waiting["rows"],
        bytes=waiting["bytes"],
        oldest_seconds=said["lag_seconds"],
        set_aside=waiting["set_aside"],
    )


def _newest(deps: PortalDeps) -> NewestView | None:
    rows = deps.activity.query(
        "AgentActivity | sort by IngestSeq desc | take 1 | project IngestSeq, IngestTime, Timestamp", 1
    ).to_pylist()
    if not rows:
        return None
    row = rows[0]
    return NewestView(
        position=row["IngestSeq"],
        happened_at=row["Timestamp"].astimezone(UTC),
        stored_at=row["IngestTime"].astimezone(UTC),
    )


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)


# -- what could not be taken ------------------------------------------------------------------------------------------


@router.get("/rejects", summary="Spans and events that could not be taken")
def list_rejects(
    viewer: Annotated[Viewer, permit(Permission.SOURCE_READ)],
    deps: Deps,
    source: Name = "",
    door: Name = "",
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[RejectView]:
    """Newest first; ``before`` takes ``next``. The originals are apart."""
    where = [f"{column} == {literal(value)}" for column, value in (("SourceId", source), ("SourceDoor", door)) if value]
    if before is not None:
        where.append(f"IngestSeq < {before}")
    filters = f" | where {' and '.join(where)}" if where else ""
    rows = deps.activity.query(f"TelemetryRejects{filters} | sort by IngestSeq desc | take {limit}", limit).to_pylist()
    following = str(rows[-1]["IngestSeq"]) if len(rows) >= limit else None
    return Page(items=[_reject(row) for row in rows], next=following)


def _reject(row: dict[str, Any]) -> RejectView:
    return RejectView(
        id=row["ReportId"],
        position=row["IngestSeq"],
        at=row["Timestamp"].astimezone(UTC),
        source_id=row["SourceId"] or "",
        door=row["SourceDoor"] or "",
        trace_id=row["TraceId"] or "",
        span_id=row["SpanId"] or "",
        place=row["Place"] or "",
        reason=row["Reason"] or "",
        size_bytes=row["SizeBytes"] or 0,
        address=row["IPAddress"] or "",
    )


@router.get("/rejects/{reject_id}/content", summary="The original of what could not be taken (audited)")
def read_reject(reject_id: str, viewer: Annotated[Viewer, permit(Permission.CONTENT_READ)], deps: Deps) -> Contents:
    """As it came, as far as it could be read. The reading leaves an audit entry."""
    rows = deps.activity.query(
        f'AgentContent | where Kind == "rejected" and ReportId == {literal(reject_id)} | take 10', 10
    ).to_pylist()
    if not rows:
        raise NotFound(f"there is no original of {reject_id[:100]!r}.", where="reject")
    # INVARIANT: no content leaves without this entry.
    with deps.control.tx(viewer.id) as tx:
        tx.audit("content:read", f"reject/{reject_id}", {"address": viewer.address})
    return Contents(items=[shown(row, "AgentContent") for row in rows])
