"""Results of queries as other products' clients expect them: Kusto REST v1 and v2, Graph's runHuntingQuery.

Pure functions from typed rows (values as in ``kql.values``) to what becomes JSON. Sources: the Kusto REST documentation
(response v1 and v2), the wire as azure-kusto-data 6.0 reads it, the Graph page of ``security: runHuntingQuery``.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from watchfloor.kql.values import format_datetime, format_timespan

NET_TYPES: Final[Mapping[str, str]] = {
    "bool": "SByte",
    "datetime": "DateTime",
    "decimal": "SqlDecimal",
    "dynamic": "Object",
    "guid": "Guid",
    "int": "Int32",
    "long": "Int64",
    "real": "Double",
    "string": "String",
    "timespan": "TimeSpan",
}
"""KQL types by their .NET words."""

Columns = Sequence[tuple[str, str]]
Rows = Iterable[Sequence[Any]]
Tables = Sequence[tuple[str, Columns, Rows]]


def cell(value: Any, type_: str) -> Any:
    """``value`` as JSON: times as text (7 digits, Z), dynamic as JSON values, not-numbers by name, decimals as text."""
    if value is None:
        return None
    if type_ == "datetime":
        return format_datetime(value)
    if type_ == "timespan":
        return format_timespan(value)
    if isinstance(value, float):
        return (
            value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        )
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return value


def kusto_cell(value: Any, type_: str) -> Any:
    """The same for Kusto's clients, which parse arrays and bags of dynamic columns out of text."""
    if type_ == "dynamic" and isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return cell(value, type_)


def v1_table(name: str, columns: Columns, rows: Rows) -> dict[str, Any]:
    """A table of a v1 answer."""
    return {
        "TableName": name,
        "Columns": [
            {"ColumnName": column, "DataType": NET_TYPES[type_], "ColumnType": type_} for column, type_ in columns
        ],
        "Rows": [[kusto_cell(v, t) for v, (_, t) in zip(row, columns, strict=True)] for row in rows],
    }


def v1(tables: Tables, visualization: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A v1 answer: Table_0, Table_1, ... With a ``visualization``, even an empty one, it is a query's and so ends with
    its properties and a table of contents, by which clients tell several results apart."""
    found = [(f"Table_{n}", columns, rows) for n, (_, columns, rows) in enumerate(tables)]
    if visualization is not None:
        contents = [(n, "QueryResult", "PrimaryResult", str(uuid.uuid4()), "") for n in range(len(found))]
        contents.append((len(found), "QueryProperties", "@ExtendedProperties", str(uuid.uuid4()), ""))
        shown = json.dumps(dict(visualization) or {"Visualization": None})
        found.append((f"Table_{len(found)}", (("Value", "string"),), [(shown,)]))
        found.append((f"Table_{len(found)}", _CONTENTS, contents))
    return {"Tables": [v1_table(*table) for table in found]}


def v2_table(number: int, kind: str, name: str, columns: Columns, rows: Rows) -> dict[str, Any]:
    """A DataTable frame of a v2 answer."""
    return {
        "FrameType": "DataTable",
        "TableId": number,
        "TableKind": kind,
        "TableName": name,
        "Columns": [{"ColumnName": column, "ColumnType": type_} for column, type_ in columns],
        "Rows": [[kusto_cell(v, t) for v, (_, t) in zip(row, columns, strict=True)] for row in rows],
    }


_CONTENTS: Final = (
    ("Ordinal", "long"),
    ("Kind", "string"),
    ("Name", "string"),
    ("Id", "string"),
    ("PrettyName", "string"),
)
_PROPERTIES: Final = (("TableId", "int"), ("Key", "string"), ("Value", "dynamic"))
_COMPLETION: Final = (
    ("Timestamp", "datetime"),
    ("ClientRequestId", "string"),
    ("ActivityId", "guid"),
    ("Level", "int"),
    ("LevelName", "string"),
    ("StatusCode", "int"),
    ("StatusCodeName", "string"),
    ("EventType", "int"),
    ("EventTypeName", "string"),
    ("Payload", "string"),
)


def v2(
    tables: Tables,
    visualization: Mapping[str, Any] | None,
    *,
    at: int,
    request_id: str,
    activity_id: str,
    statistics: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """A v2 answer, whole: never progressive (its streaming clients refuse that). ``at`` is in ticks."""
    shown = json.dumps(dict(visualization) if visualization else {"Visualization": None})
    frames: list[dict[str, Any]] = [{"FrameType": "DataSetHeader", "IsProgressive": False, "Version": "v2.0"}]
    properties = [[number, "Visualization", shown] for number, _ in enumerate(tables, 1)]
    frames.append(v2_table(0, "QueryProperties", "@ExtendedProperties", _PROPERTIES, properties))
    frames += [
        v2_table(number, "PrimaryResult", name, columns, rows) for number, (name, columns, rows) in enumerate(tables, 1)
    ]
    text = json.dumps({"Count": 1, "Text": "Query completed successfully"})
    used = json.dumps(dict(statistics))
    done = [
        [at, request_id, activity_id, 4, "Info", 0, "S_OK (0)", 4, "QueryInfo", text],
        [at, request_id, activity_id, 6, "Stats", 0, "S_OK (0)", 0, "QueryResourceConsumption", used],
    ]
    frames.append(
        v2_table(len(tables) + 1, "QueryCompletionInformation", "QueryCompletionInformation", _COMPLETION, done)
    )
    frames.append({"FrameType": "DataSetCompletion", "HasErrors": False, "Cancelled": False})
    return frames


def kusto_error(code: str, message: str, *, activity_id: str, at: str, is_permanent: bool = True) -> dict[str, Any]:
    """An error as Kusto's clients read it: ``@message`` is what people see."""
    return {
        "error": {
            "code": code,
            "message": "Request is invalid and cannot be executed."
            if is_permanent
            else "Request cannot be executed now.",
            "@type": "Watchfloor.QueryError",
            "@message": message,
            "@context": {"timestamp": at, "activityId": activity_id},
            "@permanent": is_permanent,
        }
    }


def graph(columns: Columns, rows: Rows, context: str) -> dict[str, Any]:
    """The answer of Graph's runHuntingQuery."""
    return {
        "@odata.context": context,
        "schema": [{"name": name, "type": NET_TYPES[type_]} for name, type_ in columns],
        "results": [{name: cell(v, t) for v, (name, t) in zip(row, columns, strict=True)} for row in rows],
    }
