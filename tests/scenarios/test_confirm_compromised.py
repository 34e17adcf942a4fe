"""Confirming a compromise in a company of real processes: refused at once, and finished whatever is killed."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from scenarios.company import Company, headers, rpc, running, wait_until

pytestmark = pytest.mark.slow


def lookup(company: Company, token: str, key: str) -> bool:
    """Whether a tool call goes through."""
    url = f"{company.gateway}/mcp/mail"
    answer = httpx.post(url, json=rpc("lookup", {"key": key}), headers=headers(token, "lookup"), timeout=20)
    return "result" in answer.json()


@pytest.mark.claim("response-local-first")
@pytest.mark.claim("response-survives-crash")
def test_the_next_call_is_refused_and_a_server_that_is_killed_finishes_after_its_return(tmp_path: Path) -> None:
    with running(tmp_path) as company:
        token, other = company.token("griffin"), company.token(company.users[1])
        assert lookup(company, token, "before") and lookup(company, other, "before-2")
        answer = company.api("POST", "/api/users/griffin/confirm-compromised", json={"reason": "stolen session"})
        company.kill("server")
        for n in range(20):  # on whichever worker
            assert not lookup(company, token, f"after-{n}")
        assert lookup(company, other, "benign")
        wait_until(company.is_answering, 60, "return of the server")

        def settled() -> bool:
            found = company.api("GET", f"/api/responses/{answer['proof']['response']}")
            return found["status"] == "done"

        # A step that was being run as the server died is taken over when its claim ends.
        wait_until(settled, 120, "end of the response")
        found = company.api("GET", f"/api/responses/{answer['proof']['response']}")
        assert [step["state"] for step in found["steps"]].count("done") >= 1
        assert {step["state"] for step in found["steps"]} <= {"done", "skipped"}
        assert not [call for call in company.calls_at_the_tool() if str(call.get("key", "")).startswith("after")]

        company.api("POST", "/api/users/griffin/dismiss-risk", json={"reason": "it was a test"})
        assert not lookup(company, token, "old-session"), "what was revoked stays dead"
