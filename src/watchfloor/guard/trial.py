"""Policies against their own test rows: each row is decided by the real engine.

A row's ``given`` says what differs from an ordinary call that everything permits: a published agent, a signed-in user,
an approved tool, granted for writing. ``policy test`` and the tests of the shipped policies run through here. It reads
bodies that ``policy_body.check`` has passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from watchfloor.guard.alignment.alignment import Alignment, AlignmentState
from watchfloor.guard.context import Context
from watchfloor.guard.detectors.hit import Surface
from watchfloor.guard.engine import decide
from watchfloor.guard.policy import PolicySet
from watchfloor.guard.policy_body import effects
from watchfloor.guard.protection import protect
from watchfloor.guard.provenance import labels as provenance
from watchfloor.guard.provenance.conversation import Conversation, ToolResult
from watchfloor.guard.provenance.directory import Directory
from watchfloor.guard.provenance.labels import Strictness
from watchfloor.guard.provenance.trace import Trace, trace
from watchfloor.model.activity import Counters, Invocation
from watchfloor.model.agents import AgentState, CredentialOwner, PinState, Scope, ServerState, TokenMode, ToolEffect
from watchfloor.model.errors import InputError
from watchfloor.model.facts import (
    AgentFacts,
    BindingFacts,
    Facts,
    Organization,
    PolicyFacts,
    ServerFacts,
    TokenFacts,
    ToolFacts,
    UserFacts,
)
from watchfloor.model.people import RiskLevel
from watchfloor.model.verdicts import Effect, Verdict

_NOW: Final = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


class Outcome(NamedTuple):
    """What came of one row. ``got`` is what the policy would do were it enforced, whatever its mode."""

    name: str
    expected: Effect
    got: Effect
    because: str

    @property
    def is_passed(self) -> bool:
        """Whether the policy did what the row says."""
        return self.expected is self.got


def run_tests(body: Mapping[str, Any], others: Iterable[PolicyFacts] = ()) -> list[Outcome]:
    """The outcome of every row of ``body``, with ``others`` in force beside it (none: the policy alone).

    Raises ``InputError`` when the policy cannot be published.
    """
    policies = PolicySet.build([PolicyFacts(body["id"], body.get("version", 1), body), *others])
    outcomes = []
    for row in body.get("tests") or ():
        try:
            verdict = try_row(row["given"], policies, _first_effect(body), body.get("surface", "call"))
        except (ValueError, TypeError) as error:
            raise InputError(f"the row cannot be tried: {error}.", where=f"tests: {row['name']}") from error
        because = "; ".join(f"{reason.code}: {reason.message}" for reason in verdict.reasons) or "no reason"
        outcomes.append(Outcome(row["name"], Effect(row["expect"]), verdict.would_be, because))
    return outcomes


def try_row(
    given: Mapping[str, Any], policies: PolicySet, effect: ToolEffect = ToolEffect.READ, surface: str = "call"
) -> Verdict:
    """The verdict on the call that ``given`` describes, or on the ``content`` that came back on another ``surface``.

    ``effect`` is the tool's unless the row says.
    """
    invocation, facts = ordinary_call(given, effect)
    if "content" in given and surface != "call":
        return protect(Surface(surface), given["content"], invocation, Context(facts, policies)).verdict
    return decide(invocation, Context(facts, policies, _trace(given, invocation, facts)))


def _trace(given: Mapping[str, Any], invocation: Invocation, facts: Facts) -> Trace | None:
    """Where the arguments came from, in a row that says what the agent has ``read``, or what that has to do with it."""
    if "alignment" in given:
        state = AlignmentState(given["alignment"].get("state", AlignmentState.SCORED))
        outcome = Alignment(state, provenance.Outcome(given["alignment"].get("outcome", provenance.Outcome.ALLOW)))
        traced = _traced({"read": [], **given}, invocation, facts)
        return replace(traced, alignment=outcome)
    return _traced(given, invocation, facts) if "read" in given else None


def _traced(given: Mapping[str, Any], invocation: Invocation, facts: Facts) -> Trace:
    conversation = Conversation()
    conversation.say(invocation.user_turns)
    for number, result in enumerate(given["read"]):
        named = conversation.names(result.get("arguments") or {})
        read = ToolResult(f"inv_{number}", invocation.server_id, result.get("tool", "read"), result["result"], named)
        conversation.read(read)
    directory = Directory(given.get("directory") or (), facts.organization.domains)
    assert facts.tool is not None, "an ordinary call has a tool"
    arguments, effect = invocation.arguments, facts.tool.effect
    return trace(invocation.tool, arguments, effect, None, conversation, directory, Strictness.CAREFUL)


def ordinary_call(given: Mapping[str, Any], effect: ToolEffect = ToolEffect.READ) -> tuple[Invocation, Facts]:
    """An invocation and facts that nothing objects to, changed as ``given`` says."""

    def of(room: str) -> dict[str, Any]:
        return dict(given.get(room) or {})

    agent, user, server, tool, binding = of("agent"), of("user"), of("server"), of("tool"), of("binding")
    agent_id, server_id = agent.get("id", "test-agent"), server.get("id", "test-server")
    tool_name = tool.get("name", "test_tool")
    has_user = not ("user" in given and given["user"] is None)
    user_id = user.get("id", "test-user") if has_user else None
    mode = TokenMode(of("token").get("mode", TokenMode.OBO if has_user else TokenMode.AGENT))
    _convert(agent, risk=RiskLevel)
    _convert(user, risk=RiskLevel, groups=tuple)
    _convert(tool, effect=ToolEffect, pin_state=PinState)
    _convert(binding, credential_owner=CredentialOwner, scope=Scope)
    organization = {"name": "Zava", "domains": ["zava.example"], **of("organization")}
    facts = Facts(
        now=_NOW,
        state_is_current=True,
        organization=Organization(organization["name"], tuple(organization["domains"])),
        token=TokenFacts("test-session", mode, 1, 1, _NOW + timedelta(minutes=5), _NOW - timedelta(hours=1)),
        agent=AgentFacts(**_merge(agent, id=agent_id, name="Test agent", state=AgentState.PUBLISHED, version="1")),
        user=UserFacts(**_merge(user, id=user_id, upn="user@zava.example", is_enabled=True)) if has_user else None,
        server=ServerFacts(**_merge(server, id=server_id, name="Test server", state=ServerState.AVAILABLE)),
        tool=ToolFacts(**_merge(tool, server_id=server_id, name=tool_name, effect=effect, pin_state=PinState.PINNED)),
        binding=BindingFacts(
            **_merge(binding, agent_id=agent_id, server_id=server_id, tool=tool_name, scope=Scope.WRITE)
        ),
        counters=Counters(**of("counters")),
    )
    invocation = Invocation(
        id="inv_test",
        at=_NOW,
        tenant="default",
        agent_id=agent_id,
        user_id=user_id,
        mode=mode,
        session_id="test-session",
        server_id=server_id,
        tool=tool_name,
        arguments=given.get("args") or {},
        user_turns=tuple(given.get("user_turns") or ()),
        **_merge(of("invocation"), door="mcp"),
    )
    return invocation, facts


def _merge(changes: Mapping[str, Any], **ordinary: Any) -> dict[str, Any]:
    return {**ordinary, **changes}


def _convert(members: dict[str, Any], **kinds: Any) -> None:
    for name, kind in kinds.items():
        if name in members:
            members[name] = kind(members[name])


def _first_effect(body: Mapping[str, Any]) -> ToolEffect:
    """An effect that the policy looks at: ``send`` where it can, else the first there is."""
    scope = body.get("scope") or {}
    covered = effects(scope.get("effects", ("*",)))
    return ToolEffect.SEND if ToolEffect.SEND in covered else next(e for e in ToolEffect if e in covered)
