"""The intake: what many requests bring, in one durable append, each event once.

Above are the doors, which wait for the answer; below is the event log. Requests that come while an append is under way
share the next one: up to ``GROUP_EVENTS`` events or ``GROUP_SECONDS``, whichever is first. An event is known by its
key: whoever sends it again, in whatever company, gets the same answer and nothing is stored twice.

INVARIANT: ``take`` returns only after the log has returned; nothing is answered before it is durable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import pyarrow as pa

from watchfloor.gateway.telemetry.spans import Reject, Sender, Span
from watchfloor.model.errors import InputError, Unavailable
from watchfloor.storage.log import DEFAULT_PART
from watchfloor.storage.ports import EventLog, KeyedBatch
from watchfloor.storage.rows import Rows
from watchfloor.storage.tables import TABLES

_LOG: Final = logging.getLogger(__name__)

GROUP_EVENTS: Final = 500
GROUP_SECONDS: Final = 0.02
MAX_WAITING: Final = 20_000
"""Events that may wait for the log; past that, requests are sent away for a while."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One event: its key, and its rows as (table, row). ``is_reject``: what could not be taken, with why."""

    key: bytes
    rows: Sequence[tuple[str, Row]]
    is_reject: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a request's events; rejected parts are stored as well, and are in neither count."""

    stored: int
    duplicates: int
    refused: tuple[Item, ...] = ()
    """Events that cannot be stored whatever one does: no row of theirs has a place in its table."""


def span_key(sender: Sender, span: Span) -> bytes:
    """What makes ``span`` the same span. Keys of one time lie together, which keeps the log's index small and fast."""
    second = span.start // 1_000_000_000 & 0xFFFFFFFF
    parts = (sender.tenant, sender.source_id, span.trace_id, span.span_id)
    return second.to_bytes(4) + _digest(*parts)


def reject_key(sender: Sender, reject: Reject, body: bytes) -> bytes:
    """What makes a rejected part the same: the request that it stood in, and where."""
    whole = blake2b(body, digest_size=16).hexdigest()
    return b"\0\0\0\0" + _digest(sender.tenant, sender.source_id, whole, reject.place)


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=12).digest()


@dataclass(slots=True)
class _Group:
    requests: list[tuple[asyncio.Future[Taken], Sequence[Item]]] = field(default_factory=list)
    size: int = 0


class Intake:
    """Takes events in. One an event loop; ``start`` and ``stop`` in it."""

    def __init__(self, open_log: Callable[[], EventLog], *, part: str = DEFAULT_PART) -> None:
        self._open_log, self._part = open_log, part
        self._log: EventLog | None = None
        self._shapes = {name: Rows(table) for name, table in TABLES.items()}
        self._waiting = _Group()
        self._under_way = 0
        self._full = asyncio.Event()
        self._some = asyncio.Event()
        self._is_stopping = False
        # One thread: appends come one after the other anyway, and the log's connection stays in its thread.
        self._thread = ThreadPoolExecutor(1, "intake")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Events that are not durable yet."""
        return self._waiting.size + self._under_way

    def start(self) -> None:
        """Begin to append."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Append what waits, and end."""
        self._is_stopping = True
        self._some.set()
        self._full.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def take(self, items: Sequence[Item]) -> Taken:
        """Store ``items``; durable when this returns. Raises ``Unavailable`` with when to come back."""
        if not items:
            return Taken(0, 0)
        if self._is_stopping:
            raise Unavailable("The receiver is shutting down.", retry_after=1.0)
        if self.waiting >= MAX_WAITING:
            raise Unavailable("The event log is behind.", retry_after=2.0)
        future: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._waiting.requests.append((future, items))
        self._waiting.size += len(items)
        self._some.set()
        if self._waiting.size >= GROUP_EVENTS:
            self._full.set()
        return await future

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            if not self._is_stopping:
                try:
                    async with asyncio.timeout(GROUP_SECONDS):
                        await self._full.wait()
                except TimeoutError:
                    pass
            group, self._waiting = self._waiting, _Group()
            self._some.clear()
            self._full.clear()
            if group.requests:
                await self._append(group)
            if self._is_stopping and not self._waiting.requests:
                return
            if self._waiting.requests:
                self._some.set()

    async def _append(self, group: _Group) -> None:
        self._under_way = group.size
        requests = [items for _, items in group.requests]
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._store, requests)
        except Exception as error:  # whatever it was, nothing of it may be taken for stored
            if not isinstance(error, Unavailable):
                _LOG.exception("an append failed")
                error = Unavailable("The event log did not take the events.", retry_after=5.0)
            for future, _ in group.requests:
                if not future.done():
                    future.set_exception(error)
        else:
            for (future, _), taken in zip(group.requests, found, strict=True):
                if not future.done():
                    future.set_result(taken)
        finally:
            self._under_way = 0

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _store(self, requests: Sequence[Sequence[Item]]) -> list[Taken]:
        """Store what ``requests`` hold, all at once; if something in it has no place, one by one."""
        try:
            return self._store_all(requests, ())
        except (pa.ArrowException, UnicodeError, InputError) as error:
            _LOG.error("events that fit no table are looked for one by one: %s", error)
        bad = {id(item): item for items in requests for item in items if self._has_no_place(item)}
        return self._store_all(requests, bad)

    def _has_no_place(self, item: Item) -> bool:
        try:
            self._batches([item])
        except (pa.ArrowException, UnicodeError, InputError):
            return True
        return False

    def _store_all(self, requests: Sequence[Sequence[Item]], bad: Container[int]) -> list[Taken]:
        if self._log is None:
            self._log = self._open_log()
        first: dict[bytes, Item] = {}
        for items in requests:
            for item in items:
                if id(item) not in bad:
                    first.setdefault(item.key, item)
        known = self._log.append_once(self._part, self._batches(first.values())) if first else frozenset()
        found = []
        for items in requests:
            good = [item for item in items if id(item) not in bad and not item.is_reject]
            stored = sum(first[item.key] is item and item.key not in known for item in good)
            refused = tuple(item for item in items if id(item) in bad)
            found.append(Taken(stored, len(good) - stored, refused))
        return found

    def _batches(self, items: Iterable[Item]) -> list[KeyedBatch]:
        by_table: dict[str, tuple[list[dict[str, Any]], list[bytes]]] = {}
        for item in items:
            for table, row in item.rows:
                rows, keys = by_table.setdefault(table, ([], []))
                rows.append(row)
                keys.append(item.key)
        return [KeyedBatch(self._shapes[name].typed(rows), keys) for name, (rows, keys) in by_table.items()]
