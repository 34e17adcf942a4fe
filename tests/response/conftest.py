"""A fresh house for each test of response, and an identity provider to act upon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.house import House, open_house
from response.provider import Provider, serving


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        yield opened


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving() as running:
        yield running
