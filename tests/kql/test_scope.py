"""Nobody's query depends on rows outside its scope, nor on the order of rows where KQL promises none.

Two laws over random queries. Non-interference: a store that holds other tenants, other tables and other times gives the
very answer of a store that holds only what the asker may see; so neither rows nor counts nor sums can leak. Order: the
same rows in another order give the same rows.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from watchfloor.model.errors import InputError, PastLimit
from watchfloor.storage.hunting import Hunted
from watchfloor.storage.ports import Limits, Scope

from .running import Data, schema_of, shown

pytestmark = pytest.mark.slow

COLUMNS = {"TenantId": "string", "At": "datetime", "Id": "long", "Mark": "string", "N": "long", "Tags": "dynamic"}
STANDARD = "At, Id, Mark, N, Tags"
SCOPE = Scope(("us", "them"), frozenset({"Alpha", "Beta", "AlphaToo"}), since=datetime(2026, 1, 10, tzinfo=UTC))
UNTIL = "2026-01-20"


def row(table: str, number: int, *, is_visible: bool, tenant: str, at: str) -> dict[str, Any]:
    word = "ok" if is_visible else "secret"
    return {
        "TenantId": tenant,
        "At": at,
        "Id": number,
        "Mark": f"{word} {table.lower()} {number % 3}",
        "N": None if number % 5 == 4 else number * 7 % 4,
        "Tags": [None, [], ["a"], ["a", "b", word], {"k": word}, word][number % 6],
    }


def rows_of(table: str, *, is_whole: bool) -> list[dict[str, Any]]:
    """What ``table`` holds; not ``is_whole``: only what may be seen."""
    if table == "Gamma" and not is_whole:
        return []
    found = []
    for number in range(8):
        day = 10 + number
        found.append(
            row(
                table,
                number,
                is_visible=table != "Gamma",
                tenant="them" if number % 3 == 0 else "us",
                at=f"2026-01-{day} 05:00",
            )
        )
        if is_whole:
            found += [
                row(table, number, is_visible=False, tenant=tenant, at=at)
                for tenant, at in (
                    ("other", f"2026-01-{day} 05:00"),
                    ("US", f"2026-01-{day} 05:00"),
                    ("us ", f"2026-01-{day} 05:00"),
                    ("", f"2026-01-{day} 05:00"),
                    ("us", "2026-01-09 23:59:59.999999"),
                    ("us", "2026-01-20"),
                    ("them", "1999-01-01"),
                )
            ]
    return found


def data(*, is_whole: bool, seed: int | None = None) -> Data:
    tables = {}
    for name in ("Alpha", "AlphaToo", "Beta", "Gamma"):
        rows = rows_of(name, is_whole=is_whole)
        if seed is not None:
            random.Random(seed).shuffle(rows)
        tables[name] = (schema_of(name, COLUMNS, tenant_column="TenantId", time_column="At"), rows)
    return Data(tables, scope=SCOPE, memory_limit="512MiB")


@pytest.fixture(scope="module")
def stores() -> dict[str, Data]:
    return {
        "whole": data(is_whole=True),
        "visible": data(is_whole=False),
        "shuffled": data(is_whole=True, seed=7),
        "shuffled visible": data(is_whole=False, seed=8),
    }


# -- queries ----------------------------------------------------------------------------------------------------------

TABLES = st.sampled_from(["Alpha", "Beta", "AlphaToo"])
VALUES = st.sampled_from(["0", "1", "3", "100"])
WORDS = st.sampled_from(['"ok"', '"secret"', '"alpha"', '"a"', '"2"'])
CONDITIONS = st.one_of(
    st.builds("N {} {}".format, st.sampled_from(["==", "!=", "<", ">="]), VALUES),
    st.builds(
        "Mark {} {}".format, st.sampled_from(["has", "!has", "contains", "startswith", "!endswith", "=~"]), WORDS
    ),
    st.builds("Tags {} {}".format, st.sampled_from(["has", "!has"]), WORDS),
    st.builds("At {} datetime(2026-01-{:02})".format, st.sampled_from(["<", ">="]), st.integers(1, 28)),
    st.builds("TenantId == {}".format, st.sampled_from(['"us"', '"other"', '"them"', '"US"'])),
    st.just("isnull(N) or isempty(Mark)"),
    st.just("1 == 1"),
)


def sources(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Rows with the standard columns and TenantId, from wherever a query may take them."""
    part = inner.map("({})".format)
    return st.one_of(
        st.builds("union {}, {}".format, part, part),
        st.builds("union kind=outer withsource=From {}, {} | project-away From".format, part, TABLES),
        st.builds("{} | union {}".format, inner, part),
        st.builds("{} | where {}".format, inner, CONDITIONS),
        st.builds("{} | where not({})".format, inner, CONDITIONS),
        st.builds("{} | where Id {} ({} | project Id)".format, inner, st.sampled_from(["in", "!in"]), inner),
        st.builds("{} | where Mark in~ ({} | distinct Mark)".format, inner, inner),
        st.builds("{} | extend N = N + {}".format, inner, VALUES),
        st.builds("{} | extend N = toscalar({} | summarize sum(N))".format, inner, inner),
        st.builds("{} | extend Mark = strcat(Mark, toscalar({} | count))".format, inner, inner),
        st.builds("{} | mv-expand T = Tags to typeof(string) | where T has {} | project-away T".format, inner, WORDS),
        st.builds(
            "{} | mv-apply T = Tags on (summarize M = max(tostring(T))) | extend Mark = M | project-away M".format,
            inner,
        ),
        st.builds(
            "{} | join kind={} {} on Id | project TenantId = coalesce(TenantId, TenantId1), At = coalesce(At, At1), "
            "Id = coalesce(Id, Id1), Mark = strcat(Mark, Mark1), N = N1, Tags = Tags1".format,
            inner,
            st.sampled_from(["inner", "leftouter", "rightouter", "fullouter"]),
            part,
        ),
        st.builds(
            "{} | join kind={} {} on Id, Mark".format,
            inner,
            st.sampled_from(["leftsemi", "leftanti", "rightsemi"]),
            part,
        ),
        st.builds(
            "{} | lookup ({} | summarize L = count() by Id) on Id | extend N = L | project-away L".format, inner, inner
        ),
        st.builds(
            "{} | summarize TenantId = min(TenantId), At = max(At), Mark = max(Mark), N = sum(N), Tags = "
            "make_set(Mark) by Id".format,
            inner,
        ),
        st.builds("{} | as Named | union Named".format, inner),
        st.builds("{} | partition hint.strategy=native by Mark (where N > 0)".format, inner),
        st.builds("{} | sort by Id asc, Mark desc".format, inner),
        st.builds("{} | invoke ((T:(*)) {{ T | where N > 0 }})()".format, inner),
    )


