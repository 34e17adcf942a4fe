"""Responses of several steps, as rows: the outbox that survives a crash at any moment.

Below ``response``, above the tables. A step is *claimed* for a span of time in one transaction, done outside of any,
and *finished* in another, which counts only while the claim holds: two servers never run one step at once, and who
comes too late changes nothing. It does not know what steps do, nor who may do what.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.model.facts import Kind
from watchfloor.model.sagas import ACTIVE, SETTLED, Outcome, SagaKind, SagaStatus, StepState
from watchfloor.storage.schema import incident, projection
from watchfloor.storage.schema_response import saga as s
from watchfloor.storage.schema_response import saga_step as p

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class Saga:
    """A response. ``parameters`` is what was asked for and whom it is about, as it was when it began.

    ``needs_approval`` says why one operator is not enough; ``checks`` counts how often the provider was asked whether
    the subject has recovered.
    """

    id: str
    kind: SagaKind
    subject_id: str
    reason: str
    status: SagaStatus
    opened_by: str
    created_at: datetime
    updated_at: datetime
    incident_id: str | None = None
    finished_at: datetime | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    needs_approval: Sequence[str] = ()
    approve_by: datetime | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    decision: str = ""
    outcome: Outcome = Outcome.OPEN
    outcome_at: datetime | None = None
    check_at: datetime | None = None
    checks: int = 0

    @property
    def subject(self) -> str:
        """As the audit log names it: ``user/griffin``."""
        return f"{self.kind.subject_kind}/{self.subject_id}"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a response. ``key`` is the same at every attempt: whoever is asked for it twice can tell."""

    saga_id: str
    name: str
    position: int
    state: StepState
    after: Sequence[str] = ()
    attempts: int = 0
    next_try_at: datetime | None = None
    holder: str | None = None
    held_until: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return f"{self.saga_id}/{self.name}"


def _saga(row: sa.Row[Any]) -> Saga:
    values = dict(row._mapping)
    return Saga(
        **{
            **values,
            "kind": SagaKind(values["kind"]),
            "status": SagaStatus(values["status"]),
            "outcome": Outcome(values["outcome"]),
        }
    )


def _step(row: sa.Row[Any]) -> Step:
    return Step(**{**dict(row._mapping), "state": StepState(row.state)})


def _plain(value: Saga | Step) -> dict[str, Any]:
    names = value.__slots__
    row = {name: getattr(value, name) for name in names}
    return {n: list(v) if isinstance(v, tuple) else dict(v) if isinstance(v, Mapping) else v for n, v in row.items()}


# -- reading ------------------------------------------------------------------------------------------------------


def find(tx: ControlTx, saga_id: str) -> Saga | None:
    """The response, or None."""
    row = tx.connection.execute(sa.select(s).where(s.c.id == saga_id)).one_or_none()
    return _saga(row) if row else None


def list_sagas(
    tx: ControlTx,
    *,
    incident_id: str = "",
    kinds: Collection[SagaKind] = (),
    subject_ids: Collection[str] = (),
    statuses: Collection[SagaStatus] = (),
    before: str = "",
    limit: int = 50,
) -> list[Saga]:
    """Responses, newest first; of an incident, with those of incidents that were merged into it."""
    query = sa.select(s).order_by(s.c.id.desc()).limit(limit)
    if incident_id:
        merged = sa.select(incident.c.id).where(incident.c.redirect_to == incident_id)
        query = query.where(sa.or_(s.c.incident_id == incident_id, s.c.incident_id.in_(merged)))
    for column, wanted in ((s.c.kind, kinds), (s.c.subject_id, subject_ids), (s.c.status, statuses)):
        if wanted:
            query = query.where(column.in_([str(each) for each in wanted]))
    if before:
        query = query.where(s.c.id < before)
    return [_saga(row) for row in tx.connection.execute(query)]


