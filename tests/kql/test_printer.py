"""Syntax tree to text and back: the same tree."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from watchfloor.kql import ast
from watchfloor.kql.errors import Span
from watchfloor.kql.parser import parse, parse_all
from watchfloor.kql.printer import to_text

from .trees import same

SYNTAX = yaml.safe_load((Path(__file__).parent / "syntax.yaml").read_text("utf-8"))
GOLD = Path(__file__).parents[3] / "shared" / "kql" / "gold.jsonl"


def is_given_back(text: str) -> bool:
    """Whether the tree of ``text`` prints as text of the same tree, which prints as the same text."""
    query = parse(text)
    printed = to_text(query)
    again = parse(printed)
    return same(query, again) and to_text(again) == printed


@pytest.mark.parametrize("text", SYNTAX["accept"] + SYNTAX["lenient"])
def test_what_is_printed_is_the_same_query(text: str) -> None:
    assert is_given_back(text)


@pytest.mark.skipif(not GOLD.exists(), reason="the conformance cases are not here")
def test_every_conformance_case_is_given_back() -> None:
    texts = [json.loads(line)["kql"] for line in GOLD.read_text("utf-8").splitlines()]
    assert [text for text in texts if not is_given_back(text)] == []


PRINTED = {
    "T|filter a<>1 and(b)|order by c asc nulls last,d|limit 5": (
        "T\n| where a != 1 and b\n| sort by c asc nulls last, d desc\n| take 5"
    ),
    "let x=1;let f=(a:int=5){a+x};print f( )": "let x = 1;\nlet f = (a:int = 5) { a + x };\nprint f()",
    "print ((1+2))*3, - (1), 1.50, 90m, 0x10": "print (1 + 2) * 3, -(1), 1.5, 90m, 16",
    "print datetime(1/31/2020 10:00), date('2020-01-31')": "print datetime(2020-01-31T10:00:00), datetime(2020-01-31)",
    "print 'a\\tb' h@'\"', ['c d'].e[\"f\"]": 'print h"a\\tb\\"", ["c d"].e["f"]',
    "T | join kind=inner(U|where a)on $left.a==$right.b": "T\n| join kind=inner (U\n| where a) on $left.a == $right.b",
    "T | where a in ((U|project b),5)": "T\n| where a in ((U\n| project b), 5)",
    "print dynamic({'a':[1,-2.5,null,true]})": 'print dynamic({"a": [1, -2.5, null, true]})',
    "T | graph-match(a)-->(b)<-[e*1..3]-(c)project a": "T\n| graph-match (a)-[]->(b)<-[e*1..3]-(c) project a",
    "declare query_parameters(a:date);T": "declare query_parameters(a:datetime);\nT",
}


@pytest.mark.parametrize(("text", "printed"), PRINTED.items(), ids=PRINTED)
def test_there_is_one_spelling(text: str, printed: str) -> None:
    assert to_text(parse(text)) == printed


def test_a_part_of_a_query_prints_too() -> None:
    (statement,) = parse("T | where a == 1 | count").statements
    assert isinstance(statement, ast.Evaluation)
    assert isinstance(statement.value, ast.Pipe)
    where = statement.value.operators[0]
    assert isinstance(where, ast.Where)
    assert to_text(where) == "where a == 1"
    assert to_text(where.condition) == "a == 1"
    assert to_text(statement) == to_text(parse("T | where a == 1 | count"))


# -- any expression ---------------------------------------------------------------------------------------------------

AT = Span(0, 0)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.sampled_from(["a", "b_1", "$left", "title", "kind"]).map(lambda name: ast.Name(name, AT)) | TEXTS.map(
    lambda name: ast.Name(name, AT, True)
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def literals() -> st.SearchStrategy[ast.Expr]:
    values: dict[str, st.SearchStrategy[object]] = {
        "bool": st.booleans(),
        "int": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63), 2**63 - 1),
        "real": st.floats(),
        "decimal": st.decimals(allow_nan=False, allow_infinity=False).map(lambda value: Decimal(str(value))),
        "datetime": st.integers(0, 3_155_378_975_999_999_999),
        "timespan": st.integers(-(2**63), 2**63 - 1),
        "guid": st.uuids().map(str),
    }
    typed = [
        (st.none() | value).map(lambda value, type_=type_: ast.Literal(value, type_, AT))
        for type_, value in values.items()
    ]
    strings = st.builds(lambda text, hidden: ast.Literal(text, "string", AT, hidden), TEXTS, st.booleans())
    return st.one_of(*typed, strings, JSON.map(lambda value: ast.Literal(value, "dynamic", AT)))


def compounds(inner: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.Expr]:
    several = st.lists(inner, min_size=1, max_size=3).map(tuple)
    words = "+ - * / % == != < <= > >= =~ !~ has !has_cs contains matches_regex : startswith"
    binary = st.sampled_from([word.replace("_regex", " regex") for word in words.split(" ")])
    lists = st.sampled_from(["in", "!in", "in~", "!in~", "has_any", "has_all"])
    where = inner.map(lambda condition: ast.Where(condition, AT))
    extend = several.map(lambda items: ast.Extend(items, AT))
    pipe = st.builds(
        lambda source, steps: ast.Pipe(source, steps, AT),
        inner,
        st.lists(where | extend, min_size=1, max_size=2).map(tuple),
    )
    table = inner | pipe
    return st.one_of(
        st.builds(lambda operator, left, right: ast.Binary(operator, left, right, AT), binary, inner, inner),
        st.builds(
            lambda operator, operands: ast.Logical(operator, operands, AT),
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=2, max_size=3).map(tuple),
        ),
        st.builds(lambda sign, operand: ast.Unary(sign, operand, AT), st.sampled_from("+-"), inner),
        st.builds(lambda base, name: ast.Member(base, name, AT), inner, st.sampled_from(["a", "b c", "where", ""])),
        st.builds(lambda base, index: ast.Index(base, index, AT), inner, inner),
        st.builds(
            lambda operator, subject, items: ast.Membership(operator, subject, items, AT),
            lists,
            inner,
            st.lists(table, min_size=1, max_size=3).map(tuple),
        ),
        st.builds(
            lambda subject, low, high, negated: ast.Between(subject, low, high, negated, AT),
            inner,
            inner,
            inner,
            st.booleans(),
        ),
        st.builds(
            lambda name, arguments: ast.Call(name, arguments, AT, AT),
            st.sampled_from(["f", "count", "toscalar", "where", "d e"]),
            st.lists(table | st.builds(lambda name, value: ast.Named(name, value, AT), NAMES, inner), max_size=3).map(
                tuple
            ),
        ),
        st.builds(lambda name, arguments, base: ast.Call(name, arguments, AT, AT, base), st.just("g"), several, inner),
    )


EXPRESSIONS = st.recursive(literals() | NAMES, compounds, max_leaves=12)


@given(EXPRESSIONS)
@settings(max_examples=400)
def test_any_expression_is_read_as_it_is_printed(expression: ast.Expr) -> None:
    text = to_text(ast.Project((ast.Named(ast.Name("x", AT), expression, AT),), AT))
    query, errors = parse_all(f"T | {text}")
    assert not errors, (text, str(errors[0]))
    (statement,) = query.statements
    assert isinstance(statement, ast.Evaluation)
    assert isinstance(statement.value, ast.Pipe)
    (project,) = statement.value.operators
    assert isinstance(project, ast.Project)
    (item,) = project.items
    assert isinstance(item, ast.Named)
    assert same(item.value, expression), text
