"""KQL text to syntax tree: ``syntax.yaml``, the values of literals, the shape of trees, and every limit."""

from __future__ import annotations

import json
import math
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.kql import ast
from watchfloor.kql.errors import MAX_ERRORS, KqlError, Span
from watchfloor.kql.lexer import MAX_TEXT, tokenize
from watchfloor.kql.operators import MAX_OPERATORS
from watchfloor.kql.parser import parse, parse_all
from watchfloor.kql.values import format_datetime, format_timespan, parse_datetime, parse_timespan

SYNTAX = yaml.safe_load((Path(__file__).parent / "syntax.yaml").read_text("utf-8"))


@pytest.mark.parametrize("text", SYNTAX["accept"] + SYNTAX["lenient"])
def test_this_is_kql(text: str) -> None:
    query, errors = parse_all(text)
    assert [str(error) for error in errors] == []
    assert query.statements


@pytest.mark.parametrize("case", SYNTAX["reject"], ids=lambda case: case["kql"] or "empty")
def test_this_is_not_and_every_mistake_is_told(case: dict[str, Any]) -> None:
    _, errors = parse_all(case["kql"])
    assert [str(error) for error in errors] == case["errors"]
    with pytest.raises(KqlError) as refusal:
        parse(case["kql"])
    assert [str(refusal.value), *map(str, refusal.value.others)] == case["errors"]


GOLD = Path(__file__).parents[3] / "shared" / "kql" / "gold.jsonl"


@pytest.mark.skipif(not GOLD.exists(), reason="the conformance cases are not here")
def test_every_conformance_case_is_kql() -> None:
    texts = [json.loads(line)["kql"] for line in GOLD.read_text("utf-8").splitlines()]
    assert [(text, str(errors[0])) for text in texts if (errors := parse_all(text)[1])] == []


# -- literals ---------------------------------------------------------------------------------------------------------


def value(text: str) -> ast.Expr:
    """The expression ``text``."""
    (statement,) = parse(f"print {text}").statements
    assert isinstance(statement, ast.Evaluation)
    assert isinstance(statement.value, ast.Print)
    (item,) = statement.value.items
    return item


def literal(text: str) -> tuple[str, Any]:
    """The type and value of the literal ``text``."""
    item = value(text)
    assert isinstance(item, ast.Literal)
    return item.type, item.value


