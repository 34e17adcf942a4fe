"""What is shipped as data: policies, detections. Each file carries its own tests; nothing in here decides anything."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml


def policies() -> list[dict[str, Any]]:
    """The bodies of the policies that come with the product, ordered by id."""
    folder = resources.files(__name__).joinpath("policies")
    bodies = [yaml.safe_load(f.read_text("utf-8")) for f in folder.iterdir() if f.name.endswith(".yaml")]
    return sorted(bodies, key=lambda body: str(body["id"]))
