"""Graph's security API: alerts and incidents as its clients ask for them, change them and page through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.house import House, open_house
from watchfloor.model.people import Role

ALERTS, INCIDENTS = "/v1.0/security/alerts_v2", "/v1.0/security/incidents"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Griffin's critical incident, a low one of Mona's."""
    with open_house(tmp_path_factory.mktemp("graph")) as house:
        house.attack()
        house.call("mail", "no_such_tool", {}, user="mona", agent="hr", address="198.51.100.77")
        house.work()
        yield house


def _all(house: House, address: str, role: Role = Role.SOC_ANALYST, **options: Any) -> list[dict[str, Any]]:
    """Every resource, page by page."""
    client, found = house.client(role), []
    answer = client.get(address, params=options)
    while True:
        assert answer.status_code == 200, answer.text
        found += answer.json()["value"]
        following = answer.json().get("@odata.nextLink")
        if following is None:
            return found
        parts = urlsplit(following)
        answer = client.get(f"{parts.path}?{parts.query}")


def _incident(house: House) -> dict[str, Any]:
    (found,) = _all(house, INCIDENTS, **{"$filter": "severity eq 'high'"})
    return found


def test_an_alert_has_every_member_that_graph_documents(mixed: House) -> None:
    (alert,) = _all(mixed, ALERTS, **{"$filter": "detectorId eq 'persistent-jailbreak'"})
    assert {
        "id", "providerAlertId", "incidentId", "status", "severity", "classification", "determination", "serviceSource",
        "detectionSource", "detectorId", "tenantId", "title", "description", "recommendedActions", "category",
        "assignedTo", "alertWebUrl", "incidentWebUrl", "actorDisplayName", "threatDisplayName", "threatFamilyName",
        "mitreTechniques", "createdDateTime", "lastUpdateDateTime", "resolvedDateTime", "firstActivityDateTime",
        "lastActivityDateTime", "comments", "evidence", "systemTags",
    } <= alert.keys()  # fmt: skip
    assert (alert["status"], alert["classification"], alert["severity"]) == ("new", "unknown", "high")
    assert alert["incidentWebUrl"].endswith(f"/incidents/{alert['incidentId']}")
    evidence = {each["@odata.type"]: each for each in alert["evidence"]}
    user = evidence["#microsoft.graph.security.userEvidence"]["userAccount"]
    assert (user["userPrincipalName"], user["displayName"]) == ("griffin@zava.example", "Griffin Vale")
    agent = evidence["#microsoft.graph.security.aiAgentEvidence"]
    assert (agent["agentId"], agent["agentName"], agent["hostingPlatformType"]) == (
        "billing", "Billing Agent", "copilotStudio",
    )  # fmt: skip
    assert evidence["#microsoft.graph.security.ipEvidence"]["ipAddress"] == "203.0.113.7"


def test_a_critical_incident_is_high_with_a_tag_and_expands_to_its_alerts(mixed: House) -> None:
    found = _incident(mixed)
    assert (found["displayName"], found["severity"]) == ("Collection incident involving one user", "high")
    assert found["systemTags"] == ["critical"]
    assert "alerts" not in found
    (expanded,) = _all(mixed, INCIDENTS, **{"$filter": "severity eq 'high'", "$expand": "alerts"})
    assert len(expanded["alerts"]) == 4
    one = mixed.client(Role.SOC_ANALYST).get(f"{INCIDENTS}/{found['id']}", params={"$expand": "alerts"}).json()
    assert [a["id"] for a in one["alerts"]] == [a["id"] for a in expanded["alerts"]]
    assert one["@odata.context"].endswith("#security/incidents/$entity")


