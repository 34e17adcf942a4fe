"""What is written down: rows of the event tables, as bytes for the spool.

One decision is one record that holds two rows: metadata (``AgentActivity``) and content (``AgentContent``), so that
neither is ever without the other. Column names and types are those of ``storage.tables``; times are Unix microseconds.
Nothing here decides or stores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import orjson

from watchfloor.gateway import access
from watchfloor.gateway.holds import Hold
from watchfloor.gateway.tokens import Token
from watchfloor.guard import codec
from watchfloor.guard.provenance.trace import Trace
from watchfloor.model.activity import Invocation
from watchfloor.model.facts import Facts
from watchfloor.model.ids import new_id
from watchfloor.model.verdicts import Effect, Mode, Signal, Verdict
from watchfloor.storage.tables import SCHEMA_VERSION

DECIDED: Final = "ToolCallDecided"
PROOF: Final = "EnforcementProof"
"""What the control plane asked, to see that it is refused: nobody's attempt, so no rule looks at it."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MAX_NAME: Final = 200


# Of members of enums, ``_value_`` is read here and not ``value``: the same, without two calls of functions each.


def micros(at: datetime) -> int:
    """Unix microseconds, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def _json(value: Any) -> str:
    return codec.canonical(value).decode()


def _short(text: str) -> str:
    """A name that a caller chose, fit to stand in a column."""
    return text if len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + "…"


class Spool(Protocol):
    """Takes records; ``storage.segments.SpoolWriter`` is one."""

    def append(self, record: bytes) -> None:
        """Store ``record``; when this returns it survives the death of this process. Raises ``Unavailable``."""
        ...


class Recorder:
    """Writes rows of one worker in one tenant. ``address`` is the caller's."""

    def __init__(self, tenant: str, worker_id: str) -> None:
        self._tenant, self._worker = tenant, worker_id

    def _row(self, action: str, at: datetime, door: str, address: str) -> dict[str, Any]:
        return {
            "Timestamp": micros(at),
            "TenantId": self._tenant,
            "ReportId": new_id("evt"),
            "ActionType": action,
            "SourceDoor": door,
            "IPAddress": address,
            "WorkerId": self._worker,
            "SchemaVersion": SCHEMA_VERSION,
        }

    def _describe_call(self, row: dict[str, Any], invocation: Invocation, facts: Facts) -> None:
        row["InvocationId"] = invocation.id
        row["TraceId"] = invocation.trace_id
        row["ConversationId"] = invocation.conversation_id
        row["SessionId"] = invocation.session_id
        row["AgentId"] = invocation.agent_id
        row["ParentAgentId"] = invocation.parent_agent_id or ""
        row["UserId"] = invocation.user_id or ""
        row["ActingMode"] = invocation.mode.acting_mode._value_
        row["ServerId"] = invocation.server_id
        row["ToolName"] = _short(invocation.tool)
        if facts.agent is not None:
            row["AgentName"] = facts.agent.name
            row["AgentVersion"] = facts.agent.version
        if facts.user is not None:
            row["AccountUpn"] = facts.user.upn
        if facts.binding is not None:
            row["CredentialOwner"] = facts.binding.credential_owner._value_
        if facts.tool is not None:
            row["ToolEffect"] = facts.tool.effect._value_

    def decision(
        self,
        invocation: Invocation,
        facts: Facts,
        verdict: Verdict,
        *,
        hold: Hold | None,
        released_by: str | None,
        decision_us: float,
        trace: Trace | None = None,
        fragments: codec.Fragments | None = None,
        agent_name: str = "",
        noted: Mapping[str, Any] | None = None,
        action: str = DECIDED,
    ) -> bytes:
        """``ToolCallDecided`` with its content: two entries of one record, to be put between brackets.

        ``fragments`` of the policy set that decided only make it faster. ``agent_name`` stands for that of an agent
        that is not registered.
        """
        row = self._row(action, invocation.at, invocation.door, invocation.address)
        self._describe_call(row, invocation, facts)
        if facts.agent is None and agent_name:
            row["AgentName"] = _short(agent_name)
        extra = dict(noted or {})
        row["Facts"] = codec.dump_facts(facts, fragments).decode()
        _describe_verdict(row, verdict, decision_us)
        if hold is not None:
            row["HoldId"] = hold.id
            waiting = {"id": hold.id, "payload_hash": hold.payload_hash, "expires_at": hold.expires_at.isoformat()}
            extra["hold"] = waiting
        elif released_by is not None:
            row["HoldId"] = released_by
        if extra:
            row["AdditionalFields"] = _json(extra)
        content = {
            "Timestamp": row["Timestamp"],
            "TenantId": self._tenant,
            "ReportId": new_id("evt"),
            "InvocationId": invocation.id,
            "TraceId": invocation.trace_id,
            "ConversationId": invocation.conversation_id,
            "AgentId": invocation.agent_id,
            "Kind": "invocation",
            "Content": _content(invocation, verdict, trace, fragments),
        }
        rows = ({"t": "AgentActivity", "r": row}, {"t": "AgentContent", "r": content})
        return b",".join([*(orjson.dumps(row) for row in rows), *access.log_rows(row, facts)])

    def access(self, look: Invocation, facts: Facts) -> bytes:
        """``AccessRefused`` of somebody who made no call; empty if conditional access says nothing."""
        row = self._row("", look.at, look.door, look.address)
        self._describe_call(row, look, facts)
        row["InvocationId"] = ""
        return b",".join(access.log_rows(row, facts))

    def result(
        self, invocation: Invocation, facts: Facts, verdict: Verdict, at: datetime, *, decision_us: float
    ) -> bytes:
        """``ToolResultDecided``: what was seen in what a call gave back, and what came of it."""
        row = self._row("ToolResultDecided", at, invocation.door, invocation.address)
        self._describe_call(row, invocation, facts)
        _describe_verdict(row, verdict, decision_us)
        return orjson.dumps({"t": "AgentActivity", "r": row})

    def completion(
        self,
        invocation: Invocation,
        facts: Facts,
        at: datetime,
        *,
        status: str,
        http_status: int | None,
        error_code: int | None,
        duration_ms: float,
        bytes_out: int,
        extra: Mapping[str, Any] | None = None,
    ) -> bytes:
        """``ToolCallCompleted``."""
        row = self._row("ToolCallCompleted", at, invocation.door, invocation.address)
        self._describe_call(row, invocation, facts)
        row["Status"] = status
        row["HttpStatus"] = http_status
        row["ErrorCode"] = error_code
        row["DurationMs"] = duration_ms
        row["BytesOut"] = bytes_out
        if extra:
            row["AdditionalFields"] = _json(extra)
        return orjson.dumps({"t": "AgentActivity", "r": row})

    def refusal(
        self,
        at: datetime,
        *,
        door: str,
        address: str,
        code: str,
        server_id: str,
        token: Token | None,
        upn: str,
        extra: Mapping[str, Any],
    ) -> bytes:
        """``RequestRefused``: there was no call to decide on."""
        row = self._row(PROOF if token is not None and token.is_proof else "RequestRefused", at, door, address)
        row["Status"] = "refused"
        row["ReasonCode"] = code
        row["ServerId"] = _short(server_id)
        if token is not None:
            self._describe_token(row, token)
            row["AccountUpn"] = upn
        row["AdditionalFields"] = _json(extra)
        return orjson.dumps({"t": "AgentActivity", "r": row})

    def tool_list(
        self, at: datetime, *, door: str, address: str, server_id: str, token: Token, offered: int, kept: int
    ) -> bytes:
        """``ToolListServed``."""
        row = self._row("ToolListServed", at, door, address)
        row["ServerId"] = server_id
        self._describe_token(row, token)
        row["Status"] = "ok"
        row["AdditionalFields"] = _json({"offered": offered, "kept": kept})
        return orjson.dumps({"t": "AgentActivity", "r": row})

    def tool_changed(
        self, at: datetime, *, door: str, server_id: str, tool: str, pin: str, seen: str, definition: Mapping[str, Any]
    ) -> bytes:
        """``ToolChanged``: a tool server offers something else than what was approved. Belongs to no caller."""
        row = self._row("ToolChanged", at, door, "")
        row["ServerId"] = server_id
        row["ToolName"] = _short(tool)
        description = definition.get("description")
        row["AdditionalFields"] = _json(
            {
                "pinned": pin,
                "observed": seen,
                "description": description[:2000] if isinstance(description, str) else None,
            }
        )
        return orjson.dumps({"t": "AgentActivity", "r": row})

    def tool_flagged(
        self, at: datetime, *, door: str, server_id: str, tool: str, seen: str, signals: Sequence[Signal]
    ) -> bytes:
        """``ToolFlagged``: the definition of a tool that nobody approved tells the model what to do."""
        row = self._row("ToolFlagged", at, door, "")
        row["ServerId"] = server_id
        row["ToolName"] = _short(tool)
        row["Signals"] = _json(signals)
        row["Reasons"] = _json([{"message": f"{signals[0].path}: {signals[0].excerpt}"}])
        row["AdditionalFields"] = _json({"observed": seen})
        return orjson.dumps({"t": "AgentActivity", "r": row})

    @staticmethod
    def _describe_token(row: dict[str, Any], token: Token) -> None:
        row["SessionId"] = token.session_id
        row["AgentId"] = token.agent_id
        row["ParentAgentId"] = token.parent_agent_id or ""
        row["UserId"] = token.user_id or ""
        row["ActingMode"] = token.mode.acting_mode.value


def _describe_verdict(row: dict[str, Any], verdict: Verdict, decision_us: float) -> None:
    row["Verdict"] = verdict.effect._value_
    row["WouldBe"] = verdict.would_be._value_
    row["Reasons"] = _json(verdict.reasons) if verdict.reasons else "[]"
    row["Signals"] = _json(verdict.signals) if verdict.signals else "[]"
    row["PolicySet"] = verdict.policy_set
    row["InputHash"] = verdict.input_hash
    row["DecisionUs"] = decision_us
    if verdict.reasons:
        first = verdict.reasons[0]
        if verdict.effect is not Effect.ALLOW and first.mode is Mode.ENFORCE:
            row["ReasonCode"] = first.code
        row["PolicyId"] = first.policy_id
        row["PolicyVersion"] = first.policy_version


def _content(invocation: Invocation, verdict: Verdict, trace: Trace | None, fragments: codec.Fragments | None) -> str:
    """The invocation as decided on."""
    if any(reason.code == "arguments_unreadable" for reason in verdict.reasons):
        return codec.dump_with_trace(invocation, trace).decode()
    return codec.dump_call(invocation, trace, fragments).decode()
