"""The process behind ``watchfloor kql batch`` that runs queries, one line at a time.

A JSON string in, a JSON object out. It holds no data and opens no file; whatever happens to it costs one query.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any, Final

from watchfloor.kql import KqlError, Schema
from watchfloor.model.errors import InputError, Unavailable, WatchfloorError
from watchfloor.portal.wire import cell
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.engine import Engine
from watchfloor.storage.hunting import Hunter, Request
from watchfloor.storage.ports import Limits, Scope

_ADDRESS_SPACE: Final = 8 << 30
"""The engine counts its tables and its hash tables, but no texts that a function makes: this stops those."""


def answer(hunter: Hunter, text: str, limits: Limits) -> dict[str, Any]:
    """The answer to one query, or its error."""
    try:
        hunted = hunter.hunt(Request(text, Scope(), limits))
        columns = hunted.columns
        rows = [[cell(v, t) for v, (_, t) in zip(row, columns, strict=True)] for row in hunted.values()]
        return {"columns": [{"name": name, "type": type_} for name, type_ in columns], "rows": rows}
    except WatchfloorError as error:
        cause = error.__cause__
        if isinstance(cause, KqlError):
            message = f"{cause.message} {cause.remedy}".strip()
            return _error(cause.kind, message, cause.line or 1, cause.column or 1)
        kind = "limit" if isinstance(error, Unavailable) else "internal"
        return _error(kind, error.message if isinstance(error, InputError) else str(error))
    except MemoryError:
        return _error("limit", "The query needs more memory than it may have.")
    except Exception as error:  # the batch goes on whatever one query does; the message says where to look
        return _error("internal", f"{type(error).__name__}: {error}"[:500])


def _error(kind: str, message: str, line: int = 1, column: int = 1) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message, "line": line, "column": column}}


def main() -> None:
    """Serve standard input until it ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    limits = Limits(timeout_seconds=float(sys.argv[1]), max_rows=int(sys.argv[2]))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints by itself must not stand between two answers
    hunter = Hunter(Engine(memory_limit="2GiB"), KqlCompiler(schema=Schema({})))
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(hunter, json.loads(line), limits)), file=out, flush=True)
    out.flush()
    os._exit(0)  # the engine's binding complains about its own leftovers otherwise


if __name__ == "__main__":
    main()
