"""Following notices up until what they ask for is done: sent when their time has come, closed when a new look finds
nothing, reminded of and escalated when it still does.

Above ``makers`` (who says for which agents something is so) and ``maker_messages``; jobs call ``send_due`` and
``follow_up``. Both read what is and move on from there; a crash in between leaves work for the next run, and the
outbox's keys see to it that nobody is told twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from watchfloor.model.agents import AgentState
from watchfloor.model.errors import NotFound, Unavailable, WatchfloorError
from watchfloor.model.notices import Item, ItemState, Notice, NoticeState, Source, SourceKind
from watchfloor.response import maker_messages, makers
from watchfloor.response.makers import Rules, Subject
from watchfloor.storage import inventory, messages, notices, posture

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.hunting import Hunter
    from watchfloor.storage.ports import Scope

ACTOR: Final = "system:notices"
_LEASE_SECONDS: Final = 300.0
_FROM_STORE: Final = frozenset({SourceKind.TEMPLATE, SourceKind.QUERY})


def send_due(control: SqlControlStore, rules: Rules) -> int:
    """Send notices that have waited long enough; how many."""
    with control.read() as tx:
        due = [n.id for n in notices.list_open(tx) if n.state is NoticeState.WAITING and n.send_at <= tx.now]
    for notice_id in due:
        with control.tx(ACTOR) as tx:
            notice = notices.find_notice(tx, notice_id)
            assert notice is not None
            # Somebody may have sent or cancelled it meanwhile.
            if notice.state is NoticeState.WAITING:
                maker_messages.send(tx, notice, rules)
    return len(due)


def follow_up(control: SqlControlStore, hunter: Hunter, scope: Scope, now: datetime, rules: Rules) -> None:
    """Look again at everything that is open; close, remind, escalate. Raises ``Unavailable`` if some could not be
    looked at: what concerns these stays as it is.
    """
    with control.read() as tx:
        open_now = notices.list_open(tx)
        items = [i for own in notices.list_items(tx, [n.id for n in open_now]).values() for i in own if not i.closed_at]
    if not items:
        return
    lease = control.lease("notices", _LEASE_SECONDS)
    if lease is None:
        return
    try:
        failures = _close_what_is_fixed(control, hunter, scope, now, items)
        for notice in open_now:
            _press(control, notice.id, rules)
    finally:
        lease.release()
    if failures:
        raise Unavailable("; ".join(failures))


# -- what is fixed ------------------------------------------------------------------------------------------------


def _close_what_is_fixed(
    control: SqlControlStore, hunter: Hunter, scope: Scope, now: datetime, items: Sequence[Item]
) -> list[str]:
    by_source: dict[Source, list[Item]] = {}
    for item in items:
        by_source.setdefault(item.source, []).append(item)
    still: dict[Source, frozenset[str] | None] = {}
    known: frozenset[str] = frozenset()
    failures = []
    try:
        if any(source.kind in _FROM_STORE for source in by_source):
            known = makers.known_to_the_store(hunter.hunt, scope, now)
    except WatchfloorError as error:
        failures.append(str(error))
    for source, own in by_source.items():
        about = Subject(source, own[0].what, query=own[0].query)
        try:
            still[source] = makers.matching(control, hunter.hunt, scope, now, about)
        except NotFound:
            still[source] = None  # the template is no longer there: nobody can tell, and an operator cancels
        except WatchfloorError as error:
            failures.append(f"{source}: {error}")
            still[source] = None
    with control.read() as tx:
        agents = inventory.find_agents(tx, {item.agent_id for item in items})
    ended: list[tuple[Item, ItemState]] = []
    for item in items:
        agent, matches = agents.get(item.agent_id), still[item.source]
        if agent is None or agent.state is AgentState.RETIRED:
            ended.append((item, ItemState.GONE))
        elif matches is not None and item.agent_id not in matches:
            # An agent that the store has nothing of is not fixed: nobody has looked at it.
            is_looked_at = item.source.kind not in _FROM_STORE or item.agent_id in known
            ended += [(item, ItemState.FIXED)] if is_looked_at else []
    if ended:
        with control.tx(ACTOR) as tx:
            for item, state in ended:
                notices.close_item(tx, item, state)
                detail = {"agent": item.agent_id, "about": str(item.source), "state": state.value}
                tx.audit("notice:item", f"notice/{item.notice_id}", detail)
            for notice_id in {item.notice_id for item, _ in ended}:
                notice = notices.find_notice(tx, notice_id)
                if notice is not None and notice.state.is_open and not maker_messages.open_items(tx, notice_id):
                    maker_messages.end(tx, notice)
    return failures


# -- reminders and escalation -------------------------------------------------------------------------------------


def _press(control: SqlControlStore, notice_id: str, rules: Rules) -> None:
    """Remind and escalate, if it is time and anything is open that nobody has accepted."""
    with control.read() as tx:
        notice = notices.find_notice(tx, notice_id)
        if notice is None or notice.state not in (NoticeState.SENT, NoticeState.ACKNOWLEDGED):
            return
        is_reminded, is_escalated = _is_due_for_reminder(tx, notice, rules), _is_due_for_escalation(tx, notice, rules)
        items = _unaccepted(tx, notice)
    if not items or not (is_reminded or is_escalated):
        return
    with control.tx(ACTOR) as tx:
        if is_escalated:
            notice = replace(notice, escalated_at=tx.now)
            addressees = maker_messages.for_escalation(tx, notice.maker_id, items)
            told = maker_messages.put(tx, maker_messages.ESCALATION, notice, items, addressees, rules)
            tx.audit("notice:escalate", f"notice/{notice.id}", {"told": told, "problem": addressees.problem})
        if is_reminded:
            notice = replace(notice, reminded_at=tx.now, reminders=notice.reminders + 1)
            addressees = maker_messages.for_maker(tx, notice.maker_id, items)
            told = maker_messages.put(tx, maker_messages.REMINDER, notice, items, addressees, rules)
            tx.audit("notice:remind", f"notice/{notice.id}", {"told": told})
        notices.save_notice(tx, notice)


def _unaccepted(tx: ControlTx, notice: Notice) -> list[Item]:
    accepted = accepted_findings(tx)
    return [item for item in maker_messages.open_items(tx, notice.id) if not is_accepted(item, accepted)]


def accepted_findings(tx: ControlTx) -> frozenset[posture.Key]:
    """What somebody accepts now of what posture indicators say."""
    return frozenset(key for key, one in posture.list_exceptions(tx).items() if one.expires_at > tx.now)


def is_accepted(item: Item, accepted: Collection[posture.Key]) -> bool:
    """Whether nobody is pressed for it, as it is among what is ``accepted``."""
    return item.source.kind is SourceKind.INDICATOR and (item.agent_id, item.source.name) in accepted


def _is_due_for_reminder(tx: ControlTx, notice: Notice, rules: Rules) -> bool:
    last = max(filter(None, (notice.sent_at, notice.acknowledged_at, notice.reminded_at)), default=tx.now)
    return last + rules.remind <= tx.now


def _is_due_for_escalation(tx: ControlTx, notice: Notice, rules: Rules) -> bool:
    """Its time has come, or no mail of the notice was taken."""
    if notice.escalated_at is not None or notice.sent_at is None:
        return False
    if notice.sent_at + rules.escalate <= tx.now:
        return True
    mails = [m.state for m in messages.list_of_notice(tx, notice.id) if m.channel == messages.MAIL]
    return bool(mails) and all(state == messages.FAILED for state in mails)
