"""The SDK as agents get it: its wheel, built with what is at hand, and installed into a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
