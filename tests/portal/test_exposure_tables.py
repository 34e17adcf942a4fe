"""The exposure graph in KQL: the same content as the blast radius, and only what is true now."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from portal.house import House
from portal.test_blast_radius import MORE
from watchfloor.model.people import Role
from watchfloor.registry.exposure import Exposure, Holdings, read_holdings
from watchfloor.registry.exposure_tables import publish_exposure, short, subjects
from watchfloor.storage.drain import drain

THROUGH_A_MAKER = """
let Nodes = ExposureGraphNodes
    | extend Level = tostring(NodeProperties.rawData.level), Owner = tostring(NodeProperties.rawData.owner);
ExposureGraphEdges
| make-graph SourceNodeId --> TargetNodeId with Nodes on NodeId
| graph-match (agent)-[runs]->(credential)-[access]->(tool)
    where runs.EdgeLabel == "runs on" and access.EdgeLabel == "gives access to"
        and credential.Owner == "maker" and tool.Level == "pay"
    project Agent = agent.NodeName, Credential = credential.NodeName, Tool = tool.NodeName
"""


def _apply(house: House, manifest: dict[str, Any]) -> None:
    answer = house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": yaml.safe_dump(manifest)})
    assert answer.status_code == 200, answer.text


def _publish(house: House) -> int:
    done = publish_exposure(house.stores.control, house.log, "default", house.clock())
    drain(house.log, house.stores.events)
    return done


def _rows(house: House, query: str, role: Role = Role.SOC_ANALYST) -> list[dict[str, Any]]:
    answer = house.client(role).post("/api/hunting/run", json={"query": query, "max_rows": 10_000})
    assert answer.status_code == 200, answer.text
    names = [column["name"] for column in answer.json()["columns"]]
    return [dict(zip(names, row, strict=True)) for row in answer.json()["rows"]]


@pytest.fixture
def published(house: House) -> House:
    """The larger company, written down."""
    _apply(house, MORE)
    assert _publish(house) > 20
    return house


@pytest.mark.claim("exposure-kql")
def test_the_tables_hold_exactly_what_the_blast_radius_walks_over(published: House) -> None:
    with published.stores.control.read() as tx:
        exposure = Exposure(read_holdings(tx))
    things = {short(t.id): t for t in exposure.things()}
    nodes = {row["NodeId"]: row for row in _rows(published, "ExposureGraphNodes")}
    assert set(nodes) == set(things)
    assert {i: (n["NodeLabel"], n["NodeName"]) for i, n in nodes.items()} == {
        i: (t.kind.value, t.name) for i, t in things.items()
    }
    edges = {row["EdgeId"]: row for row in _rows(published, "ExposureGraphEdges")}
    links = {r.id: r for t in things.values() for r in exposure.links(t.id)}
    assert {i: (e["SourceNodeId"], e["EdgeLabel"], e["TargetNodeId"]) for i, e in edges.items()} == {
        i: (short(r.source), r.link.value, short(r.target)) for i, r in links.items()
    }
    for edge in edges.values():
        target = nodes[edge["TargetNodeId"]]
        assert (edge["TargetNodeName"], edge["TargetNodeLabel"]) == (target["NodeName"], target["NodeLabel"])
        assert edge["TargetNodeCategories"] == target["Categories"]
        assert edge["EdgeProperties"]["stopped"] == links[edge["EdgeId"]].stopped


@pytest.mark.claim("exposure-kql")
def test_a_query_finds_the_agents_that_reach_a_payment_tool_through_a_makers_credential(published: House) -> None:
    found = _rows(published, THROUGH_A_MAKER)
    assert found == [{"Agent": "Payer", "Credential": "binding/payer/bank/pay", "Tool": "pay"}]


@pytest.mark.claim("exposure-kql")
def test_what_is_taken_away_is_gone_from_the_graph(published: House) -> None:
    assert _publish(published) == 0, "nothing has changed"
    manifest = yaml.safe_load(yaml.safe_dump(MORE))
    manifest["agents"][1]["tools"] = []
    manifest["agents"][0]["childAgents"] = []
    _apply(published, manifest)
    published.clock.forward(minutes=1)
    assert _publish(published) > 0
    assert _rows(published, THROUGH_A_MAKER) == []
    assert _rows(published, "ExposureGraphNodes | where NodeLabel == 'childAgent'") == []
    gone = _rows(published, "ExposureGraphEdges | where SourceNodeId == 'agent:payer' and EdgeLabel == 'may call'")
    assert gone == []


def test_an_agent_that_is_blocked_says_so_on_its_edges(published: House) -> None:
    published.client(Role.OWNER).post("/api/agents/payer/block", json={"reason": "stolen"})
    published.clock.forward(minutes=1)
    _publish(published)
    query = "ExposureGraphEdges | where EdgeLabel == 'may call' and SourceNodeId == 'agent:payer'"
    assert [e["EdgeProperties"]["stopped"] for e in _rows(published, query)] == ["agent payer is blocked"]


@pytest.mark.claim("invariant-5")
def test_the_it_role_hunts_in_no_table_and_nothing_of_alerts_is_in_the_graph(published: House) -> None:
    published.attack()
    published.clock.forward(minutes=1)
    _publish(published)
    refused = published.client(Role.IT_ADMIN).post("/api/hunting/run", json={"query": "ExposureGraphNodes"})
    assert refused.status_code == 403
    told = str(_rows(published, "ExposureSnapshots"))
    titles = {a["title"] for a in published.client(Role.SOC_ANALYST).get("/api/alerts").json()["items"]}
    assert titles
    assert not [title for title in titles if title in told]
    assert "203.0.113.7" not in told


def test_an_id_that_is_too_long_to_be_remembered_is_a_hash_of_it() -> None:
    long = "dataSource:https://zava.example/" + "x" * 400
    assert len(short(long)) <= 300
    assert short(long) == short(long) != short(long + "y")
    assert short("agent:a") == "agent:a"
    assert next(subjects(Exposure(Holdings()), ["agent:old"])).is_gone
