"""Every action an operator can take: who may, what must hold, what it does, how it is undone. One visible list.

Each action's ``effect`` runs inside the runner's transaction, after permission, reason and rate have been checked; it
checks what only it can know, changes state through ``registry``, ``identity`` or ``storage``, and returns what shows
that it worked. To add one: a function here and a line in ``ACTIONS``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from watchfloor.identity import sessions
from watchfloor.identity.signals import outbox
from watchfloor.model.agents import ToolEffect, VersionState
from watchfloor.model.errors import Conflict, NotFound
from watchfloor.model.people import Permission
from watchfloor.model.sagas import SagaKind
from watchfloor.registry import inventory as registry
from watchfloor.registry import pinning, submissions
from watchfloor.response import approvers, recovery, saga
from watchfloor.response.plans import PLANS
from watchfloor.response.ports import SecurityEvent
from watchfloor.storage import holds, inventory, people
from watchfloor.storage.holds import Hold, HoldStatus
from watchfloor.storage.versions import AgentVersion

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

YES: Final = "yes"
"""The value of an option that is wanted."""

APPROVAL_LIFETIME: Final = timedelta(minutes=10)
"""How long an approved call may take to come back, at least."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for."""

    subject_id: str
    reason: str
    incident_id: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` of an action by one operator within ``window``: a stolen account must not stop the company."""

    count: int
    window: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Option:
    """Something that may be asked for along with an action: ``name`` in the order's parameters is ``yes``."""

    name: str
    label: str


@dataclass(frozen=True, slots=True)
class Action:
    """One action. ``subject`` is the kind of thing that it is done to; ``undo`` the action that takes it back."""

    id: str
    title: str
    subject: str
    permission: Permission
    says: str
    """What will happen, for whoever is asked to confirm it."""
    effect: Callable[[ControlTx, Order], Mapping[str, Any]]
    undo: str | None
    no_undo: str = ""
    """Why nothing takes it back, and what to do instead."""
    rate: Rate = field(default_factory=lambda: Rate(60))
    needs_reason: bool = True
    stops: bool = False
    """Whether it takes something away from somebody: asked about in red."""
    precondition: str = ""
    """What has to hold, besides the permission; the effect checks it."""
    read_back: str = ""
    """What shows afterwards that it holds, and is not only what was ordered."""
    options: tuple[Option, ...] = ()


def _block_agent(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    before = inventory.find_agent(tx, order.subject_id)
    agent = registry.block(tx, order.subject_id, order.reason)
    if before is not None and before.state is agent.state:
        raise Conflict(f"agent {agent.id} is blocked already.", where="agent")
    return {"state": agent.state.value, "agent_epoch": agent.epoch}


def _unblock_agent(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    recovery.refuse_plain_unblock(tx, order.subject_id)
    number = order.parameters.get("version")
    agent = registry.unblock(tx, order.subject_id, order.reason, int(number) if number else None)
    return {"state": agent.state.value, "agent_epoch": agent.epoch, "version": agent.version}


def _approve_version(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    audience = order.parameters.get("audience")
    version = submissions.approve(
        tx,
        *submissions.parse_subject(order.subject_id),
        order.reason,
        conditions=order.parameters.get("conditions", ""),
        audience=None if audience is None else json.loads(audience),
    )
    return _decided(tx, version)


def _decline_version(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    return _decided(tx, submissions.decline(tx, *submissions.parse_subject(order.subject_id), order.reason))


def _block_version(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    agent_id, number = submissions.parse_subject(order.subject_id)
    agent = registry.block_version(tx, agent_id, number, order.reason)
    return {"version_state": VersionState.BLOCKED.value, "state": agent.state.value, "agent_epoch": agent.epoch}


def _decided(tx: ControlTx, version: AgentVersion) -> Mapping[str, Any]:
    agent = inventory.find_agent(tx, version.agent_id)
    assert agent is not None
    return {"version_state": version.state.value, "state": agent.state.value, "version": agent.version}


def _revoke_user_sessions(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    revoked = sessions.revoke_user(tx, order.subject_id, order.reason)
    user = people.find_user(tx, order.subject_id)
    assert user is not None
    told = SecurityEvent("session-revoked", "user", user.id, tx.now, order.reason, user.issuer, user.subject, user.upn)
    outbox.emit(tx, f"revoke/{user.id}/{revoked.epoch}", told)
    return {
        "user_epoch": revoked.epoch,
        "sign_ins_count_from": revoked.not_before.isoformat() if revoked.not_before else None,
    }


def _hold_to_answer(tx: ControlTx, order: Order) -> tuple[Hold, str]:
    """The hold, and in whose place the actor answers it."""
    hold = holds.find_hold(tx, order.subject_id)
    if hold is None:
        raise NotFound(f"there is no hold {order.subject_id!r}.", where="hold")
    return hold, approvers.check(tx, hold)


def _approve_hold(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    hold, instead_of = _hold_to_answer(tx, order)
    valid_until = max(hold.expires_at, tx.now + APPROVAL_LIFETIME)
    approved = holds.approve(tx, hold.id, reason=order.reason, valid_until=valid_until, instead_of=instead_of)
    return _answered(
        tx, approved, "hold:endorse" if approved.status is HoldStatus.PENDING else "hold:approve", order, instead_of
    )


def _decline_hold(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    hold, instead_of = _hold_to_answer(tx, order)
    return _answered(tx, holds.decline(tx, hold.id, reason=order.reason), "hold:decline", order, instead_of)


def _revoke_approval(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    hold, instead_of = _hold_to_answer(tx, order)
    return _answered(tx, holds.revoke(tx, hold.id, reason=order.reason), "hold:revoke", order, instead_of)


def _answered(tx: ControlTx, hold: Hold, action: str, order: Order, instead_of: str) -> Mapping[str, Any]:
    proof: dict[str, Any] = {
        "status": hold.status.value,
        "invocation_id": hold.invocation_id,
        "payload_hash": hold.payload_hash,
        "valid_until": hold.expires_at.isoformat(),
    }
    if hold.approvals_needed > 1:
        proof["approvals"] = f"{len(hold.approvals)} of {hold.approvals_needed}"
    if instead_of:
        proof["instead_of"] = instead_of
    tx.audit(action, f"hold/{hold.id}", {**proof, **({"reason": order.reason} if order.reason else {})})
    return proof


def _tool(order: Order) -> tuple[str, str]:
    server_id, _, name = order.subject_id.partition("/")
    return server_id, name


def _set_tool_blocked(tx: ControlTx, order: Order, is_blocked: bool) -> Mapping[str, Any]:
    server_id, name = _tool(order)
    before = inventory.find_tool(tx, server_id, name)
    if before is not None and before.is_blocked is is_blocked:
        state = "blocked" if is_blocked else "not blocked"
        raise Conflict(f"tool {order.subject_id} is {state} already.", where="tool")
    tool = registry.set_tool_blocked(tx, server_id, name, is_blocked, order.reason)
    return {"is_blocked": tool.is_blocked}


def _block_tool(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    return _set_tool_blocked(tx, order, True)


def _unblock_tool(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    return _set_tool_blocked(tx, order, False)


def _approve_tool(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    effect = order.parameters.get("effect")
    tool = pinning.approve_tool(
        tx,
        *_tool(order),
        observed=order.parameters.get("observed") or None,
        effect=ToolEffect(effect) if effect else None,
    )
    return {"pin": tool.pin, "pin_state": tool.pin_state.value, "effect": tool.effect.value}


# -- compromise ---------------------------------------------------------------------------------------------------


def _confirm(kind: SagaKind) -> Callable[[ControlTx, Order], Mapping[str, Any]]:
    def effect(tx: ControlTx, order: Order) -> Mapping[str, Any]:
        wanted = {name: True for name, value in order.parameters.items() if value == YES}
        return saga.proof_of(tx, saga.confirm(tx, kind, order.subject_id, order.reason, order.incident_id, wanted))

    return effect


def _dismiss_user_risk(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    return saga.proof_of(tx, recovery.dismiss(tx, order.subject_id, order.reason, order.incident_id))


def _remediate_user_risk(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    return saga.proof_of(tx, recovery.remediate(tx, order.subject_id, order.reason, order.incident_id))


def _release_agent(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    return recovery.release_agent(tx, order.subject_id, order.reason)


def _release_server(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    return recovery.release_server(tx, order.subject_id, order.reason)


def _approve_response(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    return saga.proof_of(tx, saga.approve(tx, order.subject_id, order.reason))


def _decline_response(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    return saga.proof_of(tx, saga.decline(tx, order.subject_id, order.reason))


def _retry_step(tx: ControlTx, order: Order) -> Mapping[str, Any]:
    saga_id, _, name = order.subject_id.partition("/")
    step = saga.retry(tx, saga_id, name, order.reason)
    return {
        "response": saga_id,
        "step": PLANS[saga.require(tx, saga_id).kind].title_of(name),
        "state": step.state.value,
    }


ACTIONS: Final[dict[str, Action]] = {
    a.id: a
    for a in (
        Action(
            "block_agent", "Block the agent", "agent", Permission.AGENT_BLOCK,
            "Every tool call of this agent is refused from now on, for everybody, and its tokens are dead.",
            _block_agent, undo="unblock_agent", rate=Rate(30), stops=True,
        ),
        Action(
            "unblock_agent", "Unblock the agent", "agent", Permission.AGENT_BLOCK,
            "The agent works again, as the version that was approved last. Tokens from before the block stay dead.",
            _unblock_agent, undo="block_agent", rate=Rate(30),
        ),
        Action(
            "approve_version", "Approve the version", "version", Permission.AGENT_APPROVE,
            "The agent is this version from now on. A blocked agent stays blocked, and is unblocked with it.",
            _approve_version, undo=None, no_undo="Block the agent, or apply the manifest from before.", rate=Rate(120),
            precondition="Not by whoever built the agent or the version; no check fails; nothing newer is live.",
            read_back="The workers' projection shows the version.",
        ),
        Action(
            "decline_version", "Decline the version", "version", Permission.AGENT_APPROVE,
            "What is live stays live, and the maker is told why.",
            _decline_version, undo=None, no_undo="The maker submits it again.", rate=Rate(120),
        ),
        Action(
            "block_version", "Block the version", "version", Permission.AGENT_BLOCK,
            "This build does not come back. If it is live, the agent is blocked, and is unblocked only as another one.",
            _block_version, undo=None, no_undo="Have another version approved.", rate=Rate(30), stops=True,
            precondition="The version is live, or approved and waits for the unblock.",
            read_back="The workers' projection says that the agent is blocked.",
        ),
        Action(
            "revoke_user_sessions", "Revoke the user's sessions", "user", Permission.USER_REVOKE,
            "Every session of this user ends: the next call of every agent on their behalf is refused.",
            _revoke_user_sessions, undo=None, no_undo="The user signs in again.", rate=Rate(20), stops=True,
        ),
        Action(
            "approve_hold", "Approve the call", "hold", Permission.HOLD_DECIDE,
            "Exactly this call, with exactly these arguments, is let out once.",
            _approve_hold, undo="revoke_approval",
            rate=Rate(120), needs_reason=False,
        ),
        Action(
            "approve_tool", "Approve the tool's definition", "tool", Permission.REGISTRY_WRITE,
            "Calls to the tool are allowed again, with the definition that its server listed last.",
            _approve_tool, undo="block_tool", needs_reason=False,
        ),
        Action(
            "decline_hold", "Decline the call", "hold", Permission.HOLD_DECIDE,
            "The call is refused for good; the agent may ask again with another one.",
            _decline_hold, undo=None, no_undo="The agent may make the call again and is held again.",
            rate=Rate(120), needs_reason=False, stops=True,
        ),
        Action(
            "revoke_approval", "Take the approval back", "hold", Permission.HOLD_DECIDE,
            "The call is not let out, unless it has gone out already.",
            _revoke_approval, undo=None, no_undo="The agent may make the call again and is held again.",
            rate=Rate(120), needs_reason=False, stops=True,
        ),
        Action(
            "block_tool", "Block the tool", "tool", Permission.REGISTRY_WRITE,
            "Every call to this tool is refused, whichever agent makes it.",
            _block_tool, undo="unblock_tool", stops=True,
        ),
        Action(
            "unblock_tool", "Unblock the tool", "tool", Permission.REGISTRY_WRITE,
            "Agents that are bound to this tool may call it again.",
            _unblock_tool, undo="block_tool",
            read_back="The workers' projection says that the tool is not blocked.",
        ),
        Action(
            "confirm_user_compromised", "Confirm compromised", "user", Permission.USER_CONFIRM_COMPROMISED,
            "Every session of this user ends at once, the risk is high, and nothing works before a new password is "
            "set; then the identity provider is asked to do the same, and what it says is read back.",
            _confirm(SagaKind.USER_COMPROMISE), undo="dismiss_user_risk", rate=Rate(100), stops=True,
            precondition="Not a break-glass account, not yourself, not the last administrator; accounts that much "
            "depends on, and more than 20 within 10 minutes, need a second operator.",
            read_back="The identity provider tells of no live session, a required password and the risk.",
        ),
        Action(
            "dismiss_user_risk", "Dismiss the risk", "user", Permission.USER_DISMISS_RISK,
            "It was no compromise: the risk and the duty to set a new password are lifted, here and at the identity "
            "provider. Sessions that ended stay dead.",
            _dismiss_user_risk, undo="confirm_user_compromised",
            precondition="The user is at risk or owes a new password; not your own account.",
            read_back="The identity provider tells of no risk.",
        ),
        Action(
            "remediate_user_risk", "Mark as remediated", "user", Permission.USER_DISMISS_RISK,
            "It was a compromise and is over: the account is its owner's again. Sessions that ended stay dead.",
            _remediate_user_risk, undo="confirm_user_compromised",
            precondition="The user is at risk or owes a new password; not your own account.",
            read_back="The identity provider tells of no risk.",
        ),
        Action(
            "confirm_agent_compromised", "Quarantine the agent", "agent", Permission.AGENT_CONFIRM_COMPROMISED,
            "The agent is blocked, its tokens and its secret are dead, its risk is high, and calls of it that wait for "
            "an operator are refused. Its child agents are listed.",
            _confirm(SagaKind.AGENT_COMPROMISE), undo="release_agent", rate=Rate(100), stops=True,
            precondition="The agent is not retired; more than 20 within 10 minutes need a second operator.",
            read_back="The workers' projection says that the agent is blocked.",
            options=(Option("revoke_children", "Block its child agents, too"),),
        ),
        Action(
            "release_agent", "Release the agent from quarantine", "agent", Permission.AGENT_CONFIRM_COMPROMISED,
            "The agent works again as it was declared, once it has a new secret. Tokens from before stay dead.",
            _release_agent, undo="confirm_agent_compromised", rate=Rate(30),
            precondition="The agent was confirmed compromised; not by whoever built it.",
            read_back="The workers' projection says that the agent is not blocked.",
        ),
        Action(
            "confirm_server_compromised", "Block the tool server", "server", Permission.SERVER_BLOCK,
            "Every call to any tool of this server is refused, whichever agent makes it. Who is bound to it is listed.",
            _confirm(SagaKind.SERVER_COMPROMISE), undo="release_server", rate=Rate(100), stops=True,
            precondition="More than 20 within 10 minutes need a second operator.",
            read_back="The workers' projection says that the server is blocked.",
        ),
        Action(
            "release_server", "Unblock the tool server", "server", Permission.SERVER_BLOCK,
            "Agents that are bound to tools of this server may call them again.",
            _release_server, undo="confirm_server_compromised", rate=Rate(30),
            precondition="The server is blocked.",
            read_back="The workers' projection says that the server is available.",
        ),
        Action(
            "approve_response", "Approve the response", "response", Permission.RESPONSE_DECIDE,
            "What a colleague asked for is carried out, as if they had been allowed to do it alone.",
            _approve_response, undo=None, no_undo="Lift it as any response of its kind.", rate=Rate(120), stops=True,
            precondition="Somebody else asked for it, within the last hour, and you may do such a thing yourself.",
            read_back="The steps of the response show what was done.",
        ),
        Action(
            "decline_response", "Decline the response", "response", Permission.RESPONSE_DECIDE,
            "What was asked for is not done.",
            _decline_response, undo=None, no_undo="It can be asked for again.", rate=Rate(120),
            precondition="It waits for approval; it is not about your own account.",
        ),
        Action(
            "retry_response_step", "Try the step again", "response step", Permission.RESPONSE_DECIDE,
            "The step is tried anew, and what is read back after it is read anew.",
            _retry_step, undo=None, no_undo="Nothing is taken away by trying.", rate=Rate(120), needs_reason=False,
            precondition="The step failed or was skipped, and the response was neither dismissed nor remediated.",
            read_back="The step shows what came of it.",
        ),
    )
}  # fmt: skip
"""Every action by id."""
