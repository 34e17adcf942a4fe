"""A running world, as in tests/gateway, and the SDK as agents get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.conftest import world
from sdk.installed import build_wheel, install

__all__ = ["site", "world"]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed in."""
    directory = tmp_path_factory.mktemp("wheel")
    return install(build_wheel(directory), directory / "site")
