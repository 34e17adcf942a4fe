"""What may stand in a policy file, and how the check says what may not."""

from __future__ import annotations

from typing import Any

import pytest

from guard.world import policy
from watchfloor.guard.policy import check_policy

PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"whn": "true"}, "whn: there is no such member. Did you mean `when`?"),
    ({"effect": "alow"}, "effect: `alow` is not known here."),
    ({"effect": "allow"}, "effect: `allow` is not known here."),
    ({"mode": "audi"}, "mode: `audi` is not known here. Did you mean `audit`?"),
    ({"severity": 3}, "severity: `3` is not known here."),
    ({"tactic": "Exfiltraton"}, "tactic: `Exfiltraton` is not known here. Did you mean `Exfiltration`?"),
    ({"techniques": ["T48"]}, "techniques[0]: `T48` is not a MITRE technique."),
    ({"techniques": "T1048"}, "techniques: must be a list that is not empty."),
    ({"id": "Not An Id"}, "id: is not an id."),
    ({"version": 0}, "version: must be a whole number from 1 on."),
    ({"title": ""}, "title: must be a text that is not empty."),
    ({"when": None}, "when: must be a text that is not empty."),
    ({"when": True}, "when: must be a text that is not empty."),
    ({"on_error": "allow"}, "on_error: `allow` is not known here. It is one of block, flag."),
    ({"scope": []}, "scope: must be a mapping."),
    ({"scope": {"tool": ["*"]}}, "scope.tool: there is no such member. Did you mean `tools`?"),
    ({"scope": {"effects": ["writes"]}}, "scope.effects[0]: `writes` is not known here."),
    ({"scope": {"effects": []}}, "scope.effects: must be a list that is not empty."),
    ({"scope": {"servers": "mail"}}, "scope.servers: must be a list that is not empty."),
    ({"effect": "redact"}, "redact: is missing: an `effect: redact` policy says whose findings it replaces."),
    ({"redact": ["secrets"]}, "redact: is for `effect: redact` only."),
    ({"effect": "redact", "redact": ["jailbreak"]}, "redact[0]: `jailbreak` is not known here."),
    ({"step": "detectors"}, "step: a policy of the step `detectors` asks for `signals.*`."),
    ({"message": "to {agnt.id}"}, "message: `{agnt.id}` is not a name that policies know. Did you mean `agent.id`?"),
    ({"message": "to {agent.id.x}"}, "message: `{agent.id.x}` is not a name that policies know."),
    ({"tests": [{"name": "x", "expect": "block"}]}, "tests[0].given: is missing."),
    ({"tests": [{"name": "x", "given": {}, "expect": "blok"}]}, "tests[0].expect: `blok` is not known here."),
    (
        {"tests": [{"name": "x", "given": {"arg": {}}, "expect": "block"}]},
        "tests[0].given.arg: there is no such member.",
    ),
    (
        {"tests": [{"name": "x", "given": {"tool": {"efect": "send"}}, "expect": "block"}]},
        "tests[0].given.tool.efect: there is no such member. Did you mean `effect`?",
    ),
    (
        {"tests": [{"name": "x", "given": {"tool": {"effect": "sned"}}, "expect": "block"}]},
        "tests[0].given.tool.effect: `sned` is not known here. Did you mean `send`?",
    ),
    ({1: 2}, "1: there is no such member."),
]


@pytest.mark.parametrize(("changes", "expected"), PROBLEMS)
def test_wrong_member_is_explained_with_its_place(changes: dict[str, Any], expected: str) -> None:
    problems = [str(problem) for problem in check_policy(policy(**{str(k): v for k, v in changes.items()}) | changes)]
    assert any(problem.startswith(expected) for problem in problems), problems


@pytest.mark.parametrize("body", [None, [], "policy", 7])
def test_what_is_no_mapping_is_no_policy(body: Any) -> None:
    assert [problem.where for problem in check_policy(body)] == ["policy"]


def test_every_missing_member_is_named() -> None:
    assert [problem.where for problem in check_policy({})] == ["id", "title", "effect", "when", "message"]


def test_every_problem_is_told_at_once() -> None:
    body = policy(effect="x", when="agent.nme == 1", message="{y}", scope={"a": 1}, foo=1)
    assert {problem.where.partition(":")[0] for problem in check_policy(body)} >= {
        "effect", "when", "message", "scope.a", "foo",
    }  # fmt: skip


def test_complete_policy_is_accepted() -> None:
    body = policy(
        description="Why.",
        version=3,
        mode="audit",
        effect="redact",
        redact=["secrets"],
        severity="critical",
        tactic="Command and Control",
        techniques=["T1048", "T1552.001", "AML.T0051"],
        step="detectors",
        on_error="flag",
        scope={"servers": ["mail*"], "tools": ["*"], "agents": ["a"], "effects": ["side_effects", "read"]},
        when='"secret" in signals.categories',
        message="{agent.name} with {args.to} and {args.a.b}",
        blind_spots="",
        tests=[{"name": "x", "given": {"user": None, "args": {}}, "expect": "allow"}],
    )
    assert check_policy(body) == []
