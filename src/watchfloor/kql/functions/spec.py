"""The shape of the function tables: what a function or an aggregate is, as data.

A row is made by decorating the Python function that says what the function means, for one set of argument values:

    @scalar("strlen", "string", "long", page="strlen-function", duckdb="length($a)")
    def strlen(text: str) -> int:
        return len(text)

The Python function is the definition. The evaluator runs it; constants are folded with it; a dialect that has no
template for it calls it as a routine of the engine. A template must give the same values, faster.

Values are as in ``values.py``: datetime and timespan are ticks (int), dynamic is plain JSON, a string is never None.

``takes`` is one word an argument: types joined by ``|`` (``long|real``), or a class: ``number`` (int, long, real,
decimal), ``integer`` (int, long), ``scalar`` (anything), ``ordered`` (numbers, datetime, timespan, string, bool, guid),
``text`` (anything, and the binder converts it to a string first, as tostring does: the function sees only strings) and
``terms`` (the same, but a dynamic value is handed over as it is).
A word ending in ``?`` is optional, one in ``*`` repeats (none or more), one in ``+`` repeats (one or more); a word that
begins with ``=`` must be a constant (``=string``). Overloads are several rows of one name, tried in order: an exact fit
first, then with widening (int to long to real, int or long to decimal), then with dynamic converted to what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

NUMBER: Final = ("int", "long", "real", "decimal")
CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "number": NUMBER,
    "integer": ("int", "long"),
    "scalar": ("bool", "datetime", "decimal", "dynamic", "guid", "int", "long", "real", "string", "timespan"),
    "ordered": ("bool", "datetime", "decimal", "guid", "int", "long", "real", "string", "timespan"),
    "terms": ("string", "dynamic", "bool", "datetime", "decimal", "guid", "int", "long", "real", "timespan"),
    "text": ("string", "bool", "datetime", "decimal", "dynamic", "guid", "int", "long", "real", "timespan"),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument: the types it may have; whether it may be left out, repeats, or must be a constant.

    ``as_text``: the binder converts it to a string unless it is one; ``keeps_dynamic``: nor if it is dynamic.
    """

    types: tuple[str, ...]
    is_optional: bool = False
    is_repeated: bool = False
    is_constant: bool = False
    as_text: bool = False
    keeps_dynamic: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """SQL for one call: ``text`` with variables, and the ``values`` of those that are no argument's.

    ``$a`` is the first argument, ``$b`` the second, ``$*`` all of them joined by commas, ``$routine`` the call of the
    Python definition over all of them (for the rare values that the rest of the template does not cover). A name of
    ``values`` has two letters at least; its value (text, number, bool, list of texts) is bound as a parameter.
    """

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)


TemplateOf = str | Callable[[Sequence[Any]], Template | None]
"""A template's text, or a function of the ``ir`` arguments that gives the template, or None where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A scalar function, one overload.

    ``gives``: a type; the number of the argument whose type it is; or "widest": the widest of the numeric arguments,
    else the type of the first that is not dynamic. ``nulls``: "strict" gives null ('' as a string) for any null
    argument and is not called then; "total" is called with None and handles it. ``sql``: per dialect, a template (see
    ``Template``), to be asked through ``template``; a template knows that strict functions give null for null by nature
    or says so itself. ``when``: a template holds only where this function of the ``ir`` arguments says so (a constant
    pattern, two arguments). ``check``: what is wrong with these ``ir`` arguments, in words, or None: a faulty regular
    expression, a word that is none of those allowed; the binder reports it. ``aliases``: further names, each the same.
    ``is_volatile``: rand(), new_guid(): never folded. ``names`` of several results: (suffix, type), for functions like
    series_stats whose results spread over columns.
    """

    name: str
    takes: tuple[Parameter, ...]
    gives: str | int
    python: Callable[..., Any]
    page: str
    nulls: str = "strict"
    sql: Mapping[str, TemplateOf] = field(default_factory=dict)
    when: Callable[[Sequence[Any]], bool] | None = None
    check: Callable[[Sequence[Any]], str | None] | None = None
    aliases: tuple[str, ...] = ()
    is_volatile: bool = False
    spreads: tuple[tuple[str, str], ...] = ()
    number: int = 0
    """Its place among the overloads of its name: name and number identify it."""

    def template(self, dialect: str, arguments: Sequence[Any]) -> Template | None:
        """The template that holds for these ``ir`` arguments in ``dialect``; None: call the definition as a routine."""
        found = self.sql.get(dialect)
        if found is None or (self.when is not None and not self.when(arguments)):
            return None
        return Template(found) if isinstance(found, str) else found(arguments)


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """An aggregate, one overload.

    ``python`` takes the rows of the group as a list of tuples of arguments, nulls included, in order, and gives the
    value. ``prefix`` names the result: ``count_``, ``dcount_X`` (prefix "dcount" and the first argument's name);
    ``gives`` as for a function. ``over_nothing``: the value over no rows (None: null); in SQL as well, the printer sees
    to it. ``sql`` templates are complete aggregate expressions; ``$filter`` stands for the FILTER clause of the
    ...if() forms (appended where it is not mentioned); ``$order`` for ``ORDER BY`` of the input's order (left out
    where there is none). ``if_name``: the name of its conditional form (``countif``), whose last argument is the
    condition; naming takes ``if_prefix``. ``needs_order``: the order of the rows counts (make_list).
    """

    name: str
    takes: tuple[Parameter, ...]
    gives: str | int
    python: Callable[..., Any]
    page: str
    prefix: str
    over_nothing: Any = None
    sql: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    if_name: str = ""
    if_prefix: str = ""
    needs_order: bool = False
    number: int = 0


