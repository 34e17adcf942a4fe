"""Exports: a table's rows of a period as Parquet, JSON lines or OCSF, streamed.

Above ``storage.exports``. Who may export takes what they may hunt in: tables with contents only with the
permission to read contents. The audit entry stands before the first byte leaves.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.hunting import scope_of
from watchfloor.portal.times import utc
from watchfloor.storage.exports import FORMATS, Export, begin, settled
from watchfloor.storage.hunts import TooMany

router = APIRouter(prefix="/api/exports", tags=["exports"])

ROWS_HEADER: Final = "x-watchfloor-rows"
"""How many rows the answer has; who reads it counts them, for a stream can break off."""


class _Download(StreamingResponse):
    """A stream that gives its place back when it ends, however it ends."""

    def __init__(self, content: Iterator[bytes], places: threading.BoundedSemaphore, **options: Any) -> None:
        super().__init__(content, **options)
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._places.release()


@router.get("/{table}", summary="All rows of a table or view and period", response_class=StreamingResponse)
def export_table(
    table: str,
    viewer: Annotated[Viewer, permit(Permission.EXPORT_RUN)],
    deps: Deps,
    format: Annotated[Literal["parquet", "jsonl", "ocsf"], Query()] = "parquet",
    since: datetime | None = None,
    until: datetime | None = None,
) -> StreamingResponse:
    """Rows with ``since`` <= Timestamp < ``until``, by their order in the store, as of now; the answer's header
    X-Watchfloor-Rows is how many. Views: by time, and read whole before the first byte leaves. OCSF: AgentActivity, and
    AlertInfo with its evidence. The export is audited.
    """
    start = None if since is None else utc(since, "since")
    end = None if until is None else utc(until, "until")
    if not deps.exporting.acquire(blocking=False):
        raise TooMany("Two exports are running already; try again when one has ended.", retry_after=30.0)
    try:
        export = begin(deps.events, deps.compiler, scope_of(deps, viewer), table, start, end)
        media_type, write = FORMATS[format]
        content = write(export)
        rows = export.rows
        if export.is_view:
            content = settled(content)
            rows = sum(export.read)
        with deps.control.tx(viewer.id) as tx:
            tx.audit("export:run", f"table/{export.table.name}", _entry(export, format, rows, viewer))
        name = f"{export.table.name}.{'ocsf.jsonl' if format == 'ocsf' else format}"
        headers = {"content-disposition": f'attachment; filename="{name}"', ROWS_HEADER: str(rows)}
        return _Download(content, deps.exporting, media_type=media_type, headers=headers)
    except BaseException:
        deps.exporting.release()
        raise


def _entry(export: Export, format: str, rows: int, viewer: Viewer) -> dict[str, Any]:
    return {
        "format": format,
        "since": export.since.isoformat() if export.since else None,
        "until": export.until.isoformat() if export.until else None,
        "rows": rows,
        "is_content": export.table.is_content,
        "address": viewer.address,
    }
