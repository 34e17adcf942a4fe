"""The posture scan: every indicator asked over the inventory at once, and what came of it remembered.

Above ``posture`` (what an indicator is, what risk adds up to), the event store, where the inventory is a table, and
``storage.posture``; a job calls it. A scan changes only what differs from the scan before, so that "since" means that.
Safe to run twice; what one scan did not finish the next one does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from watchfloor.detection.posture import NOT_ASSESSED, Check, Risk, shipped, weigh
from watchfloor.model.errors import InputError, PastLimit, Unavailable
from watchfloor.model.posture import RiskBand, Weight
from watchfloor.storage import posture, snapshots
from watchfloor.storage.activity import literal
from watchfloor.storage.compiler import ticks
from watchfloor.storage.hunting import Hunter, Request
from watchfloor.storage.ports import Limits, Scope
from watchfloor.storage.posture import AgentPosture, Exemption, Finding, Key, Known, Scanned

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

AGAIN: Final = timedelta(minutes=5)
"""A scan is due after this, whatever happened: activity and time change posture too."""
SETTLES: Final = timedelta(seconds=60)
"""How long after a change of control state the tables may not show it yet."""
_LIMITS: Final = Limits(timeout_seconds=120, max_rows=5_000_000, max_bytes=1 << 30)
_AT_ONCE: Final = 5_000
_LEASE_SECONDS: Final = 300.0
_SHARED: Final = ("CurrentAgents", "CurrentGrants")
"""Views that are worked out once for all indicators."""
_ACTOR: Final = "system:posture"
_NOBODY: Final = ""
"""In place of an indicator: the agent is there."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answers:
    """What the tables say: the agents there are, what is active (level, evidence), what could not be assessed.

    ``failed``: indicators that could not be asked, with the reason; of these nothing is said.
    """

    agents: frozenset[str]
    active: Mapping[Key, tuple[Weight, str]]
    not_assessed: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scan changed. ``agents``: how many it looked at."""

    agents: int = 0
    opened: int = 0
    changed: int = 0
    ended: int = 0


def is_due(tx: ControlTx, now: datetime) -> bool:
    """Whether anything may have changed since the last scan."""
    last = posture.last_scan(tx)
    if last is None or not timedelta(0) <= now - last.at < AGAIN or last.at - last.seen < SETTLES:
        return True
    return snapshots.position(tx, now).audit != last.audit


def scan(
    control: SqlControlStore, hunter: Hunter, scope: Scope, now: datetime, checks: Sequence[Check] | None = None
) -> Outcome:
    """Ask every indicator, and store what differs. Raises ``Unavailable``, also when some could not be asked."""
    checks = shipped() if checks is None else checks
    lease = control.lease("posture", _LEASE_SECONDS)
    if lease is None:
        return Outcome()
    try:
        with control.read() as tx:
            position = snapshots.position(tx, now).audit
        answers = ask(hunter, scope, checks, now)
        outcome = _store(control, answers, checks, now, position)
    finally:
        lease.release()
    if answers.failed:
        raise Unavailable("; ".join(f"{name}: {why}" for name, why in answers.failed.items()))
    return outcome


# -- asking -------------------------------------------------------------------------------------------------------


def ask(hunter: Hunter, scope: Scope, checks: Sequence[Check], now: datetime) -> Answers:
    """One query for all indicators; each by itself where together they are too much."""
    agents: set[str] = set()
    active: dict[Key, tuple[Weight, str]] = {}
    unknown: defaultdict[str, list[str]] = defaultdict(list)
    failed: dict[str, str] = {}
    most = {check.indicator.id: check.indicator.level for check in checks}

    def read(some: Sequence[Check], with_agents: bool) -> None:
        text = question(some, with_agents=with_agents)
        answer = hunter.hunt(Request(text, scope, _LIMITS, now=ticks(now), door="posture"))
        for batch in answer.batches:
            for agent_id, indicator, state, level, evidence in zip(
                *(batch.column(n).to_pylist() for n in range(5)), strict=True
            ):
                if indicator == _NOBODY:
                    agents.add(agent_id)
                elif state == NOT_ASSESSED:
                    unknown[agent_id].append(indicator)
                else:
                    active[agent_id, indicator] = (_WEIGHTS.get(level) or most[indicator], evidence or "{}")

    try:
        read(checks, True)
    except (InputError, PastLimit):
        read((), True)
        for check in checks:
            try:
                read((check,), False)
            except (InputError, PastLimit) as error:
                failed[check.indicator.id] = str(error)
    there = frozenset(agents)
    return Answers(
        there,
        {key: found for key, found in active.items() if key[0] in there},
        {agent_id: tuple(sorted(found)) for agent_id, found in unknown.items() if agent_id in there},
        failed,
    )


def question(checks: Sequence[Check], *, with_agents: bool) -> str:
    """The query that asks ``checks`` together: agent, indicator, state, level and evidence of each row.

    A view that several of them read is worked out once, under its own name. ``with_agents``: and every agent.
    """
    named = {name for check in checks for name in check.named} | ({_SHARED[0]} if with_agents else set())
    shared = [f"let {name} = materialize({name});\n" for name in _SHARED if name in named]
    everybody = f'({_SHARED[0]} | project AgentId, Indicator = "", State = "", Level = "", Evidence = dynamic(null))'
    legs = [_leg(check) for check in checks] + ([everybody] if with_agents else [])
    return "".join(shared) + ("union\n" if len(legs) > 1 else "") + ",\n".join(legs)


def _leg(check: Check) -> str:
    cells = {
        "Indicator": literal(check.indicator.id),
        "State": "State" if "State" in check.columns else '""',
        "Level": "Level" if "Level" in check.columns else '""',
    }
    columns = ", ".join(f"{name} = {value}" for name, value in cells.items())
    return f"({check.indicator.query.rstrip()}\n| project AgentId, {columns}, Evidence)"


# -- storing ------------------------------------------------------------------------------------------------------


def _store(
    control: SqlControlStore, answers: Answers, checks: Sequence[Check], now: datetime, position: int
) -> Outcome:
    known_checks = {check.indicator.id for check in checks}
    with control.read() as tx:
        registered = posture.registered(tx)
        before, agents = posture.list_known(tx), posture.list_agents(tx)
        exceptions = posture.list_exceptions(tx)
        last = posture.last_scan(tx)
    looked_at = answers.agents & registered.keys()
    differs = _compare(before, answers, looked_at, known_checks, now)
    fresh = _weighed(before, answers, looked_at, checks, exceptions, agents, now)
    differing = [one for one in fresh if one != agents.get(one.agent_id)]
    gone = sorted(({key[0] for key in before} | agents.keys()) - registered.keys())
    _in_parts(control, "gone", gone, posture.forget)
    _in_parts(control, "opened", differs.added, posture.add_findings)
    _in_parts(control, "opened", differs.reopened, posture.reopen_findings)
    _in_parts(control, "changed", differs.changed, posture.change_findings)
    _in_parts(control, "ended", differs.ended, lambda tx, part: posture.end_findings(tx, part, now))
    _in_parts(control, "agents", differing, lambda tx, part: posture.write_agents(tx, part, agents))
    counts = Counter(one.band.value for one in fresh)
    counts[RiskBand.NOT_EVALUATED.value] += len(registered.keys() - looked_at)
    body = {
        "bands": dict(sorted(counts.items())),
        "indicators": dict(sorted(Counter(indicator for _, indicator in answers.active).items())),
        "not_assessed": dict(sorted(Counter(i for found in answers.not_assessed.values() for i in found).items())),
    }
    with control.tx(_ACTOR, audited=False) as tx:
        seen = last.seen if last is not None and last.audit == position else now
        posture.note_scan(tx, Scanned(now, position, seen))
        posture.write_day(tx, now.date().isoformat(), body)
    opened = len(differs.added) + len(differs.reopened)
    return Outcome(len(looked_at), opened, len(differs.changed), len(differs.ended))


def _in_parts(
    control: SqlControlStore, counted: str, items: Sequence[T], write: Callable[[ControlTx, Sequence[T]], None]
) -> None:
    """Nobody else waits for a large company to be written as a whole."""
    for start in range(0, len(items), _AT_ONCE):
        part = items[start : start + _AT_ONCE]
        with control.tx(_ACTOR) as tx:
            write(tx, part)
            tx.audit("posture:scan", "posture", {counted: len(part)})


@dataclass(slots=True)
class _Differences:
    added: list[Finding] = field(default_factory=list)
    reopened: list[Finding] = field(default_factory=list)
    changed: list[Finding] = field(default_factory=list)
    ended: list[Key] = field(default_factory=list)


def _compare(
    before: Mapping[Key, Known], answers: Answers, looked_at: Collection[str], known: Collection[str], now: datetime
) -> _Differences:
    """How what was asked differs from what is stored. Indicators that are there no more hold for nobody."""
    found = _Differences()
    for key, (level, evidence) in answers.active.items():
        stored = before.get(key)
        if stored is not None and stored.is_open and (stored.level, stored.evidence) == (level, evidence):
            continue
        fresh = Finding(*key, level, evidence, now)
        (found.added if stored is None else found.changed if stored.is_open else found.reopened).append(fresh)
    found.ended = [
        key
        for key, stored in before.items()
        if stored.is_open
        and key not in answers.active
        and key[1] not in answers.failed
        and (key[0] in looked_at or key[1] not in known)
    ]
    return found


def _weighed(
    before: Mapping[Key, Known],
    answers: Answers,
    looked_at: Collection[str],
    checks: Sequence[Check],
    exceptions: Mapping[Key, Exemption],
    agents: Mapping[str, AgentPosture],
    now: datetime,
) -> list[AgentPosture]:
    indicators = {check.indicator.id: check.indicator for check in checks}
    accepted = {key for key, one in exceptions.items() if one.expires_at > now}
    active: defaultdict[str, list[tuple[str, Weight]]] = defaultdict(list)
    for (agent_id, indicator), (level, _) in answers.active.items():
        if (agent_id, indicator) not in accepted:
            active[agent_id].append((indicator, level))
    for (agent_id, indicator), stored in before.items():
        if indicator in answers.failed and stored.is_open and (agent_id, indicator) not in accepted:
            active[agent_id].append((indicator, _WEIGHTS[stored.level]))
    # Thousands of agents have few combinations between them.
    combined = {agent_id: tuple(sorted(active[agent_id])) for agent_id in sorted(looked_at)}
    risks = {found: weigh((indicators[name], level) for name, level in found) for found in set(combined.values())}
    return [
        _judged(agent_id, risks[found], answers.not_assessed.get(agent_id, ()), agents.get(agent_id), now)
        for agent_id, found in combined.items()
    ]


def _judged(
    agent_id: str, risk: Risk, unknown: tuple[str, ...], before: AgentPosture | None, now: datetime
) -> AgentPosture:
    since = before.since if before is not None and before.band is risk.band else now
    return AgentPosture(agent_id, risk.band, risk.likelihood, risk.impact, risk.reasons, unknown, since)


def reweigh(tx: ControlTx, agent_id: str, now: datetime, checks: Sequence[Check] | None = None) -> None:
    """What an agent's findings add up to, after somebody accepted one or accepts it no longer."""
    checks = shipped() if checks is None else checks
    indicators = {check.indicator.id: check.indicator for check in checks}
    before = posture.list_agents(tx, agent_id).get(agent_id)
    if before is None:
        return
    accepted = {key for key, one in posture.list_exceptions(tx, agent_id).items() if one.expires_at > now}
    active = [
        (indicators[one.indicator], one.level)
        for key, one in posture.list_findings(tx, agent_id).items()
        if one.ended_at is None and key not in accepted and one.indicator in indicators
    ]
    posture.write_agents(tx, [_judged(agent_id, weigh(active), before.not_assessed, before, now)], {agent_id})


_WEIGHTS: Final = {weight.value: weight for weight in Weight}
