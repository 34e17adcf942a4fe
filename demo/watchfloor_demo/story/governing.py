"""Governance: who is like that agent, proof that its block holds, and its corrected version on the way back."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from watchfloor_demo import company, manifest
from watchfloor_demo.agents.connection import ToolBelt
from watchfloor_demo.agents.planner import Outcome
from watchfloor_demo.agents.signin import with_password
from watchfloor_demo.agents.tokens import Tokens
from watchfloor_demo.api import Api
from watchfloor_demo.story.hammer import SERVER, TOOL
from watchfloor_demo.story.seeing import operator
from watchfloor_demo.story.stage import Facts, Stage, eventually, insist

TEMPLATE: Final = "agents-mcp-maker-credentials"


async def prove(stage: Stage) -> Facts:
    """The block is proved by itself: every door of every worker was asked, and refused."""
    it_admin, agent = stage.operators["it_admin"], stage.script.agent

    async def proved() -> dict[str, Any] | None:
        items = (await it_admin.get(f"/api/agents/{agent}/proofs"))["items"]
        return items[0] if items else None

    proof, _ = await eventually(proved, 20, "a proof of the block", every=0.2)
    checks = proof["checks"]
    wrong = [check for check in checks if not check["is_refused"]]
    insist(proof["status"] == "proven" and not wrong, "the proof of the block failed", wrong=wrong)
    doors = sorted({check["door"] for check in checks})
    slowest = max(check["after_ms"] for check in checks)
    stage.tell(
        f"{len(checks)} checks at {', '.join(doors)} of {len(proof['workers'])} workers: all refused, "
        f"the last one {slowest:.0f} ms after the block"
    )
    return {"status": proof["status"], "doors": doors, "workers": len(proof["workers"]), "slowest_ms": slowest}


async def _hunt(api: Api, query: str) -> list[dict[str, Any]]:
    found = await api.post("/api/hunting/run", {"query": query})
    names = [column["name"] for column in found["columns"]]
    return [dict(zip(names, row, strict=True)) for row in found["rows"]]


async def hunt(stage: Stage) -> Facts:
    """The analyst hunts: what the agent is, and which others run on their makers' standing credentials."""
    analyst, agent = stage.operators["soc_analyst"], stage.script.agent
    (row,) = await _hunt(
        analyst,
        f"AgentsInfo | where AgentId == '{agent}' | summarize arg_max(Timestamp, *) by AgentId"
        " | project Name, CreatedDateTime, LastUpdatedDateTime, LastUpdatedBy, Triggers, ConnectedAgents,"
        " DeclaredTools",
    )
    writing = [t for t in row["DeclaredTools"] if t.get("scope") == "write" and t.get("effect") not in ("read", None)]
    insist(row["Name"] and row["CreatedDateTime"] and row["DeclaredTools"], "the agent's row is not whole", row=row)
    template = await analyst.get(f"/api/hunting/templates/{TEMPLATE}")
    like = await _hunt(analyst, template["query"])
    ids = sorted(each["AgentId"] for each in like)
    insist(agent in ids, "the prebuilt query does not find the agent", found=ids)
    stage.tell(
        f"{row['Name']}, created {row['CreatedDateTime']}: {len(row['DeclaredTools'])} tools, {len(writing)} of them "
        f"may change or send something. {template['name']}: {', '.join(ids)}"
    )
    return {"tools": len(row["DeclaredTools"]), "writing": len(writing), "maker_credentials": ids}


async def notify(stage: Stage) -> Facts:
    """One click tells each maker whom the hunt found; the mail arrives, and its link acknowledges once."""
    told = await operator(stage, "olga", "soc_operator")
    about = {"template": TEMPLATE, "note": "Please bind these tools to the user's own credentials."}
    preview = await told.post("/api/notices/preview", about)
    opened = await told.post("/api/notices", about)
    insist(len(preview["makers"]) == len(opened["makers"]) >= 2, "not every maker is told", preview=preview)
    maker_id = company.agents()[stage.script.agent].maker
    notices = {each["maker_id"]: each["notice_id"] for each in opened["makers"]}
    insist(maker_id in notices, "the agent's maker is not told", makers=sorted(notices))
    for notice_id in notices.values():
        await told.post(f"/api/notices/{notice_id}/send")
    address = company.people()[maker_id].mail

    async def arrived() -> str | None:
        found = [m for m in stage.company().sink.messages(address) if "/acknowledge?" in m["text"]]
        return found[-1]["text"] if found else None

    text, seconds = await eventually(arrived, 30, f"mail to {address}", every=0.2)
    link = re.search(r"https?://\S+/acknowledge\?token=(\S+)", text)
    assert link is not None
    secret = [
        name for name in ("Bearer", "secret/", stage.runtime.secret(f"agent/{stage.script.agent}")) if name in text
    ]
    insist(not secret, "the mail holds what it must not", found=secret)
    page = await stage.http.get(link[0])
    still = await told.get(f"/api/notices/{notices[maker_id]}")
    insist(page.status_code == 200 and not still["acknowledged_at"], "opening the link changed something")
    form = {"token": link[1]}
    taken = await stage.http.post(link[0].partition("?")[0], data=form)
    again = await stage.http.post(link[0].partition("?")[0], data=form)
    insist(taken.status_code < 400 <= again.status_code, "the link does not work once", first=taken.status_code,
           second=again.status_code)  # fmt: skip
    notice = await told.get(f"/api/notices/{notices[maker_id]}")
    insist(notice["acknowledged_at"], "the acknowledgement is not on the notice", notice=notice)
    stage.tell(
        f"{len(notices)} makers told ({', '.join(sorted(notices))}); {maker_id}'s mail came after {seconds:.1f} s and "
        "was acknowledged by its link, which worked once"
    )
    return {
        "makers": sorted(notices),
        "mail_seconds": round(seconds, 2),
        "acknowledged": bool(notice["acknowledged_at"]),
    }


