"""Posture in a large company: the scan, the agent list with its risk, filters and the risk tab.

    python -m bench.posture [--agents 10000] [--bindings 50000] [--rounds 7] [--json]

Real stores and the real application in this process: the inventory is written down and taken in as the jobs do it,
then scanned. Beside the scan stands what it costs to only count the newest row of each agent in the same store; beside
each answer, what it costs to only read the agents' risk from the database. Budget: 1 s p95 each. The first scan, which
writes every finding for the first time, is shown without one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fastapi.testclient import TestClient

from bench import graph
from bench.events import machine, percentile, seconds
from watchfloor.app import settle_memory
from watchfloor.detection.posture_scan import scan
from watchfloor.identity import operators
from watchfloor.identity.operators import Operators
from watchfloor.identity.passwords import Passwords
from watchfloor.model.people import Role
from watchfloor.portal.app import build_portal
from watchfloor.portal.deps import PortalDeps
from watchfloor.registry.snapshots import publish_inventory
from watchfloor.storage import posture
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.control import SqlControlStore, utc_now
from watchfloor.storage.drain import drain
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.hunting import Hunter
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import Scope
from watchfloor.storage.vault import Vault

BUDGET_MS: Final = 1_000.0
ASKED: Final = (
    ("agent list", ("/api/agents",)),
    ("agent list, high risk", ("/api/agents?posture=high",)),
    ("findings of one indicator", ("/api/posture/findings?indicator=maker-credentials&level=high",)),
    ("risk tab", ("/api/posture", "/api/posture/indicators", "/api/posture/findings?risk=high", "/api/posture/trend")),
    ("one agent", ("/api/agents/agent-1/posture",)),
)


@dataclass(frozen=True)
class Result:
    """Milliseconds of one thing, of its floor, and what it may take; no budget: only shown."""

    name: str
    p50: float
    p95: float
    floor: float
    budget: float | None = BUDGET_MS

    @property
    def kept(self) -> bool:
        """Whether the budget is kept."""
        return self.budget is None or self.p95 <= self.budget


def timed(name: str, floor: float, rounds: int, run: Callable[[], object]) -> Result:
    """``run``, once to warm up and then ``rounds`` times."""
    run()
    times = [seconds(lambda: run()) * 1e3 for _ in range(rounds)]
    return Result(name, percentile(times, 0.5), percentile(times, 0.95), floor)


def measure(folder: Path, arguments: argparse.Namespace) -> list[Result]:
    """Everything, once the stores are filled."""
    epoch = EpochFile.create(folder / "epoch")
    control = SqlControlStore.open(f"sqlite:///{folder / 'control.db'}", epoch=epoch)
    events = DuckDbStore(folder / "events.duckdb", folder / "cold", memory_limit="1GB")
    log = SqliteLog(folder / "log.db", min_free_bytes=0)
    try:
        graph.company(control, arguments.agents, arguments.bindings)
        publish_inventory(control, log, "default", utc_now())
        drain(log, events)
        hunter, scope = Hunter(events), Scope()
        began = time.perf_counter()
        done = scan(control, hunter, scope, utc_now())
        first = (time.perf_counter() - began) * 1e3
        assert (done.agents, done.opened > 0) == (arguments.agents, True), done

        def newest() -> object:
            return hunter.hunt("CurrentAgents | summarize count()", scope)

        def risks() -> object:
            with control.read() as tx:
                return posture.bands(tx)

        newest()
        floor = percentile([seconds(lambda: newest()) * 1e3 for _ in range(arguments.rounds)], 0.5)
        results = [
            Result(f"first scan, {done.opened} findings", first, first, floor, None),
            timed("scan", floor, arguments.rounds, lambda: scan(control, hunter, scope, utc_now())),
        ]
        vault = Vault.open(folder / "vault.key")
        deps = PortalDeps(
            control=control, events=events, compiler=KqlCompiler(), vault=vault,
            operators=Operators(control, vault, passwords=Passwords(memory_kib=64)), epoch=epoch.revision,
            public_url=graph.URL, gateway_url="http://127.0.0.1:7701",
        )  # fmt: skip
        with control.tx("bench") as tx:
            operators.create(tx, "ann", None, [Role.SOC_ANALYST])
            token = operators.issue_api_token(tx, "ann", "bench").token
        headers = {"authorization": f"Bearer {token}"}
        client = TestClient(build_portal(deps), base_url=graph.URL, headers=headers)
        settle_memory()  # as the server does before its first answer
        floor = percentile([seconds(lambda: risks()) * 1e3 for _ in range(arguments.rounds)], 0.5)
        for name, paths in ASKED:

            def ask(paths: tuple[str, ...] = paths) -> None:
                for path in paths:
                    answer = client.get(path)
                    assert answer.status_code == 200, answer.text

            results.append(timed(name, floor, arguments.rounds, ask))
        return results
    finally:
        log.close()
        events.close()
        control.close()


def main() -> None:
    """Exit status 1 if a budget is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=graph.AGENTS)
    parser.add_argument("--bindings", type=int, default=graph.BINDINGS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = measure(Path(name), arguments)
    if arguments.json:
        print(json.dumps([asdict(result) for result in results]))
    else:
        print(f"{machine()}\n\n{arguments.agents} agents, {arguments.bindings} bindings\n")
        print(f"{'':34}{'p50 ms':>9}{'p95 ms':>9}{'floor':>9}   budget")
        for r in results:
            verdict = f"<= {r.budget:.0f} ms {'kept' if r.kept else 'NOT kept'}" if r.budget else ""
            print(f"{r.name:34}{r.p50:9.0f}{r.p95:9.0f}{r.floor:9.0f}   {verdict}")
    raise SystemExit(not all(r.kept for r in results))


if __name__ == "__main__":
    main()
