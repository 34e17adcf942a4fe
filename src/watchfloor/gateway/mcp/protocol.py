"""What an MCP message is, whether it may pass at all, and how a refusal looks. Pure: bytes and values, no I/O.

``classify`` turns a parsed body and its routing headers into a ``Message`` or raises ``Rejected``; it knows the two
wire protocols (stateless since 2026-07-28, sessions until 2025-11-25) and the table of methods. Transports beside this
file own the sockets; ``enforce.py`` above the guard decides on calls. Nothing here knows agents, users or policies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from watchfloor.gateway.mcp.headers import Headers, decode_header
from watchfloor.gateway.mcp.rpc import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
    Rejected,
    RequestId,
)

STATELESS_VERSIONS: Final = ("2026-07-28",)
SESSION_VERSIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")

META_PREFIX: Final = "dev.watchfloor/"
"""Keys of ``params._meta`` that are meant for Watchfloor; they never go upstream."""

VERSION_META: Final = "io.modelcontextprotocol/protocolVersion"
PSEUDO_TOOL: Final = "mcp:"
"""Prefix of the names under which methods other than ``tools/call`` are decided on. No tool name holds a colon."""

INPUT_RESPONSES: Final = "mcp:inputResponses"
"""Under this key the answers to a server's questions are judged together with the arguments of the call."""

_NAME_MEMBER: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_MAX_TURNS: Final = 64
_MAX_TEXT: Final = 256


class Era(StrEnum):
    """The two wire protocols."""

    STATELESS = "stateless"
    SESSION = "session"


class Handling(StrEnum):
    """What happens to a message of a known method."""

    FORWARD = "forward"  # goes on once the caller is admitted to the server
    CALL = "call"  # a tool call: decided on
    GOVERNED = "governed"  # touches content: decided on as the tool mcp:<method>, effect read
    LIST = "list"  # goes on; the answer is filtered
    ACCEPT = "accept"  # acknowledged here and dropped


class MessageKind(StrEnum):
    """JSON-RPC's kinds of message that a client may send."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"


_BOTH: Final = frozenset(Era)
_SESSION: Final = frozenset({Era.SESSION})
_STATELESS: Final = frozenset({Era.STATELESS})

REQUESTS: Final[dict[str, tuple[Handling, frozenset[Era]]]] = {
    "tools/call": (Handling.CALL, _BOTH),
    "tools/list": (Handling.LIST, _BOTH),
    "initialize": (Handling.FORWARD, _SESSION),
    "ping": (Handling.FORWARD, _SESSION),
    "logging/setLevel": (Handling.FORWARD, _SESSION),
    "server/discover": (Handling.FORWARD, _STATELESS),
    "subscriptions/listen": (Handling.FORWARD, _STATELESS),  # GOVERNED where it names resources
    "resources/list": (Handling.GOVERNED, _BOTH),
    "resources/templates/list": (Handling.GOVERNED, _BOTH),
    "resources/read": (Handling.GOVERNED, _BOTH),
    "resources/subscribe": (Handling.GOVERNED, _SESSION),
    "resources/unsubscribe": (Handling.FORWARD, _SESSION),
    "prompts/list": (Handling.GOVERNED, _BOTH),
    "prompts/get": (Handling.GOVERNED, _BOTH),
    "completion/complete": (Handling.GOVERNED, _BOTH),
}
"""Requests that a client may send. What is not here is refused: to let a new method pass is a decision."""

NOTIFICATIONS: Final[dict[str, dict[Era, Handling]]] = {
    "notifications/initialized": {Era.SESSION: Handling.FORWARD, Era.STATELESS: Handling.ACCEPT},
    "notifications/cancelled": {Era.SESSION: Handling.FORWARD, Era.STATELESS: Handling.ACCEPT},
    "notifications/progress": {Era.SESSION: Handling.FORWARD, Era.STATELESS: Handling.ACCEPT},
    "notifications/roots/list_changed": {Era.SESSION: Handling.FORWARD, Era.STATELESS: Handling.ACCEPT},
}
"""Notifications that a client may send. The stateless protocol has none: closing the answer is its cancellation."""

_LISTS: Final = {
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
LIST_TOOLS: Final = frozenset(PSEUDO_TOOL + method for method in _LISTS)
"""Under these names lists are decided on."""

_MEMBERS: Final = {
    MessageKind.REQUEST: ("jsonrpc", "id", "method", "params"),
    MessageKind.NOTIFICATION: ("jsonrpc", "method", "params"),
    MessageKind.RESPONSE: ("jsonrpc", "id", "result", "error"),
}
_CALL_PARAMS: Final = frozenset({"name", "arguments", "_meta", "inputResponses", "requestState"})


@dataclass(frozen=True, slots=True)
class Hints:
    """What a caller tells Watchfloor in ``params._meta``. Claims, not proof."""

    user_turns: tuple[str, ...] = ()
    conversation_id: str = ""
    parent_agent: str | None = None
    retry_token: str | None = None


NO_HINTS: Final = Hints()


@dataclass(slots=True)
class Message:
    """One message of a client. ``body`` holds nothing but what JSON-RPC knows and no hints: it is fit to send on."""

    kind: MessageKind
    handling: Handling
    era: Era
    body: dict[str, Any]
    method: str = ""
    id: RequestId = None
    tool: str = ""
    arguments: dict[str, Any] | None = None
    hints: Hints = NO_HINTS

    def with_arguments(self, arguments: Mapping[str, Any]) -> bytes:
        """The body to send on, with what was decided on (perhaps redacted) in its place."""
        params = dict(self.body.get("params") or {})
        if self.handling is Handling.CALL:
            arguments = dict(arguments)
            if INPUT_RESPONSES in arguments:
                params["inputResponses"] = arguments.pop(INPUT_RESPONSES)
            if arguments or "arguments" in params:
                params["arguments"] = arguments
        else:
            meta = params.get("_meta")
            params = dict(arguments)
            if meta is not None:
                params["_meta"] = meta
        return orjson.dumps({**self.body, "params": params})

    def encoded(self) -> bytes:
        """The body to send on as it is: serialised anew, so that what was read is what is sent."""
        return orjson.dumps(self.body)


def parse(raw: bytes) -> Any:
    """The JSON value in ``raw``. Raises ``Rejected`` with JSON-RPC's parse error."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Rejected(PARSE_ERROR, f"The body is not valid JSON: {error}.") from None


