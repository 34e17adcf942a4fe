"""`watchfloor demo …` becomes the demo's own program, with the options that were given."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from watchfloor.cli import demo
from watchfloor_demo.__main__ import main


class Became(Exception):
    """The process was replaced."""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The programs that the process became."""
    found: list[list[str]] = []

    def execv(program: str, arguments: list[str]) -> None:
        found.append(arguments)
        raise Became

    monkeypatch.setattr(demo.os, "execv", execv)
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["story"], ["story"]),
        (["story", "--json", "--step", "alerts"], ["story", "--json", "--step", "alerts"]),
        (["attack", "--data", "d", "--count", "3"], ["attack", "--dir", "d/demo", "--count", "3"]),
        (["traffic", "--rate", "4.5"], ["traffic", "--dir", "data/demo", "--rate", "4.5"]),
    ],
)
def test_options_are_handed_on(became: list[list[str]], given: list[str], expected: list[str]) -> None:
    result = CliRunner().invoke(demo.demo, given)
    assert isinstance(result.exception, Became)
    assert became == [[sys.executable, "-m", "watchfloor_demo", *expected]]


def test_every_option_handed_on_is_one_that_the_demo_knows() -> None:
    for name, command in demo.demo.commands.items():
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        asked = {option for parameter in command.params for option in parameter.opts} - {"--data"}
        assert asked <= known, name


def test_without_the_demos_packages_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None if name == "aiosmtpd" else object())
    result = CliRunner().invoke(demo.demo, ["story"])
    assert "pip install 'watchfloor[demo]'" in str(result.exception)


def test_an_attack_on_nothing_says_where_to_start(tmp_path: object) -> None:
    result = CliRunner().invoke(main, ["attack", "--dir", f"{tmp_path}/nowhere"])
    assert result.exit_code == 1 and "holds no company" in result.output
