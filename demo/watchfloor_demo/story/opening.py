"""Opening: the product comes up, the company is registered, its tools are pinned, its people work."""

from __future__ import annotations

import asyncio
import contextlib
import time

from watchfloor_demo import company, manifest
from watchfloor_demo.api import Api
from watchfloor_demo.headquarters import open_headquarters
from watchfloor_demo.running import READY_SECONDS, instrument_of, read_token, set_up, shadow_of, traffic_of
from watchfloor_demo.runtime import TOOL_SERVERS
from watchfloor_demo.story.product import free_port
from watchfloor_demo.story.stage import Facts, Stage, eventually, insist

_FIRST_CALLS = 40


async def start(stage: Stage) -> Facts:
    """Watchfloor starts from nothing."""
    began = time.monotonic()
    stage.stack.push_async_callback(stage.product.stop)
    stage.product.mail_port = stage.runtime.ports["smtp"] = free_port()
    await stage.product.start()
    product = stage.product
    token = await read_token(product.admin_token_file, READY_SECONDS)
    stage.admin = Api(product.server, token, stage.http)
    await stage.admin.wait_until_ready(READY_SECONDS)
    seconds = round(time.monotonic() - began, 2)
    stage.tell(f"Server {product.server}, gateway {product.gateway}, {len(product.pids)} processes, up in {seconds} s")
    return {"server": product.server, "gateway": product.gateway, "processes": len(product.pids), "seconds": seconds}


async def open_company(stage: Stage) -> Facts:
    """Zava opens and is registered; registering it again changes nothing."""
    product, runtime = stage.product, stage.runtime
    runtime.server, runtime.gateway, runtime.receiver = product.server, product.gateway, product.receiver
    stage.hq = await stage.stack.enter_async_context(open_headquarters(stage.runtime))
    done = await set_up(stage.api(), stage.runtime)
    stage.runtime.save()
    stage.instrument = await stage.stack.enter_async_context(instrument_of(runtime))
    again = await stage.api().apply(manifest.text(stage.runtime))
    agents = (await stage.api().get("/api/agents"))["items"]
    users = (await stage.api().get("/api/users"))["items"]
    insist(done["applied"]["changes"], "applying the manifest changed nothing")
    insist(not again["changes"], "applying the manifest a second time changed something", changes=again["changes"][:5])
    insist({a["id"] for a in agents} == set(company.agents()), "not every agent is registered")
    insist({u["id"] for u in users} == set(company.people()), "not everybody is registered")
    states = sorted(a["state"] for a in agents)
    stage.tell(
        f"{len(users)} people, {len(agents)} agents, {len(TOOL_SERVERS)} tool servers; applied twice, changed once"
    )
    return {
        "users": len(users),
        "agents": len(agents),
        "published": states.count("published"),
        "changes": len(done["applied"]["changes"]),
        "changes_when_applied_again": len(again["changes"]),
    }


async def pin_tools(stage: Stage) -> Facts:
    """Every tool is pinned to what its server says, and nobody reaches a tool server around the gateway."""

    async def all_listed() -> list[dict[str, object]] | None:
        servers = (await stage.api().get("/api/servers"))["items"]
        tools = [tool for server in servers for tool in server["tools"]]
        is_done = all(s["tools_listed_at"] for s in servers) and all(t["pin_state"] == "pinned" for t in tools)
        return tools if is_done else None

    tools, seconds = await eventually(all_listed, 20, "every tool list read and pinned")
    expected = {(server, tool) for server, names in manifest.TOOLS.items() for tool in names}
    insist({(t["server_id"], t["name"]) for t in tools} == expected, "the registry's tools are not the servers' tools")
    turned_away = 0
    for server in TOOL_SERVERS:
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answer = await stage.http.post(f"{stage.runtime.url(server)}/mcp", json=call)
        turned_away += answer.status_code == 401
    insist(turned_away == len(TOOL_SERVERS), "a tool server let a caller in without a credential")
    stage.tell(
        f"{len(tools)} tools pinned; {turned_away} of {turned_away} tool servers turn away who comes around the gateway"
    )
    return {"tools": len(tools), "pinned": len(tools), "turned_away": turned_away, "seconds": round(seconds, 2)}


async def work(stage: Stage) -> Facts:
    """People work with their agents; nobody notices Watchfloor."""
    favour = {stage.script.agent: 3}
    opened = contextlib.AsyncExitStack()
    await opened.enter_async_context(shadow_of(stage.instrument))
    stage.traffic = await opened.enter_async_context(
        traffic_of(stage.runtime, stage.http, stage.rate, favour=favour, instrument=stage.instrument)
    )
    stage.stop_traffic = opened.aclose
    stage.stack.push_async_callback(opened.aclose)
    tally = stage.traffic.tally

    async def enough() -> bool | None:
        insist(not tally.failures, "ordinary work fails", **tally.facts())
        return True if tally.succeeded >= _FIRST_CALLS else None

    _, seconds = await eventually(enough, 30, f"{_FIRST_CALLS} successful calls of ordinary work")
    busy = sorted(tally.by_agent)
    stage.tell(f"{tally.succeeded} calls of {len(busy)} agents succeeded, none failed; work goes on")
    return {"calls": tally.calls, "succeeded": tally.succeeded, "agents": busy, "seconds": round(seconds, 2)}


async def end_work(stage: Stage) -> Facts:
    """The people's day ends; not one of their calls was stopped."""
    assert stage.stop_traffic is not None
    await stage.stop_traffic()
    tally = stage.busy().tally
    stage.summary |= {"benign_calls": tally.calls, "benign_succeeded": tally.succeeded}
    insist(
        tally.calls >= _FIRST_CALLS
        and tally.succeeded == tally.calls
        and not {"broken", "sign_in"} & set(tally.failures),
        "ordinary work was disturbed",
        **tally.facts(),
    )
    # Whatever ordinary work sent is all that ever left: the far end agrees to the last message.
    sends = tally.by_tool["mail.send_email"] + stage.other_mails
    await asyncio.sleep(0)
    hq = stage.company()
    far_end = hq.calls["mail"].tools["send_email"]
    insist(
        sends == far_end == hq.sink.total,
        "mail was sent that nobody asked for",
        asked=sends,
        tool=far_end,
        sink=hq.sink.total,
    )
    on_victim_agent = tally.by_agent[stage.script.agent]
    stage.tell(
        f"{tally.succeeded} of {tally.calls} ordinary calls succeeded, {on_victim_agent} on the attacked agent; "
        f"{sends} mails asked for, {far_end} calls at the mail server, {hq.sink.total} delivered"
    )
    return {
        **tally.facts(),
        "on_attacked_agent": on_victim_agent,
        "mails_asked": sends,
        "mails_delivered": hq.sink.total,
    }
