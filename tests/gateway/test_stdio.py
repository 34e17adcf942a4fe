"""``watchfloor mcp wrap``: a real stdio server behind it, the official client before it, a real gateway beside it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError

from gateway.world import SERVER, World, eventually, serving
from watchfloor.gateway.mcp.protocol import Message
from watchfloor.gateway.mcp.stdio import Decision, GuardFailed, Relay, decision_of
from watchfloor.gateway.mcp.wrap import ClientCredentials, FileTokens, HttpGuard
from watchfloor.model.agents import Scope

CARDS: dict[str, Any] = {
    "id": "no-cards",
    "title": "Cards in results",
    "description": "x",
    "effect": "redact",
    "redact": ["sensitive"],
    "severity": "high",
    "surface": "result",
    "step": "detectors",
    "when": '"credit_card" in signals.confident',
    "message": "a card",
}
SCRIPT = Path(__file__).with_name("stdioserver.py")


class Wire:
    """Both ends of a relay: what the client and the server were given."""

    def __init__(self, guard: Any) -> None:
        self.to_client: list[Any] = []
        self.to_server: list[Any] = []
        self.relay = Relay(guard, self._client, self._server)

    async def _client(self, line: bytes) -> None:
        assert b"\n" not in line
        self.to_client.append(orjson.loads(line))

    async def _server(self, line: bytes) -> None:
        assert b"\n" not in line
        self.to_server.append(orjson.loads(line))

    async def client_says(self, body: Any) -> None:
        await self.relay.from_client(body if isinstance(body, bytes) else orjson.dumps(body))

    async def server_says(self, body: Any) -> None:
        await self.relay.from_server(body if isinstance(body, bytes) else orjson.dumps(body))


@pytest.fixture
async def guard(world: World, tmp_path: Path) -> AsyncIterator[HttpGuard]:
    (tmp_path / "token").write_text(world.token())
    async with HttpGuard(world.url, SERVER, FileTokens(tmp_path / "token"), 5.0) as made:
        yield made


def call(id: Any, name: str, arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


async def test_an_allowed_call_passes_and_a_blocked_one_does_not(guard: HttpGuard, world: World) -> None:
    wire = Wire(guard)
    await wire.client_says(call(1, "lookup", {"key": "k"}))
    await wire.client_says(call(2, "send_email", {"to": ["x@evil.example"]}))
    await eventually(lambda: wire.to_server and wire.to_client)
    assert wire.to_server == [call(1, "lookup", {"key": "k"})]
    assert wire.to_client[0]["error"]["code"] == -32090 and wire.to_client[0]["id"] == 2
    await wire.server_says({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
    await eventually(lambda: len(wire.to_client) == 2, "the answer, once the gateway knows it")
    assert wire.to_client[1]["id"] == 1
    row = (await eventually(lambda: world.records("ToolCallCompleted"), "record of the end"))[0]
    assert (row["Status"], row["SourceDoor"]) == ("ok", "stdio")


@pytest.mark.claim("results-judged")
async def test_a_result_is_withheld_rewritten_or_passed_as_the_gateway_says(
    guard: HttpGuard, world: World, tmp_path: Path
) -> None:
    world.policy(CARDS)
    wire = Wire(guard)

    async def answered(id: int, text: str) -> Any:
        await wire.client_says(call(id, "lookup", {"key": "k"}))
        await eventually(lambda: any(line["id"] == id for line in wire.to_server))
        await wire.server_says({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}})
        return await eventually(lambda: next((line for line in wire.to_client if line["id"] == id), None))

    redacted = await answered(1, "card 4111 1111 1111 1111")
    assert redacted["result"]["content"][0]["text"] == "card [redacted credit_card]"
    assert (await answered(2, "order 4111 1111 1111 1112"))["result"]["content"][0]["text"].startswith("order 4111")
    world.policy({k: v for k, v in CARDS.items() if k != "redact"} | {"effect": "block"})
    withheld = await answered(3, "card 4111 1111 1111 1111")
    assert withheld["error"]["data"]["withheld"] is True and "result" not in withheld
    # Without an answer, nobody knows whether it may pass: then it does not.
    await wire.client_says(call(4, "lookup", {"key": "k"}))
    await eventually(lambda: any(line["id"] == 4 for line in wire.to_server))
    (tmp_path / "token").write_text("")
    guard._tokens.forget()
    await wire.server_says({"jsonrpc": "2.0", "id": 4, "result": {"content": [{"type": "text", "text": "secret"}]}})
    lost = await eventually(lambda: next((line for line in wire.to_client if line["id"] == 4), None))
    assert lost["error"]["data"]["withheld"] is True


async def test_an_agent_that_is_not_granted_everything_reads_no_resources(guard: HttpGuard, world: World) -> None:
    wire = Wire(guard)
    read = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "notes://plan"}}
    await wire.client_says(read)
    await eventually(lambda: wire.to_client)
    assert wire.to_client[0]["error"]["data"]["code"] == "not_granted" and wire.to_server == []
    world.bind("*", scope=Scope.READ)
    await wire.client_says({**read, "id": 2})
    await eventually(lambda: wire.to_server)
    assert wire.to_server == [{**read, "id": 2}]


async def test_a_tool_list_is_filtered_and_an_answer_that_nobody_asked_for_is_dropped(
    guard: HttpGuard, world: World
) -> None:
    wire = Wire(guard)
    await wire.client_says({"jsonrpc": "2.0", "id": "a", "method": "tools/list"})
    assert wire.to_server == [{"jsonrpc": "2.0", "id": "a", "method": "tools/list"}]
    tools = [{"name": "lookup"}, {"name": "secret_tool"}, "junk"]
    await wire.server_says({"jsonrpc": "2.0", "id": 99, "result": {"tools": tools}})
    await wire.server_says(b"Starting up ...")
    await wire.server_says([{"jsonrpc": "2.0", "id": "a", "result": {"tools": tools}}])
    await wire.server_says({"jsonrpc": "2.0", "id": "a", "result": {"tools": tools, "nextCursor": "2"}})
    await eventually(lambda: wire.to_client)
    assert [m["result"] for m in wire.to_client] == [{"tools": [{"name": "lookup"}], "nextCursor": "2"}]


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b'[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"lookup"}}]',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/delete"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"mcp:resources/read"}}',
        b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"lookup"}}',
    ],
)
async def test_what_may_not_pass_over_http_may_not_pass_here(guard: HttpGuard, line: bytes) -> None:
    wire = Wire(guard)
    await wire.client_says(line)
    assert wire.to_server == []
    await wire.client_says({"jsonrpc": "2.0", "id": 7, "method": "ping"})
    assert len(wire.to_server) == 1


async def test_an_id_that_is_still_open_cannot_be_used_again(guard: HttpGuard) -> None:
    wire = Wire(guard)
    await wire.client_says({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    await wire.client_says({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert len(wire.to_server) == 1 and wire.to_client[0]["error"]["code"] == -32600
    await wire.server_says({"jsonrpc": "2.0", "id": 1, "result": {}})
    await wire.client_says({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert len(wire.to_server) == 2


async def test_questions_of_the_server_and_answers_of_the_client_pass(guard: HttpGuard) -> None:
    wire = Wire(guard)
    question = {"jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": {}}
    await wire.server_says(question)
    await wire.client_says({"jsonrpc": "2.0", "id": 5, "result": {"action": "accept"}})
    assert wire.to_client == [question] and wire.to_server[0]["result"] == {"action": "accept"}


async def test_a_call_that_is_cancelled_while_the_gateway_thinks_is_never_made(world: World, tmp_path: Path) -> None:
    release = asyncio.Event()

    class SlowGuard(HttpGuard):
        async def decide(self, message: Message) -> Decision:
            await release.wait()
            return await super().decide(message)

    (tmp_path / "token").write_text(world.token())
    async with SlowGuard(world.url, SERVER, FileTokens(tmp_path / "token"), 5.0) as guard:
        wire = Wire(guard)
        await wire.client_says(call(1, "lookup", {"key": "k"}))
        await wire.client_says({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        release.set()
        await wire.client_says(call(2, "lookup", {"key": "other"}))
        await eventually(lambda: len(wire.to_server) == 2)
        assert [m.get("id") for m in wire.to_server] == [None, 2]


@pytest.mark.parametrize("fault", ["down", "silent", "not-json", "error", "bad-token"])
async def test_a_gateway_that_does_not_answer_well_is_a_no(world: World, tmp_path: Path, fault: str) -> None:
    async def strange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if fault == "silent":
            await reader.read()
        body = b'{"verdict":"allow"}' if fault == "error" else b"<html>allow</html>"
        status = b"500 Oops" if fault == "error" else b"200 OK"
        writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
        writer.close()

    listener = await asyncio.start_server(strange, "127.0.0.1", 0)
    port = 1 if fault == "down" else listener.sockets[0].getsockname()[1]
    url = world.url if fault == "bad-token" else f"http://127.0.0.1:{port}"
    (tmp_path / "token").write_text("x.y.z" if fault == "bad-token" else world.token())
    async with HttpGuard(url, SERVER, FileTokens(tmp_path / "token"), 0.3) as guard:
        wire = Wire(guard)
        await wire.client_says(call(1, "lookup", {"key": "k"}))
        await eventually(lambda: wire.to_client)
        assert wire.to_client[0]["error"]["code"] == -32092 and wire.to_server == []
        await wire.client_says({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
        await wire.server_says({"jsonrpc": "2.0", "id": 2, "result": {"tools": [{"name": "lookup"}]}})
        await eventually(lambda: len(wire.to_client) == 2)
        assert "error" in wire.to_client[1]
    listener.close()


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"verdict": "allow"}, {"invocation": "i"}, {"invocation": "i", "verdict": "redact"},
     {"invocation": "i", "verdict": "ALLOW"}, {"invocation": "i", "verdict": True}],
)  # fmt: skip
def test_only_a_whole_yes_is_a_yes(answer: Any) -> None:
    with contextlib.suppress(GuardFailed):
        assert not decision_of(answer).is_allowed
    assert decision_of({"invocation": "i", "verdict": "allow"}).is_allowed


async def test_a_token_is_fetched_with_the_agents_secret_and_fetched_again_when_it_is_refused(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []
    tokens: list[str] = []

    async def token_service(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        form = (await receive())["body"].decode()
        asked.append((dict(scope["headers"])[b"authorization"].decode(), form))
        body = json.dumps({"access_token": tokens.pop(0), "token_type": "Bearer", "expires_in": 600}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    async with serving(token_service) as service:
        made = World(tmp_path)
        made.issuer = f"{service}/sts"
        async with made.running() as world:
            agent = {"sub": "agent:billing", "act": None, "mode": "agent", "sev": None}
            tokens += [world.token(**agent, exp=int(time.time()) - 5, iat=int(time.time()) - 300), world.token(**agent)]
            credentials = ClientCredentials(world.url, SERVER, "billing", "s:cret")
            async with HttpGuard(world.url, SERVER, credentials, 5.0) as guard:
                wire = Wire(guard)
                for number in (1, 2):
                    await wire.client_says(call(number, "lookup", {"key": "k"}))
                    await eventually(lambda n=number: len(wire.to_server) == n)
    assert len(asked) == 2 and asked[0][0] == "Basic " + base64.b64encode(b"billing:s%3Acret").decode()
    assert "grant_type=client_credentials" in asked[0][1] and f"%2Fmcp%2F{SERVER}" in asked[0][1]


# -- as a process -----------------------------------------------------------------------------------------------------


def command(world: World, tmp_path: Path, *more: str) -> list[str]:
    (tmp_path / "token").write_text(world.token())
    return [
        "-m", "watchfloor", "mcp", "wrap", "--gateway", world.url, "--server", SERVER,
        "--token-file", str(tmp_path / "token"), *more, "--", sys.executable,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_sees_a_guarded_server(world: World, tmp_path: Path, mode: str) -> None:
    journal = tmp_path / "journal"
    world.unbind("pay")
    params = StdioServerParameters(
        command=sys.executable,
        args=[*command(world, tmp_path), str(SCRIPT), str(journal)],
        env=dict(os.environ),
    )
    async with Client(params, mode=mode, read_timeout_seconds=30) as client:
        assert {t.name for t in (await client.list_tools()).tools} == {"lookup", "send_email"}
        assert "record of k" in str(await client.call_tool("lookup", {"key": "k"}))
        with pytest.raises(MCPError) as blocked:
            await client.call_tool("send_email", {"to": ["x@evil.example"]})
        assert blocked.value.error.code == -32090
        with pytest.raises(MCPError):
            await client.call_tool("secret_tool", {})
        world.user(epoch=2)
        with pytest.raises(MCPError) as revoked:
            await client.call_tool("lookup", {"key": "after"})
        assert revoked.value.error.data["code"] == "session_revoked"
    seen = [json.loads(line) for line in journal.read_text().splitlines()]
    assert seen == [{"tool": "lookup", "key": "k"}]


@contextlib.asynccontextmanager
async def process(arguments: list[str], **kwargs: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=pipe, stdout=pipe, stderr=pipe, **kwargs
    )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()


@pytest.mark.slow
async def test_exit_status_signals_and_standard_error_are_the_servers_own(world: World, tmp_path: Path) -> None:
    script = "import sys; print('words', file=sys.stderr); sys.stdin.readline(); sys.exit(7)"
    async with process([*command(world, tmp_path), "-c", script]) as running:
        assert running.stdin is not None and running.stderr is not None
        assert await asyncio.wait_for(running.stderr.readline(), 20) == b"words\n"
        running.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        assert await asyncio.wait_for(running.wait(), 20) == 7

    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "print('up', file=sys.stderr, flush=True)\n"
        "while True: time.sleep(0.05)\n"
    )
    async with process([*command(world, tmp_path), "-c", script]) as running:
        assert running.stderr is not None
        assert await asyncio.wait_for(running.stderr.readline(), 20) == b"up\n"
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), 20) == 9


@pytest.mark.slow
async def test_the_agents_secret_does_not_reach_the_server_and_the_end_of_input_ends_it(
    world: World, tmp_path: Path
) -> None:
    arguments = [
        "-m", "watchfloor", "mcp", "wrap", "--gateway", world.url, "--server", SERVER, "--agent", "billing",
        "--secret-env", "AGENT_SECRET", "--", sys.executable, "-c",
        "import os, sys; sys.stderr.write(repr(os.environ.get('AGENT_SECRET')) + '\\n'); sys.stdin.read()",
    ]  # fmt: skip
    async with process(arguments, env=os.environ | {"AGENT_SECRET": "top"}) as running:
        assert running.stdin is not None and running.stderr is not None
        assert await asyncio.wait_for(running.stderr.readline(), 20) == b"None\n"
        running.stdin.close()
        assert await asyncio.wait_for(running.wait(), 20) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--server", "s", "--", "true"], "who calls is not known"),
        (["--server", "s", "--agent", "a", "--", "true"], "secret is missing"),
        (["--server", "S!", "--token-file", "t", "--", "true"], "not the id of a tool server"),
        (["--server", "s", "--token-file", "t", "--", "no-such-command-here"], "cannot start"),
    ],
)
async def test_a_wrong_command_line_says_what_is_wrong(arguments: list[str], says: str) -> None:
    async with process(["-m", "watchfloor", "mcp", "wrap", *arguments]) as running:
        _, stderr = await asyncio.wait_for(running.communicate(), 30)
        assert running.returncode == 1 and says in stderr.decode()
