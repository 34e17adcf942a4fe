"""Traces through the API: lists, trees in pages, and contents only for who may read them, with an audit entry."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from portal.house import NOON, House, open_house
from watchfloor.model.people import Role
from watchfloor.storage import actions

pytestmark = pytest.mark.slow

TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(number: int, action: str, **columns: Any) -> dict[str, Any]:
    """A step that the billing agent tells of, ``number`` seconds after noon."""
    row = {
        "Timestamp": NOON + timedelta(seconds=number),
        "TenantId": "default",
        "ReportId": f"evt_{number:02}",
        "ActionType": action,
        "TraceId": TRACE,
        "ConversationId": "19:chat@thread/1",
        "AgentId": "billing",
        "AgentName": "Billing Agent",
        "UserId": "griffin",
        "AccountUpn": "griffin@zava.example",
        "SpanId": f"s{number}",
        "SourceDoor": "otlp-http",
        "Facts": '{"secret": true}',
    }
    return row | columns


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house where the billing agent told of a conversation in which the gateway blocked a mail."""
    with open_house(tmp_path_factory.mktemp("traces")) as house:
        house.stores.write(
            "AgentActivity",
            [
                span(1, "InvokeAgent"),
                span(2, "InferenceCall", ParentSpanId="s1", Model="gpt-5"),
                span(3, "ExecuteToolBySDK", ParentSpanId="s1", ToolName="send_email", DurationMs=3e3, Status="error"),
                span(4, "ToolCallDecided", SpanId="", InvocationId="inv_1", ToolName="send_email", ServerId="mail",
                     Verdict="block", ReasonCode="policy", ConversationId="", SourceDoor="mcp"),
                span(9, "OutputMessages", ParentSpanId="s1"),
            ],
        )  # fmt: skip
        common = {"Timestamp": NOON, "TenantId": "default", "AgentId": "billing"}
        house.stores.write(
            "AgentContent",
            [
                {**common, "TraceId": TRACE, "SpanId": "s1", "Kind": "input_messages", "Content": '[{"role": "user"}]'},
                {**common, "TraceId": TRACE, "SpanId": "s2", "Kind": "thought", "Content": '"send it outside"'},
                {**common, "InvocationId": "inv_1", "Kind": "invocation", "Content": '{"to": "drop@evil.example"}'},
            ],
        )
        yield house


def test_a_conversation_is_listed_once_with_what_was_stopped(told: House) -> None:
    client = told.client(Role.SOC_ANALYST)
    (line,) = client.get("/api/traces").json()["items"]
    assert (line["id"], line["steps"], line["blocked"], line["errors"]) == ("19:chat@thread/1", 5, 1, 1)
    assert (line["agents"], line["users"]) == (["Billing Agent"], ["griffin@zava.example"])
    assert client.get("/api/traces", params={"agent": "hr"}).json()["items"] == []
    assert client.get("/api/traces", params={"since": (NOON + timedelta(hours=1)).isoformat()}).json()["items"] == []


def test_pages_of_the_list_lead_on_and_a_made_up_place_is_refused(told: House) -> None:
    client = told.client(Role.SOC_ANALYST)
    assert client.get("/api/traces", params={"limit": 1}).json()["next"] is None
    assert client.get("/api/traces", params={"after": "0~"}).json() == {"items": [], "next": None}
    for wrong in ("x", "~", "12", "999999999999999999~"):
        answer = client.get("/api/traces", params={"after": wrong})
        assert answer.status_code == 422, answer.text
        assert answer.json()["where"] == "after"


def test_a_conversation_is_a_tree_from_prompt_to_verdict(told: House) -> None:
    body = told.client(Role.SOC_ANALYST).get("/api/traces/19:chat@thread/1").json()
    assert [(n["depth"], n["kind"], n["title"]) for n in body["nodes"]] == [
        (0, "trace", f"Trace {TRACE}"),
        (1, "prompt", "griffin@zava.example to Billing Agent"),
        (2, "inference", "gpt-5"),
        (2, "tool_call", "send_email: error"),
        (3, "verdict", "block for send_email on mail (policy)"),
        (2, "answer", "Billing Agent answers"),
    ]
    assert (body["steps"], body["is_truncated"], body["next"]) == (5, False, None)
    assert all(node["content"] is None for node in body["nodes"])
    assert "Facts" not in str(body)
    assert told.client(Role.SOC_ANALYST).get(f"/api/traces/{TRACE}").json()["nodes"] == body["nodes"]


def test_pages_of_a_tree_put_together_are_the_tree(told: House) -> None:
    client = told.client(Role.SOC_ANALYST)
    whole = client.get(f"/api/traces/{TRACE}").json()["nodes"]
    found: list[dict[str, Any]] = []
    after = ""
    while after is not None:
        body = client.get(f"/api/traces/{TRACE}", params={"limit": 2, "after": after}).json()
        found += body["nodes"]
        after = body["next"]
    assert found == whole
    assert client.get(f"/api/traces/{TRACE}", params={"after": "nowhere"}).status_code == 422


