"""Other names of agents and users reach the workers with whoever they belong to."""

# ruff: noqa: F811 - fixtures that are imported are named again as parameters
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from watchfloor.model.agents import AgentState
from watchfloor.model.facts import Kind
from watchfloor.storage import inventory, people, schema
from watchfloor.storage.aliases import complete_aliases
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.inventory import Agent
from watchfloor.storage.people import User

from .contract_control import postgres_url, site, store  # noqa: F401  fixtures: every engine

AT = datetime(2026, 11, 1, tzinfo=UTC)
BOT, OBJECT_ID = "0C0FFEE0-AAAA-4BBB-8CCC-DDDDDDDDDDDD", "9a9a9a9a-1b1b-4c2c-8d3d-4e4e4e4e4e4e"
AGENT = Agent(
    "billing", "Billing", AgentState.PUBLISHED, "1", AT, AT, "root",
    manifest={"platformIds": {"agent": BOT, "schemaName": "cra65_billing", "observability": "Billing-7"}},
)  # fmt: skip
GRIFFIN = User("griffin", "https://login.example", OBJECT_ID, AT)
ADA = User("ada", "https://login.example", "ada", AT)


def _told(store: SqlControlStore) -> dict[str, list[str]]:
    p = schema.projection
    with store.read() as tx:
        rows = tx.connection.execute(sa.select(p.c.key, p.c.body).where(p.c.kind == Kind.ALIASES.value))
        return {row.key: row.body["names"] for row in rows if row.body is not None}


def test_ids_are_told_in_lower_case_and_schema_names_and_other_subjects_are_not(store: SqlControlStore) -> None:
    with store.tx("root") as tx:
        inventory.save_agent(tx, AGENT)
        people.save_user(tx, GRIFFIN)
        people.save_user(tx, ADA)
    assert _told(store) == {"agent/billing": [BOT.lower(), "billing-7"], "user/griffin": [OBJECT_ID]}
    with store.tx("root") as tx:
        inventory.save_agent(tx, replace(AGENT, manifest={}))
        people.save_user(tx, replace(GRIFFIN, subject="griffin"))
    assert _told(store) == {}


def test_who_was_saved_before_is_completed_once(store: SqlControlStore) -> None:
    with store.tx("root") as tx:
        inventory.save_agent(tx, AGENT)
        people.save_user(tx, GRIFFIN)
        tx.project(Kind.ALIASES, "agent/billing", None)
        tx.connection.execute(schema.projection.delete().where(schema.projection.c.key == "user/griffin"))
    assert _told(store) == {}
    for _ in range(2):
        with store.tx("root") as tx:
            complete_aliases(tx, inventory.list_agents(tx), people.list_users(tx))
            tx.audit("test", "test")
        assert set(_told(store)) == {"agent/billing", "user/griffin"}
        with store.read() as tx:
            revision = tx.connection.execute(sa.select(schema.revision.c.value)).scalar_one()
    with store.tx("root") as tx:
        complete_aliases(tx, inventory.list_agents(tx), people.list_users(tx))
        tx.audit("test", "test")
    with store.read() as tx:
        assert tx.connection.execute(sa.select(schema.revision.c.value)).scalar_one() == revision
