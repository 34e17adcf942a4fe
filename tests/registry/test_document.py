"""YAML within walls: what is read, and what is refused before it can hurt."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.registry.document import MAX_CHARS, MAX_DEPTH, MAX_NODES, Listing, Mapping, Scalar, plain, read_document
from watchfloor.registry.problems import ManifestInvalid

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "stands for more than"),
        ("a: *b", "stands for nothing"),
        ("a: &a [*a]", "stands for nothing"),
        ("<<: {a: 1}\nb: !!python/object/apply:os.system [id]", "tags"),
        ("a: !!str 1", "tags"),
        ("a: !custom x", "tags"),
        ("a: 1\n---\nb: 2", "second document"),
        ("", "empty"),
        ("# only a comment", "empty"),
        ("a: 1\na: 2", "stands twice"),
        ("? [a, b]\n: 1", "key must be a word"),
        ("a: [", "not YAML"),
        ("a: b: c", "not YAML"),
        ("\x00", "not YAML"),
        ("a: .nan", "not a number"),
        ("a: .inf", "not a number"),
        (f"a: {2**64}", "too large"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "deep"),
        ("[" * 100_000, "deep"),
        ("x" * (MAX_CHARS + 1), "characters"),
        ("[" + "1," * MAX_NODES + "1]", "values"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_quickly(text: str, words: str) -> None:
    started = time.process_time()
    with pytest.raises(ManifestInvalid, match=words):
        read_document(text)
    assert time.process_time() - started < 5


def test_an_alias_is_what_it_stands_for() -> None:
    assert plain(read_document("a: &x [1, {b: 2}]\nc: *x\nd: &y text\ne: *y")) == {
        "a": [1, {"b": 2}],
        "c": [1, {"b": 2}],
        "d": "text",
        "e": "text",
    }


def test_a_tag_that_is_kept_is_a_mapping_of_the_tag_to_its_value() -> None:
    text = "a: !Ref X\nb: !GetAtt [X, Arn]\nc: !Sub {d: !Ref Y}\ne: !!str 3\nf: &f !Ref Z\ng: *f"
    assert plain(read_document(text, keep_tags=True)) == {
        "a": {"!Ref": "X"},
        "b": {"!GetAtt": ["X", "Arn"]},
        "c": {"!Sub": {"d": {"!Ref": "Y"}}},
        "e": "3",
        "f": {"!Ref": "Z"},
        "g": {"!Ref": "Z"},
    }
    with pytest.raises(ManifestInvalid, match="stands for more than"):
        read_document(BOMB, keep_tags=True)


def test_a_problem_names_its_line() -> None:
    with pytest.raises(ManifestInvalid) as caught:
        read_document("a: 1\nb: 2\na: 3\n")
    assert caught.value.problems[0].line == 3


def test_scalars_keep_their_text_and_their_value() -> None:
    node = read_document(
        "{version: 3, quoted: '3', date: 2026-01-02, yes: on, no: ~, float: 1.50, octal: 0o17, long: 1_000}"
    )
    assert isinstance(node, Mapping)
    found = {name: (value.text, value.value) for name, value in node.members.items() if isinstance(value, Scalar)}
    assert found["version"] == ("3", 3)
    assert found["quoted"] == ("3", "3")
    assert found["date"] == ("2026-01-02", "2026-01-02")
    assert found["yes"] == ("on", True)
    assert found["no"] == ("~", None)
    assert found["float"] == ("1.50", 1.5)
    assert found["octal"] == ("0o17", "0o17")
    assert found["long"] == ("1_000", 1000)


def test_lines_count_from_one() -> None:
    node = read_document("# comment\n- first\n-\n  second: 2\n")
    assert isinstance(node, Listing)
    assert [item.line for item in node.items] == [2, 4]


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(_VALUES)
def test_what_a_yaml_writer_writes_is_read_back(value: object) -> None:
    try:
        text = yaml.safe_dump(value, allow_unicode=True)
        expected = yaml.safe_load(text)
    except yaml.YAMLError:
        return  # a character that YAML has no way to write
    assert plain(read_document(text)) == expected
