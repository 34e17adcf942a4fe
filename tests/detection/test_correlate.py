"""Alerts into incidents: one partition whatever the order of arrival, and what people decided stays."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchfloor.detection.correlate import Correlated, correlate
from watchfloor.detection.story import tell
from watchfloor.model.cases import (
    AlertDraft,
    AlertStatus,
    Classification,
    Entity,
    EntityKind,
    EntityRole,
    Incident,
    IncidentStatus,
)
from watchfloor.model.people import Permission
from watchfloor.model.verdicts import Severity
from watchfloor.storage import cases, findings, triage
from watchfloor.storage.control import SqlControlStore

START = datetime(2026, 11, 3, 8, 0, tzinfo=UTC)
EVERYTHING = frozenset(Permission)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlControlStore]:
    path: Path = tmp_path_factory.mktemp("control") / "control.db"
    opened = SqlControlStore.open(f"sqlite:///{path}", epoch=None)
    yield opened
    opened.close()


def draft(
    user: str,
    minute: float = 0,
    length: float = 0,
    *,
    key: str = "k",
    rule: str = "tool-invocation-blocked",
    agent: str = "billing",
    severity: Severity = Severity.HIGH,
    tactic: str = "Collection",
    count: int = 1,
) -> AlertDraft:
    """An alert about ``user`` (empty: none), from ``minute`` on for ``length`` minutes."""
    first = START + timedelta(minutes=minute)
    entities = [Entity(EntityKind.AGENT, agent, agent.title(), EntityRole.IMPACTED)]
    if user:
        entities.append(Entity(EntityKind.USER, user, f"{user}@zava.example", EntityRole.IMPACTED))
    return AlertDraft(
        rule_id=rule,
        dedup_key=f"{user}/{agent}/{key}",
        title="AI agent tool invocation blocked",
        description="…",
        severity=severity,
        tactic=tactic,
        techniques=(),
        entities=tuple(entities),
        evidence=(),
        first_activity=first,
        last_activity=first + timedelta(minutes=length),
        detail={"count": count, "events": []},
    )


def store_all(store: SqlControlStore, drafts: Sequence[AlertDraft]) -> Correlated:
    with store.tx("system:detection") as tx:
        tx.audit("detection:find", "test")
        return correlate(tx, [findings.save_draft(tx, d) for d in drafts])


def incidents_of(store: SqlControlStore, user: str) -> list[Incident]:
    with store.read() as tx:
        return cases.list_incidents(tx, EVERYTHING, cases.CaseFilter(user_id=user), 100)


def picture(store: SqlControlStore, user: str) -> list[Any]:
    """Everything about a user's incidents that must not depend on the order of arrival."""
    found = []
    with store.read() as tx:
        for incident in cases.list_incidents(tx, EVERYTHING, cases.CaseFilter(user_id=user), 100):
            alerts = findings.alerts_of(tx, incident.id)
            found.append(
                (
                    sorted((a.draft.dedup_key.rpartition("/")[2], a.join_reason) for a in alerts),
                    incident.title,
                    incident.severity,
                    incident.first_activity,
                    incident.last_activity,
                    len(incident.entities),
                )
            )
    return sorted(found)


SPECS = st.lists(
    st.tuples(
        st.integers(0, 900),
        st.integers(0, 50),
        st.sampled_from(["billing", "hr"]),
        st.sampled_from(["tool-invocation-blocked", "persistent-jailbreak", "revoked-session-used"]),
        st.sampled_from([Severity.LOW, Severity.MEDIUM, Severity.HIGH]),
        st.sampled_from(["Collection", "Defense Evasion", "Initial Access"]),
    ),
    min_size=1,
    max_size=8,
)


def _drafts(specs: Sequence[tuple[Any, ...]], user: str) -> list[AlertDraft]:
    return [
        draft(user, minute, length, key=str(n), agent=agent, rule=rule, severity=severity, tactic=tactic)
        for n, (minute, length, agent, rule, severity, tactic) in enumerate(specs)
    ]


def _components(specs: Sequence[tuple[Any, ...]]) -> list[list[str]]:
    """The same partition, computed the plain way: spans that touch within two hours."""
    groups: list[tuple[int, int, list[str]]] = []
    for minute, length, n in sorted((s[0], s[1], str(n)) for n, s in enumerate(specs)):
        if groups and minute <= groups[-1][1] + 120:
            first, last, members = groups[-1]
            groups[-1] = (first, max(last, minute + length), [*members, n])
        else:
            groups.append((minute, minute + length, [n]))
    return sorted(sorted(members) for _, _, members in groups)


