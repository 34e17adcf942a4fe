"""Identity protection as Graph's clients ask for it: risky users and agents, detections, history, and our own API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from portal.house import House, open_house
from portal.test_graph_cases import _all
from watchfloor.identity import risk
from watchfloor.model.errors import Denied
from watchfloor.model.people import RiskLevel, Role
from watchfloor.response.risk_orders import RiskVerdict, decide
from watchfloor.storage import inventory, people
from watchfloor.storage.people import User

USERS, DETECTIONS = "/v1.0/identityProtection/riskyUsers", "/v1.0/identityProtection/riskDetections"
AGENTS, AGENT_DETECTIONS = "/beta/identityProtection/riskyAgents", "/beta/identityProtection/agentRiskDetections"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Griffin's critical incident; Mona, whom an operator took for compromised and dismissed."""
    with open_house(tmp_path_factory.mktemp("risk")) as house:
        house.attack()
        house.work()
        with house.deps.control.tx("lin") as tx:
            risk.confirm_compromised(tx, "user", "mona", "a strange call")
            risk.dismiss(tx, "user", "mona", "it was her")
        yield house


def get(house: House, address: str, role: Role = Role.SOC_ANALYST, **options: Any) -> Any:
    answer = house.client(role).get(address, params=options)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.claim("risk-graph")
def test_a_risky_user_has_every_member_that_graph_documents(attacked: House) -> None:
    griffin, mona = _all(attacked, USERS)
    assert griffin == {
        "id": "griffin", "isDeleted": False, "isProcessing": False, "riskLevel": "medium", "riskState": "atRisk",
        "riskDetail": "none", "riskLastUpdatedDateTime": "2026-11-03T12:11:00.000000Z",
        "userDisplayName": "Griffin Vale", "userPrincipalName": "griffin@zava.example",
    }  # fmt: skip
    assert (mona["riskState"], mona["riskDetail"]) == ("dismissed", "adminDismissedAllRiskForUser")
    one = get(attacked, f"{USERS}/griffin")
    assert one.pop("@odata.context").endswith("/v1.0/$metadata#identityProtection/riskyUsers/$entity")
    assert one == griffin
    assert get(attacked, f"{USERS}/ada")["riskState"] == "none", "nothing was seen about Ada"
    assert get(attacked, f"{USERS.replace('v1.0', 'beta')}/griffin")["riskLevel"] == "medium"


def test_a_risky_agent_has_every_member_that_graph_documents(attacked: House) -> None:
    (billing,) = _all(attacked, AGENTS)
    assert billing.keys() >= {
        "id", "agentDisplayName", "identityType", "blueprintId", "isEnabled", "isDeleted", "isProcessing", "riskLevel",
        "riskState", "riskDetail", "riskLastUpdatedDateTime",
    }  # fmt: skip
    assert (billing["id"], billing["riskLevel"], billing["isEnabled"]) == ("billing", "medium", True)
    assert {d["agentId"] for d in _all(attacked, AGENT_DETECTIONS)} == {"billing"}


def test_a_detection_names_its_alert_and_can_be_read_by_itself(attacked: House) -> None:
    found = _all(attacked, DETECTIONS, **{"$filter": "userId eq 'griffin' and riskEventType eq 'securityAlert'"})
    alerts = {each["id"] for each in _all(attacked, "/v1.0/security/alerts_v2")}
    assert found and all(any(alert in each["additionalInfo"] for alert in alerts) for each in found)
    assert get(attacked, f"{DETECTIONS}/{found[0]['id']}")["riskEventType"] == "securityAlert"
    assert attacked.client(Role.SOC_ANALYST).get(f"{DETECTIONS}/rsk_none").status_code == 404


