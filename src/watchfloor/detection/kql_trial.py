"""A rule in KQL tried against rows that are handed in: its own tests, or an author's.

The rows go into a DuckDB in memory and the rule is asked as the runner asks it, so that what passes here is what will
be raised. Nothing is stored, and no server is needed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from watchfloor.detection.kql_evaluate import Evaluator, Found, Slice
from watchfloor.detection.kql_rule import Prepared, RowsExample, prepare
from watchfloor.detection.rules import KqlRule
from watchfloor.kql.errors import nearest
from watchfloor.kql.schema import Schema
from watchfloor.model.cases import AlertDraft
from watchfloor.model.errors import InputError, WatchfloorError
from watchfloor.storage.compiler import catalogue
from watchfloor.storage.engine import Engine
from watchfloor.storage.hunting import Hunter
from watchfloor.storage.tables import TABLES

MOST_ROWS: Final = 10_000
"""Rows of all tables that one trial may bring."""

STEPS: Final = "AgentActivity"
"""Where alerts look up the events behind them, whatever table a rule reads."""

_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)
_CHECKED: Final = ("severity", "tactic", "title", "description", "count", "first_activity", "last_activity")


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one example; ``faults`` say how that differs from what was expected."""

    name: str
    drafts: tuple[AlertDraft, ...]
    faults: tuple[str, ...]

    @property
    def is_passed(self) -> bool:
        """Whether all came as expected."""
        return not self.faults


def run_tests(rule: KqlRule, schema: Schema | None = None) -> list[Trial]:
    """Every example of ``rule``. Raises ``InputError`` if the rule itself is wrong."""
    prepared, faults = prepare(rule, schema)
    if prepared is None:
        raise InputError("; ".join(faults), where=rule.id)
    return [try_example(prepared, example, schema) for example in rule.tests]


def try_example(prepared: Prepared, example: RowsExample, schema: Schema | None = None) -> Trial:
    """One example of a rule."""
    try:
        found = find(prepared, example.rows, example.now, _with_lists(schema or catalogue(), example))
    except WatchfloorError as error:
        return Trial(example.name, (), (str(error),))
    return Trial(example.name, found.drafts, tuple(_differences(found.drafts, example.expect)))


def find(
    prepared: Prepared,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    now: datetime | None = None,
    schema: Schema | None = None,
) -> Found:
    """What the rule finds in ``rows`` (table name to rows). ``now``: by default a moment after the last of them.

    Raises ``InputError`` for rows that fit no table, with their place.
    """
    if sum(len(of_table) for of_table in rows.values()) > MOST_ROWS:
        raise InputError(f"more than {MOST_ROWS} rows.", where="rows")
    tables, last = stored(rows, prepared.tables | {STEPS})
    engine = Engine(tables, memory_limit="512MiB", threads=1)
    try:
        evaluator = Evaluator(Hunter(engine, schema=None if schema is None else lambda: schema))
        if prepared.rule.is_near_real_time:
            count = len(rows.get(prepared.table, ()))
            return evaluator.near_real_time(prepared, Slice(0, count, count)) if count else Found()
        end = now or min(last, _LATEST) + timedelta(seconds=1)
        return evaluator.scheduled(prepared, end if end.tzinfo else end.replace(tzinfo=UTC))
    finally:
        engine.close()


def _with_lists(schema: Schema, example: RowsExample) -> Schema:
    """``schema`` with the lists of the example in place of those of their name. Raises ``InputError``."""
    filled = {}
    for name, rows in example.lists.items():
        known = schema.lists.get(name)
        if known is None:
            raise InputError(
                f"there is no list of that name. {nearest(name, schema.lists)}".strip(), where=f"lists.{name}"
            )
        names = [column.name for column in known.columns]
        for row in rows:
            if row.keys() - set(names):
                raise InputError(f"there is no column {min(row.keys() - set(names))}.", where=f"lists.{name}")
        filled[name] = replace(known, rows=tuple(tuple(row.get(column, "") for column in names) for row in rows))
    return replace(schema, lists={**schema.lists, **filled})


