"""A Python function's parameters as a tool's arguments, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from watchfloor_sdk.errors import Unavailable
from watchfloor_sdk.plain import arguments_of


@dataclass(frozen=True)
class Bound:
    """One call of a function. ``shown`` is what the guard judges."""

    arguments: inspect.BoundArguments
    shown: dict[str, Any]
    rest: str
    """The name of its ``**`` parameter."""

    def with_arguments(self, decided: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments, with what was redacted in its place. Raises ``Unavailable``."""
        if decided.keys() != self.shown.keys():
            raise Unavailable("malformed_answer", "Watchfloor's answer has other arguments than the call.")
        for name, value in decided.items():
            if value == self.shown[name]:
                continue  # as given: a date stays a date
            if name in self.arguments.arguments and name != self.rest:
                self.arguments.arguments[name] = value
            else:
                self.arguments.arguments[self.rest][name] = value
        return self.arguments.args, self.arguments.kwargs


@dataclass(frozen=True)
class Binding:
    """How a function is shown to the guard."""

    tool: str
    signature: inspect.Signature
    ignored: frozenset[str]
    rest: str

    @classmethod
    def of(cls, function: Callable[..., Any], tool: str, ignore: Iterable[str]) -> Binding:
        """Raises ``TypeError`` for a function whose arguments have no names."""
        signature = inspect.signature(function)
        names = list(signature.parameters)
        ignored = frozenset(ignore) | frozenset(names[:1]) & {"self", "cls"}
        rest = ""
        for parameter in signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL and parameter.name not in ignored:
                raise TypeError(f"{function!r} takes *{parameter.name}: arguments of a tool need names.")
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                rest = parameter.name
        if unknown := ignored - set(names) - {"self", "cls"}:
            raise TypeError(f"{function!r} has no parameter {', '.join(sorted(unknown))} to ignore.")
        return cls(tool or getattr(function, "__name__", ""), signature, ignored, rest)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        """One call. Raises ``TypeError`` for what the function would not take, or what cannot be shown."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        told = {name: value for name, value in bound.arguments.items() if name not in self.ignored}
        if self.rest and self.rest not in self.ignored:
            told |= told.pop(self.rest)
        return Bound(bound, arguments_of(told), self.rest)
