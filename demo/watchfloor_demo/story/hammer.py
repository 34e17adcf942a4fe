"""Many hands calling at once while something is revoked: what was allowed, and when it had started.

Two doors are hit: MCP through the gateway, over connections that stay open, and the decision API, each time over a new
connection, so that every worker gets its share. Times are this process's monotonic clock, taken before a call leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from watchfloor_demo import company
from watchfloor_demo.agents.connection import ToolBelt
from watchfloor_demo.agents.signin import SignIn
from watchfloor_demo.agents.tokens import Tokens
from watchfloor_demo.runtime import Runtime
from watchfloor_demo.toolservers.door import digest
from watchfloor_demo.traffic import Pace

SERVER, TOOL = "customers", "search_customers"


@dataclass(frozen=True, slots=True)
class Blow:
    """One call. ``code`` is why it was refused."""

    door: str
    started: float
    ended: float
    is_allowed: bool
    code: str
    digest: str


class _SameToken(Tokens):
    """Hands out what it has, whatever the gateway thinks of it: it is the gateway that is being tried."""

    def forget(self, agent_id: str, server: str, person: SignIn | None) -> None:
        """Never."""


class Hammer:
    """Calls one harmless tool of an agent, over and over, at ``rate`` calls a second in all."""

    def __init__(
        self, runtime: Runtime, http: httpx.AsyncClient, agent_id: str, person: SignIn, *, rate: float = 150.0
    ) -> None:
        self._runtime, self._agent = runtime, company.agents()[agent_id]
        self._person = person
        self._tokens = _SameToken(runtime, http)
        self._pace = Pace(rate)
        self._tasks: list[asyncio.Task[None]] = []
        # No two hammers ask the same, so that each call can be told apart at the tool server.
        self._mark = secrets.token_hex(4)
        self.blows: list[Blow] = []

    async def start(self, addresses: Sequence[str]) -> None:
        """Begin, with one MCP caller from each address and one caller of the decision API."""
        await self._tokens.get(self._agent.id, SERVER, self._person)
        for number, address in enumerate(addresses):
            protocol = ("2026-07-28", "2025-11-25")[number % 2]
            self._tasks.append(asyncio.create_task(self._call_tools(number, address, protocol)))
        self._tasks.append(asyncio.create_task(self._ask_for_decisions()))

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _call_tools(self, number: int, address: str, protocol: str) -> None:
        async with ToolBelt(self._tokens, self._agent.id, self._person, protocol=protocol, address=address) as belt:
            count = 0
            while True:
                await self._pace()
                count += 1
                arguments = {"query": f"{self._mark} {number} {count}", "limit": 1}
                started = time.monotonic()
                outcome = await belt.call(SERVER, TOOL, arguments, {"conversation-id": f"hammer-{number}"})
                blow = Blow("mcp", started, time.monotonic(), outcome.is_ok, outcome.code, digest(arguments))
                self.blows.append(blow)

    async def _ask_for_decisions(self) -> None:
        count = 0
        token = await self._tokens.get(self._agent.id, SERVER, self._person)
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(trust_env=False, timeout=10, limits=limits, verify=False) as http:
            while True:
                await self._pace()
                count += 1
                arguments = {"query": f"{self._mark} decide {count}", "limit": 1}
                body = {"server": SERVER, "tool": TOOL, "arguments": arguments, "conversation_id": "hammer-decide"}
                started = time.monotonic()
                verdict, code = "", "no answer"
                with contextlib.suppress(httpx.HTTPError):
                    answer = await http.post(
                        f"{self._runtime.gateway}/guard/v1/decide",
                        json=body,
                        headers={"authorization": f"Bearer {token}"},
                    )
                    said = answer.json()
                    verdict = str(said.get("verdict", ""))
                    code = ",".join(said.get("reasons", [])) or str(said.get("error", ""))
                blow = Blow("decide", started, time.monotonic(), verdict == "allow", code, digest(arguments))
                self.blows.append(blow)

    def since(self, moment: float) -> list[Blow]:
        """Calls that started after ``moment``."""
        return [blow for blow in self.blows if blow.started > moment]
