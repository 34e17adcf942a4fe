"""``watchfloor audit``: check the audit log, here or on an auditor's machine.

Reads the database, or an export of it, and the checkpoint file beside it; nothing of Watchfloor need be running. What
counts as a fault is decided in ``storage.audit``.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path

import click

from watchfloor import settings
from watchfloor.model.errors import WatchfloorError
from watchfloor.storage import audit as chain
from watchfloor.storage import audit_files

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def audit() -> None:
    """Check or export the hash-chained audit log."""


@audit.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory of the installation.")
@click.option("--database", help="Database instead: a SQLite file, sqlite:///PATH or postgresql://USER@HOST/NAME.")
@click.option("--log", "export", type=_FILE, help="Exported log instead (see `watchfloor audit export`).")
@click.option("--checkpoints", type=_FILE, help="Checkpoint file; by default audit-checkpoints.jsonl in --data.")
@click.option("--key", type=_FILE, help="Public key of the checkpoints; by default keys/audit.pub in --data.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(
    data: Path | None,
    database: str | None,
    export: Path | None,
    checkpoints: Path | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Check every entry, every link and every signed checkpoint, and name what is wrong.

    Exit status: 0 the log is intact, 1 it is not, 2 it could not be checked. Without checkpoints, nobody can tell
    whether the end of the log was cut off or all of it was written anew.
    """
    if database and export:
        raise click.UsageError("--database and --log are two places for the same log; give one")
    if checkpoints and not (key or data):
        raise click.UsageError("--checkpoints needs --key (keys/audit.pub of the installation) or --data")
    try:
        if not (database or export):
            found = settings.load(os.environ, overrides={"data": data})
            database, data = found.effective_database_url, found.data
        if data is not None:
            checkpoints = checkpoints or data / "audit-checkpoints.jsonl"
            key = key or data / "keys" / "audit.pub"
        rows: Iterable[chain.Row | chain.Fault] = (
            audit_files.read_export(export) if export else audit_files.read_database(database or "")
        )
        report, key_id = _verify(rows, checkpoints, key)
    except WatchfloorError as error:
        raise _Unchecked(str(error)) from error
    if as_json:
        click.echo(json.dumps(_as_json(report, key_id), indent=2))
    else:
        _print(report, key_id, checkpoints)
    raise SystemExit(0 if report.is_intact else 1)


@audit.command("export")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory of the installation.")
@click.option("--database", help="Database instead: a SQLite file, sqlite:///PATH or postgresql://USER@HOST/NAME.")
def export_log(data: Path | None, database: str | None) -> None:
    """Print the log as JSON lines, for `watchfloor audit verify --log` or another program."""
    try:
        url = database or settings.load(os.environ, overrides={"data": data}).effective_database_url
        for row in audit_files.read_database(url):
            click.echo(audit_files.export_line(row))
    except WatchfloorError as error:
        raise _Unchecked(str(error)) from error


class _Unchecked(click.ClickException):
    exit_code = 2


def _verify(
    rows: Iterable[chain.Row | chain.Fault], checkpoints: Path | None, key: Path | None
) -> tuple[chain.Report, str]:
    if checkpoints is None:
        return chain.verify(rows, None, None), ""
    if not checkpoints.exists():
        return chain.verify(rows, [], None), ""
    signed, unreadable = audit_files.read_checkpoints(checkpoints)
    public_key = chain.load_public_key(key) if key else None
    report = chain.verify(itertools.chain(unreadable, rows), signed, public_key)
    return report, chain.fingerprint(public_key) if public_key else ""


def _as_json(report: chain.Report, key_id: str) -> dict[str, object]:
    return {
        "intact": report.is_intact,
        "entries": report.entries,
        "head": report.head,
        "vouched": report.vouched,
        "checkpoints": report.checkpoints,
        "key": key_id,
        "faults": [
            {"kind": fault.kind.value, "first": fault.first, "last": fault.last, "message": fault.message}
            for fault in report.faults
        ],
    }


def _print(report: chain.Report, key_id: str, checkpoints: Path | None) -> None:
    if report.is_intact:
        click.echo(f"The audit log is intact: {report.entries} entries, every hash and link checked.")
    else:
        click.echo(f"The audit log is NOT intact. Of {report.entries} entries:")
        for fault in report.faults:
            click.echo(f"  - {fault.message}")
    click.echo(f"Newest entry: {report.head}")
    if checkpoints is None:
        click.echo("No checkpoints were given: a missing end or a log written anew would not show. See --checkpoints.")
        return
    click.echo(
        f"Vouched for: entries up to {report.vouched}, by {report.checkpoints} checkpoints of key {key_id or '-'}."
    )
    if report.is_intact and report.entries > report.vouched:
        click.echo("Newer entries are not signed yet; a running server signs within ten seconds.")
