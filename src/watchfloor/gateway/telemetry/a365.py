"""The body that Agent 365's observability SDK sends: shaped like OTLP's JSON, but not the same.

Attributes are plain objects, kinds and status codes are names, times are JSON integers, ``events`` and ``links`` may be
null (measured: microsoft-agents-a365-observability-core 1.0.0 and 2.0.0). What the SDK replaced because a span was too
large says ``TRUNCATED`` itself.
"""

from __future__ import annotations

from typing import Any

from watchfloor.gateway.telemetry.json_spans import Wrong, traces
from watchfloor.gateway.telemetry.spans import Decoded


def decode(body: bytes) -> Decoded:
    """The spans of ``body``. Raises ``Unreadable`` if it is no such request at all."""
    return traces(body, attributes)


def attributes(value: Any, name: str) -> dict[str, Any]:
    """Attributes as they are. Raises ``Wrong``."""
    if value is None or value == "TRUNCATED":
        return {}
    if not isinstance(value, dict):
        raise Wrong(f"{name} must be an object.")
    return value
