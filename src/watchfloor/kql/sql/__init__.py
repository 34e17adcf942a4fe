"""From a bound plan to SQL: text, parameters, and what the engine must have to run it.

``relations`` prints rows, ``scalars`` values, a module for each dialect says how (``duckdb``). The text is put together
from templates that were written down; the query adds only numbers, names of columns that are numbers, and parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from watchfloor.kql import ir
from watchfloor.kql.errors import KqlError, Span, nearest
from watchfloor.kql.routines import RoutineRef
from watchfloor.kql.sql.dialect import Dialect
from watchfloor.kql.sql.relations import Relations


@dataclass(frozen=True, slots=True)
class Compiled:
    """SQL with its parameters. ``columns`` are (name, KQL type), in the order of the SQL's columns, whose own names
    mean nothing. ``tables`` are those that it reads, ``routines`` what the engine must be able to call.
    ``needs_budget``: the parameter ``budget`` must hold the token of a budget. ``others`` are further results, each
    with its name."""

    sql: str
    params: Mapping[str, Any]
    columns: tuple[tuple[str, str], ...]
    tables: frozenset[str]
    routines: frozenset[RoutineRef] = frozenset()
    visualization: ir.Visualization | None = None
    others: tuple[tuple[str, Compiled], ...] = ()
    dialect: str = "duckdb"
    needs_budget: bool = False


_PARAMETER: Final = re.compile(r"[${][a-z0-9]+")
_ROUTINE: Final = re.compile(r"kql_\w+")


def _duckdb() -> Dialect:
    from watchfloor.kql.sql.duckdb import DUCKDB

    return DUCKDB


def _clickhouse() -> Dialect:
    from watchfloor.kql.sql.clickhouse import CLICKHOUSE

    return CLICKHOUSE


DIALECTS: Final[Mapping[str, Callable[[], Dialect]]] = {"duckdb": _duckdb, "clickhouse": _clickhouse}


def generate(plan: ir.Plan, dialect: str = "duckdb") -> Compiled:
    """``plan`` in ``dialect``. Raises ``KqlError`` for a dialect that is not known or cannot say it."""
    if dialect not in DIALECTS:
        raise KqlError(
            f"There is no dialect '{dialect}'.", Span(0, 0), remedy=nearest(dialect, DIALECTS), kind="unsupported"
        )
    found = DIALECTS[dialect]()
    others = tuple((name, _result(found, relation, columns)) for name, relation, columns in plan.others)
    return _result(found, plan.relation, plan.columns, plan.visualization, others)


def _result(
    dialect: Dialect,
    relation: ir.Relation,
    columns: tuple[tuple[str, ir.BoundColumn], ...],
    visualization: ir.Visualization | None = None,
    others: tuple[tuple[str, Compiled], ...] = (),
) -> Compiled:
    printer = Relations(dialect)
    sql = printer.query(relation, [column for _, column in columns])
    # What was pruned took its parameters and routines with it.
    mentioned = frozenset(_PARAMETER.findall(sql))
    called = frozenset(_ROUTINE.findall(sql)) if printer.scalars.routines else frozenset()
    return Compiled(
        sql=sql,
        params={
            name: value
            for name, value in printer.scalars.params.items()
            if not mentioned.isdisjoint((f"${name}", f"{{{name}"))
        },
        columns=tuple((name, column.type) for name, column in columns),
        tables=frozenset(printer.tables),
        routines=frozenset(r for r in printer.scalars.routines if r.sql_name in called),
        visualization=visualization,
        others=others,
        dialect=dialect.name,
        needs_budget="$budget" in mentioned,
    )