BASES = st.one_of(
    TABLES,
    st.builds("table('{}')".format, TABLES),
    st.builds("database('watchfloor').{}".format, TABLES),
    st.builds("materialize({})".format, TABLES),
    st.builds("union {}*".format, st.sampled_from(["A", "Alp", "", "B", "*a"])),
    st.just("union *"),
    st.just("union withsource=From * | project-away From"),
    st.builds("union isfuzzy=true {}, Gamma".format, TABLES),
    st.builds("union isfuzzy=true {}, Nothing".format, TABLES),
    st.builds("search {} | project TenantId, {}".format, WORDS, st.just(STANDARD)),
    st.builds("search in (A*, Beta) {} | project TenantId, {}".format, WORDS, st.just(STANDARD)),
    st.builds("find in (Alpha, Beta) where {} project TenantId, {}".format, CONDITIONS, st.just(STANDARD)),
    st.builds("find where {} project TenantId, {}".format, CONDITIONS, st.just(STANDARD)),
    st.just("all()"),
    st.just("some"),
    st.just("of(Beta)"),
)
ROWS = st.recursive(BASES, sources, max_leaves=5)
ENDS = st.sampled_from(
    [
        "",
        " | count",
        " | summarize count(), sum(N), max(Mark), min(At), make_set(Mark)",
        " | summarize count() by Mark, TenantId",
        " | summarize c = countif(Mark has 'secret'), dcount(Id) by bin(At, 2d)",
        " | distinct TenantId",
        " | distinct Mark, Id",
        " | project x = strcat(Mark, '/', tostring(Tags))",
        " | extend e = bag_pack('m', Mark, 'n', N) | project e",
        " | make-series s = count() on At from datetime(2026-01-01) to datetime(2026-02-01) step 1d by Mark",
        " | summarize s = make_list_with_nulls(N) by Id | project Id, array_length(s)",
        " | evaluate pivot(Mark, count(), Id)",
        " | evaluate narrow() | summarize count() by Column, Value",
        " | getschema",
        " | top-nested of Id by count(), top-nested of Mark by sum(N)",
        " | fork (count) (distinct Mark)",
        " | facet by Mark, TenantId",
        " | where * has 'secret' | count",
        " | reduce by Mark | project Count",
    ]
)
PREFIX = "let all = () { union Alpha, Beta }; let some = Alpha | where N > 0; let of = (T:(*)) { T | where Id > 1 }; "
QUERIES = st.builds("{}{}{}".format, st.just(PREFIX), ROWS, ENDS)


