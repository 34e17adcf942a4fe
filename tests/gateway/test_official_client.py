"""The unmodified official MCP client through the gateway, over both wire protocols; calls are counted at the tool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from gateway.world import SERVER, USER, World, eventually
from watchfloor.model.agents import PinState, Scope

MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


@contextlib.asynccontextmanager
async def connected(world: World, mode: str, **kwargs: Any) -> AsyncIterator[Client]:
    """An official client behind the gateway."""
    headers = {"authorization": f"Bearer {world.token()}"}
    async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
        transport = streamable_http_client(f"{world.url}/mcp/{SERVER}", http_client=http)
        async with Client(transport, mode=mode, **kwargs) as client:
            yield client


def text_of(result: Any) -> str:
    return str(result.content[0].text)


@MODES
async def test_tools_are_listed_as_far_as_they_are_granted(world: World, mode: str) -> None:
    world.unbind("pay")
    async with connected(world, mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert names == {"lookup", "send_email", "fail", "wait", "count", "drip", "ask", "big"}
    row = world.records("ToolListServed")[0]
    assert row["AgentId"] == "billing" and row["AdditionalFields"] == '{"kept":8,"offered":10}'


@MODES
async def test_a_granted_call_reaches_the_tool_once_and_its_answer_comes_back(world: World, mode: str) -> None:
    async with connected(world, mode) as client:
        result = await client.call_tool("lookup", {"key": "k-1"})
    assert text_of(result) == "record of k-1" and not result.is_error
    assert world.tools.journal == [("lookup", {"key": "k-1"})]
    decided, completed = world.records("ToolCallDecided"), world.records("ToolCallCompleted")
    assert [r["Verdict"] for r in decided] == ["allow"] and [r["Status"] for r in completed] == ["ok"]
    assert decided[0]["InvocationId"] == completed[0]["InvocationId"]


@MODES
async def test_a_blocked_call_never_reaches_the_tool_and_says_so_with_a_code(world: World, mode: str) -> None:
    async with connected(world, mode) as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("send_email", {"to": ["thief@evil.example"]})
        allowed = await client.call_tool("send_email", {"to": ["ada@zava.example"]})
    assert refused.value.error.code == -32090
    assert refused.value.error.data["code"] == "policy"
    assert "evil.example" not in refused.value.error.message
    assert text_of(allowed) == "sent"
    assert world.tools.journal == [("send_email", {"to": ["ada@zava.example"], "body": ""})]


@MODES
async def test_an_error_of_the_tool_is_the_tools_own(world: World, mode: str) -> None:
    async with connected(world, mode) as client:
        result = await client.call_tool("fail", {"why": "no such customer"})
    assert result.is_error and "no such customer" in text_of(result)
    assert [r["Status"] for r in world.records("ToolCallCompleted")] == ["error"]


@MODES
async def test_progress_arrives_while_the_tool_still_works(world: World, mode: str) -> None:
    seen: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with connected(world, mode) as client:
        call = asyncio.create_task(client.call_tool("drip", {}, progress_callback=on_progress))
        # The tool waits for us: what is seen now was not held back until its end.
        await eventually(lambda: seen == [1.0], "first progress")
        world.tools.release.set()
        assert text_of(await call) == "dripped"
    assert seen == [1.0, 2.0]


async def test_cancelling_a_stateless_call_cancels_it_at_the_tool_server(world: World) -> None:
    async with connected(world, "auto") as client:
        call = asyncio.create_task(client.call_tool("wait", {}))
        await eventually(lambda: world.tools.journal, "arrival at the tool")
        call.cancel()
        await asyncio.wait_for(world.tools.cancelled.wait(), 10)
    rows = await eventually(lambda: world.records("ToolCallCompleted"), "record of the end")
    assert rows[0]["Status"] == "cancelled"


async def test_cancelling_a_call_of_a_session_reaches_the_tool_server_as_a_notification(world: World) -> None:
    async with connected(world, "legacy") as client:
        call = asyncio.create_task(client.call_tool("wait", {}))
        await eventually(lambda: world.tools.journal, "arrival at the tool")
        call.cancel()
        await asyncio.wait_for(world.tools.cancelled.wait(), 10)
    assert "notifications/cancelled" in [s.rpc.get("method") for s in world.tools.tap.seen if s.method == "POST"]


@MODES
async def test_a_held_call_goes_out_once_after_an_operator_approved_it(world: World, mode: str) -> None:
    payment = {"amount": 5000.0, "to": "supplier"}
    async with connected(world, mode) as client:
        with pytest.raises(MCPError) as held:
            await client.call_tool("pay", payment)
        assert held.value.error.code == -32091
        hold = held.value.error.data["hold"]
        meta = {"dev.watchfloor/retry-token": hold["retry_token"]}

        with pytest.raises(MCPError) as waiting:
            await client.call_tool("pay", payment, meta=meta)
        assert waiting.value.error.data["hold"]["id"] == hold["id"]

        world.approve(hold)
        with pytest.raises(MCPError) as changed:
            await client.call_tool("pay", {**payment, "to": "somebody else"}, meta=meta)
        assert changed.value.error.code == -32091

        assert text_of(await client.call_tool("pay", payment, meta=meta)) == "paid"
        with pytest.raises(MCPError) as again:
            await client.call_tool("pay", payment, meta=meta)
        assert again.value.error.code == -32090 and again.value.error.data["code"] == "hold_used"
    assert world.tools.journal == [("pay", payment)]
    released = [r for r in world.records("ToolCallDecided") if r["Verdict"] == "allow"]
    assert [r["HoldId"] for r in released] == [hold["id"]]


@MODES
async def test_a_declined_hold_is_a_no(world: World, mode: str) -> None:
    async with connected(world, mode) as client:
        with pytest.raises(MCPError) as held:
            await client.call_tool("pay", {"amount": 5000.0, "to": "x"})
        hold = held.value.error.data["hold"]
        world.approve(hold, approved=False)
        meta = {"dev.watchfloor/retry-token": hold["retry_token"]}
        with pytest.raises(MCPError) as declined:
            await client.call_tool("pay", {"amount": 5000.0, "to": "x"}, meta=meta)
    assert declined.value.error.code == -32090 and "declined" in declined.value.error.message
    assert world.tools.journal == []


@MODES
async def test_resources_and_prompts_need_a_binding_to_every_tool(world: World, mode: str) -> None:
    async with connected(world, mode) as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource("notes://plan")
        assert refused.value.error.data["code"] == "not_granted"
        with pytest.raises(MCPError):
            await client.get_prompt("greet", {"name": "Ada"})
        assert world.tools.journal == []
        world.bind("*", scope=Scope.READ)
        assert "note plan" in str(await client.read_resource("notes://plan"))
        assert "Hello Ada" in str(await client.get_prompt("greet", {"name": "Ada"}))
    names = [r["ToolName"] for r in world.records("ToolCallDecided")]
    assert names == ["mcp:resources/read", "mcp:prompts/get"] * 2


async def test_a_question_of_the_tool_server_reaches_the_client_and_the_answer_comes_back(world: World) -> None:
    async def on_elicit(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"name": "Griffin"})

    async with connected(world, "legacy", elicitation_callback=on_elicit) as client:
        assert text_of(await client.call_tool("ask", {})) == "hello Griffin"


async def test_a_session_belongs_to_its_agent_user_and_server(world: World) -> None:
    world.project(*_second_user(world))
    async with connected(world, "legacy") as client:
        await client.call_tool("lookup", {"key": "a"})
        session = await _session_of(world)
    headers = {
        "authorization": f"Bearer {world.token(sub='user:mona')}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
        "mcp-session-id": session,
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "lookup", "arguments": {"key": "b"}}}
    before = len(world.tools.tap.calls)
    stolen = await world.client.post(f"/mcp/{SERVER}", json=body, headers=headers)
    assert stolen.status_code == 404
    forged = await world.client.post(
        f"/mcp/{SERVER}",
        json=body,
        headers=headers | {"mcp-session-id": session[:-1] + ("A" if session[-1] != "A" else "B")},
    )
    assert forged.status_code == 404
    assert len(world.tools.tap.calls) == before
    # The benign twin: the owner, with the same session.
    owner = await world.client.post(
        f"/mcp/{SERVER}", json=body, headers=headers | {"authorization": f"Bearer {world.token()}"}
    )
    # The client ended its session when it left; the tool server says so itself, it was asked.
    assert owner.status_code == 404 and len(world.tools.tap.calls) == before + 1


async def _session_of(world: World) -> str:
    """A session id as the client has it: sealed by the gateway."""
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "tests", "version": "1"},
        },
    }
    headers = {
        "authorization": f"Bearer {world.token()}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    response = await world.client.post(f"/mcp/{SERVER}", json=body, headers=headers)
    assert response.status_code == 200
    session = response.headers["mcp-session-id"]
    ended = await world.client.delete(f"/mcp/{SERVER}", headers=headers | {"mcp-session-id": session})
    assert ended.status_code == 200
    return str(session)


def _second_user(world: World) -> list[Any]:
    from watchfloor.model.facts import Kind, UserFacts

    return [(Kind.USER, "mona", UserFacts("mona", "mona@zava.example", "Mona", is_enabled=True))]


@MODES
async def test_a_revoked_session_is_refused_at_the_next_call(world: World, mode: str) -> None:
    async with connected(world, mode) as client:
        await client.call_tool("lookup", {"key": "before"})
        world.user(epoch=2)
        with pytest.raises(MCPError) as refused:
            await client.call_tool("lookup", {"key": "after"})
    assert refused.value.error.data["code"] == "session_revoked"
    assert world.tools.journal == [("lookup", {"key": "before"})]


@MODES
async def test_a_revocation_ends_a_call_that_is_running_and_its_result_is_withheld(world: World, mode: str) -> None:
    async with connected(world, mode) as client:
        call = asyncio.create_task(client.call_tool("drip", {}, progress_callback=_ignore))
        await eventually(lambda: world.tools.journal, "arrival at the tool")
        world.user(epoch=2)
        with pytest.raises(MCPError) as ended:
            await asyncio.wait_for(call, 10)
    assert ended.value.error.data["code"] == "session_revoked" and ended.value.error.data["went_out"] is True
    row = (await eventually(lambda: world.records("ToolCallCompleted"), "record of the end"))[0]
    assert row["Status"] == "cancelled" and "session_revoked" in row["AdditionalFields"]


async def _ignore(progress: float, total: float | None, message: str | None) -> None:
    pass


@MODES
async def test_a_tool_that_changed_is_hidden_recorded_and_refused(world: World, mode: str) -> None:
    await world.pin_tools()
    async with connected(world, mode) as client:
        assert "lookup" in {t.name for t in (await client.list_tools()).tools}
        await client.call_tool("lookup", {"key": "before"})
    world.tool("lookup", pin_state=PinState.PINNED, pin="0" * 64)
    async with connected(world, mode) as client:
        assert "lookup" not in {t.name for t in (await client.list_tools()).tools}
        # Before the control plane has heard of it, the worker that saw it refuses the tool already.
        with pytest.raises(MCPError) as refused:
            await client.call_tool("lookup", {"key": "after"})
    assert refused.value.error.data["code"] == "tool_changed"
    assert world.tools.journal == [("lookup", {"key": "before"})]
    rows = world.records("ToolChanged")
    assert [(r["ServerId"], r["ToolName"]) for r in rows] == [(SERVER, "lookup")]


async def test_a_user_credential_is_minted_for_this_server_and_the_callers_token_stays_here(world: World) -> None:
    from joserfc import jwt

    from gateway.world import KEY, KEY_PEM
    from watchfloor.model.agents import CredentialOwner

    world.credential("sts-signing", KEY_PEM)
    world.bind("lookup", credential_owner=CredentialOwner.USER)
    token = world.token()
    assert "result" in await world.call(token=token)
    sent = world.tools.tap.seen[-1].headers["authorization"].removeprefix("Bearer ")
    assert sent != token
    minted = jwt.decode(sent, KEY, algorithms=["RS256"])
    assert minted.header["kid"] == KEY.kid
    assert minted.claims["aud"] == f"{world.tool_url}/mcp" and minted.claims["sub"] == f"user:{USER}"
    assert minted.claims["act"] == {"sub": "agent:billing"} and minted.claims["exp"] - minted.claims["iat"] <= 300
