"""``AsyncGuard``: the asynchronous twin of ``client.Guard``, for one event loop. See there for what operations do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar, overload

import httpx

from watchfloor_sdk import transport
from watchfloor_sdk.client import Running, open_reads, pause
from watchfloor_sdk.errors import Blocked, Held, Unavailable
from watchfloor_sdk.functions import Binding
from watchfloor_sdk.protocol import Ask, Memory, NoAnswer, Request, Response, Steps, TokenSource, Wire
from watchfloor_sdk.tokens import Text, token_source
from watchfloor_sdk.values import UNTOLD, Decision

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

_FAREWELL_SECONDS = 1.0
"""How long a cancelled call may take to say so."""


class AsyncGuard:
    """See ``client.Guard``; everything that asks is awaited, and functions that are guarded are coroutine functions."""

    def __init__(
        self,
        url: str,
        server: str,
        token: Text | TokenSource,
        *,
        conversation_id: str = "",
        parent_agent: str = "",
        deadline: float = 5.0,
        hold_seconds: float = 0.0,
        reads: Iterable[str] = (),
        fail_open_for_reads: bool = False,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self.wire = Wire(
            url.rstrip("/"),
            server,
            token_source(token),
            conversation_id,
            parent_agent,
            open_reads(reads, fail_open_for_reads),
            Memory(),
        )
        self.deadline, self.hold_seconds = deadline, hold_seconds
        self._http = httpx.AsyncClient(**transport.options(verify))

    def __repr__(self) -> str:
        return f"AsyncGuard({self.wire.gateway!r}, server={self.wire.server!r})"

    def bind(
        self,
        *,
        conversation_id: str | None = None,
        server: str | None = None,
        token: Text | TokenSource | None = None,
        parent_agent: str | None = None,
    ) -> AsyncGuard:
        """See ``Guard.bind``."""
        twin = object.__new__(AsyncGuard)
        twin.__dict__.update(self.__dict__)
        tokens = token_source(token) if token is not None else None
        twin.wire = self.wire.bound(
            conversation_id=conversation_id, server=server, tokens=tokens, parent_agent=parent_agent
        )
        return twin

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncGuard:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- operations -------------------------------------------------------------------------------------------------

    async def decide(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        user_turns: Iterable[str] = (),
        conversation_id: str | None = None,
        parent_agent: str | None = None,
        trace_id: str | None = None,
        retry_token: str | None = None,
        server: str | None = None,
    ) -> Decision:
        """See ``Guard.decide``."""
        call = self.wire.call(
            tool,
            arguments,
            user_turns,
            conversation_id=conversation_id,
            parent_agent=parent_agent,
            trace_id=trace_id,
            retry_token=retry_token,
            server=server,
        )
        return await self.drive(self.wire.decide(call))

    async def complete(self, decision: Decision, *, status: str = "ok", result: Any = UNTOLD) -> bool:
        """See ``Guard.complete``."""
        return await self.drive(self.wire.complete(decision, status, result))

    async def observe(
        self,
        *,
        user_turns: Iterable[str] = (),
        tool: str = "",
        result: Any = UNTOLD,
        conversation_id: str | None = None,
        server: str | None = None,
    ) -> None:
        """See ``Guard.observe``."""
        await self.drive(self.wire.observe(user_turns, tool, result, conversation_id=conversation_id, server=server))

    async def tools(self, definitions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """See ``Guard.tools``."""
        return await self.drive(self.wire.tools(definitions))

    async def wait_for_approval(self, held: Held, *, timeout: float, every: float | None = None) -> Decision:
        """See ``Guard.wait_for_approval``."""
        until, attempt = time.monotonic() + timeout, 0
        while (left := until - time.monotonic()) > 0 and not held.hold.has_expired():
            await asyncio.sleep(pause(left, every or held.hold.retry_after_seconds, attempt))
            attempt += 1
            try:
                return await self.drive(self.wire.decide(held.again))
            except Held as again:
                held = again
            except Blocked as blocked:
                if not blocked.is_retryable:
                    raise
            except Unavailable as error:
                if not error.no_answer:
                    raise
        raise held

    # -- around a call ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def call(self, tool: str, arguments: Mapping[str, Any], **about: Any) -> AsyncIterator[Running]:
        """See ``Guard.call``: ``async with``."""
        running = Running(await self._decide_or_wait(tool, arguments, about))
        try:
            yield running
        except Exception as error:
            await self.complete(running.decision, status="error", result=str(error))
            raise
        except BaseException:
            # Whoever cancels waits for this: the gateway is told if it listens at once, else later that it is lost.
            with contextlib.suppress(asyncio.TimeoutError):
                farewell = self.complete(running.decision, status="cancelled", result=None)
                await asyncio.wait_for(farewell, _FAREWELL_SECONDS)
            raise
        await self.complete(running.decision, result=running.result)

    async def run(
        self, tool: str, arguments: Mapping[str, Any], function: Callable[[dict[str, Any]], Awaitable[R]], **about: Any
    ) -> R:
        """See ``Guard.run``."""
        async with self.call(tool, arguments, **about) as call:
            result = call.result = await function(call.arguments)
        return result

    @overload
    def guarded(self, function: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R]]: ...

    @overload
    def guarded(
        self, function: None = None, /, *, tool: str = "", ignore: Iterable[str] = (), **about: Any
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]: ...

    def guarded(self, function: Any = None, /, *, tool: str = "", ignore: Iterable[str] = (), **about: Any) -> Any:
        """See ``Guard.guarded``. Raises ``TypeError`` for a function that is not awaited."""

        def wrap(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
            if not inspect.iscoroutinefunction(function):
                raise TypeError(f"{function!r} is no coroutine function: guard it with Guard.")
            binding = Binding.of(function, tool, ignore)

            @functools.wraps(function)
            async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
                bound = binding.bind(args, kwargs)
                async with self.call(binding.tool, bound.shown, **about) as call:
                    positional, named = bound.with_arguments(call.arguments)
                    result = call.result = await function(*positional, **named)
                return result

            return guarded

        return wrap if function is None else wrap(function)

    # -- parts ------------------------------------------------------------------------------------------------------

    async def _decide_or_wait(self, tool: str, arguments: Mapping[str, Any], about: dict[str, Any]) -> Decision:
        try:
            return await self.decide(tool, arguments, **about)
        except Held as held:
            if self.hold_seconds <= 0:
                raise
            return await self.wait_for_approval(held, timeout=self.hold_seconds)

    async def drive(self, steps: Steps[T]) -> T:
        """Carry out what ``protocol.py`` asks for, within the deadline."""
        until = time.monotonic() + self.deadline
        try:
            command = next(steps)
            while True:
                try:
                    value = await asyncio.wait_for(self._do(command), max(0.001, until - time.monotonic()))
                except asyncio.TimeoutError:
                    command = steps.throw(NoAnswer("it took too long", is_timeout=True))
                except Exception as error:
                    command = steps.throw(error)
                else:
                    command = steps.send(value)
        except StopIteration as stop:
            outcome: T = stop.value
            return outcome
        finally:
            steps.close()

    async def _do(self, command: Request | Ask) -> Any:
        if isinstance(command, Ask):
            value = command.function()
            return await value if inspect.isawaitable(value) else value
        for is_last in (False, True):
            try:
                async with self._http.stream(**transport.arguments(command, self.deadline)) as response:
                    body = transport.Body()
                    async for part in response.aiter_bytes():
                        body.add(part)
                    return Response(response.status_code, body.whole())
            except httpx.ConnectError as error:
                # Never sent, so it may be tried again: a worker that is being replaced is back at once.
                if is_last:
                    raise transport.no_answer(error) from error
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                raise transport.no_answer(error) from error
        raise AssertionError
