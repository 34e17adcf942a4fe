"""A stdio MCP server, guarded where it stands: ``watchfloor mcp wrap -- CMD``.

``Relay`` sits between a client and the server it started: lines of JSON-RPC in, lines out, calls only after the gateway
has said yes. It asks through a ``Guard`` and fails closed when that does not answer in time. Processes, pipes and
signals are ``wrap.py``'s business; what a message is, ``protocol.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from watchfloor.gateway.mcp import protocol, rpc
from watchfloor.gateway.mcp.protocol import Era, Handling, Message, MessageKind
from watchfloor.gateway.mcp.rpc import Rejected, RequestId

_LOG: Final = logging.getLogger(__name__)
_MAX_OPEN: Final = 1000
"""Requests of the client that may be open at once."""

_STATE_CODES: Final = frozenset({"state_stale", "not_recorded", "policy_error"})


@dataclass(frozen=True, slots=True)
class Decision:
    """The gateway's answer. ``arguments`` are set where they were redacted; ``data`` is for the client."""

    is_allowed: bool
    invocation: str = ""
    arguments: dict[str, Any] | None = None
    code: int = rpc.BLOCKED
    message: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    judges_result: bool = False
    """Whether what the call gives back may be passed on only as ``complete`` says."""


class GuardFailed(Exception):
    """The gateway did not decide: whatever was asked must not happen. The text is fit to show to the client."""

    def __init__(self, message: str, code: str = "state_stale") -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Passed:
    """``value`` in place of what a tool answered; ``error`` where nothing of it may be passed on."""

    value: Any = None
    error: dict[str, Any] | None = None


class Guard(Protocol):
    """Asks the gateway. Every method raises ``GuardFailed`` when there is no answer in time."""

    async def decide(self, message: Message) -> Decision:
        """May this call go out?"""
        ...

    async def shown(self, tools: list[Any]) -> list[Any]:
        """The tools that the agent may see."""
        ...

    async def complete(self, invocation: str, status: str, size: int, result: Any) -> Passed | None:
        """How an allowed call ended, and what it answered: the result, or the error. What may be passed on instead of
        that; None: just that."""
        ...


def decision_of(answer: Any) -> Decision:
    """The decision in an answer of ``/guard/v1/decide``. Raises ``GuardFailed`` unless it is a whole one."""
    if not isinstance(answer, dict) or not isinstance(answer.get("invocation"), str):
        raise GuardFailed("The gateway gave no decision.")
    verdict, invocation = answer.get("verdict"), answer["invocation"]
    judges = answer.get("judges_result") is True
    if verdict == "allow":
        return Decision(True, invocation, judges_result=judges)
    if verdict == "redact" and isinstance(answer.get("arguments"), dict):
        return Decision(True, invocation, answer["arguments"], judges_result=judges)
    reasons = answer.get("reasons")
    reason = reasons[0] if isinstance(reasons, list) and reasons else "internal_error"
    data = {"code": reason, "retryable": answer.get("retryable") is True, "invocation": invocation}
    code = rpc.STATE_UNAVAILABLE if reason in _STATE_CODES else rpc.BLOCKED
    if verdict == "hold" and isinstance(answer.get("hold"), dict):
        data["hold"] = answer["hold"]
        code = rpc.HELD
    return Decision(False, invocation, None, code, str(answer.get("message", "")), data)


