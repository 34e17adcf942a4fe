"""Rules in KQL: their own cases, what is said of faulty ones, and how they are run over the real stores."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from detection.rows import NOON
from detection.stores import Stores, open_stores
from watchfloor.detection import kql_runner
from watchfloor.detection.kql_evaluate import Evaluator
from watchfloor.detection.kql_rule import KqlRule, prepare
from watchfloor.detection.kql_runner import HEALTH, MOST_STRIKES, KqlDetector, due_ends
from watchfloor.detection.kql_trial import run_tests
from watchfloor.detection.rules import parse, shipped
from watchfloor.model.cases import Alert, AlertStatus, EntityKind
from watchfloor.model.errors import InputError
from watchfloor.model.people import Permission
from watchfloor.storage import cases, rules
from watchfloor.storage.compiler import catalogue
from watchfloor.storage.hunting import Hunter

EVERYTHING = frozenset(Permission)
SHIPPED = shipped()
REASONS = "reasons: {}\nwhen_stopped: {}\n"

BLOCKED = """
id: blocked
title: "{AgentId} was stopped {times}"
description: "{count} calls of {Tool}, {span}."
kind: near-real-time
severity: medium
tactic: Execution
techniques: [T1059]
entities:
  - {column: UserId, kind: user, role: suspected, name: AccountUpn}
  - {column: AgentId, kind: agent}
dedup: {columns: [AgentId, UserId], bin: PT1H}
recommended_actions: [Look at it.]
blind_spots: None.
query: |
  AgentActivity
  | where ActionType == "ToolCallDecided" and Verdict == "block"
  | extend Tool = strcat(ServerId, "/", ToolName)
  | project Timestamp, ReportId, AgentId, UserId, AccountUpn, Tool
tests:
  - name: blocked
    rows: {AgentActivity: [{Timestamp: "2026-11-03T12:00:00Z", ActionType: ToolCallDecided, Verdict: block}]}
    expect: [{count: 1}]
  - name: allowed
    rows: {AgentActivity: [{Timestamp: "2026-11-03T12:00:00Z", ActionType: ToolCallDecided, Verdict: allow}]}
    expect: []
"""

BUSY = """
  AgentActivity
  | where ActionType == "ToolCallDecided"
  | summarize Calls = count(), Evidence = make_list(ReportId), Timestamp = max(Timestamp) by AgentId, UserId, AccountUpn
  | where Calls >= 3
  | extend Tool = "many"
