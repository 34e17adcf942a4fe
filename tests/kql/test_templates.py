"""A law of the function table: the SQL of a function gives what its Python definition gives.

Every overload with a template for DuckDB is run over generated arguments: with constants where it needs them,
everywhere but in the first place, and everywhere. Where a template leaves some values to the routine, the definition's
own answer stands in for it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchfloor.kql import ir
from watchfloor.kql.functions import FUNCTIONS
from watchfloor.kql.functions.convert import json_text
from watchfloor.kql.functions.spec import Function, Parameter, Template
from watchfloor.kql.regex import RegexError
from watchfloor.kql.values import UNIX_EPOCH

PHYSICAL = {
    "bool": "BOOLEAN",
    "int": "INTEGER",
    "long": "BIGINT",
    "real": "DOUBLE",
    "decimal": "DECIMAL(38,18)",
    "string": "VARCHAR",
    "guid": "VARCHAR",
    "datetime": "TIMESTAMPTZ",
    "timespan": "BIGINT",
    "dynamic": "VARCHAR",
}

WORDS = (
    "year", "quarter", "month", "week", "week_of_year", "day", "dayofyear", "hour", "minute", "second", "millisecond",
    "microsecond", "nanosecond", "normal", "regex", "KB", "yyyy-MM-dd HH:mm:ss", "UTC", "Europe/Berlin", "-", ",", " ",
    "10.1.2.3", "192.168.1.77/24", "8.8.8.8", "10.0.0.0/8", "a", "ab", "K", "Straße", "É", "a_b", "100%", r"(\w+)\s*",
    r"[a-z]+", r"\bA", r"^\s+", "(a)(b)?", "x+$", "true", "0x1F", "1.5", "2024-02-29", "1.02:03:04", "0.0.0.0/0",
    "172.16.0.1", "256.1.1.1", "10.1.2.3/33", "01.2.3.4", '["a",1]', '{"a":{"b":2}}', "=ab=", "%41+b", "aGk=",
)  # fmt: skip
ALPHABET = "abAB kK1_.-%/éßſİκ٣\n\"'\\"
TICKS = 864_000_000_000

STRINGS = st.one_of(
    st.sampled_from(WORDS), st.text(ALPHABET, max_size=12), st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)
)
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-1000, 1000), st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), STRINGS
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
INTEGERS = st.one_of(st.integers(-5, 12), st.integers(-(2**31), 2**31 - 1))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": INTEGERS,
    "long": st.one_of(INTEGERS, st.integers(-(2**63), 2**63 - 1)),
    "real": st.one_of(
        st.integers(-20, 20).map(float),
        st.floats(allow_nan=False, width=32),
        st.sampled_from([math.inf, -math.inf, math.nan]),
    ),
    "decimal": st.decimals(-10**6, 10**6, places=3, allow_nan=False).map(Decimal),
    "string": STRINGS,
    "guid": st.uuids().map(str),
    "datetime": st.one_of(
        st.integers(UNIX_EPOCH // 10, UNIX_EPOCH // 10 + 2 * 10**15), st.integers(0, 3_155_378_975_999_999_99)
    ).map(lambda us: us * 10),
    "timespan": st.one_of(
        st.integers(-40, 40).map(lambda n: n * TICKS // 24),
        st.sampled_from([1, 10, 10_000_000, 600_000_000, 7 * TICKS]),
        st.integers(-(10**14), 10**14),
    ),
    "dynamic": JSON,
}  # fmt: skip

ROWS = [
    pytest.param(row, id=f"{name} {' '.join('|'.join(p.types) for p in row.takes)}"[:80])
    for name, rows in sorted(FUNCTIONS.items())
    for row in rows
    if row.sql.get("duckdb") and not row.is_volatile and name == row.name and not name.startswith("__")
]


@dataclass(frozen=True)
class Argument:
    """A value, its type, and whether the query knows it."""

    value: Any
    type: str
    is_constant: bool

    def scalar(self, number: int) -> ir.Scalar:
        if self.is_constant:
            return ir.Const(self.value, self.type)
        return ir.Ref(ir.BoundColumn(number, self.type))


@st.composite
def calls(draw: st.DrawFn, row: Function, constants: str) -> list[Argument]:
    """Arguments of one call. ``constants``: which of them are: "needed", "all" or "all but the first"."""
    found: list[Argument] = []
    chosen: dict[tuple[str, ...], str] = {}
    for parameter in row.takes:
        least, most = (0 if parameter.is_optional else 1), (3 if parameter.is_repeated else 1)
        for _ in range(draw(st.integers(least, most))):
            found.append(draw(_argument(parameter, len(found), constants, chosen)))
        if parameter.is_optional and not parameter.is_repeated and len(found) < row.takes.index(parameter) + 1:
            break
    return found


@st.composite
def _argument(
    draw: st.DrawFn, parameter: Parameter, position: int, constants: str, chosen: dict[tuple[str, ...], str]
) -> Argument:
    types = ("string",) if parameter.as_text and not parameter.keeps_dynamic else parameter.types
    if parameter.keeps_dynamic:
        types = ("string", "dynamic")
    if types == ("packed",):
        types = ("dynamic",)
    type_ = draw(st.sampled_from(types))
    if parameter.is_repeated or len(types) > 2:
        type_ = chosen.setdefault(types, type_)  # a binder gives such arguments one type
    value = draw(VALUES[type_] if type_ == "string" else st.one_of(*[VALUES[type_]] * 9, st.none()))
    is_constant = parameter.is_constant or constants == "all" or (constants == "all but the first" and position > 0)
    return Argument(value, type_, is_constant)


def expected(row: Function, arguments: Sequence[Argument], type_: str) -> Any:
    """What the definition says, with the rule for nulls."""
    if row.nulls == "strict" and any(argument.value is None for argument in arguments):
        return "" if type_ == "string" else None
    return row.python(*(argument.value for argument in arguments))


def result_type(row: Function, arguments: Sequence[Argument]) -> str:
    if isinstance(row.gives, int):
        return arguments[row.gives].type
    if row.gives == "widest":
        order = ("int", "long", "real", "decimal")
        numbers = [a.type for a in arguments if a.type in order]
        if len(numbers) == len(arguments):
            return max(numbers, key=order.index)
        return next((a.type for a in arguments if a.type != "dynamic"), "dynamic")
    return row.gives


def encoded(value: Any, type_: str) -> Any:
    """As a parameter of DuckDB."""
    if value is None:
        return None
    if type_ == "dynamic":
        return json_text(value)
    if type_ == "datetime":
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=(value - UNIX_EPOCH) // 10)
    return value


def run(
    connection: duckdb.DuckDBPyConnection, template: Template, arguments: Sequence[Argument], want: Any, type_: str
) -> Any:
    parameters: dict[str, Any] = {}

    def bound(name: str, value: Any, physical: str) -> str:
        parameters[name] = value
        return f"CAST(${name} AS {physical})"

    def piece(number: int) -> str:
        argument = arguments[number]
        name = f"c{number}"
        if not argument.is_constant:
            return name
        value, physical = encoded(argument.value, argument.type), PHYSICAL[argument.type]
        if argument.type in ("int", "long", "timespan", "bool") and value is not None:
            return f"CAST({value} AS {physical})" if argument.type != "bool" else str(value).upper()
        return bound(name, value, physical)

    def variable(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "*":
            return ", ".join(map(piece, range(len(arguments))))
        if name == "routine":
            return bound("routine", encoded(want, type_), PHYSICAL[type_])
        if len(name) == 1:
            return piece(ord(name) - ord("a"))
        value = template.values[name]
        return bound("v" + name, value, "VARCHAR[]") if isinstance(value, list) else bind(name, value)

    def bind(name: str, value: Any) -> str:
        parameters["v" + name] = value
        return f"$v{name}"

    text = re.sub(r"\$(\*|[a-z_]+)", variable, template.text)
    columns = ", ".join(
        f"{bound(f'c{number}', encoded(a.value, a.type), PHYSICAL[a.type])} AS c{number}"
        for number, a in enumerate(arguments)
        if not a.is_constant
    )
    result = f"({text})" if type_ == "decimal" else f"CAST(({text}) AS {PHYSICAL[type_]})"  # some are wider
    if type_ == "datetime":
        result = f"epoch_us({result})"
    sql = f"SELECT {result} FROM (SELECT {columns or '1 AS one'}) AS t"
    # as a prepared query would be: only mentioned parameters may be given
    used = {name: value for name, value in parameters.items() if re.search(rf"\${name}\b", sql)}
    row = connection.execute(sql, used).fetchone()
    assert row is not None
    return row[0]


def same(got: Any, want: Any, type_: str) -> bool:
    if type_ == "datetime" and want is not None:
        want = (want - UNIX_EPOCH) // 10
    if type_ == "dynamic":
        return _same_json(None if got is None else json.loads(got), want)
    if isinstance(want, float) and isinstance(got, float):
        return (math.isnan(got) and math.isnan(want)) or got == want or math.isclose(got, want, rel_tol=1e-9)
    if type_ == "decimal" and want is not None and got is not None:
        return math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-17)
    if type_ == "bool":
        return got is want
    return bool(got == want)


def _same_json(got: Any, want: Any) -> bool:
    if isinstance(got, dict) and isinstance(want, dict):
        return got.keys() == want.keys() and all(_same_json(got[key], want[key]) for key in got)
    if isinstance(got, list) and isinstance(want, list):
        return len(got) == len(want) and all(map(_same_json, got, want))
    if isinstance(got, bool) or isinstance(want, bool):
        return got is want
    return bool(got == want)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@pytest.mark.parametrize("constants", ["needed", "all but the first", "all"])
@pytest.mark.parametrize("row", ROWS)
def test_template_gives_what_the_definition_gives(
    connection: duckdb.DuckDBPyConnection, row: Function, constants: str
) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(calls(row, constants))
    def law(arguments: list[Argument]) -> None:
        scalars = [argument.scalar(number) for number, argument in enumerate(arguments)]
        if row.check is not None and row.check(scalars) is not None:
            return
        try:
            template = row.template("duckdb", scalars)
        except RegexError:
            return  # the binder never makes such a call
        if template is None:
            return
        type_ = result_type(row, arguments)
        try:
            want = expected(row, arguments, type_)
        except (ValueError, OverflowError, ArithmeticError):
            return  # refused while the query runs
        got = run(connection, template, arguments, want, type_)
        assert same(got, want, type_), f"{row.name}{[a.value for a in arguments]}: SQL {got!r}, definition {want!r}"

    law()