def test_an_alert_that_bridges_two_incidents_passes_their_whole_span_on_to_the_next_of_its_batch(
    store: SqlControlStore,
) -> None:
    user = f"user-{next(_numbers)}"
    early, bridge, late, later = (draft(user, minute, 0, key=str(minute)) for minute in (0, 110, 220, 330))
    store_all(store, [early])
    store_all(store, [late])
    store_all(store, [bridge, later])
    assert [len(p[0]) for p in picture(store, user)] == [4]


@settings(max_examples=60, deadline=None)
@given(SPECS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_the_order_of_arrival_never_changes_the_incidents(
    store: SqlControlStore, specs: list[tuple[Any, ...]], rng: random.Random, size: int
) -> None:
    one, other = f"user-{next(_numbers)}", f"user-{next(_numbers)}"
    store_all(store, _drafts(specs, one))
    shuffled = _drafts(specs, other)
    rng.shuffle(shuffled)
    for start in range(0, len(shuffled), size):
        store_all(store, shuffled[start : start + size])
    assert picture(store, other) == picture(store, one)
    assert sorted([k for k, _ in p[0]] for p in picture(store, one)) == _components(specs)


def test_a_late_alert_that_bridges_two_incidents_merges_them_and_the_younger_points_to_the_older(
    store: SqlControlStore,
) -> None:
    store_all(store, [draft("bridget", 0, key="a")])
    store_all(store, [draft("bridget", 200, key="b")])
    older, younger = sorted(i.id for i in incidents_of(store, "bridget"))
    result = store_all(store, [draft("bridget", 100, key="c")])
    assert result.merged == ((younger, older),)
    assert [i.id for i in incidents_of(store, "bridget")] == [older]
    with store.read() as tx:
        gone = cases.find_incident(tx, EVERYTHING, younger)
    assert gone is not None
    assert (gone.status, gone.redirect_to, gone.alert_ids) == (IncidentStatus.REDIRECTED, older, ())


def test_two_users_of_one_agent_are_two_incidents(store: SqlControlStore) -> None:
    store_all(store, [draft("ann"), draft("ben"), draft("", agent="billing-2"), draft("ann", agent="billing-2")])
    assert len(incidents_of(store, "ann")) == 1
    assert incidents_of(store, "ann")[0].id != incidents_of(store, "ben")[0].id
    with store.read() as tx:
        by_agent = cases.list_incidents(tx, EVERYTHING, cases.CaseFilter(agent_id="billing-2"), 10)
    assert sorted(i.title for i in by_agent) == [
        "Collection incident involving one user",
        "Collection incident on one agent",
    ]


def test_each_alert_says_why_it_belongs(store: SqlControlStore) -> None:
    store_all(store, [draft("wendy", 0, key="a"), draft("wendy", 30, key="b"), draft("wendy", 40, key="c", agent="hr")])
    with store.read() as tx:
        alerts = findings.alerts_of(tx, incidents_of(store, "wendy")[0].id)
    assert {a.draft.dedup_key: a.join_reason for a in alerts} == {
        "wendy/billing/a": "first alert of the incident",
        "wendy/billing/b": "same user and agent within 2 h",
        "wendy/hr/c": "same user within 2 h",
    }


def test_serious_alerts_of_two_rules_on_one_user_and_agent_make_the_incident_critical(store: SqlControlStore) -> None:
    store_all(store, [draft("carol", key="a"), draft("carol", 5, key="b", rule="persistent-jailbreak")])
    assert incidents_of(store, "carol")[0].severity is Severity.CRITICAL


@pytest.mark.parametrize(
    "second",
    [
        draft("dave", 5, key="b"),  # the same rule again
        draft("dave", 5, key="b", rule="persistent-jailbreak", agent="hr"),  # another agent
        draft("dave", 5, key="b", rule="jailbreak-attempt", severity=Severity.MEDIUM),  # not serious
    ],
    ids=["same rule", "another agent", "medium"],
)
def test_less_than_that_stays_high(store: SqlControlStore, second: AlertDraft) -> None:
    user = f"dave-{next(_numbers)}"
    moved = [
        AlertDraft(**{**{f: getattr(d, f) for f in AlertDraft.__slots__}, "dedup_key": f"{user}/{d.dedup_key}",
                      "entities": (d.entities[0], Entity(EntityKind.USER, user, user, EntityRole.IMPACTED))})
        for d in (draft("dave", key="a"), second)
    ]  # fmt: skip
    store_all(store, moved)
    assert incidents_of(store, user)[0].severity is Severity.HIGH


def test_an_incident_is_named_after_how_far_its_most_severe_alerts_got(store: SqlControlStore) -> None:
    store_all(
        store,
        [
            draft("tim", 0, key="a", rule="persistent-jailbreak", tactic="Defense Evasion"),
            draft("tim", 1, key="b", tactic="Collection"),
            draft("tim", 2, key="c", tactic="Exfiltration", severity=Severity.LOW),
            draft("tim", 3, key="d", tactic="Impact", severity=Severity.MEDIUM),
        ],
    )
    assert incidents_of(store, "tim")[0].title == "Collection incident involving one user"


def test_what_happens_after_an_incident_was_resolved_starts_a_new_one_that_names_it(store: SqlControlStore) -> None:
    store_all(store, [draft("rita", 0, key="a")])
    resolved = incidents_of(store, "rita")[0]
    with store.tx("mona") as tx:
        triage.triage_incident(
            tx, resolved.id, status=IncidentStatus.RESOLVED, classification=Classification.TRUE_POSITIVE
        )
    store_all(store, [draft("rita", 30, key="b")])
    store_all(store, [draft("rita", 31, key="c")])
    by_id = {i.id: i for i in incidents_of(store, "rita")}
    assert by_id.pop(resolved.id).status is IncidentStatus.RESOLVED
    (fresh,) = by_id.values()
    with store.read() as tx:
        reasons = [a.join_reason for a in findings.alerts_of(tx, fresh.id)]
    assert reasons == [
        f"first alert of the incident; follows resolved incident {resolved.id}",
        "same user and agent within 2 h",
    ]


def test_more_of_a_resolved_alert_opens_it_and_its_incident_again(store: SqlControlStore) -> None:
    store_all(store, [draft("gus", 0, key="a")])
    incident = incidents_of(store, "gus")[0]
    with store.tx("mona") as tx:
        triage.triage_incident(
            tx, incident.id, status=IncidentStatus.RESOLVED, classification=Classification.FALSE_POSITIVE
        )
    result = store_all(store, [draft("gus", 0, 10, key="a", count=2)])
    assert result.reopened == (incident.id,)
    (again,) = incidents_of(store, "gus")
    assert (again.id, again.status) == (incident.id, IncidentStatus.ACTIVE)
    with store.read() as tx:
        assert [a.status for a in findings.alerts_of(tx, again.id)] == [AlertStatus.NEW]


def test_the_same_findings_again_change_nothing(store: SqlControlStore) -> None:
    drafts = [draft("ida", 0, key="a"), draft("ida", 10, key="b")]
    store_all(store, drafts)
    before = incidents_of(store, "ida")
    assert not store_all(store, drafts).changed
    assert incidents_of(store, "ida") == before


def test_the_assignment_survives_a_merge(store: SqlControlStore) -> None:
    store_all(store, [draft("hank", 0, key="a")])
    store_all(store, [draft("hank", 200, key="b")])
    younger = max(i.id for i in incidents_of(store, "hank"))
    with store.tx("mona") as tx:
        triage.triage_incident(tx, younger, status=IncidentStatus.IN_PROGRESS, assigned_to="mona")
    store_all(store, [draft("hank", 100, key="c")])
    (merged,) = incidents_of(store, "hank")
    assert (merged.assigned_to, merged.status) == ("mona", IncidentStatus.IN_PROGRESS)


def test_the_story_counts_an_event_once_although_two_alerts_point_to_it(store: SqlControlStore) -> None:
    event = {
        "id": "evt_1", "at": START.isoformat(), "invocation": "inv_1", "action": "ToolCallDecided", "user": "u",
        "agent": "a", "server": "mail", "tool": "send_email", "verdict": "block", "reason": "policy",
        "address": "203.0.113.7", "stopped": True, "jailbreak": True,
    }  # fmt: skip
    drafts = [
        AlertDraft(**{**{f: getattr(d, f) for f in AlertDraft.__slots__}, "detail": {"count": 1, "events": [event]}})
        for d in (draft("jo", key="a"), draft("jo", key="b", rule="persistent-jailbreak"))
    ]
    store_all(store, drafts)
    with store.read() as tx:
        story = tell(findings.alerts_of(tx, incidents_of(store, "jo")[0].id))
    assert story.description == (
        "jo@zava.example used Billing at 08:00 UTC on 3 November 2026. "
        "Words of a jailbreak attempt stood in the conversation of 1 call. "
        "1 tool call was stopped before reaching a tool server: mail/send_email (once). "
        "None of the calls of these alerts got through."
    )
