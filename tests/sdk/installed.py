"""The SDK as agents get it: its wheel, built with what is at hand, and installed into a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def build_wheel(directory: Path) -> Path:
    """The wheel, built in ``directory`` without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT / "sdk", check=True, capture_output=True)
    (wheel,) = directory.glob("watchfloor_sdk-*.whl")
    return wheel


def install(wheel: Path, site: Path) -> Path:
    """``wheel`` in ``site``, without what it asks for: the environments of the frameworks have that."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--no-index", "--target", str(site), str(wheel)], check=True, capture_output=True)
    return site


AGENTS = ROOT / ".venv-agents"
"""The frameworks' environment (`make agents`), which has nothing of Watchfloor's."""


def need_agents() -> None:
    """Skip where the frameworks are not installed; in CI they must be."""
    if not (AGENTS / ".complete").exists():
        if os.environ.get("CI"):
            pytest.fail("the agents are not installed: make agents")
        pytest.skip("make agents")


def agent(program: Path, site: Path, home: Path, *arguments: str, **variables: str) -> tuple[list[str], dict[str, Any]]:
    """How ``program`` is run in the frameworks' environment: the command, and what else a process is made with."""
    environment = {"HOME": str(home), "LANG": "C.UTF-8", "PATH": os.defpath, "PYTHONPATH": str(site), **variables}
    return [str(AGENTS / "bin" / "python"), str(program), *arguments], {"env": environment, "cwd": str(home)}


def printed(status: int | None, out: bytes, err: bytes) -> Any:
    """The JSON that a program ended with."""
    assert status == 0, err.decode()
    return json.loads(out)
