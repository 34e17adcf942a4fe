"""What a response does here and at once, in the caller's transaction: when that has committed, gateways refuse.

Above ``identity``, ``registry`` and ``storage``; ``saga`` calls it. Each function returns, by the name of the step that
it settles, what shows that it was done. No identity provider is spoken to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from watchfloor.identity import operators, risk, sessions
from watchfloor.model.agents import AgentState, CredentialOwner
from watchfloor.model.errors import NotFound
from watchfloor.registry import inventory as registry
from watchfloor.response.plans import CHILDREN, CREDENTIALS, HOLDS, LOCAL
from watchfloor.storage import holds, inventory, people
from watchfloor.storage.holds import HoldStatus
from watchfloor.storage.inventory import Agent
from watchfloor.storage.people import User

if TYPE_CHECKING:
    from watchfloor.model.sagas import SagaKind
    from watchfloor.storage.control import ControlTx

Evidence = Mapping[str, Mapping[str, Any]]

_MOST_NAMED: Final = 200
"""Things that evidence lists by name; of more, the first of them and how many."""


def require_user(tx: ControlTx, user_id: str) -> User:
    """The user. Raises ``NotFound``."""
    user = people.find_user(tx, user_id)
    if user is None:
        raise NotFound(f"there is no user {user_id!r}.", where="user")
    return user


def require_agent(tx: ControlTx, agent_id: str) -> Agent:
    """The agent. Raises ``NotFound``."""
    agent = inventory.find_agent(tx, agent_id)
    if agent is None:
        raise NotFound(f"there is no agent {agent_id!r}.", where="agent")
    return agent


# -- users --------------------------------------------------------------------------------------------------------


def compromise_user(tx: ControlTx, user_id: str, reason: str, parameters: Mapping[str, Any]) -> Evidence:
    """Every session ends, risk is high, and a new password is due before anything else."""
    revoked = sessions.revoke_user(tx, user_id, reason, require_password_reset=True)
    risk.confirm_compromised(tx, "user", user_id, reason)
    user = require_user(tx, user_id)
    # One id is one person, here and there: whoever holds the user's sessions may hold the operator's.
    is_operator = people.find_operator(tx, user_id) is not None
    ended = operators.end_sessions(tx, user_id) if is_operator else 0
    return {
        LOCAL: {
            "user_epoch": revoked.epoch,
            "sign_ins_count_from": revoked.not_before.isoformat() if revoked.not_before else None,
            "risk": user.risk.value,
            "must_reset_password": user.must_reset_password,
            **({"operator_sessions_ended": ended} if is_operator else {}),
        }
    }


# -- agents -------------------------------------------------------------------------------------------------------


def compromise_agent(tx: ControlTx, agent_id: str, reason: str, parameters: Mapping[str, Any]) -> Evidence:
    """The agent is blocked, its tokens and its secret are dead, what it waited for is refused, children are listed."""
    blocked = registry.block(tx, agent_id, reason)
    risk.confirm_compromised(tx, "agent", agent_id, reason)
    agent = require_agent(tx, agent_id)
    had_secret = agent.secret_hash is not None
    if had_secret:
        agent = replace(agent, secret_hash=None)
        inventory.save_agent(tx, agent, "agent:revoke-secret", reason)
    return {
        LOCAL: {"state": agent.state.value, "agent_epoch": blocked.epoch, "risk": agent.risk.value},
        CREDENTIALS: {"secret": "revoked" if had_secret else "had none", **_to_rotate(tx, agent_id)},
        HOLDS: _refuse_holds(tx, agent_id, reason),
        CHILDREN: _children(tx, agent, reason, is_revoked=bool(parameters.get("revoke_children"))),
    }


def _to_rotate(tx: ControlTx, agent_id: str) -> dict[str, Any]:
    """Credentials of others that the agent's calls went upstream with: they never left the vault, and are named."""
    owners = {
        f"{b.server_id}/{b.tool} ({b.credential_owner.value})"
        for b in inventory.list_bindings(tx, agent_id=agent_id)
        if b.credential_owner is not CredentialOwner.USER
    }
    return {"worked_with_credentials_of": _named(owners)} if owners else {}


def _refuse_holds(tx: ControlTx, agent_id: str, reason: str) -> dict[str, Any]:
    declined, taken_back = [], []
    for hold in holds.list_holds(tx, status=HoldStatus.PENDING, agents=[agent_id], limit=10_000):
        if hold.expires_at > tx.now:
            holds.decline(tx, hold.id, reason=reason)
            declined.append(hold.id)
    for hold in holds.list_holds(tx, status=HoldStatus.APPROVED, agents=[agent_id], limit=10_000):
        if hold.expires_at > tx.now and not holds.is_used(tx, hold.id):
            holds.revoke(tx, hold.id, reason=reason)
            taken_back.append(hold.id)
    for verb, ids in (("hold:decline", declined), ("hold:revoke-approval", taken_back)):
        for hold_id in ids:
            tx.audit(verb, f"hold/{hold_id}", {"agent": agent_id, "reason": reason})
    return {"declined": len(declined), "approvals_taken_back": len(taken_back)}


def _children(tx: ControlTx, agent: Agent, reason: str, *, is_revoked: bool) -> dict[str, Any]:
    """Agents that are part of it, and theirs: named, and blocked as well where that was asked for."""
    known = inventory.list_agents(tx)
    # An id is unique and a name may not be: whoever has the id is meant.
    by_name = {each.name: each for each in known} | {each.id: each for each in known}
    declared: list[str] = []
    registered: dict[str, Agent] = {}
    waiting = list(agent.manifest.get("childAgents", ()))
    while waiting:
        name = str(waiting.pop(0))
        if name in declared:
            continue
        declared.append(name)
        child = by_name.get(name)
        if child is not None and child.id != agent.id and child.id not in registered:
            registered[child.id] = child
            waiting += child.manifest.get("childAgents", ())
    stopped = []
    for child in registered.values():
        if is_revoked and child.state not in (AgentState.BLOCKED, AgentState.RETIRED):
            registry.block(tx, child.id, reason)
            stopped.append(child.id)
    return {
        "declared": _named(declared),
        "registered": _named(registered),
        **({"blocked": _named(stopped)} if is_revoked else {"left_as_they_are": _named(registered)}),
    }


def _named(names: object) -> str:
    found = sorted(map(str, names)) if isinstance(names, set | dict | list) else [str(names)]
    if not found:
        return "none"
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more


# -- tool servers -------------------------------------------------------------------------------------------------


def compromise_server(tx: ControlTx, server_id: str, reason: str, parameters: Mapping[str, Any]) -> Evidence:
    """Every call to any tool of the server is refused; its tools, and the agents that used them, are named."""
    server = registry.block_server(tx, server_id, reason)
    bindings = inventory.list_bindings(tx, server_id=server_id)
    return {
        LOCAL: {
            "state": server.state.value,
            "tools_refused": _named({tool.name for tool in inventory.list_tools(tx, server_id)}),
            "agents_bound": _named({binding.agent_id for binding in bindings}),
            "credentials_of": _named({binding.credential_owner.value for binding in bindings}),
        }
    }


def subject_name(tx: ControlTx, kind: SagaKind, subject_id: str) -> str:
    """How people call the subject; its id where nobody does."""
    found: Any = None
    if kind.subject_kind == "user":
        found = people.find_user(tx, subject_id)
    elif kind.subject_kind == "agent":
        found = inventory.find_agent(tx, subject_id)
    else:
        found = inventory.find_server(tx, subject_id)
    return (found.name if found is not None else "") or subject_id
