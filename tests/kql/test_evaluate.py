"""What queries mean over rows in memory: ``kql.evaluate``, the definition that SQL is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from watchfloor.kql import ir
from watchfloor.kql.bind import bind
from watchfloor.kql.evaluate import compile_plan, evaluate, rows
from watchfloor.kql.parser import parse
from watchfloor.kql.routines import Budget, OutOfTime
from watchfloor.kql.routines.common import Refused
from watchfloor.kql.schema import Column, Schema, Scope, TableSchema

NOW = 638_000_000_000_000_000
SECOND = 10_000_000
T = TableSchema(
    "T",
    tuple(
        Column(name, type_)
        for name, type_ in (
            ("a", "long"), ("b", "real"), ("s", "string"), ("t", "datetime"), ("d", "dynamic"), ("o", "bool"),
        )
    ),
)  # fmt: skip
SCHEMA = Schema({"T": T})
Rows = Sequence[Any]


def plan(text: str) -> ir.Plan:
    found = bind(parse(text), SCHEMA, Scope(()), now=NOW)
    assert isinstance(found, ir.Plan)
    return found


def answer(text: str, given: Rows = ()) -> list[tuple[Any, ...]]:
    return rows(plan(text), {"T": given})


def column(text: str, given: Rows = ()) -> list[Any]:
    return [row[0] for row in answer(text, given)]


# -- scalars ----------------------------------------------------------------------------------------------------------

LONG, STRING, DYNAMIC = (ir.BoundColumn(n, t) for n, t in enumerate(("long", "string", "dynamic")))


@pytest.mark.parametrize(
    ("operator", "left", "right", "wanted"),
    [
        ("==", 1, 1, True), ("==", 1, 2, False), ("==", None, 1, False), ("==", 1, None, False),
        ("==", None, None, None),
        ("!=", 1, 2, True), ("!=", None, 1, True), ("!=", None, None, None),
        ("<", 1, 2, True), ("<", None, 1, None), (">=", 1, None, None), ("<=", None, None, None),
    ],
)  # fmt: skip
def test_comparison_with_null_follows_kql_and_not_sql(operator: str, left: Any, right: Any, wanted: Any) -> None:
    a, b = ir.BoundColumn(1, "long"), ir.BoundColumn(2, "long")
    assert evaluate(ir.Compare(operator, ir.Ref(a), ir.Ref(b), True), {1: left, 2: right}) is wanted


@pytest.mark.parametrize(
    ("left", "right", "wanted"),
    [(1, 1.0, True), (True, 1, False), ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), ([1, 2], [2, 1], False)],
)
def test_dynamic_values_are_equal_as_json_and_true_is_no_number(left: Any, right: Any, wanted: bool) -> None:
    a, b = ir.BoundColumn(1, "dynamic"), ir.BoundColumn(2, "dynamic")
    assert evaluate(ir.Compare("==", ir.Ref(a), ir.Ref(b), True), {1: left, 2: right}) is wanted


@pytest.mark.parametrize(
    ("operator", "values", "wanted"),
    [
        ("and", (True, None), None), ("and", (None, False), False), ("and", (True, True), True),
        ("or", (None, True), True), ("or", (False, None), None), ("or", (False, False), False),
    ],
)  # fmt: skip
def test_junctions_are_three_valued(operator: str, values: tuple[Any, ...], wanted: Any) -> None:
    junction = ir.Junction(operator, tuple(ir.Const(value, "bool") for value in values), True)
    assert evaluate(junction, {}) is wanted


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [(("a", 0), 1), (("a", -1), 3), (("a", -4), None), (("a", "x"), None), (("b",), None), (("a", 3), None)],
)
def test_a_path_finds_a_value_or_null(steps: tuple[str | int, ...], wanted: Any) -> None:
    assert evaluate(ir.Path(ir.Ref(DYNAMIC), steps), {2: {"a": [1, 2, 3]}}) == wanted


def test_a_path_step_can_come_from_the_row() -> None:
    assert evaluate(ir.Path(ir.Ref(DYNAMIC), (ir.Ref(STRING),)), {1: "b", 2: {"b": 7}}) == 7


def test_one_of_never_gives_null() -> None:
    subject, one = ir.Ref(LONG), ir.Const(1, "long")
    assert evaluate(ir.OneOf(subject, (one,), False), {0: None}) is False
    assert evaluate(ir.OneOf(subject, (one,), True), {0: None}) is True
    assert evaluate(ir.OneOf(subject, (ir.Ref(LONG),), False), {0: 5}) is True
    assert evaluate(ir.OneOf(ir.Ref(STRING), (ir.Const("ab", "string"),), False, True), {1: "AB"}) is True


def test_a_choice_takes_the_first_true_condition() -> None:
    pairs = ((ir.Const(None, "bool"), ir.Const("null", "string")), (ir.Ref(LONG), ir.Const("yes", "string")))
    assert evaluate(ir.Choice(pairs, ir.Const("no", "string"), "string"), {0: True}) == "yes"
    assert evaluate(ir.Choice(pairs, ir.Const("no", "string"), "string"), {0: None}) == "no"


def test_a_window_has_no_value_over_a_single_row() -> None:
    with pytest.raises(ValueError, match="single row"):
        evaluate(ir.Window("row_number", (), None, "long"), {})


@pytest.mark.parametrize(
    ("expression", "row", "wanted"),
    [
        ("strcat(s, '-', a)", {"s": "x", "a": 4}, "x-4"),
        ("toupper(s)", {}, ""),
        ("a + 1", {"a": None}, None),
        ("a / 0", {"a": 3}, None),
        ("tostring(b)", {"b": None}, ""),
        ("isnull(b)", {"b": None}, True),
        ("d.x.y", {"d": {"x": {"y": [1]}}}, [1]),
        ("tolong(d.x) + a", {"d": {"x": "5"}, "a": 2}, 7),
        ("iff(o, 'yes', 'no')", {"o": None}, "no"),
        ("s in ('A', 'b')", {"s": "b"}, True),
        ("s in~ ('A', 'b')", {"s": "a"}, True),
        ("s !has 'x'", {}, True),
        ("t - 1s", {"t": 5 * SECOND}, 4 * SECOND),
        ("bin(t, 1d)", {"t": 3 * 864_000_000_000 + 7}, 3 * 864_000_000_000),
    ],
)
def test_expressions_over_a_row(expression: str, row: dict[str, Any], wanted: Any) -> None:
    assert column(f"T | project x = {expression}", [row]) == [wanted]


# -- relations --------------------------------------------------------------------------------------------------------


def test_missing_cells_are_null_and_strings_are_empty() -> None:
    assert answer("T | project a, s, d", [{}]) == [(None, "", None)]


def test_a_filter_keeps_only_what_is_true() -> None:
    assert column("T | where a > 1 | project a", [{"a": 1}, {"a": 2}, {}]) == [2]
    assert column("T | where not(a > 1) | project a", [{"a": 1}, {"a": 2}, {}]) == [1]


def test_groups_keep_null_as_a_key_and_nan_as_one() -> None:
    given = [{"b": None}, {"b": math.nan}, {"b": math.nan}, {"b": 1.0}]
    found = answer("T | summarize count() by b", given)
    assert [count for _, count in found] == [1, 2, 1]


def test_an_aggregate_over_nothing_gives_one_row() -> None:
    assert answer("T | summarize count(), sum(a), make_set(a), max(s)") == [(0, 0, [], "")]
    assert answer("T | summarize count() by a") == []


def test_conditional_aggregates_count_what_is_true() -> None:
    assert answer("T | summarize countif(a > 1), sumif(a, o)", [{"a": 1, "o": True}, {"a": 5}, {}]) == [(1, 1)]


def test_arg_max_takes_the_row_of_the_greatest_and_null_is_least() -> None:
    given = [{"a": None, "s": "n"}, {"a": 1, "s": "x"}, {"a": 2, "s": "y"}]
    assert answer("T | summarize arg_max(a, s)", given) == [(2, "y")]
    assert answer("T | summarize arg_max(a, s)", given[:1]) == [(None, "n")]
    assert answer("T | summarize arg_min(a, s)", given) == [(1, "x")]


def test_sorting_puts_null_beside_nan_on_the_side_that_was_asked_for() -> None:
    given = [{"b": 1.0}, {"b": None}, {"b": math.nan}, {"b": -math.inf}, {"b": 2.0}]

    def shown(text: str) -> list[str]:
        return [str(value) for value in column(f"T | sort by b {text} | project b", given)]

    assert shown("asc") == ["None", "nan", "-inf", "1.0", "2.0"]
    assert shown("desc") == ["2.0", "1.0", "-inf", "nan", "None"]
    assert shown("asc nulls last") == ["-inf", "1.0", "2.0", "nan", "None"]
    assert shown("desc nulls first") == ["None", "nan", "2.0", "1.0", "-inf"]


LEFT = "datatable(k:long, l:string)[1, 'a', 1, 'b', 2, 'c', long(null), 'n']"
RIGHT = "(datatable(k:long, r:string)[1, 'x', 3, 'y', long(null), 'm'])"


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("inner", [(1, "a", 1, "x"), (1, "b", 1, "x"), (None, "n", None, "m")]),
        ("innerunique", [(1, "a", 1, "x"), (None, "n", None, "m")]),
        ("leftouter", [(1, "a", 1, "x"), (1, "b", 1, "x"), (2, "c", None, ""), (None, "n", None, "m")]),
        ("rightouter", [(1, "a", 1, "x"), (1, "b", 1, "x"), (None, "", 3, "y"), (None, "n", None, "m")]),
        (
            "fullouter",
            [(1, "a", 1, "x"), (1, "b", 1, "x"), (2, "c", None, ""), (None, "", 3, "y"), (None, "n", None, "m")],
        ),
        ("leftsemi", [(1, "a"), (1, "b"), (None, "n")]),
        ("leftanti", [(2, "c")]),
        ("rightsemi", [(1, "x"), (None, "m")]),
        ("rightanti", [(3, "y")]),
    ],
)
def test_every_kind_of_join(kind: str, wanted: list[Any]) -> None:
    found = answer(f"{LEFT} | join kind={kind} {RIGHT} on k")
    assert sorted(found, key=repr) == sorted(wanted, key=repr)


def test_mv_expand_makes_a_row_of_each_element() -> None:
    given = [{"a": 1, "d": [1, "x"]}, {"a": 2, "d": []}, {"a": 3}, {"a": 4, "d": {"p": 1, "q": 2}}, {"a": 5, "d": 9}]
    assert answer("T | mv-expand d | project a, d", given) == [
        (1, 1), (1, "x"), (3, None), (4, {"p": 1}), (4, {"q": 2}), (5, 9),
    ]  # fmt: skip
    assert column("T | mv-expand kind=array d | project d", given[3:4]) == [["p", 1], ["q", 2]]
    assert column("T | mv-expand d to typeof(long) limit 1 | project d", given[:1]) == [1]
    assert answer("T | mv-expand with_itemindex=i d | project i, d", given[:1]) == [(0, 1), (1, "x")]


def test_ranges_go_up_and_down_and_may_be_empty() -> None:
    assert column("range x from 1 to 8 step 3") == [1, 4, 7]
    assert column("range x from 3 to 1 step -1") == [3, 2, 1]
    assert column("range x from 1 to 0 step 1") == []


def test_union_takes_columns_by_name() -> None:
    assert answer("print a = 1 | union (print b = 'x', a = 2)") == [(1, ""), (2, "x")]


def test_in_with_a_table_and_toscalar() -> None:
    given = [{"a": 1}, {"a": 2}, {}]
    assert column("let Q = T | where a == 2 | project a; T | where a in (Q) | project a", given) == [2]
    assert column("let Q = T | where a == 2 | project a; T | where a !in (Q) | project a", given) == [1, None]
    assert answer("let m = toscalar(T | summarize max(a)); T | where a == m | project a, m", given) == [(2, 2)]


def test_let_tables_are_used_more_than_once() -> None:
    assert column("let Q = materialize(T | project a); union Q, (Q | extend a = a + 10)", [{"a": 1}]) == [1, 11]


# -- windows ----------------------------------------------------------------------------------------------------------

SERIES = [{"a": n, "s": s} for n, s in ((3, "x"), (3, "x"), (5, "x"), (None, "y"), (7, "y"))]


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("row_number()", [1, 2, 3, 4, 5]),
        ("row_number(7)", [7, 8, 9, 10, 11]),
        ("row_number(1, s != prev(s))", [1, 2, 3, 1, 2]),
        ("prev(a)", [None, 3, 3, 5, None]),
        ("prev(a, 2, -1)", [-1, -1, 3, 3, 5]),
        ("next(s)", ["x", "x", "y", "y", ""]),
        ("row_cumsum(a)", [3, 6, 11, 11, 18]),
        ("row_cumsum(a, s != prev(s))", [3, 6, 11, None, 7]),
        ("row_rank_dense(a)", [1, 1, 2, 3, 4]),
        ("row_rank_min(a)", [1, 1, 3, 4, 5]),
        ("row_rank_min(a, s != prev(s))", [1, 1, 3, 1, 2]),
        ("a + row_number() * 10", [13, 23, 35, None, 57]),
    ],
)
def test_window_functions_see_the_rows_in_order(expression: str, wanted: list[Any]) -> None:
    assert column(f"T | serialize x = {expression} | project x", SERIES) == wanted


def test_a_session_ends_by_length_by_pause_by_restart_and_at_null() -> None:
    def sessions(seconds: list[int | None], *more: str) -> list[Any]:
        given = [{"t": None if n is None else n * SECOND, "o": n == 6} for n in seconds]
        text = ", ".join(("t", "10s", "5s", *more))
        found = column(f"T | serialize x = row_window_session({text}) | project x", given)
        return [None if value is None else value // SECOND for value in found]

    assert sessions([0, 4, 8, 12, 20]) == [0, 0, 0, 12, 20]
    assert sessions([0, 4, None, 6, 7]) == [0, 0, None, 6, 6]
    assert sessions([0, 4, 6, 7], "o") == [0, 0, 6, 6]


# -- limits -----------------------------------------------------------------------------------------------------------


def test_a_plan_is_compiled_once_for_many_tables() -> None:
    run = compile_plan(plan("T | where a > 1 | summarize n = count()"))
    assert [run({"T": [{"a": n}]}, None) for n in (1, 2)] == [[(0,)], [(1,)]]


def test_a_budget_stops_a_query() -> None:
    budget = Budget()
    budget.cancel()
    with pytest.raises(OutOfTime):
        rows(plan("range x from 1 to 1000000000 step 1"), {}, budget)


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchfloor.kql.evaluate.relations.MOST_ROWS", 100)
    with pytest.raises(Refused, match="more than 100 rows"):
        answer("range x from 1 to 1000 step 1")
