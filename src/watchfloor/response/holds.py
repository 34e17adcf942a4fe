"""Holds as they come in: recorded decisions that wait for a human become rows an operator can answer.

Above ``storage``; ``jobs`` calls it. The gateway made the hold (its id, payload hash and expiry stand in the decision's
record); here it is only asked. An agent that asks too often wears its approvers out, which is how a careless *approve*
comes about: past a limit its holds are declined unasked.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from watchfloor.storage import actions, findings
from watchfloor.storage.actions import Hold, HoldStatus
from watchfloor.storage.activity import Activity, text
from watchfloor.storage.control import ControlTx, SqlControlStore

CURSOR: Final = "holds"
ACTOR: Final = "system:holds"
MOST_ASKED_AN_HOUR: Final = 20
"""Holds of one agent that operators are asked about within an hour."""

BATCH: Final = 500
"""Held calls that one round takes in."""
_log = logging.getLogger(__name__)


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _hold(row: Mapping[str, Any], now: datetime) -> Hold | None:
    """The hold that a decision's record speaks of, or None if it speaks of none."""
    fields = _parsed(text(row, "AdditionalFields"))
    made = fields.get("hold") if isinstance(fields, dict) else None
    if not isinstance(made, dict) or not text(row, "HoldId") or not text(row, "InvocationId"):
        return None
    try:
        expires_at = datetime.fromisoformat(str(made["expires_at"])).astimezone(UTC)
        payload_hash = str(made["payload_hash"])
    except (KeyError, ValueError):
        return None
    reasons = _parsed(text(row, "Reasons"))
    held = (
        [r for r in reasons if isinstance(r, dict) and r.get("effect") == "hold"] if isinstance(reasons, list) else []
    )
    return Hold(
        id=text(row, "HoldId"),
        invocation_id=text(row, "InvocationId"),
        payload_hash=payload_hash,
        agent_id=text(row, "AgentId"),
        user_id=text(row, "UserId") or None,
        server_id=text(row, "ServerId"),
        tool=text(row, "ToolName"),
        reason=str(held[0].get("message", ""))[:1000] if held else "",
        status=HoldStatus.PENDING if expires_at > now else HoldStatus.EXPIRED,
        created_at=row["Timestamp"].astimezone(UTC),
        expires_at=expires_at,
    )


def _ask(tx: ControlTx, hold: Hold) -> None:
    is_too_often = actions.count_asked(tx, hold.agent_id, hold.created_at - timedelta(hours=1)) >= MOST_ASKED_AN_HOUR
    if not actions.add_hold(tx, hold):
        return
    if hold.status is HoldStatus.PENDING and is_too_often:
        actions.answer_hold(tx, hold.id, approved=False, valid_until=hold.expires_at)
        detail = {"agent": hold.agent_id, "limit": MOST_ASKED_AN_HOUR}
        tx.audit("hold:decline-unasked", f"hold/{hold.id}", detail)
        return
    detail = {"agent": hold.agent_id, "tool": f"{hold.server_id}/{hold.tool}", "status": hold.status.value}
    tx.audit("hold:ask", f"hold/{hold.id}", detail)


def create_holds(control: SqlControlStore, activity: Activity) -> int:
    """Make holds of fresh decisions; how many rows were read. Safe to run at any time, any number of times."""
    with control.read() as tx:
        cursor = findings.read_cursor(tx, CURSOR)
    newest = activity.newest_seq()
    if newest <= cursor:
        return 0
    rows = activity.holds_after(cursor, newest, BATCH)
    upto = int(rows[-1]["IngestSeq"]) if len(rows) >= BATCH else newest
    with control.tx(ACTOR, audited=False) as tx:
        if not findings.move_cursor(tx, CURSOR, cursor, upto):
            return 0
        for row in rows:
            hold = _hold(row, tx.now)
            if hold is None:
                _log.warning("the record %s of a held call names no hold that could be asked", text(row, "ReportId"))
                continue
            _ask(tx, hold)
    return len(rows)


def expire_holds(control: SqlControlStore) -> int:
    """Close holds that nobody answered in time, and take spent answers away from the gateways; how many."""
    with control.read() as tx:
        if not actions.list_overdue(tx, 1) and not actions.list_spent_approvals(tx, 1):
            return 0
    with control.tx(ACTOR, audited=False) as tx:
        overdue, spent = actions.list_overdue(tx), actions.list_spent_approvals(tx)
        for hold in overdue:
            actions.expire_hold(tx, hold.id)
            tx.audit("hold:expire", f"hold/{hold.id}", {"agent": hold.agent_id})
        if spent:
            actions.forget_approvals(tx, spent)
            tx.audit("hold:forget", "holds", {"holds": spent})
    return len(overdue) + len(spent)
