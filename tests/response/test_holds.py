"""Held calls: asked once, answered by somebody else, let out once, forgotten in time."""

from __future__ import annotations

from typing import Any

import pytest

from portal.house import House
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.response.holds import MOST_ASKED_AN_HOUR
from watchfloor.storage import actions
from watchfloor.storage.actions import Hold, HoldStatus


def pay(house: House, *, user: str = "griffin", amount: int = 25_000) -> str:
    invocation, verdict = house.call("bank", "pay", {"amount": amount, "payee": "x"}, user=user)
    assert verdict.effect.value == "hold"
    return invocation


def holds(house: House, status: HoldStatus | None = None) -> list[Hold]:
    with house.stores.control.read() as tx:
        return actions.list_holds(tx, status=status, limit=200)


def test_a_held_call_is_asked_once_with_what_was_recorded(house: House) -> None:
    invocation = pay(house)
    house.work()
    house.work()
    (hold,) = holds(house)
    assert (hold.invocation_id, hold.agent_id, hold.user_id, hold.tool) == (invocation, "billing", "griffin", "pay")
    assert hold.reason == "Payment of 25000.0 by Billing Agent"
    assert hold.status is HoldStatus.PENDING
    assert house.projected(Kind.APPROVAL, hold.id) is None


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


def test_nobody_answers_the_call_that_was_made_for_them(house: House) -> None:
    pay(house, user="griffin")
    house.work()
    (hold,) = holds(house)
    own = house.client(Role.OWNER, "griffin").post(f"/api/holds/{hold.id}/approve", json={})
    assert own.status_code == 403
    assert house.projected(Kind.APPROVAL, hold.id) is None
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
    house.clock.forward(minutes=2)
    house.work()
    assert house.projected(Kind.APPROVAL, hold.id) is None
    assert [h.status for h in holds(house)] == [HoldStatus.APPROVED]


def test_an_agent_that_asks_too_often_is_declined_unasked(house: House) -> None:
    for n in range(MOST_ASKED_AN_HOUR + 3):
        pay(house, amount=20_000 + n)
    house.work()
    found = holds(house)
    unasked = [h for h in found if h.status is HoldStatus.DECLINED]
    assert len(found) == MOST_ASKED_AN_HOUR + 3
    assert [h.decided_by for h in unasked] == ["system:holds"] * 3
    for hold in unasked:
        assert house.projected(Kind.APPROVAL, hold.id)["approved"] is False
    house.clock.forward(minutes=61)
    pay(house)
    house.work()
    assert holds(house)[0].status is HoldStatus.PENDING


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
    pay(house)
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
