"""The catalogue that a query is bound against: which tables and columns there are, and what the asker may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from watchfloor.kql.ast import Expr

TYPES: Final = frozenset(
    {"bool", "datetime", "decimal", "dynamic", "guid", "int", "long", "real", "string", "timespan"}
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column. ``is_nullable`` False lets the SQL leave out what KQL's nulls would need; strings are never null.

    ``stored_as``: the column of the store that it is, where that has another name.
    """

    name: str
    type: str
    is_nullable: bool = True
    stored_as: str = ""

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(f"{self.name}: there is no KQL type {self.type}")


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table. ``tenant_column``, ``time_column`` and ``order_column`` are where a scope's tenants, its times and its
    positions apply."""

    name: str
    columns: tuple[Column, ...]
    tenant_column: str | None = None
    time_column: str | None = None
    doc: str = ""
    order_column: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A query that is a table to other queries: ``table`` is what it looks like, ``query`` where its rows come from.

    ``reads`` are the tables below it, through other views too: whoever may see all of those may see it, and the asker's
    scope lies in every scan of them. Wildcards (``union *``) do not mean views: their rows would come twice.
    """

    table: TableSchema
    query: Expr
    reads: frozenset[str]


@dataclass(frozen=True, slots=True)
class Schema:
    """Every table by name; ``lists`` are the named lists: rows held in memory, as tables (``_GetWatchlist``); ``views``
    are queries that are tables. No name is both a table and a view."""

    tables: Mapping[str, TableSchema]
    lists: Mapping[str, NamedList] = field(default_factory=dict)
    database: str = "watchfloor"
    views: Mapping[str, View] = field(default_factory=dict)

    def reads(self, name: str) -> frozenset[str]:
        """The tables whose rows ``name`` is made of; empty if there is no table and no view of that name."""
        if name in self.tables:
            return frozenset((name,))
        return self.views[name].reads if name in self.views else frozenset()


@dataclass(frozen=True, slots=True)
class NamedList:
    """A list that an analyst uploaded: typed columns and their rows, values as in ``values.py``."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What the asker may see: rows of ``tenants``, in ``tables`` (None: all), from ``since`` to before ``until``.

    Times are ticks (see ``values.py``). They limit what is read, whatever the query says; ``timespan`` of a request
    narrows them further. ``after`` and ``upto`` are positions: only rows behind the one, up to and with the other.
    """

    tenants: tuple[str, ...]
    tables: frozenset[str] | None = None
    since: int | None = None
    until: int | None = None
    after: int | None = None
    upto: int | None = None
