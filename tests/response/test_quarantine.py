"""Confirming that an agent or a tool server is compromised: stopped at once, its surroundings listed, and undone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from portal.house import House
from response.responding import ask, outbox, response, states, steps
from watchfloor.identity import operators
from watchfloor.model.agents import AgentState
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.response.ports import Ports
from watchfloor.storage import holds, inventory
from watchfloor.storage.holds import HoldStatus
from watchfloor.storage.inventory import Agent


def add_agent(house: House, agent_id: str, name: str = "", children: tuple[str, ...] = ()) -> None:
    """A published agent with child agents."""
    with house.stores.control.tx("test") as tx:
        agent = Agent(
            agent_id, name or agent_id, AgentState.PUBLISHED, "1", tx.now, tx.now, "test",
            manifest={"childAgents": list(children)},
        )  # fmt: skip
        inventory.save_agent(tx, agent, "agent:create")


def state_of(house: House, agent_id: str) -> str:
    with house.stores.control.read() as tx:
        agent = inventory.find_agent(tx, agent_id)
    assert agent
    return agent.state.value


def give_children(house: House) -> None:
    """Billing has a reporter by name, whose own child is a scribe by id, and one that nobody registered."""
    add_agent(house, "scribe")
    add_agent(house, "reporter", "The Reporter", ("scribe", "billing"))
    with house.stores.control.tx("test") as tx:
        billing = inventory.find_agent(tx, "billing")
        assert billing
        manifest = {**billing.manifest, "childAgents": ["The Reporter", "somebody else's"]}
        inventory.save_agent(tx, replace(billing, manifest=manifest))


@pytest.mark.claim("response-agent")
def test_a_quarantined_agent_is_refused_at_once_with_its_secret_and_what_it_waited_for(house: House) -> None:
    house.call("bank", "pay", {"amount": 25_000, "to": "acct-1"})
    house.work()
    (hold,) = house.client(Role.OWNER).get("/api/holds?status=pending").json()["items"]
    answer = ask(house, "/api/agents/billing/confirm-compromised", reason="prompt-injected")
    assert answer.status_code == 200, answer.text
    found = house.projected(Kind.AGENT, "billing")
    assert found and (found["state"], found["risk"], found["epoch"]) == ("blocked", "high", 2)
    assert house.call("mail", "lookup", {"key": "1"})[1].effect.value == "block"
    with house.stores.control.read() as tx:
        declined = holds.find_hold(tx, hold["id"])
        agent = inventory.find_agent(tx, "billing")
    assert declined and (declined.status, declined.answer) == (HoldStatus.DECLINED, "prompt-injected")
    assert agent and agent.secret_hash is None
    response_id = answer.json()["proof"]["response"]
    outbox(house, Ports()).run()
    found_steps = steps(house, response_id)
    assert found_steps["credentials"]["evidence"]["secret"] == "revoked"
    assert "mail/* (app)" in found_steps["credentials"]["evidence"]["worked_with_credentials_of"]
    assert found_steps["holds"]["evidence"] == {"declined": 1, "approvals_taken_back": 0}
    assert found_steps["gateway"]["state"] == "done"
    assert found_steps["gateway"]["evidence"]["state"] == "blocked"
    assert response(house, response_id)["status"] == "done"


def test_an_approval_that_was_not_used_yet_is_taken_back(house: House) -> None:
    house.call("bank", "pay", {"amount": 25_000, "to": "acct-1"})
    house.work()
    client = house.client(Role.SECURITY_ADMIN)
    (hold,) = client.get("/api/holds?status=pending").json()["items"]
    assert client.post(f"/api/holds/{hold['id']}/approve", json={}).status_code == 200
    ask(house, "/api/agents/billing/confirm-compromised")
    assert client.get(f"/api/holds/{hold['id']}").json()["status"] == "revoked"


def test_child_agents_are_listed_and_left_alone(house: House) -> None:
    give_children(house)
    answer = ask(house, "/api/agents/billing/confirm-compromised")
    evidence = steps(house, answer.json()["proof"]["response"])["children"]["evidence"]
    assert evidence["declared"] == "The Reporter, billing, scribe, somebody else's"
    assert evidence["registered"] == evidence["left_as_they_are"] == "reporter, scribe"
    assert (state_of(house, "reporter"), state_of(house, "scribe")) == ("published", "published")


def test_child_agents_are_blocked_with_it_where_that_was_asked_for(house: House) -> None:
    give_children(house)
    answer = ask(house, "/api/agents/billing/confirm-compromised", revoke_children=True)
    assert steps(house, answer.json()["proof"]["response"])["children"]["evidence"]["blocked"] == "reporter, scribe"
    assert (state_of(house, "reporter"), state_of(house, "scribe"), state_of(house, "hr")) == (
        "blocked", "blocked", "published",
    )  # fmt: skip


@pytest.mark.claim("response-undone")
def test_an_agent_leaves_quarantine_only_by_being_released_and_not_by_whoever_built_it(house: House) -> None:
    response_id = ask(house, "/api/agents/billing/confirm-compromised").json()["proof"]["response"]
    plain = ask(house, "/api/agents/billing/unblock", Role.IT_ADMIN)
    assert plain.status_code == 403 and "Release it from quarantine" in plain.json()["detail"]
    for builder in ("ada", "mona"):
        own = ask(house, "/api/agents/billing/release", Role.SOC_OPERATOR, builder)
        assert own.status_code == 403 and "built agent billing" in own.json()["detail"]
    answer = ask(house, "/api/agents/billing/release", reason="fixed")
    assert answer.status_code == 200, answer.text
    assert answer.json()["proof"] | {"revision": 0} == {
        "state": "published", "agent_epoch": 2, "secret": "a new one is needed", "revision": 0,
    }  # fmt: skip
    found = house.projected(Kind.AGENT, "billing")
    assert found and (found["state"], found["risk"], found["epoch"]) == ("published", "none", 2)
    assert response(house, response_id)["outcome"] == "dismissed"
    assert ask(house, "/api/agents/billing/release").status_code == 409
    # An agent that was only blocked is unblocked as ever.
    assert ask(house, "/api/agents/hr/block", Role.IT_ADMIN).status_code == 200
    assert ask(house, "/api/agents/hr/unblock", Role.SECURITY_ADMIN).status_code == 200


def test_an_agent_that_is_released_before_it_was_read_back_is_not_shown_as_blocked(house: House) -> None:
    response_id = ask(house, "/api/agents/billing/confirm-compromised").json()["proof"]["response"]
    ask(house, "/api/agents/billing/release", reason="fixed")
    outbox(house, Ports()).run()
    assert states(house, response_id)["gateway"] == "skipped"


@pytest.mark.claim("response-server")
def test_a_compromised_tool_server_is_refused_for_every_agent_and_who_used_it_is_listed(house: House) -> None:
    for agent in ("billing", "hr"):
        assert house.call("mail", "lookup", {"key": "1"}, agent=agent)[1].effect.value == "allow"
    answer = ask(house, "/api/servers/mail/confirm-compromised", Role.IT_ADMIN)
    assert answer.status_code == 200, answer.text
    for agent in ("billing", "hr"):
        assert house.call("mail", "lookup", {"key": "1"}, agent=agent)[1].effect.value == "block"
    proof = answer.json()["proof"]
    assert (proof["tools_refused"], proof["agents_bound"]) == ("lookup, send_email", "billing, hr")
    outbox(house, Ports()).run()
    shown = response(house, proof["response"])
    assert {step["name"]: step["state"] for step in shown["steps"]} == {
        "local": "done", "gateway": "done", "notify": "skipped",
    }  # fmt: skip
    # The other server is not concerned.
    assert house.call("bank", "pay", {"amount": 5})[1].reasons[0].code != "server_blocked"

    assert ask(house, "/api/servers/mail/release", Role.IT_ADMIN, reason="new version").status_code == 200
    assert house.call("mail", "lookup", {"key": "1"})[1].effect.value == "allow"
    assert response(house, proof["response"])["outcome"] == "dismissed"
    assert ask(house, "/api/servers/mail/release", Role.IT_ADMIN).status_code == 409


@pytest.mark.parametrize("path", ["/api/agents/none", "/api/servers/none", "/api/users/none"])
def test_what_does_not_exist_cannot_be_confirmed(house: House, path: str) -> None:
    assert ask(house, f"{path}/confirm-compromised", Role.OWNER).status_code == 404


def test_the_page_asks_whether_child_agents_go_with_it(house: House) -> None:
    give_children(house)
    browser = house.browser(Role.SECURITY_ADMIN)
    page = browser.get("/act/confirm_agent_compromised?subject=billing")
    assert 'name="revoke_children"' in page.text and "Block its child agents" in page.text
    form = {
        "csrf": browser.headers["x-test-csrf"], "subject": "billing", "reason": "injected", "revoke_children": "yes",
    }  # fmt: skip
    done = browser.post("/act/confirm_agent_compromised", data=form)
    assert done.status_code == 200 and "/responses/rsp_" in done.text
    assert state_of(house, "scribe") == "blocked"


def test_a_page_never_says_done_of_what_waits_for_a_second_operator(house: House) -> None:
    with house.stores.control.tx("test") as tx:
        operators.create(tx, "griffin", None, [Role.SOC_ANALYST])
    browser = house.browser(Role.SECURITY_ADMIN)
    form = {"csrf": browser.headers["x-test-csrf"], "subject": "griffin", "reason": "stolen"}
    page = browser.post("/act/confirm_user_compromised", data=form)
    assert page.status_code == 200
    assert "<h1>Asked for</h1>" in page.text and "Nothing was done yet" in page.text
    listed = browser.get("/responses")
    assert "Waits for approval" in listed.text
    (record,) = browser.get("/api/users/griffin").json()["records"]
    assert record["status"] == "asked"
