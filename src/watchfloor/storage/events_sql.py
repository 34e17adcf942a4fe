"""The SQL of the DuckDB event store: names, types and statements, made from the event tables as data.

``events.py`` and ``retention.py`` run what is made here. Statements that take no parameters (views, COPY) are put
together from names and literals quoted here; everywhere else values are parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Final

import duckdb

from watchfloor.model.errors import Corrupt, InputError
from watchfloor.storage.ports import Scope
from watchfloor.storage.tables import Column, Table

TYPES: Final[dict[str, str]] = {
    "datetime": "TIMESTAMP WITH TIME ZONE",
    "string": "VARCHAR",
    "guid": "VARCHAR",
    "dynamic": "VARCHAR",
    "long": "BIGINT",
    "int": "INTEGER",
    "real": "DOUBLE",
    "bool": "BOOLEAN",
}
"""DuckDB's types of KQL's."""

SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS hot;
CREATE SCHEMA IF NOT EXISTS readable;
CREATE TABLE IF NOT EXISTS hot.ingest_cursor (
    log VARCHAR NOT NULL, part VARCHAR NOT NULL, tbl VARCHAR NOT NULL, seq BIGINT NOT NULL, base BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS hot.export (
    tbl VARCHAR NOT NULL, day VARCHAR NOT NULL, path VARCHAR NOT NULL, "rows" BIGINT NOT NULL,
    "columns" VARCHAR[] NOT NULL, is_dropped BOOLEAN NOT NULL
);
"""

_TABLE_FUNCTIONS: Final = frozenset({"unnest", "range", "generate_series"})
_FIRST, _LAST = "TIMESTAMPTZ '0001-01-01 00:00:00+00'", "TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"


def quoted(name: str) -> str:
    """``name`` as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """``text`` as a string."""
    return "'" + text.replace("'", "''") + "'"


def column_list(names: Iterable[str]) -> str:
    """``names`` as identifiers, separated by commas."""
    return ", ".join(quoted(name) for name in names)


def missing(column: Column) -> str:
    """What stands for ``column`` where it was never given. KQL has no null strings, so they are stored empty."""
    return "''" if column.type == "string" else f"CAST(NULL AS {TYPES[column.type]})"


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit on leaving, roll back on an exception."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):  # a failed COMMIT has rolled back already
            connection.execute("ROLLBACK")
        raise


@lru_cache(maxsize=256)
def insert(table: Table, given: tuple[str, ...]) -> str:
    """Add the rows of the registered table ``incoming``, which has the columns ``given`` and ``__seq``."""

    def value(column: Column) -> str:
        name = quoted(column.name)
        if column.name == "IngestTime":
            return "$ingest_time"
        if column.name == "IngestSeq":
            return '"__seq"'
        if column.name not in given:
            return "$ingest_time" if column.name == "Timestamp" else missing(column)
        if column.name == "Timestamp":
            # Days that no calendar has could never be exported; KQL's datetime ends in the year 9999, too.
            return f"CASE WHEN {name} BETWEEN {_FIRST} AND {_LAST} THEN {name} ELSE $ingest_time END"
        return f"coalesce({name}, '')" if column.type == "string" else name

    names = column_list(c.name for c in table.columns)
    return f"INSERT INTO hot.{quoted(table.name)} ({names}) SELECT {', '.join(map(value, table.columns))} FROM incoming"


def scoped_view(table: str, scope: Scope) -> str:
    """``table`` for the one connection that runs a query, filtered to what ``scope`` may see."""
    tenants = ", ".join(literal(tenant) for tenant in scope.tenants)
    condition = f'"TenantId" IN ({tenants})' if tenants else "false"
    if scope.since is not None:
        condition += f' AND "Timestamp" >= TIMESTAMPTZ {literal(scope.since.isoformat())}'
    return f"CREATE TEMP VIEW {quoted(table)} AS SELECT * FROM readable.{quoted(table)} WHERE {condition}"


def evolve(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Create the hot table, or add the columns that it does not have yet. Raises ``Corrupt`` if a type differs."""
    found = dict(
        connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = 'hot' AND table_name = ?",
            [table.name],
        ).fetchall()
    )
    if not found:
        columns = ", ".join(f"{quoted(c.name)} {TYPES[c.type]}" for c in table.columns)
        connection.execute(f"CREATE TABLE hot.{quoted(table.name)} ({columns})")
        return
    for column in table.columns:
        wanted = TYPES[column.type]
        if column.name not in found:
            default = " DEFAULT ''" if column.type == "string" else ""
            connection.execute(
                f"ALTER TABLE hot.{quoted(table.name)} ADD COLUMN {quoted(column.name)} {wanted}{default}"
            )
        elif found[column.name] != wanted:
            raise Corrupt(f"{table.name}.{column.name} is stored as {found[column.name]}, not as {wanted}.")


def tables_of(tree: Any) -> frozenset[str]:
    """The tables that a serialised SELECT reads. Raises ``InputError`` for whatever is not a plain table.

    A name that is both a table and a common table expression counts as the latter; the connection of a query knows no
    table that is not listed here, so that hides nothing.
    """
    read: set[str] = set()
    named: set[str] = set()
    waiting = [tree]
    while waiting:  # not recursive: the depth of a query is its author's choice
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
            continue
        if not isinstance(node, dict):
            continue
        kind = node.get("type")
        if kind == "BASE_TABLE":
            if node["schema_name"] or node["catalog_name"]:
                raise InputError(f"The query may not name {node['schema_name']}.{node['table_name']}.", where="sql")
            read.add(node["table_name"])
        elif kind == "SHOW_REF":  # DESCRIBE and SHOW TABLES, which tell what else there is
            raise InputError("The query may not describe the store.", where="sql")
        elif kind == "TABLE_FUNCTION":
            function = node["function"].get("function_name", "")
            if function not in _TABLE_FUNCTIONS:
                raise InputError(f"The query may not read from {function}().", where="sql")
        elif "cte_map" in node:
            named.update(entry["key"] for entry in node["cte_map"]["map"])
        waiting.extend(node.values())
    return frozenset(read - named)
