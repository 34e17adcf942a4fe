"""KQL: what does this query mean?

``compile`` takes query text, the tables there are and what the asker may see, and gives SQL, its parameters and the
result's columns: text → tokens → syntax tree → bound relations → SQL, a stage a file. Nothing here does I/O, knows
which tables exist or runs anything; above is whoever executes. The package could ship alone.

A query never means something silently different: what is not supported is refused by name, with its place.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from watchfloor.kql.errors import KqlError, Span
from watchfloor.kql.schema import Column, NamedList, Schema, Scope, TableSchema
from watchfloor.kql.values import UNIX_EPOCH

if TYPE_CHECKING:
    from watchfloor.kql import ast, ir
    from watchfloor.kql.routines import RoutineRef
    from watchfloor.kql.sql import Compiled

__all__ = [
    "Column",
    "Compiled",
    "KqlError",
    "NamedList",
    "Pending",
    "RoutineRef",
    "Schema",
    "Scope",
    "Span",
    "TableSchema",
    "analyze",
    "compile",
    "masked",
    "parse",
]


@dataclass(frozen=True, slots=True)
class Pending:
    """A query whose columns depend on data. Run ``compiled``, put its rows (values as in ``values.py``) into
    ``answers`` under ``key``, and compile the query again."""

    key: str
    compiled: Compiled


def parse(text: str) -> ast.Query:
    """The syntax tree of ``text``. Raises ``KqlError``."""
    from watchfloor.kql.parser import parse as parsed

    return parsed(text)


def analyze(
    text: str,
    schema: Schema,
    scope: Scope,
    *,
    now: int | None = None,
    answers: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> ir.Plan | ir.Question:
    """What ``text`` means for an asker who sees ``scope`` of ``schema``.

    ``now`` is the one instant, in ticks, that now() and ago() mean throughout the query. ``parameters`` are the values
    of declared query parameters. Raises ``KqlError``, with its line and column.
    """
    from watchfloor.kql.bind import bind

    try:
        return bind(
            parse(text),
            schema,
            scope,
            now=_clock() if now is None else now,
            answers=answers or {},
            parameters=parameters or {},
        )
    except KqlError as error:
        raise error.locate(text) from None


def compile(
    text: str,
    schema: Schema,
    scope: Scope,
    *,
    now: int | None = None,
    dialect: str = "duckdb",
    answers: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Compiled | Pending:
    """``text`` as SQL, or what must be asked first. See ``analyze``.

    Raises ``KqlError`` for whatever cannot be answered exactly.
    """
    from watchfloor.kql import ir
    from watchfloor.kql.sql import generate

    found = analyze(text, schema, scope, now=now, answers=answers, parameters=parameters)
    try:
        if isinstance(found, ir.Question):
            return Pending(found.key, generate(found.plan, dialect))
        return generate(found, dialect)
    except KqlError as error:
        raise error.locate(text) from None
    except RecursionError:
        # The caps of the binder leave room; a caller that is itself deep in the stack may have used it up.
        raise KqlError("The query is nested too deeply.", Span(0, 0), kind="limit").locate(text) from None


def _clock() -> int:
    return UNIX_EPOCH + time.time_ns() // 100


def __getattr__(name: str) -> Any:
    if name == "Compiled":
        from watchfloor.kql.sql import Compiled

        return Compiled
    if name == "RoutineRef":
        from watchfloor.kql.routines import RoutineRef

        return RoutineRef
    raise AttributeError(name)


def masked(text: str) -> str:
    """``text`` with the strings masked that its author marked as secret (``h"..."``), for logs.

    Text that is no KQL is masked from the first such mark that is not understood.
    """
    from watchfloor.kql.lexer import scan

    tokens, errors = scan(text)
    found: list[str] = []
    place = 0
    for is_text, group in groupby(tokens[:-1], key=lambda token: token.type == "string"):
        run = list(group)  # adjacent strings are one
        if is_text and any(token.text[0] in "hH" for token in run):
            found += [text[place : run[0].start], 'h"***"']
            place = run[-1].end
    end = max(place, tokens[-1].start - 1) if errors else tokens[-1].start
    rest = text[end:]
    mark = re.search(r"[hH]@?[\"'`~]", rest)
    return "".join(found) + text[place:end] + (rest if mark is None else rest[: mark.start()] + 'h"***"')