def test_pages_join_without_gap_or_overlap_in_every_order(mixed: House) -> None:
    whole = [a["id"] for a in _all(mixed, ALERTS)]
    assert len(whole) == 5
    assert [a["id"] for a in _all(mixed, ALERTS, **{"$top": "2"})] == whole
    ordered = _all(mixed, ALERTS, **{"$top": "2", "$orderby": "createdDateTime asc"})
    assert sorted(a["id"] for a in ordered) == sorted(whole)
    assert [a["createdDateTime"] for a in ordered] == sorted(a["createdDateTime"] for a in ordered)


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("severity eq 'high'", 3),
        ("severity ne 'high'", 2),
        ("severity in ('low','medium')", 2),
        ("status eq 'resolved'", 0),
        ("detectorId eq 'persistent-jailbreak' or severity eq 'low'", 2),
        ("not (severity eq 'high')", 2),
        ("startswith(title,'PERSISTENT')", 2),
        ("contains(title,'JAILBREAK')", 2),
        ("assignedTo eq null", 5),
        ("serviceSource eq 'microsoftDefenderForEndpoint'", 0),
        ("productName eq 'Watchfloor'", 5),
        ("createdDateTime ge 2026-11-03T12:00:00Z and createdDateTime lt 2027-01-01", 5),
        ("lastActivityDateTime lt 2026-11-03T00:00:00Z", 0),
    ],
)
def test_alerts_are_filtered_as_odata_says(mixed: House, condition: str, count: int) -> None:
    assert len(_all(mixed, ALERTS, **{"$filter": condition})) == count
    counted = mixed.client(Role.SOC_ANALYST).get(ALERTS, params={"$filter": condition, "$count": "true", "$top": "1"})
    assert counted.json()["@odata.count"] == count


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"$filter": "colour eq 'red'"}, "$filter"),
        ({"$filter": "severity eq 'urgent'"}, "$filter"),
        ({"$top": "many"}, "$top"),
        ({"$top": "0"}, "$top"),
        ({"$orderby": "title"}, "$orderby"),
        ({"$search": "x"}, "$search"),
        ({"$expand": "evidence"}, "$expand"),
    ],
)
def test_what_is_not_supported_is_a_graph_error_that_names_the_option(
    mixed: House, options: dict[str, str], where: str
) -> None:
    answer = mixed.client(Role.SOC_ANALYST).get(ALERTS, params=options)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "BadRequest"
    assert where in answer.json()["error"]["message"]


@given(condition=st.text(max_size=80), top=st.text(max_size=6), order=st.text(max_size=20))
def test_whatever_is_asked_for_nothing_fails(mixed: House, condition: str, top: str, order: str) -> None:
    client = mixed.client(Role.SOC_ANALYST)
    for address in (ALERTS, INCIDENTS):
        answer = client.get(address, params={"$filter": condition, "$top": top, "$orderby": order})
        assert answer.status_code in (200, 400)


def test_select_keeps_the_members_that_are_named(mixed: House) -> None:
    for found in _all(mixed, ALERTS, **{"$select": "title,severity"}):
        assert found.keys() == {"id", "title", "severity"}


@pytest.mark.claim("invariant-5")
def test_the_it_role_gets_only_what_serious_open_alerts_tell(mixed: House) -> None:
    alerts = _all(mixed, ALERTS, Role.IT_ADMIN)
    assert [a["severity"] for a in alerts] == ["high"] * 3
    (incident,) = _all(mixed, INCIDENTS, Role.IT_ADMIN, **{"$expand": "alerts"})
    assert {a["id"] for a in incident["alerts"]} == {a["id"] for a in alerts}
    whole = _incident(mixed)
    assert incident["displayName"] == whole["displayName"]
    assert incident["comments"] == []
    for condition in ("severity eq 'low'", "severity ne 'high'", "contains(displayName,'Discovery')"):
        assert _all(mixed, INCIDENTS, Role.IT_ADMIN, **{"$filter": condition}) == []
    counted = mixed.client(Role.IT_ADMIN).get(INCIDENTS, params={"$count": "true"}).json()
    assert counted["@odata.count"] == 1
    low = next(i for i in _all(mixed, INCIDENTS) if i["severity"] == "low")
    hidden = mixed.client(Role.IT_ADMIN).get(f"{INCIDENTS}/{low['id']}")
    assert hidden.status_code == 404
    assert hidden.json()["error"]["code"] == "NotFound"


