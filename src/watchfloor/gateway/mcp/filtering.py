"""Tool lists on their way to a client: whole answers and streams of events, without the tools it may not see. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import orjson


def filter_tools(message: Any, keep: Callable[[Any], bool]) -> bool:
    """Drop from a ``tools/list`` answer the tools that ``keep`` refuses; False if ``message`` cannot be passed on.

    A message that holds no list of tools is left as it is. A batch is not one message: nobody could say what is in it.
    """
    if not isinstance(message, dict):
        return False
    result = message.get("result")
    if not isinstance(result, dict) or "tools" not in result:
        return True
    tools = result["tools"]
    result["tools"] = [t for t in tools if isinstance(t, dict) and keep(t)] if isinstance(tools, list) else []
    if "cacheScope" in result:
        # What is left is this caller's own view: nobody in between may show it to somebody else.
        result["cacheScope"] = "private"
    return True


class SseFilter:
    """Filters tool lists in a stream of server-sent events; or rewrites every message, None dropping it.

    Feed it chunks as they arrive; it gives back whole events. Each is written anew from what was read, so that a client
    that is more lenient about lines or JSON reads nothing else. An event larger than ``limit`` bytes raises
    ``ValueError``: what cannot be read cannot be filtered.
    """

    def __init__(
        self, keep: Callable[[Any], bool], limit: int, rewrite: Callable[[Any], dict[str, Any] | None] | None = None
    ) -> None:
        self._keep, self._limit, self._rewrite = keep, limit, rewrite
        self._buffer = b""
        self._is_first = True

    def feed(self, chunk: bytes) -> bytes:
        """The events that ``chunk`` completes."""
        self._buffer += chunk
        if self._is_first and self._buffer:
            if _BOM.startswith(self._buffer[:3]) and len(self._buffer) < 3:
                return b""
            self._buffer = self._buffer.removeprefix(_BOM)
            self._is_first = False
        done: list[bytes] = []
        start = 0
        for match in _EVENT_END.finditer(self._buffer):
            # A CR at the very end may be half of a CRLF: wait for what follows.
            if match.end() == len(self._buffer) and self._buffer.endswith(b"\r"):
                break
            done.append(self._event(self._buffer[start : match.start()]))
            start = match.end()
        self._buffer = self._buffer[start:]
        if len(self._buffer) > self._limit:
            raise ValueError("an event is too large")
        return b"".join(done)

    def close(self) -> bytes:
        """What is left when the stream ends: an event that was not completed counts as never sent."""
        rest, self._buffer = self._buffer, b""
        match = _EVENT_END.search(rest)
        return self._event(rest[: match.start()]) if match else b""

    def _event(self, raw: bytes) -> bytes:
        data: list[bytes] = []
        kept: list[bytes] = []
        for line in _LINE_END.split(raw):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif (field == b"id" and _SAFE_ID.fullmatch(value)) or (field == b"retry" and value.isdigit()):
                kept.append(field + b": " + value + b"\r\n")
        if not data:
            return b": ping\r\n\r\n"
        text = b"\n".join(data)
        if text:
            try:
                message = orjson.loads(text)
            except orjson.JSONDecodeError:
                message = None
            if self._rewrite is not None:
                message = self._rewrite(message)
            if not filter_tools(message, self._keep):
                return b": an event that is no message was dropped\r\n\r\n"
            text = orjson.dumps(message)
        return b"event: message\r\n" + b"".join(kept) + b"data: " + text + b"\r\n\r\n"


_BOM: Final = b"\xef\xbb\xbf"
_SAFE_ID: Final = re.compile(rb"[\x21-\x7e]{1,256}")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_EVENT_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
