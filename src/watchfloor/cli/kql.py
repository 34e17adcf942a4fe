"""``watchfloor kql``: run, check and batch hunting queries, and list the templates to begin from.

``run`` asks the running product, or the event store of a data directory; ``check`` parses and binds without running;
``batch`` and ``templates`` need no installation at all.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from watchfloor.kql.errors import KqlError
from watchfloor.model.errors import InputError

if TYPE_CHECKING:
    from watchfloor.detection.hunting import Hunt

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_WIDEST: Final = 60
"""Characters of a cell in a table for people."""


@click.group()
def kql() -> None:
    """Run and check hunting queries (KQL)."""


@kql.command()
@click.argument("query", required=False)
@click.option("-f", "--file", "path", type=_FILE, help="Read it there.")
@click.option("--template", "template_id", metavar="ID", help="A hunting template (watchfloor kql templates).")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Data directory to ask directly.")
@click.option("--server", help="Ask the control plane at this URL instead, as the operator of --token-file.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with an API token; by default this machine's run/admin.token in the data directory.",
)
@click.option("--timespan", default="", help="How far back to look: P7D, PT1H or START/END (ISO 8601).")
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=60.0, show_default=True, help="Seconds.")
@click.option("--max-rows", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True)
@click.option("--json", "form", flag_value="json", help="Rows as JSON objects.")
@click.option("--csv", "form", flag_value="csv", help="Rows as CSV.")
@click.option("--sql", "form", flag_value="sql", help="The SQL instead of the rows.")
def run(
    query: str | None,
    path: Path | None,
    template_id: str | None,
    data: Path | None,
    server: str | None,
    token_file: Path | None,
    timespan: str,
    timeout: float,
    max_rows: int,
    form: str | None,
) -> None:
    """Run QUERY (or the query in a file, of a template, or on standard input with "-") and print its rows."""
    from watchfloor.cli import kql_local, kql_remote

    text = _text(query, path, template_id)
    if form == "sql":
        with _pointing(text):
            click.echo(kql_local.sql(text, timespan))
        return
    with _pointing(text):
        if server:
            answer = kql_remote.run(server, token_file, data, text, timespan, timeout, max_rows)
        else:
            answer = kql_local.run(text, data, timespan, timeout, max_rows)
    _print(answer["columns"], answer["rows"], form or "table")
    if form is None:
        click.echo(f"{len(answer['rows'])} rows in {answer['seconds']:.2f} s", err=True)


@kql.command()
@click.argument("files", nargs=-1, required=True, type=_FILE)
def check(files: Sequence[Path]) -> None:
    """Parse and bind the queries in FILES without running them; say everything that is wrong with each."""
    from watchfloor.cli import kql_local

    failed = 0
    for path in files:
        text = _read(path)
        errors = kql_local.check(text)
        failed += bool(errors)
        for error in errors:
            click.echo(f"{path}:{error.line}:{error.column}: {error.message} {error.remedy}".rstrip())
            click.echo(textwrap.indent(error.snippet(text), "    "))
    click.echo(f"{len(files)} queries, {failed} with errors")
    if failed:
        raise SystemExit(1)


@kql.command()
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=60.0, show_default=True, help="Seconds a query.")
@click.option("--max-rows", type=click.IntRange(1, 1_000_000), default=100_000, show_default=True, help="Rows a query.")
def batch(timeout: float, max_rows: int) -> None:
    """Answer queries that bring their own data: {"id","kql"} lines on standard input, a JSON line each."""
    from watchfloor.cli.kql_batch import batch as answers

    for answer in answers(sys.stdin.buffer, timeout=timeout, max_rows=max_rows):
        sys.stdout.write(json.dumps(answer) + "\n")  # ASCII: whatever the locale, and whatever is in an id
        sys.stdout.flush()


@kql.command()
@click.argument("template_id", metavar="[ID]", required=False)
@click.option("--category", default="", help="Only those of this category.")
@click.option("--table", default="", help="Only those that ask this table or view.")
@click.option("--technique", default="", help="Only those of this technique of ATT&CK or ATLAS.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def templates(template_id: str | None, category: str, table: str, technique: str, as_json: bool) -> None:
    """List the hunting templates that come with the product, or show the one called ID with its query."""
    from watchfloor.detection import hunting

    if template_id is not None:
        found = hunting.find(template_id)
        click.echo(json.dumps(_told(found), indent=2, ensure_ascii=False) if as_json else _shown(found))
        return
    wanted = hunting.select(hunting.shipped(), category=category, table=table, technique=technique)
    if as_json:
        click.echo(json.dumps([_told(hunt) for hunt in wanted], indent=2, ensure_ascii=False))
        return
    for hunt in wanted:
        click.echo(f"{hunt.template.id:36} {hunt.template.category:13} {hunt.template.name}")


def _told(hunt: Hunt) -> dict[str, Any]:
    return {**hunt.template.model_dump(mode="json", exclude={"tests"}), "tables": list(hunt.tables)}


def _shown(hunt: Hunt) -> str:
    one = hunt.template
    words = {
        "Stands for": one.counterpart, "Differs": one.differs, "Does not see": one.blind_spots,
        "Techniques": ", ".join(one.techniques), "Asks": ", ".join(hunt.tables),
        "What to do": " ".join(one.recommended_actions),
    }  # fmt: skip
    lines = [one.name, "", textwrap.fill(one.description, 100), ""]
    lines += [textwrap.fill(f"{word}: {text}", 100, subsequent_indent="  ") for word, text in words.items() if text]
    return "\n".join([*lines, "", one.query.rstrip()])


def _text(query: str | None, path: Path | None, template_id: str | None) -> str:
    if sum(given is not None for given in (query, path, template_id)) != 1:
        raise click.UsageError("give a query, a file with -f, or a template with --template")
    if path is not None:
        return _read(path)
    if template_id is not None:
        from watchfloor.detection.hunting import find

        return find(template_id).template.query
    assert query is not None
    return sys.stdin.read() if query == "-" else query


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("this is not UTF-8.", where=str(path)) from error


@contextmanager
def _pointing(text: str) -> Iterator[None]:
    """Show the line of ``text`` that an error names, with the place marked."""
    try:
        yield
    except InputError as error:
        place = re.fullmatch(r"line (\d+), column (\d+)", error.where)
        if isinstance(error.__cause__, KqlError):
            click.echo(error.__cause__.snippet(text), err=True)
        elif place:
            line, column = (int(part) for part in place.groups())
            lines = text.split("\n")
            if line <= len(lines):
                click.echo(f"{lines[line - 1]}\n{' ' * (column - 1)}^", err=True)
        raise


def _print(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]], form: str) -> None:
    names = [name for name, _ in columns]
    if form == "json":
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2, ensure_ascii=False))
        return
    if form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows([[_plain(cell) for cell in row] for row in rows])
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    table = Table(box=None, header_style="bold")
    for name, type_ in columns:
        table.add_column(name, justify="right" if type_ in ("int", "long", "real", "decimal") else "left")
    for row in rows:
        table.add_row(*(Text(_short(_plain(cell)) if is_terminal else _plain(cell)) for cell in row))
    width = None if is_terminal else max(200, 40 * len(names))
    Console(width=width, soft_wrap=not is_terminal, no_color="NO_COLOR" in os.environ).print(table)


def _plain(cell: Any) -> str:
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)


def _short(text: str) -> str:
    text = "".join(c if c.isprintable() else "·" for c in text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
