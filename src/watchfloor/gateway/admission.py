"""May this agent, for this user, speak to the gateway or to a tool server at all, and may what it began go on?

``enforce.py`` asks: before there is a call, with an invocation that names who looks and no tool; while one is on its
way, with the call. The same steps as in a decision answer; what is not known is a reason to refuse.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from watchfloor.gateway.state import ANY_TOOL, State
from watchfloor.gateway.tokens import Token
from watchfloor.guard import steps
from watchfloor.guard.case import Case
from watchfloor.guard.content import Limits, examine
from watchfloor.model.access import NO_PROOF, Proof
from watchfloor.model.activity import Counters, Invocation
from watchfloor.model.agents import CredentialOwner, PinState, Scope, ServerState, TokenMode
from watchfloor.model.facts import BindingFacts, Facts, ServerFacts

NOT_A_REVOCATION: Final = frozenset({"state_stale", "token_expired", "reauthentication_required"})
"""Reasons that keep a call from starting, and do not end one that has started."""

_PSEUDO_TOOL: Final = "mcp:"  # as ``mcp.protocol`` names what is no tool call
_NO_CONTENT: Final = examine({}, (), Limits())


def why_not(state: State, look: Invocation, token: Token) -> str | None:
    """Why the agent may not speak to the token's server, by reason code; None if it may."""
    case = _about_the_caller(state, look, token)
    if case is None:
        return "state_stale"
    server = case.facts.server
    if server is None:
        case.refuse("server_unknown", "tool")
    elif server.state is not ServerState.AVAILABLE:
        case.refuse("server_blocked", "tool")
    if not state.is_bound(token.agent_id, token.server_id):
        case.refuse("not_granted", "tool")
    return case.reasons[0].code if case.reasons else None


def why_agent_not(state: State, look: Invocation, token: Token) -> str | None:
    """Why the agent may not speak to the gateway, whatever the server; None if it may."""
    case = _about_the_caller(state, look, token)
    if case is None:
        return "state_stale"
    return case.reasons[0].code if case.reasons else None


def at_server(state: State, token: Token, server_id: str) -> Token:
    """An agent's own token (``NO_SERVER``) as one for ``server_id``: its mode is what the bindings there make it."""
    owners = {b.credential_owner for b in state.bindings.get((token.agent_id, server_id), {}).values()}
    mode = TokenMode.MAKER if owners == {CredentialOwner.MAKER} else token.mode
    return replace(token, server_id=server_id, mode=mode, facts=replace(token.facts, mode=mode))


def with_model(facts: Facts, token: Token) -> Facts:
    """The facts of a prompt: a model stands where a tool server does, and every agent may speak to its model."""
    server = ServerFacts(token.server_id, "Model", "", ServerState.AVAILABLE)
    binding = BindingFacts(token.agent_id, token.server_id, ANY_TOOL, CredentialOwner.APP, Scope.READ)
    return replace(facts, server=server, binding=binding)


def has_open_tool(state: State, token: Token) -> bool:
    """Whether anything that the agent was granted at the token's server is neither blocked nor changed."""
    for name in state.bindings.get((token.agent_id, token.server_id), ()):
        tool = state.tool(token.server_id, name)
        if name == ANY_TOOL or name.startswith(_PSEUDO_TOOL):
            return True
        if tool is not None and not tool.is_blocked and tool.pin_state is not PinState.CHANGED:
            return True
    return False


def why_ended(state: State, invocation: Invocation, facts: Facts, now: datetime) -> str | None:
    """Why a permitted call would not be permitted now, as far as state says; policies are not asked again."""
    if state.policies is None:
        return "state_stale"
    pseudo = facts.tool if invocation.tool.startswith(_PSEUDO_TOOL) else None
    fresh = state.facts(
        facts.token,
        invocation.agent_id,
        invocation.user_id,
        invocation.server_id,
        invocation.tool,
        now,
        facts.counters,
        None,
        pseudo,
        proof=NO_PROOF if facts.access is None else Proof(facts.access.methods, facts.access.sign_in_risk),
    )
    case = Case(invocation, fresh, state.policies, _NO_CONTENT, "")
    for step in (steps.check_session, steps.check_agent, steps.check_tool, steps.check_access):
        step(case)
    return next((r.code for r in case.reasons if r.code not in NOT_A_REVOCATION), None)


def about(state: State, look: Invocation, token: Token) -> Facts:
    """The facts of who looks."""
    at = (token.facts, token.agent_id, token.user_id, token.server_id, "", look.at)
    return state.facts(*at, Counters(), proof=token.proof)


def _about_the_caller(state: State, look: Invocation, token: Token) -> Case | None:
    if state.policies is None:
        return None
    facts = about(state, look, token)
    case = Case(look, facts, state.policies, _NO_CONTENT, "")
    steps.check_session(case)
    steps.check_agent(case)
    steps.check_access(case)
    return case
