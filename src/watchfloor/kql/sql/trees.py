"""Trees of scalars: what one holds, and the same tree over other operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from watchfloor.kql import ir


def with_operands(scalar: ir.Scalar, parts: Sequence[ir.Scalar]) -> ir.Scalar:
    """``scalar`` over other operands, in the order of ``ir.operands``."""
    rest = iter(parts)
    if isinstance(scalar, ir.Apply):
        return replace(scalar, arguments=tuple(rest))
    if isinstance(scalar, ir.Path):
        base = next(rest)
        return replace(
            scalar, base=base, steps=tuple(s if isinstance(s, str | int) else next(rest) for s in scalar.steps)
        )
    if isinstance(scalar, ir.Convert):
        return replace(scalar, base=next(rest))
    if isinstance(scalar, ir.Compare):
        return replace(scalar, left=next(rest), right=next(rest))
    if isinstance(scalar, ir.OneOf):
        return replace(scalar, subject=next(rest), items=tuple(rest))
    if isinstance(scalar, ir.InRelation):
        return replace(scalar, subject=next(rest))
    if isinstance(scalar, ir.Junction):
        return replace(scalar, operands=tuple(rest))
    if isinstance(scalar, ir.Choice):
        pairs = tuple((next(rest), next(rest)) for _ in scalar.pairs)
        return replace(scalar, pairs=pairs, otherwise=next(rest))
    if isinstance(scalar, ir.Window):
        arguments = tuple(next(rest) for _ in scalar.arguments)
        return replace(scalar, arguments=arguments, restart=next(rest, None))
    return scalar


def has_window(scalar: ir.Scalar) -> bool:
    return holds(scalar, lambda node: isinstance(node, ir.Window))


def has_query(scalar: ir.Scalar) -> bool:
    return holds(scalar, is_query)


def is_volatile(scalar: ir.Scalar) -> bool:
    """Whether ``scalar`` may differ each time that it is asked for."""
    return holds(scalar, is_chance)


def is_chance(scalar: ir.Scalar) -> bool:
    """Whether ``scalar`` is itself what differs."""
    return type(scalar) is ir.Apply and scalar.function.is_volatile


def is_query(scalar: ir.Scalar) -> bool:
    """Whether ``scalar`` is a query of its own."""
    return isinstance(scalar, ir.FirstOf | ir.InRelation)


def is_particular(scalar: ir.Scalar) -> bool:
    """Whether ``scalar`` is itself a window, a query or chance."""
    kind = type(scalar)
    return kind is ir.Window or kind is ir.FirstOf or kind is ir.InRelation or is_chance(scalar)


def holds(scalar: ir.Scalar, is_wanted: Callable[[ir.Scalar], bool]) -> bool:
    """Whether ``scalar`` or anything in it is wanted."""
    if type(scalar) is ir.Ref or type(scalar) is ir.Const:
        return is_wanted(scalar)
    waiting = [scalar]
    while waiting:
        node = waiting.pop()
        if is_wanted(node):
            return True
        waiting.extend(ir.operands(node))
    return False


def is_ref(scalar: ir.Scalar) -> bool:
    return isinstance(scalar, ir.Ref)
