"""An ordinary call that nothing objects to, and short ways to change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from watchfloor.guard.context import Context
from watchfloor.guard.engine import decide
from watchfloor.guard.policy import PolicySet
from watchfloor.model.activity import Invocation
from watchfloor.model.agents import (
    AgentState,
    CredentialOwner,
    PinState,
    Scope,
    ServerState,
    TokenMode,
    ToolEffect,
)
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
from watchfloor.model.verdicts import Verdict

NOW = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)

NO_POLICIES = PolicySet.build(())

FACTS = Facts(
    now=NOW,
    state_is_current=True,
    organization=Organization("Zava", ("zava.example",)),
    token=TokenFacts("ses-1", TokenMode.OBO, 3, 2, NOW + timedelta(minutes=5), NOW - timedelta(hours=1)),
    agent=AgentFacts("billing", "Billing Agent", AgentState.PUBLISHED, "3", epoch=2, maker_id="ada"),
    user=UserFacts("griffin", "griffin@zava.example", "Griffin", is_enabled=True, epoch=3, groups=("billing",)),
    server=ServerFacts("mail", "Mail", "http://127.0.0.1:7731/mcp", ServerState.AVAILABLE),
    tool=ToolFacts("mail", "send_email", ToolEffect.SEND, PinState.PINNED, "ab" * 32),
    binding=BindingFacts("billing", "mail", "send_email", CredentialOwner.USER, Scope.WRITE),
)

CALL = Invocation(
    id="inv_01",
    at=NOW,
    door="mcp",
    tenant="default",
    agent_id="billing",
    user_id="griffin",
    mode=TokenMode.OBO,
    session_id="ses-1",
    server_id="mail",
    tool="send_email",
    arguments={"to": ["ann@zava.example"], "subject": "October", "body": "The invoice is attached."},
)


def call(**changes: Any) -> Invocation:
    """The ordinary call, changed."""
    return dataclasses.replace(CALL, **changes)


def facts(**changes: Any) -> Facts:
    """The ordinary facts, changed: ``facts(agent={"state": …})`` changes members, ``facts(agent=None)`` the whole."""
    merged = {}
    for name, change in changes.items():
        before = getattr(FACTS, name)
        merged[name] = dataclasses.replace(before, **change) if isinstance(change, Mapping) else change
    return dataclasses.replace(FACTS, **merged)


def policy(**changes: Any) -> dict[str, Any]:
    """A policy that blocks every call, changed."""
    return {
        "id": "block-all",
        "title": "Block everything",
        "effect": "block",
        "when": "true",
        "message": "blocked",
        **changes,
    }


def policies(*bodies: Mapping[str, Any]) -> PolicySet:
    """A set of these bodies."""
    return PolicySet.build([PolicyFacts(body["id"], body.get("version", 1), body) for body in bodies])


def judge(invocation: Invocation = CALL, known: Facts = FACTS, policy_set: PolicySet | None = NO_POLICIES) -> Verdict:
    """The verdict."""
    return decide(invocation, Context(known, policy_set))


def codes(verdict: Verdict) -> list[str]:
    """The codes of its reasons, in order."""
    return [reason.code for reason in verdict.reasons]
