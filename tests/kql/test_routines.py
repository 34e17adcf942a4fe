"""Relational routines: scan, make-series, graphs and plugins, asked for in KQL and answered in plain Python."""

from __future__ import annotations

from typing import Any

import pytest

from watchfloor.kql import ir
from watchfloor.kql.bind import bind
from watchfloor.kql.evaluate import rows
from watchfloor.kql.parser import parse
from watchfloor.kql.routines import Budget, OutOfTime, registry
from watchfloor.kql.routines.common import Refused
from watchfloor.kql.routines.plugins.lookup import network
from watchfloor.kql.schema import Schema, Scope


def answer(text: str, budget: Budget | None = None) -> list[tuple[Any, ...]]:
    plan = bind(parse(text), Schema({}), Scope(()), now=0)
    assert isinstance(plan, ir.Plan)
    return rows(plan, {}, budget)


def found(text: str) -> list[tuple[Any, ...]]:
    """The answer without order."""
    return sorted(answer(text), key=repr)


# -- scan -------------------------------------------------------------------------------------------------------------


def scan(events: str, text: str) -> list[tuple[Any, ...]]:
    """``text`` over one row for each letter of ``events``."""
    cells = ", ".join(f"{place}, '{event}'" for place, event in enumerate(events))
    return answer(f"datatable(n:long, e:string)[{cells}] | sort by n asc | scan {text}")


START_STOP = "(step s: e == 's'; step m: e !in ('s', 't'); step t: e == 't';)"


def test_scan_gives_what_lies_between_start_and_stop() -> None:
    assert [n for n, *_ in scan("asbctdsxt", f"with_match_id=m with {START_STOP}")] == [1, 2, 3, 4, 6, 7, 8]


def test_scan_counts_its_sequences_and_a_repeated_first_step_stays_in_its_own() -> None:
    assert [(e, m) for _, e, m in scan("ssbtsb", f"with_match_id=m with {START_STOP}")] == [
        ("s", 0), ("s", 0), ("b", 0), ("t", 0), ("s", 1), ("b", 1),
    ]  # fmt: skip


def test_scan_keeps_two_sequences_apart_at_different_steps() -> None:
    text = "with_match_id=m with (step a: e == 'a'; step b: e == 'b'; step c: e == 'c';)"
    assert [(e, m) for _, e, m in scan("abacc", text)] == [("a", 0), ("b", 0), ("a", 1), ("c", 0), ("c", 0)]


def test_a_row_can_match_several_steps_from_the_last_to_the_first() -> None:
    text = "with_match_id=m declare (w:string) with (step p: true => w = 'p'; step q: e == 'b' => w = 'q';)"
    assert [(n, w, m) for n, _, w, m in scan("abc", text)] == [(0, "p", 0), (1, "q", 0), (1, "p", 1), (2, "p", 1)]


def test_scan_assigns_from_the_state_of_the_step_before() -> None:
    text = "declare (since:long) with (step s: e == 's' => since = n; step m: e == 'm' => since = s.since;)"
    assert [(n, since) for n, _, since in scan("smsmm", text)] == [(0, 0), (1, 0), (2, 2), (3, 2), (4, 2)]


def test_what_is_not_assigned_has_its_default() -> None:
    text = "declare (x:long = 7, y:string) with (step s: true => y = strcat(s.y, e);)"
    assert [(x, y) for _, _, x, y in scan("abc", text)] == [(7, "a"), (7, "ab"), (7, "abc")]


def test_assignments_of_one_step_do_not_see_each_other() -> None:
    text = "declare (x:long = 0, y:long = 0) with (step s: true => x = s.x + 1, y = s.x;)"
    assert [(x, y) for _, _, x, y in scan("abc", text)] == [(1, 0), (2, 1), (3, 2)]


