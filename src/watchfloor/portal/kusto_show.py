"""The read-only management commands of Kusto that its clients and Grafana send: ``.show`` over our catalogue.

Pure: a command and the tables that the asker may see, in; a table of cells, out. Whatever is not listed is refused by
name; nothing here can change anything. Source: the management commands reference; the shapes are those that
azure-kusto-data, Kusto Explorer and the Azure Data Explorer plugin of Grafana read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from watchfloor import __version__
from watchfloor.kql.errors import nearest
from watchfloor.kql.schema import Schema, TableSchema
from watchfloor.model.errors import InputError, NotFound

SYSTEM_TYPES: Final = {
    "bool": "System.SByte",
    "datetime": "System.DateTime",
    "decimal": "System.Data.SqlTypes.SqlDecimal",
    "dynamic": "System.Object",
    "guid": "System.Guid",
    "int": "System.Int32",
    "long": "System.Int64",
    "real": "System.Double",
    "string": "System.String",
    "timespan": "System.TimeSpan",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A table: (name, KQL type) of its columns, and its rows."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]


def show(command: str, schema: Schema) -> Shown:
    """The answer to ``command``. Raises ``InputError`` for what is not a ``.show`` of ours."""
    text = " ".join(command.split()).rstrip("; ")
    if "|" in text:
        raise InputError(
            "a query over the answer of a command is not run.", where="csl", remedy="Send the command alone."
        )
    for pattern, answer in _COMMANDS:
        if match := pattern.fullmatch(text):
            return answer(schema, match)
    verb = text.split(" ")[0]
    if verb.lower() != ".show":
        raise InputError(
            f"the management command {verb!r} is not allowed.",
            where="line 1, column 1",
            remedy="Only .show is answered.",
        )
    raise InputError(
        f"{text[:80]!r} is not answered here.",
        where="line 1, column 1",
        remedy=nearest(text, _USUAL) or f"These are: {', '.join(_USUAL)}.",
    )


def _strings(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "string") for name in names)


def _tables(schema: Schema, name: str | None = None) -> Sequence[TableSchema]:
    known = {**schema.tables, **{view.table.name: view.table for view in schema.views.values()}}
    if name is None:
        return sorted(known.values(), key=lambda t: t.name)
    name = name.strip("[]'\"")
    if name not in known:
        raise NotFound(f"there is no table {name!r}.", where="csl", remedy=nearest(name, known))
    return [known[name]]


def _check_database(schema: Schema, match: re.Match[str]) -> None:
    name = (match.groupdict().get("database") or "").strip("[]'\"")
    if name and name.lower() != schema.database.lower():
        raise NotFound(f"there is no database {name!r}.", where="csl", remedy=f"There is {schema.database}.")


def _version(schema: Schema, match: re.Match[str]) -> Shown:
    columns = (
        ("BuildVersion", "string"),
        ("BuildTime", "datetime"),
        ("ServiceType", "string"),
        ("ProductVersion", "string"),
    )
    return Shown(columns, ((__version__, None, "Engine", f"Watchfloor {__version__}"),))


def _databases(schema: Schema, match: re.Match[str]) -> Shown:
    columns = (
        *_strings("DatabaseName", "PersistentStorage", "Version"),
        ("IsCurrent", "bool"),
        *_strings("DatabaseAccessMode", "PrettyName"),
        ("ReservedSlot1", "bool"),
        ("DatabaseId", "guid"),
        *_strings("InTransitionTo"),
    )
    return Shown(columns, ((schema.database, "", "v1.0", True, "ReadOnly", "", None, None, ""),))


def _flat_schema(schema: Schema, match: re.Match[str]) -> Shown:
    _check_database(schema, match)
    columns = (
        *_strings("DatabaseName", "TableName", "ColumnName", "ColumnType"),
        ("IsDefaultTable", "bool"),
        ("IsDefaultColumn", "bool"),
        *_strings("PrettyName", "Version", "Folder", "DocString"),
    )
    rows: list[tuple[Any, ...]] = [(schema.database, "", "", "", False, False, "", "v1.0", "", "")]
    for table in _tables(schema):
        rows.append((schema.database, table.name, "", "", False, False, "", "", "", table.doc))
        rows += [
            (schema.database, table.name, c.name, SYSTEM_TYPES[c.type], False, False, "", "", "", "")
            for c in table.columns
        ]
    return Shown(columns, tuple(rows))


def _json_schema(schema: Schema, match: re.Match[str]) -> Shown:
    _check_database(schema, match)
    tables = {
        table.name: {
            "Name": table.name,
            "Folder": "",
            "DocString": table.doc,
            "EntityType": "Table",
            "OrderedColumns": _ordered(table),
        }
        for table in _tables(schema)
    }
    database = {
        "Name": schema.database,
        "Tables": tables,
        "ExternalTables": {},
        "MaterializedViews": {},
        "EntityGroups": {},
        "MajorVersion": 1,
        "MinorVersion": 0,
        "Functions": {},
        "DatabaseAccessMode": "ReadOnly",
    }
    body = {"Plugins": [], "Databases": {schema.database: database}}
    return Shown(_strings("DatabaseSchema"), ((json.dumps(body),),))


def _ordered(table: TableSchema) -> list[dict[str, str]]:
    return [{"Name": c.name, "Type": SYSTEM_TYPES[c.type], "CslType": c.type, "DocString": ""} for c in table.columns]


def _list_tables(schema: Schema, match: re.Match[str]) -> Shown:
    rows = tuple((t.name, schema.database, "", t.doc) for t in _tables(schema))
    return Shown(_strings("TableName", "DatabaseName", "Folder", "DocString"), rows)


def _functions(schema: Schema, match: re.Match[str]) -> Shown:
    return Shown(_strings("Name", "Parameters", "Body", "Folder", "DocString"), ())


def _csl_schema(schema: Schema, match: re.Match[str]) -> Shown:
    rows = tuple(
        (t.name, ",".join(f"{c.name}:{c.type}" for c in t.columns), schema.database, "", t.doc)
        for t in _tables(schema, match.groupdict().get("table"))
    )
    return Shown(_strings("TableName", "Schema", "DatabaseName", "Folder", "DocString"), rows)


def _table_json(schema: Schema, match: re.Match[str]) -> Shown:
    rows = tuple(
        (t.name, json.dumps({"Name": t.name, "OrderedColumns": _ordered(t)}), schema.database, "", t.doc)
        for t in _tables(schema, match["table"])
    )
    return Shown(_strings("TableName", "Schema", "DatabaseName", "Folder", "DocString"), rows)


def _cluster(schema: Schema, match: re.Match[str]) -> Shown:
    columns = (*_strings("NodeId", "Address", "Name"), ("StartTime", "datetime"), ("IsAdmin", "bool"))
    return Shown(columns, (("watchfloor", "", "watchfloor", None, True),))


def _nothing(*names: str) -> Callable[[Schema, re.Match[str]], Shown]:
    return lambda schema, match: Shown(_strings(*names), ())


_USUAL: Final = (
    ".show version",
    ".show databases",
    ".show databases schema as json",
    ".show database schema",
    ".show database schema as json",
    ".show tables",
    ".show functions",
)
"""Those that a remedy names."""

_NAME: Final = r"(?:\[['\"][^'\"]+['\"]\]|['\"]?[\w.-]+['\"]?)"


def _command(text: str) -> re.Pattern[str]:
    pattern = text.replace("{database}", f"(?P<database>{_NAME})").replace("{table}", f"(?P<table>{_NAME})")
    return re.compile(pattern, re.IGNORECASE)


_COMMANDS: Final[Sequence[tuple[re.Pattern[str], Callable[[Schema, re.Match[str]], Shown]]]] = (
    (_command(r"\.show version"), _version),
    (_command(r"\.show databases(?: details)?"), _databases),
    (_command(r"\.show databases schema"), _flat_schema),
    (_command(r"\.show databases(?: \({database}\))? schema as json"), _json_schema),
    (_command(r"\.show (?:database )?schema"), _flat_schema),
    (_command(r"\.show (?:database )?schema as json"), _json_schema),
    (_command(r"\.show database(?: {database})? schema"), _flat_schema),
    (_command(r"\.show database(?: {database})? schema as json"), _json_schema),
    (_command(r"\.show database {database}"), _databases),
    (_command(r"\.show database(?: {database})? cslschema"), _csl_schema),
    (_command(r"\.show tables(?: details)?"), _list_tables),
    (_command(r"\.show functions"), _functions),
    (_command(r"\.show materialized-views"), _nothing("Name", "SourceTable", "Query", "Folder", "DocString")),
    (_command(r"\.show external tables"), _nothing("TableName", "TableType", "Folder", "DocString")),
    (_command(r"\.show table {table} cslschema"), _csl_schema),
    (_command(r"\.show table {table} schema as json"), _table_json),
    (_command(r"\.show table {table}"), _csl_schema),
    (_command(r"\.show cluster"), _cluster),
)
