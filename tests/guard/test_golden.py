"""Decisions recorded in the past, decided again: the same verdict, to the byte.

``golden/decisions.json`` holds invocation, facts and verdict as doors record them, ``golden/policies.json`` the
policies that were in force. A difference here means that old records no longer replay: if that is meant, raise
``SEMANTICS`` in ``guard/policy.py``, say so in a change note, and write the files anew: ``golden_records.py``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.golden_records import GOLDEN, recorded_policies
from watchfloor.guard import codec
from watchfloor.guard.engine import replay


def _records() -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((GOLDEN / "decisions.json").read_text("utf-8"))
    return records


@pytest.mark.claim("replay")
@pytest.mark.parametrize("record", _records(), ids=lambda record: str(record["name"]))
def test_recorded_decision_replays_to_the_recorded_verdict(record: dict[str, Any]) -> None:
    verdict = replay(record["invocation"], record["facts"], recorded_policies())
    assert verdict == codec.load_verdict(record["verdict"])
    assert json.loads(codec.dump_verdict(verdict)) == record["verdict"]


def test_records_cover_every_effect_and_more_than_a_dozen_decisions() -> None:
    records = _records()
    assert {record["verdict"]["effect"] for record in records} == {"allow", "redact", "hold", "block"}
    assert len(records) >= 12
    assert len({record["verdict"]["input_hash"] for record in records}) == len(records)
