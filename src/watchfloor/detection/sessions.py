"""Session rules: what somebody did within a time, asked of the event store again and again.

Above ``rules`` (the queries), ``evaluate`` (which writes the alert) and ``keep``; ``jobs`` calls ``watch``. What
must *stop* a call is counted by the gateway, inline; what only deserves an alert is found here, over the events of all
workers and hosts alike. A rule is asked whenever there are fresh events, about windows whose ends lie a quarter of a
window apart from the oldest of those on, so that what lies within three quarters of a window lies within one that is
asked. Events that arrive late are made up for, six hours back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from watchfloor.detection.evaluate import draft_alert
from watchfloor.detection.keep import keep
from watchfloor.detection.rules import Ruleset, SessionRule
from watchfloor.detection.steps import COLUMNS, Step, read_all
from watchfloor.model.cases import AlertDraft
from watchfloor.model.errors import Unavailable
from watchfloor.storage import findings, rules
from watchfloor.storage.activity import Activity, literal, moment
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.rules import RuleState

CURSOR: Final = "sessions"
LEARNING_CURSOR: Final = "sessions-learning"
ACTOR: Final = "system:detection"
MAKES_UP_FOR: Final = timedelta(hours=6)
_MOST_ALERTS: Final = 200
"""Rows of one answer that become alerts."""
_MOST_EVIDENCE: Final = 400
_log = logging.getLogger(__name__)


def watch(
    control: SqlControlStore, activity: Activity, ruleset: Ruleset, now: datetime, *, learning: bool = False
) -> int:
    """Ask session rules about the time of fresh events; how many alerts are new.

    ``learning``: those that compare with days before, else the others. Theirs are the dearer queries, so they are
    asked less often. Safe to run at any time, any number of times, by any number of servers. Raises ``Unavailable``
    naming the rules that got no answer, after what the others found is stored.
    """
    name = LEARNING_CURSOR if learning else CURSOR
    with control.read() as tx:
        cursor, known = findings.read_cursor(tx, name), rules.states(tx)
    newest = activity.newest_seq()
    if newest <= cursor:
        return 0
    since = activity.oldest_after(cursor, newest)
    drafts, failed = [], {}
    for rule in ruleset.sessions:
        state = known.get(rule.id, RuleState(rule.id))
        if bool(rule.learns_days) is not learning or not state.is_enabled:
            continue
        due = points(rule, since or now, now)
        try:
            drafts += [d for point in due for d in ask(activity, ruleset, rule, point, state.position)]
        except Unavailable as error:
            failed[rule.id] = str(error)
    with control.tx(ACTOR, audited=False) as tx:
        # Forward even if a rule got no answer: asking about an ever longer time would only make that worse.
        if not findings.move_cursor(tx, name, cursor, newest):
            return 0  # another server has asked meanwhile
        off = rules.switched_off(tx)
        kept = keep(tx, [d for d in drafts if d.rule_id not in off], f"events/{cursor + 1}-{newest}")
    if failed:
        raise Unavailable(f"no answer for {', '.join(failed)}: {next(iter(failed.values()))}")
    return len(kept.raised)


def points(rule: SessionRule, since: datetime, now: datetime) -> list[datetime]:
    """The ends of the windows that are asked about because of events since then; the last one is ``now``."""
    hop = timedelta(minutes=rule.within_minutes) / 4
    at = max(since, now - MAKES_UP_FOR) + hop
    due = []
    while at < now:
        due.append(at)
        at += hop
    return [*due, now]


def ask(activity: Activity, ruleset: Ruleset, rule: SessionRule, now: datetime, seq: int = 0) -> list[AlertDraft]:
    """The alerts that ``rule`` has about the window that ends at ``now``.

    ``seq``: where the rule was switched on. What it had not been asked about before stays untold, unless more came.
    """
    found = activity.query(text_of(rule, now), _MOST_ALERTS).to_pylist()
    drafts = []
    for row in found:
        steps = _evidence(activity, _ids(row.get("Evidence")), now - timedelta(days=1), now)
        if any(step.seq > seq for step in steps):
            drafts.append(draft_alert(rule, steps, ruleset.reasons, str(row.get("Detail") or "")))
    return drafts


def text_of(rule: SessionRule, now: datetime) -> str:
    """The rule's query about the window that ends at ``now``."""
    start = now - timedelta(minutes=rule.within_minutes)
    learn = start - timedelta(days=rule.learns_days)
    lets = (f"let {name} = {moment(at)};" for name, at in (("Now", now), ("Start", start), ("Learn", learn)))
    return "\n".join((*lets, rule.query))


def _ids(value: Any) -> list[str]:
    """Ids of events, as a dynamic list comes back."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    return list(dict.fromkeys(v for v in value if isinstance(v, str))) if isinstance(value, Iterable) else []


def _evidence(activity: Activity, ids: Sequence[str], since: datetime, until: datetime) -> list[Step]:
    if not ids:
        return []
    listed = ", ".join(literal(i) for i in ids[:_MOST_EVIDENCE])
    return read_all(
        activity.query(
            f"AgentActivity | where Timestamp >= {moment(since)} and Timestamp <= {moment(until)}"
            f" | where ReportId in ({listed}) | project {', '.join(COLUMNS)}",
            2 * _MOST_EVIDENCE,
        )
    )
