"""The event store seen from other processes: HTTP over a Unix socket.

``store_app`` serves an ``EventStore``: ``POST /query`` (an Arrow IPC stream), ``POST /cancel/…`` and
``GET /progress/…`` for a query with a ticket, ``POST /maintain``, ``GET /health``. ``RemoteStore`` is its client and
itself an ``EventStore``. The socket lies in a directory that only this installation's user may enter: whoever reaches
it is trusted to state a query's scope. Errors arrive as what they were.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import httpx
import orjson
import pyarrow as pa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from watchfloor.kql.routines import RoutineRef
from watchfloor.model.errors import (
    Conflict,
    Corrupt,
    Denied,
    InputError,
    NotFound,
    PastLimit,
    Unavailable,
    WatchfloorError,
)
from watchfloor.storage.ports import (
    CompiledQuery,
    EventStore,
    Limits,
    LogBatch,
    MaintenanceReport,
    Scope,
    Ticket,
)

_ARROW: Final = "application/vnd.apache.arrow.stream"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STATUS: Final[tuple[tuple[type[WatchfloorError], int], ...]] = (
    (NotFound, 404),
    (Conflict, 409),
    (InputError, 400),
    (Denied, 403),
    (Unavailable, 503),
)
_ERRORS: Final[dict[str, type[WatchfloorError]]] = {
    e.code: e for e in (InputError, NotFound, Conflict, Denied, Unavailable, PastLimit, Corrupt)
}
_SLACK: Final = timedelta(seconds=5)
"""What a query's answer may take on top of the query's own limit."""

_TRIES: Final = 50


# -- values on the wire -------------------------------------------------------------------------------------------


def _wire(value: Any) -> Any:
    """``value`` with its type, as JSON has no times."""
    if isinstance(value, datetime):
        return {"datetime": (value - _EPOCH) // timedelta(microseconds=1)}
    if isinstance(value, list | tuple):
        return {"list": [_wire(v) for v in value]}
    if value is None or isinstance(value, str | int | float | bool):
        return {"value": value}
    raise InputError(f"A query cannot have a parameter of type {type(value).__name__}.", where="params")


def _value(wire: Mapping[str, Any]) -> Any:
    if "datetime" in wire:
        return _EPOCH + timedelta(microseconds=wire["datetime"])
    if "list" in wire:
        return [_value(v) for v in wire["list"]]
    return wire["value"]


def _request_body(query: CompiledQuery, scope: Scope, limits: Limits) -> bytes:
    return orjson.dumps(
        {
            "sql": query.sql,
            "params": {name: _wire(value) for name, value in query.params.items()},
            "columns": query.columns,
            "tables": sorted(query.tables),
            "dialect": query.dialect,
            "routines": [ref.to_wire() for ref in sorted(query.routines)],
            "needs_budget": query.needs_budget,
            "scope": {
                "tenants": scope.tenants,
                "tables": None if scope.tables is None else sorted(scope.tables),
                "since": _wire(scope.since),
            },
            "limits": {
                "timeout_seconds": limits.timeout_seconds,
                "max_rows": limits.max_rows,
                "max_bytes": limits.max_bytes,
                "ticket": None if limits.ticket is None else limits.ticket.id,
            },
        }
    )


def _request(body: bytes) -> tuple[CompiledQuery, Scope, Limits]:
    try:
        sent = orjson.loads(body)
        scope = sent["scope"]
        return (
            CompiledQuery(
                sql=sent["sql"],
                params={name: _value(value) for name, value in sent["params"].items()},
                columns=tuple((name, type_) for name, type_ in sent["columns"]),
                tables=frozenset(sent["tables"]),
                dialect=sent["dialect"],
                routines=frozenset(RoutineRef.from_wire(ref) for ref in sent["routines"]),
                needs_budget=bool(sent["needs_budget"]),
            ),
            Scope(
                tenants=tuple(scope["tenants"]),
                tables=None if scope["tables"] is None else frozenset(scope["tables"]),
                since=_value(scope["since"]),
            ),
            _limits(**sent["limits"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"This is not a query: {error!r}.", where="request body") from error


def _limits(timeout_seconds: float, max_rows: int, max_bytes: int, ticket: str | None) -> Limits:
    return Limits(timeout_seconds, max_rows, max_bytes, None if ticket is None else Ticket(ticket))


def _error_body(error: WatchfloorError) -> bytes:
    body: dict[str, Any] = {"code": error.code, "message": str(error)}
    if isinstance(error, InputError):
        body |= {"message": error.message, "where": error.where, "remedy": error.remedy}
    if isinstance(error, Unavailable):
        body["retry_after"] = error.retry_after
    return orjson.dumps(body)


def _error(body: bytes, status: int) -> WatchfloorError:
    try:
        sent = orjson.loads(body)
        family = _ERRORS.get(sent["code"], Unavailable)
        if issubclass(family, InputError):
            return family(sent["message"], where=sent["where"], remedy=sent["remedy"])
        if issubclass(family, Unavailable):
            return family(sent["message"], retry_after=sent.get("retry_after", 1.0))
        return family(sent["message"])
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"The event store process failed (HTTP {status}).")


# -- server -------------------------------------------------------------------------------------------------------


def store_app(store: EventStore, health: Callable[[], Mapping[str, Any]] = dict) -> Starlette:
    """The ASGI application that serves ``store``. ``health`` adds members to ``GET /health``; its ``status`` counts."""

    tickets: dict[str, Ticket] = {}

    @contextmanager
    def _held(ticket: Ticket | None) -> Iterator[None]:
        if ticket is not None:
            tickets[ticket.id] = ticket
        try:
            yield
        finally:
            if ticket is not None:
                tickets.pop(ticket.id, None)

    async def query(request: Request) -> Response:
        compiled, scope, limits = _request(await request.body())
        with _held(limits.ticket):
            batches = await run_in_threadpool(store.query, compiled, scope, limits)
        return StreamingResponse(_ipc(batches), media_type=_ARROW)

    async def cancel(request: Request) -> Response:
        ticket = tickets.get(request.path_params["ticket"])
        if ticket is not None:
            await run_in_threadpool(ticket.cancel)
        return _json({"is_known": ticket is not None})

    async def progress(request: Request) -> Response:
        ticket = tickets.get(request.path_params["ticket"])
        return _json({"progress": None if ticket is None else await run_in_threadpool(ticket.progress)})

    async def maintain(request: Request) -> Response:
        sent = orjson.loads(await request.body() or b"{}")
        now = _value(sent["now"]) if "now" in sent else datetime.now(UTC)
        report = await run_in_threadpool(store.maintain, now)
        return _json({"exported": dict(report.exported), "dropped": report.dropped})

    async def healthy(_: Request) -> Response:
        body = {"status": "ok"} | dict(await run_in_threadpool(health))
        return _json(body, 200 if body["status"] == "ok" else 503)

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, WatchfloorError)
        status = next(status for family, status in _STATUS if isinstance(error, family))
        return Response(_error_body(error), status, media_type="application/json")

    return Starlette(
        routes=[
            Route("/query", query, methods=["POST"]),
            Route("/cancel/{ticket}", cancel, methods=["POST"]),
            Route("/progress/{ticket}", progress),
            Route("/maintain", maintain, methods=["POST"]),
            Route("/health", healthy),
        ],
        exception_handlers={WatchfloorError: refused},
    )


def _json(body: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def _ipc(batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    sink = io.BytesIO()
    writer = None
    for batch in batches:
        if writer is None:
            writer = pa.ipc.new_stream(sink, batch.schema)
        writer.write_batch(batch)
        yield sink.getvalue()
        sink.seek(0)
        sink.truncate()
    if writer is not None:
        writer.close()
    yield sink.getvalue()


# -- client -------------------------------------------------------------------------------------------------------


class RemoteStore:
    """An event store in another process, for reading. Safe for threads; connects on first use."""

    dialect = "duckdb"

    def __init__(self, socket_path: Path, *, connections: int = 8) -> None:
        self._socket = socket_path
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket_path), limits=httpx.Limits(max_connections=connections)),
            base_url="http://store",
        )

    def write(self, table: str, batches: Sequence[LogBatch]) -> None:
        """Never: events reach the store through the event log. Raises ``InputError``."""
        raise InputError("The event store takes no events from here.", where=table, remedy="Append to the event log.")

    def query(self, query: CompiledQuery, scope: Scope, limits: Limits) -> Iterator[pa.RecordBatch]:
        """See ``EventStore.query``."""
        # A query may wait as long for its turn as it may run.
        patience = 2 * limits.timeout_seconds + _SLACK.total_seconds()
        ticket = limits.ticket
        if ticket is not None and not ticket.is_cancelled:
            ticket.attach(partial(self._cancel, ticket), partial(self._progress, ticket.id))
        try:
            if ticket is not None and ticket.is_cancelled:
                raise Unavailable("The query was given up.")
            answer = self._send("POST", "/query", patience, _request_body(query, scope, limits))
        finally:
            if ticket is not None:
                ticket.detach()
        try:
            with pa.ipc.open_stream(answer) as stream:
                return iter(list(stream))
        except (pa.ArrowException, OSError) as error:
            raise Unavailable(f"The event store process broke off its answer: {error}") from error

    def maintain(self, now: datetime) -> MaintenanceReport:
        """See ``EventStore.maintain``."""
        report = orjson.loads(self._send("POST", "/maintain", 3600.0, orjson.dumps({"now": _wire(now)})))
        return MaintenanceReport(report["exported"], tuple(report["dropped"]))

    def health(self) -> dict[str, Any]:
        """What the store process says of itself: status, lag, backlog. Raises ``Unavailable`` if it does not answer."""
        try:
            response = self._client.get("/health", timeout=5.0)
            body: dict[str, Any] = orjson.loads(response.content)
        except (httpx.HTTPError, ValueError) as error:
            raise self._silent(error) from error
        return body

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cancel(self, ticket: Ticket) -> None:
        with suppress(WatchfloorError, ValueError):
            for _ in range(_TRIES):  # the query may still be on its way
                answer = orjson.loads(self._send("POST", f"/cancel/{quote(ticket.id, safe='')}", 5.0, b""))
                if answer["is_known"] or not ticket.is_attached:
                    return
                time.sleep(0.02)

    def _progress(self, ticket: str) -> float | None:
        try:
            found: float | None = orjson.loads(self._send("GET", f"/progress/{quote(ticket, safe='')}", 5.0, b""))[
                "progress"
            ]
        except WatchfloorError:
            return None
        return found

    def _send(self, method: str, path: str, patience: float, body: bytes) -> bytes:
        try:
            response = self._client.request(
                method, path, content=body, timeout=httpx.Timeout(patience, connect=2.0, pool=patience)
            )
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if response.status_code != 200:
            raise _error(response.content, response.status_code)
        return response.content

    def _silent(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"The event store process does not answer at {self._socket}: {error or type(error).__name__}."
        )