def _version(headers: Headers) -> tuple[Era, str | None]:
    version = headers.text(b"mcp-protocol-version")
    if version is None or version in SESSION_VERSIONS:
        return Era.SESSION, version
    if version in STATELESS_VERSIONS:
        return Era.STATELESS, version
    raise Rejected(
        UNSUPPORTED_VERSION,
        "Unsupported protocol version.",
        data={"supported": [*STATELESS_VERSIONS, *SESSION_VERSIONS], "requested": version[:64]},
    )


def era_of(headers: Headers) -> Era:
    """Which protocol a request without a body speaks. Raises ``Rejected``."""
    if headers.duplicated:
        raise Rejected(HEADER_MISMATCH, f"The header {headers.duplicated} appears more than once.")
    return _version(headers)[0]


def _check_routing(headers: Headers, era: Era, version: str | None, method: str, params: Mapping[str, Any]) -> None:
    """Header and body must say the same, in either protocol: whoever routes by one must not be fooled by the other."""
    stated = headers.text(b"mcp-method")
    if stated != method and (stated is not None or era is Era.STATELESS):
        raise Rejected(HEADER_MISMATCH, "The header mcp-method does not match the method in the body.")
    member = _NAME_MEMBER.get(method)
    name = headers.text(b"mcp-name")
    if member is not None and decode_header(name) != params.get(member) and (name is not None or era is Era.STATELESS):
        raise Rejected(HEADER_MISMATCH, f"The header mcp-name does not match {member!r} in the body.")
    if era is Era.STATELESS:
        meta = params.get("_meta")
        in_body = meta.get(VERSION_META) if isinstance(meta, dict) else None
        if in_body != version:
            raise Rejected(
                HEADER_MISMATCH if in_body is not None else INVALID_PARAMS,
                f"The header mcp-protocol-version does not match _meta[{VERSION_META!r}] in the body.",
            )


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise Rejected(INVALID_PARAMS, f"_meta[{key!r}] must be a string of at most {_MAX_TEXT} characters.")
    return value


def take_hints(meta: dict[str, Any]) -> Hints:
    """Remove every ``dev.watchfloor/`` key from ``meta`` and return what they say. Raises ``Rejected``."""
    ours = [key for key in meta if key.startswith(META_PREFIX)]
    if not ours:
        return NO_HINTS
    turns: tuple[str, ...] = ()
    texts: dict[str, str | None] = {"conversation-id": None, "parent-agent": None, "retry-token": None}
    for key in ours:
        value = meta.pop(key)
        name = key.removeprefix(META_PREFIX)
        if name == "user-turns":
            if not isinstance(value, list) or len(value) > _MAX_TURNS or not all(isinstance(t, str) for t in value):
                raise Rejected(INVALID_PARAMS, f"_meta[{key!r}] must be a list of at most {_MAX_TURNS} strings.")
            turns = tuple(value)
        elif name in texts:
            texts[name] = _text(value, key)
        else:
            raise Rejected(INVALID_PARAMS, f"_meta[{key!r}] is not known to Watchfloor; see docs/gateway.md.")
    return Hints(turns, texts["conversation-id"] or "", texts["parent-agent"], texts["retry-token"])


def classify(body: Any, headers: Headers) -> Message:
    """What ``body`` is. Raises ``Rejected`` for everything that is not one message of a method that may pass."""
    if headers.duplicated:
        raise Rejected(HEADER_MISMATCH, f"The header {headers.duplicated} appears more than once.")
    era, version = _version(headers)
    return classify_message(body, era, lambda method, params: _check_routing(headers, era, version, method, params))


