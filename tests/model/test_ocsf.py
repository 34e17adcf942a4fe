"""Our events in OCSF 1.9: whatever the row, the event is one that the schema allows.

``ocsf_1_9.json`` holds what the schema says of the attributes that may occur: type, whether it is a list, requirement,
codes; and of which attributes an object must have one at least.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.model import ocsf

SCHEMA: Mapping[str, Any] = json.loads((Path(__file__).parent / "ocsf_1_9.json").read_text("utf-8"))
NOON = datetime(2026, 11, 3, 12, 5, tzinfo=UTC)
NOON_MILLIS = 1_793_707_500_000

_PLAIN = {
    "string_t": str, "integer_t": int, "long_t": int, "timestamp_t": int, "boolean_t": bool, "float_t": float,
    "json_t": object,
}  # fmt: skip


def check(event: Mapping[str, Any]) -> None:
    """Raises ``AssertionError`` for what the schema does not allow."""
    check_object(event, SCHEMA["classes"][str(event["class_uid"])], f"class {event['class_uid']}")
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]


def check_object(value: Mapping[str, Any], shape: Mapping[str, Any], where: str) -> None:
    known = shape["attributes"]
    for name, part in value.items():
        if name == "unmapped":
            continue
        assert name in known, f"{where} has no attribute {name}"
        type_, is_list, _, codes = known[name]
        assert isinstance(part, list) == is_list, f"{where}.{name}: a list?"
        for item in part if is_list else [part]:
            check_value(item, type_, f"{where}.{name}")
            assert not codes or item in codes, f"{where}.{name}: {item}"
    missing = [
        name for name, (_, _, requirement, _) in known.items() if requirement == "required" and name not in value
    ]
    assert not missing, f"{where} lacks {missing}"
    if one_of := (shape["constraints"] or {}).get("at_least_one"):
        assert set(one_of) & set(value), f"{where} has none of {one_of}"


def check_value(value: Any, type_: str, where: str) -> None:
    if type_ in SCHEMA["objects"]:
        assert isinstance(value, dict), where
        check_object(value, SCHEMA["objects"][type_], where)
        return
    plain = SCHEMA["types"][type_]
    assert isinstance(value, _PLAIN[plain]), f"{where}: {value!r} is no {type_}"
    assert not (isinstance(value, bool) and plain in ("integer_t", "long_t")), where


DECISION = {
    "Timestamp": NOON,
    "IngestTime": NOON,
    "IngestSeq": 7,
    "TenantId": "default",
    "ReportId": "evt_1",
    "ActionType": "ToolCallDecided",
    "InvocationId": "inv_1",
    "TraceId": "t",
    "ConversationId": "c-1",
    "SessionId": "s-1",
    "AgentId": "billing",
    "AgentName": "Billing Agent",
    "UserId": "griffin",
    "AccountUpn": "griffin@zava.example",
    "ActingMode": "on-behalf-of",
    "ServerId": "mail",
    "ToolName": "send_email",
    "ToolEffect": "send",
    "Verdict": "block",
    "WouldBe": "block",
    "ReasonCode": "policy",
    "Reasons": json.dumps([{"code": "policy", "severity": "high", "message": "No."}]),
    "PolicyId": "outside",
    "PolicyVersion": 2,
    "IPAddress": "203.0.113.7",
}
ALERT = {
    "Timestamp": NOON,
    "TenantId": "default",
    "ReportId": "evt_2",
    "AlertId": "alr_1",
    "IncidentId": "inc_1",
    "Title": "Mails to the outside were blocked",
    "Category": "Collection",
    "Severity": "High",
    "Status": "New",
    "DetectionSource": "tool-invocation-blocked",
    "AttackTechniques": '["T1213"]',
    "FirstActivity": NOON,
    "LastActivity": NOON,
}
EVIDENCE = [
    {"EntityType": "User", "EntityId": "griffin", "AccountUpn": "griffin@zava.example", "EvidenceRole": "Impacted"},
    {"EntityType": "AIAgent", "EntityId": "billing", "Application": "Billing Agent", "EvidenceRole": "Suspected"},
    {"EntityType": "Tool", "EntityId": "mail/send_email", "EvidenceRole": "Related"},
    {"EntityType": "Ip", "EntityId": "203.0.113.7", "RemoteIP": "203.0.113.7"},
    {"EntityType": "Url", "EntityId": "u", "RemoteUrl": "https://evil.example/"},
    {"EntityType": "Session", "EntityId": "s-1", "EvidenceRole": "Suspected"},
    {"EntityType": "Event", "EntityId": "evt_1"},
]


def test_a_blocked_call_is_a_denied_api_activity_of_an_ai_agent() -> None:
    event = ocsf.activity(DECISION, product_version="0.1.0")
    check(event)
    assert (event["class_uid"], event["activity_name"], event["type_uid"]) == (6003, "send", 600399)
    assert (event["action"], event["disposition"], event["is_alert"]) == ("Denied", "Blocked", True)
    assert (event["status"], event["severity"], event["time"]) == ("Failure", "High", NOON_MILLIS)
    assert event["ai_agent"]["name"] == "Billing Agent"
    assert event["actor"]["user"]["name"] == "griffin@zava.example"
    assert event["api"]["operation"] == "send_email"
    assert event["policy"] == {"uid": "outside", "name": "outside", "version": "2"}
    assert event["metadata"]["version"] == "1.9.0"
    assert event["unmapped"]["ActingMode"] == "on-behalf-of"


@pytest.mark.parametrize(
    ("verdict", "would_be", "action", "disposition"),
    [
        ("allow", "allow", "Allowed", "Allowed"),
        ("allow", "block", "Observed", "Detected"),
        ("redact", "redact", "Modified", "Corrected"),
        ("hold", "hold", "Denied", "Delayed"),
    ],
)
def test_each_verdict_has_its_action(verdict: str, would_be: str, action: str, disposition: str) -> None:
    event = ocsf.activity(DECISION | {"Verdict": verdict, "WouldBe": would_be}, product_version="0.1.0")
    check(event)
    assert (event["action"], event["disposition"], event["is_alert"]) == (action, disposition, False)


def test_an_inference_has_its_model_and_tokens_and_its_place_in_the_trace() -> None:
    row = DECISION | {
        "ActionType": "InferenceCall", "Verdict": "", "ToolName": "", "ToolEffect": "", "Model": "gpt-5",
        "Provider": "openai", "InputTokens": 10, "OutputTokens": 3, "SpanId": "b", "ParentSpanId": "a",
        "DurationMs": 12.7,
    }  # fmt: skip
    event = ocsf.activity(row, product_version="0.1.0")
    check(event)
    assert event["ai_agent"]["ai_model"] == {"name": "gpt-5", "ai_provider": "openai"}
    assert event["message_context"]["total_tokens"] == 13
    span = event["trace"]["span"]
    assert (span["uid"], span["parent_uid"], span["end_time"] - span["start_time"]) == ("b", "a", 12)
    assert "action_id" not in event


def test_an_alert_is_a_detection_finding_with_its_evidence() -> None:
    event = ocsf.finding(ALERT, EVIDENCE, product_version="0.1.0")
    check(event)
    assert (event["class_uid"], event["activity_name"], event["status"]) == (2004, "Create", "New")
    assert event["finding_info"]["attacks"] == [{"tactic": {"name": "Collection"}, "technique": {"uid": "T1213"}}]
    assert event["metadata"]["correlation_uid"] == "inc_1"
    assert len(event["evidences"]) == len(EVIDENCE)
    closed = ocsf.finding(ALERT | {"Status": "Resolved"}, [], product_version="0.1.0")
    assert (closed["activity_name"], closed["status"]) == ("Close", "Resolved")


TEXTS = st.text(max_size=8) | st.none()
CELLS = st.fixed_dictionaries(
    {
        **{name: TEXTS for name in DECISION if name not in ("Timestamp", "IngestTime", "IngestSeq", "PolicyVersion")},
        **dict.fromkeys(("SpanId", "ParentSpanId", "Model", "Provider", "Status", "ServerAddress"), TEXTS),
        "ActionType": st.sampled_from(["InvokeAgent", "ToolCallDecided", "Span", ""]),
        "Verdict": st.sampled_from(["", "allow", "block", "hold", "redact", "odd"]),
        "Reasons": st.sampled_from(
            [None, "", "[", "{}", "[]", "[1]", '[{"severity": "odd"}]', '[{"severity": "low"}]']
        ),
        "DurationMs": st.none() | st.floats() | st.integers(),
        "InputTokens": st.none() | st.integers(0, 2**40),
        "OutputTokens": st.none() | st.integers(0, 2**40),
        "HttpStatus": st.none() | st.integers(0, 999),
        "PolicyVersion": st.none() | st.integers(0, 9),
    }
)


@given(CELLS)
def test_every_step_is_an_event_that_the_schema_allows(cells: dict[str, Any]) -> None:
    check(ocsf.activity({"Timestamp": NOON, **cells}, product_version="0.1.0"))


@given(
    st.fixed_dictionaries({name: TEXTS for name in ALERT if not isinstance(ALERT[name], datetime)}),
    st.lists(st.fixed_dictionaries({"EntityType": st.sampled_from([e["EntityType"] for e in EVIDENCE]) | TEXTS,
                                    "EntityId": st.text(min_size=1, max_size=5), "EvidenceRole": TEXTS}), max_size=3),
)  # fmt: skip
def test_every_alert_is_a_finding_that_the_schema_allows(alert: dict[str, Any], evidence: list[dict[str, Any]]) -> None:
    found = {"Timestamp": NOON, **alert}
    found["AlertId"] = found["AlertId"] or "alr_1"
    check(ocsf.finding(found, evidence, product_version="0.1.0"))


def test_no_contents_have_a_place() -> None:
    row = DECISION | {
        "Content": "secret",
        "Facts": "secret",
        "AdditionalFields": '{"a": "secret"}',
        "Signals": "secret",
    }
    assert "secret" not in json.dumps(ocsf.activity(row, product_version="0.1.0"))
