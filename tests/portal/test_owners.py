"""Who answers for agents, through the API."""

from __future__ import annotations

from dataclasses import replace

import pytest

from portal.house import House
from watchfloor.model.people import Role
from watchfloor.storage import audit, people
from watchfloor.storage.audit_files import read_database


@pytest.mark.claim("agents-owned")
def test_an_agent_whose_owner_left_is_listed_and_handed_over(house: House) -> None:
    it = house.client(Role.IT_ADMIN)
    assert it.get("/api/orphans").json()["items"] == []
    with house.stores.control.tx("test") as tx:
        mona = people.find_user(tx, "mona")
        assert mona is not None
        people.save_user(tx, replace(mona, is_enabled=False))
    missing = {o["id"]: o["missing"] for o in it.get("/api/orphans").json()["items"]}
    assert missing == {
        "billing": {"owner": "mona is disabled"},
        "hr": {"maker": "mona is disabled", "owner": "mona is disabled"},
    }
    answer = it.post("/api/agents/hr/reassign", json={"maker": "ada", "owner": "ada", "reason": "mona left"})
    assert (answer.status_code, answer.json()["maker_id"], answer.json()["owner_id"]) == (200, "ada", "ada")
    assert [o["id"] for o in it.get("/api/orphans").json()["items"]] == ["billing"]
    for body, status in (
        ({"owner": "mona", "reason": "back"}, 409),
        ({"owner": "nobody-there", "reason": "who?"}, 404),
        ({"reason": "nothing"}, 422),
        ({"owner": "ada", "reason": " "}, 422),
        ({"owner": "ada", "reason": "again"}, 409),
    ):
        assert it.post("/api/agents/hr/reassign", json=body).status_code == status, body
    (entry,) = house.client(Role.AUDITOR).get("/api/audit", params={"action": "agent:reassign"}).json()["items"]
    assert (entry["actor"], entry["detail"]["reason"]) == ("op-it-admin", "mona left")
    report = audit.verify(read_database(f"sqlite:///{house.stores.control.label}"), [], None)
    assert [f for f in report.faults if "checkpoint" not in str(f).lower()] == []


@pytest.mark.claim("versions-approved-by-others")
def test_nobody_takes_their_own_name_off_an_agent_to_unblock_it(house: House) -> None:
    house.client(Role.IT_ADMIN).post("/api/agents/billing/block", json={"reason": "leaks"})
    for person, role in (("ada", "maker"), ("mona", "owner")):
        own = house.client(Role.OWNER, person)
        answer = own.post("/api/agents/billing/reassign", json={role: "griffin", "reason": "not mine"})
        assert (answer.status_code, "somebody else" in answer.text) == (403, True)
        assert own.post("/api/agents/billing/unblock", json={"reason": "trust me"}).status_code == 403
    assert (
        house.client(Role.IT_ADMIN)
        .post("/api/agents/billing/reassign", json={"maker": "griffin", "reason": "moved"})
        .status_code
        == 200
    )
    # Who built what is live did so, whoever answers for it now.
    assert house.client(Role.OWNER, "ada").post("/api/agents/billing/unblock", json={"reason": "x"}).status_code == 403
