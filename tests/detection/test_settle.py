"""What is kept of an incident tells the same story as all of its alerts would, whatever happened to it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from postgres import throw_away_database
from watchfloor.detection import reshape
from watchfloor.detection.correlate import correlate
from watchfloor.detection.keep import keep
from watchfloor.detection.priority import weigh_alerts
from watchfloor.detection.story import WITHIN, correlation_key, gist_of, join_reasons, tell
from watchfloor.detection.tally import gist_from
from watchfloor.model.cases import (
    Alert,
    AlertDraft,
    Classification,
    Entity,
    EntityKind,
    EntityRole,
    Incident,
    IncidentStatus,
)
from watchfloor.model.errors import WatchfloorError
from watchfloor.model.people import Permission
from watchfloor.model.verdicts import Severity
from watchfloor.storage import cases, findings, people, rules, schema, tallies, triage
from watchfloor.storage.control import ControlTx, SqlControlStore

START = datetime(2026, 11, 3, 8, 0, tzinfo=UTC)
EVERYTHING = frozenset(Permission)
RULES = ("tool-invocation-blocked", "persistent-jailbreak", "tool-definition-changed")
TACTICS = ("Collection", "Defense Evasion", "Initial Access")
_numbers = itertools.count()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlControlStore]:
    if request.param == "postgresql":
        with throw_away_database() as url:
            opened = SqlControlStore.open(url, epoch=None)
            yield opened
            opened.close()
        return
    path: Path = tmp_path_factory.mktemp("control") / "control.db"
    opened = SqlControlStore.open(f"sqlite:///{path}", epoch=None)
    yield opened
    opened.close()


def event(number: int) -> dict[str, Any]:
    """An event as alerts keep it: a function of its number, as the log never changes one."""
    rng = random.Random(number)
    return {
        "id": f"evt_{number}",
        "at": (START + timedelta(minutes=number)).isoformat(),
        "action": rng.choice(["ToolCallDecided"] * 5 + ["ToolChanged", "GuardrailDecision", "RequestRefused"]),
        "server": rng.choice(["mail", "crm"]),
        "tool": rng.choice(["", "send", "read", "list", "delete", "export"]),
        "reason": rng.choice(["policy", "session_revoked"]),
        "stopped": rng.random() < 0.7,
        "jailbreak": rng.random() < 0.3,
    }


def draft(rng: random.Random, world: str) -> AlertDraft:
    """Any alert; the same ``world`` has few users, agents and keys, so that they meet and grow."""
    first = START + timedelta(minutes=rng.randrange(0, 900, 10))
    kinds = {
        EntityKind.USER: [f"{world}-u{n}" for n in rng.sample(range(3), rng.choice([0, 1, 1, 1, 2]))],
        EntityKind.AGENT: [f"{world}-a{n}" for n in rng.sample(range(3), rng.choice([0, 1, 1, 2]))],
        EntityKind.SERVER: [f"{world}-mail"],
        EntityKind.ADDRESS: [f"203.0.113.{rng.randrange(9)}" for _ in range(rng.randrange(3))],
    }
    entities = tuple(
        Entity(kind, id_, rng.choice([id_, id_.upper(), ""]), rng.choice(list(EntityRole)))
        for kind, ids in kinds.items()
        for id_ in ids
    )
    events = [event(n) for n in rng.sample(range(40), rng.randrange(6))]
    return AlertDraft(
        rule_id=rng.choice(RULES),
        dedup_key=f"{world}/{rng.randrange(12)}",
        title="AI agent tool invocation blocked",
        description="…",
        severity=rng.choice(list(Severity)[:4]),
        tactic=rng.choice(TACTICS),
        techniques=(),
        entities=entities,
        evidence=tuple(e["id"] for e in events),
        first_activity=first,
        last_activity=first + timedelta(minutes=rng.choice([0, 0, 10, 50])),
        detail={"count": rng.randrange(1, 12), "events": events, "attempted_tactic": rng.choice(["", *TACTICS])},
    )


def longer(rng: random.Random, value: AlertDraft) -> AlertDraft:
    """More of the same alert: further events, of which it may keep fewer than before."""
    events = [e for e in value.detail["events"] if rng.random() < 0.8] + [event(n) for n in rng.sample(range(40), 2)]
    events = list({e["id"]: e for e in events}.values())
    return replace(
        value,
        severity=rng.choice(list(Severity)[:4]),
        first_activity=value.first_activity - timedelta(minutes=rng.choice([0, 0, 30])),
        last_activity=value.last_activity + timedelta(minutes=rng.choice([0, 10, 60])),
        detail={**value.detail, "count": value.detail["count"] + 1, "events": events},
    )


def arrive(store: SqlControlStore, drafts: Sequence[AlertDraft]) -> None:
    with store.tx("system:detection", audited=False) as tx:
        correlate(tx, findings.save_drafts(tx, drafts))


def plain_reasons(alerts: Sequence[Alert], follows: str | None) -> dict[str, str]:
    """Why each alert belongs, asked of every pair of alerts."""

    def agents(alert: Alert) -> set[str]:
        return {e.id for e in alert.draft.entities if e.kind is EntityKind.AGENT}

    ordered = sorted(alerts, key=lambda a: (a.draft.first_activity, a.draft.rule_id, a.draft.dedup_key))
    reasons = {
        ordered[0].id: "first alert of the incident" + (f"; follows resolved incident {follows}" if follows else "")
    }
    for alert in ordered[1:]:
        near = [
            other
            for other in ordered
            if other is not alert
            and alert.draft.first_activity <= other.draft.last_activity + WITHIN
            and other.draft.first_activity <= alert.draft.last_activity + WITHIN
        ]
        kind = correlation_key(alert.draft).partition("/")[0]
        if kind == "user" and any(agents(alert) & agents(other) for other in near):
            reasons[alert.id] = "same user and agent within 2 h"
        else:
            shared = {"user": "user", "agent": "agent", "server": "tool server"}[kind]
            reasons[alert.id] = f"same {shared} within 2 h"
    return reasons


def of_world(tx: ControlTx, world: str) -> list[Incident]:
    found = cases.list_incidents(tx, EVERYTHING, limit=100)  # newest first
    return [i for i in found if any(e.id.startswith(f"{world}-") for e in i.entities)]


def check(store: SqlControlStore, world: str) -> None:
    """Every incident of the world says what its alerts say."""
    with store.read() as tx:
        for incident in of_world(tx, world):
            alerts = findings.alerts_of(tx, incident.id)
            story = tell(alerts)
            told = (incident.title, incident.description, incident.severity, incident.entities)
            assert told == (story.title, story.description, story.severity, story.entities)
            assert (incident.first_activity, incident.last_activity) == (story.first_activity, story.last_activity)
            assert incident.priority == weigh_alerts(tx, alerts).score
            (held,) = findings.held(tx, [incident.id])
            if held.first_alert is None:
                continue  # it will be counted when it next changes
            sums = tallies.read(tx, incident.id)
            assert gist_from(sums, incident.first_activity, incident.last_activity) == gist_of(alerts)
            reasons = {a.id: a.join_reason for a in alerts}
            assert reasons == plain_reasons(alerts, held.follows) == join_reasons(alerts, held.follows)


def act(store: SqlControlStore, rng: random.Random, world: str, known: list[AlertDraft]) -> None:
    """Something that happens to incidents."""
    what = rng.choice(["arrive"] * 4 + ["grow"] * 3 + ["resolve", "split", "merge", "legacy"])
    with store.read() as tx:
        incidents = of_world(tx, world)
        members = {i.id: [a.id for a in findings.alerts_of(tx, i.id)] for i in incidents}
    if what == "arrive" or not known:
        fresh = [draft(rng, world) for _ in range(rng.randint(1, 5))]
        known += fresh
        arrive(store, fresh)
    elif what == "grow":
        more = [longer(rng, value) for value in rng.sample(known, min(len(known), 3))]
        known += more
        arrive(store, [*more, *rng.sample(known, 2)])
    elif what == "resolve":
        with store.tx("mona") as tx:
            chosen = rng.choice(incidents)
            if chosen.status is not IncidentStatus.RESOLVED:
                triage.triage_incident(
                    tx, chosen.id, status=IncidentStatus.RESOLVED, classification=Classification.TRUE_POSITIVE
                )
    elif what == "legacy":  # as an older version left it: never counted
        with store.tx(audited=False) as tx:
            chosen = rng.choice(incidents)
            tallies.forget(tx, [chosen.id])
            tx.connection.execute(schema.incident_agent_span.delete().where(sa.column("incident_id") == chosen.id))
            tx.connection.execute(
                schema.incident.update().where(schema.incident.c.id == chosen.id).values(first_alert=None, follows=None)
            )
    else:
        try:
            with store.tx("mona") as tx:
                one = rng.choice(incidents)
                if what == "split":
                    reshape.split(
                        tx, one.id, rng.sample(members[one.id], rng.randint(1, len(members[one.id]))), "apart"
                    )
                else:
                    reshape.merge(tx, one.id, rng.choice(incidents).id, "one attack")
        except WatchfloorError:
            pass  # it is resolved, or too small


@pytest.mark.parametrize("seed", range(30))
def test_what_is_kept_of_an_incident_says_what_all_of_its_alerts_say(store: SqlControlStore, seed: int) -> None:
    rng = random.Random(seed)
    world, known = f"w{next(_numbers)}", list[AlertDraft]()
    for _ in range(rng.randint(3, 14)):
        act(store, rng, world, known)
        check(store, world)


def test_of_very_many_entities_an_incident_names_the_first_as_all_of_its_alerts_would(
    store: SqlControlStore,
) -> None:
    world, rng = f"w{next(_numbers)}", random.Random(7)
    drafts = [
        replace(
            draft(rng, world),
            dedup_key=f"{world}/many/{n}",
            entities=(
                Entity(EntityKind.USER, f"{world}-u", "U", EntityRole.IMPACTED),
                *(Entity(EntityKind.ADDRESS, f"10.0.{n}.{m}", f"10.0.{n}.{m}", EntityRole.RELATED) for m in range(150)),
            ),
            first_activity=START,
            last_activity=START,
        )
        for n in range(12)
    ]
    for each in drafts:
        arrive(store, [each])
    check(store, world)


def test_an_entity_of_very_many_names_hides_none_of_the_others(store: SqlControlStore) -> None:
    world, rng = f"w{next(_numbers)}", random.Random(8)
    roles = [EntityRole.SUSPECTED if n == 3 else EntityRole.RELATED for n in range(3_000)]
    named = [Entity(EntityKind.AGENT, f"{world}-a{n % 2}", f"Agent {n}", role) for n, role in enumerate(roles)]
    for n, names in enumerate((named[:1_500], named[1_500:])):
        user = Entity(EntityKind.USER, f"{world}-u", "U", EntityRole.IMPACTED)
        address = Entity(EntityKind.ADDRESS, f"10.0.0.{n}", f"10.0.0.{n}", EntityRole.RELATED)
        drafted = replace(draft(rng, world), dedup_key=f"{world}/names/{n}", entities=(user, *names, address))
        arrive(store, [replace(drafted, first_activity=START, last_activity=START)])
        check(store, world)


def test_of_an_incident_that_has_grown_large_no_more_is_read_than_is_told(store: SqlControlStore) -> None:
    world, rng = f"w{next(_numbers)}", random.Random(9)
    user = Entity(EntityKind.USER, f"{world}-u", "U", EntityRole.IMPACTED)
    for n in range(30):
        agents = (Entity(EntityKind.AGENT, f"{world}-{n}-{m}", f"A{n}-{m}", EntityRole.RELATED) for m in range(40))
        events = [{**event(n * 40 + m), "id": f"evt_{world}_{n}_{m}", "tool": f"tool-{n}-{m}"} for m in range(40)]
        drafted = replace(draft(rng, world), dedup_key=f"{world}/large/{n}", entities=(user, *agents))
        drafted = replace(drafted, detail={"count": 40, "events": events}, first_activity=START, last_activity=START)
        arrive(store, [drafted])
    check(store, world)
    with store.read() as tx:
        (incident,) = of_world(tx, world)
        assert len(tallies.read(tx, incident.id)) < 600


def test_how_much_depends_on_a_person_counts_for_an_incident_that_is_told_from_sums(store: SqlControlStore) -> None:
    world = f"w{next(_numbers)}"
    user = people.User(f"{world}-u0", "https://idp.example", world, START, upn="ceo@zava.example", criticality=0)
    with store.tx("mona") as tx:
        people.save_user(tx, user)
    base = replace(
        draft(random.Random(1), world), entities=(Entity(EntityKind.USER, user.id, "ceo", EntityRole.IMPACTED),)
    )
    arrive(store, [base])
    check(store, world)
    with store.read() as tx:
        (incident,) = of_world(tx, world)
        reasons = weigh_alerts(tx, findings.alerts_of(tx, incident.id)).reasons
    assert any("ceo@zava.example" in reason.text for reason in reasons)


def test_what_grew_while_it_was_suppressed_is_told_when_its_incident_next_changes(store: SqlControlStore) -> None:
    world = f"w{next(_numbers)}"
    entity = Entity(EntityKind.USER, f"{world}-u0", "ann", EntityRole.IMPACTED)
    value = replace(draft(random.Random(3), world), entities=(entity,))

    def grows(by: int) -> None:
        nonlocal value
        events = [*value.detail["events"], event(100 + by)]
        last = value.last_activity + timedelta(minutes=by)
        value = replace(value, last_activity=last, detail={**value.detail, "count": 20 + by, "events": events})
        with store.tx("system:detection", audited=False) as tx:
            keep(tx, [value], "events/1-2")

    grows(1)
    with store.tx("mona") as tx:
        (incident,) = of_world(tx, world)
        triage.triage_incident(
            tx, incident.id, status=IncidentStatus.RESOLVED, classification=Classification.TRUE_POSITIVE
        )
        added = rules.add_suppression(
            tx,
            rule_id="",
            entity_kind="user",
            entity_id=entity.id,
            reason="known",
            expires_at=tx.now + timedelta(days=1),
        )
    grows(2)
    with store.tx("mona") as tx:
        rules.delete_suppression(tx, added.id)
    grows(3)
    check(store, world)
    with store.read() as tx:
        (again,) = of_world(tx, world)
        assert again.status is IncidentStatus.ACTIVE
        (held,) = findings.held(tx, [again.id])
        assert held.first_alert is not None
