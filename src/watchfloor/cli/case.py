"""``watchfloor case``: check an incident's case file, on anybody's machine.

Nothing of Watchfloor need be running. What counts as a fault is decided in ``storage.case_file``.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from watchfloor.model.errors import WatchfloorError
from watchfloor.storage import audit
from watchfloor.storage.case_file import CaseReport, verify_case_file

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def case() -> None:
    """Check the evidence of an incident."""


@case.command()
@click.argument("file", type=_FILE)
@click.option("--key", type=_FILE, required=True, help="keys/audit.pub of the installation that made the file.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(file: Path, key: Path, as_json: bool) -> None:
    """Check every line, every link and the signature of a case file.

    Exit status: 0 it is genuine, 1 it is not, 2 it could not be checked. Compare the key's fingerprint with the
    installation's over another channel: whoever gives you both the file and the key could have made both.
    """
    try:
        public_key = audit.load_public_key(key)
        with file.open("rb") as lines:
            report = verify_case_file(lines, public_key)
    except OSError as error:
        raise _Unchecked(f"cannot read {file}: {error.strerror}") from error
    except WatchfloorError as error:
        raise _Unchecked(str(error)) from error
    fingerprint = audit.fingerprint(public_key)
    if as_json:
        click.echo(json.dumps(_as_json(report, fingerprint), indent=2))
    else:
        _print(report, fingerprint)
    raise SystemExit(0 if report.is_genuine else 1)


class _Unchecked(click.ClickException):
    exit_code = 2


def _as_json(report: CaseReport, fingerprint: str) -> dict[str, object]:
    return {
        "genuine": report.is_genuine,
        "key": fingerprint,
        "made_at": report.made_at,
        "header": dict(report.header),
        "lines": dict(report.kinds),
        "faults": list(report.faults),
    }


def _print(report: CaseReport, fingerprint: str) -> None:
    said = {name: audit.visible(str(value)) for name, value in report.header.items()}
    click.echo(
        f"case file of {said.get('incident', '?')}, made by {said.get('made_by', '?')} at {report.made_at or '?'}"
    )
    click.echo(", ".join(f"{count} {audit.visible(kind)}" for kind, count in report.kinds.items()))
    for fault in report.faults:
        click.echo(f"WRONG: {fault}")
    click.echo(f"{'genuine' if report.is_genuine else 'NOT genuine'}; key {fingerprint}")
