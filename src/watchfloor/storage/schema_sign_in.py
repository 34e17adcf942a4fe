"""Control state of how operators sign in: second factors, identities at a provider, sign-ins under way."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import at, id_, json, table, text

operator_factor = table(
    "operator_factor",
    id_("operator_id"),
    text("sealed"),
    sa.Column("is_confirmed", sa.Boolean, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    json("recovery"),
    at("created_at"),
)
"""The key of an operator's authenticator app. ``last_step``: no code up to this time step is taken again;
``recovery``: SHA-256 of the recovery codes that are left."""

operator_identity = table(
    "operator_identity",
    id_("operator_id"),
    sa.Column("issuer", sa.String(500), nullable=False),
    sa.Column("subject", sa.String(500), nullable=True),
    sa.UniqueConstraint("issuer", "subject"),
)
"""Operators who sign in through an identity provider; ``subject`` is null until they have done so once."""

sign_on = table(
    "sign_on",
    id_("state_hash"),
    sa.Column("browser_hash", sa.String(64), nullable=False),
    text("nonce"),
    text("verifier"),
    text("target"),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
)
"""Sign-ins that are under way at the identity provider. Each is used once. ``expires_at`` is in Unix seconds."""

used_token = table("used_token", id_("key"), sa.Column("expires_at", sa.BigInteger, nullable=False, index=True))
"""Ids of tokens that count once, until they would be too old anyway."""
