"""How long events are kept: closed days go from the hot table to Parquet, old Parquet goes away.

Called by the event store's ``maintain``, on one connection at a time. What counts as stored cold is the list in
``hot.export``, never what lies in the directory, and the list, the hot rows and the view over both change in one
transaction. So a death at any moment leaves each row in exactly one of the two, and a query that runs meanwhile sees
each row once.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import quote

import duckdb

from watchfloor.model.errors import Corrupt
from watchfloor.storage.events_sql import column_list, literal, missing, quoted, transaction
from watchfloor.storage.tables import Table

_LOG: Final = logging.getLogger(__name__)


def replace_view(connection: duckdb.DuckDBPyConnection, cold: Path, table: Table) -> None:
    """Make ``events.<table>`` the union of hot table and listed Parquet files, in the caller's transaction."""
    names = [c.name for c in table.columns]
    parts = [f"SELECT {column_list(names)} FROM hot.{quoted(table.name)}"]
    # Files of one set of columns are read together; what a file lacks, because it is older than the column, is filled.
    for given, paths in _cold_files(connection, cold, table).items():
        values = ", ".join(
            quoted(c.name) if c.name in given else f"{missing(c)} AS {quoted(c.name)}" for c in table.columns
        )
        files = ", ".join(literal(str(path)) for path in paths)
        parts.append(f"SELECT {values} FROM read_parquet([{files}], hive_partitioning = false)")
    connection.execute(f"CREATE OR REPLACE VIEW readable.{quoted(table.name)} AS {' UNION ALL '.join(parts)}")


def _cold_files(connection: duckdb.DuckDBPyConnection, cold: Path, table: Table) -> dict[tuple[str, ...], list[Path]]:
    listed = connection.execute(
        'SELECT path, "columns" FROM hot.export WHERE tbl = ? AND NOT is_dropped ORDER BY day, path', [table.name]
    ).fetchall()
    files: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path, columns in listed:
        if (cold / path).exists():
            files[tuple(columns)].append(cold / path)
        else:
            _LOG.error("the cold file %s is gone; its rows are missing until it is put back", cold / path)
    return files


def export_closed_days(connection: duckdb.DuckDBPyConnection, cold: Path, table: Table, before: date) -> dict[str, int]:
    """Move every day before ``before`` to Parquet. Returns rows by ``table/day``."""
    exported: dict[str, int] = defaultdict(int)
    pieces = connection.execute(
        f'SELECT DISTINCT CAST(CAST("Timestamp" AS DATE) AS VARCHAR) AS day, "TenantId" FROM hot.{quoted(table.name)} '
        'WHERE "Timestamp" < CAST(? AS TIMESTAMPTZ) ORDER BY ALL',
        [before.isoformat()],
    ).fetchall()
    for day, tenant in pieces:
        exported[f"{table.name}/{day}"] += _export(connection, cold, table, day, tenant)
    return dict(exported)


def _export(connection: duckdb.DuckDBPyConnection, cold: Path, table: Table, day: str, tenant: str) -> int:
    # A late event makes another file for a day that was exported before, so the name is never used twice.
    relative = f"table={table.name}/dt={day}/tenant={quote(tenant, safe='')}/{os.urandom(8).hex()}.parquet"
    final = cold / relative
    temporary = final.with_name(final.name + ".tmp")
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = [c.name for c in table.columns]
    where = (
        f"\"Timestamp\" >= TIMESTAMPTZ '{day} 00:00:00+00' AND "
        f'"Timestamp" < TIMESTAMPTZ \'{day} 00:00:00+00\' + INTERVAL 1 DAY AND "TenantId" = {literal(tenant)}'
    )
    hot = f"hot.{quoted(table.name)}"
    try:
        with transaction(connection):
            # One snapshot for all of it: rows that arrive meanwhile are neither copied nor deleted.
            connection.execute(
                f"COPY (SELECT {column_list(names)} FROM {hot} WHERE {where}) TO {literal(str(temporary))} "
                "(FORMAT parquet, COMPRESSION zstd)"
            )
            in_file = _fingerprint(connection, f"read_parquet({literal(str(temporary))})")
            if in_file != _fingerprint(connection, f"{hot} WHERE {where}"):
                raise Corrupt(f"The export of {table.name} for {day} does not hold what was exported.")
            _make_durable(temporary, final, cold)
            connection.execute(f"DELETE FROM {hot} WHERE {where}")
            connection.execute(
                "INSERT INTO hot.export VALUES (?, ?, ?, ?, ?, false)", [table.name, day, relative, in_file[0], names]
            )
            replace_view(connection, cold, table)
    except BaseException:
        temporary.unlink(missing_ok=True)
        final.unlink(missing_ok=True)
        raise
    return in_file[0]


def _fingerprint(connection: duckdb.DuckDBPyConnection, source: str) -> tuple[int, int]:
    row = connection.execute(f'SELECT count(*), CAST(sum("IngestSeq") AS VARCHAR) FROM {source}').fetchone()
    assert row is not None
    return int(row[0]), int(row[1] or 0)


def _make_durable(temporary: Path, final: Path, root: Path) -> None:
    _sync(temporary)
    temporary.rename(final)
    folder = final.parent
    while True:
        _sync(folder)
        if folder == root:
            return
        folder = folder.parent


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop_old_days(connection: duckdb.DuckDBPyConnection, cold: Path, table: Table, before: date) -> list[str]:
    """Take every cold day before ``before`` out of the view. Returns ``table/day``; ``remove_dropped`` deletes them."""
    with transaction(connection):
        days = connection.execute(
            "SELECT DISTINCT day FROM hot.export WHERE tbl = ? AND day < ? AND NOT is_dropped ORDER BY day",
            [table.name, before.isoformat()],
        ).fetchall()
        if days:
            connection.execute(
                "UPDATE hot.export SET is_dropped = true WHERE tbl = ? AND day < ?", [table.name, before.isoformat()]
            )
            replace_view(connection, cold, table)
    return [f"{table.name}/{day}" for (day,) in days]


def remove_dropped(connection: duckdb.DuckDBPyConnection, cold: Path) -> None:
    """Delete the files of dropped days. Only while no query runs that began before they were dropped."""
    for (path,) in connection.execute("SELECT path FROM hot.export WHERE is_dropped").fetchall():
        (cold / path).unlink(missing_ok=True)
    connection.execute("DELETE FROM hot.export WHERE is_dropped")


def sweep(connection: duckdb.DuckDBPyConnection, cold: Path) -> None:
    """Clear away what a death during an export left: the rows of files that are not listed are still hot.

    A complete file is only renamed: should the hot file have been restored from a backup, it is all there is.
    """
    listed = {path for (path,) in connection.execute("SELECT path FROM hot.export").fetchall()}
    for path in cold.glob("table=*/dt=*/tenant=*/*"):
        if path.name.endswith(".parquet.tmp"):
            path.unlink()
        elif path.suffix == ".parquet" and path.relative_to(cold).as_posix() not in listed:
            _LOG.warning("the cold file %s is not listed; it is set aside as .orphan", path)
            path.rename(path.with_name(path.name + ".orphan"))
