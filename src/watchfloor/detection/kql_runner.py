"""Running rules in KQL: near-real-time ones over slices of fresh rows, scheduled ones over spans of time.

Above ``kql_evaluate``, which asks, and ``keep``, which stores; ``jobs`` calls it. A rule stands by itself: what fails
in one, or costs too much, delays no other, and one that goes on like that is switched off with an alert that says so.

INVARIANT: the alerts of a run and the rule's position are committed in one transaction, and only if nobody has moved
the position meanwhile. What a rule finds depends on the stored rows alone and each finding has its own key, so a crash,
a second server or a run that is repeated changes nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from watchfloor.detection.keep import keep
from watchfloor.detection.kql_evaluate import Evaluator, Found, Slice, Stopwatch
from watchfloor.detection.kql_rule import KqlRule, Prepared, prepare
from watchfloor.kql.schema import Schema
from watchfloor.model.cases import AlertDraft
from watchfloor.model.errors import InputError, PastLimit, Unavailable, WatchfloorError
from watchfloor.model.verdicts import Severity
from watchfloor.storage import findings, rules
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.rules import RuleState

ACTOR: Final = "system:detection"
HEALTH: Final = "rule-disabled"
"""The rule id of alerts about rules that were switched off."""
MOST_STRIKES: Final = 5
"""Runs in a row that may fail or cost too much before a rule is switched off."""
COSTS_TOO_MUCH_MS: Final = 5_000.0
MAKES_UP_FOR: Final = timedelta(hours=6)
"""How late an event may arrive for a scheduled rule to look again at the spans that it belongs to."""
_FIRST_LOOKS_BACK: Final = timedelta(days=1)
_SPANS_A_RUN: Final = 24
_AT_ONCE: Final = 2
"""Rules that ask about one slice at the same time: few, for people ask the same store."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule did in a round: where it stood, where it stands, what it found, what that cost."""

    prepared: Prepared
    before: RuleState
    after: RuleState
    found: Found = field(default_factory=Found)
    is_behind: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What one round did."""

    ran: int = 0
    raised: int = 0
    is_behind: bool = False
    milliseconds: Mapping[str, float] = field(default_factory=dict)


def due_ends(rule: KqlRule, position: int, now: datetime) -> list[datetime]:
    """The ends of spans that a scheduled rule is due to look at, oldest first. A new rule begins with the latest."""
    assert rule.frequency is not None
    last = _floor(now - rule.lateness, rule.frequency)
    if position == 0:
        return [last]
    at, ends = _time(position) + rule.frequency, []
    while at <= last:
        ends.append(at)
        at += rule.frequency
    return ends


class KqlDetector:
    """Runs rules. ``shipped`` come with the product; ``custom`` gives those of operators, as they are now."""

    def __init__(
        self,
        control: SqlControlStore,
        evaluator: Evaluator,
        shipped: Sequence[KqlRule],
        *,
        schema: Callable[[], Schema],
        custom: Callable[[ControlTx], Iterable[KqlRule]] = lambda tx: (),
        slice_rows: int = 20_000,
        now: Callable[[], datetime],
    ) -> None:
        self._control, self._evaluator, self._shipped = control, evaluator, tuple(shipped)
        self._schema, self._custom, self._slice_rows, self._now = schema, custom, slice_rows, now
        self._prepared: dict[str, tuple[KqlRule, Prepared | str]] = {}

    def run_near_real_time(self) -> Report:
        """Look at the next slice of fresh rows. Safe to run at any time, any number of times, by any number of servers.

        Raises ``Unavailable`` if the event store does not answer; the next run goes on from the same place.
        """
        return self._run(True, self._round)

    def run_scheduled(self) -> Report:
        """Look at every span of time that is due. As safe as the other."""
        return self._run(False, self._spans)

    def _run(
        self, near_real_time: bool, look: Callable[[Sequence[tuple[Prepared, RuleState]]], list[Outcome]]
    ) -> Report:
        ready = self._ready(near_real_time)
        outcomes = [*(o for o in ready if isinstance(o, Outcome)), *look([r for r in ready if isinstance(r, tuple)])]
        if not outcomes:
            return Report()
        return self._store(outcomes)

    # -- which rules ----------------------------------------------------------------------------------------------

    def _ready(self, near_real_time: bool) -> list[tuple[Prepared, RuleState] | Outcome]:
        """Rules that may run, each with its state; or what is to be said of one whose query means nothing any more."""
        with self._control.read() as tx:
            known = rules.states(tx)
            wanted = [r for r in (*self._shipped, *self._custom(tx)) if r.is_near_real_time is near_real_time]
        ready: list[tuple[Prepared, RuleState] | Outcome] = []
        fresh: list[RuleState] = []
        for rule in wanted:
            prepared = self._prepare(rule)
            state = known.get(rule.id)
            if state is None:
                if isinstance(prepared, str):
                    continue
                state = self._first(prepared)
                fresh.append(state)
            if not state.is_enabled:
                continue
            if isinstance(prepared, str):
                nobody = Prepared(rule, {}, frozenset())
                ready.append(Outcome(nobody, state, _failed(state, prepared, self._now())))
            else:
                ready.append((prepared, state))
        if fresh:
            with self._control.tx(ACTOR, audited=False) as tx:
                for state in fresh:
                    rules.begin(tx, state)
        return ready

    def _prepare(self, rule: KqlRule) -> Prepared | str:
        kept = self._prepared.get(rule.id)
        if kept is None or isinstance(kept[1], str) or kept[0] != rule:
            prepared, faults = prepare(rule, self._schema())
            kept = (rule, prepared or "; ".join(faults))
            self._prepared[rule.id] = kept
        return kept[1]

    def _first(self, prepared: Prepared) -> RuleState:
        """Where a rule begins that nobody has seen before: with what arrived within a day."""
        since = self._now() - _FIRST_LOOKS_BACK
        if prepared.rule.is_near_real_time:
            return RuleState(prepared.rule.id, position=self._evaluator.newest(prepared.table, since))
        return RuleState(prepared.rule.id, seen=self._newest(prepared))

    def _newest(self, prepared: Prepared) -> int:
        return max((self._evaluator.newest(table) for table in prepared.tables), default=0)

    # -- near real time -------------------------------------------------------------------------------------------

    def _round(self, ready: Sequence[tuple[Prepared, RuleState]]) -> list[Outcome]:
        groups: defaultdict[tuple[str, int], list[tuple[Prepared, RuleState]]] = defaultdict(list)
        for prepared, state in ready:
            groups[prepared.table, state.position].append((prepared, state))
        outcomes: list[Outcome] = []
        for (_, position), members in groups.items():
            watch = Stopwatch()
            part, touched = self._evaluator.look([p for p, _ in members], position, self._slice_rows)
            if part.count:
                outcomes += self._slice(members, part, {p.rule.id for p in touched}, watch.milliseconds / len(members))
        return outcomes

    def _slice(
        self, members: Sequence[tuple[Prepared, RuleState]], part: Slice, touched: set[str], share: float
    ) -> list[Outcome]:
        def outcome(member: tuple[Prepared, RuleState]) -> Outcome:
            prepared, state = member

            def ask() -> Found:
                return self._evaluator.near_real_time(prepared, part) if prepared.rule.id in touched else Found()

            found = self._ask(prepared, state, ask, replace(state, position=part.upto), share)
            return replace(found, is_behind=part.count >= self._slice_rows)

        if len(touched) < 2:
            return [outcome(member) for member in members]
        # Each question is small: the store answers two in little more than the time of one.
        with ThreadPoolExecutor(_AT_ONCE, "rules") as pool:
            return list(pool.map(outcome, members))

    # -- spans ----------------------------------------------------------------------------------------------------

    def _spans(self, ready: Sequence[tuple[Prepared, RuleState]]) -> list[Outcome]:
        return [o for prepared, state in ready for o in self._look_at(prepared, state)]

    def _look_at(self, prepared: Prepared, state: RuleState) -> list[Outcome]:
        now = self._now()
        ends = due_ends(prepared.rule, state.position, now)
        if not ends:
            return []
        seen, late = self._late(prepared, state, ends[0])
        done = ends[:_SPANS_A_RUN]
        asked = [*late, *done]
        to = replace(state, position=_micros(done[-1]), seen=seen)

        def ask() -> Found:
            drafts: dict[str, AlertDraft] = {}
            rows, note = 0, ""
            for end in asked:
                found = self._evaluator.scheduled(prepared, end)
                rows, note = rows + found.rows, note or found.note
                for draft in found.drafts:
                    kept = drafts.get(draft.dedup_key)
                    if kept is None or kept.detail["count"] < draft.detail["count"]:
                        drafts[draft.dedup_key] = draft
            return Found(tuple(drafts.values()), rows, note)

        outcome = self._ask(prepared, state, ask, to, times=len(asked))
        return [replace(outcome, is_behind=len(ends) > len(done))]

    def _late(self, prepared: Prepared, state: RuleState, first: datetime) -> tuple[int, list[datetime]]:
        """Spans before ``first`` to look at again because rows of theirs have arrived since, and how far that goes."""
        rule = prepared.rule
        newest = self._newest(prepared)
        if state.position == 0 or newest <= state.seen or rule.frequency is None or rule.lookback is None:
            return newest, []
        part = Slice(state.seen, newest, 0)
        arrived = [self._evaluator.oldest_after(table, part) for table in prepared.tables]
        oldest = min((at for at in arrived if at is not None), default=None)
        if oldest is None:
            return newest, []
        # A span that ends at E holds what happened in [E - lookback, E). What the spans to come hold is left to them.
        at = first - rule.frequency
        again = []
        while at > max(oldest, self._now() - MAKES_UP_FOR):
            again.append(at)
            at -= rule.frequency
        return newest, again[::-1]

    # -- both -----------------------------------------------------------------------------------------------------

    def _ask(
        self,
        prepared: Prepared,
        before: RuleState,
        ask: Callable[[], Found],
        to: RuleState,
        share: float = 0.0,
        times: int = 1,
    ) -> Outcome:
        """One rule's answer to so many questions, and its state after it. A rule that fails stays where it is.

        ``share``: milliseconds that were spent on it before.
        """
        watch, now = Stopwatch(), self._now()
        try:
            found = ask()
        except (InputError, PastLimit) as error:
            return Outcome(prepared, before, _failed(before, str(error), now, watch.milliseconds + share))
        except Unavailable:
            raise
        except Exception as error:  # whatever it is, it is this rule's: the others go on
            _log.exception("rule %s failed", prepared.rule.id)
            told = str(error) if isinstance(error, WatchfloorError) else f"{type(error).__name__}: see the log"
            return Outcome(prepared, before, _failed(before, told, now, watch.milliseconds + share))
        cost = watch.milliseconds + share
        after = _counted(to, cost, now, found)
        if cost / times > COSTS_TOO_MUCH_MS:
            told = f"A question took {cost / times / 1000:.1f} s; {COSTS_TOO_MUCH_MS / 1000:g} s is the most."
            after = replace(_struck(after, before.strikes + 1, told), note=told)
        else:
            after = replace(after, strikes=0, last_error="")
        return Outcome(prepared, before, after, found)

    def _store(self, outcomes: Sequence[Outcome]) -> Report:
        raised = 0
        with self._control.tx(ACTOR, audited=False) as tx:
            done = rules.move(tx, [(o.before, o.after) for o in outcomes])
            moved = [o for o in outcomes if o.prepared.rule.id in done]
            drafts = [draft for o in moved for draft in o.found.drafts]
            kept = keep(tx, drafts, "rules/" + ",".join(sorted({d.rule_id for d in drafts}))[:500])
            raised = len(kept.raised)
            for outcome in moved:
                if outcome.before.is_enabled and not outcome.after.is_enabled:
                    _tell(tx, outcome)
        if raised:
            _log.info("rules in KQL raised %d alerts", raised)
        # A rule that another server has moved meanwhile is behind: what we know of it is old.
        is_behind = len(moved) < len(outcomes) or any(o.is_behind and o.after.is_enabled for o in moved)
        is_behind = is_behind and any(o.before.position != o.after.position or o not in moved for o in outcomes)
        costs = {o.prepared.rule.id: o.after.last_ms for o in outcomes}
        return Report(len(outcomes), raised, is_behind, costs)


def _floor(at: datetime, span: timedelta) -> datetime:
    return at - (at - _EPOCH) % span


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _time(position: int) -> datetime:
    return _EPOCH + timedelta(microseconds=position)


def _counted(state: RuleState, cost: float, now: datetime, found: Found | None = None) -> RuleState:
    return replace(
        state,
        runs=state.runs + 1,
        rows=state.rows + (found.rows if found else 0),
        hits=state.hits + (len(found.drafts) if found else 0),
        total_ms=round(state.total_ms + cost, 3),
        last_ms=round(cost, 3),
        last_run_at=now,
        note=found.note if found else "",
    )


def _struck(state: RuleState, strikes: int, told: str) -> RuleState:
    """``state`` after one more failure; the last one that may be switches the rule off."""
    if strikes < MOST_STRIKES:
        return replace(state, strikes=strikes, last_error=told)
    why = f"Switched off after {strikes} runs in a row that failed: {told}"
    return replace(state, strikes=strikes, last_error=told, is_enabled=False, reason=why)


def _failed(state: RuleState, told: str, now: datetime, cost: float = 0.0) -> RuleState:
    return _struck(_counted(state, cost, now), state.strikes + 1, told)


def _tell(tx: ControlTx, outcome: Outcome) -> None:
    """The alert that a rule was switched off, and its entry in the audit log. It is about nobody: no incident."""
    rule, state = outcome.prepared.rule, outcome.after
    draft = AlertDraft(
        rule_id=HEALTH,
        dedup_key=f"{rule.id}/{tx.now:%Y-%m-%d}",
        title=f"Detection rule {rule.id} was switched off",
        description=f"{state.reason} What it looks for is not seen until it is mended and switched on again.",
        severity=Severity.MEDIUM,
        tactic="Defense Evasion",
        techniques=("T1562",),
        entities=(),
        evidence=(),
        first_activity=tx.now,
        last_activity=tx.now,
        recommended_actions=(
            f"Mend the query of {rule.id}, try it with watchfloor rules backtest, and switch it on again.",
        ),
        detail={"count": 1, "stopped": 0, "attempted_tactic": "Defense Evasion", "reason_code": "rule_disabled",
                "policy_id": "", "actions": [], "events": [], "rule": rule.id, "error": state.last_error},
    )  # fmt: skip
    findings.save_draft(tx, draft)
    tx.audit("rule:disable", f"rule/{rule.id}", {"reason": state.reason})
    _log.warning("rule %s: %s", rule.id, state.reason)