def classify_message(
    body: Any, era: Era, check_routing: Callable[[str, Mapping[str, Any]], None] | None = None
) -> Message:
    """``classify`` for a transport without headers (``check_routing`` None) or whose era is known already."""
    if isinstance(body, list):
        raise Rejected(INVALID_REQUEST, "Batches are not accepted: send one message in a request.")
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0":
        raise Rejected(INVALID_REQUEST, "The body must be one JSON-RPC 2.0 message.")
    has_id = "id" in body
    request_id = body.get("id")
    if has_id and (isinstance(request_id, bool) or not isinstance(request_id, str | int)):
        raise Rejected(INVALID_REQUEST, "The id must be a string or an integer.")
    if isinstance(request_id, str) and len(request_id) > _MAX_TEXT:
        raise Rejected(INVALID_REQUEST, f"The id must have at most {_MAX_TEXT} characters.")
    if "method" not in body:
        return _response(body, era, has_id)
    try:
        return _request(body, era, has_id, check_routing)
    except Rejected as rejected:
        if has_id:
            rejected.request_id = request_id
        raise


def _response(body: dict[str, Any], era: Era, has_id: bool) -> Message:
    if era is Era.STATELESS or not has_id or ("result" in body) == ("error" in body):
        raise Rejected(INVALID_REQUEST, "The body must be one JSON-RPC request or notification.")
    kept = {m: body[m] for m in _MEMBERS[MessageKind.RESPONSE] if m in body}
    return Message(MessageKind.RESPONSE, Handling.FORWARD, era, kept, id=body["id"])


def _request(
    body: dict[str, Any], era: Era, has_id: bool, check_routing: Callable[[str, Mapping[str, Any]], None] | None
) -> Message:
    method = body["method"]
    if not isinstance(method, str):
        raise Rejected(INVALID_REQUEST, "The method must be a string.")
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise Rejected(INVALID_PARAMS, "The params must be an object.")
    kind = MessageKind.REQUEST if has_id else MessageKind.NOTIFICATION
    handling = _handling(kind, method, era, params)
    if has_id and check_routing is not None:
        check_routing(method, params)
    hints = NO_HINTS
    if "_meta" in params:
        meta = params["_meta"]
        if not isinstance(meta, dict):
            raise Rejected(INVALID_PARAMS, "params._meta must be an object.")
        hints = take_hints(meta)
    kept = {m: body[m] for m in _MEMBERS[kind] if m in body}
    message = Message(kind, handling, era, kept, method, body.get("id"), hints=hints)
    if handling is Handling.CALL:
        _read_call(message, params)
    elif handling is Handling.GOVERNED:
        message.tool = PSEUDO_TOOL + method
        message.arguments = {k: v for k, v in params.items() if k != "_meta"}
    return message


def _handling(kind: MessageKind, method: str, era: Era, params: Mapping[str, Any]) -> Handling:
    known: Handling | None = None
    if kind is MessageKind.NOTIFICATION:
        known = NOTIFICATIONS.get(method, {}).get(era)
    elif method in REQUESTS and era in REQUESTS[method][1]:
        known = REQUESTS[method][0]
    if known is None:
        raise Rejected(METHOD_NOT_FOUND, f"The method {method[:100]!r} may not pass.", status=404)
    if method == "subscriptions/listen":
        wanted = params.get("notifications")
        if not isinstance(wanted, dict) or any(v for k, v in wanted.items() if not k.endswith("ListChanged")):
            return Handling.GOVERNED
    return known


def _read_call(message: Message, params: Mapping[str, Any]) -> None:
    for member in params:
        if member not in _CALL_PARAMS:
            raise Rejected(INVALID_PARAMS, f"params.{member[:100]} may not pass on a tool call.")
    name = params.get("name")
    if not isinstance(name, str) or not name or len(name) > _MAX_TEXT:
        raise Rejected(INVALID_PARAMS, f"params.name must be a string of 1 to {_MAX_TEXT} characters.")
    if name.startswith(PSEUDO_TOOL):
        raise Rejected(INVALID_PARAMS, f"params.name must not start with {PSEUDO_TOOL!r}.")
    arguments = params.get("arguments")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise Rejected(INVALID_PARAMS, "params.arguments must be an object.")
    if INPUT_RESPONSES in arguments:
        raise Rejected(INVALID_PARAMS, f"params.arguments must not have a member {INPUT_RESPONSES!r}.")
    if params.get("inputResponses") is not None:
        # INVARIANT: everything that reaches the tool is decided on; answers to its questions are input as well.
        arguments = {**arguments, INPUT_RESPONSES: params["inputResponses"]}
    message.tool = name
    message.arguments = arguments


def empty_list(message: Message) -> bytes | None:
    """The answer to a request for a list that says that there is nothing; None for any other message."""
    member = _LISTS.get(message.method)
    if member is None:
        return None
    result: dict[str, Any] = {member: []}
    if message.era is Era.STATELESS:
        result |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    return orjson.dumps({"jsonrpc": "2.0", "id": message.id, "result": result})
