"""What access policies would have refused over the past days: whom, where, and by which policy.

Every recorded decision brings the facts of then, the age and the methods of the sign-in among them; the policies to be
tried are asked about them as if they were enabled. A request that hunts run, so that it is watched, cancelled and paged
through as any query is. No contents are read.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from watchfloor.guard import codec
from watchfloor.guard.access.evaluate import Attempt, evaluate
from watchfloor.guard.access.policy import AccessPolicy, check, read
from watchfloor.model.access import AccessState, Control
from watchfloor.model.agents import ToolEffect
from watchfloor.model.errors import InputError
from watchfloor.model.facts import AgentProfile, Facts
from watchfloor.model.people import RiskLevel
from watchfloor.storage import access, inventory
from watchfloor.storage.activity import Activity, text
from watchfloor.storage.hunting import Hunted, Hunter, Request
from watchfloor.storage.past_calls import MOST_DAYS, PastCalls
from watchfloor.storage.profiles import agent_profile

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST_ROWS: Final = 10_000
"""Hits that are listed; the others are counted."""
_COLUMNS: Final = (
    ("Timestamp", "datetime"), ("InvocationId", "string"), ("PolicyId", "string"), ("PolicyName", "string"),
    ("Control", "string"), ("ReasonCode", "string"), ("Because", "string"), ("UserId", "string"),
    ("AccountUpn", "string"), ("AgentId", "string"), ("AgentName", "string"), ("ServerId", "string"),
    ("ToolName", "string"), ("Was", "string"),
)  # fmt: skip
_READ: Final = (
    "Timestamp", "InvocationId", "UserId", "AccountUpn", "AgentId", "AgentName", "ServerId", "ToolName", "Verdict",
    "Facts",
)  # fmt: skip


def candidates(tx: ControlTx, bodies: Sequence[Mapping[str, Any]]) -> tuple[AccessPolicy, ...]:
    """``bodies`` as if they were enabled; without any, every policy that is there and not disabled.

    Raises ``InputError`` with every problem. What cannot be enforced here does not keep a policy from being tried.
    """
    if not bodies:
        found = [read(p.id, p.version, _tried(p.body)) for p in access.current_policies(tx)
                 if p.state is not AccessState.DISABLED]  # fmt: skip
    else:
        tried = [_tried(body) for body in bodies]
        problems = [f"policies[{n}].{problem}" for n, body in enumerate(tried) for problem in check(body)]
        if problems:
            raise InputError("\n".join(problems), where="policies")
        found = [read(str(body["id"]), 0, body) for body in tried]
    return tuple(replace(policy, state=AccessState.ENABLED) for policy in found)


def _tried(body: Mapping[str, Any]) -> dict[str, Any]:
    return {**body, "state": AccessState.REPORT_ONLY.value}


def profiles(tx: ControlTx) -> dict[str, AgentProfile]:
    """Where agents are from, as the registry says today: decisions do not record it."""
    return {agent.id: agent_profile(agent) for agent in inventory.list_agents(tx)}


def attempt_of(facts: Facts, agent_id: str, server_id: str, profile: AgentProfile | None) -> Attempt:
    """What a recorded call was, as conditional access sees it."""
    risk = facts.access.sign_in_risk if facts.access is not None else RiskLevel.NONE.value
    effect = facts.tool.effect if facts.tool is not None else ToolEffect.UNKNOWN
    return Attempt(facts.user, agent_id, facts.agent, facts.token.mode, server_id, effect, RiskLevel(risk), profile)


@dataclass(eq=False)
class AccessTrial(Request):
    """``policies`` over the calls of the last ``days`` before ``end``. Its rows are the hits, by time."""

    activity: Activity | None = None
    policies: tuple[AccessPolicy, ...] = ()
    profiles: Mapping[str, AgentProfile] = field(default_factory=dict)
    days: int = 30
    end: datetime = field(default_factory=lambda: datetime.now(UTC))
    _counts: Counter[str] = field(default_factory=Counter, init=False)
    _hit: dict[str, _Hit] = field(default_factory=lambda: defaultdict(_Hit), init=False)
    _calls: PastCalls | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.days <= MOST_DAYS:
            raise InputError(f"{self.days} days is not 1 to {MOST_DAYS}.", where="days")

    def progress(self) -> float | None:
        """The share of calls that were looked at."""
        return None if self._calls is None else self._calls.share(self._counts["looked at"])

    @property
    def notes(self) -> tuple[str, ...]:
        """How many calls each policy would have refused, of how many users and agents."""
        counts = self._counts
        told = [f"{counts['looked at']:,} calls were looked at, {counts['refused']:,} would have been refused"]
        if counts["refused anyway"]:
            told.append(f"{counts['refused anyway']:,} of these were refused then, too")
        for policy in self.policies:
            hit = self._hit.get(policy.id, _Hit())
            told.append(f"{policy.id}: {hit.calls:,} calls of {len(hit.users):,} users and {len(hit.agents):,} agents")
        if counts["unreadable"]:
            told.append(f"{counts['unreadable']:,} calls were left out: what was known then cannot be read")
        if counts["unknown sign-in"]:
            told.append(f"{counts['unknown sign-in']:,} calls do not say how the user signed in: taken as one factor")
        if counts["hits"] > MOST_ROWS:
            told.append(f"the first {MOST_ROWS:,} hits are listed")
        return tuple(told)

    def answered_by(self, hunter: Hunter) -> Hunted:
        """The calls that would have been refused, one row for each policy. Raises ``Cancelled``."""
        assert self.activity is not None
        calls = self._calls = PastCalls(self.activity, self.end, self.days, lambda: self.ticket.is_cancelled)
        found: list[tuple[Any, ...]] = []
        for page in calls.pages(_READ):
            for row in page:
                self._try(row, found)
        found.sort(key=lambda cells: (cells[0], cells[1], cells[2]))
        return Hunted(_COLUMNS, (_batch(found),), frozenset({"AgentActivity"}))

    def _try(self, row: Mapping[str, Any], found: list[tuple[Any, ...]]) -> None:
        counts = self._counts
        counts["looked at"] += 1
        try:
            facts = codec.load_facts(text(row, "Facts"))
        except (ValueError, TypeError, KeyError):
            counts["unreadable"] += 1
            return
        agent_id = text(row, "AgentId")
        attempt = attempt_of(facts, agent_id, text(row, "ServerId"), self.profiles.get(agent_id))
        signed_in = facts.token.auth_time
        age = None if signed_in is None else (facts.now - signed_in).total_seconds()
        methods = facts.access.methods if facts.access is not None else ()
        refusing = evaluate(self.policies, attempt, methods, age).refusing
        if not refusing:
            return
        counts["refused"] += 1
        counts["refused anyway"] += text(row, "Verdict") == "block"
        counts["unknown sign-in"] += facts.access is None and any(p.control is Control.MFA for p in refusing)
        for applied in refusing:
            hit = self._hit[applied.id]
            hit.calls += 1
            hit.agents.add(agent_id)
            if user := text(row, "UserId"):
                hit.users.add(user)
            counts["hits"] += 1
            if counts["hits"] <= MOST_ROWS:
                found.append(
                    (
                        row["Timestamp"], text(row, "InvocationId"), applied.id, applied.name, applied.control.value,
                        applied.control.refusal_code, json.dumps(list(applied.because), ensure_ascii=False),
                        *(text(row, name) for name in _READ[2:9]),
                    )
                )  # fmt: skip


@dataclass(slots=True)
class _Hit:
    calls: int = 0
    users: set[str] = field(default_factory=set)
    agents: set[str] = field(default_factory=set)


def _batch(rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    kinds = {"datetime": pa.timestamp("us", tz="UTC"), "string": pa.string()}
    columns = [pa.array([row[n] for row in rows], type=kinds[kind]) for n, (_, kind) in enumerate(_COLUMNS)]
    return pa.RecordBatch.from_arrays(columns, names=[name for name, _ in _COLUMNS])
