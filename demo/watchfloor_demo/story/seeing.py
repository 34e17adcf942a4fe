"""Seeing: every attempt is on record, alerts are raised and joined, each role sees what it should, decisions replay."""

from __future__ import annotations

import re
import time
from typing import Any

from watchfloor_demo import company
from watchfloor_demo.agents.connection import source
from watchfloor_demo.api import Api
from watchfloor_demo.running import http_client
from watchfloor_demo.story.stage import Facts, Stage, eventually, insist

_SERIOUS = {"high", "critical"}
Row = dict[str, Any]


async def records(stage: Stage) -> Facts:
    """Each refused attempt has its decision on record: who, from where, why."""
    wanted = {attempt.outcome.invocation for attempt in stage.loot().attempts}
    insist(all(wanted) and len(wanted) == len(stage.loot().attempts), "an attempt was refused without an invocation id")

    async def recorded() -> list[Row] | None:
        rows = await stage.api().get(
            "/api/decisions", agent=stage.script.agent, user=stage.script.victim, verdict="block", limit=200
        )
        found = [row for row in rows["items"] if row["InvocationId"] in wanted]
        return found if {row["InvocationId"] for row in found} == wanted else None

    rows, _ = await eventually(recorded, 10, "a decision on record for each attempt")
    seconds = round(time.monotonic() - stage.attack_ended, 2)
    address = source(stage.script.address) or "127.0.0.1"
    victim = company.people()[stage.script.victim]
    for row in rows:
        seen = (row["UserId"], row.get("AccountUpn"), row["IPAddress"], row["ToolName"], row["ConversationId"])
        expected = (victim.id, victim.mail, address, "send_email", stage.loot().conversation)
        insist(seen == expected, "a record does not say what happened", seen=seen, expected=expected)
    policies, reasons = set(), set()
    for invocation in sorted(wanted):
        decision = (await stage.api().get(f"/api/decisions/{invocation}"))["decision"]
        insist(decision["Verdict"] == "block" and decision["Reasons"], "a record gives no reason", decision=decision)
        reasons |= {reason["code"] for reason in decision["Reasons"]}
        policies |= {reason["policy_id"] for reason in decision["Reasons"] if reason.get("policy_id")}
    stage.tell(f"{len(rows)} decisions on record, {seconds} s after the last attempt: {', '.join(sorted(policies))}")
    return {
        "decisions": len(rows),
        "reasons": sorted(reasons),
        "policies": sorted(policies),
        "seconds": seconds,
        "address": address,
    }


async def alerts(stage: Stage) -> Facts:
    """Alerts: the blocked calls, and the persistent jailbreak attempts."""

    tried = len(stage.loot().attempts)

    async def raised() -> list[Row] | None:
        items = (await stage.api().get("/api/alerts", user=stage.script.victim, agent=stage.script.agent))["items"]
        # Alerts grow while events come in: these are complete once the blocked calls are all counted.
        blocked = any("blocked" in item["title"].lower() and item["count"] == tried for item in items)
        jailbreak = any("persistent jailbreak" in item["title"].lower() for item in items)
        return items if blocked and jailbreak else None

    items, _ = await eventually(raised, 15, f"alerts for {tried} blocked calls and for persistent jailbreak attempts")
    seconds = round(time.monotonic() - stage.attack_ended, 2)
    stage.summary["alerts"] = len(items)
    for item in sorted(items, key=lambda i: i["id"]):
        stage.tell(f"{item['severity']:<8} {item['title']} ({item['tactic']}, {item['count']} events)")
    strangers = [i["id"] for i in items if not {"user", "agent"} <= {e["kind"] for e in i["entities"]}]
    insist(not strangers, "an alert does not name its user and agent", alerts=strangers)
    insist(all(i["evidence"] for i in items), "an alert has no evidence")
    return {
        "alerts": len(items),
        "titles": sorted(i["title"] for i in items),
        "severities": sorted({i["severity"] for i in items}),
        "seconds": seconds,
    }


