"""Shadow agents and tool servers: seen at work, and not in the registry.

Above ``storage.sightings``; ``jobs`` calls ``watch_sightings``, the portal the rest. It folds events into one sighting
for each agent and each tool server that the registry does not know, and keeps no state between calls. What an unknown
agent does is not judged here, and what is told of it is what its senders say.

INVARIANT: sightings and the cursor are committed in one transaction, and events are folded in their order, so however
they are cut into slices, and whoever else does the same, each is counted once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from watchfloor.model.errors import Conflict, InputError, NotFound
from watchfloor.model.ids import is_name
from watchfloor.registry import manifest
from watchfloor.registry.shape import API_VERSION, KIND
from watchfloor.storage import findings, inventory, sightings
from watchfloor.storage.sightings import Sighting, SightingKind, SightingState, Steps

if TYPE_CHECKING:
    from watchfloor.storage.activity import Activity
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.vault import Vault

CURSOR: Final = "sightings"
ACTOR: Final = "system:sightings"
SLICE_EVENTS: Final = 10_000
MOST_SIGHTINGS: Final = 10_000
"""Sightings of a kind that are kept: a sender that makes up an id for each event must not fill the database."""

_MOST_NAMED: Final = 50
"""Sightings that one audit entry names."""
_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_BY_ID: Final = "id:"
_BY_OTHER: Final = {SightingKind.AGENT: "name:", SightingKind.SERVER: "address:"}
"""How a key begins that is no id: of who is known by a name or an address only."""

_log = logging.getLogger(__name__)


# -- what the registry knows --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registered:
    """Ids by kind, those that agents' telemetry carries included, and what else the registry's members are called:
    agents' names, servers' addresses."""

    ids: Mapping[SightingKind, frozenset[str]]
    others: Mapping[SightingKind, frozenset[str]]

    def knows(self, kind: SightingKind, own_id: str, other: str) -> bool:
        """Whether it knows who calls itself ``own_id``.

        A name counts only where there is no id: a stranger may not hide behind the name of an agent. An address
        counts for servers, whatever a sender calls them.
        """
        if own_id in self.ids[kind]:
            return True
        return (kind is SightingKind.SERVER or not own_id) and other in self.others[kind]


def read_registered(tx: ControlTx, own_urls: Sequence[str] = ()) -> Registered:
    """What the registry knows in ``tx``; ``own_urls``: our own doors, behind which stand registered servers."""
    agents, servers = sightings.registered_agents(tx), sightings.registered_servers(tx)
    ids = frozenset(own_id for agent_id, _, carried in agents for own_id in (agent_id, *carried) if own_id)
    names = frozenset(_visible(name) for _, name, _ in agents)
    addresses = frozenset(address for url in servers.values() for address in _addresses(url))
    addresses |= frozenset(address for url in own_urls for address in _own_addresses(url))
    return Registered(
        {SightingKind.AGENT: ids, SightingKind.SERVER: frozenset(servers)},
        {SightingKind.AGENT: names, SightingKind.SERVER: addresses},
    )


def _addresses(url: str) -> tuple[str, ...]:
    """Host, and host and port, of ``url``; nothing for what is no address (``stdio:files``)."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ()
    return (host, f"{host}:{port}") if host else ()


def _own_addresses(url: str) -> Iterator[str]:
    """Host and port of one of our doors, by each name of this machine if it is one of these; the host alone only if
    that means the port, so that nothing else on that machine is taken for us."""
    try:
        parts = urlsplit(url)
        host, usual = (parts.hostname or "").lower(), _PORTS.get(parts.scheme)
        port = parts.port or usual
    except ValueError:
        return
    for name in _LOOPBACK if host in _LOOPBACK else (host,):
        yield f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        if port == usual:
            yield name


def reason_of(kind: SightingKind, key: str, name: str) -> str:
    """Why what goes by ``key`` counts as a shadow as long as ``Registered`` does not know it."""
    own_id, other = _called(kind, key)
    if kind is SightingKind.AGENT:
        if own_id:
            return f"No registered agent has the id {own_id!r}, or sends telemetry under it; its name makes it none."
        return f"It tells no id, and no registered agent is called {other!r}."
    address = other or name
    if own_id and address:
        return f"No registered tool server has the id {own_id!r} or the address {address!r}."
    if own_id:
        return f"No registered tool server has the id {own_id!r}, and its address is not told."
    return f"Neither a registered tool server nor the gateway has the address {address!r}."


