"""Rules written in KQL: their shape, and everything that is wrong with one.

A rule's query is asked of the event store: of each slice of fresh rows (near-real-time), or of a span of time again and
again (scheduled). Every row that it answers belongs to an alert; the columns of ``dedup`` and a span of time say to
which. Below ``rules``, above the compiler. It runs nothing.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from watchfloor import kql
from watchfloor.detection.words import NEEDS_BOTH, Content, RuleRisk, Tactic
from watchfloor.kql import ast
from watchfloor.kql.bind.tables import mentions
from watchfloor.kql.errors import nearest
from watchfloor.kql.ir import Plan
from watchfloor.kql.printer import to_text
from watchfloor.kql.schema import Schema
from watchfloor.model.cases import EntityKind, EntityRole
from watchfloor.model.verdicts import Severity
from watchfloor.storage.compiler import catalogue

NEAR_REAL_TIME: Final = "near-real-time"
SCHEDULED: Final = "scheduled"
TEXTS: Final = frozenset({"count", "times", "span"})
"""What titles and descriptions may name beside the columns of the query."""

_EVERYTHING: Final = kql.Scope(("default",))
_ROW_BY_ROW: Final = (
    ast.Where, ast.Extend, ast.Project, ast.ProjectAway, ast.ProjectRename, ast.ProjectReorder, ast.ProjectByNames,
    ast.Parse, ast.ParseKv,
)  # fmt: skip
_KEYS: Final = frozenset({"string", "guid", "long", "int", "bool", "real"})


def _iso(value: object) -> object:
    if isinstance(value, timedelta) or (isinstance(value, str) and value.startswith("P")):
        return value
    raise ValueError("is no span of time as ISO 8601 writes it: PT5M, PT1H, P1D")


Span = Annotated[timedelta, BeforeValidator(_iso)]


class EntityColumn(Content):
    """A column that names something involved; ``name``: the column of its name, where that is another."""

    column: str
    kind: EntityKind
    role: EntityRole = EntityRole.IMPACTED
    name: str = ""


class Dedup(Content):
    """Which rows are one alert: those that agree in ``columns`` and lie within the same ``bin`` of time."""

    columns: tuple[str, ...] = Field(min_length=1)
    bin: Span = Field(default=timedelta(hours=1), ge=timedelta(minutes=1), le=timedelta(days=1))


class RowsExample(Content):
    """One test: rows of any table given, alerts expected (of a hunting template: rows). ``now``: the end of the span
    that is asked about.

    ``lists``: rows of named lists, their cells as text.
    """

    name: str
    lists: Mapping[str, tuple[Mapping[str, str], ...]] = {}
    rows: Mapping[str, tuple[Mapping[str, Any], ...]]
    expect: tuple[Mapping[str, Any], ...]
    now: datetime | None = None


class KqlRule(Content):
    """A detection rule in KQL, as its content file says it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    title: str = Field(min_length=1, max_length=500)
    description: str = Field(min_length=1, max_length=5_000)
    kind: Literal["near-real-time", "scheduled"]
    frequency: Span | None = Field(default=None, ge=timedelta(minutes=1), le=timedelta(days=1))
    lookback: Span | None = Field(default=None, ge=timedelta(minutes=1), le=timedelta(days=14))
    lateness: Span = Field(default=timedelta(minutes=2), ge=timedelta(0), le=timedelta(hours=6))
    severity: Severity
    severity_column: str = ""
    tactic: Tactic
    techniques: tuple[str, ...] = Field(min_length=1)
    entities: tuple[EntityColumn, ...] = Field(min_length=1)
    dedup: Dedup
    risk: RuleRisk | None = None
    actions: tuple[str, ...] = ()
    recommended_actions: tuple[str, ...] = Field(min_length=1)
    blind_spots: str = Field(min_length=1)
    query: str = Field(min_length=1, max_length=50_000)
    tests: tuple[RowsExample, ...] = Field(min_length=2)

    @property
    def is_near_real_time(self) -> bool:
        """Whether it looks at each slice of fresh rows."""
        return self.kind == NEAR_REAL_TIME


