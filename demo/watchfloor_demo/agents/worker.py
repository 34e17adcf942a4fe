"""One conversation, played: a person asks, an agent plans, its tools are called through the gateway.

Knows the planner on one side and ``ToolBelt`` on the other. Each tool call waits for its turn at ``pace``, is told the
user's words, and is reported to ``record``; the agent's ``instrument`` is told of every step.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from watchfloor_demo import company
from watchfloor_demo.agents.connection import ToolBelt, user_turns
from watchfloor_demo.agents.instrument import SILENT, Instrument, Run
from watchfloor_demo.agents.planner import Action, Call, HandOver, Mind, Outcome, Say, think
from watchfloor_demo.agents.plans import Plan, plans
from watchfloor_demo.agents.signin import SignIn
from watchfloor_demo.agents.tokens import Tokens

_RETRY_SECONDS: Final = 0.2

Recorder = Callable[[str, Call, Outcome], None]
"""Told of every tool call: agent, call, outcome."""


async def no_pace() -> None:
    """As fast as it goes."""
    await asyncio.sleep(0)


def no_record(agent_id: str, call: Call, outcome: Outcome) -> None:
    """Nobody listens."""


@dataclass(slots=True)
class Conversation:
    """A thread between a person and an agent. ``address`` is where the agent's requests come from.

    ``parent`` is the agent that handed over, ``traceparent`` its step in which it did.
    """

    agent: company.Agent
    person: company.Person | None = None
    sign_in: SignIn | None = None
    address: str = ""
    id: str = field(default_factory=lambda: f"conv-{secrets.token_hex(6)}")
    turns: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    parent: str = ""
    traceparent: str = ""
    mind: Mind = field(default_factory=Mind)


class Worker:
    """Plays conversations of one agent in one thread. An asynchronous context manager; one task uses it."""

    def __init__(
        self,
        tokens: Tokens,
        conversation: Conversation,
        *,
        pace: Callable[[], Awaitable[None]] = no_pace,
        record: Recorder = no_record,
        instrument: Instrument = SILENT,
    ) -> None:
        self._tokens, self._talk, self._pace, self._record = tokens, conversation, pace, record
        self._instrument = instrument
        talk = conversation
        default = talk.person.address if talk.person else talk.agent.address
        talk.address = talk.address or default
        talk.mind.is_gullible = talk.agent.is_gullible
        if talk.person is not None:
            talk.mind.memory["user"] = {"id": talk.person.id, "name": talk.person.name, "mail": talk.person.mail}
        self._belt = ToolBelt(tokens, talk.agent.id, talk.sign_in, protocol=talk.agent.protocol, address=talk.address)
        self._has_looked = False

    async def __aenter__(self) -> Worker:
        """Open for business."""
        await self._belt.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close all connections."""
        with contextlib.suppress(Exception):
            await self._belt.__aexit__(*exc)

    async def serve(self, plan: Plan, words: str, memory: Mapping[str, Any] | None = None) -> bool:
        """The person says ``words``; the agent carries ``plan`` out. True if all of it was done."""
        mind = self._talk.mind
        if words:
            self._talk.turns.append(words)
        mind.memory |= {**(memory or {}), "words": words}
        if mind.is_gullible and not self._has_looked:
            # An agent that improvises looks first what it could improvise with.
            for server in sorted({grant.server for grant in self._talk.agent.grants}):
                shown = await self._belt.tools(server)
                if isinstance(shown, frozenset):
                    mind.tools |= shown
                    self._has_looked = True
        run, is_done, told = self._run(words), False, len(self._talk.said)
        thinking = think(plan, mind)
        try:
            action = next(thinking)
            while True:
                action = thinking.send(await self._act(action, run))
        except StopIteration as done:
            is_done = bool(done.value)
        finally:
            run.end(is_done, self._talk.said[told:])
        return is_done

    def _run(self, words: str) -> Run:
        talk = self._talk
        common = {
            "gen_ai.conversation.id": talk.id,
            "microsoft.session.id": talk.sign_in.session if talk.sign_in else "",
            "client.address": talk.address,
        }
        if talk.person is not None:
            common |= {"user.id": talk.person.id, "user.email": talk.person.mail, "user.name": talk.person.name}
        return Run(self._instrument, talk.agent, common, words, company.agents().get(talk.parent), talk.traceparent)

    async def _act(self, action: Action, run: Run) -> Outcome:
        match action:
            case Call():
                return await self._use(action, run)
            case HandOver():
                return await self._hand_over(action, run)
            case Say():
                self._talk.said.append(action.text)
                return Outcome("ok", action.text)

    async def _use(self, call: Call, run: Run) -> Outcome:
        run.think()
        if call.attempt > 1:
            await asyncio.sleep(_RETRY_SECONDS * 2 ** (call.attempt - 2))
        await self._pace()
        talk = self._talk
        meta = {
            "conversation-id": talk.id,
            "user-turns": user_turns(talk.turns),
            "parent-agent": talk.parent,
            "retry-token": call.retry_token,
        }
        step = run.use(call, self._tokens.resource(call.server))
        outcome = await self._belt.call(call.server, call.tool, call.arguments, meta, step.traceparent)
        step.end(outcome)
        self._record(talk.agent.id, call, outcome)
        return outcome

    async def _hand_over(self, action: HandOver, run: Run) -> Outcome:
        talk = self._talk
        step = run.hand_over(company.agents()[action.agent])
        child = Conversation(
            agent=company.agents()[action.agent],
            person=talk.person,
            sign_in=talk.sign_in,
            address=talk.address,
            id=talk.id,
            turns=list(talk.turns),
            parent=talk.agent.id,
            traceparent=step.traceparent,
        )
        async with Worker(
            self._tokens, child, pace=self._pace, record=self._record, instrument=self._instrument
        ) as worker:
            is_done = await worker.serve(plans()[action.plan], "", action.memory)
        outcome = Outcome("ok" if is_done else "failed", child.said or None)
        step.end(outcome)
        return outcome
