"""What both stories of a compromised user share: a company whose users sign in at somebody else's provider."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from scenarios.company import AGENT_SECRET, Company, headers, rpc


@dataclass
class Story:
    """A company, and the issuer that its users sign in at."""

    company: Company
    issuer: str

    def apply(self, jwks_uri: str, audience: str, connector: Mapping[str, Any], **provider: str) -> None:
        """Have the company trust the issuer, and act on it through ``connector``."""
        made = self.company.manifest()
        terms = {"issuer": self.issuer, "jwksUri": jwks_uri, "audience": audience, "connector": dict(connector)}
        made["identityProviders"] = [terms | provider]
        self.company.apply(made)

    def exchange(self, id_token: str) -> httpx.Response:
        """What the agent's host does with a user's sign-in."""
        secret = base64.b64encode(f"billing:{AGENT_SECRET}".encode()).decode()
        return httpx.post(
            f"{self.company.server}/sts/token",
            data={
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token": id_token,
                "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
                "resource": f"{self.company.gateway}/mcp/mail",
            },
            headers={"authorization": f"Basic {secret}"},
            timeout=20,
        )

    def gateway_token(self, id_token: str) -> str:
        """The agent's token to act for the user. Fails where there is none."""
        answer = self.exchange(id_token)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def call(self, token: str) -> str:
        """The agent uses a tool for the user: ``done``, or why not."""
        answer = httpx.post(
            f"{self.company.gateway}/mcp/mail",
            json=rpc("lookup", {"key": "griffin"}),
            headers=headers(token, "lookup"),
            timeout=20,
        ).json()
        return str(answer["error"]["data"]["code"]) if "error" in answer else "done"

    def confirm_compromised(self) -> None:
        """End Griffin's sessions here; from the acknowledgement on no call is let through."""
        self.company.api("POST", "/api/users/griffin/revoke-sessions", json={"reason": "confirmed compromised"})
