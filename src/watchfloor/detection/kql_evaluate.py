"""What a rule in KQL finds: in a slice of fresh rows, or in a span of time. Rows in, drafts of alerts out.

Above the compiler and the event store; ``kql_runner`` decides when to ask and stores what is found. What comes out
depends on the stored rows alone: near-real-time rules are asked of the slice which alerts it touches, and each of those
is then made from all the rows of its span, so that neither the cut of the slices nor the order of arrival changes an
alert. An event that was stored twice counts once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from watchfloor.detection.evaluate import capped, event, listed, when
from watchfloor.detection.kql_rule import TEXTS, KqlRule, Prepared
from watchfloor.detection.steps import COLUMNS, Step, clean, read_all
from watchfloor.model.cases import AlertDraft, Entity, EntityKind
from watchfloor.model.errors import InputError, PastLimit
from watchfloor.model.times import in_words
from watchfloor.model.verdicts import Severity
from watchfloor.storage.activity import literal
from watchfloor.storage.compiler import ticks
from watchfloor.storage.hunting import Hunter, Request
from watchfloor.storage.ports import Limits, Scope, Ticket

MOST_ROWS: Final = 10_000
"""Rows of one answer that are looked at."""
MOST_ALERTS: Final = 200
"""Alerts that one rule may raise in one run."""
SECONDS: Final = 20.0
"""How long one question may take."""
_MOST_EVIDENCE: Final = 400
_SEVERITIES: Final = {s.value.casefold(): s for s in Severity}
_EPOCH: Final = datetime(1, 1, 1, tzinfo=UTC)
"""Where KQL counts spans of time from."""

Row = Mapping[str, Any]
Key = tuple[tuple[str, ...], datetime]


@dataclass(frozen=True, slots=True)
class Found:
    """What one run of one rule gave. ``note``: what was left out, and why; empty if nothing was."""

    drafts: tuple[AlertDraft, ...] = ()
    rows: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows behind ``after`` and up to ``upto``, by ingest position. ``count``: how many there are."""

    after: int
    upto: int
    count: int


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Asks rules of an event store, within one scope. ``ticket`` lets somebody else stop it."""

    hunter: Hunter
    scope: Scope = field(default_factory=Scope)
    ticket: Ticket | None = None
    seconds: float = SECONDS

    # -- slices -------------------------------------------------------------------------------------------------------

    def next_slice(self, table: str, after: int, most: int) -> Slice:
        """The next ``most`` rows of ``table`` behind ``after``, or what there is."""
        scope = replace(self.scope, after=after)
        asked = f"{table} | summarize N = count(), Last = max(IngestSeq)"
        (found,) = self._rows(asked, scope=scope)
        if found["N"] > most:
            cut = f"{table} | project IngestSeq | sort by IngestSeq asc | take {most} | summarize Last = max(IngestSeq)"
            (last,) = self._rows(cut, scope=scope)
            return Slice(after, int(last["Last"]), most)
        return Slice(after, int(found["Last"] or after), int(found["N"]))

    def newest(self, table: str, before: datetime | None = None) -> int:
        """The last position in ``table`` (of what arrived before a time), 0 if there is none."""
        where = "" if before is None else f" | where IngestTime < datetime({before.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ})"
        (found,) = self._rows(f"{table}{where} | summarize Last = max(IngestSeq)")
        return int(found["Last"] or 0)

    def look(self, rules: Sequence[Prepared], after: int, most: int) -> tuple[Slice, list[Prepared]]:
        """The next slice of the one table of ``rules``, and those whose first conditions a row of it meets.

        One scan for all of them, where no more than ``most`` rows wait.
        """
        table = rules[0].table
        fused = [rule for rule in rules if rule.condition]
        columns = "".join(f", R{n} = countif({rule.condition})" for n, rule in enumerate(fused))
        asked = f"{table} | summarize N = count(), Last = max(IngestSeq){columns}"
        try:
            (found,) = self._rows(asked, scope=replace(self.scope, after=after))
        except (InputError, PastLimit):  # together they are too much: each for itself, then
            return self.next_slice(table, after, most), list(rules)
        if found["N"] > most:
            return self.next_slice(table, after, most), list(rules)
        hit = {rule.rule.id for n, rule in enumerate(fused) if found[f"R{n}"]}
        touched = [rule for rule in rules if not rule.condition or rule.rule.id in hit]
        return Slice(after, int(found["Last"] or after), int(found["N"])), touched

    def near_real_time(self, prepared: Prepared, part: Slice) -> Found:
        """The alerts that rows of the slice belong to, each made from all rows of its span of time up to there."""
        rule = prepared.rule
        span = _kql_span(rule.dedup.bin)
        keys = ", ".join(f"['{name}']" for name in rule.dedup.columns)
        asked = f"{_open(rule.query)}\n| summarize Rows__ = count() by {keys}, Bin__ = bin(Timestamp, {span})"
        ordered = f"{asked}\n| sort by Bin__ asc, {', '.join(f'{k} asc' for k in keys.split(', '))}"
        groups = self._rows(f"{ordered}\n| take {MOST_ALERTS + 1}", scope=self._within(part))
        note = ""
        if len(groups) > MOST_ALERTS:
            note = f"More than {MOST_ALERTS} alerts in {part.count} rows; the first {MOST_ALERTS} were raised."
            groups = groups[:MOST_ALERTS]
        rows = sum(int(group["Rows__"]) for group in groups)
        wanted: defaultdict[datetime, set[tuple[str, ...]]] = defaultdict(set)
        for group in groups:
            if group["Bin__"] is not None:
                wanted[_utc(group["Bin__"])].add(_key(rule, group))
        drafts: list[AlertDraft] = []
        for start, known in sorted(wanted.items()):
            chosen = f"{_open(rule.query)}\n| sort by Timestamp asc, ReportId asc\n| take {MOST_ROWS + 1}"
            scope = replace(self.scope, upto=part.upto)
            found = self._rows(chosen, scope=scope, since=start, until=_moved(start, rule.dedup.bin))
            if len(found) > MOST_ROWS:
                note = note or f"More than {MOST_ROWS} rows within one span; the first {MOST_ROWS} were counted."
                found = found[:MOST_ROWS]
            drafts += self._drafts(
                rule, [row for row in found if _key(rule, row) in known], _moved(start, rule.dedup.bin)
            )
        return Found(tuple(drafts), rows, note)

    def _within(self, part: Slice) -> Scope:
        return replace(self.scope, after=part.after, upto=part.upto)

    # -- spans of time ------------------------------------------------------------------------------------------------

    def scheduled(self, prepared: Prepared, end: datetime) -> Found:
        """The alerts of the span that ends at ``end``, which is what the query means by now()."""
        rule = prepared.rule
        assert rule.lookback is not None
        asked = f"{_open(rule.query)}\n| take {MOST_ROWS + 1}"
        rows = self._rows(asked, since=_moved(end, -rule.lookback), until=end, now=end)
        note = ""
        if len(rows) > MOST_ROWS:
            note = f"More than {MOST_ROWS} rows; {MOST_ROWS} of them were looked at."
            rows = rows[:MOST_ROWS]
        drafts = self._drafts(rule, rows, end)
        if len(drafts) > MOST_ALERTS:
            note = f"More than {MOST_ALERTS} alerts; the first {MOST_ALERTS} were raised."
        return Found(tuple(drafts[:MOST_ALERTS]), len(rows), note)

    def over(self, prepared: Prepared, start: datetime, end: datetime) -> Found:
        """What a near-real-time rule would have found in what happened from ``start`` to ``end``: whole bins of it."""
        asked = f"{_open(prepared.rule.query)}\n| sort by Timestamp asc, ReportId asc\n| take {MOST_ROWS + 1}"
        rows = self._rows(asked, since=start, until=end)
        note = f"More than {MOST_ROWS} rows from {start:%Y-%m-%d %H:%M} on." if len(rows) > MOST_ROWS else ""
        return Found(tuple(self._drafts(prepared.rule, rows[:MOST_ROWS], end)), min(len(rows), MOST_ROWS), note)

    def oldest_after(self, table: str, part: Slice) -> datetime | None:
        """When the first of the slice's rows happened, however late it arrived."""
        found = self._rows(f"{table} | summarize Oldest = min(Timestamp)", scope=self._within(part))
        value = found[0]["Oldest"] if found else None
        return None if value is None else _utc(value)

    # -- alerts -------------------------------------------------------------------------------------------------------

    def _drafts(self, rule: KqlRule, rows: Iterable[Row], end: datetime) -> list[AlertDraft]:
        groups: defaultdict[Key, list[Row]] = defaultdict(list)
        for row in rows:
            at = _time(row, end)
            groups[_key(rule, row), _floor(at, rule.dedup.bin)].append(row)
        ids = {identity: _ids_of(members) for identity, members in groups.items()}
        steps = self._steps(rule, [i for found in ids.values() for i in capped(found)], groups, end)
        return [
            _draft(rule, key, start, members, ids[key, start], steps, end)
            for (key, start), members in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0]))
        ]

    def _steps(
        self, rule: KqlRule, ids: Sequence[str], groups: Mapping[Key, Sequence[Row]], end: datetime
    ) -> dict[str, Step]:
        """The events behind the alerts, as far as they are in AgentActivity."""
        found: dict[str, Step] = {}
        times = [_time(row, end) for members in groups.values() for row in members]
        if not ids or not times:
            return found
        reach = rule.lookback or rule.dedup.bin
        since, until = _moved(min(times), -reach), _moved(max(*times, end), timedelta(seconds=1))
        unique = list(dict.fromkeys(ids))
        for first in range(0, min(len(unique), 10 * _MOST_EVIDENCE), _MOST_EVIDENCE):
            part = unique[first : first + _MOST_EVIDENCE]
            asked = (
                f"AgentActivity | where ReportId in ({', '.join(map(literal, part))}) | project {', '.join(COLUMNS)}"
            )
            limits = Limits(self.seconds, 4 * _MOST_EVIDENCE, ticket=None)
            hunted = self.hunter.hunt(Request(asked, self.scope, limits, ticks(since), ticks(until)))
            found |= {step.report_id: step for step in read_all(hunted.table)}
        return found

    def _rows(
        self,
        text: str,
        *,
        scope: Scope | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        now: datetime | None = None,
    ) -> list[dict[str, Any]]:
        request = Request(
            text,
            scope or self.scope,
            Limits(timeout_seconds=self.seconds, max_rows=MOST_ROWS + 1),
            None if since is None else ticks(since),
            None if until is None else ticks(until),
            now=None if now is None else ticks(now),
            door="rules",
        )
        if self.ticket is not None:
            request.ticket = self.ticket
        rows: list[dict[str, Any]] = self.hunter.hunt(request).table.to_pylist()
        return rows


