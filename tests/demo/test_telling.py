"""How the story is told when it does not go well, and that it cleans up after itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from watchfloor_demo.story import play, product
from watchfloor_demo.story.play import STEPS, SUMMARY
from watchfloor_demo.story.show import Lines, Terminal


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which the product ends at once."""
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'no database driver found'\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(product.sys, "executable", str(script))
    return tmp_path


def test_a_product_that_does_not_start_is_said_so_with_its_last_words(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play.run(Lines(), keep=broken / "story") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line.get("step"), line["ok"]) for line in lines] == [("start", False), (None, False)]
    assert "ended with 3" in lines[0]["facts"]["error"] and "no database driver" in lines[0]["facts"]["error"]
    assert set(SUMMARY) | {"ok"} == set(lines[-1])


def test_the_terminal_names_the_step_that_failed_and_shows_the_log(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play.run(Terminal(), keep=broken / "story") == 1
    told = capsys.readouterr().out
    assert "✗" in told and "(start" in told and "no database driver found" in told
    assert "The story does not hold." in told


def test_step_names_and_summary_keys_are_unique_and_stable() -> None:
    names = [step.name for step in STEPS]
    assert len(set(names)) == len(names) and names[0] == "start" and names[-1] == "shutdown"
    assert SUMMARY[:3] == ("attack_calls", "attack_blocked", "attack_reached_tool")
    assert sys.executable == product.sys.executable
