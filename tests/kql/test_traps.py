"""The semantic traps of KQL over a SQL engine: for each, a query that a naive translation answers wrongly."""

from __future__ import annotations

from typing import Any

import pytest

from watchfloor import kql
from watchfloor.model.errors import InputError

from .running import Data, schema_of

PEOPLE = {"Id": "long", "Name": "string", "nick": "string", "AccountId": "string", "AccountName": "string", "N": "long"}
SECOND = {"Id": "int", "Name": "string", "Extra": "bool"}


@pytest.fixture(scope="module")
def data() -> Data:
    people = [
        {"Id": 1, "Name": "Ann", "nick": "lower", "AccountId": "a-1", "AccountName": "ann", "N": None},
        {"Id": 2, "Name": "bob", "nick": "case", "AccountId": "a-2", "AccountName": "bob", "N": 5},
        {"Id": 3, "AccountId": "a-3", "N": 7},
    ]
    second = [{"Id": 1, "Name": "x", "Extra": True}, {"Id": 9, "Name": "y"}]
    return Data(
        {"People": (schema_of("People", PEOPLE), people), "PeopleToo": (schema_of("PeopleToo", SECOND), second)}
    )


def values(data: Data, *expressions: str) -> list[Any]:
    """What ``expressions`` are as constants."""
    (row,) = data.ask("print " + ", ".join(f"c{n} = {e}" for n, e in enumerate(expressions))).rows
    return row


def over(data: Data, table: str, *expressions: str) -> list[Any]:
    """What ``expressions`` are over the only row of ``table``."""
    (row,) = data.ask(f"{table} | project {', '.join(f'c{n} = {e}' for n, e in enumerate(expressions))}").rows
    return row


NULLS = "datatable(n:long, m:long, k:long, s:string, d:dynamic)[long(null), long(null), 1, '', dynamic(null)]"


def test_01_equality_with_a_null_is_false_inequality_true_and_of_two_nulls_null(data: Data) -> None:
    assert over(data, NULLS, "n == k", "n != k", "n == m", "n != m") == [False, True, None, None]
    assert over(data, NULLS, "n < k", "n >= k", "not(n < k)") == [None, None, None]
    assert over(data, NULLS, "n in (1, 2)", "n !in (1, 2)", "s has 'x'", "s !has 'x'", "s !contains 'x'") == [
        False,
        True,
        False,
        True,
        True,
    ]
    assert data.ask("People | where N != 5 | project Id | sort by Id asc").column == [1, 3]
    assert data.ask("People | where not(N == 5) | project Id | sort by Id asc").column == [1, 3]
    assert data.ask("People | where N !in (5) | count").value == 2
    assert data.ask("People | where not(N > 5) | project Id").column == [2]


def test_02_strings_are_never_null(data: Data) -> None:
    assert over(data, NULLS, "isnull(s)", "isempty(s)", "strlen(s)", "strcat('a', s)", "tostring(n)", "s == ''") == [
        False,
        True,
        0,
        "a",
        "",
        True,
    ]
    joined = data.ask("People | join kind=leftouter PeopleToo on Id | where Id == 2 | project Name1, Extra, Id1")
    assert joined.rows == [["", None, None]]
    assert data.ask("People | where Name == '' | count").value == 1
    assert data.ask("print isnull(tostring(dynamic(null))), tostring(todynamic('{}').x) == ''").rows == [[False, True]]
    assert data.ask("datatable(a:string, b:long)['x', 1] | serialize p = prev(a) | project p").column == [""]


