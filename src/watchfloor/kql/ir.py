"""Bound operators: what a query means. Every name is resolved, every expression has a type.

Columns have numbers that are unique in the query; no two steps ever mean different things by one number. So an operator
only says what is new, and names matter again at the very end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from watchfloor.kql.functions import Aggregate, Function
from watchfloor.kql.schema import TableSchema


@dataclass(frozen=True, slots=True)
class BoundColumn:
    """A column of the query: its number, KQL type, and whether it may be null."""

    number: int
    type: str
    is_nullable: bool


@dataclass(frozen=True, slots=True)
class Const:
    """A value known before the query runs."""

    value: Any
    type: str

    @property
    def is_nullable(self) -> bool:
        """Whether it is null."""
        return self.value is None


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of a column."""

    column: BoundColumn

    @property
    def type(self) -> str:
        """The column's."""
        return self.column.type

    @property
    def is_nullable(self) -> bool:
        """The column's."""
        return self.column.is_nullable


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of the function table, with arguments of the types that it takes."""

    function: Function
    arguments: tuple[Scalar, ...]
    type: str
    is_nullable: bool


@dataclass(frozen=True, slots=True)
class Compare:
    """``==``, ``!=``, ``<``, ``<=``, ``>`` or ``>=``, with KQL's rules for null."""

    operator: str
    left: Scalar
    right: Scalar
    is_nullable: bool
    type: str = "bool"


@dataclass(frozen=True, slots=True)
class OneOf:
    """Whether ``subject`` is one of ``items``, or is none of them. Never null."""

    subject: Scalar
    items: tuple[Scalar, ...]
    is_negated: bool
    type: str = "bool"
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class Junction:
    """``and`` or ``or``, three-valued."""

    operator: str
    operands: tuple[Scalar, ...]
    is_nullable: bool
    type: str = "bool"


Scalar = Const | Ref | Apply | Compare | OneOf | Junction


@dataclass(frozen=True, slots=True)
class Scan:
    """Read a table: (column, name in the table). The scope's filters belong to it, below all that the user wrote."""

    table: TableSchema
    columns: tuple[tuple[BoundColumn, str], ...]
    filters: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Keep rows for which ``condition`` is true."""

    condition: Scalar


@dataclass(frozen=True, slots=True)
class Compute:
    """Add columns."""

    columns: tuple[tuple[BoundColumn, Scalar], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Replace the rows by one for each combination of ``keys``: only the keys and the aggregates remain."""

    keys: tuple[BoundColumn, ...]
    aggregates: tuple[tuple[BoundColumn, Aggregate, tuple[Scalar, ...]], ...]


@dataclass(frozen=True, slots=True)
class Order:
    """From here on the rows are in this order: (column, descending, nulls first)."""

    keys: tuple[tuple[BoundColumn, bool, bool], ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """Keep the first ``rows``."""

    rows: int


Step = Filter | Compute | Group | Order | Limit


@dataclass(frozen=True, slots=True)
class Relation:
    """A bound query: the scan, the steps, and the result's columns by name."""

    scan: Scan
    steps: tuple[Step, ...]
    columns: tuple[tuple[str, BoundColumn], ...]


def refs(scalar: Scalar) -> Iterator[BoundColumn]:
    """Every column that ``scalar`` reads."""
    waiting = [scalar]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Ref):
            yield node.column
        elif isinstance(node, Apply):
            waiting.extend(node.arguments)
        elif isinstance(node, Compare):
            waiting += [node.left, node.right]
        elif isinstance(node, OneOf):
            waiting += [node.subject, *node.items]
        elif isinstance(node, Junction):
            waiting.extend(node.operands)
