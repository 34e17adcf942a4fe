"""The shape of event tables: names, columns and types, as data.

The Arrow schemas are what the log carries and the store holds; the KQL catalogue is derived from them. Times are UTC
microseconds. Columns of KQL type ``dynamic`` hold JSON text. Which tables there are is in ``tables.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")

_ARROW: Final[dict[str, pa.DataType]] = {
    "datetime": TIMESTAMP,
    "string": pa.string(),
    "guid": pa.string(),
    "dynamic": pa.string(),
    "long": pa.int64(),
    "int": pa.int32(),
    "real": pa.float64(),
    "bool": pa.bool_(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its KQL type and what it means."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True, slots=True)
class Table:
    """An event table. ``is_content`` marks the content tier: reading it needs its own permission and is audited.

    ``aliases`` are (other name, column), for queries only: they hold the same, and are stored once.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    is_content: bool = False
    aliases: tuple[tuple[str, str], ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, with the table's name in its metadata."""
        return pa.schema([(c.name, _ARROW[c.type]) for c in self.columns], metadata={"table": self.name})

    def batch(self, rows: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
        """``rows`` as one batch; a missing column is null, times may be integers (Unix microseconds).

        Raises ``pyarrow.ArrowInvalid`` where a value does not fit its column.
        """
        rows = list(rows)
        schema = self.schema
        arrays = []
        for f in schema:
            values = [row.get(f.name) for row in rows]
            arrays.append(pa.array(values, type=f.type))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


COMMON: Final = (
    Column("Timestamp", "datetime", "When it happened, by the clock of the door that saw it."),
    Column("IngestTime", "datetime", "When the event store took it in."),
    Column("IngestSeq", "long", "Position in the event store; grows with every batch."),
    Column("TenantId", "string", "The tenant that the row belongs to."),
    Column("ReportId", "string", "The event's own id (evt_…)."),
)

"""What every event table begins with."""

SCHEMA_VERSION: Final = 1
"""Version of the rows' shape."""
