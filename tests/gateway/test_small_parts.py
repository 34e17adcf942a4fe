"""Counters, allowances, seals, holds, addresses and messages: the small parts that calls rely on."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.gateway.answers import PUBLIC_MESSAGES, Refusal, RefusalKind
from watchfloor.gateway.asgi import Addresses
from watchfloor.gateway.board import Board
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


def workers(directory: Path, count: int) -> list[Activity]:
    return [Activity(Board(directory, f"gateway-{n}")) for n in range(count)]


@pytest.mark.claim("counts-host")
def test_workers_of_one_host_count_together_within_a_fifth_of_a_second(tmp_path: Path) -> None:
    first, second, third = workers(tmp_path, 3)
    now = 1000.0
    for n in range(400):
        now = 1000.0 + n / 40
        first.observe("a", "s", "t", now)
        second.observe("a", "s", "t", now)
        for worker in (first, second, third):
            if n % 4 == 0:
                worker.share(now)
    first.share(now)
    second.share(now)
    counters = third.observe("a", "s", "t", now + 0.2)
    assert (counters.calls_last_minute, counters.same_tool_last_minute) == (801, 801)
    first.blocked("a", now)
    first.share(now)
    assert third.observe("a", "s", "other", now + 0.4).blocked_last_10_minutes == 1
    assert third.observe("b", "s", "t", now + 0.4).calls_last_minute == 1
    late = third.observe("a", "s", "t", now + 70)
    assert (late.calls_last_minute, late.blocked_last_10_minutes) == (1, 1)
    assert third.observe("a", "s", "t", now + 700).blocked_last_10_minutes == 0


def test_a_board_forgets_what_ends_first_when_there_are_too_many_keys(tmp_path: Path) -> None:
    mine, other = Board(tmp_path, "mine"), Board(tmp_path, "other")
    other.look()
    counts = [0] * 12
    counts[100 % 12] = 7
    same_place = [1 + n * 16_384 for n in range(9)]
    for name in same_place:
        mine.put(name, 100, 5.0, counts)
    assert [other.others(name, 100) for name in same_place].count(7) == 8


@given(times=st.lists(st.floats(0, 300), max_size=40).map(sorted), look=st.floats(0, 400))
def test_what_another_worker_sees_of_a_window_is_what_its_owner_would_count(times: list[float], look: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        mine, other = Board(Path(directory), "mine"), Board(Path(directory), "other")
        other.look()
        window = Window(60, 42)
        for at in times:
            window.add(at)
            window.exchange(mine, at, put=True)
        now = max([look, *times])
        assert other.others(42, int(now / 5.0)) == window.count(now)


def test_boards_of_another_version_or_of_before_a_restart_of_the_machine_count_for_nothing(tmp_path: Path) -> None:
    tmp_path.joinpath("old.counts").write_bytes(b"WFCOUNT0" + b"\1" * 1_048_632)
    tmp_path.joinpath("short.counts").write_bytes(b"WFCOUNT1")
    tmp_path.joinpath("mine.counts").write_bytes(b"torn")
    board = Board(tmp_path, "mine")
    board.look()
    assert board.others(1, 1) == 0
    board.put(1, 1, 5.0, [1] * 12)
    board.close()


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


@pytest.mark.asvs("4.1.3")
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
