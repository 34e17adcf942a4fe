"""OData's ``$filter`` and ``$orderby``, as far as Graph documents them for alerts and incidents.

``parse`` turns text into a small tree, checked against the fields that a resource declares; ``to_sql`` and ``matches``
are its two readings, in the database and on an answer as it is sent, and give the same (a test holds them together).
What is not supported is refused by name and place. Source: OData 4.01, part 2 (URL conventions), 5.1.1 and 11.2.6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, NoReturn

import sqlalchemy as sa

from watchfloor.model.errors import InputError

LONGEST: Final = 2_000
_DEEPEST: Final = 20
_MOST_TERMS: Final = 100


class Type(Enum):
    """What a field holds."""

    TEXT = "text"
    CHOICE = "one of a few words"
    TIME = "a time"
    TEXTS = "a list of texts"


@dataclass(frozen=True, slots=True)
class Field:
    """A field that may be asked about. ``stored`` gives what the database holds for each word of a ``CHOICE``; a field
    without a ``column`` says the same (``constant``) of everything."""

    type: Type
    column: sa.ColumnElement[Any] | None = None
    stored: Mapping[str, Collection[str]] | None = None
    constant: str | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """``field op value``; ``value`` None is ``null``. For a list: whether any of its texts is equal."""

    field: str
    op: str
    value: str | datetime | None


@dataclass(frozen=True, slots=True)
class Within:
    """``field in (…)``."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """``startswith(field,'…')``, ``endswith``, ``contains``: without regard to the case of Latin letters."""

    function: str
    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Junction:
    """``and`` (``is_all``) or ``or``."""

    is_all: bool
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """``not (…)``."""

    part: Condition


Condition = Compare | Within | Search | Junction | Not

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')"
    r"|(?P<time>\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2})?)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_/]*)|(?P<mark>[(),:])|(?P<end>$))"
)
_EQUAL: Final = ("eq", "ne")
_ORDERED: Final = ("eq", "ne", "gt", "ge", "lt", "le")
_FUNCTIONS: Final = ("startswith", "endswith", "contains")


def parse(text: str, fields: Mapping[str, Field], where: str = "$filter") -> Condition:
    """The condition that ``text`` says. Raises ``InputError`` with the place."""
    if len(text) > LONGEST:
        raise InputError(f"a filter has at most {LONGEST} characters.", where=where)
    return _Parser(text, fields, where).whole()


class _Parser:
    def __init__(self, text: str, fields: Mapping[str, Field], where: str) -> None:
        self._text, self._fields, self._where = text, fields, where
        self._at = 0
        self._terms = 0
        self._kind, self._value, self._start = "", "", 0
        self._next()

    def whole(self) -> Condition:
        found = self._either(0)
        if self._kind != "end":
            self._fail(f"{self._value!r} is not expected here")
        return found

    def _next(self) -> None:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            self._start = self._at
            raise self._error("this cannot be read")
        self._kind = match.lastgroup or ""
        self._value = match[self._kind]
        self._start = match.start(self._kind)
        self._at = match.end()

    def _error(self, what: str) -> InputError:
        return InputError(f"{what}, at character {self._start + 1}.", where=self._where)

    def _fail(self, what: str) -> NoReturn:
        raise self._error(what)

    def _is_word(self, *words: str) -> bool:
        return self._kind == "name" and self._value.lower() in words

    def _take(self, mark: str) -> None:
        if self._kind != "mark" or self._value != mark:
            self._fail(f"{mark!r} is expected")
        self._next()

    def _either(self, depth: int) -> Condition:
        if depth > _DEEPEST:
            self._fail("the filter is nested too deeply")
        parts = [self._both(depth)]
        while self._is_word("or"):
            self._next()
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Junction(False, tuple(parts))

    def _both(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self._is_word("and"):
            self._next()
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Junction(True, tuple(parts))

    def _one(self, depth: int) -> Condition:
        self._terms += 1
        if self._terms > _MOST_TERMS:
            self._fail(f"a filter has at most {_MOST_TERMS} terms")
        if self._is_word("not"):
            self._next()
            if depth >= _DEEPEST:
                self._fail("the filter is nested too deeply")
            return Not(self._one(depth + 1))
        if self._kind == "mark" and self._value == "(":
            self._next()
            found = self._either(depth + 1)
            self._take(")")
            return found
        if self._is_word(*_FUNCTIONS):
            return self._search()
        return self._about_field()

    def _search(self) -> Condition:
        function = self._value.lower()
        self._next()
        self._take("(")
        name = self._field_name((Type.TEXT,))
        self._take(",")
        text = self._literal_text()
        self._take(")")
        return Search(function, name, text)

    def _field_name(self, types: tuple[Type, ...] | None = None) -> str:
        if self._kind != "name":
            self._fail("the name of a field is expected")
        name = self._value
        if name not in self._fields:
            self._fail(f"{name!r} cannot be asked about; these can: {', '.join(sorted(self._fields))}")
        if types is not None and self._fields[name].type not in types:
            self._fail(f"{name} holds {self._fields[name].type.value}, which does not fit here")
        self._next()
        return name

    def _literal_text(self, name: str = "", field: Field | None = None) -> str:
        """A text in quotes; one of the field's words, where it has words."""
        if self._kind != "text":
            self._fail("a text in single quotes is expected")
        text = self._value[1:-1].replace("''", "'")
        if field is not None and field.stored is not None and text not in field.stored:
            self._fail(f"{name} is one of {', '.join(field.stored)}, not {text!r}")
        self._next()
        return text

    def _about_field(self) -> Condition:
        if self._kind == "name" and self._value.endswith("/any"):
            return self._any_of()
        name = self._field_name()
        field = self._fields[name]
        if field.type is Type.TEXTS:
            self._fail(f"{name} is a list: ask {name}/any(t:t eq '…')")
        if self._is_word("in"):
            return self._within(name, field)
        allowed = _ORDERED if field.type is Type.TIME else _EQUAL
        if not self._is_word(*allowed):
            self._fail(f"after {name}, one of {', '.join((*allowed, 'in'))} is expected")
        op = self._value.lower()
        self._next()
        return Compare(name, op, self._operand(name, field, op))

    def _operand(self, name: str, field: Field, op: str) -> str | datetime | None:
        if self._is_word("null"):
            if op not in _EQUAL:
                self._fail("null is only equal or not")
            self._next()
            return None
        if field.type is Type.TIME:
            return self._time()
        return self._literal_text(name, field)

    def _time(self) -> datetime:
        if self._kind != "time":
            self._fail("a time such as 2026-11-03T12:00:00Z is expected, without quotes")
        try:
            at = datetime.fromisoformat(self._value)
        except ValueError:
            self._fail("there is no such time")
        self._next()
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)

    def _within(self, name: str, field: Field) -> Condition:
        if field.type is Type.TIME:
            self._fail(f"{name} holds a time: compare it with ge and le")
        self._next()
        self._take("(")
        values = [self._literal_text(name, field)]
        while self._kind == "mark" and self._value == ",":
            self._next()
            values.append(self._literal_text(name, field))
            self._terms += 1
            if self._terms > _MOST_TERMS:
                self._fail(f"a filter has at most {_MOST_TERMS} terms")
        self._take(")")
        return Within(name, tuple(values))

    def _any_of(self) -> Condition:
        name = self._value.removesuffix("/any")
        if name not in self._fields or self._fields[name].type is not Type.TEXTS:
            self._fail(f"{name!r} is no list that can be asked about")
        self._next()
        self._take("(")
        variable = self._value
        if self._kind != "name":
            self._fail("a name for one of the list is expected")
        self._next()
        self._take(":")
        if self._kind != "name" or self._value != variable:
            self._fail(f"{variable} is expected")
        self._next()
        if not self._is_word("eq"):
            self._fail("eq is expected")
        self._next()
        text = self._literal_text()
        self._take(")")
        return Compare(name, "eq", text)


