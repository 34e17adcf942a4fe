"""KQL over the event tables, from text to rows: the compiler and the store together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from watchfloor.model.errors import InputError
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.ports import Limits, Scope
from watchfloor.storage.tables import TABLES

from .contract_events import START, Clock, activities, contents, logged
from .test_events import open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    with closing(open_store(tmp_path)) as opened:
        for n in range(1, 11):
            at = START - timedelta(minutes=n)
            opened.ingest(
                [
                    logged(n, activities(f"e{n:02}", at=at, UserId="ada" if n % 3 else "", AgentName=f"agent {n}")),
                    logged(n, contents(f"e{n:02}", at=at, Kind="invocation")),
                ]
            )
        yield opened


def ask(store: DuckDbStore, text: str, scope: Scope | None = None) -> list[dict[str, Any]]:
    scope = scope or Scope()
    query = KqlCompiler(now=Clock()).compile(text, scope)
    return [row for batch in store.query(query, scope, Limits()) for row in batch.to_pylist()]


def test_consumers_read_on_by_ingest_sequence(store: DuckDbStore) -> None:
    first = ask(store, "AgentActivity | where IngestSeq > 0 | sort by IngestSeq asc | take 6")
    assert [row["ReportId"] for row in first] == [f"e{n:02}" for n in range(1, 7)]
    assert list(first[0]) == [c.name for c in TABLES["AgentActivity"].columns]
    after = first[-1]["IngestSeq"]
    rest = ask(store, f"AgentActivity | where IngestSeq > {after} | sort by IngestSeq asc | take 5000")
    assert [row["ReportId"] for row in rest] == [f"e{n:02}" for n in range(7, 11)]


def test_questions_are_answered_over_hot_and_cold_alike(store: DuckDbStore) -> None:
    text = "AgentActivity | where Timestamp > ago(6m) and AgentName has '4' | summarize count() by UserId"
    assert ask(store, text) == [{"UserId": "ada", "count_": 1}]
    store.maintain(START + timedelta(days=30))
    assert ask(store, text) == [{"UserId": "ada", "count_": 1}]
    assert ask(store, "AgentActivity | where isempty(UserId) | count") == [{"Count": 3}]


def test_a_mistake_is_an_input_error_with_its_place() -> None:
    with pytest.raises(InputError) as refusal:
        KqlCompiler().compile("AgentActivity\n| where Verdit == 'block'", Scope())
    assert (refusal.value.where, refusal.value.remedy) == ("line 2, column 9", "Did you mean Verdict?")


def test_a_table_outside_the_scope_is_not_known_and_contents_are_a_table_of_their_own(store: DuckDbStore) -> None:
    scope = Scope(tables=frozenset({"AgentActivity"}))
    with pytest.raises(InputError, match="There is no table AgentContent"):
        ask(store, "AgentContent | count", scope)
    assert ask(store, "AgentContent | count") == [{"Count": 10}]


def test_rows_of_other_tenants_are_not_there(store: DuckDbStore) -> None:
    store.ingest([logged(99, activities("theirs", TenantId="other"))])
    assert ask(store, "AgentActivity | where TenantId != 'default' or true | count") == [{"Count": 10}]
    assert ask(store, "AgentActivity | count", Scope(("other",))) == [{"Count": 1}]


def test_an_alias_of_a_column_is_a_column_to_queries_and_is_stored_once() -> None:
    compiled = KqlCompiler().compile("AgentsInfo | where EntraAgentId == 'x' | project AgentName, Name", Scope())
    assert [name for name, _ in compiled.columns] == ["AgentName", "Name"]
    assert '"EntraAgentID"' in compiled.sql
    assert "EntraAgentId" not in compiled.sql
    for table in TABLES.values():
        stored = [c.name.lower() for c in table.columns]
        assert len(stored) == len(set(stored)), f"{table.name}: the store does not tell letter case apart"
        aliases, names = dict(table.aliases), {c.name for c in table.columns}
        assert not aliases.keys() & names
        assert set(aliases.values()) <= names
