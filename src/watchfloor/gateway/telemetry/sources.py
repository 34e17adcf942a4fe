"""Who sends this telemetry? Source tokens, as the projection knows them, as new as the epoch file demands.

Above the projection's reader and the epoch file, which come as openers; the doors ask before they read a body. A token
counts only while this host knows that it was not taken back: what changed is read *before* the answer whenever the
epoch has moved. Gateway tokens and operators' tokens mean nothing here, and tokens themselves are stored nowhere.

INVARIANT: a source that was deleted, disabled or given a new token is refused by every request that starts after the
change was acknowledged; when that cannot be known, every request is sent away for a while.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from watchfloor.model.errors import Denied, Unavailable
from watchfloor.model.facts import Kind, SourceFacts

if TYPE_CHECKING:
    from watchfloor.gateway.state import Epoch, Reader

ANY_AGENT: Final = "*"
_PREFIX: Final = "wfsrc_"
_LONGEST: Final = 200
"""Characters of a token that are looked at all."""
_RETRY_SECONDS: Final = 0.1
"""How long a failed reading of the projection is not tried again: a broken database must not stall every request."""


class SourceRefused(Denied):
    """The token is no source's, or its source is disabled."""

    code = "source_refused"


@dataclass(frozen=True, slots=True)
class Source:
    """Who may send. ``events_per_second`` is its quota."""

    id: str
    agents: frozenset[str]
    events_per_second: int
    is_enabled: bool

    def may_speak_for(self, agent_id: str) -> bool:
        """Whether it may say what this agent did; what no agent did may be said only by who may speak for every one."""
        return ANY_AGENT in self.agents or agent_id in self.agents


class Sources:
    """The sources of this installation. Safe between threads; opens nothing before the first question."""

    def __init__(
        self,
        *,
        open_reader: Callable[[], Reader],
        open_epoch: Callable[[], Epoch],
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_reader, self._open_epoch = open_reader, open_epoch
        self._lease, self._clock = lease_seconds, clock
        self._lock = threading.Lock()
        self._reader: Reader | None = None
        self._epoch: Epoch | None = None
        self._revision = 0
        self._not_before = 0.0
        self._failure = ""
        self._by_id: dict[str, tuple[str, Source]] = {}
        self._by_hash: dict[str, Source] = {}

    def check(self) -> None:
        """Make what is known as new as the epoch demands. Raises ``Unavailable`` when that cannot be done, or when the
        control plane has been silent for longer than the lease."""
        epoch = self._epoch
        if epoch is None or not self._revision or epoch.revision() > self._revision:
            with self._lock:
                epoch = self._refresh()
        if epoch.age_seconds() > self._lease:
            raise Unavailable("The control plane has been silent for too long: nobody knows which tokens still count.")

    def authenticate(self, token: str) -> Source:
        """Whose ``token`` this is. Raises ``SourceRefused``, and what ``check`` raises."""
        self.check()
        if not token.startswith(_PREFIX):
            raise SourceRefused(
                "This door takes a source's token (Authorization: Bearer wfsrc_…). Make one: watchfloor source create."
            )
        # Looked up by its hash: how long that takes tells nothing, for nobody can choose what a hash begins with.
        hashed = hashlib.sha256(token[:_LONGEST].encode("utf-8", "surrogatepass")).hexdigest()
        source = self._by_hash.get(hashed)
        if source is None:
            raise SourceRefused("This token is not known. It may have been replaced, or its source deleted.")
        if not source.is_enabled:
            raise SourceRefused(f"The source {source.id} is disabled.")
        return source

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _refresh(self) -> Epoch:
        epoch = self._epoch
        if epoch is not None and self._revision and epoch.revision() <= self._revision:
            return epoch  # another thread has read it meanwhile
        now = self._clock()
        if now < self._not_before:
            raise Unavailable(self._failure)
        try:
            if epoch is None:
                epoch = self._epoch = self._open_epoch()
            # Read before the database, not after: a commit in between must leave us behind, never ahead.
            wanted = epoch.revision()
            if self._reader is None:
                self._reader = self._open_reader()
            revision, rows = self._reader.read(self._revision)
        except Exception as error:  # a projection that cannot even be parsed included
            raise self._failed(now, f"Who may send cannot be read: {error}") from error
        self._apply(rows)
        self._revision = revision
        if revision < wanted or revision == 0:
            raise self._failed(now, f"Control state is at revision {revision}; revision {wanted} was acknowledged.")
        return epoch

    def _failed(self, now: float, failure: str) -> Unavailable:
        self._not_before, self._failure = now + _RETRY_SECONDS, failure
        return Unavailable(failure)

    def _apply(self, rows: list[tuple[Kind, str, dict[str, Any] | None]]) -> None:
        changed = [(key, body) for kind, key, body in rows if kind is Kind.SOURCE]
        if not changed:
            return
        for key, body in changed:
            self._by_id.pop(key, None)
            known = None if body is None else _read(body)
            if known is not None:
                self._by_id[key] = known
        # Put in place at once: other threads look things up without the lock.
        self._by_hash = dict(self._by_id.values())


def _read(body: dict[str, Any]) -> tuple[str, Source] | None:
    """The hash of its token, and the source; None for what cannot be read: such a source does not exist."""
    try:
        facts = SourceFacts.from_json(body)
        source = Source(facts.id, frozenset(facts.agents), int(facts.events_per_second), facts.is_enabled is True)
    except (TypeError, ValueError, AttributeError):
        return None
    return (str(facts.token_hash), source) if source.events_per_second > 0 else None
