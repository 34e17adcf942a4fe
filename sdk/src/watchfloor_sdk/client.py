"""``Guard``: asks before a tool runs, blocking. ``aio.AsyncGuard`` is its asynchronous twin.

    guard = Guard("http://127.0.0.1:7701", server="mail", token=ClientCredentials("billing", secret))

    @guard.guarded
    def send_email(to: str, body: str) -> str: ...

Calling ``send_email`` asks, runs the function with what may go out, and tells what it answered. Fails closed: without
an ``allow`` the function is not run and a ``WatchfloorError`` says why. Safe between threads.
"""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, overload

import httpx

from watchfloor_sdk import transport
from watchfloor_sdk.errors import Blocked, Held, Unavailable
from watchfloor_sdk.functions import Binding
from watchfloor_sdk.protocol import Ask, Memory, NoAnswer, Request, Response, Steps, TokenSource, Wire
from watchfloor_sdk.tokens import Text, token_source
from watchfloor_sdk.values import UNTOLD, Decision

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class Running:
    """An allowed call while it runs: make it with ``arguments``, and set ``result`` to what the agent gets to read."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.arguments = decision.arguments
        self.result: Any = None
        """None, also if it is never set, says that nobody knows what the tool answered: later calls are judged so."""


def open_reads(reads: Iterable[str], fail_open_for_reads: bool) -> frozenset[str]:
    """The tools that run where nobody answers. Raises ``ValueError`` for half a wish."""
    if isinstance(reads, str):
        raise ValueError("'reads' is a list of names of tools.")
    names = frozenset(reads)
    if fail_open_for_reads and not names:
        raise ValueError("fail_open_for_reads needs the names of the tools that only read: reads=['lookup'].")
    return names if fail_open_for_reads else frozenset()


def pause(seconds: float, every: float, attempt: int) -> float:
    """How long to wait before asking again about a held call; ``seconds`` are left."""
    return max(0.0, min(seconds, every * min(2.0, 1.0 + attempt / 10)))


class Guard:
    """Asks one gateway about the tools of one tool server.

    ``deadline`` bounds each operation, in seconds; no answer until then is a no. ``token`` is a token, a function that
    gives one, or a source of ``tokens.py``. ``hold_seconds``: how long ``call``, ``run`` and ``guarded`` wait for an
    operator before they raise ``Held``. ``fail_open_for_reads`` lets the tools named in ``reads`` run when nobody
    answers (no connection, no answer in time, a bare 5xx); an answer that refuses is always kept to.
    """

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
        self._http = httpx.Client(**transport.options(verify))

    def __repr__(self) -> str:
        return f"Guard({self.wire.gateway!r}, server={self.wire.server!r})"

    def bind(
        self,
        *,
        conversation_id: str | None = None,
        server: str | None = None,
        token: Text | TokenSource | None = None,
        parent_agent: str | None = None,
    ) -> Guard:
        """The same guard for one conversation, user or tool server; it shares connections, and is not to be closed."""
        twin = object.__new__(Guard)
        twin.__dict__.update(self.__dict__)
        tokens = token_source(token) if token is not None else None
        twin.wire = self.wire.bound(
            conversation_id=conversation_id, server=server, tokens=tokens, parent_agent=parent_agent
        )
        return twin

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- operations -------------------------------------------------------------------------------------------------

    def decide(
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
        """May this call be made? Returns only if it may, and then only with ``Decision.arguments``.

        Raises ``Blocked``, ``Held`` or ``Unavailable``, and ``TypeError`` for arguments that cannot be shown. Not
        repeated by itself once it was sent: a decision that was made and got lost is on record already, and one more
        counts as one more attempt. The retry token of a held call is remembered, and sent when that call comes again.
        """
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
        return self.drive(self.wire.decide(call))

    def complete(self, decision: Decision, *, status: str = "ok", result: Any = UNTOLD) -> bool:
        """Tell how an allowed call ended (``ok``, ``error``, ``cancelled``, ``timeout``) and what it answered.

        Whether the gateway knows now. It never raises for the gateway's sake: a result that could not be told is told
        as lost before the next decision of the conversation, which is then judged more strictly.
        """
        return self.drive(self.wire.complete(decision, status, result))

    def observe(
        self,
        *,
        user_turns: Iterable[str] = (),
        tool: str = "",
        result: Any = UNTOLD,
        conversation_id: str | None = None,
        server: str | None = None,
    ) -> None:
        """Tell what the user said, or what a tool answered that was not asked about. Raises ``Unavailable``."""
        self.drive(self.wire.observe(user_turns, tool, result, conversation_id=conversation_id, server=server))

    def tools(self, definitions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those of these definitions (as in MCP's ``tools/list``) that the agent may see. Raises ``Unavailable``."""
        return self.drive(self.wire.tools(definitions))

    def wait_for_approval(self, held: Held, *, timeout: float, every: float | None = None) -> Decision:
        """Ask every ``every`` seconds until an operator has approved, declined (``Blocked``), or ``timeout`` is over.

        ``every`` is as often as the gateway wishes, if not given. Raises ``Held`` when there is still no answer, or
        nobody gave one until the hold expired. A gateway that does not answer meanwhile is asked again.
        """
        until, attempt = time.monotonic() + timeout, 0
        while (left := until - time.monotonic()) > 0 and not held.hold.has_expired():
            time.sleep(pause(left, every or held.hold.retry_after_seconds, attempt))
            attempt += 1
            try:
                return self.drive(self.wire.decide(held.again))
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

    @contextmanager
    def call(self, tool: str, arguments: Mapping[str, Any], **about: Any) -> Iterator[Running]:
        """Ask on entry, tell on exit; ``about`` as in ``decide``.

        with guard.call("send_email", {"to": to}) as call:
            call.result = send(**call.arguments)
        """
        running = Running(self._decide_or_wait(tool, arguments, about))
        try:
            yield running
        except Exception as error:
            self.complete(running.decision, status="error", result=str(error))
            raise
        except BaseException:
            self.complete(running.decision, status="cancelled", result=None)
            raise
        self.complete(running.decision, result=running.result)

    def run(self, tool: str, arguments: Mapping[str, Any], function: Callable[[dict[str, Any]], R], **about: Any) -> R:
        """Ask, run ``function`` with what may go out, tell and return what it gives. ``about`` as in ``decide``."""
        with self.call(tool, arguments, **about) as call:
            result = call.result = function(call.arguments)
        return result

    @overload
    def guarded(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def guarded(
        self, function: None = None, /, *, tool: str = "", ignore: Iterable[str] = (), **about: Any
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def guarded(self, function: Any = None, /, *, tool: str = "", ignore: Iterable[str] = (), **about: Any) -> Any:
        """A function that asks before it runs, as ``tool`` (its own name, if not given).

        ``ignore`` names parameters that are no part of the call, such as a client or a context. ``about`` as in
        ``decide``. Redacted arguments take the place of those that were given.
        """

        def wrap(function: Callable[P, R]) -> Callable[P, R]:
            binding = Binding.of(function, tool, ignore)

            @functools.wraps(function)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
                bound = binding.bind(args, kwargs)
                with self.call(binding.tool, bound.shown, **about) as call:
                    positional, named = bound.with_arguments(call.arguments)
                    result = call.result = function(*positional, **named)
                return result

            return guarded

        return wrap if function is None else wrap(function)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _decide_or_wait(self, tool: str, arguments: Mapping[str, Any], about: dict[str, Any]) -> Decision:
        try:
            return self.decide(tool, arguments, **about)
        except Held as held:
            if self.hold_seconds <= 0:
                raise
            return self.wait_for_approval(held, timeout=self.hold_seconds)

    def drive(self, steps: Steps[T]) -> T:
        """Carry out what ``protocol.py`` asks for, within the deadline."""
        until = time.monotonic() + self.deadline
        try:
            command = next(steps)
            while True:
                try:
                    value = command.function() if isinstance(command, Ask) else self._send(command, until)
                except Exception as error:
                    command = steps.throw(error)
                else:
                    command = steps.send(value)
        except StopIteration as stop:
            outcome: T = stop.value
            return outcome
        finally:
            steps.close()

    def _send(self, request: Request, until: float) -> Response:
        for is_last in (False, True):
            left = until - time.monotonic()
            if left <= 0:
                raise NoAnswer("it took too long", is_timeout=True)
            try:
                with self._http.stream(**transport.arguments(request, left)) as response:
                    body = transport.Body()
                    for part in response.iter_bytes():
                        body.add(part)
                        if time.monotonic() > until:
                            raise NoAnswer("it took too long", is_timeout=True)
                    return Response(response.status_code, body.whole())
            except httpx.ConnectError as error:
                # Never sent, so it may be tried again: a worker that is being replaced is back at once.
                if is_last:
                    raise transport.no_answer(error) from error
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                raise transport.no_answer(error) from error
        raise AssertionError