def test_history_tells_who_did_what_newest_first(attacked: House) -> None:
    items = get(attacked, f"{USERS}/mona/history")["value"]
    told = [(i["riskState"], i["initiatedBy"], i["activity"]["eventTypes"], i["userId"]) for i in items]
    assert told == [
        ("dismissed", "lin", ["risk:dismiss"], "mona"),
        ("confirmedCompromised", "lin", ["risk:confirm-compromised"], "mona"),
    ]


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("riskLevel eq 'medium'", ["griffin"]),
        ("riskState eq 'dismissed' or riskLevel eq 'high'", ["mona"]),
        ("startswith(userPrincipalName,'grif')", ["griffin"]),
        ("riskLastUpdatedDateTime ge 2026-11-03T00:00:00Z", ["griffin", "mona"]),
        ("riskLevel in ('low','hidden')", []),
    ],
)
def test_risky_users_are_filtered_as_odata_says(attacked: House, condition: str, ids: list[str]) -> None:
    assert [each["id"] for each in _all(attacked, USERS, **{"$filter": condition})] == ids
    assert get(attacked, USERS, **{"$filter": condition, "$count": "true"})["@odata.count"] == len(ids)


@pytest.mark.parametrize("options", [{"$filter": "nonsense eq 1"}, {"$expand": "history"}, {"$top": "none"}])
def test_what_is_not_supported_is_a_graph_error(attacked: House, options: dict[str, str]) -> None:
    answer = attacked.client(Role.SOC_ANALYST).get(USERS, params=options)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "BadRequest"


def test_pages_join_without_gap_or_overlap(house: House) -> None:
    with house.deps.control.tx("root") as tx:
        for number in range(23):
            user = User(f"u{number:02}", "https://login.zava.example", f"s{number}", tx.now, is_enabled=True)
            people.save_user(tx, user)
            for _ in range(2):
                risk.note(tx, "user", user.id, "leakedCredentials", RiskLevel.LOW, source="idp", detail="a list")
    for options in ({"$top": "5"}, {"$top": "5", "$orderby": "riskLastUpdatedDateTime desc"}):
        ids = [each["id"] for each in _all(house, USERS, **options)]
        assert sorted(ids) == [f"u{number:02}" for number in range(23)]
    found = [each["id"] for each in _all(house, DETECTIONS, **{"$top": "7"})]
    assert len(found) == len(set(found)) == 46


@pytest.mark.parametrize("role", [Role.IT_ADMIN, Role.MAKER])
@pytest.mark.parametrize(
    "address", [USERS, DETECTIONS, AGENTS, AGENT_DETECTIONS, f"{USERS}/griffin/history", "/api/risk"]
)
def test_who_may_not_read_every_alert_is_told_of_no_detection(attacked: House, role: Role, address: str) -> None:
    assert attacked.client(role).get(address).status_code == 403


def test_our_own_api_shows_the_risk_with_reasons_to_those_who_may_read_every_alert(attacked: House) -> None:
    for address in ("/api/users/griffin", "/api/agents/billing"):
        seen = get(attacked, address)["risk_details"]
        assert (seen["level"], seen["state"]) == ("medium", "atRisk") and seen["reasons"]
        blind = get(attacked, address, Role.IT_ADMIN)["risk_details"]
        assert (blind["level"], blind["reasons"], blind["because"]) == ("medium", [], "")
    listed = get(attacked, "/api/risk", limit="1")
    assert [each["id"] for each in listed["items"]] == ["griffin"]
    rest = get(attacked, "/api/risk", before=listed["next"])["items"]
    assert [(each["kind"], each["id"]) for each in rest] == [("user", "mona"), ("agent", "billing")]
    assert [e["id"] for e in get(attacked, "/api/risk", state="dismissed", kind="user")["items"]] == ["mona"]
    found = get(attacked, "/api/risk/user/griffin")
    assert found["detections"][0]["detection"] == "securityAlert" and found["history"][0]["activity"] == "risk:detect"
    assert attacked.client(Role.SOC_ANALYST).get("/api/risk/user/nobody").status_code == 404


# -- orders -------------------------------------------------------------------------------------------------------


def order(house: House, address: str, role: Role = Role.OWNER, **body: Any) -> int:
    return house.client(role).post(address, json=body).status_code


