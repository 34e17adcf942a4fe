"""Agents at work without anything between them and their tools: the work is real, and so is the harm."""

from __future__ import annotations

import stat

import httpx
import pytest

from watchfloor_demo import company, manifest
from watchfloor_demo.agents.plans import Plan, plans
from watchfloor_demo.agents.signin import with_browser
from watchfloor_demo.attack import attack, script
from watchfloor_demo.headquarters import Headquarters
from watchfloor_demo.runtime import NoCompany, Runtime
from watchfloor_demo.traffic import Pace, Traffic

from .conftest import Unguarded

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEEDS_A_USER_TOKEN = {"triage-mailbox"}
"""Plans that open a mailbox: the mail server shows one to its owner only."""


def traffic(hq: Headquarters, http: httpx.AsyncClient, unguarded: Unguarded) -> Traffic:
    busy = Traffic(hq.runtime, http, rate=10_000)
    busy.tokens = unguarded
    return busy


@pytest.mark.parametrize(
    "plan", [p for p in plans().values() if p.weight and p.id not in NEEDS_A_USER_TOKEN], ids=lambda p: p.id
)
async def test_every_background_plan_can_be_carried_out(
    hq: Headquarters, http: httpx.AsyncClient, unguarded: Unguarded, plan: Plan
) -> None:
    busy = traffic(hq, http, unguarded)
    for choices in [{name: value} for name, values in plan.choices.items() for value in values] or [{}]:
        assert await busy.play(plan, choices), (choices, busy.tally.facts())
    assert busy.tally.calls == busy.tally.succeeded > 0
    outside = [m["to"] for m in hq.sink.messages() if not all(r.endswith(f"@{company.DOMAIN}") for r in m["to"])]
    assert outside == []


async def test_the_same_seed_asks_the_same_things(
    hq: Headquarters, http: httpx.AsyncClient, unguarded: Unguarded
) -> None:
    async def first(seed: int) -> list[str]:
        busy = Traffic(hq.runtime, http, rate=10_000, seed=seed)
        busy.tokens = unguarded
        for _ in range(3):
            await busy.play(busy.draw())
        return sorted(busy.tally.by_agent.elements())

    assert await first(3) == await first(3)


async def test_a_sudden_burst_is_spread_to_the_rate() -> None:
    import time

    pace = Pace(200)
    began = time.monotonic()
    for _ in range(11):
        await pace()
    assert time.monotonic() - began >= 9 / 200


@pytest.mark.parametrize("plan_id", ["market-poisoned", "supplier-poisoned"])
async def test_unguarded_agents_do_what_a_poisoned_page_says(
    hq: Headquarters, http: httpx.AsyncClient, unguarded: Unguarded, plan_id: str
) -> None:
    paid = hq.calls["invoices"].tools["create_payment"]
    await traffic(hq, http, unguarded).play(plans()[plan_id])
    if plan_id == "market-poisoned":
        [message] = hq.sink.messages("insight-research.example")
        assert "Contoso" in message["text"]
    else:
        assert hq.calls["invoices"].tools["create_payment"] == paid + 1


async def test_unguarded_every_attempt_of_the_attack_sends_records_out(
    hq: Headquarters, http: httpx.AsyncClient, unguarded: Unguarded
) -> None:
    stolen = (await with_browser(hq.runtime, http, script().victim)).copy()
    done = await attack(unguarded, stolen, count=len(script().attempts))
    arrived = hq.sink.messages(script().mailbox)
    assert len(done.attempts) == len(arrived) == len(script().attempts)
    assert done.blocked == 0
    assert all("petra.sommer@contoso.example" in message["text"] for message in arrived)
    far_end = {call["digest"] for call in hq.calls["mail"].report()["calls"]}
    assert {attempt.digest for attempt in done.attempts} <= far_end


async def test_the_manifest_names_everything_with_this_starts_ports(hq: Headquarters) -> None:
    body = manifest.build(hq.runtime)
    assert {s["id"]: s["url"] for s in body["toolServers"]} == {
        server: f"http://127.0.0.1:{hq.runtime.ports[server]}/mcp" for server in manifest.SERVERS
    }
    secrets = [s["credential"]["value"] for s in body["toolServers"]] + [a["secret"]["value"] for a in body["agents"]]
    assert len(set(secrets)) == len(secrets) and all(len(s) >= 32 for s in secrets)
    makers = [t for a in body["agents"] for t in a["tools"] if t["credential"] == "maker"]
    assert makers and all(t["makerCredential"]["value"] for t in makers)
    assert manifest.text(hq.runtime) == manifest.text(hq.runtime)


async def test_a_restart_in_the_same_directory_finds_the_same_secrets(hq: Headquarters) -> None:
    path = hq.runtime.directory / "company.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Runtime.open(hq.runtime.directory)
    assert again.secrets == hq.runtime.secrets and again.password("griffin") == hq.runtime.password("griffin")


async def test_an_empty_directory_is_no_company(hq: Headquarters) -> None:
    with pytest.raises(NoCompany, match="holds no company"):
        Runtime.load(hq.runtime.directory / "nowhere")