@pytest.mark.parametrize(("output", "wanted"), [("all", [0, 1, 2, 3]), ("last", [2, 3]), ("none", [3])])
def test_output_says_which_repetitions_are_shown(output: str, wanted: list[int]) -> None:
    text = f"with (step a output={output}: e == 'a'; step b: e == 'b';)"
    assert [n for n, *_ in scan("aaab", text)] == wanted


def test_output_last_at_the_end_of_the_input() -> None:
    assert [n for n, *_ in scan("aaxa", "with (step a output=last: e == 'a';)")] == [3]


def test_scan_in_partitions_starts_anew_in_each() -> None:
    text = (
        "datatable(k:string, v:long)['x', 1, 'y', 10, 'x', 2, 'y', 20]"
        " | partition by k (sort by v asc"
        " | scan with_match_id=m declare (s:long = 0) with (step a: true => s = a.s + v;))"
    )
    assert found(text) == [("x", 1, 1, 0), ("x", 2, 3, 0), ("y", 10, 10, 0), ("y", 20, 30, 0)]


# -- make-series ------------------------------------------------------------------------------------------------------

POINTS = "datatable(k:string, x:long, y:real)['a', 1, 1.5, 'a', 1, 2.5, 'a', 4, 3, 'b', 2, 4]"


def test_make_series_fills_gaps_and_leaves_the_end_out() -> None:
    text = f"{POINTS} | make-series s = sum(y), n = count() on x from 0 to 4 step 1 by k"
    assert found(text) == [
        ("a", [0, 4.0, 0, 0], [0, 2, 0, 0], [0, 1, 2, 3]),
        ("b", [0, 0, 4.0, 0], [0, 0, 1, 0], [0, 1, 2, 3]),
    ]


def test_make_series_in_range_has_its_end() -> None:
    assert found(f"{POINTS} | make-series n = count() default = -1 on x in range(0, 4, 2)") == [([2, 1, 1], [0, 2, 4])]


def test_make_series_without_bounds_goes_as_far_as_each_series() -> None:
    text = f"{POINTS} | make-series n = count() on x step 1 by k"
    assert found(text) == [("a", [2, 0, 0, 1], [1, 2, 3, 4]), ("b", [1], [2])]


def test_make_series_over_nothing() -> None:
    text = "datatable(x:long)[] | make-series {} n = count() default = 3 on x from 0 to 2 step 1"
    assert answer(text.format("")) == []
    assert answer(text.format("kind=nonempty")) == [([3, 3], [0, 1])]


def test_make_series_bins_times_from_its_start() -> None:
    text = (
        "datatable(t:datetime)[datetime(2024-01-01 05:00), datetime(2024-01-02 04:00)]"
        " | make-series n = count() on t from datetime(2024-01-01 03:00) to datetime(2024-01-03 03:00) step 1d"
    )
    assert answer(text) == [([1, 1], ["2024-01-01T03:00:00.0000000Z", "2024-01-02T03:00:00.0000000Z"])]


def test_make_series_refuses_endless_arrays() -> None:
    with pytest.raises(Refused, match="at most 1048576"):
        answer(f"{POINTS} | make-series count() on x from 0 to 1000000000 step 1")


# -- graph-match ------------------------------------------------------------------------------------------------------


def graph(edges: str, query: str, nodes: str = "with_node_id=id") -> list[tuple[Any, ...]]:
    """``query`` over edges such as "AB BC", numbered from 0 as ``w``."""
    cells = ", ".join(f"'{pair[0]}', '{pair[1]}', {place}" for place, pair in enumerate(edges.split()))
    return found(f"datatable(s:string, t:string, w:long)[{cells}] | make-graph s --> t {nodes} | {query}")


def pairs(edges: str, pattern: str) -> list[str]:
    text = f"graph-match {pattern} project a.id, b.id"
    return ["".join(row) for row in graph(edges, text)]


def test_edges_have_directions() -> None:
    assert pairs("AB", "(a)-->(b)") == ["AB"]
    assert pairs("AB", "(a)<--(b)") == ["BA"]
    assert pairs("AB", "(a)--(b)") == ["AB", "BA"]


