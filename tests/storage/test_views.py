"""Views: tables that are queries. They are what they are said to be, and show nothing that their tables would not.

The engine here holds whatever a test puts into it and filters nothing by itself, so what keeps rows apart is the scope
that is laid into a compiled query.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from kql.running import Answer, shown
from watchfloor import content, kql
from watchfloor.content import ViewFile, read_view
from watchfloor.model.errors import InputError
from watchfloor.storage.compiler import KqlCompiler, catalogue, described_views, ticks
from watchfloor.storage.engine import Engine
from watchfloor.storage.hunting import Hunter, Request
from watchfloor.storage.ports import Limits, Scope
from watchfloor.storage.tables import TABLES
from watchfloor.storage.views import with_views

NOW = datetime(2026, 3, 5, tzinfo=UTC)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NOBODY = "00000000-0000-0000-0000-000000000000"
VIEWS = sorted(catalogue().views)
REASONS = json.dumps(
    [{"code": "policy", "message": "No.", "detail": {"tactic": "Collection", "techniques": ["T1213"]}}]
)
SIGNALS = json.dumps([{"detector": "jailbreak", "category": "jailbreak", "severity": "high", "score": 0.9}])


def activity(number: int, action: str, **columns: Any) -> dict[str, Any]:
    """A row of AgentActivity: griffin's billing agent, one minute a number."""
    row = {
        "Timestamp": NOON + timedelta(minutes=number),
        "IngestTime": NOON,
        "IngestSeq": number,
        "TenantId": "default",
        "ReportId": f"evt_{number:02}",
        "ActionType": action,
        "AgentId": "billing",
        "AgentName": "Billing Agent",
        "AgentBlueprintId": "11111111-1111-1111-1111-111111111111",
        "UserId": "griffin",
        "AccountUpn": "griffin@zava.example",
        "ActingMode": "on-behalf-of",
        "IPAddress": "203.0.113.7",
        "ConversationId": "c-1",
        "SessionId": "s-1",
        "TraceId": "t-1",
    }
    return row | columns


def call(number: int, action: str, invocation: str, **columns: Any) -> dict[str, Any]:
    """The gateway's row about a call of the mail tool."""
    return activity(
        number, action, InvocationId=invocation, ServerId="mail", ToolName="send_email", ToolEffect="send",
        SourceDoor="mcp", **columns,
    )  # fmt: skip


STORY = (
    activity(1, "InvokeAgent", ChannelName="msteams", ServiceName="zava-billing", SourceDoor="a365"),
    activity(2, "InferenceCall", Model="gpt-5", Provider="openai", InputTokens=10, OutputTokens=3,
             ChannelName="msteams"),
    call(3, "ToolCallDecided", "inv_1", Verdict="allow", WouldBe="allow", DecisionUs=12.0),
    call(4, "ToolCallCompleted", "inv_1", Status="ok", HttpStatus=200, DurationMs=20.0, BytesOut=64),
    call(5, "ToolCallDecided", "inv_2", Verdict="block", WouldBe="block", ReasonCode="policy", PolicyId="outside",
         Reasons=REASONS, Signals=SIGNALS),
    call(6, "ToolCallDecided", "inv_3", Verdict="allow", WouldBe="block"),
    call(7, "ToolCallDecided", "inv_4", Verdict="hold", WouldBe="hold", ReasonCode="held", HoldId="hold_1"),
    activity(8, "GuardrailDecision", Verdict="block", WouldBe="block", DecisionTarget="tool_call", ToolCallId="call_1",
             GuardianName="zava-guard", RiskCategory="data_leak"),
    activity(9, "ExecuteToolBySDK", ToolName="lookup", ToolType="function", ToolCallId="call_1", DurationMs=5.0,
             Status="error", ErrorType="PermissionError", SourceDoor="a365"),
    activity(10, "OutputMessages", ChannelName="msteams"),
    activity(11, "InvokeAgent", AgentId="hr", AgentName="HR Agent", ParentAgentId="billing", ConversationId="c-1_c-2"),
    activity(12, "RequestRefused", ReasonCode="token_expired", Status="refused", ServerId="mail", ToolName=""),
    activity(13, "ToolListServed", ServerId="mail"),
    activity(14, "InvokeAgent", TargetAgentId="travel", TargetAgentName="Travel Agent"),
)  # fmt: skip


