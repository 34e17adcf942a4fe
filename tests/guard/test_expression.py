"""What the publish-time check says about conditions, and how evaluation stays bounded."""

from __future__ import annotations

import time
from typing import Any

import pytest

from guard.world import call, codes, judge, policies, policy
from watchfloor.guard.expression import MAX_LENGTH, check_condition, compile_condition, tokenize
from watchfloor.guard.names import BY_NAME

PROBLEMS = [
    (
        'agent.nme == "x"',
        "when: line 1, column 6: `agent.nme` is not a name that policies know. Did you mean `agent.name`?",
    ),
    ('agents.id == "x"', "`agents.id` is not a name that policies know. Did you mean `agent.id`?"),
    ("usr == 1", "`usr` is not a name that policies know."),
    ('args.a == 1 &&\n  user.rsk == "high"', "when: line 2, column 7: `user.rsk` is not a name"),
    ('user.risk == "hihg"', 'when: line 1, column 14: `user.risk` is never "hihg". Did you mean `high`?'),
    ('"critical" == user.risk', '`user.risk` is never "critical". It is one of none, low, medium, high.'),
    ('tool.effect in ["send", "pya"]', '`tool.effect` is never "pya". Did you mean `pay`?'),
    ('"jailbrek" in signals.categories', '`signals.categories` is never "jailbrek". Did you mean `jailbreak`?'),
    ('args.to.exist(r, r == "x")', "`exist` is not a name that policies know. Did you mean `exists`?"),
    ('agent.id.lwer() == "x"', "`lwer` is not a name that policies know. Did you mean `lower`?"),
    ("agent.id == 1", "`==` does not work on (string, int)."),
    ('counters.calls_last_minute > "5"', "`>` does not work on (int, string)."),
    ("agent.id", "the condition gives string, not true or false."),
    ("args.flag", "the condition gives dyn, not true or false."),
    ("has(agent.id)", "has() is for members of `args`; `agent.id` is always there."),
    ("has(agent.id) && true", "has() is for members of `args`; `agent.id` is always there."),
    ("1 +", "when: line 1, column 4: syntax error: mismatched input '<EOF>'."),
    ("true) || (false", "syntax error: mismatched input ')'."),
    ("", "the condition is empty."),
    ("//", "syntax error"),
    ('"\ud800" == agent.id', "the condition is not valid Unicode."),
    ("(" * 40 + "true" + ")" * 40, "the condition is nested too deeply."),
    ("true" + " || true" * (MAX_LENGTH // 8), f"at most {MAX_LENGTH} are allowed."),
    (
        "args.a.all(x, args.b.all(y, args.c.all(z, x + y == z)))",
        "more than 2 of exists, exists_one, all, map, filter inside one another.",
    ),
]


@pytest.mark.parametrize(("source", "expected"), PROBLEMS)
def test_wrong_condition_is_explained(source: str, expected: str) -> None:
    problems = check_condition(source)
    assert any(expected in str(problem) for problem in problems), [str(problem) for problem in problems]


def test_every_problem_of_a_condition_is_told_at_once() -> None:
    problems = check_condition('agent.nme == "x" && usr.risk == "low" && tool.effect == "sned"')
    assert len(problems) == 3


GOOD = [
    'args.to.exists(r, !r.endsWith("x")) // a comment with "quotes',
    "size(args) > 0 && has(args.to.cc)",
    'agent . id == "x"',
    '.agent.id == "x"',
    'tool.effect == "send" ? user.risk != "none" : false',
    "[1, 2].exists(agent, agent == 1)",
    'args["odd key"] == "sned"',
    'r"\\d+" != agent.id && b"x" == b"x"',
    '"""text with "quotes" and tool.effect == "sned" """ != agent.id',
    'user.risk == "" || signals.severity == ""',
    "args.a.exists(x, args.b.exists(y, x == y))",
    "double(args.amount) > 5.0",
    'duration("1h") < duration("2h") && now.getHours() < 24',
]


@pytest.mark.parametrize("source", GOOD)
def test_right_condition_is_accepted(source: str) -> None:
    assert check_condition(source) == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('args.to == "x" || agent . risk == "low"', {"args", "agent.risk"}),
        ('"agent.id" == user.id // tool.name', {"user.id"}),
        ("args.exists(agent, agent == server.id)", {"args", "server.id"}),
        ("now > timestamp(args.at)", {"now", "args"}),
    ],
)
def test_condition_reads_only_the_names_in_it(source: str, names: set[str]) -> None:
    assert compile_condition(source).names == names


