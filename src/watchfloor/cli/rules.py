"""``watchfloor rules``: detection rules, from the first line to what they would have raised.

``list``, ``test`` and ``new`` need no server; ``backtest`` asks one, as any client would.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click
import yaml
from pydantic import ValidationError

from watchfloor.cli.api import ask, connect, one_line, server_options
from watchfloor.detection.kql_rule import KqlRule, prepare
from watchfloor.detection.kql_trial import try_example
from watchfloor.detection.rules import shipped
from watchfloor.detection.words import faults_of
from watchfloor.model.errors import InputError

_LOOK_SECONDS: Final = 0.5
_PAGE: Final = 1000

SKELETON: Final = """\
# Every field is in docs/detections.md. Try it: watchfloor rules test {id}.yaml
id: {id}                       # the file's name
title: "{{AgentId}} did what it should not"   # {{Column}} of the query, {{count}}, {{times}}, {{span}}
description: >-
  {{AgentId}} called {{Tool}} {{times}}, {{span}}.
kind: near-real-time           # or scheduled, with frequency: PT5M and lookback: PT1H
severity: medium               # informational, low, medium, high, critical
tactic: Execution              # ATT&CK's name
techniques: [T1059]            # ATT&CK and ATLAS
entities:                      # columns that name who and what is involved
  - {{column: UserId, kind: user, role: suspected, name: AccountUpn}}
  - {{column: AgentId, kind: agent, role: impacted, name: AgentName}}
dedup: {{columns: [AgentId, UserId], bin: PT1H}}   # rows that are one alert
recommended_actions:
  - Say what to do.
blind_spots: Say what it does not see.
query: |
  AgentActivity
  | where ActionType == "ToolCallDecided" and ToolEffect == "delete" and Verdict == "allow"
  | extend Tool = strcat(ServerId, "/", ToolName)
  | project Timestamp, ReportId, AgentId, AgentName, UserId, AccountUpn, Tool
tests:                         # rows that must raise, and rows that must not
  - name: a deletion that was let out
    rows:
      AgentActivity:
        - {{Timestamp: "2026-11-03T12:00:00Z", ActionType: ToolCallDecided, ToolEffect: delete, Verdict: allow,
           AgentId: desk, UserId: kim, ServerId: files, ToolName: remove}}
    expect:
      - {{severity: medium, count: 1}}
  - name: reading
    rows:
      AgentActivity:
        - {{Timestamp: "2026-11-03T12:00:00Z", ActionType: ToolCallDecided, ToolEffect: read, Verdict: allow,
           AgentId: desk, UserId: kim, ServerId: files, ToolName: show}}
    expect: []
"""

_FILES = click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))


@click.group()
def rules() -> None:
    """List, test, write and backtest detection rules."""


@rules.command("list")
def list_rules() -> None:
    """Print every rule that comes with the product: id, kind, severity, tactic."""
    every = shipped()
    lines = [(r.id, "steps", r.severity, r.tactic) for r in every.rules]
    lines += [(r.id, "session", r.severity, r.tactic) for r in every.sessions]
    lines += [(r.id, r.kind, r.severity, r.tactic) for r in every.kql]
    for rule_id, kind, severity, tactic in sorted(lines):
        click.echo(f"{rule_id:36} {kind:15} {severity!s:14} {tactic}")


@rules.command("test")
@_FILES
def run_tests(files: tuple[Path, ...]) -> None:
    """Run the tests of the rules in KQL in FILES, or of those that come with the product.

    A directory stands for the YAML files in it. Everything that is wrong is told, with file, place, line and column.
    """
    failed = cases = 0
    found = [(path.name, *_read(path)) for path in _listed(files)] if files else [(r.id, r, []) for r in shipped().kql]
    for where, rule, faults in found:
        prepared = None
        if rule is not None:
            prepared, faults = prepare(rule)
        for fault in faults:
            click.echo(f"{where}: {fault}")
        failed += bool(faults)
        if rule is None or prepared is None:
            continue
        for example in rule.tests:
            trial = try_example(prepared, example)
            cases += 1
            failed += not trial.is_passed
            for fault in trial.faults:
                click.echo(f"{where}: tests: {trial.name}: {fault}")
    click.echo(f"{len(found)} rules, {cases} cases, {failed} failed")
    if failed:
        raise SystemExit(1)


@rules.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
def new(path: Path) -> None:
    """Write a commented rule with tests to PATH, to begin from."""
    rule_id = path.name.removesuffix(".yaml").removesuffix(".yml")
    try:
        body = yaml.safe_load(SKELETON.format(id=rule_id))
        KqlRule.model_validate(body)
    except (yaml.YAMLError, ValidationError):
        raise InputError(
            f"{rule_id!r} cannot be the id of a rule.", where="PATH", remedy="Lower-case letters, digits and '-'."
        ) from None
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(SKELETON.format(id=rule_id))
    except FileExistsError:
        raise InputError(f"{path} exists.", where="PATH", remedy="Choose another name.") from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}.", where="PATH") from None
    click.echo(f"wrote {path}. Try it: watchfloor rules test {path}")


@rules.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@click.option("--days", default=7, show_default=True, help="How many of the past days.")
@server_options
def backtest(path: Path, days: int, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Print what the rule in PATH would have raised over the past days. Ctrl-C cancels it. Nothing is stored."""
    rule, faults = _read(path)
    if rule is None:
        raise InputError("\n".join(faults), where=path.name)
    body = {"rule": yaml.safe_load(path.read_text("utf-8")), "days": days}
    with connect(server_url, token_file, data, sends="The rule and a token are") as client:
        run = ask(client, "POST", "/api/rules/backtest", body)
        try:
            while run["state"] in ("queued", "running"):
                click.echo(f"\r{(run['progress'] or 0):4.0%}", nl=False, err=True)
                time.sleep(_LOOK_SECONDS)
                run = ask(client, "GET", f"/api/hunting/runs/{run['id']}")
        except KeyboardInterrupt:
            ask(client, "DELETE", f"/api/hunting/runs/{run['id']}")
            click.echo("\rcancelled", err=True)
            raise SystemExit(130) from None
        click.echo("\r", nl=False, err=True)
        if run["state"] != "done":
            raise InputError(run["error"] or f"the run was {run['state']}.", where=rule.id)
        found: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = ask(client, "GET", f"/api/hunting/runs/{run['id']}/rows?after={after}&limit={_PAGE}")
            names = [column["name"] for column in page["columns"]]
            found += [dict(zip(names, row, strict=True)) for row in page["rows"]]
            after = page["next"]
    for alert in found:
        click.echo(f"{alert['FirstActivity'][:16]}  {alert['Severity']:13} {one_line(alert['Title'])}")
        click.echo(f"    {one_line(alert['Description'])}")
    click.echo(f"{rule.id} would have raised {len(found)} alerts in {days} days ({run['seconds']:.1f} s)")


def _listed(files: tuple[Path, ...]) -> list[Path]:
    return [inner for path in files for inner in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]


def _read(path: Path) -> tuple[KqlRule | None, list[str]]:
    """The rule in a file, or what is wrong with its shape."""
    try:
        body = yaml.safe_load(path.read_text("utf-8"))
        rule = KqlRule.model_validate(body)
    except UnicodeDecodeError as error:
        return None, [f"this is not UTF-8 (byte {error.start})"]
    except yaml.YAMLError as error:
        return None, [str(error)]
    except ValidationError as error:
        return None, faults_of(error).split("; ")
    return rule, []
