"""What makers read, and who reads it instead: the messages of a notice, a reminder and an escalation.

Above ``storage.messages`` and ``response.digest``. One maker gets one message, whatever it is about. A maker who cannot
be reached, or whose mailbox may be somebody else's by now, is not written to: whoever owns or sponsors the agent is.
Each mail has a link that acknowledges, once (``response.acknowledge``); channels, which many read, have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from watchfloor.model.notices import Item, Notice, NoticeState
from watchfloor.model.people import RiskLevel
from watchfloor.response import acknowledge
from watchfloor.response.digest import AgentLine, Digest, Link, Section, harmless, plain_text
from watchfloor.response.makers import Rules
from watchfloor.storage import channels, inventory, messages, notices, people

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.inventory import Agent
    from watchfloor.storage.people import User

NOTICE, REMINDER, ESCALATION = "notice", "reminder", "escalation"
_PREFIX: Final = "[Watchfloor]"


@dataclass(frozen=True, slots=True)
class Addressees:
    """Users and what each is told; ``problem``: why it is not the maker, or nobody."""

    items: Mapping[str, Sequence[Item]]
    problem: str = ""


# -- who reads it -------------------------------------------------------------------------------------------------


def for_maker(tx: ControlTx, maker_id: str, items: Sequence[Item]) -> Addressees:
    """The maker, or else who owns or sponsors each agent."""
    why = _unreachable(people.find_user(tx, maker_id), maker_id) if maker_id else "Nobody is known to have made this"
    if not why:
        return Addressees({maker_id: items})
    instead = _answering(tx, items, {maker_id}, first_only=True)
    told = sorted({user for users in instead.values() for user in users})
    left = sorted({item.agent_id for item in items} - instead.keys())
    said = f"{why}." + (f" Told instead: {', '.join(told)}." if told else "")
    said += f" Nobody who answers for {', '.join(left[:20])} can be reached." if left else ""
    return Addressees(_by_user(items, instead), said)


def for_escalation(tx: ControlTx, maker_id: str, items: Sequence[Item]) -> Addressees:
    """Owner and sponsor of each agent, but for the maker."""
    instead = _answering(tx, items, {maker_id}, first_only=False)
    left = sorted({item.agent_id for item in items} - instead.keys())
    said = f"Nobody but the maker answers for {', '.join(left[:20])}." if left else ""
    return Addressees(_by_user(items, instead), said)


def _answering(tx: ControlTx, items: Iterable[Item], but: set[str], *, first_only: bool) -> dict[str, list[str]]:
    """By agent: who owns or sponsors it, and can be reached."""
    found: dict[str, list[str]] = {}
    for agent in inventory.find_agents(tx, {item.agent_id for item in items}).values():
        for user_id in dict.fromkeys(filter(None, (agent.owner_id, agent.sponsor_id))):
            is_enough = user_id in but or (first_only and agent.id in found)
            if not is_enough and not _unreachable(people.find_user(tx, user_id), user_id):
                found.setdefault(agent.id, []).append(user_id)
    return found


def _by_user(items: Iterable[Item], answering: Mapping[str, Sequence[str]]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        for user_id in answering.get(item.agent_id, ()):
            found.setdefault(user_id, []).append(item)
    return found


def _unreachable(user: User | None, user_id: str) -> str:
    """Why nobody writes to this user; empty if they can be reached."""
    name = harmless(user.name or user.id) if user else user_id
    if user is None:
        return f"{name} is not known"
    if not user.is_enabled:
        return f"{name} cannot sign in any more"
    if user.risk is RiskLevel.HIGH:
        return f"{name}'s account may be somebody else's"
    return "" if messages.is_address(user.upn) else f"{name} has no mail address"


# -- what they read -----------------------------------------------------------------------------------------------


def digest(
    tx: ControlTx, kind: str, notice: Notice, items: Sequence[Item], to: str, rules: Rules, link: str = ""
) -> Digest:
    """What ``to`` (a user, or nobody in particular: a channel) reads. ``link`` acknowledges."""
    agents = inventory.find_agents(tx, {item.agent_id for item in items})
    maker = people.find_user(tx, notice.maker_id) if notice.maker_id else None
    name = harmless(maker.name or maker.id) if maker else notice.maker_id or "an unknown maker"
    count = len(agents)
    whose = "your agents" if to == notice.maker_id else f"the agents of {name}"
    title = f"{count} of {whose} {'needs' if count == 1 else 'need'} a change"
    if kind == REMINDER:
        title = f"Reminder: {title}"
    if kind == ESCALATION:
        title = f"Not fixed yet: {title}"
    since = f" since {notice.sent_at:%Y-%m-%d}" if notice.sent_at is not None and kind != NOTICE else ""
    intro = [f"The security operations centre asks for a change{since}. This closes by itself once it is found fixed."]
    if to and to != notice.maker_id:
        intro.append(f"You are told because you own or sponsor what {name} made.")
    links = [Link("I have read this; go on to submitting a corrected version", link)] if link else []
    links.append(Link("The notice", f"{rules.public_url}/api/notices/{notice.id}"))
    closing = "Nobody asks you for a password in this matter." if link else ""
    return Digest(
        kind, notice.id, f"{_PREFIX} {title}", " ".join(intro), _sections(items, agents), tuple(links), closing
    )


def _sections(items: Sequence[Item], agents: Mapping[str, Agent]) -> tuple[Section, ...]:
    grouped: dict[tuple[str, str, str], list[AgentLine]] = {}
    for item in items:
        agent = agents.get(item.agent_id)
        line = AgentLine(item.agent_id, agent.name if agent else item.agent_id)
        grouped.setdefault((_line(item.what), _line(item.recommendation), _line(item.note)), []).append(line)
    return tuple(Section(*said, tuple(lines)) for said, lines in grouped.items())


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def preview(tx: ControlTx, notice: Notice, items: Sequence[Item], rules: Rules) -> tuple[Addressees, dict[str, Digest]]:
    """Who would be told, and what: by user."""
    addressees = for_maker(tx, notice.maker_id, items)
    link = acknowledge.address(rules.public_url, notice.id, "…")
    return addressees, {
        user_id: digest(tx, NOTICE, notice, theirs, user_id, rules, link)
        for user_id, theirs in addressees.items.items()
    }


# -- into the outbox ----------------------------------------------------------------------------------------------


def put(
    tx: ControlTx, kind: str, notice: Notice, items: Sequence[Item], addressees: Addressees, rules: Rules
) -> list[str]:
    """Have ``addressees`` and every channel told; who is. The same kind of the same notice is never put twice."""
    key = f"{notice.id}/{kind}" + (f"/{notice.reminders}" if kind == REMINDER else "")
    told = []
    for user_id, theirs in addressees.items.items() if rules.has_mail else ():
        user = people.find_user(tx, user_id)
        assert user is not None
        link = acknowledge.new_link(tx, rules.public_url, notice.id, user_id)
        said = digest(tx, kind, notice, theirs, user_id, rules, link)
        messages.put(tx, key, user.upn, said.title, plain_text(said), notice_id=notice.id)
        told.append(user.upn)
    for channel in channels.list_channels(tx):
        if channel.is_enabled:
            said = digest(tx, kind, notice, items, "", rules)
            messages.put(tx, key, channel.id, said.title, said.to_json(), channel=channel.id, notice_id=notice.id)
            told.append(channel.id)
    return told


def send(tx: ControlTx, notice: Notice, rules: Rules) -> Notice:
    """Send a notice that waits: what is still open of it. Where nothing is, it ends unsent."""
    items = open_items(tx, notice.id)
    if not items:
        return end(tx, notice)
    addressees = for_maker(tx, notice.maker_id, items)
    sent = replace(notice, state=NoticeState.SENT, sent_at=tx.now)
    told = put(tx, NOTICE, sent, items, addressees, rules)
    notices.save_notice(tx, sent)
    detail = {"told": told, **({"problem": addressees.problem} if addressees.problem else {})}
    tx.audit("notice:send", f"notice/{notice.id}", detail)
    return sent


def end(tx: ControlTx, notice: Notice) -> Notice:
    """Nothing of it is open any more."""
    ended = replace(notice, state=NoticeState.CLOSED, closed_at=tx.now)
    notices.save_notice(tx, ended)
    tx.audit("notice:close", f"notice/{notice.id}", {})
    return ended


def open_items(tx: ControlTx, notice_id: str) -> list[Item]:
    """What is still open of a notice."""
    return [item for item in notices.list_items(tx, [notice_id])[notice_id] if item.closed_at is None]
