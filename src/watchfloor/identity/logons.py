"""Sign-ins as hunting sees them: rows of SignInEvents, each once, without anything secret.

Two sources. What people do at the portal is in the audit log, in the transaction that did it: a job makes rows of the
entries, under keys made of their numbers. What the token service answers is appended here before the agent gets it: a
token of which nothing is known is not given out, while a refusal stays one even if it cannot be written down. Refusals
are written up to a number a minute; the rest are counted in the next row, so that nobody fills the log by knocking.

Above ``storage``; ``identity.sts`` notes, ``jobs`` publishes.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from watchfloor.model.errors import Unavailable
from watchfloor.model.ids import new_id
from watchfloor.model.risk import Risk
from watchfloor.storage import actions, findings, inventory, people, risks
from watchfloor.storage.actions import AuditEntry
from watchfloor.storage.log import DEFAULT_PART
from watchfloor.storage.ports import EventLog, KeyedBatch
from watchfloor.storage.tables import SCHEMA_VERSION, TABLES

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

CURSOR: Final = "sign-in-events"
ACTOR: Final = "system:sign-ins"
BATCH: Final = 500
REFUSALS_PER_MINUTE: Final = 600
PORTAL: Final = "Watchfloor portal"
TOKEN_SERVICE: Final = "Watchfloor token service"  # noqa: S105 a name, not a secret
_TABLE: Final = "SignInEvents"
_FAR: Final = 1_000

EVENTS: Final[Mapping[str, str]] = {
    "operator:sign-in": "LogonSuccess",
    "operator:sign-in-failed": "LogonFailed",
    "operator:sign-out": "LogonEnded",
    "operator:end-session": "LogonEnded",
    "operator:end-sessions": "SessionsEnded",
    "operator:back-channel-logout": "SessionsEnded",
    "user:revoke-sessions": "SessionsEnded",
}
"""Entries of the audit log that are rows, and what they are called."""

ERROR_CODES: Final[Mapping[str, int]] = {
    "unknown_operator": 50034,
    "user_unknown": 50034,
    "wrong_password": 50126,
    "wrong_code": 500121,
    "sign_on_refused": 50105,
    "throttled": 50053,
    "disabled": 50057,
    "user_disabled": 50057,
    "password_reset_required": 50055,
    "session_revoked": 50173,
    "user_risk": 53003,
    "agent_risk": 53003,
    "access_blocked": 53003,
    "mfa_required": 50076,
    "reauthentication_required": 70044,
    "agent_blocked": 7000112,
    "agent_not_published": 7000112,
    "invalid_client": 7000215,
    "scope_exceeded": 70011,
    "server_unknown": 500011,
    "server_blocked": 500011,
    "not_granted": 65001,
}
"""Our reasons as the numbers by which Entra's sign-in logs tell the same (AADSTS…)."""


def error_code(reason: str) -> int:
    """Entra's number for ``reason``; 0 for none, 1 where Entra has no such reason."""
    return ERROR_CODES.get(reason, 1) if reason else 0


# -- what people do at the portal ---------------------------------------------------------------------------------


def publish_logons(control: SqlControlStore, log: EventLog, tenant: str) -> int:
    """Append the rows of fresh audit entries; how many there were. Safe to run at any time, by any number of servers.

    Raises ``Unavailable``; the next run does the rest.
    """
    with control.read() as tx:
        cursor = findings.read_cursor(tx, CURSOR)
        entries = actions.list_audit_after(tx, cursor, tuple(EVENTS), BATCH)
        newest = actions.newest_audit(tx)
        rows = [_of_entry(tx, entry, tenant) for entry in entries]
    if not rows and newest - cursor < _FAR:
        return 0  # the cursor need not follow every entry that is none of its business
    if rows:
        keys = [f"audit/{entry.seq}/{entry.hash[:16]}".encode() for entry in entries]
        log.append_once(DEFAULT_PART, [KeyedBatch(TABLES[_TABLE].batch(rows), keys)])
    upto = entries[-1].seq if len(entries) >= BATCH else newest
    with control.tx(ACTOR, audited=False) as tx:
        findings.move_cursor(tx, CURSOR, cursor, upto)
    return len(entries)


def _of_entry(tx: ControlTx, entry: AuditEntry, tenant: str) -> dict[str, Any]:
    kind, _, subject_id = entry.subject.partition("/")
    user = people.find_user(tx, subject_id)
    operator = people.find_operator(tx, subject_id) if kind == "operator" else None
    known = user is not None or operator is not None
    reason = str(entry.detail.get("reason", "")) if entry.action == "operator:sign-in-failed" else ""
    ended = EVENTS[entry.action] in ("LogonEnded", "SessionsEnded")
    told = {name: entry.detail[name] for name in ("label", "ended", "expires_at") if name in entry.detail}
    if entry.action == "user:revoke-sessions":
        told["reason"] = entry.detail.get("reason", "")
    return {
        "Timestamp": entry.at,
        "TenantId": tenant,
        "ReportId": f"evt_audit_{entry.seq}",
        "ActionType": EVENTS[entry.action],
        "Application": TOKEN_SERVICE if kind == "user" else PORTAL,
        "LogonType": "interactiveUser",
        "Protocol": "session" if ended else str(entry.detail.get("protocol", "password")),
        "AccountId": subject_id if known else "",
        "AccountUpn": user.upn if user else "",
        "AccountName": (operator.name if operator else "") or (user.name if user else ""),
        "IPAddress": str(entry.detail.get("address", "")),
        "FailureReason": reason,
        "ErrorCode": error_code(reason),
        "EndedBy": entry.actor if ended else "",
        "SchemaVersion": SCHEMA_VERSION,
        "AdditionalFields": json.dumps(told, ensure_ascii=False),
        **_risk(tx, "User", risks.USER, user.id if user else ""),
    }


