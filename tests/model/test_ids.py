"""Ids: of one length and alphabet, and in order where that is promised."""

from __future__ import annotations

import re
import threading

from watchfloor.model.ids import new_id, ordered_id

_FORM = re.compile(r"evt_[0-9a-hjkmnp-tv-z]{26}")


def test_ids_have_one_form_and_differ() -> None:
    for make in (new_id, ordered_id):
        made = [make("evt") for _ in range(1_000)]
        assert len(set(made)) == 1_000
        assert all(_FORM.fullmatch(each) for each in made)


def test_both_kinds_sort_by_time() -> None:
    before, after = new_id("evt")[:13], ordered_id("evt")[:13]
    assert before <= after <= ordered_id("evt")[:13]


def test_ordered_ids_are_in_order_within_a_millisecond_and_over_threads() -> None:
    made: list[str] = []
    lock = threading.Lock()

    def make() -> None:
        for _ in range(2_000):
            with lock:
                made.append(ordered_id("evt"))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == sorted(made)
    assert len(set(made)) == len(made)
