"""Canaries: found wherever they stand, in whatever case, and nothing of them is told."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from guard.world import FACTS, NO_POLICIES, call, facts, judge
from watchfloor.guard import codec
from watchfloor.guard.content import examine
from watchfloor.guard.context import Context
from watchfloor.guard.detectors import canary
from watchfloor.guard.detectors.hit import Surface
from watchfloor.guard.engine import replay
from watchfloor.guard.protection import protect

VALUE = "Zebra-7f3a-Lagoon"
KNOWN = canary.facts_of("salaries", value=VALUE)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60).filter(
    lambda value: not canary.problem_of(value)
)


def found_in(arguments: Any, *canaries: Any) -> list[str]:
    return [f.signal.excerpt for f in canary.detect(examine(arguments, (), NO_POLICIES.limits), canaries)]


@given(VALUES, st.text(max_size=80), st.text(max_size=80), st.booleans())
def test_a_value_is_found_wherever_it_stands(value: str, before: str, after: str, is_upper: bool) -> None:
    said = before + (value.upper() if is_upper else value) + after
    assert found_in({"a": [{"b": said}]}, canary.facts_of("x", value=value)) == ["canary x"]


@given(VALUES, st.text(max_size=200))
def test_a_text_that_does_not_hold_it_is_left_alone(value: str, text: str) -> None:
    if value.lower() not in text.lower():
        assert found_in({"a": text}, canary.facts_of("x", value=value)) == []


@given(VALUES)
def test_what_is_kept_of_a_value_does_not_say_it(value: str) -> None:
    kept = orjson.dumps(canary.facts_of("x", value=value)).decode().lower()
    assert value.lower() not in kept and value.lower()[:8] not in kept


def test_half_a_value_and_one_that_differs_in_a_character_are_not_it() -> None:
    assert found_in({"a": VALUE[:-1]}, KNOWN) == found_in({"a": VALUE.replace("7", "8")}, KNOWN) == []


def test_a_text_made_of_beginnings_costs_little_and_hides_no_later_signal_of_another_canary() -> None:
    other = canary.facts_of("other", value="quite-another-value-81")
    assert found_in({"a": "zebr" * 200_000}, KNOWN) == []
    assert found_in({"a": "zebr" * 100 + "quite-another-value-81"}, KNOWN, other) == ["canary other"]


def test_a_call_a_users_words_a_result_and_an_answer_tell_of_it() -> None:
    known = facts(canaries=(KNOWN,))
    sent = judge(call(arguments={"body": f"the code is {VALUE}"}), known)
    assert [(s.category, s.path) for s in sent.signals] == [("canary", "arguments.body")]
    asked = judge(call(arguments={}, user_turns=(f"what is {VALUE}?",)), known)
    assert [s.path for s in asked.signals] == ["user_turns[0]"]
    for surface in (Surface.RESULT, Surface.ANSWER):
        back = protect(surface, {"text": f"Page 1: {VALUE}"}, call(), Context(known, NO_POLICIES))
        assert [(s.category, s.path) for s in back.verdict.signals] == [("canary", f"{surface}.text")]
        assert back.value is not None, "it tells, and blocks nothing by itself"
    assert judge(call(arguments={"body": "the code is lost"}), known).signals == ()


def test_a_tool_that_is_a_canary_tells_of_every_call() -> None:
    bait = canary.facts_of("bait", tool="mail/send_email")
    assert [s.excerpt for s in judge(call(), facts(canaries=(bait,))).signals] == ["canary bait"]
    assert judge(call(), facts(canaries=(canary.facts_of("bait", tool="mail/search"),))).signals == ()


def test_facts_without_canaries_are_recorded_as_before_there_were_any() -> None:
    for plain in (FACTS, facts(user={"name": "\ud800"})):
        record = codec.dump_facts(plain)
        assert b"canaries" not in record and codec.load_facts(record) == plain
        assert codec.dump_facts(plain, codec.Fragments()) == record


def test_a_decision_with_canaries_replays_to_the_same_and_its_record_does_not_say_the_value() -> None:
    known, made = facts(canaries=(KNOWN,)), call(arguments={"body": VALUE})
    verdict = judge(made, known)
    for record in (codec.dump_facts(known), codec.dump_facts(known, codec.Fragments())):
        assert codec.load_facts(record) == known and VALUE.lower() not in record.decode().lower()
        assert replay(codec.dump_invocation(made), record, NO_POLICIES) == verdict
