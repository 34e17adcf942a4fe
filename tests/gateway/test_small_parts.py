"""Counters, allowances, seals, holds, addresses and messages: the small parts that calls rely on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.gateway.answers import PUBLIC_MESSAGES, Refusal, RefusalKind
from watchfloor.gateway.asgi import Addresses
from watchfloor.gateway.counters import Activity, Window
from watchfloor.gateway.holds import Holds
from watchfloor.gateway.refusals import BURST, TOTAL_BURST, Allowance
from watchfloor.gateway.seals import Seal
from watchfloor.guard.reasons import CODES

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@given(times=st.lists(st.floats(0, 300), max_size=60).map(sorted))
def test_a_window_counts_what_lies_between_eleven_twelfths_and_the_whole_of_its_span(times: list[float]) -> None:
    window = Window(60)
    for at in times:
        window.add(at)
    now = times[-1] if times else 0.0
    surely = sum(now - at < 55 for at in times)
    at_most = sum(now - at <= 60 for at in times)
    assert surely <= window.count(now) <= at_most


def test_calls_are_counted_by_agent_and_by_tool() -> None:
    activity = Activity()
    activity.observe("a", "s", "t1", 1.0)
    activity.observe("a", "s", "t2", 2.0)
    activity.observe("b", "s", "t1", 2.0)
    activity.blocked("a", 2.0)
    counters = activity.observe("a", "s", "t1", 3.0)
    assert (counters.calls_last_minute, counters.same_tool_last_minute, counters.blocked_last_10_minutes) == (3, 2, 1)
    later = activity.observe("a", "s", "t1", 100.0)
    assert (later.calls_last_minute, later.blocked_last_10_minutes) == (1, 1)


def test_one_address_cannot_fill_the_log_and_what_was_left_out_is_counted() -> None:
    allowance = Allowance()
    taken = [allowance.take("198.51.100.7", 100.0) for _ in range(1000)]
    assert sum(t is not None for t in taken) == BURST
    assert allowance.take("198.51.100.8", 100.0) == 0
    assert allowance.take("198.51.100.7", 110.0) == 1000 - BURST


def test_many_addresses_together_cannot_fill_it_either() -> None:
    allowance = Allowance()
    taken = [allowance.take(f"10.0.{n // 256}.{n % 256}", 100.0) for n in range(5000)]
    assert sum(t is not None for t in taken) == TOTAL_BURST


@given(value=st.text(max_size=80), holder=st.lists(st.text(max_size=20), max_size=4))
def test_what_was_sealed_opens_for_its_holder_and_nobody_else(value: str, holder: list[str]) -> None:
    seal = Seal(b"k" * 32, "test")
    sealed = seal.seal(value, *holder)
    assert sealed.isascii() and seal.open(sealed, *holder) == value
    assert seal.open(sealed, *holder, "more") is None
    assert Seal(b"x" * 32, "test").open(sealed, *holder) is None
    assert Seal(b"k" * 32, "other").open(sealed, *holder) is None
    if len(holder) > 1 and holder[0] and holder[1]:
        assert seal.open(sealed, holder[0] + holder[1], *holder[2:]) is None


@given(text=st.text(max_size=80))
def test_no_text_of_somebody_else_opens(text: str) -> None:
    assert Seal(b"k" * 32, "test").open(text, "holder") is None


def holds(most: int = 20) -> Holds:
    return Holds(Seal(b"k" * 32, "holds"), timedelta(minutes=5), most)


def test_a_retry_token_is_good_for_its_agent_and_user_only_and_names_its_payload() -> None:
    made = holds().create("hash", "agent", "user", NOW)
    found = holds().open(made.retry_token, "agent", "user")
    assert found == made and made.expires_at == NOW + timedelta(minutes=5)
    for other in (("agent2", "user"), ("agent", "user2"), ("agent", None), ("", "agentuser")):
        assert holds().open(made.retry_token, *other) is None
    assert holds().open(made.retry_token[:-1], "agent", "user") is None


def test_a_hold_of_the_same_call_is_found_until_it_is_answered_or_expires() -> None:
    mine = holds()
    made = mine.create("hash", "agent", "user", NOW)
    assert mine.find("hash", NOW, {}, {}) == (made.id, made.expires_at)
    assert mine.find("hash", NOW, {}, {made.id}) is None
    assert mine.find("hash", made.expires_at, {}, {}) is None
    assert mine.find("other", NOW, {}, {}) is None
    elsewhere = ("hold_elsewhere", NOW + timedelta(minutes=1))
    assert mine.find("hash", NOW, {"hash": elsewhere}, {}) == elsewhere
    assert mine.named(made.id, made.expires_at, "hash", "agent", "user") == made


def test_an_agent_that_asks_too_often_is_limited_until_the_first_question_is_an_hour_old() -> None:
    mine = holds(most=3)
    for minute in range(3):
        assert mine.limited_until("agent", "user", NOW) is None
        mine.create(f"hash {minute}", "agent", "user", NOW + timedelta(minutes=minute))
    assert mine.limited_until("agent", "user", NOW + timedelta(minutes=30)) == NOW + timedelta(hours=1)
    assert mine.limited_until("agent", "other", NOW) is None
    assert mine.limited_until("agent", "user", NOW + timedelta(hours=1)) is None


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        ("198.51.100.1", None, (), "198.51.100.1"),
        ("198.51.100.1", "203.0.113.9", (), "198.51.100.1"),
        ("198.51.100.1", "203.0.113.9", ("10.0.0.0/8",), "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9", ("10.0.0.0/8",), "203.0.113.9"),
        ("10.0.0.1", "192.0.2.1, 203.0.113.9, 10.0.0.2", ("10.0.0.0/8",), "203.0.113.9"),
        ("10.0.0.1", "not an address", ("10.0.0.0/8",), "10.0.0.1"),
        ("10.0.0.1", None, ("10.0.0.0/8",), "10.0.0.1"),
    ],
)
def test_a_callers_address_is_believed_only_from_proxies_that_we_trust(
    peer: str, forwarded: str | None, trusted: tuple[str, ...], expected: str
) -> None:
    assert Addresses(trusted).of({"client": (peer, 1)}, forwarded) == expected


def test_every_reason_code_has_a_sentence_for_the_caller_and_none_quotes_a_policy() -> None:
    assert set(PUBLIC_MESSAGES) == set(CODES)
    assert Refusal(RefusalKind.HELD, "held").is_retryable
    assert not Refusal(RefusalKind.BLOCKED, "held").is_retryable
    assert "declined" in Refusal(RefusalKind.BLOCKED, "held").message
