"""A running world for tests that need no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Everything up, everything allowed."""
    async with World(tmp_path).running() as running:
        yield running