def test_03_equals_minds_case_and_the_word_operators_do_not(data: Data) -> None:
    table = "datatable(s:string)['Alpha beta']"
    assert over(data, table, "s == 'alpha beta'", "s =~ 'ALPHA BETA'", "s != 'alpha beta'", "s !~ 'ALPHA BETA'") == [
        False,
        True,
        True,
        False,
    ]
    insensitive = ["has", "contains", "startswith", "hasprefix"]
    assert over(data, table, *[f"s {op} 'ALPHA'" for op in insensitive]) == [True] * 4
    assert over(data, table, *[f"s {op}_cs 'ALPHA'" for op in insensitive]) == [False] * 4
    assert over(
        data, table, "s endswith 'BETA'", "s endswith_cs 'BETA'", "s hassuffix 'BETA'", "s hassuffix_cs 'BETA'"
    ) == [
        True,
        False,
        True,
        False,
    ]
    assert over(
        data, table, "s in ('alpha beta')", "s in~ ('alpha beta')", "s has_any ('BETA')", "s has_all ('BETA', 'alpha')"
    ) == [
        False,
        True,
        True,
        True,
    ]


def test_04_has_means_a_whole_term(data: Data) -> None:
    table = "datatable(s:string)['a_b web-server01 été x9']"
    assert over(
        data, table, "s has 'b'", "s has 'server'", "s has 'server01'", "s has 'web-server01'", "s has 'web'"
    ) == [
        True,
        False,
        True,
        True,
        True,
    ]
    assert over(data, table, "s has 'ÉTÉ'", "s has 'x'", "s has 'x9'", "s hasprefix 'serv'", "s hassuffix '01'") == [
        True,
        False,
        True,
        True,
        True,
    ]
    assert over(data, table, "s contains 'erver'", "s has 'erver'", "s hasprefix 'erver'") == [True, False, False]


def test_05_a_join_keeps_one_left_row_for_each_key_unless_told_otherwise(data: Data) -> None:
    left = "datatable(k:long, v:string)[1,'a', 1,'b', 2,'c', 3,'d']"
    right = "datatable(k:long, w:string)[1,'x', 1,'y', 2,'z', 4,'q']"

    def rows(kind: str) -> list[list[Any]]:
        return sorted(data.ask(f"{left} | join {kind} ({right}) on k").rows, key=repr)

    unique = rows("")
    assert [(row[0], row[3]) for row in unique] == [(1, "x"), (1, "y"), (2, "z")]
    assert len({row[1] for row in unique if row[0] == 1}) == 1
    assert len(rows("kind=inner")) == 5
    assert rows("kind=leftouter")[-1] == [3, "d", None, ""]
    assert [row for row in rows("kind=rightouter") if row[2] == 4] == [[None, "", 4, "q"]]
    assert len(rows("kind=fullouter")) == 7
    assert rows("kind=leftsemi") == [[1, "a"], [1, "b"], [2, "c"]]
    assert rows("kind=rightsemi") == [[1, "x"], [1, "y"], [2, "z"]]
    assert rows("kind=leftanti") == rows("kind=anti") == [[3, "d"]]
    assert rows("kind=rightanti") == [[4, "q"]]
    assert data.ask(f"{left} | join ({right}) on k").names == ["k", "v", "k1", "w"]
    both = data.ask(f"{left} | join kind=inner ({right} | project-rename j=k) on $left.k == $right.j | take 0")
    assert both.names == ["k", "v", "j", "w"]


def test_06_sort_is_descending_and_null_is_the_smallest(data: Data) -> None:
    assert data.ask("People | sort by N | project N").column == [7, 5, None]
    assert data.ask("People | sort by N asc | project N").column == [None, 5, 7]
    assert data.ask("People | sort by N asc nulls last | project N").column == [5, 7, None]
    assert data.ask("People | order by N desc nulls first | project N").column == [None, 7, 5]
    assert data.ask("People | top 2 by N | project N").column == [7, 5]
    assert data.ask("People | top 2 by N asc | project N").column == [None, 5]


def test_07_aggregates_name_their_columns_as_kusto_does(data: Data) -> None:
    found = data.ask(
        "People | summarize count(), dcount(Name), max(N), sum(N + 1), avg(N), countif(N > 1) by Id, bin(N, 5)"
    )
    assert found.names == ["Id", "N", "count_", "dcount_Name", "max_N", "sum_", "avg_N", "countif_"]
    assert data.ask("People | summarize arg_max(N, *) by Id").names == [
        "Id",
        "N",
        "Name",
        "nick",
        "AccountId",
        "AccountName",
    ]
    assert data.ask("People | summarize arg_max(N, Name), make_set(Name), percentile(N, 50), take_any(Id)").names == [
        "N",
        "Name",
        "set_Name",
        "percentile_N_50",
        "Id",
    ]
    assert data.ask("People | summarize by strlen(Name), N + 1").names == ["strlen_Name", "Column1"]


