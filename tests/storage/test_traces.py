"""The tree of a trace: the same for any order of its rows, every row in it once, decisions where they belong."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.storage.activity import Activity
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.ports import Scope
from watchfloor.storage.tables import TABLES
from watchfloor.storage.traces import (
    Node,
    TraceFilter,
    TraceLine,
    build,
    find_step_contents,
    find_steps,
    list_traces,
)

from .contract_events import logged
from .test_events import open_store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def step(number: int, action: str, *, at: float | None = None, **columns: Any) -> dict[str, Any]:
    """A row, ``at`` seconds after noon, by default as many as its number."""
    seconds = number if at is None else at
    row = {"Timestamp": NOON + timedelta(seconds=seconds), "IngestSeq": number, "ActionType": action, "TraceId": "t"}
    return row | columns


def drawn(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tree as lines: a dot a level, then the number of the step, or the trace."""
    return ["." * node.depth + (node.id if node.row is None else str(node.row["IngestSeq"])) for node in build(rows)]


CONVERSATION = (
    step(1, "InvokeAgent", SpanId="a"),
    step(2, "InferenceCall", SpanId="b", ParentSpanId="a"),
    step(
        3,
        "ExecuteToolBySDK",
        SpanId="c",
        ParentSpanId="a",
        ToolName="send_email",
        ToolCallId="call_1",
        DurationMs=900.0,
    ),
    step(4, "ToolCallDecided", at=3.2, InvocationId="inv_1", ToolName="send_email"),
    step(5, "ToolCallCompleted", at=3.8, InvocationId="inv_1", ToolName="send_email"),
    step(6, "OutputMessages", SpanId="d", ParentSpanId="a"),
)


def test_a_conversation_reads_from_prompt_to_answer() -> None:
    assert drawn(CONVERSATION) == ["trace:t", ".1", "..2", "..3", "...4", "....5", "..6"]


def test_the_gateways_rows_stand_below_their_trace_where_the_agent_tells_nothing() -> None:
    assert drawn([row for row in CONVERSATION if row["ActionType"].startswith("ToolCall")]) == ["trace:t", ".4", "..5"]


def test_a_result_whose_decision_is_not_there_stands_below_the_call() -> None:
    assert drawn([row for row in CONVERSATION if row["IngestSeq"] != 4]) == [
        "trace:t",
        ".1",
        "..2",
        "..3",
        "...5",
        "..6",
    ]


def test_a_decision_finds_its_call_by_id_before_tool_and_time() -> None:
    calls = [
        step(1, "ExecuteToolBySDK", SpanId="a", ToolName="pay", ToolCallId="x"),
        step(2, "ExecuteToolBySDK", SpanId="b", ToolName="pay", ToolCallId="y"),
        step(3, "ToolCallDecided", ToolName="pay", ToolCallId="x"),
        step(4, "GuardrailDecision", SpanId="g", DecisionTarget="tool_call", ToolCallId="y"),
    ]
    assert drawn(calls) == ["trace:t", ".1", "..3", ".2", "..4"]


def test_repeated_calls_of_one_tool_get_a_decision_each() -> None:
    calls = [
        step(n, "ExecuteToolBySDK", at=10 * n, SpanId=f"s{n}", ToolName="pay", DurationMs=2000.0) for n in (1, 2, 3)
    ]
    decisions = [
        step(10 + n, "ToolCallDecided", at=10 * n + 1, InvocationId=f"inv_{n}", ToolName="pay") for n in (1, 2, 3)
    ]
    assert drawn([*calls, *decisions]) == ["trace:t", ".1", "..11", ".2", "..12", ".3", "..13"]
    early = [row | {"Timestamp": row["Timestamp"] - timedelta(seconds=3)} for row in decisions]  # a clock that is slow
    assert drawn([*calls, *early]) == ["trace:t", ".1", "..11", ".2", "..12", ".3", "..13"]


def test_calls_of_one_tool_at_the_same_time_get_a_decision_each() -> None:
    calls = [step(n, "ExecuteToolBySDK", at=1, SpanId=f"s{n}", ToolName="pay", DurationMs=5000.0) for n in (1, 2)]
    decisions = [step(10 + n, "ToolCallDecided", at=2, InvocationId=f"inv_{n}", ToolName="pay") for n in (1, 2)]
    below = [node.parent for node in build([*calls, *decisions]) if node.row and node.row["IngestSeq"] > 10]
    assert sorted(below) == ["1", "2"]


