"""Tables of notices to makers: the notice, what is in it, and the links by which it is acknowledged."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import UtcDateTime, at, id_, table, text

notice = table(
    "notice",
    id_(),
    sa.Column("maker_id", sa.String(200), nullable=False, index=True),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    at("created_at"),
    text("created_by"),
    at("send_at"),
    at("sent_at", nullable=True),
    at("acknowledged_at", nullable=True),
    text("acknowledged_by"),
    at("reminded_at", nullable=True),
    sa.Column("reminders", sa.Integer, nullable=False),
    at("escalated_at", nullable=True),
    at("closed_at", nullable=True),
    text("reason"),
)

notice_item = table(
    "notice_item",
    sa.Column("notice_id", sa.String(200), primary_key=True),
    sa.Column("agent_id", sa.String(200), primary_key=True),
    sa.Column("source", sa.String(100), primary_key=True),
    text("what"),
    text("recommendation"),
    text("note"),
    text("query"),
    sa.Column("state", sa.String(20), nullable=False),
    at("opened_at"),
    at("closed_at", nullable=True),
    sa.Column("open_key", sa.String(310), nullable=True, unique=True),
    sa.Index("ix_notice_item_agent_id", "agent_id"),
)
"""``open_key`` is agent and source while the item is open, else null: nobody is asked for the same twice."""

notice_link = table(
    "notice_link",
    sa.Column("token_hash", sa.String(64), primary_key=True),
    sa.Column("notice_id", sa.String(200), nullable=False, index=True),
    text("user_id"),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
    at("used_at", nullable=True),
)
"""Links of mails. The token is made when the mail is sent, and is nowhere stored."""
