"""Steps: the rows of AgentActivity that detection reads, as values.

Turns Arrow tables into steps, dropping in bulk what no rule can want before a single row is touched. It knows the
columns of the event table and nothing of rules.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

COLUMNS: Final = (
    "Timestamp", "IngestSeq", "TenantId", "ReportId", "ActionType", "InvocationId", "ConversationId", "SessionId",
    "AgentId", "AgentName", "UserId", "AccountUpn", "ServerId", "ToolName", "ToolEffect", "Verdict", "WouldBe",
    "ReasonCode", "Reasons", "Signals", "PolicyId", "IPAddress", "DecisionTarget",
)  # fmt: skip
"""What detection reads of AgentActivity; facts and contents are never among it."""

JAILBREAK: Final = frozenset({"jailbreak", "prompt_extraction", "authority_claim"})
"""Categories of signals that count as a jailbreak attempt."""

_ALWAYS: Final = pa.array(["RequestRefused", "ToolChanged", "ToolFlagged", "HoldLimited"])
GUARDRAIL: Final = "guardrail:"
"""How codes of reasons begin that an agent's own guardrail gave: they are its words, and mean nothing else here."""
INTERVENED: Final = ("block", "redact")
"""Verdicts of a guardrail that refused or changed something."""
_LONGEST_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Step:
    """One observed step. Texts are as recorded: ``clean`` them before they stand in a sentence."""

    report_id: str
    seq: int
    at: datetime
    tenant: str
    action: str
    invocation_id: str
    session_id: str
    agent_id: str
    agent_name: str
    user_id: str
    upn: str
    server_id: str
    tool: str
    verdict: str
    would_be: str
    reason_code: str
    reasons: tuple[dict[str, Any], ...]
    """The reasons that stopped the call, or would have, the deciding one first: code, severity, message, detail."""
    signals: frozenset[tuple[str, str]]
    """What the detectors saw: (category, attempt). Words of the user that a later call of the same conversation carries
    along again are the same attempt."""
    policy_id: str
    address: str
    target: str = ""
    """What a decision was about, as an agent's guardrail says: llm_input, tool_call, knowledge_result, …"""

    @property
    def is_jailbreak(self) -> bool:
        """Whether words that try to get past the agent's instructions came with it."""
        return any(category in JAILBREAK for category, _ in self.signals)

    @property
    def was_stopped(self) -> bool:
        """Whether the call did not go out. What an agent's own guardrail did to words says nothing about calls."""
        if self.action == "GuardrailDecision":
            return False
        return self.verdict in ("block", "hold") or self.action == "RequestRefused"

    @property
    def message(self) -> str:
        """What the deciding reason says to operators."""
        return str(self.reasons[0].get("message") or "") if self.reasons else ""

    @property
    def tool_id(self) -> str:
        """``server/tool``."""
        return f"{self.server_id}/{self.tool}" if self.tool else self.server_id


def clean(text: object, limit: int = _LONGEST_TEXT) -> str:
    """``text`` fit to stand in a sentence: one line, no control or direction characters, at most ``limit`` long."""
    kept = str(text)
    if not kept.isprintable():  # most text is, and then nothing of it is in category C
        kept = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in kept)
    kept = " ".join(kept.split())
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def _json(text: object) -> list[Any]:
    if not isinstance(text, str) or not text:
        return []
    try:
        value = json.loads(text)
    except ValueError:
        return []
    return value if isinstance(value, list) else []


def _counting(reasons: list[Any], code: str) -> tuple[dict[str, Any], ...]:
    """The reasons that stopped the call, the deciding one first; if it was let out, those that would have."""
    blocking = [r for r in reasons if isinstance(r, dict) and r.get("effect") == "block"]
    if code:
        blocking = [r for r in blocking if r.get("mode") == "enforce"]
        blocking.sort(key=lambda r: r.get("code") != code)
    return tuple(blocking)


