"""The conversations that this worker has to do with: kept in memory, and on the host's disk for the other workers.

``enforce.py`` asks ``at`` before a decision, and tells ``heard`` what a tool answered *before* the caller gets it: so
no worker can decide on a call whose author knew more than the guard. Below are ``storage.conversations`` (files) and
``guard.provenance`` (what a conversation is). It does not decide.

INVARIANT: where the state of a conversation cannot be read, what is decided on is a conversation that knows that it
does not know everything.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from watchfloor.guard.provenance.conversation import Conversation, ToolResult
from watchfloor.model.errors import Unavailable
from watchfloor.storage.conversations import News, Place

_LOG: Final = logging.getLogger(__name__)
LARGEST_RESULT: Final = 512 * 1024
"""Bytes of one result that are kept. A larger one is noted as lost."""

IDLE_SECONDS: Final = 24 * 3600.0
FORGET_SECONDS: Final = 30 * 24 * 3600.0


class Files(Protocol):
    """Where records are; ``storage.conversations.ConversationFiles`` is one."""

    def append(self, name: str, record: bytes) -> tuple[Place, Place]:
        """Add a record: where it begins and ends. Raises ``Unavailable``."""
        ...

    def read(self, name: str, since: Place) -> News:
        """What came behind ``since``. Raises ``Unavailable``."""
        ...

    def sweep(self, *, idle_seconds: float, forget_seconds: float) -> None:
        """Forget what is long over."""
        ...


class _Known:
    __slots__ = ("conversation", "place", "weight")

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.place = Place()
        self.weight = 0


class Conversations:
    """Conversations by name, the least recently used forgotten first; ``max_bytes`` bounds them all, about."""

    def __init__(self, files: Files, *, max_bytes: int = 24 * 1024 * 1024) -> None:
        self._files, self._max_bytes = files, max_bytes
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._weight = 0

    def at(self, name: str, turns: Sequence[str] = ()) -> Conversation:
        """The conversation as it stands, with these turns of the user said."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Known()
        else:
            self._known.move_to_end(name)
        try:
            self._catch_up(name, known)
        except Unavailable as error:
            _LOG.warning("a conversation cannot be read: %s", error)
            self._drop(name)
            unknown = Conversation()
            unknown.say(turns)
            unknown.forget()
            return unknown
        if turns and (new := known.conversation.say(turns)):
            try:
                began, ended = self._files.append(name, orjson.dumps({"t": "say", "v": new}))
                if _follows(known.place, began):
                    known.place = ended
            except (Unavailable, TypeError) as error:
                # Other workers will find less said by the user than there was: that only makes them stricter.
                _LOG.warning("the user's words are not kept: %s", error)
        return known.conversation

    def expect(self, name: str, invocation: str) -> None:
        """An answer is on its way to the caller piece by piece; until it is heard, nobody knows everything.

        Raises ``Unavailable``.
        """
        self._files.append(name, orjson.dumps({"t": "wait", "i": invocation}))

    def heard(self, name: str, result: ToolResult | None, invocation: str) -> None:
        """Keep what a tool answered; None: it was too large, or cannot be read. Raises ``Unavailable``."""
        record: dict[str, Any] = {"t": "lost", "i": invocation}
        if result is not None:
            record = _read(result)
        try:
            body = orjson.dumps(record)
        except TypeError:
            body = orjson.dumps({"t": "lost", "i": invocation})
        began, ended = self._files.append(name, body)
        known = self._known.get(name)
        if known is not None and _follows(known.place, began) and result is not None and record["t"] == "read":
            # Nobody else has written in between: what was just heard need not be read back.
            known.conversation.read(result)
            known.place = ended
            self._weigh(known)

    def told(self, name: str, turns: Sequence[str], results: Sequence[ToolResult]) -> None:
        """Keep, in one write, what is new of the user's words and of results that are told with every call.

        Raises ``Unavailable``.
        """
        conversation = self.at(name)
        fresh = [result for result in results if not conversation.has_heard(result.invocation)]
        if not fresh:
            return  # new words are kept when the call is decided on
        new = conversation.say(turns)
        records = [*([{"t": "say", "v": new}] if new else []), *map(_read, fresh)]
        began, ended = self._files.append(name, orjson.dumps({"t": "many", "v": records}))
        known = self._known.get(name)
        if known is not None and _follows(known.place, began):
            for result in fresh:
                known.conversation.read(result)
            known.place = ended
            self._weigh(known)

    def sweep(self) -> None:
        """Forget what is long over."""
        self._files.sweep(idle_seconds=IDLE_SECONDS, forget_seconds=FORGET_SECONDS)

    def _catch_up(self, name: str, known: _Known) -> None:
        news = self._files.read(name, known.place)
        if news.restarts:
            known.conversation = Conversation()
        if news.lost:
            known.conversation.forget()
        known.place = news.place
        for record in news.records:
            try:
                _take(known.conversation, orjson.loads(record))
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                known.conversation.forget()
        if news.records or not known.weight:
            self._weigh(known)

    def _weigh(self, known: _Known) -> None:
        weight = known.conversation.size
        self._weight += weight - known.weight
        known.weight = weight
        while self._weight > self._max_bytes and len(self._known) > 1:
            self._drop(next(iter(self._known)))

    def _drop(self, name: str) -> None:
        self._weight -= self._known.pop(name).weight


def _follows(place: Place, began: Place) -> bool:
    """Whether a reader at ``place`` has read everything up to ``began``."""
    return place == began or (place.file == 0 and began.offset == 0)


def _read(result: ToolResult) -> dict[str, Any]:
    return {
        "t": "read",
        "i": result.invocation,
        "s": result.server,
        "n": result.tool,
        "d": result.is_named,
        "f": result.trusted_fields,
        "v": result.value,
    }


def _take(conversation: Conversation, record: Mapping[str, Any]) -> None:
    kind = record["t"]
    if kind == "say":
        conversation.say(record["v"])
    elif kind == "read":
        fields = tuple(record["f"])
        conversation.read(ToolResult(record["i"], record["s"], record["n"], record["v"], record["d"], fields))
    elif kind == "many":
        for each in record["v"]:
            _take(conversation, each)
    elif kind == "wait":
        conversation.expect(record["i"])
    else:
        conversation.forget()  # what was lost, and what only a newer version understands
