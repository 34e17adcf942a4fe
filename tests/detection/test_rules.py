"""The shipped rules: each one's own cases, and what loading refuses."""

from __future__ import annotations

import pytest

from detection.rows import table
from watchfloor.detection.evaluate import SliceRunner
from watchfloor.detection.rules import Example, Rule, Ruleset, parse, shipped
from watchfloor.detection.words import NEEDS_BOTH
from watchfloor.guard.reasons import CODES
from watchfloor.model.errors import InputError
from watchfloor.storage.ports import Seq

CASES = [(rule, example) for rule in shipped().rules for example in rule.tests]

MINIMAL = """
id: x
title: X
description: "{agent} did"
severity: low
tactic: Execution
select: {actions: [ToolCallDecided]}
group_by: [agent]
recommended_actions: [Look.]
blind_spots: none known
tests:
  - {name: a, given: [{}], expect: [{}]}
  - {name: b, given: [{}], expect: []}
"""
REASONS = "reasons: {}\nwhen_stopped: {}\n"


@pytest.mark.parametrize(("rule", "example"), CASES, ids=[f"{r.id}: {e.name}" for r, e in CASES])
def test_each_rule_does_what_its_own_cases_say(rule: Rule, example: Example) -> None:
    ruleset = Ruleset((rule,), shipped().reasons)
    drafts = SliceRunner(ruleset).run_slice(table(example.given), Seq(0))
    assert len(drafts) == len(example.expect)
    for draft, expected in zip(drafts, example.expect, strict=True):
        found = {
            "severity": draft.severity.value,
            "tactic": draft.tactic,
            "title": draft.title,
            "count": draft.detail["count"],
        }
        assert {name: found[name] for name in expected} == dict(expected)


def test_every_reason_code_of_the_guard_has_a_meaning() -> None:
    assert set(CODES) == set(shipped().reasons.reasons)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MINIMAL.replace("{agent} did", "{agnt} did"), "unknown placeholder {agnt}"),
        (MINIMAL.replace("severity: low", "severity: lowish"), "x.yaml: severity"),
        (MINIMAL.replace("tactic: Execution", "tactic: Hacking"), "x.yaml: tactic"),
        (MINIMAL.replace("id: x", "id: y"), "differs from the file's name"),
        (MINIMAL + "at_least: 3\n", "needs a window"),
        (MINIMAL.replace("expect: [{}]", "expect: []"), "x.yaml: tests: needs at least one row that must match"),
        (MINIMAL[: MINIMAL.index("tests:")] + "tests: []\n", f"x.yaml: tests: {NEEDS_BOTH}"),
        (MINIMAL + "extra: 1\n", "x.yaml: extra"),
        ("a: [", "x.yaml:"),
    ],
)
def test_a_faulty_rule_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse({"x.yaml": text, "reasons.yaml": REASONS})
    assert says in str(caught.value)


def test_a_proper_rule_is_taken() -> None:
    assert parse({"x.yaml": MINIMAL, "reasons.yaml": REASONS}).rules[0].id == "x"