def _of_guardrail(reasons: list[Any]) -> tuple[dict[str, Any], ...]:
    """What an agent's guardrail gave as its reasons, or that it gave none."""
    given = [r for r in reasons if isinstance(r, dict) and r.get("effect") in INTERVENED]
    return tuple({**r, "code": f"{GUARDRAIL}{r.get('code') or ''}"} for r in given) or ({"code": GUARDRAIL},)


def _signals(row: dict[str, Any]) -> frozenset[tuple[str, str]]:
    conversation = row["ConversationId"] or ""
    found = set()
    for signal in _json(row["Signals"]):
        if not isinstance(signal, dict) or not signal.get("category"):
            continue
        path = str(signal.get("path", ""))
        attempt = str(row["ReportId"])
        if conversation and path.startswith("user_turns"):
            attempt = "\x00".join((conversation, path, str(signal.get("excerpt", ""))))
        found.add((str(signal["category"]), attempt))
    return frozenset(found)


def interesting(table: pa.Table) -> pa.Table:
    """The rows that some rule may want: anything but plain allowed calls, completions, served lists and what agents
    tell of themselves; of that only where a guardrail intervened."""
    text = {name: pc.fill_null(table[name], "") for name in ("ActionType", "Verdict", "WouldBe", "Signals")}
    mask = pc.is_in(text["ActionType"], value_set=_ALWAYS)
    decided = pc.is_in(text["ActionType"], value_set=_DECIDED)
    guarded = pc.equal(text["ActionType"], "GuardrailDecision")
    mask = pc.or_(mask, pc.and_(guarded, pc.is_in(text["Verdict"], value_set=pa.array(INTERVENED))))
    for condition in (
        pc.equal(text["Verdict"], "block"),
        pc.equal(text["WouldBe"], "block"),
        pc.greater(pc.utf8_length(text["Signals"]), 2),
    ):
        mask = pc.or_(mask, pc.and_(decided, condition))
    return table.filter(mask)


def read(table: pa.Table) -> list[Step]:
    """The interesting rows of ``table``, each event once, in order of time and id."""
    return read_all(interesting(table))


def read_all(table: pa.Table) -> list[Step]:
    """Every row of ``table``, each event once, in order of time and id."""
    steps: dict[str, Step] = {}
    for row in table.select(list(COLUMNS)).to_pylist():
        text = {name: row[name] or "" for name in _TEXTS}
        at = row["Timestamp"]
        if at is None or not text["ReportId"]:
            continue
        told, code = _json(row["Reasons"]), text["ReasonCode"]
        if text["ActionType"] == "GuardrailDecision":
            reasons, code = _of_guardrail(told), f"{GUARDRAIL}{code}"
        else:
            reasons = _counting(told, code)
        step = Step(
            report_id=text["ReportId"],
            seq=row["IngestSeq"] or 0,
            at=at.astimezone(UTC),
            tenant=text["TenantId"],
            action=text["ActionType"],
            invocation_id=text["InvocationId"],
            session_id=text["SessionId"],
            agent_id=text["AgentId"],
            agent_name=text["AgentName"],
            user_id=text["UserId"],
            upn=text["AccountUpn"],
            server_id=text["ServerId"],
            tool=text["ToolName"],
            verdict=text["Verdict"],
            would_be=text["WouldBe"],
            reason_code=code or (str(reasons[0].get("code", "")) if reasons else ""),
            reasons=reasons,
            signals=_signals(row),
            policy_id=text["PolicyId"],
            address=text["IPAddress"],
            target=text["DecisionTarget"],
        )
        # A replayed event may be stored twice: its later position counts, so that it is looked at as fresh.
        known = steps.get(step.report_id)
        if known is None or known.seq < step.seq:
            steps[step.report_id] = step
    return sorted(steps.values(), key=lambda step: (step.at, step.report_id))


_DECIDED: Final = pa.array(["ToolCallDecided", "ToolResultDecided"])
_TEXTS: Final = frozenset(COLUMNS) - {"Timestamp", "IngestSeq", "Reasons", "Signals"}