def steps_of(tx: ControlTx, saga_ids: Iterable[str]) -> dict[str, list[Step]]:
    """The steps of these responses, each response's in order."""
    found: dict[str, list[Step]] = {saga_id: [] for saga_id in saga_ids}
    query = sa.select(p).where(p.c.saga_id.in_(list(found))).order_by(p.c.saga_id, p.c.position)
    for row in tx.connection.execute(query):
        found[row.saga_id].append(_step(row))
    return found


def find_step(tx: ControlTx, saga_id: str, name: str) -> Step | None:
    """One step, or None."""
    row = tx.connection.execute(sa.select(p).where(p.c.saga_id == saga_id, p.c.name == name)).one_or_none()
    return _step(row) if row else None


def newest_open(tx: ControlTx, kind: SagaKind, subject_id: str) -> Saga | None:
    """The newest response of this kind to the subject that was carried out and is neither dismissed nor remediated."""
    found = list_sagas(
        tx,
        kinds=[kind],
        subject_ids=[subject_id],
        statuses=[SagaStatus.RUNNING, SagaStatus.DONE, SagaStatus.FAILED],
        limit=1,
    )
    return found[0] if found and found[0].outcome is Outcome.OPEN else None


def count_unapproved(tx: ControlTx, actor: str, kinds: Collection[SagaKind], since: datetime) -> int:
    """How many responses of these kinds ``actor`` has begun since then without anybody else's approval."""
    query = sa.select(sa.func.count()).where(
        s.c.opened_by == actor,
        s.c.kind.in_([kind.value for kind in kinds]),
        s.c.created_at >= since,
        s.c.decided_by.is_(None),
        s.c.status.in_([SagaStatus.RUNNING.value, SagaStatus.DONE.value, SagaStatus.FAILED.value]),
    )
    return tx.connection.execute(query).scalar_one()


def find_projected(tx: ControlTx, kind: Kind, key: str) -> tuple[Mapping[str, Any], int] | None:
    """What gateway workers are given under ``key``, and the revision that brought it; None where they are not."""
    query = sa.select(projection.c.body, projection.c.revision).where(
        projection.c.kind == kind.value, projection.c.key == key
    )
    row = tx.connection.execute(query).one_or_none()
    return (row.body, row.revision) if row is not None and row.body is not None else None


# -- writing ------------------------------------------------------------------------------------------------------


def add(tx: ControlTx, saga: Saga, steps: Sequence[Step]) -> None:
    """Store a response with its steps."""
    tx.connection.execute(s.insert().values(**_plain(saga)))
    tx.connection.execute(p.insert(), [_plain(step) for step in steps])


def change(tx: ControlTx, saga: Saga, **values: Any) -> Saga:
    """Store other ``values`` of a response."""
    tx.connection.execute(s.update().where(s.c.id == saga.id).values(**values, updated_at=tx.now))
    return replace(saga, **values, updated_at=tx.now)


def change_step(tx: ControlTx, step: Step, **values: Any) -> Step:
    """Store other ``values`` of a step, whoever holds it."""
    tx.connection.execute(p.update().where(p.c.saga_id == step.saga_id, p.c.name == step.name).values(**values))
    return replace(step, **values)


def settle(tx: ControlTx, saga_id: str) -> Saga:
    """Give a response that was carried out the status that its steps have."""
    saga = find(tx, saga_id)
    assert saga is not None
    states = {step.state for step in steps_of(tx, [saga_id])[saga_id]}
    if not states <= SETTLED:
        status = SagaStatus.RUNNING
    else:
        status = SagaStatus.FAILED if StepState.FAILED in states else SagaStatus.DONE
    if status is saga.status:
        return saga
    return change(tx, saga, status=status, finished_at=None if status is SagaStatus.RUNNING else tx.now)


# -- claiming -----------------------------------------------------------------------------------------------------


