"""What is not answered is refused: by name, with its place, and with what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from watchfloor import kql
from watchfloor.kql.values import parse_datetime

REFUSED = yaml.safe_load((Path(__file__).parent / "refusals.yaml").read_text("utf-8"))
NOW = parse_datetime("2026-03-01 12:00")
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


def compiled(text: str) -> Any:
    """What ``text`` compiles to."""
    return kql.compile(text, SCHEMA, SCOPE, now=NOW)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["kql"] or "empty")
def test_a_query_is_refused_with_place_and_remedy(case: dict[str, Any]) -> None:
    with pytest.raises(kql.KqlError) as refusal:
        compiled(case["kql"])
    assert [str(refusal.value), *map(str, refusal.value.others)] == case["errors"]


def test_a_table_outside_the_scope_does_not_exist_for_the_asker() -> None:
    scope = kql.Scope(("us",), tables=frozenset({"Other"}))
    with pytest.raises(kql.KqlError) as refusal:
        kql.compile("Things", SCHEMA, scope, now=NOW)
    assert str(refusal.value) == "line 1, column 1: There is no table Things."


HUGE = {
    "parentheses": "Things | where " + "(" * 5000 + "true" + ")" * 5000,
    "calls": "Things | where " + "strcat(" * 500 + "'a'" + ")" * 500 + " == 'a'",
    "sums": "Things | where N == " + "+".join("1" * 5000),
    "operators": "Things" + " | where N == 1" * 500,
    "list": "Things | where N in (" + ",".join("1" * 12_000) + ")",
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_a_query_beyond_the_limits_is_refused_and_breaks_nothing(text: str) -> None:
    with pytest.raises(kql.KqlError) as refusal:
        compiled(text)
    assert refusal.value.kind == "limit"


LARGE = {
    "parentheses": "Things | where " + "(" * 38 + "true" + ")" * 38,
    "not": "Things | where " + "not(" * 38 + "true" + ")" * 38,
    "calls": "Things | where " + "strcat(" * 38 + "'a'" + ")" * 38 + " == 'a'",
    "sums": "Things | where N == " + "+".join("1" * 40),
    "or": "Things | where " + " or ".join(f"N == {n}" for n in range(2000)),
    "and of or": "Things | where " + " and ".join(["(N == 1 or B)"] * 500),
    "list": "Things | where N in (" + ",".join("1" * 4000) + ")",
    "operators": "Things" + " | project Name = strcat(Name, 'x')" * 99,
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_a_large_query_within_the_limits_compiles(text: str) -> None:
    assert compiled(text).sql


@given(
    st.text(
        alphabet=st.sampled_from(list("Things|where NamBD=!<>()[]{}'\"\\,.;:-+*/%@#~`0123456789ae_\n\u200b")),
        max_size=60,
    )
)
def test_any_text_is_compiled_or_refused_in_our_words(text: str) -> None:
    for query in (text, f"Things | where {text}", f"Things | project {text}"):
        try:
            compiled(query)
        except kql.KqlError as error:
            assert error.line >= 1
            assert error.column >= 1


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(NAMES, NAMES)
def test_neither_values_nor_names_of_the_user_stand_in_the_sql(value: str, name: str) -> None:
    marked, alias = f"<<{value}>>", f"[[{name}]]"

    def written(text: str) -> str:
        return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c for c in text) + '"'

    found = compiled(f"Things | where Name == {written(marked)} | project [{written(alias)}] = Tag")
    assert marked not in found.sql
    assert alias not in found.sql
    assert found.columns == ((alias, "string"),)
    assert marked in found.params.values()