# -- in the database ----------------------------------------------------------------------------------------------


def to_sql(condition: Condition, fields: Mapping[str, Field]) -> sa.ColumnElement[bool]:
    """The condition over the columns of ``fields``."""
    if isinstance(condition, Junction):
        parts = [to_sql(part, fields) for part in condition.parts]
        return sa.and_(*parts) if condition.is_all else sa.or_(*parts)
    if isinstance(condition, Not):
        return sa.not_(to_sql(condition.part, fields))
    field = fields[condition.field]
    if field.column is None:
        return sa.true() if _holds(condition, field.constant, field) else sa.false()
    column = field.column
    if isinstance(condition, Search):
        pattern = _escaped(_small(condition.text))
        pattern = pattern if condition.function == "startswith" else f"%{pattern}"
        pattern = pattern if condition.function == "endswith" else f"{pattern}%"
        return sa.and_(column.is_not(None), sa.func.lower(sa.func.coalesce(column, "")).like(pattern, escape="\\"))
    if isinstance(condition, Within):
        return sa.and_(column.is_not(None), column.in_(_stored(field, condition.values)))
    return _compared(condition, field, column)


def _compared(condition: Compare, field: Field, column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    value, op = condition.value, condition.op
    if value is None:
        return column.is_(None) if op == "eq" else column.is_not(None)
    if isinstance(value, datetime):
        if op == "ne":
            return sa.or_(column.is_(None), column != value)
        compared: sa.ColumnElement[bool] = _OPERATORS[op](column, value)
        return sa.and_(column.is_not(None), compared)
    equal = sa.and_(column.is_not(None), column.in_(_stored(field, (value,))))
    return equal if op == "eq" else sa.not_(equal)


_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}


