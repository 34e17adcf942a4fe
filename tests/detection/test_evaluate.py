"""From rows to alerts: what an alert says, and that only the set of rows decides it."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.rows import table
from watchfloor.detection.evaluate import EVIDENCE_LIMIT, SliceRunner
from watchfloor.detection.rules import shipped
from watchfloor.model.cases import AlertDraft, EntityKind
from watchfloor.storage.ports import Seq

RUNNER = SliceRunner(shipped())
OUTSIDE: dict[str, Any] = {"reason": "policy", "severity": "high", "tactic": "Exfiltration"}


def _run(rows: pa.Table, seq: int = 0) -> dict[str, AlertDraft]:
    drafts = RUNNER.run_slice(rows, Seq(seq))
    return {f"{d.rule_id}|{d.dedup_key}": d for d in drafts}


def _one(rows: pa.Table, rule: str) -> AlertDraft:
    found = [d for d in RUNNER.run_slice(rows, Seq(0)) if d.rule_id == rule]
    assert len(found) == 1
    return found[0]


def test_a_blocked_call_names_who_where_what_and_when() -> None:
    draft = _one(table([OUTSIDE]), "tool-invocation-blocked")
    assert draft.description == (
        "1 call of Billing Agent to mail/send_email was blocked before reaching the tool server. "
        "griffin@zava.example was acting from 203.0.113.7 at 12:05 UTC on 3 November 2026. The policy says no."
    )
    assert {(e.kind.value, e.id) for e in draft.entities} == {
        ("user", "griffin"), ("agent", "billing"), ("tool", "mail/send_email"), ("server", "mail"),
        ("address", "203.0.113.7"), ("session", "s-1"),
    }  # fmt: skip
    assert draft.evidence == ("evt_00001",)


def test_an_exfiltration_that_was_stopped_is_collection_and_keeps_what_was_attempted() -> None:
    draft = _one(table([OUTSIDE]), "tool-invocation-blocked")
    assert (draft.tactic, draft.detail["attempted_tactic"]) == ("Collection", "Exfiltration")


def test_only_hours_that_a_fresh_row_touches_are_judged_again() -> None:
    rows = table([{**OUTSIDE, "at": 0}, {**OUTSIDE, "at": 7200}])
    assert [d.first_activity.hour for d in _run(rows, seq=1).values()] == [14]


def test_a_late_row_completes_the_window_of_the_hour_after_it() -> None:
    # 12:59:00 arrives last; with it there are five within ten minutes of 13:03.
    steps = [{**OUTSIDE, "at": 3240 + n} for n in (60, 120, 180, 240)]
    early = table(steps)
    late = pa.concat_tables([early, table([{**OUTSIDE, "at": 3240}], first_seq=5)])
    assert not [d for d in RUNNER.run_slice(early, Seq(0)) if d.rule_id == "persistent-blocked-invocations"]
    found = [d for d in RUNNER.run_slice(late, Seq(4)) if d.rule_id == "persistent-blocked-invocations"]
    assert [d.detail["count"] for d in found] == [5]


def test_a_replayed_event_counts_once() -> None:
    rows = pa.concat_tables([table([{**OUTSIDE, "id": "evt_x"}]), table([{**OUTSIDE, "id": "evt_x"}], first_seq=2)])
    assert _one(rows, "tool-invocation-blocked").detail["count"] == 1


def test_texts_that_outsiders_chose_cannot_break_the_sentence() -> None:
    draft = _one(table([{**OUTSIDE, "tool": "send\n\u202eevil{agent}", "user": "a\x00b"}]), "tool-invocation-blocked")
    assert "\n" not in draft.description
    assert "\u202e" not in draft.description
    assert "send evil{agent}" in draft.description


def test_a_flood_keeps_a_bounded_number_of_events_and_the_full_count() -> None:
    draft = _one(table([{**OUTSIDE, "at": n / 10} for n in range(1000)]), "tool-invocation-blocked")
    assert draft.detail["count"] == 1000
    assert len(draft.evidence) == len(draft.detail["events"]) == EVIDENCE_LIMIT
    assert len([e for e in draft.entities if e.kind is EntityKind.ADDRESS]) == 1


def test_broken_json_in_a_row_raises_no_error() -> None:
    rows = table([OUTSIDE])
    for column in ("Reasons", "Signals"):
        rows = rows.set_column(rows.schema.get_field_index(column), column, pa.array(['{"x": ['] * len(rows)))
    assert _one(rows, "tool-invocation-blocked").severity.value == "medium"


STEPS = st.fixed_dictionaries(
    {
        "at": st.integers(0, 3 * 3600),
        "user": st.sampled_from(["griffin", "mona", ""]),
        "agent": st.sampled_from(["billing", "hr"]),
        "verdict": st.sampled_from(["block", "allow", "hold"]),
        "reason": st.sampled_from(["policy", "detector", "not_granted", "session_revoked"]),
        "severity": st.sampled_from(["low", "medium", "high"]),
        "tactic": st.sampled_from(["", "Exfiltration", "Discovery"]),
        "signals": st.sampled_from([(), ("jailbreak",), ("secret",)]),
        "conversation": st.sampled_from(["", "c-1"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=25), st.randoms(use_true_random=False), st.integers(1, 5))
def test_alerts_depend_on_the_set_of_rows_and_not_on_order_or_batches(
    steps: list[dict[str, Any]], rng: random.Random, size: int
) -> None:
    numbered = [{**s, "id": f"evt_{n:04d}"} for n, s in enumerate(steps)]
    whole = _run(table(numbered))
    shuffled = list(numbered)
    rng.shuffle(shuffled)
    arrived = table(shuffled)
    last: dict[str, AlertDraft] = {}
    for start in range(0, len(shuffled), size):
        # What the runner gathers: everything stored up to and including this slice.
        last |= _run(arrived.slice(0, start + size), seq=start)
    assert last.keys() == whole.keys()
    for key, draft in last.items():
        assert draft.evidence == whole[key].evidence
        assert draft.severity == whole[key].severity
