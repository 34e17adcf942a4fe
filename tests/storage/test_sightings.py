"""Sightings and sources in the tables, on every engine: what is stored is read, in the order that pages rely on."""

# ruff: noqa: F811 - fixtures that are imported are named again as parameters
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from watchfloor.model.agents import AgentState
from watchfloor.model.facts import Kind
from watchfloor.storage import inventory, sightings, sources
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.inventory import Agent
from watchfloor.storage.sightings import Place, Seen, Sighting, SightingKind, SightingState
from watchfloor.storage.sources import TelemetrySource

from .contract_control import postgres_url, site, store  # noqa: F401  fixtures: every engine

AT = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
AGENT, SERVER = SightingKind.AGENT, SightingKind.SERVER
ROGUE = Sighting(
    kind=AGENT,
    key="rogue/ünïcode %2F \U0001f600",
    name="Rogue",
    first_seen=AT,
    last_seen=AT + timedelta(seconds=1),
    updated_at=AT,
    updated_by="system",
    users=Seen(("griffin", "mona"), 7, 1),
    tools=Seen(("pay",)),
    events=2**40,
)
CRM = TelemetrySource("crm", "CRM", "a" * 64, AT, AT, "root", "A collector.", ("billing", "hr"), 50)


def test_a_sighting_comes_back_as_it_was_stored_and_changed(store: SqlControlStore) -> None:
    with store.tx(audited=False) as tx:
        sightings.add_sightings(tx, [ROGUE, replace(ROGUE, kind=SERVER)])
        sightings.add_sightings(tx, [])
    changed = replace(ROGUE, state=SightingState.DISMISSED, events=3, users=Seen(("x",), 0, 1), updated_by="soc")
    with store.tx(audited=False) as tx:
        sightings.update_sightings(tx, [changed])
        sightings.update_sightings(tx, [])
    with store.read() as tx:
        assert sightings.find_sighting(tx, AGENT, ROGUE.key) == changed
        assert sightings.find_sighting(tx, SERVER, ROGUE.key) == replace(ROGUE, kind=SERVER)
        assert sightings.find_sighting(tx, AGENT, "nobody") is None
        assert sightings.count_sightings(tx, AGENT) == 1
        assert sightings.list_open(tx) == [(AGENT, ROGUE.key, "Rogue"), (SERVER, ROGUE.key, "Rogue")]


def test_many_are_found_at_once(store: SqlControlStore) -> None:
    keys = [f"rogue-{n}" for n in range(1_200)]
    with store.tx(audited=False) as tx:
        sightings.add_sightings(tx, [replace(ROGUE, key=key) for key in keys])
    with store.read() as tx:
        assert sightings.find_sightings(tx, AGENT, [*keys, "nobody"]).keys() == set(keys)


def test_pages_hold_each_once_whatever_the_engine_sorts_by(store: SqlControlStore) -> None:
    keys = ["a", "B", "_", "é", "aa", "A", "10", "9", "name:x"]
    made = [replace(ROGUE, kind=kind, key=key) for kind in SightingKind for key in keys]
    with store.tx(audited=False) as tx:
        sightings.add_sightings(tx, made)
    with store.read() as tx:
        paged, before = list[Sighting](), None
        while some := sightings.list_sightings(tx, before=before, limit=4):
            paged += some
            before = Place(some[-1].first_seen, some[-1].kind.value, some[-1].key)
    assert sorted((s.kind, s.key) for s in paged) == sorted((s.kind, s.key) for s in made)


def test_what_the_registry_knows_is_ids_names_and_what_telemetry_carries(store: SqlControlStore) -> None:
    said = {"billing": {"platformIds": {"observability": "9F0C"}}, "hr": {"platformIds": {"agent": "x"}}, "it": {}}
    with store.tx("root") as tx:
        for agent_id, manifest in said.items():
            name = agent_id.upper()
            agent = Agent(agent_id, name, AgentState.DRAFT, "1", AT, AT, "root", manifest=manifest)
            inventory.save_agent(tx, agent)
    with store.read() as tx:
        assert sorted(sightings.registered_agents(tx)) == [
            ("billing", "BILLING", ("9F0C", "")), ("hr", "HR", ("", "x")), ("it", "IT", ("", "")),
        ]  # fmt: skip
        assert sightings.registered_servers(tx) == {}


def test_a_source_is_stored_projected_and_gone_when_it_is_deleted(store: SqlControlStore) -> None:
    with store.tx("root") as tx:
        assert sources.save_source(tx, CRM) is True
        assert sources.save_source(tx, replace(CRM, updated_by="mona")) is False
    with store.read() as tx:
        assert sources.list_sources(tx) == [CRM]
    _, rows = store.read_projection(0)
    assert [(kind, key, body and body["agents"]) for kind, key, body in rows] == [
        (Kind.SOURCE, "crm", ["billing", "hr"])
    ]
    with store.tx("root") as tx:
        assert sources.delete_source(tx, "crm") is True
        assert sources.delete_source(tx, "crm") is False
    assert store.read_projection(1)[1] == [(Kind.SOURCE, "crm", None)]