@pytest.mark.parametrize(
    "other", [{"TraceId": "u"}, {"ToolName": "pay"}, {"Timestamp": NOON + timedelta(minutes=5)}, {"TraceId": ""}]
)
def test_a_decision_about_something_else_is_not_put_below_a_call(other: dict[str, Any]) -> None:
    decision = dict(CONVERSATION[3]) | other
    (found,) = [node for node in build([*CONVERSATION[:3], decision]) if node.row and node.row["IngestSeq"] == 4]
    assert found.parent == f"trace:{decision['TraceId']}"


def test_orphans_circles_and_ids_used_twice_lose_nothing() -> None:
    rows = [
        step(1, "Span", SpanId="a", ParentSpanId="gone"),
        step(2, "Span", SpanId="b", ParentSpanId="c"),
        step(3, "Span", SpanId="c", ParentSpanId="b"),
        step(4, "Span", SpanId="d", ParentSpanId="d"),
        step(5, "Span", SpanId="a"),
        step(6, "Span", SpanId="e", ParentSpanId="a"),
        step(7, "Span", SpanId="f", ParentSpanId="c"),
    ]
    assert drawn(rows) == ["trace:t", ".1", "..6", ".2", "..3", "...7", ".4", ".5"]


def test_spans_of_another_trace_are_no_parents() -> None:
    rows = [step(1, "Span", SpanId="a"), step(2, "Span", TraceId="u", SpanId="b", ParentSpanId="a")]
    assert drawn(rows) == ["trace:t", ".1", "trace:u", ".2"]


def test_a_call_that_mcps_client_and_server_tell_of_once_more_is_one_step() -> None:
    call = step(1, "ExecuteToolBySDK", SpanId="a", ToolName="pay")
    client = step(2, "McpRequest", SpanId="b", ParentSpanId="a", **TOOLS_CALL)
    server = step(3, "ExecuteToolBySDK", SpanId="c", ParentSpanId="b", ToolName="pay", ToolType="mcp")
    http = step(4, "Span", SpanId="d", ParentSpanId="b")
    decision = step(5, "ToolCallDecided", ToolName="pay", ParentSpanId="b")
    assert drawn([call, client, server, http, decision]) == ["trace:t", ".1", "..4", "..5"]
    assert [row["IngestSeq"] for row in build([call, client, server])[1].doubles] == [2, 3]


def test_a_span_of_mcp_around_a_call_gives_its_place_to_the_call() -> None:
    rows = [
        step(1, "InvokeAgent", SpanId="a"),
        step(2, "McpRequest", SpanId="b", ParentSpanId="a", **TOOLS_CALL),
        step(3, "ExecuteToolBySDK", SpanId="c", ParentSpanId="b", ToolName="pay"),
        step(4, "Span", SpanId="d", ParentSpanId="b"),
        step(5, "ToolCallDecided", ToolName="pay"),
    ]
    assert drawn(rows) == ["trace:t", ".1", "..3", "...4", "...5"]


@pytest.mark.parametrize(
    "other",
    [
        {"ToolName": "lookup"},
        {"OperationName": "tools/list", "ActionType": "McpRequest"},
        {"ToolType": "function", "ActionType": "ExecuteToolBySDK"},
        {"ParentSpanId": "gone"},
        {"TraceId": "u"},
    ],
)
def test_what_is_no_double_of_a_call_is_shown_beside_it(other: dict[str, Any]) -> None:
    call = step(1, "ExecuteToolBySDK", SpanId="a", ToolName="pay")
    second = step(2, "McpRequest", SpanId="b", ParentSpanId="a", **TOOLS_CALL) | other
    assert sorted(line.strip(".") for line in drawn([call, second]) if line[0] == ".") == ["1", "2"]


def test_a_call_that_only_mcp_tells_of_is_a_step_with_its_decision() -> None:
    rows = [step(1, "McpRequest", SpanId="a", **TOOLS_CALL), step(2, "ToolCallDecided", ToolName="pay")]
    assert drawn(rows) == ["trace:t", ".1", "..2"]


TOOLS_CALL = {"OperationName": "tools/call", "ToolType": "mcp", "ToolName": "pay"}
IDS = st.sampled_from(["", "a", "b", "c", "d"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "ActionType": st.sampled_from(
                [
                    "InvokeAgent",
                    "ExecuteToolBySDK",
                    "ToolCallDecided",
                    "ToolCallCompleted",
                    "GuardrailDecision",
                    "Span",
                    "McpRequest",
                ]
            ),
            "OperationName": st.sampled_from(["tools/call", ""]),
            "ToolType": st.sampled_from(["mcp", ""]),
            "TraceId": st.sampled_from(["t", "u", ""]),
            "SpanId": IDS,
            "ParentSpanId": IDS,
            "InvocationId": st.sampled_from(["", "inv_1", "inv_2"]),
            "ToolCallId": st.sampled_from(["", "call_1"]),
            "ToolName": st.sampled_from(["", "pay"]),
            "DurationMs": st.sampled_from([None, 0.0, 5000.0, -1.0, float("nan"), float("inf")]),
            "Seconds": st.integers(0, 20),
        }
    ),
    max_size=14,
).map(
    lambda rows: [
        {**row, "Timestamp": NOON + timedelta(seconds=row["Seconds"]), "IngestSeq": n} for n, row in enumerate(rows)
    ]
)


