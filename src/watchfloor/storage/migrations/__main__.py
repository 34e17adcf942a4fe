"""``python -m watchfloor.storage.migrations MESSAGE``: draft the next revision from the difference to ``schema``."""

from __future__ import annotations

import sys
from typing import Any

import sqlalchemy as sa
from alembic import command

from watchfloor.storage import columns, migrations


def _plain_types(kind: str, item: Any, _: Any) -> str | bool:
    # Revisions are frozen; a type of ours is written as what it is in the database.
    return "sa.BigInteger()" if kind == "type" and isinstance(item, columns.UtcDateTime) else False


def main() -> None:
    """Write the file; it must be read and, as a rule, be tidied by hand."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        settings = migrations.config(connection)
        settings.attributes["render_item"] = _plain_types
        if migrations.HEAD:
            migrations.upgrade(connection, "a scratch database")
        command.revision(
            settings, " ".join(sys.argv[1:]), autogenerate=True, rev_id=f"{int(migrations.HEAD or 0) + 1:04}"
        )


if __name__ == "__main__":
    main()