def _due(now: datetime) -> sa.Select[Any]:
    """Steps to run: their time has come, or whoever ran them is gone; nothing that they come after is left."""
    before, other, theirs = p.alias(), p.alias(), s.alias()
    unsettled = [state.value for state in StepState if state not in SETTLED]
    # One step of a subject at a time: what is asked for later must not overtake what is still under way.
    under_way = (
        sa.select(other.c.name)
        .join(theirs, theirs.c.id == other.c.saga_id)
        .where(
            theirs.c.subject_id == s.c.subject_id,
            other.c.state == StepState.RUNNING.value,
            other.c.held_until > now,
        )
    )
    return (
        sa.select(p)
        .join(s, s.c.id == p.c.saga_id)
        .where(
            s.c.status == SagaStatus.RUNNING.value,
            sa.or_(
                sa.and_(p.c.state == StepState.PENDING.value, p.c.next_try_at <= now),
                sa.and_(p.c.state == StepState.RUNNING.value, p.c.held_until <= now),
            ),
            ~sa.exists(
                sa.select(before.c.name).where(
                    before.c.saga_id == p.c.saga_id,
                    before.c.position < p.c.position,
                    before.c.state.in_(unsettled),
                    # What a step comes after is a list of names in JSON: quoted, no name is part of another.
                    sa.cast(p.c.after, sa.Text).contains(sa.literal('"') + before.c.name + sa.literal('"')),
                )
            ),
            ~sa.exists(under_way),
        )
        .order_by(p.c.saga_id, p.c.position)
    )


def has_due(tx: ControlTx) -> bool:
    """Whether there is a step to run."""
    return tx.connection.execute(_due(tx.now).limit(1)).first() is not None


def claim(tx: ControlTx, holder: str, until: datetime, most: int) -> list[tuple[Saga, Step]]:
    """Take up to ``most`` due steps until then, no two of one subject. Each claim counts as an attempt."""
    taken: dict[tuple[str, str], tuple[Saga, Step]] = {}
    for row in tx.connection.execute(_due(tx.now)).all():
        saga = find(tx, row.saga_id)
        assert saga is not None
        subject = saga.kind.subject_kind, saga.subject_id
        if subject in taken:
            continue
        found = _step(row)
        step = change_step(
            tx,
            found,
            state=StepState.RUNNING,
            holder=holder,
            held_until=until,
            attempts=found.attempts + 1,
            started_at=tx.now,
        )
        taken[subject] = saga, step
        if len(taken) == most:
            break
    return list(taken.values())


def is_held(tx: ControlTx, step: Step) -> bool:
    """Whether the claim on ``step`` still holds: nobody else has taken it, and its time is not over."""
    found = find_step(tx, step.saga_id, step.name)
    return (
        found is not None
        and found.state is StepState.RUNNING
        and found.holder == step.holder
        and found.held_until is not None
        and found.held_until > tx.now
    )


# -- who has to be asked again ------------------------------------------------------------------------------------


def list_to_check(tx: ControlTx, most: int) -> list[Saga]:
    """Responses whose subject is due to be asked about, longest waiting first."""
    query = (
        sa.select(s)
        .where(s.c.check_at <= tx.now, s.c.outcome == Outcome.OPEN.value)
        .order_by(s.c.check_at, s.c.id)
        .limit(most)
    )
    return [_saga(row) for row in tx.connection.execute(query)]


def list_unapproved(tx: ControlTx) -> list[Saga]:
    """Responses that nobody approved in time."""
    query = sa.select(s).where(s.c.status == SagaStatus.WAITING.value, s.c.approve_by <= tx.now).order_by(s.c.id)
    return [_saga(row) for row in tx.connection.execute(query)]


def list_active(tx: ControlTx, kind: SagaKind, subject_id: str) -> list[Saga]:
    """Responses of this kind to the subject that are not over."""
    return list_sagas(tx, kinds=[kind], subject_ids=[subject_id], statuses=ACTIVE, limit=200)