@given(ROWS, st.integers(0, 2**16))
def test_every_row_is_in_the_tree_once_whatever_their_order(rows: list[dict[str, Any]], seed: int) -> None:
    tree = build(rows)
    shown = [node.row["IngestSeq"] for node in tree if node.row]
    assert sorted(shown + [row["IngestSeq"] for node in tree for row in node.doubles]) == list(range(len(rows)))
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    assert build(shuffled) == tree
    check_depth_first(tree)


def check_depth_first(tree: Sequence[Node]) -> None:
    """Ids are unique, a node stands behind its parent and before what does not hang below that; siblings go by time."""
    assert len({node.id for node in tree}) == len(tree)
    path: list[Node] = []
    last_below: dict[str, Node] = {}
    for node in tree:
        path = path[: node.depth]
        assert len(path) == node.depth
        assert node.parent == (path[-1].id if path else "")
        assert (node.row is None) == (node.depth == 0)
        before = last_below.get(node.parent)
        if before and before.row and node.row:
            assert before.row["Timestamp"] <= node.row["Timestamp"]
        last_below[node.parent] = node
        path.append(node)


# -- questions to the event store -------------------------------------------------------------------------------------


MCP_AROUND: tuple[dict[str, Any], ...] = (
    {"SpanId": "m", "ToolType": "mcp"},
    {"SpanId": "n", "ParentSpanId": "m"},
    {"SpanId": "o", "ParentSpanId": "n", "ToolType": "mcp"},
    {"SpanId": "p", "ParentSpanId": "o", "ToolType": "mcp"},
    {"SpanId": "q", "ToolType": "mcp"},
)
"""Two calls: one that MCP tells of around it, below it and below that; and one that only MCP tells of."""


@pytest.fixture(scope="module")
def activity(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Activity]:
    def row(number: int, action: str, trace: str, conversation: str, **columns: Any) -> dict[str, Any]:
        return step(number, action, TraceId=trace, ConversationId=conversation, TenantId="default", **columns) | {
            "ReportId": f"evt_{number:02}"
        }

    rows = [
        row(1, "InvokeAgent", "t1", "c1", SpanId="a", AgentId="billing", AgentName="Billing Agent", UserId="griffin"),
        row(2, "ToolCallDecided", "t1", "", InvocationId="inv_1", AgentId="billing", Verdict="block"),
        row(3, "InferenceCall", "t2", "c1", SpanId="b", AgentId="billing", Status="error"),
        row(4, "InvokeAgent", "t3", "", SpanId="c", AgentId="hr", AccountUpn="mona@zava.example"),
        row(5, "InvokeAgent", "t1", "c1_c2", SpanId="d", ParentSpanId="a", AgentId="hr", ParentAgentId="billing"),
        row(6, "ToolCallDecided", "", "", InvocationId="inv_2", AgentId="hr", Verdict="hold"),
        row(7, "ToolListServed", "", "", AgentId="hr"),
        row(8, "InvokeAgent", "t9", "c9", AgentId="hr") | {"TenantId": "other"},
        *(
            row(n, "ExecuteToolBySDK", "t4", "c4", ToolName="pay", Status="error", at=-90, **columns)
            for n, columns in enumerate(MCP_AROUND, 10)
        ),
    ]
    contents = [
        {"TraceId": "t1", "SpanId": "a", "Kind": "input_messages", "Content": '"hello"'},
        {"TraceId": "t1", "SpanId": "a", "Kind": "thought", "Content": '"hm"'},
        {"InvocationId": "inv_1", "Kind": "invocation", "Content": "{}"},
        {"TraceId": "t3", "SpanId": "c", "Kind": "input_messages", "Content": '"else"'},
    ]
    directory: Path = tmp_path_factory.mktemp("traces")
    with closing(open_store(directory)) as opened:
        store: DuckDbStore = opened
        for number, found in enumerate(rows, 1):
            store.ingest([logged(number, TABLES["AgentActivity"].batch([found]))])
        common = {"TenantId": "default", "Timestamp": NOON}
        store.ingest([logged(100, TABLES["AgentContent"].batch([common | found for found in contents]))])
        yield Activity(store, KqlCompiler(), Scope())


