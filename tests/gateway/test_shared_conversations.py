"""Two hosts behind a balancer that keeps nothing together: what one has read the other decides on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.test_conversations import LURE, PROVENANCE, THIEF, code, mails, said
from gateway.world import World
from postgres import throw_away_database


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with throw_away_database() as found:
        yield found


@contextlib.asynccontextmanager
async def hosts(directory: Path, url: str) -> AsyncIterator[tuple[World, World]]:
    """Two worlds with one vault and one database of conversations, and nothing else in common."""
    for name in ("one", "two"):
        (directory / name).mkdir()
    one, two = (World(directory / name, conversations_database=url) for name in ("one", "two"))
    two.vault = one.vault
    async with one.running(), two.running():
        for world in (one, two):
            await world.pin_tools()
            for body in PROVENANCE:
                world.policy(body)
        yield one, two


async def _send(world: World, to: str, *turns: str) -> str:
    return code(await world.call("send_email", {"to": [to], "body": "x"}, meta=said(*turns)))


@pytest.mark.claim("provenance-shared")
async def test_what_one_host_has_read_another_refuses_to_send(tmp_path: Path, url: str) -> None:
    async with hosts(tmp_path, url) as (one, two):
        await one.call("lookup", {"key": LURE}, meta=said("Look up what is new"))
        assert await _send(two, THIEF, "Look up what is new") == "untraced_argument"
        assert mails(two) == []


async def test_what_the_user_said_to_one_host_counts_on_another(tmp_path: Path, url: str) -> None:
    async with hosts(tmp_path, url) as (one, two):
        await one.call("lookup", {"key": LURE}, meta=said(f"Look up what is new and send it to {THIEF}"))
        assert await _send(two, THIEF) == "allowed"


async def test_without_its_database_a_host_trusts_nobodys_word_and_withholds_what_tools_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        dead = f"postgresql://x@127.0.0.1:{hole.getsockname()[1]}/x"
        async with hosts(tmp_path, dead) as (one, _):
            assert await _send(one, THIEF, "Look up what is new") == "untraced_argument"
            answer = await one.call("lookup", {"key": "x"}, meta=said("Look up x"))
            assert code(answer) == "result_not_kept"
