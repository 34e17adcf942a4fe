"""What keeps the strongest actions from being turned against the company: who may not be confirmed, and by whom.

Above ``storage``; ``saga`` asks before anything is done. A refusal names what to do instead, and the runner audits it.
Some things are not refused but need a second operator: what depends on the account is too much for one judgement.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from watchfloor.identity.operators import LOCAL_ADMIN
from watchfloor.identity.roles import permissions_of
from watchfloor.model.errors import Denied
from watchfloor.model.people import Permission, Role
from watchfloor.model.sagas import SagaKind
from watchfloor.storage import people, sagas
from watchfloor.storage.people import User

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST_UNAPPROVED: Final = 20
WINDOW: Final = timedelta(minutes=10)
"""So many of one kind one operator may confirm within this time; beyond, a colleague has to approve each."""

COMPROMISES: Final = (SagaKind.USER_COMPROMISE, SagaKind.AGENT_COMPROMISE, SagaKind.SERVER_COMPROMISE)


class Guarded(Denied):
    """A guard forbids it, whoever asks; the text says what to do instead."""

    code = "guarded"


def check_user(tx: ControlTx, user: User, *, actor: str) -> None:
    """Raises ``Guarded`` for a user whom ``actor`` must not confirm as compromised."""
    if user.is_break_glass:
        raise Guarded(
            f"{user.id} is a break-glass account, kept for the day when nothing else opens: it cannot be locked from "
            "here. Change its credentials by the emergency procedure, or take breakGlass off it in the manifest first."
        )
    if user.id == actor:
        raise Guarded(
            "You cannot confirm your own account as compromised. Ask another operator to; until then, sign out "
            "everywhere and change your password."
        )
    if is_last_owner(tx, user.id):
        raise Guarded(
            f"{user.id} is the last administrator: nobody could undo it. Make somebody else an owner first "
            "(Operators), then confirm."
        )


def is_last_owner(tx: ControlTx, user_id: str) -> bool:
    """Whether the operator with this id is the only person who owns the installation."""
    owners = {o.id for o in people.list_operators(tx) if o.is_enabled and Role.OWNER in o.roles and o.id != LOCAL_ADMIN}
    return owners == {user_id}


def approvals_for_user(tx: ControlTx, user: User) -> list[str]:
    """Why one operator is not enough to confirm this user; empty where one is."""
    reasons = []
    if user.criticality == 0:
        reasons.append(f"everything depends on the account of {user.id} (criticality 0)")
    operator = people.find_operator(tx, user.id)
    if operator is not None and operator.is_enabled:
        reasons.append(f"{user.id} is an operator of this installation")
    return reasons


def approvals_for_rate(tx: ControlTx, kind: SagaKind, actor: str) -> list[str]:
    """Why ``actor`` has done this too often of late to go on alone; empty where they have not."""
    if actor == LOCAL_ADMIN:
        return []  # whoever holds this machine's own token needs no guard against it
    done = sagas.count_unapproved(tx, actor, [kind], tx.now - WINDOW)
    if done < MOST_UNAPPROVED:
        return []
    minutes = int(WINDOW.total_seconds() // 60)
    return [f"{actor} has confirmed {done} within {minutes} minutes, and {MOST_UNAPPROVED} is what one may do alone"]


def check_release(user_id: str, *, actor: str) -> None:
    """Raises ``Guarded`` where somebody would lift what holds themselves."""
    if user_id == actor:
        raise Guarded("You cannot clear your own account. Ask another operator to.")


def may(tx: ControlTx, operator_id: str, permission: Permission) -> bool:
    """Whether this operator exists, is enabled and has ``permission`` now."""
    operator = people.find_operator(tx, operator_id)
    return operator is not None and operator.is_enabled and permission in permissions_of(operator.roles)