def test_08_an_empty_input_gives_one_row_without_by_and_none_with(data: Data) -> None:
    empty = "People | where false"
    alone = data.ask(
        f"{empty} | summarize count(), sum(N), max(N), make_set(N), make_list(Name), dcount(N), countif(N > 1)"
    )
    assert alone.rows == [[0, 0, None, [], [], 0, 0]]
    assert data.ask(f"{empty} | summarize count() by Name").rows == []
    assert data.ask(f"{empty} | count").value == 0


def test_09_numbers_are_long_and_nothing_raises(data: Data) -> None:
    assert data.ask("print 1").columns == (("print_0", "long"),)
    assert values(data, "7 / 2", "-7 / 2", "7.0 / 2", "-7 % 5", "7 % -5", "1 / 0", "1 % 0") == [
        3,
        -3,
        3.5,
        3,
        2,
        None,
        None,
    ]
    assert values(data, "1.0 / 0", "-1.0 / 0", "0.0 / 0") == ["Infinity", "-Infinity", "NaN"]
    assert (
        values(data, "tolong('x')", "toint('')", "todatetime('never')", "todouble('1,5')", "toguid('x')") == [None] * 5
    )
    assert values(data, "tobool('maybe')", "totimespan('x')", "todecimal('')") == [None] * 3
    assert data.ask("print decimal(1.1) + decimal(2.2)").rows == [["3.3"]]
    assert values(data, "gettype(1)", "gettype(1.0)", "gettype(int(1))", "gettype(decimal(1))") == [
        "long",
        "real",
        "int",
        "decimal",
    ]


def test_10_times_are_binned_from_the_year_one(data: Data) -> None:
    assert values(data, "bin(datetime(2026-01-07), 7d)") == ["2026-01-05T00:00:00.0000000Z"]
    assert over(data, "datatable(at:datetime)[datetime(2026-01-07 13:07)]", "bin(at, 7d)", "bin(at, 45m)") == [
        "2026-01-05T00:00:00.0000000Z",
        "2026-01-07T12:45:00.0000000Z",
    ]
    assert values(data, "bin(-7, 5)", "bin(-1.5, 1.0)", "bin(-3h, 2h)", "bin_at(6.5, 2.5, 7)") == [
        -10,
        -2.0,
        "-04:00:00",
        4.5,
    ]
    assert over(data, "datatable(at:datetime)[datetime(2026-01-07 13:07)]", "startofweek(at)", "endofweek(at)") == [
        "2026-01-04T00:00:00.0000000Z",
        "2026-01-10T23:59:59.9999990Z",  # an engine column holds microseconds
    ]
    assert values(data, "datetime(0001-01-01)", "datetime(9999-12-31) < datetime(9999-12-31 23:59:59)") == [
        "0001-01-01T00:00:00.0000000Z",
        True,
    ]


def test_11_a_timespan_is_a_number_of_ticks(data: Data) -> None:
    assert values(
        data, "1.5h", "1d / 2h", "datetime(2026-03-01) - datetime(2026-02-01)", "30d == 720h", "1tick * 3"
    ) == [
        "01:30:00",
        12.0,
        "28.00:00:00",
        True,
        "00:00:00.0000003",
    ]
    table = "datatable(a:timespan, b:timespan)[30d, 720h]"
    assert over(
        data, table, "a == b", "a > 29d", "a / b", "-a", "a * 2", "tostring(a + 1ms)", "tolong(1tick + (a - b))"
    ) == [
        True,
        True,
        1.0,
        "-30.00:00:00",
        "60.00:00:00",
        "30.00:00:00.0010000",
        1,
    ]


