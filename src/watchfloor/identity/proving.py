"""Tokens with which the control plane asks the gateway, to see that it is refused.

Above ``identity.keys``; ``response.proof`` asks with them. A gateway lets nothing out with one, whatever its guard says
(``PROOF_CLAIM``), and records what it answered as a proof, not as somebody's attempt.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from joserfc import jwt

from watchfloor.identity.keys import current_key, open_key
from watchfloor.identity.sts import EXCHANGE, TokenRefused, TokenRequest, TokenService
from watchfloor.model.agents import PROOF_CLAIM, TokenMode
from watchfloor.model.errors import NotFound
from watchfloor.storage import inventory

if TYPE_CHECKING:
    from watchfloor.storage.control import SqlControlStore
    from watchfloor.storage.vault import Vault

LIFETIME_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class ProofTokens:
    """Makes them, as the token service makes others."""

    store: SqlControlStore
    vault: Vault
    service: TokenService

    def mint(self, agent_id: str, path: str) -> str:
        """A token of the agent as it is now, for ``path`` of the gateway (``mcp/{server}`` or ``agents``).

        Raises ``NotFound`` if there is no such agent.
        """
        with self.store.read() as tx:
            agent = inventory.find_agent(tx, agent_id)
            if agent is None:
                raise NotFound(f"there is no agent {agent_id!r}.", where="agent")
            signer = open_key(current_key(tx), self.vault)
            issued_at = int(tx.now.timestamp())
        settings = self.service.settings
        claims = {
            "iss": settings.issuer,
            "aud": f"{settings.gateway_url.rstrip('/')}/{path}",
            "sub": f"agent:{agent_id}",
            "azp": f"agent:{agent_id}",
            "client_id": agent_id,
            "mode": TokenMode.AGENT.value,
            "scope": "",
            "sid": f"{agent_id}-{agent.epoch}",
            "aev": agent.epoch,
            "jti": secrets.token_urlsafe(16),
            "iat": issued_at,
            "exp": issued_at + LIFETIME_SECONDS,
            PROOF_CLAIM: True,
        }
        header = {"alg": "RS256", "typ": "at+jwt", "kid": signer.kid}
        return jwt.encode(header, claims, signer.key, algorithms=["RS256"])

    def refusal_of_service(self, agent_id: str) -> str:
        """Why the token service gives this agent no token; empty if it would give it one. None is made."""
        resource = f"{self.service.settings.gateway_url.rstrip('/')}/agents"
        request = TokenRequest(EXCHANGE, agent_id, (), resource, "")
        try:
            self.service.check(request)
        except TokenRefused as refused:
            return refused.reason
        return ""