@contextmanager
def asking(rows: Iterable[Mapping[str, Any]], schema: kql.Schema | None = None) -> Iterator[Hunter]:
    """Whoever asks an engine that holds ``rows``."""
    held = {name: pa.Table.from_batches([table.batch([])]) for name, table in TABLES.items() if name != "AgentActivity"}
    table = TABLES["AgentActivity"]
    empty = {c.name: "" for c in table.columns if c.type == "string"}
    held["AgentActivity"] = pa.Table.from_batches([table.batch([empty | row for row in rows])])
    with closing(Engine(held, memory_limit="512MiB", threads=2)) as engine:
        yield Hunter(engine, KqlCompiler(schema=schema, now=lambda: NOW))


@pytest.fixture(scope="module")
def hunter() -> Iterator[Hunter]:
    with asking(STORY) as opened:
        yield opened


def ask(hunter: Hunter, text: str, scope: Scope | None = None, **options: Any) -> Answer:
    return shown(hunter.hunt(Request(text, scope or Scope(), Limits(20, 10_000), **options)))


def cells(hunter: Hunter, text: str) -> list[Any]:
    return ask(hunter, text).column


# -- what they are ----------------------------------------------------------------------------------------------------


def test_every_column_of_every_view_is_described() -> None:
    assert set(described_views()) == set(VIEWS)
    for view in described_views().values():
        assert [(c.name, c.type) for c in view.columns] == [
            (c.name, c.type) for c in catalogue().views[view.name].table.columns
        ]
        assert all(c.doc.strip() for c in view.columns)
        assert view.doc
        assert not view.is_content


def test_cloud_app_events_have_the_columns_and_types_of_defender() -> None:
    wanted = (
        "Timestamp:datetime ActionType Application ApplicationId:int AppInstanceId:int AccountObjectId AccountId "
        "AccountDisplayName IsAdminOperation:bool DeviceType OSPlatform IPAddress IsAnonymousProxy:bool CountryCode "
        "City Isp ISP UserAgent ActivityType ActivityObjects:dynamic ObjectName ObjectType ObjectId ReportId "
        "AccountType IsExternalUser:bool IsImpersonated:bool IPTags:dynamic IPCategory UserAgentTags:dynamic "
        "RawEventData:dynamic AdditionalFields:dynamic LastSeenForUser:dynamic UncommonForUser:dynamic AuditSource "
        "SessionData:dynamic OAuthAppId"
    )
    columns = catalogue().views["CloudAppEvents"].table.columns
    assert " ".join(c.name if c.type == "string" else f"{c.name}:{c.type}" for c in columns) == wanted


def test_each_step_is_a_cloud_app_event_and_what_was_stopped_is_none(hunter: Hunter) -> None:
    found = ask(hunter, "CloudAppEvents | project ReportId, ActionType | sort by ReportId asc, ActionType asc").rows
    assert found == [
        ["evt_01", "CopilotInteraction"],
        ["evt_01", "InvokeAgent"],
        ["evt_02", "InferenceCall"],
        ["evt_03", "ExecuteToolByGateway"],
        ["evt_04", "ExecuteToolByMCPServer"],
        ["evt_05", "CopilotInteraction"],
        ["evt_06", "ExecuteToolByGateway"],
        ["evt_09", "ExecuteToolBySDK"],
        ["evt_11", "InvokeAgent"],
        ["evt_14", "InvokeAgent"],
    ]


def test_a_persons_prompt_is_told_from_a_hand_over(hunter: Hunter) -> None:
    text = (
        "CloudAppEvents | where ActionType == 'InvokeAgent' | extend d = parse_json(RawEventData) | project "
        "tostring(d.AgentBlueprintId), tostring(d.TargetAgentName), tostring(d.UserId), tostring(d.ConversationId), "
        "tostring(d.ChannelName), Timestamp | sort by Timestamp asc | project-away Timestamp"
    )
    assert ask(hunter, text).rows == [
        [NOBODY, "Billing Agent", "griffin@zava.example", "c-1", "msteams"],
        ["11111111-1111-1111-1111-111111111111", "HR Agent", "griffin@zava.example", "c-1_c-2", ""],
        ["11111111-1111-1111-1111-111111111111", "Travel Agent", "griffin@zava.example", "c-1", ""],
    ]


