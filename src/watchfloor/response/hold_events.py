"""What happened to holds, as hunting sees it: one row of AgentActivity for each entry that the audit log has of them.

The audit entry is written in the transaction that changes the hold, so no change goes without an event; the event is
written later, by a job, under a key made of the entry's number, so that it is written once. Above ``storage``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from watchfloor.storage import actions, findings, holds, inventory, people
from watchfloor.storage.actions import AuditEntry
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.log import DEFAULT_PART
from watchfloor.storage.ports import EventLog, KeyedBatch
from watchfloor.storage.tables import SCHEMA_VERSION, TABLES

CURSOR: Final = "hold-events"
ACTOR: Final = "system:holds"
BATCH: Final = 500
DOOR: Final = "holds"
_FAR: Final = 1_000
_TABLE: Final = "AgentActivity"

EVENTS: Final[Mapping[str, str]] = {
    "hold:ask": "HoldCreated",
    "hold:limit": "HoldLimited",
    "hold:endorse": "HoldEndorsed",
    "hold:approve": "HoldApproved",
    "hold:decline": "HoldDeclined",
    "hold:revoke": "HoldRevoked",
    "hold:expire": "HoldExpired",
    "hold:use": "HoldUsed",
    "hold:delegate": "HoldDelegated",
    "hold:end-delegation": "HoldDelegationEnded",
}
"""Entries of the audit log that are events, and what they are called."""

_REASONS: Final = {"hold:limit": "hold_limit", "hold:revoke": "hold_revoked", "hold:decline": "held"}


def publish_hold_events(control: SqlControlStore, log: EventLog, tenant: str) -> int:
    """Append the events of fresh entries; how many there were. Safe to run at any time, by any number of servers.

    Raises ``Unavailable``; the next run does the rest.
    """
    with control.read() as tx:
        cursor = findings.read_cursor(tx, CURSOR)
        entries = actions.list_audit_after(tx, cursor, tuple(EVENTS), BATCH)
        newest = actions.newest_audit(tx)
        rows = [_row(tx, entry, tenant) for entry in entries]
    if not rows and newest - cursor < _FAR:
        return 0  # the cursor need not follow every entry that is none of its business
    if rows:
        keys = [f"audit/{entry.seq}/{entry.hash[:16]}".encode() for entry in entries]
        log.append_once(DEFAULT_PART, [KeyedBatch(TABLES[_TABLE].batch(rows), keys)])
    upto = entries[-1].seq if len(entries) >= BATCH else newest
    with control.tx(ACTOR, audited=False) as tx:
        findings.move_cursor(tx, CURSOR, cursor, upto)
    return len(entries)


def _row(tx: ControlTx, entry: AuditEntry, tenant: str) -> dict[str, Any]:
    told = {"by": entry.actor, **{k: v for k, v in entry.detail.items() if k not in ("agent", "tool", "payload_hash")}}
    row: dict[str, Any] = {
        "Timestamp": entry.at,
        "TenantId": tenant,
        "ReportId": f"evt_audit_{entry.seq}",
        "ActionType": EVENTS[entry.action],
        "SourceDoor": DOOR,
        "Status": "ok",
        "ReasonCode": _REASONS.get(entry.action, ""),
        "SchemaVersion": SCHEMA_VERSION,
        "AdditionalFields": json.dumps(told, ensure_ascii=False),
    }
    kind, _, hold_id = entry.subject.partition("/")
    hold = holds.find_hold(tx, hold_id) if kind == "hold" else None
    if hold is None:
        return row
    agent = inventory.find_agent(tx, hold.agent_id)
    user = people.find_user(tx, hold.user_id) if hold.user_id else None
    return row | {
        "HoldId": hold.id,
        "InvocationId": hold.used_by if entry.action == "hold:use" and hold.used_by else hold.invocation_id,
        "AgentId": hold.agent_id,
        "AgentName": agent.name if agent else "",
        "UserId": hold.user_id or "",
        "AccountUpn": user.upn if user else "",
        "ServerId": hold.server_id,
        "ToolName": hold.tool,
        "PolicyId": hold.policies[0] if hold.policies else "",
    }
