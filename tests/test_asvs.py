"""Requirements of the standard and tests name each other."""

from __future__ import annotations

from asvs import REQUIREMENTS
from marks import marked


def test_every_requirement_that_is_listed_has_a_test() -> None:
    assert [r.id for r in REQUIREMENTS if r.id not in marked("asvs")] == []


def test_every_test_names_a_requirement_that_is_listed() -> None:
    assert set(marked("asvs")) - {r.id for r in REQUIREMENTS} == set()


def test_every_requirement_is_listed_once() -> None:
    assert len({r.id for r in REQUIREMENTS}) == len(REQUIREMENTS)
