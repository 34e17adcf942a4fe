"""Revocation where agents call through two hosts: PostgreSQL between them, its notifications lost, its connection held,
a clock that is wrong, sessions of the same second, answers that are still streaming.

On the host of the server nothing that starts after the acknowledgement is allowed; on another it is over within a
second; a host that hears nothing refuses when its lease ends. Counted at the callers and at the tool.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import httpx
import psycopg
import pytest

from postgres import throw_away_database
from scenarios.company import AGENT_SECRET, Company, headers, rpc, running
from scenarios.hosts import SecondHost, Wire, second_host

pytestmark = [pytest.mark.slow, pytest.mark.claim("invariant-4")]

LEASE = 1.0
ELSEWHERE = 1.0
"""Seconds after the acknowledgement within which every other host refuses."""
CALLERS = 3
SLACK = 2.0
"""Seconds that a busy machine may take to notice: the last beat, the poll, a call that was about to start."""


@dataclass
class Calls:
    """Calls through one host: start and outcome, by the monotonic clock, and the key that each carried."""

    allowed: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    started: dict[str, float] = field(default_factory=dict)

    def allowed_after(self, moment: float) -> list[float]:
        """How long after ``moment`` those allowed calls started that started after it, in seconds."""
        return [at - moment for at in self.allowed if at > moment]


@asynccontextmanager
async def calling(
    session: aiohttp.ClientSession, urls: Sequence[str], token: str, label: str
) -> AsyncIterator[list[Calls]]:
    """Callers at each of ``urls``, one call after the other, while the block runs."""
    calls = [Calls() for _ in urls]
    stop = asyncio.Event()

    async def caller(host: int, number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            key = f"{label}-{host}-{number}-{count}"
            calls[host].started[key] = started = time.monotonic()
            post = session.post(
                f"{urls[host]}/mcp/mail", json=rpc("lookup", {"key": key}), headers=headers(token, "lookup")
            )
            async with post as response:
                answer = await response.json(content_type=None)
            (calls[host].allowed if "result" in answer else calls[host].refused).append(started)

    callers = [asyncio.create_task(caller(host, n)) for host in range(len(urls)) for n in range(CALLERS)]
    try:
        yield calls
    finally:
        stop.set()
        await asyncio.gather(*callers)


async def until(condition: object, seconds: float = 30.0) -> None:
    """Wait for ``condition()``."""
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def one_connection_a_call() -> aiohttp.ClientSession:
    """So that the kernel spreads calls over the workers of a host."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


async def revoke(company: Company, session: aiohttp.ClientSession, user: str) -> float:
    """End the user's sessions; when that was acknowledged."""
    answer = await session.post(
        f"{company.server}/api/users/{user}/revoke-sessions",
        json={"reason": "race"},
        headers={"authorization": company.client.headers["authorization"]},
    )
    assert answer.status == 200, await answer.text()
    return time.monotonic()


@contextmanager
def company_on(database: str, directory: Path, users: int = 3, *, through: Wire | None = None) -> Iterator[Company]:
    """A company on ``database``, whose workers trust what they know for a second."""
    url = database
    if through is not None:
        address = urlsplit(database)
        user = f"{address.username}@" if address.username else ""
        url = f"{address.scheme}://{user}127.0.0.1:{through.port}{address.path}"
    environment = {
        "WATCHFLOOR_DATABASE_URL": url,
        "WATCHFLOOR_LOG_URL": database,
        "WATCHFLOOR_LEASE_SECONDS": str(LEASE),
    }
    names = (*(f"user-{n}" for n in range(users)), "mona")
    with running(directory, users=names, environment=environment) as company:
        company.api("DELETE", "/api/policies/rate")  # it would stop this agent for calling too often
        yield company


async def races(company: Company, host: SecondHost, users: int) -> list[float]:
    """One race a user; how long after the acknowledgement the other host still allowed a call, each."""
    lasted = []
    reached: dict[str, float] = {}
    acknowledged: dict[str, float] = {}
    async with one_connection_a_call() as session:
        for n in range(users):
            user = f"user-{n}"
            token = await asyncio.to_thread(company.token, user)
            async with calling(session, [company.gateway, host.url], token, user) as (here, there):
                await until(lambda here=here, there=there: min(len(here.allowed), len(there.allowed)) >= 3 * CALLERS)
                assert here.refused == there.refused == []
                at = await revoke(company, session, user)
                await until(
                    lambda here=here, there=there, at=at: all(
                        sum(start > at for start in calls.refused) >= 2 * CALLERS for calls in (here, there)
                    )
                )
            assert here.allowed_after(at) == []
            lasted.append(max(there.allowed_after(at), default=0.0))
            reached |= here.started | there.started
            acknowledged |= dict.fromkeys(here.started, at) | dict.fromkeys(there.started, at + ELSEWHERE)
    # The far end agrees.
    late = [call["key"] for call in company.calls_at_the_tool() if reached[call["key"]] > acknowledged[call["key"]]]
    assert late == []
    return lasted