FUNCTIONS: Final[dict[str, list[Function]]] = {}
"""Overloads by name, aliases included. Filled by the modules of this package."""

AGGREGATES: Final[dict[str, list[Aggregate]]] = {}
"""Overloads by name, aliases included; the conditional forms are under ``CONDITIONAL``."""

CONDITIONAL: Final[dict[str, str]] = {}
"""The name of a conditional aggregate to its plain one: countif to count."""

REFUSED: Final[dict[str, str]] = {}
"""Functions, aggregates and plugins that KQL has and that are refused, with what to do instead."""


def parameters(takes: str) -> tuple[Parameter, ...]:
    """``takes`` of a row, read."""
    found = []
    for word in takes.split():
        is_constant = word.startswith("=")
        core = word.lstrip("=").rstrip("?*+")
        suffix = word[-1] if word[-1] in "?*+" else " "
        types = tuple(t for part in core.split("|") for t in CLASSES.get(part, (part,)))
        is_text, keeps_dynamic = core in ("text", "terms"), core == "terms"
        found.append(Parameter(types, suffix in ("?", "*"), suffix in ("*", "+"), is_constant, is_text, keeps_dynamic))
    return tuple(found)


def scalar(
    name: str,
    takes: str,
    gives: str | int,
    *,
    page: str,
    nulls: str = "strict",
    duckdb: TemplateOf = "",
    clickhouse: TemplateOf = "",
    when: Callable[[Sequence[Any]], bool] | None = None,
    check: Callable[[Sequence[Any]], str | None] | None = None,
    aliases: tuple[str, ...] = (),
    is_volatile: bool = False,
    spreads: tuple[tuple[str, str], ...] = (),
) -> Callable[[F], F]:
    """Put the decorated function into the table as one overload of ``name``."""

    def register(python: F) -> F:
        overloads = FUNCTIONS.setdefault(name, [])
        function = Function(
            name, parameters(takes), gives, python, page, nulls, _dialects(duckdb, clickhouse), when, check, aliases,
            is_volatile, spreads, len(overloads),
        )  # fmt: skip
        overloads.append(function)
        for alias in aliases:
            FUNCTIONS[alias] = overloads
        return python

    return register


def aggregate(
    name: str,
    takes: str,
    gives: str | int,
    *,
    page: str,
    prefix: str | None = None,
    over_nothing: Any = None,
    duckdb: str = "",
    clickhouse: str = "",
    aliases: tuple[str, ...] = (),
    if_name: str = "",
    if_prefix: str = "",
    needs_order: bool = False,
) -> Callable[[F], F]:
    """Put the decorated function into the table as one overload of the aggregate ``name``."""

    def register(python: F) -> F:
        overloads = AGGREGATES.setdefault(name, [])
        row = Aggregate(
            name, parameters(takes), gives, python, page, name if prefix is None else prefix, over_nothing,
            _dialects(duckdb, clickhouse), aliases, if_name, if_prefix or if_name, needs_order, len(overloads),
        )  # fmt: skip
        overloads.append(row)
        for alias in aliases:
            AGGREGATES[alias] = overloads
        if if_name:
            CONDITIONAL[if_name] = name
        return python

    return register


def _dialects(duckdb: TemplateOf, clickhouse: TemplateOf) -> dict[str, Any]:
    return {name: text for name, text in (("duckdb", duckdb), ("clickhouse", clickhouse)) if text}