def _risk(tx: ControlTx, prefix: str, kind: str, subject_id: str) -> dict[str, str]:
    now = risks.find_brief(tx, kind, subject_id) if subject_id else None
    return _told(prefix, now) if now is not None else {}


def _told(prefix: str, now: Risk) -> dict[str, str]:
    return {f"{prefix}RiskLevel": now.level.value, f"{prefix}RiskState": now.state.value}


# -- what the token service answers -------------------------------------------------------------------------------


@dataclass(slots=True)
class Attempt:
    """What is known of one token request so far: filled as it is checked, so that a refusal tells who asked."""

    address: str
    protocol: str
    client_id: str
    resource: str
    server_id: str
    is_own: bool = False
    """Whether the resource is the agent's own affairs."""
    target_agent_id: str = ""
    """The agent to hand work to, if the resource is one."""
    issuer: str = ""
    subject: str = ""
    user_id: str = ""
    """The user, where the token was handed over by another agent: ``handed_over_by``."""
    handed_over_by: str = ""
    session_id: str = ""
    scope: str = ""
    mode: str = ""


class TokenEvents:
    """Writes what the token service answers. Safe between threads. ``clock`` gives seconds that never go back."""

    def __init__(
        self, store: SqlControlStore, log: EventLog, *, clock: Callable[[], float], tenant: str = "default"
    ) -> None:
        self._store, self._log, self._tenant, self._clock = store, log, tenant, clock
        self._refused: deque[float] = deque(maxlen=REFUSALS_PER_MINUTE)
        self._missed = 0
        self._lock = threading.Lock()

    def issued(self, attempt: Attempt) -> None:
        """A token is about to be handed over. Raises ``Unavailable`` if that cannot be written down: then it is not."""
        with self._store.read() as tx:
            row = self._row(tx, attempt, "")
        self._append(row)

    def refused(self, attempt: Attempt, reason: str) -> None:
        """A token was refused. What cannot be written down is counted, and told with the next refusal."""
        if reason == "throttled" or not self._has_room():
            with self._lock:
                self._missed += 1
            return
        with self._lock:
            missed, self._missed = self._missed, 0
        try:
            with self._store.read() as tx:
                row = self._row(tx, attempt, reason)
            self._append(row | {"MoreLikeIt": missed})
        except Unavailable:
            with self._lock:
                self._missed += missed + 1

    def _has_room(self) -> bool:
        now = self._clock()
        with self._lock:
            if len(self._refused) == REFUSALS_PER_MINUTE and self._refused[0] + 60.0 > now:
                return False
            self._refused.append(now)
            return True

    def _append(self, row: Mapping[str, Any]) -> None:
        key = str(row["ReportId"]).encode()
        self._log.append_once(DEFAULT_PART, [KeyedBatch(TABLES[_TABLE].batch([row]), [key])])

    def _row(self, tx: ControlTx, attempt: Attempt, reason: str) -> dict[str, Any]:
        agent = inventory.find_agent(tx, attempt.client_id[:200])
        server = inventory.find_server(tx, attempt.server_id[:200]) if attempt.server_id else None
        target = inventory.find_agent(tx, attempt.target_agent_id[:200]) if attempt.target_agent_id else None
        user = people.find_user_by_subject(tx, attempt.issuer, attempt.subject) if attempt.subject else None
        if attempt.user_id:
            user = people.find_user(tx, attempt.user_id)
        row: dict[str, Any] = {
            "Timestamp": tx.now,
            "TenantId": self._tenant,
            "ReportId": new_id("evt"),
            "ActionType": "TokenRefused" if reason else "TokenIssued",
            "Application": TOKEN_SERVICE,
            "LogonType": "nonInteractiveUser" if attempt.protocol == "token-exchange" else "servicePrincipal",
            "Protocol": attempt.protocol,
            "AccountId": user.id if user else "",
            "AccountUpn": user.upn if user else "",
            "AccountName": user.name if user else "",
            # What is no agent of ours can be anything, a mistyped secret too: it is not written.
            "AgentId": agent.id if agent else "",
            "AgentName": agent.name if agent else "",
            "ServerId": server.id if server else "",
            "Resource": attempt.resource if server or target or attempt.is_own else "",
            "Scope": attempt.scope,
            "Mode": attempt.mode,
            "SessionId": attempt.session_id if user else "",
            "IPAddress": attempt.address,
            "FailureReason": reason,
            "ErrorCode": error_code(reason),
            "SchemaVersion": SCHEMA_VERSION,
            "AdditionalFields": json.dumps({"HandedOverBy": attempt.handed_over_by} if attempt.handed_over_by else {}),
        }
        return (
            row
            | _risk(tx, "User", risks.USER, user.id if user else "")
            | _risk(tx, "Agent", risks.AGENT, agent.id if agent else "")
        )
