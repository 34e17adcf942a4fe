"""What the JSON forms of spans have in common: fields of an unchecked JSON object as the parts of a span.

Above are ``otlp_json`` (OTLP/JSON), ``a365`` (Agent 365's own form) and ``events_json``. Every function here raises
``Wrong`` with what to mend; the caller makes a ``Reject`` of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import orjson

from watchfloor.gateway.telemetry.spans import Decoded, Reject, Span, SpanEvent, Unreadable

_HEX: Final = {16: re.compile(r"[0-9a-fA-F]{16}"), 32: re.compile(r"[0-9a-fA-F]{32}")}
_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_MAX_NANOS: Final = 2**63 - 1

Attributes = Callable[[Any, str], dict[str, Any]]
"""How a form writes attributes: from the JSON value and its name to plain values. Raises ``Wrong``."""


class Wrong(Exception):
    """A part of a span is not what it should be. The text says which, and what to mend."""


def parse(body: bytes) -> dict[str, Any]:
    """``body`` as an object. Raises ``Unreadable``."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = _with_no_numbers(body)
        if value is None:
            raise Unreadable(f"The body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Unreadable("The body must be a JSON object.")
    return value


def _with_no_numbers(body: bytes) -> Any:
    """``body`` with NaN and Infinity, as Python's own encoder writes them, as texts; None if that is not all."""
    if b"NaN" not in body and b"Infinity" not in body:
        return None
    try:
        return json.loads(body, parse_constant=str)
    except (ValueError, RecursionError):
        return None


def traces(body: bytes, attributes: Attributes) -> Decoded:
    """The spans of ``{"resourceSpans": [{"resource", "scopeSpans": [{"scope", "spans": […]}]}]}``."""
    whole = parse(body)
    found = Decoded()
    if "resourceSpans" not in whole:
        raise Unreadable("The body has no resourceSpans.")
    for r, by_resource in enumerate(_list(whole, "resourceSpans", "", found)):
        at = f"resourceSpans[{r}]"
        if not isinstance(by_resource, dict):
            found.rejects.append(Reject(at, "It must be an object.", by_resource))
            continue
        resource = _guarded(partial(_resource, by_resource, attributes)) or {}
        for s, by_scope in enumerate(_list(by_resource, "scopeSpans", at, found)):
            inner = f"{at}.scopeSpans[{s}]"
            if not isinstance(by_scope, dict):
                found.rejects.append(Reject(inner, "It must be an object.", by_scope))
                continue
            make = partial(
                span, attributes=attributes, resource=resource, scope=_guarded(partial(_scope, by_scope)) or ""
            )
            for n, item in enumerate(_list(by_scope, "spans", inner, found)):
                add(found, item, f"{inner}.spans[{n}]", make)
    return found


def _resource(of: Mapping[str, Any], attributes: Attributes) -> dict[str, Any]:
    return attributes(_object(of, "resource").get("attributes"), "attributes")


def _scope(of: Mapping[str, Any]) -> str:
    return text(_object(of, "scope"), "name")


def add(found: Decoded, item: Any, place: str, make: Callable[[dict[str, Any]], Span]) -> None:
    """The span that ``item`` is, or why it is none."""
    try:
        if not isinstance(item, dict):
            raise Wrong("A span must be an object.")
        found.spans.append(make(item))
    except Wrong as error:
        of = item if isinstance(item, dict) else {}
        trace_id, span_id = (str(of.get(name, ""))[:64] for name in ("traceId", "spanId"))
        found.rejects.append(Reject(place, str(error), item, trace_id, span_id, _size(item)))


def span(item: Mapping[str, Any], attributes: Attributes, resource: Mapping[str, Any], scope: str) -> Span:
    """One span. Raises ``Wrong``."""
    status = _object(item, "status")
    return Span(
        _id(item, "traceId", 32),
        _id(item, "spanId", 16),
        text(item, "name"),
        nanos(item, "startTimeUnixNano"),
        nanos(item, "endTimeUnixNano"),
        _id(item, "parentSpanId", 16, is_optional=True),
        _word(item.get("kind"), "kind", _KINDS, "SPAN_KIND_"),
        attributes(item.get("attributes"), "attributes"),
        resource,
        scope,
        _word(status.get("code"), "status.code", _STATUSES, "STATUS_CODE_"),
        text(status, "message"),
        [
            SpanEvent(text(e, "name"), nanos(e, "timeUnixNano"), attributes(e.get("attributes"), "attributes"))
            for e in _objects(item, "events")
        ],
        [
            {
                "traceId": text(link, "traceId"),
                "spanId": text(link, "spanId"),
                "attributes": attributes(link.get("attributes"), "attributes"),
            }
            for link in _objects(item, "links")
        ],
    )


def text(of: Mapping[str, Any], name: str) -> str:
    """A text, '' where there is none."""
    value = of.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Wrong(f"{name} must be a string.")
    return value


def nanos(of: Mapping[str, Any], name: str) -> int:
    """Unix nanoseconds, a number or (as JSON has no such numbers) a text; 0 where there are none."""
    value = of.get(name)
    if value is None:
        return 0
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_NANOS:
        raise Wrong(f"{name} must be Unix nanoseconds.")
    return value


def _id(of: Mapping[str, Any], name: str, digits: int, *, is_optional: bool = False) -> str:
    value = of.get(name)
    if is_optional and (value is None or value == ""):
        return ""
    if not isinstance(value, str) or not _HEX[digits].fullmatch(value):
        raise Wrong(f"{name} must be {digits} hexadecimal digits.")
    if not value.strip("0"):
        if is_optional:
            return ""
        raise Wrong(f"{name} must not be all zero.")
    return value.lower()


def _word(value: Any, name: str, words: Sequence[str], prefix: str) -> str:
    """A member of an enumeration, by number or by name."""
    if value is None:
        return words[0]
    if isinstance(value, int) and not isinstance(value, bool):
        return words[value] if 0 <= value < len(words) else words[0]
    if isinstance(value, str):
        word = value.removeprefix(prefix).lower()
        if word.isdigit() and int(word) < len(words):
            return words[int(word)]
        return word if word in words else words[0]
    raise Wrong(f"{name} must be a number or a name.")


def _object(of: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = of.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Wrong(f"{name} must be an object.")
    return value


def _objects(of: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = of.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Wrong(f"{name} must be a list of objects.")
    return value


def _list(of: Mapping[str, Any], name: str, at: str, found: Decoded) -> list[Any]:
    value = of.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        found.rejects.append(Reject(f"{at}.{name}".lstrip("."), "It must be a list.", value, size=_size(value)))
        return []
    return value


def _guarded(read: Callable[[], Any]) -> Any:
    """What spans have around them must not take them along: without it they are still spans."""
    try:
        return read()
    except Wrong:
        return None


def _size(value: Any) -> int:
    return len(orjson.dumps(value))
