"""Shadow agents and tool servers: seen once each, however events are cut, and never where the registry knows them."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.stores import Stores, open_stores
from watchfloor.model.agents import AgentState
from watchfloor.model.errors import Conflict, InputError, NotFound, WatchfloorError
from watchfloor.model.facts import Kind
from watchfloor.registry import inventory as registry
from watchfloor.registry import manifest
from watchfloor.registry import sightings as watching
from watchfloor.registry.manifest import ManifestInvalid
from watchfloor.registry.sightings import adopt, dismiss, watch_sightings
from watchfloor.storage import actions, inventory, sightings
from watchfloor.storage.activity import Activity
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.ports import Scope
from watchfloor.storage.sightings import MOST_VALUES, Place, Seen, Sighting, SightingKind, SightingState
from watchfloor.storage.vault import Vault

NOON = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
AGENT, SERVER = SightingKind.AGENT, SightingKind.SERVER
COMPANY: dict[str, Any] = {
    "apiVersion": "watchfloor/v1",
    "kind": "Company",
    "toolServers": [{"id": "mail", "url": "https://mail.zava.example/mcp"}, {"id": "files", "url": "stdio:files"}],
    "agents": [
        {"id": "billing", "name": "Billing Agent"},
        {"id": "hr", "name": "HR", "platformIds": {"observability": "9F0C-hr"}},
    ],
}
GATEWAY = ("http://127.0.0.1:7701", "https://gate.zava.example/")
_numbers = itertools.count(1)


def event(**columns: Any) -> dict[str, Any]:
    """An inference of an agent; ``at`` is seconds after noon."""
    at = NOON + timedelta(seconds=columns.pop("at", 0))
    defaults = {"TenantId": "default", "ReportId": f"evt_{next(_numbers)}", "ActionType": "InferenceCall"}
    return {"Timestamp": at, **defaults, **columns}


def call(**columns: Any) -> dict[str, Any]:
    """A tool call that an agent tells of."""
    return event(ActionType="ExecuteToolBySDK", **columns)


def declare(control: SqlControlStore, vault: Vault, company: Mapping[str, Any]) -> None:
    with control.tx("root") as tx:
        manifest.apply(tx, yaml.safe_dump(dict(company)), vault)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with open_stores(tmp_path) as opened:
        declare(opened.control, Vault.open(tmp_path / "vault.key"), COMPANY)
        yield opened


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.open(tmp_path / "vault.key")


def watch(stores: Stores, *events: Mapping[str, Any]) -> None:
    if events:
        stores.write("AgentActivity", events)
    while watch_sightings(stores.control, stores.activity):
        pass


def found(stores: Stores) -> dict[str, Sighting]:
    with stores.control.read() as tx:
        return {f"{s.kind}/{s.key}": s for s in sightings.list_sightings(tx)}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"AgentId": "rogue"}, "No registered agent has the id 'rogue'"),
        ({"AgentName": "Helper"}, "no registered agent is called 'Helper'"),
        ({"ServerId": "x", "ServerAddress": "x.example:1"}, "has the id 'x' or the address 'x.example:1'"),
        ({"ServerId": "x"}, "its address is not told"),
        ({"ServerAddress": "x.example:1"}, "nor the gateway has the address 'x.example:1'"),
    ],
)
def test_a_sighting_says_why_it_is_one(stores: Stores, columns: dict[str, str], says: str) -> None:
    watch(stores, call(**({"AgentId": "billing"} if "AgentName" not in columns else {}) | columns))
    (seen,) = found(stores).values()
    assert says in watching.reason_of(seen.kind, seen.key, seen.name)


# -- who is seen --------------------------------------------------------------------------------------------------


def test_an_unknown_agent_becomes_a_shadow_with_who_used_it_and_what_it_used(stores: Stores) -> None:
    watch(
        stores,
        event(AgentId="rogue", AgentName="Rogue", UserId="griffin", SourceId="crm", at=60),
        call(AgentId="rogue", AgentName="Rogue", AccountUpn="mona@zava.example", ToolName="pay", SourceId="lab", at=0),
        call(AgentId="rogue", UserId="griffin", ToolName="mail", SourceId="crm", ServerId="mail", at=120),
    )
    (rogue,) = found(stores).values()
    assert (rogue.kind, rogue.key, rogue.name, rogue.state) == (AGENT, "rogue", "Rogue", SightingState.SHADOW)
    assert rogue.users.values == ("griffin", "mona@zava.example")
    assert rogue.tools.values == ("pay", "mail")
    assert rogue.sources.values == ("crm", "lab")
    assert (rogue.events, rogue.first_seen, rogue.last_seen) == (3, NOON, NOON + timedelta(seconds=120))


def test_a_registered_agent_at_work_is_no_sighting(stores: Stores) -> None:
    watch(
        stores,
        event(AgentId="billing", AgentName="Whatever"),
        event(AgentName="Billing Agent"),
        event(AgentId="9F0C-hr"),
        call(AgentId="billing", ServerId="mail", ToolName="send"),
        event(),
    )
    assert found(stores) == {}


def test_an_agent_without_an_id_goes_by_its_name(stores: Stores) -> None:
    watch(stores, event(AgentName="Travel Helper"), event(AgentId="", AgentName="Travel Helper"))
    (helper,) = found(stores).values()
    assert (helper.key, helper.name, helper.events) == ("name:Travel Helper", "Travel Helper", 2)


def test_a_stranger_cannot_hide_behind_a_registered_agents_name(stores: Stores) -> None:
    watch(
        stores,
        event(AgentId="Billing Agent", AgentName="Billing Agent"),
        event(AgentId="name:Billing Agent"),
        event(AgentId=" billing "),
        event(AgentId="BILLING"),
        event(AgentId="billing\u200b"),
    )
    assert set(found(stores)) == {
        "agent/Billing Agent", "agent/id:name:Billing Agent", "agent/ billing ", "agent/BILLING", "agent/billing\ufffd",
    }  # fmt: skip
    assert {s.state for s in found(stores).values()} == {SightingState.SHADOW}


def test_an_unknown_tool_server_goes_by_its_id_or_else_its_address(stores: Stores) -> None:
    watch(
        stores,
        call(
            AgentId="billing", ServerId="exfil", ServerAddress="Evil.example:443", ToolName="upload", UserId="griffin"
        ),
        call(AgentId="billing", ServerAddress="other.example:8080", ToolName="get"),
        event(AgentId="billing", ActionType="McpRequest", ServerAddress="other.example:8080", ToolName="put"),
    )
    assert set(found(stores)) == {"server/exfil", "server/address:other.example:8080"}
    assert found(stores)["server/exfil"].name == "evil.example:443"
    assert found(stores)["server/exfil"].users.values == ("griffin",)
    assert found(stores)["server/address:other.example:8080"].tools.values == ("get", "put")


def test_a_registered_server_under_another_name_and_a_models_address_are_no_tool_servers(stores: Stores) -> None:
    watch(
        stores,
        call(AgentId="billing", ServerId="the-mail", ServerAddress="mail.zava.example:443"),
        call(AgentId="billing", ServerAddress="MAIL.zava.example"),
        call(AgentId="billing", ServerId="files"),
        event(AgentId="billing", ServerAddress="api.model.example:443"),
        event(AgentId="billing", ActionType="ToolCallCompleted", ServerId="unheard-of"),
    )
    assert found(stores) == {}


def test_a_registered_host_on_another_port_is_unknown(stores: Stores) -> None:
    watch(stores, call(AgentId="billing", ServerAddress="mail.zava.example:9999"))
    assert set(found(stores)) == {"server/address:mail.zava.example:9999"}


def test_names_that_are_meant_to_hurt_are_cut_and_cleaned(stores: Stores) -> None:
    watch(stores, call(AgentId="a" * 5000, AgentName="x\x00\n\u202e", ToolName="t" * 5000, UserId="\x1b[31m"))
    (long,) = found(stores).values()
    assert (len(long.key), len(long.tools.values[0])) == (200, 200)
    assert (long.name, long.users.values) == ("x\ufffd\ufffd\ufffd", ("\ufffd[31m",))


def test_lists_are_bounded_and_what_they_leave_out_is_counted(stores: Stores) -> None:
    many = [event(AgentId="rogue", UserId=f"user-{n}") for n in range(MOST_VALUES + 5)]
    watch(stores, *many, event(AgentId="rogue", UserId="user-0"), event(AgentId="rogue", UserId=f"user-{MOST_VALUES}"))
    users = found(stores)["agent/rogue"].users
    assert (users.values, users.more) == (tuple(f"user-{n}" for n in range(MOST_VALUES)), 6)


def test_a_sender_that_makes_up_ids_cannot_fill_the_database(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MOST_SIGHTINGS", 5)
    watch(stores, *[event(AgentId=f"made-up-{n}") for n in range(20)])
    watch(stores, event(AgentId="made-up-0"), event(AgentId="later"), call(ServerId="still-seen"))
    assert set(found(stores)) == {*(f"agent/made-up-{n}" for n in range(5)), "server/still-seen"}
    assert found(stores)["agent/made-up-0"].events == 2


def test_a_find_is_in_the_audit_log_and_seeing_it_again_is_not(stores: Stores) -> None:
    watch(stores, event(AgentId="rogue"), call(AgentId="rogue", ServerId="exfil"))
    watch(stores, event(AgentId="rogue"))
    with stores.control.read() as tx:
        (entry,) = actions.list_audit(tx, action="sighting:find")
    assert entry.detail == {"agents": ["rogue"], "servers": ["exfil"], "count": 2}


# -- once each ----------------------------------------------------------------------------------------------------


def test_watching_again_doubles_nothing(stores: Stores) -> None:
    watch(stores, *[event(AgentId="rogue", UserId=f"u-{n}") for n in range(10)])
    before = found(stores)
    watch(stores)
    watch(stores)
    assert found(stores) == before


def test_after_downtime_everything_is_caught_up_in_slices(stores: Stores) -> None:
    stores.write("AgentActivity", [event(AgentId=f"rogue-{n % 3}") for n in range(1_000)])
    rounds = 1
    while watch_sightings(stores.control, stores.activity, slice_events=100):
        rounds += 1
    assert rounds >= 10
    assert sum(s.events for s in found(stores).values()) == 1_000


def test_of_two_servers_that_take_in_the_same_slice_one_counts(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.write("AgentActivity", [event(AgentId="rogue") for _ in range(10)])
    original = sightings.steps_between

    def slow(*args: Any) -> Any:
        monkeypatch.undo()
        watch_sightings(stores.control, stores.activity)  # the other server, between our reading and our commit
        return original(*args)

    monkeypatch.setattr(sightings, "steps_between", slow)
    watch(stores)
    assert found(stores)["agent/rogue"].events == 10


def test_a_failure_before_the_commit_loses_nothing_and_doubles_nothing(stores: Stores) -> None:
    stores.write("AgentActivity", [event(AgentId="rogue"), call(AgentId="rogue", ServerId="exfil")])
    with stores.control.tx(audited=False) as tx:
        tx.connection.exec_driver_sql(
            "CREATE TRIGGER power_cut BEFORE INSERT ON sighting WHEN NEW.kind = 'server' "
            "BEGIN SELECT RAISE(ABORT, 'power cut'); END"
        )
    with pytest.raises(WatchfloorError):
        watch(stores)
    assert found(stores) == {}
    with stores.control.tx(audited=False) as tx:
        tx.connection.exec_driver_sql("DROP TRIGGER power_cut")
    watch(stores)
    assert {key: s.events for key, s in found(stores).items()} == {"agent/rogue": 2, "server/exfil": 1}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stores, Path]]:
    """One event store for all examples, each in a tenant of its own; and control state to copy."""
    directory = tmp_path_factory.mktemp("shared")
    template = directory / "template.db"
    control = SqlControlStore.open(f"sqlite:///{template}", epoch=None)
    declare(control, Vault.open(directory / "vault.key"), COMPANY)
    control.close()
    with open_stores(directory) as opened:
        yield opened, template


MOST = 4
"""Values that a sighting keeps by name in the examples."""


def in_words(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What must come of ``events``, told one by one, in the plainest way."""
    told: dict[str, dict[str, Any]] = {}
    for e in events:
        keys = []
        agent, name = e.get("AgentId", ""), e.get("AgentName", "")
        if agent not in ("", "billing") or (not agent and name not in ("", "Billing Agent")):
            keys.append(f"agent/{agent or 'name:' + name}")
        if e["ActionType"] == "ExecuteToolBySDK" and e.get("ServerId", "") not in ("", "mail"):
            keys.append(f"server/{e['ServerId']}")
        for key in keys:
            s = told.setdefault(key, {"events": 0, "users": [], "tools": [], "more": 0, "at": []})
            s["events"] += 1
            s["at"].append(e["Timestamp"])
            for column, values in (("UserId", s["users"]), ("ToolName", s["tools"])):
                if e.get(column) and e[column] not in values:
                    if len(values) < MOST:
                        values.append(e[column])
                    else:
                        s["more"] += 1
    return told


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6), batches=st.integers(1, 5)
)
def test_however_events_are_cut_the_sightings_are_the_same(
    shared: tuple[Stores, Path], seed: int, sizes: list[int], batches: int
) -> None:
    stores, template = shared
    draw, tenant = random.Random(seed), f"t-{next(_numbers)}"
    events = []
    for _ in range(draw.randint(1, 60)):
        columns = {
            "AgentId": draw.choice(["", "billing", "rogue", "rogue", "Rogue"]),
            "AgentName": draw.choice(["", "Billing Agent", "Rogue", "Travel"]),
            "UserId": f"user-{draw.randint(0, 9)}",
            "ToolName": draw.choice(["", "pay", "mail"]),
            "ServerId": draw.choice(["", "mail", "exfil"]),
            "at": draw.randint(-500, 500),
        }
        events.append({**draw.choice([event, call])(**columns), "TenantId": tenant})
    path = template.with_name(f"{tenant}.db")
    shutil.copy(template, path)
    control = SqlControlStore.open(f"sqlite:///{path}", epoch=None)
    activity = Activity(stores.events, stores.compiler, Scope(tenants=(tenant,)))
    size = itertools.cycle(sizes)
    with pytest.MonkeyPatch.context() as patch, closing(control):
        patch.setattr(sightings, "MOST_VALUES", MOST)
        for start in range(0, len(events), step := -(-len(events) // batches)):
            stores.write("AgentActivity", events[start : start + step])
            watch_sightings(control, activity, slice_events=next(size))
        while watch_sightings(control, activity, slice_events=next(size)):
            pass
        with control.read() as tx:
            kept = {f"{s.kind}/{s.key}": s for s in sightings.list_sightings(tx)}
    told = in_words(events)
    assert kept.keys() == told.keys()
    for key, s in kept.items():
        wanted = told[key]
        assert (s.events, list(s.users.values), list(s.tools.values)) == (
            wanted["events"], wanted["users"], wanted["tools"],
        )  # fmt: skip
        assert s.users.more + s.tools.more == wanted["more"]
        assert (s.first_seen, s.last_seen) == (min(wanted["at"]), max(wanted["at"]))


# -- what becomes of them -----------------------------------------------------------------------------------------


def test_an_agent_that_is_registered_later_is_adopted_without_anybody_asking(stores: Stores, vault: Vault) -> None:
    watch(stores, event(AgentId="rogue"), event(AgentName="Travel Helper"), event(AgentId="other"))
    agents = [{"id": "rogue", "name": "Rogue"}, {"id": "travel", "name": "Travel Helper"}]
    declare(stores.control, vault, {"apiVersion": "watchfloor/v1", "kind": "Company", "agents": agents})
    watch(stores)
    assert {key: s.state.value for key, s in found(stores).items()} == {
        "agent/rogue": "adopted", "agent/name:Travel Helper": "adopted", "agent/other": "shadow",
    }  # fmt: skip
    with stores.control.read() as tx:
        assert len(actions.list_audit(tx, action="sighting:adopt")) == 2


@pytest.mark.parametrize(
    "address", ["127.0.0.1:7701", "localhost:7701", "[::1]:7701", "gate.zava.example:443", "GATE.zava.example"]
)
def test_the_gateway_itself_is_no_shadow_tool_server(stores: Stores, address: str) -> None:
    stores.write("AgentActivity", [call(AgentId="billing", ServerAddress=address, ToolName="send")])
    watch_sightings(stores.control, stores.activity, own_urls=GATEWAY)
    assert found(stores) == {}


@pytest.mark.parametrize("address", ["127.0.0.1:7702", "127.0.0.1", "gate.zava.example:8443", "gate.zava.example.evil"])
def test_whatever_else_runs_beside_the_gateway_is_seen(stores: Stores, address: str) -> None:
    stores.write("AgentActivity", [call(AgentId="billing", ServerAddress=address, ToolName="send")])
    watch_sightings(stores.control, stores.activity, own_urls=GATEWAY)
    assert set(found(stores)) == {f"server/address:{address}"}


def test_a_server_that_is_registered_later_is_adopted_by_its_address(stores: Stores, vault: Vault) -> None:
    watch(stores, call(ServerAddress="crm.example:443"), call(ServerId="their-crm", ServerAddress="crm.example:443"))
    servers = [{"id": "crm", "url": "https://crm.example/mcp"}]
    declare(stores.control, vault, {"apiVersion": "watchfloor/v1", "kind": "Company", "toolServers": servers})
    watch(stores)
    assert {s.state for s in found(stores).values()} == {SightingState.ADOPTED}


def test_dismissed_stays_dismissed_and_shows_what_is_new(stores: Stores) -> None:
    watch(stores, call(AgentId="lab", UserId="griffin", ToolName="get"))
    with stores.control.tx("soc") as tx:
        dismiss(tx, AGENT, "lab", "a test bench")
    watch(stores, call(AgentId="lab", UserId="griffin", ToolName="pay"), call(AgentId="lab", UserId="mona"))
    lab = found(stores)["agent/lab"]
    assert (lab.state, lab.events, lab.updated_by) == (SightingState.DISMISSED, 3, "soc")
    assert (lab.tools.values[lab.tools.looked_at :], lab.users.values[lab.users.looked_at :]) == (("pay",), ("mona",))
    with stores.control.tx("soc") as tx:
        lab = dismiss(tx, AGENT, "lab", "looked at it again")
    assert lab.tools.looked_at == 2


def test_dismissing_needs_a_reason_and_something_to_dismiss(stores: Stores, vault: Vault) -> None:
    watch(stores, event(AgentId="lab"))
    with pytest.raises(InputError, match="reason"), stores.control.tx("soc") as tx:
        dismiss(tx, AGENT, "lab", "  ")
    with pytest.raises(NotFound), stores.control.tx("soc") as tx:
        dismiss(tx, SERVER, "lab", "because")
    with stores.control.tx("it") as tx:
        adopt(tx, vault, AGENT, "lab")
    with pytest.raises(Conflict), stores.control.tx("soc") as tx:
        dismiss(tx, AGENT, "lab", "because")


def test_an_adopted_agent_is_a_draft_that_no_gateway_lets_call_anything(stores: Stores, vault: Vault) -> None:
    watch(stores, event(AgentId="rogue", AgentName="Rogue: {it's} #1"))
    with stores.control.tx("it") as tx:
        assert adopt(tx, vault, AGENT, "rogue").state is SightingState.ADOPTED
    with stores.control.read() as tx:
        detail = registry.get_agent(tx, "rogue")
    assert (detail.agent.state, detail.agent.name, detail.bindings) == (AgentState.DRAFT, "Rogue: {it's} #1", ())
    _, rows = stores.control.read_projection(0)
    (facts,) = [body for kind, key, body in rows if (kind, key) == (Kind.AGENT, "rogue")]
    assert facts and facts["state"] == "draft"
    watch(stores, event(AgentId="rogue"))
    assert found(stores)["agent/rogue"].events == 1  # the registry knows it now


def test_an_agent_whose_own_id_is_no_id_here_is_adopted_under_another_and_known_by_its_own(
    stores: Stores, vault: Vault
) -> None:
    watch(stores, event(AgentId="asst_Abc\U0001f600"))
    key = "asst_Abc\U0001f600"
    with pytest.raises(InputError, match="cannot be an id"), stores.control.tx("it") as tx:
        adopt(tx, vault, AGENT, key)
    with stores.control.tx("it") as tx:
        adopt(tx, vault, AGENT, key, registry_id="assistant")
        found_agent = inventory.find_agent(tx, "assistant")
    assert found_agent and found_agent.description == f"Seen at work as {key}."
    watch(stores, event(AgentId=key))
    assert (found(stores)[f"agent/{key}"].state, found(stores)[f"agent/{key}"].events) == (SightingState.ADOPTED, 1)


def test_adopting_never_changes_who_is_registered_already(stores: Stores, vault: Vault) -> None:
    watch(stores, event(AgentName="Other"), call(ServerAddress="x.example:1"))
    for kind, key, taken in ((AGENT, "name:Other", "billing"), (SERVER, "address:x.example:1", "mail")):
        with pytest.raises(Conflict), stores.control.tx("it") as tx:
            adopt(tx, vault, kind, key, registry_id=taken, url="https://x.example/mcp")
    with stores.control.read() as tx:
        assert registry.get_agent(tx, "billing").agent.name == "Billing Agent"
        assert registry.get_server(tx, "mail").server.url == "https://mail.zava.example/mcp"
    assert {s.state for s in found(stores).values()} == {SightingState.SHADOW}


def test_an_adopted_server_needs_its_address_and_offers_nothing_yet(stores: Stores, vault: Vault) -> None:
    watch(stores, call(ServerAddress="crm.example:443"))
    key = "address:crm.example:443"
    with pytest.raises(InputError, match="where is it"), stores.control.tx("it") as tx:
        adopt(tx, vault, SERVER, key, registry_id="crm")
    with pytest.raises(ManifestInvalid), stores.control.tx("it") as tx:
        adopt(tx, vault, SERVER, key, registry_id="crm", url="ftp://crm.example")
    with stores.control.tx("it") as tx:
        adopt(tx, vault, SERVER, key, registry_id="crm", url="https://crm.example/mcp")
    with stores.control.read() as tx:
        detail = registry.get_server(tx, "crm")
    assert (detail.tools, detail.bindings, detail.server.is_trusted) == ((), (), False)


# -- lists --------------------------------------------------------------------------------------------------------


def test_pages_of_sightings_hold_each_once_and_in_order(stores: Stores) -> None:
    watch(stores, *[event(AgentId=f"rogue-{n}", at=n // 3) for n in range(10)], call(ServerId="exfil", at=1))
    with stores.control.read() as tx:
        whole = sightings.list_sightings(tx)
        paged, before = list[Sighting](), None
        while some := sightings.list_sightings(tx, before=before, limit=2):
            paged += some
            before = Place(some[-1].first_seen, some[-1].kind.value, some[-1].key)
        assert paged == whole and len(whole) == 11
        assert [s.first_seen for s in whole] == sorted((s.first_seen for s in whole), reverse=True)
        assert [s.key for s in sightings.list_sightings(tx, kind=SERVER)] == ["exfil"]
        assert sightings.list_sightings(tx, state=SightingState.ADOPTED) == []


def test_a_value_is_kept_once_and_an_empty_one_never() -> None:
    seen = Seen().and_also("a", 2).and_also("", 5).and_also("a", 1).and_also("b", 1)
    assert seen == Seen(("a", "b"))
    assert replace(seen, more=3).looked_through() == Seen(("a", "b"), 3, 2)