def lines(activity: Activity, limit: int = 50, **filters: Any) -> list[TraceLine]:
    """The whole list, page by page."""
    found: list[TraceLine] = []
    after = None
    while True:
        page = list_traces(activity, TraceFilter(NOON - timedelta(days=1), after=after, **filters), limit)
        assert len(page.lines) <= limit
        found += page.lines
        if page.following is None:
            return found
        assert after is None or page.following < after or page.following[1] > after[1]
        after = page.following


def test_conversations_come_with_all_of_their_traces(activity: Activity) -> None:
    hold, whole, alone, _ = lines(activity)
    assert (hold.id, hold.steps, hold.held, hold.traces) == ("inv_2", 1, 1, 0)
    assert (whole.id, whole.steps, whole.blocked, whole.errors, whole.traces) == ("c1", 4, 1, 1, 2)
    assert whole.agents == ("Billing Agent", "billing", "hr")
    assert whole.users == ("griffin",)
    assert (whole.first, whole.last) == (NOON + timedelta(seconds=1), NOON + timedelta(seconds=5))
    assert (alone.id, alone.users) == ("t3", ("mona@zava.example",))


def test_a_call_that_mcp_tells_of_once_more_counts_once_in_the_list_as_in_the_tree(activity: Activity) -> None:
    (line,) = lines(activity, conversation_id="c4")
    tree = build(find_steps(activity, "c4"))
    assert (line.steps, line.errors) == (2, 2)
    assert [node.row["SpanId"] for node in tree if node.row] == ["n", "q"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"agent_id": "billing"}, ["c1"]),
        ({"agent_id": "hr"}, ["inv_2", "c1", "t3"]),
        ({"user_id": "griffin"}, ["c1"]),
        ({"user_id": "mona@zava.example"}, ["t3"]),
        ({"conversation_id": "c1_c2"}, ["c1"]),
        ({"conversation_id": "c9"}, []),
        ({"agent_id": 'x" or true or "'}, []),
        ({"user_id": "griffin", "agent_id": "hr"}, []),
    ],
)
def test_one_step_that_fits_brings_the_whole_conversation(
    activity: Activity, filters: dict[str, str], expected: list[str]
) -> None:
    found = lines(activity, **filters)
    assert [line.id for line in found] == expected
    assert all(line.steps == 4 for line in found if line.id == "c1")


@pytest.mark.parametrize("filters", [{}, {"agent_id": "hr"}, {"agent_id": "billing"}])
def test_pages_of_the_list_put_together_are_the_list(activity: Activity, filters: dict[str, str]) -> None:
    whole = lines(activity, **filters)
    assert [line.newest for line in whole] == sorted((line.newest for line in whole), reverse=True)
    for limit in (1, 2):
        assert lines(activity, limit, **filters) == whole


def test_conversations_of_many_traces_leave_out_nobody(tmp_path: Path) -> None:
    """More traces than are looked at for a page, of conversations that take turns."""
    rows = [
        step(n, "Span", TenantId="default", TraceId=f"t{n}", ConversationId=f"c{n % 3}", SpanId="s") for n in range(60)
    ] + [step(60 + n, "Span", TenantId="default", TraceId=f"t{n}", at=n + 0.5) for n in range(60)]
    with closing(open_store(tmp_path)) as store:
        store.ingest([logged(1, TABLES["AgentActivity"].batch(rows))])
        activity = Activity(store, KqlCompiler(), Scope())
        for limit in (1, 2, 50):
            found = lines(activity, limit)
            assert [(line.id, line.steps, line.traces) for line in found] == [
                ("c2", 40, 20),
                ("c1", 40, 20),
                ("c0", 40, 20),
            ]


def test_a_conversation_is_found_with_the_steps_that_do_not_name_it(activity: Activity) -> None:
    def found(trace_id: str) -> list[str]:
        return [row["ReportId"] for row in find_steps(activity, trace_id)]

    assert found("c1") == ["evt_01", "evt_02", "evt_03", "evt_05"]
    assert found("t1") == ["evt_01", "evt_02", "evt_05"]
    assert found("inv_2") == ["evt_06"]
    assert found("c9") == []
    assert found("") == []


def test_contents_are_those_of_the_steps_and_no_others(activity: Activity) -> None:
    rows = find_steps(activity, "c1")
    by_event = {row["IngestSeq"]: row["ReportId"] for row in rows}
    found = {by_event[step]: [c["Kind"] for c in said] for step, said in find_step_contents(activity, rows).items()}
    assert found == {"evt_01": ["input_messages", "thought"], "evt_02": ["invocation"]}
    assert find_step_contents(activity, []) == {}
