"""Session rules over the real event store: each one's own cases, and when they are asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from detection.rows import NOON
from detection.stores import Stores, open_stores
from watchfloor.detection import sessions
from watchfloor.detection.rules import Example, Ruleset, SessionRule, shipped
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import PERMISSIONS, Role
from watchfloor.storage import cases
from watchfloor.storage.activity import Activity
from watchfloor.storage.cases import CaseFilter

RULESET = shipped()
CASES = [(rule, example) for rule in RULESET.sessions for example in rule.tests]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with open_stores(tmp_path) as opened:
        yield opened


def arrive(stores: Stores, given: tuple[Mapping[str, Any], ...]) -> datetime:
    """Write the steps, some of them many times; the moment after the last one."""
    steps, contents, last = [], [], 0.0
    for step in given:
        step = dict(step)
        times, every = step.pop("times", 1), step.pop("every", 0)
        arguments = step.pop("arguments", None)
        for n in range(times):
            at = step.get("at", 0) + n * every
            last = max(last, at)
            steps.append({**step, "at": at})
            text = json.dumps({"arguments": arguments}).replace("{n}", str(n))
            contents.append((NOON + timedelta(seconds=at), text, arguments is not None))
    numbered = stores.arrive_numbered(*steps)
    rows = [
        {"Timestamp": at, "TenantId": "default", "ReportId": f"cnt_{number}", "InvocationId": f"inv_{number:05d}",
         "Kind": "invocation", "Content": text}
        for number, (at, text, wanted) in zip(numbered, contents, strict=True)
        if wanted
    ]  # fmt: skip
    if rows:
        stores.write("AgentContent", rows)
    return NOON + timedelta(seconds=last + 1)


@pytest.mark.parametrize(("rule", "example"), CASES, ids=[f"{r.id}: {e.name}" for r, e in CASES])
def test_each_session_rule_does_what_its_own_cases_say(stores: Stores, rule: SessionRule, example: Example) -> None:
    now = arrive(stores, example.given)
    drafts = sessions.ask(stores.activity, RULESET, rule, now)
    assert len(drafts) == len(example.expect), [d.description for d in drafts]
    for draft, expected in zip(drafts, example.expect, strict=True):
        found = {"severity": draft.severity.value, "tactic": draft.tactic, "count": draft.detail["count"]}
        assert {name: found[name] for name in expected} == dict(expected)
        assert draft.evidence and draft.recommended_actions and draft.techniques


def rule(name: str) -> SessionRule:
    return next(r for r in RULESET.sessions if r.id == name)


def alerts(stores: Stores) -> list[str]:
    with stores.control.read() as tx:
        found = cases.list_alerts(tx, PERMISSIONS[Role.SOC_ANALYST], CaseFilter(), 100)
    return sorted(alert.draft.rule_id for alert in found)


PROBING = tuple({"reason": "policy", "tool": tool, "at": n * 30} for n, tool in enumerate("abcd"))


@pytest.mark.claim("sessions-told")
def test_what_was_found_is_an_alert_in_an_incident_once_however_often_it_is_asked(stores: Stores) -> None:
    now = arrive(stores, PROBING)
    only = Ruleset((), RULESET.reasons, (rule("suspicious-agent-execution"),))
    assert sessions.watch(stores.control, stores.activity, only, now) == 1
    for minutes in range(1, 9):
        assert sessions.watch(stores.control, stores.activity, only, now + timedelta(minutes=minutes)) == 0
    assert alerts(stores) == ["suspicious-agent-execution"]
    with stores.control.read() as tx:
        (incident,) = cases.list_incidents(tx, PERMISSIONS[Role.SOC_ANALYST], CaseFilter(), 10)
    assert incident is not None


def test_what_happened_while_no_server_ran_is_found_when_one_does(stores: Stores) -> None:
    only = Ruleset((), RULESET.reasons, (rule("suspicious-agent-execution"),))
    stores.arrive({"verdict": "allow", "at": -3600})
    assert sessions.watch(stores.control, stores.activity, only, NOON - timedelta(minutes=59)) == 0
    arrive(stores, PROBING)
    assert sessions.watch(stores.control, stores.activity, only, NOON + timedelta(hours=3)) == 1


def test_whatever_lies_within_three_quarters_of_a_window_lies_within_one_that_is_asked() -> None:
    asked = rule("suspicious-agent-execution")
    span, now = timedelta(minutes=asked.within_minutes), NOON + timedelta(hours=2)
    due = sessions.points(asked, NOON, now)
    assert due[-1] == now
    for seconds in range(0, 6700, 37):
        first = NOON + timedelta(seconds=seconds)
        assert any(end - span < first and first + span * 3 / 4 <= end for end in due)
    assert len(sessions.points(asked, NOON - timedelta(days=9), now)) <= 6 * 60 / (asked.within_minutes / 4)


@pytest.mark.claim("sessions-honest")
def test_a_busy_and_honest_agent_raises_nothing_at_all(stores: Stores) -> None:
    work = (
        {"verdict": "allow", "tool": "lookup", "effect": "read", "at": -864000, "times": 1500, "every": 560},
        {"verdict": "allow", "tool": "send_email", "at": -863000, "times": 1500, "every": 560},
        {"verdict": "allow", "tool": "send_email", "at": -90000, "times": 250, "every": 12},
        {"verdict": "allow", "tool": "send_email", "arguments": {"to": "{n}"}, "at": 0, "times": 300, "every": 8},
        {"reason": "policy", "tool": "send_email", "at": 100, "times": 2, "every": 900},
        {"verdict": "hold", "tool": "pay", "at": 150, "times": 5, "every": 200},
    )
    now = arrive(stores, work)
    for learning in (False, True):
        assert sessions.watch(stores.control, stores.activity, RULESET, now, learning=learning) == 0
    assert alerts(stores) == []
    assert len({r.id for r in RULESET.sessions if r.learns_days}) == 4


def test_a_rule_that_gets_no_answer_is_named_and_keeps_no_other_from_its_alerts(stores: Stores) -> None:
    broken = rule("refused-then-let-out").model_copy(
        update={"id": "broken", "query": "AgentActivity | take 1 // broken"}
    )
    now = arrive(stores, PROBING)

    class Impatient(Activity):
        def query(self, kql: str, max_rows: int) -> Any:
            if "// broken" in kql:
                raise Unavailable("too slow")
            return super().query(kql, max_rows)

    activity = Impatient(stores.events, stores.compiler)
    both = Ruleset((), RULESET.reasons, (broken, rule("suspicious-agent-execution")))
    with pytest.raises(Unavailable, match="broken: too slow"):
        sessions.watch(stores.control, activity, both, now)
    assert alerts(stores) == ["suspicious-agent-execution"]
