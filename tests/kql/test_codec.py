"""Scalars survive the journey through JSON."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.kql import ir
from watchfloor.kql.codec import decode, decode_value, encode, encode_value
from watchfloor.kql.functions import FUNCTIONS

COLUMN = ir.BoundColumn(3, "string", False)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "long": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(allow_nan=False),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "datetime": st.integers(0, 10**18),
    "timespan": st.integers(-(10**12), 10**12),
    "guid": st.uuids().map(str),
    "dynamic": st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    ),
}
functions = [overload for name, overloads in FUNCTIONS.items() for overload in overloads if overload.name == name]

constants = st.sampled_from(sorted(VALUES)).flatmap(lambda t: (st.none() | VALUES[t]).map(lambda v: ir.Const(v, t)))
columns = st.builds(ir.BoundColumn, st.integers(0, 99), st.sampled_from(sorted(VALUES)), st.booleans())
leaves = constants | columns.map(ir.Ref)


def _nodes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, max_size=3).map(tuple)
    types = st.sampled_from(sorted(VALUES))
    steps = st.lists(st.text("ab") | st.integers(-3, 3) | inner, max_size=3).map(tuple)
    pairs = st.lists(st.tuples(inner, inner), min_size=1, max_size=2).map(tuple)
    return st.one_of(
        st.builds(ir.Apply, st.sampled_from(functions), several, types, st.booleans()),
        st.builds(ir.Path, inner, steps, st.just("dynamic"), st.booleans()),
        st.builds(ir.Convert, inner, types, st.booleans()),
        st.builds(ir.Compare, st.sampled_from(["==", "!=", "<", ">="]), inner, inner, st.booleans()),
        st.builds(ir.OneOf, inner, several, st.booleans(), st.booleans()),
        st.builds(ir.Junction, st.sampled_from(["and", "or"]), several, st.booleans()),
        st.builds(ir.Choice, pairs, inner, types, st.booleans()),
    )


@given(st.recursive(leaves, _nodes, max_leaves=12))
def test_a_scalar_comes_back_as_it_was(scalar: ir.Scalar) -> None:
    assert decode(json.loads(json.dumps(encode(scalar), allow_nan=False))) == scalar


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.1, -0.0])
def test_reals_come_back_whatever_json_thinks_of_them(value: float) -> None:
    assert decode_value(json.loads(json.dumps(encode_value(value, "real"), allow_nan=False)), "real") == value


def test_not_a_number_comes_back() -> None:
    assert math.isnan(decode_value(encode_value(math.nan, "real"), "real"))


def test_a_decimal_keeps_its_digits() -> None:
    assert str(decode_value(encode_value(Decimal("1.10"), "decimal"), "decimal")) == "1.10"


@pytest.mark.parametrize(
    "scalar",
    [
        ir.Window("row_number", (), None, "long"),
        ir.FirstOf(ir.Values((), ()), COLUMN, "string"),
        ir.Convert(ir.InRelation(ir.Ref(COLUMN), ir.Values((), ()), COLUMN, False), "string"),
    ],
)
def test_what_needs_other_rows_does_not_travel(scalar: ir.Scalar) -> None:
    with pytest.raises(ValueError, match="needs more than a row"):
        encode(scalar)


@pytest.mark.parametrize("given_", [[], ["const"], "ref", ["apply", "no_such_function", 0, "long", True, []], None])
def test_what_is_no_scalar_is_refused(given_: Any) -> None:
    with pytest.raises(ValueError, match=r"no encoded scalar|no function"):
        decode(given_)
