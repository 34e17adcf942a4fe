"""Files that hold a secret: written whole or not at all, readable by their owner only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from watchfloor.model.errors import Unavailable


def write_secret_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``, mode 0600 from its first byte on. Raises ``Unavailable``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error
