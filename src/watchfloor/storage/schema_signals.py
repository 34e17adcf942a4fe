"""Control state of shared signals: whose security events we believe, and which of them were taken."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import UtcDateTime, at, id_, json, table, text

signal_transmitter = table(
    "signal_transmitter",
    id_(),
    sa.Column("issuer", sa.String(500), nullable=False, unique=True),
    text("jwks_uri"),
    text("audience"),
    json("speaks_for"),
    text("poll_url"),
    text("verification_url"),
    text("stream_id"),
    text("sealed", nullable=True),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    at("created_at"),
    at("updated_at"),
    text("updated_by"),
    text("expected_state"),
    at("verified_at", nullable=True),
    at("received_at", nullable=True),
    text("problem"),
)
"""Others who tell us what happened to their users. ``sealed`` is the secret that both sides share; the last four
columns say how it goes, and are not audited."""

signal_received = table(
    "signal_received",
    sa.Column("transmitter_id", sa.String(200), primary_key=True),
    sa.Column("jti", sa.String(200), primary_key=True),
    text("event"),
    text("outcome"),
    sa.Column("received_at", UtcDateTime, nullable=False, index=True),
)
"""Security events that were taken, each once."""
