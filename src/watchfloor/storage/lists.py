"""Named lists (watchlists): small tables that analysts upload as CSV and use in hunting queries.

Below the portal and the query compiler, above the tables. A list has typed columns; its cells are kept as the text they
came as and become values when a query binds (``typed_rows``). Every change is audited. It does not run queries.
"""

from __future__ import annotations

import csv
import io
import ipaddress
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.kql.functions.convert import convert
from watchfloor.kql.schema import TYPES, Column, NamedList, Schema
from watchfloor.model.errors import InputError, NotFound
from watchfloor.storage.changes import upsert
from watchfloor.storage.schema import named_list

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

MAX_ROWS: Final = 100_000
MAX_BYTES: Final = 4 * 1024 * 1024
MAX_COLUMNS: Final = 100
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_COLUMN: Final = re.compile(r"[^\x00-\x1f]{1,100}")
_GUESSES: Final = ("long", "real", "bool", "datetime", "guid")


ADDRESSES: Final = "SuspiciousAddresses"
ACCOUNTS: Final = "SuspiciousAccounts"
WELL_KNOWN: Final[Mapping[str, NamedList]] = {
    ADDRESSES: NamedList(ADDRESSES, (Column("Range", "string"), Column("Kind", "string")), (), "Range"),
    ACCOUNTS: NamedList(ACCOUNTS, (Column("Account", "string"), Column("Kind", "string")), (), "Account"),
}
"""Lists that rules of the product ask: empty until somebody uploads one of that name, with at least these columns."""


@dataclass(frozen=True, slots=True)
class ListSummary:
    """A list without its rows. ``columns`` are (name, KQL type)."""

    name: str
    description: str
    key_column: str
    columns: tuple[tuple[str, str], ...]
    row_count: int
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class ListContent:
    """What an upload holds: typed columns, and rows of text."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]


def read_csv(text: str, types: Mapping[str, str] | None = None) -> ListContent:
    """The list in ``text``: a header line, then rows (RFC 4180). ``types`` gives columns a type, others get a guess.

    A guess is made only where every cell that is not empty fits; it never loses anything: ``007`` stays a string.
    Raises ``InputError`` with the line for whatever is not a table, does not fit its type or is too large.
    """
    if len(text.encode()) > MAX_BYTES:
        raise InputError(f"a list has at most {MAX_BYTES // 1024 // 1024} MiB.", where="csv", remedy="Split it.")
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        rows = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"this line has {len(row)} cells, the header {len(header)}.", where=f"line {reader.line_num}"
                )
            rows.append(tuple(row))
            if len(rows) > MAX_ROWS:
                raise InputError(f"a list has at most {MAX_ROWS} rows.", where="csv", remedy="Split it.")
    except csv.Error as error:
        raise InputError(f"this is not CSV: {error}.", where=f"line {reader.line_num}") from error
    given = dict(types or {})
    if unknown := given.keys() - set(header):
        raise InputError(f"there is no column {min(unknown)!r}.", where="types")
    columns = []
    for number, name in enumerate(header):
        cells = [row[number] for row in rows]
        type_ = given.get(name) or _guess(cells)
        if type_ not in TYPES:
            raise InputError(
                f"there is no type {type_!r}.", where=f"types.{name}", remedy=f"Use one of {', '.join(sorted(TYPES))}."
            )
        for line, cell in enumerate(cells, 2):
            if cell and type_ != "string" and convert(cell, "string", type_) is None:
                raise InputError(f"{cell!r} is not a {type_}.", where=f"row {line - 1}, column {name}")
        columns.append((name, type_))
    return ListContent(tuple(columns), tuple(rows))


def _check_header(header: Sequence[str]) -> None:
    if not header or len(header) > MAX_COLUMNS:
        raise InputError(f"a list begins with a line of 1 to {MAX_COLUMNS} column names.", where="line 1")
    seen: set[str] = set()
    for name in header:
        if not _COLUMN.fullmatch(name):
            raise InputError(f"{name!r} cannot be the name of a column.", where="line 1")
        if name in seen:
            raise InputError(f"there are two columns named {name!r}.", where="line 1", remedy="Rename one of them.")
        seen.add(name)


def _guess(cells: Sequence[str]) -> str:
    filled = [cell for cell in cells if cell]
    if not filled:
        return "string"
    for type_ in _GUESSES:
        if all(_fits(cell, type_) for cell in filled):
            return type_
    return "string"


def _fits(cell: str, type_: str) -> bool:
    if type_ == "long":
        return bool(re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", cell))
    if type_ == "real":
        return bool(re.fullmatch(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{1,15}", cell))
    if type_ == "bool":
        return cell.lower() in ("true", "false")
    if type_ == "datetime":
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d([T ].+)?", cell)) and convert(cell, "string", "datetime") is not None
    return bool(re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", cell))


def save_list(
    tx: ControlTx, name: str, content: ListContent, *, description: str = "", key_column: str = ""
) -> ListSummary:
    """Make the list ``name``, or replace it. Raises ``InputError`` for a bad name or key column."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a list.",
            where="name",
            remedy="Use letters, digits, '_' and '-', 64 at most.",
        )
    if not description.replace("\n", " ").isprintable():
        raise InputError("this has characters that do not print.", where="description")
    key_column = key_column or content.columns[0][0]
    if key_column not in {column for column, _ in content.columns}:
        raise InputError(f"there is no column {key_column!r}.", where="key_column")
    _check_well_known(name, content)
    before = find_list(tx, name)
    values = {
        "name": name,
        "description": description,
        "key_column": key_column,
        "columns": [list(column) for column in content.columns],
        "rows": [list(row) for row in content.rows],
        "row_count": len(content.rows),
        "updated_at": tx.now,
        "updated_by": tx.actor,
    }
    upsert(tx, named_list, values, before is not None)
    verb = "update" if before else "create"
    tx.audit(f"list:{verb}", f"list/{name}", {"rows": len(content.rows), "columns": [c for c, _ in content.columns]})
    saved = find_list(tx, name)
    assert saved is not None
    return saved


