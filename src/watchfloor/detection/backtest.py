"""What a rule would have raised over the past days: the what-if, before anybody switches it on.

A backtest is a request that hunts run, so that it is watched, cancelled and paged through as any query is. It asks the
rule about each span as the runner would have, within what its author may see, and stores nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from watchfloor.detection.kql_evaluate import Evaluator
from watchfloor.detection.kql_rule import Prepared
from watchfloor.model.cases import AlertDraft
from watchfloor.model.errors import InputError
from watchfloor.storage.hunting import Cancelled, Hunted, Hunter, Request

MOST_DAYS: Final = 30
MOST_SPANS: Final = 10_000
MOST_ALERTS: Final = 10_000

_COLUMNS: Final = (
    ("FirstActivity", "datetime"), ("LastActivity", "datetime"), ("Severity", "string"), ("Title", "string"),
    ("Description", "string"), ("Count", "long"), ("Entities", "dynamic"), ("DedupKey", "string"),
)  # fmt: skip
_ARROW: Final = {
    "datetime": pa.timestamp("us", tz="UTC"), "string": pa.string(), "long": pa.int64(), "dynamic": pa.string(),
}  # fmt: skip


@dataclass(eq=False)
class Backtest(Request):
    """A rule over the last ``days`` before ``end``. Its rows are the alerts, by time."""

    prepared: Prepared | None = None
    days: int = 7
    end: datetime = field(default_factory=lambda: datetime.now(UTC))
    done: int = field(default=0, init=False)
    _notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.days <= MOST_DAYS:
            raise InputError(f"{self.days} days is not 1 to {MOST_DAYS}.", where="days")
        if len(self._spans()) > MOST_SPANS:
            message = f"{self.days} days are {len(self._spans())} runs; at most {MOST_SPANS} are tried."
            raise InputError(message, where="days", remedy="Ask for fewer days, or a lower frequency.")

    @property
    def notes(self) -> tuple[str, ...]:
        """Where the rule was cut short."""
        return tuple(self._notes)

    def progress(self) -> float | None:
        """The share of spans that is done."""
        return self.done / max(1, len(self._spans()))

    def answered_by(self, hunter: Hunter) -> Hunted:
        """Every alert that the rule would have raised. Raises ``Cancelled``, and what the rule itself fails with."""
        assert self.prepared is not None
        evaluator = Evaluator(hunter, self.scope, self.ticket, self.limits.timeout_seconds)
        found: dict[str, AlertDraft] = {}
        for start, end in self._spans():
            if self.ticket.is_cancelled:
                raise Cancelled("The backtest was cancelled.")
            is_live = self.prepared.rule.is_near_real_time
            run = evaluator.over(self.prepared, start, end) if is_live else evaluator.scheduled(self.prepared, end)
            for draft in run.drafts:
                kept = found.get(draft.dedup_key)
                if kept is None or kept.detail["count"] < draft.detail["count"]:
                    found[draft.dedup_key] = draft
            if run.note and run.note not in self._notes:
                self._notes.append(run.note)
            self.done += 1
        ordered = sorted(found.values(), key=lambda d: (d.first_activity, d.dedup_key))[:MOST_ALERTS]
        return Hunted(_COLUMNS, (_batch(ordered),), self.prepared.tables)

    def _spans(self) -> list[tuple[datetime, datetime]]:
        return list(self._each_span())

    def _each_span(self) -> Iterator[tuple[datetime, datetime]]:
        assert self.prepared is not None
        rule = self.prepared.rule
        step = rule.dedup.bin if rule.frequency is None else rule.frequency
        zero = datetime(1, 1, 1, tzinfo=UTC) if rule.frequency is None else datetime(1970, 1, 1, tzinfo=UTC)
        begin = self.end - timedelta(days=self.days)
        at = begin - (begin - zero) % step
        while at < self.end:
            if rule.frequency is None or begin < at + step <= self.end:
                yield at, at + step
            at += step


def _batch(drafts: list[AlertDraft]) -> pa.RecordBatch:
    rows: list[tuple[Any, ...]] = [
        (
            d.first_activity,
            d.last_activity,
            d.severity.value,
            d.title,
            d.description,
            d.detail["count"],
            json.dumps([{"kind": e.kind.value, "id": e.id, "role": e.role.value} for e in d.entities]),
            d.dedup_key,
        )
        for d in drafts
    ]
    columns = [pa.array([row[n] for row in rows], type=_ARROW[kind]) for n, (_, kind) in enumerate(_COLUMNS)]
    return pa.RecordBatch.from_arrays(columns, names=[name for name, _ in _COLUMNS])


def backtest_of(request: Request, prepared: Prepared, days: int, end: datetime) -> Backtest:
    """``request`` (who asks, within which scope and limits) as a backtest of a rule. Raises ``InputError``."""
    return Backtest(
        text=prepared.rule.query,
        scope=replace(request.scope),
        limits=request.limits,
        door="backtest",
        prepared=prepared,
        days=days,
        end=end,
    )
