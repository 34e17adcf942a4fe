"""Tools as they were approved: compare what a tool server lists now with what was pinned, and approve anew.

Above ``registry.listing`` (asks the server), ``model.pins`` (the hash) and the repositories; the portal and a job in
the background call it. The first listing pins what the manifest declared and records everything else as found but not
approved. From then on a different definition makes the tool *changed*, which refuses it at the gateway until somebody
has looked.
A tool whose listing returns to the very definition that was approved is what was approved, and counts as pinned again;
the audit log keeps both. It does not know what the gateway sees inline: that compares with the same pin by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from watchfloor.guard.definitions import inspect
from watchfloor.model.agents import PinState, ToolEffect
from watchfloor.model.errors import Conflict, NotFound, Unavailable
from watchfloor.model.pins import UNPINNABLE, tool_hash
from watchfloor.registry.cards import with_card
from watchfloor.registry.effects import infer_effect
from watchfloor.registry.listing import Listing, list_tools
from watchfloor.registry.readers import is_tool_name
from watchfloor.storage import inventory
from watchfloor.storage.inventory import Tool, ToolServer

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.vault import Vault

Lister = Callable[..., Awaitable[Listing]]


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What one listing showed. The tuples hold names of tools."""

    server_id: str
    protocol: str
    listed: int
    found: tuple[str, ...] = ()
    """Seen for the first time, and declared nowhere: recorded, not approved."""
    pinned: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Known here, but not listed any more."""
    problems: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """For the API."""
        return {
            "server_id": self.server_id,
            "protocol": self.protocol,
            "listed": self.listed,
            "found": list(self.found),
            "pinned": list(self.pinned),
            "changed": list(self.changed),
            "restored": list(self.restored),
            "missing": list(self.missing),
            "problems": list(self.problems),
        }


def compare(before: Tool | None, server: ToolServer, definition: Mapping[str, Any], now: datetime) -> tuple[str, Tool]:
    """(what happened, the tool as it is known from now on) after its server listed ``definition``.

    Pure. What happened is one of ``same``, ``found``, ``pinned``, ``changed``, ``restored``. ``definition`` must have a
    hash (not ``UNPINNABLE``) and a name.
    """
    observed = tool_hash(definition)
    name = str(definition["name"])
    description = str(definition.get("description") or "")
    if before is None or (before.pin_state is PinState.UNPINNED and before.observed_hash):
        tool = before or Tool(server_id=server.id, name=name, updated_at=now)
        effect = infer_effect(definition, is_trusted=server.is_trusted)
        seen = {"approved": None, "observed": dict(definition)}
        tool = replace(tool, description=description, effect=effect, observed_hash=observed, definition=seen)
        if inspect(definition):
            tool = replace(tool, pin_state=PinState.CHANGED)  # held until somebody approves it as it is
        return ("found" if before is None else "same"), replace(tool, updated_at=now)
    if before.pin_state is PinState.UNPINNED and inspect(definition):
        # Declared by somebody who cannot have meant this: nobody has looked at the definition yet.
        seen = {"approved": None, "observed": dict(definition)}
        held = replace(before, observed_hash=observed, pin_state=PinState.CHANGED, definition=seen, updated_at=now)
        return "changed", held
    if before.pin_state is PinState.UNPINNED:
        # Declared, and listed for the first time: this is the definition that the declaration approved.
        return "pinned", _pinned(before, definition, observed, server, now)
    approved = before.definition.get("approved")
    seen = {"approved": approved, "observed": dict(definition)}
    state = PinState.PINNED if observed == before.pin else PinState.CHANGED
    tool = replace(before, observed_hash=observed, pin_state=state, definition=seen, updated_at=now)
    if tool.pin_state is before.pin_state:
        return "same", tool
    return ("changed" if state is PinState.CHANGED else "restored"), tool


def _pinned(tool: Tool, definition: Mapping[str, Any], observed: str, server: ToolServer, now: datetime) -> Tool:
    effect = tool.effect
    if effect is ToolEffect.UNKNOWN:
        effect = infer_effect(definition, is_trusted=server.is_trusted)
    return replace(
        tool,
        description=str(definition.get("description") or ""),
        effect=effect,
        pin=observed,
        observed_hash=observed,
        pin_state=PinState.PINNED,
        definition={"approved": dict(definition), "observed": dict(definition)},
        updated_at=now,
    )


async def refresh_tools(
    store: SqlControlStore, vault: Vault, server_id: str, *, actor: str = "system", lister: Lister = list_tools
) -> RefreshReport:
    """Ask the tool server what it lists, and store what that means.

    Raises ``NotFound``; ``Unavailable`` if there is no listing, which is then noted on the server. Never blocks the
    event loop: the database is asked in threads.
    """
    server, credential = await asyncio.to_thread(_prepare, store, vault, server_id)
    try:
        listing = await lister(server.url, credential, timeout=server.timeout_seconds)
    except Unavailable as error:
        await asyncio.to_thread(_note_failure, store, server_id, str(error), actor)
        raise
    return await asyncio.to_thread(_store, store, server_id, server.url, listing, actor)


async def refresh_all(store: SqlControlStore, vault: Vault, *, actor: str = "system") -> dict[str, str]:
    """Refresh every tool server, one after the other; what went wrong, by server. For the background job."""
    with store.read() as tx:
        # A server that runs beside its agent (stdio) is asked by whoever wraps it: nothing listens here.
        servers = [server.id for server in inventory.list_servers(tx) if not server.url.startswith("stdio:")]
    failed = {}
    for server_id in servers:
        try:
            await refresh_tools(store, vault, server_id, actor=actor)
        except (Unavailable, NotFound, Conflict) as error:
            failed[server_id] = str(error)
    return failed


def approve_tool(
    tx: ControlTx, server_id: str, name: str, *, observed: str | None = None, effect: ToolEffect | None = None
) -> Tool:
    """Pin a tool to the definition that was listed last.

    ``observed`` is the hash that the approver looked at: ``Conflict`` if another definition was listed since.
    ``effect`` corrects what was worked out. Raises ``NotFound``; ``Conflict`` if it was never listed, has no hash, or
    is to be approved unseen (without ``observed``) although its definition is poisoned.
    """
    tool = inventory.find_tool(tx, server_id, name)
    where = f"tool/{server_id}/{name}"
    if tool is None:
        raise NotFound(f"tool server {server_id!r} has no tool {name!r}.", where=where)
    definition = tool.definition.get("observed")
    if not isinstance(definition, Mapping) or not tool.observed_hash:
        raise Conflict("it was never listed.", where=where, remedy="Refresh the tool server's tools first.")
    if observed is not None and observed != tool.observed_hash:
        raise Conflict(
            "the tool server lists another definition by now.", where=where, remedy="Look at it, then approve it."
        )
    found = inspect(definition)
    if found and observed is None:
        raise Conflict(
            f"its definition tells the model what to do ({found[0].path}: {found[0].excerpt!r}).",
            where=where,
            remedy="Read it, and approve this very definition by its hash, if its maker can explain the passage.",
        )
    approved = replace(
        tool,
        description=str(definition.get("description") or ""),
        effect=effect or tool.effect,
        pin=tool.observed_hash,
        pin_state=PinState.PINNED,
        definition={"approved": definition, "observed": definition},
        updated_at=tx.now,
    )
    if "wanted" in tool.definition:
        approved = replace(approved, definition={**approved.definition, "wanted": tool.definition["wanted"]})
    server = inventory.find_server(tx, server_id)
    approved = with_card(approved, is_trusted=server is not None and server.is_trusted)
    inventory.save_tool(tx, approved, "tool:approve")
    return approved


def _prepare(store: SqlControlStore, vault: Vault, server_id: str) -> tuple[ToolServer, str | None]:
    with store.read() as tx:
        server = inventory.find_server(tx, server_id)
        credential = inventory.find_credential(tx, server.credential_id) if server and server.credential_id else None
    if server is None:
        raise NotFound(f"there is no tool server {server_id!r}.", where="server")
    return server, vault.unseal(credential.sealed, credential.id).decode() if credential else None


def _note_failure(store: SqlControlStore, server_id: str, message: str, actor: str) -> None:
    with store.tx(actor, audited=False) as tx:
        server = inventory.find_server(tx, server_id)
        if server is not None:
            noted = replace(server, tools_list_error=message[:1000], updated_at=tx.now)
            inventory.save_server(tx, noted, "server:list-tools-failed")


def _store(store: SqlControlStore, server_id: str, url: str, listing: Listing, actor: str) -> RefreshReport:
    happened: dict[str, list[str]] = {"found": [], "pinned": [], "changed": [], "restored": [], "same": []}
    problems = [f"{name[:80]!r} is listed twice; the first counts." for name in listing.doubled]
    # Not always audited: a listing in which nothing is new changes nothing but the time of the last look.
    with store.tx(actor, audited=False) as tx:
        server = inventory.find_server(tx, server_id)
        if server is None or server.url != url:
            raise Conflict("the tool server was changed while it was asked.", where=f"server/{server_id}")
        known = {tool.name: tool for tool in inventory.list_tools(tx, server_id)}
        for name, definition in listing.tools.items():
            if not is_tool_name(name):
                problems.append(f"{name[:80]!r} cannot be the name of a tool; it is left out.")
                continue
            if tool_hash(definition) == UNPINNABLE:
                problems.append(f"{name!r} is nested too deeply to be compared; it is left out.")
                continue
            before = known.get(name)
            if (found := inspect(definition)) and (before is None or before.pin != tool_hash(definition)):
                problems.append(
                    f"{name!r} tells the model what to do ({found[0].path}: {found[0].excerpt!r}); it is held until "
                    "somebody approves this very definition."
                )
            what, tool = compare(before, server, definition, tx.now)
            if before is not None and "wanted" in before.definition:
                tool = replace(tool, definition={**tool.definition, "wanted": before.definition["wanted"]})
            tool = with_card(tool, is_trusted=server.is_trusted)
            happened[what].append(name)
            inventory.save_tool(tx, tool, _ACTIONS[what])
        seen_now = replace(server, tools_listed_at=tx.now, tools_list_error=None, updated_at=tx.now)
        inventory.save_server(tx, seen_now, "server:list-tools")
    return RefreshReport(
        server_id=server_id,
        protocol=listing.protocol,
        listed=len(listing.tools),
        found=tuple(happened["found"]),
        pinned=tuple(happened["pinned"]),
        changed=tuple(happened["changed"]),
        restored=tuple(happened["restored"]),
        missing=tuple(sorted(set(known) - set(listing.tools))),
        problems=tuple(problems),
    )


_ACTIONS: Mapping[str, str] = {
    "found": "tool:find",
    "pinned": "tool:pin",
    "changed": "tool:change",
    "restored": "tool:restore",
    "same": "tool:observe",
}
