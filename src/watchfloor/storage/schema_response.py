"""Tables of response's outbox: responses of several steps, and the steps. Beside ``schema``, over the same metadata."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import at, id_, json, table, text

saga = table(
    "saga",
    id_(),
    text("kind"),
    sa.Column("subject_id", sa.String(200), nullable=False, index=True),
    text("reason"),
    sa.Column("status", sa.String(40), nullable=False, index=True),
    sa.Column("incident_id", sa.String(200), nullable=True, index=True),
    text("opened_by"),
    at("created_at"),
    at("updated_at"),
    at("finished_at", nullable=True),
    json("parameters"),
    json("needs_approval"),
    at("approve_by", nullable=True),
    text("decided_by", nullable=True),
    at("decided_at", nullable=True),
    text("decision"),
    text("outcome"),
    at("outcome_at", nullable=True),
    at("check_at", nullable=True),
    sa.Column("checks", sa.Integer, nullable=False),
)
"""A response of several steps. ``needs_approval``: why a second operator has to approve it; ``check_at``: when the
identity provider is next asked whether the password was changed."""

saga_step = table(
    "saga_step",
    sa.Column("saga_id", sa.String(200), sa.ForeignKey("saga.id"), primary_key=True),
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    json("after"),
    text("state"),
    sa.Column("attempts", sa.Integer, nullable=False),
    at("next_try_at", nullable=True),
    text("holder", nullable=True),
    at("held_until", nullable=True),
    at("started_at", nullable=True),
    at("finished_at", nullable=True),
    json("evidence"),
    text("error"),
    sa.Index("ix_saga_step_state_next_try_at", "state", "next_try_at"),
)
"""One step: ``holder`` runs it until ``held_until``; ``after`` names steps that have to be settled first."""

playbook = table(
    "playbook",
    id_(),
    sa.Column("body", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    text("approval"),
    at("active_from"),
    at("updated_at"),
    text("updated_by"),
)
"""A playbook that operators wrote; or, with a null body, how they switched one that comes with the product."""

playbook_run = table(
    "playbook_run",
    id_(),
    sa.Column("playbook_id", sa.String(200), nullable=False),
    sa.Column("incident_id", sa.String(200), nullable=False, index=True),
    sa.Column("status", sa.String(40), nullable=False, index=True),
    json("items"),
    at("created_at"),
    at("updated_at"),
    text("decided_by", nullable=True),
    text("reason"),
    sa.UniqueConstraint("playbook_id", "incident_id"),
)
"""What a playbook did, or proposes to do, about an incident: once for each pair, whatever restarts."""
