"""Fixtures of identity's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty installation."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def zava(tmp_path: Path) -> Iterator[World]:
    """An installation with a company in it and a signing key."""
    made = World.with_company(tmp_path)
    yield made
    made.close()
