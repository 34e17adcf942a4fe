"""The function table: every scalar function, operator and aggregate, as data.

A row says which types it takes, what it gives, what null does to it, how each dialect writes it, and which page of the
KQL reference it follows. In a template, ``$a`` is the first argument, ``$b`` the second and so on. Adding a function is
a row here and a case in ``tests/kql/cases`` (a row without one fails the tests).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

STRING: Final = ("string",)
DATETIME: Final = ("datetime",)
TIMESPAN: Final = ("timespan",)
NUMBER: Final = ("long", "real")
ANY_BUT_STRING: Final = ("bool", "datetime", "dynamic", "int", "long", "real", "timespan")

_YEAR_ONE: Final = "62135596800000000"
"""Microseconds from 0001-01-01, where KQL's bins begin, to 1970-01-01."""


@dataclass(frozen=True, slots=True)
class Function:
    """One overload. ``takes`` holds the types allowed for each argument; where ``is_variadic``, the last repeats,
    and ``sql`` is the name of a function instead of a template.

    ``gives`` is a type, or the number of the argument whose type it is. ``nulls``: "strict" gives null for a null
    argument, "never" gives no null. ``constants`` are arguments that must be literals; of those, ``positive`` ones must
    be above zero and ``terms`` must hold a letter or digit.
    """

    name: str
    takes: tuple[tuple[str, ...], ...]
    gives: str | int
    sql: Mapping[str, str]
    page: str
    nulls: str = "strict"
    is_variadic: bool = False
    constants: tuple[int, ...] = ()
    positive: tuple[int, ...] = ()
    terms: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate. Its result is null over no rows unless ``is_total``."""

    name: str
    takes: tuple[tuple[str, ...], ...]
    gives: str | int
    sql: Mapping[str, str]
    page: str
    is_total: bool = False


def _scalar(
    name: str,
    takes: Sequence[tuple[str, ...]],
    gives: str | int,
    duckdb: str,
    page: str,
    nulls: str = "strict",
    *,
    is_variadic: bool = False,
    constants: tuple[int, ...] = (),
    positive: tuple[int, ...] = (),
    terms: tuple[int, ...] = (),
) -> Function:
    return Function(name, tuple(takes), gives, {"duckdb": duckdb}, page, nulls, is_variadic, constants, positive, terms)


def _word(name: str, duckdb: str, *terms: int) -> list[Function]:
    """A string operator and its negation."""
    page = name.replace("_cs", "-cs") + "-operator"
    takes = (STRING, STRING)
    return [
        _scalar(name, takes, "bool", duckdb, page, "never", constants=terms, terms=terms),
        _scalar(f"!{name}", takes, "bool", f"NOT ({duckdb})", f"not-{page}", "never", constants=terms, terms=terms),
    ]


_TIMES: Final = "datetime-timespan-arithmetic"
_BRANCH: Final = "CASE WHEN $a THEN $b ELSE $c END"

FUNCTIONS: Final[Sequence[Function]] = (
    # The term of has and its kin arrives as a regular expression (see TERMS), with KQL's boundaries around it.
    *_word("has", "regexp_matches($a, $b)", 1),
    *_word("has_cs", "regexp_matches($a, $b)", 1),
    *_word("hasprefix", "regexp_matches($a, $b)", 1),
    *_word("hasprefix_cs", "regexp_matches($a, $b)", 1),
    *_word("hassuffix", "regexp_matches($a, $b)", 1),
    *_word("hassuffix_cs", "regexp_matches($a, $b)", 1),
    *_word("contains", "contains(lower($a), lower($b))"),
    *_word("contains_cs", "contains($a, $b)"),
    *_word("startswith", "starts_with(lower($a), lower($b))"),
    *_word("startswith_cs", "starts_with($a, $b)"),
    *_word("endswith", "suffix(lower($a), lower($b))"),
    *_word("endswith_cs", "suffix($a, $b)"),
    _scalar("=~", (STRING, STRING), "bool", "lower($a) = lower($b)", "equals-operator", "never"),
    _scalar("!~", (STRING, STRING), "bool", "lower($a) <> lower($b)", "not-equals-operator", "never"),
    _scalar(
        "matches regex", (STRING, STRING), "bool", "regexp_matches($a, $b)", "regex-operator", "never", constants=(1,)
    ),
    _scalar("+", (NUMBER, NUMBER), "wider", "$a + $b", "numerical-operators"),
    _scalar("-", (NUMBER, NUMBER), "wider", "$a - $b", "numerical-operators"),
    _scalar("*", (NUMBER, NUMBER), "wider", "$a * $b", "numerical-operators"),
    # A timespan is a number of microseconds, never a calendar interval.
    _scalar("+", (DATETIME, TIMESPAN), "datetime", "$a + to_microseconds($b)", _TIMES),
    _scalar("-", (DATETIME, TIMESPAN), "datetime", "$a - to_microseconds($b)", _TIMES),
    _scalar("-", (DATETIME, DATETIME), "timespan", "epoch_us($a) - epoch_us($b)", _TIMES),
    _scalar("+", (TIMESPAN, TIMESPAN), "timespan", "$a + $b", _TIMES),
    _scalar("-", (TIMESPAN, TIMESPAN), "timespan", "$a - $b", _TIMES),
    _scalar("negate", (("long", "real", "timespan"),), 0, "-$a", "numerical-operators"),
    _scalar("not", (("bool",),), "bool", "NOT ($a)", "not-function"),
    _scalar("isempty", (STRING,), "bool", "'' = $a", "isempty-function", "never"),
    _scalar("isnotempty", (STRING,), "bool", "'' <> $a", "isnotempty-function", "never"),
    _scalar("isnull", (ANY_BUT_STRING,), "bool", "$a IS NULL", "isnull-function", "never"),
    _scalar("isnotnull", (ANY_BUT_STRING,), "bool", "$a IS NOT NULL", "isnotnull-function", "never"),
    _scalar("tolower", (STRING,), "string", "lower($a)", "tolower-function", "never"),
    _scalar("toupper", (STRING,), "string", "upper($a)", "toupper-function", "never"),
    _scalar("strlen", (STRING,), "long", "length($a)", "strlen-function", "never"),
    _scalar("strcat", (STRING,), "string", "concat", "strcat-function", "never", is_variadic=True),
    _scalar("tostring", (STRING,), "string", "$a", "tostring-function", "never"),
    _scalar(
        "tostring", (("long", "int"),), "string", "coalesce(CAST($a AS VARCHAR), '')", "tostring-function", "never"
    ),
    _scalar("iff", (("bool",), STRING, STRING), "string", _BRANCH, "iff-function", "never"),
    _scalar("iff", (("bool",), ("long",), ("long",)), "long", _BRANCH, "iff-function"),
    _scalar(
        "bin",
        (("long",), ("long",)),
        "long",
        "$a - (($a % $b) + $b) % $b",
        "bin-function",
        constants=(1,),
        positive=(1,),
    ),
    _scalar(
        "bin",
        (DATETIME, TIMESPAN),
        "datetime",
        f"$a - to_microseconds((epoch_us($a) + {_YEAR_ONE}) % $b)",
        "bin-function",
        constants=(1,),
        positive=(1,),
    ),
)

_ORDERED: Final = ("datetime", "long", "real", "timespan")
AGGREGATES: Final[Sequence[Aggregate]] = (
    Aggregate("count", (), "long", {"duckdb": "count(*)"}, "count-aggregation-function", is_total=True),
    Aggregate(
        "countif", (("bool",),), "long", {"duckdb": "count(*) FILTER (WHERE $a)"}, "countif-function", is_total=True
    ),
    Aggregate("min", (_ORDERED,), 0, {"duckdb": "min($a)"}, "min-aggregation-function"),
    Aggregate("max", (_ORDERED,), 0, {"duckdb": "max($a)"}, "max-aggregation-function"),
)

OVERLOADS: Final[Mapping[str, Sequence[Function]]] = {
    name: [function for function in FUNCTIONS if function.name == name] for name in {f.name for f in FUNCTIONS}
}
BY_NAME: Final[Mapping[str, Aggregate]] = {aggregate.name: aggregate for aggregate in AGGREGATES}

_EDGE_BEFORE: Final = r"(?:^|[^\p{L}\p{N}])"
_EDGE_AFTER: Final = r"(?:$|[^\p{L}\p{N}])"
TERMS: Final[Mapping[str, tuple[str, str]]] = {
    "has": (_EDGE_BEFORE, _EDGE_AFTER),
    "hasprefix": (_EDGE_BEFORE, ""),
    "hassuffix": ("", _EDGE_AFTER),
}
"""What surrounds a term, as a regular expression (RE2): a term is a run of letters and digits."""