def test_every_edge_row_is_an_edge_and_a_loop_has_two_directions() -> None:
    assert pairs("AB AB", "(a)-->(b)") == ["AB", "AB"]
    assert pairs("AA", "(a)-->(b)") == ["AA"]
    assert pairs("AA", "(a)--(b)") == ["AA", "AA"]


def test_a_null_id_is_a_node_that_joins() -> None:
    text = (
        "datatable(s:long, t:long)[1, 2, long(null), 3, 4, long(null)] | make-graph s --> t with_node_id=id"
        " | graph-match (a)-->(b)-->(c) project a.id, b.id, c.id"
    )
    assert answer(text) == [(4, None, 3)]


def test_a_name_that_repeats_is_the_same_node() -> None:
    assert pairs("AB BA BC", "(a)-->(b)-->(a)") == ["AB", "BA"]


def test_sequences_meet_in_the_nodes_that_they_share() -> None:
    text = "graph-match (x)-->(m)-->(y), (m)-->(z) where y.id == 'C' project x.id, m.id, z.id"
    assert graph("AM MC MD", text) == [("A", "M", "D")]


@pytest.mark.parametrize(
    ("cycles", "wanted"),
    [("", ["AA", "BB"]), ("cycles=unique_edges", ["AA", "BB"]), ("cycles=all", ["AA", "BB"]), ("cycles=none", [])],
)
def test_cycles_over_two_edges(cycles: str, wanted: list[str]) -> None:
    assert pairs("AB BA", f"{cycles} (a)-->()-->(b)") == wanted


def test_an_edge_is_used_once_in_a_match_unless_all_cycles_are_wanted() -> None:
    assert pairs("AB", "(a)--()--(b)") == []
    assert pairs("AB", "cycles=all (a)--()--(b)") == ["AA", "BB"]
    assert pairs("AB BA", "(a)-->()-[p*1..3]->(b)") == ["AA", "BB"]


def test_without_cycles_a_triangle_is_kept_and_paths_are_simple() -> None:
    assert pairs("AB BC CA", "cycles=none (a)-->(b)-->(c)-->(a)") == ["AB", "BC", "CA"]
    assert graph("AB BA", "graph-match cycles=none (a)-[p*1..3]->(a) project a.id") == []
    assert graph("XA AX XB", "graph-match cycles=none (x)-->(a)-[p*2..2]->(b) project x.id, b.id") == []
    assert graph("XA AX XB", "graph-match (x)-->(a)-[p*2..2]->(b) project x.id, b.id") == [("X", "B")]


def test_a_path_is_a_list_from_left_to_right() -> None:
    text = "graph-match (a){}(b) where a.id == '{}' project b.id, map(p, w), map(inner_nodes(p), id)"
    assert graph("AB BC", text.format("-[p*1..2]->", "A")) == [("B", [0], []), ("C", [0, 1], ["B"])]
    assert graph("AB BC", text.format("<-[p*1..2]-", "C")) == [("A", [1, 0], ["B"]), ("B", [1], [])]


def test_a_path_is_the_same_from_whichever_end_it_is_found() -> None:
    text = "graph-match (a)-[p*1..3]->(b) where {} project a.id, b.id, map(p, w)"
    by_start = graph("AB BC CD BD", text.format("a.id == 'A'"))
    by_end = graph("AB BC CD BD", text.format("b.id == 'D'"))
    both = ("A", "D", [0, 1, 2]), ("A", "D", [0, 3])
    assert all(row in by_start and row in by_end for row in both)


def test_a_path_of_no_edges_joins_a_node_with_itself() -> None:
    text = "graph-match (a)-[p*0..1]->(b) project a.id, b.id, all(p, w > 5), any(p, w >= 0), map(p, w)"
    assert graph("AB", text) == [("A", "A", True, False, []), ("A", "B", False, True, [0]), ("B", "B", True, False, [])]