# -- from events to sightings -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sight:
    """Steps that one agent took, or that called one tool server. ``other``: the agent's name, the server's address."""

    kind: SightingKind
    own_id: str
    other: str
    steps: Steps

    @property
    def key(self) -> str:
        """What it goes by: its id, or what else it is called; no two are mixed up."""
        mark = _BY_OTHER[self.kind]
        if not self.own_id:
            return mark + self.other
        # Dots alone are lost on the way through a URL.
        is_taken = self.own_id.startswith((mark, _BY_ID)) or self.own_id in (".", "..")
        return _BY_ID + self.own_id if is_taken else self.own_id


def sights_of(steps: Steps) -> list[Sight]:
    """Who is seen in ``steps``."""
    found = [Sight(SightingKind.AGENT, _visible(steps.agent_id), _visible(steps.agent_name), steps)]
    if steps.is_tool_call:
        address = _visible(steps.server_address).lower()
        found.append(Sight(SightingKind.SERVER, _visible(steps.server_id), address, steps))
    return [sight for sight in found if sight.own_id.strip() or (not sight.own_id and sight.other.strip())]


def fold(known: Sighting | None, sight: Sight, tx: ControlTx) -> Sighting:
    """``known``, or a new shadow, with what ``sight`` adds. A dismissed one stays dismissed, an adopted one adopted."""
    steps = sight.steps
    begin, end = steps.begin.astimezone(UTC), steps.end.astimezone(UTC)
    if known is None:
        known = Sighting(sight.kind, sight.key, "", begin, end, updated_at=tx.now, updated_by=tx.actor)
    return replace(
        known,
        name=known.name or sight.other,
        first_seen=min(known.first_seen, begin),
        last_seen=max(known.last_seen, end),
        users=known.users.and_also(_visible(steps.user), steps.events),
        tools=known.tools.and_also(_visible(steps.tool), steps.events),
        sources=known.sources.and_also(_visible(steps.source), steps.events),
        events=known.events + steps.events,
    )


