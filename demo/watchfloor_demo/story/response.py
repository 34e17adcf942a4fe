"""Response: sessions are revoked under load, the agent is blocked, the incident is resolved, the books are checked."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from watchfloor_demo.agents.connection import ToolBelt
from watchfloor_demo.agents.signin import SignInRefused, with_browser, with_password
from watchfloor_demo.agents.tokens import TokenRefused, Tokens
from watchfloor_demo.story.hammer import SERVER, TOOL, Hammer
from watchfloor_demo.story.stage import Facts, Stage, eventually, insist

_CALLERS = 4
_BEFORE = 60
_AFTER = 100


async def _strike(stage: Stage, hammer: Hammer, path: str, body: dict[str, Any], addresses: list[str]) -> Facts:
    """Do it while the hammer falls. What was allowed before and after, and how fast it took hold."""
    await hammer.start(addresses)
    try:

        async def warm() -> bool | None:
            doors = {blow.door for blow in hammer.blows if blow.is_allowed}
            return True if len(hammer.blows) >= _BEFORE and doors == {"mcp", "decide"} else None

        await eventually(warm, 15, "calls that are allowed before", every=0.02)
        insist(all(b.is_allowed for b in hammer.blows), "calls failed before anything was revoked",
               codes=sorted({b.code for b in hammer.blows if not b.is_allowed}))  # fmt: skip
        asked = time.monotonic()
        proof = await stage.api().post(path, body)
        acknowledged = time.monotonic()

        async def cooled() -> bool | None:
            later = hammer.since(acknowledged)
            doors = {blow.door for blow in later}
            return True if len(later) >= _AFTER and doors == {"mcp", "decide"} else None

        await eventually(cooled, 15, "calls after the acknowledgement", every=0.02)
    finally:
        await hammer.stop()
    later = hammer.since(acknowledged)
    refused = [blow for blow in hammer.blows if not blow.is_allowed]
    allowed_later = [blow for blow in later if blow.is_allowed]
    # Counted a second time where it counts: at the tool server, by its own clock.
    report = (await stage.http.get(f"{stage.runtime.url(SERVER)}/_calls")).json()
    digests = {blow.digest for blow in later if blow.door == "mcp"}
    arrived = [call for call in report["calls"] if call["digest"] in digests]
    first = min((blow.ended for blow in refused), default=None)
    return {
        "acknowledged_ms": round((acknowledged - asked) * 1000, 1),
        "to_refusal_ms": None if first is None else round((first - asked) * 1000, 1),
        "calls_before": len(hammer.blows) - len(later),
        "calls_after": len(later),
        "allowed_after": len(allowed_later),
        "arrived_after": len(arrived),
        "codes": sorted({blow.code for blow in refused}),
        "epoch": proof.get("epoch"),
        "revision": proof.get("revision"),
    }


async def revoke(stage: Stage) -> Facts:
    """Griffin's sessions are revoked while stolen calls hammer on every door: none that starts later is allowed."""
    assert stage.stolen is not None
    hammer = Hammer(stage.runtime, stage.http, stage.script.agent, stage.stolen)
    body = {"reason": "The session was stolen; the user did not write this.", "incident_id": stage.incident_id}
    facts = await _strike(
        stage, hammer, f"/api/users/{stage.script.victim}/revoke-sessions", body, [stage.script.address] * _CALLERS
    )
    stage.summary |= {
        "revoke_to_refusal_ms": facts["to_refusal_ms"],
        "allowed_after_revoke": facts["allowed_after"] + facts["arrived_after"],
    }
    insist(facts["allowed_after"] == 0, "a call that started after the acknowledgement was allowed", **facts)
    insist(facts["arrived_after"] == 0, "a call that started after the acknowledgement reached the tool", **facts)
    insist((facts["to_refusal_ms"] or 1000) < 1000, "the first refusal came too late", **facts)
    with_stolen = await _token_refusal(stage.runtime, stage, stage.script.agent)
    insist(with_stolen, "the token service still takes the stolen sign-in")
    stage.tell(
        f"Acknowledged in {facts['acknowledged_ms']} ms, first refusal {facts['to_refusal_ms']} ms after the request; "
        f"{facts['calls_before']} calls before, {facts['calls_after']} after, {facts['allowed_after']} of these allowed"
    )
    stage.tell(f"The token service: {with_stolen}")
    return facts | {"token_service": with_stolen}


async def _token_refusal(runtime: Any, stage: Stage, agent_id: str) -> str:
    try:
        await Tokens(runtime, stage.http).get(agent_id, SERVER, stage.stolen)
    except TokenRefused as refused:
        return refused.description
    return ""


async def sign_in_again(stage: Stage) -> Facts:
    """Griffin signs in anew and goes on working; the stolen sign-in stays dead."""
    began = time.monotonic()

    async def works() -> str | None:
        try:
            fresh = await with_browser(stage.runtime, stage.http, stage.script.victim)
            await Tokens(stage.runtime, stage.http).get(stage.script.agent, SERVER, fresh)
        except (TokenRefused, SignInRefused):
            return None
        async with ToolBelt(Tokens(stage.runtime, stage.http), stage.script.agent, fresh) as belt:
            outcome = await belt.call(SERVER, TOOL, {"query": "Contoso", "limit": 1})
        insist(outcome.is_ok, "the new session may not work", code=outcome.code, text=outcome.text)
        return outcome.status

    await eventually(works, 10, "a fresh sign-in that is taken", every=0.25)
    seconds = round(time.monotonic() - began, 2)
    insist(await _token_refusal(stage.runtime, stage, stage.script.agent), "the stolen sign-in works again")
    stage.tell(f"A sign-in made after the revocation is taken ({seconds} s later); the stolen one is not")
    return {"seconds": seconds}


