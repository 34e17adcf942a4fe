"""A fresh house for each test of response."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.house import House, open_house


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        yield opened
