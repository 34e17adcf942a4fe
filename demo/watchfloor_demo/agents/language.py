"""The values of the plan language: ``$invoice.customer_id``, ``"Reminder for {customer.name}"``, ``{items|count}``.

Pure. A path walks names, keys and indexes of what the agent remembers; filters turn the value into another. A path that
leads nowhere is an error that names it: a plan never sends a half-filled message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

_PATH: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\[-?\d+\])*(?:\|[a-z]+)*")
_STEP: Final = re.compile(r"\.?([A-Za-z_]\w*)|\[(-?\d+)\]")
_SLOT: Final = re.compile(r"\{([^{}]+)\}")


class PlanError(Exception):
    """A plan refers to something that is not there, or is not written as a plan."""


def _lines(value: Any) -> str:
    return "\n".join(f"- {_short(item)}" for item in value)


def _short(item: Any) -> str:
    if isinstance(item, Mapping):
        return ", ".join(f"{k}: {v}" for k, v in item.items() if not isinstance(v, list | dict))
    return str(item)


FILTERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "count": len,
    "first": lambda value: value[0] if value else None,
    "last": lambda value: value[-1] if value else None,
    "lines": _lines,
    "sentences": lambda value: " ".join(str(value).split("\n")[1:])[:600],
    "json": lambda value: json.dumps(value, ensure_ascii=False),
    "slug": lambda value: re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-"),
    "euros": lambda value: f"{float(value):,.2f} euros",
}


def look_up(path: str, memory: Mapping[str, Any]) -> Any:
    """The value that ``path`` (without ``$``) leads to. Raises ``PlanError``."""
    if not _PATH.fullmatch(path):
        raise PlanError(f"{path!r} is not a path")
    walk, *filters = path.split("|")
    value: Any = memory
    for name, index in _STEP.findall(walk):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError) as error:
            raise PlanError(f"${walk} leads nowhere at {name or index!r}") from error
    for name in filters:
        if name not in FILTERS:
            raise PlanError(f"unknown filter {name!r}; known: {', '.join(FILTERS)}")
        value = FILTERS[name](value)
    return value


def fill(template: Any, memory: Mapping[str, Any]) -> Any:
    """``template`` with every path and slot replaced by what it leads to; ``$path`` alone keeps the value's type."""
    if isinstance(template, str):
        if template.startswith("$"):
            return look_up(template[1:], memory)
        return _SLOT.sub(lambda slot: str(look_up(slot[1], memory)), template)
    if isinstance(template, list):
        return [fill(item, memory) for item in template]
    if isinstance(template, Mapping):
        return {key: fill(value, memory) for key, value in template.items()}
    return template


_TESTS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "is": lambda a, b: bool(a == b),
    "more_than": lambda a, b: bool(a > b),
    "less_than": lambda a, b: bool(a < b),
    "contains": lambda a, b: bool(b in a),
}


def holds(condition: Mapping[str, Any], memory: Mapping[str, Any]) -> bool:
    """Whether every test of ``{more_than: [$invoice.days_overdue, 10]}`` holds."""
    for name, pair in condition.items():
        if name not in _TESTS:
            raise PlanError(f"unknown test {name!r}; known: {', '.join(_TESTS)}")
        left, right = fill(pair, memory)
        if not _TESTS[name](left, right):
            return False
    return True
