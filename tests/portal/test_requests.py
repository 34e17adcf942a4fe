"""Makers submit, somebody else decides: what is live meanwhile, and who may not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from portal.house import COMPANY, House
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.registry import inventory as registry

BILLING: dict[str, Any] = {k: v for k, v in COMPANY["agents"][0].items() if k not in ("secret", "maker", "owner")}
READS = {"server": "mail", "tool": "lookup", "credential": "user", "scope": "read"}
NEW = {"id": "faq", "name": "FAQ Agent", "sharedWith": ["*"], "platformIds": {"app": "a-1"}, "tools": [READS]}
REASON = {"reason": "looked at"}


def manifest(agent: dict[str, Any], **more: Any) -> dict[str, Any]:
    whole = {"apiVersion": "watchfloor/v1", "kind": "Company", "agents": [agent], **more}
    return {"manifest": yaml.safe_dump(copy.deepcopy(whole))}


def submit(client: TestClient, agent: dict[str, Any], note: str = "") -> dict[str, Any]:
    answer = client.post("/api/requests", json=manifest(agent) | {"note": note})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def facts(house: House, agent: str = "billing") -> tuple[str, str]:
    found = house.projected(Kind.AGENT, agent)
    assert found is not None
    return found["state"], found["version"]


@pytest.mark.claim("story-resubmit")
def test_a_blocked_agent_comes_back_as_the_version_that_its_maker_mended_and_somebody_else_approved(
    house: House,
) -> None:
    ada, it = house.client(Role.MAKER, "ada"), house.client(Role.IT_ADMIN)
    it.post("/api/agents/billing/block", json={"reason": "mails records to the outside"})
    asked = submit(ada, {**BILLING, "version": "2", "tools": [READS]}, "No longer sends mail.")
    assert (asked["number"], asked["state"], asked["created_by"]) == (2, "submitted", "ada")
    assert {c["check"]: c["outcome"] for c in asked["checks"]} == {
        "manifest": "passed", "build": "passed", "changes": "passed", "tools": "warned",
    }  # fmt: skip
    assert [d["where"] for d in asked["differences"] if d["reach"] == "narrower"] == [
        "tools[bank/pay]", "tools[mail/*]", "tools[mail/lookup]",
    ]  # fmt: skip
    assert asked["may_not"].endswith("agent.approve.")
    (listed,) = it.get("/api/requests", params={"state": "submitted"}).json()["items"]
    assert (listed["agent_id"], listed["agent_state"], listed["note"]) == (
        "billing",
        "blocked",
        "No longer sends mail.",
    )
    assert it.get("/api/requests/billing/2").json()["may_not"] == ""

    done = it.post("/api/requests/billing/2/approve", json=REASON | {"conditions": "Only until spring."}).json()
    assert (done["proof"]["version_state"], done["proof"]["state"]) == ("approved", "blocked")
    assert facts(house) == ("blocked", "1")
    refused = it.post("/api/agents/billing/unblock", json={"reason": "mended", "version": 7})
    assert (refused.status_code, "Possible: 1 or 2" in refused.text) == (409, True)
    assert it.post("/api/agents/billing/unblock", json={"reason": "mended"}).json()["proof"]["version"] == "2"
    assert facts(house) == ("published", "2")
    assert house.projected(Kind.BINDING, "billing/bank/pay") is None
    assert house.projected(Kind.BINDING, "billing/mail/lookup") is not None
    version = ada.get("/api/agents/billing/versions").json()["items"][0]
    assert (version["state"], version["decided_by"], version["conditions"]) == (
        "live", "op-it-admin", "Only until spring.",
    )  # fmt: skip


@pytest.mark.claim("versions-approved-by-others")
def test_what_is_live_stays_live_until_somebody_who_did_not_build_it_approves(house: House) -> None:
    maker, owner, it = house.client(Role.OWNER, "ada"), house.client(Role.OWNER, "mona"), house.client(Role.IT_ADMIN)
    other = house.client(Role.OWNER, "olga")
    submit(other, {**BILLING, "version": "2"})
    for builder in (maker, owner, other):
        answer = builder.post("/api/requests/billing/2/approve", json=REASON)
        assert (answer.status_code, "somebody else has to approve" in answer.text) == (403, True)
    assert "somebody else" in owner.get("/api/requests/billing/2").json()["may_not"]
    assert facts(house) == ("published", "1")
    assert it.post("/api/requests/billing/2/approve", json={"reason": " "}).status_code == 422
    done = it.post("/api/requests/billing/2/approve", json=REASON).json()
    assert done["epoch"] >= done["revision"]
    assert facts(house) == ("published", "2")
    assert it.post("/api/requests/billing/2/approve", json=REASON).status_code == 409
    # Whoever submitted what is live does not unblock it, either.
    it.post("/api/agents/billing/block", json={"reason": "leaks"})
    assert other.post("/api/agents/billing/unblock", json=REASON).status_code == 403
    assert it.post("/api/agents/billing/unblock", json=REASON).status_code == 200


@pytest.mark.claim("versions-approved-by-others")
def test_nothing_of_a_new_agent_is_known_to_a_gateway_before_it_is_approved_but_its_name(house: House) -> None:
    ada, it = house.client(Role.MAKER, "ada"), house.client(Role.IT_ADMIN)
    asked = submit(ada, NEW)
    assert (asked["agent_state"], asked["number"], facts(house, "faq")[0]) == ("submitted", 1, "submitted")
    assert house.projected(Kind.BINDING, "faq/mail/lookup") is None
    agent = it.get("/api/agents/faq").json()
    assert (agent["maker_id"], agent["bindings"], agent["manifest"]["tools"]) == ("ada", [], [])
    it.post("/api/agents/faq/block", json={"reason": "who is that?"})
    it.post("/api/agents/faq/unblock", json={"reason": "ah"})
    assert facts(house, "faq")[0] == "submitted"  # not published by way of a block
    it.post("/api/requests/faq/1/approve", json=REASON | {"audience": ["group:pilot", "nobody-there"]})
    assert facts(house, "faq")[0] == "submitted"
    answer = it.post("/api/requests/faq/1/approve", json=REASON | {"audience": ["group:pilot", "griffin"]})
    assert answer.status_code == 200, answer.text
    assert facts(house, "faq") == ("published", "1")
    assert house.projected(Kind.BINDING, "faq/mail/lookup") is not None
    agent = it.get("/api/agents/faq").json()
    assert (agent["manifest"]["sharedWith"], agent["versions"][0]["audience"]) == (
        ["griffin", "group:pilot"], ["group:pilot", "griffin"],
    )  # fmt: skip


def test_declined_withdrawn_and_overtaken_requests_change_nothing_and_stay_to_be_read(house: House) -> None:
    ada, it = house.client(Role.MAKER, "ada"), house.client(Role.IT_ADMIN)
    submit(ada, NEW)
    assert it.post("/api/requests/faq/1/decline", json={"reason": "There is one already."}).status_code == 200
    assert facts(house, "faq")[0] == "draft"
    submit(ada, {**NEW, "name": "Better FAQ"})
    assert ada.post("/api/requests/faq/2/withdraw", json={}).status_code == 200
    assert facts(house, "faq")[0] == "draft"
    submit(ada, NEW)
    submit(ada, {**NEW, "instructions": "Be brief."})  # instead of the one that waits
    found = ada.get("/api/requests", params={"agent": "faq"}).json()["items"]
    assert [(r["number"], r["state"]) for r in found] == [
        (4, "submitted"), (3, "withdrawn"), (2, "withdrawn"), (1, "declined"),
    ]  # fmt: skip
    assert found[3]["reason"] == "There is one already."
    page = ada.get("/api/requests", params={"limit": 1}).json()
    assert page["next"] is not None and [r["number"] for r in page["items"]] == [4]
    submit(ada, {**BILLING, "version": "2"})
    text = yaml.safe_dump({**COMPANY, "agents": [{**COMPANY["agents"][0], "version": "3"}, COMPANY["agents"][1]]})
    house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": text})
    older = it.post("/api/requests/billing/2/approve", json=REASON)
    assert (older.status_code, "older than version 3" in older.text) == (409, True)
    assert house.client(Role.MAKER, "mo").get("/api/requests").json()["items"] == []


def test_a_version_whose_tool_is_refused_is_not_approved_before_that_is_mended(house: House) -> None:
    ada, it = house.client(Role.MAKER, "ada"), house.client(Role.IT_ADMIN)
    submit(ada, {**BILLING, "version": "2"})
    with house.stores.control.tx("soc") as tx:
        registry.set_tool_blocked(tx, "mail", "lookup", True, "odd")
    answer = it.post("/api/requests/billing/2/approve", json=REASON)
    assert (answer.status_code, "mail/lookup is blocked" in answer.text) == (409, True)
    with house.stores.control.tx("soc") as tx:
        registry.set_tool_blocked(tx, "mail", "lookup", False, "mended")
    assert it.post("/api/requests/billing/2/approve", json=REASON).status_code == 200


def test_a_build_that_was_ruled_out_does_not_come_back_and_a_mended_one_does(house: House) -> None:
    ada, it = house.client(Role.MAKER, "ada"), house.client(Role.IT_ADMIN)
    done = it.post("/api/agents/billing/versions/1/block", json={"reason": "sends mail for anybody"}).json()
    assert (done["proof"]["version_state"], facts(house)[0]) == ("blocked", "blocked")
    assert it.post("/api/agents/billing/versions/1/block", json=REASON).status_code == 409
    assert it.post("/api/agents/billing/unblock", json=REASON).status_code == 409
    text = yaml.safe_dump({**COMPANY})  # applying it again makes it what is declared, and no more
    house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": text})
    refused = it.post("/api/agents/billing/unblock", json=REASON)
    assert (refused.status_code, "only builds that were blocked" in refused.text) == (409, True)
    again = submit(ada, BILLING)
    assert {c["check"]: c["outcome"] for c in again["checks"]}["build"] == "failed"
    assert it.post("/api/requests/billing/3/approve", json=REASON).status_code == 409
    mended = submit(ada, {**BILLING, "version": "2", "tools": [READS]})
    assert [d["where"] for d in mended["differences"] if d["reach"] == "narrower"] == [
        "tools[bank/pay]", "tools[mail/*]", "tools[mail/lookup]",
    ]  # fmt: skip
    assert it.post("/api/requests/billing/4/approve", json=REASON).status_code == 200
    assert it.post("/api/agents/billing/unblock", json=REASON).status_code == 200
    assert facts(house) == ("published", "2")


TOKEN = "ghp_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"


@pytest.mark.parametrize(
    ("agent", "more", "status", "where"),
    [
        ({**BILLING, "instructions": f"Use {TOKEN} for GitHub."}, {}, 422, "holds a secret"),
        ({**BILLING, "secret": {"value": "s" * 40}}, {}, 422, "agents[0].secret"),
        (
            {**BILLING, "tools": [{**READS, "credential": "maker", "makerCredential": {"value": "mine"}}]}, {}, 422,
            "agents[0].tools[0].makerCredential",
        ),
        ({**BILLING, "maker": "mona"}, {}, 422, "agents[0].maker"),
        ({**NEW, "maker": "mona"}, {}, 422, "agents[0].maker"),
        ({**BILLING, "state": "draft"}, {}, 422, "agents[0].state"),
        ({**BILLING, "tools": [{**READS, "server": "mial"}]}, {}, 422, "agents[0].tools[0].server"),
        (BILLING, {"users": COMPANY["users"]}, 422, "users"),
        ({"id": "hr", "name": "HR Agent"}, {}, 403, "somebody else's"),
    ],
)  # fmt: skip
def test_a_submission_that_holds_secrets_or_reaches_for_more_is_refused_and_not_stored(
    attacked: House, agent: dict[str, Any], more: dict[str, Any], status: int, where: str
) -> None:
    ada = attacked.client(Role.MAKER, "ada")
    for path in ("/api/requests/check", "/api/requests"):
        answer = ada.post(path, json=manifest(agent, **more))
        assert (answer.status_code, where in answer.text) == (status, True), answer.text
        assert TOKEN not in answer.text
    assert ada.get("/api/requests").json()["items"] == []


def test_a_check_says_what_submitting_would_ask_for_and_stores_nothing(attacked: House) -> None:
    ada = attacked.client(Role.MAKER, "ada")
    found = ada.post("/api/requests/check", json=manifest({**BILLING, "version": "2", "sharedWith": ["*"]})).json()
    assert (found["number"], [d["says"] for d in found["differences"]]) == (
        2, ["Now may be used by everybody.", "version: 1 became 2."],
    )  # fmt: skip
    assert ada.get("/api/requests").json()["items"] == []
