"""What a dialect of SQL is to the printer: tables of types and of templates. Nothing here knows a particular dialect.

A template is SQL with ``$a``, ``$b``, … for arguments, ``$*`` for all of them and ``$name`` for anything else that the
printer offers. It is read once and filled by joining its parts. What a dialect has no template for, it cannot say: the
query is refused by that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from watchfloor.kql.errors import KqlError, Span, unsupported

_VARIABLE: Final = re.compile(r"\$(\*|[a-z_]+)")
_CALL: Final = re.compile(r"\w+\(")


@dataclass(frozen=True, slots=True)
class Template:
    """SQL with holes. ``is_atom``: what it makes can stand anywhere without parentheses."""

    parts: tuple[str, ...]
    """Text and names of variables, in turn; text first."""
    variables: frozenset[str]
    is_atom: bool
    repeated: Mapping[str, int]
    """How many times more than once a variable is mentioned, for those that are."""

    def fill(self, value: Callable[[str], str]) -> str:
        """The SQL, with ``value(name)`` for each variable; called once for a variable that is there twice."""
        if not self.variables:
            return self.parts[0]
        known = {name: value(name) for name in self.parts[1::2]}
        return "".join(known[part] if n % 2 else part for n, part in enumerate(self.parts))


@lru_cache(maxsize=4096)
def template(text: str) -> Template:
    """``text``, read."""
    parts = tuple(_VARIABLE.split(text))
    names = parts[1::2]
    repeated = {name: names.count(name) - 1 for name in names if names.count(name) > 1}
    return Template(parts, frozenset(names), is_atom(text), repeated)


def is_atom(text: str) -> bool:
    """Whether ``text`` is one name, number, parameter or call, or a CASE, or in parentheses as a whole."""
    if re.fullmatch(r"\$?\w+|''", text):
        return True
    if text.startswith("CASE ") and text.endswith(" END"):
        return text.count("CASE ") == text.count(" END") and _closes(text.replace("CASE ", "(").replace(" END", ")"))
    match = _CALL.match(text)
    return (match is not None or text.startswith("(")) and _closes(text[match.end() - 1 if match else 0 :])


def _closes(text: str) -> bool:
    """Whether the parenthesis that ``text`` begins with closes at its very end."""
    depth, is_quoted = 0, False
    for place, sign in enumerate(text):
        if sign == "'":
            is_quoted = not is_quoted
        elif not is_quoted and sign in "()":
            depth += 1 if sign == "(" else -1
            if depth == 0:
                return place == len(text) - 1
    return False


@dataclass(frozen=True)
class Dialect:
    """One dialect, as data. ``types``: the SQL type of each KQL type. ``forms``: templates by what they are for;
    ``conversions`` and ``shortcuts`` as in ``functions/convert.py``; ``from_path``: conversions of what a path gives,
    where ``$t`` is it as text and ``$j`` as JSON; ``elements``: what mv-expand makes of an element ``$a`` (JSON text).
    ``parameter``: how one of a name and a value is mentioned; ``path``: SQL of the form of that name for a value,
    constant steps and what makes parameters, where a path is no text; ``escapes_names``: a backslash in a name counts;
    ``has_routines``, ``has_windows``: whether the engine can call routines, and whether windows, but for the first rows
    of groups, and lists in order can be said."""

    name: str
    types: Mapping[str, str]
    forms: Mapping[str, str]
    conversions: Mapping[tuple[str, str], str]
    shortcuts: Mapping[tuple[str, str], str] = field(default_factory=dict)
    from_path: Mapping[str, str] = field(default_factory=dict)
    elements: Mapping[str, str] = field(default_factory=dict)
    parameter: Callable[[str, Any], str] = lambda name, _: f"${name}"
    path: Callable[[str, str, Sequence[str | int], Callable[[Any], str]], str] | None = None
    escapes_names: bool = False
    has_routines: bool = True
    has_windows: bool = True

    def form(self, name: str) -> Template:
        """The template for ``name``. Raises ``KqlError`` if the dialect has none."""
        text = self.forms.get(name)
        if text is None:
            raise self.lacks(name)
        return template(text)

    def say(self, name: str, *arguments: str) -> str:
        """The form ``name`` with ``arguments`` for ``$a``, ``$b``, …"""
        return self.form(name).fill(lambda variable: arguments[ord(variable) - 97])

    def type(self, kql: str) -> str:
        """The SQL type of a KQL type."""
        if kql not in self.types:
            raise self.lacks(f"type {kql}")
        return self.types[kql]

    def quoted(self, name: str) -> str:
        """The name of a table or a column of one."""
        escaped = name.replace("\\", "\\\\") if self.escapes_names else name
        return '"' + escaped.replace('"', '""') + '"'

    def must_call(self, routine: str) -> None:
        """Raises ``KqlError`` if there are no routines."""
        if not self.has_routines:
            raise self.lacks(routine)

    def lacks(self, what: str) -> KqlError:
        """The refusal of something that cannot be said."""
        return unsupported(f"The dialect '{self.name}' has no {what}.", Span(0, 0))
