"""The catalogue that a query is compiled against: which tables and columns there are, and what the asker may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

TYPES: Final = frozenset({"bool", "datetime", "dynamic", "int", "long", "real", "string", "timespan"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column. ``is_nullable`` False lets the SQL leave out what KQL's nulls would need; strings are never null."""

    name: str
    type: str
    is_nullable: bool = True

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(f"{self.name}: there is no KQL type {self.type}")


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table. ``tenant_column`` and ``time_column`` are where a scope's tenants and its earliest time apply."""

    name: str
    columns: tuple[Column, ...]
    tenant_column: str | None = None
    time_column: str | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """Every table by name."""

    tables: Mapping[str, TableSchema]


@dataclass(frozen=True, slots=True)
class Scope:
    """What the asker may see: rows of ``tenants``, in ``tables`` (None: all), not older than ``since``."""

    tenants: tuple[str, ...]
    tables: frozenset[str] | None = None
    since: datetime | None = None
