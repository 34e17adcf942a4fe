"""What is asked of the gateway and what its answers mean, without any I/O.

Each operation is a generator: it yields a ``Request`` (answered with a ``Response``, or with ``NoAnswer`` thrown in) or
an ``Ask`` (a function of the caller's to be called), and returns its outcome or raises. ``client.py`` drives it with a
blocking client, ``aio.py`` with an asynchronous one, so both decide alike.

INVARIANT: ``decide`` returns only for an answer that says ``allow`` or ``redact`` and is complete, or for a tool that
the caller named as one that only reads and for which nobody answered. Everything else raises.
INVARIANT: what a tool answered and could not be told is told as lost before the next decision of its conversation, so
that no call is judged as if the guard knew everything.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

from watchfloor_sdk.errors import Blocked, Held, Unavailable
from watchfloor_sdk.plain import arguments_of, result_of
from watchfloor_sdk.values import UNTOLD, Call, Decision, Hold

T = TypeVar("T")

STATUSES: Final = frozenset({"ok", "error", "cancelled", "timeout"})
_MOST_TURNS: Final = 64
_MOST_TURN_CHARS: Final = 1_000_000
"""Of all turns sent at once; the newest is sent whatever its length."""
_MOST_HOLDS: Final = 1_000
_TOKEN_IS_OVER: Final = frozenset({"hold_used", "retry_token_invalid"})
_FOR_NOW: Final = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Request:
    """One HTTP request. ``is_repeatable``: made twice it does no more than once."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    is_repeatable: bool = False


@dataclass(frozen=True)
class Response:
    """What came back."""

    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Ask:
    """A function of the caller's, to be called now; where things run asynchronously it may return an awaitable."""

    function: Callable[[], Any] = field(repr=False)


class NoAnswer(Exception):
    """Nothing came back. ``is_timeout``: there is no time left either."""

    def __init__(self, text: str, *, is_timeout: bool = False) -> None:
        self.is_timeout = is_timeout
        super().__init__(text)


Steps = Generator["Request | Ask", Any, T]


class TokenSource(Protocol):
    """Where gateway tokens come from; ``tokens.py`` has the usual ones."""

    def token(self, gateway: str, server: str) -> Steps[str]:
        """A token for this tool server that is good now. Raises ``Unavailable``."""
        ...

    def forget(self, gateway: str, server: str) -> None:
        """The last one was not accepted."""
        ...


