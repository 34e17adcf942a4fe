"""``watchfloor rules``: detection rules, from the first line to what they would have raised.

``test`` and ``new`` need no server, nor does ``list --shipped``; the others ask one, as any client would.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click
import yaml
from pydantic import ValidationError

from watchfloor.cli.api import ask, connect, one_line, server_options
from watchfloor.detection.evaluate import plural
from watchfloor.detection.kql_rule import KqlRule, prepare
from watchfloor.detection.kql_trial import try_example
from watchfloor.detection.rules import AnyRule, shipped
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
    """List, switch, test, write and backtest detection rules."""


@rules.command("list")
@click.option("--shipped", "is_offline", is_flag=True, help="Only those that come with the product, without a server.")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def list_rules(
    is_offline: bool, server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool
) -> None:
    """Print every rule: id, kind, severity, tactic, and whether it is on."""
    if is_offline:
        found = _shipped_rules()
    else:
        with connect(server_url, token_file, data) as client:
            found = ask(client, "GET", "/api/rules")["items"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for rule in found:
        line = f"{rule['id']:36} {rule['kind']:15} {rule['severity']:14} {rule['tactic']:22}"
        if "is_enabled" in rule:
            line += "on" if rule["is_enabled"] else f"off: {one_line(rule['reason'])}"
        click.echo(line.rstrip())


def _shipped_rules() -> list[dict[str, Any]]:
    """What can be said of the product's rules where nobody knows whether they are on."""
    every = shipped()
    kinds: list[tuple[AnyRule | KqlRule, str]] = [(r, "steps") for r in every.rules]
    kinds += [(r, "session") for r in every.sessions]
    kinds += [(r, r.kind) for r in every.kql]
    found = [{"id": r.id, "kind": kind, "severity": str(r.severity), "tactic": r.tactic} for r, kind in kinds]
    return sorted(found, key=lambda rule: rule["id"])


@rules.command()
@click.argument("rule_id", metavar="ID")
@click.option("--reason", required=True, help="Why; it stands beside the rule and in the audit log.")
@server_options
def disable(rule_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Switch the rule ID off: it raises nothing from now on. What it has raised stays."""
    _switch(rule_id, "disable", reason, server_url, token_file, data)


@rules.command()
@click.argument("rule_id", metavar="ID")
@click.option("--reason", default="", help="Why; it stands in the audit log.")
@server_options
def enable(rule_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Switch the rule ID on again: it judges what arrives from now on."""
    _switch(rule_id, "enable", reason, server_url, token_file, data)


def _switch(
    rule_id: str, verb: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None
) -> None:
    with connect(server_url, token_file, data) as client:
        rule = ask(client, "POST", f"/api/rules/{quote(rule_id, safe='')}/{verb}", {"reason": reason})
    click.echo(f"{rule['id']} is {'on' if rule['is_enabled'] else 'off'}")


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
    click.echo(f"{plural(len(found), 'rule')}, {plural(cases, 'case')}, {failed} failed")
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
