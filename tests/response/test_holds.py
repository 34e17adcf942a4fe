"""Held calls: asked once, answered by somebody else, let out once, forgotten in time."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from portal.house import House
from watchfloor.content import policies as shipped_policies
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.registry import policies
from watchfloor.response.holds import AskLimits, create_holds
from watchfloor.storage import holds as stored
from watchfloor.storage.actions import list_audit
from watchfloor.storage.claims import Claims
from watchfloor.storage.holds import Hold, HoldStatus
from watchfloor.storage.ports import Seq
from watchfloor.storage.rows import is_packed, unpack
from watchfloor.storage.tables import TABLES


def pay(house: House, *, user: str = "griffin", amount: int = 25_000) -> str:
    invocation, verdict = house.call("bank", "pay", {"amount": amount, "payee": "x"}, user=user)
    assert verdict.effect.value == "hold"
    return invocation


def holds(house: House, status: HoldStatus | None = None) -> list[Hold]:
    with house.stores.control.read() as tx:
        return stored.list_holds(tx, status=status, limit=200)


def projected(house: House, kind: Kind, key: str) -> dict[str, Any]:
    found = house.projected(kind, key)
    assert found is not None
    return found


def test_a_held_call_is_asked_once_with_what_was_recorded(house: House) -> None:
    invocation = pay(house)
    house.work()
    house.work()
    (hold,) = holds(house)
    assert (hold.invocation_id, hold.agent_id, hold.user_id, hold.tool) == (invocation, "billing", "griffin", "pay")
    assert hold.reason == "Payment of 25000.0 by Billing Agent"
    assert hold.status is HoldStatus.PENDING
    assert projected(house, Kind.APPROVAL, hold.id)["answer"] == "pending"


def test_an_allowed_or_blocked_call_asks_nobody(house: House) -> None:
    house.call("mail", "lookup", {})
    house.call("mail", "send_email", {"to": ["x@evil.example"]})
    house.work()
    assert holds(house) == []


@pytest.mark.parametrize(("verb", "approved"), [("approve", True), ("decline", False)])
def test_an_answer_reaches_the_gateways_with_the_payload_that_it_is_for(
    house: House, verb: str, approved: bool
) -> None:
    pay(house)
    house.work()
    (hold,) = holds(house)
    answer = house.client(Role.SOC_OPERATOR).post(f"/api/holds/{hold.id}/{verb}", json={"reason": "called them"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["epoch"] >= answer.json()["revision"]
    projected = house.projected(Kind.APPROVAL, hold.id)
    assert projected is not None
    assert (projected["approved"], projected["payload_hash"]) == (approved, hold.payload_hash)
    again = house.client(Role.SOC_OPERATOR).post(f"/api/holds/{hold.id}/approve", json={})
    assert (again.status_code, "op-soc-operator" in again.json()["detail"]) == (409, True)


@pytest.mark.asvs("2.3.5")
def test_nobody_answers_the_call_that_was_made_for_them(house: House) -> None:
    pay(house, user="griffin")
    house.work()
    (hold,) = holds(house)
    own = house.client(Role.OWNER, "griffin").post(f"/api/holds/{hold.id}/approve", json={})
    assert own.status_code == 403
    assert projected(house, Kind.APPROVAL, hold.id)["approved"] is False
    other = house.client(Role.OWNER, "olga").post(f"/api/holds/{hold.id}/approve", json={})
    assert other.status_code == 200


@pytest.mark.parametrize("role", [Role.SOC_ANALYST, Role.IT_ADMIN, Role.AUDITOR, Role.MAKER])
def test_roles_without_the_permission_answer_nothing(house: House, role: Role) -> None:
    pay(house)
    house.work()
    (hold,) = holds(house)
    assert house.client(role).post(f"/api/holds/{hold.id}/approve", json={}).status_code == 403


def test_a_hold_that_nobody_answers_expires_and_cannot_be_approved_afterwards(house: House) -> None:
    pay(house)
    house.work()
    (hold,) = holds(house)
    house.clock.forward(minutes=16)
    late = house.client(Role.SOC_OPERATOR).post(f"/api/holds/{hold.id}/approve", json={})
    assert late.status_code == 409
    house.work()
    assert [h.status for h in holds(house)] == [HoldStatus.EXPIRED]


def test_a_record_that_arrives_after_its_hold_has_expired_asks_nobody(house: House) -> None:
    pay(house)
    house.clock.forward(minutes=20)
    house.work()
    assert [h.status for h in holds(house)] == [HoldStatus.EXPIRED]


def test_an_approval_is_valid_long_enough_to_be_used_and_is_then_taken_from_the_gateways(house: House) -> None:
    pay(house)
    house.clock.forward(minutes=14)
    house.work()
    (hold,) = holds(house)
    house.client(Role.SOC_OPERATOR).post(f"/api/holds/{hold.id}/approve", json={})
    house.clock.forward(minutes=9)
    house.work()
    assert house.projected(Kind.APPROVAL, hold.id) is not None
    house.clock.forward(minutes=3)
    house.work()
    assert house.projected(Kind.APPROVAL, hold.id) is None
    assert [h.status for h in holds(house)] == [HoldStatus.EXPIRED]


def test_nobody_is_asked_about_more_calls_of_an_agent_and_user_than_the_limit(house: House) -> None:
    most = AskLimits().per_agent
    for n in range(most + 3):
        pay(house, amount=20_000 + n)
        house.clock.forward(seconds=10)
    house.work()
    found = holds(house)
    unasked = [h for h in found if h.status is HoldStatus.LIMITED]
    assert (len(found), len(unasked)) == (most + 3, 3)
    for hold in unasked:
        assert projected(house, Kind.APPROVAL, hold.id)["answer"] == "limited"
        late = house.client(Role.SOC_OPERATOR).post(f"/api/holds/{hold.id}/approve", json={})
        assert late.status_code == 409
    limit = projected(house, Kind.HOLD_LIMIT, "billing/griffin")
    assert datetime.fromisoformat(limit["until"]) == found[-1].created_at + timedelta(hours=1)
    # Another user of the same agent is not limited by it.
    pay(house, user="mona")
    house.work()
    assert holds(house)[0].status is HoldStatus.PENDING
    house.clock.forward(minutes=61)
    house.work()
    assert house.projected(Kind.HOLD_LIMIT, "billing/griffin") is None
    pay(house)
    house.work()
    assert holds(house)[0].status is HoldStatus.PENDING


def test_the_same_approvers_are_asked_so_often_and_no_more_whoever_asks(house: House) -> None:
    limits = AskLimits(per_agent=100, per_approver=4)
    for n, user in enumerate(("griffin", "mona", "ada", "griffin", "mona", "ada")):
        pay(house, user=user, amount=20_000 + n)
    create_holds(house.stores.control, house.deps.activity, limits)
    assert sorted(h.status.value for h in holds(house)) == ["limited"] * 2 + ["pending"] * 4


def test_the_very_same_call_held_twice_is_asked_once_and_answered_together(house: House) -> None:
    first, second = pay(house), pay(house)
    house.work()
    (hold,) = holds(house)
    assert hold.invocation_id in (first, second)
    (other,) = [row["HoldId"] for row in house.deps.activity.holds_after(0, 1 << 60, 9) if row["HoldId"] != hold.id]
    assert projected(house, Kind.APPROVAL, other)["answer"] == "pending"
    assert house.client(Role.SOC_OPERATOR).post(f"/api/holds/{other}/approve", json={}).status_code == 200
    for id_ in (hold.id, other):
        assert projected(house, Kind.APPROVAL, id_)["approved"] is True
    assert projected(house, Kind.APPROVAL, other)["root"] == hold.id


def used(house: House, hold: Hold) -> None:
    """As a gateway records the call that an approval let out."""
    (decision,) = house.deps.activity.find_decision(hold.invocation_id)
    row: dict[str, Any] = {n: v for n, v in decision.items() if n not in ("IngestSeq", "IngestTime")}
    row |= {"InvocationId": "inv_out", "ReportId": "evt_out", "HoldId": hold.id, "Verdict": "allow"}
    house.stores.write("AgentActivity", [row])


def test_an_approval_that_was_used_says_by_which_call_and_cannot_be_taken_back(house: House) -> None:
    pay(house)
    house.work()
    (hold,) = holds(house)
    client = house.client(Role.SOC_OPERATOR)
    client.post(f"/api/holds/{hold.id}/approve", json={"reason": "called them"})
    used(house, hold)
    house.work()
    (after,) = holds(house)
    assert (after.status, after.used_by, after.answer) == (HoldStatus.USED, "inv_out", "called them")
    assert projected(house, Kind.APPROVAL, hold.id)["answer"] == "used"
    assert client.post(f"/api/holds/{hold.id}/revoke", json={}).status_code == 409


@pytest.mark.asvs("2.3.4")
def test_an_approval_is_taken_back_before_it_is_used_and_never_after_its_use_was_taken(
    house: House, tmp_path: Path
) -> None:
    claims = Claims.open(f"sqlite:///{tmp_path / 'control.db'}")
    client = house.client(Role.SOC_OPERATOR)
    for n, is_taken in enumerate((False, True)):
        pay(house, amount=20_000 + n)
        house.work()
        hold = holds(house)[0]
        client.post(f"/api/holds/{hold.id}/approve", json={})
        if is_taken:
            assert claims.take(hold.id, "inv_x", 1)
        answer = client.post(f"/api/holds/{hold.id}/revoke", json={"reason": "wrong payee"})
        assert answer.status_code == (409 if is_taken else 200), answer.text
        assert projected(house, Kind.APPROVAL, hold.id)["approved"] is is_taken
        assert not claims.take(hold.id, "inv_y", 1)


def test_an_approval_whose_taker_died_counts_as_used_once_it_is_long_over(house: House, tmp_path: Path) -> None:
    pay(house)
    house.work()
    (hold,) = holds(house)
    house.client(Role.SOC_OPERATOR).post(f"/api/holds/{hold.id}/approve", json={})
    Claims.open(f"sqlite:///{tmp_path / 'control.db'}").take(hold.id, "inv_died", 1)
    house.clock.forward(minutes=45)
    house.work()
    (after,) = holds(house)
    assert (after.status, after.used_by) == (HoldStatus.USED, "inv_died")


def events(house: House) -> list[dict[str, Any]]:
    """What the log has of holds, in order."""
    house.work("publish_holds")
    found = house.log.read("main", Seq(0), 10_000)
    typed = [unpack(TABLES[b.table], [b.batch]) if is_packed(b.batch) else b.batch for b in found]
    return [row for batch in typed for row in batch.to_pylist() if row.get("SourceDoor") == "holds"]


@pytest.mark.claim("hold-hunting")
def test_what_happens_to_a_hold_is_on_record_for_hunting_once(house: House) -> None:
    client = house.client(Role.SOC_OPERATOR)
    for n, verb in enumerate(("approve", "decline", "")):
        pay(house, amount=20_000 + n)
        house.work()
        if verb:
            client.post(f"/api/holds/{holds(house)[0].id}/{verb}", json={"reason": "called them"})
    hold = next(h for h in holds(house) if h.status is HoldStatus.APPROVED)
    used(house, hold)
    house.clock.forward(minutes=16)
    house.work()
    told = events(house)
    assert [r["ActionType"] for r in told] == [
        "HoldCreated", "HoldApproved", "HoldCreated", "HoldDeclined", "HoldCreated", "HoldUsed", "HoldExpired",
    ]  # fmt: skip
    approved = told[1]
    assert (approved["HoldId"], approved["AgentId"], approved["ToolName"]) == (hold.id, "billing", "pay")
    said = json.loads(approved["AdditionalFields"])
    assert (said["by"], said["reason"]) == ("op-soc-operator", "called them")
    assert told[5]["InvocationId"] == "inv_out"
    assert len(events(house)) == len(told)


@pytest.mark.claim("hold-fatigue")
def test_an_agent_that_wears_its_approvers_out_raises_an_alert_and_a_busy_one_does_not(house: House) -> None:
    for n in range(AskLimits().per_agent):
        pay(house, amount=20_000 + n)
    house.work()
    assert alerts(house) == []
    pay(house, amount=90_000)
    house.work()
    for row in events(house):
        house.stores.write("AgentActivity", [{n: v for n, v in row.items() if n not in ("IngestSeq", "IngestTime")}])
    house.work("run_detection")
    assert alerts(house) == [("approval-fatigue", "Approval fatigue", "medium")]


def alerts(house: House) -> list[tuple[str, str, str]]:
    found = house.client(Role.SOC_ANALYST).get("/api/alerts").json()["items"]
    return [(a["rule_id"], a["title"], a["severity"]) for a in found]


# -- who may answer -----------------------------------------------------------------------------------------------


@pytest.mark.asvs("2.3.5")
@pytest.mark.claim("hold-own")
@pytest.mark.parametrize("who", ["ada", "mona"])
def test_nobody_answers_a_call_of_an_agent_that_they_made_or_own(house: House, who: str) -> None:
    pay(house)
    house.work()
    (hold,) = holds(house)
    for verb in ("approve", "decline"):
        assert house.client(Role.OWNER, who).post(f"/api/holds/{hold.id}/{verb}", json={}).status_code == 403
    assert house.client(Role.SOC_OPERATOR).post(f"/api/holds/{hold.id}/approve", json={}).status_code == 200


def large_payments(house: House, **more: Any) -> None:
    """Republish the policy that holds payments, with more members."""
    body = next(p for p in shipped_policies() if p["id"] == "large-payment") | more
    with house.stores.control.tx("test") as tx:
        policies.publish(tx, body)


def test_where_a_policy_names_approvers_it_takes_one_of_them(house: House) -> None:
    large_payments(house, approvers=["security_admin", "olga"])
    pay(house)
    house.work()
    (hold,) = holds(house)
    assert hold.approvers == [["security_admin", "olga"]]
    refused = house.client(Role.SOC_OPERATOR).post(f"/api/holds/{hold.id}/approve", json={})
    assert (refused.status_code, "security_admin, olga" in refused.json()["detail"]) == (403, True)
    assert house.client(Role.SOC_OPERATOR, "olga").post(f"/api/holds/{hold.id}/approve", json={}).status_code == 200


def test_where_a_policy_asks_for_two_approvals_it_takes_two_people(house: House) -> None:
    large_payments(house, approvals=2)
    pay(house)
    house.work()
    (hold,) = holds(house)
    first, second = house.client(Role.SOC_OPERATOR), house.client(Role.SECURITY_ADMIN)
    assert first.post(f"/api/holds/{hold.id}/approve", json={}).json()["proof"]["approvals"] == "1 of 2"
    assert projected(house, Kind.APPROVAL, hold.id)["approved"] is False
    assert first.post(f"/api/holds/{hold.id}/approve", json={}).status_code == 409
    assert second.post(f"/api/holds/{hold.id}/approve", json={}).status_code == 200
    assert projected(house, Kind.APPROVAL, hold.id)["approved"] is True
    assert [a["by"] for a in holds(house)[0].approvals] == ["op-soc-operator", "op-security-admin"]


def lend(house: House, role: Role, name: str = "", hours: int = 8, **to: str) -> dict[str, Any]:
    ends = (house.clock() + timedelta(hours=hours)).isoformat()
    answer = house.client(role, name).post("/api/holds/delegations", json={**to, "ends_at": ends, "reason": "leave"})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_whoever_is_lent_the_right_answers_until_it_ends_and_the_record_says_for_whom(house: House) -> None:
    analyst = house.client(Role.SOC_ANALYST)
    pay(house, amount=20_001)
    house.work()
    (hold,) = holds(house)
    assert analyst.post(f"/api/holds/{hold.id}/approve", json={}).status_code == 403
    lend(house, Role.SOC_OPERATOR, to_operator="op-soc-analyst")
    assert analyst.post(f"/api/holds/{hold.id}/approve", json={}).json()["proof"]["instead_of"] == "op-soc-operator"
    lend(house, Role.SOC_OPERATOR, to_role="auditor")
    house.clock.forward(hours=9)
    pay(house, amount=20_002)
    house.work()
    hold = holds(house)[0]
    for role in (Role.SOC_ANALYST, Role.AUDITOR):
        assert house.client(role).post(f"/api/holds/{hold.id}/approve", json={}).status_code == 403
    again = lend(house, Role.SOC_OPERATOR, to_role="auditor")
    listed = house.client(Role.AUDITOR).get("/api/holds/delegations").json()
    assert again["id"] in [d["id"] for d in listed]
    ended = house.client(Role.SOC_OPERATOR).post(f"/api/holds/delegations/{again['id']}/end", json={})
    assert ended.status_code == 200
    assert house.client(Role.AUDITOR).post(f"/api/holds/{hold.id}/approve", json={}).status_code == 403


@pytest.mark.claim("hold-delegation")
def test_a_delegation_lends_nothing_that_the_lender_could_not_do(house: House) -> None:
    pay(house)
    house.work()
    (hold,) = holds(house)
    # Mona owns the agent: whoever stands in for her cannot approve its calls in her place.
    lend(house, Role.OWNER, "mona", to_operator="op-soc-analyst")
    assert house.client(Role.SOC_ANALYST).post(f"/api/holds/{hold.id}/approve", json={}).status_code == 403
    # What is lent is not handed on.
    lend(house, Role.SOC_OPERATOR, to_operator="op-auditor")
    ends = (house.clock() + timedelta(hours=1)).isoformat()
    onward = {"to_operator": "op-soc-analyst", "ends_at": ends}
    assert house.client(Role.AUDITOR).post("/api/holds/delegations", json=onward).status_code == 403
    # Nor does it make two approvals of one person's right.
    large_payments(house, approvals=2)
    pay(house, amount=30_000)
    house.work()
    hold = holds(house)[0]
    assert house.client(Role.SOC_OPERATOR).post(f"/api/holds/{hold.id}/approve", json={}).status_code == 200
    assert house.client(Role.AUDITOR).post(f"/api/holds/{hold.id}/approve", json={}).status_code == 403


@pytest.mark.parametrize(
    ("to", "hours"),
    [
        ({}, 1),
        ({"to_operator": "op-auditor", "to_role": "auditor"}, 1),
        ({"to_operator": "nobody"}, 1),
        ({"to_operator": "op-soc-operator"}, 1),
        ({"to_role": "user"}, 1),
        ({"to_role": "auditor"}, -1),
        ({"to_role": "auditor"}, 24 * 91),
    ],
)
def test_what_cannot_be_delegated_is_refused_with_a_reason(house: House, to: dict[str, str], hours: int) -> None:
    ends = (house.clock() + timedelta(hours=hours)).isoformat()
    answer = house.client(Role.SOC_OPERATOR).post("/api/holds/delegations", json={**to, "ends_at": ends})
    assert answer.status_code in (400, 404, 422) and answer.json()["detail"]


@pytest.mark.asvs("8.2.2")
def test_makers_see_the_holds_of_their_agents_without_what_is_in_them_and_nobody_elses(house: House) -> None:
    pay(house)
    house.work()
    (hold,) = holds(house)
    maker = house.client(Role.MAKER, "ada")
    (seen,) = maker.get("/api/holds").json()["items"]
    assert (seen["id"], seen["reason"], seen["policies"]) == (hold.id, "", ["large-payment"])
    assert maker.get(f"/api/holds/{hold.id}").json()["reason"] == ""
    assert maker.get(f"/api/holds/{hold.id}/content").status_code == 403
    stranger = house.client(Role.MAKER)
    assert stranger.get("/api/holds").json()["items"] == []
    assert stranger.get(f"/api/holds/{hold.id}").status_code == 404
    read = house.client(Role.SOC_OPERATOR).get(f"/api/holds/{hold.id}/content")
    assert read.json()["items"][0]["Content"]["arguments"] == {"amount": 25_000, "payee": "x"}
    with house.stores.control.read() as tx:
        (entry,) = list_audit(tx, action="content:read")
    assert entry.detail["invocations"] == [hold.invocation_id]


@pytest.mark.parametrize(
    "fields", [None, "", "{}", '{"hold": 1}', '{"hold": {"payload_hash": "x"}}', "[", '{"hold": {}}']
)
def test_a_record_that_names_no_hold_is_passed_over(house: House, fields: str | None) -> None:
    pay(house)
    house.work()
    (decision,) = house.deps.activity.find_decision(holds(house)[0].invocation_id)
    broken: dict[str, Any] = {n: v for n, v in decision.items() if n not in ("IngestSeq", "IngestTime")}
    broken |= {"InvocationId": "inv_broken", "HoldId": "hold_broken", "AdditionalFields": fields}
    house.stores.write("AgentActivity", [broken])
    pay(house, amount=30_000)
    house.work()
    assert {h.status for h in holds(house)} == {HoldStatus.PENDING}
    assert len(holds(house)) == 2


def test_holds_are_listed_by_state_and_in_pages(house: House) -> None:
    for n in range(5):
        pay(house, amount=20_000 + n)
    house.work()
    client = house.client(Role.SOC_ANALYST)
    assert len(client.get("/api/holds", params={"status": "pending"}).json()["items"]) == 5
    assert client.get("/api/holds", params={"status": "approved"}).json()["items"] == []
    first = client.get("/api/holds", params={"limit": 3}).json()
    rest = client.get("/api/holds", params={"limit": 3, "before": first["next"]}).json()
    assert len({h["id"] for h in first["items"] + rest["items"]}) == 5
