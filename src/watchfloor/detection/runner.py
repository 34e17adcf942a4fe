"""Running detection: read a slice of fresh events, gather what lies around them, store alerts and cursor together.

Above ``evaluate`` and ``correlate``, which do the thinking; ``jobs`` calls it. It keeps no state between calls: what a
rule needs from the past is read from the event store each time, so a crash, a second server or a replayed event changes
nothing.

INVARIANT: alerts, incidents and the cursor are committed in one transaction. Events before the cursor have been judged
with everything that was known then, and each finding is stored under its own key, once. A rule stores nothing once it
was switched off.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from watchfloor.detection.correlate import Correlated
from watchfloor.detection.evaluate import HOUR, SliceRunner
from watchfloor.detection.keep import keep
from watchfloor.detection.rules import Ruleset
from watchfloor.detection.steps import COLUMNS, interesting, read
from watchfloor.storage import findings, rules
from watchfloor.storage.activity import Activity
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.ports import Seq

CURSOR: Final = "detection"
ACTOR: Final = "system:detection"
_USERS_A_QUERY: Final = 20
_CALLS_SIFTED: Final = 20_000
"""Calls of one user through one agent that are searched for signals; earlier ones of the same hours are not."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What one round did."""

    rows: int = 0
    upto: int = 0
    raised: int = 0
    grown: int = 0
    incidents: Correlated = field(default_factory=Correlated)
    is_behind: bool = False
    """More events are waiting."""


class Detector:
    """Rules over the event store, alerts into control state."""

    def __init__(
        self,
        control: SqlControlStore,
        activity: Activity,
        ruleset: Ruleset,
        *,
        slice_rows: int = 5_000,
        context_rows: int = 2_000,
    ) -> None:
        self._control, self._activity, self._ruleset = control, activity, ruleset
        self._slice_rows, self._context_rows = slice_rows, context_rows

    def run(self) -> Report:
        """Judge the next slice of events. Safe to run at any time, any number of times, by any number of servers."""
        with self._control.read() as tx:
            cursor, off = findings.read_cursor(tx, CURSOR), rules.switched_off(tx)
        fresh = self._activity.after(cursor, self._slice_rows, COLUMNS)
        if fresh.num_rows == 0:
            return Report(upto=cursor)
        upto = int(pc.max(fresh["IngestSeq"]).as_py())
        runner = SliceRunner(self._ruleset.without(off))
        drafts = runner.run_slice(self._with_context(fresh), Seq(cursor)) if interesting(fresh).num_rows else ()
        is_behind = fresh.num_rows >= self._slice_rows // 2
        if not drafts:
            with self._control.tx(ACTOR, audited=False) as tx:
                moved = findings.move_cursor(tx, CURSOR, cursor, upto)
            return Report(rows=fresh.num_rows, upto=upto if moved else cursor, is_behind=is_behind)
        with self._control.tx(ACTOR, audited=False) as tx:
            if not findings.move_cursor(tx, CURSOR, cursor, upto):
                # Another server has judged this slice meanwhile. Its findings are stored; ours would be the same.
                return Report(upto=cursor, is_behind=True)
            off = rules.switched_off(tx)
            kept = keep(tx, [d for d in drafts if d.rule_id not in off], f"events/{cursor + 1}-{upto}")
        raised, joined = len(kept.raised), kept.incidents
        if raised:
            _log.info("raised %d alerts in %s", raised, ", ".join((*joined.opened, *joined.extended)))
        return Report(fresh.num_rows, upto, raised, len(kept.saved) - raised, joined, is_behind)

    def _with_context(self, fresh: pa.Table) -> pa.Table:
        """``fresh`` with the suspicious steps around its own: same agent and user, the hours that rules may look at."""
        spans: defaultdict[str, dict[str, tuple[datetime, datetime]]] = defaultdict(dict)
        signalled: set[tuple[str, str]] = set()
        reach = self._ruleset.longest_window
        for step in read(fresh):
            start = step.at.replace(minute=0, second=0, microsecond=0) - reach
            end = (step.at + reach).replace(minute=0, second=0, microsecond=0) + HOUR
            known = spans[step.agent_id].get(step.user_id)
            spans[step.agent_id][step.user_id] = (min(start, known[0]), max(end, known[1])) if known else (start, end)
            if step.signals:
                signalled.add((step.agent_id, step.user_id))
        tables = [fresh.select(list(COLUMNS))]
        for agent_id, users in spans.items():
            ids = sorted(users)
            for group in (ids[i : i + _USERS_A_QUERY] for i in range(0, len(ids), _USERS_A_QUERY)):
                start, end = min(users[u][0] for u in group), max(users[u][1] for u in group)
                limit = self._context_rows * len(group)
                tables.append(self._activity.suspicious(agent_id, group, start, end, limit, COLUMNS))
            # KQL cannot ask for signals on calls that were let out yet, so these calls are read and sifted here.
            for user_id in (u for u in ids if (agent_id, u) in signalled):
                calls = self._activity.let_out(agent_id, [user_id], *users[user_id], _CALLS_SIFTED, COLUMNS)
                tables.append(interesting(calls))
        schema = tables[0].schema
        return pa.concat_tables([t.select(list(COLUMNS)).cast(schema) for t in tables if t.num_rows])
