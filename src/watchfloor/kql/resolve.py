"""Syntax tree to bound operators: names to columns, overloads to functions, types checked.

A table that the scope does not permit does not exist here: its name is refused like any unknown one. The scope's own
filters are laid into the scan, below every operator of the user.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from watchfloor.kql import ast
from watchfloor.kql.errors import KqlError, Span, nearest
from watchfloor.kql.functions import BY_NAME, OVERLOADS, Aggregate, Function
from watchfloor.kql.ir import (
    Apply,
    BoundColumn,
    Compare,
    Compute,
    Const,
    Filter,
    Group,
    Junction,
    Limit,
    OneOf,
    Order,
    Ref,
    Relation,
    Scalar,
    Scan,
    Step,
)
from watchfloor.kql.schema import Schema, Scope, TableSchema

_COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
_ORDERED: Final = ("datetime", "timespan", "long", "int", "real")
_NUMBERS: Final = ("long", "int", "real")
_SYNONYMS: Final = {"iif": "iff", "notempty": "isnotempty", "notnull": "isnotnull", "floor": "bin"}


def resolve(query: ast.Query, schema: Schema, scope: Scope, now: datetime) -> Relation:
    """What ``query`` means. Raises ``KqlError``, located in ``query.text``."""
    try:
        return _Resolver(schema, scope, now).relation(query)
    except KqlError as error:
        error.locate(query.text)
        raise


class _Resolver:
    def __init__(self, schema: Schema, scope: Scope, now: datetime) -> None:
        self._schema, self._scope, self._now = schema, scope, now
        self._numbers = itertools.count(1)
        self._names: dict[str, BoundColumn] = {}
        """The columns that a name means at this point of the query, in order."""

    def relation(self, query: ast.Query) -> Relation:
        scan = self._scan(query.source)
        steps: list[Step] = []
        for operator in query.operators:
            steps += _OPERATORS[type(operator)](self, operator)
        return Relation(scan, tuple(steps), tuple(self._names.items()))

    # -- operators ------------------------------------------------------------------------------------------------

    def _scan(self, source: ast.Name) -> Scan:
        permitted = self._scope.tables
        visible = {n: t for n, t in self._schema.tables.items() if permitted is None or n in permitted}
        table = visible.get(source.name)
        if table is None:
            remedy = nearest(source.name, visible) or (f"Tables: {', '.join(sorted(visible))}." if visible else "")
            raise KqlError(f"There is no table '{source.name}'.", source.span, remedy=remedy)
        columns = []
        for column in table.columns:
            bound = self._new(column.type, column.is_nullable and column.type != "string")
            self._names[column.name] = bound
            columns.append((bound, column.name))
        return Scan(table, tuple(columns), self._filters(table))

    def _filters(self, table: TableSchema) -> tuple[Scalar, ...]:
        filters: list[Scalar] = []
        if table.tenant_column is not None:
            tenants = tuple(Const(tenant, "string") for tenant in self._scope.tenants)
            filters.append(OneOf(Ref(self._names[table.tenant_column]), tenants, is_negated=False))
        if table.time_column is not None and self._scope.since is not None:
            since = Const(self._scope.since, "datetime")
            filters.append(Compare(">=", Ref(self._names[table.time_column]), since, is_nullable=False))
        return tuple(filters)

    def _where(self, operator: ast.Where) -> list[Step]:
        return [Filter(self._condition(operator.condition))]

    def _project(self, operator: ast.Project) -> list[Step]:
        computed: list[tuple[BoundColumn, Scalar]] = []
        names: dict[str, BoundColumn] = {}
        for item in operator.items:
            value = self._scalar(item.value)
            self._add(names, self._item_name(item), self._as_column(value, computed), item)
        self._names = names
        return [Compute(tuple(computed))] if computed else []

    def _sort(self, operator: ast.Sort) -> list[Step]:
        computed: list[tuple[BoundColumn, Scalar]] = []
        keys = []
        for key in operator.keys:
            value = self._scalar(key.value)
            if value.type == "dynamic":
                raise KqlError("Rows cannot be sorted by a dynamic value.", key.value.span)
            keys.append((self._as_column(value, computed), key.is_descending, key.nulls_first))
        steps: list[Step] = [Compute(tuple(computed))] if computed else []
        return [*steps, Order(tuple(keys))]

    def _take(self, operator: ast.Take) -> list[Step]:
        return [Limit(operator.rows)]

    def _count(self, operator: ast.Count) -> list[Step]:
        column = self._new("long", False)
        self._names = {"Count": column}
        return [Group((), ((column, BY_NAME["count"], ()),))]

    def _summarize(self, operator: ast.Summarize) -> list[Step]:
        computed: list[tuple[BoundColumn, Scalar]] = []
        names: dict[str, BoundColumn] = {}
        keys = []
        for item in operator.by:
            value = self._scalar(item.value)
            if value.type == "dynamic":
                raise KqlError("Rows cannot be grouped by a dynamic value.", item.value.span)
            column = self._as_column(value, computed)
            self._add(names, self._item_name(item), column, item)
            keys.append(column)
        aggregates = []
        for item in operator.aggregates:
            aggregate, arguments, default_name = self._aggregate(item.value)
            gives = aggregate.gives if isinstance(aggregate.gives, str) else arguments[aggregate.gives].type
            column = self._new(gives, not aggregate.is_total)
            self._add(names, item.name.name if item.name else default_name, column, item)
            aggregates.append((column, aggregate, arguments))
        self._names = names
        steps: list[Step] = [Compute(tuple(computed))] if computed else []
        return [*steps, Group(tuple(keys), tuple(aggregates))]

    def _aggregate(self, call: ast.Expr) -> tuple[Aggregate, tuple[Scalar, ...], str]:
        if not isinstance(call, ast.Call):
            raise KqlError("Expected an aggregate such as count().", call.span)
        aggregate = BY_NAME.get(call.name)
        if aggregate is None:
            raise KqlError(
                f"The aggregate '{call.name}' is not supported.", call.span, remedy=nearest(call.name, BY_NAME)
            )
        arguments = tuple(self._scalar(argument) for argument in call.arguments)
        _check_arguments(call, [aggregate.takes], arguments)
        inner = call.arguments[0] if call.arguments else None
        return aggregate, arguments, f"{call.name}_{inner.name if isinstance(inner, ast.Name) else ''}"

    def _item_name(self, item: ast.Item) -> str:
        if item.name is not None:
            return item.name.name
        value = item.value
        if isinstance(value, ast.Call) and value.name in ("bin", "floor") and value.arguments:
            value = value.arguments[0]
        if isinstance(value, ast.Name):
            return value.name
        raise KqlError("This needs a name.", item.value.span, remedy="Write: name = expression.")

    def _add(self, names: dict[str, BoundColumn], name: str, column: BoundColumn, item: ast.Item) -> None:
        if name in names:
            raise KqlError(f"There are two columns named '{name}'.", item.value.span, remedy="Rename one of them.")
        names[name] = column

    def _as_column(self, value: Scalar, computed: list[tuple[BoundColumn, Scalar]]) -> BoundColumn:
        if isinstance(value, Ref):
            return value.column
        column = self._new(value.type, value.is_nullable)
        computed.append((column, value))
        return column

    def _new(self, type_: str, is_nullable: bool) -> BoundColumn:
        return BoundColumn(next(self._numbers), type_, is_nullable)

    # -- expressions ----------------------------------------------------------------------------------------------

    def _condition(self, expression: ast.Expr) -> Scalar:
        value = self._scalar(expression)
        if value.type != "bool":
            raise KqlError(f"A condition is true or false, this is a {value.type}.", expression.span)
        return value

    def _scalar(self, expression: ast.Expr) -> Scalar:
        return _EXPRESSIONS[type(expression)](self, expression)

    def _literal(self, literal: ast.Literal) -> Scalar:
        return Const(literal.value, literal.type)

    def _name(self, name: ast.Name) -> Scalar:
        column = self._names.get(name.name)
        if column is None:
            raise KqlError(f"There is no column '{name.name}' here.", name.span, remedy=nearest(name.name, self._names))
        return Ref(column)

    def _call(self, call: ast.Call) -> Scalar:
        name = _SYNONYMS.get(call.name, call.name)
        arguments = [self._scalar(argument) for argument in call.arguments]
        if name in ("now", "ago"):
            return self._instant(call, arguments)
        if name not in OVERLOADS or not name.isidentifier():
            known = [n for n in OVERLOADS if n.isidentifier()] + ["now", "ago"]
            if name in BY_NAME:
                raise KqlError(f"'{name}' is an aggregate.", call.span, remedy="It belongs into summarize.")
            raise KqlError(f"The function '{call.name}' is not supported.", call.span, remedy=nearest(name, known))
        return self._apply(name, call, call.arguments, arguments)

    def _instant(self, call: ast.Call, arguments: Sequence[Scalar]) -> Scalar:
        if call.name == "now" and not arguments:
            return Const(self._now, "datetime")
        offset = arguments[0] if len(arguments) == 1 else None
        if not isinstance(offset, Const) or offset.type != "timespan" or offset.value is None:
            raise KqlError(f"{call.name}() takes one literal timespan.", call.span, remedy=f"Write {call.name}(1h).")
        sign = -1 if call.name == "ago" else 1
        return _moved(self._now, sign * offset.value, call.span)

    def _negative(self, negative: ast.Negative) -> Scalar:
        return self._apply("negate", negative, (negative.operand,), [self._scalar(negative.operand)])

    def _binary(self, binary: ast.Binary) -> Scalar:
        left, right = self._scalar(binary.left), self._scalar(binary.right)
        if binary.operator in _COMPARISONS:
            return self._compare(binary, left, right)
        if binary.operator in ("/", "%"):
            raise KqlError(f"The operator '{binary.operator}' is not supported.", binary.span)
        if isinstance(left, Const) and isinstance(right, Const) and None not in (left.value, right.value):
            sign = {"+": 1, "-": -1}.get(binary.operator)
            if sign and (left.type, right.type) == ("datetime", "timespan"):
                return _moved(left.value, sign * right.value, binary.span)
        return self._apply(binary.operator, binary, (binary.left, binary.right), [left, right])

    def _compare(self, binary: ast.Binary, left: Scalar, right: Scalar) -> Scalar:
        _check_comparable(binary.operator, left, right, binary.span)
        is_equality = binary.operator in ("==", "!=")
        is_nullable = left.is_nullable and right.is_nullable if is_equality else left.is_nullable or right.is_nullable
        return Compare(binary.operator, left, right, is_nullable)

    def _logical(self, logical: ast.Logical) -> Scalar:
        operands = tuple(self._condition(operand) for operand in logical.operands)
        return Junction(logical.operator, operands, any(o.is_nullable for o in operands))

    def _membership(self, membership: ast.Membership) -> Scalar:
        subject = self._scalar(membership.subject)
        if membership.operator in ("has_any", "has_all"):
            each = tuple(
                self._apply("has", membership, (membership.subject, item), [subject, self._scalar(item)])
                for item in membership.items
            )
            return Junction("or" if membership.operator == "has_any" else "and", each, False)
        items = [self._scalar(item) for item in membership.items]
        for item, written in zip(items, membership.items, strict=True):
            _check_comparable("==", subject, item, written.span)
            if not isinstance(item, Const) or item.value is None:
                raise KqlError("A list holds literals.", written.span)
        if membership.operator.endswith("~"):
            if subject.type != "string":
                raise KqlError(f"{membership.operator} compares strings.", membership.span)
            subject, items = self._lower(subject), [self._lower(item) for item in items]
        return OneOf(subject, tuple(items), membership.operator.startswith("!"))

    def _lower(self, value: Scalar) -> Scalar:
        return Apply(OVERLOADS["tolower"][0], (value,), "string", False)

    def _between(self, between: ast.Between) -> Scalar:
        subject, low, high = (self._scalar(e) for e in (between.subject, between.low, between.high))
        if subject.type == "datetime" and high.type == "timespan":  # between (start .. 1h): so long from the start
            high = self._apply("+", between, (between.low, between.high), [low, high])
        for bound in (low, high):
            _check_comparable(">=", subject, bound, between.span)
        outer = [("<", low), (">", high)] if between.is_negated else [(">=", low), ("<=", high)]
        each = tuple(Compare(o, subject, b, subject.is_nullable or b.is_nullable) for o, b in outer)
        return Junction("or" if between.is_negated else "and", each, any(c.is_nullable for c in each))

    def _apply(self, name: str, whole: ast.Expr, written: Sequence[ast.Expr], arguments: Sequence[Scalar]) -> Scalar:
        overloads = OVERLOADS[name]
        function = overloads[_check_arguments(whole, [o.takes for o in overloads], arguments, overloads, name)]
        for number in function.constants:
            argument = arguments[number]
            if not isinstance(argument, Const) or argument.value is None:
                raise KqlError(f"'{name}' needs a literal here.", written[number].span)
            if number in function.positive and argument.value <= 0:
                raise KqlError(f"'{name}' needs a value above zero here.", written[number].span)
            if number in function.terms and not any(c.isalnum() for c in argument.value):
                remedy = "Use contains."
                raise KqlError(f"'{name}' needs a term with a letter or digit.", written[number].span, remedy=remedy)
        return Apply(
            function,
            tuple(arguments),
            _gives(function, arguments),
            function.nulls == "strict" and any(a.is_nullable for a in arguments),
        )


def _gives(function: Function, arguments: Sequence[Scalar]) -> str:
    if function.gives == "wider":
        return "real" if any(a.type == "real" for a in arguments) else "long"
    return function.gives if isinstance(function.gives, str) else arguments[function.gives].type


def _check_arguments(
    whole: ast.Expr,
    takes: Sequence[tuple[tuple[str, ...], ...]],
    arguments: Sequence[Scalar],
    overloads: Sequence[Function] = (),
    name: str = "",
) -> int:
    """The number of the overload that fits."""
    for number, wanted in enumerate(takes):
        if overloads and overloads[number].is_variadic and len(arguments) > len(wanted):
            wanted = (*wanted, *[wanted[-1]] * (len(arguments) - len(wanted)))
        if len(wanted) == len(arguments) and all(a.type in w for a, w in zip(arguments, wanted, strict=True)):
            return number
    name = name or (whole.name if isinstance(whole, ast.Call) else "this")
    given = ", ".join(a.type for a in arguments) or "nothing"
    fitting = " or ".join(f"({', '.join('/'.join(w) for w in wanted)})" for wanted in takes)
    raise KqlError(f"'{name}' cannot be applied to ({given}).", whole.span, remedy=f"It takes {fitting}.")


def _check_comparable(operator: str, left: Scalar, right: Scalar, span: Span) -> None:
    types = {left.type, right.type}
    if types <= set(_NUMBERS) or (len(types) == 1 and types <= {*_ORDERED, "string", "bool"}):
        if operator in ("==", "!=") or types <= set(_ORDERED):
            return
        raise KqlError(f"'{operator}' cannot compare values of type {left.type}.", span)
    remedy = ""
    if types == {"datetime", "string"}:
        remedy = "Write the time as datetime(2025-01-31)."
    elif "dynamic" in types:
        remedy = "Comparing dynamic values is not supported."
    raise KqlError(f"'{operator}' cannot compare {left.type} with {right.type}.", span, remedy=remedy)


def _moved(start: datetime, microseconds: int, span: Span) -> Const:
    try:
        return Const(start + timedelta(microseconds=microseconds), "datetime")
    except OverflowError:
        raise KqlError("This is before the year 1 or after the year 9999.", span) from None


_OPERATORS: Final[Mapping[type, Callable[[_Resolver, Any], list[Step]]]] = {
    ast.Where: _Resolver._where,
    ast.Project: _Resolver._project,
    ast.Sort: _Resolver._sort,
    ast.Take: _Resolver._take,
    ast.Count: _Resolver._count,
    ast.Summarize: _Resolver._summarize,
}
_EXPRESSIONS: Final[Mapping[type, Callable[[_Resolver, Any], Scalar]]] = {
    ast.Literal: _Resolver._literal,
    ast.Name: _Resolver._name,
    ast.Call: _Resolver._call,
    ast.Negative: _Resolver._negative,
    ast.Binary: _Resolver._binary,
    ast.Logical: _Resolver._logical,
    ast.Membership: _Resolver._membership,
    ast.Between: _Resolver._between,
}
