"""How an agent takes a gateway's answers: refusals, holds, dead tokens, silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from watchfloor_demo.agents.connection import ToolBelt
from watchfloor_demo.agents.signin import SignIn
from watchfloor_demo.agents.tokens import TokenRefused, Tokens
from watchfloor_demo.serving import Listening, listen, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Gate:
    """A gateway that answers as it is told to, and notes what it is sent."""

    def __init__(self) -> None:
        self.answer: Any = {"ok": True}
        self.accepted: set[str] = {"token-1"}
        self.addresses: set[str] = set()
        self.metas: list[dict[str, Any]] = []

    async def handle(self, request: Request) -> Response:
        """One request of protocol 2026-07-28."""
        assert request.client is not None
        self.addresses.add(request.client.host)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.accepted:
            return JSONResponse({}, 401, {"www-authenticate": 'Bearer error="invalid_token"'})
        body = json.loads(await request.body())
        if body["method"] == "tools/list":
            tools = [{"name": "read", "inputSchema": {"type": "object"}}]
            result = {"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
            return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": result})
        self.metas.append(body["params"].get("_meta", {}))
        if isinstance(self.answer, tuple):
            code, data = self.answer
            error = {"code": code, "message": "No.", "data": data}
            return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "error": error})
        content = [{"type": "text", "text": json.dumps(self.answer)}]
        result = {"content": content, "structuredContent": self.answer, "resultType": "complete"}
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": result})


class Handed(Tokens):
    """Tokens from a list, one after another whenever the last was not taken."""

    def __init__(self, url: str, tokens: list[str]) -> None:
        self._url, self.left = url, tokens

    def resource(self, server: str) -> str:
        """The gate."""
        return f"{self._url}/mcp/{server}"

    async def get(self, agent_id: str, server: str, person: SignIn | None) -> str:
        """The first that is left."""
        if not self.left:
            raise TokenRefused("invalid_request", "The session was revoked.", 400)
        return self.left[0]

    def forget(self, agent_id: str, server: str, person: SignIn | None) -> None:
        """The next one, please."""
        del self.left[0]


@pytest_asyncio.fixture(loop_scope="module")
async def gate() -> AsyncIterator[tuple[Gate, str]]:
    made = Gate()
    listening: Listening = listen("gate", 0)
    app = Starlette(routes=[Route("/mcp/{server}", made.handle, methods=["POST", "DELETE"])])
    async with serve([(listening, app)]):
        yield made, f"http://127.0.0.1:{listening.port}"


async def call(url: str, tokens: list[str], **options: Any) -> Any:
    async with ToolBelt(Handed(url, tokens), "agent", None, **options) as belt:
        return await belt.call("files", "read", {"path": "x"}, {"user-turns": ["hello"], "parent-agent": ""})


async def test_an_allowed_call_gives_the_tools_answer_and_carries_the_users_words(gate: tuple[Gate, str]) -> None:
    made, url = gate
    outcome = await call(url, ["token-1"], address="127.9.8.7")
    assert (outcome.status, outcome.value) == ("ok", {"ok": True})
    assert made.metas[-1]["dev.watchfloor/user-turns"] == ["hello"]
    assert "dev.watchfloor/parent-agent" not in made.metas[-1]
    assert made.addresses <= {"127.9.8.7", "127.0.0.1"}


@pytest.mark.parametrize(
    ("code", "data", "status", "reason", "retry"),
    [
        (-32090, {"code": "policy", "invocation": "inv_1", "retryable": False}, "refused", "policy", None),
        (-32091, {"code": "held", "invocation": "inv_2", "hold": {"retry_token": "r"}}, "held", "held", "r"),
        (-32092, {"code": "state_stale", "invocation": "inv_3"}, "unavailable", "state_stale", None),
        (-32602, None, "failed", "-32602", None),
    ],
)
async def test_each_refusal_keeps_its_reason(
    gate: tuple[Gate, str], code: int, data: Any, status: str, reason: str, retry: str | None
) -> None:
    made, url = gate
    made.answer = (code, data)
    outcome = await call(url, ["token-1"])
    assert (outcome.status, outcome.code, outcome.retry_token) == (status, reason, retry)
    assert outcome.invocation == (data or {}).get("invocation", "")


async def test_a_dead_token_is_replaced_once_and_the_call_goes_on(gate: tuple[Gate, str]) -> None:
    made, url = gate
    made.accepted = {"token-2"}
    assert (await call(url, ["token-1", "token-2"])).is_ok


async def test_a_token_that_dies_between_two_calls_is_replaced(gate: tuple[Gate, str]) -> None:
    made, url = gate
    tokens = Handed(url, ["token-1", "token-2"])
    async with ToolBelt(tokens, "agent", None) as belt:
        assert (await belt.call("files", "read", {})).is_ok
        made.accepted = {"token-2"}
        assert (await belt.call("files", "read", {})).is_ok
    assert tokens.left == ["token-2"]


async def test_a_session_that_ended_is_a_refusal_not_an_endless_loop(gate: tuple[Gate, str]) -> None:
    made, url = gate
    made.accepted = set()
    first = await call(url, ["token-1", "token-2"])
    second = await call(url, [])
    assert (first.status, first.code) == ("refused", "unauthorized")
    assert (second.status, second.code, second.text) == (
        "refused",
        "token:invalid_request",
        "The session was revoked.",
    )


async def test_a_gateway_that_is_away_is_found_again_when_it_is_back() -> None:
    made, listening = Gate(), listen("gate", 0)
    port, app = listening.port, Starlette(routes=[Route("/mcp/{server}", made.handle, methods=["POST", "DELETE"])])
    async with ToolBelt(Handed(f"http://127.0.0.1:{port}", ["token-1"]), "agent", None) as belt:
        async with serve([(listening, app)]):
            assert (await belt.call("files", "read", {})).is_ok
        cut = await belt.call("files", "read", {})
        away = await belt.call("files", "read", {})
        assert (cut.status, cut.code) == ("failed", "connection_lost")
        assert (away.status, away.code) == ("unavailable", "connection_lost")
        async with serve([(listen("gate", port), app)]):
            assert (await belt.call("files", "read", {})).is_ok


async def test_many_calls_share_one_connection_without_mixing_answers(gate: tuple[Gate, str]) -> None:
    _, url = gate
    async with ToolBelt(Handed(url, ["token-1"]), "agent", None) as belt:
        await belt.call("files", "read", {})
        outcomes = await asyncio.gather(*(belt.call("files", "read", {"n": n}) for n in range(20)))
    assert all(outcome.is_ok for outcome in outcomes)
