"""What the adapters share: how a framework's tool call is asked about, run and told, and whose words are the user's.

A tool may run an agent of its own, whose "user" is then a model. While a guarded tool runs, calls below it are judged
by the words and in the conversation of the call above: what a model writes to another never counts as the user's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from watchfloor_sdk.aio import AsyncGuard
from watchfloor_sdk.client import Guard, Running
from watchfloor_sdk.errors import WatchfloorError
from watchfloor_sdk.protocol import Steps

T = TypeVar("T")

AnyGuard = Guard | AsyncGuard


@dataclass(frozen=True)
class Heard:
    """What the user said, newest last, and in which conversation; None: the one that the guard is bound to."""

    user_turns: tuple[str, ...] = ()
    conversation_id: str | None = None


_above: ContextVar[Heard | None] = ContextVar("watchfloor_heard", default=None)


@contextmanager
def hearing(user_turns: Iterable[str], conversation_id: str | None = None) -> Iterator[None]:
    """Within this block these are the user's words, newest last, and this the conversation, whatever messages say.

    For agents whose user messages are written by models: an agent that hands its orders on in a graph, a worker of a
    team. Blocks are not widened by blocks inside: what is below a guarded tool keeps to the words above.
    """
    heard = _above.get() or Heard(tuple(user_turns), conversation_id)
    with _below(heard):
        yield


class NotRun(Exception):
    """The tool was not run. ``text`` is what the agent is told."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)


class _InThreads(AsyncGuard):
    """A blocking guard for code that must not block; it belongs to no event loop."""

    def __init__(self, guard: Guard) -> None:
        self.wire, self.deadline, self.hold_seconds = guard.wire, guard.deadline, guard.hold_seconds
        self._guard = guard

    async def drive(self, steps: Steps[T]) -> T:
        return await asyncio.to_thread(self._guard.drive, steps)


def blocking(guard: AnyGuard) -> Guard:
    """``guard`` for code that blocks. Raises ``TypeError``."""
    if isinstance(guard, Guard):
        return guard
    raise TypeError("This agent runs blocking, and an AsyncGuard cannot be awaited there. Give it a Guard.")


def awaited(guard: AnyGuard) -> AsyncGuard:
    """``guard`` for code that is awaited."""
    return guard if isinstance(guard, AsyncGuard) else _InThreads(guard)


@contextmanager
def asked(guard: Guard, tool: str, arguments: object, heard: Heard) -> Iterator[Running]:
    """A call that may be made; set its ``result``. Raises ``NotRun``, and what the tool raises."""
    heard = _above.get() or heard
    about: dict[str, Any] = {"user_turns": heard.user_turns, "conversation_id": heard.conversation_id}
    call = guard.call(tool, _object(arguments), **about)
    with _refusals():
        running = call.__enter__()
    with _Entered(call), _below(heard):
        yield running


@asynccontextmanager
async def asked_later(guard: AsyncGuard, tool: str, arguments: object, heard: Heard) -> AsyncIterator[Running]:
    """The same where it is awaited."""
    heard = _above.get() or heard
    about: dict[str, Any] = {"user_turns": heard.user_turns, "conversation_id": heard.conversation_id}
    call = guard.call(tool, _object(arguments), **about)
    with _refusals():
        running = await call.__aenter__()
    async with _EnteredLater(call):
        with _below(heard):
            yield running


class _Entered:
    """Leaves what was entered before: refusals of the entry are not to be taken for the tool's own exceptions."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __enter__(self) -> None:
        return

    def __exit__(self, *raised: Any) -> Any:
        return self._call.__exit__(*raised)


class _EnteredLater:
    def __init__(self, call: Any) -> None:
        self._call = call

    async def __aenter__(self) -> None:
        return

    async def __aexit__(self, *raised: Any) -> Any:
        return await self._call.__aexit__(*raised)


def _object(arguments: object) -> Mapping[str, Any]:
    if not isinstance(arguments, Mapping):
        raise NotRun("The tool was not run: its arguments are no JSON object.")
    return arguments


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except WatchfloorError as error:
        raise NotRun(error.for_model) from error
    except TypeError as error:
        raise NotRun(f"The tool was not run: {error}") from error


@contextmanager
def _below(heard: Heard) -> Iterator[None]:
    token = _above.set(heard)
    try:
        yield
    finally:
        _above.reset(token)
