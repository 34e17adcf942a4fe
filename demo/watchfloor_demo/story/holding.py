"""Holding: calls that wait for a person. One is declined for good, one is approved and goes out exactly once."""

from __future__ import annotations

from typing import Any

from watchfloor_demo import company
from watchfloor_demo.agents.connection import ToolBelt
from watchfloor_demo.agents.planner import Outcome
from watchfloor_demo.agents.signin import with_password
from watchfloor_demo.story.stage import Facts, Held, Stage, eventually, insist
from watchfloor_demo.toolservers.door import digest

_CLERK = "invoice-clerk"
_NEW_PAYEE = {"iban": "AT483200000012345864", "amount": 420.0, "reference": "carpet for the meeting room"}
_WORDS = "Please pay 420 euros to AT483200000012345864 for the carpet; it is a new supplier, I have called them."


async def _arrived(stage: Stage, held: Held) -> int:
    report = (await stage.http.get(f"{stage.runtime.url(held.server)}/_calls")).json()
    return sum(call["digest"] == digest(held.arguments) for call in report["calls"])


async def _find(stage: Stage, invocation: str) -> dict[str, Any]:
    """The hold of an invocation, as operators see it."""

    async def listed() -> dict[str, Any] | None:
        holds = (await stage.api().get("/api/holds", limit=200))["items"]
        return next((hold for hold in holds if hold["invocation_id"] == invocation), None)

    hold, _ = await eventually(listed, 10, f"the hold of {invocation}")
    return hold


async def _call(stage: Stage, held: Held, retry_token: str | None) -> Outcome:
    async with ToolBelt(stage.agent_tokens(), held.agent_id, held.sign_in) as belt:
        meta = {"user-turns": [held.words], "conversation-id": held.conversation, "retry-token": retry_token}
        return await belt.call(held.server, held.tool, held.arguments, meta)


async def hold(stage: Stage) -> Facts:
    """What the web page ordered is declined for good; what a colleague asked for is approved, and paid once."""
    assert stage.held is not None, "nothing was held"
    ordered = stage.held
    found = await _find(stage, ordered.invocation)
    await stage.api().post(f"/api/holds/{found['id']}/decline", {"reason": "Nobody asked for this payment."})
    declined = await _call(stage, ordered, ordered.retry_token)
    insist(not declined.is_ok and await _arrived(stage, ordered) == 0, "a declined call went out", code=declined.code)
    stage.tell(f"The payment that a web page ordered: declined, and refused when tried again ({declined.code})")

    person = company.people()["selin"]
    sign_in = await with_password(stage.runtime, stage.http, person.id)
    asked = Held(_CLERK, sign_in, "invoices", "create_payment", dict(_NEW_PAYEE), _WORDS, "conv-carpet")
    first = await _call(stage, asked, None)
    insist(first.status == "held" and first.retry_token, "a payment to a new account was not held", code=first.code)
    early = await _call(stage, asked, first.retry_token)
    insist(early.status == "held" and await _arrived(stage, asked) == 0, "a held call went out", code=early.code)
    waiting = await _find(stage, first.invocation)
    await stage.api().post(f"/api/holds/{waiting['id']}/approve", {"reason": "Called the supplier."})
    other = Held(
        _CLERK, sign_in, "invoices", "create_payment", {**_NEW_PAYEE, "amount": 42_000.0}, _WORDS, "conv-carpet"
    )
    changed = await _call(stage, other, first.retry_token)
    insist(not changed.is_ok and await _arrived(stage, other) == 0, "an approval let another call out")
    paid = await _call(stage, asked, first.retry_token)
    insist(paid.is_ok, "an approved call was not let out", code=paid.code, text=paid.text)
    again = await _call(stage, asked, first.retry_token)
    arrived = await _arrived(stage, asked)
    insist(not again.is_ok and arrived == 1, "an approved call went out more than once", arrived=arrived)
    stage.tell(
        f"{person.name}'s payment to a new account: held, approved, paid {arrived} time; another sum: {changed.status}"
    )
    return {"declined": declined.code, "held": first.code, "approved": paid.status, "arrived": arrived,
            "changed": changed.code, "again": again.code}  # fmt: skip
