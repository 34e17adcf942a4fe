"""Migrations of control state: from any version that was ever released to the one that this code expects.

``control`` calls ``upgrade`` when a server starts; everybody else only checks. Alembic is imported when it is needed,
so that a gateway worker never carries it. Revisions are frozen: they repeat their tables instead of importing
``schema``. A new one: change ``schema``, run ``python -m watchfloor.storage.migrations "what it does"``, read what it
wrote, raise ``HEAD``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from watchfloor.model.errors import Unavailable

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HEAD: Final = "0025"
"""The newest revision; a test holds it against the files."""


def config(connection: Connection) -> Config:
    """Alembic's configuration, to run on ``connection`` in the caller's transaction."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def current(connection: Connection) -> str | None:
    """The revision of the database; None when it is empty."""
    from alembic.migration import MigrationContext

    revision: str | None = MigrationContext.configure(connection).get_current_revision()
    return revision


def upgrade(connection: Connection, label: str) -> None:
    """Bring the database to ``HEAD``. Raises ``Unavailable`` when it was written by a newer version."""
    from alembic import command
    from alembic.script import ScriptDirectory

    found = current(connection)
    if found == HEAD:
        return
    settings = config(connection)
    if found is not None and found not in {s.revision for s in ScriptDirectory.from_config(settings).walk_revisions()}:
        raise Unavailable(_newer(found, label))
    command.upgrade(settings, "head")


def downgrade(connection: Connection, revision: str) -> None:
    """Go back to ``revision`` (``base``: empty). What the newer columns held is lost."""
    from alembic import command

    command.downgrade(config(connection), revision)


def require_head(found: str | None, label: str) -> None:
    """Raise ``Unavailable`` unless ``found`` is the version that this code expects."""
    if found == HEAD:
        return
    if found is None:
        raise Unavailable(f"{label} holds no control state yet. Start the server first: it sets it up.")
    if found < HEAD:
        raise Unavailable(f"{label} is at schema {found}, this version needs {HEAD}. Start the server: it migrates it.")
    raise Unavailable(_newer(found, label))


def _newer(found: str, label: str) -> str:
    return (
        f"{label} is at schema {found}, which this version ({HEAD}) does not know. "
        "Install the Watchfloor that wrote it, or restore a backup from before the upgrade."
    )
