"""What could this agent, user or credential reach?"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from portal.house import House
from watchfloor.model.people import Role
from watchfloor.registry.credentials import maker_credential_id

SECRET = "ada-own-bank-secret-0123456789"
MORE: dict[str, Any] = {
    "apiVersion": "watchfloor/v1",
    "kind": "Company",
    "users": [
        {"id": "nina", "name": "Nina", "upn": "nina@zava.example", "groups": ["finance"]},
        {"id": "eve", "name": "Eve", "upn": "eve@zava.example"},
    ],
    "agents": [
        {"id": "front", "name": "Front Desk", "version": "1", "maker": "mona", "owner": "mona",
         "connectedAgents": ["payer"], "sharedWith": ["group:finance"], "childAgents": ["Wording"],
         "knowledge": [{"name": "Handbook", "url": "https://zava.example/handbook"}],
         "platformTools": [{"name": "Send a mail", "operation": "SendEmailV2", "credential": "maker"}],
         "tools": [{"server": "mail", "tool": "*", "credential": "app", "scope": "read"}]},
        {"id": "payer", "name": "Payer", "version": "1", "maker": "ada", "owner": "ada", "connectedAgents": ["front"],
         "tools": [{"server": "bank", "tool": "pay", "credential": "maker", "scope": "write",
                    "makerCredential": {"value": SECRET}}]},
        {"id": "twin", "name": "Twin", "version": "1", "maker": "ada", "owner": "ada",
         "tools": [{"server": "mail", "tool": "send_email", "credential": "maker", "scope": "write",
                    "makerCredential": {"value": SECRET}}]},
    ],
}  # fmt: skip


@pytest.fixture
def larger(house: House) -> House:
    """The company with a front desk that hands over to an agent that pays."""
    answer = house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": yaml.safe_dump(MORE)})
    assert answer.status_code == 200, answer.text
    return house


def _ask(house: House, role: Role = Role.SOC_ANALYST, **params: Any) -> dict[str, Any]:
    answer = house.client(role).get("/api/blast-radius", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _by_id(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {r["id"]: r for r in found["reached"]}


def _way(reached: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["link"], step["target"]) for step in reached["path"]]


@pytest.mark.claim("blast-radius")
def test_an_agent_reaches_through_the_agents_that_it_hands_over_to(larger: House) -> None:
    found = _ask(larger, agent="front")
    reached = _by_id(found)
    assert found["worst"] == "pay"
    assert _way(reached["tool:bank/pay"]) == [("hands over to", "agent:payer"), ("may call", "tool:bank/pay")]
    assert (reached["tool:bank/pay"]["depth"], reached["tool:bank/pay"]["level"]) == (2, "pay")
    assert reached["tool:bank/pay"]["path"][-1]["credential"] == "maker"
    assert reached["tool:mail/lookup"]["stopped"] == ""
    assert reached["tool:mail/send_email"]["stopped"] == "the binding is for reading only"
    assert reached["childAgent:front/Wording"]["name"] == "Wording"
    assert "dataSource:https://zava.example/handbook" in reached
    assert reached["platformTool:front/Send a mail"]["level"] == "send"
    assert reached["toolServer:bank"]["depth"] == 3
    assert "agent:front" not in reached, "the two hand over to one another, and the walk ends"
    levels = [r["level"] for r in found["reached"] if r["level"] and not r["stopped"]]
    assert levels == sorted(levels, key=["pay", "send", "write", "read"].index)


@pytest.mark.claim("blast-radius")
def test_a_user_reaches_the_agents_that_are_shared_with_her_groups_and_nobody_else_does(larger: House) -> None:
    nina = _by_id(_ask(larger, user="nina"))
    assert _way(nina["tool:bank/pay"]) == [
        ("member of", "group:finance"), ("may use", "agent:front"), ("hands over to", "agent:payer"),
        ("may call", "tool:bank/pay"),
    ]  # fmt: skip
    assert {id_ for id_ in _by_id(_ask(larger, user="eve")) if not id_.startswith("group:")} == set()


@pytest.mark.claim("blast-radius")
def test_a_maker_reaches_everything_that_runs_on_her_stored_credentials(larger: House) -> None:
    ada = _by_id(_ask(larger, user="ada"))
    credential = maker_credential_id("payer", "bank", "pay")
    assert _way(ada["tool:bank/pay"]) == [
        ("has given", f"credential:{credential}"),
        ("gives access to", "tool:bank/pay"),
    ]
    assert ada["tool:mail/send_email"]["stopped"] == ""
    assert _way(ada["agent:payer"]) in ([("made", "agent:payer")], [("owns", "agent:payer")])


@pytest.mark.claim("blast-radius")
def test_a_credential_reaches_every_tool_that_runs_on_it_through_whichever_agent(larger: House) -> None:
    found = _ask(larger, credential=maker_credential_id("payer", "bank", "pay"))
    assert {id_ for id_ in _by_id(found) if id_.startswith("tool:")} == {"tool:bank/pay"}
    assert found["start"]["properties"] == {
        "owner": "maker", "givenBy": "ada", "isStored": True, "agents": ["payer"],
    }  # fmt: skip
    assert SECRET not in str(found)
    app = _ask(larger, credential="server/mail")
    assert {id_ for id_ in _by_id(app) if id_.startswith("tool:")} == {"tool:mail/lookup", "tool:mail/send_email"}
    assert app["start"]["properties"]["agents"] == ["billing", "front", "hr"]


def test_an_agent_is_told_what_it_runs_on_and_gets_no_other_agents_tools_by_it(larger: House) -> None:
    reached = _by_id(_ask(larger, agent="hr"))
    assert "credential:server/mail" in reached
    assert {id_ for id_ in reached if id_.startswith("tool:")} == {"tool:mail/lookup"}


def test_what_was_used_in_the_last_month_is_told_apart_from_what_is_only_granted(larger: House) -> None:
    larger.call("mail", "lookup", {"key": "1"}, agent="hr", user="mona")
    larger.call("mail", "lookup", {"key": "2"}, agent="billing")
    larger.call("mail", "send_email", {"to": ["drop@evil.example"]}, agent="billing")
    used = _by_id(_ask(larger, agent="hr"))["tool:mail/lookup"]
    assert (used["calls"], used["last_used"][:10]) == (1, "2026-11-03")
    blocked = _by_id(_ask(larger, agent="billing"))
    assert blocked["tool:mail/send_email"]["calls"] == 0, "a call that was stopped is no use"
    assert blocked["tool:bank/pay"]["calls"] == 0
    larger.clock.forward(days=31)
    assert _by_id(_ask(larger, agent="hr"))["tool:mail/lookup"]["calls"] == 0
    hidden = _by_id(_ask(larger, Role.IT_ADMIN, agent="hr"))["tool:mail/lookup"]
    assert (hidden["calls"], hidden["last_used"]) == (None, None), "the IT role reads no decisions"


def test_a_blocked_agent_reaches_nothing_as_things_stand_and_it_is_said_why(larger: House) -> None:
    answer = larger.client(Role.OWNER).post("/api/agents/payer/block", json={"reason": "stolen"})
    assert answer.status_code == 200, answer.text
    found = _ask(larger, agent="front")
    pay = _by_id(found)["tool:bank/pay"]
    assert pay["stopped"] == "agent payer is blocked"
    assert found["worst"] == "send", "its platform's own mail is left"
    assert found["stopped"] >= 2


def test_the_answer_is_paged_and_the_same_at_each_request(larger: House) -> None:
    whole = _ask(larger, agent="front")
    paged, after = [], "0"
    while after is not None:
        page = _ask(larger, agent="front", after=after, limit=3)
        paged += page["reached"]
        after = page["next"]
    assert paged == whole["reached"] == _ask(larger, agent="front")["reached"]
    assert len(paged) == whole["total"]


@pytest.mark.parametrize(
    ("params", "status", "where"),
    [
        ({}, 422, "agent"),
        ({"agent": "hr", "user": "mona"}, 422, "user"),
        ({"agent": "none"}, 404, "agent"),
        ({"user": "none"}, 404, "user"),
        ({"credential": "none"}, 404, "credential"),
    ],
)
def test_one_thing_that_exists_is_asked_about(attacked: House, params: dict[str, str], status: int, where: str) -> None:
    answer = attacked.client(Role.SOC_ANALYST).get("/api/blast-radius", params=params)
    assert (answer.status_code, answer.json()["where"]) == (status, where)