@dataclass(frozen=True, slots=True)
class Prepared:
    """A rule and what binding its query has shown: ``columns`` (name, KQL type), the stored ``tables`` that it reads.

    ``table`` and ``condition`` are those of a near-real-time rule: the one table, and what its first conditions say, in
    KQL; a slice in which no row meets them has nothing for the rule.
    """

    rule: KqlRule
    columns: Mapping[str, str]
    tables: frozenset[str]
    table: str = ""
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """What binding a query shows: its syntax, its columns (name, KQL type), the tables and views that it names, and the
    stored ``tables`` that it reads."""

    tree: ast.Query
    columns: Mapping[str, str]
    named: tuple[str, ...]
    tables: frozenset[str]


def prepare(rule: KqlRule, schema: Schema | None = None) -> tuple[Prepared | None, list[str]]:
    """The rule, ready to run, or everything that is wrong with it, each with its place."""
    schema = schema or catalogue()
    faults = _check_times(rule)
    faults += check_examples(rule.tests, schema)
    bound, more = bind_query(rule.query, schema)
    faults += more
    if bound is None:
        return None, faults
    faults += _check_columns(rule, bound.columns)
    table, condition = "", ""
    if rule.is_near_real_time:
        table, condition, more = _row_by_row(rule, bound.tree, schema)
        faults += more
    return (None if faults else Prepared(rule, bound.columns, bound.tables, table, condition)), faults


def bind_query(text: str, schema: Schema) -> tuple[Bound | None, list[str]]:
    """What ``text`` is over ``schema``, or everything that is wrong with it, each with its place."""
    try:
        tree = kql.parse(text)
        plan = kql.analyze(text, schema, _EVERYTHING)
    except kql.KqlError as error:
        located = error.locate(text)
        return None, [f"query: {found}" for found in (located, *located.others)]
    if not isinstance(plan, Plan):
        return None, ["query: its columns depend on data. Name them: evaluate bag_unpack(d) : (a: string)."]
    named = tuple(sorted(name for name in mentions(tree) if schema.reads(name)))
    tables = frozenset[str]().union(*map(schema.reads, named))
    return Bound(tree, {name: column.type for name, column in plan.columns}, named, tables), []


def check_rule(rule: KqlRule, where: str, schema: Schema | None = None) -> list[str]:
    """Everything that is wrong with ``rule``, behind the place that it came from."""
    return [f"{where}: {fault}" for fault in prepare(rule, schema)[1]]


def _check_times(rule: KqlRule) -> list[str]:
    if rule.is_near_real_time:
        return [
            f"{name}: a near-real-time rule has none; it looks at rows as they arrive"
            for name in ("frequency", "lookback")
            if getattr(rule, name) is not None
        ]
    faults = [
        f"{name}: a scheduled rule needs one: PT5M, PT1H"
        for name in ("frequency", "lookback")
        if getattr(rule, name) is None
    ]
    if rule.frequency and rule.lookback and rule.lookback < rule.frequency:
        faults.append("lookback: is shorter than frequency, so that time in between would never be looked at")
    return faults


def check_examples(tests: Sequence[RowsExample], schema: Schema) -> list[str]:
    """What is wrong with the tests of a query, each fault with its place: they show both sides, by tables there are."""
    faults = []
    if not any(not e.expect for e in tests) or not any(e.expect for e in tests):
        faults.append(f"tests: {NEEDS_BOTH}")
    for number, example in enumerate(tests):
        for name, rows in example.rows.items():
            place = f"tests[{number}].rows.{name}"
            if name not in schema.tables:
                faults.append(f"{place}: there is no event table of that name. {nearest(name, schema.tables)}".strip())
                continue
            known = {column.name for column in schema.tables[name].columns if not column.stored_as}
            for column in sorted({column for row in rows for column in row} - known):
                faults.append(f"{place}: there is no column {column}. {nearest(column, known)}".strip())
    return faults