def test_published_queries_find_jailbreaks_and_tools(hunter: Hunter) -> None:
    jailbreaks = (
        "CloudAppEvents | where Timestamp > ago(30d) | where ActionType == 'CopilotInteraction'"
        " | where RawEventData has_any ('JailbreakDetected')"
        " | extend P = parse_json(RawEventData) | mv-expand Msg = P.CopilotEventData.Messages"
        " | where tobool(Msg.JailbreakDetected) == true | project ReportId, tostring(P.UserId)"
    )
    assert ask(hunter, jailbreaks).rows == [["evt_05", "griffin@zava.example"]]
    tools = (
        "CloudAppEvents | where ActionType in ('ExecuteToolBySDK', 'ExecuteToolByGateway', 'ExecuteToolByMCPServer')"
        " | extend d = parse_json(RawEventData) | where isnotempty(tostring(d.ToolName))"
        " | summarize Calls = count() by Agent = tostring(d.AgentName), ToolName = tostring(d.ToolName), ActionType"
        " | sort by ActionType asc | project ToolName, ActionType, Calls"
    )
    assert ask(hunter, tools).rows == [
        ["send_email", "ExecuteToolByGateway", 2],
        ["send_email", "ExecuteToolByMCPServer", 1],
        ["lookup", "ExecuteToolBySDK", 1],
    ]
    by_sentinel = (
        "CopilotActivity | where TimeGenerated > ago(30d) | where RecordType == 'CopilotInteraction'"
        " | extend Messages = parse_json(tostring(LLMEventData.Messages)) | mv-expand Messages"
        " | where tobool(Messages.JailbreakDetected) == true | project RecordId, ActorName, AgentName"
    )
    assert ask(hunter, by_sentinel).rows == [["evt_05", "griffin@zava.example", "Billing Agent"]]


def test_a_word_in_an_excerpt_is_no_jailbreak() -> None:
    signals = json.dumps([{"detector": "secrets", "category": "secret", "excerpt": 'a "jailbreak" \u2026 jailbreak'}])
    rows = [call(1, "ToolCallDecided", "inv_1", Verdict="allow", WouldBe="allow", Signals=signals)]
    with asking(rows) as opened:
        assert cells(opened, "BehaviorInfo | count") == [0]
        assert cells(opened, "CopilotActivity | count") == [0]
    with asking([rows[0] | {"Signals": SIGNALS}]) as opened:
        assert cells(opened, "CopilotActivity | where JailbreakDetected | count") == [1]


def test_no_view_shows_what_was_said(hunter: Hunter) -> None:
    assert all("AgentContent" not in catalogue().views[name].reads for name in VIEWS)


def test_copilot_activity_has_model_tokens_and_channel(hunter: Hunter) -> None:
    text = "CopilotActivity | project RecordId, AIModelName, InputTokens, OutputTokens, AppHost | sort by RecordId asc"
    assert ask(hunter, text).rows == [
        ["evt_01", "", None, None, "msteams"],
        ["evt_02", "gpt-5", 10, 3, "msteams"],
        ["evt_05", "", None, None, ""],
        ["evt_10", "", None, None, "msteams"],
        ["evt_11", "", None, None, ""],
        ["evt_14", "", None, None, ""],
    ]


def test_what_stands_out_is_a_behaviour_and_what_does_not_is_none(hunter: Hunter) -> None:
    text = "BehaviorInfo | project BehaviorId, ActionType, Categories, AttackTechniques | sort by BehaviorId asc"
    assert ask(hunter, text).rows == [
        ["evt_05", "BehaviorPromptShieldJailbreakDetect", '["Collection"]', '["T1213"]'],
        ["evt_06", "BehaviorToolCallWouldBeBlocked", '["Execution"]', "[]"],
        ["evt_07", "BehaviorToolCallHeld", '["Execution"]', "[]"],
        ["evt_08", "BehaviorGuardrailDenied", '["Execution"]', "[]"],
        ["evt_12", "BehaviorRequestRefused", '["Execution"]', "[]"],
    ]
    (described,) = cells(hunter, "BehaviorInfo | where BehaviorId == 'evt_07' | project Description")
    assert described == (
        "A tool call was held for an operator: Billing Agent and mail/send_email, for griffin@zava.example (held)."
    )


