"""Other people's files as manifests: each format is a file here and a line in ``FORMATS``.

``import_paths`` reads files, folders and archives, asks each format which files it knows, and gathers what they hold in
one manifest, ready for ``watchfloor apply``. Above ``registry.shape``, beside the database: nothing is stored, nothing
is called. Secrets never come out: they are left out, or become the name of a variable, and a warning says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from watchfloor.model.errors import InputError
from watchfloor.registry.importers import a2a, bedrock, copilot_studio, foundry, langgraph, mcp_clients
from watchfloor.registry.importers.draft import Draft
from watchfloor.registry.importers.tree import Tree, open_tree


@dataclass(frozen=True, slots=True)
class Format:
    """What can be imported. ``title`` is for people.

    ``recognizes(tree, path)``: whether agents of this format begin in the file at ``path``; never raises.
    ``read(tree, path, draft)``: add what begins there to the draft. What is not understood is a warning that names its
    place; raises ``InputError`` if the file cannot be read at all.
    """

    name: str
    title: str
    recognizes: Callable[[Tree, str], bool]
    read: Callable[[Tree, str, Draft], None]


FORMATS: Final = (
    Format("copilot-studio", copilot_studio.TITLE, copilot_studio.recognizes, copilot_studio.read),
    Format("a2a", a2a.TITLE, a2a.recognizes, a2a.read),
    Format("mcp", mcp_clients.TITLE, mcp_clients.recognizes, mcp_clients.read),
    Format("bedrock", bedrock.TITLE, bedrock.recognizes, bedrock.read),
    Format("langgraph", langgraph.TITLE, langgraph.recognizes, langgraph.read),
    Format("foundry", foundry.TITLE, foundry.recognizes, foundry.read),
)
"""Every format; the first that recognizes a file reads it."""


def import_paths(paths: Iterable[Path], only: str = "") -> Draft:
    """What is in ``paths`` (files, folders, archives), of one format or of all.

    Raises ``InputError``: a path that cannot be read, an archive that is refused, a file that was named and holds
    nothing that can be imported.
    """
    draft = Draft()
    for path in paths:
        import_tree(open_tree(path), draft, only)
    draft.link()
    return draft


def import_tree(tree: Tree, draft: Draft, only: str = "") -> None:
    """Add what is in ``tree`` to ``draft``. Raises ``InputError`` if that is nothing."""
    formats = [f for f in FORMATS if only in ("", f.name)]
    if not formats:
        names = ", ".join(f.name for f in FORMATS)
        raise InputError(f"there is no format {only!r}.", where="format", remedy=f"One of {names}.")
    for path in tree.skipped:
        draft.notes.add(path, "is too large, and was not looked at.")
    count = 0
    for path in sorted(tree.files):
        # A file that was named, and its format with it, is read whatever it is called.
        otherwise = formats[0] if only and tree.is_single else None
        found = next((f for f in formats if f.recognizes(tree, path)), otherwise)
        if found is None:
            continue
        count += 1
        try:
            found.read(tree, path, draft)
        except InputError as error:
            if tree.is_single:
                raise
            draft.notes.add(path, f"cannot be read: {error.message}")
    if count == 0:
        _nothing(tree, formats)


def _nothing(tree: Tree, formats: Sequence[Format]) -> None:
    for path in tree.files if tree.is_single else ():
        tree.value(path)  # a file that cannot be read says why
    known = "; ".join(f.title for f in formats)
    raise InputError("holds nothing that can be imported.", where=tree.name, remedy=f"Known are: {known}.")
