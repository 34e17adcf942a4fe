"""``watchfloor import``: other people's agent definitions as a manifest, for ``watchfloor apply``.

Reads files on this machine, and only those; asks no server. What may be imported, and what becomes of it, is in
docs/importing.md.
"""

from __future__ import annotations

from pathlib import Path

import click

from watchfloor.model.errors import InputError
from watchfloor.registry.document import MAX_CHARS
from watchfloor.registry.importers import FORMATS, import_paths


@click.command(name="import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_name",
    type=click.Choice([f.name for f in FORMATS]),
    help="Read the files as this; by default each as what it looks like.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; by default standard output."
)
def import_(paths: tuple[Path, ...], format_name: str | None, output: Path | None) -> None:
    """Print a manifest of the agents and tool servers in PATHS: files, folders and archives.

    What somebody should look at stands in comments above the manifest, and on standard error. Secrets are never taken
    over: the manifest names variables instead. Exit status: 0 done; 1 nothing could be imported.
    """
    draft = import_paths(paths, format_name or "")
    text = draft.text(str(path) for path in paths)
    for warning in draft.notes.found:
        click.echo(f"! {warning}", err=True)
    if len(text) > MAX_CHARS:
        click.echo(f"! This manifest is longer than the {MAX_CHARS} characters that one may have: split it.", err=True)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}.", where="--output") from error
    click.echo(f"{len(draft.agents)} agents and {len(draft.servers)} tool servers: {output}", err=True)
