"""What functions answer: every case of ``cases/`` as a query, and that no function goes without."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kql.running import Data
from watchfloor.kql.functions import AGGREGATES, FUNCTIONS, REFUSED
from watchfloor.kql.values import parse_datetime

CASES: list[dict[str, Any]] = [
    case
    for path in sorted((Path(__file__).parent / "cases").glob("*.yaml"))
    for case in yaml.safe_load(path.read_text("utf-8"))
]
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
LEAST = 2
"""Cases of a function."""


@pytest.fixture(scope="module")
def data() -> Data:
    return Data()


def same(got: Any, want: Any) -> bool:
    """Whether cells are equal, numbers up to their last digits."""
    if isinstance(got, list) and isinstance(want, list):
        return len(got) == len(want) and all(map(same, got, want))
    if isinstance(got, dict) and isinstance(want, dict):
        return got.keys() == want.keys() and all(same(got[key], want[key]) for key in got)
    if isinstance(got, bool) or isinstance(want, bool):
        return got is want
    if isinstance(got, int | float) and isinstance(want, int | float):
        return (math.isnan(got) and math.isnan(want)) or math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(got, str) and isinstance(want, str) and INSTANT.fullmatch(got) and INSTANT.fullmatch(want):
        return parse_datetime(got) == parse_datetime(want)
    return bool(got == want)


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case['fn']}: {case['kql'][:60]}") for case in CASES])
def test_function_answers_what_its_case_says(data: Data, case: dict[str, Any]) -> None:
    if "error" in case:
        assert case["error"].lower() in str(data.refusal(case["kql"])).lower()
        return
    rows = data.ask(case["kql"]).rows
    assert same(rows, case["rows"]), f"got {rows}"


def test_every_function_has_cases() -> None:
    counts: dict[str, int] = {}
    for case in CASES:
        counts[case["fn"]] = counts.get(case["fn"], 0) + 1
    names = {row.name for rows in FUNCTIONS.values() for row in rows} | {
        row.name for rows in AGGREGATES.values() for row in rows
    }
    few = sorted(name for name in names if not name.startswith(("__", "geo_")) and counts.get(name, 0) < LEAST)
    assert few == []
    unknown = sorted(set(counts) - names - set(REFUSED) - set(FUNCTIONS) - set(AGGREGATES))
    assert unknown == []
