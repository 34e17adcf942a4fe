"""What the binder knows at a place of the query: the columns of the rows so far, and the names around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from watchfloor.kql import ast, ir
from watchfloor.kql.errors import Span
from watchfloor.kql.schema import Schema, Scope


@dataclass(frozen=True)
class Graph:
    """What make-graph made: the nodes (``key`` is the column that edges refer to) and the edges."""

    nodes: Rel
    key: ir.BoundColumn
    edges: Rel
    source: ir.BoundColumn
    target: ir.BoundColumn
    is_directed: bool


@dataclass(frozen=True)
class Rel:
    """The rows at a point of a pipeline: the relation and what its columns are called, in order.

    ``columns`` may leave out columns of the relation: those that the query dropped. ``order``: by which the rows are
    sorted now (empty: not). ``is_serial``: their order counts, window functions may be used. ``within``: the groups of
    partition and mv-apply that every operator must keep apart; these columns are carried along, hidden.
    ``name``: what ``as`` or a table reference called them (for withsource). ``graph``: set after make-graph.
    """

    relation: ir.Relation
    columns: Mapping[str, ir.BoundColumn]
    order: tuple[ir.SortKey, ...] = ()
    is_serial: bool = False
    within: tuple[ir.BoundColumn, ...] = ()
    name: str = ""
    visualization: ir.Visualization | None = None
    graph: Graph | None = None
    others: tuple[tuple[str, Rel], ...] = ()

    def with_(self, **changes: Any) -> Rel:
        """This, with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Function:
    """A function of the query (or a stored one): its lambda and the names around its declaration."""

    name: str
    value: ast.Lambda
    env: Env


Meaning = ir.Scalar | Rel | Function | Callable[[], Any]


@dataclass(frozen=True)
class Env:
    """The names that let and parameters gave a meaning. Inner ones hide outer ones."""

    names: Mapping[str, Any] = field(default_factory=dict)
    """Meaning by name: an ``ir.Scalar``, a ``Rel`` or a ``Function``. A ``Rel`` that is used twice is shared."""
    outer: Env | None = None

    def find(self, name: str) -> Any:
        """What ``name`` means, or None."""
        env: Env | None = self
        while env is not None:
            if name in env.names:
                return env.names[name]
            env = env.outer
        return None

    def with_names(self, names: Mapping[str, Any]) -> Env:
        """An inner scope."""
        return Env(dict(names), self)

    def visible(self) -> list[str]:
        """All names, for suggestions."""
        found: list[str] = []
        env: Env | None = self
        while env is not None:
            found += env.names
            env = env.outer
        return found


class Binding(Protocol):
    """What the binder offers to its parts (class ``Binder`` of ``bind/__init__.py``)."""

    schema: Schema
    scope: Scope
    now: int
    answers: Mapping[str, Any]

    def new(self, type_: str, is_nullable: bool = True) -> ir.BoundColumn:
        """A fresh column. A string is never nullable."""

    def scalar(self, expression: ast.Expr, row: Rel, env: Env) -> ir.Scalar:
        """``expression`` over the columns of ``row``. Constants come folded."""

    def condition(self, expression: ast.Expr, row: Rel, env: Env) -> ir.Scalar:
        """The same, of type bool (numbers and dynamic are converted as Kusto does), else an error."""

    def constant(self, expression: ast.Expr, env: Env, purpose: str) -> ir.Const:
        """``expression`` as a constant; asks a question for a toscalar; else an error that ``purpose`` needs one."""

    def convert(self, value: ir.Scalar, type_: str) -> ir.Scalar:
        """``value`` as ``type_`` (folded; left alone if it is that already)."""

    def unify(self, values: Sequence[ir.Scalar], span: Span) -> list[ir.Scalar]:
        """``values`` converted to one common type (numbers to the widest; with dynamic to dynamic), else an error."""

    def apply(self, name: str, arguments: Sequence[ir.Scalar], span: Span) -> ir.Scalar:
        """The function ``name`` of the function table, overload chosen, arguments converted, folded."""

    def aggregate(self, expression: ast.Expr, row: Rel, env: Env) -> list[tuple[str, Aggregated]]:
        """An aggregate expression of summarize, with the default name of each result column.

        Arithmetic over aggregates (``count() * 100.0 / sum(x)``) gives an ``Aggregated`` with several calls.
        """

    def column_name(self, expression: ast.Expr) -> str | None:
        """The name that a column gets from an expression without one (``a.b`` gives ``a_b``, ``bin(t, 1h)`` gives
        ``t``), or None: the caller numbers it (print_0, Column1)."""

    def table(self, expression: ast.Expr, env: Env, outer: Rel | None = None) -> Rel:
        """A tabular expression."""

    def tables(self, pattern: ast.Expr, env: Env) -> list[Rel]:
        """The tables that a name, wildcard or ``*`` means; only permitted ones, each with its ``name``."""

    def pipeline(self, rel: Rel, operators: Sequence[ast.Operator], env: Env) -> Rel:
        """``operators`` applied to ``rel``, one after another."""

    def fresh(self, rel: Rel) -> Rel:
        """``rel`` under new column numbers, to be used a second time (``Shared`` and ``Use``)."""

    def ask(self, key: str, rel: Rel) -> Any:
        """The answer to a question: the rows of ``rel`` as lists of Python values. Raises ``Asked`` if not known."""


@dataclass(frozen=True)
class Aggregated:
    """An aggregate expression: the calls, each with the column that it fills, and the scalar over those columns."""

    calls: tuple[tuple[ir.BoundColumn, ir.Call], ...]
    value: ir.Scalar
    extremes: tuple[tuple[bool, ir.Scalar, tuple[tuple[ir.BoundColumn, ir.Scalar], ...]], ...] = ()


class Asked(Exception):
    """Binding stopped at a question."""

    def __init__(self, question: ir.Question) -> None:
        super().__init__(question.key)
        self.question = question
