"""Holds: a call that waits for an operator, how it is named, and what a caller must show to find it again.

The gateway makes the hold (id, payload hash, expiry) and records it with its decision; the control plane asks an
operator and projects the answer. The caller keeps a retry token, sealed for this agent and user over hold and payload:
nothing has to be stored to know it again, and records keep only its hash. The same call made again while it waits finds
the same hold, so that nobody is asked twice. That an approval lets out one call is ``storage.claims``' business.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from watchfloor.gateway.seals import Seal
from watchfloor.model.ids import new_id

HOUR: Final = timedelta(hours=1)
RETRY_AFTER_SECONDS: Final = 5
"""How long a caller should wait before it asks again; people do not answer faster."""

_MOST: Final = 10_000
"""Holds, and agents that ask, that are remembered; the oldest is forgotten first."""


Waiting = tuple[str, datetime]
"""A hold that nobody has answered yet: its id and when it expires."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A held call."""

    id: str
    payload_hash: str
    expires_at: datetime
    retry_token: str

    def to_json(self) -> dict[str, Any]:
        """As the caller is told; with it in hand the call can be made again."""
        return {
            "id": self.id,
            "status": "pending",
            "retry_token": self.retry_token,
            "retry_after_seconds": RETRY_AFTER_SECONDS,
            "expires_at": self.expires_at.isoformat(),
            "payload_hash": self.payload_hash,
        }


class Holds:
    """Makes and recognises the holds of one worker.

    ``most_an_hour``: holds that one agent may cause for one user within an hour, as this worker counts them; what all
    of them cause is counted where operators are asked, and comes back as ``HoldLimit``.
    """

    def __init__(self, seal: Seal, lifetime: timedelta, most_an_hour: int = 20) -> None:
        self._seal, self._lifetime, self._most = seal, lifetime, most_an_hour
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._asked: OrderedDict[tuple[str, str | None], deque[datetime]] = OrderedDict()

    def create(self, payload_hash: str, agent_id: str, user_id: str | None, now: datetime) -> Hold:
        """A new hold for this payload of this agent and user."""
        expires = (now + self._lifetime).replace(microsecond=0)
        made = self.named(new_id("hold"), expires, payload_hash, agent_id, user_id)
        _remember(self._waiting, payload_hash, (made.id, made.expires_at))
        times = self._asked.get((agent_id, user_id))
        if times is None:
            times = deque(maxlen=self._most)
        times.append(now)
        _remember(self._asked, (agent_id, user_id), times)
        return made

    def find(
        self, payload_hash: str, now: datetime, waiting: Mapping[str, Waiting], answered: Container[str]
    ) -> Waiting | None:
        """The hold that this very call waits for already: one that this worker made, or one of ``waiting``.

        ``waiting``: holds by payload that any worker made, as the control plane says; ``answered``: ids of those that
        are waiting no more.
        """
        for known in (waiting.get(payload_hash), self._waiting.get(payload_hash)):
            if known is not None and known[1] > now and known[0] not in answered:
                return known
        return None

    def limited_until(self, agent_id: str, user_id: str | None, now: datetime) -> datetime | None:
        """When operators may be asked about this agent and user again, if they were asked too often."""
        times = self._asked.get((agent_id, user_id))
        if times is None or len(times) < self._most or times[0] <= now - HOUR:
            return None
        return times[0] + HOUR

    def open(self, retry_token: str, agent_id: str, user_id: str | None) -> Hold | None:
        """The hold that ``retry_token`` was given out for, if it was given to this agent and user."""
        value = self._seal.open(retry_token, agent_id, user_id or "")
        if value is None:
            return None
        hold_id, expires, payload_hash = value.split("/", 2)
        return Hold(hold_id, payload_hash, datetime.fromtimestamp(int(expires), UTC), retry_token)

    def named(self, hold_id: str, expires_at: datetime, payload_hash: str, agent_id: str, user_id: str | None) -> Hold:
        """The hold with the token that its caller gets, always the same one."""
        token = self._seal.seal(f"{hold_id}/{int(expires_at.timestamp())}/{payload_hash}", agent_id, user_id or "")
        return Hold(hold_id, payload_hash, expires_at, token)


def _remember(table: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > _MOST:
        table.popitem(last=False)
