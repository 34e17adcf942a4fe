"""A hunt: KQL text in, columns and rows out, over any event store.

``Hunter`` compiles, runs and decodes. Some queries have columns that depend on data (pivot, bag_unpack): those are
compiled, asked and compiled again, within the one time limit. Nothing here knows an engine or a wire; who may ask what
is the caller's business, who brings the scope.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from watchfloor import kql
from watchfloor.kql import Compiled, KqlError, Pending, Schema, Span
from watchfloor.kql.ir import Plan, Visualization
from watchfloor.kql.values import UNIX_EPOCH
from watchfloor.model.errors import InputError, PastLimit, WatchfloorError
from watchfloor.storage.compiler import KqlCompiler, physical
from watchfloor.storage.ports import CompiledQuery, Limits, Scope, Ticket

MAX_QUESTIONS: Final = 32
"""A query that asks more often than this on its way is refused."""

MAX_ANSWER: Final = 100_000
"""Rows of an answer to a question on the way."""


class Cancelled(WatchfloorError):
    """The run was cancelled by who began it."""

    code = "cancelled"


class Queryable(Protocol):
    """Whatever runs compiled queries: an ``EventStore``, or an ``Engine``."""

    dialect: str

    def query(self, query: CompiledQuery, scope: Scope, limits: Limits) -> Iterable[pa.RecordBatch]:
        """See ``EventStore.query``."""
        ...


@dataclass(eq=False)
class Request:
    """One query of one asker. ``since`` and ``until`` (ticks) narrow what is read, ``now`` (ticks) is what now() means;
    ``parameters`` are the values of declared query parameters, as text. ``door`` is for the log."""

    text: str
    scope: Scope = field(default_factory=Scope)
    limits: Limits = field(default_factory=Limits)
    since: int | None = None
    until: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    now: int | None = None
    door: str = ""
    ticket: Ticket = field(default_factory=lambda: Ticket(secrets.token_hex(8)), repr=False)

    def cancel(self) -> None:
        """Stop the query; one that has ended stays as it is. Any thread may call this."""
        self.ticket.cancel()

    def progress(self) -> float | None:
        """The share of the step that runs that is done, 0 to 1; None while nobody knows."""
        return self.ticket.progress()

    @property
    def notes(self) -> Sequence[str]:
        """What there is to say of the answer besides its rows."""
        return ()

    def answered_by(self, hunter: Hunter) -> Hunted:
        """Its answer. Requests of other kinds ask more than one question, or make something of the rows."""
        return hunter.hunt(self)

    @property
    def loggable(self) -> str:
        """The text, with the strings masked that its author marked as secret (``h"..."``)."""
        return kql.masked(self.text)


@dataclass(frozen=True)
class Checked:
    """What binding a query says: its errors, or its columns (None where only its data knows them)."""

    errors: tuple[KqlError, ...] = ()
    columns: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, eq=False)
class Hunted:
    """A result. ``columns`` are (name, KQL type); ``batches`` hold physical values, ``values()`` those of KQL."""

    columns: tuple[tuple[str, str], ...]
    batches: tuple[pa.RecordBatch, ...]
    tables: frozenset[str] = frozenset()
    chart: Visualization | None = None
    others: tuple[tuple[str, Hunted], ...] = ()

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(int(batch.num_rows) for batch in self.batches)

    @property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        return sum(int(b.nbytes) for b in self.batches) + sum(other.nbytes for _, other in self.others)

    @cached_property
    def table(self) -> pa.Table:
        """The result as Arrow. Names that occur twice are not told apart there."""
        return pa.Table.from_batches(self.batches)

    @property
    def visualization(self) -> dict[str, Any] | None:
        """How to draw it, in Kusto's words."""
        if self.chart is None:
            return None
        given = {_PROPERTIES.get(name.lower(), name): value for name, value in self.chart.properties.items()}
        return {"Visualization": self.chart.kind, **dict.fromkeys(_PROPERTIES.values()), **given}

    def values(self, after: int = 0, limit: int | None = None) -> list[list[Any]]:
        """The rows behind the first ``after``, ``limit`` at most; cells are as in ``kql/values.py``."""
        found: list[list[Any]] = []
        left = self.rows if limit is None else limit
        for batch in self.batches:
            if after >= batch.num_rows:
                after -= batch.num_rows
                continue
            found += decoded(self.columns, batch.slice(after, left))
            left -= min(left, batch.num_rows - after)
            after = 0
            if left <= 0:
                break
        return found


