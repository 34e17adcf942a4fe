"""Facts, guard, record: the one way from a request to a call, used by every door.

    authenticate   is the token ours?                          -> Token, or TokenError
    admit          may this agent speak to this server at all?  -> Admission, or Refusal
    decide         may this very call go out?                   -> Permit, or Refusal

A door may send something upstream only with an ``Admission`` or a ``Permit`` in hand, and asks it ``still_allowed``
while it waits for the answer. Below are the guard (pure) and the spool; what MCP or HTTP are is not known here.

INVARIANT: a ``Permit`` exists only after its decision is in the spool. Whatever fails on the way there is a refusal.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from watchfloor.gateway import access, admission
from watchfloor.gateway.alignment.aligner import Aligner, Asked
from watchfloor.gateway.answers import Refusal, RefusalKind, refusal_of
from watchfloor.gateway.approvals import Approvals, Found, Presented
from watchfloor.gateway.calls import Admission, CallRequest, Permit
from watchfloor.gateway.conversations import Conversations
from watchfloor.gateway.counters import Activity
from watchfloor.gateway.metrics import Metrics
from watchfloor.gateway.minting import Credentials, NoCredential
from watchfloor.gateway.overruling import as_the_door_can, late_verdict, overruled
from watchfloor.gateway.records import DECIDED, PROOF, Recorder, Spool
from watchfloor.gateway.refusals import Allowance
from watchfloor.gateway.results import Results
from watchfloor.gateway.state import State, Unusable
from watchfloor.gateway.tokens import NO_SERVER, Token, TokenError, TokenVerifier
from watchfloor.gateway.tool_lists import ToolLists
from watchfloor.gateway.watchdog import Watch
from watchfloor.guard import codec, redact
from watchfloor.guard.alignment.features import question
from watchfloor.guard.context import Context
from watchfloor.guard.engine import Overrun, decide
from watchfloor.guard.provenance.cards import strictness_of
from watchfloor.guard.provenance.conversation import ToolResult
from watchfloor.guard.provenance.trace import Trace, trace, untraced
from watchfloor.model.activity import Counters, Invocation
from watchfloor.model.agents import PinState, ToolEffect
from watchfloor.model.errors import Unavailable
from watchfloor.model.facts import Facts, ServerFacts, ToolFacts
from watchfloor.model.ids import new_id
from watchfloor.model.verdicts import Effect, Mode, Verdict

_LOG: Final = logging.getLogger(__name__)
_MOST_ENDS: Final = 100


class _Judged:
    """What came of judging one call."""

    __slots__ = (
        "authorization",
        "conversation",
        "facts",
        "found",
        "invocation",
        "is_named",
        "micros",
        "released_by",
        "trace",
        "verdict",
    )

    facts: Facts
    verdict: Verdict

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.found = Found()
        self.released_by: str | None = None
        self.authorization: str | None = None
        self.micros = 0.0
        self.conversation = ""
        self.is_named = False
        self.trace: Trace | None = None


class Enforcer:
    """Decides for the doors of one worker."""

    def __init__(
        self,
        *,
        state: State,
        verifier: TokenVerifier,
        credentials: Credentials,
        approvals: Approvals,
        recorder: Recorder,
        spool: Spool,
        conversations: Conversations,
        metrics: Metrics,
        aligner: Aligner,
        tenant: str,
        wait_durable: Callable[[], Awaitable[None]] | None = None,
        watch: Watch | None = None,
        activity: Activity | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state, self.metrics = state, metrics
        self._watch = watch or Watch()
        self._verifier, self._credentials, self._approvals = verifier, credentials, approvals
        self._recorder, self._spool, self._tenant = recorder, spool, tenant
        self._conversations, self._aligner = conversations, aligner
        self._wait_durable, self._now, self._clock = wait_durable, now, clock
        self._activity = activity or Activity()
        self._allowance = Allowance()
        self._ends: list[bytes] = []
        self.results = Results(state, recorder, self._watch, metrics, self._ends.append, now)
        """What calls give back."""
        self.tool_lists = ToolLists(state, recorder, spool, self._watch, now)
        """What agents see of tool servers."""
        state.on_keys.append(verifier.use_keys)

    # -- who is this? ---------------------------------------------------------------------------------------------

    def authenticate(self, authorization: bytes | None, server_id: str) -> Token:
        """The caller's token. Raises ``TokenError``, or ``Refusal`` where its keys cannot be known."""
        return self._verifier.verify(self._bearer(authorization), server_id, self._now().timestamp())

    def authenticate_agent(self, authorization: bytes | None) -> Token:
        """The caller's token, whichever audience of this gateway it is for. Raises as ``authenticate`` does."""
        return self._verifier.verify_any(self._bearer(authorization), self._now().timestamp())

    def authenticate_agent_at(self, authorization: bytes | None, server_id: str) -> Token:
        """As ``authenticate``, where the agent's own token counts at every server of the agent."""
        token = self.authenticate_agent(authorization)
        if token.server_id == NO_SERVER:
            return admission.at_server(self.state, token, server_id)
        if token.server_id != server_id:
            raise TokenError("The token is for another audience.", token=token)
        return token

    def _bearer(self, authorization: bytes | None) -> bytes:
        self._require_state()
        if authorization is None:
            raise TokenError("A bearer token is needed.", "", reason="token_missing")
        scheme, _, value = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not value or b" " in value:
            raise TokenError("The Authorization header must be a bearer token.", "invalid_request")
        return value

    def _require_state(self) -> None:
        try:
            self.state.check()
        except Unusable as error:
            raise Refusal(RefusalKind.UNAVAILABLE, error.code) from error

    # -- may it speak to this server? -----------------------------------------------------------------------------

    def admit(self, token: Token, address: str, door: str, *, needs_credential: bool = True) -> Admission:
        """The right to speak to the token's server about anything but calls. Raises ``Refusal``."""
        self._require_state()
        code = self._why_not_admitted(token, address, door)
        if code is not None:
            raise self._not_admitted(code, token, address, door)
        server = self.state.servers[token.server_id]
        bindings = self.state.bindings[(token.agent_id, token.server_id)]
        # One connection-wide credential where bindings differ: that of every tool, else of the first by name.
        binding = bindings.get("*") or bindings[min(bindings)]
        authorization = None
        try:
            if needs_credential:
                authorization = self._credentials.authorization(token, server, binding, self._now())
        except NoCredential as error:
            _LOG.warning("no credential for %s at %s: %s", token.agent_id, token.server_id, error)
            raise Refusal(RefusalKind.BLOCKED, "internal_error") from error

        revision = self.state.revision

        def still_allowed() -> str | None:
            return self._since(lambda: self._why_not_admitted(token, address, door), revision)

        return Admission(server, authorization, still_allowed)

    def admit_agent(self, token: Token, address: str, door: str) -> None:
        """The right to be told, and to tell, what concerns the agent and no tool server. Raises ``Refusal``."""
        self._require_state()
        code = admission.why_agent_not(self.state, self.looking(token, address, door), token)
        if code is not None:
            raise self._not_admitted(code, token, address, door)

    def _not_admitted(self, code: str, token: Token, address: str, door: str) -> Refusal:
        kind = RefusalKind.UNAVAILABLE if code == "state_stale" else RefusalKind.BLOCKED
        step_up = None
        if code in access.CODES:
            look = self.looking(token, address, door)
            facts = admission.about(self.state, look, token)
            step_up = access.step_up_of(code, facts.access.max_age if facts.access is not None else None)
            self._log_access(look, facts)
        return Refusal(kind, code, step_up=step_up)

    def _log_access(self, look: Invocation, facts: Facts) -> None:
        """Record what conditional access said to somebody who made no call, as far as the address's allowance goes."""
        entries = self._recorder.access(look, facts)
        if entries and self._allowance.take(look.address, self._clock()) is not None:
            try:
                self._spool.append(b"[%b]" % entries)
            except Unavailable as error:
                _LOG.warning("a refused request is not on record: %s", error)

    def open_servers(self, token: Token, address: str, door: str) -> list[str]:
        """Ids of the tool servers at which this agent may use something now, by name. Ask ``admit_agent`` before."""
        names = sorted(server for agent, server in self.state.bindings if agent == token.agent_id)
        tokens = [dataclasses.replace(token, server_id=name) for name in names]
        return [
            each.server_id
            for each in tokens
            if admission.has_open_tool(self.state, each) and self._why_not_admitted(each, address, door) is None
        ]

    def _why_not_admitted(self, token: Token, address: str, door: str) -> str | None:
        return admission.why_not(self.state, self.looking(token, address, door), token)

    def looking(self, token: Token, address: str, door: str) -> Invocation:
        """A look instead of a call: what the steps of a decision need to know of who looks."""
        return self._invocation(CallRequest(door, token, "", {}, address), "", self._now())

    def _since(self, why_not: Callable[[], str | None], revision: int) -> str | None:
        """What has ended a right that was given at ``revision``. A revocation that cannot be read ends every right."""
        try:
            self.state.check()
        except Unusable:
            return "state_stale"
        if self.state.revision == revision:
            return None
        code = why_not()
        return None if code in admission.NOT_A_REVOCATION else code

    # -- may this call go out? ------------------------------------------------------------------------------------

    async def decide(self, request: CallRequest) -> Permit:
        """Decide, record, and only then permit. Raises ``Refusal``."""
        started = self._clock()
        if request.retry_token is None:
            return await self._permit(request, started, None)
        self._require_state()
        presented = await self._approvals.present(
            request.retry_token, lambda: self._invocation(request, "", self._now())
        )
        try:
            return await self._permit(request, started, presented)
        except BaseException:  # the call does not go out, so its approval may be used after all
            await self._approvals.give_back(presented)
            raise

    async def _permit(self, request: CallRequest, started: float, presented: Presented | None) -> Permit:
        try:
            asked = await self._align(request)
            permit = self._decide(request, started, presented, asked)
        except Refusal:
            raise
        except Overrun as error:  # even saying that it takes too long took too long: refused, without a decision
            self.metrics.count(self.metrics.verdicts, "failed")
            raise Refusal(RefusalKind.BLOCKED, "decision_timeout") from error
        except Exception as error:  # INVARIANT: no answer is never an allow
            raise self._failed() from error
        effect = permit.facts.tool.effect if permit.facts.tool is not None else ToolEffect.UNKNOWN
        if self._wait_durable is not None and effect.has_side_effects:
            await self._until_durable(permit)
        return permit

    async def _align(self, request: CallRequest) -> Asked:
        """Whether the call fits what the user asked, where a policy wants to know: before the decision, which waits for
        nobody. What changes meanwhile is decided on as it is then."""
        state, token = self.state, request.token
        mode = state.policies.alignment_mode if state.policies is not None else None
        if mode is None or request.pseudo_effect is not None or not (self._aligner.is_ready or mode is Mode.ENFORCE):
            return Asked(mode, None)
        self._require_state()
        tool = state.tool(token.server_id, request.tool)
        effect = tool.effect if tool is not None else ToolEffect.UNKNOWN
        name = self._conversation_name(self._invocation(request, "", self._now()))
        conversation = self._conversations.at(name, request.user_turns)
        card = state.cards.get((token.server_id, request.tool))
        asked = self._watch.run(question, request.tool, request.arguments, effect, card, conversation, state.directory)
        return Asked(mode, await self._aligner.judge(asked) if asked is not None else None)

    def decide_late(self, request: CallRequest) -> Permit:
        """Decide by facts alone, for a door whose time is over before the guard has answered. Raises ``Refusal``.

        Lets out only what reads, and only where an administrator has chosen that for the tool; and flags it.
        """
        started = self._clock()
        try:
            self._require_state()
            return self._settle(request, self._judge_late(request, started), started)
        except Refusal:
            raise
        except Exception as error:  # INVARIANT: no answer is never an allow
            raise self._failed() from error

    def _failed(self) -> Refusal:
        _LOG.exception("a decision failed")
        self.metrics.count(self.metrics.verdicts, "failed")
        return Refusal(RefusalKind.BLOCKED, "internal_error")

    def _decide(self, request: CallRequest, started: float, presented: Presented | None, asked: Asked) -> Permit:
        self._require_state()
        return self._settle(request, self._judge(request, started, presented, asked), started)

    def _settle(self, request: CallRequest, judged: _Judged, started: float) -> Permit:
        """Put the verdict on record, and only then permit."""
        judged.verdict = as_the_door_can(judged.verdict, request)
        invocation, verdict = judged.invocation, judged.verdict
        hold = self._approvals.hold(invocation, judged.found) if verdict.effect is Effect.HOLD else None
        try:
            policies = self.state.policies
            entries = self._recorder.decision(
                invocation,
                judged.facts,
                verdict,
                hold=hold,
                released_by=judged.released_by,
                decision_us=judged.micros,
                trace=judged.trace,
                fragments=None if policies is None else policies.fragments,
                agent_name=request.agent_name,
                noted=request.noted,
                action=PROOF if request.token.is_proof else DECIDED,
            )
            # Ends of earlier calls ride along: one write, and the shipper has fewer records to open.
            self._spool.append(b"[%b]" % b",".join([entries, *self._ends]))
            self._ends.clear()
        except Exception as error:
            # INVARIANT: what is not on record does not go out, whatever the verdict was.
            self.metrics.unrecorded += 1
            if not isinstance(error, Unavailable):
                _LOG.exception("a decision could not be written down")
            raise Refusal(RefusalKind.UNAVAILABLE, "not_recorded", invocation.id) from error
        self.metrics.count(self.metrics.verdicts, verdict.effect.value)
        if not verdict.effect.lets_the_call_out:
            if not request.token.is_proof:
                self._activity.blocked(invocation.agent_id, started)
            raise refusal_of(verdict, invocation.id, hold)
        if request.token.is_proof:
            # INVARIANT: who asks in order to be refused gets nothing out, even where everything else would let it.
            raise Refusal(RefusalKind.BLOCKED, "proof_not_refused", invocation.id)
        server = judged.facts.server
        if server is None and request.is_audit:
            server = ServerFacts(invocation.server_id)
        assert server is not None, "the guard lets no call out to an unknown server"
        revision = self.state.revision

        def still_allowed() -> str | None:
            return self._since(lambda: self._why_ended(invocation, judged.facts), revision)

        arguments = request.arguments
        if verdict.effect is Effect.REDACT:
            arguments = redact.apply(arguments, verdict.redactions)
        return Permit(
            server,
            judged.authorization,
            still_allowed,
            invocation,
            judged.facts,
            verdict,
            arguments,
            started,
            judged.conversation,
            judged.is_named,
        )

    def _judge(self, request: CallRequest, started: float, presented: Presented | None, asked: Asked) -> _Judged:
        """The verdict on a call, with everything that it was based on."""
        state, token = self.state, request.token
        now = self._now()
        invocation = self._invocation(request, presented.invocation_id if presented else new_id("inv"), now)
        if not invocation.user_turns and request.pseudo_effect is None:
            said = self._said_before(invocation)
            if said:
                invocation = dataclasses.replace(invocation, user_turns=said)
        judged = _Judged(invocation)
        judged.found = self._approvals.find(invocation, presented)
        pseudo = None
        if request.pseudo_effect is not None:
            pseudo = ToolFacts(token.server_id, request.tool, request.pseudo_effect, PinState.PINNED)
        facts = state.facts(
            token.facts,
            token.agent_id,
            token.user_id,
            token.server_id,
            request.tool,
            now,
            self._activity.observe(token.agent_id, token.server_id, request.tool, started),
            judged.found.approval,
            pseudo,
            token.may_write,
            token.proof,
        )
        if request.is_prompt:
            facts = admission.with_model(facts, token)
        before = time.perf_counter()
        self._trace(judged, request, facts)
        alignment = asked.at(state.policies)
        if alignment is not None and judged.trace is not None:
            judged.trace = dataclasses.replace(judged.trace, alignment=alignment)
        verdict = self._watch.run(decide, invocation, Context(facts, state.policies, judged.trace))
        if presented is not None and presented.is_taken and verdict.effect.lets_the_call_out:
            judged.released_by = presented.root
        seconds = time.perf_counter() - before
        if verdict.effect is Effect.BLOCK and verdict.reasons[0].code == "decision_timeout":
            gc.collect()  # it may have heaped up much until it was interrupted
        self.metrics.decision.observe(seconds)
        judged.micros = round(seconds * 1e6, 1)
        if verdict.effect.lets_the_call_out and request.goes_out_here:
            assert facts.server is not None and facts.binding is not None, "the guard lets no ungranted call out"
            try:
                judged.authorization = self._credentials.authorization(token, facts.server, facts.binding, now)
            except NoCredential as error:
                verdict = overruled(verdict, "internal_error", "credential", str(error))
        judged.facts, judged.verdict = facts, verdict
        return judged

    def _judge_late(self, request: CallRequest, started: float) -> _Judged:
        """The verdict that facts alone give, and that the guard's time was over."""
        state, token = self.state, request.token
        now = self._now()
        invocation = codec.readable(self._invocation(request, new_id("inv"), now))
        judged = _Judged(invocation)
        counters = self._activity.observe(token.agent_id, token.server_id, request.tool, started)
        facts = state.facts(
            token.facts, token.agent_id, token.user_id, token.server_id, request.tool, now, counters,
            may_write=token.may_write, proof=token.proof,
        )  # fmt: skip
        policies = state.policies
        assert policies is not None, "state without policies is not usable"
        judged.facts, judged.verdict = facts, late_verdict(invocation, facts, policies)
        return judged

    def retry_tokens(self, request: CallRequest) -> list[tuple[str, str]]:
        """(hold, retry token) of the answers of operators to this very call, approvals first: for a door whose callers
        cannot keep a retry token."""
        token = request.token
        return self._approvals.answers_to(self._invocation(request, "", self._now()), token.agent_id, token.user_id)

    def _trace(self, judged: _Judged, request: CallRequest, facts: Facts) -> None:
        """Where the arguments came from. What cannot be traced is refused where it matters, never passed over."""
        invocation, state = judged.invocation, self.state
        card = state.cards.get((invocation.server_id, invocation.tool))
        effect = facts.tool.effect if facts.tool is not None else ToolEffect.UNKNOWN
        judged.conversation = self._conversation_name(invocation)
        try:
            conversation = self._conversations.at(judged.conversation, invocation.user_turns)
            judged.is_named = conversation.names(invocation.arguments)
            if request.pseudo_effect is None:
                # Resources and prompts are asked for at the server that offers them: nothing leaves for elsewhere.
                judged.trace = self._watch.run(
                    trace,
                    invocation.tool,
                    invocation.arguments,
                    effect,
                    card,
                    conversation,
                    state.directory,
                    strictness_of(card),
                )
        except (Exception, Overrun):
            _LOG.exception("a call could not be traced")
            judged.trace = untraced(effect, strictness_of(card))

    def _said_before(self, invocation: Invocation) -> tuple[str, ...]:
        """What the user said last in this conversation, for a call that brings no words of its own: they were told at
        another door, and detectors look at them with the side effect that may follow from them."""
        tool = self.state.tool(invocation.server_id, invocation.tool)
        if tool is not None and tool.effect is ToolEffect.READ:
            return ()
        try:
            return self._conversations.at(self._conversation_name(invocation)).newest_turns
        except Exception:  # ``_trace`` meets it again, and refuses what it cannot trace
            _LOG.exception("the user's words could not be looked up")
            return ()

    def _conversation_name(self, invocation: Invocation) -> str:
        """Whose conversation it is, and which. Nobody can name a conversation of somebody else."""
        # A caller that does not say which conversation this is has one for each sign-in.
        which = f"c:{invocation.conversation_id}" if invocation.conversation_id else f"s:{invocation.session_id}"
        return "\n".join((invocation.tenant, invocation.agent_id, invocation.user_id or "", which))

    async def _until_durable(self, permit: Permit) -> None:
        assert self._wait_durable is not None
        try:
            await self._wait_durable()
        except Unavailable as error:
            self.metrics.unrecorded += 1
            self.complete(permit, status="refused")
            raise Refusal(RefusalKind.UNAVAILABLE, "not_recorded", permit.invocation.id) from error
        code = permit.still_allowed()
        if code is not None:
            self.complete(permit, status="refused")
            raise Refusal(RefusalKind.BLOCKED, code, permit.invocation.id)

    def _why_ended(self, invocation: Invocation, facts: Facts) -> str | None:
        return admission.why_ended(self.state, invocation, facts, self._now())

    def _invocation(self, request: CallRequest, invocation_id: str, now: datetime) -> Invocation:
        token = request.token
        retry = request.retry_token
        return Invocation(
            id=invocation_id,
            at=now,
            door=request.door,
            tenant=self._tenant,
            agent_id=token.agent_id,
            user_id=token.user_id,
            mode=token.mode,
            session_id=token.session_id,
            server_id=token.server_id,
            tool=request.tool,
            arguments=request.arguments,
            conversation_id=request.conversation_id,
            address=request.address,
            user_turns=request.user_turns,
            # Its hash: whoever reads the record must not be able to make the call.
            retry_token=None if retry is None else hashlib.sha256(retry.encode()).hexdigest(),
            token_id=token.id,
            parent_agent_id=token.parent_agent_id or request.parent_agent,
            trace_id=request.trace_id,
        )

    # -- what was read --------------------------------------------------------------------------------------------

    def expect(self, permit: Permit) -> None:
        """Note that an answer is about to reach the caller piece by piece. Raises ``Unavailable``."""
        self._conversations.expect(permit.conversation, permit.invocation.id)

    def heard(self, permit: Permit, value: Any, *, is_known: bool = True) -> None:
        """Keep what a tool answered, before the caller gets it. ``is_known``: False if it is too large or no JSON.

        Raises ``Unavailable``: then the caller must not get it.
        """
        invocation = permit.invocation
        result = None
        if is_known:
            card = self.state.cards.get((invocation.server_id, invocation.tool))
            trusted = card.trusted_fields if card is not None else ()
            result = ToolResult(
                invocation.id, invocation.server_id, invocation.tool, value, permit.is_named, tuple(trusted)
            )
        self._conversations.heard(permit.conversation, result, invocation.id)

    def listen(
        self,
        token: Token,
        conversation_id: str,
        turns: tuple[str, ...],
        tool: str = "",
        value: Any = None,
        invocation_id: str = "",
        *,
        is_known: bool = True,
    ) -> None:
        """Keep what somebody tells who makes calls elsewhere: the user's words, and what a tool answered, if any.

        ``invocation_id`` names the call that it answered, where another worker permitted it. Raises ``Unavailable``.
        """
        request = CallRequest("decide", token, tool, {}, conversation_id=conversation_id)
        invocation = self._invocation(request, invocation_id or new_id("inv"), self._now())
        name = self._conversation_name(invocation)
        self._conversations.at(name, turns)
        if tool:
            result = ToolResult(invocation.id, token.server_id, tool, value) if is_known else None
            self._conversations.heard(name, result, invocation.id)

    def hear_again(self, request: CallRequest, results: Sequence[tuple[str, str, str, Any]], *, is_all: bool) -> None:
        """Keep what tools have answered before ``request``, for a door whose caller tells it with every call.

        ``results`` are (invocation, server, tool, value), the invocation made of the content, so that each is kept
        once. ``is_all``: False where some could not be read. Raises ``Unavailable``.
        """
        name, cards = self._conversation_name(self._invocation(request, "", self._now())), self.state.cards
        told = []
        for invocation, server_id, tool, value in results:
            card = cards.get((server_id, tool))
            trusted = tuple(card.trusted_fields) if card is not None else ()
            told.append(ToolResult(invocation, server_id, tool, value, False, trusted))
        self._conversations.told(name, request.user_turns, told)
        if not is_all:
            self._conversations.heard(name, None, "")

    def knows(self, token: Token, conversation_id: str) -> bool:
        """Whether anything that was said or read in this conversation is known, or known to be missing."""
        request = CallRequest("decide", token, "", {}, conversation_id=conversation_id)
        conversation = self._conversations.at(self._conversation_name(self._invocation(request, "", self._now())))
        return conversation.knows_user or conversation.has_read

    def call_of(
        self, token: Token, tool: str, conversation_id: str = "", invocation_id: str = ""
    ) -> tuple[Invocation, Facts]:
        """A call that was permitted elsewhere, with the facts as they stand now."""
        request = CallRequest("decide", token, tool, {}, conversation_id=conversation_id)
        invocation = self._invocation(request, invocation_id or new_id("inv"), self._now())
        at = (token.facts, token.agent_id, token.user_id, token.server_id, tool, self._now())
        return invocation, self.state.facts(*at, Counters(), proof=token.proof)

    # -- what came of it ------------------------------------------------------------------------------------------

    def complete(
        self,
        permit: Permit,
        *,
        status: str,
        http_status: int | None = None,
        error_code: int | None = None,
        bytes_out: int = 0,
        code: str = "",
    ) -> None:
        """Note how a permitted call ended; ``flush`` or the next decision records it.

        Best effort: the decision is on record already, so an end may be lost with the process.
        """
        seconds = self._clock() - permit.started
        self.metrics.upstream.observe(seconds)
        self.metrics.count(self.metrics.completions, status)
        self._ends.append(
            self._recorder.completion(
                permit.invocation,
                permit.facts,
                self._now(),
                status=status,
                http_status=http_status,
                error_code=error_code,
                duration_ms=round(seconds * 1000, 3),
                bytes_out=bytes_out,
                extra={"code": code} if code else None,
            )
        )
        if len(self._ends) >= _MOST_ENDS:
            self.flush()

    def flush(self) -> None:
        """Record the ends of calls that were noted. What cannot be recorded is given up, and said so."""
        if not self._ends:
            return
        try:
            self._spool.append(b"[%b]" % b",".join(self._ends))
        except Unavailable as error:
            _LOG.warning("the ends of %d calls are not on record: %s", len(self._ends), error)
        self._ends.clear()

    def refused(
        self,
        *,
        door: str,
        address: str,
        code: str,
        server_id: str,
        token: Token | None = None,
        detail: str = "",
        noted: Mapping[str, str] | None = None,
    ) -> None:
        """Record a request that was refused before there was a call, as far as its address's allowance goes.

        ``noted``: what else belongs on record.
        """
        self.metrics.count(self.metrics.refused_requests, code)
        suppressed = self._allowance.take(address, self._clock())
        if suppressed is None:
            self.metrics.suppressed += 1
            return
        user = self.state.users.get(token.user_id) if token is not None and token.user_id is not None else None
        extra: dict[str, Any] = {**({"detail": detail[:200]} if detail else {}), **(noted or {})}
        if suppressed:
            extra["suppressed"] = suppressed
        try:
            self._spool.append(
                self._recorder.refusal(
                    self._now(),
                    door=door,
                    address=address,
                    code=code,
                    server_id=server_id,
                    token=token,
                    upn=user.upn if user is not None else "",
                    extra=extra,
                )
            )
        except Unavailable as error:
            _LOG.warning("a refused request is not on record: %s", error)

    # -- lists -----------------------------------------------------------------------------------------------

    def is_granted(self, token: Token, tool: str) -> bool:
        """Whether a binding covers ``tool`` for this agent, whatever else may speak against a call."""
        return self.state.binding(token.agent_id, token.server_id, tool) is not None
