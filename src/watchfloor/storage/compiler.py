"""KQL over the event tables: the catalogue of ``tables.py`` and ``views.py``, the front end of ``kql``, the words of
``ports.py``.

The adapter between two rooms that do not know each other, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from watchfloor import content
from watchfloor import kql as language
from watchfloor.kql.ir import Plan, Question
from watchfloor.model.errors import InputError
from watchfloor.storage.lists import WELL_KNOWN
from watchfloor.storage.log import utc_now
from watchfloor.storage.ports import CompiledQuery, Scope
from watchfloor.storage.tables import TABLES, Table
from watchfloor.storage.views import described, with_views

_ALWAYS_GIVEN: Final = frozenset({"Timestamp", "IngestTime", "IngestSeq"})
_YEAR_ONE: Final = datetime(1, 1, 1, tzinfo=UTC)


@cache
def catalogue() -> language.Schema:
    """The event tables as KQL sees them, and the views over them that come with the product."""
    tables = {
        table.name: language.TableSchema(
            name=table.name,
            columns=tuple(_columns(table)),
            tenant_column="TenantId",
            time_column="Timestamp",
            doc=table.doc,
            order_column="IngestSeq",
        )
        for table in TABLES.values()
    }
    return with_views(language.Schema(tables, WELL_KNOWN), content.views())


def _columns(table: Table) -> Iterator[language.Column]:
    types = {c.name: c.type for c in table.columns}
    for name, type_ in types.items():
        yield language.Column(name, type_, name not in _ALWAYS_GIVEN)
    for alias, name in table.aliases:
        yield language.Column(alias, types[name], name not in _ALWAYS_GIVEN, stored_as=name)


@cache
def described_views() -> Mapping[str, Table]:
    """The views of ``catalogue`` by name, each as a table: what it is, and what its columns mean."""
    content_tables = frozenset(table.name for table in TABLES.values() if table.is_content)
    return {view.name: view for view in described(catalogue(), content.views(), content_tables)}


def ticks(moment: datetime) -> int:
    """``moment`` as KQL has it."""
    return (moment - _YEAR_ONE) // timedelta(microseconds=1) * 10


def physical(compiled: language.Compiled) -> CompiledQuery:
    """``compiled`` as a store takes it."""
    return CompiledQuery(
        compiled.sql,
        compiled.params,
        compiled.columns,
        compiled.tables,
        compiled.dialect,
        compiled.routines,
        compiled.needs_budget,
    )


class KqlCompiler:
    """``QueryCompiler`` over the event tables, or over any ``schema``. ``now`` is asked once a query."""

    def __init__(self, *, schema: language.Schema | None = None, now: Callable[[], datetime] = utc_now) -> None:
        self.schema = catalogue() if schema is None else schema
        self._now = now

    def now(self) -> int:
        """The instant that a query which begins now means by now()."""
        return ticks(self._now())

    def compile(self, kql: str, scope: Scope, dialect: str = "duckdb") -> CompiledQuery:
        """See ``QueryCompiler.compile``. Refuses a query whose columns depend on data: ``Hunter`` runs those."""
        compiled = self.analyze(kql, scope, dialect)
        if isinstance(compiled, language.Pending):
            raise InputError(
                "The columns of this query depend on data, so that it cannot be compiled alone.",
                where="query",
                remedy="Name the columns that you expect: evaluate bag_unpack(d) : (a: string, b: long).",
            )
        if compiled.others:
            raise InputError("The query has several results.", where="query", remedy="Ask for one at a time.")
        return physical(compiled)

    def analyze(
        self,
        kql: str,
        scope: Scope,
        dialect: str = "duckdb",
        *,
        schema: language.Schema | None = None,
        since: int | None = None,
        until: int | None = None,
        now: int | None = None,
        answers: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> language.Compiled | language.Pending:
        """``kql``, compiled as far as ``answers`` allow; ``since`` and ``until`` (ticks) narrow the scope.

        Raises ``InputError`` with its place.
        """
        try:
            return language.compile(
                kql,
                schema or self.schema,
                _visible(scope, since, until),
                now=self.now() if now is None else now,
                dialect=dialect,
                answers=answers,
                parameters=parameters,
            )
        except language.KqlError as error:
            raise InputError(error.message, where=error.where, remedy=error.remedy) from error

    def plan(self, kql: str, scope: Scope, *, schema: language.Schema | None = None) -> Plan | Question:
        """What ``kql`` means. Raises ``KqlError``."""
        return language.analyze(kql, schema or self.schema, _visible(scope), now=self.now())


def _visible(scope: Scope, since: int | None = None, until: int | None = None) -> language.Scope:
    start = None if scope.since is None else ticks(scope.since)
    if since is not None:
        start = since if start is None else max(start, since)
    return language.Scope(scope.tenants, scope.tables, start, until, scope.after, scope.upto)
