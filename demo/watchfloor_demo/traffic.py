"""Background traffic: people at work with their agents, at a rate that can be set, from a seed.

Plays plans by weight, each as a conversation of its own, several at a time. Counts every call and why one failed: on a
product that works, none does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from watchfloor_demo import company
from watchfloor_demo.agents.instrument import SILENT, Instrument
from watchfloor_demo.agents.planner import Call, Outcome
from watchfloor_demo.agents.plans import Plan, plans
from watchfloor_demo.agents.signin import Badges, SignInRefused
from watchfloor_demo.agents.tokens import Tokens
from watchfloor_demo.agents.worker import Conversation, Worker
from watchfloor_demo.runtime import Runtime

_AT_ONCE: Final = 6
_AFTER_TROUBLE_SECONDS: Final = 1.0


class Pace:
    """Lets callers through at ``rate`` a second in all; what was missed is not made up for."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._next = 0.0

    async def __call__(self) -> None:
        """Wait for a turn."""
        now = time.monotonic()
        self._next = max(self._next, now - 1 / self.rate) + 1 / self.rate
        if self._next > now:
            await asyncio.sleep(self._next - now)


@dataclass(slots=True)
class Tally:
    """Calls and what became of them. A call that succeeds at a second attempt counts once, as a success."""

    calls: int = 0
    succeeded: int = 0
    retries: int = 0
    conversations: int = 0
    by_agent: Counter[str] = field(default_factory=Counter)
    by_tool: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, agent_id: str, call: Call, outcome: Outcome) -> None:
        """Count one attempt."""
        if call.attempt == 1:
            self.calls += 1
            self.by_agent[agent_id] += 1
            self.by_tool[f"{call.server}.{call.tool}"] += 1
        else:
            self.retries += 1
        if outcome.is_ok:
            self.succeeded += 1
        else:
            what = f"{agent_id}: {call.server}.{call.tool} {outcome.status}: {outcome.text}"
            self.note(outcome.code, what)

    def note(self, code: str, what: str) -> None:
        """Count something that went wrong, with the first example of its kind."""
        self.failures[code] += 1
        self.examples.setdefault(code, what[:300])

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "benign_calls": self.calls,
            "benign_succeeded": self.succeeded,
            "retries": self.retries,
            "conversations": self.conversations,
            "failures": dict(self.failures),
            "examples": self.examples,
        }


class Traffic:
    """The working day. ``favour`` multiplies the weight of an agent's plans; ``without`` are people who are away."""

    def __init__(
        self,
        runtime: Runtime,
        http: httpx.AsyncClient,
        *,
        rate: float = 1.0,
        seed: int = 7,
        favour: Mapping[str, int] | None = None,
        without: Collection[str] = (),
        instrument: Instrument = SILENT,
    ) -> None:
        self.pace = Pace(rate)
        self.tally = Tally()
        self._rng = random.Random(seed)
        self.tokens, self._badges = Tokens(runtime, http), Badges(runtime, http)
        self._without, self._instrument = frozenset(without), instrument
        boost = favour or {}
        self._plans = [p for p in plans().values() if p.weight]
        self._weights = [p.weight * boost.get(p.agent, 1) for p in self._plans]
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event, grace: float = 5.0) -> None:
        """Keep the conversations coming until told to stop; those under way may end, for ``grace`` seconds."""
        players = [asyncio.create_task(self._play_on(stop), name=f"traffic {n}") for n in range(_AT_ONCE)]
        try:
            await stop.wait()
            await asyncio.wait(players, timeout=grace)
        finally:
            for player in players:
                player.cancel()
            await asyncio.gather(*players, return_exceptions=True)

    async def _play_on(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.play(self.draw())
            except Exception as error:  # one broken conversation must not end the working day, nor go unnoticed
                self.tally.note("broken", f"{type(error).__name__}: {error}")
                await asyncio.sleep(_AFTER_TROUBLE_SECONDS)

    def draw(self) -> Plan:
        """What somebody asks for next."""
        return self._rng.choices(self._plans, self._weights)[0]

    async def play(self, plan: Plan, choices: Mapping[str, Any] | None = None) -> bool:
        """One conversation, with given choices or drawn ones. True if the agent did all that was asked."""
        agent = company.agents()[plan.agent]
        rng = random.Random(self._rng.random())
        person, sign_in = None, None
        if agent.runs_as == "user":
            candidates = [p for p in company.members(*plan.groups) if p.id not in self._without]
            person = rng.choice(candidates)
            try:
                sign_in = await self._badges.of(person.id)
            except (SignInRefused, httpx.HTTPError) as error:
                self.tally.note("sign_in", str(error))
                await asyncio.sleep(_AFTER_TROUBLE_SECONDS)
                return False
        memory = {**plan.draw(rng), **(choices or {})}
        self.tally.conversations += 1

        def record(agent_id: str, call: Call, outcome: Outcome) -> None:
            self.tally.add(agent_id, call, outcome)
            if outcome.status == "refused" and outcome.code.startswith("token:") and person is not None:
                # The session may have ended somewhere; a person would sign in again.
                self._badges.forget(person.id)

        talk = Conversation(agent, person, sign_in)
        async with Worker(self.tokens, talk, pace=self.pace, record=record, instrument=self._instrument) as worker:
            return await worker.serve(plan, plan.request(rng, memory), memory)