DAY = 864_000_000_000
LITERALS: dict[str, tuple[str, Any]] = {
    "5": ("long", 5),
    "-5": ("long", -5),
    "- 5": ("long", -5),
    "+5": ("long", 5),
    "0x1F": ("long", 31),
    "-9223372036854775808": ("long", -(2**63)),
    "long(-5)": ("long", -5),
    "int64(5)": ("long", 5),
    "long(0xff)": ("long", 255),
    "long(min)": ("long", -(2**63)),
    "long(null)": ("long", None),
    "int(5)": ("int", 5),
    "int32( 5 )": ("int", 5),
    "int(max)": ("int", 2**31 - 1),
    "1.0": ("real", 1.0),
    "1.": ("real", 1.0),
    "1e10": ("real", 1e10),
    "1.5E-3": ("real", 0.0015),
    "real(5)": ("real", 5.0),
    "double(-.5)": ("real", -0.5),
    "real(+inf)": ("real", math.inf),
    "real(-inf)": ("real", -math.inf),
    "decimal(1.50)": ("decimal", Decimal("1.50")),
    "decimal(1e5)": ("decimal", Decimal("1e5")),
    "true": ("bool", True),
    "FALSE": ("bool", False),
    "bool(true)": ("bool", True),
    "bool(0)": ("bool", False),
    "bool(null)": ("bool", None),
    "1d": ("timespan", DAY),
    "1.5h": ("timespan", DAY // 16),
    "-90m": ("timespan", -DAY // 16),
    "100ms": ("timespan", 1_000_000),
    "1tick": ("timespan", 1),
    "3ticks": ("timespan", 3),
    "1microsecond": ("timespan", 10),
    "150nanoseconds": ("timespan", 1),
    "2hours": ("timespan", DAY // 12),
    "time(1h)": ("timespan", DAY // 24),
    "time(2)": ("timespan", 2 * DAY),
    "time(10:00)": ("timespan", 10 * DAY // 24),
    "timespan(25min)": ("timespan", 25 * 600_000_000),
    "timespan(0.00:03:00)": ("timespan", 1_800_000_000),
    'time("1.00:00:00")': ("timespan", DAY),
    "time(-1.02:03:04.5)": ("timespan", -(DAY + 73_845_000_000)),
    "timespan(null)": ("timespan", None),
    "guid(74BE27DE-1e4e-49d9-b579-fe0b331d3642)": ("guid", "74be27de-1e4e-49d9-b579-fe0b331d3642"),
    "guid('74be27de1e4e49d9b579fe0b331d3642')": ("guid", "74be27de-1e4e-49d9-b579-fe0b331d3642"),
    "guid(null)": ("guid", None),
    "datetime(null)": ("datetime", None),
    "datetime(min)": ("datetime", 0),
    "''": ("string", ""),
    '"a\\tb\\"c\\\\d\\u00e9\\x41\\101\\0"': ("string", 'a\tb"c\\déAA\0'),
    '"\\uD83D\\uDE00\\U0001F600"': ("string", "\U0001f600\U0001f600"),
    '@"a\\""b"': ("string", 'a\\"b'),
    "@'a''b'": ("string", "a'b"),
    "'it''s'": ("string", "its"),
    "\"a\" h'b' ```c\nd``` ~~~e~~~": ("string", "abc\nde"),
    "dynamic(null)": ("dynamic", None),
    "dynamic({'a': \"b\" 'c', \"d\": [1, -2.5, true, null, {}]})": (
        "dynamic",
        {"a": "bc", "d": [1, -2.5, True, None, {}]},
    ),
    "dynamic([datetime(2020-01-01), 1d, guid(ABCDEF00-0000-0000-0000-000000000001)])": (
        "dynamic",
        ["2020-01-01T00:00:00.0000000Z", DAY, "abcdef00-0000-0000-0000-000000000001"],
    ),
    "dynamic([long(5), real(1.5), 0x10, long(null), real(nan), dynamic([1])])": (
        "dynamic",
        [5, 1.5, 16, None, "NaN", [1]],
    ),
    "dynamic(99999999999999999999)": ("dynamic", 1e20),
}


@pytest.mark.parametrize(("text", "expected"), LITERALS.items(), ids=LITERALS)
def test_a_literal_has_this_type_and_value(text: str, expected: tuple[str, Any]) -> None:
    found = literal(text)
    assert found == expected
    assert type(found[1]) is type(expected[1])


DATETIMES = {
    "2014-05-25T08:20:03.123456Z": "2014-05-25T08:20:03.1234560Z",
    "2014-05-25T08:20:03.123456": "2014-05-25T08:20:03.1234560Z",
    "2014-05-25T08:20": "2014-05-25T08:20:00.0000000Z",
    "2014-11-08 15:55:55.123456Z": "2014-11-08T15:55:55.1234560Z",
    "2014-11-08 15:55": "2014-11-08T15:55:00.0000000Z",
    "2014-11-08": "2014-11-08T00:00:00.0000000Z",
    "2014-11": "2014-11-01T00:00:00.0000000Z",
    "2017 - 08 - 01": "2017-08-01T00:00:00.0000000Z",
    "2025, 6, 14": "2025-06-14T00:00:00.0000000Z",
    "2015-12-31 23:59:59.9": "2015-12-31T23:59:59.9000000Z",
    "2015-12-31T23:59:59.99999999": "2015-12-31T23:59:59.9999999Z",
    "2016-06-06T08:00:00+02:00": "2016-06-06T06:00:00.0000000Z",
    "2016-06-06T08:00:00-0530": "2016-06-06T13:30:00.0000000Z",
    "2022/12/02": "2022-12-02T00:00:00.0000000Z",
    "20221202": "2022-12-02T00:00:00.0000000Z",
    "12-02-2022": "2022-12-02T00:00:00.0000000Z",
    "12/31/2015": "2015-12-31T00:00:00.0000000Z",
    "12.02.2022": "2022-12-02T00:00:00.0000000Z",
    "2/3/2022 3:05:02 PM": "2022-02-03T15:05:02.0000000Z",
    "Sat, 8 Nov 14 15:05:02 GMT": "2014-11-08T15:05:02.0000000Z",
    "8 Nov 14 15:05": "2014-11-08T15:05:00.0000000Z",
    "Saturday, 08-Nov-14 15:05:02 GMT": "2014-11-08T15:05:02.0000000Z",
    "2014-11-08 15:05:25 GMT": "2014-11-08T15:05:25.0000000Z",
    "Dec 2, 2022": "2022-12-02T00:00:00.0000000Z",
    "Sat Nov  8 15:05:02 2014": "2014-11-08T15:05:02.0000000Z",
    "0001-01-01": "0001-01-01T00:00:00.0000000Z",
    "9999-12-31 23:59:59.9999999": "9999-12-31T23:59:59.9999999Z",
}
NO_DATETIMES = [
    "",
    "not a date",
    "13-01-2022",
    "2015-13-01",
    "2015-02-30",
    "2015-01-01 24:00",
    "2015-01-01 12:60",
    "12:00",
]
NO_DATETIMES += ["0001-01-01T00:00:00+01:00", "2015-01-01T00:00:00+20:00", "x12-02-2022", "2015-01-01 13:00 PM"]


@pytest.mark.parametrize(("text", "expected"), DATETIMES.items(), ids=DATETIMES)
def test_a_time_may_be_written_so(text: str, expected: str) -> None:
    ticks = parse_datetime(text)
    assert ticks is not None
    assert format_datetime(ticks) == expected
    assert literal(f"datetime({text})") == ("datetime", ticks)
    assert literal(f"date('{text}')") == ("datetime", ticks)


@pytest.mark.parametrize("text", NO_DATETIMES)
def test_this_is_no_time(text: str) -> None:
    assert parse_datetime(text) is None
    if text:
        with pytest.raises(KqlError, match="is not a datetime"):
            literal(f"datetime({text})")


@given(st.integers(0, 3_155_378_975_999_999_999))
def test_a_datetime_is_read_as_it_is_written(ticks: int) -> None:
    assert parse_datetime(format_datetime(ticks)) == ticks


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_timespan_is_read_as_it_is_written(ticks: int) -> None:
    assert parse_timespan(format_timespan(ticks)) == ticks


@pytest.mark.parametrize("text", ["", "x", "24:00:00", "1:60", "1.5", "1parsec", "100000000d", "1:2:3:4:5"])
def test_this_is_no_timespan(text: str) -> None:
    assert parse_timespan(text) is None


def test_the_empty_datetime_is_now() -> None:
    assert value("datetime()") == ast.Call("now", (), Span(6, 16), Span(6, 16))


def test_an_obfuscated_string_is_marked() -> None:
    found = value("'a' h'b'")
    assert isinstance(found, ast.Literal)
    assert found.is_obfuscated
    assert found.value == "ab"


def test_blanks_that_nobody_sees_are_blanks() -> None:
    assert [token.text for token in tokenize("\ufeffT\u200b|\u00a0count // x\r\n")] == [
        "T",
        "|",
        "count",
        "the end of the query",
    ]


# -- trees ------------------------------------------------------------------------------------------------------------


def shape(node: ast.Expr) -> Any:
    """A tree in short: operators as tuples, names and values as themselves."""
    match node:
        case ast.Literal():
            return node.value
        case ast.Name():
            return node.name
        case ast.Binary():
            return (node.operator, shape(node.left), shape(node.right))
        case ast.Logical():
            return (node.operator, *map(shape, node.operands))
        case ast.Unary():
            return (node.operator, shape(node.operand))
        case ast.Membership():
            return (node.operator, shape(node.subject), *map(shape, node.items))
        case ast.Between():
            return ("between", shape(node.subject), shape(node.low), shape(node.high))
        case ast.Call():
            return (node.name, *([shape(node.base)] if node.base else []), *map(shape, node.arguments))
        case ast.Member():
            return (".", shape(node.base), node.name)
        case ast.Index():
            return ("[]", shape(node.base), shape(node.index))
    return type(node).__name__


SHAPES: dict[str, Any] = {
    "a + b * c - d": ("-", ("+", "a", ("*", "b", "c")), "d"),
    "(a + b) * c": ("*", ("+", "a", "b"), "c"),
    "a or b and c or d": ("or", "a", ("and", "b", "c"), "d"),
    "a and (b and c)": ("and", "a", ("and", "b", "c")),
    "a and b or c": ("or", ("and", "a", "b"), "c"),
    "a has 'x' + b": ("+", ("has", "a", "x"), "b"),
    "a < b == c >= d": ("==", ("<", "a", "b"), (">=", "c", "d")),
    "a == b + c and d != e": ("and", ("==", "a", ("+", "b", "c")), ("!=", "d", "e")),
    "a <> b": ("!=", "a", "b"),
    "a notcontains b": ("!contains", "a", "b"),
    "a matches regex b": ("matches regex", "a", "b"),
    "a + b in (c, d) and e": ("and", ("in", ("+", "a", "b"), "c", "d"), "e"),
    "a between (1 .. b + 2)": ("between", "a", 1, ("+", "b", 2)),
    "-a * b": ("*", ("-", "a"), "b"),
    "a - -1": ("-", "a", -1),
    "-(1)": ("-", 1),
    "-a.b": ("-", (".", "a", "b")),
    "a.b['c'].d[0][-1]": ("[]", ("[]", (".", ("[]", (".", "a", "b"), "c"), "d"), 0), -1),
    "a.['b c'].d": (".", (".", "a", "b c"), "d"),
    "f(a).b.g(c)": ("g", (".", ("f", "a"), "b"), "c"),
    "cluster('c').database('d').T": (".", ("database", ("cluster", "c"), "d"), "T"),
    "$left.a == $right.['b c']": ("==", (".", "$left", "a"), (".", "$right", "b c")),
    "not(a)": ("not", "a"),
}


@pytest.mark.parametrize(("text", "expected"), SHAPES.items(), ids=SHAPES)
def test_operators_bind_so(text: str, expected: Any) -> None:
    assert shape(value(text)) == expected


def operators(text: str) -> tuple[ast.Operator, ...]:
    """The operators of the only statement."""
    (statement,) = parse(text).statements
    assert isinstance(statement, ast.Evaluation)
    assert isinstance(statement.value, ast.Pipe)
    return statement.value.operators


def test_a_pipe_is_a_source_and_its_operators() -> None:
    (statement,) = parse("T | where a == 1 | count").statements
    assert isinstance(statement, ast.Evaluation)
    assert isinstance(statement.value, ast.Pipe)
    assert statement.value.source == ast.Name("T", Span(0, 1))
    assert [type(operator).__name__ for operator in statement.value.operators] == ["Where", "Count"]
    assert [operator.span for operator in statement.value.operators] == [Span(4, 16), Span(19, 24)]


@pytest.mark.parametrize("text", ["union A, B", "search 'x'", "find a == 1", "evaluate f()"])
def test_some_operators_begin_a_query(text: str) -> None:
    (statement,) = parse(text).statements
    assert isinstance(statement, ast.Evaluation)
    assert isinstance(statement.value, ast.Pipe)
    assert isinstance(statement.value.source, ast.Missing)
    assert len(statement.value.operators) == 1


def test_a_sort_key_knows_its_defaults() -> None:
    (sort,) = operators("T | sort by a, b asc, c asc nulls last, d nulls first")
    assert isinstance(sort, ast.Sort)
    assert [(key.is_descending, key.nulls_first) for key in sort.keys] == [
        (True, False),
        (False, True),
        (False, False),
        (True, True),
    ]


def test_a_graph_pattern_alternates_between_nodes_and_edges() -> None:
    (match,) = operators("G | graph-match (a)-[e*1..5]->(b)<--()--(c) project a")
    assert isinstance(match, ast.GraphMatch)
    (pattern,) = match.patterns
    assert [
        (part.name, part.direction, part.low and shape(part.low), part.high and shape(part.high))
        if isinstance(part, ast.GraphEdge)
        else part.name
        for part in pattern
    ] == ["a", ("e", "out", 1, 5), "b", ("", "in", None, None), "", ("", "any", None, None), "c"]


def test_a_function_may_take_tables_and_defaults() -> None:
    (let, _) = parse("let f = view (T:(a:long, *), b:string = 'x') { let c = 1; T | take c }; f(T)").statements
    assert isinstance(let, ast.Let)
    assert isinstance(let.value, ast.Lambda)
    table, text = let.value.parameters
    assert table.schema is not None
    assert (table.type, table.schema.star_at, len(table.schema.columns)) == ("tabular", 1, 1)
    assert isinstance(text.default, ast.Literal)
    assert let.value.is_view
    assert [type(statement).__name__ for statement in let.value.statements] == ["Let"]
    assert isinstance(let.value.body, ast.Pipe)


def test_several_columns_of_a_chart_are_a_list() -> None:
    (render,) = operators("T | render timechart with (title='x', ycolumns=a, b, series=c)")
    assert isinstance(render, ast.Render)
    assert [(option.name, shape(option.value)) for option in render.options] == [
        ("title", "x"),
        ("ycolumns", ["a", "b"]),
        ("series", "c"),
    ]


def test_an_operator_that_is_never_supported_is_known_by_name() -> None:
    (macro,) = operators("macro-expand entity_group[cluster('c')] as X (X.T | count)")
    assert isinstance(macro, ast.UnsupportedOperator)
    assert macro.name == "macro-expand"


def test_external_data_is_known_by_name() -> None:
    (statement,) = parse('externaldata(a:string)["https://x"] with (format="csv") | count').statements
    assert isinstance(statement, ast.Evaluation)
    assert isinstance(statement.value, ast.Pipe)
    assert statement.value.source == ast.Externaldata("externaldata", Span(0, 55))


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_shows_its_place() -> None:
    text = "T\n\t| wher a == 1\n| count"
    _, (error,) = parse_all(text)
    assert (error.line, error.column) == (2, 4)
    assert error.snippet(text) == "\t| wher a == 1\n\t  ^^^^"
    assert error.kind == "syntax"
    assert error.remedy == "Did you mean where?"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("T |", "syntax"),
        (".show tables", "unsupported"),
        ("T datascope=hotcache", "unsupported"),
        ("print " + "(" * 100, "limit"),
        ("T" * (MAX_TEXT + 1), "limit"),
    ],
)
def test_an_error_says_of_what_kind_it_is(text: str, kind: str) -> None:
    with pytest.raises(KqlError) as refusal:
        parse(text)
    assert refusal.value.kind == kind


def test_only_so_many_errors_are_told() -> None:
    _, errors = parse_all("T" + " | wher a" * 1000)
    assert len(errors) == MAX_ERRORS


# -- limits -----------------------------------------------------------------------------------------------------------

DEEP = 5000
HUGE = {
    "text": "T | where a == '" + "x" * MAX_TEXT + "'",
    "tokens": "T | where a in (" + ",".join("1" * 45_000) + ")",
    "parentheses": "print " + "(" * DEEP + "1" + ")" * DEEP,
    "everything": "print " + "(a or a and a == a < a + a * a has " * 500,
    "calls": "print " + "f(" * DEEP,
    "named": "print " + "f(a = -" * DEEP,
    "indexes": "print " + "a[" * DEEP,
    "lists": "T | where " + "a in (T | where " * DEEP,
    "ranges": "T | where " + "a between (" * DEEP,
    "unions": "union (" * DEEP,
    "finds": "find in (T | " * DEEP,
    "facets": "T | " + "facet by a with " * DEEP,
    "forks": "T | " + "fork (" * DEEP,
    "mv-apply": "T | " + "mv-apply a on (" * DEEP,
    "partitions": "T | " + "partition by a {T | " * DEEP,
    "functions": "let f = () { " * DEEP,
    "dynamic": "print dynamic(" + "[" * DEEP,
    "objects": "print dynamic(" + '{"a":' * DEEP,
    "datatables": "datatable(a:long)[" * DEEP,
    "toscalar": "print " + "toscalar(T | where " * DEEP,
    "sums": "print " + "+".join("1" * DEEP),
    "dots": "print a" + ".b" * DEEP,
    "signs": "print " + "-" * DEEP + "1",
    "operators": "T" + " | where a == 1" * (MAX_OPERATORS + 1),
    "list": "T | where a in (" + ",".join("1" * 5000) + ")",
    "statements": "let a = 1;" * 1002,
    "number": "print " + "1" * 100_000,
    "strays": "§" * 100_000,
    "quotes": '"' * 100_000,
    "bars": "|" * 30_000,
    "brackets": "print " + "([{" * 10_000,
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_a_query_beyond_the_limits_is_refused_and_breaks_nothing(text: str) -> None:
    """With a stack that is half full already."""

    def below(count: int) -> list[KqlError]:
        return below(count - 1) if count else parse_all(text)[1]

    frames = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        frames, frame = frames + 1, frame.f_back
    assert below(max(0, 300 - frames))


LARGE = {
    "parentheses": "print " + "(" * 60 + "1" + ")" * 60,
    "calls": "print " + "f(" * 60 + "1" + ")" * 60,
    "sums": "print " + "+".join("1" * 150),
    "or": "T | where " + " or ".join(f"a == {n}" for n in range(3000)),
    "and of or": "T | where " + " and ".join(["(a == 1 or b)"] * 1000),
    "list": "T | where a in (" + ",".join("1" * 4000) + ")",
    "case": "print case(" + "a == 1, 2, " * 1000 + "3)",
    "table": "datatable(a:long)[" + ",".join("1" * 15_000) + "]",
    "operators": "T" + " | where a == 1" * MAX_OPERATORS,
    "statements": "".join(f"let a{n} = {n};" for n in range(900)) + "T",
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_a_large_query_within_the_limits_is_read(text: str) -> None:
    assert parse_all(text)[1] == []


SIGNS = st.sampled_from(list("T|where ab=!<>()[]{}'\"\\,.;:-+*/%@#~`0123456789e_\n\u200b$§"))
WORDS = st.sampled_from([
    "T", "|", "where", "a", "==", "(", ")", "by", "summarize", "count()", ",", "let", "=", ";", "[", "]", "{", "}",
    "join", "on", "in", "'x'", "1", "1d", "dynamic(", "datatable(", "a:long", "union", "search", "-", ".", "*",
    "project", "with", "datetime(2020-01-01)", "between", "..", "mv-expand", "to", "typeof(long)", "and", "or", "!in",
    "has", "parse", ":",
])  # fmt: skip


@given(st.text(alphabet=SIGNS, max_size=60) | st.lists(WORDS, max_size=30).map(" ".join))
def test_any_text_is_read_or_refused_in_our_words(text: str) -> None:
    for query in (text, f"T | where {text}", f"T | project {text} | count"):
        _, errors = parse_all(query)
        for error in errors:
            assert error.line >= 1
            assert error.column >= 1
            assert 0 <= error.span.start <= error.span.end <= len(query)
            assert "^" in error.snippet(query)
