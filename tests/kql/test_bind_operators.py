"""What operators make of their input: columns, rows and refusals (files in ``operators/``), and the plans behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from watchfloor.kql import ir
from watchfloor.kql.ast import Operator
from watchfloor.kql.bind import bind
from watchfloor.kql.bind.operators import OPERATORS
from watchfloor.kql.errors import KqlError
from watchfloor.kql.evaluate import rows
from watchfloor.kql.parser import parse
from watchfloor.kql.schema import Column, Schema, Scope, TableSchema
from watchfloor.portal.wire import cell

from .running import NOW, Data

FILES = Path(__file__).parent / "operators"
SCHEMAS, REFUSALS, ANSWERS = (
    yaml.safe_load((FILES / f"{name}.yaml").read_text("utf-8")) for name in ("schemas", "refusals", "answers")
)
MAX_QUESTIONS = 10


def pairs(columns: str) -> list[tuple[str, str]]:
    """``name:type name:type``; a blank in a name is %20."""
    split = (column.rsplit(":", 1) for column in columns.split())
    return [(name.replace("%20", " "), type_) for name, type_ in split]


TABLES = {
    name: TableSchema(name, tuple(Column(n, t) for n, t in pairs(columns)))
    for name, columns in SCHEMAS["tables"].items()
}


NOTHING, SCHEMA = Schema({}), Schema(TABLES)


def plan(text: str, schema: Schema = SCHEMA, answers: Mapping[str, Any] | None = None) -> ir.Plan | ir.Question:
    assert NOW is not None
    return bind(parse(text), schema, Scope(("us",)), now=NOW, answers=answers or {})


def planned(text: str) -> ir.Plan:
    found = plan(text)
    assert isinstance(found, ir.Plan)
    return found


def relations(text: str) -> list[ir.Relation]:
    found: list[ir.Relation] = []
    waiting = [planned(text).relation]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting.extend(ir.inputs(node))
    return found


def evaluated(text: str) -> tuple[list[str], list[list[Any]]]:
    """Columns (name:type) and rows as JSON cells, by the evaluator; questions are answered on the way."""
    answers: dict[str, Any] = {}
    for _ in range(MAX_QUESTIONS):
        found = plan(text, NOTHING, answers)
        if isinstance(found, ir.Plan):
            types = [column.type for _, column in found.columns]
            cells = [[cell(v, t) for v, t in zip(row, types, strict=True)] for row in rows(found, {})]
            return [f"{name}:{column.type}" for name, column in found.columns], cells
        answers[found.key] = [list(row) for row in rows(found.plan, {})]
    raise AssertionError(f"asks without end: {text}")


@pytest.fixture(scope="module")
def engine() -> Data:
    return Data()


def query_of(case: Mapping[str, Any]) -> str:
    """The query with the tables that it names before it."""
    text: str = case["kql"]
    words = re.findall(r"\w+", re.sub(r"'[^']*'|\"[^\"]*\"", "", text))
    own = re.findall(r"let (\w+) =", text)
    lets = [f"let {n} = {t};\n" for n, t in ANSWERS["tables"].items() if n in words and n not in own]
    return "".join(lets) + text


def comparable(found: list[list[Any]], text: str) -> list[str]:
    cells = [repr(row) for row in found]
    return cells if re.search(r"\| (sort by|top \d)[^|]*$", text) else sorted(cells)


@pytest.mark.parametrize("case", SCHEMAS["schemas"], ids=lambda case: case["kql"])
def test_columns_are_those_of_the_language(case: Mapping[str, str]) -> None:
    assert [(name, column.type) for name, column in planned(case["kql"]).columns] == pairs(case["columns"])


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case["kql"])
def test_what_is_refused_says_why(case: Mapping[str, str]) -> None:
    with pytest.raises(KqlError) as caught:
        plan(case["kql"])
    error = caught.value
    found = {"kql": case["kql"], "kind": error.kind, "message": error.message}
    assert (found | {"remedy": error.remedy} if error.remedy else found) == case


@pytest.mark.parametrize("case", ANSWERS["answers"], ids=lambda case: case["kql"])
def test_rows_are_those_of_the_language_by_the_evaluator(case: Mapping[str, Any]) -> None:
    columns, found = evaluated(query_of(case))
    assert columns == case["columns"]
    assert comparable(found, case["kql"]) == comparable(case["rows"], case["kql"])


@pytest.mark.parametrize("case", ANSWERS["answers"], ids=lambda case: case["kql"])
def test_rows_are_those_of_the_language_by_the_engine(engine: Data, case: Mapping[str, Any]) -> None:
    found = engine.ask(query_of(case))
    assert [f"{name}:{type_}" for name, type_ in found.columns] == case["columns"]
    assert comparable(found.rows, case["kql"]) == comparable(case["rows"], case["kql"])


def test_every_operator_of_the_tree_has_a_meaning() -> None:
    operators = set(get_args(Operator))
    assert operators == set(OPERATORS)


# -- plans ------------------------------------------------------------------------------------------------------------


def test_a_condition_on_the_left_of_an_innerunique_join_is_asked_before_a_row_is_chosen() -> None:
    (join,) = [
        n for n in relations("L | join R on k | where v > 1 and w > datetime(2020-01-01)") if isinstance(n, ir.Join)
    ]
    assert isinstance(join.left, ir.Filter)
    assert isinstance(join.right, ir.Scan)


def test_a_sub_query_of_mv_apply_limits_and_groups_for_each_row() -> None:
    (limit,) = [n for n in relations("D | mv-apply d on (top 1 by tostring(d))") if isinstance(n, ir.Limit)]
    assert limit.within
    (group,) = [n for n in relations("D | mv-apply d on (summarize count() by s)") if isinstance(n, ir.Group)]
    assert len(group.keys) > 1


def test_a_native_partition_has_no_query_for_each_key() -> None:
    text = "D | partition hint.strategy=native by s (top 1 by id)"
    (limit,) = [n for n in relations(text) if isinstance(n, ir.Limit)]
    assert [column.type for column in limit.within] == ["string"]
    assert sum(isinstance(n, ir.Scan) for n in relations(text)) == 1


def test_columns_that_nothing_shows_are_no_columns() -> None:
    assert [n for n, _ in planned("D | mv-apply d on (take 1) | project-away *d").columns] == ["e", "s", "t", "b"]


def test_a_data_dependent_schema_is_asked_for_once() -> None:
    text = "L | evaluate pivot(a)"
    question = plan(text)
    assert isinstance(question, ir.Question)
    found = plan(text, answers={question.key: [["x"], ["y"]]})
    assert isinstance(found, ir.Plan)
    assert [name for name, _ in found.columns][-2:] == ["x", "y"]


def test_a_drawing_is_a_hint_that_the_answer_carries() -> None:
    drawn = planned("D | summarize count() by s | render piechart with (title='By s')").visualization
    assert drawn is not None
    assert "By s" in repr(drawn) and "pie" in repr(drawn)


@pytest.mark.parametrize("operator", ["sort by k", "top 2 by k", "serialize", "top-hitters 2 of k", "getschema"])
def test_an_order_lasts_through_what_keeps_rows(operator: str) -> None:
    planned(f"L | {operator} | where true | extend z = 1 | take 5 | extend n = row_number()")


@pytest.mark.parametrize(
    "operator",
    [
        "summarize count() by k", "distinct k", "count", "join R on k", "union R", "mv-expand x = pack_array(k)",
        "sample 2", "top-nested 1 of k by count()",
    ],
)  # fmt: skip
def test_an_order_ends_with_what_makes_rows_anew(operator: str) -> None:
    with pytest.raises(KqlError, match="order"):
        plan(f"L | sort by k | {operator} | extend n = row_number()")


@pytest.mark.parametrize(
    "operator",
    [
        'top-nested of k by count(), top-nested 2 of nobody with others = "x" by count()',
        'top-nested 2 of k with others = "x" by sum(nobody)',
    ],
)
def test_a_level_of_something_unknown_is_refused_with_others_as_without(operator: str) -> None:
    with pytest.raises(KqlError, match="no column or value nobody"):
        plan(f"L | {operator}")
