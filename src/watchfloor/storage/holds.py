"""Calls that wait for an operator: holds, who has approved them, their one use, who may answer in whose place.

Below ``response``, ``jobs`` and ``portal``, above the tables. Whatever changes about a hold is projected for the data
plane in the same transaction. It does not know who may do what, nor when a question is one too many: that is
``response``. Every hold here is a root: of the very same call held twice, the second shares the first one's answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.activity import Answer
from watchfloor.model.errors import Conflict, NotFound
from watchfloor.model.facts import ApprovalFacts, HoldLimit, Kind
from watchfloor.model.ids import new_id
from watchfloor.storage.schema import hold, hold_delegation, hold_use, projection

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


class HoldStatus(StrEnum):
    """Where a hold stands. Only ``pending`` and ``approved`` can become something else."""

    PENDING = "pending"
    APPROVED = "approved"
    DECLINED = "declined"
    REVOKED = "revoked"
    EXPIRED = "expired"
    USED = "used"
    LIMITED = "limited"  # nobody was asked: that would have been once too often


PENDING: Final = "pending"
_ANSWERS: Final = {
    HoldStatus.PENDING: PENDING,
    HoldStatus.APPROVED: "",
    HoldStatus.DECLINED: Answer.DECLINED,
    HoldStatus.REVOKED: Answer.REVOKED,
    HoldStatus.USED: Answer.USED,
    HoldStatus.LIMITED: Answer.LIMITED,
}
"""How the data plane is told; of an expired hold it is told nothing."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A call that waits for an operator: exactly this payload, until it expires.

    ``approvers``: of each group named by a policy (operator ids, roles), whoever approves must be one; empty: whoever
    may answer holds. ``answer`` is what the operator said; ``used_by`` the invocation that went out.
    """

    id: str
    invocation_id: str
    payload_hash: str
    agent_id: str
    user_id: str | None
    server_id: str
    tool: str
    reason: str
    status: HoldStatus
    created_at: datetime
    expires_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    root_id: str | None = None
    answer: str = ""
    policies: Sequence[str] = ()
    approvers: Sequence[Sequence[str]] = ()
    approvals_needed: int = 1
    approvals: Sequence[dict[str, Any]] = ()
    used_by: str | None = None


_LISTS: Final = ("policies", "approvers", "approvals")


def _hold(row: sa.Row[Any]) -> Hold:
    values = dict(row._mapping)
    # Holds from before these columns were there have nothing in them.
    lists = {name: values[name] or [] for name in _LISTS}
    return Hold(**{**values, **lists, "status": HoldStatus(row.status)})


def _project(tx: ControlTx, value: Hold) -> None:
    """Tell the data plane where this hold stands, and those that share it."""
    answer = _ANSWERS.get(value.status)
    sharing = tx.connection.execute(sa.select(hold.c.id).where(hold.c.root_id == value.id)).scalars()
    for id_ in (value.id, *sharing):
        facts = None
        if answer is not None:
            is_approved = value.status is HoldStatus.APPROVED
            root = value.id if id_ != value.id else ""
            facts = ApprovalFacts(id_, value.payload_hash, value.expires_at, is_approved, answer, root)
        tx.project(Kind.APPROVAL, id_, facts)


def _change(tx: ControlTx, before: Hold, status: HoldStatus, **values: Any) -> Hold:
    tx.connection.execute(hold.update().where(hold.c.id == before.id).values(status=status.value, **values))
    after = replace(before, status=status, **values)
    if after != before:
        _project(tx, after)
    return after


# -- holds as they come in ----------------------------------------------------------------------------------------


def add_hold(tx: ControlTx, value: Hold) -> bool:
    """Store a hold; False if it, or another one of the same invocation, is known."""
    known = tx.connection.execute(
        sa.select(hold.c.id).where(sa.or_(hold.c.id == value.id, hold.c.invocation_id == value.invocation_id))
    ).first()
    if known is not None:
        return False
    names = {column.name for column in hold.columns}
    row = {name: getattr(value, name) for name in names}
    for name in _LISTS:
        row[name] = [list(v) if isinstance(v, tuple) else v for v in row[name]]
    tx.connection.execute(hold.insert().values(**{**row, "status": value.status.value}))
    if value.root_id is None:
        if value.status is not HoldStatus.EXPIRED:
            _project(tx, value)
    elif (root := find_hold(tx, value.root_id)) is not None:
        _project(tx, root)
    return True


def find_hold(tx: ControlTx, hold_id: str) -> Hold | None:
    """The hold, or the one whose answer it shares, or None."""
    row = tx.connection.execute(sa.select(hold).where(hold.c.id == hold_id)).one_or_none()
    if row is not None and row.root_id is not None:
        return find_hold(tx, row.root_id)
    return _hold(row) if row else None


def find_waiting(tx: ControlTx, payload_hash: str, at: datetime) -> Hold | None:
    """The hold of this very call that an operator is asked about at ``at``, if there is one."""
    query = sa.select(hold).where(
        hold.c.payload_hash == payload_hash,
        hold.c.status == HoldStatus.PENDING.value,
        hold.c.root_id.is_(None),
        hold.c.expires_at > at,
    )
    row = tx.connection.execute(query.order_by(hold.c.id).limit(1)).one_or_none()
    return _hold(row) if row else None


def list_holds(
    tx: ControlTx,
    *,
    status: HoldStatus | None = None,
    agents: Iterable[str] | None = None,
    before: str = "",
    limit: int = 50,
) -> list[Hold]:
    """Holds, newest first. ``before`` is the id of the last one already seen; ``agents``: of these alone."""
    query = sa.select(hold).where(hold.c.root_id.is_(None)).order_by(hold.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(hold.c.status == status.value)
    if agents is not None:
        query = query.where(hold.c.agent_id.in_(sorted(agents)))
    if before:
        query = query.where(hold.c.id < before)
    return [_hold(row) for row in tx.connection.execute(query)]


def list_asked(tx: ControlTx, since: datetime, *, agent_id: str = "", user_id: str | None = None) -> list[Hold]:
    """Holds since then that operators were asked about, oldest first: of one agent and user, or of everybody."""
    query = sa.select(hold).where(
        hold.c.created_at > since, hold.c.root_id.is_(None), hold.c.status != HoldStatus.LIMITED.value
    )
    if agent_id:
        query = query.where(hold.c.agent_id == agent_id, hold.c.user_id.is_not_distinct_from(user_id))
    return [_hold(row) for row in tx.connection.execute(query.order_by(hold.c.created_at, hold.c.id))]


def limit(tx: ControlTx, agent_id: str, user_id: str | None, until: datetime) -> None:
    """Have calls of this agent for this user refused instead of held until then."""
    tx.project(Kind.HOLD_LIMIT, f"{agent_id}/{user_id or ''}", HoldLimit(agent_id, user_id, until))


# -- answers ------------------------------------------------------------------------------------------------------


def _pending(tx: ControlTx, hold_id: str) -> Hold:
    found = find_hold(tx, hold_id)
    if found is None:
        raise NotFound(f"there is no hold {hold_id!r}.", where="hold")
    if found.status is not HoldStatus.PENDING:
        by = f" by {found.decided_by}" if found.decided_by else ""
        raise Conflict(f"this hold was {found.status.value}{by} already.", where="hold")
    if found.expires_at <= tx.now:
        raise Conflict("this hold has expired; the call was refused.", where="hold")
    return found


def approve(tx: ControlTx, hold_id: str, *, reason: str, valid_until: datetime, instead_of: str = "") -> Hold:
    """Add the approval of the transaction's actor; with the last one that it needs, the call may go out once.

    Raises ``NotFound``; ``Conflict`` if it was answered, has expired, or the actor has approved it before.
    """
    found = _pending(tx, hold_id)
    if any(given["by"] == tx.actor for given in found.approvals):
        raise Conflict("you have approved this call; it needs somebody else as well.", where="hold")
    given = {"by": tx.actor, "at": tx.now.isoformat(), "reason": reason}
    if instead_of:
        given["instead_of"] = instead_of
    approvals = [*found.approvals, given]
    if len(approvals) < found.approvals_needed:
        return _change(tx, found, HoldStatus.PENDING, approvals=approvals)
    return _change(
        tx,
        found,
        HoldStatus.APPROVED,
        approvals=approvals,
        answer=reason,
        decided_by=tx.actor,
        decided_at=tx.now,
        expires_at=valid_until,
    )


def decline(tx: ControlTx, hold_id: str, *, reason: str) -> Hold:
    """Refuse the call. Raises like ``approve``."""
    found = _pending(tx, hold_id)
    return _change(tx, found, HoldStatus.DECLINED, answer=reason, decided_by=tx.actor, decided_at=tx.now)


def revoke(tx: ControlTx, hold_id: str, *, reason: str) -> Hold:
    """Take an approval back. Raises ``NotFound``; ``Conflict`` if it is none, has expired or was used.

    INVARIANT: it takes the approval's one use itself, so no call goes out by it after this commits.
    """
    found = find_hold(tx, hold_id)
    if found is None:
        raise NotFound(f"there is no hold {hold_id!r}.", where="hold")
    if found.status is not HoldStatus.APPROVED:
        raise Conflict(f"this hold is {found.status.value}; only an approval can be taken back.", where="hold")
    if is_used(tx, found.id):
        raise Conflict("the call has gone out: its approval is used up.", where="hold")
    tx.connection.execute(hold_use.insert().values(hold_id=found.id, taken_by=tx.actor, taken_at=tx.now))
    return _change(tx, found, HoldStatus.REVOKED, answer=reason, decided_by=tx.actor, decided_at=tx.now)


def is_used(tx: ControlTx, hold_id: str) -> bool:
    """Whether somebody has taken the one use of its approval."""
    query = sa.select(hold_use.c.hold_id).where(hold_use.c.hold_id == hold_id)
    return tx.connection.execute(query).first() is not None


def use(tx: ControlTx, hold_id: str, invocation_id: str) -> Hold | None:
    """A call has gone out by the approval; None if that is known, or there is no such approval."""
    found = find_hold(tx, hold_id)
    if found is None or found.status not in (HoldStatus.APPROVED, HoldStatus.EXPIRED):
        return None
    return _change(tx, found, HoldStatus.USED, used_by=invocation_id)


# -- endings ------------------------------------------------------------------------------------------------------


def list_overdue(tx: ControlTx, approved_before: datetime, most: int = 500) -> list[Hold]:
    """Holds that nobody answered in time, and approvals that expired before then unused, oldest first."""
    query = (
        sa.select(hold)
        .outerjoin(hold_use, hold_use.c.hold_id == hold.c.id)
        .where(
            hold.c.root_id.is_(None),
            hold_use.c.hold_id.is_(None),
            sa.or_(
                sa.and_(hold.c.status == HoldStatus.PENDING.value, hold.c.expires_at <= tx.now),
                sa.and_(hold.c.status == HoldStatus.APPROVED.value, hold.c.expires_at <= approved_before),
            ),
        )
        .order_by(hold.c.id)
        .limit(most)
    )
    return [_hold(row) for row in tx.connection.execute(query)]


def list_taken(tx: ControlTx, before: datetime, most: int = 500) -> list[tuple[Hold, str]]:
    """Approvals that expired before then whose use was taken, and by whom, though no call is on record."""
    query = (
        sa.select(hold, hold_use.c.taken_by)
        .join(hold_use, hold_use.c.hold_id == hold.c.id)
        .where(hold.c.status == HoldStatus.APPROVED.value, hold.c.expires_at <= before)
        .order_by(hold.c.id)
        .limit(most)
    )
    found = []
    for row in tx.connection.execute(query):
        values = dict(row._mapping)
        taken_by = values.pop("taken_by")
        found.append((Hold(**{**values, "status": HoldStatus(row.status)}), taken_by))
    return found


def expire(tx: ControlTx, overdue: Hold) -> None:
    """Its time is over."""
    _change(tx, overdue, HoldStatus.EXPIRED)


def list_spent(tx: ControlTx, before: datetime, most: int = 500) -> list[str]:
    """Ids of answered holds that expired before then and that workers still keep in memory."""
    query = (
        sa.select(hold.c.id)
        .join(projection, sa.and_(projection.c.kind == Kind.APPROVAL.value, projection.c.key == hold.c.id))
        .where(projection.c.body.is_not(sa.null()), hold.c.expires_at <= before)
        .order_by(hold.c.id)
        .limit(most)
    )
    return list(tx.connection.execute(query).scalars())


def list_ended_limits(tx: ControlTx) -> list[str]:
    """Keys of limits that are over."""
    query = sa.select(projection.c.key, projection.c.body).where(
        projection.c.kind == Kind.HOLD_LIMIT.value, projection.c.body.is_not(sa.null())
    )
    rows = tx.connection.execute(query)
    return [row.key for row in rows if datetime.fromisoformat(row.body["until"]) <= tx.now]


def forget(tx: ControlTx, hold_ids: Iterable[str], limits: Iterable[str] = ()) -> None:
    """Take what is over away from the gateways; the holds stay as they are."""
    for hold_id in hold_ids:
        tx.project(Kind.APPROVAL, hold_id, None)
    for key in limits:
        tx.project(Kind.HOLD_LIMIT, key, None)


# -- delegation ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delegation:
    """From ``starts_at`` until ``ends_at``, one operator or everybody of one role answers in another's place."""

    id: str
    from_operator: str
    to_operator: str | None
    to_role: str | None
    reason: str
    starts_at: datetime
    ends_at: datetime
    created_at: datetime


