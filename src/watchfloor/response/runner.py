"""Carrying out an action: check, do, record, acknowledge, in this order and in one transaction.

Above ``catalog``; the portal calls ``perform``. The store raises the epoch after the commit and before the transaction
returns, so what is acknowledged here holds for every call that starts later. It knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from watchfloor.identity.operators import LOCAL_ADMIN
from watchfloor.model.errors import Denied, InputError, NotFound, Unavailable
from watchfloor.model.people import Permission
from watchfloor.model.sagas import SagaStatus
from watchfloor.response.catalog import ACTIONS, Action, Order
from watchfloor.response.guards import Guarded
from watchfloor.storage import actions, cases
from watchfloor.storage.actions import ActionRecord
from watchfloor.storage.control import ControlTx, SqlControlStore

_LONGEST_REASON = 1000


class TooOften(Unavailable):
    """The operator has done this too often of late."""

    code = "too_often"


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts, with what they may do."""

    id: str
    permissions: Collection[Permission]


@dataclass(frozen=True, slots=True)
class Performed:
    """Proof of what was done.

    ``revision`` is the state that carries it, ``epoch`` what the workers of this host had been told of when it was
    acknowledged: at least that revision. Both are None if nothing of it concerns the workers.
    """

    record_id: str
    action: str
    subject: str
    revision: int | None
    epoch: int | None
    committed_at: datetime
    acknowledged_at: datetime
    proof: Mapping[str, Any]
    undo: str | None
    no_undo: str


def perform(
    store: SqlControlStore,
    epoch: Callable[[], int],
    now: Callable[[], datetime],
    operator: Operator,
    action_id: str,
    order: Order,
) -> Performed:
    """Do it, or raise and leave everything as it was.

    Raises ``NotFound``, ``InputError`` (no reason), ``Denied``, ``Conflict``, ``TooOften``; ``Guarded`` where a guard
    forbids it, which is in the audit log.
    """
    action = find_action(action_id)
    try:
        with store.tx(operator.id) as tx:
            record = carry_out(tx, operator, action_id, order)
            committed_at, revision = tx.now, tx.revision
    except Guarded as error:
        refused(store, operator, action, order, error)
        raise
    proof = {name: value for name, value in record.detail.items() if name != "reason"}
    reached = epoch() if revision is not None else None
    if revision is not None and reached is not None and reached < revision:
        # It is committed, and workers that poll will find it; but it must not be called done before they know.
        raise Unavailable(
            f"{action.title} is stored (revision {revision}), but the gateway workers have not been told. "
            "They refuse calls when their lease ends; look at the server's log."
        )
    return Performed(
        record.id, action.id, record.subject, revision, reached, committed_at, now(), proof, action.undo, action.no_undo
    )


def find_action(action_id: str) -> Action:
    """The action. Raises ``NotFound``, naming those there are."""
    action = ACTIONS.get(action_id)
    if action is None:
        raise NotFound(f"there is no action {action_id!r}.", where="action", remedy=f"Known: {', '.join(ACTIONS)}.")
    return action


def carry_out(tx: ControlTx, operator: Operator, action_id: str, order: Order) -> ActionRecord:
    """Do it in the caller's transaction, whose actor is ``operator``; its record, with the proof.

    For those who store something of their own along with it. Raises like ``perform``; who catches ``Guarded`` outside
    of the transaction calls ``refused``.
    """
    action = find_action(action_id)
    if action.permission not in operator.permissions:
        raise Denied(f"{action.title} needs the permission {action.permission.value}.")
    order = _checked(action, order)
    _check_rate(tx, action, operator)
    if order.incident_id and cases.find_incident(tx, operator.permissions, order.incident_id) is None:
        raise NotFound(f"there is no incident {order.incident_id!r}.", where="incident_id")
    proof = {**action.effect(tx, order), "revision": tx.revision}
    subject = f"{action.subject}/{order.subject_id}"
    # What waits for a second operator was not done.
    status = "asked" if proof.get("status") == SagaStatus.WAITING else "done"
    record = actions.add_record(tx, action.id, subject, status, {**proof, "reason": order.reason}, order.incident_id)
    tx.audit("action:perform", subject, {"action": action.id, "record": record.id, "incident": order.incident_id})
    return record


def refused(store: SqlControlStore, operator: Operator, action: Action, order: Order, error: Guarded) -> None:
    """Write down that a guard kept ``operator`` from doing it: the attempt is worth knowing of."""
    with store.tx(operator.id) as tx:
        tx.audit(
            "action:refuse",
            f"{action.subject}/{order.subject_id}",
            {"action": action.id, "because": str(error), "incident": order.incident_id, "reason": order.reason[:1000]},
        )


def _checked(action: Action, order: Order) -> Order:
    reason = order.reason.strip()
    if action.needs_reason and not reason:
        raise InputError("a reason is needed.", where="reason", remedy="Say why, for whoever reads the audit log.")
    return replace(order, reason=reason[:_LONGEST_REASON])


def _check_rate(tx: ControlTx, action: Action, operator: Operator) -> None:
    if operator.id == LOCAL_ADMIN:
        return  # whoever holds this machine's own token needs no guard against it
    done = actions.count_recent(tx, action.id, operator.id, tx.now - action.rate.window)
    if done >= action.rate.count:
        minutes = int(action.rate.window.total_seconds() // 60)
        raise TooOften(
            f"{action.title}: you have done this {done} times within {minutes} minutes, which is the limit. "
            "Ask a colleague, or wait.",
            retry_after=action.rate.window.total_seconds() / 2,
        )