def test_12_now_is_one_instant_in_a_query(data: Data) -> None:
    assert data.ask("print now(), now() - ago(1h), now() == now()").rows == [
        ["2026-03-05T00:00:00.0000000Z", "01:00:00", True]
    ]
    assert data.ask("range x from 1 to 3 step 1 | extend t = now() | summarize dcount(t)").value == 1
    assert data.ask("let a = now(); People | extend b = now() | where a == b | count").value == 3


def test_13_dynamic_values_are_read_as_kusto_reads_them(data: Data) -> None:
    bag = (
        "datatable(d:dynamic, j:string)[dynamic({'a': {'b': [1, 2.5, 'x', null, true]}, 's': 'text', 'n': 1}), "
        '\'["{\\\\"k\\\\":1}"]\']'
    )
    assert over(data, bag, "d.a.b[0]", "d.a.b[-1]", "d.a.b[7]", "d.nope.deeper", "d.s.x", "d['a']['b'][2]") == [
        1,
        True,
        None,
        None,
        None,
        "x",
    ]
    assert over(data, bag, "tostring(d.s)", "tostring(d.a.b)", "tostring(d.nope)", "d.s == 'text'", "d.n == 1") == [
        "text",
        '[1,2.5,"x",null,true]',
        "",
        True,
        True,
    ]
    assert over(
        data, bag, "parse_json('plain')", "gettype(parse_json('plain'))", "parse_json(tostring(parse_json(j)[0])).k"
    ) == [
        "plain",
        "string",
        1,
    ]
    assert over(
        data, bag, "isnull(d.a.b[3])", "gettype(d.a)", "array_length(d.a.b)", "array_length(d.a)", "bag_keys(d)"
    ) == [
        True,
        "dictionary",
        5,
        None,
        ["a", "s", "n"],
    ]


def test_14_mv_expand_makes_rows_of_arrays_and_bags(data: Data) -> None:
    table = "datatable(k:string, a:dynamic, b:dynamic)"
    table += "['x', dynamic([1, 2]), dynamic(['p']), 'y', dynamic(null), dynamic(null)]"
    assert data.ask(f"{table} | mv-expand a, b").bag == sorted(
        ['["x", 1, "p"]', '["x", 2, null]', '["y", null, null]'], key=str
    )
    assert data.ask("print d = dynamic({'a': 1, 'b': 2}) | mv-expand d").rows == [[{"a": 1}], [{"b": 2}]]
    assert data.ask("print d = dynamic(['1', 'x', 3]) | mv-expand d to typeof(long)").column == [None, None, 3]
    assert data.ask("print d = dynamic([5, 6, 7]) | mv-expand with_itemindex = i d limit 2").rows == [[5, 0], [6, 1]]
    assert data.ask("print x = 'plain', d = dynamic(7) | mvexpand d").rows == [["plain", 7]]


def test_15_a_union_keeps_types_apart_and_names_its_sources(data: Data) -> None:
    found = data.ask("People | union PeopleToo | project-away nick, AccountId, AccountName, N | sort by Name asc")
    assert found.columns == (("Id_long", "long"), ("Id_int", "int"), ("Name", "string"), ("Extra", "bool"))
    assert [row for row in found.rows if row[2] == "y"] == [[None, 9, "y", None]]
    assert data.ask("union withsource=T People* | summarize n = count() by T | sort by T asc").rows == [
        ["People", 3],
        ["PeopleToo", 2],
    ]
    assert data.ask("union kind=inner (People | project-away Id), (PeopleToo | project-away Id)").names == ["Name"]
    assert data.ask("union isfuzzy=true People, Nowhere | count").value == 3
    assert data.refusal("union People, Nowhere").kind == "semantic"


