"""A fresh control store on SQLite in milliseconds, for tests to which the engine makes no difference."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchfloor.storage.control import SqlControlStore


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file."""
    path = tmp_path_factory.mktemp("control") / "control.db"
    SqlControlStore.open(f"sqlite:///{path}", epoch=None).close()
    return path


@pytest.fixture
def lite(migrated: Path, tmp_path: Path) -> Iterator[SqlControlStore]:
    """A copy of it."""
    path = tmp_path / "lite.db"
    shutil.copy(migrated, path)
    store = SqlControlStore.open(f"sqlite:///{path}", epoch=None)
    yield store
    store.close()
