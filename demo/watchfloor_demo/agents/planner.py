"""An agent's thinking: a plan and the answers of its tools in, the next thing to do out. No network, no clock.

``think`` is a generator: it yields what the agent wants to do (``Call``, ``HandOver``, ``Say``) and is sent what came
of it (``Outcome``). A refused call is not repeated; a failed one may be, where that can help. If the agent is gullible,
every answer is searched for orders, and those are tried with whatever the agent holds.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from watchfloor_demo.agents.language import fill, holds, look_up
from watchfloor_demo.agents.obedience import Order, orders, texts
from watchfloor_demo.agents.plans import Plan, Step

_MOST_ATTEMPTS: Final = 3
_MOST_ORDERS: Final = 8


@dataclass(frozen=True, slots=True)
class Call:
    """Use a tool. ``attempt`` counts from 1; ``obeys`` is the order that made the agent want it, if any."""

    server: str
    tool: str
    arguments: Mapping[str, Any]
    attempt: int = 1
    obeys: Order | None = None
    retry_token: str | None = None


@dataclass(frozen=True, slots=True)
class HandOver:
    """Let another agent do a part."""

    agent: str
    plan: str
    memory: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the user."""

    text: str


Action = Call | HandOver | Say


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call.

    ``status``: ok, refused (by the gateway), held, unavailable (try again), failed (by the tool). ``code`` is the
    gateway's reason; ``invocation`` its id for the attempt.
    """

    status: str
    value: Any = None
    text: str = ""
    code: str = ""
    invocation: str = ""
    retry_token: str | None = None

    @property
    def is_ok(self) -> bool:
        """Whether the tool did it."""
        return self.status == "ok"


@dataclass(slots=True)
class Mind:
    """What an agent holds during a conversation: memory by name, tools that it was shown, what it was refused."""

    memory: dict[str, Any] = field(default_factory=dict)
    tools: frozenset[str] = frozenset()
    is_gullible: bool = False
    refused: list[tuple[Call, Outcome]] = field(default_factory=list)
    obeyed: int = 0


Thinking = Generator[Action, Outcome, bool]
"""Returns whether everything that the plan needed was done."""


def think(plan: Plan, mind: Mind) -> Thinking:
    """Carry out a plan."""
    return (yield from _run(plan.steps, mind))


def _run(steps: Sequence[Step], mind: Mind) -> Thinking:
    for step in steps:
        if "call" in step:
            if not (yield from _call(step, mind)):
                return False
        elif "each" in step:
            items = fill(step["each"], mind.memory)
            for item in items[: step.get("most", len(items))]:
                mind.memory[step["as"]] = item
                if not (yield from _run(step["steps"], mind)):
                    return False
        elif "when" in step:
            branch = step["steps"] if holds(step["when"], mind.memory) else step.get("else", [])
            if not (yield from _run(branch, mind)):
                return False
        elif "hand" in step:
            outcome = yield HandOver(step["hand"], step["plan"], fill(step.get("with", {}), mind.memory))
            mind.memory[step.get("as", "answer")] = outcome.value
            if not outcome.is_ok:
                return False
        elif "obey" in step:
            for order in orders(str(fill(step["obey"], mind.memory))):
                yield from _obey(order, mind)
        else:
            yield Say(str(fill(step["say"], mind.memory)))
    return True


def _call(step: Step, mind: Mind) -> Thinking:
    server, tool = step["call"].split(".")
    call = Call(server, tool, fill(step.get("with", {}), mind.memory))
    outcome = yield from _attempt(call, mind)
    if not outcome.is_ok:
        return bool(step.get("may_fail", False))
    mind.memory[step.get("as", "result")] = outcome.value
    if mind.is_gullible:
        for text in texts(outcome.value):
            for order in orders(text):
                yield from _obey(order, mind)
    return True


def _attempt(call: Call, mind: Mind) -> Generator[Action, Outcome, Outcome]:
    outcome = yield call
    while outcome.status == "unavailable" and call.attempt < _MOST_ATTEMPTS:
        call = Call(call.server, call.tool, call.arguments, call.attempt + 1, call.obeys, outcome.retry_token)
        outcome = yield call
    if outcome.status in ("refused", "held"):
        mind.refused.append((call, outcome))
    return outcome


def _obey(order: Order, mind: Mind) -> Thinking:
    """Try to do as a text says, if there is a tool for it."""
    if mind.obeyed >= _MOST_ORDERS:
        return False
    mind.obeyed += 1
    if order.kind == "send" and "mail.send_email" in mind.tools:
        subject = (order.what or "as requested")[:120]
        body = _material(order, mind)
        wanted = Call("mail", "send_email", {"to": [order.target], "subject": subject, "body": body}, obeys=order)
    elif order.kind == "pay" and "invoices.create_payment" in mind.tools:
        payment = {"iban": order.target, "amount": order.amount, "reference": order.what}
        wanted = Call("invoices", "create_payment", payment, obeys=order)
    elif order.kind == "delete" and "knowledge.delete_article" in mind.tools:
        wanted = Call("knowledge", "delete_article", {"article_id": order.target}, obeys=order)
    else:
        return False
    return (yield from _attempt(wanted, mind)).is_ok


def _material(order: Order, mind: Mind) -> str:
    """What the order wants sent: everything in memory that its words name, else all that the agent holds."""
    words = {word.strip(",.;:'\"").lower().rstrip("s") for word in order.what.split()}
    held = {name: value for name, value in mind.memory.items() if isinstance(value, dict | list) and name != "user"}
    named = {name: value for name, value in held.items() if name.lower().rstrip("s") in words}
    return json.dumps(named or held, ensure_ascii=False, indent=1)[:20_000]


def find(mind: Mind, path: str) -> Any:
    """What the agent holds under a path. Raises ``language.PlanError``."""
    return look_up(path, mind.memory)