def test_all_and_any_take_null_for_false_and_map_keeps_it() -> None:
    text = (
        "datatable(s:string, t:string, w:long)['A', 'B', long(null), 'B', 'C', 1]"
        " | make-graph s --> t with_node_id=id | graph-match (a)-[p*1..2]->(b)"
        " project a.id, b.id, all(p, w > 0), any(p, w > 0), all(p, not(w > 0)), map(p, w)"
    )
    assert found(text) == [
        ("A", "B", False, False, False, [None]),
        ("A", "C", False, True, False, [None, 1]),
        ("B", "C", True, True, False, [1]),
    ]


def test_a_condition_on_a_path_can_compare_with_its_ends() -> None:
    text = (
        "graph-match (a)-[p*1..3]->(b) where all(inner_nodes(p), id != a.id and id != 'D') and b.id == 'C' project a.id"
    )
    assert graph("AB BC AD DC CA", text) == [("A",), ("B",), ("C",), ("D",)]


def test_every_inner_node_must_fulfil_what_all_says() -> None:
    nodes = "(datatable(id:string, ok:bool)['A', true, 'B', false, 'C', true, 'D', false])"
    text = "graph-match (a)-[p*1..2]->(b) where a.id == 'A' and all(inner_nodes(p), ok) project b.id, map(p, w)"
    cells = "datatable(s:string, t:string, w:long)['A', 'B', 0, 'B', 'D', 1, 'A', 'C', 2, 'C', 'D', 3]"
    assert found(f"let N = {nodes}; {cells} | make-graph s --> t with N on id | {text}") == [
        ("B", [0]), ("C", [2]), ("D", [2, 3]),
    ]  # fmt: skip


def test_degrees_count_loops_both_ways() -> None:
    text = "graph-match (a) project a.id, node_degree_in(a), node_degree_out(a)"
    assert graph("AB AB AA CA", text) == [("A", 2, 3), ("B", 2, 0), ("C", 0, 1)]


def test_an_unbounded_search_ends_with_its_budget() -> None:
    complete = " ".join(a + b for a in "ABCDEFGHIJ" for b in "ABCDEFGHIJ" if a != b)
    cells = ", ".join(f"'{edge[0]}', '{edge[1]}'" for edge in complete.split())
    text = f"datatable(s:string, t:string)[{cells}] | make-graph s --> t | graph-match (a)-[p*1..50]->(b) project 1"
    with pytest.raises(OutOfTime):
        answer(text, Budget(0.2))


# -- shortest paths, components ---------------------------------------------------------------------------------------


def shortest(edges: str, pattern: str, where: str, output: str = "any", project: str = "map(p, w)") -> list[Any]:
    return [
        row[0]
        for row in graph(edges, f"graph-shortest-paths output={output} {pattern} where {where} project {project}")
    ]


TO_C = "a.id == 'A' and b.id == 'C'"


def test_the_shortest_path_is_found_and_all_of_them_on_demand() -> None:
    assert shortest("AB BC AD DE EC", "(a)-[p*1..5]->(b)", TO_C) == [[0, 1]]
    assert shortest("AB BC AD DC", "(a)-[p*1..5]->(b)", TO_C, "all") == [[0, 1], [2, 3]]
    assert len(shortest("AC AC", "(a)-[p*1..5]->(b)", TO_C)) == 1
    assert shortest("AC AC", "(a)-[p*1..5]->(b)", TO_C, "all") == [[0], [1]]


def test_shortest_paths_respect_their_range_and_are_simple() -> None:
    assert shortest("AB BC AC", "(a)-[p*2..5]->(b)", TO_C) == [[0, 1]]
    assert shortest("AB BA AC", "(a)-[p*3..5]->(b)", TO_C) == []
    assert graph("AB BA", "graph-shortest-paths (a)-[p*1..5]->(b) where a.id == b.id project a.id") == []


