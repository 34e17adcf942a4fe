"""Confirming that somebody or something is compromised, and what operators decide about it afterwards.

Above ``local`` (what is done here, at once) and the outbox (``storage.sagas``), below ``catalog``, whose actions these
are. Everything runs in the caller's transaction: the local part of a response is committed together with the rows that
the rest of it will be done by, so nothing between the two can be lost. What the outbox does is in ``outbox``.

INVARIANT: what one operator asks for and a guard wants approved changes nothing before another operator approves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from watchfloor.model.cases import EntryKind
from watchfloor.model.errors import Conflict, Denied, NotFound
from watchfloor.model.ids import ordered_id
from watchfloor.model.sagas import ACTIVE, Outcome, SagaKind, SagaStatus, StepState
from watchfloor.response import guards, local
from watchfloor.response.local import Evidence
from watchfloor.response.plans import CHILDREN, GATEWAY, LOCAL, PLANS, READ_BACK
from watchfloor.storage import sagas, triage
from watchfloor.storage.sagas import Saga, Step

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

APPROVAL_TIME: Final = timedelta(hours=1)
"""How long a response waits for a second operator."""

FIRST_CHECK: Final = timedelta(minutes=1)
"""When an identity provider is first asked whether the user has set a new password."""

_LOCAL: Final[Mapping[SagaKind, Callable[[ControlTx, str, str, Mapping[str, Any]], Evidence]]] = {
    SagaKind.USER_COMPROMISE: local.compromise_user,
    SagaKind.AGENT_COMPROMISE: local.compromise_agent,
    SagaKind.SERVER_COMPROMISE: local.compromise_server,
}


# -- beginning ----------------------------------------------------------------------------------------------------


def confirm(
    tx: ControlTx,
    kind: SagaKind,
    subject_id: str,
    reason: str,
    incident_id: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Saga:
    """Confirm a compromise: what is done here is done when the transaction commits, the rest is in the outbox.

    Where a guard wants a second operator, nothing is done yet and the response waits. Raises ``NotFound``,
    ``Guarded``, ``Conflict`` while one of this kind is not over.
    """
    needed = approvals(tx, kind, subject_id, tx.actor)
    whom = _whom(tx, kind, subject_id)
    active = sagas.list_active(tx, kind, subject_id)
    if active:
        waits = active[0].status is SagaStatus.WAITING
        raise Conflict(
            f"this is {'waiting for approval' if waits else 'under way'} already: {active[0].id}.",
            where=kind.subject_kind,
            remedy="Approve or decline it." if waits else "Its steps show how far it is.",
        )
    return begin(tx, kind, subject_id, reason, incident_id, {**(parameters or {}), **whom}, needs_approval=needed)


def begin(
    tx: ControlTx,
    kind: SagaKind,
    subject_id: str,
    reason: str,
    incident_id: str | None,
    parameters: Mapping[str, Any],
    *,
    needs_approval: Sequence[str] = (),
    evidence: Evidence | None = None,
) -> Saga:
    """Store a response and carry out its local part, or have it wait. ``evidence``: the local part is done already."""
    waits = bool(needs_approval)
    saga = Saga(
        id=ordered_id("rsp"),
        kind=kind,
        subject_id=subject_id,
        reason=reason,
        status=SagaStatus.WAITING if waits else SagaStatus.RUNNING,
        opened_by=tx.actor,
        created_at=tx.now,
        updated_at=tx.now,
        incident_id=incident_id,
        parameters=parameters,
        needs_approval=tuple(needs_approval),
        approve_by=tx.now + APPROVAL_TIME if waits else None,
    )
    steps = [
        Step(saga.id, plan.name, position, StepState.WAITING, plan.after)
        for position, plan in enumerate(PLANS[kind].steps)
    ]
    sagas.add(tx, saga, steps)
    tell(
        tx,
        saga,
        "response:ask" if waits else "response:begin",
        f"asked for: {'; '.join(needs_approval)}" if waits else "begun",
        {"reason": reason, **({"needs_approval": list(needs_approval)} if waits else {})},
    )
    return saga if waits else _start(tx, saga, steps, evidence)


def _start(tx: ControlTx, saga: Saga, steps: Sequence[Step], evidence: Evidence | None = None) -> Saga:
    """Do what is done here, and hand the rest to the outbox."""
    shown = evidence or _LOCAL[saga.kind](tx, saga.subject_id, saga.reason, saga.parameters)
    here = {plan.name for plan in PLANS[saga.kind].steps if plan.is_here}
    for step in steps:
        if step.name in here:
            _settle_here(tx, saga, step, shown[step.name])
        else:
            sagas.change_step(tx, step, state=StepState.PENDING, next_try_at=tx.now)
    values: dict[str, Any] = {"status": SagaStatus.RUNNING}
    if saga.kind is SagaKind.USER_COMPROMISE:
        values["check_at"] = tx.now + FIRST_CHECK
    return sagas.change(tx, saga, **values)


def _settle_here(tx: ControlTx, saga: Saga, step: Step, evidence: Mapping[str, Any]) -> None:
    # Nothing was done to children that there are none of, or that were left as they are; they are only listed.
    is_listing = step.name == CHILDREN and "blocked" not in evidence
    done = sagas.change_step(
        tx,
        step,
        state=StepState.DONE,
        attempts=1,
        started_at=tx.now,
        finished_at=tx.now,
        evidence=dict(evidence),
    )
    tell_step(tx, saga, done, "listed, left as they are" if is_listing else "")


def approvals(tx: ControlTx, kind: SagaKind, subject_id: str, actor: str) -> list[str]:
    """Why ``actor`` alone is not enough to confirm this; empty where they are. Raises ``NotFound``, ``Guarded``."""
    often = guards.approvals_for_rate(tx, kind, actor)
    if kind is SagaKind.USER_COMPROMISE:
        user = local.require_user(tx, subject_id)
        guards.check_user(tx, user, actor=actor)
        return guards.approvals_for_user(tx, user) + often
    if kind is SagaKind.AGENT_COMPROMISE:
        local.require_agent(tx, subject_id)
    return often


def _whom(tx: ControlTx, kind: SagaKind, subject_id: str) -> dict[str, str]:
    """Whom it is about, as their identity provider knows them now."""
    if kind is not SagaKind.USER_COMPROMISE:
        return {}
    user = local.require_user(tx, subject_id)
    return {"issuer": user.issuer, "subject": user.subject, "upn": user.upn}


# -- a second operator --------------------------------------------------------------------------------------------


def _waiting(tx: ControlTx, saga_id: str) -> Saga:
    saga = require(tx, saga_id)
    if saga.status is not SagaStatus.WAITING:
        by = f" by {saga.decided_by}" if saga.decided_by else ""
        raise Conflict(f"this response is {saga.status.value}{by} and waits for nobody.", where="response")
    if saga.approve_by is not None and saga.approve_by <= tx.now:
        raise Conflict("nobody approved it in time.", where="response", remedy="Ask for it again.")
    return saga


def approve(tx: ControlTx, saga_id: str, reason: str) -> Saga:
    """Carry out what a colleague asked for. Raises ``NotFound``, ``Conflict``, ``Denied``, ``Guarded``.

    The guards are asked anew, for both of them: what was true an hour ago may not be.
    """
    saga = _waiting(tx, saga_id)
    _require_permission(tx, saga, "Approving")
    if tx.actor == saga.opened_by:
        raise Denied("You asked for this, so another operator has to approve it.")
    if tx.actor == saga.subject_id and saga.kind.subject_kind == "user":
        raise Denied("This is about your own account, so somebody else has to approve it.")
    if not guards.may(tx, saga.opened_by, PLANS[saga.kind].permission):
        raise Denied(
            f"{saga.opened_by}, who asked for this, may no longer do so. Decline it, look at what that account did, "
            "and ask for it yourself if it is right."
        )
    if saga.kind is SagaKind.USER_COMPROMISE:
        user = local.require_user(tx, saga.subject_id)
        guards.check_user(tx, user, actor=saga.opened_by)
    approved = sagas.change(tx, saga, decided_by=tx.actor, decided_at=tx.now, decision=reason, approve_by=None)
    tell(tx, approved, "response:approve", f"approved by {tx.actor}", {"reason": reason})
    return _start(tx, approved, sagas.steps_of(tx, [saga_id])[saga_id])


def decline(tx: ControlTx, saga_id: str, reason: str) -> Saga:
    """Refuse what a colleague asked for, or take back what the actor asked for. Raises like ``approve``."""
    saga = _waiting(tx, saga_id)
    _require_permission(tx, saga, "Declining")
    if tx.actor == saga.subject_id and saga.kind.subject_kind == "user":
        raise Denied("This is about your own account, so somebody else has to decide about it.")
    return _call_off(tx, saga, SagaStatus.DECLINED, "response:decline", f"declined by {tx.actor}", reason)


def expire(tx: ControlTx) -> int:
    """Close what nobody approved in time; how many there were."""
    overdue = sagas.list_unapproved(tx)
    for saga in overdue:
        _call_off(tx, saga, SagaStatus.EXPIRED, "response:expire", "nobody approved it in time", "")
    return len(overdue)


def _call_off(tx: ControlTx, saga: Saga, status: SagaStatus, verb: str, text: str, reason: str) -> Saga:
    for step in sagas.steps_of(tx, [saga.id])[saga.id]:
        sagas.change_step(tx, step, state=StepState.SKIPPED, finished_at=tx.now, error=text)
    decided = {} if status is SagaStatus.EXPIRED else {"decided_by": tx.actor, "decided_at": tx.now}
    changed = sagas.change(tx, saga, status=status, finished_at=tx.now, decision=reason, **decided)
    tell(tx, changed, verb, text, {"reason": reason} if reason else {})
    return changed


def _require_permission(tx: ControlTx, saga: Saga, doing: str) -> None:
    permission = PLANS[saga.kind].permission
    if not guards.may(tx, tx.actor, permission):
        raise Denied(f"{doing} this needs the permission {permission.value}.")


# -- afterwards ---------------------------------------------------------------------------------------------------


def retry(tx: ControlTx, saga_id: str, name: str, reason: str) -> Step:
    """Have a step that failed or was skipped tried anew, and what is read back after it. Raises ``NotFound``,
    ``Conflict``, ``Denied``.
    """
    saga = require(tx, saga_id)
    _require_permission(tx, saga, "Retrying")
    step = sagas.find_step(tx, saga_id, name)
    if step is None:
        raise NotFound(f"response {saga_id} has no step {name!r}.", where="step")
    if saga.status not in (SagaStatus.RUNNING, SagaStatus.DONE, SagaStatus.FAILED) or saga.outcome is not Outcome.OPEN:
        state = saga.outcome.value if saga.outcome is not Outcome.OPEN else saga.status.value
        raise Conflict(f"this response is {state}: nothing of it is tried again.", where="response")
    if step.state not in (StepState.FAILED, StepState.SKIPPED):
        raise Conflict(
            f"this step is {step.state.value}; only one that failed or was skipped is retried.", where="step"
        )
    for each in sagas.steps_of(tx, [saga_id])[saga_id]:
        if each.name == name or (name in each.after and each.state not in (StepState.PENDING, StepState.RUNNING)):
            sagas.change_step(
                tx, each, state=StepState.PENDING, attempts=0, next_try_at=tx.now, finished_at=None, error=""
            )
    sagas.settle(tx, saga_id)
    title = PLANS[saga.kind].title_of(name)
    tell(tx, saga, "response:retry", f"{title}: tried anew for {tx.actor}", {"step": name, "reason": reason})
    found = sagas.find_step(tx, saga_id, name)
    assert found is not None
    return found


def close(tx: ControlTx, kind: SagaKind, subject_id: str, outcome: Outcome, text: str) -> list[Saga]:
    """End every response of this kind to the subject that is open: what it has not done yet, it does not do.

    A step that is just being run is left to end; what is asked for later about the same subject waits for it.
    """
    closed = []
    for saga in sagas.list_sagas(tx, kinds=[kind], subject_ids=[subject_id], limit=200):
        if saga.outcome is not Outcome.OPEN or saga.status in (SagaStatus.DECLINED, SagaStatus.EXPIRED):
            continue
        if saga.status is SagaStatus.WAITING:
            _call_off(tx, saga, SagaStatus.DECLINED, "response:decline", text, "")
            continue
        for step in sagas.steps_of(tx, [saga.id])[saga.id]:
            if step.state is StepState.PENDING:
                sagas.change_step(tx, step, state=StepState.SKIPPED, finished_at=tx.now, error=text)
        ended = sagas.change(tx, saga, outcome=outcome, outcome_at=tx.now, check_at=None)
        tell(tx, ended, f"response:{outcome.value}", text, {})
        if saga.status in ACTIVE:
            ended = sagas.settle(tx, saga.id)
        closed.append(ended)
    return closed


# -- telling ------------------------------------------------------------------------------------------------------


def require(tx: ControlTx, saga_id: str) -> Saga:
    """The response. Raises ``NotFound``."""
    saga = sagas.find(tx, saga_id)
    if saga is None:
        raise NotFound(f"there is no response {saga_id!r}.", where="response")
    return saga


def tell(tx: ControlTx, saga: Saga, verb: str, text: str, detail: Mapping[str, Any]) -> None:
    """Say what happened to a response: in the audit log, and in the incident's activity."""
    about = {"kind": saga.kind.value, "subject": saga.subject, "incident": saga.incident_id}
    tx.audit(verb, f"response/{saga.id}", {**about, **detail})
    if saga.incident_id is not None:
        said = f"{PLANS[saga.kind].title} ({saga.subject_id}): {text}"
        shown = {"response": saga.id, "verb": verb.partition(":")[2], **detail}
        note_on_incident(tx, saga.incident_id, said, shown)


