"""The graph of an incident of a thousand things, and the blast radius in a company of ten thousand agents.

    python -m bench.graph [--rounds 15] [--json]

The real application over real stores, asked in this process, so a time is everything that the server does for an
answer: sign-in, reading, building, grouping and rendering. Beside each stands what it costs to only read the same
alerts, or the same registry, from the database; and the CPU time, which other work on the machine changes less.
Budgets: the graph within 300 ms p95, a blast radius within 2 s p95.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bench.events import machine, percentile, seconds
from watchfloor.app import settle_memory
from watchfloor.identity import operators
from watchfloor.identity.operators import Operators
from watchfloor.identity.passwords import Passwords
from watchfloor.model.cases import AlertDraft, Entity, EntityKind, EntityRole, Incident, IncidentStatus
from watchfloor.model.people import Permission, Role
from watchfloor.model.verdicts import Severity
from watchfloor.portal.app import build_portal
from watchfloor.portal.deps import PortalDeps
from watchfloor.registry.exposure import read_holdings
from watchfloor.storage import cases, findings, schema
from watchfloor.storage.cases import CaseFilter
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.vault import Vault

AT: Final = datetime(2026, 11, 3, 12, tzinfo=UTC)
ALERTS, EVENTS, USERS, ADDRESSES, TOOLS, SESSIONS = 50, 100, 100, 600, 40, 200
AGENTS, BINDINGS, SERVERS, TOOLS_PER_SERVER = 10_000, 50_000, 200, 20
GRAPH_MS, REACH_MS = 300.0, 2_000.0
URL: Final = "http://127.0.0.1:7700"


@dataclass(frozen=True)
class Result:
    """Milliseconds of one question, and of its floor."""

    name: str
    p50: float
    p95: float
    cpu: float
    floor: float
    budget: float
    size: str

    @property
    def kept(self) -> bool:
        """Whether the budget is kept."""
        return self.p95 <= self.budget


def incident(control: SqlControlStore) -> str:
    """One incident: alerts whose events name a thousand things between them."""
    chance = random.Random(7)
    number = 0
    with control.tx("bench") as tx:
        ids = []
        for n in range(ALERTS):
            events, found = [], {}
            for _ in range(EVENTS):
                user, address = f"user-{number % USERS}", f"2001:db8::{number % ADDRESSES:x}"
                tool, session = f"tool-{chance.randrange(TOOLS)}", f"session-{number % SESSIONS}"
                agent, at = f"agent-{number % 60}", AT + timedelta(seconds=number)
                number += 1
                events.append(
                    {
                        "id": f"evt_{number}", "at": at.isoformat(), "invocation": f"inv_{number}",
                        "action": "ToolCallDecided", "user": f"{user}@zava.example", "user_id": user, "agent": agent,
                        "agent_id": agent, "session": session, "server": "mail", "tool": tool, "verdict": "block",
                        "reason": "policy", "address": address, "stopped": number % 3 > 0, "jailbreak": False,
                    }
                )  # fmt: skip
                for kind, id_ in (
                    (EntityKind.USER, user), (EntityKind.AGENT, agent), (EntityKind.TOOL, f"mail/{tool}"),
                    (EntityKind.SERVER, "mail"), (EntityKind.ADDRESS, address), (EntityKind.SESSION, session),
                ):  # fmt: skip
                    found[kind, id_] = Entity(kind, id_, id_, EntityRole.SUSPECTED)
            first, last = AT + timedelta(seconds=number - EVENTS), AT + timedelta(seconds=number - 1)
            draft = AlertDraft(
                f"rule-{n % 7}", str(n), f"Alert {n}", "", Severity.HIGH, "Collection", (), tuple(found.values()),
                tuple(e["id"] for e in events), first, last, (), {"count": EVENTS, "stopped": 66, "events": events},
            )  # fmt: skip
            ids.append(findings.save_draft(tx, draft).alert.id)
        whole = Incident(
            "inc_bench", "Bench", "", Severity.CRITICAL, IncidentStatus.ACTIVE, tx.now, tx.now, AT,
            AT + timedelta(seconds=number), tuple(ids), (),
        )  # fmt: skip
        findings.save_incident(tx, whole, "user/bench")
        findings.move_alerts(tx, ids, whole.id)
        tx.audit("bench:fill", "incident/inc_bench")
    return whole.id


def company(control: SqlControlStore, agents_there: int = AGENTS, bindings_there: int = BINDINGS) -> None:
    """Agents in a web of hand-overs, each with its share of the bindings."""
    chance = random.Random(11)
    servers = [
        {
            "id": f"server-{n}", "name": f"Server {n}", "description": "", "url": "http://127.0.0.1:9", "state":
            "available", "is_trusted": True, "credential_id": f"server/server-{n}", "timeout_seconds": 30.0,
            "tools_listed_at": None, "tools_list_error": None, "created_at": AT, "updated_at": AT,
        }
        for n in range(SERVERS)
    ]  # fmt: skip
    tools = [
        {
            "server_id": f"server-{n}", "name": f"tool-{t}", "description": "Does something.", "effect":
            ("read", "read", "update", "send", "pay")[t % 5], "pin": "", "observed_hash": "", "pin_state": "pinned",
            "is_blocked": False, "allow_when_stale": False, "definition": {}, "updated_at": AT,
        }
        for n in range(SERVERS)
        for t in range(TOOLS_PER_SERVER)
    ]  # fmt: skip
    agents: list[dict[str, Any]] = []
    bindings: list[dict[str, Any]] = []
    for n in range(agents_there):
        manifest = {
            "instructions": "Answer what you are asked. " * 20,
            "sharedWith": ["*"] if n % 50 == 0 else [f"group:g{n % 40}"],
            "connectedAgents": [f"agent-{chance.randrange(agents_there)}" for _ in range(2)],
            "knowledge": [{"name": "Handbook", "url": f"https://zava.example/{n % 300}"}],
        }
        agents.append(
            {
                "id": f"agent-{n}", "name": f"Agent {n}", "description": "Helps.", "state": "published", "version": "1",
                "epoch": 1, "risk": "none", "maker_id": f"user-{n % 500}", "owner_id": None, "sponsor_id": None,
                "platform": "Copilot Studio", "model": "", "secret_hash": None, "manifest": manifest, "created_at": AT,
                "updated_at": AT, "updated_by": "bench",
            }
        )  # fmt: skip
        for b in range(bindings_there // agents_there):
            is_makers = chance.random() < 0.2
            bindings.append(
                {
                    "agent_id": f"agent-{n}", "server_id": f"server-{(n * 7 + b) % SERVERS}",
                    "tool": f"tool-{chance.randrange(TOOLS_PER_SERVER)}", "scope": "write",
                    "credential_owner": "maker" if is_makers else "app",
                    "credential_id": f"binding/agent-{n}/{b}" if is_makers else None, "created_at": AT,
                }
            )  # fmt: skip
    users = [
        {
            "id": f"user-{n}", "upn": f"user-{n}@zava.example", "name": f"User {n}", "is_enabled": True, "epoch": 1,
            "risk": "none", "must_reset_password": False, "not_before": None, "groups": [f"g{n % 40}"], "issuer": "i",
            "subject": f"user-{n}", "updated_at": AT, "department": "", "job_title": "", "manager": "",
            "criticality": None,
        }
        for n in range(2_000)
    ]  # fmt: skip
    with control.tx("bench") as tx:
        for table, rows in (
            (schema.tool_server, servers), (schema.tool, tools), (schema.agent, agents), (schema.binding, bindings),
            (schema.user, users),
        ):  # fmt: skip
            tx.connection.execute(sa.insert(table), rows)
        tx.audit("bench:fill", "company")


def ask(client: TestClient, path: str, rounds: int) -> tuple[list[float], float, dict[str, Any]]:
    """Milliseconds of each answer, CPU milliseconds of one, and the last answer."""
    client.get(path)
    times: list[float] = []
    body: dict[str, Any] = {}
    cpu = time.process_time()
    for _ in range(rounds):
        start = time.perf_counter()
        answer = client.get(path)
        times.append((time.perf_counter() - start) * 1e3)
        assert answer.status_code == 200, answer.text
        body = answer.json()
    return times, (time.process_time() - cpu) / rounds * 1e3, body


def floor(rounds: int, read: Callable[[], object]) -> float:
    """The median of reading alone, in milliseconds."""
    return percentile([seconds(lambda: read()) * 1e3 for _ in range(rounds)], 0.5)


def measure(folder: Path, rounds: int) -> list[Result]:
    """Everything, once the stores are filled."""
    epoch = EpochFile.create(folder / "epoch")
    control = SqlControlStore.open(f"sqlite:///{folder / 'control.db'}", epoch=epoch)
    events = DuckDbStore(folder / "events.duckdb", folder / "cold", memory_limit="1GB")
    results = []
    try:
        vault = Vault.open(folder / "vault.key")
        deps = PortalDeps(
            control=control, events=events, compiler=KqlCompiler(), vault=vault,
            operators=Operators(control, vault, passwords=Passwords(memory_kib=64)), epoch=epoch.revision,
            public_url=URL, gateway_url="http://127.0.0.1:7701",
        )  # fmt: skip
        app: FastAPI = build_portal(deps)
        with control.tx("bench") as tx:
            operators.create(tx, "ann", None, [Role.SOC_ANALYST])
            token = operators.issue_api_token(tx, "ann", "bench").token
        company(control)
        incident_id = incident(control)
        client = TestClient(app, base_url=URL, headers={"authorization": f"Bearer {token}"})

        settle_memory()  # as the server does before its first answer

        def alerts() -> object:
            with control.read() as tx:
                return cases.list_alerts(tx, {Permission.ALERT_READ}, CaseFilter(incident_id=incident_id), 500)

        def holdings() -> object:
            with control.read() as tx:
                return read_holdings(tx)

        read = floor(rounds, alerts)
        path = f"/api/incidents/{incident_id}/graph"
        group = next(n["id"] for n in client.get(path).json()["nodes"] if n["kind"] == "address" and n["is_group"])
        for name, asked in (
            ("grouped", path),
            ("one group opened", f"{path}?expand={group}"),
            ("nothing grouped", f"{path}?group_above=500"),
        ):  # fmt: skip
            times, cpu, body = ask(client, asked, rounds)
            size = f"{body['total_nodes']} nodes, {len(body['nodes'])} drawn"
            results.append(
                Result(f"graph, {name}", percentile(times, 0.5), percentile(times, 0.95), cpu, read, GRAPH_MS, size)
            )
        read = floor(max(3, rounds // 3), holdings)
        for name, query in (
            ("an agent", "agent=agent-1"), ("a user", "user=user-7"), ("a credential", "credential=server/server-3"),
        ):  # fmt: skip
            times, cpu, body = ask(client, f"/api/blast-radius?{query}", max(3, rounds // 3))
            size = f"{body['total']} things reached"
            results.append(
                Result(
                    f"blast radius, {name}", percentile(times, 0.5), percentile(times, 0.95), cpu, read, REACH_MS, size
                )
            )
    finally:
        events.close()
        control.close()
    return results


def main() -> None:
    """Exit status 1 if a budget is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = measure(Path(name), arguments.rounds)
    if arguments.json:
        print(
            json.dumps(
                {
                    r.name: {"p50": r.p50, "p95": r.p95, "cpu": r.cpu, "floor": r.floor, "budget": r.budget}
                    for r in results
                }
            )
        )
        return
    print(f"{machine()}\n")
    print(f"an incident of {ALERTS} alerts and {ALERTS * EVENTS} events; {AGENTS} agents, {BINDINGS} bindings\n")
    print(f"{'':34}{'p50 ms':>9}{'p95 ms':>9}{'CPU ms':>9}{'reading alone':>15}   budget")
    for r in results:
        verdict = f"<= {r.budget:.0f} ms {'kept' if r.kept else 'NOT kept'}"
        print(f"{r.name:34}{r.p50:9.0f}{r.p95:9.0f}{r.cpu:9.0f}{r.floor:15.0f}   {verdict}   ({r.size})")


if __name__ == "__main__":
    main()
