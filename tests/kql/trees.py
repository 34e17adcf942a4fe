"""Comparing syntax trees."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

_PLACES = frozenset({"span", "name_span", "text"})


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal but for the places in the text."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)  # nan is nan, 0.0 is not -0.0
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if is_dataclass(one):
        names = [field.name for field in fields(one) if field.name not in _PLACES]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other)
