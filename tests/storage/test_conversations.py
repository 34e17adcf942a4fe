"""Conversation files: what one worker writes every worker reads, sealed, bounded, and never silently incomplete."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from watchfloor.model.errors import Unavailable
from watchfloor.storage.conversations import ConversationFiles, Place

KEY = b"k" * 32


def files(tmp_path: Path, **more: int) -> ConversationFiles:
    return ConversationFiles(tmp_path / "conversations", KEY, **more)


def _log(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "conversations").glob("??/*.log")
    return path


def test_what_one_worker_writes_another_reads_once(tmp_path: Path) -> None:
    one, two = files(tmp_path), files(tmp_path)
    one.append("a", b"first")
    news = two.read("a", Place())
    assert news.records == (b"first",) and not news.lost and not news.restarts
    two.append("a", b"second")
    one.append("a", b"third")
    news = two.read("a", news.place)
    assert news.records == (b"second", b"third")
    assert two.read("a", news.place).records == ()
    assert two.read("b", Place()).records == ()


def test_an_append_says_where_it_stands(tmp_path: Path) -> None:
    store = files(tmp_path)
    began, ended = store.append("a", b"first")
    assert began.offset == 0
    assert store.append("a", b"second")[0] == ended
    assert store.read("a", ended).records == (b"second",)


def test_contents_are_not_readable_on_disk_and_belong_to_their_conversation(tmp_path: Path) -> None:
    store = files(tmp_path)
    store.append("a", b"a very private sentence")
    assert b"private" not in _log(tmp_path).read_bytes()
    assert _log(tmp_path).stat().st_mode & 0o777 == 0o600
    news = ConversationFiles(tmp_path / "conversations", b"x" * 32).read("a", Place())
    assert news.records == () and news.lost


def test_a_full_file_is_set_aside_and_its_readers_know(tmp_path: Path) -> None:
    store = files(tmp_path, max_bytes=200)
    place = store.read("a", Place()).place
    store.append("a", b"x" * 100)
    place = store.read("a", place).place
    store.append("a", b"y" * 100)
    news = store.read("a", place)
    assert news.restarts and news.lost
    store.append("a", b"z")
    news = store.read("a", news.place)
    assert news.records == (b"z",) and news.lost
    assert store.read("a", Place()).lost, "so does a worker that comes late"


def test_a_damaged_record_is_noticed_and_those_behind_it_are_read(tmp_path: Path) -> None:
    store = files(tmp_path)
    _, ended = store.append("a", b"first")
    store.append("a", b"second")
    with open(_log(tmp_path), "r+b") as file:
        file.seek(ended.offset - 3)
        file.write(b"\xff")
    news = store.read("a", Place())
    assert news.records == (b"second",) and news.lost


def test_a_write_that_has_not_ended_yet_is_read_when_it_has(tmp_path: Path) -> None:
    store = files(tmp_path)
    store.append("a", b"first")
    whole = _log(tmp_path).read_bytes()
    _log(tmp_path).write_bytes(whole[:-5])
    news = store.read("a", Place())
    assert news.records == () and not news.lost
    _log(tmp_path).write_bytes(whole)
    assert store.read("a", news.place).records == (b"first",)


def test_what_is_long_over_is_forgotten_but_not_that_it_was(tmp_path: Path) -> None:
    store = files(tmp_path)
    store.append("a", b"first")
    path = _log(tmp_path)
    os.utime(path, (1_000, 1_000))
    store.sweep(idle_seconds=60, forget_seconds=10_000, now=2_000)
    assert not path.exists()
    assert store.read("a", Place()).lost
    store.sweep(idle_seconds=60, forget_seconds=10_000, now=2_100)
    assert path.with_suffix(".aside").stat().st_size == 0
    store.sweep(idle_seconds=60, forget_seconds=10_000, now=20_000)
    assert not store.read("a", Place()).lost


def test_a_directory_that_cannot_be_used_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "conversations").write_text("in the way")
    store = files(tmp_path)
    with pytest.raises(Unavailable, match="cannot keep a conversation"):
        store.append("a", b"first")
    with pytest.raises(Unavailable, match="cannot read a conversation"):
        store.read("a", Place())
