"""The Agent Store: which agents somebody may use, what each of them can reach, and as whom.

Above ``storage``; the portal calls it. An agent is on offer while it is published and shared with somebody; one that is
blocked or withdrawn is gone at once, for those who had it, too. It does not know permissions.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from watchfloor.model.agents import AgentState, CredentialOwner, Scope, ToolEffect
from watchfloor.model.errors import Conflict, Denied, InputError, NotFound
from watchfloor.registry.readers import ANY_TENANT, EVERYONE, GROUP
from watchfloor.storage import inventory, offers, people
from watchfloor.storage.inventory import Agent, Binding
from watchfloor.storage.offers import Ask, AskState
from watchfloor.storage.people import User

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST_PINS: Final = 3

_DOES: Final = {
    ToolEffect.READ: "read",
    ToolEffect.CREATE: "create",
    ToolEffect.UPDATE: "change",
    ToolEffect.DELETE: "delete",
    ToolEffect.SEND: "send",
    ToolEffect.PAY: "pay",
    ToolEffect.UNKNOWN: "do what nobody has described",
}
_AS_WHOM: Final = {
    CredentialOwner.USER: "as you: it reaches only what you may",
    CredentialOwner.APP: "with access of its own, whoever asks",
    CredentialOwner.MAKER: "as {maker}, who built it, whoever asks",
}


@dataclass(frozen=True, slots=True)
class Access:
    """What an agent can do with one tool server, and as whom; ``says`` is both, in a sentence."""

    server: str
    does: tuple[str, ...]
    tools: tuple[str, ...]
    credential: CredentialOwner
    says: str


@dataclass(frozen=True, slots=True)
class Offer:
    """An agent as a user sees it. ``may_use``: it is shared with them; else they may ask."""

    agent: Agent
    may_use: bool
    is_installed: bool
    is_pinned: bool
    ask: Ask | None
    access: tuple[Access, ...]


@dataclass(frozen=True, slots=True)
class Shopper:
    """Who looks: a user's id, and their groups."""

    id: str
    groups: Collection[str] = ()

    def is_among(self, audience: Collection[str]) -> bool:
        """Whether something that is shared with ``audience`` is shared with them."""
        mine = {self.id, EVERYONE, *(f"{GROUP}{group}" for group in self.groups)}
        return not mine.isdisjoint(audience)


def find_shopper(tx: ControlTx, user_id: str) -> Shopper:
    """Who looks; somebody who is no user sees what everybody sees."""
    user = people.find_user(tx, user_id)
    return Shopper(user_id, user.groups) if user is not None and user.is_enabled else Shopper(user_id)


def audience_of(agent: Agent) -> tuple[str, ...]:
    """Whom an agent is shared with."""
    return tuple(agent.manifest.get("sharedWith", ()))


def list_offers(tx: ControlTx, user_id: str, *, search: str = "", everything: bool = False) -> list[Offer]:
    """Agents that the user may use; with ``everything`` also those that they may ask for. Pinned ones first, by name.

    ``search``: words that must all stand in name, description or id.
    """
    shopper, words = find_shopper(tx, user_id), search.casefold().split()
    shown = [
        agent
        for agent in inventory.list_agents(tx, state=AgentState.PUBLISHED)
        if audience_of(agent)
        and (everything or shopper.is_among(audience_of(agent)))
        and all(word in f"{agent.name} {agent.description} {agent.id}".casefold() for word in words)
    ]
    found = _offers(tx, shopper, shown)
    return sorted(found, key=lambda offer: (not offer.is_pinned, offer.agent.name.casefold(), offer.agent.id))


def find_offer(tx: ControlTx, user_id: str, agent_id: str) -> Offer:
    """One agent that is on offer. Raises ``NotFound``, also for one that is blocked."""
    agent = inventory.find_agent(tx, agent_id)
    if agent is None or agent.state is not AgentState.PUBLISHED or not audience_of(agent):
        raise NotFound(f"the store has no agent {agent_id!r}.", where="agent")
    (offer,) = _offers(tx, find_shopper(tx, user_id), [agent])
    return offer


def take(tx: ControlTx, agent_id: str, *, is_pinned: bool = False) -> Offer:
    """The transaction's actor takes an agent, or pins it.

    Raises ``NotFound``; ``Denied`` where it is not shared with them; ``Conflict`` past ``MOST_PINS``.
    """
    if not find_offer(tx, tx.actor, agent_id).may_use:
        raise Denied(f"agent {agent_id} is not shared with you. Ask for it.")
    items = offers.list_items(tx, tx.actor)
    pinned = {item.agent_id for item in items.values() if item.is_pinned} - {agent_id}
    if is_pinned and len(pinned) >= MOST_PINS:
        raise Conflict(f"{MOST_PINS} agents are pinned already.", where="pinned", remedy="Take one of them off first.")
    before = items.get(agent_id) or offers.StoreItem(tx.actor, agent_id, tx.now)
    offers.save_item(tx, replace(before, is_pinned=is_pinned))
    return find_offer(tx, tx.actor, agent_id)


def leave(tx: ControlTx, agent_id: str) -> None:
    """The transaction's actor has done with an agent; also with one that is no longer on offer."""
    offers.delete_item(tx, tx.actor, agent_id)


def ask(tx: ControlTx, agent_id: str, reason: str) -> Ask:
    """The transaction's actor asks to be let to an agent. Raises ``NotFound``, ``Conflict`` (they may use it)."""
    if find_offer(tx, tx.actor, agent_id).may_use:
        raise Conflict(f"agent {agent_id} is shared with you already.", where="agent")
    if people.find_user(tx, tx.actor) is None:
        raise Denied("agents are shared with users, and you are none: ask whoever keeps the registry.")
    asked = Ask(tx.actor, agent_id, AskState.WAITING, reason, tx.now)
    offers.save_ask(tx, asked, "store:ask")
    return asked