def _check_well_known(name: str, content: ListContent) -> None:
    """A list that rules ask must have what they ask for; a range that is none would silently match nothing."""
    if name not in WELL_KNOWN:
        return
    given, needed = dict(content.columns), {column.name: column.type for column in WELL_KNOWN[name].columns}
    if missing := [f"{column}: {type_}" for column, type_ in needed.items() if given.get(column) != type_]:
        types = ",".join(f"{column}:{type_}" for column, type_ in needed.items())
        raise InputError(
            f"rules of the product ask this list, and need {', '.join(missing)}.",
            where="columns",
            remedy=f"Begin the CSV with {','.join(needed)}; add types={types}.",
        )
    if name == ADDRESSES:
        position = [column for column, _ in content.columns].index("Range")
        for number, row in enumerate(content.rows, 1):
            try:
                ipaddress.ip_network(row[position], strict=False)
            except ValueError:
                message = f"{row[position]!r} is no address and no range of addresses."
                raise InputError(
                    message, where=f"row {number}, column Range", remedy="203.0.113.7 or 203.0.113.0/24"
                ) from None


def delete_list(tx: ControlTx, name: str) -> None:
    """Take the list away. Raises ``NotFound`` if there is none."""
    before = find_list(tx, name)
    if before is None:
        raise NotFound(f"there is no list {name!r}.", where="name")
    tx.connection.execute(named_list.delete().where(named_list.c.name == name))
    tx.audit("list:delete", f"list/{name}", {"rows": before.row_count})


def _summary(row: Any) -> ListSummary:
    values = dict(row._mapping)
    values["columns"] = tuple((name, type_) for name, type_ in values["columns"])
    return ListSummary(**values)


_SUMMARY: Final = tuple(named_list.c[n] for n in ListSummary.__dataclass_fields__)


def all_lists(tx: ControlTx) -> list[ListSummary]:
    """Every list, by name, without rows."""
    return [_summary(row) for row in tx.connection.execute(sa.select(*_SUMMARY).order_by(named_list.c.name))]


def find_list(tx: ControlTx, name: str) -> ListSummary | None:
    """The list ``name`` without its rows, or None."""
    row = tx.connection.execute(sa.select(*_SUMMARY).where(named_list.c.name == name)).one_or_none()
    return _summary(row) if row else None


def read_content(tx: ControlTx, name: str) -> ListContent:
    """The rows of the list ``name``. Raises ``NotFound`` if there is none."""
    row = tx.connection.execute(
        sa.select(named_list.c.columns, named_list.c.rows).where(named_list.c.name == name)
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no list {name!r}.", where="name")
    return ListContent(tuple((n, t) for n, t in row.columns), tuple(tuple(r) for r in row.rows))


def to_csv(content: ListContent) -> str:
    """``content`` as CSV, as it was uploaded."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([name for name, _ in content.columns])
    writer.writerows(content.rows)
    return text.getvalue()


def typed(summary: ListSummary, content: ListContent) -> NamedList:
    """The list as queries see it: cells are values of their columns' types, empty ones null."""
    types = [type_ for _, type_ in content.columns]
    rows = tuple(
        tuple(
            cell if type_ == "string" else (convert(cell, "string", type_) if cell else None)
            for cell, type_ in zip(row, types, strict=True)
        )
        for row in content.rows
    )
    return NamedList(summary.name, tuple(Column(n, t) for n, t in content.columns), rows, summary.key_column)


class Catalogue:
    """The catalogue of the moment: ``schema`` with every named list. Lists are read again only when they changed."""

    def __init__(self, control: SqlControlStore, schema: Schema) -> None:
        self._control, self._schema = control, schema
        self._lock = threading.Lock()
        self._known: dict[str, tuple[datetime, NamedList]] = {}

    def __call__(self) -> Schema:
        """The tables, and the lists as they are now."""
        with self._lock, self._control.read() as tx:
            found = {}
            for summary in all_lists(tx):
                known = self._known.get(summary.name)
                if known is None or known[0] != summary.updated_at:
                    known = (summary.updated_at, typed(summary, read_content(tx, summary.name)))
                found[summary.name] = known
            self._known = found
        return replace(self._schema, lists={**WELL_KNOWN, **{name: kept for name, (_, kept) in found.items()}})
