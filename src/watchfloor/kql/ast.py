"""The syntax tree: what was written, with where, and nothing about what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from watchfloor.kql.errors import Span


@dataclass(frozen=True, slots=True)
class Literal:
    """A value of a KQL type; ``value`` None is that type's null. A timespan is in microseconds."""

    value: Any
    type: str
    span: Span


@dataclass(frozen=True, slots=True)
class Name:
    """A column, table or constant by name."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """``name(arguments)``."""

    name: str
    arguments: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Negative:
    """``-operand``."""

    operand: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Binary:
    """``left operator right``."""

    operator: str
    left: Expr
    right: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Logical:
    """``and`` or ``or`` over two or more operands: flat, so that a long chain is not a deep tree."""

    operator: str
    operands: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Membership:
    """``subject in (items)`` and its kin, also has_any and has_all."""

    operator: str
    subject: Expr
    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Between:
    """``subject between (low .. high)``."""

    subject: Expr
    low: Expr
    high: Expr
    is_negated: bool
    span: Span


Expr = Literal | Name | Call | Negative | Binary | Logical | Membership | Between


@dataclass(frozen=True, slots=True)
class Item:
    """``name = expression``, or an expression without a name."""

    name: Name | None
    value: Expr


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of a sort; ``nulls_first`` is already the default where nothing was written."""

    value: Expr
    is_descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Where:
    """Keep the rows for which ``condition`` is true."""

    condition: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Project:
    """Keep these columns, in this order."""

    items: tuple[Item, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Sort:
    """Order the rows."""

    keys: tuple[SortKey, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Take:
    """Keep the first ``rows``."""

    rows: int
    span: Span


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows there are."""

    span: Span


@dataclass(frozen=True, slots=True)
class Summarize:
    """Aggregates for each combination of ``by``; without aggregates, the combinations themselves."""

    aggregates: tuple[Item, ...]
    by: tuple[Item, ...]
    span: Span


Operator = Where | Project | Sort | Take | Count | Summarize


@dataclass(frozen=True, slots=True)
class Query:
    """A table and what is done with it, in order. ``text`` is what was parsed."""

    text: str
    source: Name
    operators: tuple[Operator, ...]
