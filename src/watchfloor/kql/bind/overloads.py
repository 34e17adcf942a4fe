"""Which overload of a function or an aggregate is meant by arguments of these types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from watchfloor.kql import ir
from watchfloor.kql.bind.combine import WIDTHS
from watchfloor.kql.functions import spec

Overload = spec.Function | spec.Aggregate
F = TypeVar("F", spec.Function, spec.Aggregate)

PACKED: Final = ("packed",)
"""What a parameter takes that any value fits into, as a dynamic one."""


def placements(takes: Sequence[spec.Parameter], count: int) -> Iterator[tuple[spec.Parameter, ...]]:
    """The ways in which ``count`` arguments can stand for ``takes``: a parameter for each argument."""
    if not takes:
        if not count:
            yield ()
        return
    first, rest = takes[0], takes[1:]
    most = count if first.is_repeated else min(1, count)
    for taken in range(most, -1 if first.is_optional else 0, -1):
        for others in placements(rest, count - taken):
            yield (first,) * taken + others


def choose(overloads: Sequence[F], types: Sequence[str]) -> tuple[F, tuple[spec.Parameter, ...]] | None:
    """The overload that fits ``types`` best, with the parameter of each argument; None if none fits.

    A dynamic value that one overload would read as this type and another as that has no clear meaning: none fits.
    """
    best: tuple[int, F, tuple[spec.Parameter, ...]] | None = None
    readings: list[set[str]] = [set() for _ in types]
    for function in overloads:
        for takes in placements(function.takes, len(types)):
            costs = [cost(t, p) for t, p in zip(types, takes, strict=True)]
            if all(c is not None or t == "dynamic" for c, t in zip(costs, types, strict=True)):
                for reading, parameter in zip(readings, takes, strict=True):
                    reading.update(parameter.types)
            known = [c for c in costs if c is not None]
            if len(known) < len(costs):
                continue
            worst = max(known, default=0)
            if worst == 0:
                return function, takes
            if best is None or worst < best[0]:
                best = worst, function, takes
    if best is None:
        return None
    for type_, parameter, reading in zip(types, best[2], readings, strict=True):
        if type_ == "dynamic" and cost(type_, parameter) == 2 and len(reading) > 1:
            return None
    return best[1], best[2]


def cost(type_: str, takes: spec.Parameter) -> int | None:
    """What it takes to make ``type_`` fit: 0 nothing, 1 a wider type, 2 a dynamic read as what is wanted; None: it
    does not fit."""
    if type_ in takes.types or type_ == "unknown":
        return 0
    if takes.types == PACKED:
        return 0 if type_ == "dynamic" else 1
    if type_ in WIDTHS and any(t in WIDTHS and WIDTHS[t] > WIDTHS[type_] for t in takes.types):
        return 1
    if type_ == "decimal" and "real" in takes.types:
        return 3
    if type_ == "dynamic" and len(takes.types) == 1:
        return 2
    return None


def target(type_: str, takes: spec.Parameter) -> str:
    if type_ in WIDTHS:
        wider = [t for t in takes.types if t in WIDTHS and WIDTHS[t] > WIDTHS[type_]]
        return min(wider, key=WIDTHS.__getitem__) if wider else "real"
    return takes.types[0]


def result_type(gives: str | int, values: Sequence[ir.Scalar], promotes: bool = False) -> str:
    """The type that a function or an aggregate gives for ``values``."""
    if isinstance(gives, int):
        return values[gives].type
    if gives != "widest":
        return gives
    numeric = [v.type for v in values if v.type in WIDTHS]
    if numeric:
        widest = max(numeric, key=WIDTHS.__getitem__)
        return "long" if widest == "int" and promotes else widest
    return next((v.type for v in values if v.type != "dynamic"), "dynamic")
