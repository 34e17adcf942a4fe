"""schema_merge: one schema out of several that getschema described."""

from __future__ import annotations

from collections.abc import Iterator

from watchfloor.kql.routines.common import Budget, Cells, Refused, Spec, Table, routine

_OUT_OF_ORDER = "ERROR(columns are out of order)"


@routine("schema_merge")
def schema_merge(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """Each column once: ColumnName, ColumnOrdinal, DataType, ColumnType. A column that only a later schema has stands
    behind the one that it follows there. With ``preserve_order`` a column that stands elsewhere than in the first
    schema that has it is an error in its row, and comes last."""
    first: dict[str, Cells] = {}
    order: list[str] = []
    misplaced: list[str] = []
    cursor = before = -1
    for name, ordinal, data_type, type_ in tables[0]:
        budget.check()
        cursor, before = (-1 if ordinal <= before else cursor), ordinal
        known = first.setdefault(name, [name, ordinal, data_type, type_])
        if known[3] != type_:
            raise Refused(f"schema_merge: the types {known[3]} and {type_} of {name} cannot be merged.")
        if known[1] != ordinal and spec["preserve_order"] and name not in misplaced:
            misplaced.append(name)
        if name not in order:
            order.insert(cursor + 1, name)
        cursor = order.index(name)
    placed = [name for name in order if name not in misplaced]
    for place, name in enumerate(placed):
        yield [name, place, *first[name][2:]]
    for name in misplaced:
        yield [name, -1, f"ERROR(unknown CSL type:{_OUT_OF_ORDER})", _OUT_OF_ORDER]
