"""What policies, or other grants, would have decided over the past days: the what-if, before anybody publishes them.

Every recorded decision whose input is still kept is taken again, with the facts of then and the policies to be tried;
its rows are the calls that would have ended differently. With the policies in force it shows what today's detectors
make of yesterday's calls. A request that hunts run, so that it is watched, cancelled and paged through as any query is.
Contents are used, and not shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from watchfloor.guard.engine import replay
from watchfloor.guard.policy import PolicySet, check_policy
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.facts import BindingFacts, PolicyFacts
from watchfloor.model.verdicts import Effect, Verdict
from watchfloor.storage import policies
from watchfloor.storage.activity import Activity, text
from watchfloor.storage.hunting import Hunted, Hunter, Request
from watchfloor.storage.past_calls import MOST_DAYS, PastCalls

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST_ROWS: Final = 10_000
"""Calls that would have ended differently and are listed; the others are counted."""
_COLUMNS: Final = (
    ("Timestamp", "datetime"), ("InvocationId", "string"), ("AgentId", "string"), ("AgentName", "string"),
    ("UserId", "string"), ("AccountUpn", "string"), ("ServerId", "string"), ("ToolName", "string"),
    ("Was", "string"), ("Now", "string"), ("WouldHaveBeen", "string"), ("WouldBe", "string"),
    ("ReasonCode", "string"), ("PolicyId", "string"), ("Message", "string"),
)  # fmt: skip
_READ: Final = (
    "Timestamp", "InvocationId", "AgentId", "AgentName", "UserId", "AccountUpn", "ServerId", "ToolName", "Verdict",
    "WouldBe", "Facts",
)  # fmt: skip


def candidate_set(tx: ControlTx, bodies: Sequence[Mapping[str, Any]], without: Iterable[str]) -> PolicySet:
    """The policies in force, with ``bodies`` in place of those of the same id or beside them, and without some.

    Raises ``InputError`` with every problem, ``NotFound`` for one to leave out that is not there.
    """
    wanted = {policy.id: policy.facts for policy in policies.current_policies(tx)}
    for policy_id in without:
        if wanted.pop(policy_id, None) is None:
            raise NotFound(f"there is no policy {policy_id!r} in force.", where="without")
    problems = [f"policies[{n}].{problem}" for n, body in enumerate(bodies) for problem in check_policy(body)]
    if problems:
        raise InputError("\n".join(problems), where="policies")
    for body in bodies:
        known = wanted.get(str(body["id"]))
        # A version that was never published cannot be taken for one that was.
        wanted[str(body["id"])] = PolicyFacts(str(body["id"]), (known.version if known else 0) + 1, dict(body))
    return PolicySet.build(wanted.values())


@dataclass(eq=False)
class PolicyTrial(Request):
    """``candidates`` over the decisions of the last ``days`` before ``end``. Its rows are the differences, by time.

    With ``grants`` it tries those: what the agent ``agent_id`` would be allowed to use. Then its calls are decided
    twice, with what they were granted and with these, so that nothing else that changed since makes a difference.
    """

    activity: Activity | None = None
    candidates: PolicySet | None = None
    days: int = 7
    end: datetime = field(default_factory=lambda: datetime.now(UTC))
    agent_id: str = ""
    grants: Sequence[BindingFacts] | None = None
    _counts: Counter[str] = field(default_factory=Counter, init=False)
    _calls: PastCalls | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.days <= MOST_DAYS:
            raise InputError(f"{self.days} days is not 1 to {MOST_DAYS}.", where="days")

    def progress(self) -> float | None:
        """The share of decisions that were taken again."""
        return None if self._calls is None else self._calls.share(self._counts["looked at"])

    @property
    def notes(self) -> tuple[str, ...]:
        """How many decisions were taken again, and what came of them."""
        counts = self._counts
        told = [f"{counts['decided']:,} calls were decided again, {counts['differs']:,} of them differently"]
        if self.grants is not None:
            told.append(f"{counts['fails']:,} of {counts['decided']:,} calls would have failed")
        told += [f"{counts[kind]:,} {kind}" for kind in sorted(counts) if kind.startswith("would ")]
        if lost := counts["looked at"] - counts["decided"]:
            told.append(f"{lost:,} calls were left out: their input is no longer kept, or cannot be read")
        if counts["differs"] > MOST_ROWS:
            told.append(f"the first {MOST_ROWS:,} differences are listed")
        return tuple(told)

    def answered_by(self, hunter: Hunter) -> Hunted:
        """The calls that would have ended differently. Raises ``Cancelled``."""
        assert self.activity is not None and self.candidates is not None
        calls = self._calls = PastCalls(
            self.activity, self.end, self.days, lambda: self.ticket.is_cancelled, self.agent_id
        )
        found: list[tuple[Any, ...]] = []
        for page in calls.pages(_READ):
            kept = self.activity.find_contents([text(row, "InvocationId") for row in page])
            inputs = {text(c, "InvocationId"): text(c, "Content") for c in kept if text(c, "Kind") == "invocation"}
            for row in page:
                self._again(row, inputs.get(text(row, "InvocationId"), ""), found)
        found.sort(key=lambda cells: (cells[0], cells[1]))
        return Hunted(_COLUMNS, (_batch(found),), frozenset({"AgentActivity"}))

    def _again(self, row: Mapping[str, Any], recorded: str, found: list[tuple[Any, ...]]) -> None:
        assert self.candidates is not None
        counts = self._counts
        counts["looked at"] += 1
        if not recorded:
            return
        was, would_have_been = text(row, "Verdict"), text(row, "WouldBe")
        try:
            verdict = replay(recorded, text(row, "Facts"), self.candidates, grants=self.grants)
            if self.grants is not None:
                before = replay(recorded, text(row, "Facts"), self.candidates)
                was, would_have_been = before.effect.value, before.would_be.value
        except (ValueError, TypeError, KeyError):
            return
        counts["decided"] += 1
        if (was, would_have_been) == (verdict.effect.value, verdict.would_be.value):
            return
        counts["differs"] += 1
        counts["fails"] += verdict.effect is Effect.BLOCK and was != Effect.BLOCK.value
        if was != verdict.effect.value:
            counts[f"would have ended as {verdict.effect.value} instead of {was}"] += 1
        if counts["differs"] <= MOST_ROWS:
            found.append(_cells(row, was, would_have_been, verdict))


def _cells(row: Mapping[str, Any], was: str, would_have_been: str, verdict: Verdict) -> tuple[Any, ...]:
    reason = verdict.reasons[0] if verdict.reasons else None
    names = ("InvocationId", "AgentId", "AgentName", "UserId", "AccountUpn", "ServerId", "ToolName")
    return (
        row["Timestamp"],
        *(text(row, name) for name in names),
        was,
        verdict.effect.value,
        would_have_been,
        verdict.would_be.value,
        reason.code if reason else "",
        (reason.policy_id or "") if reason else "",
        reason.message if reason else "",
    )


def _batch(rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    kinds = {"datetime": pa.timestamp("us", tz="UTC"), "string": pa.string()}
    columns = [pa.array([row[n] for row in rows], type=kinds[kind]) for n, (_, kind) in enumerate(_COLUMNS)]
    return pa.RecordBatch.from_arrays(columns, names=[name for name, _ in _COLUMNS])
