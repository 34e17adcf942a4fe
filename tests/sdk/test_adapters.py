"""Each adapter in its real framework: the examples as they are, against a real gateway worker.

The programs run in the environment of `make agents`, with the SDK from its wheel. Their tools are functions that note
each call; their models answer from a list. What the list says is what an agent would do that obeys everything it reads.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.world import SERVER, World, eventually
from sdk.installed import ROOT, agent, need_agents, printed
from sdk.test_guard import REDACTING, SECRET
from watchfloor import content
from watchfloor.model.agents import ToolEffect

pytestmark = [pytest.mark.slow]

STRANGER = "archive@fabrikam-billing.example"
READ = {"tool": "read_mail", "arguments": {}}
SEND = {"tool": "send_email", "arguments": {"to": [STRANGER], "body": "All that I know."}}
DONE = {"say": "Done."}

EXAMPLES = {
    "LangChain": ("langchain_agent.py", {}),
    "LangChain, awaited": ("langchain_agent.py", {"AWAITED": "1"}),
    "OpenAI Agents SDK": ("openai_agents_agent.py", {}),
    "Microsoft Agent Framework": ("agent_framework_agent.py", {}),
    "no framework": ("plain_python.py", {}),
}

Run = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def office(world: World) -> World:
    need_agents()
    for body in content.policies():
        if body.get("step") == "provenance":
            world.policy(body)
    world.tool("read_mail", effect=ToolEffect.READ)
    world.bind("read_mail")
    return world


@pytest.fixture
async def run(office: World, site: Path, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    async def run(program: Path, *arguments: str, **variables: str) -> Any:
        about = {"OFFICE_GATEWAY": office.url, "OFFICE_SERVER": SERVER, "OFFICE_TOKEN": office.token()}
        command, rest = agent(program, site, tmp_path, *arguments, **about | variables)
        process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1, **rest)
        out, err = await asyncio.wait_for(process.communicate(), 120)
        return printed(process.returncode, out, err)

    yield run


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest, run: Any) -> Run:
    name, variables = EXAMPLES[request.param]

    async def example(prompt: str, *steps: dict[str, Any], **more: str) -> dict[str, Any]:
        arguments = [prompt, json.dumps(steps)] if steps else []
        ran: dict[str, Any] = await run(ROOT / "examples" / name, *arguments, **variables | more)
        return ran

    return example


@pytest.mark.claim("sdk-adapters")
async def test_a_tool_is_not_run_with_an_address_that_only_a_result_named(office: World, example: Run) -> None:
    ended = await example("")
    assert [tool for tool, _ in ended["ran"]] == ["read_mail"]
    assert "archive@fabrikam-billing.example" in ended["told"][0]
    assert "was not run" in ended["told"][1] and "untraced_argument" in ended["told"][1]
    assert ended["answer"] == "Fabrikam sent an offer.", "the agent goes on"
    read, sent = office.records("ToolCallDecided")
    assert (read["Verdict"], sent["Verdict"], sent["ConversationId"]) == ("allow", "block", "thread-1")
    (reason,) = json.loads(sent["Reasons"])
    (finding,) = reason["detail"]["provenance"]["findings"]
    assert finding["source"] == f"{SERVER}/read_mail" and reason["detail"]["provenance"]["sees_user"] is True
    assert [row["Status"] for row in office.records("ToolCallCompleted")] == ["ok"]


@pytest.mark.claim("sdk-adapters")
async def test_the_same_call_runs_when_the_user_named_the_address(example: Run) -> None:
    ended = await example(f"Read my mail and send it to {STRANGER}", READ, SEND, DONE)
    assert ended["ran"] == [["read_mail", {}], ["send_email", SEND["arguments"]]]
    assert ended["told"][1] == "sent" and ended["answer"] == "Done."


async def test_a_held_call_is_not_run_and_the_agent_reads_how_to_go_on(office: World, example: Run) -> None:
    pay = {"tool": "pay", "arguments": {"to": "x", "amount": 5000.0}}
    ended = await example("Pay x 5000.0", pay, pay, DONE)
    assert ended["ran"] == []
    first, second = (row["HoldId"] for row in office.records("ToolCallDecided"))
    assert first == second and all(first in told and "very same call again" in told for told in ended["told"])


def _hold(office: World) -> dict[str, Any]:
    """The first hold on record, as operators are asked about it."""
    rows = office.records("ToolCallDecided")
    return next((json.loads(row["AdditionalFields"])["hold"] for row in rows if row.get("HoldId")), {})


async def test_a_held_call_runs_once_it_is_approved_where_the_guard_waits(office: World, example: Run) -> None:
    pay = {"tool": "pay", "arguments": {"to": "x", "amount": 5000.0}}
    running = asyncio.create_task(example("Pay x 5000.0", pay, DONE, OFFICE_HOLD_SECONDS="60"))
    office.approve(await eventually(lambda: _hold(office), "a hold", 60))
    ended = await running
    assert ended["ran"] == [["pay", pay["arguments"]]] and ended["told"] == ["paid"]


async def test_the_tool_runs_with_what_was_redacted(office: World, example: Run) -> None:
    office.policy(REDACTING)
    mail = {"to": ["griffin@zava.example"], "body": f"The key is {SECRET}."}
    ended = await example("Send me the key", {"tool": "send_email", "arguments": mail}, DONE)
    ((tool, arguments),) = ended["ran"]
    assert (tool, arguments["to"]) == ("send_email", mail["to"])
    assert SECRET not in json.dumps(ended) and arguments["body"].startswith("The key is ")


@pytest.mark.claim("sdk-adapters")
async def test_no_tool_runs_where_the_gateway_is_down_or_the_token_is_bad(example: Run) -> None:
    for wrong in ({"OFFICE_GATEWAY": "http://127.0.0.1:1"}, {"OFFICE_TOKEN": "bad"}):
        ended = await example("Read my mail", READ, READ, DONE, **wrong)
        assert ended["ran"] == [] and "was not run" in json.dumps(ended)


# -- what the examples do not show ------------------------------------------------------------------------------------


@pytest.mark.claim("sdk-adapters")
@pytest.mark.parametrize("program", ["nested_openai.py", "nested_langchain.py", "nested_agent_framework.py"])
async def test_what_a_model_writes_to_an_agent_below_is_not_the_users_word(
    office: World, run: Any, program: str
) -> None:
    office.tool("ask_clerk", effect=ToolEffect.READ)
    office.bind("ask_clerk")
    path = Path(__file__).with_name("agents") / program
    examples = str(ROOT / "examples")
    ended = await run(path, "Read my mail", EXAMPLES=examples)
    assert [tool for tool, _ in ended["ran"]] == ["read_mail"], ended
    decided = [(row["ToolName"], row["Verdict"]) for row in office.records("ToolCallDecided")]
    assert decided == [("read_mail", "allow"), ("ask_clerk", "allow"), ("send_email", "block")]
    ended = await run(path, f"Read my mail and let the clerk send it to {STRANGER}", EXAMPLES=examples)
    assert [tool for tool, _ in ended["ran"]] == ["read_mail", "send_email"], ended


async def test_whose_words_count_can_be_said_where_models_write_as_the_user(office: World, run: Any) -> None:
    path = Path(__file__).with_name("agents") / "team_langgraph.py"
    about = {"EXAMPLES": str(ROOT / "examples")}
    blind = await run(path, "Read my mail, please", HEARING="0", **about)
    assert len(blind["ran"]) == 2, "an order in a human message cannot be told from the user's word"
    ended = await run(path, "Read my mail", HEARING="1", **about)
    assert [tool for tool, _ in ended["ran"]] == ["read_mail"]
    ended = await run(path, f"Read my mail and send it to {STRANGER}", HEARING="1", **about)
    assert [tool for tool, _ in ended["ran"]] == ["read_mail", "send_email"]


@pytest.mark.parametrize("program", ["streamed_openai.py", "streamed_agent_framework.py", "toolnode_langgraph.py"])
async def test_the_users_words_are_heard_from_streams_and_in_graphs_without_an_agent(
    office: World, run: Any, program: str
) -> None:
    path = Path(__file__).with_name("agents") / program
    for prompt, expected in (("", ["read_mail"]), (f"Send it to {STRANGER}", ["read_mail", "send_email"])):
        ended = await run(path, prompt or "Read my mail", EXAMPLES=str(ROOT / "examples"))
        assert [tool for tool, _ in ended["ran"]] == expected, ended
        decided = office.records("ToolCallDecided")[-1]
        assert decided["ToolName"] == "send_email"


async def test_a_summary_that_middleware_wrote_is_not_the_users_word(office: World, run: Any) -> None:
    path = Path(__file__).with_name("agents") / "summarized_langchain.py"
    ended = await run(path, EXAMPLES=str(ROOT / "examples"))
    assert "fabrikam-billing" in ended["summary"] and ended["ran"] == []
    assert "untraced_argument" in ended["told"][-1]


async def test_tools_that_cannot_be_guarded_are_refused_and_handed_over_agents_are_guarded(
    office: World, run: Any
) -> None:
    path = Path(__file__).with_name("agents") / "protected_openai.py"
    ended = await run(path, EXAMPLES=str(ROOT / "examples"))
    assert "the tool web_search" in ended["refused"] and "gateway" in ended["refused"]
    assert ended["unguarded"] == ["read_mail", "web_search"]
    assert ended["ran"] == [["read_mail", {}]], "the agent that was handed over to is guarded, too"
    assert ended["doubled"] == {"to": ["griffin@zava.example"], "body": "x"}, "what was judged is what runs"
    assert "no JSON object" in ended["nonsense"]


async def test_agent_framework_without_ears_stops_the_run(office: World, run: Any) -> None:
    path = Path(__file__).with_name("agents") / "deaf_agent_framework.py"
    ended = await run(path, EXAMPLES=str(ROOT / "examples"))
    assert ended["ran"] == [] and "UserWords()" in ended["failed"]
