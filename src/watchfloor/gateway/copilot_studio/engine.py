"""The decision in a lane: an enforcer of its own, the same guard, record and spool as every door's.

State, conversations and counters are not shared with the event loop's enforcer, so that neither waits for the other;
both read the same projection, epoch file and conversations' files, and so know the same. What the question carries of
the conversation is taken in before the decision: the user's words, and what tools have answered.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from watchfloor.gateway.answers import Refusal, RefusalKind
from watchfloor.gateway.calls import CallRequest, Permit
from watchfloor.gateway.conversations import LARGEST_RESULT
from watchfloor.gateway.copilot_studio.access import Caller
from watchfloor.gateway.copilot_studio.config import CopilotStudioConfig
from watchfloor.gateway.copilot_studio.lanes import Engine, Ticket
from watchfloor.gateway.copilot_studio.names import call_of, server_of
from watchfloor.gateway.copilot_studio.payload import Answered, Question
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.records import Spool
from watchfloor.gateway.state import Unusable
from watchfloor.model.errors import Unavailable

_MOST_USED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what the door knows about it."""

    question: Question
    caller: Caller
    address: str
    correlation: str


Outcome = Permit | Refusal


class TicketedSpool:
    """A spool that takes a record only while its question still waits for it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.ticket: Ticket[Asked, Outcome] | None = None

    def append(self, record: bytes) -> None:
        """As ``Spool.append``."""
        if self.ticket is not None and not self.ticket.record():
            raise Unavailable("The question was answered at its deadline.")
        self._spool.append(record)


class LaneEngine(Engine[Asked, Outcome]):
    """Decides the questions of one lane."""

    def __init__(
        self,
        enforcer: Enforcer,
        spool: TicketedSpool,
        config: CopilotStudioConfig,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._enforcer, self._spool, self._config, self._now = enforcer, spool, config, now
        self._used: dict[str, None] = {}
        self._loop = asyncio.Runner()

    def decide(self, ticket: Ticket[Asked, Outcome]) -> Outcome:
        """The permit or the refusal."""
        self._spool.ticket = ticket
        asked = ticket.question
        state = self._enforcer.state
        try:
            try:
                state.check()
            except Unusable as error:
                raise Refusal(RefusalKind.UNAVAILABLE, error.code) from error
            request = call_of(
                asked.question, asked.caller, state, self._config,
                address=asked.address, correlation=asked.correlation, now=self._now(),
            )  # fmt: skip
            try:
                if asked.question.answered:
                    self._hear(request, asked.question.answered)
            except Unavailable as error:
                raise Refusal(RefusalKind.UNAVAILABLE, "not_recorded") from error
            return self._decide(request)
        except Refusal as refusal:
            return refusal
        finally:
            self._spool.ticket = None

    def close(self) -> None:
        """Let go of what waiting for the database needs."""
        self._loop.close()

    def _hear(self, request: CallRequest, answered: Sequence[Answered]) -> None:
        """Take in what tools have answered, each once."""
        state, agent_id = self._enforcer.state, request.token.agent_id
        kept = [each for each in answered if each.is_readable and each.size <= LARGEST_RESULT]
        results = [
            (
                each.invocation,
                server_of(each.tool_id, agent_id, state, self._config),
                each.tool_id or each.tool_name or "unknown",
                each.value,
            )
            for each in kept
        ]
        self._enforcer.hear_again(request, results, is_all=len(kept) == len(answered))

    def _decide(self, request: CallRequest) -> Outcome:
        """As the guard decides; with the answer of an operator, where there is one to this very call.

        Those who ask at other doors keep a retry token themselves.
        """
        for hold_id, token in self._enforcer.retry_tokens(request):
            if hold_id in self._used:
                continue
            try:
                # Taking the one use of an approval waits for the database.
                permit = self._loop.run(self._enforcer.decide(dataclasses.replace(request, retry_token=token)))
            except Refusal as refusal:
                if refusal.code != "hold_used":
                    raise
                self._remember(hold_id)
            else:
                self._remember(hold_id)
                return permit
        return _at_once(self._enforcer.decide(request))

    def _remember(self, hold_id: str) -> None:
        """An approval lets one call out, so it is of no use any more."""
        self._used[hold_id] = None
        if len(self._used) > _MOST_USED:
            del self._used[next(iter(self._used))]


def _at_once(decision: Coroutine[Any, Any, Permit]) -> Permit:
    """The decision, which has nothing to wait for: there is no event loop in a lane."""
    try:
        decision.send(None)
    except StopIteration as end:
        permit: Permit = end.value
        return permit
    decision.close()
    raise RuntimeError("a decision without a retry token has waited for something")
