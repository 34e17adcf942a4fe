"""Python values as JSON values: what the guard is shown of arguments and results.

``arguments_of`` refuses what it cannot show: a value that nobody judged must not go out. ``result_of`` shows what the
agent will read, by ``str`` if need be.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

LARGEST_RESULT: Final = 512 * 1024
"""Bytes of one result that the gateway keeps; a larger one is told as ``null``."""
_DEEPEST: Final = 64


def plain(value: Any, *, where: str = "value", depth: int = 0) -> Any:
    """``value`` as JSON has it. Raises ``TypeError`` for what has no form in JSON."""
    if depth > _DEEPEST:
        raise TypeError(f"{where} is nested too deeply to be shown to the guard.")
    if isinstance(value, enum.Enum):
        return plain(value.value, where=where, depth=depth + 1)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where} is {value}, which JSON cannot say.")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where} has keys that are no strings.")
        return {key: plain(each, where=f"{where}.{key}", depth=depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each, where=f"{where}[{i}]", depth=depth + 1) for i, each in enumerate(value)]
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, (UUID, PurePath, Decimal)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return plain(fields, where=where, depth=depth + 1)
    dump = getattr(value, "model_dump", None)  # pydantic
    if callable(dump) and not isinstance(value, type):
        return plain(dump(mode="json"), where=where, depth=depth + 1)
    raise TypeError(f"{where} is a {type(value).__name__}, which cannot be shown to the guard. Pass plain values.")


def arguments_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they are judged. Raises ``TypeError`` that names what cannot be shown."""
    value = plain(arguments, where="arguments")
    assert isinstance(value, dict)
    return value


def result_of(value: Any) -> Any:
    """A result as it is told; None if it is larger than the gateway keeps or cannot be shown at all."""
    try:
        told = plain(value, where="result")
    except Exception:  # whatever an object of others raises: then it is told as the text that agents get to read
        try:
            told = str(value)
        except Exception:
            return None
    try:
        size = len(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode())
    except (ValueError, RecursionError):
        return None
    return told if size <= LARGEST_RESULT else None