def corrected(stage: Stage) -> str:
    """The agent as its maker mends it: the knowledge base with the user's own rights, and no mail."""
    (body,) = (a for a in manifest.build(stage.runtime)["agents"] if a["id"] == stage.script.agent)
    del body["secret"]
    body["version"] = "4"
    body["tools"] = [
        {**binding, "credential": "user", "scope": "read"} if binding["server"] == "knowledge" else binding
        for binding in body["tools"]
        if binding["server"] != "mail"
    ]
    for binding in body["tools"]:
        binding.pop("makerCredential", None)
    return yaml.safe_dump({"apiVersion": "watchfloor/v1", "kind": "Company", "agents": [body]}, sort_keys=False)


async def resubmit(stage: Stage) -> Facts:
    """The maker submits a corrected version; somebody else approves it, and the agent works again, with less."""
    agent, it_admin = stage.script.agent, stage.operators["it_admin"]
    maker_id = company.agents()[agent].maker
    maker = await operator(stage, maker_id, "maker")
    text = corrected(stage)
    examined = await maker.post("/api/requests/check", {"manifest": text})
    failed = [check for check in examined["checks"] if check["outcome"] == "failed"]
    insist(not failed, "a check of the corrected version fails", failed=failed)
    note = "It reads with the user's rights, and sends nothing."
    asked = await maker.post("/api/requests", {"manifest": text, "note": note})
    number = asked["number"]
    own = await maker.raw("POST", f"/api/requests/{agent}/{number}/approve", json={"reason": "It is fine."})
    insist(own.status_code == 403, "the maker may approve their own version", status=own.status_code)
    narrower = [d for d in asked["differences"] if d["reach"] == "narrower"]
    insist(narrower, "the version is not narrower", differences=asked["differences"])
    await it_admin.post(f"/api/requests/{agent}/{number}/approve", {"reason": "Narrower than before."})
    state = (await it_admin.get(f"/api/agents/{agent}"))["state"]
    insist(state == "blocked", "an approval revived a blocked agent", state=state)
    await it_admin.post(f"/api/agents/{agent}/unblock", {"reason": "Corrected and approved.", "version": number})
    if (await it_admin.get(f"/api/agents/{agent}"))["risk"] != "none":
        await it_admin.post(f"/api/risk/agent/{agent}/dismiss", {"reason": "Corrected and approved."})
    analyst = stage.operators["soc_analyst"]
    query = (await analyst.get(f"/api/hunting/templates/{TEMPLATE}"))["query"]

    async def gone() -> list[str] | None:
        ids = [each["AgentId"] for each in await _hunt(analyst, query)]
        return ids if agent not in ids else None

    left, seconds = await eventually(gone, 30, "a hunt that no longer finds the agent", every=0.5)
    sign_in = await with_password(stage.runtime, stage.http, "mara")
    async with ToolBelt(Tokens(stage.runtime, stage.http), agent, sign_in) as belt:
        mails = await belt.call("mail", "send_email", {"to": ["mara@zava.example"], "subject": "x", "body": "x"})

        async def read() -> Outcome | None:
            outcome = await belt.call(SERVER, TOOL, {"query": "Contoso", "limit": 1})
            return outcome if outcome.code != "rate_exceeded" else None  # all the calls while it was blocked count

        reads, _ = await eventually(read, 75, "a call within the agent's rate", every=2)
    insist(reads.is_ok, "the corrected agent does not work", code=reads.code, text=reads.text)
    insist(not mails.is_ok, "the corrected agent still sends mail")
    stage.tell(
        f"Version {number}: {len(narrower)} differences are narrower, no check failed; {maker_id} may not approve it, "
        f"the IT admin did. It reads again, sends nothing ({mails.code}); hunts find it no more after {seconds:.1f} s"
    )
    return {
        "number": number, "narrower": len(narrower), "own_approval": own.status_code, "reads": reads.status,
        "mails": mails.code, "still_found": sorted(left),
    }  # fmt: skip