def normal(value: Any) -> Any:
    """Without the order of arrays, which make_set does not promise."""
    if isinstance(value, list):
        return sorted((normal(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    return {k: normal(v) for k, v in value.items()} if isinstance(value, dict) else value


def everything(hunted: Hunted) -> list[Any]:
    """The result and the further results, in no order of rows or columns."""
    answer = shown(hunted)
    rows = sorted(
        json.dumps(sorted(zip(answer.names, map(normal, r), strict=True)), sort_keys=True) for r in answer.rows
    )
    return [sorted(answer.columns), rows, *(everything(other) for _, other in hunted.others)]


def outcome(store: Data, text: str) -> Any:
    """The answer, or why there is none."""
    try:
        return everything(store.hunt(text, limits=Limits(20, 50_000), until=_ticks(UNTIL)))
    except InputError as error:
        return ["refused", str(error)]


def _ticks(text: str) -> int:
    from watchfloor.kql.values import parse_datetime

    found = parse_datetime(text)
    assert found is not None
    return found


@given(QUERIES)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_answer_depends_on_visible_rows_only_and_on_no_order(stores: dict[str, Data], text: str) -> None:
    assume(len(text) < 4_000)
    try:
        found = {name: outcome(store, text) for name, store in stores.items()}
    except PastLimit:
        assume(False)
    event("refused" if found["whole"][0] == "refused" else "answered")
    assert found["whole"] == found["visible"]
    assert found["whole"] == found["shuffled"] == found["shuffled visible"]
    if "'secret'" not in text and '"secret"' not in text:
        assert "secret" not in json.dumps(found["whole"])


def test_most_of_these_queries_are_answered(stores: dict[str, Data]) -> None:
    """The law would hold for a product that refuses everything."""
    found: list[str] = []

    @given(QUERIES)
    @settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def collect(text: str) -> None:
        answer = outcome(stores["visible"], text)
        found.append(answer[1] if answer[0] == "refused" else "")

    collect()
    refused = [message for message in found if message]
    assert len(refused) < len(found) / 3, refused[:10]


@pytest.mark.parametrize(
    ("tenants", "since", "until", "expected"),
    [
        (("us",), None, None, 5 + 8 + 8),  # and those of two other times
        (("them",), None, None, 3 + 8),
        (("other",), None, None, 8),
        (("US",), None, None, 8),
        ((), None, None, 0),
        (("us", "them"), "2026-01-10", UNTIL, 8),
        (("us", "them"), "2026-01-10 05:00", UNTIL, 8),
        (("us", "them"), "2026-01-10 05:00:00.000001", UNTIL, 7),
        (("us", "them"), "2026-01-10", "2026-01-17 05:00", 7),
        (("us", "them"), "2026-01-20", "2026-01-10", 0),
        (("x' OR '1'='1",), None, None, 0),
    ],
)
def test_tenants_and_times_of_a_scope_are_exact(
    stores: dict[str, Data], tenants: tuple[str, ...], since: str | None, until: str | None, expected: int
) -> None:
    times = {name: _ticks(text) for name, text in (("since", since), ("until", until)) if text}
    found = stores["whole"].ask("Alpha | distinct TenantId, At, Id", Scope(tenants), **times)
    assert len(found.rows) == expected


@pytest.mark.parametrize("name", ["Gamma", "gamma", "['Gamma']", "table('Gamma')", "database('watchfloor').Gamma"])
def test_a_table_outside_the_scope_is_no_table(stores: dict[str, Data], name: str) -> None:
    refused = stores["whole"].refusal(name)
    assert refused.kind == "semantic"
    assert refused.message == stores["visible"].refusal(name).message
