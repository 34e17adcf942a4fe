"""Holds as they come in, are used and end: recorded decisions become rows that an operator can answer.

Above ``storage``; ``jobs`` calls it. The gateway made the hold (its id, payload hash and expiry stand in the decision's
record); here it is only asked. An agent that asks too often wears its approvers out, which is how a careless *approve*
comes about: past a limit nobody is asked, and the gateways refuse its calls instead of holding them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from watchfloor.storage import findings, holds
from watchfloor.storage.activity import Activity, text
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.holds import Hold, HoldStatus

CURSOR: Final = "holds"
ACTOR: Final = "system:holds"
BATCH: Final = 500
"""Held calls that one round takes in."""

HOUR: Final = timedelta(hours=1)
GRACE: Final = timedelta(minutes=1)
"""How long an answer is kept in the gateways after it expired: a call that has just taken its use must find it."""

LATE: Final = timedelta(minutes=15)
"""How long the record of a call that took an approval may be on its way."""

_MOST_APPROVALS: Final = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AskLimits:
    """How often operators are asked within an hour: about one agent and user, and the same approvers in all."""

    per_agent: int = 20
    per_approver: int = 60


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
        [
            r
            for r in reasons
            if isinstance(r, dict) and r.get("effect") == "hold" and r.get("mode", "enforce") == "enforce"
        ]
        if isinstance(reasons, list)
        else []
    )
    details = [r["detail"] for r in held if isinstance(r.get("detail"), dict)]
    groups = [d["approvers"] for d in details if isinstance(d.get("approvers"), list) and d["approvers"]]
    needed = [d["approvals"] for d in details if isinstance(d.get("approvals"), int)]
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
        policies=list(dict.fromkeys(str(r["policy_id"]) for r in held if r.get("policy_id"))),
        approvers=[[str(name) for name in group] for group in groups],
        approvals_needed=min(max([1, *needed]), _MOST_APPROVALS),
    )


def _ask(tx: ControlTx, hold: Hold, limits: AskLimits) -> None:
    if holds.find_hold(tx, hold.id) is not None:
        return  # the same call again: whoever is asked is asked once
    detail: dict[str, Any] = {"agent": hold.agent_id, "tool": f"{hold.server_id}/{hold.tool}"}
    waiting = holds.find_waiting(tx, hold.payload_hash, max(hold.created_at, tx.now))
    if waiting is not None and hold.status is HoldStatus.PENDING:
        if holds.add_hold(tx, replace(hold, root_id=waiting.id)):
            tx.audit("hold:join", f"hold/{hold.id}", {**detail, "root": waiting.id})
        return
    until = _limited_until(tx, hold, limits) if hold.status is HoldStatus.PENDING else None
    if until is None:
        if holds.add_hold(tx, hold):
            tx.audit("hold:ask", f"hold/{hold.id}", {**detail, "status": hold.status.value})
        return
    unasked = replace(hold, status=HoldStatus.LIMITED, decided_by=ACTOR, decided_at=tx.now)
    if holds.add_hold(tx, unasked):
        holds.limit(tx, hold.agent_id, hold.user_id, until)
        tx.audit("hold:limit", f"hold/{hold.id}", {**detail, "until": until.isoformat()})


def _limited_until(tx: ControlTx, hold: Hold, limits: AskLimits) -> datetime | None:
    """When operators may be asked again, if one more question now would be too many."""
    since = hold.created_at - HOUR
    mine = holds.list_asked(tx, since, agent_id=hold.agent_id, user_id=hold.user_id)
    if len(mine) >= limits.per_agent:
        return mine[-limits.per_agent].created_at + HOUR
    # Whoever may answer anything is asked about everything; a list of approvers is asked about its own.
    everybodys = [h for h in holds.list_asked(tx, since) if _overlap(h, hold)]
    if len(everybodys) >= limits.per_approver:
        return everybodys[-limits.per_approver].created_at + HOUR
    return None


def _overlap(one: Hold, other: Hold) -> bool:
    """Whether somebody may be asked about both."""
    names = [{name for group in hold.approvers for name in group} for hold in (one, other)]
    return not names[0] or not names[1] or not names[0].isdisjoint(names[1])


def create_holds(control: SqlControlStore, activity: Activity, limits: AskLimits = AskLimits()) -> int:
    """Make holds of fresh decisions, note which approvals were used; how many rows were read.

    Safe to run at any time, any number of times.
    """
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
            if text(row, "Verdict") != "hold":
                _note_use(tx, row)
                continue
            hold = _hold(row, tx.now)
            if hold is None:
                _log.warning("the record %s of a held call names no hold that could be asked", text(row, "ReportId"))
                continue
            _ask(tx, hold, limits)
    return len(rows)


def _note_use(tx: ControlTx, row: Mapping[str, Any]) -> None:
    used = holds.use(tx, text(row, "HoldId"), text(row, "InvocationId"))
    if used is not None:
        tx.audit("hold:use", f"hold/{used.id}", {"agent": used.agent_id, "invocation": used.used_by})


@dataclass(frozen=True, slots=True)
class _Due:
    overdue: list[Hold]
    taken: list[tuple[Hold, str]]
    spent: list[str]
    limits: list[str]

    def __len__(self) -> int:
        return len(self.overdue) + len(self.taken) + len(self.spent) + len(self.limits)


def _due(tx: ControlTx) -> _Due:
    before = tx.now - GRACE
    return _Due(
        holds.list_overdue(tx, before),
        holds.list_taken(tx, tx.now - LATE),
        holds.list_spent(tx, before),
        holds.list_ended_limits(tx),
    )


def expire_holds(control: SqlControlStore) -> int:
    """Close holds that nobody answered in time, and take spent answers away from the gateways; how many."""
    with control.read() as tx:
        if not len(_due(tx)):
            return 0
    with control.tx(ACTOR, audited=False) as tx:
        due = _due(tx)
        for hold in due.overdue:
            holds.expire(tx, hold)
            tx.audit("hold:expire", f"hold/{hold.id}", {"agent": hold.agent_id, "was": hold.status.value})
        for hold, taken_by in due.taken:
            # The worker died with it, between taking the use and recording the call, or its record is lost.
            holds.use(tx, hold.id, taken_by)
            detail = {"agent": hold.agent_id, "invocation": taken_by, "recorded": False}
            tx.audit("hold:use", f"hold/{hold.id}", detail)
        if due.spent or due.limits:
            holds.forget(tx, due.spent, due.limits)
            tx.audit("hold:forget", "holds", {"holds": due.spent, "limits": due.limits})
    return len(due)
