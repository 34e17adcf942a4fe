"""Gateway tokens: how an agent gets the right to call one tool server, for one person or as itself.

An agent presents its secret and, where it acts for somebody, that person's ID token (RFC 8693); tokens are kept until
shortly before they run out. A refusal is a value with the token service's own words.
"""

from __future__ import annotations

import time
from typing import Final

import httpx

from watchfloor_demo.agents.signin import SignIn
from watchfloor_demo.runtime import Runtime

_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"
_MARGIN_SECONDS: Final = 30.0


class TokenRefused(Exception):
    """The token service gives no token. ``code`` is OAuth's."""

    def __init__(self, code: str, description: str, status: int) -> None:
        self.code, self.description, self.status = code, description, status
        super().__init__(f"{code}: {description}")


class Tokens:
    """Tokens of all agents of one process."""

    def __init__(self, runtime: Runtime, http: httpx.AsyncClient) -> None:
        self._runtime, self._http = runtime, http
        self._kept: dict[tuple[str, str, str], tuple[str, float]] = {}

    def resource(self, server: str) -> str:
        """The address of a tool server behind the gateway, which tokens are made out to."""
        return f"{self._runtime.gateway}/mcp/{server}"

    async def get(self, agent_id: str, server: str, person: SignIn | None) -> str:
        """A token for ``agent_id`` at ``server``, on behalf of ``person`` or as itself. Raises ``TokenRefused``."""
        key = (agent_id, server, person.id_token if person else "")
        kept = self._kept.get(key)
        if kept is not None and kept[1] - time.monotonic() > _MARGIN_SECONDS:
            return kept[0]
        form = {"resource": self.resource(server)}
        if person is None:
            form["grant_type"] = "client_credentials"
        else:
            form |= {"grant_type": _EXCHANGE, "subject_token": person.id_token, "subject_token_type": _ID_TOKEN}
        try:
            answer = await self._http.post(
                f"{self._runtime.server}/sts/token",
                data=form,
                auth=httpx.BasicAuth(agent_id, self._runtime.secret(f"agent/{agent_id}")),
            )
        except httpx.HTTPError as error:
            raise TokenRefused("temporarily_unavailable", f"{type(error).__name__}: {error}", 503) from error
        body = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        if answer.status_code != 200:
            code = str(body.get("error", "server_error"))
            raise TokenRefused(
                code, str(body.get("error_description", f"HTTP {answer.status_code}")), answer.status_code
            )
        now = time.monotonic()
        self._kept = {k: v for k, v in self._kept.items() if v[1] > now}
        self._kept[key] = (body["access_token"], now + float(body["expires_in"]))
        return str(body["access_token"])

    def forget(self, agent_id: str, server: str, person: SignIn | None) -> None:
        """Fetch anew next time: the gateway did not take this one."""
        self._kept.pop((agent_id, server, person.id_token if person else ""), None)