def _visible(text: str) -> str:
    """``text`` without what does not print: it came from whoever sent it, and is shown, stored and put into URLs."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def watch_sightings(
    control: SqlControlStore, activity: Activity, *, own_urls: Sequence[str] = (), slice_events: int = SLICE_EVENTS
) -> bool:
    """Take in the next slice of events, and adopt who was registered meanwhile; whether more events may wait.

    ``own_urls``: where agents reach the gateway, which is no tool server. Safe to run at any time, any number of times,
    by any number of servers.
    """
    with control.read() as tx:
        cursor = findings.read_cursor(tx, CURSOR)
    upto, is_behind = sightings.slice_end(activity, cursor, slice_events)
    steps = sightings.steps_between(activity, cursor, upto) if upto > cursor else []
    if not steps:
        with control.read() as tx:
            if not _registered_since(tx, read_registered(tx, own_urls)):
                return False
    with control.tx(ACTOR, audited=False) as tx:
        if steps and not findings.move_cursor(tx, CURSOR, cursor, upto):
            return True  # another server has taken this slice in
        registered = read_registered(tx, own_urls)
        _take_in(tx, steps, registered, f"events/{cursor + 1}-{upto}")
        _adopt_registered(tx, registered)
    return is_behind


def _take_in(tx: ControlTx, steps: Sequence[Steps], registered: Registered, subject: str) -> None:
    unknown: dict[SightingKind, list[Sight]] = {kind: [] for kind in SightingKind}
    for sight in (sight for some in steps for sight in sights_of(some)):
        if not registered.knows(sight.kind, sight.own_id, sight.other):
            unknown[sight.kind].append(sight)
    fresh: dict[SightingKind, list[str]] = {}
    for kind, sights in unknown.items():
        if sights:
            fresh[kind] = _fold_all(tx, kind, sights)
    if any(fresh.values()):
        detail: dict[str, Any] = {f"{kind.value}s": keys[:_MOST_NAMED] for kind, keys in fresh.items() if keys}
        tx.audit("sighting:find", subject, {**detail, "count": sum(map(len, fresh.values()))})


def _fold_all(tx: ControlTx, kind: SightingKind, sights: Sequence[Sight]) -> list[str]:
    """Store what ``sights`` add; the keys that are new."""
    stored = sightings.find_sightings(tx, kind, list(dict.fromkeys(sight.key for sight in sights)))
    room = MOST_SIGHTINGS - sightings.count_sightings(tx, kind)
    found, fresh, left_out = dict(stored), list[str](), 0
    for sight in sights:
        if sight.key not in found:
            if len(fresh) >= room:
                left_out += sight.steps.events
                continue
            fresh.append(sight.key)
        found[sight.key] = fold(found.get(sight.key), sight, tx)
    if left_out:
        _log.warning("%d events of unknown %ss are in no sighting: %d are kept", left_out, kind.value, MOST_SIGHTINGS)
    sightings.update_sightings(tx, (found[key] for key in stored))
    sightings.add_sightings(tx, (found[key] for key in fresh))
    return fresh


def _registered_since(tx: ControlTx, registered: Registered) -> list[tuple[SightingKind, str]]:
    """Sightings of who is registered by now."""
    found = []
    for kind, key, name in sightings.list_open(tx):
        own_id, other = _called(kind, key)
        if registered.knows(kind, own_id, other or name):
            found.append((kind, key))
    return found


def _adopt_registered(tx: ControlTx, registered: Registered) -> None:
    for kind, key in _registered_since(tx, registered):
        sighting = sightings.find_sighting(tx, kind, key)
        assert sighting is not None
        _set_state(tx, sighting, SightingState.ADOPTED, "sighting:adopt", {"because": "it was registered"})


def _called(kind: SightingKind, key: str) -> tuple[str, str]:
    """The id in ``key``, or what else it stands for."""
    mark = _BY_OTHER[kind]
    return ("", key.removeprefix(mark)) if key.startswith(mark) else (key.removeprefix(_BY_ID), "")


# -- what operators do about them ---------------------------------------------------------------------------------


def get(tx: ControlTx, kind: SightingKind, key: str) -> Sighting:
    """The sighting. Raises ``NotFound``."""
    found = sightings.find_sighting(tx, kind, key)
    if found is None:
        raise NotFound(f"no {kind.value} {key[:200]!r} was seen.", where="sighting")
    return found


def dismiss(tx: ControlTx, kind: SightingKind, key: str, reason: str) -> Sighting:
    """Say that it need not be registered. It stays dismissed; users and tools that turn up later are shown as new.

    Raises ``NotFound``, ``Conflict`` (adopted), ``InputError`` (no reason).
    """
    sighting = _open(tx, kind, key)
    if not reason.strip():
        raise InputError("a reason is needed.", where="reason", remedy="Say why, for whoever reads the audit log.")
    looked_at = replace(
        sighting,
        users=sighting.users.looked_through(),
        tools=sighting.tools.looked_through(),
        sources=sighting.sources.looked_through(),
    )
    return _set_state(tx, looked_at, SightingState.DISMISSED, "sighting:dismiss", {"reason": reason.strip()[:1000]})


def adopt(
    tx: ControlTx, vault: Vault, kind: SightingKind, key: str, *, registry_id: str = "", url: str = ""
) -> Sighting:
    """Register it: an agent as a draft without tools, a tool server without approved tools, so that the gateway still
    refuses every call. Who may do what is a manifest's to say.

    ``registry_id`` is needed where its own id, or name, cannot be an id here; ``url`` for a server. Raises
    ``NotFound``, ``Conflict`` (adopted, or registered), ``InputError``.
    """
    sighting = _open(tx, kind, key)
    own_id, other = _called(kind, key)
    new_id = registry_id or own_id or other
    if not is_name(new_id):
        raise InputError(
            f"{new_id[:80]!r} cannot be an id.",
            where="id",
            remedy="Give one of 1 to 64 lower-case letters, digits, '.', '_' and '-'.",
        )
    is_agent = kind is SightingKind.AGENT
    if (inventory.find_agent if is_agent else inventory.find_server)(tx, new_id) is not None:
        raise Conflict(f"there is {'an agent' if is_agent else 'a tool server'} {new_id} already.", where="id")
    declared: dict[str, Any] = {
        "id": new_id,
        "name": sighting.name.strip() or new_id,
        "description": f"Seen at work as {own_id or other}.",
    }
    if is_agent:
        if own_id not in ("", new_id):
            declared["platformIds"] = {"observability": own_id}
        members = {"agents": [{**declared, "state": "draft"}]}
    elif url:
        members = {"toolServers": [{**declared, "url": url}]}
    else:
        raise InputError("where is it?", where="url", remedy="Give the address of its MCP endpoint.")
    # JSON is YAML as long as nothing outside of the basic plane is escaped.
    text = json.dumps({"apiVersion": API_VERSION, "kind": KIND, **members}, ensure_ascii=False)
    manifest.apply(tx, text, vault)
    return _set_state(tx, sighting, SightingState.ADOPTED, "sighting:adopt", {"as": new_id})


def _open(tx: ControlTx, kind: SightingKind, key: str) -> Sighting:
    sighting = get(tx, kind, key)
    if sighting.state is SightingState.ADOPTED:
        raise Conflict("it is registered already.", where="sighting")
    return sighting


def _set_state(
    tx: ControlTx, sighting: Sighting, state: SightingState, action: str, detail: Mapping[str, Any]
) -> Sighting:
    changed = replace(sighting, state=state, updated_at=tx.now, updated_by=tx.actor)
    sightings.update_sightings(tx, [changed])
    tx.audit(action, f"sighting/{sighting.kind.value}/{sighting.key}", detail)
    return changed
