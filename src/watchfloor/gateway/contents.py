"""What agents say, judged on its way to whoever reads it: recorded first, then passed on, changed or refused.

For doors that carry answers. The guard's ``protect`` judges, with the policies whose ``surface`` says so; beside it
``enforce.py`` decides on calls. It knows no protocol.

INVARIANT: nothing is given back whose verdict is not in the spool.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any, Final

from watchfloor.gateway import admission
from watchfloor.gateway.answers import Refusal, RefusalKind, refusal_of
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.records import Recorder, Spool
from watchfloor.gateway.tokens import Token
from watchfloor.gateway.watchdog import Watch
from watchfloor.guard.context import Context
from watchfloor.guard.detectors.hit import Surface
from watchfloor.guard.engine import Overrun
from watchfloor.guard.protection import protect
from watchfloor.model.activity import Counters
from watchfloor.model.agents import PinState, ToolEffect
from watchfloor.model.errors import Unavailable
from watchfloor.model.facts import ToolFacts
from watchfloor.model.ids import new_id

_LOG: Final = logging.getLogger(__name__)
DECIDED: Final = "ContentDecided"


class Contents:
    """Judges contents for the doors of one worker."""

    def __init__(self, enforcer: Enforcer, recorder: Recorder, spool: Spool, watch: Watch) -> None:
        self._enforcer, self._recorder, self._spool, self._watch = enforcer, recorder, spool, watch

    def answer(self, token: Token, texts: list[str], tool: str, conversation_id: str, address: str, door: str) -> Any:
        """``texts`` that an agent says, as they may pass on. ``tool`` names what is judged, for scopes of policies.

        Raises ``Refusal``.
        """
        self._enforcer.admit_agent(token, address, door)
        try:
            return self._judge(Surface.ANSWER, token, texts, tool, conversation_id, address, door)
        except Refusal:
            raise
        except Overrun as error:
            raise Refusal(RefusalKind.BLOCKED, "decision_timeout") from error
        except Exception as error:  # INVARIANT: no answer is never an allow
            _LOG.exception("an answer could not be judged")
            raise Refusal(RefusalKind.BLOCKED, "internal_error") from error

    def _judge(
        self, surface: Surface, token: Token, value: Any, tool: str, conversation_id: str, address: str, door: str
    ) -> Any:
        state = self._enforcer.state
        look = self._enforcer.looking(token, address, door)
        invocation = dataclasses.replace(look, id=new_id("inv"), tool=tool, conversation_id=conversation_id)
        # Policies answer only where every fact is there: for what is said to nobody's tool, too.
        pseudo = ToolFacts(token.server_id, tool, ToolEffect.READ, PinState.PINNED)
        facts = state.facts(
            token.facts,
            token.agent_id,
            token.user_id,
            token.server_id,
            tool,
            invocation.at,
            Counters(),
            pseudo_tool=pseudo,
            proof=token.proof,
        )
        facts = admission.with_model(facts, token)
        before = time.perf_counter()
        verdict, passed = self._watch.run(protect, surface, value, invocation, Context(facts, state.policies))
        micros = round((time.perf_counter() - before) * 1e6, 1)
        said = dataclasses.replace(invocation, arguments={"content": value})
        try:
            entries = self._recorder.decision(
                said, facts, verdict, hold=None, released_by=None, decision_us=micros, action=DECIDED
            )
            self._spool.append(b"[%b]" % entries)
        except Unavailable as error:
            raise Refusal(RefusalKind.UNAVAILABLE, "not_recorded", invocation.id) from error
        if not verdict.effect.lets_the_call_out:
            raise refusal_of(verdict, invocation.id)
        return passed