def _stored(field: Field, values: Collection[str]) -> list[str]:
    if field.stored is None:
        return list(values)
    return [each for value in values for each in field.stored[value]]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


# -- on an answer -------------------------------------------------------------------------------------------------


def matches(condition: Condition, resource: Mapping[str, Any], fields: Mapping[str, Field]) -> bool:
    """Whether the condition holds of ``resource``, as it is sent."""
    if isinstance(condition, Junction):
        found = (matches(part, resource, fields) for part in condition.parts)
        return all(found) if condition.is_all else any(found)
    if isinstance(condition, Not):
        return not matches(condition.part, resource, fields)
    return _holds(condition, resource.get(condition.field), fields[condition.field])


def _holds(condition: Compare | Within | Search, value: Any, field: Field) -> bool:
    if isinstance(condition, Within):
        return value in condition.values
    if isinstance(condition, Search):
        if value is None:
            return False
        found: bool = getattr(str, _METHODS[condition.function])(_small(value), _small(condition.text))
        return found
    if field.type is Type.TEXTS:
        return condition.value in (value or ())
    wanted = condition.value
    if isinstance(wanted, datetime) and value is not None:
        return bool(_OPERATORS[condition.op](datetime.fromisoformat(value), wanted))
    if wanted is None or value is None or condition.op in _EQUAL:
        return (value == wanted) == (condition.op == "eq") if condition.op in _EQUAL else False
    return False


def _small(text: str) -> str:
    """In small letters, as far as every database agrees on them."""
    return "".join(c.lower() if c.isascii() else c for c in text)


_METHODS: Final = {"startswith": "startswith", "endswith": "endswith", "contains": "__contains__"}


# -- order --------------------------------------------------------------------------------------------------------


def parse_order(text: str, allowed: Collection[str], where: str = "$orderby") -> list[tuple[str, bool]]:
    """(field, whether descending) of ``createdDateTime desc,…``. Raises ``InputError``."""
    found = []
    for part in text.split(","):
        name, _, direction = part.strip().partition(" ")
        direction = direction.strip().lower()
        if name not in allowed or direction not in ("", "asc", "desc"):
            raise InputError(
                f"{part.strip()!r} is no order.",
                where=where,
                remedy=f"One of {', '.join(sorted(allowed))}, asc or desc.",
            )
        found.append((name, direction == "desc"))
    return found
