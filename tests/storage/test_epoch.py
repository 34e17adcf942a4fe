"""The epoch file: revisions only rise, beats age, and readers can do no harm."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.model.errors import Corrupt, Unavailable
from watchfloor.storage.epoch import MAGIC, EpochFile


def test_a_reader_sees_what_the_writer_raised(tmp_path: Path) -> None:
    writer = EpochFile.create(tmp_path / "run" / "epoch")
    reader = EpochFile.open(tmp_path / "run" / "epoch")
    assert reader.revision() == 0
    writer.raise_to(7)
    assert reader.revision() == 7
    writer.close()
    assert reader.revision() == 7
    reader.close()


@given(st.lists(st.integers(0, 2**63)))
def test_the_revision_never_falls(tmp_path_factory: pytest.TempPathFactory, revisions: list[int]) -> None:
    path = tmp_path_factory.mktemp("epoch") / "epoch"
    handles = [EpochFile.create(path), EpochFile.create(path)]
    highest = 0
    for n, revision in enumerate(revisions):
        handles[n % 2].raise_to(revision)
        highest = max(highest, revision)
        assert handles[0].revision() == handles[1].revision() == highest
    for handle in handles:
        handle.close()


def test_the_revision_never_falls_between_threads_that_hold_their_own_handles(tmp_path: Path) -> None:
    handles = [EpochFile.create(tmp_path / "epoch") for _ in range(4)]
    falls: list[tuple[int, int]] = []

    def raise_often(handle: EpochFile, start: int) -> None:
        last = 0
        for revision in range(start, 4000, 4):
            handle.raise_to(revision)
            now = handle.revision()
            if now < max(last, revision):
                falls.append((last, now))
            last = now

    threads = [threading.Thread(target=raise_often, args=(handle, n)) for n, handle in enumerate(handles)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert falls == []
    assert handles[0].revision() == 3999


def test_creating_again_keeps_what_is_there(tmp_path: Path) -> None:
    EpochFile.create(tmp_path / "epoch").raise_to(3)
    assert EpochFile.create(tmp_path / "epoch").revision() == 3
    assert [path.name for path in tmp_path.iterdir()] == ["epoch"]


def test_a_beat_ages_by_the_clock(tmp_path: Path) -> None:
    now = [5_000_000_000]
    writer = EpochFile.create(tmp_path / "epoch", clock=lambda: now[0])
    reader = EpochFile.open(tmp_path / "epoch", clock=lambda: now[0])
    assert reader.age_seconds() == math.inf
    writer.beat()
    assert reader.age_seconds() == 0
    now[0] += 1_500_000_000
    assert reader.age_seconds() == 1.5
    writer.beat()
    assert reader.age_seconds() == 0


def test_a_beat_from_before_a_reboot_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "epoch"
    writer = EpochFile.create(path)
    writer.beat()
    assert writer.age_seconds() < 60
    # What a reboot changes is the machine's boot id: as this file holds it, that is its fourth number.
    with path.open("rb+") as file:
        file.seek(24)
        file.write((12345).to_bytes(8, "little"))
    assert writer.age_seconds() == math.inf
    writer.beat()
    assert writer.age_seconds() < 60


def test_whoever_opens_it_to_read_cannot_write(tmp_path: Path) -> None:
    EpochFile.create(tmp_path / "epoch")
    reader = EpochFile.open(tmp_path / "epoch")
    with pytest.raises(RuntimeError, match="opened for reading"):
        reader.raise_to(1)
    with pytest.raises(RuntimeError, match="opened for reading"):
        reader.beat()
    assert reader.revision() == 0


def test_a_missing_file_says_who_makes_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="server creates it"):
        EpochFile.open(tmp_path / "epoch")


@pytest.mark.parametrize("content", [b"", MAGIC, b"x" * 64, MAGIC + bytes(57)])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "epoch").write_bytes(content)
    with pytest.raises(Corrupt, match="not an epoch file"):
        EpochFile.open(tmp_path / "epoch")
    with pytest.raises(Corrupt, match="not an epoch file"):
        EpochFile.create(tmp_path / "epoch")
