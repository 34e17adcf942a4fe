"""Running playbooks: what they propose, what they do by themselves, and what operators say about it.

Above ``playbook`` (what they mean), ``runner`` (the only way in which anything is done) and ``storage.playbooks``; a
job calls ``run_due``. A run is one row for each playbook and incident, stored before anything is done; each of its
actions is marked in the transaction that does it. So whatever restarts, nothing is done twice and nothing is forgotten.

INVARIANT: a playbook can do nothing by itself that a guard wants a second operator for; that becomes a proposal.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from watchfloor.model.cases import EntityKind, Incident, IncidentStatus
from watchfloor.model.errors import Conflict, Denied, InputError, NotFound, WatchfloorError
from watchfloor.model.ids import ordered_id
from watchfloor.model.people import Permission
from watchfloor.model.sagas import SagaKind
from watchfloor.response import saga
from watchfloor.response.catalog import ACTIONS, YES, Order
from watchfloor.response.guards import Guarded
from watchfloor.response.playbook import MOST_SUBJECTS, IncidentFacts, Playbook, Subject, parse, shipped
from watchfloor.response.runner import Operator, carry_out, refused
from watchfloor.storage import cases, findings, inventory, people, playbooks, sagas
from watchfloor.storage.cases import CaseFilter
from watchfloor.storage.playbooks import Item, Run, StoredPlaybook

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

ACTOR: Final = "system:playbooks"
_OPEN: Final = (IncidentStatus.ACTIVE.value, IncidentStatus.IN_PROGRESS.value)
_MOST_INCIDENTS: Final = 200
"""Open incidents that are looked at in one go: the newest."""

_COMPROMISES: Final = {
    "confirm_user_compromised": SagaKind.USER_COMPROMISE,
    "confirm_agent_compromised": SagaKind.AGENT_COMPROMISE,
    "confirm_server_compromised": SagaKind.SERVER_COMPROMISE,
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Switched:
    """A playbook with how it is switched."""

    playbook: Playbook
    is_shipped: bool
    is_enabled: bool
    approval: str
    active_from: datetime | None
    updated_by: str | None = None


# -- which there are ----------------------------------------------------------------------------------------------


def list_playbooks(tx: ControlTx) -> list[Switched]:
    """Every playbook, by id. One that a newer version no longer takes is left out, and said in the log."""
    stored = {each.id: each for each in playbooks.list_playbooks(tx)}
    found = {id_: _switched(playbook, stored.get(id_), is_shipped=True) for id_, playbook in shipped().items()}
    for id_, each in stored.items():
        if each.body is None or id_ in found:
            continue
        try:
            found[id_] = _switched(parse(each.body), each, is_shipped=False)
        except InputError as error:
            _log.error("playbook %s is not run: %s", id_, error)
    return [found[id_] for id_ in sorted(found)]


def _switched(playbook: Playbook, stored: StoredPlaybook | None, *, is_shipped: bool) -> Switched:
    if stored is None:
        return Switched(playbook, is_shipped, playbook.enabled, playbook.approval, None)
    return Switched(playbook, is_shipped, stored.is_enabled, stored.approval, stored.active_from, stored.updated_by)


def find(tx: ControlTx, playbook_id: str) -> Switched:
    """One playbook. Raises ``NotFound``."""
    for each in list_playbooks(tx):
        if each.playbook.id == playbook_id:
            return each
    raise NotFound(f"there is no playbook {playbook_id!r}.", where="playbook")


def save(tx: ControlTx, body: Mapping[str, Any], operator: Operator) -> Switched:
    """Store a playbook that an operator wrote; it answers to what happens from now on. Raises ``InputError``,
    ``Conflict`` for the id of one that comes with the product, ``Denied`` for more than the operator may do.
    """
    playbook = parse(body)
    if playbook.id in shipped():
        raise Conflict(f"{playbook.id} comes with the product.", where="id", remedy="Give yours another id.")
    _require_own(playbook, playbook.approval, operator)
    stored = StoredPlaybook(playbook.id, dict(body), playbook.enabled, playbook.approval, tx.now, tx.now, operator.id)
    playbooks.save_playbook(tx, stored)
    tx.audit("playbook:save", f"playbook/{playbook.id}", {"body": dict(body)})
    return _switched(playbook, stored, is_shipped=False)


def switch(
    tx: ControlTx, playbook_id: str, operator: Operator, reason: str, *, is_enabled: bool | None, approval: str | None
) -> Switched:
    """Switch a playbook on or off, or let it act by itself. Raises ``NotFound``, ``InputError``, ``Denied``."""
    before = find(tx, playbook_id)
    if not reason.strip():
        raise InputError("a reason is needed.", where="reason", remedy="Say why, for whoever reads the audit log.")
    wanted = approval or before.approval
    _require_own(before.playbook, wanted, operator)
    is_on = before.is_enabled if is_enabled is None else is_enabled
    known = playbooks.find_playbook(tx, playbook_id)
    body = known.body if known is not None else None
    stored = StoredPlaybook(playbook_id, body, is_on, wanted, tx.now, tx.now, operator.id)
    playbooks.save_playbook(tx, stored)
    detail = {"is_enabled": is_on, "approval": wanted, "reason": reason.strip()[:1000]}
    tx.audit("playbook:switch", f"playbook/{playbook_id}", detail)
    return _switched(before.playbook, stored, is_shipped=before.is_shipped)


def delete(tx: ControlTx, playbook_id: str) -> None:
    """Forget a playbook that an operator wrote. Raises ``NotFound``, ``Conflict`` for one of the product."""
    if playbook_id in shipped():
        raise Conflict(f"{playbook_id} comes with the product.", where="playbook", remedy="Switch it off.")
    if not playbooks.delete_playbook(tx, playbook_id):
        raise NotFound(f"there is no playbook {playbook_id!r}.", where="playbook")
    tx.audit("playbook:delete", f"playbook/{playbook_id}", {})


def _require_own(playbook: Playbook, approval: str, operator: Operator) -> None:
    """Nobody has a playbook do by itself what they may not do."""
    if approval != "automatic":
        return
    missing = {ACTIONS[d.action].permission for d in playbook.do} - set(operator.permissions)
    if missing:
        raise Denied(f"{playbook.id} would do by itself what you may not do: {', '.join(sorted(missing))} is needed.")


# -- what an incident is ------------------------------------------------------------------------------------------


def facts_of(tx: ControlTx, incident: Incident, *, with_alerts: bool = True) -> IncidentFacts:
    """The incident as playbooks look at it; without its alerts it costs a few rows, however many there are."""
    alerts = findings.alerts_of(tx, incident.id) if with_alerts else []
    subjects = []
    for entity in incident.entities:
        known = Subject(entity.kind.value, entity.id, entity.role.value)
        if entity.kind is EntityKind.USER:
            user = people.find_user(tx, entity.id)
            if user is None:
                continue
            known = replace(
                known, risk=user.risk, criticality=user.criticality, groups=user.groups, is_enabled=user.is_enabled
            )
        elif entity.kind is EntityKind.AGENT:
            agent = inventory.find_agent(tx, entity.id)
            if agent is None:
                continue
            known = replace(known, risk=agent.risk, state=agent.state.value)
        elif entity.kind is EntityKind.SERVER:
            server = inventory.find_server(tx, entity.id)
            if server is None:
                continue
            known = replace(known, state=server.state.value)
        else:
            continue
        subjects.append(known)
    return IncidentFacts(
        incident.id,
        incident.severity,
        incident.status,
        incident.priority,
        frozenset(alert.draft.rule_id for alert in alerts),
        frozenset(alert.draft.tactic for alert in alerts),
        tuple(subjects),
    )


def plan(tx: ControlTx, each: Switched, incident: Incident) -> list[Item]:
    """What the playbook would do about the incident now, each action with whether it would be done by itself."""
    subjects = each.playbook.subjects(facts_of(tx, incident))
    recent = _recent(tx, each.playbook)
    items = []
    for subject in subjects:
        for do in each.playbook.do:
            state, note = "proposed", ""
            if subject.id in recent:
                state, note = "cooled_down", f"the same was done or proposed within {each.playbook.cooldown_hours:g} h"
            elif needless := _needless(tx, do.action, subject.id):
                state, note = "not_needed", needless
            elif each.approval == "automatic":
                state, note = _by_itself(tx, each.playbook, do.action, subject.id, len(subjects))
            items.append(Item(do.action, subject.id, state, do.options, note))
    return items


def _recent(tx: ControlTx, playbook: Playbook) -> set[str]:
    since = tx.now - timedelta(hours=playbook.cooldown_hours)
    runs = playbooks.list_runs(tx, playbook_id=playbook.id, since=since, limit=1000)
    return {item.subject_id for run in runs for item in run.items if item.state in ("proposed", "pending", "done")}


def _needless(tx: ControlTx, action: str, subject_id: str) -> str:
    """Why the action would change nothing; empty if it would."""
    kind = _COMPROMISES.get(action)
    if kind is None:
        return ""
    active = sagas.list_active(tx, kind, subject_id)
    known = active[0] if active else sagas.newest_open(tx, kind, subject_id)
    return f"it was confirmed already: {known.id}" if known is not None else ""


def _by_itself(tx: ControlTx, playbook: Playbook, action: str, subject_id: str, count: int) -> tuple[str, str]:
    """Whether an automatic playbook does this without asking: ``pending`` if so, else ``proposed``, and why."""
    if count > MOST_SUBJECTS:
        return "proposed", f"about {count} at once: more than {MOST_SUBJECTS} are never acted on unasked"
    kind = _COMPROMISES.get(action)
    if kind is None:
        return "pending", ""
    try:
        reasons = saga.approvals(tx, kind, subject_id, _name(playbook))
    except WatchfloorError as error:
        return "proposed", str(error)
    return ("proposed", f"needs operators: {'; '.join(reasons)}") if reasons else ("pending", "")


def _name(playbook: Playbook) -> str:
    return f"system:playbook/{playbook.id}"


# -- running ------------------------------------------------------------------------------------------------------


def run_due(control: SqlControlStore) -> int:
    """Begin what playbooks have to say about open incidents, go on with what was begun; how many runs are new."""
    with control.read() as tx:
        switched = [each for each in list_playbooks(tx) if each.is_enabled]
        begun = playbooks.list_runs(tx, statuses=["running"], limit=1000)
        due = _due(tx, switched)
    by_id = {each.playbook.id: each for each in switched}
    for playbook_id, incident_id in due:
        run = begin(control, by_id[playbook_id], incident_id)
        if run is not None and run.status == "running":
            begun.append(run)
    for run in begun:
        _go_on(control, run)
    return len(due)


def _due(tx: ControlTx, switched: Sequence[Switched]) -> list[tuple[str, str]]:
    incidents = cases.list_incidents(tx, frozenset(Permission), CaseFilter(statuses=_OPEN), _MOST_INCIDENTS)
    known = {
        (run.playbook_id, run.incident_id)
        for run in playbooks.list_runs(tx, incident_ids=[i.id for i in incidents], limit=100_000)
    } if incidents else set()  # fmt: skip
    due = []
    for incident in incidents:
        wanting = [
            each
            for each in switched
            if (each.playbook.id, incident.id) not in known
            and (each.active_from is None or incident.updated_at >= each.active_from)
            and each.playbook.when.may_hold(incident.severity, incident.status, incident.priority)
        ]
        if not wanting:
            continue
        facts = facts_of(tx, incident, with_alerts=any(each.playbook.when.asks_for_alerts for each in wanting))
        due += [(each.playbook.id, incident.id) for each in wanting if each.playbook.subjects(facts)]
    return due


def begin(control: SqlControlStore, each: Switched, incident_id: str) -> Run | None:
    """Store the run of a playbook about an incident, before anything of it is done; None if there is one."""
    with control.tx(_name(each.playbook)) as tx:
        if playbooks.find_run_of(tx, each.playbook.id, incident_id) is not None:
            return None  # another server was faster
        incident = cases.find_incident(tx, frozenset(Permission), incident_id)
        items = plan(tx, each, incident) if incident is not None else []
        return _add(tx, each.playbook, incident_id, items)


def _add(tx: ControlTx, playbook: Playbook, incident_id: str, items: Sequence[Item]) -> Run:
    run = Run(ordered_id("pbr"), playbook.id, incident_id, _status(items), tuple(items), tx.now, tx.now)
    playbooks.add_run(tx, run)
    _tell(tx, run, "playbook:run")
    return run


def _status(items: Sequence[Item]) -> str:
    states = {item.state for item in items}
    for state, status in (
        ("pending", "running"), ("proposed", "proposed"), ("failed", "failed"), ("done", "done"),
        ("declined", "declined"),
    ):  # fmt: skip
        if state in states:
            return status
    return "cooled_down" if "cooled_down" in states else "done"


def _tell(tx: ControlTx, run: Run, verb: str, **detail: Any) -> None:
    items = [f"{item.action} {item.subject_id}: {item.state}" for item in run.items]
    about = {"run": run.id, "incident": run.incident_id, "status": run.status, "items": items}
    tx.audit(verb, f"playbook/{run.playbook_id}", {**about, **detail})
    saga.note_on_incident(
        tx,
        run.incident_id,
        f"Playbook {run.playbook_id}: {'; '.join(items) or 'nothing to do'}",
        {"playbook": run.playbook_id, "run": run.id, "verb": verb.partition(":")[2], **detail},
    )


def _go_on(control: SqlControlStore, run: Run) -> None:
    """Do what an automatic run has left to do."""
    operator = Operator(f"system:playbook/{run.playbook_id}", frozenset(Permission))
    for number, item in enumerate(run.items):
        if item.state == "pending":
            reason = f"playbook {run.playbook_id} about {run.incident_id}"
            try:
                _carry_out(control, run.id, number, operator, reason, expected="pending")
            except Conflict as error:
                _log.info("playbook %s: %s", run.playbook_id, error)


def _carry_out(
    control: SqlControlStore, run_id: str, number: int, operator: Operator, reason: str, *, expected: str
) -> Run:
    """Do one action of a run and mark it, in one transaction. What goes wrong is marked, too. Raises ``Conflict``
    where somebody else was faster; of an operator's own mistakes, what they are.
    """
    with control.read() as tx:
        run = require_run(tx, run_id)
    item = run.items[number]
    order = Order(item.subject_id, reason, run.incident_id, dict.fromkeys(item.options, YES))
    is_unasked = expected == "pending"
    try:
        with control.tx(operator.id) as tx:
            run = require_run(tx, run_id)
            item = run.items[number]
            if item.state != expected:
                raise _Overtaken(f"{item.action} about {item.subject_id} is {item.state} already.", where="run")
            record = carry_out(tx, operator, item.action, order)
            response_id = record.detail.get("response")
            done = replace(item, state="done", note="", record_id=record.id, response_id=response_id)
            return _mark(tx, run, number, done, operator)
    except _Overtaken:
        raise
    except WatchfloorError as error:
        if isinstance(error, Guarded):
            refused(control, operator, ACTIONS[item.action], order, error)
        if not is_unasked and not isinstance(error, Conflict):
            raise
        with control.tx(operator.id) as tx:
            run = require_run(tx, run_id)
            if run.items[number].state != expected:
                return run
            return _mark(tx, run, number, replace(run.items[number], state="failed", note=str(error)), operator)


class _Overtaken(Conflict):
    """Somebody else has taken the action on."""


def _mark(tx: ControlTx, run: Run, number: int, item: Item, operator: Operator) -> Run:
    items = [*run.items[:number], item, *run.items[number + 1 :]]
    changed = playbooks.change_run(tx, run, items, _status(items), decided_by=operator.id)
    _tell(tx, changed, "playbook:do", item=f"{item.action} {item.subject_id}", state=item.state, note=item.note)
    return changed


# -- what operators say -------------------------------------------------------------------------------------------


def require_run(tx: ControlTx, run_id: str) -> Run:
    """The run. Raises ``NotFound``."""
    run = playbooks.find_run(tx, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id!r}.", where="run")
    return run


def accept(control: SqlControlStore, run_id: str, operator: Operator, reason: str) -> Run:
    """Do what a playbook proposed, as the operator: with their permissions, and every guard. Raises ``NotFound``,
    ``Conflict`` where nothing is proposed, ``Denied``, ``Guarded``.
    """
    with control.read() as tx:
        run = require_run(tx, run_id)
    numbers = [number for number, item in enumerate(run.items) if item.state == "proposed"]
    if not numbers:
        raise Conflict(f"this run is {run.status}: nothing is proposed.", where="run")
    why = reason.strip() or f"proposed by playbook {run.playbook_id} about {run.incident_id}"
    for number in numbers:
        run = _carry_out(control, run_id, number, operator, why, expected="proposed")
    return run


def decline(control: SqlControlStore, run_id: str, operator: Operator, reason: str) -> Run:
    """Do nothing of what a playbook proposed. Raises ``NotFound``, ``InputError``, ``Conflict``."""
    if not reason.strip():
        raise InputError("a reason is needed.", where="reason", remedy="Say why, for whoever reads the audit log.")
    with control.tx(operator.id) as tx:
        run = require_run(tx, run_id)
        if all(item.state != "proposed" for item in run.items):
            raise Conflict(f"this run is {run.status}: nothing is proposed.", where="run")
        items = [replace(i, state="declined") if i.state == "proposed" else i for i in run.items]
        said = reason.strip()[:1000]
        changed = playbooks.change_run(tx, run, items, _status(items), decided_by=operator.id, reason=said)
        _tell(tx, changed, "playbook:decline", reason=said)
        return changed


def run_now(control: SqlControlStore, playbook_id: str, incident_id: str, operator: Operator, reason: str) -> Run:
    """Run a playbook about an incident because an operator says so: propose it if that was not done yet, and accept.

    Raises ``NotFound``, ``Conflict`` where it is about nobody there or was run before, ``Denied``, ``Guarded``.
    """
    with control.tx(operator.id) as tx:
        each = find(tx, playbook_id)
        incident = cases.find_incident(tx, operator.permissions, incident_id)
        if incident is None:
            raise NotFound(f"there is no incident {incident_id!r}.", where="incident_id")
        run = playbooks.find_run_of(tx, playbook_id, incident_id)
        if run is None:
            items = plan(tx, replace(each, approval="required"), incident)
            if not items:
                raise Conflict(f"{playbook_id} is about nobody in {incident_id}.", where="incident_id")
            run = _add(tx, each.playbook, incident_id, items)
    return accept(control, run.id, operator, reason)


def dry_run(tx: ControlTx, each: Switched, incidents: Sequence[Incident]) -> list[tuple[Incident, list[Item]]]:
    """What the playbook would do about these incidents now. Nothing is done, and nothing stored."""
    planned = [(incident, plan(tx, each, incident)) for incident in incidents]
    return [(incident, items) for incident, items in planned if items]
