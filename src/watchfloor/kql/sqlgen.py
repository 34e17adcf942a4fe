"""Bound operators to SQL, through sqlglot expressions.

A query becomes a chain of common table expressions, one a step, so that no query makes a deep tree. Columns are called
by their number (``c7``) until the end: names of the user's never stand in the SQL. Values never do either:
``_value`` is the one gate, and it makes parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlglot
from sqlglot import exp

from watchfloor.kql.errors import KqlError, Span
from watchfloor.kql.functions import TERMS
from watchfloor.kql.ir import (
    Apply,
    BoundColumn,
    Compare,
    Compute,
    Const,
    Filter,
    Group,
    Limit,
    OneOf,
    Order,
    Ref,
    Relation,
    Scalar,
    Scan,
    refs,
)

DIALECTS: Final = frozenset({"duckdb"})

_TYPES: Final[Mapping[str, str]] = {
    "bool": "BOOLEAN",
    "datetime": "TIMESTAMPTZ",
    "dynamic": "VARCHAR",
    "int": "INTEGER",
    "long": "BIGINT",
    "real": "DOUBLE",
    "string": "VARCHAR",
    "timespan": "BIGINT",
}
_COMPARE: Final[Mapping[str, Callable[..., exp.Expr]]] = {
    "==": exp.EQ,
    "!=": exp.NEQ,
    "<": exp.LT,
    "<=": exp.LTE,
    ">": exp.GT,
    ">=": exp.GTE,
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """SQL with its parameters. ``columns`` are (name, KQL type), in the order of the SQL's columns, whose own names
    mean nothing. ``tables`` are those that it reads."""

    sql: str
    params: Mapping[str, Any]
    columns: tuple[tuple[str, str], ...]
    tables: frozenset[str]


def generate(relation: Relation, dialect: str = "duckdb") -> Compiled:
    """``relation`` in ``dialect``. Raises ``KqlError`` for a dialect that is not known."""
    if dialect not in DIALECTS:
        raise KqlError(f"There is no dialect '{dialect}'.", Span(0, 0), remedy=f"There is {', '.join(DIALECTS)}.")
    generator = _Generator(dialect)
    select = generator.select(relation)
    return Compiled(
        sql=select.sql(dialect),
        params=generator.params,
        columns=tuple((name, column.type) for name, column in relation.columns),
        tables=frozenset({relation.scan.table.name}),
    )


class _Generator:
    def __init__(self, dialect: str) -> None:
        self.params: dict[str, Any] = {}
        self._dialect = dialect
        self._steps: list[exp.Select] = []
        self._order: tuple[tuple[BoundColumn, bool, bool], ...] = ()

    # -- operators ------------------------------------------------------------------------------------------------

    def select(self, relation: Relation) -> exp.Select:
        self._scan(relation.scan, _used(relation))
        for step in relation.steps:
            if isinstance(step, Filter):
                self._add(exp.select(exp.Star()).where(self._scalar(step.condition, null_is_false=True)))
            elif isinstance(step, Compute):
                self._add(exp.select(exp.Star(), *[self._aliased(column, value) for column, value in step.columns]))
            elif isinstance(step, Group):
                self._group(step)
            elif isinstance(step, Order):
                self._order = step.keys
            elif step is not relation.steps[-1]:
                # The order outlives the limit: later steps keep it, and the end states it again.
                self._add(self._limited(exp.select(exp.Star()), step))
        result = exp.select(*[_reference(column) for _, column in relation.columns])
        result = result.from_(_step(len(self._steps) - 1))
        last = relation.steps[-1] if relation.steps else None
        result = self._limited(result, last) if isinstance(last, Limit) else self._ordered(result)
        for number, step_select in enumerate(self._steps):
            name = exp.to_identifier(f"s{number}")
            result = result.with_(name, as_=step_select, materialized=False, copy=False)
        return result

    def _scan(self, scan: Scan, used: frozenset[int]) -> None:
        columns = [(c, name) for c, name in scan.columns if c.number in used] or [scan.columns[0]]
        table = exp.Table(this=exp.to_identifier(scan.table.name, quoted=True))
        self._steps.append(
            exp.select(*[_alias(exp.column(name, quoted=True), column) for column, name in columns]).from_(table)
        )
        if scan.filters:
            self._add(exp.select(exp.Star()).where(*[self._scalar(f, null_is_false=True) for f in scan.filters]))

    def _group(self, group: Group) -> None:
        keys = [_reference(key) for key in group.keys]
        values = [
            _alias(_fill(aggregate.sql[self._dialect], [self._scalar(a) for a in arguments], self._dialect), column)
            for column, aggregate, arguments in group.aggregates
        ]
        select = exp.select(*keys, *values)
        self._add(select.group_by(*keys) if keys else select)
        self._order = ()

    def _add(self, select: exp.Select) -> None:
        self._steps.append(select.from_(_step(len(self._steps) - 1)))

    def _ordered(self, select: exp.Select) -> exp.Select:
        keys = [
            exp.Ordered(this=_reference(column), desc=is_descending, nulls_first=nulls_first)
            for column, is_descending, nulls_first in self._order
        ]
        return select.order_by(*keys) if keys else select

    def _limited(self, select: exp.Select, limit: Limit) -> exp.Select:
        return self._ordered(select).limit(exp.Literal.number(limit.rows))

    def _aliased(self, column: BoundColumn, value: Scalar) -> exp.Expr:
        return _alias(self._scalar(value), column)

    # -- expressions ----------------------------------------------------------------------------------------------

    def _scalar(self, scalar: Scalar, null_is_false: bool = False) -> exp.Expr:
        """``null_is_false``: where a row is kept or not, null and false are one, and the SQL may be the plain one."""
        if isinstance(scalar, Const):
            return self._constant(scalar)
        if isinstance(scalar, Ref):
            return _reference(scalar.column)
        if isinstance(scalar, Apply):
            return self._apply(scalar)
        if isinstance(scalar, Compare):
            return self._compare(scalar, null_is_false)
        if isinstance(scalar, OneOf):
            return self._one_of(scalar, null_is_false)
        operands = [exp.paren(self._scalar(operand, null_is_false)) for operand in scalar.operands]
        return exp.and_(*operands) if scalar.operator == "and" else exp.or_(*operands)

    def _constant(self, const: Const) -> exp.Expr:
        if const.value is None:
            return exp.cast(exp.null(), _TYPES[const.type])
        if const.type == "bool":
            return exp.true() if const.value else exp.false()
        value = self._value(const.value)
        # A small number must not make the sum of two a small number.
        return exp.cast(value, "BIGINT") if const.type in ("long", "int", "timespan") else value

    def _value(self, value: Any) -> exp.Expr:
        name = f"p{len(self.params)}"
        self.params[name] = value
        return exp.Placeholder(this=name)

    def _apply(self, apply: Apply) -> exp.Expr:
        function = apply.function
        arguments = [
            self._value(_pattern(function.name, argument.value))
            if number in function.terms and isinstance(argument, Const)
            else self._scalar(argument)
            for number, argument in enumerate(apply.arguments)
        ]
        if function.is_variadic:
            return exp.func(function.sql[self._dialect], *arguments, dialect=self._dialect)
        return _fill(function.sql[self._dialect], arguments, self._dialect)

    def _compare(self, compare: Compare, null_is_false: bool) -> exp.Expr:
        """KQL: equality with null on one side is false and inequality true; null on both sides, or order, is null."""
        left, right = self._scalar(compare.left), self._scalar(compare.right)
        nullable = compare.left.is_nullable, compare.right.is_nullable
        is_inequality = compare.operator == "!="
        if not any(nullable) or compare.operator not in ("==", "!=") or (null_is_false and not is_inequality):
            return _COMPARE[compare.operator](this=left, expression=right)
        distinct = exp.NullSafeNEQ if is_inequality else exp.NullSafeEQ
        exact = distinct(this=left, expression=right)
        if not all(nullable) or null_is_false:
            return exact
        both = exp.and_(
            exp.Is(this=left.copy(), expression=exp.null()), exp.Is(this=right.copy(), expression=exp.null())
        )
        return exp.Case().when(both, exp.null()).else_(exact)

    def _one_of(self, one_of: OneOf, null_is_false: bool) -> exp.Expr:
        if not one_of.items:
            return exp.true() if one_of.is_negated else exp.false()
        found: exp.Expr = exp.In(
            this=self._scalar(one_of.subject), expressions=[self._scalar(item) for item in one_of.items]
        )
        found = exp.not_(found) if one_of.is_negated else found
        if not one_of.subject.is_nullable or (null_is_false and not one_of.is_negated):
            return found
        return exp.func("coalesce", found, exp.true() if one_of.is_negated else exp.false())


def _used(relation: Relation) -> frozenset[int]:
    """Numbers of the columns that anything needs: the others are not read."""
    columns = [column for _, column in relation.columns]
    scalars: list[Scalar] = list(relation.scan.filters)
    for step in relation.steps:
        if isinstance(step, Filter):
            scalars.append(step.condition)
        elif isinstance(step, Compute):
            scalars += [value for _, value in step.columns]
        elif isinstance(step, Group):
            columns += step.keys
            scalars += [argument for _, _, arguments in step.aggregates for argument in arguments]
        elif isinstance(step, Order):
            columns += [column for column, _, _ in step.keys]
    return frozenset(c.number for c in columns) | {c.number for scalar in scalars for c in refs(scalar)}


def _step(number: int) -> exp.Expr:
    return exp.Table(this=exp.to_identifier(f"s{number}"))


def _reference(column: BoundColumn) -> exp.Expr:
    return exp.column(f"c{column.number}")


def _alias(value: exp.Expr, column: BoundColumn) -> exp.Expr:
    return exp.alias_(value, f"c{column.number}")


@cache
def _template(text: str, dialect: str) -> exp.Expr:
    return sqlglot.parse_one(text, read=dialect)


def _fill(text: str, arguments: Sequence[exp.Expr], dialect: str) -> exp.Expr:
    given = dict(zip("abcdefgh", arguments, strict=False))

    def replace(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Placeholder) or node.name not in given:
            return node
        argument = given[node.name].copy()
        is_atom = isinstance(argument, exp.Column | exp.Placeholder | exp.Func | exp.Cast)
        return argument if is_atom else exp.paren(argument)

    return _template(text, dialect).transform(replace)


def _pattern(name: str, term: str) -> str:
    """The term of ``has`` and its kin as a regular expression; an edge counts where it is a letter or digit."""
    base = name.removeprefix("!")
    before, after = TERMS[base.removesuffix("_cs")]
    return (
        ("" if base.endswith("_cs") else "(?i)")
        + (before if term[0].isalnum() else "")
        + re.escape(term)
        + (after if term[-1].isalnum() else "")
    )
