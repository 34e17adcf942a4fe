"""KQL run end to end over rows that a test writes down: tables as Arrow in an engine, answers as a client reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from watchfloor import kql
from watchfloor.kql.values import UNIX_EPOCH, parse_datetime, parse_timespan
from watchfloor.model.errors import InputError
from watchfloor.portal.wire import cell
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.engine import Engine
from watchfloor.storage.hunting import Hunted, Hunter, Request
from watchfloor.storage.ports import Limits, Scope

ARROW: Final = {
    "bool": pa.bool_(),
    "datetime": pa.timestamp("us", tz="UTC"),
    "decimal": pa.decimal128(38, 18),
    "dynamic": pa.string(),
    "guid": pa.string(),
    "int": pa.int32(),
    "long": pa.int64(),
    "real": pa.float64(),
    "string": pa.string(),
    "timespan": pa.int64(),
}
NOW: Final = parse_datetime("2026-03-05")
assert NOW is not None

Row = Mapping[str, Any]


def schema_of(name: str, columns: Mapping[str, str], **options: Any) -> kql.TableSchema:
    """``columns`` (name: type) as a table's schema."""
    return kql.TableSchema(name, tuple(kql.Column(n, t) for n, t in columns.items()), **options)


def arrow(columns: Mapping[str, str], rows: Iterable[Row]) -> pa.Table:
    """``rows`` (times as text, dynamic as JSON values) as an engine holds them."""
    rows = list(rows)
    arrays = [pa.array([stored(row.get(n), t) for row in rows], ARROW[t]) for n, t in columns.items()]
    return pa.Table.from_arrays(arrays, names=list(columns))


def stored(value: Any, type_: str) -> Any:
    """One cell as an engine holds it."""
    if value is None:
        return "" if type_ == "string" else None
    if type_ == "dynamic":
        return json.dumps(value)
    if type_ == "decimal":
        return Decimal(value)
    if isinstance(value, str) and type_ == "datetime":
        ticks = parse_datetime(value)
        assert ticks is not None
        return (ticks - UNIX_EPOCH) // 10
    if isinstance(value, str) and type_ == "timespan":
        return parse_timespan(value)
    return value


@dataclass(frozen=True)
class Answer:
    """Columns as (name, type), and rows as JSON cells."""

    columns: tuple[tuple[str, str], ...]
    rows: list[list[Any]]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [name for name, _ in self.columns]

    @property
    def bag(self) -> list[str]:
        """The rows in no order."""
        return sorted(json.dumps(row, sort_keys=True) for row in self.rows)

    @property
    def value(self) -> Any:
        """The only cell."""
        ((found,),) = self.rows
        return found

    @property
    def column(self) -> list[Any]:
        """The cells of the only column."""
        return [found for (found,) in self.rows]


def shown(hunted: Hunted) -> Answer:
    """``hunted`` as a client reads it."""
    columns = hunted.columns
    return Answer(columns, [[cell(v, t) for v, (_, t) in zip(row, columns, strict=True)] for row in hunted.values()])


@dataclass
class Data:
    """Tables in an engine, ready to be asked. ``scope`` is the asker's unless a question brings its own; ``hidden`` is in
    the engine, but no table of the catalogue."""

    tables: Mapping[str, tuple[kql.TableSchema, Sequence[Row]]] = field(default_factory=dict)
    lists: Mapping[str, kql.NamedList] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope)
    memory_limit: str = "256MiB"
    hidden: Mapping[str, pa.Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        held = {
            name: arrow({c.name: c.type for c in schema.columns}, rows) for name, (schema, rows) in self.tables.items()
        }
        self.engine = Engine(held | dict(self.hidden), memory_limit=self.memory_limit, threads=2)
        schemas = {name: schema for name, (schema, _) in self.tables.items()}
        self.schema = kql.Schema(schemas, self.lists)
        self.hunter = Hunter(self.engine, KqlCompiler(schema=self.schema))

    def hunt(self, text: str, scope: Scope | None = None, limits: Limits | None = None, **options: Any) -> Hunted:
        """The raw result."""
        options.setdefault("now", NOW)
        return self.hunter.hunt(Request(text, scope or self.scope, limits or Limits(20, 100_000), **options))

    def ask(self, text: str, scope: Scope | None = None, limits: Limits | None = None, **options: Any) -> Answer:
        """The answer to ``text``."""
        return shown(self.hunt(text, scope, limits, **options))

    def refusal(self, text: str, scope: Scope | None = None) -> kql.KqlError:
        """Why ``text`` is refused before anything runs."""
        try:
            found = self.ask(text, scope)
        except InputError as error:
            assert isinstance(error.__cause__, kql.KqlError), repr(error)
            return error.__cause__
        raise AssertionError(f"answered: {found}")
