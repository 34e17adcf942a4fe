"""Telemetry sources as people handle them: who may send what agents did, and by which token.

Above ``storage.sources``; the portal calls it. A token is 256 random bits; its SHA-256 is all that is kept, so it is
shown once, where it is made. It knows neither HTTP nor permissions, nor the receivers, which hold what is projected.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from watchfloor.model.errors import Conflict, InputError, NotFound
from watchfloor.model.ids import is_name
from watchfloor.storage import sources
from watchfloor.storage.sources import ANY_AGENT, TelemetrySource

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

TOKEN_PREFIX: Final = "wfsrc_"  # noqa: S105 - it lets secret scanners recognise a token that went astray
MOST_AGENTS: Final = 1_000
MOST_EVENTS_PER_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Issued:
    """A source and its new token, which is stored nowhere."""

    source: TelemetrySource
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a source may send; None leaves what is."""

    name: str | None = None
    description: str | None = None
    agents: Collection[str] | None = None
    events_per_second: int | None = None
    is_enabled: bool | None = None


def get(tx: ControlTx, source_id: str) -> TelemetrySource:
    """The source. Raises ``NotFound``."""
    found = sources.find_source(tx, source_id)
    if found is None:
        raise NotFound(f"there is no telemetry source {source_id!r}.", where="source")
    return found


def create(tx: ControlTx, source_id: str, terms: Terms) -> Issued:
    """A new source with its first token. Raises ``InputError``; ``Conflict`` if there is one of this id."""
    if not is_name(source_id):
        raise InputError(
            f"{source_id[:80]!r} cannot be the id of a source.",
            where="id",
            remedy="Use 1 to 64 lower-case letters, digits, '.', '_' and '-'.",
        )
    if terms.agents is None:
        raise InputError(
            "for which agents may it speak?", where="agents", remedy=f"List their ids, or {ANY_AGENT} for every agent."
        )
    if sources.find_source(tx, source_id) is not None:
        raise Conflict(f"there is a source {source_id} already.", where="id", remedy="Choose another id.")
    blank = TelemetrySource(source_id, source_id, "", created_at=tx.now, updated_at=tx.now)
    return _issue(tx, _with(blank, terms))


def change(tx: ControlTx, source_id: str, terms: Terms) -> TelemetrySource:
    """Change a source. Disabling it refuses its token from the moment that the transaction is acknowledged."""
    return _save(tx, _with(get(tx, source_id), terms))


def renew_token(tx: ControlTx, source_id: str) -> Issued:
    """A new token; the one before is refused from the moment that the transaction is acknowledged."""
    return _issue(tx, get(tx, source_id))


def delete(tx: ControlTx, source_id: str) -> None:
    """Forget a source and its token; what it sent stays. Raises ``NotFound``."""
    get(tx, source_id)
    sources.delete_source(tx, source_id)


def _issue(tx: ControlTx, source: TelemetrySource) -> Issued:
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    return Issued(_save(tx, replace(source, token_hash=hashlib.sha256(token.encode()).hexdigest())), token)


def _save(tx: ControlTx, source: TelemetrySource) -> TelemetrySource:
    sources.save_source(tx, replace(source, updated_at=tx.now, updated_by=tx.actor))
    return get(tx, source.id)


def _with(source: TelemetrySource, terms: Terms) -> TelemetrySource:
    name = source.name if terms.name is None else _text(terms.name, "name", 200) or source.id
    description = source.description if terms.description is None else _text(terms.description, "description", 2000)
    agents = source.agents if terms.agents is None else _agents(terms.agents)
    rate = source.events_per_second if terms.events_per_second is None else terms.events_per_second
    if not 1 <= rate <= MOST_EVENTS_PER_SECOND:
        raise InputError(f"must be between 1 and {MOST_EVENTS_PER_SECOND}.", where="events_per_second")
    enabled = source.is_enabled if terms.is_enabled is None else terms.is_enabled
    return replace(
        source, name=name, description=description, agents=agents, events_per_second=rate, is_enabled=enabled
    )


def _text(text: str, where: str, limit: int) -> str:
    text = text.strip()
    if len(text) > limit or not text.replace("\n", " ").isprintable():
        raise InputError(f"must be at most {limit} characters that print.", where=where)
    return text


def _agents(given: Collection[str]) -> tuple[str, ...]:
    agents = tuple(sorted(set(given)))
    if not 1 <= len(agents) <= MOST_AGENTS:
        raise InputError(f"name 1 to {MOST_AGENTS} agents.", where="agents", remedy=f"{ANY_AGENT} is every agent.")
    if ANY_AGENT in agents and len(agents) > 1:
        raise InputError(f"{ANY_AGENT} is every agent already.", where="agents", remedy="Leave the others out.")
    # Not ids of the registry: an agent that is not registered yet may be spoken for.
    for agent in agents:
        if not agent or len(agent) > 200 or not agent.isprintable():
            raise InputError(f"{agent[:80]!r} cannot be the id of an agent.", where="agents")
    return agents
