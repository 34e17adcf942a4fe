"""Ids: of one length and alphabet, and in order where that is promised."""

from __future__ import annotations

import os
import re
import threading

from watchfloor.model.ids import new_id, ordered_id

_FORM = re.compile(r"evt_[0-9a-hjkmnp-tv-z]{26}")


def test_ids_have_one_form_and_differ() -> None:
    for make in (new_id, ordered_id):
        made = [make("evt") for _ in range(1_000)]
        assert len(set(made)) == 1_000
        assert all(_FORM.fullmatch(each) for each in made)


def test_threads_and_a_forked_child_are_given_different_ids() -> None:
    made: list[list[str]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda m=m: m.extend(new_id("evt") for _ in range(2_000))) for m in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for some in made for each in some}) == 8_000
    new_id("evt")  # so that there are digits left to inherit
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.write(write_end, "".join(new_id("evt")[-16:] for _ in range(64)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read_end, 64 * 16).decode()
    os.close(read_end)
    os.close(write_end)
    ours = {new_id("evt")[-16:] for _ in range(512)}
    assert ours.isdisjoint({theirs[at : at + 16] for at in range(0, len(theirs), 16)})


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
