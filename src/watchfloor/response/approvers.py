"""Who may answer a hold: by permission, by the policy's list of approvers, in somebody's place, and never their own.

Above ``identity`` and ``storage``; ``catalog`` asks ``check`` before an answer counts. Delegation lends the right to
answer for a time. It is not handed on, and lends nothing that the lender could not do about this very call.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from watchfloor.identity.roles import permissions_of
from watchfloor.model.errors import Denied, InputError, NotFound
from watchfloor.model.people import Permission, Role
from watchfloor.storage import holds, inventory, people
from watchfloor.storage.holds import Delegation, Hold
from watchfloor.storage.people import Operator

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

LENDABLE: Final = frozenset({Permission.HOLD_DECIDE})
"""What delegation lends: the doors let in whoever is lent it, and ``check`` decides about the very call."""

LONGEST_DELEGATION: Final = timedelta(days=90)


def permissions(tx: ControlTx, operator_id: str, own: Collection[Permission]) -> frozenset[Permission]:
    """What an operator may do, with the right to answer holds where somebody has lent it."""
    lent = Permission.HOLD_DECIDE not in own and bool(lenders(tx, operator_id))
    return frozenset(own) | ({Permission.HOLD_DECIDE} if lent else set())


def check(tx: ControlTx, hold: Hold) -> str:
    """In whose place the transaction's actor answers this hold; empty: in their own right. Raises ``Denied``."""
    actor = people.find_operator(tx, tx.actor)
    roles = actor.roles if actor is not None else frozenset[Role]()
    _refuse_own(tx, hold, tx.actor, "you")
    if Permission.HOLD_DECIDE in permissions_of(roles) and _is_named(hold, tx.actor, roles):
        return ""
    given = {approval["by"] for approval in hold.approvals}
    for lender in lenders(tx, tx.actor):
        if lender.id in given or not _is_named(hold, lender.id, lender.roles):
            continue
        try:
            _refuse_own(tx, hold, lender.id, lender.id)
        except Denied:
            continue
        return lender.id
    if Permission.HOLD_DECIDE not in permissions_of(roles):
        raise Denied(f"Answering this call needs the permission {Permission.HOLD_DECIDE}, or somebody who lends it.")
    groups = "; ".join(", ".join(group) for group in hold.approvers)
    raise Denied(f"The policy that held this call names who may answer: {groups}.")


def _refuse_own(tx: ControlTx, hold: Hold, operator_id: str, who: str) -> None:
    """INVARIANT: nobody answers their own call, nor one of an agent of theirs. One id is one person, here and there."""
    if hold.user_id == operator_id:
        raise Denied(f"The call was made for {who}, so somebody else has to decide about it.")
    agent = inventory.find_agent(tx, hold.agent_id)
    if agent is not None and operator_id in (agent.maker_id, agent.owner_id):
        raise Denied(f"The agent is one of {who if who != 'you' else 'yours'}, so somebody else has to decide.")


def _is_named(hold: Hold, operator_id: str, roles: Collection[Role]) -> bool:
    names = {operator_id, *(role.value for role in roles)}
    return all(not names.isdisjoint(group) for group in hold.approvers)


def lenders(tx: ControlTx, operator_id: str) -> list[Operator]:
    """Who lends this operator the right to answer at the moment, and has it."""
    actor = people.find_operator(tx, operator_id)
    if actor is None:
        return []
    roles = {role.value for role in actor.roles}
    found = []
    for lent in holds.list_delegations(tx, at=tx.now):
        if lent.to_operator != operator_id and lent.to_role not in roles:
            continue
        lender = people.find_operator(tx, lent.from_operator)
        if lender is None or lender.id == operator_id or not lender.is_enabled:
            continue
        if Permission.HOLD_DECIDE in permissions_of(lender.roles):
            found.append(lender)
    return found


def delegate(
    tx: ControlTx, *, to_operator: str | None, to_role: str | None, starts_at: datetime, ends_at: datetime, reason: str
) -> Delegation:
    """Lend the actor's right to answer holds. Raises ``InputError`` or ``NotFound`` for what cannot be lent so."""
    actor = people.find_operator(tx, tx.actor)
    if actor is None or Permission.HOLD_DECIDE not in permissions_of(actor.roles):
        raise Denied("What is lent is not handed on: only who may answer holds in their own right can delegate it.")
    if (to_operator is None) == (to_role is None):
        raise InputError("name either an operator or a role.", where="to_operator")
    if to_operator is not None:
        if to_operator == tx.actor:
            raise InputError("nobody stands in for themselves.", where="to_operator")
        found = people.find_operator(tx, to_operator)
        if found is None or not found.is_enabled:
            raise NotFound(f"there is no operator {to_operator!r}.", where="to_operator")
    if to_role is not None and Permission.PORTAL_USE not in permissions_of([Role(to_role)]):
        raise InputError(f"the role {to_role} cannot use the portal.", where="to_role")
    if not tx.now < ends_at <= starts_at + LONGEST_DELEGATION or starts_at >= ends_at:
        raise InputError(
            "must be later than now and than the start.",
            where="ends_at",
            remedy=f"Delegate for {LONGEST_DELEGATION.days} days at most.",
        )
    made = holds.add_delegation(
        tx,
        tx.actor,
        to_operator=to_operator,
        to_role=to_role,
        reason=reason,
        starts_at=max(starts_at, tx.now),
        ends_at=ends_at,
    )
    detail = {"to": to_operator or f"role {to_role}", "until": ends_at.isoformat(), "reason": reason}
    tx.audit("hold:delegate", f"delegation/{made.id}", detail)
    return made


def end(tx: ControlTx, delegation_id: str, *, any_ones: bool) -> Delegation:
    """End a delegation now. ``any_ones``: also somebody else's. Raises ``NotFound``."""
    found = holds.find_delegation(tx, delegation_id)
    if found is None or (found.from_operator != tx.actor and not any_ones):
        raise NotFound(f"there is no delegation {delegation_id!r} of yours.", where="delegation")
    if found.ends_at > tx.now:
        holds.end_delegation(tx, found.id)
        tx.audit("hold:end-delegation", f"delegation/{found.id}", {"from": found.from_operator})
    after = holds.find_delegation(tx, delegation_id)
    assert after is not None
    return after
