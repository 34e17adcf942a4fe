"""``watchfloor policy``: check and test policies before anybody publishes them.

Reads YAML files (one policy, a list of them, or a company manifest with ``policies:``) and asks the guard; nothing is
sent anywhere and no server is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from watchfloor import content
from watchfloor.guard import names, trial
from watchfloor.guard.policy import check_policy

_FILES = click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=True, path_type=Path))


@click.group()
def policy() -> None:
    """Check and test policies."""


@policy.command()
@_FILES
def check(files: tuple[Path, ...]) -> None:
    """Say everything that keeps the policies in FILES from being published.

    A directory stands for the YAML files in it; without FILES the policies that come with the product are checked.
    """
    faults = _check_all(_read(files))
    if faults:
        raise SystemExit(1)


@policy.command("test")
@_FILES
def run(files: tuple[Path, ...]) -> None:
    """Decide every row of `tests:` of the policies in FILES, and say which come out otherwise.

    A policy without rows fails: nobody knows what it does.
    """
    bodies = _read(files)
    failed = _check_all(bodies, quiet=True)
    rows = 0
    for where, body in bodies:
        if check_policy(body):
            continue
        outcomes = trial.run_tests(body)
        rows += len(outcomes)
        if not outcomes:
            failed += 1
            click.echo(f"{where}: {body['id']}: has no tests. Add rows that must match and rows that must not.")
        for outcome in outcomes:
            if not outcome.is_passed:
                failed += 1
                click.echo(f"{where}: {body['id']}: {outcome.name}")
                click.echo(f"    expected {outcome.expected}, got {outcome.got} ({outcome.because})")
    click.echo(f"{len(bodies)} policies, {rows} rows, {failed} failed")
    if failed:
        raise SystemExit(1)


@policy.command("names")
def list_names() -> None:
    """List every name and function that a condition may use."""
    for name in names.NAMES:
        values = f" ({', '.join(value for value in name.values if value)})" if name.values else ""
        click.echo(f"{name.name:36} {name.type:18} {name.doc}{values}")
    for function in names.FUNCTIONS:
        click.echo(f"{function.name + '()':36} {function.result:18} {function.doc}")


def _check_all(bodies: list[tuple[str, Any]], *, quiet: bool = False) -> int:
    faulty = 0
    for where, body in bodies:
        label = body.get("id", "?") if isinstance(body, Mapping) else "?"
        problems = check_policy(body)
        faulty += bool(problems)
        for problem in problems:
            click.echo(f"{where}: {label}: {problem}")
        if not problems and not quiet:
            click.echo(f"{where}: {label}: fine")
    return faulty


def _read(files: tuple[Path, ...]) -> list[tuple[str, Any]]:
    """(file, body) of every policy. Raises ``click.ClickException`` where a file is not YAML."""
    if not files:
        return [("shipped", body) for body in content.policies()]
    found: list[tuple[str, Any]] = []
    for given in files:
        for path in sorted(given.glob("*.y*ml")) if given.is_dir() else [given]:
            try:
                documents = list(yaml.safe_load_all(path.read_text("utf-8")))
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise click.ClickException(f"{path}: is not YAML: {error}") from error
            for document in documents:
                if isinstance(document, Mapping) and "policies" in document and "when" not in document:
                    document = document["policies"]
                found += [(str(path), body) for body in (document if isinstance(document, list) else [document])]
    if not found:
        raise click.ClickException("there are no policies in " + ", ".join(map(str, files)))
    return found
