"""From stored events to stored alerts: once each, whatever is late, replayed, torn or done twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detection.rows import NOON
from detection.stores import Stores, open_stores
from watchfloor.detection.rules import shipped
from watchfloor.detection.runner import CURSOR, Detector
from watchfloor.gateway.telemetry import mapping
from watchfloor.gateway.telemetry.spans import Sender, Span, SpanEvent
from watchfloor.model.cases import Alert, Incident
from watchfloor.model.errors import WatchfloorError
from watchfloor.model.people import Permission
from watchfloor.model.verdicts import Severity
from watchfloor.storage import actions, cases, findings

EVERYTHING = frozenset(Permission)
OUTSIDE: dict[str, Any] = {"reason": "policy", "severity": "high", "tactic": "Exfiltration"}
JAILBREAK: dict[str, Any] = {
    "reason": "detector", "severity": "high", "tactic": "Defense Evasion", "policy": "jailbreak",
    "signals": ("jailbreak",), "tool": "lookup",
}  # fmt: skip


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with open_stores(tmp_path) as opened:
        yield opened


def detect(stores: Stores, **settings: int) -> None:
    """Run until nothing is waiting."""
    detector = Detector(stores.control, stores.activity, shipped(), **settings)
    while detector.run().rows:
        pass


def alerts(stores: Stores) -> list[Alert]:
    with stores.control.read() as tx:
        return sorted(cases.list_alerts(tx, EVERYTHING, limit=200), key=lambda a: (a.draft.rule_id, a.draft.dedup_key))


def incidents(stores: Stores) -> list[Incident]:
    with stores.control.read() as tx:
        return cases.list_incidents(tx, EVERYTHING, limit=100)


@pytest.mark.claim("story-one-incident")
@pytest.mark.claim("story-jailbreak-seen")
@pytest.mark.claim("story-incident-facts")
def test_the_thief_becomes_one_critical_collection_incident_told_from_the_facts(stores: Stores) -> None:
    stores.arrive(*[{**JAILBREAK, "at": n * 60, "conversation": f"c-{n}"} for n in range(4)])
    stores.arrive(*[{**OUTSIDE, "at": 600 + n * 30, "address": "198.51.100.9"} for n in range(6)])
    detect(stores)
    (incident,) = incidents(stores)
    assert incident.title == "Collection incident involving one user"
    assert incident.severity is Severity.CRITICAL
    assert incident.description == (
        "griffin@zava.example used Billing Agent from 198.51.100.9 and 203.0.113.7 between 12:05 and 12:17 UTC on "
        "3 November 2026. Words of a jailbreak attempt stood in the conversation of 4 calls. "
        "10 tool calls were stopped before reaching "
        "a tool server: mail/send_email (6 times) and mail/lookup (4 times). "
        "None of the calls of these alerts got through."
    )
    assert {a.draft.rule_id: a.draft.severity.value for a in alerts(stores)} == {
        "jailbreak-attempt": "medium",
        "persistent-blocked-invocations": "high",
        "persistent-jailbreak": "high",
        "tool-invocation-blocked": "high",
    }


def test_an_ordinary_day_raises_nothing(stores: Stores) -> None:
    stores.arrive(*[{"verdict": "allow", "at": n} for n in range(500)])
    stores.arrive({"action": "RequestRefused", "reason": "token_expired"}, {"action": "ToolListServed"})
    detect(stores)
    assert alerts(stores) == []


def test_judging_again_from_the_start_raises_nothing_new(stores: Stores) -> None:
    stores.arrive(*[{**OUTSIDE, "at": n} for n in range(6)])
    detect(stores)
    before = alerts(stores), incidents(stores)
    with stores.control.tx(audited=False) as tx:
        assert findings.move_cursor(tx, CURSOR, findings.read_cursor(tx, CURSOR), 1)
    detect(stores)
    assert (alerts(stores), incidents(stores)) == before


def test_a_replayed_event_changes_nothing(stores: Stores) -> None:
    stores.arrive({**OUTSIDE, "id": "evt_once"})
    detect(stores)
    before = alerts(stores)
    stores.arrive({**OUTSIDE, "id": "evt_once"})
    detect(stores)
    assert alerts(stores) == before


def test_a_late_event_completes_an_alert_and_is_added_to_what_is_there(stores: Stores) -> None:
    stores.arrive(*[{**OUTSIDE, "at": n * 60} for n in (0, 1, 3, 4)])
    stores.arrive({"verdict": "allow", "at": 7000})
    detect(stores)
    assert [a.draft.rule_id for a in alerts(stores)] == ["tool-invocation-blocked"]
    stores.arrive({**OUTSIDE, "at": 120})
    detect(stores)
    found = {a.draft.rule_id: a.draft.detail["count"] for a in alerts(stores)}
    assert found == {"persistent-blocked-invocations": 5, "tool-invocation-blocked": 5}


def test_attempts_that_were_let_out_still_count_when_their_slice_is_long_gone(stores: Stores) -> None:
    for n in range(3):
        stores.arrive({**JAILBREAK, "verdict": "allow", "reason": "", "at": n * 600, "conversation": f"c-{n}"})
        stores.arrive(*[{"verdict": "allow", "at": n * 600 + i} for i in range(20)])
        detect(stores)
    assert "persistent-jailbreak" in {a.draft.rule_id for a in alerts(stores)}


def test_attempts_of_an_agent_without_a_user_count_across_slices(stores: Stores) -> None:
    for n in range(5):
        stores.arrive({**OUTSIDE, "user": "", "at": n * 60})
        detect(stores)
    assert "persistent-blocked-invocations" in {a.draft.rule_id for a in alerts(stores)}
    assert [i.title for i in incidents(stores)] == ["Collection incident on one agent"]


def test_a_failure_before_the_commit_loses_nothing_and_doubles_nothing(stores: Stores) -> None:
    stores.arrive(*[{**OUTSIDE, "at": n} for n in range(6)])
    with stores.control.tx(audited=False) as tx:
        tx.connection.exec_driver_sql(
            "CREATE TRIGGER power_cut BEFORE INSERT ON alert WHEN (SELECT count(*) FROM alert) = 1 "
            "BEGIN SELECT RAISE(ABORT, 'power cut'); END"
        )
    with pytest.raises(WatchfloorError):
        detect(stores)
    assert alerts(stores) == []
    with stores.control.tx(audited=False) as tx:
        assert findings.read_cursor(tx, CURSOR) == 0
        tx.connection.exec_driver_sql("DROP TRIGGER power_cut")
    detect(stores)
    assert len(alerts(stores)) == 2


def test_two_servers_at_once_raise_each_alert_once(stores: Stores) -> None:
    stores.arrive(OUTSIDE)
    one = Detector(stores.control, stores.activity, shipped())
    other = Detector(stores.control, stores.activity, shipped())
    real = stores.activity.after(0, 10, ("IngestSeq",))
    assert real.num_rows == 1
    original = Detector._with_context

    class Slow(Detector):
        def _with_context(self, fresh: Any) -> Any:
            one.run()  # the other server is faster, between our reading and our commit
            return original(self, fresh)

    slow = Slow(stores.control, stores.activity, shipped())
    assert slow.run().raised == 0
    assert other.run().rows == 0
    assert len(alerts(stores)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_outcome_is_the_same_for_any_arrival_and_any_slice(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    steps = [{**OUTSIDE, "at": n * 40, "id": f"evt_a{n}"} for n in range(8)]
    steps += [{**JAILBREAK, "at": 300 + n * 100, "id": f"evt_j{n}", "conversation": f"c-{n}"} for n in range(4)]
    steps += [{**OUTSIDE, "at": 9000 + n, "id": f"evt_b{n}", "user": "mona"} for n in range(3)]
    pictures = []
    for number, order in enumerate((steps, rng.sample(steps, len(steps)))):
        (tmp_path / str(number)).mkdir()
        with open_stores(tmp_path / str(number)) as stores:
            while order:
                size = len(steps) if number == 0 else rng.randint(1, 5)
                stores.arrive(*order[:size])
                order = order[size:]
                detect(stores, slice_rows=50 if number == 0 else rng.randint(2, 6))
            pictures.append(
                (
                    [(a.draft.rule_id, a.draft.dedup_key, a.draft.evidence, a.draft.severity) for a in alerts(stores)],
                    sorted((i.title, i.severity, i.description, len(i.alert_ids)) for i in incidents(stores)),
                )
            )
    assert pictures[0] == pictures[1]


def test_what_was_found_is_in_the_audit_log(stores: Stores) -> None:
    stores.arrive(OUTSIDE)
    detect(stores)
    with stores.control.read() as tx:
        (entry,) = actions.list_audit(tx, action="detection:find")
    assert entry.actor == "system:detection"
    assert entry.detail["raised"] == [a.id for a in alerts(stores)]


def test_slices_smaller_than_the_backlog_are_worked_off_completely(stores: Stores) -> None:
    stores.arrive(*[{"verdict": "allow", "at": n} for n in range(37)], OUTSIDE)
    detect(stores, slice_rows=5)
    assert len(alerts(stores)) == 1
    with stores.control.read() as tx:
        assert findings.read_cursor(tx, CURSOR) == stores.activity.newest_seq()


def _told(number: int, decision: str, **attributes: Any) -> dict[str, Any]:
    """The row of a guardrail's span, as a receiver makes it of what Agent 365's SDK sends."""
    said = {
        "gen_ai.operation.name": "apply_guardrail",
        "gen_ai.agent.id": "billing",
        "user.id": "griffin",
        "user.email": "griffin@zava.example",
        "microsoft.guardian.name": "prompt-shield",
        "microsoft.security.target.type": "llm_input",
        "microsoft.security.decision.type": decision,
        "microsoft.security.decision.reason": "It asks for the instructions.",
        "microsoft.security.decision.code": "jailbreak",
        "client.address": "203.0.113.7",
        **attributes,
    }
    at = int(NOON.timestamp()) * 10**9 + number * 10**9
    finding = {"microsoft.security.risk.category": "jailbreak", "microsoft.security.risk.severity": "high"}
    span = Span("0" * 31 + "1", f"{number:016x}", "apply_guardrail", at, at + 1000, attributes=said)
    span.events = [SpanEvent("microsoft.security.finding", at, finding)]
    return mapping.rows(span, Sender("default", "crm", "a365", "203.0.113.7", "receiver-0"), at + 10**9).activity


@pytest.mark.parametrize("decision", ["deny", "modify"])
def test_what_an_agents_own_guardrail_refused_or_changed_is_an_alert_that_says_whose_word_it_is(
    stores: Stores, decision: str
) -> None:
    stores.write("AgentActivity", [_told(1, decision), _told(2, decision)])
    detect(stores)
    (alert,) = alerts(stores)
    assert (alert.draft.rule_id, alert.draft.severity) == ("agent-guardrail-intervened", Severity.HIGH)
    assert alert.draft.description == (
        "A guardrail that billing runs itself refused or changed what went in or was to be done 2 times. "
        "griffin@zava.example was acting from 203.0.113.7 at 12:05 UTC on 3 November 2026. It asks for the "
        "instructions. The agent tells this; no door of Watchfloor saw it."
    )
    (incident,) = incidents(stores)
    assert "By their own account, guardrails of agents intervened 2 times." in incident.description
    assert "stopped" not in incident.description


@pytest.mark.parametrize("decision", ["allow", "audit", "warn", "", "nonsense"])
def test_what_an_agents_own_guardrail_let_pass_is_no_alert(stores: Stores, decision: str) -> None:
    stores.write("AgentActivity", [_told(1, decision)])
    detect(stores)
    assert alerts(stores) == []


def test_a_change_that_is_told_late_grows_the_alert_of_its_hour(stores: Stores) -> None:
    for number in range(5):
        stores.write("AgentActivity", [_told(number, "modify")])
        detect(stores)
    (alert,) = alerts(stores)
    assert alert.draft.detail["count"] == 5
