"""What a tool server answers to one call, taken in on its way to the caller: whole, as events, or in pieces.

``relay.py`` hands over bytes before it passes them on; ``Enforcer.heard`` keeps what they say. Answers in pieces are
announced before the first piece goes out, so that a call that is made on half an answer is judged as made by somebody
who knows more than the guard. What is judged before it is passed on, ``gateway.results`` judges.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from watchfloor.gateway.calls import Permit
from watchfloor.gateway.conversations import LARGEST_RESULT
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.upstream import UpstreamError
from watchfloor.gateway.withheld import withheld
from watchfloor.model.errors import Unavailable

_NOTHING: Final = object()


class Hearing:
    """Listens to the answer to ``permit``'s call. Raises ``UpstreamError`` where it could not be kept."""

    __slots__ = ("_enforcer", "_is_expected", "_is_stream", "_permit", "_pieces", "_said", "_size", "is_judged")

    def __init__(self, enforcer: Enforcer, permit: Permit) -> None:
        self._enforcer, self._permit = enforcer, permit
        self.is_judged = enforcer.results.are_judged(permit.facts)
        """Whether what the caller gets is what ``judged`` and ``judged_message`` give back."""
        self._said: list[Any] | None = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_expected = self._is_stream = False

    def judged(self, body: bytes) -> bytes:
        """The answer as the caller may get it."""
        return self._enforcer.results.body(self._permit.invocation, self._permit.facts, body)

    def judged_message(self, message: Any) -> dict[str, Any] | None:
        """One message of the answer as the caller may get it; None: not at all."""
        return self._enforcer.results.pass_on(self._permit.invocation, self._permit.facts, message)

    def withheld(self, request_id: Any, code: str) -> bytes:
        """What the caller gets in place of an answer that cannot be judged."""
        return orjson.dumps(withheld(request_id, code, self._permit.invocation.id))

    def afterwards(self) -> None:
        """Look at what was said, now that the caller has it. What was judged has been looked at."""
        if not self.is_judged:
            self._enforcer.results.look_at(self._permit.invocation, self._permit.facts, self._said)

    def whole(self, body: bytes) -> None:
        """The answer, all of it, before any of it goes out."""
        self._keep(said_in(body) if len(body) <= LARGEST_RESULT else None)

    def event_bytes(self, chunk: bytes) -> None:
        """A piece of a stream of events."""
        self._is_stream = True
        self._take(chunk)

    def json_bytes(self, chunk: bytes) -> None:
        """A piece of one JSON answer."""
        self._take(chunk)

    def end(self) -> None:
        """There are no more pieces."""
        if not self._is_expected:
            return
        if self._size > LARGEST_RESULT:
            self._keep(None)
            return
        body = b"".join(self._pieces)
        if not self._is_stream:
            self._keep(said_in(body))
            return
        said = [said_in(data) for data in _event_data(body)]
        self._keep(None if any(each is None for each in said) else [value for each in said if each for value in each])

    def _take(self, chunk: bytes) -> None:
        if not self._is_expected:
            self._is_expected = True
            try:
                self._enforcer.expect(self._permit)
            except Unavailable as error:
                raise _not_kept() from error
        self._size += len(chunk)
        if self._size <= LARGEST_RESULT:
            self._pieces.append(chunk)
        else:
            self._pieces.clear()

    def _keep(self, said: list[Any] | None) -> None:
        self._said = said
        try:
            self._enforcer.heard(self._permit, said, is_known=said is not None)
        except Unavailable as error:
            raise _not_kept() from error


def said_in(message: bytes) -> list[Any] | None:
    """What a JSON-RPC message of a tool server says that an agent may read; None if it is no such message."""
    try:
        body = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    if "result" not in body:
        # An error's text, a question, a log line: models read those, too.
        return [body[member] for member in ("error", "params") if member in body]
    return said_by(body["result"])


def said_by(result: Any) -> list[Any]:
    """The values of a result: structured content, texts, and whatever else there is."""
    if not isinstance(result, dict):
        return [result]
    said: list[Any] = []
    structured = result.get("structuredContent", _NOTHING)
    if structured is not _NOTHING:
        said.append(structured)
    for name, value in result.items():
        if name == "content" and isinstance(value, list):
            said += [text for block in value if (text := _block(block)) is not None and not _is_same(text, structured)]
        elif name not in ("structuredContent", "_meta", "isError", "resultType"):
            said.append({name: value})
    return said


def _block(block: Any) -> Any:
    if not isinstance(block, dict):
        return block
    if block.get("type") == "text" and isinstance(block.get("text"), str):
        return block["text"]
    if block.get("type") in ("image", "audio"):
        return None  # nobody reads values out of these here
    return {name: value for name, value in block.items() if name not in ("type", "annotations", "_meta", "blob")}


def _is_same(text: Any, structured: Any) -> bool:
    """Whether a text block only repeats the structured content, as servers do for older clients."""
    if structured is _NOTHING or not isinstance(text, str) or not text.startswith(("{", "[")):
        return False
    try:
        return bool(orjson.loads(text) == structured)
    except orjson.JSONDecodeError:
        return False


def _event_data(stream: bytes) -> list[bytes]:
    """The data of each server-sent event."""
    events = []
    for event in stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        if data := b"\n".join(lines):
            events.append(data)
    return events


def _not_kept() -> UpstreamError:
    return UpstreamError(
        "result_not_kept", "The call was made; its result could not be kept and is withheld.", went_out=True
    )
