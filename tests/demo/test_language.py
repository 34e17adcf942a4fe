"""The plan language: paths, slots, filters, conditions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor_demo.agents.language import PlanError, fill, holds

MEMORY = {"invoice": {"number": "INV-1", "amount": 1234.5, "lines": ["a", "b"]}, "who": {"mail": "x@zava.example"}}


def test_a_path_alone_keeps_the_type_of_what_it_leads_to() -> None:
    assert fill("$invoice.amount", MEMORY) == 1234.5
    assert fill({"to": ["$who.mail"], "n": 3}, MEMORY) == {"to": ["x@zava.example"], "n": 3}


def test_slots_are_filled_inside_a_text() -> None:
    assert fill("{invoice.number} over {invoice.amount|euros}", MEMORY) == "INV-1 over 1,234.50 euros"
    assert fill("{invoice.lines|count} lines, first {invoice.lines[0]}, last {invoice.lines[-1]}", MEMORY) == (
        "2 lines, first a, last b"
    )


@pytest.mark.parametrize(
    ("template", "named"),
    [("$invoice.total", "total"), ("{invoice.lines[7]}", "7"), ("{who|shout}", "shout"), ("$not a path", "not a path")],
)
def test_a_wrong_reference_is_named(template: str, named: str) -> None:
    with pytest.raises(PlanError, match=named):
        fill(template, MEMORY)


def test_conditions_compare_what_paths_lead_to() -> None:
    assert holds({"more_than": ["$invoice.amount", 1000]}, MEMORY)
    assert not holds({"is": ["$invoice.number", "INV-2"]}, MEMORY)
    with pytest.raises(PlanError, match="unknown test 'roughly'"):
        holds({"roughly": [1, 1]}, MEMORY)


@given(st.text(alphabet=st.characters(exclude_characters="{}")).filter(lambda text: not text.startswith("$")))
def test_a_text_without_slots_stays_as_it_is(text: str) -> None:
    assert fill(text, {}) == text
