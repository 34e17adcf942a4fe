"""Alerts and incidents through the API: lists, pages, triage."""

from __future__ import annotations

from typing import Any

import pytest

from portal.house import House
from watchfloor.model.people import Role


def _incident(house: House) -> dict[str, Any]:
    (found,) = house.client(Role.SOC_ANALYST).get("/api/incidents").json()["items"]
    return dict(found)


def test_the_incident_shows_story_alerts_events_and_advice(attacked: House) -> None:
    detail = attacked.client(Role.SOC_ANALYST).get(f"/api/incidents/{_incident(attacked)['id']}").json()
    assert detail["title"] == "Collection incident involving one user"
    assert detail["severity"] == "critical"
    assert "griffin@zava.example used Billing Agent from 203.0.113.7" in detail["description"]
    assert "6 tool calls were stopped before reaching a tool server: mail/send_email (6 times)" in detail["description"]
    assert len(detail["alerts"]) == 4
    assert [e["at"] for e in detail["events"]] == sorted(e["at"] for e in detail["events"])
    assert {(e["user"], e["address"]) for e in detail["events"]} == {("griffin@zava.example", "203.0.113.7")}
    assert detail["recommended_actions"]
    kinds = {e["kind"] for e in detail["entities"]}
    assert kinds == {"user", "agent", "tool", "server", "address", "session"}


def test_an_alert_points_to_decisions_that_can_be_read(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    detail = client.get(f"/api/incidents/{_incident(attacked)['id']}").json()
    for event in detail["events"][:2]:
        decision = client.get(f"/api/decisions/{event['invocation']}").json()["decision"]
        assert decision["ReportId"] == event["id"]


def test_pages_of_alerts_join_without_gap_or_overlap(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    whole = [a["id"] for a in client.get("/api/alerts", params={"limit": 200}).json()["items"]]
    paged: list[str] = []
    following: str | None = ""
    while following is not None:
        page = client.get("/api/alerts", params={"limit": 3, "before": following}).json()
        paged += [a["id"] for a in page["items"]]
        following = page["next"]
    assert paged == whole


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"user": "griffin"}, 4),
        ({"agent": "billing", "severity": "high"}, 3),
        ({"severity": ["medium", "low"]}, 1),
        ({"rule": "persistent-jailbreak"}, 1),
        ({"user": "mona"}, 0),
        ({"status": "resolved"}, 0),
    ],
)
def test_alerts_are_found_by_what_they_are_about(attacked: House, params: dict[str, Any], count: int) -> None:
    assert len(attacked.client(Role.SOC_ANALYST).get("/api/alerts", params=params).json()["items"]) == count


@pytest.mark.claim("story-resolve")
def test_an_incident_is_resolved_with_a_classification_and_its_alerts_follow(house: House) -> None:
    house.attack()
    client, incident = house.client(Role.SOC_OPERATOR), _incident(house)
    without = client.patch(f"/api/incidents/{incident['id']}", json={"status": "resolved"})
    assert (without.status_code, without.json()["where"]) == (422, "classification")
    body = {"status": "resolved", "classification": "truePositive", "comment": "Griffin confirmed the theft."}
    done = client.patch(f"/api/incidents/{incident['id']}", json=body).json()
    assert (done["status"], done["classification"]) == ("resolved", "truePositive")
    assert {a["status"] for a in done["alerts"]} == {"resolved"}
    assert [(r["actor"], r["detail"]["comment"]) for r in done["records"]] == [
        ("op-soc-operator", "Griffin confirmed the theft.")
    ]


def test_an_incident_is_assigned_to_an_operator_and_to_nobody_else(house: House) -> None:
    house.attack()
    client, incident = house.client(Role.SOC_OPERATOR), _incident(house)
    address = f"/api/incidents/{incident['id']}"
    assert client.patch(address, json={"assigned_to": "nobody-known"}).status_code == 404
    assert client.patch(address, json={"assigned_to": "op-soc-operator"}).json()["assigned_to"] == "op-soc-operator"
    assert client.patch(address, json={"assigned_to": ""}).json()["assigned_to"] is None


def test_a_triage_that_changes_nothing_leaves_no_record(house: House) -> None:
    house.attack()
    client, incident = house.client(Role.SOC_OPERATOR), _incident(house)
    answer = client.patch(f"/api/incidents/{incident['id']}", json={})
    assert answer.status_code == 200
    assert answer.json()["records"] == []


def test_members_that_nobody_asked_for_are_refused(house: House) -> None:
    house.attack()
    client, incident = house.client(Role.SOC_OPERATOR), _incident(house)
    answer = client.patch(f"/api/incidents/{incident['id']}", json={"severity": "low"})
    assert (answer.status_code, answer.json()["where"]) == (422, "severity")


def test_a_user_page_shows_their_alerts_incidents_and_what_was_done(house: House) -> None:
    house.attack()
    client = house.client(Role.SOC_OPERATOR)
    client.post("/api/users/griffin/revoke-sessions", json={"reason": "stolen"})
    user = client.get("/api/users/griffin").json()
    assert (user["name"], user["epoch"]) == ("Griffin Vale", 2)
    assert len(user["alerts"]) == 4
    assert len(user["incidents"]) == 1
    assert [r["action"] for r in user["records"]] == ["revoke_user_sessions"]
    assert len(client.get("/api/users").json()["items"]) == 3