def test_contents_need_their_permission_and_leave_an_audit_entry(told: House) -> None:
    refused = told.client(Role.SOC_ANALYST).get(f"/api/traces/{TRACE}", params={"content": True})
    assert refused.status_code == 403
    assert "content.read" in refused.json()["detail"]
    assert "evil" not in refused.text
    with told.stores.control.read() as tx:
        assert actions.list_audit(tx, action="content:read") == []

    body = told.client(Role.SOC_OPERATOR).get(f"/api/traces/{TRACE}", params={"content": True}).json()
    said = {node["kind"]: node["content"] for node in body["nodes"]}
    assert said["prompt"] == [{"Kind": "input_messages", "Content": [{"role": "user"}]}]
    assert said["inference"] == [{"Kind": "thought", "Content": "send it outside"}]
    assert said["verdict"] == [{"Kind": "invocation", "Content": {"to": "drop@evil.example"}}]
    assert said["answer"] == []
    with told.stores.control.read() as tx:
        (entry,) = actions.list_audit(tx, action="content:read")
    assert (entry.actor, entry.subject) == ("op-soc-operator", f"trace/{TRACE}")
    assert entry.detail["events"] == ["evt_01", "evt_02", "evt_04"]


def test_a_page_without_contents_leaves_no_entry(told: House) -> None:
    with told.stores.control.read() as tx:
        before = len(actions.list_audit(tx, action="content:read"))
    answer = told.client(Role.SOC_OPERATOR).get(f"/api/traces/{TRACE}", params={"content": True, "limit": 1})
    assert answer.status_code == 200
    with told.stores.control.read() as tx:
        assert len(actions.list_audit(tx, action="content:read")) == before


@pytest.mark.parametrize("trace_id", ["nothing", "", 'x" or true', "%00"])
def test_a_trace_that_is_not_there_is_not_found(told: House, trace_id: str) -> None:
    assert told.client(Role.SOC_ANALYST).get(f"/api/traces/{trace_id}").status_code == 404


@pytest.mark.parametrize(
    "params",
    [
        {"since": "0001-01-01T00:00:00"},
        {"since": "9999-12-31T23:59:59-14:00"},
        {"after": "99999999999999999~\x00"},
        {"agent": '" or true or "', "user": "\\"},
    ],
)
def test_whatever_is_asked_is_answered(told: House, params: dict[str, str]) -> None:
    assert told.client(Role.SOC_ANALYST).get("/api/traces", params=params).status_code in (200, 422)


def test_who_may_not_read_decisions_sees_no_trace(told: House) -> None:
    for path in ("/api/traces", f"/api/traces/{TRACE}"):
        assert told.client(Role.IT_ADMIN).get(path).status_code == 403
        assert told.stranger().get(path).status_code == 401


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        ({"TargetAgentId": "hr", "TargetAgentName": "HR Agent"}, "Billing Agent to HR Agent"),
        ({"TargetAgentId": "hr"}, "Billing Agent to hr"),
        ({"TargetAgentName": "HR Agent"}, "Billing Agent to HR Agent"),
        ({"AgentId": "hr", "AgentName": "HR Agent", "ParentAgentId": "billing"}, "Billing Agent to HR Agent"),
        ({"AgentId": "hr", "AgentName": "HR Agent"}, "Billing Agent to HR Agent"),
    ],
)
def test_an_agent_that_calls_another_hands_over_whichever_of_them_tells_of_it(
    house: House, columns: dict[str, str], title: str
) -> None:
    rows = [span(1, "InvokeAgent"), span(2, "InvokeAgent", ParentSpanId="s1", **columns)]
    house.stores.write("AgentActivity", rows)
    nodes = house.client(Role.SOC_ANALYST).get(f"/api/traces/{TRACE}").json()["nodes"]
    assert [(n["kind"], n["title"]) for n in nodes[1:]] == [
        ("prompt", "griffin@zava.example to Billing Agent"),
        ("hand_off", title),
    ]


def test_an_agent_that_tells_of_its_own_run_twice_hands_nothing_over(house: House) -> None:
    house.stores.write("AgentActivity", [span(1, "InvokeAgent"), span(2, "InvokeAgent", ParentSpanId="s1")])
    nodes = house.client(Role.SOC_ANALYST).get(f"/api/traces/{TRACE}").json()["nodes"]
    assert [n["kind"] for n in nodes[1:]] == ["prompt", "prompt"]


def test_a_call_that_mcp_tells_of_too_is_one_step_with_the_contents_of_both(house: House) -> None:
    mcp = {"ParentSpanId": "s1", "OperationName": "tools/call", "ToolType": "mcp", "ToolName": "send_email"}
    house.stores.write(
        "AgentActivity", [span(1, "ExecuteToolBySDK", ToolName="send_email"), span(2, "McpRequest", **mcp)]
    )
    said = {"Timestamp": NOON, "TenantId": "default", "AgentId": "billing", "TraceId": TRACE}
    house.stores.write("AgentContent", [{**said, "SpanId": "s2", "Kind": "tool_arguments", "Content": '{"to": "x"}'}])
    body = house.client(Role.SOC_OPERATOR).get(f"/api/traces/{TRACE}", params={"content": True}).json()
    (call,) = body["nodes"][1:]
    assert (body["steps"], call["kind"], call["doubles"]) == (1, "tool_call", ["evt_02"])
    assert call["content"] == [{"Kind": "tool_arguments", "Content": {"to": "x"}}]
    query = {"query": "AgentActivity | count"}
    assert house.client(Role.SOC_ANALYST).post("/api/hunting/run", json=query).json()["rows"] == [[2]]
