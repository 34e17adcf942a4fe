"""Rows and their two shapes: what is found good can be stored, and both shapes say the same."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchfloor.model.errors import InputError
from watchfloor.storage.rows import PACKED_BELOW, Rows, is_packed, unpack
from watchfloor.storage.tables import AGENT_CONTENT, Column, Table

TABLE = Table(
    "AgentContent",
    "One column of each type, in the place of a real table.",
    tuple(
        Column(name, type_, "")
        for name, type_ in [
            ("Timestamp", "datetime"),
            ("TenantId", "string"),
            ("ReportId", "string"),
            ("Text", "string"),
            ("Json", "dynamic"),
            ("Long", "long"),
            ("Int", "int"),
            ("Real", "real"),
            ("Bool", "bool"),
        ]
    ),
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = SCALARS | st.lists(st.none(), max_size=1) | st.just({})
ROWS = st.fixed_dictionaries(
    {"Timestamp": st.integers(), "TenantId": st.text(max_size=3), "ReportId": st.text(max_size=3)},
    optional=dict.fromkeys(("Text", "Json", "Long", "Int", "Real", "Bool", "Unknown"), VALUES),
)


@settings(deadline=None)  # the first batch waits for Arrow's own imports
@given(st.lists(ROWS, max_size=5))
def test_a_row_without_fault_is_stored_as_it_is(rows: list[dict[str, Any]]) -> None:
    shape = Rows(TABLE)
    good = [row for row in rows if not shape.fault(row)]
    batch = shape.typed(good)
    assert batch.schema.equals(TABLE.schema, check_metadata=True)
    names = [c.name for c in TABLE.columns]
    stored = batch.set_column(0, "Timestamp", batch.column(0).cast(pa.int64())).to_pylist()
    assert stored == [{name: row.get(name) for name in names} for row in good]


@given(st.lists(ROWS, max_size=5))
def test_a_row_with_a_fault_says_which_column(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        fault = Rows(TABLE).fault(row)
        assert fault == "" or any(name in fault for name in (*row, *(c.name for c in TABLE.columns)))


def real_row(n: int) -> dict[str, Any]:
    return {"Timestamp": n, "TenantId": "default", "ReportId": f"e{n}", "Kind": "invocation"}


@pytest.mark.parametrize("count", [1, PACKED_BELOW - 1, PACKED_BELOW, 500])
def test_both_shapes_are_the_same_to_a_reader(count: int) -> None:
    shape = Rows(AGENT_CONTENT)
    rows = [real_row(n) for n in range(count)]
    assert is_packed(shape.batch(rows)) == (count < PACKED_BELOW)
    assert not is_packed(shape.typed(rows))
    unpacked = unpack(AGENT_CONTENT, [shape.packed(rows[:1]), shape.packed(rows[1:])])
    assert unpacked.equals(shape.typed(rows))
    assert unpacked.schema.equals(AGENT_CONTENT.schema, check_metadata=True)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (orjson.dumps(real_row(1) | {"FromTheFuture": 1}), "FromTheFuture"),
        (orjson.dumps(real_row(1) | {"Kind": 1}), "Kind"),
        (b"{", "not JSON"),
    ],
)
def test_a_packed_row_that_has_no_place_is_refused_and_never_dropped(row: bytes, why: str) -> None:
    schema = Rows(AGENT_CONTENT).packed_schema
    with pytest.raises(InputError, match=why):
        unpack(AGENT_CONTENT, [pa.RecordBatch.from_arrays([pa.array([row], pa.binary())], schema=schema)])