def report(what: str, lasted: list[float]) -> None:
    """Print how long the other host went on."""
    inner = sorted(lasted)
    print(
        f"\n{what}: {len(inner)} races; calls allowed after the acknowledgement on its host: 0; on the other host for "
        f"median {statistics.median(inner) * 1000:.1f} ms, longest {inner[-1] * 1000:.1f} ms"
    )


@pytest.mark.asvs("8.3.2")
async def test_a_revoke_ends_at_once_here_and_within_a_second_on_another_host(tmp_path: Path) -> None:
    with throw_away_database() as database, company_on(database, tmp_path, 20) as company:
        with second_host(company, database) as host:
            lasted = await races(company, host, 20)
    report("two hosts", lasted)
    assert max(lasted) < ELSEWHERE


async def test_the_same_holds_when_notifications_are_lost(tmp_path: Path) -> None:
    with throw_away_database() as database:
        with psycopg.connect(database, autocommit=True) as connection:
            # Whoever says pg_notify without its schema now says this.
            connection.execute(
                "CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT NULL::void'"
            )
            name = urlsplit(database).path.removeprefix("/")
            connection.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
        with company_on(database, tmp_path, 5) as company, second_host(company, database) as host:
            with psycopg.connect(database, autocommit=True) as ear:
                ear.execute("LISTEN watchfloor_state")
                lasted = await races(company, host, 5)
                assert list(ear.notifies(timeout=0.5)) == []
    report("notifications lost", lasted)
    assert max(lasted) < ELSEWHERE


@pytest.mark.parametrize("clock", ["+120s", "-25s"])
async def test_the_same_holds_on_a_host_whose_clock_is_wrong(tmp_path: Path, clock: str) -> None:
    with throw_away_database() as database, company_on(database, tmp_path, 3) as company:
        with second_host(company, database, clock=clock) as host:
            lasted = await races(company, host, 3)
            rows = company.api("GET", "/api/decisions?limit=200")["items"]
            assert {row["WorkerId"] for row in rows} >= {"second-0", "second-1"}
    report(f"clock {clock}", lasted)
    assert max(lasted) < ELSEWHERE


async def test_a_host_whose_clock_is_two_minutes_behind_takes_no_token_of_what_it_thinks_is_the_future(
    tmp_path: Path,
) -> None:
    with throw_away_database() as database, company_on(database, tmp_path) as company:
        with second_host(company, database, clock="-120s") as host:
            token = company.token("user-0")
            async with one_connection_a_call() as session:
                async with calling(session, [company.gateway, host.url], token, "behind") as (here, there):
                    await until(lambda: len(here.allowed) >= CALLERS and len(there.refused) >= CALLERS)
                    acknowledged = await revoke(company, session, "user-0")
                    await until(lambda: sum(at > acknowledged for at in there.refused) >= 3 * CALLERS)
            assert there.allowed == [] and here.allowed_after(acknowledged) == []
            why = httpx.post(
                f"{host.url}/mcp/mail", json=rpc("lookup", {"key": "why"}), headers=headers(token, "lookup")
            )
            assert "not valid yet" in why.text + why.headers.get("www-authenticate", "")


@pytest.mark.asvs("16.5.3")
async def test_a_host_that_hears_nothing_refuses_when_its_lease_ends_and_knows_all_when_it_hears_again(
    tmp_path: Path,
) -> None:
    with throw_away_database() as database, company_on(database, tmp_path) as company:
        with second_host(company, database) as host:
            tokens = [company.token(f"user-{n}") for n in range(2)]
            async with one_connection_a_call() as session:
                async with calling(session, [company.gateway, host.url], tokens[0], "held") as (here, there):
                    await until(lambda: min(len(here.allowed), len(there.allowed)) >= 3 * CALLERS)
                    held_at = time.monotonic()
                    host.wire.hold()
                    acknowledged = await revoke(company, session, "user-0")
                    await until(lambda: sum(at > held_at + LEASE for at in there.refused) >= 4 * CALLERS)
                # A beat may have come just before; from then on the lease runs.
                assert max(there.allowed) - held_at < LEASE + SLACK
                assert here.allowed_after(acknowledged) == []
                keys = there.started | here.started
                ends = {
                    **dict.fromkeys(there.started, held_at + LEASE + SLACK),
                    **dict.fromkeys(here.started, acknowledged),
                }
                assert [c["key"] for c in company.calls_at_the_tool() if keys[c["key"]] > ends[c["key"]]] == []
                host.wire.release()
                async with calling(session, [host.url], tokens[1], "heard") as (there,):
                    await until(lambda: len(there.allowed) >= 3 * CALLERS)
                async with calling(session, [host.url], tokens[0], "dead") as (there,):
                    await until(lambda: len(there.refused) >= 3 * CALLERS)
                assert there.allowed == []


