"""Control state of provisioning: who may tell us of users and groups by SCIM, and what they said."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import at, id_, json, table, text

scim_provider = table(
    "scim_provider",
    id_(),
    sa.Column("issuer", sa.String(500), nullable=False, unique=True),
    text("subject"),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    at("created_at"),
    at("updated_at"),
    text("updated_by"),
)
"""Who may tell of the users of one issuer. ``subject``: which attribute is what the issuer's tokens call a user."""

scim_user = table(
    "scim_user",
    id_("user_id"),
    sa.Column("user_name", sa.String(500), nullable=False, index=True),
    sa.Column("external_id", sa.String(500), nullable=False, index=True),
    json("document"),
    sa.Column("is_held", sa.Boolean, nullable=False),
    sa.Column("is_deleted", sa.Boolean, nullable=False),
    at("created_at"),
    at("updated_at"),
)
"""What was said of a user, as it was said. ``user_name`` is in lower case. ``is_held``: that it is disabled is the
provider's doing, so the provider may enable it again; ``is_deleted``: the provider sees it no more."""

scim_group = table(
    "scim_group",
    id_(),
    sa.Column("issuer", sa.String(500), nullable=False),
    text("display_name"),
    sa.Column("name_key", sa.String(200), nullable=False),
    sa.Column("external_id", sa.String(500), nullable=False, index=True),
    at("created_at"),
    at("updated_at"),
    sa.UniqueConstraint("issuer", "name_key"),
)
"""Groups that were told of. ``name_key``: the name in lower case, which one group of an issuer has."""

scim_member = table(
    "scim_member",
    sa.Column("group_id", sa.String(200), sa.ForeignKey("scim_group.id"), primary_key=True),
    sa.Column("user_id", sa.String(200), primary_key=True, index=True),
)
"""Who is in which of them."""