def _check_columns(rule: KqlRule, columns: Mapping[str, str]) -> list[str]:
    faults = []

    def need(place: str, name: str, types: frozenset[str] = frozenset()) -> None:
        if name not in columns:
            faults.append(f"{place}: the query gives no column {name}. {nearest(name, columns)}".strip())
        elif types and columns[name] not in types:
            faults.append(f"{place}: {name} is {columns[name]}; needed is {' or '.join(sorted(types))}")

    for number, entity in enumerate(rule.entities):
        need(f"entities[{number}].column", entity.column, _KEYS)
        if entity.name:
            need(f"entities[{number}].name", entity.name, _KEYS)
    for name in rule.dedup.columns:
        need("dedup.columns", name, _KEYS)
    if rule.severity_column:
        need("severity_column", rule.severity_column, frozenset({"string"}))
    if rule.is_near_real_time:
        need("query", "Timestamp", frozenset({"datetime"}))
        need("query", "ReportId", frozenset({"string"}))
    elif "Timestamp" in columns:
        need("query", "Timestamp", frozenset({"datetime"}))
    if "Evidence" in columns:
        need("query", "Evidence", frozenset({"dynamic"}))
    for field in ("title", "description"):
        try:
            parts = list(string.Formatter().parse(getattr(rule, field)))
        except ValueError as error:
            faults.append(f"{field}: {error}")
            continue
        for name in sorted({name for _, name, _, _ in parts if name is not None} - TEXTS - set(columns)):
            known = (*columns, *sorted(TEXTS))
            if re.fullmatch(r"\w+", name):
                faults.append(f"{field}: unknown placeholder {{{name}}}. {nearest(name, known)}".strip())
            else:
                faults.append(f"{field}: {{{name}}} is no plain name of a column")
        if any(spec or conversion for _, name, spec, conversion in parts if name is not None):
            faults.append(f"{field}: placeholders take no format")
    return faults


def _row_by_row(rule: KqlRule, tree: ast.Query, schema: Schema) -> tuple[str, str, list[str]]:
    """The table and the first conditions of a query that looks at each row by itself, or what keeps it from that.

    What compares rows with one another would give other answers whenever the slices happen to be cut elsewhere.
    """
    remedy = "Near-real-time rules look at each row of one event table by itself; make it scheduled."
    final = tree.statements[-1]
    value = final.value if isinstance(final, ast.Evaluation) else None
    source = value.source if isinstance(value, ast.Pipe) else value
    operators = value.operators if isinstance(value, ast.Pipe) else ()
    if not isinstance(source, ast.Name) or source.name not in schema.tables:
        return "", "", [f"query: does not begin with an event table. {remedy}"]
    faults = []
    for operator in operators:
        if not isinstance(operator, _ROW_BY_ROW):
            before = rule.query[: operator.span.start]
            place = f"line {before.count(chr(10)) + 1}, column {operator.span.start - before.rfind(chr(10))}"
            faults.append(f"query: {place}: {type(operator).__name__.lower()} sees more than one row. {remedy}")
    read = {name: times for name, times in mentions(tree).items() if schema.reads(name)}
    if sum(read.values()) > 1:
        faults.append(f"query: reads {', '.join(sorted(read))}, or one of them twice. {remedy}")
    conditions = []
    for operator in operators:
        if not isinstance(operator, ast.Where):
            break
        conditions.append(f"({to_text(operator.condition)})")
    condition = " and ".join(conditions)
    if condition and (len(tree.statements) > 1 or not _stands_alone(source.name, condition, schema)):
        condition = ""
    return source.name, condition, faults


def _stands_alone(table: str, condition: str, schema: Schema) -> bool:
    try:
        kql.analyze(f"{table} | summarize N = countif({condition})", schema, _EVERYTHING)
    except kql.KqlError:
        return False
    return True
