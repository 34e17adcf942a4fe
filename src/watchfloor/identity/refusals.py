"""Refused token requests in the audit log, without letting whoever asks fill it.

Above the control store; ``identity.sts`` notes, this decides what is written. The first refusal of a kind is written at
once, the next ones of the same minute are counted and written with the first of a later minute; and there are never
more than ``PER_MINUTE`` entries a minute in all. It does not know why something was refused.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from watchfloor.model.errors import Unavailable
from watchfloor.model.ids import is_name

if TYPE_CHECKING:
    from watchfloor.storage.control import SqlControlStore

WINDOW: Final = 60.0
PER_MINUTE: Final = 60
_MAX_KEYS: Final = 5_000


@dataclass(slots=True)
class _Seen:
    written_at: float
    suppressed: int = 0


class RefusalLog:
    """See the module. ``clock`` gives seconds that never go back."""

    def __init__(self, store: SqlControlStore, *, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._seen: OrderedDict[tuple[str, str, str], _Seen] = OrderedDict()
        self._written: deque[float] = deque(maxlen=PER_MINUTE)
        self._lock = threading.Lock()

    def note(self, reason: str, *, agent: str, address: str, server: str = "") -> None:
        """Write or count one refusal. A log that cannot be written does not turn a refusal into something else."""
        # What is no id can be anything, a mistyped secret too: it is not written.
        agent = agent if is_name(agent) else "unknown"
        server = server if is_name(server) else ""
        suppressed = self._due((reason, agent, address))
        if suppressed is None:
            return
        detail = {"reason": reason, "address": address, **({"server": server} if server else {})}
        if suppressed:
            detail["more_like_it"] = str(suppressed)
        try:
            with self._store.tx() as tx:
                tx.audit("token:refuse", f"agent/{agent}", detail)
        except Unavailable:
            return

    def _due(self, key: tuple[str, str, str]) -> int | None:
        """How many were counted since the last entry of ``key``, if one is to be written now."""
        now = self._clock()
        with self._lock:
            seen = self._seen.get(key)
            full = len(self._written) == PER_MINUTE and self._written[0] + WINDOW > now
            if seen is not None and (full or seen.written_at + WINDOW > now):
                seen.suppressed += 1
                return None
            if full:
                return None
            self._written.append(now)
            self._seen[key] = _Seen(now)
            self._seen.move_to_end(key)
            while len(self._seen) > _MAX_KEYS:
                self._seen.popitem(last=False)
            return seen.suppressed if seen else 0
