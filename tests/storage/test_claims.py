"""The one use of an approval: one taker wins, on either engine, from any number of threads, and silence is no win."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from watchfloor.model.errors import Unavailable
from watchfloor.storage.claims import Claims

from .contract_control import Site, postgres_url, site  # noqa: F401  fixtures: every engine

AT = 1_793_700_000_000_000


def claims_of(site: Site) -> Claims:  # noqa: F811  the fixture's value
    site.open().close()
    return Claims.open(site.url)


def test_a_use_is_taken_once_and_again_only_after_its_taker_gave_it_back(site: Site) -> None:  # noqa: F811  the fixture's value
    mine, other = claims_of(site), Claims.open(site.url)
    assert mine.take("hold_1", "inv_1", AT)
    assert not other.take("hold_1", "inv_2", AT) and not mine.take("hold_1", "inv_1", AT)
    other.give_back("hold_1", "inv_2")
    assert not other.take("hold_1", "inv_2", AT)
    mine.give_back("hold_1", "inv_1")
    assert other.take("hold_1", "inv_2", AT)
    assert mine.take("hold_2", "inv_1", AT)


@pytest.mark.claim("hold-once")
def test_of_many_takers_at_once_one_wins(site: Site) -> None:  # noqa: F811  the fixture's value
    claims_of(site)
    takers = [Claims.open(site.url, timeout=10) for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        for hold in range(5):
            won = pool.map(lambda n, hold=hold: takers[n].take(f"hold_{hold}", f"inv_{n}", AT), range(12))  # type: ignore[misc]  # a default binds the loop's value
            assert sum(won) == 1


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/control.db", "postgresql://joe:hunter2@127.0.0.1:9/none"], ids=["sqlite", "postgresql"]
)
def test_a_database_that_does_not_answer_is_no_use_taken_and_no_password_shown(url: str) -> None:
    for attempt in (lambda: Claims.open(url).take("h", "i", AT), lambda: Claims.open(url).give_back("h", "i")):
        with pytest.raises(Unavailable) as error:
            attempt()
        assert "hunter2" not in str(error.value)