def stored(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], names: Collection[str]
) -> tuple[dict[str, pa.Table], datetime]:
    """``rows`` as the store would hold them, in the event tables ``names`` and those that they name; when the last was.

    Raises ``InputError`` for rows that fit no table, with their place.
    """
    tables: dict[str, pa.Table] = {}
    last = datetime(2000, 1, 1, tzinfo=UTC)
    for name in rows:
        if name not in TABLES:
            raise InputError("there is no event table of that name.", where=f"rows.{name}")
    for name in sorted({*rows, *names}):
        table = TABLES[name]
        types = {column.name: column.type for column in table.columns}
        filled = []
        for number, given in enumerate(rows.get(name, ()), 1):
            row: dict[str, Any] = {column: "" for column, type_ in types.items() if type_ == "string"}
            row |= {"TenantId": "default", "ReportId": f"row-{number}", "IngestSeq": number}
            for column, value in given.items():
                if column not in types:
                    raise InputError(f"there is no column {column}.", where=f"rows.{name}[{number - 1}]")
                row[column] = _value(types[column], value, f"rows.{name}[{number - 1}].{column}")
            row["IngestSeq"], row["TenantId"] = number, "default"
            if not isinstance(row.get("Timestamp"), datetime):
                raise InputError("a row needs its time.", where=f"rows.{name}[{number - 1}].Timestamp")
            row.setdefault("IngestTime", row["Timestamp"])
            last = max(last, row["Timestamp"])
            filled.append(row)
        try:
            tables[name] = pa.Table.from_batches([table.batch(filled)])
        except (pa.ArrowException, TypeError) as error:
            raise InputError(f"a value does not fit its column: {error}.", where=f"rows.{name}") from None
    return tables, last


def _value(type_: str, value: Any, where: str) -> Any:
    if value is None:
        return "" if type_ == "string" else None
    if type_ == "datetime":
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise InputError(f"{value!r} is no time.", where=where, remedy="2026-11-03T12:00:00Z") from None
        if not isinstance(value, datetime):
            raise InputError(f"{value!r} is no time.", where=where, remedy="2026-11-03T12:00:00Z")
        try:
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        except OverflowError:
            raise InputError(f"no calendar has the time {value}.", where=where) from None
    if type_ == "dynamic":
        return value if isinstance(value, str) else json.dumps(value, default=str)
    if type_ == "string" and not isinstance(value, str):
        raise InputError(f"{value!r} is no text.", where=where, remedy="Put it in quotes.")
    return value


def _differences(drafts: Sequence[AlertDraft], expected: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(drafts) != len(expected):
        titles = "; ".join(draft.title for draft in drafts) or "none"
        return [f"expected {len(expected)} alerts, found {len(drafts)}: {titles}"]
    faults = []
    for number, (draft, wanted) in enumerate(zip(drafts, expected, strict=True)):
        for name, value in wanted.items():
            if name == "entities":
                had = sorted(f"{e.kind.value}/{e.id}/{e.role.value}" for e in draft.entities)
                missing = sorted(set(value) - set(had))
                if missing:
                    faults.append(f"alert {number + 1}: no entity {', '.join(missing)}; it has {', '.join(had)}")
                continue
            if name not in _CHECKED:
                faults.append(f"alert {number + 1}: {name} cannot be expected. Known: {', '.join(_CHECKED)}, entities")
                continue
            found = _told(draft, name)
            if found != (value.isoformat() if isinstance(value, datetime) else value):
                faults.append(f"alert {number + 1}: {name}: expected {value!r}, found {found!r}")
    return faults


def _told(draft: AlertDraft, name: str) -> Any:
    if name == "count":
        return draft.detail["count"]
    value = getattr(draft, name)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
