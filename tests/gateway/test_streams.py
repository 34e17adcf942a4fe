"""Streams: sessions' event streams, subscriptions, large answers; what may not be seen and when they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from mcp.client.client import Client

from gateway.test_official_client import connected
from gateway.world import SERVER, World, eventually, request, rpc, serving
from watchfloor.model.agents import Scope, ServerState, ToolEffect
from watchfloor.model.facts import Kind, ServerFacts

SESSION_HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
}


async def open_session(world: World) -> dict[str, str]:
    """The headers of an initialised session."""
    headers = SESSION_HEADERS | {"authorization": f"Bearer {world.token()}"}
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
    response = await world.client.post(f"/mcp/{SERVER}", json=body, headers=headers)
    headers |= {"mcp-session-id": response.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await world.client.post(f"/mcp/{SERVER}", json=done, headers=headers)).status_code == 202
    return headers


@contextlib.asynccontextmanager
async def listening(world: World, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
    async with world.client.stream("GET", f"/mcp/{SERVER}", headers=headers) as response:
        yield response


async def test_the_stream_of_a_session_is_open_until_the_session_is_revoked(world: World) -> None:
    headers = await open_session(world)
    async with listening(world, headers) as stream:
        assert stream.status_code == 200 and stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["mcp-session-id"] == headers["mcp-session-id"]
        world.user(epoch=2)
        # Nothing is sent on it: it ends because state changed, not because something passed.
        assert await asyncio.wait_for(stream.aread(), 10) == b""
    refused = await world.client.get(f"/mcp/{SERVER}", headers=headers)
    assert refused.status_code == 401 and "session_revoked" in refused.headers["www-authenticate"]


async def test_a_session_is_ended_by_its_owner_only(world: World) -> None:
    headers = await open_session(world)
    world.project((Kind.SERVER, "files", ServerFacts("files", "Files", f"{world.tool_url}/mcp", ServerState.AVAILABLE)))
    from watchfloor.model.facts import BindingFacts

    world.project((Kind.BINDING, "billing/files/lookup", BindingFacts("billing", "files", "lookup")))
    elsewhere = headers | {"authorization": f"Bearer {world.token(aud=f'{world.url}/mcp/files')}"}
    assert (await world.client.delete("/mcp/files", headers=elsewhere)).status_code == 404
    assert (await world.client.delete(f"/mcp/{SERVER}", headers=headers)).status_code == 200
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    ended = await world.client.post(f"/mcp/{SERVER}", json=body, headers=headers)
    assert ended.status_code == 404


async def test_the_stateless_protocol_has_no_streams_and_no_sessions_to_end(world: World) -> None:
    for method in ("GET", "DELETE"):
        response = await world.client.request(method, f"/mcp/{SERVER}", headers=world.headers())
        assert response.status_code == 405 and response.headers["allow"] == "POST"
    assert (await world.client.put(f"/mcp/{SERVER}", headers=world.headers())).status_code == 405
    assert world.tools.tap.seen == []


async def test_news_of_changed_tools_arrive_over_both_protocols(world: World) -> None:
    from mcp.server.mcpserver import Context

    world.tool("announce", effect=ToolEffect.READ)
    world.bind("announce")
    announce = _announce(Context)
    world.tools.server.add_tool(announce)
    heard: list[Any] = []

    async def on_message(message: Any) -> None:
        heard.append(message)

    async with connected(world, "legacy", message_handler=on_message) as client:
        await eventually(lambda: any(s.method == "GET" for s in world.tools.tap.seen), "opening of the stream")
        await client.call_tool("announce", {})
        await eventually(lambda: "ToolListChanged" in str([type(m) for m in heard]), "the news")


def _announce(context: Any) -> Any:
    async def announce(ctx: context) -> str:
        """Say that tools have changed."""
        await ctx.session.send_tool_list_changed()
        return "announced"

    announce.__annotations__ = {"ctx": context, "return": str}
    return announce


async def test_a_subscription_is_open_until_the_agent_is_blocked(world: World) -> None:
    from watchfloor.model.agents import AgentState

    body = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    headers = world.headers("subscriptions/listen", None)
    async with world.client.stream("POST", f"/mcp/{SERVER}", json=body, headers=headers) as stream:
        lines = stream.aiter_lines()
        first = ""
        while not first.startswith("data:"):
            first = await asyncio.wait_for(anext(lines), 10)
        assert "acknowledged" in first
        world.agent(state=AgentState.BLOCKED)
        rest = [line async for line in lines if line.startswith("data:")]
    assert json.loads(rest[-1][5:])["error"]["data"]["code"] == "agent_blocked"
    assert json.loads(rest[-1][5:])["id"] == 1


async def test_subscribing_to_resources_needs_a_binding_to_every_tool(world: World) -> None:
    body = request("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["notes://plan"]}})
    headers = world.headers("subscriptions/listen", None)
    refused = await world.client.post(f"/mcp/{SERVER}", json=body, headers=headers)
    assert refused.json()["error"]["data"]["code"] == "not_granted"
    world.bind("*", scope=Scope.READ)
    async with world.client.stream("POST", f"/mcp/{SERVER}", json=body, headers=headers) as stream:
        assert stream.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_who_may_not_read_resources_is_shown_none_and_nothing_counts_as_an_attempt(
    world: World, mode: str
) -> None:
    async with connected(world, mode) as client:
        assert (await client.list_resource_templates()).resource_templates == []
        assert (await client.list_resources()).resources == []
        assert (await client.list_prompts()).prompts == []
        assert world.records("ToolCallDecided") == []
        world.bind("*", scope=Scope.READ)
    async with connected(world, mode) as client:
        assert [t.uri_template for t in (await client.list_resource_templates()).resource_templates] == [
            "notes://{name}"
        ]
        assert [p.name for p in (await client.list_prompts()).prompts] == ["greet"]
    assert [r["ToolName"] for r in world.records("ToolCallDecided")] == [
        "mcp:resources/templates/list",
        "mcp:prompts/list",
    ]


async def test_a_resumed_stream_does_not_show_a_tool_list_as_it_was_before_filtering(world: World) -> None:
    """A tool server may replay anything on a session's stream, also the answer to an earlier ``tools/list``."""
    listed = {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "lookup"}, {"name": "secret_tool"}]}}

    async def replaying(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        assert dict(scope["headers"])[b"last-event-id"] == b"7"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"id: 8\ndata: " + json.dumps(listed).encode() + b"\n\n"})

    async with serving(replaying) as url:
        world.server(url=f"{url}/mcp")
        headers = SESSION_HEADERS | {"authorization": f"Bearer {world.token()}", "last-event-id": "7"}
        text = (await world.client.get(f"/mcp/{SERVER}", headers=headers)).text
    assert "lookup" in text and "secret_tool" not in text and "id: 8" in text


