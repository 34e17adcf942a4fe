"""Rows of AgentActivity in few words, for tests of detection."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from watchfloor.storage.tables import AGENT_ACTIVITY

NOON = datetime(2026, 11, 3, 12, 5, tzinfo=UTC)

_DEFAULTS: dict[str, Any] = {
    "at": 0,
    "action": "ToolCallDecided",
    "agent": "billing",
    "user": "griffin",
    "server": "mail",
    "tool": "send_email",
    "verdict": "block",
    "would_be": "",
    "reason": "",
    "severity": "medium",
    "tactic": "",
    "mode": "enforce",
    "signals": (),
    "conversation": "",
    "address": "203.0.113.7",
    "session": "s-1",
    "policy": "",
    "id": "",
    "message": "The policy says no.",
    "also": (),
    "effect": "send",
    "target": "",
    "times": 1,
    "every": 60,
}


def _reason(s: Mapping[str, Any]) -> dict[str, Any]:
    is_policy = s["reason"] in ("policy", "detector")
    return {
        "code": s["reason"],
        "step": "policies",
        "effect": s["effect"],
        "mode": s["mode"],
        "severity": s["severity"],
        "message": s["message"],
        "policy_id": (s["policy"] or "outside") if is_policy else None,
        "policy_version": 1 if is_policy else None,
        "detail": {"tactic": s["tactic"], "techniques": ["T1048"]} if s["tactic"] else {},
    }


def row(step: Mapping[str, Any], number: int) -> dict[str, Any]:
    """One row: ``step`` overrides the defaults; ``at`` is seconds after noon."""
    unknown = set(step) - set(_DEFAULTS)
    assert not unknown, f"unknown members of a step: {unknown}"
    s = {**_DEFAULTS, **step}
    verdict = s["verdict"]
    has_reason = s["reason"] or s["action"] == "GuardrailDecision"
    reasons = [_reason({**s, "effect": s["would_be"] or verdict})] if has_reason else []
    reasons += [_reason({**_DEFAULTS, "effect": "block", "reason": "policy", "policy": "also", **a}) for a in s["also"]]
    signals = [
        {
            "detector": category,
            "category": category,
            "severity": "high",
            "score": 0.9,
            "path": "user_turns[0]",
            "span": [0, 10],
            "excerpt": "ignore all",
        }
        for category in s["signals"]
    ]
    at = NOON + timedelta(seconds=float(s["at"]))
    return {
        "Timestamp": at,
        "TenantId": "default",
        "ReportId": s["id"] or f"evt_{number:05d}",
        "ActionType": s["action"],
        "InvocationId": f"inv_{number:05d}",
        "ConversationId": s["conversation"],
        "SessionId": s["session"],
        "AgentId": s["agent"],
        "AgentName": {"billing": "Billing Agent"}.get(s["agent"], s["agent"]),
        "UserId": s["user"],
        "AccountUpn": f"{s['user']}@zava.example" if s["user"] else "",
        "ServerId": s["server"],
        "ToolName": s["tool"],
        "ToolEffect": s["effect"],
        "Verdict": verdict if s["action"] in ("ToolCallDecided", "ToolResultDecided", "GuardrailDecision") else "",
        "WouldBe": s["would_be"] or verdict,
        "ReasonCode": "" if verdict == "allow" else s["reason"],
        "Reasons": json.dumps(reasons),
        "Signals": json.dumps(signals),
        "PolicyId": reasons[0]["policy_id"] if reasons else None,
        "IPAddress": s["address"],
        "SourceDoor": "mcp",
        "DecisionTarget": s["target"],
    }


def table(steps: Iterable[Mapping[str, Any]], first_seq: int = 1) -> pa.Table:
    """``steps`` as the event store would return them."""
    each = [
        {**s, "at": float(s.get("at", 0)) + n * float(s.get("every", 60))}
        for s in steps
        for n in range(int(s.get("times", 1)))
    ]
    rows = [{**row(s, first_seq + i), "IngestSeq": first_seq + i} for i, s in enumerate(each)]
    return pa.Table.from_batches([AGENT_ACTIVITY.batch(rows)])
