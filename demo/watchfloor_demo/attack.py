"""The attack: somebody with Griffin's stolen session talks to the Customer Billing Agent, again and again.

The thief has a sign-in and an address of their own, nothing else. The agent obeys every attempt, so that what stops the
mail is not its good manners. Counts what was tried and what came of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from watchfloor_demo import company
from watchfloor_demo.agents.instrument import SILENT, Instrument
from watchfloor_demo.agents.planner import Call, Outcome
from watchfloor_demo.agents.plans import plans
from watchfloor_demo.agents.signin import SignIn
from watchfloor_demo.agents.tokens import Tokens
from watchfloor_demo.agents.worker import Conversation, Worker, no_pace
from watchfloor_demo.toolservers.door import digest


@dataclass(frozen=True, slots=True)
class Script:
    """The attack as data: who, through what, from where, in which words."""

    victim: str
    agent: str
    address: str
    mailbox: str
    look_around: tuple[tuple[str, str], ...]
    attempts: tuple[str, ...]


def script() -> Script:
    """The attack of ``data/attack.yaml``."""
    body = company.read("attack.yaml")
    return Script(
        victim=body["victim"],
        agent=body["agent"],
        address=body["address"],
        mailbox=body["mailbox"],
        look_around=tuple((step["plan"], step["words"]) for step in body["look_around"]),
        attempts=tuple(words.format(mailbox=body["mailbox"]) for words in body["attempts"]),
    )


@dataclass(slots=True)
class Attempt:
    """One call that the agent made because it was told to. ``digest`` is of its arguments, as the far end takes it."""

    words: str
    server: str
    tool: str
    outcome: Outcome
    digest: str


@dataclass(slots=True)
class Attack:
    """What was tried."""

    conversation: str
    attempts: list[Attempt] = field(default_factory=list)
    looked: list[Attempt] = field(default_factory=list)

    @property
    def blocked(self) -> int:
        """Attempts that the gateway refused."""
        return sum(a.outcome.status == "refused" for a in self.attempts)

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "conversation": self.conversation,
            "attack_calls": len(self.attempts),
            "attack_blocked": self.blocked,
            "outcomes": dict(Counter(f"{a.outcome.status}:{a.outcome.code}" for a in self.attempts)),
            "looked": [f"{a.server}.{a.tool} {a.outcome.status}" for a in self.looked],
            "invocations": [a.outcome.invocation for a in self.attempts],
        }


async def attack(
    tokens: Tokens,
    stolen: SignIn,
    *,
    count: int,
    pace: Callable[[], Awaitable[None]] = no_pace,
    on_attempt: Callable[[int, Attempt], None] = lambda number, attempt: None,
    instrument: Instrument = SILENT,
) -> Attack:
    """Look around, then make ``count`` attempts, in one conversation."""
    played = script()
    agent = company.agents()[played.agent]
    talk = Conversation(agent, company.people()[played.victim], stolen, address=played.address)
    done = Attack(talk.id)
    now_trying = ""

    def record(agent_id: str, call: Call, outcome: Outcome) -> None:
        entry = Attempt(now_trying, call.server, call.tool, outcome, digest(call.arguments))
        if call.obeys is None:
            done.looked.append(entry)
        else:
            done.attempts.append(entry)
            on_attempt(len(done.attempts), entry)

    async with Worker(tokens, talk, pace=pace, record=record, instrument=instrument) as worker:
        for plan_id, words in played.look_around:
            await worker.serve(plans()[plan_id], words)
        for number in range(count):
            now_trying = played.attempts[number % len(played.attempts)]
            talk.mind.obeyed = 0
            await worker.serve(plans()["chat"], now_trying)
            await asyncio.sleep(0)
    return done