def test_conditions_choose_paths_before_the_shortest_is_taken() -> None:
    assert shortest("AC AB BC", "(a)-[p*1..5]->(b)", f"{TO_C} and all(p, w > 0)") == [[1, 2]]
    assert shortest("AC AB BC", "(a)-[p*1..5]->(b)", f"{TO_C} and any(p, w == 2)") == [[1, 2]]


def test_shortest_paths_behind_a_plain_edge() -> None:
    text = "graph-shortest-paths (x)-->(a)-[p*1..3]->(b) where x.id == 'X' and b.id == 'C' project a.id, map(p, w)"
    assert graph("XA XB AC BA", text) == [("A", [2]), ("B", [3, 2])]


def test_shortest_paths_in_a_large_grid_are_quick() -> None:
    size = 12
    edges = [
        f"'{x}.{y}', '{x + right}.{y + 1 - right}'"
        for x in range(size) for y in range(size) for right in (0, 1)
        if x + right < size and y + 1 - right < size
    ]  # fmt: skip
    text = (
        f"datatable(s:string, t:string)[{', '.join(edges)}] | make-graph s --> t with_node_id=id"
        f" | graph-shortest-paths (a)-[p*1..100]->(b) where a.id == '0.0' and b.id == '11.11' project array_length(p)"
    )
    assert answer(text, Budget(20)) == [(22,)]


@pytest.mark.parametrize(("kind", "wanted"), [("weak", ["ABC", "DE"]), ("strong", ["AB", "C", "D", "E"])])
def test_components(kind: str, wanted: list[str]) -> None:
    text = f"graph-mark-components kind={kind} with_component_id=c | graph-to-table nodes"
    members: dict[int, str] = {}
    for name, component in graph("AB BA BC DE", text):
        members[component] = members.get(component, "") + name
    assert sorted(members.values()) == wanted
    assert sorted(members) == list(range(len(wanted)))


def test_a_long_chain_is_one_component() -> None:
    text = "range n from 1 to 5000 step 1 | extend m = n + 1 | make-graph n --> m with_node_id=id"
    for kind, count in (("weak", 1), ("strong", 5001)):
        query = f"{text} | graph-mark-components kind={kind} | graph-to-table nodes | summarize dcount(ComponentId)"
        assert answer(query) == [(count,)]


# -- plugins ----------------------------------------------------------------------------------------------------------

VISITS = "datatable(u:string, d:long)['a', 0, 'b', 0, 'a', 1, 'c', 1, 'c', 1, 'b', 3, 'a', 9]"


def test_activity_counts_compare_with_all_windows_before() -> None:
    assert answer(f"{VISITS} | evaluate activity_counts_metrics(u, d, 0, 3, 1)") == [
        (0, 2, 2, 2, 2), (1, 3, 2, 1, 3), (3, 1, 1, 0, 3),
    ]  # fmt: skip


def test_activity_metrics_compare_with_the_window_before() -> None:
    first, second, third = answer(f"{VISITS} | evaluate activity_metrics(u, d, 0, 3, 1)")
    assert first[:3] == (0, 2, 2) and first[3] != first[3]
    assert second == (1, 2, 1, 0.5, 0.5)
    assert third[:3] == (3, 1, 1) and third[3] != third[3]


def test_sliding_windows_count_ids_of_the_bins_before() -> None:
    assert answer(f"{VISITS} | evaluate sliding_window_counts(u, d, 0, 5, 2, 1)") == [
        (0, 2, 2), (1, 5, 3), (2, 3, 2), (3, 1, 1), (4, 1, 1),
    ]  # fmt: skip


def test_active_users_need_enough_different_periods() -> None:
    days = ", ".join(f"'x', {day}" for day in (0, 0, 1, 5, 6, 7))
    text = f"datatable(u:string, d:long)[{days}] | evaluate active_users_count(u, d, 0, 9, 3, 1, 3, 1)"
    assert answer(text) == [(7, 1)]


