"""``watchfloor demo``: the demo company, from the product's own command line.

The company is a program of its own that knows only public doors; each command here becomes that program, so that
Ctrl-C, output and exit status are its own. This file knows where it is, and what to install if it is not there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Final

import click

from watchfloor.model.errors import InputError

_PACKAGE: Final = "watchfloor_demo"
_NEEDS: Final = (_PACKAGE, "aiosmtpd", "aiosmtplib")


def _become(*arguments: str) -> None:
    """Replace this process by the demo's. Raises ``InputError`` if the demo is not installed."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the demo company needs {', '.join(missing)}.", remedy="Install it with: pip install 'watchfloor[demo]'"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", _PACKAGE, *arguments])  # noqa: S606 - our own program


def _given(**options: object) -> list[str]:
    """Options as arguments, those that were not given left out."""
    arguments = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        elif value is not None and value is not False:
            arguments += [flag, str(value)]
    return arguments


_data = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), default=Path("data"), show_default=True,
    help="Data directory of a running `watchfloor up --demo`.",
)  # fmt: skip
_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output, nothing else.")


@click.group()
def demo() -> None:
    """Play the demo company and the attack on it."""


@demo.command()
@_json
@click.option("--step", help="Stop after this step.")
@click.option("--attempts", type=int, help="Attempts of the thief.")
@click.option("--rate", type=float, help="Background tool calls a second.")
@click.option("--keep", type=click.Path(path_type=Path), help="Work in this directory and leave it there.")
def story(as_json: bool, step: str | None, attempts: int | None, rate: float | None, keep: Path | None) -> None:
    """Play the attack and the response from nothing, over the real doors.

    Starts Watchfloor and the company on free ports in a directory of their own, plays step by step, and cleans up.
    Exit status 0 only if every step went as it must.
    """
    _become("story", *_given(json=as_json, step=step, attempts=attempts, rate=rate, keep=keep))


@demo.command()
@_data
@click.option("--count", type=int, help="Attempts.")
@_json
def attack(data: Path, count: int | None, as_json: bool) -> None:
    """Attack the running demo company with a stolen session.

    Exit status 0 if every attempt was refused.
    """
    _become("attack", *_given(dir=data / "demo", count=count, json=as_json))


@demo.command()
@_data
@click.option("--rate", type=float, help="Tool calls a second.")
@click.option("--seconds", type=float, help="How long; until Ctrl-C if not given.")
@click.option("--seed", type=int, help="What the traffic is drawn from.")
def traffic(data: Path, rate: float | None, seconds: float | None, seed: int | None) -> None:
    """More ordinary work in the running demo company.

    Prints what became of it, as JSON. Exit status 0 if every call succeeded.
    """
    _become("traffic", *_given(dir=data / "demo", rate=rate, seconds=seconds, seed=seed))
