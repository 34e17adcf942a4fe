"""Alembic's entry: runs the revisions on the connection that the caller put into the configuration."""

from __future__ import annotations

from alembic import context

from watchfloor.storage import schema

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=schema.metadata,
    # SQLite cannot alter most things in place: later revisions rebuild the table.
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=context.config.attributes.get("render_item"),
)
with context.begin_transaction():
    context.run_migrations()