def note_on_incident(tx: ControlTx, incident_id: str, text: str, detail: Mapping[str, Any]) -> None:
    """Tell of a response in an incident's activity."""
    triage.note(tx, EntryKind.RESPONDED, incident_id=incident_id, text=text, detail=detail)


def tell_step(tx: ControlTx, saga: Saga, step: Step, text: str = "") -> None:
    """Say how a step came out."""
    said = f": {text}" if text else ""
    title = PLANS[saga.kind].title_of(step.name)
    detail: dict[str, Any] = {"step": step.name, "state": step.state.value, "evidence": dict(step.evidence)}
    if step.error:
        detail["error"] = step.error
        said = said or f": {step.error}"
    tell(tx, saga, "response:step", f"{title}: {step.state.value}{said}", detail)


def proof_of(tx: ControlTx, saga: Saga) -> dict[str, Any]:
    """What whoever asked for a response is shown: where it stands, and what was done here."""
    proof: dict[str, Any] = {"response": saga.id, "status": saga.status.value}
    if saga.status is SagaStatus.WAITING:
        return proof | {"needs_approval": "; ".join(saga.needs_approval), "approve_by": _iso(saga)}
    step = sagas.find_step(tx, saga.id, LOCAL)
    return proof | (dict(step.evidence) if step is not None else {})


def _iso(saga: Saga) -> str | None:
    return saga.approve_by.isoformat() if saga.approve_by is not None else None


READ_BACKS: Final = (READ_BACK, GATEWAY)
"""Steps that hold what others say is so."""
