"""What relational routines share: registration, reading a spec, keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from watchfloor.kql.functions.convert import convert
from watchfloor.kql.routines import REGISTRY, Budget, Refused, Routine

Spec = Mapping[str, Any]
Cells = list[Any]
Table = list[Cells]

MOST_ELEMENTS: Final = 1_048_576
"""The longest array that an operator makes."""


def routine(name: str) -> Callable[[Routine], Routine]:
    """Put the decorated function into the registry as ``name``."""

    def register(function: Routine) -> Routine:
        REGISTRY[name] = function
        return function

    return register


def key(value: Any) -> Any:
    """What stands for a scalar value in a dict: NaN is equal to itself, and a bool to no number."""
    if isinstance(value, float) and value != value:
        return "NaN"
    return (value,) if isinstance(value, bool) else value


def keys(cells: Cells, places: Iterable[int]) -> tuple[Any, ...]:
    """The cells at ``places`` as a key."""
    return tuple(key(cells[place]) for place in places)


def empty(type_: str) -> Any:
    """The null of a type."""
    return "" if type_ == "string" else None


def as_json(value: Any, type_: str) -> Any:
    """A value of ``type_`` as an element of a dynamic array or a property of a bag."""
    return convert(value, type_, "dynamic")


__all__ = [
    "MOST_ELEMENTS",
    "Budget",
    "Cells",
    "Refused",
    "Spec",
    "Table",
    "as_json",
    "empty",
    "key",
    "keys",
    "routine",
]
