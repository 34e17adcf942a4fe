"""SQL and the plain Python definition give the same answers: random expressions and pipelines over random rows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchfloor.kql import Pending, analyze, ir
from watchfloor.kql import compile as compile_query
from watchfloor.kql.evaluate import rows
from watchfloor.kql.functions.convert import json_text
from watchfloor.kql.schema import Column, Schema, TableSchema
from watchfloor.kql.schema import Scope as KqlScope
from watchfloor.kql.values import UNIX_EPOCH
from watchfloor.storage.engine import Engine
from watchfloor.storage.ports import CompiledQuery, Limits, Scope

NOW = 638_000_000_000_000_000
COLUMNS = {
    "n": "long", "a": "long", "c": "int", "b": "real", "s": "string", "u": "string",
    "t": "datetime", "v": "timespan", "d": "dynamic", "o": "bool",
}  # fmt: skip
SCHEMA = Schema({"T": TableSchema("T", tuple(Column(name, type_) for name, type_ in COLUMNS.items()))})
ARROW = {
    "long": pa.int64(), "int": pa.int32(), "real": pa.float64(), "string": pa.string(), "dynamic": pa.string(),
    "datetime": pa.timestamp("us", tz="UTC"), "timespan": pa.int64(), "bool": pa.bool_(),
}  # fmt: skip

# -- both ways --------------------------------------------------------------------------------------------------------


def by_definition(text: str, table: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    plan = analyze(text, SCHEMA, KqlScope(()), now=NOW)
    assert isinstance(plan, ir.Plan)
    return rows(plan, {"T": table})


def by_sql(text: str, table: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    compiled = compile_query(text, SCHEMA, KqlScope(()), now=NOW)
    assert not isinstance(compiled, Pending)
    query = CompiledQuery(
        compiled.sql,
        compiled.params,
        tuple((f"c{place}", type_) for place, (_, type_) in enumerate(compiled.columns)),
        compiled.tables,
        routines=compiled.routines,
        needs_budget=compiled.needs_budget,
    )
    engine = Engine({"T": arrow(table)}, threads=1)
    try:
        batches = list(engine.query(query, Scope(), Limits()))
    finally:
        engine.close()
    types = [type_ for _, type_ in compiled.columns]
    return [
        tuple(cell(value, type_) for value, type_ in zip(row.values(), types, strict=True))
        for batch in batches
        for row in batch.to_pylist()
    ]


def arrow(table: list[dict[str, Any]]) -> pa.Table:
    def stored(value: Any, type_: str) -> Any:
        if value is None:
            return None
        if type_ == "datetime":
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=(value - UNIX_EPOCH) // 10)
        return json_text(value) if type_ == "dynamic" else value

    return pa.table(
        {name: pa.array([stored(row[name], type_) for row in table], ARROW[type_]) for name, type_ in COLUMNS.items()}
    )


def cell(value: Any, type_: str) -> Any:
    """A cell of the engine as a value of ``values.py``."""
    if value is None:
        return "" if type_ == "string" else None
    if type_ == "datetime":
        return UNIX_EPOCH + (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 10
    return json.loads(value) if type_ == "dynamic" else value


def comparable(value: Any) -> Any:
    """What is the same for equal answers: reals to 9 digits, instants to a microsecond, bags without order."""
    if isinstance(value, float):
        # JSON has no number for these: inside dynamic values they are texts.
        text = f"{value:.9g}"
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text) or float(text) + 0.0
    if isinstance(value, Decimal):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return ("bag", *sorted((key, comparable(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("array", *(comparable(item) for item in value))
    return value


def agree(text: str, table: list[dict[str, Any]], *, is_ordered: bool = False) -> None:
    both = [
        [tuple(comparable(value) for value in row) for row in found]
        for found in (by_definition(text, table), by_sql(text, table))
    ]
    if not is_ordered:
        both = [sorted(found, key=repr) for found in both]
    assert both[1] == both[0], text


# -- rows -------------------------------------------------------------------------------------------------------------

WORDS = ("", "a", "A", "ab", "abc def", "Abc", "x1 y2", "10", "2.5", "true", "a_b", "é", "null", "2024-05-01")
json_values = st.recursive(
    st.sampled_from((1, 2, -3, 2.5, "a", "10", True, None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("x", "y", "z")), inner, max_size=3),
    max_leaves=5,
)


def _rows() -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.fixed_dictionaries(
        {
            "a": st.none() | st.integers(-5, 5) | st.sampled_from((2**40, 10**15)),
            "c": st.none() | st.integers(-3, 300),
            "b": st.none() | st.sampled_from((0.0, 1.5, -2.25, 3.0, 1e10, math.nan, math.inf)),
            "s": st.sampled_from(WORDS),
            "u": st.sampled_from(WORDS),
            "t": st.none() | st.integers(0, 400).map(lambda hours: 638_400_000_000_000_000 + hours * 36_000_000_000),
            "v": st.none() | st.sampled_from((0, 10, 36_000_000_000, -5_000_000, 864_000_000_000 * 3 + 70)),
            "d": json_values,
            "o": st.none() | st.booleans(),
        }
    )
    return st.lists(row, min_size=0, max_size=6).map(
        lambda found: [{"n": place, **each} for place, each in enumerate(found)]
    )


tables = _rows()

# -- expressions ------------------------------------------------------------------------------------------------------


HOLE = re.compile(r"<([a-z]+)>")


@st.composite
def expressions(draw: st.DrawFn, type_: str, depth: int = 3) -> str:
    """KQL text of an expression of ``type_`` over the columns of T."""
    form = draw(st.sampled_from(LEAVES[type_] if depth == 0 else LEAVES[type_] + FORMS[type_] * 2))
    return HOLE.sub(lambda hole: draw(expressions(hole[1], depth - 1)), form)


LEAVES: Mapping[str, list[str]] = {
    "long": ["a", "c", "0", "1", "-2", "7", "long(null)"],
    "real": ["b", "0.5", "-3.0", "real(null)"],
    "string": ["s", "u", "''", "'a'", "'abc def'", "'B'"],
    "bool": ["o", "true", "bool(null)"],
    "datetime": ["t", "datetime(2024-01-15 10:30:00)", "datetime(null)"],
    "timespan": ["v", "1h", "1d", "timespan(null)"],
    "dynamic": ["d", "d.x", "d[0]", "d[-1]", "d.y.x", "dynamic([1,2,3])", "dynamic({'x':1})", "dynamic(null)"],
}
FORMS: Mapping[str, list[str]] = {
    "long": [
        "(<long> + <long>)", "(<long> - <long>)", "(<long> / <long>)", "(<long> % <long>)", "-(<long>)", "abs(<long>)",
        "strlen(<string>)", "tolong(<string>)", "tolong(<dynamic>)", "tolong(<real>)", "iff(<bool>, <long>, <long>)",
        "array_length(<dynamic>)", "coalesce(<long>, <long>)", "min_of(<long>, <long>)", "bin(<long>, 3)",
        "indexof(<string>, <string>)", "hourofday(<datetime>)", "dayofmonth(<datetime>)", "toint(<long>)",
        "case(<bool>, <long>, <bool>, <long>, <long>)", "datetime_diff('hour', <datetime>, <datetime>)",
        "binary_and(<long>, <long>)", "countof(<string>, 'a')",
    ],
    "real": [
        "(<real> + <real>)", "(<real> * <long>)", "(<real> / <real>)", "todouble(<string>)", "todouble(<long>)",
        "round(<real>, 1)", "floor(<real>, 1)", "iff(<bool>, <real>, <real>)", "abs(<real>)", "todouble(<dynamic>)",
        "(<timespan> / <timespan>)", "max_of(<real>, <real>)", "sqrt(<real>)", "sign(<long>)", "exp(<real>)",
    ],
    "string": [
        "strcat(<string>, <string>)", "tolower(<string>)", "toupper(<string>)", "substring(<string>, 1, 2)",
        "tostring(<long>)", "tostring(<bool>)", "tostring(<dynamic>)", "tostring(<datetime>)", "tostring(<timespan>)",
        "replace_string(<string>, 'a', 'z')", "trim('a', <string>)", "iff(<bool>, <string>, <string>)",
        "extract('([a-z]+)', 1, <string>)", "reverse(<string>)", "tostring(split(<string>, ' ')[0])",
        "tostring(parse_json(<string>))", "strcat(<long>, '-', <real>)", "coalesce(<string>, <string>)",
        "case(<bool>, <string>, <bool>, <string>, <string>)", "gettype(<dynamic>)",
    ],
    "bool": [
        "(<long> == <long>)", "(<long> != <long>)", "(<long> < <long>)", "(<real> >= <long>)", "(<string> == <string>)",
        "(<string> != <string>)", "(<string> =~ <string>)", "(<string> has 'abc')", "(<string> contains 'b')",
        "(<string> startswith 'A')", "(<string> !has 'a')", "(<string> in ('a', 'ab', ''))", "(<long> in (1, 2, 7))",
        "(<string> in~ ('A', 'x1 y2'))", "(<long> !in (1, 2))", "not(<bool>)", "(<bool> and <bool>)",
        "(<bool> or <bool>)", "isnull(<long>)", "isempty(<string>)", "isnotnull(<dynamic>)", "(<dynamic> == 'a')",
        "(<dynamic> == 1)", "(<datetime> > <datetime>)", "(<timespan> <= <timespan>)", "iff(<bool>, <bool>, <bool>)",
        "(<long> between (-1 .. 3))", "(<string> matches regex '^a')", "tobool(<string>)", "tobool(<long>)",
        "(<string> has_any ('abc', 'x1'))", "(<string> hasprefix 'ab')", "(<dynamic> has 'a')", "isnan(<real>)",
    ],
    "datetime": [
        "(<datetime> + <timespan>)", "(<datetime> - <timespan>)", "bin(<datetime>, 1d)", "startofmonth(<datetime>)",
        "todatetime(<string>)", "startofweek(<datetime>)", "iff(<bool>, <datetime>, <datetime>)",
        "datetime_add('day', 2, <datetime>)", "bin(<datetime>, 7h)",
    ],
    "timespan": [
        "(<timespan> + <timespan>)", "(<datetime> - <datetime>)", "(<timespan> * 2)", "totimespan(<string>)",
        "bin(<timespan>, 1h)", "iff(<bool>, <timespan>, <timespan>)", "-(<timespan>)",
    ],
    "dynamic": [
        "pack_array(<long>, <string>)", "bag_pack('x', <long>, 'y', <string>)", "parse_json(<string>)",
        "array_concat(<dynamic>, <dynamic>)", "array_slice(<dynamic>, 0, 1)", "bag_keys(<dynamic>)",
        "todynamic(<string>)", "split(<string>, ' ')", "set_union(<dynamic>, <dynamic>)", "pack_array(<dynamic>)",
        "iff(<bool>, <dynamic>, <dynamic>)", "array_reverse(<dynamic>)", "bag_merge(<dynamic>, <dynamic>)",
    ],
}  # fmt: skip
TYPES = sorted(LEAVES)
some = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@some
@given(st.data(), tables)
@pytest.mark.parametrize("type_", TYPES)
def test_expressions_have_the_same_values(type_: str, data: st.DataObject, table: list[dict[str, Any]]) -> None:
    texts = data.draw(st.lists(expressions(type_), min_size=4, max_size=8))
    columns = ", ".join(f"x{place} = {text}" for place, text in enumerate(texts))
    agree(f"T | project n, {columns}", table)


@some
@given(expressions("bool"), tables)
def test_a_filter_keeps_the_same_rows(condition: str, table: list[dict[str, Any]]) -> None:
    agree(f"T | where {condition} | project n", table)


# -- pipelines --------------------------------------------------------------------------------------------------------

AGGREGATES = [
    "count()", "countif(o)", "sum(a)", "sum(b)", "avg(a)", "min(b)", "max(a)", "min(s)", "max(t)", "dcount(s)",
    "dcountif(a, o)", "sumif(a, o)", "take_any(1)", "array_sort_asc(make_list(a))", "array_sort_asc(make_set(s))",
    "percentile(a, 50)", "stdev(a)", "countif(s has 'a')", "sum(v)", "max(v)", "count_distinct(a)",
    "arg_max(n, s)", "arg_min(n, a, b)", "make_bag(bag_pack(s, 1))", "avgif(b, o)", "variance(a)",
]  # fmt: skip
KEYS = ["s", "a % 2", "bin(t, 1d)", "o", "tostring(d.x)", "b", "tolower(u)"]
STEPS = [
    "where <bool>", "extend x = <long>", "extend y = <string>", "project-away u", "sort by n asc | take 3",
    "top 2 by n desc", "distinct a, s, n, c, b, u, t, v, o", "mv-expand d", "mv-expand w = d to typeof(long)",
    "join kind=inner (T | project a, q = s) on a", "join kind=leftouter (T | project s, q = a) on s",
    "join kind=leftanti (T | where o | project a) on a", "join kind=leftsemi (T | where a > 0 | project s) on s",
    "join kind=fullouter (T | project s, q = n) on s", "lookup (T | distinct s | extend q = strlen(s)) on s",
    "union (T | where <bool>)", "sort by n asc | extend r = row_number()",
    "sort by n asc | extend r = prev(s), q = next(a)", "sort by n asc | extend r = row_cumsum(a)",
    "sort by s asc, n asc | extend r = row_rank_dense(s)", "where a in ((T | where o | project a))",
    "extend m = toscalar(T | summarize max(a))", "parse s with p 'b' q",
]  # fmt: skip

MULTIPLYING = ("join kind=inner", "join kind=leftouter", "join kind=fullouter", "union", "mv-expand", "lookup")
"""Behind these ``n`` tells rows no longer apart: which of them comes first is left open."""
UNORDERED = [step for step in STEPS if not step.startswith(("sort by", "top"))]


@st.composite
def filled(draw: st.DrawFn, form: str) -> str:
    return HOLE.sub(lambda hole: draw(expressions(hole[1], 1)), form)


@some
@given(st.data(), tables)
def test_pipelines_give_the_same_rows(data: st.DataObject, table: list[dict[str, Any]]) -> None:
    steps = [data.draw(st.sampled_from(STEPS))]
    if data.draw(st.booleans()):
        steps.append(data.draw(st.sampled_from(UNORDERED if steps[0].startswith(MULTIPLYING) else STEPS)))
    steps = [data.draw(filled(step)) for step in steps]
    agree(" | ".join(["T", *steps]), table)


@some
@given(st.lists(st.sampled_from(AGGREGATES), min_size=1, max_size=4, unique=True), st.data(), tables)
def test_aggregates_give_the_same_values(given_: list[str], data: st.DataObject, table: list[dict[str, Any]]) -> None:
    keys = data.draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
    named = ", ".join(f"x{n} = {text}" if "arg_" not in text else text for n, text in enumerate(given_))
    agree(f"T | summarize {named}" + (f" by {', '.join(keys)}" if keys else ""), table)


@some
@given(
    st.lists(st.sampled_from(["a", "b", "s", "t", "v", "o"]), min_size=1, max_size=3, unique=True), st.data(), tables
)
def test_sorting_gives_the_same_order(names: list[str], data: st.DataObject, table: list[dict[str, Any]]) -> None:
    how = st.sampled_from(["asc", "desc", "asc nulls last", "desc nulls first", ""])
    keys = ", ".join(f"{name} {data.draw(how)}" for name in names)
    agree(f"T | sort by {keys}, n asc | project n", table, is_ordered=True)


ROUTINES = [
    "make-series x = sum(a) default = 0 on t from datetime(2024-01-08) to datetime(2024-01-20) step 1d by s",
    "make-series count() on c step 10 by o",
    "sort by n asc | scan with_match_id = m declare (z:long = 0) with (step p: o => z = p.z + 1; step q: not(o);)",
    "sort by n asc | scan declare (z:long) with (step p output = last: a > 0; step q output = none: a < 0;)",
    "make-graph s --> u with_node_id = k | graph-match (x)-[e*1..3]->(y) project x.k, y.k, p = map(e, n)",
    "make-graph s --> u with_node_id = k | graph-shortest-paths (x)-[e*1..3]-(y) project x.k, y.k, array_length(e)",
    "evaluate narrow()",
]


@settings(max_examples=5, deadline=None)
@given(tables)
@pytest.mark.parametrize("text", ROUTINES)
def test_routines_give_the_same_rows(text: str, table: list[dict[str, Any]]) -> None:
    agree(f"T | {text}", table)
