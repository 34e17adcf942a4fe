"""Compiled queries on the engine: its walls, its limits, its routines, and values on their way back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from watchfloor import kql
from watchfloor.kql import routines
from watchfloor.kql.values import parse_datetime
from watchfloor.model.errors import InputError, Unavailable
from watchfloor.storage.compiler import KqlCompiler, physical
from watchfloor.storage.engine import Engine
from watchfloor.storage.hunting import Cancelled, Hunter, Request, completion
from watchfloor.storage.ports import CompiledQuery, Limits, Scope, Ticket
from watchfloor.storage.remote import RemoteStore, store_app

from .test_events import open_store
from .test_remote import served


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with closing(Engine({"T": pa.table({"n": pa.array(range(10_000), pa.int64())})}, memory_limit="256MiB")) as opened:
        yield opened


@pytest.fixture(scope="module")
def hunter(engine: Engine) -> Hunter:
    table = kql.TableSchema("T", (kql.Column("n", "long"),))
    return Hunter(engine, KqlCompiler(schema=kql.Schema({"T": table})))


def rows(hunter: Hunter, text: str, **options: Any) -> list[list[Any]]:
    return hunter.hunt(Request(text, **options)).values()


# -- walls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY T TO '/tmp/stolen.csv'",
        "ATTACH '/tmp/other.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "SELECT * FROM sql",
    ],
)
def test_the_engine_reaches_nothing_outside(engine: Engine, sql: str) -> None:
    with pytest.raises((InputError, Unavailable)):
        engine.execute(sql)


def test_a_query_that_runs_too_long_is_stopped(hunter: Hunter) -> None:
    many = "range x from 1 to 1000000 step 1 | extend k = 1"
    text = f"{many} | join kind=inner ({many}) on k | count"
    began = time.monotonic()
    with pytest.raises(Unavailable, match="longer than"):
        rows(hunter, text, limits=Limits(timeout_seconds=0.5))
    assert time.monotonic() - began < 20


def test_a_query_that_needs_too_much_memory_is_stopped(hunter: Hunter) -> None:
    text = (
        "range x from 1 to 20000000 step 1 | extend s = strcat('a long text that differs ', x) | summarize make_list(s)"
    )
    with pytest.raises(Unavailable):
        rows(hunter, text)
    assert rows(hunter, "T | count") == [[10_000]]


def test_a_result_is_as_large_as_it_may_be_and_no_larger(hunter: Hunter) -> None:
    assert len(rows(hunter, "T", limits=Limits(max_rows=10_000))) == 10_000
    with pytest.raises(Unavailable, match="more than 9999 rows"):
        rows(hunter, "T", limits=Limits(max_rows=9_999))
    with pytest.raises(Unavailable, match="larger than 1000 bytes"):
        rows(hunter, "T", limits=Limits(max_bytes=1_000))


def test_a_query_in_another_dialect_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="speaks duckdb"):
        engine.query(CompiledQuery("SELECT 1", {}, (), frozenset(), "clickhouse"), Scope(), Limits())


# -- giving up --------------------------------------------------------------------------------------------------------


def test_a_run_can_be_cancelled_and_the_next_is_not(hunter: Hunter) -> None:
    request = Request("range x from 1 to 90000000 step 1 | where tostring(x) matches regex '9+8+7+6+5+4' | count")
    threading.Timer(0.3, request.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        hunter.hunt(request)
    assert time.monotonic() - began < 20
    assert rows(hunter, "T | count") == [[10_000]]


def test_a_run_that_was_cancelled_before_it_began_never_runs(hunter: Hunter) -> None:
    request = Request("T | count")
    request.cancel()
    with pytest.raises(Cancelled):
        hunter.hunt(request)


def test_a_query_that_is_given_up_just_before_it_begins_is_stopped(engine: Engine) -> None:
    ticket = Ticket("t")
    ticket.cancel()
    query = CompiledQuery("SELECT sum(a.range * b.range) FROM range(9000000) a, range(9000000) b", {}, (), frozenset())
    with pytest.raises(Unavailable, match="given up"):
        engine.query(query, Scope(), Limits(timeout_seconds=60, ticket=ticket))


def test_a_ticket_that_was_given_up_stops_whatever_is_attached_later() -> None:
    stopped = []
    ticket = Ticket("t")
    ticket.cancel()
    ticket.attach(lambda: stopped.append(1), lambda: 0.5)
    assert (stopped, ticket.progress()) == ([1], 0.5)
    ticket.detach()
    assert ticket.progress() is None


# -- routines ---------------------------------------------------------------------------------------------------------


def test_a_scalar_routine_is_called_for_each_row(hunter: Hunter) -> None:
    text = "datatable(s:string)['caesar', '', 'x'] | extend h = hash_sha1(s), soundex = translate('ae', 'AE', s)"
    assert [r[2] for r in rows(hunter, text)] == ["cAEsAr", "", "x"]


def test_nan_and_infinity_survive_a_routine(hunter: Hunter) -> None:
    text = "datatable(x:real)[2.0, 0.5, real(nan), real(+inf), real(null)] | extend y = beta_pdf(x, 1.0, 2.0), z = -x"
    found = [r[1] for r in rows(hunter, text)]
    assert str(found[0]) == "nan" and found[1] == pytest.approx(1.0) and found[4] is None


def test_an_aggregate_routine_sees_the_rows_of_its_group_and_none_where_there_are_none(hunter: Hunter) -> None:
    text = "datatable(k:string, v:dynamic)['a', dynamic({'x':1}), 'a', dynamic({'y':2}), 'b', dynamic(null)]"
    assert rows(hunter, f"{text} | summarize make_bag(v) by k | sort by k asc") == [["a", {"x": 1, "y": 2}], ["b", {}]]
    assert rows(hunter, f"{text} | where k == 'z' | summarize make_bag(v)") == [[{}]]


def test_a_relational_routine_gets_whole_tables_and_gives_rows(hunter: Hunter) -> None:
    text = "range x from 1 to 5 step 1 | extend r = x / 0.0 | evaluate narrow() | summarize count() by Column"
    assert rows(hunter, f"{text} | sort by Column asc") == [["r", 5], ["x", 5]]


def test_a_routine_over_no_rows_gives_none(hunter: Hunter) -> None:
    assert rows(hunter, "T | where n < 0 | evaluate narrow()") == []


def test_a_routine_stops_with_its_query(hunter: Hunter) -> None:
    edges = (
        "range a from 1 to 60 step 1 | extend k = 1 | join kind=inner (range b from 1 to 60 step 1 | extend k = 1) on k"
    )
    graph = "make-graph a --> b with_node_id=id | graph-match (x)-[e*1..9]->(y) project x.id"
    text = f"{edges} | where a != b | {graph} | count"
    began = time.monotonic()
    with pytest.raises((Unavailable, InputError)):
        rows(hunter, text, limits=Limits(timeout_seconds=1))
    assert time.monotonic() - began < 20
    assert routines.BUDGETS == {}


def test_what_is_no_routine_is_refused(engine: Engine) -> None:
    ref = routines.RoutineRef("function", "no_such_function", 0, ("long",), ("long",))
    with pytest.raises(InputError, match="no routine no_such_function"):
        engine.query(CompiledQuery("SELECT 1", {}, (), frozenset(), routines=frozenset({ref})), Scope(), Limits())


def test_routines_are_registered_once_by_any_number_of_threads() -> None:
    text = "datatable(a:string)['x', 'y'] | extend b = translate('x', 'z', a)"
    with closing(Engine()) as fresh:
        hunting = Hunter(fresh, KqlCompiler(schema=kql.Schema({})))
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(rows(hunting, text))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [[["x", "z"], ["y", "y"]]] * 6


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("literal", "wanted"),
    [
        ("datetime(2024-01-02 03:04:05.678901)", parse_datetime("2024-01-02 03:04:05.678901")),
        ("datetime(0001-01-01)", 0),
        ("datetime(9999-12-31)", parse_datetime("9999-12-31")),
        ("1.02:03:04.5", None),
        ("-90m", -54_000_000_000),
        ("decimal(1.50)", Decimal("1.5")),
        ("decimal(100)", Decimal(100)),
        ("dynamic({'a': [1, null, 2.5]})", {"a": [1, None, 2.5]}),
        ("dynamic(null)", None),
        ("guid(74be27de-1e4e-49d9-b579-fe0b331d3642)", "74be27de-1e4e-49d9-b579-fe0b331d3642"),
        ("long(-9223372036854775807)", -9223372036854775807),
        ("real(+inf)", float("inf")),
        ("'ünïcode'", "ünïcode"),
    ],
)
def test_values_come_back_as_they_went(hunter: Hunter, literal: str, wanted: Any) -> None:
    if wanted is None and literal[0].isdigit():
        literal, wanted = f"time({literal})", 937_845_000_000
    for text in (
        f"print x = {literal}",
        f"T | take 1 | project x = {literal}",
        f"union (print x = {literal}), (print x = {literal}) | take 1",
    ):
        assert rows(hunter, text) == [[wanted]]


def test_an_empty_result_has_its_columns(hunter: Hunter) -> None:
    found = hunter.hunt(Request("T | where n < 0 | extend s = tostring(n)"))
    assert (found.columns, found.values(), found.rows) == ((("n", "long"), ("s", "string")), [], 0)
    assert found.table.schema.names == ["n", "s"]


def test_a_result_is_read_page_by_page(hunter: Hunter) -> None:
    found = hunter.hunt(Request("T | sort by n asc"))
    assert found.rows == 10_000 and found.nbytes > 0
    assert [r[0] for r in found.values(9_998, 10)] == [9_998, 9_999]
    assert [r[0] for r in found.values(5_000, 2)] == [5_000, 5_001]
    assert found.values(20_000) == []


# -- hunting ----------------------------------------------------------------------------------------------------------


def test_columns_that_depend_on_data_are_asked_for_first(hunter: Hunter) -> None:
    text = "datatable(k:string, v:long)['a', 1, 'b', 2, 'a', 3] | evaluate pivot(k, sum(v))"
    found = hunter.hunt(Request(text))
    assert (found.columns, found.values()) == ((("a", "long"), ("b", "long")), [[4, 2]])


def test_several_results_come_with_their_names(hunter: Hunter) -> None:
    found = hunter.hunt(Request("T | fork Few = (take 2) Many = (count)"))
    everything = {name: other.rows for name, other in found.others}
    assert everything.get("Many") == 1


def test_how_to_draw_a_result_is_said_in_kustos_words(hunter: Hunter) -> None:
    drawn = hunter.hunt(
        Request("T | summarize count() by n % 3 | render columnchart with (title='Three')")
    ).visualization
    assert drawn is not None and (drawn["Visualization"], drawn["Title"], drawn["XColumn"]) == (
        "columnchart",
        "Three",
        None,
    )


def test_now_is_one_instant(hunter: Hunter) -> None:
    at = parse_datetime("2026-03-01 12:00")
    assert rows(hunter, "print a = now(), b = ago(1h)", now=at) == [[at, at - 36_000_000_000]]  # type: ignore[operator]  # it is a time


def test_a_mistake_has_its_place(hunter: Hunter) -> None:
    with pytest.raises(InputError) as refusal:
        rows(hunter, "T\n| where m > 1")
    assert refusal.value.where == "line 2, column 9"


def test_checking_says_what_is_wrong_or_what_will_come(hunter: Hunter) -> None:
    assert [e.line for e in hunter.check("T | where x > 1\n| extend y = z", Scope()).errors] == [1, 2]
    assert hunter.check("T | project m = n * 1.0", Scope()).columns == (("m", "real"),)


def test_secrets_are_masked_in_what_is_logged() -> None:
    assert Request("T | where s == h'hidden' and t == \"shown\"").loggable == 'T | where s == h"***" and t == "shown"'
    assert "hidden" not in Request("T | where s == h'hidden").loggable


def test_editors_are_told_of_functions_and_aggregates() -> None:
    found = {(entry["kind"], entry["name"]) for entry in completion()}
    assert {("function", "strcat"), ("aggregate", "dcount")} <= found
    assert all(name.replace("_", "").isalnum() for _, name in found)


def test_the_compiler_alone_refuses_what_needs_data(hunter: Hunter) -> None:
    text = "datatable(k:string, v:long)['a', 1] | evaluate pivot(k, sum(v))"
    with pytest.raises(InputError, match="depend on data"):
        KqlCompiler().compile(text, Scope())


# -- in the store process ---------------------------------------------------------------------------------------------


def test_routines_and_budgets_work_through_the_socket(tmp_path: Path) -> None:
    text = "datatable(x:long)[1, 2, 3] | extend s = translate('a', 'b', 'banana') | evaluate narrow() | count"
    with closing(open_store(tmp_path)) as store, served(store_app(store), tmp_path / "s"):
        with RemoteStore(tmp_path / "s") as remote:
            assert Hunter(remote).hunt(Request(text)).values() == [[6]]
            request = Request(
                "range x from 1 to 90000000 step 1 | where tostring(x) matches regex '9+8+7+6+5+4' | count"
            )
            threading.Timer(0.3, request.cancel).start()
            with pytest.raises(Cancelled):
                Hunter(remote).hunt(request)
            assert request.progress() is None


def test_what_a_compiled_query_needs_goes_with_it() -> None:
    found = kql.compile("print x = translate('a', 'b', tostring(now()))", kql.Schema({}), kql.Scope(()), now=0)
    assert not isinstance(found, kql.Pending)
    query = physical(found)
    assert (query.routines, query.needs_budget) == (found.routines, False)
