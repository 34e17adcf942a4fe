"""Scalars as Python closures: the exact meaning of every bound expression over one row.

A row maps column numbers to values as in ``values.py``. Most expressions need nothing but the row. Three kinds need
more: a ``Window`` its neighbours, an ``InRelation`` and a ``FirstOf`` other rows. Those are ``extras``: whoever has the
rows puts what they need into the row, under a number that ``compile_scalar`` is told.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from watchfloor.kql import ir
from watchfloor.kql.functions.convert import convert
from watchfloor.kql.functions.dynamics import identity

Row = Mapping[int, Any]
Value = Callable[[Row], Any]
Compile = Callable[[ir.Scalar], Value]

_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NO_EXTRAS: Final[Mapping[int, int]] = MappingProxyType({})


def evaluate(scalar: ir.Scalar, row: Row) -> Any:
    """The value of ``scalar`` over ``row``. For many rows, compile once."""
    return compile_scalar(scalar)(row)


def compile_scalar(scalar: ir.Scalar, extras: Mapping[int, int] = _NO_EXTRAS) -> Value:
    """``scalar`` as a function of a row. ``extras``: by ``id()`` of a Window, FirstOf or InRelation within it, the
    number under which the row has its value (for an InRelation, the set of keys that ``key_of`` makes)."""
    made: dict[int, Value] = {}

    def compiled(node: ir.Scalar) -> Value:
        found = made.get(id(node))
        if found is None:
            found = made[id(node)] = _made(node, compiled, extras)
        return found

    return compiled(scalar)


def key_of(type_: str) -> Callable[[Any], Any]:
    """What stands for a value of ``type_`` where values are looked up: equal for equal values, NaN equal to itself."""
    if type_ == "dynamic":
        return identity
    if type_ == "real":
        return lambda value: "NaN" if value != value else value
    return lambda value: value


def _made(node: ir.Scalar, compiled: Compile, extras: Mapping[int, int]) -> Value:
    match node:
        case ir.Const():
            value = node.value
            return lambda row: value
        case ir.Ref():
            return operator.itemgetter(node.column.number)
        case ir.Apply():
            return _apply(node, compiled)
        case ir.Path():
            return _path(node, compiled)
        case ir.Convert():
            return _convert(node, compiled)
        case ir.Compare():
            return _compare(node, compiled)
        case ir.OneOf():
            return _one_of(node, compiled)
        case ir.Junction():
            return _junction(node, compiled)
        case ir.Choice():
            return _choice(node, compiled)
    number = extras.get(id(node))
    if number is None:
        raise ValueError(f"A {type(node).__name__} has no value over a single row.")
    if isinstance(node, ir.InRelation):
        return _in_relation(node, compiled, number)
    return operator.itemgetter(number)


def _apply(node: ir.Apply, compiled: Compile) -> Value:
    python, is_strict = node.function.python, node.function.nulls == "strict"
    arguments = [compiled(argument) for argument in node.arguments]
    empty = "" if node.type == "string" else None

    if not is_strict:
        if empty is None:
            return lambda row: python(*[argument(row) for argument in arguments])

        def total(row: Row) -> Any:
            found = python(*[argument(row) for argument in arguments])
            return empty if found is None else found

        return total

    if len(arguments) == 1:
        (only,) = arguments

        def unary(row: Row) -> Any:
            value = only(row)
            found = None if value is None else python(value)
            return empty if found is None else found

        return unary

    if len(arguments) == 2:
        first, second = arguments

        def binary(row: Row) -> Any:
            left, right = first(row), second(row)
            found = None if left is None or right is None else python(left, right)
            return empty if found is None else found

        return binary

    def strict(row: Row) -> Any:
        values = [argument(row) for argument in arguments]
        found = None if None in values else python(*values)
        return empty if found is None else found

    return strict


def _path(node: ir.Path, compiled: Compile) -> Value:
    base = compiled(node.base)
    steps: list[str | int | Value] = [s if isinstance(s, str | int) else compiled(s) for s in node.steps]

    def path(row: Row) -> Any:
        value = base(row)
        for step in steps:
            key = step if isinstance(step, str | int) else step(row)
            if isinstance(value, dict) and isinstance(key, str):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
                value = value[key]
            else:
                return None
        return value

    return path


def _convert(node: ir.Convert, compiled: Compile) -> Value:
    base, source, target = compiled(node.base), node.base.type, node.type
    return lambda row: convert(base(row), source, target)


def _compare(node: ir.Compare, compiled: Compile) -> Value:
    left, right = compiled(node.left), compiled(node.right)
    if node.operator in ("==", "!="):
        is_equality = node.operator == "=="
        is_dynamic = "dynamic" in (node.left.type, node.right.type)

        def equal(row: Row) -> bool | None:
            a, b = left(row), right(row)
            if a is None or b is None:
                return None if a is b else not is_equality
            same = identity(a) == identity(b) if is_dynamic else a == b
            return same is is_equality

        return equal

    holds = _ORDERS[node.operator]

    def ordered(row: Row) -> bool | None:
        a, b = left(row), right(row)
        return None if a is None or b is None else holds(a, b)

    return ordered


def _one_of(node: ir.OneOf, compiled: Compile) -> Value:
    subject, is_negated, is_folded = compiled(node.subject), node.is_negated, node.is_folded
    key: Callable[[Any], Any] = str.lower if is_folded else identity if node.subject.type == "dynamic" else _itself
    if all(isinstance(item, ir.Const) for item in node.items):
        known = frozenset(
            key(item.value) for item in node.items if isinstance(item, ir.Const) and item.value == item.value
        ) - {None}

        def among(row: Row) -> bool:
            value = subject(row)
            return (value is not None and key(value) in known) is not is_negated

        return among

    items = [compiled(item) for item in node.items]

    def one_of(row: Row) -> bool:
        value = subject(row)
        if value is None:
            return is_negated
        value = key(value)
        found = any(other is not None and key(other) == value for other in (item(row) for item in items))
        return found is not is_negated

    return one_of


def _itself(value: Any) -> Any:
    return value


def _in_relation(node: ir.InRelation, compiled: Compile, number: int) -> Value:
    subject, is_negated = compiled(node.subject), node.is_negated
    key: Callable[[Any], Any] = str.lower if node.is_folded else key_of(node.subject.type)

    def among(row: Row) -> bool:
        value = subject(row)
        return (value is not None and key(value) in row[number]) is not is_negated

    return among


def _junction(node: ir.Junction, compiled: Compile) -> Value:
    operands = [compiled(operand) for operand in node.operands]
    decisive = node.operator == "or"

    def junction(row: Row) -> bool | None:
        found: bool | None = not decisive
        for holds in operands:
            value: bool | None = holds(row)
            if value is decisive:
                return decisive
            if value is None:
                found = None
        return found

    return junction


def _choice(node: ir.Choice, compiled: Compile) -> Value:
    pairs = [(compiled(condition), compiled(value)) for condition, value in node.pairs]
    otherwise = compiled(node.otherwise)

    def choice(row: Row) -> Any:
        for condition, value in pairs:
            if condition(row):
                return value(row)
        return otherwise(row)

    return choice
