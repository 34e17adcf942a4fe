"""The SDK on an installation as it ships: the example's manifest, tokens of the token service, shipped policies."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scenarios.company import AGENT_SECRET, Company, running, wait_until
from sdk.installed import ROOT
from watchfloor_sdk import ClientCredentials, Guard, TokenExchange, Unavailable

pytestmark = pytest.mark.slow

SECRET = "example-secret-0123456789-0123456789-abcdef"
READ = {"tool": "read_mail", "arguments": {}}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with running(tmp_path_factory.mktemp("company"), workers=1) as company:
        command = [sys.executable, "-m", "watchfloor", "apply", "-f", str(ROOT / "examples" / "company.yaml"), "--yes"]
        where = ["--server", company.server, "--token-file", str(company.data / "run" / "admin.token")]
        subprocess.run([*command, *where], env={"OFFICE_SECRET": SECRET}, check=True, capture_output=True)
        wait_until(lambda: _ready(company), what="the agent at the gateway")
        yield company


def _ready(company: Company) -> bool:
    with _guard(company) as guard:
        try:
            guard.observe(user_turns=["hello"])
        except Unavailable:
            return False
    return True


def _guard(company: Company, **options: Any) -> Guard:
    return Guard(company.gateway, "office", ClientCredentials("office-agent", SECRET), **options)


def _example(company: Company, prompt: str, *steps: dict[str, Any], **more: str) -> dict[str, Any]:
    environment = {"OFFICE_GATEWAY": company.gateway, "OFFICE_SECRET": SECRET, "PYTHONPATH": "sdk/src", **more}
    arguments = [prompt, json.dumps(steps)] if steps else []
    command = [sys.executable, "examples/plain_python.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    ended: dict[str, Any] = json.loads(done.stdout)
    return ended


def _activity(company: Company, condition: str) -> list[dict[str, Any]]:
    query = f"AgentActivity | where ActionType == 'ToolCallDecided' and {condition} | order by Timestamp asc"
    answer = company.api("POST", "/api/hunting/run", json={"query": query})
    names = [column["name"] for column in answer["columns"]]
    return [dict(zip(names, row, strict=True)) for row in answer["rows"]]


def test_the_quick_start_of_the_documents_runs_as_it_stands(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = re.findall(r"   ```python\n(.*?)   ```", (ROOT / "docs" / "sdk.md").read_text("utf-8"), re.DOTALL)
    monkeypatch.setenv("BILLING_SECRET", AGENT_SECRET)
    for there, here in (("http://127.0.0.1:7701", company.gateway), ("zava.example", "testers.example")):
        assert there in program
        program = program.replace(there, here)
    exec(compile(textwrap.dedent(program), "docs/sdk.md", "exec"), {})
    (row,) = wait_until(lambda: _activity(company, "ConversationId == 'thread-4711'"), what="the row")
    assert (row["AgentId"], row["ToolName"], row["Verdict"]) == ("billing", "send_email", "allow")


@pytest.mark.claim("sdk-provenance")
def test_the_example_is_stopped_by_what_ships_and_its_twin_is_not(company: Company) -> None:
    ended = _example(company, "")
    assert [tool for tool, _ in ended["ran"]] == ["read_mail"] and "untraced_argument" in ended["told"][1]
    send = {"tool": "send_email", "arguments": {"to": ["mona@testers.example"], "body": "An offer has come."}}
    ended = _example(company, "Tell Mona what is new", READ, send)
    assert [tool for tool, _ in ended["ran"]] == ["read_mail", "send_email"]


def test_a_users_token_is_exchanged_and_the_call_is_on_record_as_the_users(company: Company) -> None:
    user = company.sign_ins.sign_in("griffin")
    ended = _example(company, "Read my mail", READ, OFFICE_USER_TOKEN=user)
    assert [tool for tool, _ in ended["ran"]] == ["read_mail"]
    (row,) = wait_until(lambda: _activity(company, "UserId == 'griffin' and AgentId == 'office-agent'"), what="the row")
    assert row["Verdict"] == "allow"


def test_a_wrong_secret_and_a_strangers_token_say_so_and_nothing_runs(company: Company) -> None:
    ran: list[Any] = []
    for token, words in (
        (ClientCredentials("office-agent", "wrong" * 10), "id or secret is wrong"),
        (TokenExchange("office-agent", SECRET, "e30.e30.e30"), "no token"),
        (TokenExchange("office-agent", SECRET, lambda: "not a token"), "is no token"),
    ):
        with Guard(company.gateway, "office", token) as guard, pytest.raises(Unavailable, match=words) as caught:
            guard.run("read_mail", {}, ran.append)
        assert SECRET not in repr(token) + str(caught.value)
    with _guard(company) as guard, pytest.raises(Unavailable, match="no such tool server"):
        guard.bind(server="elsewhere").run("read_mail", {}, ran.append)
    assert ran == []


def test_the_hook_acts_for_a_user_at_several_tool_servers(company: Company, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "user").write_text(company.sign_ins.sign_in("griffin"))
    options = ["--gateway", company.gateway, "--server", "office", "--agent", "office-agent", "--state", str(tmp_path)]
    options += ["--secret-file", str(tmp_path / "secret"), "--user-token-file", str(tmp_path / "user")]

    def event(tool: str) -> str:
        body = {"hook_event_name": "PreToolUse", "session_id": "s", "tool_use_id": "t", "tool_input": {}}
        command = [sys.executable, "-m", "watchfloor_sdk.hook", *options]
        about = {"cwd": ROOT, "env": {"PYTHONPATH": "sdk/src", "HOME": str(tmp_path)}, "timeout": 60}
        said = json.dumps(body | {"tool_name": tool})
        return subprocess.run(command, input=said, capture_output=True, text=True, check=True, **about).stdout

    assert event("read_mail") == "" and event("mcp__office__read_mail") == ""
    assert "deny" in event("mcp__mail__lookup"), "the agent may use nothing of that server"


def test_a_blocked_agent_runs_nothing_with_the_token_that_it_has(company: Company) -> None:
    ran: list[Any] = []
    with _guard(company) as guard:
        guard.run("read_mail", {}, ran.append)
        company.api("POST", "/api/agents/office-agent/block", json={"reason": "test"})
        with pytest.raises(Exception, match="blocked") as caught:
            guard.run("read_mail", {}, ran.append)
    assert len(ran) == 1 and caught.value.code == "agent_blocked"
