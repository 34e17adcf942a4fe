"""Control state: every table, as SQLAlchemy Core.

The migrations under ``migrations/`` must lead to exactly this (tested on SQLite and PostgreSQL). Times are aware UTC.
Rows are never shared across rooms as they are: the repositories beside this file turn them into the model's nouns.
"""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage import schema_response as schema_response
from watchfloor.storage.columns import UtcDateTime
from watchfloor.storage.columns import at as _at
from watchfloor.storage.columns import id_ as _id
from watchfloor.storage.columns import json as _json
from watchfloor.storage.columns import metadata as metadata
from watchfloor.storage.columns import table as _table
from watchfloor.storage.columns import text as _text
from watchfloor.storage.schema_access import access_policy as access_policy
from watchfloor.storage.schema_directory import directory_account as directory_account
from watchfloor.storage.schema_directory import identity_connector as identity_connector
from watchfloor.storage.schema_hunting import hunting_favourite as hunting_favourite
from watchfloor.storage.schema_hunting import saved_query as saved_query
from watchfloor.storage.schema_messages import channel as channel
from watchfloor.storage.schema_messages import message as message
from watchfloor.storage.schema_notices import notice as notice
from watchfloor.storage.schema_notices import notice_item as notice_item
from watchfloor.storage.schema_notices import notice_link as notice_link
from watchfloor.storage.schema_posture import posture_agent as posture_agent
from watchfloor.storage.schema_posture import posture_day as posture_day
from watchfloor.storage.schema_posture import posture_exception as posture_exception
from watchfloor.storage.schema_posture import posture_finding as posture_finding
from watchfloor.storage.schema_risk import risk as risk
from watchfloor.storage.schema_risk import risk_change as risk_change
from watchfloor.storage.schema_risk import risk_detection as risk_detection
from watchfloor.storage.schema_scim import scim_group as scim_group
from watchfloor.storage.schema_scim import scim_member as scim_member
from watchfloor.storage.schema_scim import scim_provider as scim_provider
from watchfloor.storage.schema_scim import scim_user as scim_user
from watchfloor.storage.schema_sign_in import operator_factor as operator_factor
from watchfloor.storage.schema_sign_in import operator_identity as operator_identity
from watchfloor.storage.schema_sign_in import sign_on as sign_on
from watchfloor.storage.schema_sign_in import used_token as used_token
from watchfloor.storage.schema_signals import signal_excluded as signal_excluded
from watchfloor.storage.schema_signals import signal_outbox as signal_outbox
from watchfloor.storage.schema_signals import signal_received as signal_received
from watchfloor.storage.schema_signals import signal_receiver as signal_receiver
from watchfloor.storage.schema_signals import signal_stream as signal_stream
from watchfloor.storage.schema_signals import signal_transmitter as signal_transmitter
from watchfloor.storage.schema_store import access_ask as access_ask
from watchfloor.storage.schema_store import store_item as store_item
from watchfloor.storage.schema_versions import agent_version as agent_version

# -- state as a whole ---------------------------------------------------------------------------------------------

revision = _table(
    "revision", sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", sa.BigInteger, nullable=False)
)
"""One row (id 1): the number of the last transaction that changed what the data plane knows."""

