"""A running studio for tests that need no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.copilot_studio.studio import Studio


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """Everything up, everything allowed."""
    async with Studio(tmp_path).running() as running:
        yield running
