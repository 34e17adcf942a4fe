"""What queries answer: ``cases.yaml`` on DuckDB, and laws against a naive evaluator."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from watchfloor import kql
from watchfloor.storage.compiler import physical, ticks
from watchfloor.storage.engine import Engine
from watchfloor.storage.ports import Limits, Scope

NOW = ticks(datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
CASES = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text("utf-8"))

THINGS = kql.TableSchema(
    "Things",
    (
        kql.Column("Name", "string"),
        kql.Column("Tag", "string"),
        kql.Column("N", "long"),
        kql.Column("R", "real"),
        kql.Column("At", "datetime", is_nullable=False),
        kql.Column("B", "bool"),
        kql.Column("D", "dynamic"),
        kql.Column("Tenant", "string"),
    ),
    tenant_column="Tenant",
    time_column="At",
)
SCHEMA = kql.Schema({"Things": THINGS})
SCOPE = kql.Scope(("us",))
ROWS = [
    ("alpha", "red_one", 1, 1.5, "2026-03-01 11:59:00+00", True, '{"a":1}', "us"),
    ("Beta", "RED two", 2, -2.0, "2026-03-01 11:00:30+00", False, None, "us"),
    ("gamma ray", "", None, None, "2026-02-28 12:00:00+00", None, None, "us"),
    ("o'neil", "mail-bot.x", -7, 0.0, "2026-01-01 00:00:00+00", True, "[1]", "us"),
    ("alpha", "of others", 1, 1.5, "2026-03-01 11:59:00+00", True, None, "them"),
]


@pytest.fixture(scope="module")
def things() -> Engine:
    names = [column.name for column in THINGS.columns]
    rows = [dict(zip(names, row, strict=True)) for row in ROWS]
    table = pa.Table.from_pylist([row | {"At": datetime.fromisoformat(row["At"])} for row in rows])
    return Engine({"Things": table})


def answer(engine: Engine, schema: kql.Schema, text: str, scope: kql.Scope) -> pa.Table:
    compiled = kql.compile(text, schema, scope, now=NOW)
    assert not isinstance(compiled, kql.Pending)
    return pa.Table.from_batches(engine.query(physical(compiled), Scope(), Limits()))


def run(engine: Engine, text: str, scope: kql.Scope = SCOPE) -> list[list[Any]]:
    table = answer(engine, SCHEMA, text, scope)
    return [[_plain(v) for v in row] for row in zip(*[c.to_pylist() for c in table.columns], strict=True)]


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


@pytest.mark.parametrize("case", [c for group in CASES.values() for c in group], ids=lambda c: c["kql"])
def test_a_query_answers_what_kql_says(things: Engine, case: dict[str, Any]) -> None:
    if "refused" in case:
        with pytest.raises(kql.KqlError, match=case["refused"]):
            run(things, case["kql"])
        return
    rows = run(things, case["kql"])
    if isinstance(case["rows"], int):
        assert len(rows) == case["rows"]
    else:
        assert rows == case["rows"]
        assert [[type(v) for v in r] for r in rows] == [[type(v) for v in r] for r in case["rows"]]


# -- scope --------------------------------------------------------------------------------------------------------


def test_rows_of_other_tenants_are_in_no_answer(things: Engine) -> None:
    assert run(things, "Things | count") == [[4]]
    assert run(things, "Things | where true or Tenant == 'them' | count") == [[4]]
    assert run(things, "Things | count", kql.Scope(("them",))) == [[1]]
    assert run(things, "Things | count", kql.Scope(("us", "them"))) == [[5]]
    assert run(things, "Things | count", kql.Scope(())) == [[0]]


def test_rows_before_the_scope_begins_are_in_no_answer(things: Engine) -> None:
    scope = kql.Scope(("us",), since=ticks(datetime(2026, 3, 1, tzinfo=UTC)))
    assert run(things, "Things | count", scope) == [[2]]


# -- a law: the answer is that of a naive evaluator ----------------------------------------------------------------

Condition = tuple[str, Callable[[dict[str, Any]], bool | None]]
_NUMBERS = [None, -7, 0, 1, 2]


def _equal(a: Any, b: Any) -> bool | None:
    return None if a is None and b is None else a == b


def _order(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool | None]:
    return lambda a, b: None if a is None or b is None else test(a, b)


def _negate(value: bool | None) -> bool | None:
    return None if value is None else not value


_RELATIONS: dict[str, Callable[[Any, Any], bool | None]] = {
    "==": _equal,
    "!=": lambda a, b: _negate(_equal(a, b)),
    "<": _order(lambda a, b: a < b),
    "<=": _order(lambda a, b: a <= b),
    ">": _order(lambda a, b: a > b),
    ">=": _order(lambda a, b: a >= b),
}


def _and(values: list[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


def _operand() -> st.SearchStrategy[tuple[str, Callable[[dict[str, Any]], Any]]]:
    def literal(value: int | None) -> tuple[str, Callable[[dict[str, Any]], Any]]:
        return ("long(null)" if value is None else str(value)), lambda row: value

    column = st.sampled_from(["A", "Z"]).map(lambda name: (name, lambda row: row[name]))
    return st.sampled_from(_NUMBERS).map(literal) | column


def _comparison() -> st.SearchStrategy[Condition]:
    def build(left: Any, relation: str, right: Any) -> Condition:
        return (
            f"{left[0]} {relation} {right[0]}",
            lambda row: _RELATIONS[relation](left[1](row), right[1](row)),
        )

    def member(column: str, items: list[int], negated: bool) -> Condition:
        text = f"{column} {'!in' if negated else 'in'} ({', '.join(map(str, items))})"
        return text, lambda row: (row[column] in items) != negated

    relations = st.builds(build, _operand(), st.sampled_from(list(_RELATIONS)), _operand())
    lists = st.lists(st.sampled_from([-7, 0, 1, 2]), min_size=1, max_size=3)
    return relations | st.builds(member, st.sampled_from(["A", "Z"]), lists, st.booleans())


def _combine(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    def junction(word: str, parts: list[Condition]) -> Condition:
        text = f" {word} ".join(f"({t})" for t, _ in parts)
        if word == "and":
            return text, lambda row: _and([f(row) for _, f in parts])
        return text, lambda row: _negate(_and([_negate(f(row)) for _, f in parts]))

    def inverted(part: Condition) -> Condition:
        return f"not({part[0]})", lambda row: _negate(part[1](row))

    return st.builds(junction, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)) | inner.map(
        inverted
    )


PAIRS = kql.Schema({"Pairs": kql.TableSchema("Pairs", (kql.Column("A", "long"), kql.Column("Z", "long")))})


@pytest.fixture(scope="module")
def pairs() -> Engine:
    rows = [{"A": a, "Z": z} for a in _NUMBERS for z in _NUMBERS]
    return Engine({"Pairs": pa.Table.from_pylist(rows, pa.schema([("A", pa.int64()), ("Z", pa.int64())]))})


@given(condition=st.recursive(_comparison(), _combine, max_leaves=6))
@settings(max_examples=150, deadline=None)
def test_conditions_over_nulls_keep_exactly_the_rows_that_a_naive_evaluator_keeps(
    pairs: Engine, condition: Condition
) -> None:
    text, holds = condition

    def rows(query: str) -> list[tuple[Any, ...]]:
        table = answer(pairs, PAIRS, query, kql.Scope(()))
        return list(zip(*[c.to_pylist() for c in table.columns], strict=True))

    expected = [(a, z) for a in _NUMBERS for z in _NUMBERS if holds({"A": a, "Z": z}) is True]
    assert sorted(rows(f"Pairs | where {text} | project A, Z"), key=repr) == sorted(expected, key=repr)
    values = {(a, z): x for a, z, x in rows(f"Pairs | project A, Z, X = {text}")}
    assert values == {(a, z): holds({"A": a, "Z": z}) for a in _NUMBERS for z in _NUMBERS}
