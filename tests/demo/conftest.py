"""The demo company, opened once for all tests of a module; agents reach its tool servers without a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from watchfloor_demo.agents.signin import SignIn
from watchfloor_demo.agents.tokens import Tokens
from watchfloor_demo.headquarters import Headquarters, open_headquarters
from watchfloor_demo.runtime import Runtime


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hq(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Headquarters]:
    """Zava on free ports."""
    directory: Path = tmp_path_factory.mktemp("zava")
    async with open_headquarters(Runtime.open(directory)) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


class Unguarded(Tokens):
    """Straight to the tool servers with their app credential: what agents do when nothing stands in between."""

    def __init__(self, runtime: Runtime) -> None:
        self._of = runtime

    def resource(self, server: str) -> str:
        """The tool server itself."""
        return f"{self._of.url(server)}/mcp"

    async def get(self, agent_id: str, server: str, person: SignIn | None) -> str:
        """The app credential."""
        return self._of.secret(f"upstream/{server}/app")

    def forget(self, agent_id: str, server: str, person: SignIn | None) -> None:
        """There is nothing to forget."""


@pytest.fixture
def unguarded(hq: Headquarters) -> Unguarded:
    """Tokens that go around the gateway."""
    return Unguarded(hq.runtime)