class Stopwatch:
    """How long something took, in milliseconds, in whole ones of a thousandth."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def milliseconds(self) -> float:
        """Since it was made."""
        return round((time.perf_counter() - self._began) * 1000, 3)


def _open(query: str) -> str:
    """The query, fit to be gone on with."""
    return query.rstrip().rstrip(";").rstrip()


def _kql_span(span: timedelta) -> str:
    return f"{int(span.total_seconds())}s"


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _moved(at: datetime, span: timedelta) -> datetime:
    """``at`` and ``span`` later, or where the calendar ends: events may bring any time that it has."""
    try:
        return at + span
    except OverflowError:
        return (datetime.max if span > timedelta(0) else datetime.min).replace(tzinfo=UTC)


def _floor(at: datetime, span: timedelta) -> datetime:
    return at - (at - _EPOCH) % span


def _time(row: Row, end: datetime) -> datetime:
    value = row.get("Timestamp")
    return _utc(value) if isinstance(value, datetime) else end - timedelta(microseconds=1)


def _text(value: object) -> str:
    if value is None:
        return ""
    return in_words(_utc(value)) if isinstance(value, datetime) else str(value)


def _key(rule: KqlRule, row: Row) -> tuple[str, ...]:
    return tuple(_text(row[name]) for name in rule.dedup.columns)


def _ids(row: Row) -> list[str]:
    """The events that a row stands for: ``Evidence``, else ``ReportId``."""
    value = row.get("Evidence")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if isinstance(value, list):
        return [v for v in value if isinstance(v, str) and v]
    report_id = row.get("ReportId")
    return [report_id] if isinstance(report_id, str) and report_id else []


def _ids_of(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(found for row in rows for found in _ids(row)))


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """``rows``, each event once: one that was sent again is stored twice."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for row in rows:
        ids = tuple(_ids(row))
        if not ids or ids not in seen:
            seen.add(ids)
            kept.append(row)
    return kept


