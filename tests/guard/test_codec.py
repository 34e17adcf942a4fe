"""Records are canonical, complete and the same however they were made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest

from guard.world import CALL, FACTS, call, facts
from watchfloor.guard import codec
from watchfloor.guard.content import UNREADABLE_KEY
from watchfloor.guard.provenance.trace import untraced
from watchfloor.model.access import AccessFacts, AccessState, AppliedPolicy, Control
from watchfloor.model.agents import ToolEffect
from watchfloor.model.facts import Actor, AgentFacts, CanaryFacts, Facts, TokenFacts


def test_input_hash_is_taken_over_the_recorded_json() -> None:
    recorded = b'[%b,%b,"set"]' % (codec.dump_invocation(CALL), codec.dump_facts(FACTS))
    assert codec.input_hash(CALL, FACTS, "set") == hashlib.sha256(recorded).hexdigest()


def test_payload_hash_covers_what_is_approved_and_nothing_else() -> None:
    first = codec.payload_hash(CALL)
    assert codec.payload_hash(call(id="inv_02", session_id="other", retry_token="x", address="1.2.3.4")) == first
    for change in ({"tool": "x"}, {"arguments": {}}, {"user_id": None}, {"agent_id": "x"}, {"server_id": "x"}):
        assert codec.payload_hash(call(**change)) != first


def test_remembered_fragments_write_the_same_bytes() -> None:
    fragments = codec.Fragments()
    some = [FACTS, facts(user=None), facts(user={"name": "É"}), facts(agent={"epoch": 9}, tool=None)]
    for known in (*some, *some):
        assert codec.dump_facts(known, fragments) == codec.dump_facts(known)
        assert codec.input_hash(CALL, known, "s", fragments) == codec.input_hash(CALL, known, "s")


def test_what_is_remembered_of_a_call_is_written_for_that_call_alone() -> None:
    fragments = codec.Fragments()
    calls = [CALL, call(id="inv_02"), call(arguments={"to": "\ud800"}), CALL]
    traces = [untraced(ToolEffect.READ, "strict"), None, untraced(ToolEffect.UNKNOWN, "balanced")]
    for each in calls:
        for trace in traces:
            plain = codec.input_hash(each, FACTS, "s", None, trace)
            assert codec.input_hash(each, FACTS, "s", fragments, trace) == plain
            recorded = codec.dump_call(each, trace, fragments)
            assert recorded == codec.dump_call(each, trace) == codec.dump_call(each, trace, fragments)
            assert codec.load_trace(recorded) == trace


def test_fragments_write_every_member_of_the_facts() -> None:
    parents = (AgentFacts("boss"),)
    canaries = (CanaryFacts("bait", "mail/wipe"),)
    applied = AppliedPolicy("p", 2, "P", AccessState.ENABLED, Control.MFA, ("users: All",), 3600)
    access = AccessFacts(Control.MFA, (applied,), 3600, ("pwd",), "low")
    handed_over = {"handed_over_by": (Actor("boss", 1),)}
    whole = facts(parents=parents, canaries=canaries, token=handed_over, access=access)
    record = json.loads(codec.dump_facts(whole, codec.Fragments()))
    assert list(record) == [field.name for field in dataclasses.fields(Facts)]
    assert list(record["token"]) == [field.name for field in dataclasses.fields(TokenFacts)]
    assert codec.load_facts(record) == whole


@pytest.mark.parametrize("name", ["Griffin", "\ud800"])
def test_facts_of_what_nobody_handed_over_say_nothing_of_it(name: str) -> None:
    record = json.loads(codec.dump_facts(facts(user={"name": name})))
    assert not {"parents", "canaries", "access"} & set(record) and "handed_over_by" not in record["token"]


def test_text_that_is_not_unicode_survives_a_record() -> None:
    odd_call, odd_facts = call(user_turns=("\ud800",), address="\udfff"), facts(user={"name": "\ud800"})
    assert codec.load_invocation(codec.dump_invocation(odd_call)) == odd_call
    assert codec.load_facts(codec.dump_facts(odd_facts)) == odd_facts
    fragments = codec.Fragments()
    for _ in range(2):
        assert codec.input_hash(odd_call, odd_facts, "s", fragments) == codec.input_hash(odd_call, odd_facts, "s")


def test_arguments_that_cannot_be_examined_are_not_recorded() -> None:
    record = json.loads(codec.dump_invocation(call(arguments={"x": float("nan")})))
    assert record["arguments"] == {UNREADABLE_KEY: "they hold a value that is not JSON"}


def test_record_of_a_newer_version_can_be_read() -> None:
    record = {**json.loads(codec.dump_invocation(CALL)), "colour": "green"}
    assert codec.load_invocation(record) == CALL


@pytest.mark.parametrize("broken", [b"[]", b"7", {}, {"id": "x"}, b"{"])
def test_what_is_no_record_is_refused(broken: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        codec.load_invocation(broken)
