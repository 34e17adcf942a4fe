"""The registry's repository: what is saved is read, projected and audited; what is equal is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from watchfloor.model.agents import AgentState, CredentialOwner, PinState, Scope, ServerState, ToolEffect
from watchfloor.model.errors import Conflict, WatchfloorError
from watchfloor.model.facts import (
    AgentFacts,
    BindingFacts,
    CredentialFacts,
    Kind,
    Organization,
    Projected,
    ServerFacts,
    ToolFacts,
)
from watchfloor.model.people import RiskLevel
from watchfloor.storage import inventory, schema
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.inventory import Agent, Binding, Credential, Tool, ToolServer

from .contract_control import postgres_url, site, store  # noqa: F401  fixtures: every engine
from .lite import lite, migrated  # noqa: F401  fixtures: one engine, fast

AT = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
LONG_TOOL = "t" * 128

AGENT = Agent(
    id="billing",
    name="Billing",
    state=AgentState.PUBLISHED,
    version="3",
    created_at=AT,
    updated_at=AT,
    updated_by="root",
    description="Sends reminders.",
    epoch=4,
    risk=RiskLevel.LOW,
    maker_id="ada",
    owner_id="lin",
    sponsor_id="lin",
    platform="Copilot Studio",
    model="gpt-5",
    secret_hash="a" * 64,
    manifest={"tools": [{"server": "mail"}], "instructions": "ünïcode"},
)
SERVER = ToolServer(
    id="mail",
    name="Mail",
    url="https://mail/mcp",
    created_at=AT,
    updated_at=AT,
    description="E-mail.",
    state=ServerState.AVAILABLE,
    is_trusted=True,
    credential_id="server/mail",
    timeout_seconds=12.5,
)
TOOL = Tool(
    server_id="mail",
    name=LONG_TOOL,
    updated_at=AT,
    description="Send.",
    effect=ToolEffect.SEND,
    pin="b" * 64,
    observed_hash="b" * 64,
    pin_state=PinState.PINNED,
    allow_when_stale=False,
    definition={"approved": {"name": LONG_TOOL}, "observed": None},
)
BINDING = Binding(
    agent_id="billing",
    server_id="mail",
    tool=LONG_TOOL,
    created_at=AT,
    credential_owner=CredentialOwner.MAKER,
    scope=Scope.WRITE,
    credential_id="binding/billing/mail/x",
)
CREDENTIAL = Credential("server/mail", "bearer", "sealed-text", "f" * 64, AT)


def projected(store: SqlControlStore, kind: Kind) -> dict[str, dict[str, Any] | None]:
    """What workers were told about things of ``kind``, None for what is gone."""
    with store.read() as tx:
        rows = tx.connection.execute(sa.select(schema.projection).where(schema.projection.c.kind == kind.value))
        return {row.key: row.body for row in rows}


def audit(store: SqlControlStore) -> list[dict[str, Any]]:
    with store.read() as tx:
        return [dict(r._mapping) for r in tx.connection.execute(sa.select(schema.audit).order_by("seq"))]


def prepare(tx: ControlTx) -> None:
    """Everything, so that whatever is saved next has what it refers to."""
    inventory.save_agent(tx, AGENT)
    inventory.save_server(tx, SERVER)
    inventory.save_tool(tx, TOOL)
    inventory.save_binding(tx, BINDING)
    inventory.save_credential(tx, CREDENTIAL)
    inventory.save_organization(tx, Organization("Zava", ("zava.example",)))


def test_what_is_saved_is_read_back_exactly(store: SqlControlStore) -> None:
    with store.tx("root") as tx:
        prepare(tx)
    with store.read() as tx:
        assert inventory.find_agent(tx, "billing") == AGENT
        assert inventory.list_agents(tx) == [AGENT]
        assert inventory.find_server(tx, "mail") == SERVER
        assert inventory.list_servers(tx) == [SERVER]
        assert inventory.find_tool(tx, "mail", LONG_TOOL) == TOOL
        assert inventory.list_tools(tx) == inventory.list_tools(tx, "mail") == [TOOL]
        assert inventory.find_binding(tx, "billing", "mail", LONG_TOOL) == BINDING
        assert inventory.list_bindings(tx, server_id="mail") == [BINDING]
        assert inventory.find_credential(tx, "server/mail") == CREDENTIAL
        assert inventory.list_fingerprints(tx) == {"server/mail": "f" * 64}
        assert inventory.find_organization(tx) == Organization("Zava", ("zava.example",))


def test_what_does_not_exist_is_none_or_empty(lite: SqlControlStore) -> None:
    with lite.read() as tx:
        assert inventory.find_agent(tx, "x") is None
        assert inventory.find_server(tx, "x") is None
        assert inventory.find_tool(tx, "x", "y") is None
        assert inventory.find_binding(tx, "x", "y", "z") is None
        assert inventory.find_credential(tx, "x") is None
        assert inventory.list_tools(tx, "x") == inventory.list_bindings(tx, agent_id="x") == []
        assert inventory.find_organization(tx) == Organization()


@pytest.mark.parametrize(
    ("kind", "key", "facts"),
    [
        (
            Kind.AGENT,
            "billing",
            AgentFacts(
                "billing",
                "Billing",
                AgentState.PUBLISHED,
                "3",
                4,
                RiskLevel.LOW,
                "ada",
                "lin",
                "Copilot Studio",
                "gpt-5",
            ),
        ),
        (
            Kind.SERVER,
            "mail",
            ServerFacts("mail", "Mail", "https://mail/mcp", ServerState.AVAILABLE, True, "server/mail", 12.5),
        ),
        (Kind.TOOL, f"mail/{LONG_TOOL}", ToolFacts("mail", LONG_TOOL, ToolEffect.SEND, PinState.PINNED, "b" * 64)),
        (
            Kind.BINDING,
            f"billing/mail/{LONG_TOOL}",
            BindingFacts("billing", "mail", LONG_TOOL, CredentialOwner.MAKER, Scope.WRITE, "binding/billing/mail/x"),
        ),
        (Kind.CREDENTIAL, "server/mail", CredentialFacts("server/mail", "bearer", "sealed-text")),
        (Kind.ORGANIZATION, "", Organization("Zava", ("zava.example",))),
    ],
)
def test_what_is_saved_is_projected(lite: SqlControlStore, kind: Kind, key: str, facts: Projected) -> None:
    with lite.tx("root") as tx:
        prepare(tx)
    body = projected(lite, kind)[key]
    assert body is not None and type(facts).from_json(body) == facts


SAVES: dict[str, Callable[[ControlTx], bool]] = {
    "agent": lambda tx: inventory.save_agent(tx, replace(AGENT, updated_at=tx.now, updated_by="another")),
    "server": lambda tx: inventory.save_server(tx, replace(SERVER, updated_at=tx.now)),
    "tool": lambda tx: inventory.save_tool(tx, replace(TOOL, updated_at=tx.now)),
    "binding": lambda tx: inventory.save_binding(tx, replace(BINDING, created_at=tx.now)),
    "credential": lambda tx: inventory.save_credential(
        tx, replace(CREDENTIAL, sealed="sealed anew", updated_at=tx.now)
    ),
    "organization": lambda tx: inventory.save_organization(tx, Organization("Zava", ("zava.example",))),
}


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES.keys())
def test_saving_what_is_there_changes_nothing(lite: SqlControlStore, save: Callable[[ControlTx], bool]) -> None:
    with lite.tx("root") as tx:
        prepare(tx)
    before, revision = audit(lite), lite.read_projection(0)[0]
    with lite.tx("root") as tx:
        assert save(tx) is False
    assert audit(lite) == before
    assert lite.read_projection(0)[0] == revision


def test_a_change_is_audited_with_exactly_the_fields_that_differ(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        prepare(tx)
    with lite.tx("ada") as tx:
        inventory.save_agent(
            tx, replace(AGENT, model="gpt-6", epoch=5, secret_hash="c" * 64), "agent:retrain", "better"
        )
    entry = audit(lite)[-1]
    assert (entry["actor"], entry["action"], entry["subject"]) == ("ada", "agent:retrain", "agent/billing")
    assert entry["detail"] == {
        "before": {"epoch": 4, "model": "gpt-5", "secret_hash": "(secret)"},
        "after": {"epoch": 5, "model": "gpt-6", "secret_hash": "(secret)"},
        "reason": "better",
    }


def test_no_secret_hash_or_sealed_text_is_in_the_audit_log(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        prepare(tx)
        inventory.save_credential(tx, replace(CREDENTIAL, sealed="another-sealed", fingerprint="e" * 64))
        inventory.delete_credential(tx, "server/mail")
    text = str(audit(lite))
    for secret in ("a" * 64, "sealed-text", "another-sealed"):
        assert secret not in text
    assert "f" * 64 in text and "e" * 64 in text  # fingerprints tell that it changed


def test_deleting_takes_it_away_from_the_workers(store: SqlControlStore) -> None:
    with store.tx("root") as tx:
        prepare(tx)
    with store.tx("root") as tx:
        assert inventory.delete_binding(tx, "billing", "mail", LONG_TOOL)
        assert inventory.delete_credential(tx, "server/mail")
        assert not inventory.delete_binding(tx, "billing", "mail", LONG_TOOL)
        assert not inventory.delete_credential(tx, "server/mail")
    assert projected(store, Kind.BINDING) == {f"billing/mail/{LONG_TOOL}": None}
    assert projected(store, Kind.CREDENTIAL) == {"server/mail": None}
    assert [e["action"] for e in audit(store)[-2:]] == ["binding:delete", "credential:delete"]


def test_what_workers_do_not_see_does_not_bother_them(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        prepare(tx)
    revision = lite.read_projection(0)[0]
    with lite.tx("root") as tx:
        assert inventory.save_agent(tx, replace(AGENT, description="Other.", manifest={}))
        assert inventory.save_server(tx, replace(SERVER, description="Other."))
        assert inventory.save_tool(tx, replace(TOOL, description="Other."))
    assert lite.read_projection(0)[0] == revision


def test_the_time_of_a_listing_is_noted_without_an_audit_entry(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        prepare(tx)
    entries = len(audit(lite))
    with lite.tx("root", audited=False) as tx:
        assert inventory.save_server(tx, replace(SERVER, tools_listed_at=AT))
    with lite.read() as tx:
        found = inventory.find_server(tx, "mail")
        assert found is not None and found.tools_listed_at == AT
    assert len(audit(lite)) == entries


def test_creation_keeps_its_time_and_times_are_exact(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        prepare(tx)
        inventory.save_agent(tx, replace(AGENT, name="New", created_at=datetime(2030, 1, 1, tzinfo=UTC)))
        found = inventory.find_agent(tx, "billing")
    assert found is not None and found.created_at == AT


def test_a_tools_definition_is_not_copied_into_the_audit_log(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        prepare(tx)
        inventory.save_tool(tx, replace(TOOL, observed_hash="c" * 64, definition={"observed": {"x": "very long text"}}))
    assert "very long text" not in str(audit(lite))


def test_a_binding_of_nothing_is_refused(lite: SqlControlStore) -> None:
    with pytest.raises((Conflict, WatchfloorError)), lite.tx("root") as tx:
        inventory.save_binding(tx, BINDING)


def test_lists_are_sorted_and_filtered(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        for name in ("c", "a", "b"):
            inventory.save_agent(
                tx, replace(AGENT, id=name, state=AgentState.DRAFT if name == "b" else AgentState.PUBLISHED)
            )
    with lite.read() as tx:
        assert [a.id for a in inventory.list_agents(tx)] == ["a", "b", "c"]
        assert [a.id for a in inventory.list_agents(tx, state=AgentState.DRAFT)] == ["b"]
