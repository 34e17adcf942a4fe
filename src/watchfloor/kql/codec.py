"""Bound scalars as JSON and back: how the expressions inside a routine's ``spec`` travel.

Each node is a list that begins with its kind. Functions go by name and number, so both ends must have the same function
table. What needs more than a row (Window, InRelation, FirstOf) does not travel.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from watchfloor.kql import ir
from watchfloor.kql.functions import FUNCTIONS, Function


def encode_value(value: Any, type_: str) -> Any:
    """A value of ``type_`` as strict JSON: a decimal as its text, a real that JSON has no number for as ``[text]``."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return [repr(value)]
    return value


def decode_value(value: Any, type_: str) -> Any:
    """The value of ``type_`` that ``encode_value`` made ``value`` of."""
    if value is None:
        return None
    if type_ == "decimal":
        return Decimal(value)
    if type_ == "real":
        return float(value[0]) if isinstance(value, list) else float(value)
    return value


def encode(scalar: ir.Scalar) -> list[Any]:
    """``scalar`` as lists, strings, numbers, bools and null."""
    match scalar:
        case ir.Const():
            return ["const", scalar.type, encode_value(scalar.value, scalar.type)]
        case ir.Ref():
            column = scalar.column
            return ["ref", column.number, column.type, column.is_nullable]
        case ir.Apply():
            function, arguments = scalar.function, [encode(argument) for argument in scalar.arguments]
            return ["apply", function.name, function.number, scalar.type, scalar.is_nullable, arguments]
        case ir.Path():
            steps = [step if isinstance(step, str | int) else encode(step) for step in scalar.steps]
            return ["path", encode(scalar.base), steps, scalar.type, scalar.is_nullable]
        case ir.Convert():
            return ["convert", encode(scalar.base), scalar.type, scalar.is_nullable]
        case ir.Compare():
            return ["compare", scalar.operator, encode(scalar.left), encode(scalar.right), scalar.is_nullable]
        case ir.OneOf():
            items = [encode(item) for item in scalar.items]
            return ["oneof", encode(scalar.subject), items, scalar.is_negated, scalar.is_folded]
        case ir.Junction():
            operands = [encode(operand) for operand in scalar.operands]
            return ["junction", scalar.operator, operands, scalar.is_nullable]
        case ir.Choice():
            pairs = [[encode(condition), encode(value)] for condition, value in scalar.pairs]
            return ["choice", pairs, encode(scalar.otherwise), scalar.type, scalar.is_nullable]
    raise ValueError(f"A {type(scalar).__name__} cannot be encoded: it needs more than a row.")


def decode(given: Any) -> ir.Scalar:
    """The scalar that ``encode`` made ``given`` of. ValueError where it made no such thing."""
    match given:
        case ["const", str() as type_, value]:
            return ir.Const(decode_value(value, type_), type_)
        case ["ref", number, type_, is_nullable]:
            return ir.Ref(ir.BoundColumn(number, type_, is_nullable))
        case ["apply", str() as name, int() as number, type_, is_nullable, arguments]:
            decoded_arguments = tuple(decode(argument) for argument in arguments)
            return ir.Apply(_function(name, number), decoded_arguments, type_, is_nullable)
        case ["path", base, steps, type_, is_nullable]:
            decoded = tuple(step if isinstance(step, str | int) else decode(step) for step in steps)
            return ir.Path(decode(base), decoded, type_, is_nullable)
        case ["convert", base, type_, is_nullable]:
            return ir.Convert(decode(base), type_, is_nullable)
        case ["compare", operator, left, right, is_nullable]:
            return ir.Compare(operator, decode(left), decode(right), is_nullable)
        case ["oneof", subject, items, is_negated, is_folded]:
            return ir.OneOf(decode(subject), tuple(decode(item) for item in items), is_negated, is_folded)
        case ["junction", operator, operands, is_nullable]:
            return ir.Junction(operator, tuple(decode(operand) for operand in operands), is_nullable)
        case ["choice", pairs, otherwise, type_, is_nullable]:
            decoded_pairs = tuple((decode(condition), decode(value)) for condition, value in pairs)
            return ir.Choice(decoded_pairs, decode(otherwise), type_, is_nullable)
    raise ValueError(f"This is no encoded scalar: {str(given)[:100]}")


def _function(name: str, number: int) -> Function:
    for found in FUNCTIONS.get(name, ()):
        if found.name == name and found.number == number:
            return found
    raise ValueError(f"There is no function {name} with the number {number}.")
