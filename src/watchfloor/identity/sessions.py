"""Revocation: what a user or an agent could still do a moment ago ends with the commit of one transaction.

Above ``storage.people`` and ``storage.inventory``; the portal and response call it. It speaks to no identity provider:
what happens there is the saga's business, and comes after this.

Two mechanisms, one for each kind of token. Tokens of our own carry the epoch (``sev``, ``aev``): raising it kills every
one that exists, without a clock. Tokens of a foreign identity provider carry times in whole seconds:
``storage.people.not_before_for`` says which of them are refused at the exchange.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from watchfloor.identity import risk
from watchfloor.model.errors import InputError, NotFound
from watchfloor.storage import inventory, people, risks

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class Revoked:
    """What was revoked: every token with a lower epoch is dead once the transaction has committed.

    The revision of state that carries it is known only after the commit: read it from the store or the epoch file.
    """

    subject: str
    epoch: int
    not_before: datetime | None
    at: datetime


def _reason(reason: str) -> str:
    if not reason.strip():
        raise InputError("a reason is needed.", where="reason", remedy="Say why, for whoever reads the audit log.")
    return reason.strip()[:1000]


def _user(tx: ControlTx, user_id: str) -> people.User:
    user = people.find_user(tx, user_id)
    if user is None:
        raise NotFound(f"there is no user {user_id!r}.", where="user")
    return user


def revoke_user(
    tx: ControlTx,
    user_id: str,
    reason: str,
    *,
    require_password_reset: bool = False,
) -> Revoked:
    """End every session of a user; optionally hold the user to a password reset, in the same breath.

    How risky the user is, is ``risk``'s to say.

    Raises ``NotFound``; ``InputError`` without a reason.
    """
    reason = _reason(reason)
    user = _user(tx, user_id)
    revoked = replace(
        people.without_sessions(user, tx.now),
        must_reset_password=user.must_reset_password or require_password_reset,
        updated_at=tx.now,
    )
    people.save_user(tx, revoked, "user:revoke-sessions", reason)
    return Revoked(f"user/{user_id}", revoked.epoch, revoked.not_before, tx.now)


def has_no_sessions(user: people.User) -> bool:
    """Whether certainly no session has begun since every session was ended last: the user was kept out with it, by the
    duty to set a new password or by disabling, and nothing about the user has changed since.
    """
    is_out = user.must_reset_password or not user.is_enabled
    return is_out and user.not_before == people.not_before_for(user.updated_at)


def reinstate_user(tx: ControlTx, user_id: str, reason: str) -> None:
    """Let a user sign in again: the risk remediated, no reset outstanding. What was revoked stays revoked."""
    user = _user(tx, user_id)
    reason = _reason(reason)
    mended = replace(user, must_reset_password=False, updated_at=tx.now)
    people.save_user(tx, mended, "user:reinstate", reason)
    risk.remediate(tx, risks.USER, user_id, reason)


def set_user_enabled(tx: ControlTx, user_id: str, is_enabled: bool, reason: str) -> None:
    """Enable or disable a user. Disabling ends every session for good: enabling again does not bring them back."""
    user = _user(tx, user_id)
    if user.is_enabled == is_enabled:
        return
    changed = replace(user, is_enabled=is_enabled, updated_at=tx.now)
    if not is_enabled:
        changed = people.without_sessions(changed, tx.now)
    people.save_user(tx, changed, "user:enable" if is_enabled else "user:disable", _reason(reason))


def revoke_agent(tx: ControlTx, agent_id: str, reason: str) -> Revoked:
    """Kill every gateway token of an agent; it may get new ones at once. To stop it, block it."""
    reason = _reason(reason)
    agent = inventory.find_agent(tx, agent_id)
    if agent is None:
        raise NotFound(f"there is no agent {agent_id!r}.", where="agent")
    revoked = replace(agent, epoch=agent.epoch + 1)
    inventory.save_agent(tx, revoked, "agent:revoke", reason)
    return Revoked(f"agent/{agent_id}", revoked.epoch, None, tx.now)
