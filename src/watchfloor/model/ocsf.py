"""What others call our events: the Open Cybersecurity Schema Framework, version 1.9.

Pure: rows of the event tables in (columns by name, dynamic ones parsed or as JSON text), OCSF events out, as
dictionaries ready for JSON. A step of an agent is an API Activity (6003) with the profiles ``ai_operation``,
``security_control`` and ``trace``; an alert is a Detection Finding (2004). Message contents have no place here. What
OCSF has no attribute for stands in ``unmapped`` under our names. Exports and connectors are above; it knows no stores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

VERSION: Final = "1.9.0"

Row = Mapping[str, Any]
Event = dict[str, Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ACTIVITIES: Final = {"create": (1, "Create"), "read": (2, "Read"), "update": (3, "Update"), "delete": (4, "Delete")}
_SEVERITIES: Final = {
    "informational": (1, "Informational"),
    "low": (2, "Low"),
    "medium": (3, "Medium"),
    "high": (4, "High"),
    "critical": (5, "Critical"),
}
_VERDICTS: Final = {
    "allow": (1, "Allowed", 1, "Allowed"),
    "redact": (4, "Modified", 11, "Corrected"),
    "hold": (2, "Denied", 14, "Delayed"),
    "block": (2, "Denied", 2, "Blocked"),
}
"""Verdict: action_id and action, disposition_id and disposition."""

_OBSERVED: Final = (3, "Observed", 15, "Detected")
"""A call that went out because a policy is not enforced yet."""

_ROLES: Final = {
    "InvokeAgent": (1, "User"),
    "InferenceCall": (2, "Assistant"),
    "OutputMessages": (4, "Agent"),
    "ExecuteToolBySDK": (3, "Tool"),
    "ToolCallDecided": (3, "Tool"),
    "ToolResultDecided": (3, "Tool"),
    "ContentDecided": (4, "Agent"),
    "ToolCallCompleted": (3, "Tool"),
    "Retrieval": (6, "Retriever"),
}
_FINDINGS: Final = {"new": (1, "New", 1, "Create"), "inprogress": (2, "In Progress", 2, "Update"),
                    "resolved": (4, "Resolved", 3, "Close")}  # fmt: skip
"""Status of an alert: status_id and status, activity_id and activity_name."""

_UNMAPPED: Final = (
    "ActionType", "ActingMode", "AgentBlueprintId", "CredentialOwner", "HoldId", "ParentAgentId", "TargetAgentId",
    "TargetAgentName", "ToolCallId", "ToolType", "WouldBe", "ReasonCode", "GuardianName", "DecisionTarget",
    "RiskCategory", "RiskSeverity", "RiskScore", "ServerAddress", "ChannelName", "SourceId", "SourceDoor",
    "DecisionUs", "BytesOut", "ErrorCode",
)  # fmt: skip


def activity(row: Row, *, product_version: str) -> Event:
    """A row of AgentActivity as an API Activity."""
    effect = _text(row, "ToolEffect")
    action = _text(row, "ActionType")
    activity_id, activity_name = _ACTIVITIES.get(effect, (99, effect or action or "Other"))
    severity_id, severity = _SEVERITIES.get(_gravest(row), (1, "Informational"))
    status_id, status = _status(row)
    return _event(
        {
            **_classes(6003, "API Activity", 6, "Application Activity", activity_id, activity_name),
            "severity_id": severity_id,
            "severity": severity,
            "time": _millis(row.get("Timestamp")),
            "message": _sentence(row),
            "status_id": status_id,
            "status": status,
            "status_code": _text(row, "HttpStatus") or _text(row, "ErrorCode") or _text(row, "ReasonCode"),
            "status_detail": _text(row, "ErrorType"),
            "metadata": _metadata(row, "AgentActivity", product_version, ("ai_operation", "security_control", "trace"))
            | {"event_code": action, "correlation_uid": _text(row, "ConversationId")},
            "actor": _actor(row),
            "api": _api(row),
            "src_endpoint": _source(row),
            "dst_endpoint": _destination(row),
            "resources": [_tool(row)] if _text(row, "ToolName") else [],
            "ai_agent": _agent(row),
            "message_context": _message_context(row),
            "trace": _trace(row),
            **_control(row),
            "unmapped": {name: row[name] for name in _UNMAPPED if row.get(name) not in (None, "")},
        }
    )


def finding(row: Row, evidence: Iterable[Row], *, product_version: str) -> Event:
    """A row of AlertInfo as a Detection Finding, with the rows of AlertEvidence that belong to it."""
    status_id, status, activity_id, activity_name = _FINDINGS.get(
        _text(row, "Status").replace(" ", "").lower(), (0, "Unknown", 1, "Create")
    )
    severity_id, severity = _SEVERITIES.get(_text(row, "Severity").lower(), (0, "Unknown"))
    tactic, techniques = _text(row, "Category"), _parsed(row.get("AttackTechniques"), list)
    attacks: list[Event] = [{"tactic": {"name": tactic}, "technique": {"uid": str(uid)}} for uid in techniques]
    return _event(
        {
            **_classes(2004, "Detection Finding", 2, "Findings", activity_id, activity_name),
            "severity_id": severity_id,
            "severity": severity,
            "time": _millis(row.get("Timestamp")),
            "start_time": _millis(row.get("FirstActivity")),
            "end_time": _millis(row.get("LastActivity")),
            "message": _text(row, "Title"),
            "status_id": status_id,
            "status": status,
            "is_alert": True,
            "metadata": _metadata(row, "AlertInfo", product_version, ("security_control",))
            | {"correlation_uid": _text(row, "IncidentId")},
            "finding_info": {
                "uid": _text(row, "AlertId") or _text(row, "ReportId"),
                "title": _text(row, "Title"),
                "types": [tactic],
                "analytic": {"type_id": 1, "type": "Rule", "name": _text(row, "DetectionSource") or "unknown"},
                "attacks": attacks or [{"tactic": {"name": tactic}}],
                "first_seen_time": _millis(row.get("FirstActivity")),
                "last_seen_time": _millis(row.get("LastActivity")),
            },
            "evidences": [_evidence(found) for found in evidence],
        }
    )


# -- parts ------------------------------------------------------------------------------------------------------------


def _classes(class_uid: int, name: str, category: int, of: str, activity_id: int, activity_name: str) -> Event:
    return {
        "class_uid": class_uid,
        "class_name": name,
        "category_uid": category,
        "category_name": of,
        "activity_id": activity_id,
        "activity_name": activity_name,
        "type_uid": class_uid * 100 + activity_id,
        "type_name": f"{name}: {activity_name}",
    }


def _metadata(row: Row, log_name: str, product_version: str, profiles: Sequence[str]) -> Event:
    return {
        "version": VERSION,
        "product": {"name": "Watchfloor", "vendor_name": "Watchfloor", "version": product_version},
        "profiles": list(profiles),
        "uid": _text(row, "ReportId"),
        "log_name": log_name,
        "tenant_uid": _text(row, "TenantId"),
        "logged_time": _millis(row.get("IngestTime")),
        "sequence": row.get("IngestSeq"),
    }


def _actor(row: Row) -> Event:
    user_id, upn = _text(row, "UserId"), _text(row, "AccountUpn")
    user = {"uid": user_id, "name": upn or user_id, "type_id": 1, "type": "User"} if user_id or upn else None
    agent_id = _text(row, "AgentId")
    return {
        "user": user,
        "session": {"uid": _text(row, "SessionId")},
        "app_uid": agent_id,
        "app_name": _text(row, "AgentName") or agent_id or "unknown",
    }


def _agent(row: Row) -> Event:
    if not _text(row, "AgentId"):
        return {}
    model, provider = _text(row, "Model"), _text(row, "Provider")
    return {
        "uid": _text(row, "AgentId"),
        "name": _text(row, "AgentName"),
        "version": _text(row, "AgentVersion"),
        "type_id": 0,
        "instance_uid": _text(row, "ConversationId") or _text(row, "SessionId"),
        "ai_model": {"name": model, "ai_provider": provider or "unknown"} if model else None,
    }


def _message_context(row: Row) -> Event:
    sent, received = row.get("InputTokens"), row.get("OutputTokens")
    conversation = _text(row, "ConversationId")
    if not conversation and sent is None and received is None:
        return {}
    role_id, role = _ROLES.get(_text(row, "ActionType"), (0, "Unknown"))
    return {
        "uid": conversation,
        "name": conversation or "unknown",
        "ai_role_id": role_id,
        "ai_role": role,
        "application": {"name": _text(row, "ServiceName") or _text(row, "AgentName") or "unknown"},
        "prompt_tokens": sent,
        "completion_tokens": received,
        "total_tokens": None if sent is None and received is None else (sent or 0) + (received or 0),
    }


def _api(row: Row) -> Event:
    server = _text(row, "ServerId")
    return {
        "operation": _text(row, "ToolName") or _text(row, "OperationName") or _text(row, "ActionType") or "unknown",
        "service": {"uid": server, "name": server},
        "request": {"uid": _text(row, "InvocationId") or _text(row, "SpanId")},
        "response": {"code": row.get("HttpStatus"), "error": _text(row, "ErrorType")},
    }


def _source(row: Row) -> Event:
    address = _text(row, "IPAddress")
    return {"ip": address} if address else {"name": _text(row, "ServiceName") or _text(row, "AgentId") or "unknown"}


def _destination(row: Row) -> Event:
    host = _text(row, "ServerAddress")
    return {"svc_name": _text(row, "ServerId"), "hostname": "" if host.startswith("[") else host.split(":")[0]}


def _tool(row: Row) -> Event:
    server, tool = _text(row, "ServerId"), _text(row, "ToolName")
    return {"uid": f"{server}/{tool}" if server else tool, "name": tool, "type": "Tool", "role_id": 1, "role": "Target"}


def _trace(row: Row) -> Event:
    start = _millis(row.get("Timestamp"))
    if not _text(row, "TraceId"):
        return {}
    duration = row.get("DurationMs")
    millis = int(duration) if isinstance(duration, int | float) and 0 <= duration < 1e12 else 0
    span = {
        "uid": _text(row, "SpanId"),
        "parent_uid": _text(row, "ParentSpanId"),
        "operation": _text(row, "OperationName"),
        "start_time": start,
        "end_time": None if start is None else start + millis,
        "duration": millis,
    }
    return {"uid": _text(row, "TraceId"), "span": span if _text(row, "SpanId") else None}


def _control(row: Row) -> Event:
    verdict = _text(row, "Verdict")
    if verdict not in _VERDICTS:
        return {}
    would_stop = _text(row, "WouldBe") in ("block", "hold")
    found = _OBSERVED if verdict == "allow" and would_stop else _VERDICTS[verdict]
    policy, version = _text(row, "PolicyId"), _text(row, "PolicyVersion")
    return {
        "action_id": found[0],
        "action": found[1],
        "disposition_id": found[2],
        "disposition": found[3],
        "is_alert": verdict == "block",
        "policy": {"uid": policy, "name": policy, "version": version} if policy else None,
    }


def _evidence(row: Row) -> Event:
    """One thing that an alert is about. Each has one of the attributes that OCSF asks an evidence for."""
    kind, entity = _text(row, "EntityType"), _text(row, "EntityId")
    name = _text(row, "Application") or entity
    found: Event = {"name": kind, "uid": entity}
    match kind:
        case "User":
            upn = _text(row, "AccountUpn")
            account = _text(row, "AccountObjectId") or entity
            return found | {"user": {"uid": account, "name": upn or account, "type_id": 1, "type": "User"}}
        case "Ip":
            return found | {"src_endpoint": {"ip": _text(row, "RemoteIP") or entity}}
        case "Url":
            return found | {"url": {"url_string": _text(row, "RemoteUrl") or entity}}
        case "Session":
            return found | {"actor": {"session": {"uid": entity}}}
        case "AIAgent":
            found["ai_agent"] = {"uid": entity, "name": name, "type_id": 0}
    role = {"Impacted": (3, "Affected"), "Suspected": (2, "Actor")}.get(_text(row, "EvidenceRole"), (4, "Related"))
    resource = {"uid": entity, "name": name, "type": kind, "role_id": role[0], "role": role[1]}
    return found | {"resources": [resource]}


# -- words ------------------------------------------------------------------------------------------------------------


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)


def _millis(at: Any) -> int | None:
    return (at - _EPOCH) // timedelta(milliseconds=1) if isinstance(at, datetime) else None


def _parsed(value: Any, kind: type) -> Any:
    """``value``, parsed if it is JSON text; an empty ``kind`` where it is no such thing."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return kind()
    return value if isinstance(value, kind) else kind()


