"""Asking makers to change their agents: what is wrong with which, and one notice for each maker.

Above ``detection`` (hunting templates, posture indicators), the event store and ``storage.notices``. ``Subject`` says
what is wrong and finds the agents for which it is so, now and again later: that is how ``follow_up`` learns that
something was fixed. Nobody is asked for the same thing twice while the first asking is open, and what is asked of one
maker within a while becomes one notice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from watchfloor.detection import hunting
from watchfloor.detection import posture as indicators
from watchfloor.detection.kql_rule import bind_query
from watchfloor.guard.detectors import secrets
from watchfloor.model.agents import AgentState
from watchfloor.model.errors import InputError
from watchfloor.model.ids import ordered_id
from watchfloor.model.notices import Item, Notice, NoticeState, Source, SourceKind
from watchfloor.storage import inventory, notices, posture
from watchfloor.storage.compiler import catalogue, ticks
from watchfloor.storage.hunting import Hunted, Request
from watchfloor.storage.ports import Limits, Scope
from watchfloor.storage.tables import TABLES

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.inventory import Agent

MOST_AGENTS: Final = 5_000
"""Agents that one asking may be about."""
_ASK: Final = re.compile(r"^(Ask the maker to|Notify the maker;) ")
_LIMITS: Final = Limits(timeout_seconds=60, max_rows=100_000)
_TABLES: Final = frozenset(name for name, table in TABLES.items() if not table.is_content)


Hunt = Callable[[Request], Hunted]
"""Who answers a query: an operator's are in the query log."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How makers are told. ``public_url``: where links lead; ``merge``: how long a notice waits for more to tell the
    same maker; ``remind`` and ``escalate``: after how long; ``has_mail``: whether a mail server is set.
    """

    public_url: str = ""
    merge: timedelta = timedelta(minutes=5)
    remind: timedelta = timedelta(days=3)
    escalate: timedelta = timedelta(days=7)
    has_mail: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """What is wrong, where that comes from, and what to do about it."""

    source: Source
    what: str
    recommendation: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """An agent that nobody is told of, and why."""

    agent_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to tell what: items by maker (empty: no maker), and what is left out."""

    items: Mapping[str, Sequence[Item]] = field(default_factory=dict)
    skipped: Sequence[Skipped] = ()


# -- what is wrong ------------------------------------------------------------------------------------------------


def subject(
    *, template: str = "", indicator: str = "", query: str = "", block: bool = False, words: str = ""
) -> Subject:
    """What makers are told of: a hunting template, a posture indicator, a query of the operator's, a block, or words.

    ``words`` name what a query finds, say why something was blocked, or stand alone. Raises ``InputError``,
    ``NotFound``.
    """
    if sum(map(bool, (template, indicator, query, block))) > 1:
        raise InputError(
            "one of template, indicator, query and block.", where="notice", remedy="Send one after another."
        )
    _without_secrets(words, "reason")
    if template:
        found = hunting.find(template).template
        return Subject(Source(SourceKind.TEMPLATE, found.id), found.name, _to_the_maker(found.recommended_actions[0]))
    if indicator:
        weak = indicators.find(indicator).indicator
        return Subject(Source(SourceKind.INDICATOR, weak.id), weak.title, weak.recommendation)
    if block:
        what = "It is blocked" + (f": {words}" if words else "")
        return Subject(
            Source(SourceKind.BLOCK), what, "Submit a corrected version; whoever approves it can unblock it."
        )
    if not words.strip():
        raise InputError("say what is wrong.", where="reason", remedy="It is what the maker reads.")
    if query:
        _check_query(query)
        return Subject(Source(SourceKind.QUERY, _short(query)), words, query=query)
    return Subject(Source(SourceKind.WORDS, _short(words)), words)


def _to_the_maker(action: str) -> str:
    """What a template recommends to the SOC, in words for the maker."""
    asked = _ASK.sub("", action)
    return asked[:1].upper() + asked[1:]


def matching(
    control: SqlControlStore, hunt: Hunt, scope: Scope, now: datetime, about: Subject
) -> frozenset[str] | None:
    """Agents for which it is so now; None where nobody can tell. Blocks a while; raises what ``hunt`` does."""
    kind, name = about.source.kind, about.source.name
    if kind is SourceKind.TEMPLATE:
        return _asked(hunt, scope, now, hunting.find(name).template.query)
    if kind is SourceKind.QUERY:
        return _asked(hunt, scope, now, about.query)
    if kind is SourceKind.WORDS:
        return None
    with control.read() as tx:
        if kind is SourceKind.BLOCK:
            return frozenset(agent.id for agent in inventory.list_agents(tx, state=AgentState.BLOCKED))
        return frozenset(
            agent_id
            for (agent_id, indicator), finding in posture.list_findings(tx).items()
            if indicator == name and finding.ended_at is None
        )


