"""KQL over the event tables: the catalogue of ``tables.py``, the front end of ``kql``, the words of ``ports.py``.

The adapter between two rooms that do not know each other, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from watchfloor import kql as language
from watchfloor.model.errors import InputError
from watchfloor.storage.log import utc_now
from watchfloor.storage.ports import CompiledQuery, Scope
from watchfloor.storage.tables import TABLES, Table

_ALWAYS_GIVEN: Final = frozenset({"Timestamp", "IngestTime", "IngestSeq"})


def catalogue(tables: Mapping[str, Table] = TABLES) -> language.Schema:
    """The event tables as KQL sees them."""
    return language.Schema(
        {
            table.name: language.TableSchema(
                name=table.name,
                columns=tuple(language.Column(c.name, c.type, c.name not in _ALWAYS_GIVEN) for c in table.columns),
                tenant_column="TenantId",
                time_column="Timestamp",
            )
            for table in tables.values()
        }
    )


class KqlCompiler:
    """``QueryCompiler`` over ``tables``. ``now`` is asked once a query."""

    def __init__(self, tables: Mapping[str, Table] = TABLES, *, now: Callable[[], datetime] = utc_now) -> None:
        self._schema, self._now = catalogue(tables), now

    def compile(self, kql: str, scope: Scope, dialect: str = "duckdb") -> CompiledQuery:
        """See ``QueryCompiler.compile``."""
        visible = language.Scope(scope.tenants, scope.tables, scope.since)
        try:
            compiled = language.compile(kql, self._schema, visible, now=self._now(), dialect=dialect)
        except language.KqlError as error:
            raise InputError(error.message, where=error.where, remedy=error.remedy) from error
        return CompiledQuery(compiled.sql, compiled.params, compiled.columns, compiled.tables, dialect)
