"""The steps of a decision that look at facts: who calls, with what, and whether state allows it.

Each step reads the case and adds reasons; none returns early for another's sake, so that a verdict tells everything
that is wrong. A fact that is missing is a reason to refuse. The steps that run detectors and policies are in
``judgement.py``; their order is in ``engine.STEPS``.
"""

from __future__ import annotations

from typing import Any

from watchfloor.guard.case import Case
from watchfloor.model.access import Control
from watchfloor.model.agents import AgentState, PinState, Scope, ServerState, TokenMode, ToolEffect
from watchfloor.model.facts import AgentFacts
from watchfloor.model.people import RiskLevel
from watchfloor.model.verdicts import Mode

_STEP_UPS = frozenset({Control.MFA, Control.REAUTHENTICATE})
_ACTS_FOR_A_USER = frozenset({TokenMode.OBO, TokenMode.AGENT_USER})


def check_session(case: Case) -> None:
    """Is what we know current, and are the token and its user still good?"""
    facts, invocation = case.facts, case.invocation
    if not facts.state_is_current:
        tool = facts.tool
        may_be_stale = tool is not None and tool.effect is ToolEffect.READ and tool.allow_when_stale
        case.refuse("state_stale", "session", Mode.AUDIT if may_be_stale else Mode.ENFORCE)
    token = facts.token
    if token.expires_at <= facts.now:
        case.refuse("token_expired", "session")
    user = facts.user
    if user is None:
        if invocation.user_id is not None or token.mode in _ACTS_FOR_A_USER:
            case.refuse("user_unknown", "session")
        return
    if user.id != invocation.user_id:
        case.refuse("user_unknown", "session")
    if not user.is_enabled:
        case.refuse("user_disabled", "session")
    signed_in_too_early = user.not_before is not None and (token.auth_time is None or token.auth_time < user.not_before)
    if token.user_epoch < user.epoch or signed_in_too_early:
        case.refuse("session_revoked", "session")


def check_agent(case: Case) -> None:
    """Is the agent published, and the token younger than its last block?"""
    agent = case.facts.agent
    if agent is None or agent.id != case.invocation.agent_id:
        case.refuse("agent_unknown", "agent")
        return
    if agent.state is AgentState.BLOCKED:
        case.refuse("agent_blocked", "agent")
    elif agent.state is not AgentState.PUBLISHED:
        case.refuse("agent_not_published", "agent")
    if case.facts.token.agent_epoch < agent.epoch:
        case.refuse("agent_revoked", "agent")
    token = case.facts.token
    if token.handed_over_by:
        parents = {parent.id: parent for parent in case.facts.parents}
        if any(not _may_hand_over(parents.get(before.agent_id), before.epoch) for before in token.handed_over_by):
            case.refuse("handover_revoked", "agent")


def _may_hand_over(agent: AgentFacts | None, epoch: int) -> bool:
    """Whether work that ``agent`` handed over at ``epoch`` may go on: what stops an agent stops what it set going."""
    return (
        agent is not None
        and agent.state is AgentState.PUBLISHED
        and agent.risk is not RiskLevel.HIGH
        and epoch >= agent.epoch
    )


def check_tool(case: Case) -> None:
    """Is the tool what was approved, and granted to this agent as far as the call goes?"""
    facts, invocation = case.facts, case.invocation
    server, tool, binding = facts.server, facts.tool, facts.binding
    if server is None or server.id != invocation.server_id:
        case.refuse("server_unknown", "tool")
    elif server.state is not ServerState.AVAILABLE:
        case.refuse("server_blocked", "tool")
    if tool is None or tool.server_id != invocation.server_id or tool.name != invocation.tool:
        case.refuse("tool_unknown", "tool")
    else:
        if tool.is_blocked:
            case.refuse("tool_blocked", "tool")
        if tool.pin_state is PinState.CHANGED:
            case.refuse("tool_changed", "tool")
    if (
        binding is None
        or binding.agent_id != invocation.agent_id
        or binding.server_id != invocation.server_id
        or (binding.tool != "*" and binding.tool != invocation.tool)
    ):
        case.refuse("not_granted", "tool")
    elif binding.scope is not Scope.WRITE and (tool is None or tool.effect is not ToolEffect.READ):
        case.refuse("scope_exceeded", "tool")


def check_access(case: Case) -> None:
    """Are the user and the agent safe enough to act at all?"""
    user, agent = case.facts.user, case.facts.agent
    if user is not None:
        if user.risk is RiskLevel.HIGH:
            case.refuse("user_risk", "access")
        if user.must_reset_password:
            case.refuse("password_reset_required", "access")
    if agent is not None and agent.risk is RiskLevel.HIGH:
        case.refuse("agent_risk", "access")
    access = case.facts.access
    if access is None:
        return
    if access.problem:
        case.refuse("policy_error", "access", detail={"because": access.problem})
    for applied in access.refusing:
        detail: dict[str, Any] = {"policy": applied.name, "because": applied.because}
        if access.max_age is not None and applied.control in _STEP_UPS:
            detail["max_age"] = access.max_age
        case.refuse(applied.control.refusal_code, "access", detail=detail, policy=(applied.id, applied.version))
