"""OTLP in JSON: the same request as in protobuf, by the JSON mapping of OTLP.

Ids are hexadecimal, 64-bit integers are numbers or texts, enumerations numbers, attributes a list of
``{"key", "value": {"stringValue" | "boolValue" | "intValue" | "doubleValue" | "arrayValue" | "kvlistValue" |
"bytesValue"}}`` (OTLP specification, "JSON Protobuf Encoding").
"""

from __future__ import annotations

from typing import Any, Final

from watchfloor.gateway.telemetry.json_spans import Wrong, traces
from watchfloor.gateway.telemetry.spans import Decoded

_MAX_DEPTH: Final = 32


def decode(body: bytes) -> Decoded:
    """The spans of ``body``. Raises ``Unreadable`` if it is no such request at all."""
    return traces(body, attributes)


def attributes(pairs: Any, name: str) -> dict[str, Any]:
    """A list of keys and values as plain values. Raises ``Wrong``."""
    if pairs is None:
        return {}
    if not isinstance(pairs, list):
        raise Wrong(f"{name} must be a list of keys and values.")
    found = {}
    for pair in pairs:
        if not isinstance(pair, dict) or not isinstance(pair.get("key"), str):
            raise Wrong(f"{name} must be a list of keys and values.")
        found[pair["key"]] = _value(pair.get("value"), 0)
    return found


def _value(value: Any, depth: int) -> Any:
    if value is None or depth > _MAX_DEPTH:
        return None
    if not isinstance(value, dict):
        raise Wrong('A value must be an object such as {"stringValue": …}.')
    for kind, inner in value.items():
        if kind == "intValue":
            return _integer(inner)
        if kind == "doubleValue":
            return _real(inner)
        if kind == "boolValue":
            if not isinstance(inner, bool):
                raise Wrong("boolValue must be true or false.")
            return inner
        if kind in ("stringValue", "bytesValue"):
            if not isinstance(inner, str):
                raise Wrong(f"{kind} must be a string.")
            return inner
        if kind == "arrayValue":
            return [_value(item, depth + 1) for item in _values(inner)]
        if kind == "kvlistValue":
            return {
                str(pair.get("key")): _value(pair.get("value"), depth + 1)
                for pair in _values(inner)
                if isinstance(pair, dict)
            }
    return None


def _values(inner: Any) -> list[Any]:
    values = inner.get("values") if isinstance(inner, dict) else None
    if values is None:
        return []
    if not isinstance(values, list):
        raise Wrong("values must be a list.")
    return values


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.lstrip("-").isdigit() and len(value) <= 20:
        return int(value)
    raise Wrong("intValue must be a whole number.")


def _real(value: Any) -> float | str:
    """JSON has no such numbers: NaN and the infinities come, and stay, as text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        if value in ("NaN", "Infinity", "-Infinity"):
            return value
        try:
            return float(value)
        except ValueError:
            pass
    raise Wrong("doubleValue must be a number.")
