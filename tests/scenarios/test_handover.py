"""Two agents, one of which hands work to the other: through the real token service and gateway, counted at the tool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from scenarios.company import AGENT_SECRET, Company, headers, rpc, running, wait_until

pytestmark = pytest.mark.slow

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPES = "urn:ietf:params:oauth:token-type:"


def exchange(company: Company, agent: str, subject: str, kind: str, resource: str) -> httpx.Response:
    """Ask the token service."""
    data = {
        "grant_type": EXCHANGE,
        "subject_token": subject,
        "subject_token_type": f"{TYPES}{kind}",
        "resource": f"{company.gateway}/{resource}",
    }
    return httpx.post(f"{company.server}/sts/token", data=data, auth=(agent, AGENT_SECRET))


def look_up(company: Company, token: str, key: str) -> Any:
    """One call; the result, or the code of its refusal."""
    answer = httpx.post(
        f"{company.gateway}/mcp/mail", json=rpc("lookup", {"key": key}), headers=headers(token, "lookup")
    ).json()
    return "done" if "result" in answer else answer.get("error", {}).get("data", {}).get("code", answer)


def test_work_that_was_handed_over_runs_for_the_user_and_ends_when_the_agent_before_is_blocked(tmp_path: Path) -> None:
    with running(tmp_path) as company:
        manifest = company.manifest()
        manifest["agents"][0]["connectedAgents"] = ["research"]
        manifest["agents"].append(
            manifest["agents"][0] | {"id": "research", "name": "Research Agent", "connectedAgents": []}
        )
        company.apply(manifest)
        sign_in = company.sign_ins.sign_in("griffin")
        handed = exchange(company, "billing", sign_in, "id_token", "agents/research").json()["access_token"]
        assert look_up(company, handed, "handed") != "done"
        token = exchange(company, "research", handed, "access_token", "mcp/mail").json()["access_token"]
        assert look_up(company, token, "before") == "done"

        query = 'AgentActivity | where AgentId == "research" and Verdict == "allow" | project UserId, ParentAgentId'

        def rows() -> list[Any]:
            return list(company.api("POST", "/api/hunting/run", json={"query": query})["rows"])

        assert wait_until(rows, what="the record of the call") == [["griffin", "billing"]]

        company.api("POST", "/api/agents/billing/block", json={"reason": "odd"})
        assert look_up(company, token, "after") == "handover_revoked"
        again = exchange(company, "research", handed, "access_token", "mcp/mail")
        assert (again.status_code, again.json()["reason"]) == (400, "handover_revoked")
        # Its own work for the user goes on.
        own = exchange(company, "research", sign_in, "id_token", "mcp/mail").json()["access_token"]
        assert look_up(company, own, "own") == "done"
        assert [call["key"] for call in company.calls_at_the_tool()] == ["before", "own"]