@pytest.mark.parametrize(
    ("mode", "size"), [("auto", 10), ("auto", 200_000), ("auto", 3_000_000), ("legacy", 10), ("legacy", 400_000)]
)
async def test_an_answer_of_any_size_arrives_whole(world: World, mode: str, size: int) -> None:
    async with connected(world, mode) as client:
        result = await client.call_tool("big", {"size": size})
    assert str(result.content[0].text) == "x" * size
    assert world.records("ToolCallCompleted")[0]["BytesOut"] > size


async def test_a_caller_that_hangs_up_cancels_the_call_at_the_tool_server(world: World) -> None:
    async with httpx.AsyncClient(base_url=world.url) as client:
        call = asyncio.create_task(
            client.post(f"/mcp/{SERVER}", json=rpc("wait", {}), headers=world.headers(name="wait"))
        )
        await eventually(lambda: world.tools.journal, "arrival at the tool")
        call.cancel()
    await asyncio.wait_for(world.tools.cancelled.wait(), 10)
    row = (await eventually(lambda: world.records("ToolCallCompleted"), "record of the end"))[0]
    assert row["Status"] == "cancelled" and "disconnected" in row["AdditionalFields"]


async def test_every_answer_to_a_call_names_its_invocation(world: World) -> None:
    for tool, arguments in (("lookup", {"key": "k"}), ("send_email", {"to": ["x@evil.example"]})):
        headers = world.headers(name=tool)
        response = await world.client.post(f"/mcp/{SERVER}", json=rpc(tool, arguments), headers=headers)
        row = world.records("ToolCallDecided")[-1]
        assert response.headers["watchfloor-invocation"] == row["InvocationId"]


async def test_metrics_count_what_happened(world: World) -> None:
    await world.call()
    await world.call("send_email", {"to": ["x@evil.example"]})
    text = (await world.client.get("/metrics")).text
    assert 'watchfloor_gateway_decisions_total{verdict="allow"} 1' in text
    assert 'watchfloor_gateway_decisions_total{verdict="block"} 1' in text
    assert 'watchfloor_gateway_calls_completed_total{status="ok"} 1' in text
    assert 'watchfloor_gateway_decision_seconds_bucket{le="+Inf"} 2' in text
    assert "watchfloor_gateway_spool_bytes" in text and "griffin" not in text
    assert (await world.client.get("/nowhere")).status_code == 404


def test_the_client_under_test_is_the_official_one() -> None:
    assert Client.__module__ == "mcp.client.client"