def test_triage_through_graph_is_the_same_triage(house: House) -> None:
    house.attack()
    found, client = _incident(house), house.client(Role.SOC_OPERATOR)
    address = f"{INCIDENTS}/{found['id']}"
    unclassified = client.patch(address, json={"status": "resolved"})
    assert (unclassified.status_code, unclassified.json()["error"]["code"]) == (400, "BadRequest")
    body = {
        "status": "resolved",
        "classification": "truePositive",
        "determination": "compromisedAccount",
        "assignedTo": "op-soc-operator",
        "customTags": ["VIP", "griffin"],
    }
    done = client.patch(address, json=body)
    assert done.status_code == 200, done.text
    assert {name: done.json()[name] for name in body} == body
    assert {a["status"] for a in _all(house, ALERTS)} == {"resolved"}
    assert all(a["resolvedDateTime"] for a in _all(house, ALERTS))
    ours = house.client(Role.SOC_ANALYST).get(f"/api/incidents/{found['id']}").json()
    assert (ours["determination"], ours["tags"]) == ("compromisedAccount", ["VIP", "griffin"])
    assert _all(house, INCIDENTS, **{"$filter": "determination eq 'compromisedAccount' and status eq 'resolved'"})


def test_one_alert_is_triaged_without_its_incident(house: House) -> None:
    house.attack()
    alert = _all(house, ALERTS)[0]
    body = {"status": "resolved", "classification": "falsePositive", "determination": "notMalicious"}
    done = house.client(Role.SOC_OPERATOR).patch(f"{ALERTS}/{alert['id']}", json=body)
    assert {name: done.json()[name] for name in body} == body
    assert _incident(house)["status"] == "active"
    assert len(_all(house, ALERTS, **{"$filter": "status eq 'resolved'"})) == 1


def test_comments_are_kept_and_shown(house: House) -> None:
    house.attack()
    found, client = _incident(house), house.client(Role.SOC_OPERATOR)
    sent = {"@odata.type": "microsoft.graph.security.alertComment", "comment": "Called Griffin."}
    answer = client.post(f"{INCIDENTS}/{found['id']}/comments", json=sent)
    assert [(c["comment"], c["createdByDisplayName"]) for c in answer.json()["value"]] == [
        ("Called Griffin.", "op-soc-operator")
    ]
    alert = _all(house, ALERTS)[0]
    client.post(f"{ALERTS}/{alert['id']}/comments", json={"comment": "Odd."})
    assert [c["comment"] for c in _incident(house)["comments"]] == ["Called Griffin."]
    assert [c["comment"] for c in _all(house, ALERTS)[0]["comments"]] == ["Odd."]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"status": "closed"}', "status"),
        (b'{"status": 5}', "status"),
        (b'{"assignedTo": "nobody"}', "assignedTo"),
        (b'{"customTags": "x"}', "customTags"),
        (b'{"customTags": ["\\u0007"]}', "tags"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(mixed: House, body: bytes, where: str) -> None:
    before = _incident(mixed)
    answer = mixed.client(Role.SOC_OPERATOR).patch(f"{INCIDENTS}/{before['id']}", content=body)
    assert answer.status_code == 400, answer.text
    assert where in answer.json()["error"]["message"]
    assert _incident(mixed) == before


def test_who_may_only_read_changes_nothing(mixed: House) -> None:
    found = _incident(mixed)
    for role in (Role.SOC_ANALYST, Role.IT_ADMIN):
        answer = mixed.client(role).patch(f"{INCIDENTS}/{found['id']}", json={"status": "inProgress"})
        assert answer.status_code == 403
    assert _incident(mixed)["status"] == "active"
