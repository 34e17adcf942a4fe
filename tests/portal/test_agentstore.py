"""The Agent Store: what users see of agents, and what they do not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from portal.house import COMPANY, House
from watchfloor.model.people import Role


def offer(house: House) -> None:
    """Billing for the group sales, and for griffin; HR for everybody."""
    company = copy.deepcopy(COMPANY)
    company["users"][2]["groups"] = ["sales"]
    billing, hr = company["agents"]
    billing |= {"sharedWith": ["group:sales", "griffin"]}
    hr |= {"sharedWith": ["*"]}
    billing["tools"][0]["credential"] = "user"
    hr["tools"][0] |= {"credential": "maker", "makerCredential": {"value": "monas-key"}}
    answer = house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": yaml.safe_dump(company)})
    assert answer.status_code == 200, answer.text


def names(house: House, person: str, **params: Any) -> list[str]:
    answer = house.client(Role.USER, person).get("/api/store", params=params)
    assert answer.status_code == 200, answer.text
    return [found["id"] for found in answer.json()["items"]]


@pytest.mark.claim("agent-store")
def test_users_find_the_agents_that_are_shared_with_them_and_read_what_each_can_reach(house: House) -> None:
    assert names(house, "griffin") == []
    offer(house)
    assert names(house, "griffin") == names(house, "ada") == ["billing", "hr"]  # by name, and by group
    assert names(house, "mona") == ["hr"]
    assert names(house, "mona", everything=True) == ["billing", "hr"]
    assert names(house, "griffin", search="remind SENDS") == ["billing"]
    assert names(house, "griffin", search="payroll") == []
    griffin = house.client(Role.USER, "griffin")
    says = [a["says"] for agent in griffin.get("/api/store").json()["items"] for a in agent["access"]]
    assert says == [
        "Uses Bank to pay, with access of its own, whoever asks.",
        "Uses Mail to read, send, as you: it reaches only what you may.",
        "Uses Mail to read, as Mona Reyes, who built it, whoever asks.",
    ]
    assert "monas-key" not in griffin.get("/api/store/hr").text
    assert griffin.get("/api/agents").status_code == 403


@pytest.mark.claim("agent-store")
def test_a_blocked_agent_is_gone_from_the_store_for_those_who_had_it_too(house: House) -> None:
    offer(house)
    griffin, it = house.client(Role.USER, "griffin"), house.client(Role.IT_ADMIN)
    assert griffin.put("/api/store/billing", json={"pinned": True}).json()["is_pinned"]
    assert names(house, "griffin") == ["billing", "hr"]
    it.post("/api/agents/billing/block", json={"reason": "leaks"})
    assert names(house, "griffin", everything=True) == ["hr"]
    assert (
        griffin.get("/api/store/billing").status_code == griffin.put("/api/store/billing", json={}).status_code == 404
    )
    it.post("/api/agents/billing/unblock", json={"reason": "mended"})
    assert griffin.get("/api/store/billing").json()["is_pinned"]
    assert griffin.put("/api/store/hr", json={}).json()["is_installed"]
    assert griffin.delete("/api/store/hr").status_code == 204
    assert not griffin.get("/api/store/hr").json()["is_installed"]


@pytest.mark.claim("agent-store")
def test_somebody_asks_for_an_agent_and_another_lets_them_to_it(house: House) -> None:
    offer(house)
    mona, it = house.client(Role.OWNER, "mona"), house.client(Role.IT_ADMIN)
    assert mona.put("/api/store/billing", json={}).status_code == 403
    asked = mona.post("/api/store/billing/ask", json={"reason": "I answer for it."})
    assert (asked.status_code, asked.json()["state"]) == (201, "waiting")
    assert mona.post("/api/store/hr/ask", json={"reason": "it is mine already"}).status_code == 409
    assert house.client(Role.USER).post("/api/store/billing/ask", json={"reason": "I am no user"}).status_code == 403
    (waiting,) = it.get("/api/asks", params={"state": "waiting"}).json()["items"]
    assert (waiting["user_id"], waiting["agent_id"], waiting["reason"]) == ("mona", "billing", "I answer for it.")
    assert mona.post("/api/asks/billing/mona/grant", json={"reason": "me"}).status_code == 403
    assert it.post("/api/asks/billing/mona/grant", json={"reason": "sure"}).json()["state"] == "granted"
    assert it.post("/api/asks/billing/mona/decline", json={"reason": "no"}).status_code == 409
    assert names(house, "mona") == ["billing", "hr"]
    assert it.get("/api/agents/billing").json()["manifest"]["sharedWith"] == ["griffin", "group:sales", "mona"]


def test_an_agent_is_let_out_step_by_step_but_not_by_its_own_people(house: House) -> None:
    it = house.client(Role.IT_ADMIN)
    body = {"reason": "pilot", "audience": ["griffin"]}
    for person in ("ada", "mona"):
        assert house.client(Role.OWNER, person).put("/api/agents/billing/audience", json=body).status_code == 403
    assert it.put("/api/agents/billing/audience", json=body | {"audience": ["group:"]}).status_code == 422
    seen = []
    for audience in (["griffin"], ["griffin", "*"], []):
        assert it.put("/api/agents/billing/audience", json=body | {"audience": audience}).status_code == 200
        seen.append((names(house, "griffin"), names(house, "op-user")))
    assert seen == [(["billing"], []), (["billing"], ["billing"]), ([], [])]


def test_at_most_three_agents_are_pinned(house: House) -> None:
    company = copy.deepcopy(COMPANY)
    company["agents"] += [{"id": f"a{n}", "name": f"A {n}", "sharedWith": ["*"]} for n in range(4)]
    house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": yaml.safe_dump(company)})
    griffin = house.client(Role.USER, "griffin")
    answers = [griffin.put(f"/api/store/a{n}", json={"pinned": True}).status_code for n in range(4)]
    assert answers == [200, 200, 200, 409]
    assert griffin.put("/api/store/a0", json={}).status_code == 200
    assert griffin.put("/api/store/a3", json={"pinned": True}).status_code == 200
    assert names(house, "griffin") == ["a1", "a2", "a3", "a0"]
