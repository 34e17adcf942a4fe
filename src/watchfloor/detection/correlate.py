"""Alerts that belong together become one incident.

Two alerts are linked when they share what ``story.correlation_key`` names and their activity lies within two hours; an
incident is everything that is linked directly or through others. That is a property of the set of alerts, so the order
in which they arrive changes nothing; an alert that arrives late may bridge two incidents, and then the older one takes
the other in. Runs in the caller's transaction. It does not know rules, and it never acts.

A batch of alerts is placed in memory, over the incidents that lie near it, and stored in bulk at the end (``settle``
tells the incidents anew): the price of an alert does not grow with what is there already.

A resolved incident is closed: what happens later starts a new one that names it, so that nobody's verdict is changed
behind their back. Only more of an alert that it already holds opens it again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from watchfloor.detection.settle import Change, says_less, settle
from watchfloor.detection.story import WITHIN, correlation_key
from watchfloor.model.cases import Alert, CaseEntry, EntryKind, Incident, IncidentStatus
from watchfloor.model.ids import new_id, ordered_id
from watchfloor.storage import findings, triage
from watchfloor.storage.cases import OPEN
from watchfloor.storage.findings import Held, Saved

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class Correlated:
    """What changed: incidents opened, extended, opened again, and merged (gone → survivor)."""

    opened: tuple[str, ...] = ()
    extended: tuple[str, ...] = ()
    reopened: tuple[str, ...] = ()
    merged: tuple[tuple[str, str], ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything did."""
        return bool(self.opened or self.extended or self.reopened or self.merged)


def join(first: Incident, second: Incident) -> Incident:
    """Two incidents as one: what people decided about either is kept, and it spans the activity of both."""
    in_progress = IncidentStatus.IN_PROGRESS in (first.status, second.status)
    return replace(
        first,
        status=IncidentStatus.IN_PROGRESS if in_progress else first.status,
        assigned_to=first.assigned_to or second.assigned_to,
        first_activity=min(first.first_activity, second.first_activity),
        last_activity=max(first.last_activity, second.last_activity),
        tags=tuple(dict.fromkeys((*first.tags, *second.tags))),
    )


class _Place:
    """An incident while a batch is being placed: what changed in it, and into which other one it went."""

    __slots__ = ("change", "into", "reopened")

    def __init__(self, held: Held, *, is_new: bool = False) -> None:
        self.change = Change(held, is_new=is_new, first_before=held.value.first_activity)
        self.into: _Place | None = None
        self.reopened = False

    @property
    def value(self) -> Incident:
        return self.change.held.value

    @value.setter
    def value(self, value: Incident) -> None:
        self.change.held = replace(self.change.held, value=value)

    @property
    def is_open(self) -> bool:
        return self.into is None and self.value.status.value in OPEN

    @property
    def survivor(self) -> _Place:
        """Itself, or the one that it went into in the end."""
        place = self
        while place.into is not None:
            place = place.into
        return place

    def is_near(self, first: datetime, last: datetime) -> bool:
        return self.value.first_activity <= last + WITHIN and self.value.last_activity >= first - WITHIN


