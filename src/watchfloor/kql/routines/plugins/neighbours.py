"""Plugins over rows in their order: rows_near and narrow."""

from __future__ import annotations

from collections.abc import Iterator

from watchfloor.kql.routines.common import Budget, Cells, Spec, Table, routine


@routine("rows_near")
def rows_near(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """The rows that are at most so far before or behind a row whose condition, the last column, is true."""
    rows, condition = tables[0], spec["condition"]
    shown = 0
    for place, cells in enumerate(rows):
        budget.check()
        if cells[condition] is True:
            until = min(len(rows), place + spec["after"] + 1)
            for near in range(max(shown, place - spec["before"]), until):
                yield [cell for column, cell in enumerate(rows[near]) if column != condition]
            shown = max(shown, until)


@routine("narrow")
def narrow(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """A row for each cell: the number of its row, the name of its column, its text."""
    for place, cells in enumerate(tables[0]):
        budget.check()
        for name, cell in zip(spec["names"], cells, strict=True):
            yield [place, name, cell]