async def test_where_the_database_stands_still_for_everybody_every_host_refuses_and_no_revoke_is_acknowledged(
    tmp_path: Path,
) -> None:
    with throw_away_database() as database:
        address = urlsplit(database)
        wire = Wire(address.hostname or "127.0.0.1", address.port or 5432)
        with company_on(database, tmp_path, through=wire) as company, second_host(company, database) as host:
            token = company.token("user-0")
            async with one_connection_a_call() as session:
                async with calling(session, [company.gateway, host.url], token, "still") as (here, there):
                    await until(lambda: min(len(here.allowed), len(there.allowed)) >= 3 * CALLERS)
                    held_at = time.monotonic()
                    wire.hold()
                    host.wire.hold()
                    revoking = asyncio.create_task(revoke(company, session, "user-0"))
                    for calls in (here, there):
                        await until(
                            lambda calls=calls: sum(at > held_at + LEASE for at in calls.refused) >= 4 * CALLERS
                        )
                    assert not revoking.done()
                    for calls in (here, there):
                        assert max(calls.allowed) - held_at < LEASE + SLACK
                    wire.release()
                    host.wire.release()
                    try:
                        acknowledged = await revoking
                    except AssertionError:  # it was told that nothing could be done: nothing was acknowledged
                        acknowledged = await revoke(company, session, "user-0")
                    await until(lambda: all(c.refused[-1] > acknowledged + ELSEWHERE for c in (here, there)))
                assert here.allowed_after(acknowledged) == []
                assert max(there.allowed_after(acknowledged), default=0.0) < ELSEWHERE
        wire.close()


async def test_signing_in_again_works_on_both_hosts_but_not_in_the_second_of_the_revoke(tmp_path: Path) -> None:
    with throw_away_database() as database, company_on(database, tmp_path) as company:
        with second_host(company, database) as host:
            async with one_connection_a_call() as session:
                stolen = await asyncio.to_thread(company.token, "user-0")
                await revoke(company, session, "user-0")
                assert exchange(company, company.sign_ins.sign_in("user-0")) == (400, "session_revoked")
                await asyncio.sleep(2.1)
                again = await asyncio.to_thread(company.token, "user-0")
                for token, expected in ((again, True), (stolen, False)):
                    async with calling(session, [company.gateway, host.url], token, f"again-{expected}") as both:
                        await until(lambda both=both: all(len(c.started) > 2 * CALLERS for c in both))
                    assert [bool(c.allowed) for c in both] == [expected, expected]
                    assert [bool(c.refused) for c in both] == [not expected, not expected]


def exchange(company: Company, subject_token: str) -> tuple[int, str]:
    """Ask for a gateway token; status and reason."""
    answer = httpx.post(
        f"{company.server}/sts/token",
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": subject_token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "resource": f"{company.gateway}/mcp/mail",
        },
        auth=("billing", AGENT_SECRET),
    )
    return answer.status_code, answer.json().get("reason", "")


async def test_an_answer_that_is_still_streaming_is_cut_off_on_both_hosts(tmp_path: Path) -> None:
    with throw_away_database() as database, company_on(database, tmp_path) as company:
        with second_host(company, database) as host:
            tokens = [company.token(f"user-{n}") for n in range(2)]
            async with one_connection_a_call() as session:
                streams = [
                    Stream(session, url, token, f"{user}-{n}")
                    for user, token in enumerate(tokens)
                    for n, url in enumerate((company.gateway, host.url))
                ]
                tasks = [asyncio.create_task(stream.read()) for stream in streams]
                await until(lambda: all(len(stream.heard) >= 10 for stream in streams))
                acknowledged = await revoke(company, session, "user-0")
                await asyncio.wait(tasks[:2], timeout=10)
                assert [task.done() for task in tasks] == [True, True, False, False]
                here, there, *others = streams
                assert here.heard[-1] - acknowledged < 0.5
                assert there.heard[-1] - acknowledged < ELSEWHERE
                assert not here.has_result and not there.has_result
                # The other user's go on.
                counts = [len(stream.heard) for stream in others]
                await until(lambda: all(len(s.heard) > n + 10 for s, n in zip(others, counts, strict=True)))
                for task in tasks[2:]:
                    task.cancel()
                print(
                    f"\nlast event after the acknowledgement: {(here.heard[-1] - acknowledged) * 1000:.0f} ms on its "
                    f"host, {(there.heard[-1] - acknowledged) * 1000:.0f} ms on the other"
                )


@dataclass
class Stream:
    """One call of a tool that tells of its progress."""

    session: aiohttp.ClientSession
    url: str
    token: str
    key: str
    heard: list[float] = field(default_factory=list)
    """When each event of the tool's came."""
    has_result: bool = False

    async def read(self) -> None:
        """Until the stream ends."""
        body = rpc("watch", {"key": self.key})
        body["params"]["_meta"]["progressToken"] = self.key
        try:
            async with self.session.post(
                f"{self.url}/mcp/mail", json=body, headers=headers(self.token, "watch")
            ) as response:
                async for line in response.content:
                    if not line.startswith(b"data:"):
                        continue
                    event = json.loads(line.removeprefix(b"data:"))
                    if event.get("method") == "notifications/progress":
                        self.heard.append(time.monotonic())
                    self.has_result |= "result" in event
        except aiohttp.ClientPayloadError:
            pass  # cut in the middle