def test_tokens_give_back_every_character_but_space_and_comments() -> None:
    source = 'agent.id == "a\\"b" && args["x"] >= 1.5 || !(r\'\\\' in user.groups)'
    assert "".join(token.text for token in tokenize(source)) == source.replace(" ", "")


def test_no_name_hides_another() -> None:
    assert all(not other.startswith(f"{name}.") for name in BY_NAME for other in BY_NAME)


# -- bounds -------------------------------------------------------------------------------------------------------

COSTLY: list[tuple[str, dict[str, Any]]] = [
    ("args.l.exists(x, args.l.exists(y, x == y + 100000))", {"l": list(range(9_000))}),
    ("args.l.map(x, args.l.map(y, [x, y])).size() > 0", {"l": list(range(3_000))}),
    ('args.t.matches("(a+)+$")', {"t": "a" * 1_000_000 + "b"}),
    ('args.t.matches("(a|b|ab)*c{1,900}")', {"t": "ab" * 500_000}),
    ("args.l.exists(x, args.t.contains(x))", {"l": ["zzz"] * 900, "t": "z z" * 300_000}),
    ("size(args.t + args.t + args.t + args.t + args.t + args.t) < 0", {"t": "a" * 1_000_000}),
    ("size(destinations.emails) > 100000 || size(destinations.urls) > 100000", {"t": "a@b.cc://" * 100_000}),
]


@pytest.mark.parametrize(("when", "arguments"), COSTLY)
def test_costly_condition_ends_soon_whatever_the_arguments(when: str, arguments: dict[str, Any]) -> None:
    before = time.process_time()
    verdict = judge(call(arguments=arguments), policy_set=policies(policy(when=when)))
    assert time.process_time() - before < 5
    assert codes(verdict) in ([], ["policy"], ["policy_error"])


def test_condition_that_needs_too_many_steps_refuses_instead_of_passing() -> None:
    when = "args.l.exists(x, args.l.exists(y, x == y + 100000))"
    verdict = judge(call(arguments={"l": list(range(200))}), policy_set=policies(policy(when=when)))
    assert codes(verdict) == ["policy_error"]


def test_one_costly_policy_does_not_spend_the_steps_of_others() -> None:
    costly = policy(id="costly", when="args.l.exists(x, args.l.exists(y, x == y + 100000))", on_error="flag")
    modest = policy(id="modest", when="args.l.exists(x, x == 199)")
    verdict = judge(call(arguments={"l": list(range(200))}), policy_set=policies(costly, modest))
    assert {(reason.policy_id, reason.code) for reason in verdict.reasons} == {
        ("costly", "policy_error"),
        ("modest", "policy"),
    }


@pytest.mark.parametrize(
    ("when", "arguments"),
    [
        ("args.l.exists(x, x == 'zz')", {"l": ["a"] * 9_000}),
        ("args.l.exists(x, args.t.contains(x))", {"l": ["zz"] * 900, "t": "z " * 450_000}),
        (
            "args.l.exists(x, args.m.exists(y, args.t.contains(x + y)))",
            {"l": ["a"] * 90, "m": ["b"] * 90, "t": "z" * 60_000},
        ),
        ("destinations.emails.exists(e, e == 'x')", {"t": " ".join(f"a{i}@b.example" for i in range(9_000))}),
    ],
)
def test_loop_over_too_much_has_no_answer(when: str, arguments: dict[str, Any]) -> None:
    rules = policies(policy(id="loops", when=when), policy(id="plain", when="has(args.nothing)"))
    before = time.process_time()
    verdict = judge(call(arguments=arguments), policy_set=rules)
    assert time.process_time() - before < 1
    assert [(reason.policy_id, reason.code) for reason in verdict.reasons] == [("loops", "policy_error")]


def test_loop_over_an_ordinary_amount_has_one() -> None:
    arguments = {"l": ["a"] * 900, "m": ["b"] * 90, "t": "z " * 20_000}
    for when in ("args.l.exists(x, args.t.contains(x))", "args.m.exists(x, args.m.exists(y, x == y && x == 'q'))"):
        assert codes(judge(call(arguments=arguments), policy_set=policies(policy(when=when)))) == []
