"""Least privilege over recorded calls: the proposal, what it would have broken, and what applying it changes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from portal.house import House
from watchfloor.model.people import Role
from watchfloor.registry.policies import current_set
from watchfloor.registry.policy_trial import PolicyTrial

OUTSIDE = {"to": ["drop@evil.example"], "subject": "records", "body": "…"}
INSIDE = {"to": ["mona@zava.example"], "subject": "Reminder", "body": "Please pay."}


@pytest.fixture
def worked(house: House) -> House:
    """The billing agent has looked up and mailed; it never paid; a thief was stopped."""
    for n in range(5):
        house.call("mail", "lookup", {"key": str(n)})
    assert house.call("mail", "send_email", INSIDE)[1].effect.value == "allow"
    assert house.call("mail", "send_email", OUTSIDE)[1].effect.value == "block"
    house.clock.forward(minutes=1)
    return house


def _ask(house: House, role: Role | str = Role.SOC_ANALYST, operator: str = "", **params: Any) -> dict[str, Any]:
    answer = house.client(role, operator).get("/api/agents/billing/least-privilege", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _ended(house: House, run_id: str) -> tuple[dict[str, Any], list[Any]]:
    client, deadline = house.client(Role.SOC_ANALYST), time.monotonic() + 30
    while (run := client.get(f"/api/hunting/runs/{run_id}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    rows: list[Any] = client.get(f"/api/hunting/runs/{run_id}/rows").json()["rows"]
    return run, rows


@pytest.mark.claim("least-privilege")
def test_past_calls_decided_again_under_the_proposal_all_end_as_they_did(worked: House) -> None:
    found = _ask(worked)
    advice = {f"{g['server_id']}/{g['tool']}": (g["advice"], g["calls"]) for g in found["grants"]}
    assert advice == {"bank/pay": ("remove", 0), "mail/*": ("split", 6)}
    becomes = [(b["tool"], b["scope"]) for g in found["grants"] for b in g["becomes"]]
    assert becomes == [("lookup", "read"), ("send_email", "write")]
    assert (found["calls"], found["would_fail"], found["is_narrower"]) == (6, 0, True)
    begun = worked.client(Role.SOC_ANALYST).post("/api/agents/billing/least-privilege/trial", json={})
    assert begun.status_code == 202, begun.text
    run, rows = _ended(worked, begun.json()["id"])
    assert (run["state"], rows) == ("done", [])
    assert "0 of 7 calls would have failed" in run["notes"]


def test_a_grant_that_was_needed_is_missed_by_the_calls_that_used_it(worked: House) -> None:
    with worked.stores.control.read() as tx:
        candidates = current_set(tx)
    trial = PolicyTrial(
        text="nothing", activity=worked.deps.activity, candidates=candidates, end=worked.clock(), agent_id="billing",
        grants=[],
    )  # fmt: skip
    answered = trial.answered_by(worked.deps.hunter)
    assert "6 of 7 calls would have failed" in trial.notes
    reasons = {row[-3] for row in answered.values()}
    assert reasons == {"not_granted"}, "of the one that was stopped the reason to be stopped is no difference"


@pytest.mark.claim("least-privilege-applies")
def test_the_manifest_takes_away_what_was_not_used_and_changes_nothing_else(worked: House) -> None:
    owner = worked.client(Role.OWNER)
    found = _ask(worked)
    planned = owner.post("/api/manifests/plan", json={"manifest": found["manifest"]}).json()
    changed = {(c["action"], c["kind"], c["id"]) for c in planned["changes"] if c["kind"] not in ("agent", "version")}
    assert changed == {
        ("delete", "binding", "billing/bank/pay"), ("delete", "binding", "billing/mail/*"),
        ("create", "binding", "billing/mail/lookup"), ("create", "binding", "billing/mail/send_email"),
    }  # fmt: skip
    (agent,) = [c for c in planned["changes"] if c["kind"] == "agent"]
    assert {f["name"] for f in agent["fields"]} <= {"version", "updated_by", "details"}
    assert {d["reach"] for d in found["differences"]} == {"narrower"}
    applied = owner.post("/api/manifests/apply", json={"manifest": found["manifest"], "expected": planned["digest"]})
    assert applied.status_code == 200, applied.text
    assert worked.call("mail", "lookup", {"key": "9"})[1].effect.value == "allow"
    assert worked.call("mail", "send_email", INSIDE)[1].effect.value == "allow"
    refused = worked.call("bank", "pay", {"amount": 1})[1]
    assert [r.code for r in refused.reasons][:1] == ["not_granted"]
    assert _ask(worked)["is_narrower"] is False


def test_counts_are_for_who_reads_decisions_and_for_who_answers_for_the_agent(worked: House) -> None:
    hidden = _ask(worked, Role.IT_ADMIN)
    assert (hidden["calls"], {g["calls"] for g in hidden["grants"]}, hidden["would_fail"]) == (None, {None}, 0)
    assert _ask(worked, Role.MAKER, "ada")["calls"] == 6
    assert worked.client(Role.MAKER, "eve").get("/api/agents/billing/least-privilege").status_code == 404
    assert worked.client(Role.IT_ADMIN).post("/api/agents/billing/least-privilege/trial", json={}).status_code == 403
    assert worked.client().get("/api/agents/none/least-privilege").status_code == 404


def test_only_calls_within_the_days_count(worked: House) -> None:
    worked.clock.forward(days=10)
    assert _ask(worked)["calls"] == 6
    short = _ask(worked, days=7)
    assert (short["calls"], short["grants"][0]["advice"]) == (0, "remove")
    assert "nothing to go by" in short["warnings"][0]
