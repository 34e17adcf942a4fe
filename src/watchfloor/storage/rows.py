"""Rows of an event table and the two shapes of a batch of them.

A *typed* batch has the table's columns. A *packed* one has a single column of rows as JSON: making a typed batch costs
about as much for two rows as for two hundred, so a worker with little to ship packs, and whoever reads many batches
unpacks them together. Both say the same; a row is checked in the same way before either. Above are the spool, which
makes batches, and the event store, which takes them in; the log between them carries either as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, cast

import orjson
import pyarrow as pa

from watchfloor.model.errors import InputError
from watchfloor.storage.tables import Table

REQUIRED: Final = ("Timestamp", "TenantId", "ReportId")
PACKED_BELOW: Final = 64
"""Fewer rows than this are packed."""

_LONG: Final = (-(2**63), 2**63 - 1)
_CHECKS: Final[dict[str, tuple[type, tuple[int, int] | None]]] = {
    "string": (str, None),
    "dynamic": (str, None),
    "guid": (str, None),
    "bool": (bool, None),
    "real": (float, None),
    "long": (int, _LONG),
    "datetime": (int, _LONG),
    "int": (int, (-(2**31), 2**31 - 1)),
}
_EXACT_IN_REAL: Final = 2**53


class Rows:
    """Makes batches of rows that came as JSON, for one table."""

    def __init__(self, table: Table) -> None:
        self.schema = table.schema
        self.packed_schema = pa.schema([("row", pa.binary())], metadata={"table": table.name, "packed": "1"})
        self._checks: dict[str, tuple[Any, tuple[int, int] | None]] = {c.name: _CHECKS[c.type] for c in table.columns}

    def fault(self, row: object) -> str:
        """Why ``row`` cannot be part of a batch; empty if it can."""
        if not isinstance(row, dict):
            return "a row is an object"
        checks, columns = self._checks, cast(dict[str, Any], row)
        for name, value in columns.items():
            check = checks.get(name)
            if check is None:
                return f"there is no column {name}"
            if value is None:
                continue
            wanted, limits = check
            if type(value) is wanted:
                if limits is not None and not limits[0] <= value <= limits[1]:
                    return f"{name} is out of range"
            elif wanted is not float or type(value) is not int or abs(value) > _EXACT_IN_REAL:
                return f"{name} is a {type(value).__name__}"
        for name in REQUIRED:
            if row.get(name) is None:
                return f"{name} is missing"
        return ""

    def batch(self, rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
        """``rows``, none of which has a fault, in whichever shape is cheaper."""
        return self.packed(rows) if len(rows) < PACKED_BELOW else self.typed(rows)

    def packed(self, rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
        """One column of JSON."""
        column = pa.array([orjson.dumps(row) for row in rows], pa.binary())
        return pa.RecordBatch.from_arrays([column], schema=self.packed_schema)

    def typed(self, rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
        """The table's columns. Nearly all time goes into Arrow's own conversion of the whole list, which asks each row
        for each column: so only for those that some row has."""
        named: set[str] = set().union(*rows)
        used = [field for field in self.schema if field.name in named]
        found = pa.array(rows, type=pa.struct(used))
        columns = {field.name: found.field(place) for place, field in enumerate(used)}
        count = len(rows)
        arrays = [
            columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def is_packed(batch: pa.RecordBatch) -> bool:
    """Whether ``batch`` has to be unpacked."""
    return b"packed" in (batch.schema.metadata or {})


def unpack(table: Table, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows of packed ``batches``, in order, as one typed batch.

    Raises ``InputError`` if a row has no place in ``table``: it was written by a newer version, or is no row.
    """
    shape = _rows_of(table)
    texts = [text for batch in batches for text in batch.column(0).to_pylist()]
    try:
        rows = orjson.loads(b"[" + b",".join(texts) + b"]")
    except orjson.JSONDecodeError as error:
        raise InputError(f"A packed row is not JSON: {error}.", where=table.name) from error
    for row in rows:
        if fault := shape.fault(row):
            raise InputError(f"A packed row does not fit: {fault}.", where=table.name)
    return shape.typed(rows)


@lru_cache(maxsize=64)
def _rows_of(table: Table) -> Rows:
    return Rows(table)
