"""KQL: what does this query mean?

``compile`` takes query text, the tables there are and what the asker may see, and gives SQL, its parameters and the
result's columns: text → tokens → syntax tree → bound operators → SQL, a stage a file. Nothing here does I/O, knows
which tables exist or runs anything; above is whoever executes. The package could ship alone.

A query never means something silently different: what is not supported is refused by name, with its place.
"""

from __future__ import annotations

from datetime import UTC, datetime

from watchfloor.kql.errors import KqlError, Span
from watchfloor.kql.parser import parse
from watchfloor.kql.resolve import resolve
from watchfloor.kql.schema import Column, Schema, Scope, TableSchema
from watchfloor.kql.sqlgen import Compiled, generate

__all__ = ["Column", "Compiled", "KqlError", "Schema", "Scope", "TableSchema", "compile"]


def compile(
    kql: str, schema: Schema, scope: Scope, *, now: datetime | None = None, dialect: str = "duckdb"
) -> Compiled:
    """``kql`` as SQL. ``now`` is the one instant that ``now()`` and ``ago()`` mean throughout the query.

    Raises ``KqlError`` for whatever cannot be answered exactly.
    """
    try:
        return generate(resolve(parse(kql), schema, scope, now or datetime.now(UTC)), dialect)
    except RecursionError:
        # The caps of the parser leave room; a caller that is itself deep in the stack may have used it up.
        raise KqlError("The query is nested too deeply.", Span(0, 0)).locate(kql) from None