def test_each_behaviour_has_its_entities(hunter: Hunter) -> None:
    text = "BehaviorEntities | where BehaviorId == 'evt_05' | project EntityType, EntityId | sort by EntityType asc"
    assert ask(hunter, text).rows == [
        ["AIAgent", "billing"],
        ["Ip", "203.0.113.7"],
        ["McpServer", "mail"],
        ["Tool", "mail/send_email"],
        ["User", "griffin"],
    ]
    assert cells(hunter, "BehaviorEntities | where EntityType == 'User' | distinct AccountDomain") == ["zava.example"]
    for one, other in (("BehaviorInfo", "BehaviorEntities"), ("BehaviorEntities", "BehaviorInfo")):
        assert cells(hunter, f"{one} | join kind=leftanti {other} on BehaviorId, ActionType | count") == [0]


def test_a_tool_call_is_one_row_with_its_decision_and_its_end(hunter: Hunter) -> None:
    text = (
        "AIAgentToolEvents | project ReportId, SeenBy, ToolName, Verdict, Status, HttpStatus, CompletedTime"
        " | sort by ReportId asc"
    )
    assert ask(hunter, text).rows == [
        ["evt_03", "Gateway", "send_email", "allow", "ok", 200, "2026-03-04T12:04:00.0000000Z"],
        ["evt_05", "Gateway", "send_email", "block", "", None, None],
        ["evt_06", "Gateway", "send_email", "allow", "", None, None],
        ["evt_07", "Gateway", "send_email", "hold", "", None, None],
        ["evt_09", "Agent", "lookup", "block", "error", None, "2026-03-04T12:09:00.0050000Z"],
    ]


def test_sensitive_data_is_a_data_security_event_by_place_with_types_label_and_policies() -> None:
    def seen(category: str, path: str, score: float, detector: str = "sensitive") -> dict[str, Any]:
        return {"detector": detector, "category": category, "path": path, "score": score, "excerpt": "••••"}

    signals = [
        seen("iban", "arguments.body", 0.8),
        seen("iban", "arguments.note", 0.4),
        seen("us_ssn", "user_turns[0]", 0.65),
        seen("jailbreak", "user_turns[0]", 0.9, "jailbreak"),
    ]
    reason = {"code": "detector", "step": "detectors", "effect": "redact", "mode": "audit", "policy_id": "leaving",
              "detail": {"title": "Leaving"}}  # fmt: skip
    other = {"code": "policy", "step": "policies", "effect": "block", "mode": "enforce", "policy_id": "outside"}
    rows = [
        call(1, "ToolCallDecided", "inv_1", Verdict="allow", WouldBe="redact", Signals=json.dumps(signals),
             Reasons=json.dumps([reason, other])),
        call(2, "ToolCallDecided", "inv_2", Verdict="allow", WouldBe="allow", Signals=SIGNALS, Reasons="[]"),
        call(3, "ToolCallDecided", "inv_3", Verdict="block", WouldBe="block", Reasons="[]",
             Signals=json.dumps([seen("phone_number", "arguments.to", 0.65)])),
    ]  # fmt: skip
    with asking(rows) as opened:
        text = (
            "DataSecurityEvents | project ReportId, ActionType, SensitivityLabel, DlpPolicyEnforcementMode,"
            " Policies = tostring(DlpPolicyMatchInfo) | sort by ReportId asc, ActionType asc"
        )
        policies = '[{"PolicyId":"leaving","PolicyName":"Leaving","PolicyMode":"audit","Action":"redact"}]'
        assert ask(opened, text).rows == [
            ["evt_01", "Risky prompt entered in connected AI apps", "Highly Confidential", "Audit", policies],
            ["evt_01", "Sensitive data sent by AI agent", "Confidential", "Audit", policies],
            ["evt_03", "Sensitive data sent by AI agent", "General", "Block", "[]"],
        ]
        published = (
            "DataSecurityEvents | where isnotempty(SensitiveInfoTypeInfo)"
            " | mv-expand SIT = parse_json(tostring(SensitiveInfoTypeInfo))"
            " | extend SITJson = parse_json(tostring(SIT))"
            " | extend SITId = tostring(SITJson.SensitiveInfoTypeId), Confidence = toint(SITJson.Confidence),"
            " Times = toint(SITJson.Count) | summarize max(Confidence), sum(Times), dcount(AccountUpn) by SITId"
            " | sort by SITId asc"
        )
        assert ask(opened, published).rows == [["iban", 85, 2, 1], ["phone_number", 75, 1, 1], ["us_ssn", 75, 1, 1]]