async def incident(stage: Stage) -> Facts:
    """The alerts are one incident with a title, a severity and a description that are true."""

    tried = len(stage.loot().attempts)

    async def joined() -> list[Row] | None:
        items = (await stage.api().get("/api/incidents", user=stage.script.victim))["items"]
        told = any(re.search(rf"\b{tried} (tool calls|calls|times)\b", item["description"]) for item in items)
        return items if told else None

    items, _ = await eventually(joined, 15, f"an incident that tells of {tried} calls")
    stage.summary |= {"incidents": len(items), "incident_title": items[0]["title"]}
    insist(len(items) == 1, "the alerts are in more than one incident", titles=[i["title"] for i in items])
    detail = await stage.api().get(f"/api/incidents/{items[0]['id']}")
    stage.incident_id = detail["id"]
    stage.summary["incident_title"] = detail["title"]
    stage.tell(f"{detail['severity']}: {detail['title']}")
    stage.tell(detail["description"])
    insist(
        detail["title"] == "Collection incident involving one user",
        "the incident has another title",
        title=detail["title"],
    )
    insist(detail["severity"] == "critical", "the incident is not critical", severity=detail["severity"])
    victim, agent = company.people()[stage.script.victim], company.agents()[stage.script.agent]
    address = source(stage.script.address) or "127.0.0.1"
    told = detail["description"]
    for fact in (victim.mail, agent.name, "send_email", address):
        insist(fact in told, f"the description does not say {fact!r}", description=told)
    insist(all(a["join_reason"] for a in detail["alerts"]), "an alert is in the incident without a reason")
    return {
        "id": detail["id"],
        "title": detail["title"],
        "severity": detail["severity"],
        "alerts": detail["alert_count"],
        "events": len(detail["events"]),
        "recommended_actions": detail["recommended_actions"],
    }


async def operator(stage: Stage, name: str, role: str) -> Api:
    """Somebody who works in a portal in one role: made by the administrator, signed in with a password."""
    password = stage.runtime.secret(f"operator/{name}")
    http = await stage.stack.enter_async_context(http_client())  # a browser of one's own: cookies are not shared
    await stage.api().post("/api/operators", {"id": name, "name": name, "roles": [role], "password": password})
    browser = Api(stage.product.server, "", http)
    answer = await browser.sign_in(name, password)
    insist(answer.status_code == 200, f"{name} cannot sign in", status=answer.status_code, body=answer.text[:300])
    return browser


async def roles(stage: Stage) -> Facts:
    """The analyst sees all; the IT admin only what is unresolved and high or critical."""
    everything = (await stage.api().get("/api/alerts", limit=200))["items"]
    facts: Facts = {"all": len(everything)}
    for name, role in (("sven", "it_admin"), ("wanda", "soc_analyst")):
        stage.operators[role] = await operator(stage, name, role)
    analyst, it_admin = stage.operators["soc_analyst"], stage.operators["it_admin"]
    seen_by_analyst = (await analyst.get("/api/alerts", limit=200))["items"]
    seen_by_it = (await it_admin.get("/api/alerts", limit=200))["items"]
    facts |= {"analyst": len(seen_by_analyst), "it_admin": len(seen_by_it)}
    insist(
        {a["id"] for a in everything} <= {a["id"] for a in seen_by_analyst},
        "the analyst does not see everything",
        **facts,
    )
    wrong = [a for a in seen_by_it if a["severity"] not in _SERIOUS or a["status"] == "resolved"]
    insist(seen_by_it and not wrong, "the IT admin sees what is not meant for IT", wrong=wrong[:3], **facts)
    hidden = [a for a in everything if a["severity"] not in _SERIOUS]
    for alert in hidden:
        answer = await it_admin.raw("GET", f"/api/alerts/{alert['id']}")
        insist(answer.status_code == 404, "the IT admin can open an alert by its id", status=answer.status_code)
    record = stage.loot().attempts[0].outcome.invocation
    refused = await it_admin.raw("GET", f"/api/decisions/{record}/content")
    insist(refused.status_code == 403, "the IT admin can read what was said", status=refused.status_code)
    agents = {a["id"]: a for a in (await it_admin.get("/api/agents"))["items"]}
    counted = agents[stage.script.agent]
    stage.tell(
        f"Analyst: {len(seen_by_analyst)} alerts. IT admin: {len(seen_by_it)}, all unresolved and high or critical; "
        f"{len(hidden)} others are not found even by id. Agent page: {counted['high_alerts']} high, "
        f"{counted['critical_alerts']} critical"
    )
    return facts | {"hidden_from_it": len(hidden), "content_for_it": refused.status_code}


async def replay(stage: Stage) -> Facts:
    """A recorded decision, decided again, is the same; reading what was said leaves an audit entry."""
    invocation = stage.loot().attempts[-1].outcome.invocation
    again = await stage.api().post(f"/api/decisions/{invocation}/replay")
    insist(again["equal"], "the decision replays differently", differences=again["differences"])
    content = await stage.api().get(f"/api/decisions/{invocation}/content")
    insist(stage.loot().attempts[-1].words in str(content), "the record does not hold the user's words")
    entries = (await stage.api().get("/api/audit", action="content:read", limit=20))["items"]
    insist(any(invocation in e["subject"] for e in entries), "reading contents left no audit entry")
    stage.tell(
        f"{invocation}: {again['recorded']['effect']} then, {again['replayed']['effect']} now, "
        "same reasons and input hash"
    )
    return {"invocation": invocation, "equal": again["equal"], "effect": again["replayed"]["effect"]}
