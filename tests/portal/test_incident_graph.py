"""The graph of an incident: the attack's way, blocked edges, what a viewer may see, groups, time."""

from __future__ import annotations

from typing import Any

import pytest

from portal.house import House
from watchfloor.model.people import Role


def _graph(house: House, role: Role = Role.SOC_ANALYST, **params: Any) -> dict[str, Any]:
    client = house.client(role)
    incident = max(client.get("/api/incidents").json()["items"], key=lambda i: i["alert_count"])
    answer = client.get(f"/api/incidents/{incident['id']}/graph", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _edges(graph: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(e["source"], e["relation"], e["target"]): e for e in graph["edges"]}


@pytest.mark.claim("incident-graph")
def test_the_thiefs_way_is_marked_from_the_address_to_the_alert(attacked: House) -> None:
    graph = _graph(attacked)
    nodes = {n["id"]: n for n in graph["nodes"]}
    edges = _edges(graph)
    way = [
        ("user:griffin", "called from", "address:203.0.113.7"),
        ("user:griffin", "used", "agent:billing"),
        ("agent:billing", "called", "tool:mail/send_email"),
    ]
    assert all(edges[step]["on_path"] for step in way)
    assert all(nodes[n]["on_path"] for n in ("user:griffin", "address:203.0.113.7", "agent:billing"))
    raised = [e for (source, relation, _), e in edges.items() if relation == "raised" and source.endswith("send_email")]
    assert raised
    assert all(nodes[e["target"]]["kind"] == "alert" for e in raised)
    full = ["address:203.0.113.7", "user:griffin", "agent:billing", "tool:mail/send_email"]
    assert full in [p["nodes"][:4] for p in graph["paths"]]
    assert graph["shown_nodes"] == graph["total_nodes"] == len(nodes)


@pytest.mark.claim("incident-graph")
def test_what_was_stopped_is_an_edge_that_says_so_and_what_was_let_out_is_not(attacked: House) -> None:
    edges = _edges(_graph(attacked))
    mails = edges["agent:billing", "called", "tool:mail/send_email"]
    assert (mails["count"], mails["blocked"], mails["let_out"], mails["is_blocked"]) == (6, 6, 0, True)
    assert mails["first"] < mails["last"]
    lookups = edges["agent:billing", "called", "tool:mail/lookup"]
    assert not lookups["is_blocked"]
    assert lookups["count"] == lookups["blocked"] + lookups["let_out"] == 4
    assert edges["server:mail", "hosts", "tool:mail/send_email"]["count"] == 6
    assert not edges["server:mail", "hosts", "tool:mail/send_email"]["on_path"]


def test_the_agents_node_tells_its_purpose_its_open_cases_and_its_tools(attacked: House) -> None:
    (agent,) = [n["agent"] for n in _graph(attacked)["nodes"] if n["id"] == "agent:billing"]
    listed = attacked.client(Role.SOC_ANALYST).get("/api/alerts", params={"agent": "billing"}).json()["items"]
    assert agent["purpose"] == "Sends reminders."
    assert (agent["open_alerts"], agent["open_incidents"]) == (len(listed), 1)
    tools = {(t["server"], t["name"]): t for t in agent["tools"]}
    assert tools["mail", "send_email"]["involved"]
    assert tools["bank", "pay"] == {
        "server": "bank", "name": "pay", "effect": "pay", "scope": "write", "credential": "app", "involved": False,
    }  # fmt: skip
    assert agent["tool_count"] == 3


def test_the_graph_is_the_same_at_each_request(attacked: House) -> None:
    assert _graph(attacked) == _graph(attacked)


@pytest.mark.claim("invariant-5")
def test_the_it_role_gets_a_graph_of_its_serious_alerts_and_without_events(attacked: House) -> None:
    client = attacked.client(Role.IT_ADMIN)
    (incident,) = client.get("/api/incidents").json()["items"]
    shown = client.get(f"/api/incidents/{incident['id']}").json()
    graph, whole = _graph(attacked, Role.IT_ADMIN), _graph(attacked)
    alerts = {n["entity"] for n in graph["nodes"] if n["kind"] == "alert"}
    assert alerts == {a["id"] for a in shown["alerts"]}
    assert alerts < {n["entity"] for n in whole["nodes"] if n["kind"] == "alert"}
    told = {(e["kind"], e["id"]) for a in shown["alerts"] for e in a["entities"]}
    drawn = {(n["kind"], n["entity"]) for n in graph["nodes"] if not n["is_context"] and n["kind"] != "alert"}
    assert drawn == told
    assert graph["histogram"] == []
    (agent,) = [n["agent"] for n in graph["nodes"] if n["id"] == "agent:billing"]
    assert agent["open_alerts"] == len(shown["alerts"])


def test_the_histogram_counts_each_event_of_the_incident_once(attacked: House) -> None:
    graph = _graph(attacked)
    client = attacked.client(Role.SOC_ANALYST)
    (incident,) = client.get("/api/incidents").json()["items"]
    events = client.get(f"/api/incidents/{incident['id']}").json()["events"]
    assert sum(b["events"] for b in graph["histogram"]) == len(events)
    assert sum(b["blocked"] for b in graph["histogram"]) == sum(e["stopped"] for e in events)
    assert [b["at"] for b in graph["histogram"]] == sorted(b["at"] for b in graph["histogram"])


def test_the_slider_cuts_the_graph_to_a_time(attacked: House) -> None:
    early = _graph(attacked, until="2026-11-03T12:08:30Z")
    late = _graph(attacked, **{"from": "2026-11-03T12:08:30Z"})
    assert "tool:mail/send_email" not in {n["id"] for n in early["nodes"]}
    assert "tool:mail/lookup" not in {n["id"] for n in late["nodes"]}
    called = ("agent:billing", "called", "tool:mail/send_email")
    assert _edges(late)[called]["count"] == 6
    assert early["histogram"] == late["histogram"] == _graph(attacked)["histogram"]
    none = _graph(attacked, until="2020-01-01T00:00:00Z")
    assert (none["nodes"], none["edges"], none["total_nodes"]) == ([], [], 0)


def test_a_time_that_ends_before_it_begins_is_refused_with_its_place(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    (incident,) = client.get("/api/incidents").json()["items"]
    params = {"from": "2026-11-03T13:00:00Z", "until": "2026-11-03T12:00:00Z"}
    answer = client.get(f"/api/incidents/{incident['id']}/graph", params=params)
    assert (answer.status_code, answer.json()["where"]) == (422, "until")


def test_what_does_not_exist_is_not_found(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    (incident,) = client.get("/api/incidents").json()["items"]
    assert client.get("/api/incidents/inc_none/graph").status_code == 404
    unknown = client.get(f"/api/incidents/{incident['id']}/graph/groups/group:user:none")
    assert (unknown.status_code, unknown.json()["where"]) == (404, "group")
    assert _graph(attacked, expand="group:user:none")["opened"] == []


def test_three_hundred_addresses_are_one_node_that_opens(house: House) -> None:
    for n in range(60):
        house.call("mail", "send_email", {"to": ["drop@evil.example"], "subject": str(n)}, address=f"198.51.100.{n}")
    house.work()
    graph = _graph(house)
    (group,) = [n for n in graph["nodes"] if n["is_group"]]
    assert (group["kind"], group["members"], group["label"]) == ("address", 60, "60 addresses")
    assert group["severity"] == "high"
    assert _edges(graph)["user:griffin", "called from", group["id"]]["blocked"] == 60
    assert graph["total_nodes"] == graph["shown_nodes"] + 60
    opened = _graph(house, expand=group["id"])
    assert opened["opened"] == [group["id"]]
    assert sum(n["kind"] == "address" for n in opened["nodes"]) == 60
    client = house.client(Role.SOC_ANALYST)
    (incident,) = client.get("/api/incidents").json()["items"]
    address, after, paged = f"/api/incidents/{incident['id']}/graph/groups/{group['id']}", "0", []
    while after is not None:
        page = client.get(address, params={"after": after, "limit": 25}).json()
        assert all({e["source"], e["target"]} & {n["id"] for n in page["items"]} for e in page["edges"])
        paged += [n["entity"] for n in page["items"]]
        after = page["next"]
    assert sorted(paged) == sorted(f"198.51.100.{n}" for n in range(60))


def test_hostile_names_come_out_as_plain_data(house: House) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202egnp.exe\u0000"
    house.call("mail", "send_email", {"to": ["drop@evil.example"]}, address="<script>\u202e")
    with house.stores.control.tx("test") as tx:
        from dataclasses import replace

        from watchfloor.storage import inventory

        agent = inventory.find_agent(tx, "billing")
        assert agent
        inventory.save_agent(tx, replace(agent, name=hostile, description=hostile))
    house.work()
    graph = _graph(house)
    (agent_node,) = [n for n in graph["nodes"] if n["id"] == "agent:billing"]
    assert agent_node["label"] == agent_node["agent"]["purpose"] == "<img src=x onerror=alert(1)> gnp.exe"
    assert all("\u202e" not in n["label"] for n in graph["nodes"])