def answer(tx: ControlTx, agent_id: str, user_id: str, *, is_granted: bool, reason: str) -> Ask:
    """Share the agent with whoever asked, or say no.

    Raises ``NotFound``, ``Conflict`` (answered already), ``Denied`` for whoever asked.
    """
    asked = offers.find_ask(tx, user_id, agent_id)
    if asked is None:
        raise NotFound(f"user {user_id!r} did not ask for agent {agent_id!r}.", where="user")
    if asked.state is not AskState.WAITING:
        raise Conflict(f"that is {asked.state.value} already.", where="user")
    if tx.actor == user_id:
        raise Denied("somebody else has to answer what you asked for.")
    if is_granted:
        agent = find_offer(tx, user_id, agent_id).agent
        _share(tx, agent, {*audience_of(agent), user_id}, reason)
    state = AskState.GRANTED if is_granted else AskState.DECLINED
    answered = replace(asked, state=state, decided_at=tx.now, decided_by=tx.actor, answer=reason)
    offers.save_ask(tx, answered, "store:answer")
    return answered


def share(tx: ControlTx, agent_id: str, audience: Collection[str], reason: str) -> Agent:
    """Let out an agent to exactly ``audience``, named as in ``sharedWith``: to more people step by step, or to nobody.

    Raises ``NotFound``, ``InputError`` for whoever is not known, ``Denied`` for its maker and its owner.
    """
    agent = inventory.find_agent(tx, agent_id)
    if agent is None:
        raise NotFound(f"there is no agent {agent_id!r}.", where="agent")
    if tx.actor in (agent.maker_id, agent.owner_id):
        raise Denied(f"{tx.actor} built or owns agent {agent_id}, so somebody else has to say who may use it.")
    for who in audience:
        is_group = who.startswith(GROUP) and who != GROUP
        if not is_group and who not in (EVERYONE, ANY_TENANT) and people.find_user(tx, who) is None:
            remedy = "Write a user's id, group:NAME, * (everyone) or tenants:*."
            raise InputError(f"{who!r} is nobody.", where="audience", remedy=remedy)
    return _share(tx, agent, audience, reason)


# -- showing ------------------------------------------------------------------------------------------------------


def _share(tx: ControlTx, agent: Agent, audience: Collection[str], reason: str) -> Agent:
    manifest = {name: value for name, value in agent.manifest.items() if name != "sharedWith"}
    if audience:
        manifest["sharedWith"] = sorted(set(audience), key=json.dumps)  # in the order of a manifest that was applied
    shared = replace(agent, manifest=manifest, updated_at=tx.now)
    inventory.save_agent(tx, shared, "agent:share", reason)
    return shared


def _offers(tx: ControlTx, shopper: Shopper, agents: Collection[Agent]) -> list[Offer]:
    items = offers.list_items(tx, shopper.id)
    asks = {asked.agent_id: asked for asked in offers.list_asks(tx, user_id=shopper.id)}
    bindings: dict[str, list[Binding]] = {}
    for binding in inventory.list_bindings(tx, agents=[agent.id for agent in agents]):
        bindings.setdefault(binding.agent_id, []).append(binding)
    used = {binding.server_id for found in bindings.values() for binding in found}
    effects: dict[str, dict[str, ToolEffect]] = {}
    for server, tool, effect in inventory.list_effects(tx, used):
        effects.setdefault(server, {})[tool] = ToolEffect(effect)
    names = {server.id: server.name for server in inventory.list_servers(tx)}
    makers = people.find_users(tx, {agent.maker_id for agent in agents if agent.maker_id})
    return [
        Offer(
            agent=agent,
            may_use=(may_use := shopper.is_among(audience_of(agent))),
            is_installed=may_use and agent.id in items,
            is_pinned=may_use and agent.id in items and items[agent.id].is_pinned,
            ask=asks.get(agent.id),
            access=_access(bindings.get(agent.id, ()), effects, names, _maker(agent, makers)),
        )
        for agent in agents
    ]


def _maker(agent: Agent, makers: Mapping[str, User]) -> str:
    found = makers.get(agent.maker_id or "")
    return found.name if found is not None else agent.maker_id or "somebody"


def _access(
    bindings: Collection[Binding],
    effects: Mapping[str, Mapping[str, ToolEffect]],
    names: Mapping[str, str],
    maker: str,
) -> tuple[Access, ...]:
    """What ``bindings`` allow, one for each tool server and whose credentials it sees."""
    grouped: dict[tuple[str, CredentialOwner], dict[str, ToolEffect]] = {}
    for binding in bindings:
        known = effects.get(binding.server_id, {})
        granted = known if binding.tool == "*" else {binding.tool: known.get(binding.tool, ToolEffect.UNKNOWN)}
        if binding.scope is Scope.READ:
            granted = {tool: effect for tool, effect in granted.items() if effect is ToolEffect.READ}
        grouped.setdefault((binding.server_id, binding.credential_owner), {}).update(granted)
    found = []
    for (server, owner), tools in sorted(grouped.items()):
        does = tuple(words for effect, words in _DOES.items() if effect in tools.values())
        as_whom = _AS_WHOM[owner].format(maker=maker)
        says = f"Uses {names.get(server, server)} to {', '.join(does) or 'do nothing yet'}, {as_whom}."
        found.append(Access(names.get(server, server), does, tuple(sorted(tools)), owner, says))
    return tuple(found)
