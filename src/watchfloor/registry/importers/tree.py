"""The files that somebody wants imported, read into memory within walls: one file, a folder, or a zip archive.

Below every importer, above the file system. Nothing is ever written, and nothing outside what was named is read: links
are not followed. Refused: archives with members outside themselves, with links, with the same member twice, encrypted,
or that hold more than they may. It does not know what the files mean.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Final

from watchfloor.model.errors import InputError
from watchfloor.registry.importers.parsing import parse

MAX_FILES: Final = 5_000
MAX_FILE_BYTES: Final = 8 << 20
MAX_BYTES: Final = 64 << 20

_ENDINGS: Final = (".json", ".jsonc", ".yml", ".yaml", ".xml", ".template")
_NAMES: Final = ("data",)
"""Copilot Studio's exports keep each component in a file of this name."""

_SKIPPED: Final = frozenset({".git", "node_modules", ".venv", "__pycache__"})
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True, slots=True)
class Tree:
    """Files by path. ``is_single``: somebody named this very file, so it must be one that can be imported."""

    name: str
    files: Mapping[str, bytes]
    is_single: bool = False
    skipped: tuple[str, ...] = ()
    """Files that are too large to be looked at."""
    _values: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def value(self, path: str) -> Any:
        """What the file says, as dictionaries, lists and scalars. Raises ``InputError``."""
        if path not in self._values:
            try:
                self._values[path] = parse(path, self.files[path])
            except InputError as error:
                self._values[path] = error
        found = self._values[path]
        if isinstance(found, InputError):
            raise found
        return found

    def mapping(self, path: str) -> dict[str, Any]:
        """What the file says, if it is a mapping; else nothing: for looking at files of which nothing is known."""
        try:
            found = self.value(path)
        except InputError:
            return {}
        return found if isinstance(found, dict) else {}

    def under(self, folder: str) -> Iterator[str]:
        """Paths inside ``folder`` (empty: all), in order."""
        prefix = f"{folder}/" if folder else ""
        yield from sorted(path for path in self.files if path.startswith(prefix))


def folder_of(path: str) -> str:
    """The folder that a path lies in, empty for the root."""
    return path.rpartition("/")[0]


def name_of(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def open_tree(path: Path) -> Tree:
    """What is at ``path``. Raises ``InputError``."""
    try:
        if path.is_dir():
            return _folder(path)
        data = _read(path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}.", where=str(path)) from error
    if data.startswith(_ZIP):
        return open_zip(str(path), data)
    # The folder's name belongs to it: .vscode/mcp.json is not .cursor/mcp.json.
    return Tree(str(path), {"/".join(path.absolute().parts[-2:]): data}, is_single=True)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"is larger than {MAX_BYTES >> 20} MiB.", where=str(path), remedy="Name the files one by one.")
    return data


def _is_interesting(name: str) -> bool:
    return name in _NAMES or name.lower().endswith(_ENDINGS)


def _folder(root: Path) -> Tree:
    files: dict[str, bytes] = {}
    skipped: list[str] = []
    size = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in sorted(filter(_is_interesting, names)):
            path = Path(folder, name)
            inside = path.relative_to(root).as_posix()
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                continue
            if found.st_size > MAX_FILE_BYTES:
                skipped.append(inside)
                continue
            files[inside] = _read(path)
            size += len(files[inside])
            if len(files) > MAX_FILES or size > MAX_BYTES:
                raise InputError(
                    f"holds more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB that might be read.",
                    where=str(root),
                    remedy="Name a folder further down.",
                )
    return Tree(str(root), files, skipped=tuple(skipped))


def open_zip(name: str, data: bytes) -> Tree:
    """The members of an archive. Raises ``InputError`` for one that cannot be trusted, or read."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(name, members)
            files: dict[str, bytes] = {}
            skipped: list[str] = []
            size = 0
            for member in members:
                if member.is_dir() or not _is_interesting(name_of(member.filename)):
                    continue
                # The sizes that an archive claims need not be true: what comes out is counted.
                with archive.open(member) as file:
                    content = file.read(MAX_FILE_BYTES + 1)
                size += len(content)
                if size > MAX_BYTES:
                    raise _refused(name, f"it holds more than {MAX_BYTES >> 20} MiB.")
                if len(content) > MAX_FILE_BYTES:
                    skipped.append(member.filename)
                else:
                    files[member.filename] = content
    except InputError:
        raise
    except Exception as error:
        # zipfile raises whatever its parts raise. All of it means the same here.
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"is no archive that can be read: {said}.", where=name) from error
    return Tree(name, files, skipped=tuple(skipped))


def _check_members(name: str, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_FILES:
        raise _refused(name, f"it has more than {MAX_FILES} members.")
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise _refused(name, f"it holds more than {MAX_BYTES >> 20} MiB.")
    seen: set[str] = set()
    for member in members:
        path = member.filename
        shown = path[:80]
        parts = PurePosixPath(path).parts
        # zipfile turns backslashes into slashes only on Windows; elsewhere they would be part of a name.
        if path.startswith("/") or ".." in parts or "\\" in path or ":" in path or not path.isprintable():
            raise _refused(name, f"its member {shown!r} lies outside of it.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _refused(name, f"its member {shown!r} is a link.")
        if member.flag_bits & 0x1:
            raise _refused(name, f"its member {shown!r} is encrypted.")
        if path in seen:
            raise _refused(name, f"its member {shown!r} stands twice.")
        seen.add(path)


def _refused(name: str, why: str) -> InputError:
    return InputError(f"this archive is refused: {why}", where=name, remedy="Unpack it and name the folder.")