def test_16_approximate_and_unordered_aggregates_are_what_they_promise(data: Data) -> None:
    many = "range n from 1 to 20000 step 1 | extend m = n % 5000"
    assert abs(data.ask(f"{many} | summarize dcount(m)").value - 5000) < 5000 * 0.05
    assert abs(data.ask(f"{many} | summarize dcount(m, 4)").value - 5000) < 5000 * 0.02
    assert len(data.ask(f"{many} | summarize make_set(n, 10)").value) == 10
    assert len(data.ask(f"{many} | summarize make_list(n, 10)").value) == 10
    assert data.ask("People | summarize make_list(N), make_set(N)").rows[0][0] in ([5, 7], [7, 5])
    assert data.ask("range x from 1 to 5 step 1 | summarize percentile(x, 50), percentile(x, 99)").rows == [[3, 5]]
    assert data.ask("People | summarize take_any(Id)").value in (1, 2, 3)


def test_17_parse_takes_a_whole_line_or_nothing(data: Data) -> None:
    lines = "datatable(s:string)['user=ann n=5 rest', 'user=bob n=x rest', 'other']"
    assert data.ask(f"{lines} | parse s with 'user=' u:string ' n=' n:long ' ' r | project u, n, r").rows == [
        ["ann", 5, "rest"],
        ["", None, ""],
        ["", None, ""],
    ]
    assert data.ask(
        f"{lines} | parse kind=relaxed s with 'user=' u:string ' n=' n:long ' ' r | project u, n, r"
    ).rows == [
        ["ann", 5, "rest"],
        ["bob", None, "rest"],
        ["", None, ""],
    ]
    assert data.ask(f"{lines} | parse-where s with * 'n=' n:long ' ' * | project n").column == [5]
    assert data.ask(f"{lines} | parse kind=regex s with 'user=' u '[ ]n=' n ' ' * | project u, n").rows[1] == [
        "bob",
        "x",
    ]


def test_18_let_gives_names_to_values_tables_and_functions(data: Data) -> None:
    assert data.ask("let f = (a:long, b:long = 5) { a * 10 + b }; print f(1), f(1, 2), f(b = 3, a = 2)").rows == [
        [15, 12, 23]
    ]
    assert data.ask("let g = (T:(Id:long)) { T | summarize m = max(Id) }; g(People)").value == 3
    assert data.ask("let h = (T:(*), n:long) { T | take n | count }; h(People, 2)").value == 2
    assert data.ask("let Id = 100; People | where Id == 3 | project Id").column == [3]  # the column, not the let
    assert data.ask("let x = toscalar(People | summarize max(N)); People | where N == x | project Id").column == [3]
    once = "let r = materialize(range i from 1 to 3 step 1 | extend v = rand()); r | join kind=inner r on v | count"
    assert data.ask(once).value == 3
    assert data.refusal("let f = (n:long) { f(n) }; print f(1)").kind in ("semantic", "unsupported")


def test_19_names_that_differ_in_case_are_different_columns(data: Data) -> None:
    assert data.ask("People | where Id < 3 | extend name = nick | project Name, name | sort by name asc").rows == [
        ["bob", "case"],
        ["Ann", "lower"],
    ]
    assert data.ask("People | where Id == 1 | extend name = nick, NAME = '3' | project name, NAME, Name").rows == [
        ["lower", "3", "Ann"]
    ]
    assert data.ask(
        "People | extend NAME = 'x' | where Id == 1 | summarize max(NAME), max(Name) by Name, NAME"
    ).rows == [["Ann", "x", "x", "Ann"]]
    with pytest.raises(InputError):  # what is stored cannot be told apart, so that it is not taken in
        Data({"T": (schema_of("T", {"a": "long", "A": "long"}), [])})
    assert data.refusal("people").remedy == "Did you mean People?"
    assert data.ask("print A = 1, a = 2 | project-rename b = A | project a, b").rows == [[2, 1]]
    assert data.ask("print A = 1 | join kind=inner (print a = 1) on $left.A == $right.a").names == ["A", "a"]


def test_20_every_form_of_a_string_is_read(data: Data) -> None:
    assert data.ask(r'''print "\u00A0" == "\xA0", @"a\b""c", 'it\'s', h"secret", "a" 'b' @"c", "tab\tend"''').rows == [
        [True, 'a\\b"c', "it's", "secret", "abc", "tab\tend"]
    ]
    assert data.ask("print ```two\nlines``` , ~~~one~~~").rows == [["two\nlines", "one"]]
    assert data.ask("print dynamic({'at': datetime(2026-01-01), 'x': [1, null]})").value == {
        "at": "2026-01-01T00:00:00.0000000Z",
        "x": [1, None],
    }
    assert "secret" not in kql.masked("T | where p == h\"secret\" and q == h@'secret'")


