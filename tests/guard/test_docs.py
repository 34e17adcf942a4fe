"""The page on policies says what the code says, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from watchfloor import content
from watchfloor.guard import names, policy_body
from watchfloor.guard.engine import STEPS
from watchfloor.guard.expression import check_condition
from watchfloor.guard.policy import check_policy
from watchfloor.guard.reasons import CODES
from watchfloor.guard.reference import render
from watchfloor.guard.trial import run_tests

PAGE = (Path(__file__).parents[2] / "docs" / "policies.md").read_text("utf-8")


def test_generated_tables_are_up_to_date() -> None:
    assert render(PAGE) == PAGE, "run `make docs`"


@pytest.mark.parametrize(
    "word",
    [
        *(name.name for name in names.NAMES),
        *(f"{function.name}()" for function in names.FUNCTIONS),
        *(member.name for member in policy_body.MEMBERS),
        *CODES,
        *names.CATEGORIES,
        *(str(body["id"]) for body in content.policies()),
    ],
)
def test_everything_a_policy_can_use_is_on_the_page(word: str) -> None:
    assert f"`{word}`" in PAGE


def test_steps_are_explained_in_their_order() -> None:
    assert re.findall(r"^\d\. \*\*(\w+)\*\*", PAGE, re.MULTILINE) == [step.name for step in STEPS]


def _examples() -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def test_example_policies_pass_their_check_and_their_tests() -> None:
    examples = _examples()
    assert examples
    for body in examples:
        assert check_policy(body) == []
        assert [outcome for outcome in run_tests(body) if not outcome.is_passed] == []


def test_example_conditions_can_be_published() -> None:
    rows = re.findall(
        r"^\| [^|]+ \| `((?:[^`]|\\\|)+)` \|$", PAGE.partition("Some conditions:")[2].partition("## ")[0], re.M
    )
    assert len(rows) >= 5
    for row in rows:
        assert check_condition(row.replace("\\|", "|")) == []


def test_table_of_shipped_policies_is_right() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (audit|enforce) \| (\w+) \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted((body["id"], body["mode"], body["effect"]) for body in content.policies())