class Memory:
    """What outlives one operation, shared by everything that was bound to the same guard. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holds: OrderedDict[tuple[Any, ...], str] = OrderedDict()
        self._untold: dict[tuple[Any, ...], str] = {}

    def keep_hold(self, key: tuple[Any, ...], retry_token: str) -> None:
        """The very same call will be made again."""
        with self._lock:
            self._holds[key] = retry_token
            self._holds.move_to_end(key)
            while len(self._holds) > _MOST_HOLDS:
                self._holds.popitem(last=False)

    def hold(self, key: tuple[Any, ...]) -> str:
        """The retry token of this call, if it is held."""
        with self._lock:
            return self._holds.get(key, "")

    def drop_hold(self, key: tuple[Any, ...]) -> None:
        """It is no longer held."""
        with self._lock:
            self._holds.pop(key, None)

    def lose(self, key: tuple[Any, ...], tool: str) -> None:
        """A result of ``tool`` was not told in this conversation."""
        with self._lock:
            self._untold[key] = tool

    def lost(self, key: tuple[Any, ...]) -> str:
        """The tool whose result was not told here, or an empty string."""
        with self._lock:
            return self._untold.get(key, "")

    def told(self, key: tuple[Any, ...]) -> None:
        """The gateway knows now that it does not know everything."""
        with self._lock:
            self._untold.pop(key, None)


@dataclass(frozen=True)
class Wire:
    """Whom is asked, as whom, and about which tool server. Immutable; ``bound`` makes another that shares memory."""

    gateway: str
    server: str
    tokens: TokenSource = field(repr=False)
    conversation_id: str = ""
    parent_agent: str = ""
    reads: frozenset[str] = frozenset()
    """Tools that only read and run without an answer where nobody gives one."""
    memory: Memory = field(default_factory=Memory, repr=False)

    def __post_init__(self) -> None:
        if not self.gateway.startswith(("http://", "https://")):
            raise ValueError(f"The gateway's address must begin with http:// or https://, not be {self.gateway!r}.")
        if not self.server:
            raise ValueError("Name the tool server as it is registered in Watchfloor: server='mail'.")

    def bound(self, **changes: Any) -> Wire:
        """The same with something else in place; memory stays shared."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    # -- operations -------------------------------------------------------------------------------------------------

    def call(self, tool: str, arguments: Mapping[str, Any], user_turns: Iterable[str] = (), **more: str | None) -> Call:
        """A call as it will be asked about. Raises ``TypeError`` for arguments that cannot be shown."""
        return Call(
            tool,
            arguments_of(arguments),
            conversation_id=_or(more.get("conversation_id"), self.conversation_id),
            user_turns=_newest(user_turns),
            parent_agent=_or(more.get("parent_agent"), self.parent_agent),
            trace_id=more.get("trace_id") or "",
            retry_token=more.get("retry_token") or "",
            server=_or(more.get("server"), self.server),
        )

    def decide(self, call: Call) -> Steps[Decision]:
        """May this call be made? Raises ``Blocked``, ``Held`` or ``Unavailable``: then it must not be."""
        remembered = "" if call.retry_token else self.memory.hold(self._key(call))
        try:
            return (yield from self._decide(call, call.retry_token or remembered))
        except Blocked as blocked:
            if not remembered or blocked.code not in _TOKEN_IS_OVER:
                raise
        # The token was our idea, and the call that it stood for is over: this one is judged as it came.
        return (yield from self._decide(call, ""))

    def _decide(self, call: Call, retry_token: str) -> Steps[Decision]:
        key = self._key(call)
        try:
            yield from self._tell_loss(call.server, call.conversation_id)
            body: dict[str, Any] = {"tool": call.tool, "arguments": call.arguments}
            body |= {"user_turns": list(call.user_turns)} if call.user_turns else {}
            body |= _given(
                conversation_id=call.conversation_id,
                parent_agent=call.parent_agent,
                trace_id=call.trace_id,
                retry_token=retry_token,
            )
            # Not repeated: the first may be on record already, count for a burst, or have used up an approval.
            answer = yield from self._post(call.server, "decide", body, is_repeatable=False)
        except Unavailable as error:
            if error.no_answer and call.tool in self.reads:
                return Decision(call, dict(call.arguments), reasons=("no_answer",), is_fail_open=True)
            raise
        try:
            decision = _decision(call, answer)
        except Held as held:
            self.memory.keep_hold(key, held.hold.retry_token)
            raise
        except Blocked as blocked:
            if not blocked.is_retryable:
                self.memory.drop_hold(key)
            raise
        self.memory.drop_hold(key)
        return decision

    def complete(self, decision: Decision, status: str = "ok", result: Any = UNTOLD) -> Steps[bool]:
        """Tell how an allowed call ended and what it answered; whether it is told. Raises ``ValueError`` only."""
        if status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(sorted(STATUSES))}, not {status!r}.")
        call = decision.call
        where = self._where(call.server, call.conversation_id)
        told = result_of(result) if result is not UNTOLD else None
        body: dict[str, Any] = {"tool": call.tool, **_given(conversation_id=call.conversation_id)}
        if result is not UNTOLD:
            body["result"] = told
        verb, is_told = "observe", False
        if decision.invocation:
            verb, size = "complete", len(_json(told)) if told is not None else 0
            body |= {"invocation": decision.invocation, "status": status, "bytes_out": size}
        elif result is UNTOLD:
            return True
        try:
            # ``recorded: false`` says that another worker decided: that one's record has no end, the result is kept.
            answer = yield from self._post(call.server, verb, body, is_repeatable=True)
            is_told = isinstance(answer.get("recorded"), bool)
        except Unavailable:
            return False
        finally:
            if not is_told and result is not UNTOLD:
                self.memory.lose(where, call.tool)
        return is_told

    def observe(
        self, user_turns: Iterable[str] = (), tool: str = "", result: Any = UNTOLD, **more: str | None
    ) -> Steps[None]:
        """Tell what the user said, and what a tool answered that was not asked about. Raises ``Unavailable``."""
        server = _or(more.get("server"), self.server)
        conversation = _or(more.get("conversation_id"), self.conversation_id)
        body: dict[str, Any] = _given(conversation_id=conversation)
        turns = _newest(user_turns)
        body |= {"user_turns": list(turns)} if turns else {}
        if result is not UNTOLD:
            if not tool:
                raise ValueError("Say which tool gave the result: tool='…'.")
            body |= {"tool": tool, "result": result_of(result)}
        is_told = False
        try:
            answer = yield from self._post(server, "observe", body, is_repeatable=True)
            is_told = answer.get("recorded") is True
        finally:
            if not is_told and result is not UNTOLD:
                self.memory.lose(self._where(server, conversation), tool)
        if not is_told:
            raise _malformed("the gateway did not say that it was told")

    def tools(self, definitions: Sequence[Mapping[str, Any]]) -> Steps[list[Mapping[str, Any]]]:
        """Those of MCP's tool definitions that the agent may see. Raises ``Unavailable``."""
        answer = yield from self._post(self.server, "tools", {"tools": list(definitions)}, is_repeatable=True)
        kept = answer.get("keep")
        if not isinstance(kept, list) or not all(type(i) is int and 0 <= i < len(definitions) for i in kept):
            raise _malformed("the gateway did not say which tools may be seen")
        return [definitions[i] for i in kept]

    # -- parts ------------------------------------------------------------------------------------------------------

    def _where(self, server: str, conversation: str) -> tuple[Any, ...]:
        # Without an id a conversation is one for each sign-in, so it hangs on the token.
        return (self.tokens, server, conversation)

    def _key(self, call: Call) -> tuple[Any, ...]:
        digest = hashlib.sha256(_json(call.arguments, sort=True)).hexdigest()
        return (*self._where(call.server, call.conversation_id), call.tool, digest)

    def _tell_loss(self, server: str, conversation: str) -> Steps[None]:
        where = self._where(server, conversation)
        tool = self.memory.lost(where)
        if tool:
            body = {"tool": tool, "result": None, **_given(conversation_id=conversation)}
            answer = yield from self._post(server, "observe", body, is_repeatable=True)
            if answer.get("recorded") is not True:
                raise _malformed("the gateway did not say that it was told")
            self.memory.told(where)

    def _post(self, server: str, verb: str, body: Mapping[str, Any], *, is_repeatable: bool) -> Steps[dict[str, Any]]:
        data = _json({"server": server, **body})
        url = f"{self.gateway}/guard/v1/{verb}"
        attempts = 2 if is_repeatable else 1
        renewed = False
        while True:
            token = yield from self.tokens.token(self.gateway, server)
            headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            try:
                response = yield Request("POST", url, headers, data, is_repeatable)
            except NoAnswer as error:
                attempts -= 1
                if attempts and not error.is_timeout:
                    continue
                raise Unavailable("no_answer", f"Watchfloor does not answer: {error}.", no_answer=True) from error
            assert isinstance(response, Response)
            if response.status == 401 and not renewed:
                # Nothing was decided; the token may have ended or been revoked.
                renewed = True
                self.tokens.forget(self.gateway, server)
                continue
            if response.status in _FOR_NOW and attempts > 1:
                attempts -= 1
                continue
            return _answer(response)