def add_delegation(
    tx: ControlTx,
    from_operator: str,
    *,
    to_operator: str | None,
    to_role: str | None,
    reason: str,
    starts_at: datetime,
    ends_at: datetime,
) -> Delegation:
    """Store who answers in the place of ``from_operator``."""
    made = Delegation(new_id("dlg"), from_operator, to_operator, to_role, reason, starts_at, ends_at, tx.now)
    values = {name: getattr(made, name) for name in Delegation.__slots__}
    tx.connection.execute(hold_delegation.insert().values(**values))
    return made


def list_delegations(tx: ControlTx, *, at: datetime | None = None, most: int = 200) -> list[Delegation]:
    """Delegations, newest first; with ``at`` those in force then."""
    query = sa.select(hold_delegation).order_by(hold_delegation.c.id.desc()).limit(most)
    if at is not None:
        query = query.where(hold_delegation.c.starts_at <= at, hold_delegation.c.ends_at > at)
    return [Delegation(**dict(row._mapping)) for row in tx.connection.execute(query)]


def find_delegation(tx: ControlTx, delegation_id: str) -> Delegation | None:
    """One delegation, or None."""
    row = tx.connection.execute(sa.select(hold_delegation).where(hold_delegation.c.id == delegation_id)).one_or_none()
    return Delegation(**dict(row._mapping)) if row else None


def end_delegation(tx: ControlTx, delegation_id: str) -> None:
    """It counts no more from now on."""
    tx.connection.execute(hold_delegation.update().where(hold_delegation.c.id == delegation_id).values(ends_at=tx.now))