def test_21_render_is_no_data_and_columns_that_depend_on_data_are_asked_for_first(data: Data) -> None:
    drawn = data.hunt("People | summarize count() by Name | render piechart with (title='Who')")
    assert drawn.rows == 3
    assert drawn.visualization is not None
    assert (drawn.visualization["Visualization"], drawn.visualization["Title"]) == ("piechart", "Who")
    bags = "datatable(d:dynamic)[dynamic({'a': 1, 'b': 'x'}), dynamic({'a': 2, 'c': true})]"
    found = data.ask(f"{bags} | evaluate bag_unpack(d)")
    assert (found.columns, found.bag) == (
        (("a", "long"), ("b", "string"), ("c", "bool")),
        ['[1, "x", null]', '[2, "", true]'],
    )
    pivot = data.ask(
        "datatable(k:string, c:string)['x','red','x','blue','y','red'] | evaluate pivot(c) | sort by k asc"
    )
    assert (pivot.names, pivot.rows) == (["k", "red", "blue"], [["x", 1, 1], ["y", 1, 0]])
    series = data.ask(
        "datatable(n:long, t:long)[1, 0, 2, 2] | make-series s = sum(n) default=0 on t from 0 to 3 step 1"
    )
    assert series.rows == [[[1, 0, 2], [0, 1, 2]]]


def test_22_old_spellings_and_invisible_characters_are_read(data: Data) -> None:
    assert data.ask("People | filter Id > 1 | order by Id asc | limit 5 | project Id").column == [2, 3]
    old = data.ask("People | summarize makeset(Id), makelist(Id), any(AccountId) by Id").names
    assert old == ["Id", "set_Id", "list_Id", "any_AccountId"]
    assert data.ask("print parsejson('[1]'), todynamic('[2]'), notempty('x')").rows == [[[1], [2], True]]
    assert data.ask("print d = dynamic([1, 2]) | mvexpand d | count").value == 2
    assert data.ask("\ufeffPeople\u200b | where\u00a0Id == 1 |\u200b count").value == 1


def test_23_columns_are_named_by_brackets_stars_and_sides(data: Data) -> None:
    assert data.ask(
        "print ['Failure Count'] = 3 | where ['Failure Count'] == 3 | project [\"Failure Count\"]"
    ).names == ["Failure Count"]
    assert data.ask("People | project-away Account*, n*").names == ["Id", "Name", "N"]
    assert data.ask("People | project-keep Account*, Id").names == ["Id", "AccountId", "AccountName"]
    assert data.ask("People | project-reorder *Name, Id").names == [
        "Name",
        "AccountName",
        "Id",
        "nick",
        "AccountId",
        "N",
    ]
    assert data.ask("People | project Id, N | distinct * | count").value == 3
    assert data.ask("People | join kind=inner PeopleToo on $left.Id == $right.Id | project Id, Id1").rows == [[1, 1]]
    with pytest.raises(InputError):
        data.ask("People | where ['failure count'] == 3")


# -- chance -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "tostring(dynamic(['a', 'b', 'c'])[toint(rand(3))])",
        "tostring(split('a,b,c', ',')[toint(rand(toscalar(print 3)))])",
        "substring('abc', toint(rand(3)), 1)",
        "tostring(bag_pack('k', toint(rand(3))).k)",
    ],
)
def test_what_is_by_chance_is_drawn_once_for_each_row(value: str) -> None:
    answer = Data().ask(f"range x from 1 to 500 step 1 | extend v = {value}, w = 1 | extend same = v | where v == same")
    drawn = [row[answer.names.index("v")] for row in answer.rows]
    assert len(drawn) == 500
    assert len(set(drawn)) == 3
    assert all(drawn)