def test_labels_of_data_security_events_are_those_of_the_detectors() -> None:
    from watchfloor.guard.detectors.sensitive import LABEL_OF

    signals = json.dumps(
        [{"detector": "sensitive", "category": kind, "path": "arguments.a", "score": 0.8} for kind in LABEL_OF]
    )
    for kind, label in LABEL_OF.items():
        one = json.dumps([signal for signal in json.loads(signals) if signal["category"] == kind])
        row = call(1, "ToolCallDecided", "inv_1", Verdict="allow", WouldBe="allow", Signals=one, Reasons="[]")
        with asking([row]) as opened:
            shown_label = cells(opened, "DataSecurityEvents | project SensitivityLabel")
            assert shown_label == [label.name.replace("_", " ").title()], kind


# -- how they are named and asked -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["['BehaviorInfo']", "table('BehaviorInfo')", "database('watchfloor').BehaviorInfo", "(BehaviorInfo)"]
)
def test_a_view_is_named_as_a_table_is(hunter: Hunter, name: str) -> None:
    assert cells(hunter, f"{name} | count") == [5]


def test_a_view_stands_wherever_a_table_does(hunter: Hunter) -> None:
    assert cells(hunter, "let b = BehaviorInfo; b | union b | count") == [10]
    assert cells(hunter, "BehaviorInfo | join kind=inner BehaviorInfo on BehaviorId | count") == [5]
    assert cells(hunter, "print toscalar(BehaviorInfo | count)") == [5]
    assert cells(
        hunter, "union withsource=From BehaviorInfo, AlertInfo | summarize count() by From | project From"
    ) == ["BehaviorInfo"]
    assert cells(hunter, "search in (BehaviorInfo) 'held' | count") == [1]
    assert cells(hunter, "let BehaviorInfo = datatable(a: long) [1]; BehaviorInfo | count") == [1]


def test_wildcards_do_not_mean_views_or_rows_would_come_twice(hunter: Hunter) -> None:
    assert cells(hunter, "union * | count") == [len(STORY)]
    assert cells(hunter, "search 'griffin' | count") == [len(STORY)]
    assert refusal(hunter, "union Behavior* | count").startswith("No table matches")


def test_a_view_is_known_to_a_fuzzy_union_and_named_in_what_is_wrong(hunter: Hunter) -> None:
    assert cells(hunter, "union isfuzzy=true BehaviorInfo, Nothing | count") == [5]
    assert cells(hunter, "union isfuzzy=true (BehaviorInfo | take 2), Nothing | count") == [2]
    assert "BehaviorInfo is a table, a value is expected here." in refusal(hunter, "print 1 + BehaviorInfo")


def test_restrict_access_counts_for_a_view_as_for_a_table(hunter: Hunter) -> None:
    assert cells(hunter, "restrict access to (BehaviorInfo); BehaviorInfo | count") == [5]
    assert "There is no table BehaviorInfo" in refusal(hunter, "restrict access to (AgentActivity); BehaviorInfo")


def test_a_name_that_is_nearly_a_views_is_corrected(hunter: Hunter) -> None:
    assert refusal(hunter, "CloudAppEvent | count").endswith("Did you mean CloudAppEvents?")


def refusal(hunter: Hunter, text: str, scope: Scope | None = None) -> str:
    with pytest.raises(InputError) as refused:
        ask(hunter, text, scope)
    return f"{refused.value.message} {refused.value.remedy}".strip()


# -- what they cost ---------------------------------------------------------------------------------------------------


OF_NOW = ("CurrentAgents", "CurrentGrants", "ExposureGraphEdges", "ExposureGraphNodes", "PostureFindings")
"""Views of what is true now: like their counterparts elsewhere, they have no time."""


