"""Houses for the tests of the portal: one for those that only read, a fresh one for those that change something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.house import House, open_house


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """After the thief's attack. Tests that share it leave it as it is."""
    with open_house(tmp_path_factory.mktemp("attacked")) as opened:
        opened.attack()
        yield opened
