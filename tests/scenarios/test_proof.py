"""Proof of enforcement: true where every door refuses a blocked agent, and loud where one of them does not."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from scenarios.company import Company, headers, rpc, wait_until

pytestmark = pytest.mark.slow

TENANT = "5a0b3f6e-0f0b-4b8e-9d5b-0d5f6f1f2a3b"


class Front:
    """What stands before the gateway; a door that is ``sabotaged`` lets everything through."""

    def __init__(self) -> None:
        self.sabotaged: dict[str, bytes] = {}
        self.gateway_port = 0
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                self.behind = HTTPConnection("127.0.0.1", front.gateway_port, timeout=20)

            def finish(self) -> None:
                self.behind.close()
                super().finish()

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                answer = next((a for path, a in front.sabotaged.items() if self.path.startswith(path)), None)
                status, kind = 200, "application/json"
                if answer is None:
                    self.behind.request(self.command, self.path, body or None, dict(self.headers))
                    response = self.behind.getresponse()
                    status, kind, answer = response.status, response.headers["content-type"], response.read()
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = _serve

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextlib.contextmanager
def guarded_company(directory: Path) -> Iterator[tuple[Company, Front]]:
    """A company whose gateway is reached through a front."""
    front = Front()
    environment = {
        "WATCHFLOOR_GATEWAY_URL": front.url,
        "WATCHFLOOR_COPILOT_STUDIO_TENANT": TENANT,
        "WATCHFLOOR_COPILOT_STUDIO_CALLERS": "11111111-2222-3333-4444-555555555555",
    }
    company = Company(directory, environment=environment)
    front.gateway_port, company.gateway = company.gateway_port, front.url
    company.environment = {
        **environment, "WATCHFLOOR_COPILOT_STUDIO_JWKS_URL": f"{company.sign_ins.issuer}/jwks"
    }  # fmt: skip
    try:
        company.start()
        company.apply()
        yield company, front
    finally:
        company.close()
        front.server.shutdown()


def checks(proof: dict[str, Any], *, refused: bool) -> set[str]:
    return {check["door"] for check in proof["checks"] if check["is_refused"] is refused}


@pytest.mark.claim("story-proof-of-enforcement")
def test_a_block_is_proved_at_every_door_of_every_worker_and_a_door_that_lets_through_is_told_of_aloud(
    tmp_path: Path,
) -> None:
    with guarded_company(tmp_path) as (company, front):
        token = company.token("griffin")
        call = rpc("lookup", {"key": "k"})
        answer = httpx.post(f"{company.gateway}/mcp/mail", json=call, headers=headers(token, "lookup")).json()
        assert "result" in answer
        assert company.client.post("/api/agents/billing/proof").status_code == 409  # it is not blocked
        wait_until(lambda: company.api("GET", "/api/agents/billing/impact")["calls"], what="the call is on record")
        impact = company.api("GET", "/api/agents/billing/impact")
        assert [user["user_id"] for user in impact["users"]] == ["griffin"] and impact["servers"] == ["mail"]

        page = company.client.get("/act/block_agent?subject=billing").text
        assert "1: griffin" in page
        company.api("POST", "/api/agents/billing/block", json={"reason": "a test"})
        proofs = wait_until(lambda: company.api("GET", "/api/agents/billing/proofs")["items"], what="the proof")
        assert [proof["status"] for proof in proofs] == ["proven"], proofs
        doors = {"token-service", "store", "mcp", "decide", "agent365", "copilot-studio"}
        assert (checks(proofs[0], refused=True), checks(proofs[0], refused=False)) == (doors, set())
        assert len(proofs[0]["workers"]) == company.workers
        assert max(check["after_ms"] for check in proofs[0]["checks"]) < 1000
        assert {check["code"] for check in proofs[0]["checks"]} == {"agent_blocked"}

        page = company.client.get("/agents/billing").text
        assert "Proof of the block" in page and "NOT refused" not in page

        front.sabotaged["/guard/v1/decide"] = b'{"invocation": "inv_1", "verdict": "allow", "reasons": []}'
        proof = company.api("POST", "/api/agents/billing/proof")
        assert (proof["status"], checks(proof, refused=False)) == ("failed", {"decide"})
        (alert,) = company.api("GET", "/api/alerts")["items"]
        assert (alert["rule_id"], alert["severity"]) == ("block-not-enforced", "critical")
        assert "decide" in alert["description"]
        assert "NOT refused" in company.client.get("/agents/billing").text
        assert company.api("GET", "/api/agents/billing")["risk"] == "none"  # it is not the agent's fault

        front.sabotaged = {"/healthz": b"[", "/mcp": b"", "/guard": b"", "/agents": b"", "/copilot": b""}
        assert checks(company.api("POST", "/api/agents/billing/proof"), refused=True) == {"token-service", "store"}
        front.sabotaged = {}
        assert company.api("POST", "/api/agents/billing/proof")["status"] == "proven"
        assert len(company.calls_at_the_tool()) == 1  # the honest one
        rows = company.api(
            "POST", "/api/hunting/run",
            json={"query": "AgentActivity | summarize N = count() by ActionType, Verdict", "wait": True},
        )  # fmt: skip
        assert "EnforcementProof" in str(rows) and "'block'" in str(rows).replace('"', "'")
