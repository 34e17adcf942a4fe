"""``watchfloor-hook`` as Claude Code runs it: the installed command, one process an event, against a real gateway.

A tool runs unless the command denies it or ends with status 2; ``Claude`` below plays by these rules and counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.world import SERVER, World
from sdk.installed import ROOT
from sdk.test_guard import BROKEN, LURE, REDACTING, SECRET, THIEF, answering
from watchfloor import content

pytestmark = pytest.mark.slow


class Claude:
    """What Claude Code does with its hooks."""

    def __init__(self, site: Path, home: Path, *options: str) -> None:
        self.command = [str(site / "bin" / "watchfloor-hook"), *options]
        self.environment = {"HOME": str(home), "PATH": os.defpath, "PYTHONPATH": str(site), "SECRET": "s3"}
        self.ran: list[tuple[str, dict[str, Any]]] = []
        self.said: list[str] = []
        self.number = 0

    async def event(self, name: str, **members: Any) -> tuple[int, dict[str, Any], str]:
        body = {"session_id": "s-1", "transcript_path": "/tmp/t", "cwd": "/tmp", "hook_event_name": name, **members}
        return await self.raw(json.dumps(body).encode())

    async def raw(self, body: bytes) -> tuple[int, dict[str, Any], str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *self.command, stdin=-1, stdout=-1, stderr=-1, env=self.environment
        )
        out, err = await process.communicate(body)
        assert process.returncode is not None
        return process.returncode, json.loads(out) if out.strip() else {}, err.decode()

    async def prompt(self, text: str) -> bool:
        """Whether Claude gets to read it."""
        status, answer, _ = await self.event("UserPromptSubmit", prompt=text)
        self.said.append(str(answer.get("reason", "")))
        return status != 2 and answer.get("decision") != "block"

    async def call(self, tool: str, arguments: dict[str, Any], result: Any = "done") -> str:
        """One tool call: ``ran``, ``asked`` (the user says yes) or ``denied``. An exception as result: it failed."""
        self.number += 1
        about = {"tool_name": tool, "tool_input": arguments, "tool_use_id": f"toolu_{self.number}"}
        status, answer, err = await self.event("PreToolUse", **about)
        said = answer.get("hookSpecificOutput", {})
        self.said.append(said.get("permissionDecisionReason", "") or err)
        if status == 2 or said.get("permissionDecision") == "deny":
            return "denied"
        arguments = said.get("updatedInput", arguments)
        self.ran.append((tool, arguments))
        if isinstance(result, Exception):
            await self.event("PostToolUseFailure", **about | {"tool_input": arguments, "error": str(result)})
        else:
            await self.event("PostToolUse", **about | {"tool_input": arguments, "tool_response": result})
        return "asked" if said.get("permissionDecision") == "ask" else "ran"


@pytest.fixture
async def claude(world: World, site: Path, tmp_path: Path) -> AsyncIterator[Claude]:
    for body in content.policies():
        if body.get("step") == "provenance":
            world.policy(body)
    token = tmp_path / f"{SERVER}.token"
    token.write_text(world.token() + "\n")
    options = ["--gateway", world.url, "--server", SERVER, "--token-file", str(tmp_path / "{server}.token")]
    yield Claude(site, tmp_path / "home", *options)


@pytest.mark.claim("sdk-hook")
async def test_an_address_that_only_a_result_named_is_denied_and_one_of_the_user_is_not(claude: Claude) -> None:
    assert await claude.prompt("Look up what is new")
    assert await claude.call("lookup", {"key": "k"}, {"content": [{"type": "text", "text": LURE}]}) == "ran"
    assert await claude.call("send_email", {"to": [THIEF], "body": "x"}) == "denied"
    assert "untraced_argument" in claude.said[-1] and "was not run" in claude.said[-1]
    assert [tool for tool, _ in claude.ran] == ["lookup"]
    assert await claude.prompt(f"Send it to {THIEF}")
    assert await claude.call("send_email", {"to": [THIEF], "body": "x"}) == "ran"


async def test_what_a_failing_tool_said_is_told_and_ends_are_recorded(world: World, claude: Claude) -> None:
    await claude.prompt("Look it up")
    await claude.call("lookup", {"key": "k"}, RuntimeError(LURE))
    assert await claude.call("send_email", {"to": [THIEF], "body": "x"}) == "denied"
    assert [row["Status"] for row in world.records("ToolCallCompleted")] == ["error"]
    assert [row["ConversationId"] for row in world.records("ToolCallDecided")] == ["s-1", "s-1"]


async def test_tools_of_an_mcp_server_are_that_servers(world: World, claude: Claude) -> None:
    assert await claude.call(f"mcp__{SERVER}__lookup", {"key": "k"}) == "ran"
    assert await claude.call("mcp__unknown__lookup", {"key": "k"}) == "denied"
    claude.command += ["--mcp", f"unknown={SERVER}"]
    assert await claude.call("mcp__unknown__lookup", {"key": "k"}) == "ran"
    assert [row["ToolName"] for row in world.records("ToolCallDecided")] == ["lookup", "lookup"]


async def test_a_held_call_is_denied_with_the_way_to_go_on_and_runs_once_when_approved(
    world: World, claude: Claude
) -> None:
    payment = {"to": "x", "amount": 5000.0}
    await claude.prompt("Pay x 5000.0")
    assert await claude.call("pay", payment) == "denied"
    assert "hold_" in claude.said[-1] and "very same call again" in claude.said[-1]
    first = world.records("ToolCallDecided")[-1]
    assert await claude.call("pay", payment) == "denied"
    assert world.records("ToolCallDecided")[-1]["HoldId"] == first["HoldId"], "the retry token is remembered"
    (note,) = (Path(claude.environment["HOME"]) / ".local/state/watchfloor-hook").iterdir()
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    world.approve(json.loads(first["AdditionalFields"])["hold"])
    assert await claude.call("pay", payment) == "ran"
    assert await claude.call("pay", payment) == "denied"
    assert len(claude.ran) == 1


@pytest.mark.parametrize("way", ["ask", "allow", "deny"])
async def test_sensitive_data_does_not_reach_the_tool(world: World, claude: Claude, way: str) -> None:
    world.policy(REDACTING)
    claude.command += ["--redacted", way]
    mail = {"to": ["griffin@zava.example"], "body": f"key {SECRET} end"}
    assert await claude.call("send_email", mail) == {"ask": "asked", "allow": "ran", "deny": "denied"}[way]
    assert SECRET not in json.dumps([claude.ran, claude.said])
    if way != "deny":
        ((_, arguments),) = claude.ran
        assert arguments["to"] == mail["to"] and arguments["body"].startswith("key ")


async def test_a_plain_yes_leaves_the_word_to_claude_codes_own_permissions(claude: Claude) -> None:
    arguments = {"tool_name": "lookup", "tool_input": {"key": "k"}, "tool_use_id": "t"}
    assert await claude.event("PreToolUse", **arguments) == (0, {}, "")


@pytest.mark.claim("sdk-hook")
@pytest.mark.parametrize("name", ["down", "silent", "no JSON", "an unknown verdict", "status 401", "status 503"])
async def test_without_a_good_answer_no_tool_runs(site: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "token").write_text("token")
    async with answering(BROKEN.get(name)) as (url, _):
        address = "http://127.0.0.1:1" if name == "down" else url
        options = ["--gateway", address, "--token-file", str(tmp_path / "token"), "--deadline", "0.5"]
        claude = Claude(site, tmp_path, *options)
        assert await claude.call("Bash", {"command": "ls"}) == "denied"
        assert not await claude.prompt("hello")
        assert claude.ran == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"hook_event_name": "Stop", "session_id": "s"}',
        b'{"hook_event_name": "PreToolUse", "session_id": "s", "tool_name": "Bash", "tool_use_id": "t"}',
        b'{"hook_event_name": "PreToolUse", "session_id": "s", "tool_name": "Bash", "tool_input": []}',
        b'{"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {}, "tool_use_id": "t"}',
        b"\xff\xfe",
    ],
)
async def test_an_event_that_cannot_be_understood_blocks(claude: Claude, body: bytes) -> None:
    status, answer, err = await claude.raw(body)
    assert (status, answer) == (2, {}) and "nothing was let through" in err


async def test_wrong_options_block(claude: Claude, tmp_path: Path) -> None:
    arguments = {"tool_name": "lookup", "tool_input": {"key": "k"}, "tool_use_id": "t"}
    for options in (
        ["--gateway", "http://127.0.0.1:1"],
        ["--gateway", "http://127.0.0.1:1", "--secret-file", str(tmp_path / "none"), "--agent", "a"],
        ["--gateway", "http://127.0.0.1:1", "--secret-env", "SECRET"],
        ["--gateway", "http://127.0.0.1:1", "--secret-env", "NONE", "--agent", "a"],
        ["--gateway", "127.0.0.1:1", "--secret-env", "SECRET", "--agent", "a"],
        [*claude.command[1:], "--mcp", "nonsense"],
        [*claude.command[1:], "--state", "/proc/nowhere"],
        [*claude.command[1:], "--unknown"],
    ):
        claude.command[1:] = options
        status, answer, _ = await claude.event("PreToolUse", **arguments)
        assert status == 2 or answer["hookSpecificOutput"]["permissionDecision"] == "deny", options


async def test_a_result_that_is_lost_makes_later_calls_stricter(world: World, claude: Claude) -> None:
    await claude.prompt("Send it to ann@elsewhere.example")
    about = {"tool_name": "lookup", "tool_input": {"key": "k"}, "tool_use_id": "t"}
    assert await claude.event("PreToolUse", **about) == (0, {}, "")
    good = claude.command[2]
    claude.command[2] = "http://127.0.0.1:1"
    assert (await claude.event("PostToolUse", **about, tool_response=LURE))[0] == 0
    claude.command[2] = good
    assert await claude.call("send_email", {"to": ["new@elsewhere.example"], "body": "x"}) == "denied"
    (reason,) = json.loads(world.records("ToolCallDecided")[-1]["Reasons"])
    assert reason["detail"]["provenance"]["is_complete"] is False
    assert await claude.call("send_email", {"to": ["ann@elsewhere.example"], "body": "x"}) == "ran"


async def test_a_loss_that_cannot_be_noted_ends_the_session(claude: Claude, tmp_path: Path) -> None:
    about = {"tool_name": "lookup", "tool_input": {"key": "k"}, "tool_use_id": "t"}
    (tmp_path / "file").write_text("in the way")
    claude.command[2] = "http://127.0.0.1:1"
    claude.command += ["--state", str(tmp_path / "file")]
    status, answer, _ = await claude.event("PostToolUse", **about, tool_response=LURE)
    assert status == 2 or answer["continue"] is False


def test_the_example_settings_name_options_that_exist_and_block_on_failure() -> None:
    from watchfloor_sdk.hook import _parser

    hooks = json.loads((ROOT / "examples" / "claude-code" / "settings.json").read_text())["hooks"]
    assert set(hooks) == {"UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure"}
    for event, (entry,) in hooks.items():
        (hook,) = entry["hooks"]
        assert "matcher" not in entry, "every tool"
        command, *options = shlex.split(hook["command"])
        parsed = _parser().parse_args(options)
        assert command == "watchfloor-hook" and hook["timeout"] > 2 * parsed.deadline + 1
        assert event.startswith("PostTool") or hook["onFailure"] == "block"