def known_to_the_store(hunt: Hunt, scope: Scope, now: datetime) -> frozenset[str]:
    """Agents of which the event store has a snapshot: of others, an empty answer says nothing."""
    return _asked(hunt, scope, now, "CurrentAgents | distinct AgentId")


def _asked(hunt: Hunt, scope: Scope, now: datetime, query: str) -> frozenset[str]:
    narrowed = Scope(tenants=scope.tenants, tables=_TABLES)
    answer = hunt(Request(query, narrowed, _LIMITS, now=ticks(now), door="notices"))
    place = [name for name, _ in answer.columns].index("AgentId")
    return frozenset(row[place] for row in answer.values() if row[place])


def _check_query(query: str) -> None:
    bound, faults = bind_query(query, catalogue())
    if bound is None:
        raise InputError("; ".join(faults)[:1_000], where="query")
    if bound.columns.get("AgentId") != "string":
        raise InputError("gives no text AgentId.", where="query", remedy="Whoever acts on a row has to know the agent.")
    if contents := sorted(bound.tables - _TABLES):
        raise InputError(f"{', '.join(contents)} holds contents, which nobody is told of.", where="query")


def _without_secrets(text: str, where: str) -> None:
    if secrets.mask(text) != text:
        raise InputError(
            "this holds what looks like a secret.", where=where, remedy="It goes out in the clear: leave it out."
        )


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


# -- whom to tell -------------------------------------------------------------------------------------------------


def plan(
    tx: ControlTx, about: Subject, agent_ids: Collection[str], matches: Collection[str] | None, note: str = ""
) -> Plan:
    """What each maker is told: of ``agent_ids``, or of all that match. Raises ``InputError``."""
    _without_secrets(note, "note")
    wanted = sorted(set(agent_ids) or set(matches or ()))
    if not agent_ids and (matches is None or about.source.kind is SourceKind.BLOCK):
        raise InputError("say which agents.", where="agent_ids")
    if len(wanted) > MOST_AGENTS:
        raise InputError(f"{len(wanted)} agents are more than {MOST_AGENTS}.", where="agent_ids")
    agents = inventory.find_agents(tx, wanted)
    known = notices.find_open_items(tx, about.source, wanted)
    accepted = posture.list_exceptions(tx) if about.source.kind is SourceKind.INDICATOR else {}
    items: dict[str, list[Item]] = {}
    skipped = []
    for agent_id in wanted:
        agent, exception = agents.get(agent_id), accepted.get((agent_id, about.source.name))
        if agent is None or agent.state is AgentState.RETIRED:
            skipped.append(Skipped(agent_id, "there is no such agent in the registry"))
        elif matches is not None and agent_id not in matches:
            skipped.append(Skipped(agent_id, "this is not so, or not any more"))
        elif agent_id in known:
            skipped.append(Skipped(agent_id, f"notice {known[agent_id].notice_id} about the same is still open"))
        elif exception is not None and exception.expires_at > tx.now:
            skipped.append(Skipped(agent_id, f"this is accepted until {exception.expires_at:%Y-%m-%d}"))
        else:
            items.setdefault(agent.maker_id or "", []).append(_item(agent, about, note))
    return Plan(items, skipped)


def _item(agent: Agent, about: Subject, note: str) -> Item:
    return Item(agent.id, about.source, about.what, about.recommendation, note, about.query)


def open_notices(tx: ControlTx, planned: Plan, rules: Rules) -> dict[str, Notice]:
    """Store what was planned: the notice of each maker, new or the one that waits already. Nothing is sent yet."""
    opened = {}
    for maker_id, items in planned.items.items():
        found = notices.find_waiting(tx, maker_id)
        if found is None:
            found = Notice(ordered_id("ntc"), maker_id, NoticeState.WAITING, tx.now, tx.actor, tx.now + rules.merge)
            notices.add_notice(tx, found)
        notices.add_items(tx, found.id, items)
        detail = {"maker": maker_id, "about": str(items[0].source), "agents": [item.agent_id for item in items]}
        tx.audit("notice:open", f"notice/{found.id}", detail)
        opened[maker_id] = found
    return opened