"""


def rule(text: str = BLOCKED, **changes: Any) -> KqlRule:
    body = yaml.safe_load(text)
    return KqlRule.model_validate({k: v for k, v in {**body, **changes}.items() if v is not None})


def busy(**changes: Any) -> KqlRule:
    span = {"kind": "scheduled", "frequency": "PT10M", "lookback": "PT1H"}
    return rule(**{"id": "busy", "query": BUSY, **span, **changes})


class Clock:
    """Now, as a test sets it."""

    def __init__(self, at: datetime = NOON + timedelta(hours=1)) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with open_stores(tmp_path) as opened:
        yield opened


def detector(stores: Stores, wanted: Sequence[KqlRule], clock: Clock | None = None, **settings: Any) -> KqlDetector:
    evaluator = Evaluator(Hunter(stores.events))
    return KqlDetector(stores.control, evaluator, wanted, schema=catalogue, now=clock or Clock(), **settings)


def run(one: KqlDetector) -> int:
    """Run until nothing is waiting; how many alerts are new."""
    raised = 0
    for _ in range(50):
        reports = (one.run_near_real_time(), one.run_scheduled())
        raised += sum(report.raised for report in reports)
        if not any(report.is_behind for report in reports):
            return raised
    raise AssertionError("it never comes to an end")


def alerts(stores: Stores) -> list[Alert]:
    with stores.control.read() as tx:
        return sorted(cases.list_alerts(tx, EVERYTHING, limit=200), key=lambda a: (a.draft.rule_id, a.draft.dedup_key))


def told(stores: Stores) -> list[tuple[Any, ...]]:
    """The alerts without their ids."""
    return [
        (a.draft.rule_id, a.draft.dedup_key, a.draft.title, a.draft.description, a.draft.severity, a.draft.evidence)
        for a in alerts(stores)
    ]


def state(stores: Stores, rule_id: str) -> rules.RuleState:
    with stores.control.read() as tx:
        return rules.states(tx)[rule_id]


# -- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.claim("rules-kql")
@pytest.mark.parametrize("one", SHIPPED.kql, ids=lambda r: r.id)
def test_each_rule_in_kql_does_what_its_own_cases_say(one: KqlRule) -> None:
    assert {trial.name: trial.faults for trial in run_tests(one) if trial.faults} == {}


@pytest.mark.claim("rules-faults")
def test_every_fault_of_a_rule_is_told_at_once_with_file_and_place() -> None:
    text = BLOCKED.replace("{AgentId} was", "{Agentid} was").replace("column: UserId", "column: Usr")
    text = text.replace("[AgentId, UserId], bin", "[Nothing], bin").replace(
        "id: blocked", "id: blocked\nfrequency: PT5M"
    )
    text = text.replace('{Timestamp: "2026-11-03T12:00:00Z", ActionType', "{Timstamp: 1, ActionType", 1)
    with pytest.raises(InputError) as raised:
        parse({"blocked.yaml": text, "reasons.yaml": REASONS})
    lines = str(raised.value).splitlines()
    for expected in (
        "blocked.yaml: frequency: a near-real-time rule has none",
        "blocked.yaml: title: unknown placeholder {Agentid}. Did you mean AgentId?",
        "blocked.yaml: entities[0].column: the query gives no column Usr.",
        "blocked.yaml: dedup.columns: the query gives no column Nothing.",
        "blocked.yaml: tests[0].rows.AgentActivity: there is no column Timstamp. Did you mean Timestamp?",
    ):
        assert any(expected in line for line in lines), (expected, lines)


@pytest.mark.claim("rules-faults")
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("AgentActivity\n| where Verdit == 1", "query: line 2, column 9:"),
        ("AgentActivity\n| where Verdict ==", "query: line 2, column"),
        ("Nowhere | take 1", "query: line 1, column 1:"),
        ("AgentActivity | summarize Timestamp = max(Timestamp) by ReportId, AgentId, UserId, AccountUpn",
         "query: line 1, column 17: summarize sees more than one row."),
        ("AgentActivity | where AgentId in ((AgentsInfo | project AgentId)) | extend Tool = ToolName", "query: reads"),
        ("AgentActivity | project AgentId, UserId, AccountUpn, Tool = ToolName", "query: the query gives no column"),
        ("BehaviorInfo | extend ReportId = BehaviorId", "query: does not begin with an event table."),
    ],
)  # fmt: skip
def test_a_query_that_is_wrong_is_told_with_line_and_column(query: str, said: str) -> None:
    prepared, faults = prepare(rule(query=query))
    assert prepared is None
    assert any(fault.startswith(said) for fault in faults), faults


def test_a_scheduled_rule_needs_its_times_and_may_compare_rows() -> None:
    assert prepare(busy())[1] == []
    assert [f.split(":")[0] for f in prepare(busy(frequency=None, lookback=None))[1]] == ["frequency", "lookback"]
    assert "is shorter than frequency" in prepare(busy(lookback="PT5M"))[1][0]


# -- near real time ---------------------------------------------------------------------------------------------------

STEPS = [{"reason": "policy", "agent": agent, "user": user, "at": at, "id": f"evt-{agent}-{user}-{at}",
          "verdict": "block" if at % 3 else "allow"}
         for agent in ("billing", "desk") for user in ("kim", "lee") for at in range(0, 7200, 500)]  # fmt: skip


@pytest.mark.claim("rules-once")
@pytest.mark.parametrize("seed", range(6))
def test_order_cut_and_replays_change_no_alert(tmp_path: Path, seed: int) -> None:
    with open_stores(tmp_path) as plain:
        plain.arrive(*STEPS)
        run(detector(plain, [rule(), busy()], Clock(NOON + timedelta(hours=3))))
        expected = [t for t in told(plain) if t[0] == "blocked"]
    chance = random.Random(seed)
    steps = STEPS + chance.sample(STEPS, 20)
    chance.shuffle(steps)
    (tmp_path / "other").mkdir()
    with open_stores(tmp_path / "other") as shuffled:
        while steps:
            some, steps = steps[: (n := chance.randint(1, 15))], steps[n:]
            shuffled.arrive(*some)
            run(detector(shuffled, [rule()], slice_rows=chance.randint(1, 20)))
        assert told(shuffled) == expected
    assert len(expected) == 12


@pytest.mark.claim("rules-once")
def test_two_servers_and_a_crash_in_between_raise_each_alert_once(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.arrive(*STEPS)
    first, second = (detector(stores, [rule()], slice_rows=7) for _ in range(2))
    keep = kql_runner.keep
    chance = random.Random(3)

    def torn(*args: Any) -> Any:
        if chance.random() < 0.4:
            raise KeyboardInterrupt
        kept = keep(*args)
        if chance.random() < 0.4:
            raise KeyboardInterrupt
        return kept

    monkeypatch.setattr(kql_runner, "keep", torn)
    for _ in range(80):
        try:
            chance.choice((first, second)).run_near_real_time()
        except KeyboardInterrupt:
            continue
    monkeypatch.setattr(kql_runner, "keep", keep)
    run(first)
    assert len(alerts(stores)) == 12
    assert sum(a.draft.detail["count"] for a in alerts(stores)) == sum(s["verdict"] == "block" for s in STEPS)


def test_an_alert_of_a_query_is_told_from_its_columns_and_stands_in_an_incident(stores: Stores) -> None:
    stores.arrive({"reason": "policy", "at": 0}, {"reason": "policy", "at": 60})
    assert run(detector(stores, [rule()])) == 1
    (alert,) = alerts(stores)
    assert alert.draft.title == "billing was stopped 2 times"
    assert alert.draft.description == "2 calls of mail/send_email, between 12:05 and 12:06 UTC on 3 November 2026."
    assert {(e.kind, e.id, e.name) for e in alert.draft.entities} == {
        (EntityKind.USER, "griffin", "griffin@zava.example"), (EntityKind.AGENT, "billing", "billing"),
    }  # fmt: skip
    assert [e["tool"] for e in alert.draft.detail["events"]] == ["send_email", "send_email"]
    assert alert.incident_id is not None


@pytest.mark.claim("rules-alone")
def test_a_rule_that_fails_delays_no_other_and_is_switched_off_with_an_alert(stores: Stores) -> None:
    broken = rule(id="broken", query=rule().query.replace("strcat(ServerId", "strcat(tostring(toint(IngestSeq)/0)"))
    good = rule()

    class Failing(Evaluator):
        def near_real_time(self, prepared: Any, part: Any) -> Any:
            if prepared.rule.id == "broken":
                raise InputError("The query cannot be answered.")
            return super().near_real_time(prepared, part)

    one = detector(stores, [broken, good])
    one._evaluator = Failing(Hunter(stores.events))
    for n in range(MOST_STRIKES):
        stores.arrive({"reason": "policy", "at": n})
        one.run_near_real_time()
    found = {a.draft.rule_id: a for a in alerts(stores)}
    assert found["blocked"].draft.detail["count"] == MOST_STRIKES
    assert found[HEALTH].draft.title == "Detection rule broken was switched off"
    assert not state(stores, "broken").is_enabled and "cannot be answered" in state(stores, "broken").reason
    assert state(stores, "blocked").is_enabled and state(stores, "blocked").strikes == 0
    stores.arrive({"reason": "policy", "at": 99})
    one.run_near_real_time()
    assert state(stores, "broken").runs == MOST_STRIKES
    with stores.control.tx("operator") as tx:
        rules.set_enabled(tx, "broken", True, "mended")
    assert run(detector(stores, [broken, good])) == 1
    assert {a.draft.rule_id: a.draft.detail["count"] for a in alerts(stores)}["broken"] == MOST_STRIKES + 1


def test_what_a_rule_costs_and_finds_is_counted(stores: Stores) -> None:
    stores.arrive(*STEPS)
    quiet = rule(id="quiet", query=rule().query.replace('"block"', '"never"'))
    run(detector(stores, [rule(), quiet]))
    loud, silent = state(stores, "blocked"), state(stores, "quiet")
    assert (loud.hits, silent.hits) == (12, 0)
    assert loud.rows == sum(s["verdict"] == "block" for s in STEPS) and silent.rows == 0
    assert loud.last_ms > 0 and silent.last_ms > 0 and loud.runs == silent.runs == 1


def test_more_alerts_than_a_rule_may_raise_are_cut_with_a_note(stores: Stores) -> None:
    stores.arrive(*[{"reason": "policy", "user": f"u{n:04}"} for n in range(230)])
    assert run(detector(stores, [rule()])) == 200
    assert state(stores, "blocked").note == "More than 200 alerts in 230 rows; the first 200 were raised."


# -- scheduled --------------------------------------------------------------------------------------------------------


def test_each_span_is_due_once_and_what_was_missed_is_made_up_for() -> None:
    one = busy()
    now = datetime(2026, 11, 3, 12, 34, tzinfo=NOON.tzinfo)
    assert due_ends(one, 0, now) == [now.replace(minute=30)]
    micros = kql_runner._micros(now.replace(minute=0))
    assert due_ends(one, micros, now) == [now.replace(minute=m) for m in (10, 20, 30)]
    assert due_ends(one, kql_runner._micros(now.replace(minute=30)), now) == []
    assert due_ends(one, kql_runner._micros(now.replace(minute=20)), now.replace(minute=31)) == []


@pytest.mark.claim("rules-once")
def test_after_downtime_every_span_is_looked_at_and_no_alert_comes_twice(stores: Stores) -> None:
    clock = Clock(NOON)
    one = detector(stores, [busy()], clock)
    run(one)
    stores.arrive(*[{"verdict": "allow", "at": at} for at in (600, 610, 620)])
    clock.at = NOON + timedelta(hours=9)
    assert run(one) == 1
    assert run(detector(stores, [busy()], clock)) == 0
    (alert,) = alerts(stores)
    assert alert.draft.detail["count"] == 3
    clock.at += timedelta(hours=3)
    assert run(one) == 0


@pytest.mark.claim("rules-once")
def test_an_event_that_arrives_hours_late_still_raises_its_alert_once(stores: Stores) -> None:
    clock = Clock(NOON)
    one = detector(stores, [busy()], clock)
    run(one)
    stores.arrive(*[{"verdict": "allow", "at": at} for at in (600, 610)])
    clock.at = NOON + timedelta(hours=3)
    assert run(one) == 0
    stores.arrive({"verdict": "allow", "at": 620})
    clock.at += timedelta(minutes=10)
    assert run(one) == 1
    clock.at += timedelta(minutes=10)
    assert run(one) == 0
    assert [a.draft.detail["count"] for a in alerts(stores)] == [3]


# -- suppressions -----------------------------------------------------------------------------------------------------


@pytest.mark.claim("rules-suppressed")
def test_a_suppressed_alert_is_kept_resolved_with_the_reason_and_opens_no_incident(stores: Stores) -> None:
    with stores.control.tx("op") as tx:
        until = tx.now + timedelta(days=1)
        rules.add_suppression(
            tx, rule_id="blocked", entity_kind="user", entity_id="kim", reason="A drill.", expires_at=until
        )
        past = tx.now - timedelta(seconds=1)
        rules.add_suppression(
            tx, rule_id="blocked", entity_kind="user", entity_id="lee", reason="It is over.", expires_at=past
        )
    stores.arrive({"reason": "policy", "user": "kim"}, {"reason": "policy", "user": "lee"})
    one = detector(stores, [rule()])
    run(one)
    found = {next(e.id for e in a.draft.entities if e.kind is EntityKind.USER): a for a in alerts(stores)}
    assert found["kim"].status is AlertStatus.RESOLVED and found["kim"].incident_id is None
    assert found["kim"].draft.detail["suppressed"]["reason"] == "A drill."
    assert found["lee"].status is AlertStatus.NEW and found["lee"].incident_id is not None
    stores.arrive({"reason": "policy", "user": "kim", "at": 60})
    run(one)
    found = {next(e.id for e in a.draft.entities if e.kind is EntityKind.USER): a for a in alerts(stores)}
    assert found["kim"].status is AlertStatus.RESOLVED and found["kim"].draft.detail["count"] == 2


@pytest.mark.claim("rules-alone")
@pytest.mark.parametrize("days", [(1 - NOON.toordinal()), (3652058 - NOON.toordinal())])
def test_events_from_the_ends_of_the_calendar_switch_no_rule_off(stores: Stores, days: int) -> None:
    stores.arrive({"reason": "policy", "at": days * 86400}, {"reason": "policy", "at": 0})
    one = detector(stores, [rule(), busy()])
    for _ in range(MOST_STRIKES + 1):
        run(one)
    assert state(stores, "blocked").strikes == 0 and state(stores, "blocked").last_error == ""
    assert [a.draft.detail["count"] for a in alerts(stores) if a.draft.rule_id == "blocked"] == [1, 1]
