"""What an operator decides about the risk of many users or agents at once: compromised, safe, or nothing to it.

Above ``identity``; Graph's door calls ``decide``. An order is carried out as a whole or not at all, in one transaction:
whoever is confirmed compromised has no living session and no token once it is acknowledged. Nobody judges their own
account, and nobody clears an agent that they built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from watchfloor.identity import risk, sessions
from watchfloor.model.errors import Denied, InputError, NotFound, Unavailable
from watchfloor.model.risk import RiskState
from watchfloor.registry.lifecycle import builders
from watchfloor.storage import actions, inventory, people, risks

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

MOST: Final = 60
"""Accounts in one order, as with Graph."""


class RiskVerdict(StrEnum):
    """What is decided, in Graph's words."""

    COMPROMISED = "confirmCompromised"
    SAFE = "confirmSafe"
    DISMISSED = "dismiss"


def decide(
    store: SqlControlStore,
    epoch: Callable[[], int],
    operator_id: str,
    kind: str,
    verdict: RiskVerdict,
    ids: Sequence[str],
    reason: str,
) -> None:
    """Carry the order out, or raise and leave everything as it was.

    Raises ``InputError`` for none or too many ids, ``NotFound``, ``Denied``; ``Unavailable`` if it is stored and the
    gateways of this host have not been told.
    """
    chosen = list(dict.fromkeys(ids))
    if not 0 < len(chosen) <= MOST:
        raise InputError(f"an order names 1 to {MOST} of them.", where=f"{kind}Ids")
    with store.tx(operator_id, audited=False) as tx:
        known = set(risks.known_subjects(tx, kind, chosen))
        for subject_id in chosen:
            if subject_id not in known:
                raise NotFound(f"there is no {kind} {subject_id!r}.", where=f"{kind}Ids")
        for subject_id in chosen:
            decide_one = _decide_user if kind == risks.USER else _decide_agent
            decide_one(tx, subject_id, verdict, reason)
            subject = f"{kind}/{subject_id}"
            record = actions.add_record(tx, f"{kind}_risk:{verdict.value}", subject, "done", {"reason": reason})
            tx.audit("action:perform", subject, {"action": record.action, "record": record.id, "incident": None})
        revision = tx.revision
    if revision is not None and epoch() < revision:
        raise Unavailable("It is stored, but the gateway workers have not been told. Look at the server's log.")


def _decide_user(tx: ControlTx, user_id: str, verdict: RiskVerdict, reason: str) -> None:
    if user_id == tx.actor:
        raise Denied("You cannot judge your own account. Ask another operator to.")
    before = risk.find(tx, risks.USER, user_id)
    if verdict is RiskVerdict.COMPROMISED:
        sessions.revoke_user(tx, user_id, reason, require_password_reset=True)
        risk.confirm_compromised(tx, risks.USER, user_id, reason)
        return
    (risk.confirm_safe if verdict is RiskVerdict.SAFE else risk.dismiss)(tx, risks.USER, user_id, reason)
    user = people.find_user(tx, user_id)
    if user is not None and user.must_reset_password and before.state is RiskState.CONFIRMED_COMPROMISED:
        # It was no compromise, so there is no new password to set. Sessions that ended stay dead.
        lifted = replace(user, must_reset_password=False, updated_at=tx.now)
        people.save_user(tx, lifted, "user:lift-password-reset", reason)


def _decide_agent(tx: ControlTx, agent_id: str, verdict: RiskVerdict, reason: str) -> None:
    if verdict is RiskVerdict.COMPROMISED:
        sessions.revoke_agent(tx, agent_id, reason)
        risk.confirm_compromised(tx, risks.AGENT, agent_id, reason)
        return
    agent = inventory.find_agent(tx, agent_id)
    if agent is not None and tx.actor in builders(agent):
        raise Denied(f"You built {agent_id}. Ask another operator to clear it.")
    (risk.confirm_safe if verdict is RiskVerdict.SAFE else risk.dismiss)(tx, risks.AGENT, agent_id, reason)
