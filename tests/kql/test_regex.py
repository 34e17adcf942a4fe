"""Regular expressions: one meaning in all machines, and no pattern that takes for ever."""

from __future__ import annotations

import re
import time

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchfloor.kql import regex
from watchfloor.kql.regex import match as machines

ATOMS = st.sampled_from(
    ["a", "b", "k", "1", "_", " ", "é", "ß", r"\d", r"\w", r"\s", r"\W", r"\D", r"\S", ".", "[ab]", "[^a]", "[a-c1]",
     r"[\w.]", r"\b", r"\B", "^", "$", r"\A", r"\z", "(?i:k)", "(?i:[a-c])", "[[:alpha:]]", r"\pL", "[a-z&&[^b]]",
     "(?m:^)", "(?m:$)", "(?s:.)", r"[^\s]", r"\.", "-", "[x--y]"]
)  # fmt: skip
QUANTIFIERS = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?", "+?", "??", "{0,2}?"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        inner.map(lambda text: f"({text})"),
        st.tuples(ATOMS, QUANTIFIERS).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=6,
)
SUBJECTS = st.text("abk1_ K.é-ßſκ٣\n", max_size=9)
CONNECTION = duckdb.connect()


@settings(max_examples=400, deadline=None, derandomize=True)
@given(PATTERNS, st.lists(SUBJECTS, min_size=3, max_size=3))
def test_all_machines_find_the_same(pattern: str, subjects: list[str]) -> None:
    compiled = regex.compile(pattern)
    program = machines._Program(compiled.pattern)
    quick = re.compile(machines._python_text(compiled.pattern.root))
    for subject in subjects:
        spans = program.search(subject, 0)
        found = quick.search(subject)
        assert (found is not None and found.span()) == (spans is not None and spans[0])
        assert compiled.search(subject) == spans
        text = compiled.re2 or (compiled.re2_ascii if subject.isascii() else None)
        if text is None:
            continue
        row = CONNECTION.execute("SELECT regexp_matches($s, $p), regexp_extract($s, $p)", {"s": subject, "p": text})
        want = "" if spans is None or spans[0] is None else subject[slice(*spans[0])]
        assert row.fetchone() == (spans is not None, want)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"\d+", "x٣4", "٣4"),
        (r"(?-u:\d)+", "x٣4", "4"),
        (r"\bé", "aé é", "é"),
        (r"(?i)straße", "STRAßE", "STRAßE"),
        ("(?i)k", "\u212a", "\u212a"),
        ("(?x) a b # ab\n c", "abc", "abc"),
        ("a.c", "a\nc", None),
        ("(?s)a.c", "a\nc", "a\nc"),
        ("a$", "a\n", None),
        ("(?m)a$", "a\nb", "a"),
        ("(?U)a+", "aaa", "a"),
        ("a{,2}", "a{,2}", "a{,2}"),
        ("x{2}{3}", "x" * 7, "x" * 6),
        (r"[\w-.]+", "a-b.c d", "a-b.c"),
        ("[]a]+", "]a", "]a"),
        ("[a-c&&b-d~~c]", "abc", "b"),
        (r"\x41\x{42}\u0043\U{44}", "ABCD", "ABCD"),
        (r"\p{Greek}+", "abκλ", "κλ"),
        (r"\P{L}", "a1", "1"),
        (r"\<o\>|^$", "to o", "o"),
        ("a|ab", "ab", "a"),
    ],
)
def test_meaning(pattern: str, text: str, found: str | None) -> None:
    spans = regex.compile(pattern).search(text)
    assert (None if spans is None or spans[0] is None else text[slice(*spans[0])]) == found


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a", "parenthesis is not closed"),
        ("a)", "not opened"),
        ("[a", "bracket is not closed"),
        ("*a", "nothing to repeat"),
        ("(?=a)", "look-around"),
        ("(?<!a)", "look-around"),
        (r"(a)\1", "references back"),
        (r"\q", "not known"),
        ("a{3,2}", "more times at least"),
        ("a{2000}", "1000 times"),
        ("(?:a{1000}){1000}", "too large"),
        ("[z-a]", "ends before it begins"),
        (r"\p{Klingon}", "no class"),
        ("(?P<a>x)(?P<a>y)", "two groups"),
        ("(" * 60 + ")" * 60, "nested"),
        ("a" * 10_001, "at most"),
        ("\\", "at the end"),
    ],
)
def test_what_is_wrong_is_said(pattern: str, why: str) -> None:
    assert why in (regex.check(pattern) or "")


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "(.*)(.*)(.*)(.*)(.*)x", "(a?){30}a{30}", "(a|a?)+b", r"(\w+\s?)+:"]
)
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    begin = time.perf_counter()
    regex.compile(pattern).search("a" * 400 + "!")
    assert time.perf_counter() - begin < 5


def test_a_text_that_would_take_too_long_is_refused() -> None:
    with pytest.raises(regex.RegexError, match="too long"):
        regex.compile("(a|b|ab)*(c|d)*(?:x*)*y").search("ab" * 1_000_000)


def test_empty_matches_do_not_stand_behind_another() -> None:
    assert [spans[0] for spans in regex.compile("a*").find_all("baac")] == [(0, 0), (1, 3), (4, 4)]


def test_a_quoted_text_matches_itself() -> None:
    text = "".join(map(chr, range(32, 127)))
    assert regex.compile(regex.quote(text)).search(text) == ((0, len(text)),)