@pytest.mark.parametrize("name", [name for name in VIEWS if name not in OF_NOW])
def test_a_time_filter_reaches_the_tables_below(name: str) -> None:
    compiled = KqlCompiler().compile(
        f"{name} | where Timestamp > ago(1h) | project Timestamp, ActionCount = 1", Scope()
    )
    assert "LIMIT" not in compiled.sql, "the filter is fenced off from the scan"
    for column in ("Facts", "PolicySet", "WorkerId", "Content"):
        assert f'"{column}"' not in compiled.sql


def test_columns_that_nobody_asked_for_are_not_read() -> None:
    query = "CloudAppEvents | where Timestamp > ago(1d) | project Timestamp, AccountId"
    read = set(KqlCompiler().compile(query, Scope()).sql.split('"')[1::2])
    needed = {
        "Timestamp",
        "UserId",
        "TenantId",
        "ActionType",
        "Verdict",
        "ParentAgentId",
        "TargetAgentId",
        "TargetAgentName",
        "ActingMode",
    }
    assert read == needed | {"AgentActivity", "RiskCategory", "Signals"}


# -- walls ------------------------------------------------------------------------------------------------------------

SCOPE = Scope(("us", "them"), since=NOON)
UNTIL = NOON + timedelta(hours=1)


def test_a_view_over_a_table_that_the_asker_may_not_see_does_not_exist(hunter: Hunter) -> None:
    scope = Scope(tables=frozenset({"AlertInfo"}))
    assert "There is no table CloudAppEvents." in refusal(hunter, "CloudAppEvents | count", scope)
    assert "There is no table CloudAppEvents." in refusal(hunter, "table('CloudAppEvents') | count", scope)
    assert "Did you mean" not in refusal(hunter, "CloudAppEvent | count", scope)


def test_a_view_over_contents_is_there_only_for_who_may_read_them() -> None:
    texts = ViewFile("Said", "What was said.", {"Kind": "Its kind."}, "AgentContent | project Kind")
    counted = ViewFile(
        "SaidCount", "How much.", {"Kind": "Its kind.", "N": "How many."}, "Said | summarize N = count() by Kind"
    )
    schema = with_views(kql.Schema(catalogue().tables), [counted, texts])
    assert schema.views["SaidCount"].reads == {"AgentContent"}
    with asking(STORY, schema) as hunter:
        everything = frozenset(TABLES)
        assert ask(hunter, "SaidCount | count", Scope(tables=everything)).column == [0]
        without = Scope(tables=everything - {"AgentContent"})
        for name in ("Said", "SaidCount"):
            assert f"There is no table {name}" in refusal(hunter, f"{name} | count", without)


