"""Claims and tests name each other."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from requirements import CLAIMS

TESTS = Path(__file__).parent


@cache
def _named_claims() -> frozenset[str]:
    named = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "claim"
                and isinstance(node.func.value, ast.Attribute)
                and node.func.value.attr == "mark"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                named.add(str(node.args[0].value))
    return frozenset(named)


def test_every_claim_that_is_not_open_has_a_test() -> None:
    missing = [c.id for c in CLAIMS if not c.open and c.id not in _named_claims()]
    assert missing == []


def test_every_test_names_a_known_claim() -> None:
    assert _named_claims() - {c.id for c in CLAIMS} == set()


def test_open_claims_say_what_is_missing() -> None:
    assert [c.id for c in CLAIMS if c.open != bool(c.gap)] == []
    assert len({c.id for c in CLAIMS}) == len(CLAIMS)
