"""``watchfloor export``: a table's rows of a period into a file, as Parquet, JSON lines or OCSF.

Of a running product through its API (``--server``), else of a data directory. The file appears under its name only once
it is whole: what was written is read back and counted first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import click

from watchfloor.model.errors import InputError, WatchfloorError
from watchfloor.portal.times import utc

_TIME: Final = click.DateTime(
    [f"%Y-%m-%d{clock}{zone}" for clock in ("", "T%H:%M", "T%H:%M:%S") for zone in ("", "%z")]
)

_PATIENCE: Final = 300.0
"""Seconds without an octet: a slice of the answer may wait for its turn among the queries."""


@click.command()
@click.option("--table", required=True, help="The table or view: AgentActivity, AlertInfo, CloudAppEvents, …")
@click.option("--since", type=_TIME, help="From then on; UTC unless it says otherwise.")
@click.option("--until", type=_TIME, help="Before then.")
@click.option("--format", "form", type=click.Choice(["parquet", "jsonl", "ocsf"]), default="parquet", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Data directory to read directly.")
@click.option("--server", help="Ask the control plane at this URL instead, as the operator of --token-file.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with an API token; by default this machine's run/admin.token in the data directory.",
)
def export(
    table: str,
    since: datetime | None,
    until: datetime | None,
    form: str,
    output: Path,
    data: Path | None,
    server: str | None,
    token_file: Path | None,
) -> None:
    """Write every row of a table and period to a file."""
    start = None if since is None else utc(since, "--since")
    end = None if until is None else utc(until, "--until")
    with _appearing(output) as temporary:
        if server:
            rows = _from_server(server, token_file, data, table, form, (start, end), temporary)
        else:
            rows = _from_data(data, table, form, (start, end), temporary)
        if (found := count_rows(temporary, form)) != rows:
            raise WatchfloorError(f"{found} of {rows} rows arrived; nothing was written. Try again.")
    click.echo(f"{rows} rows of {table} in {output}", err=True)


Period = tuple[datetime | None, datetime | None]


@contextmanager
def _appearing(output: Path) -> Iterator[Path]:
    """A file beside ``output`` that takes its name at the end, unless something went wrong."""
    temporary = output.with_name(output.name + ".part")
    try:
        yield temporary
        temporary.replace(output)
    except OSError as error:
        raise InputError(f"{error.strerror or error}.", where=str(error.filename or output)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write(content: Iterator[bytes], path: Path) -> None:
    with path.open("wb") as file:
        for part in content:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def count_rows(path: Path, form: str) -> int:
    """How many rows the file has, read from its first byte to its last. Raises ``InputError`` if it is damaged."""
    if form != "parquet":
        with path.open("rb") as lines:
            return sum(1 for _ in lines)
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return sum(batch.num_rows for batch in parquet.ParquetFile(path).iter_batches())
    except pa.ArrowException as error:
        raise InputError(f"what was written cannot be read back: {error}.", where=str(path)) from error


def _from_data(data: Path | None, table: str, form: str, period: Period, path: Path) -> int:
    """Write the export of a data directory's event store to ``path``; how many rows it should have."""
    from watchfloor import settings
    from watchfloor.cli.event_store import open_event_store
    from watchfloor.storage.compiler import KqlCompiler
    from watchfloor.storage.exports import FORMATS, begin
    from watchfloor.storage.ports import Scope

    with open_event_store(settings.load(os.environ, overrides={"data": data})) as store:
        begun = begin(store, KqlCompiler(), Scope(), table, *period)
        _write(FORMATS[form][1](begun), path)
    return sum(begun.read) if begun.is_view else begun.rows


def _from_server(
    server: str, token_file: Path | None, data: Path | None, table: str, form: str, period: Period, path: Path
) -> int:
    """Write what the control plane at ``server`` exports to ``path``; how many rows it says there are."""
    import httpx

    from watchfloor.cli.api import connect, no_server, refusal

    asked = {"format": form}
    asked |= {name: at.isoformat() for name, at in zip(("since", "until"), period, strict=True) if at is not None}
    with connect(server, token_file, data) as client:
        try:
            with client.stream(
                "GET", f"/api/exports/{quote(table, safe='')}", params=asked, timeout=_PATIENCE
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise refusal(answer.status_code, answer.json())
                _write(answer.iter_bytes(), path)
                return int(answer.headers["x-watchfloor-rows"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise no_server(client, error) from error