def hidden(row: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Rows beside ``row`` that the asker may not see: other tenants, too early, too late."""
    return [
        row | {"TenantId": "other", "ReportId": f"secret_{number}", "AccountUpn": "secret"},
        row | {"Timestamp": NOON - timedelta(seconds=1), "ReportId": f"secret_{number}", "ToolName": "secret"},
        row | {"Timestamp": UNTIL, "ReportId": f"secret_{number}", "AgentName": "secret"},
        row | {"TenantId": "", "ReportId": f"secret_{number}", "Status": "secret", "ServerId": "secret"},
    ]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "TenantId": st.sampled_from(["us", "them"]),
            "ActionType": st.sampled_from(sorted({str(row["ActionType"]) for row in STORY})),
            "Verdict": st.sampled_from(["", "allow", "block", "hold"]),
            "WouldBe": st.sampled_from(["", "block"]),
            "InvocationId": st.sampled_from(["inv_1", "inv_2"]),
            "ToolCallId": st.sampled_from(["", "call_1"]),
            "DecisionTarget": st.sampled_from(["tool_call", "llm_input"]),
            "RiskCategory": st.sampled_from(["", "jailbreak"]),
            "Signals": st.sampled_from(["[]", SIGNALS]),
            "ToolName": st.sampled_from(["", "send_email"]),
            "ActingMode": st.sampled_from(["human", "agent", "on-behalf-of"]),
            "ParentAgentId": st.sampled_from(["", "hr"]),
        }
    ),
    max_size=8,
)
QUERIES = st.sampled_from(
    [
        "",
        " | count",
        " | where * has 'secret'",
        " | summarize count(), make_set(Timestamp) by AgentName = tostring(column_ifexists('AgentName', ''))",
        " | extend Row = pack_all() | summarize make_list(Row)",
        " | join kind=inner AgentActivity on $left.Timestamp == $right.Timestamp | count",
        " | union AgentActivity | summarize count(), dcount(Timestamp)",
        " | where Timestamp > datetime(2026-03-04 12:03) | count",
    ]
)


def outcome(hunter: Hunter, text: str) -> Any:
    try:
        answer = ask(hunter, text, SCOPE, until=ticks(UNTIL))
    except InputError as error:
        return ["refused", str(error)]
    return [answer.columns, sorted(json.dumps(normal(row), sort_keys=True) for row in answer.rows)]


def normal(value: Any) -> Any:
    """Without the order of arrays, which make_list does not promise over rows in no order."""
    if isinstance(value, list):
        return sorted((normal(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    return {k: normal(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.slow
@given(ROWS, st.sampled_from(VIEWS), QUERIES)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_view_never_shows_what_its_tables_would_not(columns: Sequence[dict[str, Any]], view: str, rest: str) -> None:
    visible = [activity(n, "", **found) for n, found in enumerate(columns)]
    secret = [row for n, found in enumerate(visible) for row in hidden(found, n)]
    with asking(visible) as little, asking([*visible, *secret]) as whole:
        found = outcome(whole, view + rest)
        assert found == outcome(little, view + rest)
        event(str(found[0] == "refused"))
        assume("'secret'" not in rest)
        assert "secret" not in json.dumps(found)


# -- what is no view --------------------------------------------------------------------------------------------------


def refused_view(*files: ViewFile) -> str:
    with pytest.raises(InputError) as refused:
        with_views(kql.Schema(catalogue().tables), files)
    return str(refused.value)


def view(name: str, query: str, *columns: str) -> ViewFile:
    return ViewFile(name, "A view.", dict.fromkeys(columns, "A column."), query)


def test_views_that_read_one_another_in_a_circle_are_refused_by_the_way_round() -> None:
    one, two = view("One", "Two | project A", "A"), view("Two", "union One, AlertInfo | project A = Title", "A")
    assert "One → Two → One" in refused_view(one, two)
    assert "One → One" in refused_view(view("One", "One | project A", "A"))


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (view("V", "AgentActivity | where", "A"), "line 1"),
        (view("V", "AgentActivity | project Nothing", "Nothing"), "Nothing"),
        (view("V", "AgentActivities | project AgentId", "AgentId"), "Did you mean AgentActivity?"),
        (view("V", "AgentActivity | project AgentId, UserId", "AgentId"), "UserId is given or described, not both"),
        (view("V", "AgentActivity | project AgentId", "AgentId", "UserId"), "UserId is given or described, not both"),
        (view("V", "AgentActivity | project AgentId, UserId", "UserId", "AgentId"), "another order"),
        (view("V", "let a = 1; AgentActivity | project AgentId", "AgentId"), "one query"),
        (view("V", "AgentActivity | evaluate bag_unpack(Facts)", "AgentId"), "depend on data"),
        (view("AlertInfo", "AgentActivity | project AgentId", "AgentId"), "there is a table of that name"),
    ],
)
def test_a_broken_view_is_refused_with_its_file(file: ViewFile, why: str) -> None:
    message = refused_view(file)
    assert why in message
    assert message.startswith(f"content/tables/{file.name}.kql")


def test_a_whole_view_is_taken() -> None:
    schema = with_views(kql.Schema(catalogue().tables), [view("V", "AgentActivity | project AgentId", "AgentId")])
    assert [c.name for c in schema.views["V"].table.columns] == ["AgentId"]


@pytest.mark.parametrize(
    "text", ["AgentActivity", "// doc: [", "// doc: no columns\nAgentActivity", "// just words\nT"]
)
def test_a_file_without_its_description_is_no_view(text: str) -> None:
    with pytest.raises(InputError, match=r"content/tables/V\.kql"):
        read_view("V", text)


def test_the_shipped_views_are_those_of_the_folder() -> None:
    assert [file.name for file in content.views()] == VIEWS
