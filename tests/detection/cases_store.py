"""Rows of many examples in one DuckDB, each example in a tenant of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from watchfloor.detection.kql_rule import RowsExample
from watchfloor.detection.kql_trial import stored
from watchfloor.storage.engine import Engine
from watchfloor.storage.hunting import Hunter


@contextmanager
def hunter_of(cases: Sequence[tuple[Collection[str], RowsExample]]) -> Iterator[Hunter]:
    """``cases``: the tables that are read, and the example. Tenants are ``case-0``, ``case-1``, …"""
    parts: defaultdict[str, list[pa.Table]] = defaultdict(list)
    for case, (reads, example) in enumerate(cases):
        for name, table in stored(example.rows, reads)[0].items():
            place = table.column_names.index("TenantId")
            tenant = pa.array([f"case-{case}"] * table.num_rows, pa.string())
            parts[name].append(table.set_column(place, "TenantId", tenant))
    engine = Engine({name: pa.concat_tables(tables) for name, tables in parts.items()}, threads=1)
    try:
        yield Hunter(engine)
    finally:
        engine.close()
