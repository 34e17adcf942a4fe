"""Agents and people as hunting sees them: every column, once for each change, whatever dies in between."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from identity.world import World, company
from kql.running import shown
from watchfloor.identity import operators, risk, sessions
from watchfloor.model.agents import AgentState
from watchfloor.model.people import RiskLevel, Role
from watchfloor.registry import inventory as registry
from watchfloor.registry.lifecycle import Verb
from watchfloor.registry.snapshots import agent_guid, publish_inventory
from watchfloor.storage import inventory, people, schema
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.events import DuckDbStore, drain
from watchfloor.storage.hunting import Hunter, Request
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import KeyedBatch
from watchfloor.storage.tables import TABLES
from watchfloor_demo import manifest as zava
from watchfloor_demo.runtime import SERVICES, Runtime

QUERIES = yaml.safe_load((Path(__file__).parents[1] / "kql" / "agents" / "queries.yaml").read_text("utf-8"))
INVENTORY = ("AgentsInfo", "AIAgentsInfo", "IdentityInfo")
Row = dict[str, Any]


@dataclass
class Hunted:
    """A company, its event log and its event store."""

    world: World
    log: SqliteLog
    events: DuckDbStore

    def publish(self) -> int:
        return publish_inventory(self.world.store, self.log, "default", self.world.clock.now())

    def ask(self, kql: str) -> list[Row]:
        """The answer, after everything in the log has reached the store."""
        drain(self.log, self.events)
        answer = shown(Hunter(self.events, KqlCompiler(now=self.world.clock.now)).hunt(Request(kql)))
        return [dict(zip(answer.names, row, strict=True)) for row in answer.rows]

    def rows(self, table: str, key: str, value: str) -> list[Row]:
        """Rows of one thing, oldest first."""
        return self.ask(f'{table} | where {key} == "{value}" | sort by Timestamp asc')

    def agent(self, agent_id: str) -> Row:
        """What is true of an agent now."""
        return self.rows("AgentsInfo", "AgentId", agent_id)[-1]

    def ai_agent(self, agent_id: str) -> Row:
        return self.rows("AIAgentsInfo", "AgentId", agent_id)[-1]

    def counts(self) -> tuple[int, ...]:
        return tuple(self.ask(f"{table} | count")[0]["Count"] for table in INVENTORY)


@pytest.fixture
def hunted(world: World, tmp_path: Path) -> Iterator[Hunted]:
    """An installation with a small company in it."""
    world.apply()
    yield from opened(world, tmp_path)


def opened(world: World, directory: Path) -> Iterator[Hunted]:
    log = SqliteLog(directory / "log.db", min_free_bytes=0, now=world.clock.now)
    events = DuckDbStore(directory / "store.duckdb", directory / "cold", threads=2)
    try:
        yield Hunted(world, log, events)
    finally:
        events.close()
        log.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hunted]:
    """The demo company as its manifest declares it, with what happens in a day: tools listed, somebody at risk."""
    directory: Path = tmp_path_factory.mktemp("zava")
    runtime = Runtime(directory, ports={service: 7720 + offset for service, offset in SERVICES.items()})
    world = World(directory)
    world.apply(yaml.safe_load(zava.text(runtime)), actor="celia")
    with world.store.tx("root") as tx:
        wanda = people.find_user(tx, "wanda")
        assert wanda is not None
        people.save_user(tx, replace(wanda, risk=RiskLevel.HIGH, must_reset_password=True))
        operators.create(tx, "wanda", None, [Role.SOC_ANALYST])
        registry.block(tx, "market-watch", "It mailed strangers.")
        registry.change_state(tx, "legacy-faq", Verb.RETIRE)
    for hunted in opened(world, directory):
        hunted.publish()
        yield hunted
    world.close()


# -- what a row says ----------------------------------------------------------------------------------------------

EMPTY: dict[tuple[str, str], str] = {}
"""Columns that no row of the demo company fills, and why."""


@pytest.mark.parametrize("table", INVENTORY)
def test_every_column_says_something_in_some_row_of_the_demo_company(demo: Hunted, table: str) -> None:
    rows = demo.ask(table)
    nothing = (None, "", "[]", "{}", [], {})
    empty = {c.name for c in TABLES[table].columns if all(row[c.name] in nothing for row in rows)}
    assert empty == {column for name, column in EMPTY if name == table}


@pytest.mark.parametrize("case", QUERIES, ids=lambda case: case["name"])
def test_queries_as_analysts_write_them_run_on_these_tables(demo: Hunted, case: dict[str, Any]) -> None:
    wanted = [name for column in case["columns"] for name in column]
    drain(demo.log, demo.events)
    found = Hunter(demo.events, KqlCompiler(now=demo.world.clock.now)).hunt(Request(case["kql"]))
    assert [name for name, _ in found.columns] == wanted


def test_maker_credentials_are_found_by_the_query_that_looks_for_them(demo: Hunted) -> None:
    rows = demo.ask(QUERIES[0]["kql"])
    assert sorted((row["AIAgentName"], row["Tool"], row["CreatorAccountUpn"]) for row in rows) == [
        ("Churn Scout", "Customers", "dev@zava.example"),
        ("Churn Scout", "Invoices", "dev@zava.example"),
        ("Customer Billing Agent", "Knowledge Base", "ada@zava.example"),
    ]


def test_an_agent_is_told_in_full(demo: Hunted) -> None:
    row = demo.agent("customer-billing")
    assert (row["Name"], row["Platform"], row["PublishedStatus"], row["LifecycleStatus"], row["Availability"]) == (
        "Customer Billing Agent",
        "Copilot Studio",
        "Published",
        "Active",
        "Restricted",
    )
    assert (row["Owners"], row["SharedWith"]) == (["ada"], ["billing", "finance", "griffin"])
    tools = {tool["name"]: tool for tool in row["DeclaredTools"]}
    assert tools["send_email"] == {
        "type": "mcp", "name": "send_email", "server": "mail", "effect": "send", "scope": "write", "credential": "app",
            "pin": "unpinned",
    }  # fmt: skip
    assert tools["write_article"]["credential"] == "maker" and tools["update_customer"]["scope"] == "read"
    assert tools["Exchange rates"]["type"] == "openapi"
    servers = {server["name"]: server for server in row["McpServers"]}
    assert servers["Mail"]["tools"] == ["send_email"] and servers["Mail"]["url"].endswith("/mcp")
    assert "read_article" in servers["Knowledge Base"]["tools"]
    assert row["RawAgentInfo"]["manifest"]["instructions"] == row["Instructions"]
    assert demo.agent("collections-coordinator")["ConnectedAgents"] == [
        {"id": "customer-billing", "name": "Customer Billing Agent"},
        {"id": "letter-writer", "name": "Letter Writer"},
    ]
    assert demo.agent("collections-coordinator")["Availability"] == "Everyone"


def test_tools_have_the_shape_that_queries_unfold(demo: Hunted) -> None:
    row = demo.ai_agent("customer-billing")
    dialogs = {dialog["modelDisplayName"]: dialog for dialog in row["AgentToolsDetails"]}
    knowledge = dialogs["Knowledge Base"]["action"]
    assert knowledge["connectionProperties"] == {"mode": "Maker"}
    assert knowledge["operationDetails"]["$kind"] == "ModelContextProtocolMetadata"
    assert knowledge["operationDetails"]["tools"] == {"kind": "UseAllTools"}
    assert dialogs["Customers"]["action"]["connectionProperties"] == {"mode": "Invoker"}
    assert dialogs["Invoices"]["action"]["operationDetails"]["tools"] == {
        "kind": "UseSpecificTools",
        "tools": ["get_invoice", "list_invoices"],
    }
    mail = dialogs["Send an e-mail (V2)"]
    assert mail["action"]["operationId"] == "SharedMailboxSendEmailV2"
    assert {i["propertyName"]: i["kind"] for i in mail["inputs"]} == {
        "Mailbox": "ManualTaskInput",
        "To": "AutomaticTaskInput",
        "Body": "AutomaticTaskInput",
    }
    (topic,) = row["AgentTopicsDetails"]
    assert [a["$kind"] for a in topic["beginDialog"]["actions"]] == ["HttpRequestAction", "InvokeConnectorAction"]
    assert topic["beginDialog"]["actions"][1]["input"]["binding"]["To"]["literalValue"] == "billing@zava.example"
    sources = [json.loads(text)["source"] for text in json.loads(row["KnowledgeDetails"])]
    assert {"$kind": "SharePointSearchSource", "site": "https://zava.example/sites/billing/handbook"} in sources
    triggers = json.loads(row["AgentActionTriggers"])
    assert {t["type"] for t in triggers} == {"RemoteMCPServer", "OpenApi", "Trigger"}
    raw = json.loads(row["RawAgentInfo"])
    assert json.loads(raw["Bot"]["Attributes"]["configuration"])["settings"] == {"GenerativeActionsEnabled": True}
    assert "instructions: " in raw["BotComponents"][0]["Attributes"]["data"]


def test_states_have_the_words_that_queries_know(demo: Hunted) -> None:
    def words(agent_id: str) -> tuple[str, ...]:
        row, ai_row = demo.agent(agent_id), demo.ai_agent(agent_id)
        return row["PublishedStatus"], row["LifecycleStatus"], ai_row["AgentStatus"], str(ai_row["IsBlocked"])

    assert words("knowledge-answers") == ("Published", "Active", "Published", "False")
    assert words("market-watch") == ("Published", "Blocked", "Published", "True")
    assert words("refund-assistant") == ("Draft", "Active", "Created", "False")
    assert words("legacy-faq") == ("Draft", "Deleted", "Deleted", "False")
    assert demo.agent("refund-assistant")["LastPublishedDateTime"] is None


def test_what_a_manifest_does_not_say_is_null_and_not_an_empty_list(demo: Hunted) -> None:
    row, ai_row = demo.agent("letter-writer"), demo.ai_agent("letter-writer")
    for column in ("SharedWith", "Channels", "Skills", "Memory", "Guardrails", "InstanceCount"):
        assert row[column] is None, column
    assert (ai_row["KnowledgeDetails"], ai_row["AccessControlPolicy"], ai_row["UserAuthenticationType"]) == ("", "", "")
    assert ai_row["IsGenerativeOrchestrationEnabled"] is None and ai_row["AgentTopicsDetails"] is None
    assert ai_row["RegistrySource"] == "A365"


@pytest.mark.parametrize(
    ("shared", "policy", "availability"),
    [
        (["*"], "Any", "Everyone"),
        (["*", "tenants:*"], "Any (multitenant)", "Everyone"),
        (["group:billing", "griffin"], "Group membership", "Restricted"),
        (["griffin"], "Copilot readers", "Restricted"),
    ],
)
def test_whom_an_agent_is_shared_with_decides_who_is_let_in(
    hunted: Hunted, shared: list[str], policy: str, availability: str
) -> None:
    declared = company()
    declared["agents"][0]["sharedWith"] = shared
    hunted.world.apply(declared)
    hunted.publish()
    assert hunted.ai_agent("customer-billing")["AccessControlPolicy"] == policy
    assert hunted.agent("customer-billing")["Availability"] == availability


def test_an_id_that_is_a_guid_stays_and_another_is_always_made_into_the_same() -> None:
    guid = "11111111-2222-4333-8444-555555555555"
    assert agent_guid("default", guid) == guid
    made = agent_guid("default", "customer-billing")
    assert made == agent_guid("default", "customer-billing") != agent_guid("other", "customer-billing")


def test_a_person_is_told_with_roles_groups_and_risk(demo: Hunted) -> None:
    row = demo.rows("IdentityInfo", "AccountObjectId", "wanda")[-1]
    assert (row["AccountUpn"], row["RiskLevel"], row["RiskStatus"], row["MustResetPassword"]) == (
        "wanda@zava.example",
        "high",
        "AtRisk",
        True,
    )
    assert (row["AssignedRoles"], row["GroupMembership"]) == (["soc_analyst"], ["security"])
    assert (row["Department"], row["JobTitle"], row["Manager"], row["CriticalityLevel"]) == (
        "Security",
        "Security Analyst",
        "celia",
        1,
    )


def test_whom_an_operator_called_compromised_is_told_as_such_until_reinstated(hunted: Hunted) -> None:
    def told() -> tuple[str, str, str]:
        hunted.publish()
        row = hunted.rows("IdentityInfo", "AccountObjectId", "griffin")[-1]
        return row["RiskLevel"], row["RiskStatus"], row["RiskLevelDetails"]

    assert told() == ("none", "None", "none")
    with hunted.world.store.tx("wanda") as tx:
        risk.confirm_compromised(tx, "user", "griffin", "A stolen session.")
    assert told() == ("high", "ConfirmedCompromised", "adminConfirmedUserCompromised")
    with hunted.world.store.tx("wanda") as tx:
        sessions.reinstate_user(tx, "griffin", "A new phone.")
    assert told() == ("none", "Remediated", "userPerformedSecuredPasswordChange")


# -- when a row is written ----------------------------------------------------------------------------------------


def test_what_did_not_change_is_published_once_and_again_after_a_day(hunted: Hunted) -> None:
    assert hunted.publish() == 4
    hunted.world.clock.pass_seconds(3600)
    assert hunted.publish() == 0
    assert hunted.counts() == (1, 1, 3)
    hunted.world.clock.pass_seconds(23 * 3600)
    assert hunted.publish() == 4
    assert hunted.counts() == (2, 2, 6)


def test_a_change_is_published_at_once_and_alone(hunted: Hunted) -> None:
    hunted.publish()
    hunted.world.clock.pass_seconds(60)
    with hunted.world.store.tx("root") as tx:
        registry.block(tx, "customer-billing", "It mailed strangers.")
    assert hunted.publish() == 1
    assert [r["LifecycleStatus"] for r in hunted.rows("AgentsInfo", "AgentId", "customer-billing")] == [
        "Active",
        "Blocked",
    ]
    assert hunted.counts() == (2, 2, 3)


def test_a_change_that_is_taken_back_within_the_day_is_seen_to_be(hunted: Hunted) -> None:
    for verb in (registry.block, registry.unblock, registry.block, registry.unblock):
        hunted.publish()
        hunted.world.clock.pass_seconds(60)
        with hunted.world.store.tx("somebody-else") as tx:
            verb(tx, "customer-billing", "A good reason.")
    hunted.publish()
    found = [r["LifecycleStatus"] for r in hunted.rows("AgentsInfo", "AgentId", "customer-billing")]
    assert found == ["Active", "Blocked", "Active", "Blocked", "Active"]


def test_a_tool_that_is_listed_anew_changes_the_agents_that_may_use_it(hunted: Hunted) -> None:
    hunted.publish()
    hunted.world.clock.pass_seconds(60)
    with hunted.world.store.tx("system") as tx:
        inventory.save_tool(tx, inventory.Tool("knowledge", "read_article", tx.now), "tool:find")
    assert hunted.publish() == 1
    names = {tool["name"] for tool in hunted.agent("customer-billing")["DeclaredTools"]}
    assert "read_article" in names and "knowledge" not in names


def test_a_retired_agent_is_shown_as_deleted_once(hunted: Hunted) -> None:
    hunted.publish()
    with hunted.world.store.tx("root") as tx:
        registry.change_state(tx, "customer-billing", Verb.RETIRE)
    hunted.publish()
    hunted.world.clock.pass_seconds(3 * 86_400)
    hunted.publish()
    rows = hunted.rows("AgentsInfo", "AgentId", "customer-billing")
    assert [r["LifecycleStatus"] for r in rows] == ["Active", "Deleted"]
    assert hunted.ai_agent("customer-billing")["AgentStatus"] == "Deleted"


def test_an_agent_that_the_registry_no_longer_holds_gets_a_last_row(hunted: Hunted) -> None:
    hunted.publish()
    hunted.world.clock.pass_seconds(60)
    with hunted.world.store.tx("root") as tx:
        for table in (schema.binding, schema.agent_version):
            tx.connection.execute(table.delete())
        tx.connection.execute(schema.agent.delete())
        tx.connection.execute(schema.user.delete().where(schema.user.c.id == "griffin"))
        tx.audit("test:delete", "everything")
    assert hunted.publish() == 2
    assert hunted.publish() == 0
    assert hunted.agent("customer-billing")["LifecycleStatus"] == "Deleted"
    assert hunted.ai_agent("customer-billing")["AgentStatus"] == "Deleted"
    assert hunted.rows("IdentityInfo", "AccountObjectId", "griffin")[-1]["IsAccountEnabled"] is False


def test_while_nothing_happens_nothing_is_looked_at_and_every_few_minutes_everything(hunted: Hunted) -> None:
    hunted.publish()
    with hunted.world.store.tx("system", audited=False) as tx:  # as no part of the product would
        tx.connection.execute(schema.user.update().where(schema.user.c.id == "griffin").values(name="G. Vale"))
    hunted.world.clock.pass_seconds(60)
    assert hunted.publish() == 0
    hunted.world.clock.pass_seconds(600)
    assert hunted.publish() == 1


def test_publishing_leaves_no_entry_in_the_audit_log(hunted: Hunted) -> None:
    before = len(hunted.world.audit())
    hunted.publish()
    assert len(hunted.world.audit()) == before


# -- whatever dies ------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Dying:
    """A control store and a log, the same ones, in a process that dies at its n-th step.

    A step is the end of a transaction (``is_done``: before or after it took effect) or of an append.
    """

    store: SqlControlStore
    log: SqliteLog
    at: int
    is_done: bool
    steps: int = 0

    def _step(self, is_done: bool) -> None:
        self.steps += 0 if is_done else 1
        if self.steps == self.at and is_done is self.is_done:
            raise Killed

    def tx(self, *arguments: Any, **options: Any) -> Any:
        @contextlib.contextmanager
        def dying() -> Iterator[Any]:
            with self.store.tx(*arguments, **options) as tx:
                yield tx
                self._step(False)
            self._step(True)

        return dying()

    def read(self) -> Any:
        return self.store.read()

    def append_once(self, part: str, batches: Sequence[KeyedBatch]) -> Set[bytes] | int:
        self._step(False)
        found = self.log.append_once(part, batches)
        self._step(True)
        return found


STATES = (AgentState.PUBLISHED, AgentState.BLOCKED)


def put(hunted: Hunted, state: AgentState) -> None:
    with hunted.world.store.tx("root") as tx:
        agent = inventory.find_agent(tx, "customer-billing")
        assert agent is not None
        inventory.save_agent(tx, replace(agent, state=state), "test:put")
        tx.audit("test:put", "agent/customer-billing")


def lifecycle(hunted: Hunted) -> list[str]:
    return [r["LifecycleStatus"] for r in hunted.rows("AgentsInfo", "AgentId", "customer-billing")]


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("then", STATES, ids=["taken back", "unchanged"])
def test_a_death_at_any_step_loses_and_doubles_nothing(
    hunted: Hunted, at: int, is_done: bool, then: AgentState
) -> None:
    hunted.publish()
    hunted.world.clock.pass_seconds(60)
    put(hunted, AgentState.BLOCKED)
    dying = Dying(hunted.world.store, hunted.log, at, is_done)
    with pytest.raises(Killed):
        publish_inventory(dying, dying, "default", hunted.world.clock.now())  # type: ignore[arg-type]  # they walk like it
    hunted.world.clock.pass_seconds(60)
    put(hunted, then)
    for _ in range(3):
        hunted.publish()
        hunted.world.clock.pass_seconds(60)
    was_appended = (at, is_done) not in {(1, False), (1, True), (2, False)}
    if then is AgentState.BLOCKED:
        assert lifecycle(hunted) == ["Active", "Blocked"]
    elif was_appended:
        assert lifecycle(hunted) == ["Active", "Blocked", "Active"]
    else:
        assert set(lifecycle(hunted)) == {"Active"} and len(lifecycle(hunted)) <= 2
    assert hunted.counts()[0] == hunted.counts()[1]


HISTORY = st.lists(st.tuples(st.sampled_from(STATES), st.integers(0, 4), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HISTORY)
@example([(AgentState.BLOCKED, 3, False), (AgentState.PUBLISHED, 2, True), (AgentState.BLOCKED, 0, False)])
def test_after_a_run_that_lived_the_newest_row_is_what_is_true(
    hunted: Hunted, history: list[tuple[AgentState, int, bool]]
) -> None:
    put(hunted, AgentState.PUBLISHED)
    hunted.publish()
    for state, at, is_done in history:
        put(hunted, state)
        dying = Dying(hunted.world.store, hunted.log, at, is_done)
        with contextlib.suppress(Killed):
            publish_inventory(dying, dying, "default", hunted.world.clock.now())  # type: ignore[arg-type]  # as above
        hunted.world.clock.pass_seconds(-5)  # the next host's clock is behind
    hunted.publish()
    expected = "Blocked" if history[-1][0] is AgentState.BLOCKED else "Active"
    assert lifecycle(hunted)[-1] == expected
    assert hunted.publish() == 0


def test_two_servers_at_once_publish_each_row_once(hunted: Hunted) -> None:
    barrier = threading.Barrier(4)
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            barrier.wait(10)
            hunted.publish()
        except BaseException as error:
            failed.append(error)

    servers = [threading.Thread(target=serve) for _ in range(4)]
    for server in servers:
        server.start()
    for server in servers:
        server.join(30)
    assert not failed
    assert hunted.counts() == (1, 1, 3)
    hunted.publish()
    assert hunted.counts() == (1, 1, 3)
    with hunted.world.store.read() as tx:
        hashes = tx.connection.execute(sa.select(schema.inventory_snapshot.c.hash)).scalars().all()
    assert len(hashes) == 4 and not [h for h in hashes if h.startswith("claim:")]
