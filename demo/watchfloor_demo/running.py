"""The company put to work: headquarters open, manifest applied, tools listed, everybody busy and telling of it.

Used by ``run`` (until told to stop) and by the story. Speaks to the product through its API with an administrator's
token, like any set-up script would.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from watchfloor_demo import company, manifest, shadow
from watchfloor_demo.agents.instrument import SILENT, Instrument
from watchfloor_demo.api import Api, ApiError
from watchfloor_demo.attack import script
from watchfloor_demo.runtime import TOOL_SERVERS, Runtime
from watchfloor_demo.telemetry import Exporter
from watchfloor_demo.traffic import Traffic

READY_SECONDS = 60.0
SOURCE_ID = "zava-collector"
_TOKEN = "telemetry/token"


def http_client() -> httpx.AsyncClient:
    """A client for everything on this machine; it ignores proxies."""
    # Connections are dropped well before a server would: none is closed under a request.
    limits = httpx.Limits(max_connections=50, keepalive_expiry=2.0)
    return httpx.AsyncClient(timeout=30.0, trust_env=False, limits=limits)


async def read_token(path: Path, seconds: float) -> str:
    """The administrator's token, once the product has written it. Raises ``TimeoutError``."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(FileNotFoundError):
                token = (await asyncio.to_thread(path.read_text, "utf-8")).strip()
                if token:
                    return token
            await asyncio.sleep(0.1)


async def _retire(api: Api, agent_id: str) -> None:
    """Take an agent out of use, where the product has a way to: it stays a draft otherwise, which nobody may use."""
    detail = await api.get(f"/api/agents/{agent_id}")
    if detail["state"] != "retired" and "retire" in detail["verbs"]:
        with contextlib.suppress(ApiError):
            await api.post(f"/api/agents/{agent_id}/retire", {"reason": "replaced by Ask Zava"})


async def set_up(api: Api, runtime: Runtime) -> dict[str, Any]:
    """Apply the manifest and have every tool list read and pinned. Facts about both. Raises ``ApiError``."""
    applied = await api.apply(manifest.text(runtime))
    listed = {}
    for server in TOOL_SERVERS:
        listed[server] = await api.post(f"/api/servers/{server}/refresh-tools")
    for agent in company.agents().values():
        if agent.state == "retired":
            await _retire(api, agent.id)
    if runtime.receiver:
        await become_source(api, runtime)
    return {"applied": applied, "listed": listed}


async def become_source(api: Api, runtime: Runtime) -> None:
    """Get a token for telemetry, unless the one of an earlier start still counts. Raises ``ApiError``.

    The company has one collector, which sends for every agent that there may be.
    """
    if _TOKEN in runtime.secrets and await _counts(runtime):
        return
    source = {"id": SOURCE_ID, "name": "Zava's telemetry collector", "agents": ["*"]}
    try:
        issued = await api.post("/api/sources", source)
    except ApiError as error:
        if error.status != 409:
            raise
        issued = await api.post(f"/api/sources/{SOURCE_ID}/token")
    runtime.secrets[_TOKEN] = issued["token"]


async def _counts(runtime: Runtime) -> bool:
    headers = {"authorization": f"Bearer {runtime.secrets[_TOKEN]}"}
    try:
        async with http_client() as http:
            answer = await http.post(f"{runtime.receiver}/v1/traces", json={"resourceSpans": []}, headers=headers)
    except httpx.HTTPError:
        return True  # nobody says no
    return answer.status_code != 401


@contextlib.asynccontextmanager
async def instrument_of(runtime: Runtime) -> AsyncIterator[Instrument]:
    """The agents' instrumentation while the block runs: silent, where the product takes no telemetry."""
    if not runtime.receiver or _TOKEN not in runtime.secrets:
        yield SILENT
        return
    # A client of its own: agents must not wait for connections that telemetry holds.
    async with (
        http_client() as http,
        Exporter(http, runtime.receiver, runtime.secrets[_TOKEN], tenant=company.TENANT) as exporter,
    ):
        yield Instrument(exporter.tell)


@contextlib.asynccontextmanager
async def shadow_of(instrument: Instrument) -> AsyncIterator[None]:
    """The agent that nobody knows of, at work while the block runs."""
    task = asyncio.create_task(shadow.work(instrument.tell), name="shadow")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def traffic_of(runtime: Runtime, http: httpx.AsyncClient, rate: float, **options: Any) -> AsyncIterator[Traffic]:
    """Background traffic while the block runs. The victim of the attack stays away from it."""
    traffic = Traffic(runtime, http, rate=rate, without={script().victim}, **options)
    stop = asyncio.Event()
    task = asyncio.create_task(traffic.run(stop), name="traffic")
    try:
        yield traffic
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)


def welcome(runtime: Runtime) -> str:
    """What there is to see and to try."""
    played = script()
    victim = company.people()[played.victim]
    agent = company.agents()[played.agent]
    lines = [
        f"  {company.NAME}, the demo company: {len(company.people())} people, {len(company.agents())} agents, "
        f"{len(TOOL_SERVERS)} tool servers, at work.",
        f"  Identity provider  {runtime.issuer}   (people sign in with their mail address, e.g. {victim.mail})",
        f"  Outgoing mail      {runtime.url('mailbox')}/_messages",
        f"  Tool servers       {', '.join(f'{s} {runtime.ports[s]}' for s in TOOL_SERVERS)}   (GET /_calls)",
        f"  All passwords      {runtime.directory / 'company.json'}",
        "  Try:",
        f"    {sys.executable} -m watchfloor_demo attack --dir {runtime.directory}",
        f"      {victim.name}'s stolen session makes {agent.name} send customer records out; all of it is blocked.",
        f"    {sys.executable} -m watchfloor_demo ask --dir {runtime.directory} market-poisoned",
        "      an agent reads a web page that gives it orders.",
    ]
    return "\n".join(lines) + "\n"
