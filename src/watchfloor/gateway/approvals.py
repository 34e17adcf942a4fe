"""What stands behind a held call: its retry token, the answer to it, the one use of an approval, and the limit.

Between ``enforce`` (which decides and records) and ``holds``, ``state`` and the control database's claims. Only a call
that comes with the token of an approved hold waits for the database; every other one is answered from memory.

INVARIANT: the use of an approval is taken, durably, before its call goes out, by one call among all workers of all
hosts. Where it is not known whether it was taken, nothing goes out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from watchfloor.gateway.answers import Refusal, RefusalKind
from watchfloor.gateway.holds import HOUR, Hold, Holds
from watchfloor.gateway.records import micros
from watchfloor.gateway.state import State
from watchfloor.guard.codec import payload_hash
from watchfloor.model.activity import Answer, Approval, Invocation
from watchfloor.model.errors import Unavailable
from watchfloor.model.ids import new_id

_LOG: Final = logging.getLogger(__name__)


class Claims(Protocol):
    """Takes the one use of an approval; ``storage.claims.Claims`` is one. Both wait for the database."""

    def take(self, hold_id: str, taken_by: str, at: int) -> bool:
        """Take it; False when it was taken before. Raises ``Unavailable``."""
        ...

    def give_back(self, hold_id: str, taken_by: str) -> None:
        """The call that took it never went out. Raises ``Unavailable``."""
        ...


class Presented:
    """What a call's retry token stands for. ``hold`` is None for one that was not given to this agent and user."""

    __slots__ = ("hold", "invocation_id", "is_taken", "root", "was_used")

    def __init__(self, hold: Hold | None) -> None:
        self.hold = hold
        self.invocation_id = new_id("inv")
        self.root = ""
        """The hold whose use counts: another one where several were made of the same call."""
        self.is_taken = False
        """Whether this call has taken the use."""
        self.was_used = False


@dataclass(frozen=True, slots=True)
class Found:
    """``pending``: the hold that the caller waits for. ``approval``: what the guard is told of it."""

    pending: Hold | None = None
    approval: Approval | None = None


_NOTHING: Final = Found()


class Approvals:
    """Holds and their answers, for the calls of one worker."""

    def __init__(self, state: State, holds: Holds, claims: Claims) -> None:
        self._state, self._holds, self._claims = state, holds, claims
        self._giving_back: set[asyncio.Task[None]] = set()

    async def present(self, retry_token: str, call: Callable[[], Invocation]) -> Presented:
        """Look at a retry token, and take the use of its approval if there is one.

        Whoever gets it calls ``give_back`` if the call does not go out. Raises ``Refusal``.
        """
        invocation = call()
        presented = Presented(self._holds.open(retry_token, invocation.agent_id, invocation.user_id))
        hold = presented.hold
        approval = self._state.approvals.get(hold.id) if hold is not None else None
        if hold is None or approval is None or not approval.approved or approval.expires_at <= invocation.at:
            return presented
        if hold.payload_hash != payload_hash(invocation):
            return presented
        presented.root = self._state.roots.get(hold.id, hold.id)
        taking = asyncio.ensure_future(
            asyncio.to_thread(self._claims.take, presented.root, presented.invocation_id, micros(invocation.at))
        )
        try:
            presented.is_taken = await asyncio.shield(taking)
        except asyncio.CancelledError:
            task = asyncio.ensure_future(self._abandon(taking, presented))
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)
            raise
        except Unavailable as error:
            _LOG.warning("an approved call cannot go out: %s", error)
            raise Refusal(RefusalKind.UNAVAILABLE, "not_recorded") from error
        presented.was_used = not presented.is_taken
        return presented

    async def _abandon(self, taking: asyncio.Future[bool], presented: Presented) -> None:
        """The caller has gone while the use was being taken."""
        presented.is_taken = (await asyncio.gather(taking, return_exceptions=True))[0] is True
        await self.give_back(presented)

    async def give_back(self, presented: Presented) -> None:
        """The call does not go out. Best effort: an approval that cannot be given back lets nothing out."""
        if not presented.is_taken:
            return
        try:
            await asyncio.to_thread(self._claims.give_back, presented.root, presented.invocation_id)
        except Unavailable as error:
            _LOG.warning("the approval %s was used up by a call that did not go out: %s", presented.root, error)

    def find(self, invocation: Invocation, presented: Presented | None) -> Found:
        """What is known of the hold that this call was made for, or of why there will be none."""
        now = invocation.at
        if presented is not None:
            fingerprint = payload_hash(invocation)
            hold = presented.hold
            if hold is None:
                return Found(None, Approval.refused(Answer.INVALID, "", fingerprint, now + HOUR))
            if hold.payload_hash == fingerprint:
                return Found(hold, self._answer(hold, presented, now))
            # Another call than the one that was held: the token is worth nothing to it.
        agent, user = invocation.agent_id, invocation.user_id
        until = self._state.hold_limit(agent, user, now) or self._holds.limited_until(agent, user, now)
        if until is None or self._is_waiting(invocation):
            return _NOTHING
        return Found(None, Approval.refused(Answer.LIMITED, "", payload_hash(invocation), until))

    def _answer(self, hold: Hold, presented: Presented, now: datetime) -> Approval | None:
        if presented.was_used:
            return Approval.refused(Answer.USED, hold.id, hold.payload_hash, now + HOUR)
        approval = self._state.approvals.get(hold.id)
        if approval is None or not approval.approved or approval.expires_at <= now or presented.is_taken:
            return approval
        return None  # it came since the use was asked for: the next attempt goes out, not this one

    def answers_to(self, invocation: Invocation, agent_id: str, user_id: str | None) -> list[tuple[str, str]]:
        """(hold, retry token) of every answer to this very call that still counts, approvals first."""
        answers = self._state.approvals
        if not answers:
            return []
        fingerprint = payload_hash(invocation)
        found = [a for a in answers.values() if a.payload_hash == fingerprint and a.expires_at > invocation.at]
        return [
            (a.hold_id, self._holds.named(a.hold_id, a.expires_at, fingerprint, agent_id, user_id).retry_token)
            for a in sorted(found, key=lambda a: not a.approved)
        ]

    def _is_waiting(self, invocation: Invocation) -> bool:
        """Whether an operator is asked about this very call already."""
        fingerprint, now, answered = payload_hash(invocation), invocation.at, self._state.approvals
        return self._holds.find(fingerprint, now, self._state.waiting, answered) is not None

    def hold(self, invocation: Invocation, found: Found) -> Hold:
        """The hold that the caller waits for already, or a new one."""
        pending = found.pending
        if pending is not None and found.approval is None and pending.expires_at > invocation.at:
            return pending
        fingerprint, agent, user = payload_hash(invocation), invocation.agent_id, invocation.user_id
        known = self._holds.find(fingerprint, invocation.at, self._state.waiting, self._state.approvals)
        if known is None:
            return self._holds.create(fingerprint, agent, user, invocation.at)
        return self._holds.named(*known, fingerprint, agent, user)
