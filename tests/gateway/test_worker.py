"""Gateway workers as processes: several on one port, an end that loses nothing, a disk that is full."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.world import ISSUER, SERVER, World, eventually, rpc, serving
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import Seq
from watchfloor.storage.rows import is_packed, unpack
from watchfloor.storage.spool import DEFAULT_PART
from watchfloor.storage.tables import TABLES

pytestmark = pytest.mark.slow


class Workers:
    """A world whose gateway runs in processes of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.processes: list[asyncio.subprocess.Process] = []

    async def start(self, *more: str, **environment: str) -> asyncio.subprocess.Process:
        number = len(self.processes)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "watchfloor", "gateway", "--data", str(self.world.data),
            "--port", self.world.url.rpartition(":")[2], "--worker-id", f"gateway-{number + 1}",
            "--server-url", ISSUER.removesuffix("/sts"), *more,
            env=os.environ | {"WATCHFLOOR_LEASE_SECONDS": "60", "WATCHFLOOR_LOG_LEVEL": "warning"} | environment,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.processes.append(process)
        return process

    async def ready(self) -> None:
        """Wait until a worker answers and has state."""

        async def answers() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return (await self.world.client.get("/readyz")).status_code == 200
            return False

        for _ in range(400):
            if await answers():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("no worker became ready")

    def logged(self) -> list[dict[str, Any]]:
        """What has arrived in the event log."""
        log = SqliteLog(self.world.data / "log.db")
        try:
            found = log.read(DEFAULT_PART, Seq(0), 100_000)
            typed = [unpack(TABLES[b.table], [b.batch]) if is_packed(b.batch) else b.batch for b in found]
            return [row for batch in typed for row in batch.to_pylist()]
        finally:
            log.close()


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    world = World(tmp_path)
    made = Workers(world)
    async with serving(world.tools.tap) as world.tool_url:
        with contextlib.closing(__import__("socket").socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            world.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        world.found_company()
        async with httpx.AsyncClient(base_url=world.url, timeout=20) as world.client:
            try:
                yield made
            finally:
                for process in made.processes:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
    world.spool.close()
    world.control.close()


async def test_a_worker_that_is_told_to_end_finishes_its_calls_ships_its_records_and_exits_cleanly(
    workers: Workers,
) -> None:
    world = workers.world
    process = await workers.start()
    await workers.ready()
    assert "result" in await world.call()
    running = asyncio.create_task(world.call("wait", {}))
    await eventually(lambda: len(world.tools.journal) == 2, "arrival at the tool")
    process.send_signal(signal.SIGTERM)

    async def refuses_newcomers() -> bool:
        async with httpx.AsyncClient(base_url=world.url, timeout=5) as newcomer:
            try:
                await newcomer.get("/healthz")
            except httpx.HTTPError:
                return True
        return False

    for _ in range(200):
        if await refuses_newcomers():
            break
        await asyncio.sleep(0.02)
    assert not running.done()
    world.tools.release.set()
    assert "result" in await running
    assert await asyncio.wait_for(process.wait(), 20) == 0
    actions = [(r["ActionType"], r["ToolName"]) for r in workers.logged() if "ActionType" in r]
    assert sorted(actions) == [
        ("ToolCallCompleted", "lookup"),
        ("ToolCallCompleted", "wait"),
        ("ToolCallDecided", "lookup"),
        ("ToolCallDecided", "wait"),
    ]
    assert list((world.data / "spool" / "gateway-1").glob("*.seg")) == []


async def test_a_call_that_does_not_end_is_cut_off_at_the_limit(workers: Workers) -> None:
    world = workers.world
    process = await workers.start(WATCHFLOOR_DRAIN_SECONDS="1")
    await workers.ready()
    running = asyncio.create_task(world.call("wait", {}))
    await eventually(lambda: world.tools.journal, "arrival at the tool")
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    error = (await running)["error"]
    assert error["data"]["code"] == "gateway_stopping" and error["data"]["went_out"] is True
    await asyncio.wait_for(world.tools.cancelled.wait(), 10)
    ended = [r["Status"] for r in workers.logged() if r.get("ActionType") == "ToolCallCompleted"]
    assert ended == ["cancelled"]


async def test_workers_share_a_port_and_an_approval_is_used_once_among_them(workers: Workers) -> None:
    world = workers.world
    await workers.start()
    await workers.start()
    await workers.ready()
    payment = {"amount": 5000.0, "to": "x"}
    hold = (await world.call("pay", payment))["error"]["data"]["hold"]
    world.approve(hold)
    body = rpc("pay", payment, meta={"dev.watchfloor/retry-token": hold["retry_token"]})

    async def once() -> tuple[str, bool]:
        # A connection a call, so that the kernel spreads them.
        async with httpx.AsyncClient(base_url=world.url, timeout=20) as client:
            response = await client.post(f"/mcp/{SERVER}", json=body, headers=world.headers(name="pay"))
            health = await client.get("/healthz")
            return health.json()["worker"], "result" in response.json()

    answers = await asyncio.gather(*(once() for _ in range(30)))
    assert {worker for worker, _ in answers} == {"gateway-1", "gateway-2"}
    assert sum(went_out for _, went_out in answers) == 1
    assert world.tools.journal == [("pay", payment)]


@pytest.mark.claim("hold-once")
async def test_a_death_between_approval_and_use_loses_nothing_and_one_during_the_call_doubles_nothing(
    workers: Workers,
) -> None:
    world = workers.world
    everything = {"title": "Wait", "effect": "hold", "scope": {"tools": ["wait"]}, "when": "true", "message": "Wait."}
    world.policy({"id": "hold-wait", **everything})
    first = await workers.start()
    await workers.ready()
    hold = (await world.call("wait", {}))["error"]["data"]["hold"]
    world.approve(hold)
    meta = {"dev.watchfloor/retry-token": hold["retry_token"]}
    first.kill()
    await first.wait()
    assert world.tools.journal == []

    second = await workers.start()
    await workers.ready()
    running = asyncio.create_task(world.call("wait", {}, meta=meta))
    await eventually(lambda: world.tools.journal, "arrival at the tool")
    second.kill()
    await second.wait()
    with pytest.raises(httpx.HTTPError):
        await running

    await workers.start()
    await workers.ready()
    again = await asyncio.gather(*(world.call("wait", {}, meta=meta) for _ in range(5)))
    assert {a["error"]["data"]["code"] for a in again} == {"hold_used"}
    assert world.tools.journal == [("wait", {})]


@pytest.mark.claim("counts-host")
async def test_a_budget_counts_the_calls_at_all_workers_together(workers: Workers) -> None:
    world = workers.world
    world.policy(
        {"id": "rate", "title": "Rate", "effect": "block", "step": "budget", "when": "counters.calls_last_minute > 40",
         "message": "Too fast."}
    )  # fmt: skip
    await workers.start()
    await workers.start()
    await workers.ready()

    async def once() -> tuple[str, bool]:
        async with httpx.AsyncClient(base_url=world.url, timeout=20) as client:
            response = await client.post(f"/mcp/{SERVER}", json=rpc("lookup", {"key": "k"}), headers=world.headers())
            return (await client.get("/healthz")).json()["worker"], "result" in response.json()

    answers = []
    for _ in range(120):
        answers.append(await once())
        await asyncio.sleep(0.02)
    assert {worker for worker, _ in answers} == {"gateway-1", "gateway-2"}
    # Alone, each worker would have let forty through; what one counts the other knows a little later.
    assert 40 <= len(world.tools.journal) < 75
    assert not answers[-1][1]


async def test_with_a_full_disk_nothing_goes_out_until_there_is_room_again(workers: Workers) -> None:
    world = workers.world
    process = await workers.start()
    await workers.ready()
    assert "result" in await world.call()
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    for _ in range(5):
        answer = await world.call()
        assert answer["error"]["data"]["code"] == "not_recorded", json.dumps(answer)
    assert len(world.tools.journal) == 1
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "result" in await world.call()
    assert len(world.tools.journal) == 2


async def test_a_worker_without_a_key_or_a_port_says_what_is_missing(workers: Workers) -> None:
    process = await workers.start()
    await workers.ready()
    # The name of a worker is taken while it runs.
    workers.processes.clear()
    twin = await workers.start()
    _, stderr = await asyncio.wait_for(twin.communicate(), 30)
    assert twin.returncode == 1 and b"belongs to a worker that is still running" in stderr
    workers.processes.append(process)
    (workers.world.data / "keys" / "vault.key").unlink()
    keyless = await workers.start()
    _, stderr = await asyncio.wait_for(keyless.communicate(), 30)
    assert keyless.returncode == 1 and b"vault.key" in stderr


async def test_a_worker_stays_within_its_memory(workers: Workers) -> None:
    world = workers.world
    process = await workers.start()
    await workers.ready()
    for _ in range(200):
        assert "result" in await world.call()
    status = Path(f"/proc/{process.pid}/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    assert rss < 150, f"{rss:.0f} MiB"
