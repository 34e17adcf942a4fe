"""Versions of agents through the API: kept, compared, and shown to whom they concern."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from portal.house import COMPANY, House
from watchfloor.model.people import Role


def apply(house: House, **changes: Any) -> None:
    """Another version of the billing agent, by an administrator's manifest."""
    agents = copy.deepcopy(COMPANY["agents"])
    agents[0] |= changes
    text = yaml.safe_dump({**COMPANY, "agents": agents})
    assert house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": text}).status_code == 200


@pytest.mark.claim("versions-kept")
def test_every_applied_manifest_is_a_version_that_can_be_compared_with_any_other(house: House) -> None:
    apply(house, version="2", instructions="Be brief.", tools=COMPANY["agents"][0]["tools"][:1])
    apply(house)  # and back
    it = house.client(Role.IT_ADMIN)
    found = it.get("/api/agents/billing/versions").json()["items"]
    assert [(v["number"], v["version"], v["state"], v["created_by"]) for v in found] == [
        (3, "1", "live", "op-owner"), (2, "2", "superseded", "op-owner"), (1, "1", "superseded", "op-owner"),
    ]  # fmt: skip
    assert it.get("/api/agents/billing/versions/2").json()["manifest"]["instructions"] == "Be brief."
    diff = it.get("/api/agents/billing/versions/2/diff").json()
    assert (diff["before"], [(d["where"], d["reach"]) for d in diff["differences"]]) == (
        1, [("tools[bank/pay]", "narrower"), ("instructions", "other"), ("version", "other")],
    )  # fmt: skip
    assert it.get("/api/agents/billing/versions/3/diff", params={"against": 1}).json()["differences"] == []
    first = it.get("/api/agents/billing/versions/1/diff").json()
    assert first["before"] is None and any(d["says"].startswith("Now may use every tool") for d in first["differences"])
    assert it.get("/api/agents/billing/versions/9").status_code == 404
    assert it.get("/api/agents/billing/versions/2/diff", params={"against": 9}).status_code == 404


@pytest.mark.claim("versions-kept")
def test_a_maker_reads_the_versions_of_their_own_agents_only(attacked: House) -> None:
    ada = attacked.client(Role.MAKER, "ada")
    assert ada.get("/api/agents/billing/versions").status_code == 200
    answers = [ada.get(f"/api/agents/{agent}/versions") for agent in ("hr", "nothing")]
    assert [a.status_code for a in answers] == [404, 404]
    assert answers[0].json()["detail"].replace("hr", "nothing") == answers[1].json()["detail"]
