"""Relations of the ``ir`` to SQL: a chain of common table expressions, each a SELECT over those before it.

Relations are read from the inside out: first the source, then what stands above it. What each becomes is said in
``sources``, ``pipes``, ``windows``, ``groups``, ``joins`` and ``lists``, how the chain is printed in ``steps``.

The order of rows is kept beside them, not in them: the keys of the last sort, and ``arrival``, columns that tell which
row came first where the source has an order. It is printed where it counts: at limits, windows, lists and the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from watchfloor.kql import ir
from watchfloor.kql.sql.dialect import Dialect
from watchfloor.kql.sql.joins import Joins
from watchfloor.kql.sql.lists import Lists
from watchfloor.kql.sql.scalars import name_of
from watchfloor.kql.sql.sources import Sources
from watchfloor.kql.sql.steps import Rows


class Relations(Sources, Joins, Lists):
    """Prints the relations of one query."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(dialect)
        self._handlers: dict[type, Callable[[Rows, Any], Rows]] = {
            ir.Filter: self._filter,
            ir.Compute: self._compute,
            ir.Group: self._group,
            ir.Order: self._order,
            ir.Serial: self._serial,
            ir.Limit: self._limit,
            ir.Sample: self._sample,
            ir.Expand: self._expand,
            ir.Numbered: self._number,
        }
        self._sources: dict[type, Callable[[Any], Rows]] = {
            ir.Scan: self._scan,
            ir.Values: self._values,
            ir.Numbers: self._numbers_of,
            ir.Join: self._join,
            ir.Union: self._union,
            ir.Use: self._use,
            ir.Routine: self._routine,
        }

    def query(self, relation: ir.Relation, columns: Sequence[ir.BoundColumn]) -> str:
        """The SQL of a result with ``columns``, in the order of the rows."""
        rows = self.rows(relation)
        keys = rows.keys
        arm = rows.arm
        names = [name_of(c) for c in columns]
        if arm.order and keys and arm.order.startswith(self._ordering(rows, arm)):
            keys = ()
        elif keys and (arm.is_closed or arm.tail or not self._is_ready(rows, [k.name for k in keys])):
            rows = self._closed(rows)
            arm = rows.arm
        if len(set(names)) < len(names) or (arm.order and keys) or not names:
            arm = self._over(self._close(arm))
        outputs: list[tuple[str, str]] = []
        for number, name in enumerate(names):
            outputs.append((name, name if name not in names[:number] else f"x{next(self._numbers)}"))
        if keys:
            arm.order = self._ordering(replace(rows, arm=arm), arm)
        return self._printed(arm, outputs)

    def rows(self, relation: ir.Relation) -> Rows:
        """The rows of ``relation``."""
        above: list[ir.Relation] = []
        while type(relation) in self._handlers:
            above.append(relation)
            (relation,) = ir.inputs(relation)
        source = self._sources.get(type(relation))
        if source is None:
            raise self.dialect.lacks(type(relation).__name__)
        rows = source(relation)
        for step in reversed(above):
            rows = self._handlers[type(step)](rows, step)
        return rows
