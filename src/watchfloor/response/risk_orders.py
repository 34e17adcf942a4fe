"""What an operator decides about the risk of many users or agents at once: compromised, safe, or nothing to it.

Above ``identity``; Graph's door calls ``decide``. An order is carried out as a whole or not at all, in one transaction:
for whoever is confirmed compromised the same response is begun as by the portal's button (``saga``), under the same
guards, so that no session or token of theirs lives once it is acknowledged. Nobody judges their own account, and nobody
clears an agent that they built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from watchfloor.model.errors import Denied, InputError, NotFound, Unavailable
from watchfloor.model.people import Permission
from watchfloor.model.sagas import Outcome, SagaKind, SagaStatus
from watchfloor.registry.lifecycle import builders
from watchfloor.response import guards, recovery, saga
from watchfloor.response.guards import Guarded
from watchfloor.storage import actions, inventory, risks, sagas

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
    try:
        revision = _carry_out(store, operator_id, kind, verdict, chosen, reason)
    except Guarded as error:
        with store.tx(operator_id) as tx:
            detail = {"action": f"{kind}_risk:{verdict.value}", "because": str(error), "reason": reason[:1000]}
            tx.audit("action:refuse", f"{kind}/{','.join(chosen)[:300]}", detail)
        raise
    if revision is not None and epoch() < revision:
        raise Unavailable("It is stored, but the gateway workers have not been told. Look at the server's log.")


def _carry_out(
    store: SqlControlStore, operator_id: str, kind: str, verdict: RiskVerdict, chosen: Sequence[str], reason: str
) -> int | None:
    """Everything, or nothing; the revision that carries it."""
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
        return tx.revision


def _decide_user(tx: ControlTx, user_id: str, verdict: RiskVerdict, reason: str) -> None:
    if user_id == tx.actor:
        raise Denied("You cannot judge your own account. Ask another operator to.")
    if verdict is RiskVerdict.COMPROMISED:
        _confirm(tx, SagaKind.USER_COMPROMISE, user_id, reason)
    elif recovery.is_held(tx, user_id):
        recovery.release(tx, user_id, _OUTCOMES[verdict], reason)
    else:
        recovery.LIFTS[_OUTCOMES[verdict]](tx, risks.USER, user_id, reason)


def _decide_agent(tx: ControlTx, agent_id: str, verdict: RiskVerdict, reason: str) -> None:
    if verdict is RiskVerdict.COMPROMISED:
        _confirm(tx, SagaKind.AGENT_COMPROMISE, agent_id, reason)
        return
    agent = inventory.find_agent(tx, agent_id)
    if agent is not None and tx.actor in builders(agent):
        raise Denied(f"You built {agent_id}. Ask another operator to clear it.")
    if not recovery.is_quarantined(tx, agent_id):
        recovery.LIFTS[_OUTCOMES[verdict]](tx, risks.AGENT, agent_id, reason)
        return
    needed = Permission.AGENT_CONFIRM_COMPROMISED
    if not guards.may(tx, tx.actor, needed):
        raise Denied(f"{agent_id} is in quarantine: releasing it needs the permission {needed.value}.")
    recovery.release_agent(tx, agent_id, reason, _OUTCOMES[verdict])


_OUTCOMES: Final = {RiskVerdict.SAFE: Outcome.SAFE, RiskVerdict.DISMISSED: Outcome.DISMISSED}


def _confirm(tx: ControlTx, kind: SagaKind, subject_id: str, reason: str) -> None:
    """The same response as the portal's, with the same guards. One that is under way already is what was asked for."""
    needed = saga.approvals(tx, kind, subject_id, tx.actor)
    if needed:
        raise Guarded(
            f"{subject_id} needs a second operator: {'; '.join(needed)}. Confirm it in the portal or by "
            f"POST /api/{kind.subject_kind}s/{subject_id}/confirm-compromised, where a colleague can approve it."
        )
    if not any(active.status is SagaStatus.RUNNING for active in sagas.list_active(tx, kind, subject_id)):
        saga.confirm(tx, kind, subject_id, reason)