def _gravest(row: Row) -> str:
    """Severity of the deciding reason, else of what a guardian found."""
    reasons = _parsed(row.get("Reasons"), list)
    first = reasons[0] if reasons and isinstance(reasons[0], dict) else {}
    return str(first.get("severity") or _text(row, "RiskSeverity")).lower()


def _status(row: Row) -> tuple[int, str]:
    if _text(row, "Verdict") in ("block", "hold") or _text(row, "Status") in ("error", "refused", "timeout"):
        return 2, "Failure"
    if _text(row, "Verdict") in ("allow", "redact") or _text(row, "Status") == "ok":
        return 1, "Success"
    return (99, _text(row, "Status")) if _text(row, "Status") else (0, "Unknown")


def _sentence(row: Row) -> str:
    agent = _text(row, "AgentName") or _text(row, "AgentId") or "An agent"
    what = _text(row, "ToolName") or _text(row, "OperationName") or _text(row, "Model")
    outcome = _text(row, "Verdict") or _text(row, "Status")
    return f"{agent}: {_text(row, 'ActionType')}{f' {what}' if what else ''}{f' ({outcome})' if outcome else ''}"


def _event(parts: Event) -> Event:
    """The event without what is empty, all the way down."""
    found: Event = _filled(parts)
    return found


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: part for name, found in value.items() if (part := _filled(found)) not in _EMPTY}
    if isinstance(value, list):
        return [part for found in value if (part := _filled(found)) not in _EMPTY]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_EMPTY: Final[tuple[Any, ...]] = (None, "", {}, [])
