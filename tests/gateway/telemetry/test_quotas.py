"""Quotas: what a source may send in a while, whatever it tries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.gateway.telemetry.quotas import BURST_SECONDS, MOST_SOURCES, Quotas


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_source_may_send_two_seconds_worth_at_once_and_then_waits(clock: Clock) -> None:
    quotas = Quotas(clock)
    assert quotas.take("crm", 200, 100) == 0
    assert quotas.take("crm", 50, 100) == pytest.approx(0.5)
    clock.at += 0.5
    assert quotas.take("crm", 50, 100) == 0


def test_a_source_that_keeps_to_its_quota_never_waits(clock: Clock) -> None:
    quotas = Quotas(clock)
    for _ in range(1000):
        assert quotas.take("crm", 10, 100) == 0
        clock.at += 0.1


def test_one_source_that_sends_too_much_does_not_slow_another(clock: Clock) -> None:
    quotas = Quotas(clock)
    quotas.take("flood", 200, 100)
    assert quotas.take("flood", 1, 100) > 0
    assert quotas.take("crm", 200, 100) == 0


def test_a_request_larger_than_the_whole_bucket_gets_in_and_is_paid_for_afterwards(clock: Clock) -> None:
    quotas = Quotas(clock)
    assert quotas.take("small", 512, 10) == 0
    assert quotas.take("small", 1, 10) == pytest.approx((512 - 20 + 1) / 10)


def test_a_lower_quota_counts_at_once(clock: Clock) -> None:
    quotas = Quotas(clock)
    assert quotas.take("crm", 1, 1000) == 0
    assert quotas.take("crm", 200, 100) == 0
    assert quotas.take("crm", 1, 100) > 0


def test_a_clock_that_goes_back_gives_and_takes_nothing(clock: Clock) -> None:
    quotas = Quotas(clock)
    quotas.take("crm", 200, 100)
    clock.at -= 500
    assert quotas.take("crm", 100, 100) == pytest.approx(1.0)


def test_memory_is_bounded_and_the_busy_ones_are_remembered(clock: Clock) -> None:
    quotas = Quotas(clock)
    quotas.take("busy", 200, 100)
    for n in range(MOST_SOURCES * 2):
        quotas.take(f"source-{n}", 1, 100)
        if n % 1000 == 0:
            assert quotas.take("busy", 100, 100) > 0
    assert len(quotas._buckets) == MOST_SOURCES


REQUESTS = st.lists(st.tuples(st.floats(0, 5), st.integers(0, 400)), max_size=60)


@given(requests=REQUESTS, rate=st.integers(1, 300))
def test_nobody_gets_more_than_rate_times_time_plus_one_burst_and_the_wait_told_is_long_enough(
    requests: list[tuple[float, int]], rate: int
) -> None:
    clock = Clock()
    quotas, started, taken = Quotas(clock), clock.at, 0
    for pause, events in requests:
        clock.at += pause
        wait = quotas.take("crm", events, rate)
        if wait > 0:
            clock.at += wait + 1e-6
            assert quotas.take("crm", events, rate) == 0
        # What a request exceeds the bucket by is owed, and paid before the next one.
        owed = max(0.0, events - rate * BURST_SECONDS)
        taken += events
        assert taken <= rate * (clock.at - started) + rate * BURST_SECONDS + owed + 1e-3