def _entities(rule: KqlRule, rows: Sequence[Row]) -> tuple[Entity, ...]:
    found: dict[tuple[EntityKind, str], Entity] = {}
    for column in rule.entities:
        for row in rows:
            id_ = _text(row[column.column])
            if id_:
                name = clean(_text(row[column.name]) if column.name else "") or clean(id_)
                found.setdefault((column.kind, id_), Entity(column.kind, id_, name, column.role))
    order = list(EntityKind)
    return tuple(sorted(found.values(), key=lambda e: (order.index(e.kind), e.id))[:MOST_ALERTS])


def _severity(rule: KqlRule, rows: Sequence[Row]) -> Severity:
    """The gravest that the rows name, the rule's own where they name none."""
    if not rule.severity_column:
        return rule.severity
    named = [_SEVERITIES.get(_text(row[rule.severity_column]).casefold()) for row in rows]
    return max((s for s in named if s is not None), key=lambda s: s.rank, default=rule.severity)


def _other_event(id_: str, at: datetime) -> dict[str, Any]:
    """An event that is no step of an agent, as an alert keeps it."""
    texts = ("invocation", "action", "user", "agent", "server", "tool", "verdict", "reason", "address")
    return {"id": id_, "at": at.isoformat(), **dict.fromkeys(texts, ""), "stopped": False, "jailbreak": False}