def test_confirming_compromised_ends_sessions_and_suspends_and_dismissing_lifts_it(house: House) -> None:
    assert order(house, f"{USERS}/confirmCompromised", userIds=["griffin", "mona"]) == 204
    for user_id in ("griffin", "mona"):
        shown = get(house, f"/api/users/{user_id}")
        assert (shown["risk"], shown["risk_details"]["state"]) == ("high", "confirmedCompromised")
        assert shown["must_reset_password"] and shown["not_before"] and shown["epoch"] == 2
        assert [record["action"] for record in shown["records"]] == ["user_risk:confirmCompromised"]
    assert order(house, f"{USERS}/dismiss", userIds=["griffin"]) == 204
    assert order(house, f"{USERS}/confirmSafe", userIds=["mona"]) == 204
    griffin, mona = _all(house, USERS)
    assert [(u["riskLevel"], u["riskState"]) for u in (griffin, mona)] == [
        ("none", "dismissed"), ("none", "confirmedSafe")
    ]  # fmt: skip
    assert not get(house, "/api/users/griffin")["must_reset_password"]


def test_confirming_by_graph_begins_the_same_response_under_the_same_guards(house: House) -> None:
    assert order(house, f"{USERS}/confirmCompromised", userIds=["griffin"]) == 204
    assert order(house, f"{USERS}/confirmCompromised", userIds=["griffin"]) == 204, "what is under way was asked for"
    (begun,) = get(house, "/api/responses")["items"]
    assert (begun["kind"], begun["subject_id"], begun["status"]) == ("user_compromise", "griffin", "running")
    house.token(Role.SOC_ANALYST, "mona")  # an operator, of tier 0: the whole order is refused, and it is on record
    assert order(house, f"{USERS}/confirmCompromised", userIds=["ada", "mona"]) == 403
    assert [get(house, f"/api/users/{each}")["risk"] for each in ("ada", "mona")] == ["none", "none"]
    log = get(house, "/api/audit", Role.AUDITOR)["items"]
    (entry,) = [each for each in log if each["action"] == "action:refuse"]
    assert "needs a second operator" in entry["detail"]["because"]
    assert order(house, f"{USERS}/confirmSafe", userIds=["griffin"]) == 204
    outcomes = [each["outcome"] for each in get(house, "/api/responses", kind="user_compromise")["items"]]
    assert outcomes == ["confirmed_safe"]


@pytest.mark.claim("response-agent")
def test_confirming_an_agent_by_graph_quarantines_it_as_the_portal_does(house: House) -> None:
    confirm = f"{AGENTS}/confirmCompromised"
    assert order(house, confirm, Role.SOC_OPERATOR, agentIds=["billing"]) == 204
    assert order(house, confirm, Role.SOC_OPERATOR, agentIds=["billing"]) == 204, "what is under way was asked for"
    shown = get(house, "/api/agents/billing")
    assert (shown["risk"], shown["state"], shown["epoch"]) == ("high", "blocked", 2)
    assert house.call("mail", "lookup", {"key": "1"})[1].effect.value == "block"
    assert house.call("mail", "lookup", {"key": "1"}, agent="hr")[1].effect.value == "allow"
    (seen,) = _all(house, AGENT_DETECTIONS)
    assert (seen["riskEventType"], seen["riskState"]) == ("adminConfirmedAgentCompromised", "confirmedCompromised")
    house.work("run_responses")
    (begun,) = get(house, "/api/responses")["items"]
    assert (begun["kind"], begun["subject_id"], begun["status"]) == ("agent_compromise", "billing", "done")
    evidence = {step["name"]: step["evidence"] for step in begun["steps"]}
    assert (evidence["credentials"]["secret"], evidence["gateway"]["state"]) == ("revoked", "blocked")
    # Clearing it releases it: not by who built it, nor by who may only block.
    assert order(house, f"{AGENTS}/dismiss", agentIds=["billing"]) == 403, "the owner has applied its manifest"
    assert order(house, f"{AGENTS}/confirmSafe", Role.IT_ADMIN, agentIds=["billing"]) == 403
    assert order(house, f"{AGENTS}/confirmSafe", Role.SECURITY_ADMIN, agentIds=["billing"]) == 204
    shown = get(house, "/api/agents/billing")
    assert (shown["state"], shown["risk_details"]["state"]) == ("published", "confirmedSafe")
    assert get(house, "/api/responses")["items"][0]["outcome"] == "confirmed_safe"