def _or(value: str | None, otherwise: str) -> str:
    return otherwise if value is None else value


def _given(**members: str) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _json(value: Any, *, sort: bool = False) -> bytes:
    # Half of a surrogate pair, as models write at times, has no UTF-8: JSON's escape says it.
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=sort)
    return text.encode("ascii")


def _newest(turns: Iterable[str]) -> tuple[str, ...]:
    """The newest turns that fit; the gateway remembers those that it was told before."""
    kept: list[str] = []
    left = _MOST_TURN_CHARS
    for turn in reversed([str(turn) for turn in turns if turn]):
        left -= len(turn)
        if len(kept) == _MOST_TURNS or (kept and left < 0):
            break
        kept.append(turn)
    return tuple(reversed(kept))


def _malformed(what: str) -> Unavailable:
    return Unavailable("malformed_answer", f"Watchfloor's answer cannot be used: {what}.")


def _answer(response: Response) -> dict[str, Any]:
    """The body of a good answer. Raises ``Unavailable``."""
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        body = None
    if response.status == 200:
        if not isinstance(body, dict):
            raise _malformed("it is no JSON object")
        return body
    code = body.get("error") if isinstance(body, dict) else None
    text = body.get("error_description") if isinstance(body, dict) else None
    if isinstance(code, str) and code and response.status != 500:
        # The gateway itself said that it does not decide this.
        raise Unavailable(code, text if isinstance(text, str) and text else f"Watchfloor refuses to decide: {code}.")
    raise Unavailable(
        "no_answer",
        f"Watchfloor does not answer: HTTP status {response.status}.",
        no_answer=response.status >= 500,
    )


def _decision(call: Call, answer: Mapping[str, Any]) -> Decision:
    verdict, invocation = answer.get("verdict"), answer.get("invocation")
    reasons = answer.get("reasons", [])
    if not isinstance(invocation, str) or not isinstance(reasons, list) or not all(isinstance(r, str) for r in reasons):
        raise _malformed("it names no decision")
    message = answer.get("message")
    message = message if isinstance(message, str) and message else "The call was refused."
    code = reasons[0] if reasons else "refused"
    if verdict == "block":
        is_retryable = answer.get("retryable") is True
        raise Blocked(code, message, invocation=invocation, is_retryable=is_retryable)
    if verdict == "hold":
        raise Held(code, message, invocation=invocation, hold=_hold(answer.get("hold")), call=call)
    if verdict not in ("allow", "redact") or not invocation:
        raise _malformed(f"{verdict!r} is no verdict that it can give")
    if verdict == "allow":
        return Decision(call, dict(call.arguments), invocation, tuple(reasons))
    arguments = answer.get("arguments")
    if not isinstance(arguments, dict):
        raise _malformed("it redacts and gives no arguments")
    return Decision(call, arguments, invocation, tuple(reasons), is_redacted=True)


def _hold(value: Any) -> Hold:
    if not isinstance(value, dict) or not all(
        isinstance(value.get(n), str) and value[n] for n in ("id", "retry_token")
    ):
        raise _malformed("it holds the call and does not name the hold")
    texts = {name: value[name] for name in ("expires_at", "payload_hash") if isinstance(value.get(name), str)}
    after = value.get("retry_after_seconds")
    seconds = float(after) if isinstance(after, (int, float)) and not isinstance(after, bool) else 5.0
    return Hold(value["id"], value["retry_token"], retry_after_seconds=min(max(seconds, 1.0), 60.0), **texts)