def _draft(
    rule: KqlRule,
    key: tuple[str, ...],
    start: datetime,
    members: Sequence[Row],
    ids: Sequence[str],
    steps: Mapping[str, Step],
    end: datetime,
) -> AlertDraft:
    rows = _distinct(sorted(members, key=lambda row: (_time(row, end), _ids(row))))
    at_of = {i: _time(row, end) for row in reversed(rows) for i in _ids(row)}
    known = [steps[i] for i in ids if i in steps]
    times = sorted([*(step.at for step in known), *(_time(row, end) for row in rows)])
    count = len(ids) or len(rows)
    texts = {
        name: listed(sorted({clean(_text(row[name])) for row in rows})) or "not known"
        for name in rows[0]
        if name not in TEXTS
    }
    texts |= {
        "count": str(count),
        "times": "once" if count == 1 else f"{count} times",
        "span": when(times[0], times[-1]),
    }
    events = [event(steps[i]) if i in steps else _other_event(i, at_of[i]) for i in capped(ids)]
    digest = hashlib.sha256("\x00".join(key).encode()).hexdigest()[:32]
    return AlertDraft(
        rule_id=rule.id,
        dedup_key=f"{start:%Y-%m-%dT%H:%M}/{digest}",
        title=clean(rule.title.format_map(texts), 300),
        description=clean(rule.description.format_map(texts), 2_000),
        severity=_severity(rule, rows),
        tactic=rule.tactic,
        techniques=rule.techniques,
        entities=_entities(rule, rows),
        evidence=tuple(capped(ids)),
        first_activity=times[0],
        last_activity=times[-1],
        recommended_actions=rule.recommended_actions,
        detail={
            "count": count,
            "stopped": sum(step.was_stopped for step in known),
            "attempted_tactic": rule.tactic,
            "reason_code": known[-1].reason_code if known else "",
            "policy_id": known[-1].policy_id if known else "",
            "actions": list(rule.actions),
            "events": events,
            **({"risk": rule.risk.told} if rule.risk else {}),
        },
    )
