"""Control state of shared signals: whose security events we believe, what was taken, whom we tell what."""

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

signal_receiver = table(
    "signal_receiver",
    id_(),
    text("audience"),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    json("scopes"),
    json("push_hosts"),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    at("created_at"),
    at("updated_at"),
    text("updated_by"),
)
"""Others who may ask to be told. ``push_hosts``: where they may have events sent to."""

signal_stream = table(
    "signal_stream",
    id_(),
    sa.Column("receiver_id", sa.String(200), nullable=False, unique=True),
    text("method"),
    text("endpoint_url"),
    text("sealed", nullable=True),
    json("events_requested"),
    text("description"),
    text("status"),
    text("status_reason"),
    at("created_at"),
    at("updated_at"),
    sa.Column("failures", sa.Integer, nullable=False),
    at("next_try_at", nullable=True),
    text("problem"),
    at("verification_at", nullable=True),
)
"""What each receiver asked for; ``sealed`` is the Authorization header that it wants to see. The last four columns are
bookkeeping."""

signal_excluded = table(
    "signal_excluded",
    sa.Column("stream_id", sa.String(200), primary_key=True),
    sa.Column("subject_hash", sa.String(64), primary_key=True),
    json("subject"),
)
"""Of whom a receiver does not want to be told."""

signal_outbox = table(
    "signal_outbox",
    id_(),
    sa.Column("stream_id", sa.String(200), nullable=False),
    sa.Column("key", sa.String(300), nullable=False),
    json("claims"),
    sa.Column("state", sa.String(20), nullable=False),
    at("created_at"),
    sa.Column("settled_at", UtcDateTime, nullable=True, index=True),
    text("error"),
    sa.UniqueConstraint("stream_id", "key"),
    sa.Index("ix_signal_outbox_waiting", "stream_id", "state", "id"),
)
"""What is told: ``id`` is the ``jti``, ``key`` says which occurrence, so that nobody is told twice."""