projection = _table(
    "projection",
    sa.Column("kind", sa.String(40), primary_key=True),
    sa.Column("key", sa.String(600), primary_key=True),
    sa.Column("body", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("revision", sa.BigInteger, nullable=False, index=True),
)
"""What gateway workers hold in memory: values of ``model.facts`` by kind and key; a null body means: gone."""

lease = _table("lease", _id("name"), _text("holder"), _at("expires_at"))

audit = _table(
    "audit",
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    _at("at"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _json("detail"),
    _text("prev_hash"),
    _text("hash"),
)
"""The hash chain: ``hash`` is SHA-256 over the canonical JSON of the other columns. Rows are only ever added."""

setting = _table("setting", _id("key"), _json("value"))
"""Small singletons: the organization, set-up token hash, cursors of jobs."""

# -- registry -----------------------------------------------------------------------------------------------------

agent = _table(
    "agent",
    _id(),
    _text("name"),
    _text("description"),
    _text("state"),
    _text("version"),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    _text("risk"),
    sa.Column("maker_id", sa.String(200), nullable=True, index=True),
    sa.Column("owner_id", sa.String(200), nullable=True),
    sa.Column("sponsor_id", sa.String(200), nullable=True),
    _text("platform"),
    _text("model"),
    _text("secret_hash", nullable=True),
    _json("manifest"),
    _at("created_at"),
    _at("updated_at"),
    _text("updated_by"),
)
tool_server = _table(
    "tool_server",
    _id(),
    _text("name"),
    _text("description"),
    _text("url"),
    _text("state"),
    sa.Column("is_trusted", sa.Boolean, nullable=False),
    sa.Column("credential_id", sa.String(200), nullable=True),
    sa.Column("timeout_seconds", sa.Float, nullable=False),
    _at("tools_listed_at", nullable=True),
    _text("tools_list_error", nullable=True),
    _at("created_at"),
    _at("updated_at"),
)
tool = _table(
    "tool",
    sa.Column("server_id", sa.String(200), sa.ForeignKey("tool_server.id"), primary_key=True),
    sa.Column("name", sa.String(300), primary_key=True),
    _text("description"),
    _text("effect"),
    sa.Column("pin", sa.String(64), nullable=False),
    sa.Column("observed_hash", sa.String(64), nullable=False),
    _text("pin_state"),
    sa.Column("is_blocked", sa.Boolean, nullable=False),
    sa.Column("allow_when_stale", sa.Boolean, nullable=False),
    _json("definition"),
    _at("updated_at"),
)
binding = _table(
    "binding",
    sa.Column("agent_id", sa.String(200), sa.ForeignKey("agent.id"), primary_key=True),
    sa.Column("server_id", sa.String(200), sa.ForeignKey("tool_server.id"), primary_key=True),
    sa.Column("tool", sa.String(300), primary_key=True),
    _text("credential_owner"),
    _text("scope"),
    sa.Column("credential_id", sa.String(200), nullable=True),
    _at("created_at"),
)
credential = _table("credential", _id(), _text("kind"), _text("sealed"), _text("fingerprint"), _at("updated_at"))
policy = _table(
    "policy",
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    _json("body"),
    sa.Column("is_current", sa.Boolean, nullable=False),
    _at("published_at"),
    _text("published_by"),
)
"""Every version ever published: a recorded decision is replayed with the versions it used."""

policy_set = _table("policy_set", _id("hash"), _json("members"), _at("created_at"))
"""Which (policy, version) pairs a policy set's hash stands for."""

named_list = _table(
    "named_list",
    _id("name"),
    _text("description"),
    _text("key_column"),
    _json("columns"),
    _json("rows"),
    sa.Column("row_count", sa.Integer, nullable=False),
    _at("updated_at"),
    _text("updated_by"),
)
"""Lists for hunting (watchlists): ``columns`` are [name, KQL type] pairs, ``rows`` lists of cells as text."""

telemetry_source = _table(
    "telemetry_source",
    _id(),
    _text("name"),
    _text("description"),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    _json("agents"),
    sa.Column("events_per_second", sa.Integer, nullable=False),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    _at("created_at"),
    _at("updated_at"),
    _text("updated_by"),
)
"""Who may send telemetry: ``token_hash`` is SHA-256 of its token, ``agents`` the ids that it may speak for."""

sighting = _table(
    "sighting",
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("key", sa.String(300), primary_key=True),
    _text("name"),
    _text("state"),
    _json("users"),
    _json("tools"),
    _json("sources"),
    sa.Column("events", sa.BigInteger, nullable=False),
    _at("first_seen"),
    _at("last_seen"),
    _at("updated_at"),
    _text("updated_by"),
)
"""Agents and tool servers that were seen at work (``kind`` agent or server) and that the registry does not know."""

inventory_snapshot = _table(
    "inventory_snapshot",
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("key", sa.String(300), primary_key=True),
    sa.Column("hash", sa.String(64), nullable=False),
    _at("taken_at"),
)
"""What the newest snapshot row of each agent, person and alert said: by this a job knows what has changed since."""

# -- people -------------------------------------------------------------------------------------------------------

identity_provider = _table(
    "identity_provider", _id("issuer"), _text("jwks_uri"), _text("audience"), _text("subject_claim")
)
user = _table(
    "directory_user",
    _id(),
    _text("upn"),
    _text("name"),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    _text("risk"),
    sa.Column("must_reset_password", sa.Boolean, nullable=False),
    _at("not_before", nullable=True),
    _json("groups"),
    _text("issuer"),
    _text("subject"),
    _at("updated_at"),
    _text("department", default=sa.text("''")),
    _text("job_title", default=sa.text("''")),
    _text("manager", default=sa.text("''")),
    sa.Column("criticality", sa.Integer, nullable=True),
    sa.Column("is_break_glass", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("issuer", "subject"),
)
signing_key = _table(
    "signing_key", _id("kid"), _json("public_jwk"), _text("sealed"), _at("created_at"), _at("retired_at", nullable=True)
)
operator = _table(
    "operator",
    _id(),
    _text("name"),
    _text("password_hash", nullable=True),
    _json("roles"),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    _at("created_at"),
)
operator_session = _table(
    "operator_session",
    _id("token_hash"),
    sa.Column("operator_id", sa.String(200), sa.ForeignKey("operator.id"), nullable=False, index=True),
    _text("csrf_token"),
    _text("label"),
    _at("created_at"),
    _at("seen_at"),
    _at("expires_at"),
    sa.Column("idp_issuer", sa.String(500), nullable=True),
    sa.Column("idp_subject", sa.String(500), nullable=True),
    sa.Column("idp_session", sa.String(300), nullable=True),
    sa.Index("ix_operator_session_idp_issuer", "idp_issuer"),
)
"""Browser sessions and API tokens, by SHA-256 of the secret."""

# -- cases --------------------------------------------------------------------------------------------------------

incident = _table(
    "incident",
    _id(),
    _text("title"),
    _text("description"),
    _text("severity"),
    _text("status"),
    _text("classification"),
    _text("assigned_to", nullable=True),
    _text("redirect_to", nullable=True),
    sa.Column("correlation_key", sa.String(600), nullable=False),
    _json("entities"),
    _at("first_activity"),
    _at("last_activity"),
    _at("created_at"),
    _at("updated_at"),
    _text("determination", default=sa.text("'unknown'")),
    sa.Column("tags", sa.JSON, nullable=True),
    sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0"), index=True),
    _text("first_alert", nullable=True),
    _text("follows", nullable=True),
    sa.Index("ix_incident_correlation_key_last_activity", "correlation_key", "last_activity"),
)
"""``first_alert``: null until what its alerts add up to is counted; ``follows``: the resolved one that it continues."""
incident_tally = _table(
    "incident_tally",
    sa.Column("incident_id", sa.String(200), primary_key=True),
    # Ranges of keys are read, so their order is that of code points on every engine.
    sa.Column("key", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("ranked", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=True),
    sa.Index(
        "ix_incident_tally_ranked", "incident_id", "ranked", "key",
        sqlite_where=sa.text("ranked IS NOT NULL"), postgresql_where=sa.text("ranked IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)  # fmt: skip
"""What the alerts of an incident add up to: counted facts (``tallies``). ``ranked``: of kinds of which the most
frequent are read, the kind, and then a number that is the less the more there are."""
incident_agent_span = _table(
    "incident_agent_span",
    sa.Column("incident_id", sa.String(200), primary_key=True),
    sa.Column("agent_id", sa.String(300), primary_key=True),
    sa.Column("first_activity", UtcDateTime, primary_key=True, autoincrement=False),
    _at("last_activity"),
    _text("alert_id", nullable=True),
)
"""When an agent was active in an incident: spans too far apart to be joined; ``alert_id``: a span's only alert."""
alert = _table(
    "alert",
    _id(),
    sa.Column("rule_id", sa.String(200), nullable=False),
    sa.Column("dedup_key", sa.String(300), nullable=False),
    _text("title"),
    _text("description"),
    sa.Column("severity", sa.String(20), nullable=False, index=True),
    _text("status"),
    _text("tactic"),
    _json("techniques"),
    _json("entities"),
    _json("evidence"),
    _json("recommended_actions"),
    _json("detail"),
    sa.Column("incident_id", sa.String(200), sa.ForeignKey("incident.id"), nullable=True, index=True),
    _text("join_reason"),
    _at("first_activity"),
    _at("last_activity"),
    _at("created_at"),
    _text("classification", default=sa.text("'unknown'")),
    _text("determination", default=sa.text("'unknown'")),
    _text("assigned_to", nullable=True),
    _at("updated_at", nullable=True),
    _at("resolved_at", nullable=True),
    sa.UniqueConstraint("rule_id", "dedup_key"),
)
case_entry = _table(
    "case_entry",
    _id(),
    sa.Column("incident_id", sa.String(200), nullable=True, index=True),
    sa.Column("alert_id", sa.String(200), nullable=True, index=True),
    _at("at"),
    _text("actor"),
    _text("kind"),
    _text("text"),
    _json("detail"),
)
"""What happened to incidents and alerts, and what people wrote about them. Rows are only ever added."""

alert_entity = _table(
    "alert_entity",
    sa.Column("alert_id", sa.String(200), sa.ForeignKey("alert.id"), primary_key=True),
    sa.Column("kind", sa.String(40), primary_key=True),
    sa.Column("entity_id", sa.String(300), primary_key=True),
    sa.Column("role", sa.String(40), primary_key=True),
    sa.Index("ix_alert_entity_lookup", "kind", "entity_id"),
)
rule_cursor = _table("rule_cursor", _id("name"), sa.Column("ingest_seq", sa.BigInteger, nullable=False))
"""How far each consumer of the event store has read; moves in the transaction that stores what it found."""

custom_rule = _table(
    "custom_rule", _id(), _json("body"), _at("created_at"), _text("created_by"), _at("updated_at"), _text("updated_by")
)
"""Detection rules that operators wrote; ``body`` is the rule as its file would say it."""

rule_state = _table(
    "rule_state",
    _id("rule_id"),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    _text("reason"),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
    sa.Column("strikes", sa.Integer, nullable=False),
    sa.Column("runs", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("hits", sa.BigInteger, nullable=False),
    sa.Column("total_ms", sa.Float, nullable=False),
    sa.Column("last_ms", sa.Float, nullable=False),
    _at("last_run_at", nullable=True),
    _text("last_error"),
    _text("note"),
)
"""Whether a rule is on, and of those in KQL how far each has got, what it costs and finds. ``position`` moves in the
transaction that stores what was found up to there: an ingest position, or the end of a span in microseconds; ``seen``:
the ingest position up to which a scheduled rule has made up for late rows."""

suppression = _table(
    "suppression",
    _id(),
    _text("rule_id"),
    _text("entity_kind"),
    _text("entity_id"),
    _text("reason"),
    _at("created_at"),
    _text("created_by"),
    _at("expires_at"),
)
"""Alerts that are resolved as they are raised, with why and until when. Empty ``rule_id`` or ``entity_kind``: any."""

# -- response -----------------------------------------------------------------------------------------------------

hold = _table(
    "hold",
    _id(),
    sa.Column("invocation_id", sa.String(200), nullable=False, unique=True),
    _text("payload_hash"),
    _text("agent_id"),
    _text("user_id", nullable=True),
    _text("server_id"),
    _text("tool"),
    _text("reason"),
    _text("status"),
    _at("created_at"),
    _at("expires_at"),
    _text("decided_by", nullable=True),
    _at("decided_at", nullable=True),
    sa.Column("root_id", sa.String(200), nullable=True, index=True),
    _text("answer", default=sa.text("''")),
    sa.Column("policies", sa.JSON, nullable=True),
    sa.Column("approvers", sa.JSON, nullable=True),
    sa.Column("approvals_needed", sa.Integer, nullable=False, server_default=sa.text("1")),
    sa.Column("approvals", sa.JSON, nullable=True),
    _text("used_by", nullable=True),
    sa.Index("ix_hold_payload_hash", "payload_hash"),
    sa.Index("ix_hold_created_at", "created_at"),
)
"""``root_id``: the hold that was asked about, for one of the very same call that came before anybody knew."""

hold_use = _table("hold_use", _id("hold_id"), _text("taken_by"), _at("taken_at"))
"""The one use of each approval, taken by a gateway (``claims``) or by whoever revoked it. Rows are never changed."""

hold_delegation = _table(
    "hold_delegation",
    _id(),
    sa.Column("from_operator", sa.String(200), nullable=False, index=True),
    _text("to_operator", nullable=True),
    _text("to_role", nullable=True),
    _text("reason"),
    _at("starts_at"),
    _at("ends_at"),
    _at("created_at"),
)
"""Who may answer holds in whose place, and for how long."""

action_record = _table(
    "action_record",
    _id(),
    _text("action"),
    _text("subject"),
    _text("actor"),
    _text("status"),
    _json("detail"),
    sa.Column("incident_id", sa.String(200), nullable=True, index=True),
    _at("created_at"),
    _at("finished_at", nullable=True),
)