class Hunter:
    """Runs KQL over ``store``. ``schema`` gives the catalogue of the moment, named lists included."""

    def __init__(
        self,
        store: Queryable,
        compiler: KqlCompiler | None = None,
        *,
        schema: Callable[[], Schema] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._compiler, self._clock = store, compiler or KqlCompiler(), clock
        self._schema = schema

    def schema(self) -> Schema:
        """The catalogue."""
        return self._compiler.schema if self._schema is None else self._schema()

    @property
    def database(self) -> str:
        """What the database is called."""
        return self.schema().database

    def check(self, text: str, scope: Scope) -> Checked:
        """What is wrong with ``text``, or what columns it gives. Nothing is run."""
        try:
            found = self._compiler.plan(text, scope, schema=self.schema())
        except KqlError as error:
            return Checked((error, *error.others))
        if not isinstance(found, Plan):
            return Checked()
        return Checked(columns=tuple((name, column.type) for name, column in found.columns))

    def hunt(self, request: Request | str, scope: Scope | None = None, limits: Limits | None = None) -> Hunted:
        """The answer to ``request``; a text is asked within ``scope`` and ``limits``.

        Raises ``InputError`` (with line and column) for what is no query or is not supported, ``Unavailable`` past the
        limits, ``Cancelled``.
        """
        if isinstance(request, str):
            request = Request(request, scope or Scope(), limits or Limits())
        limits, end = request.limits, self._clock() + request.limits.timeout_seconds
        now = self._compiler.now() if request.now is None else request.now
        schema = self.schema()
        answers: dict[str, Any] = {}
        for _ in range(MAX_QUESTIONS):
            found = self._compiler.analyze(
                request.text,
                request.scope,
                self._store.dialect,
                schema=schema,
                since=request.since,
                until=request.until,
                now=now,
                answers=answers,
                parameters=request.parameters,
            )
            if not isinstance(found, Pending):
                return self._result(request, found, limits, end)
            asked = self._result(request, found.compiled, replace(limits, max_rows=MAX_ANSWER), end)
            answers[found.key] = asked.values()
        message = f"The query needs more than {MAX_QUESTIONS} steps."
        raise InputError(message, where="query") from KqlError(message, Span(0, 0), kind="limit")

    def _result(self, request: Request, compiled: Compiled, limits: Limits, end: float) -> Hunted:
        left = replace(limits, timeout_seconds=end - self._clock(), ticket=request.ticket)
        if left.timeout_seconds <= 0:
            raise PastLimit(f"The query ran longer than {request.limits.timeout_seconds:g} s.")
        try:
            if request.ticket.is_cancelled:
                raise Cancelled("The query was cancelled.")
            batches = tuple(self._store.query(physical(compiled), request.scope, left))
        except WatchfloorError as error:
            if request.ticket.is_cancelled and not isinstance(error, Cancelled):
                raise Cancelled("The query was cancelled.") from error
            if isinstance(error, PastLimit) and self._clock() >= end:  # of several steps this was only the last
                raise PastLimit(f"The query ran longer than {request.limits.timeout_seconds:g} s.") from error
            raise
        others = tuple((name, self._result(request, other, limits, end)) for name, other in compiled.others)
        return Hunted(compiled.columns, batches, compiled.tables, compiled.visualization, others)


def completion() -> list[dict[str, Any]]:
    """Functions and aggregates of the language, for editors: name, kind, arguments, result, page of the reference."""
    from watchfloor.kql.bind.calls import is_internal
    from watchfloor.kql.functions import AGGREGATES, FUNCTIONS

    found: dict[tuple[str, str], dict[str, Any]] = {}
    for kind, table in (("function", FUNCTIONS), ("aggregate", AGGREGATES)):
        for name, overloads in table.items():
            if is_internal(name) or not name.replace("_", "").isalnum():
                continue  # an operator
            for row in overloads:
                entry = found.setdefault((kind, name), {"name": name, "kind": kind, "page": row.page, "overloads": []})
                takes = [
                    {"types": list(p.types), "optional": p.is_optional, "repeats": p.is_repeated} for p in row.takes
                ]
                entry["overloads"].append({"takes": takes, "gives": row.gives})
    return [found[key] for key in sorted(found, key=lambda key: (key[1], key[0]))]


_PROPERTIES: Final[Mapping[str, str]] = {
    "title": "Title",
    "xcolumn": "XColumn",
    "series": "Series",
    "ycolumns": "YColumns",
    "anomalycolumns": "AnomalyColumns",
    "xtitle": "XTitle",
    "ytitle": "YTitle",
    "xaxis": "XAxis",
    "yaxis": "YAxis",
    "legend": "Legend",
    "ysplit": "YSplit",
    "accumulate": "Accumulate",
    "kind": "Kind",
    "ymin": "Ymin",
    "ymax": "Ymax",
    "xmin": "Xmin",
    "xmax": "Xmax",
}


# -- physical values to KQL's -----------------------------------------------------------------------------------------


def decoded(columns: Sequence[tuple[str, str]], batch: pa.RecordBatch) -> list[list[Any]]:
    """The rows of ``batch``; cells are as in ``kql/values.py``."""
    if not columns:
        return [[] for _ in range(batch.num_rows)]
    cells = [_DECODERS.get(kind, _plain)(batch.column(n)) for n, (_, kind) in enumerate(columns)]
    return [list(row) for row in zip(*cells, strict=True)]


def _plain(array: pa.Array) -> list[Any]:
    return list(array.to_pylist())


def _instants(array: pa.Array) -> list[Any]:
    microseconds = pc.cast(pc.cast(array, pa.timestamp("us", tz="UTC")), pa.int64()).to_pylist()
    return [None if v is None else v * 10 + UNIX_EPOCH for v in microseconds]


def _dynamics(array: pa.Array) -> list[Any]:
    return [None if v is None else _json(v) for v in array.to_pylist()]


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _decimals(array: pa.Array) -> list[Any]:
    return [None if v is None else _shortest(v) for v in array.to_pylist()]


def _shortest(value: Decimal) -> Decimal:
    """Without the zeros that only the column's scale gave it."""
    short = value.normalize()
    return short.quantize(Decimal(1)) if short == short.to_integral_value() else short


_DECODERS: Final[Mapping[str, Callable[[pa.Array], list[Any]]]] = {
    "datetime": _instants,
    "dynamic": _dynamics,
    "decimal": _decimals,
}
