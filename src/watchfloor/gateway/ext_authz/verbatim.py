"""Bodies that go on as they came: is there only one way to read this one? Pure.

Elsewhere the gateway writes a request anew from what it has judged. Envoy sends on the bytes that the caller sent, and
the tool server reads them with a parser of its own. So a body passes only if no common parser can find anything else in
it: no doubled keys (which one counts differs), no keys that differ in case alone (some parsers do not tell them apart),
no numbers that some cannot hold, nothing but UTF-8, and no members beside those that were judged.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

from watchfloor.gateway.mcp import protocol
from watchfloor.gateway.mcp.headers import Headers
from watchfloor.gateway.mcp.protocol import META_PREFIX, Message
from watchfloor.gateway.mcp.rpc import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, Rejected

_MAX_INTEGER: Final = 2**63 - 1


def read(raw: bytes, headers: Headers) -> Message:
    """The one message in ``raw``. Raises ``Rejected`` for what ``protocol.classify`` rejects, and for the ambiguous."""
    _check_headers(headers)
    body = protocol.parse(raw)
    try:
        again = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise Rejected(PARSE_ERROR, "The body is not UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise Rejected(PARSE_ERROR, f"The body is not valid JSON: {error}.") from None
    if again != body or not _is_plain(again):
        raise Rejected(INVALID_REQUEST, "The body holds a number that not every parser reads alike.")
    members = set(body) if isinstance(body, dict) else set()
    params = body.get("params") if isinstance(body, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    if isinstance(meta, dict) and any(key.lower().startswith(META_PREFIX) for key in meta):
        raise Rejected(
            INVALID_PARAMS,
            f"_meta cannot hold {META_PREFIX}… here: it would reach the tool server. Use the headers watchfloor-….",
        )
    message = protocol.classify(body, headers)
    if more := members - set(message.body):
        raise Rejected(INVALID_REQUEST, f"The member {min(more)[:100]!r} may not stand in this message.")
    return message


def _check_headers(headers: Headers) -> None:
    kind, _, parameters = (headers.text(b"content-type") or "").partition(";")
    if kind.strip().lower() != "application/json":
        raise Rejected(INVALID_REQUEST, "The content-type must be application/json.", status=415)
    if parameters.replace(" ", "").replace('"', "").lower() not in ("", "charset=utf-8"):
        raise Rejected(INVALID_REQUEST, "The content-type may say charset=utf-8 and nothing else.", status=415)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len({key.casefold() for key in value}) != len(pairs):
        keys = [key.casefold() for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Rejected(
            INVALID_REQUEST, f"The key {twice[:100]!r} appears more than once in an object, in some spelling."
        )
    return value


def _no_number(text: str) -> NoReturn:
    raise Rejected(PARSE_ERROR, f"The body is not valid JSON: {text} is no number.")


def _is_plain(value: Any) -> bool:
    """Whether every integer in ``value`` fits 64 bits, and every other number is finite."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, int):
            if not -_MAX_INTEGER <= each <= _MAX_INTEGER:
                return False
        elif isinstance(each, float) and not math.isfinite(each):
            return False
    return True