class Relay:
    """Between client and server. ``to_client`` and ``to_server`` take one line without its end."""

    def __init__(
        self,
        guard: Guard,
        to_client: Callable[[bytes], Awaitable[None]],
        to_server: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._guard, self._to_client, self._to_server = guard, to_client, to_server
        self._open: dict[RequestId, str] = {}
        """Requests of the client that the server has not answered: id -> invocation, or nothing."""
        self._asking: dict[RequestId, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- client to server -----------------------------------------------------------------------------------------

    async def from_client(self, line: bytes) -> None:
        """One line of the client."""
        if not line.strip():
            return
        try:
            body = protocol.parse(line)
            message = protocol.classify_message(body, _era(body))
            if message.kind is MessageKind.REQUEST:
                self._take(message)
        except Rejected as rejected:
            if rejected.request_id is not None or not _is_notification(line):
                await self._fail(rejected.request_id, rejected.code, rejected.message, rejected.data)
            return
        if message.handling in (Handling.CALL, Handling.GOVERNED):
            self._asking[message.id] = self._start(self._ask(message))
            return
        if message.method == "notifications/cancelled":
            self._cancel(message)
        await self._to_server(message.encoded())

    def _take(self, message: Message) -> None:
        # INVARIANT: one open request an id. Two would let the answer of one pass as the answer of the other.
        if message.id in self._open or message.id in self._asking:
            raise Rejected(rpc.INVALID_REQUEST, "A request with this id is still open.", request_id=message.id)
        if len(self._open) >= _MAX_OPEN:
            raise Rejected(rpc.INVALID_REQUEST, "Too many requests are open.", request_id=message.id)
        self._open[message.id] = ""

    async def _ask(self, message: Message) -> None:
        try:
            decision = await self._guard.decide(message)
        except GuardFailed as error:
            decision = Decision(
                False,
                code=rpc.STATE_UNAVAILABLE,
                message=str(error),
                data={"code": error.code, "retryable": True},
            )
        finally:
            self._asking.pop(message.id, None)
        if not decision.is_allowed:
            self._open.pop(message.id, None)
            nothing = protocol.empty_list(message)
            if nothing is not None and decision.data.get("code") == "not_granted":
                await self._to_client(nothing)
                return
            await self._fail(message.id, decision.code, decision.message, decision.data)
            return
        self._open[message.id] = decision.invocation
        arguments = decision.arguments if decision.arguments is not None else message.arguments or {}
        await self._to_server(message.with_arguments(arguments))

    def _cancel(self, message: Message) -> None:
        """A call that is still being asked about is simply never made."""
        params = message.body.get("params")
        request_id = params.get("requestId") if isinstance(params, dict) else None
        if isinstance(request_id, str | int) and not isinstance(request_id, bool):
            asking = self._asking.pop(request_id, None)
            if asking is not None:
                asking.cancel()
                self._open.pop(request_id, None)

    # -- server to client -----------------------------------------------------------------------------------------

    async def from_server(self, line: bytes) -> None:
        """One line of the server."""
        if not line.strip():
            return
        try:
            body = orjson.loads(line)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            _LOG.warning("the server wrote a line that is no JSON-RPC message; it was dropped")
            return
        if "method" in body:
            await self._to_client(orjson.dumps(body))
            return
        request_id = body.get("id")
        known = isinstance(request_id, str | int) and not isinstance(request_id, bool) and request_id in self._open
        if not known:
            _LOG.warning("the server answered what nobody asked; the answer was dropped")
            return
        invocation = self._open.pop(request_id)
        if invocation:
            self._start(self._answer(invocation, body, len(line)))
        else:
            await self._pass_on(body)

    async def _pass_on(self, body: dict[str, Any]) -> None:
        result = body.get("result")
        if isinstance(result, dict) and isinstance(result.get("tools"), list):
            self._start(self._show(body, result))
        else:
            await self._to_client(orjson.dumps(body))

    async def _answer(self, invocation: str, body: dict[str, Any], size: int) -> None:
        """Tell the gateway first: what the client does with the answer is judged by what is known of it."""
        member = "result" if "result" in body else "error"
        passed = await self._guard.complete(invocation, _status(body), size, body.get(member))
        if passed is not None:
            kept = {name: value for name, value in body.items() if name not in ("result", "error")}
            body = kept | ({"error": passed.error} if passed.error is not None else {member: passed.value})
        await self._pass_on(body)

    async def _show(self, body: dict[str, Any], result: dict[str, Any]) -> None:
        try:
            result["tools"] = await self._guard.shown(result["tools"])
        except GuardFailed as error:
            data = {"code": error.code, "retryable": True}
            await self._fail(body["id"], rpc.STATE_UNAVAILABLE, str(error), data)
            return
        await self._to_client(orjson.dumps(body))

    # -- inside ---------------------------------------------------------------------------------------------------

    async def _fail(self, request_id: RequestId, code: int, message: str, data: Any = None) -> None:
        await self._to_client(rpc.error_body(request_id, code, message, data))

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a message was lost: %s", error)

    async def settle(self, seconds: float) -> None:
        """Wait until everything that was begun has ended, but no longer than that."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()


def _era(body: Any) -> Era:
    params = body.get("params") if isinstance(body, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    version = meta.get(protocol.VERSION_META) if isinstance(meta, dict) else None
    return Era.STATELESS if version in protocol.STATELESS_VERSIONS else Era.SESSION


def _is_notification(line: bytes) -> bool:
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and "id" not in body and "method" in body


def _status(body: dict[str, Any]) -> str:
    result = body.get("result")
    failed = "error" in body or (isinstance(result, dict) and result.get("isError") is True)
    return "error" if failed else "ok"
