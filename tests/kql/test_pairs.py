"""KQL beside the SQL that it becomes, as files: a change of the SQL is a topic for review, never a surprise.

``python -m tests.kql.test_pairs`` writes the SQL anew.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlglot

from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.ports import Scope

PAIRS = sorted((Path(__file__).parent / "pairs").glob("*.kql"))


def compiled(path: Path) -> str:
    compiler = KqlCompiler(now=lambda: datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
    query = compiler.compile(path.read_text("utf-8"), Scope(("default",)))
    params = "".join(f"-- {name} = {value!r}\n" for name, value in query.params.items())
    columns = ", ".join(f"{name}:{type_}" for name, type_ in query.columns)
    pretty = sqlglot.parse_one(query.sql, read="duckdb").sql("duckdb", pretty=True)
    return f"{params}-- columns: {columns}\n{pretty}\n"


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_a_query_becomes_the_sql_beside_it(path: Path) -> None:
    assert compiled(path) == path.with_suffix(".sql").read_text("utf-8")


if __name__ == "__main__":
    for pair in PAIRS:
        pair.with_suffix(".sql").write_text(compiled(pair), "utf-8")
