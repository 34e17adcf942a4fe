"""Conversations in PostgreSQL: what one host writes every host reads, sealed, bounded, never silently incomplete."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from postgres import throw_away_database
from watchfloor.model.errors import Unavailable
from watchfloor.storage.conversations import Place
from watchfloor.storage.conversations_postgres import ConversationTable

KEY = b"k" * 32


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with throw_away_database() as found:
        yield found


@pytest.fixture
def table(url: str) -> Iterator[ConversationTable]:
    opened = ConversationTable(url, KEY, seconds=10)
    opened.sweep(idle_seconds=-1, forget_seconds=-1)
    opened.sweep(idle_seconds=-1, forget_seconds=-1)
    yield opened
    opened.close()


def test_what_one_host_writes_another_reads_once(table: ConversationTable, url: str) -> None:
    other = ConversationTable(url, KEY, seconds=10)
    assert table.read("a", Place()).records == ()
    began, ended = table.append("a", b"first")
    assert began.offset == 0
    news = other.read("a", Place())
    assert (news.records, news.lost, news.restarts, news.place) == ((b"first",), False, False, ended)
    assert other.append("a", b"second")[0] == ended
    table.append("a", b"third")
    news = other.read("a", news.place)
    assert news.records == (b"second", b"third")
    assert other.read("a", news.place).records == ()
    assert other.read("b", Place()).records == ()
    other.close()


def test_writers_on_many_hosts_lose_nothing_and_double_nothing(url: str, table: ConversationTable) -> None:
    hosts = [ConversationTable(url, KEY, seconds=30) for _ in range(4)]

    def write(number: int) -> None:
        for n in range(25):
            hosts[number].append("busy", f"{number}/{n}".encode())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    read: list[bytes] = []
    place = Place()
    while any(thread.is_alive() for thread in threads) or len(read) < 100:
        news = table.read("busy", place)
        assert not news.lost and not news.restarts
        read += news.records
        place = news.place
    assert sorted(read) == sorted(f"{number}/{n}".encode() for number in range(4) for n in range(25))
    for host in hosts:
        host.close()


def test_contents_cannot_be_read_in_the_database_nor_moved_to_another_conversation(
    table: ConversationTable, url: str
) -> None:
    table.append("a", b"a very private sentence")
    table.append("b", b"of somebody else")
    with psycopg.connect(url, autocommit=True) as connection:
        bodies = [bytes(body) for (body,) in connection.execute("SELECT body FROM conversation_record")]
        assert not any(b"private" in body for body in bodies)
        names = [bytes(name) for (name,) in connection.execute("SELECT name FROM conversation")]
        assert all(len(name) == 32 for name in names), "nobody's name stands there either"
        connection.execute("UPDATE conversation_record SET body = %s", (bodies[0],))
    found = [table.read(name, Place()) for name in ("a", "b")]
    assert sorted((news.records, news.lost) for news in found) != [((b"of somebody else",), False)] * 2
    assert sum(news.lost for news in found) == 1


def test_a_conversation_that_is_full_begins_anew_and_its_readers_know(url: str, table: ConversationTable) -> None:
    small = ConversationTable(url, KEY, max_bytes=200, seconds=10)
    small.append("a", b"x" * 100)
    place = small.read("a", Place()).place
    small.append("a", b"y" * 100)
    news = small.read("a", place)
    assert news.restarts and news.lost and news.records == ()
    small.append("a", b"z")
    assert small.read("a", news.place).records == (b"z",)
    late = small.read("a", Place())
    assert late.records == (b"z",) and late.lost, "so does a host that comes late"
    small.close()


def test_a_record_that_was_removed_is_missed(table: ConversationTable, url: str) -> None:
    for record in (b"first", b"second", b"third"):
        table.append("a", record)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM conversation_record WHERE n = 2")
    assert table.read("a", Place()).lost
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM conversation_record WHERE n = 3")
    assert table.read("a", Place()).lost


def test_what_is_long_over_is_forgotten_but_not_that_it_was(table: ConversationTable) -> None:
    place = table.append("a", b"first")[1]
    table.sweep(idle_seconds=60, forget_seconds=600)
    assert table.read("a", Place()).records == (b"first",)
    table.sweep(idle_seconds=-1, forget_seconds=600)
    assert table.read("a", Place()).lost
    assert table.read("a", place).lost
    table.sweep(idle_seconds=60, forget_seconds=-1)
    assert not table.read("a", Place()).lost


def test_a_database_that_hangs_costs_a_moment_and_then_nothing_until_it_is_asked_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:  # takes connections, and never says a word
        table = ConversationTable(f"postgresql://x@127.0.0.1:{hole.getsockname()[1]}/x", KEY, seconds=0.2)
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            table.read("a", Place())
        assert time.monotonic() - begun < 2
        begun = time.monotonic()
        for _ in range(1_000):
            with pytest.raises(Unavailable):
                table.append("a", b"x")
        assert time.monotonic() - begun < 0.9
        table.close()


def test_a_database_that_comes_back_is_used_again(url: str, table: ConversationTable) -> None:
    table.append("a", b"first")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'watchfloor-conversations'"
        )
    with pytest.raises(Unavailable):
        table.read("a", Place())
    time.sleep(1.1)
    assert table.read("a", Place()).records == (b"first",)