async def block(stage: Stage) -> Facts:
    """The agent is blocked while colleagues use it: refused at every door from the next call on."""
    colleague = await with_password(stage.runtime, stage.http, "mara")
    hammer = Hammer(stage.runtime, stage.http, stage.script.agent, colleague)
    agent = stage.script.agent
    path, body = f"/api/agents/{agent}/block", {"reason": "Under attack; its maker corrects it first."}
    facts = await _strike(stage, hammer, path, body | {"incident_id": stage.incident_id}, [""] * _CALLERS)
    insist(facts["allowed_after"] == 0 and facts["arrived_after"] == 0, "a blocked agent could call a tool", **facts)
    insist((facts["to_refusal_ms"] or 1000) < 1000, "the first refusal came too late", **facts)
    refused = ""
    try:
        await Tokens(stage.runtime, stage.http).get(agent, SERVER, colleague)
    except TokenRefused as error:
        refused = error.description
    insist(refused, "the token service still serves the blocked agent")
    async with ToolBelt(Tokens(stage.runtime, stage.http), "sales-brief", await with_password(
        stage.runtime, stage.http, "hana")) as belt:  # fmt: skip
        other = await belt.call(SERVER, TOOL, {"query": "Contoso", "limit": 1})
    insist(other.is_ok, "another agent was stopped as well", code=other.code)
    stage.tell(
        f"First refusal {facts['to_refusal_ms']} ms after the request; {facts['calls_after']} later calls, "
        f"{facts['allowed_after']} allowed; other agents work on. Token service: {refused}"
    )
    return facts | {"token_service": refused, "other_agents": other.status}


async def resolve(stage: Stage) -> Facts:
    """The incident is resolved with a classification, and leaves the IT admin's list."""
    with contextlib.suppress(KeyError):
        it_admin = stage.operators["it_admin"]
        before = (await it_admin.get("/api/incidents"))["items"]
        insist(any(i["id"] == stage.incident_id for i in before), "the IT admin did not see the open incident")
    detail = await stage.api().request(
        "PATCH",
        f"/api/incidents/{stage.incident_id}",
        json={"status": "resolved", "classification": "truePositive", "comment": "Sessions revoked, agent blocked."},
    )
    insist((detail["status"], detail["classification"]) == ("resolved", "truePositive"), "it is not resolved")
    insist(all(a["status"] == "resolved" for a in detail["alerts"]), "an alert of a resolved incident is open")
    done = sorted({record["action"] for record in detail["records"]})
    insist({"revoke_user_sessions", "block_agent"} <= set(done), "what was done is not on the incident", records=done)
    facts: Facts = {"status": detail["status"], "classification": detail["classification"], "records": done}
    if "it_admin" in stage.operators:
        after = (await stage.operators["it_admin"].get("/api/incidents"))["items"]
        insist(all(i["id"] != stage.incident_id for i in after), "the IT admin still sees the resolved incident")
        facts["it_admin_sees"] = len(after)
    stage.tell(f"Resolved as {detail['classification']}; on its page: {', '.join(done)}")
    return facts


async def audit(stage: Stage) -> Facts:
    """The audit log holds what was done and verifies."""
    entries = (await stage.api().get("/api/audit", limit=1000))["items"]
    subjects = {(e["action"], e["subject"]) for e in entries}
    for subject in (f"user/{stage.script.victim}", f"agent/{stage.script.agent}"):
        insist(any(s == subject for _, s in subjects), f"the audit log does not know what was done to {subject}")
    status, output = await stage.product.command("audit", "verify", "--data", str(stage.product.data), "--json")
    insist(status == 0, "the audit log does not verify", output=output[-2000:])
    report = json.loads(output)
    stage.tell(f"{report['entries']} entries, every link checked, {report['checkpoints']} signed checkpoints")
    return {"entries": report["entries"], "intact": report["intact"], "checkpoints": report["checkpoints"]}


async def shut_down(stage: Stage) -> Facts:
    """Everything stops in order and nothing is left."""
    began = time.monotonic()
    failed = stage.product.tracebacks()
    status = await stage.product.stop()
    seconds = round(time.monotonic() - began, 2)
    left = stage.product.leftovers()
    insist(status == 0, "watchfloor up did not end cleanly", status=status)
    insist(not left, "processes were left behind", pids=left)
    insist(not failed, "an exception is in the logs", logs=failed)
    after, output = await stage.product.command("audit", "verify", "--data", str(stage.product.data), "--json")
    insist(after == 0, "the audit log does not verify after the end", output=output[-2000:])
    stage.tell(
        f"Ended with status {status} in {seconds} s, no process left, "
        f"audit log intact: {json.loads(output)['entries']} entries"
    )
    return {"status": status, "left": len(left), "seconds": seconds}
