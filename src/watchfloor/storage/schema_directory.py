"""Tables of identity providers' connectors and of what their directories list. See ``schema``, which includes them."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import at, id_, json, table, text

identity_connector = table(
    "identity_connector",
    id_("issuer"),
    text("kind"),
    json("settings"),
    json("sealed"),
    json("fingerprints"),
    at("updated_at"),
    text("updated_by"),
    at("synced_at", nullable=True),
    sa.Column("accounts", sa.Integer, nullable=False, server_default=sa.text("0")),
    text("sync_problem", default=sa.text("''")),
)
"""``sealed`` and ``fingerprints``: secrets by the name of their setting. ``synced_at``: when its directory was last
read to the end; ``sync_problem``: why the try after that failed."""

directory_account = table(
    "directory_account",
    sa.Column("issuer", sa.String(200), primary_key=True),
    sa.Column("subject", sa.String(500), primary_key=True),
    text("user_id"),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    sa.Column("is_held_disabled", sa.Boolean, nullable=False),
    text("email"),
    at("gone_at", nullable=True),
)
"""Accounts that a directory listed. ``is_held_disabled``: its user was disabled because the directory said so, and may
be enabled by it again; ``gone_at``: since when complete listings lack it."""