class _Batch:
    """The incidents that lie near the alerts of one batch."""

    def __init__(self, tx: ControlTx, saved: Sequence[Saved]) -> None:
        self._tx = tx
        self._places: dict[str, _Place] = {}
        self._by_key: defaultdict[str, list[_Place]] = defaultdict(list)
        self._touched: dict[str, _Place] = {}
        self._merged: list[tuple[_Place, _Place]] = []
        self._notes: list[tuple[_Place, EntryKind, str | None, Mapping[str, Any]]] = []
        spans: dict[str, tuple[datetime, datetime]] = {}
        for item in saved:
            draft = item.alert.draft
            first, last = spans.get(correlation_key(draft), (draft.first_activity, draft.last_activity))
            spans[correlation_key(draft)] = (min(first, draft.first_activity), max(last, draft.last_activity))
        for key, (first, last) in spans.items():
            for held in findings.linked_incidents(tx, key, first, last, WITHIN):
                self._add(_Place(held))
        own_ids = {item.alert.incident_id for item in saved} - {None}
        self._load([own_id for own_id in own_ids if own_id is not None])

    def _add(self, place: _Place) -> _Place:
        self._places[place.value.id] = place
        if place.is_open:
            self._by_key[place.change.held.key].append(place)
        return place

    def _load(self, incident_ids: Sequence[str]) -> None:
        missing = sorted(set(incident_ids) - self._places.keys())
        if missing:
            for held in findings.held(self._tx, missing):
                self._add(_Place(held))

    def place(self, saved: Saved) -> None:
        """Give an alert its incident."""
        place = self._find(saved)
        alert, change = saved.alert, place.change
        place.value = replace(
            place.value,
            first_activity=min(place.value.first_activity, alert.draft.first_activity),
            last_activity=max(place.value.last_activity, alert.draft.last_activity),
        )
        self._touched[place.value.id] = place
        if saved.before is not None and says_less(saved.before, alert.draft):
            change.anew = True
        if alert.incident_id is None:
            change.added[alert.id] = alert
        elif alert.id not in change.added and saved.before is not None:  # one that a merge brought is counted as it is
            change.grown[alert.id] = (saved.before, alert)
        if saved.is_new:
            self._note(place, EntryKind.ALERT_JOINED, alert.id)
        else:
            self._note(place, EntryKind.ALERT_GREW, alert.id, {"count": alert.draft.detail.get("count", 0)})

    def _find(self, saved: Saved) -> _Place:
        alert, draft = saved.alert, saved.alert.draft
        key = correlation_key(draft)
        own = self._places[alert.incident_id].survivor if alert.incident_id else None
        if own is not None:
            if own.value.status is IncidentStatus.RESOLVED:
                if not saved.reopened:
                    return own
                self._reopen(own, alert)
            if own.change.held.key != key:
                return own  # people have put it there
        linked = [p for p in self._by_key[key] if p.is_open and p.is_near(draft.first_activity, draft.last_activity)]
        if own is not None and own not in linked:
            linked.append(own)
        if not linked:
            return self._elsewhere(alert, key)
        survivor, *others = sorted(linked, key=lambda p: (p.value.created_at, p.value.id))
        for other in others:
            self._merge(other, survivor)
        return survivor

    def _elsewhere(self, alert: Alert, key: str) -> _Place:
        """The place of an alert that no incident of its key lies near: where people merged one, or a new incident."""
        span = (alert.draft.first_activity, alert.draft.last_activity, WITHIN)
        by_hand = findings.merged_by_hand(self._tx, key, *span)
        if by_hand is not None:
            self._load([by_hand])
            return self._places[by_hand].survivor
        follows = findings.resolved_incident_near(self._tx, key, *span)
        place = self._add(_Place(Held(_new(self._tx, alert), key, follows=follows), is_new=True))
        self._note(place, EntryKind.OPENED, None, {"alert": alert.id})
        return place

    def _reopen(self, place: _Place, alert: Alert) -> None:
        place.value = replace(place.value, status=IncidentStatus.ACTIVE)
        place.reopened = True
        self._by_key[place.change.held.key].append(place)
        self._note(place, EntryKind.REOPENED, None, {"alert": alert.id})

    def _merge(self, gone: _Place, survivor: _Place) -> None:
        survivor.value = join(survivor.value, gone.value)
        held, was = survivor.change.held, gone.change.held
        survivor.change.held = replace(held, follows=held.follows or was.follows)
        if not gone.change.is_new:
            survivor.change.added.update({a.id: a for a in findings.alerts_of(self._tx, gone.value.id)})
            self._merged.append((gone, survivor))
        survivor.change.added.update(gone.change.added)
        survivor.reopened |= gone.reopened
        survivor.change.anew |= gone.change.anew
        gone.into = survivor
        self._by_key[was.key].remove(gone)
        self._touched[survivor.value.id] = survivor
        self._touched.pop(gone.value.id, None)

    def _note(
        self, place: _Place, kind: EntryKind, alert_id: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> None:
        self._notes.append((place, kind, alert_id, detail or {}))

    def store(self) -> Correlated:
        """Store the places of all alerts, and tell their incidents anew."""
        tx, touched = self._tx, list(self._touched.values())
        findings.insert_incidents(tx, [p.change.held for p in touched if p.change.is_new])
        merged = [(gone.value, survivor.survivor.value.id) for gone, survivor in self._merged]
        findings.merge_incidents(tx, merged)
        findings.attach(tx, {alert_id: p.value.id for p in touched for alert_id in p.change.added})
        settle(tx, [p.change for p in touched])
        self._store_notes()
        return Correlated(
            opened=tuple(p.value.id for p in touched if p.change.is_new),
            extended=tuple(p.value.id for p in touched if not p.change.is_new),
            reopened=tuple(p.value.id for p in touched if p.reopened),
            merged=tuple((gone.id, into) for gone, into in merged),
        )

    def _store_notes(self) -> None:
        tx = self._tx
        told = [(place, kind, alert_id, detail) for place, kind, alert_id, detail in self._notes if _was(place, kind)]
        for gone, survivor in self._merged:
            detail = {"gone": gone.value.id, "into": survivor.survivor.value.id}
            told.append((survivor, EntryKind.MERGED, None, detail))
        triage.record(
            tx,
            [
                CaseEntry(ordered_id("cse"), place.survivor.value.id, alert_id, tx.now, tx.actor, kind, "", detail)
                for place, kind, alert_id, detail in told
            ],
        )


def _was(place: _Place, kind: EntryKind) -> bool:
    """Whether it is worth telling: an incident that was opened and taken in within one batch never was."""
    return not (kind is EntryKind.OPENED and place.into is not None)


def _new(tx: ControlTx, alert: Alert) -> Incident:
    return Incident(
        id=new_id("inc"),
        title=alert.draft.title,
        description=alert.draft.description,
        severity=alert.draft.severity,
        status=IncidentStatus.ACTIVE,
        created_at=tx.now,
        updated_at=tx.now,
        first_activity=alert.draft.first_activity,
        last_activity=alert.draft.last_activity,
        alert_ids=(alert.id,),
        entities=alert.draft.entities,
    )


def correlate(tx: ControlTx, saved: Sequence[Saved]) -> Correlated:
    """Give each new or grown alert its place. Everything in the caller's transaction, after ``save_drafts``."""
    fresh = [item for item in saved if item.is_new or item.has_grown]
    if not fresh:
        return Correlated()
    batch = _Batch(tx, fresh)
    for item in sorted(fresh, key=lambda s: (s.alert.draft.first_activity, s.alert.id)):
        batch.place(item)
    return batch.store()