def test_confirming_agents_by_graph_keeps_to_the_same_guards(house: House) -> None:
    with house.deps.control.tx("root") as tx:
        found = inventory.find_agent(tx, "hr")
        assert found
        for number in range(21):
            inventory.save_agent(tx, replace(found, id=f"a{number:02}", name=f"Agent {number}"), "agent:create")
    everybody = [f"a{number:02}" for number in range(21)]
    confirm = f"{AGENTS}/confirmCompromised"
    assert order(house, confirm, Role.IT_ADMIN, agentIds=["hr"]) == 403, "who may block does not judge"
    assert order(house, confirm, Role.SOC_OPERATOR, agentIds=everybody) == 403, "more than 20 need a colleague"
    assert get(house, "/api/responses")["items"] == []
    assert order(house, confirm, Role.SOC_OPERATOR, agentIds=everybody[:20]) == 204
    # The next one waits for a second operator where that can be: nobody is told that it was done.
    waits = house.client(Role.SOC_OPERATOR).post("/api/agents/hr/confirm-compromised", json={"reason": "odd"})
    assert waits.json()["proof"]["status"] == "waiting_for_approval"
    assert order(house, confirm, Role.SECURITY_ADMIN, agentIds=["hr"]) == 400
    assert get(house, "/api/agents/hr")["state"] == "published"


@pytest.mark.parametrize(
    ("address", "body", "status"),
    [
        (f"{USERS}/confirmCompromised", {"userIds": ["griffin", "nobody"]}, 404),
        (f"{USERS}/confirmCompromised", {"userIds": []}, 400),
        (f"{USERS}/confirmCompromised", {"userIds": "griffin"}, 400),
        (f"{USERS}/confirmCompromised", {"agentIds": ["griffin"]}, 400),
        (f"{USERS}/dismiss", {"userIds": [f"u{n}" for n in range(61)]}, 400),
        (f"{AGENTS}/confirmSafe", {"agentIds": [7]}, 400),
    ],
)
def test_an_order_that_cannot_be_carried_out_changes_nothing(
    house: House, address: str, body: dict[str, Any], status: int
) -> None:
    assert order(house, address, **body) == status
    assert _all(house, USERS) == _all(house, AGENTS) == []


@pytest.mark.parametrize("role", [Role.SOC_ANALYST, Role.AUDITOR, Role.MAKER])
def test_who_may_only_read_judges_nobody(house: House, role: Role) -> None:
    assert order(house, f"{USERS}/confirmCompromised", role, userIds=["griffin"]) == 403
    assert order(house, f"{AGENTS}/dismiss", role, agentIds=["billing"]) == 403
    answer = house.client(role).post("/api/risk/user/griffin/dismiss", json={"reason": "because"})
    assert answer.status_code == 403


def test_nobody_judges_themselves_or_clears_an_agent_that_they_built(house: House) -> None:
    with house.deps.control.tx("root") as tx:
        risk.confirm_compromised(tx, "agent", "billing", "it mailed strangers")
        risk.confirm_compromised(tx, "user", "mona", "phished")
    for operator, address, body in (
        ("mona", f"{USERS}/dismiss", {"userIds": ["mona"]}),
        ("ada", f"{AGENTS}/dismiss", {"agentIds": ["billing"]}),
    ):
        with pytest.raises(Denied):
            kind = "user" if "userIds" in body else "agent"
            decide(
                house.deps.control, house.deps.epoch, operator, kind, RiskVerdict.DISMISSED, next(iter(body.values())),
                address,
            )  # fmt: skip
    assert get(house, f"{USERS}/mona")["riskState"] == get(house, f"{AGENTS}/billing")["riskState"]


def test_our_own_api_dismisses_with_a_reason(house: House) -> None:
    with house.deps.control.tx("root") as tx:
        risk.note(tx, "user", "griffin", "leakedCredentials", RiskLevel.MEDIUM, source="idp", detail="a list")
    client = house.client(Role.SOC_OPERATOR)
    assert client.post("/api/risk/user/griffin/dismiss", json={"reason": " "}).status_code == 422
    assert client.post("/api/risk/user/griffin/dismiss", json={"reason": "an old list"}).status_code == 204
    found = get(house, "/api/risk/user/griffin")
    assert (found["risk"]["state"], found["history"][0]["because"]) == ("dismissed", "an old list")
