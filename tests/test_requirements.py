"""Claims and tests name each other."""

from __future__ import annotations

from marks import marked
from requirements import CLAIMS


def test_every_claim_that_is_not_open_has_a_test() -> None:
    missing = [c.id for c in CLAIMS if not c.open and c.id not in marked("claim")]
    assert missing == []


def test_every_test_names_a_known_claim() -> None:
    assert set(marked("claim")) - {c.id for c in CLAIMS} == set()


def test_open_claims_say_what_is_missing() -> None:
    assert [c.id for c in CLAIMS if c.open != bool(c.gap)] == []
    assert len({c.id for c in CLAIMS}) == len(CLAIMS)
