"""docs/manifest.md says what the code takes: every member as the shape's table has it, and an example that works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from identity.world import World
from watchfloor.registry import manifest
from watchfloor.registry.readers import Absent, Section
from watchfloor.registry.shape import MIN_AGENT_SECRET, SECTIONS

PAGE = Path(__file__).parents[2] / "docs" / "manifest.md"


def table(section: Section) -> list[str]:
    """The lines that the page must have for ``section``."""
    lines = ["| member | default | meaning |", "|---|---|---|"]
    for member in section.members:
        if member.is_required:
            default = "required"
        elif member.default is Absent.KEEP:
            default = "kept"
        elif member.default in (None, "", ()):
            default = ""
        else:
            default = f"`{json.dumps(member.default)}`" if isinstance(member.default, bool) else f"`{member.default}`"
        lines.append(f"| `{member.name}` | {default} | {member.doc} |")
    return lines


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.name)
def test_every_member_is_documented_as_it_is(section: Section) -> None:
    assert "\n".join(table(section)) in PAGE.read_text("utf-8")


def test_the_example_can_be_applied_and_leaves_nothing_to_do(world: World) -> None:
    (example,) = (t for t in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if "apiVersion" in t)
    with world.store.tx("root") as tx:
        manifest.apply(tx, example, world.vault)
    with world.store.read() as tx:
        plan = manifest.plan(tx, example, world.vault)
        assert plan.is_empty and not plan.warnings


def test_the_example_shows_every_section() -> None:
    text = PAGE.read_text("utf-8")
    for section in SECTIONS:
        for member in section.members:
            assert f"`{member.name}`" in text
    assert str(MIN_AGENT_SECRET) in text
