"""Shapes of responses and of playbooks' runs: what the API shows of confirming a compromise, step by step.

Beside ``views``. A step is shown as it stands in the outbox, with what its far end said.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from watchfloor.model.sagas import Outcome, SagaKind, SagaStatus, StepState
from watchfloor.response.catalog import ACTIONS
from watchfloor.response.plans import PLANS
from watchfloor.storage import sagas
from watchfloor.storage.playbooks import Run
from watchfloor.storage.sagas import Saga, Step

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


class StepView(BaseModel):
    """One step. ``evidence`` is what shows that it happened, or what was read back; ``error`` why it did not.

    ``next_try_at`` is when it is tried again, where it is.
    """

    name: str
    title: str
    state: StepState
    attempts: int
    next_try_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    evidence: dict[str, Any]
    error: str


class ResponseView(BaseModel):
    """A response of several steps. While it waits for approval, ``needs_approval`` says why."""

    id: str
    kind: SagaKind
    title: str
    subject_kind: str
    subject_id: str
    status: SagaStatus
    reason: str
    incident_id: str | None
    opened_by: str
    created_at: datetime
    finished_at: datetime | None
    needs_approval: list[str]
    approve_by: datetime | None
    decided_by: str | None
    decided_at: datetime | None
    decision: str
    outcome: Outcome
    outcome_at: datetime | None
    steps: list[StepView]


def step_view(saga: Saga, step: Step) -> StepView:
    """A step as shown."""
    return StepView(
        name=step.name,
        title=PLANS[saga.kind].title_of(step.name),
        state=step.state,
        attempts=step.attempts,
        next_try_at=step.next_try_at if step.state is StepState.PENDING else None,
        started_at=step.started_at,
        finished_at=step.finished_at,
        evidence=dict(step.evidence),
        error=step.error,
    )


def response_views(tx: ControlTx, found: Sequence[Saga]) -> list[ResponseView]:
    """Responses as shown, with their steps."""
    steps = sagas.steps_of(tx, [saga.id for saga in found])
    return [
        ResponseView(
            id=saga.id,
            kind=saga.kind,
            title=PLANS[saga.kind].title,
            subject_kind=saga.kind.subject_kind,
            subject_id=saga.subject_id,
            status=saga.status,
            reason=saga.reason,
            incident_id=saga.incident_id,
            opened_by=saga.opened_by,
            created_at=saga.created_at,
            finished_at=saga.finished_at,
            needs_approval=list(saga.needs_approval),
            approve_by=saga.approve_by,
            decided_by=saga.decided_by,
            decided_at=saga.decided_at,
            decision=saga.decision,
            outcome=saga.outcome,
            outcome_at=saga.outcome_at,
            steps=[step_view(saga, step) for step in steps[saga.id]],
        )
        for saga in found
    ]


class ItemView(BaseModel):
    """One action about one subject. ``state``: pending, proposed, done, failed, declined, cooled_down, not_needed."""

    action: str
    title: str
    subject_id: str
    state: str
    note: str
    record_id: str | None
    response_id: str | None


class RunView(BaseModel):
    """What a playbook did, or proposes to do, about an incident."""

    id: str
    playbook_id: str
    incident_id: str
    status: str
    items: list[ItemView]
    created_at: datetime
    updated_at: datetime
    decided_by: str | None
    reason: str


def run_view(run: Run) -> RunView:
    """A run as shown."""
    return RunView(
        id=run.id,
        playbook_id=run.playbook_id,
        incident_id=run.incident_id,
        status=run.status,
        items=[
            ItemView(
                action=item.action,
                title=ACTIONS[item.action].title if item.action in ACTIONS else item.action,
                subject_id=item.subject_id,
                state=item.state,
                note=item.note,
                record_id=item.record_id,
                response_id=item.response_id,
            )
            for item in run.items
        ],
        created_at=run.created_at,
        updated_at=run.updated_at,
        decided_by=run.decided_by,
        reason=run.reason,
    )