def test_a_session_begins_where_an_id_was_not_seen_before() -> None:
    cells = [["x", 1], ["x", 2], ["x", 8], ["y", 12], ["y", 13], ["y", 25], ["z", 0]]
    spec = {"id": 0, "time": 1, "dimensions": [], "start": 0, "end": 24, "bin": 10, "lookback": 5}
    assert list(registry()["session_count"](spec, [cells], Budget())) == [[0, 2], [10, 1]]


def test_rolling_percentiles_look_back_over_bins() -> None:
    text = "range n from 0 to 5 step 1 | evaluate rolling_percentile(n, 50, n, 2, 2)"
    assert answer(text) == [(0, 0), (2, 1), (4, 3)]


def test_rows_near_shows_each_row_once_and_in_order() -> None:
    text = "range n from 0 to 9 step 1 | sort by n asc | evaluate rows_near(n in (2, 3, 8), {})"
    assert [row[0] for row in answer(text.format("1"))] == [1, 2, 3, 4, 7, 8, 9]
    assert [row[0] for row in answer(text.format("0, 1"))] == [2, 3, 4, 8, 9]


def test_narrow_turns_columns_into_rows() -> None:
    assert answer("print a = 1, b = 'x' | evaluate narrow()") == [(0, "a", "1"), (0, "b", "x")]


def test_schemas_are_merged_in_the_order_of_their_columns() -> None:
    text = (
        "let A = datatable(a:long, c:string)[] | getschema; let B = datatable(a:long, b:real, c:string)[] | getschema;"
        " union A, B | evaluate schema_merge(PreserveOrder = {}) | project ColumnName, ColumnOrdinal, ColumnType"
    )
    assert answer(text.format("false")) == [("a", 0, "long"), ("b", 1, "real"), ("c", 2, "string")]
    assert answer(text.format("true")) == [
        ("a", 0, "long"),
        ("b", 1, "real"),
        ("c", -1, "ERROR(columns are out of order)"),
    ]


def test_schemas_with_other_types_are_refused() -> None:
    text = "let A = datatable(a:long)[] | getschema; let B = datatable(a:real)[] | getschema;"
    with pytest.raises(Refused, match="long and real of a"):
        answer(f"{text} union A, B | evaluate schema_merge()")


NETWORKS = "let N = datatable(net:string, who:string)['10.0.0.0/8', 'ten', '10.1.0.0/16', 'one', '1.2.3.4', 'host'];"


def test_addresses_find_their_networks() -> None:
    addresses = "datatable(ip:string)['10.1.2.3', '1.2.3.4', '10.0.0.0/7', 'nonsense']"
    text = f"{NETWORKS} {addresses} | evaluate ipv4_lookup(N, ip, net"
    assert [(ip, who) for ip, _, who in answer(f"{text})")] == [
        ("10.1.2.3", "ten"),
        ("10.1.2.3", "one"),
        ("1.2.3.4", "host"),
    ]
    assert [(ip, who) for ip, _, who in answer(f"{text}, return_unmatched = true)")][3:] == [
        ("10.0.0.0/7", ""),
        ("nonsense", ""),
    ]


@pytest.mark.parametrize(
    ("text", "version", "wanted"),
    [
        ("10.1.2.3/8", 4, ("10.0.0.0/8", 4)),
        ("::ffff:10.0.0.1", 6, ("10.0.0.1", 6)),
        ("2001:db8::1/32", 6, ("2001:db8::/32", 6)),
    ],
)  # fmt: skip
def test_a_network_is_what_its_prefix_says(text: str, version: int, wanted: tuple[str, int]) -> None:
    assert network(text, version) == network(*wanted) is not None


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4/33", "1.2.3.4/x", "::1", "1.2.3.4.5"])
def test_what_is_no_network_matches_nothing(text: str) -> None:
    assert network(text, 4) is None
