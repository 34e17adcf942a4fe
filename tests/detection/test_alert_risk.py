"""What alerts do to the risk of those that they are about, and how it is taken back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detection.rows import NOON
from detection.stores import Stores, open_stores
from watchfloor.detection.keep import keep
from watchfloor.model.agents import AgentState
from watchfloor.model.cases import (
    AlertDraft,
    AlertStatus,
    Classification,
    Entity,
    EntityKind,
    EntityRole,
    IncidentStatus,
)
from watchfloor.model.people import PERMISSIONS, RiskLevel, Role
from watchfloor.model.risk import Risk, RiskState
from watchfloor.model.verdicts import Severity
from watchfloor.storage import cases, inventory, people, risks, rules, triage
from watchfloor.storage.inventory import Agent
from watchfloor.storage.people import User

SEES_ALL = PERMISSIONS[Role.SOC_ANALYST]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """Stores in which Griffin and the billing agent are known; the clock stands still an hour after noon."""
    with open_stores(tmp_path, now=lambda: NOON + timedelta(hours=1)) as opened:
        with opened.control.tx("root") as tx:
            people.save_user(tx, User("griffin", "https://idp.zava.example", "g", tx.now, is_enabled=True))
            people.save_user(tx, User("kim", "https://idp.zava.example", "k", tx.now, is_enabled=True))
            inventory.save_agent(
                tx, Agent("billing", "Billing", AgentState.PUBLISHED, "1", tx.now, tx.now, updated_by="root")
            )
        yield opened


def draft(
    key: str = "a",
    severity: Severity = Severity.HIGH,
    *,
    count: int = 1,
    minutes: int = 0,
    role: EntityRole = EntityRole.IMPACTED,
    user: str = "griffin",
) -> AlertDraft:
    at = NOON + timedelta(minutes=minutes)
    entities = (
        Entity(EntityKind.USER, user, user, role),
        Entity(EntityKind.AGENT, "billing", "Billing", EntityRole.IMPACTED),
    )
    return AlertDraft(
        "tool-invocation-blocked", key, "AI agent tool invocation blocked", "It was stopped.", severity, "Collection",
        ("T1114",), entities, (f"evt_{key}",), NOON, at, detail={"count": count},
    )  # fmt: skip


def raise_alert(stores: Stores, *drafts: AlertDraft) -> None:
    with stores.control.tx("system:detection", audited=False) as tx:
        keep(tx, drafts, "test")


def find(stores: Stores, kind: str = "user", subject_id: str = "griffin") -> Risk:
    with stores.control.read() as tx:
        return risks.find(tx, kind, subject_id)


def resolve(stores: Stores, how: Classification, *, as_incident: bool = False) -> str:
    with stores.control.tx("lin") as tx:
        (alert,) = cases.list_alerts(tx, SEES_ALL)
        if as_incident:
            assert alert.incident_id
            triage.triage_incident(tx, alert.incident_id, status=IncidentStatus.RESOLVED, classification=how)
        else:
            triage.triage_alert(tx, alert.id, status=AlertStatus.RESOLVED, classification=how)
    return alert.id


@pytest.mark.claim("risk-alerts")
@pytest.mark.parametrize(
    ("severity", "level"), [(Severity.HIGH, RiskLevel.MEDIUM), (Severity.CRITICAL, RiskLevel.HIGH)]
)
def test_a_grave_alert_raises_the_risk_of_the_user_and_the_agent_it_is_about(
    stores: Stores, severity: Severity, level: RiskLevel
) -> None:
    raise_alert(stores, draft(severity=severity))
    for kind, subject_id in (("user", "griffin"), ("agent", "billing")):
        found = find(stores, kind, subject_id)
        assert (found.level, found.state) == (level, RiskState.AT_RISK)
        assert "AI agent tool invocation blocked" in found.reasons[0]


@pytest.mark.parametrize("severity", [Severity.MEDIUM, Severity.LOW, Severity.INFORMATIONAL])
def test_a_lesser_alert_raises_nobodys_risk(stores: Stores, severity: Severity) -> None:
    raise_alert(stores, draft(severity=severity))
    assert find(stores) == find(stores, "agent", "billing") == Risk()


def test_who_is_only_related_or_unknown_here_is_at_no_risk(stores: Stores) -> None:
    raise_alert(stores, draft("a", role=EntityRole.RELATED), draft("b", user="stranger"))
    assert find(stores) == Risk()
    assert find(stores, "agent", "billing").level is RiskLevel.MEDIUM


def test_a_suppressed_alert_raises_nobodys_risk(stores: Stores) -> None:
    with stores.control.tx("lin") as tx:
        rules.add_suppression(
            tx, rule_id="tool-invocation-blocked", entity_kind="", entity_id="", reason="a test of ours",
            expires_at=tx.now + timedelta(days=1),
        )  # fmt: skip
    raise_alert(stores, draft())
    assert find(stores) == Risk()


@pytest.mark.claim("risk-alerts")
@pytest.mark.parametrize("as_incident", [False, True])
@pytest.mark.parametrize("how", [Classification.FALSE_POSITIVE, Classification.EXPECTED])
def test_a_false_alarm_is_taken_back_and_counts_again_when_it_was_none(
    stores: Stores, how: Classification, as_incident: bool
) -> None:
    raise_alert(stores, draft())
    alert_id = resolve(stores, how, as_incident=as_incident)
    found = find(stores)
    assert (found.level, found.state, found.reasons) == (RiskLevel.NONE, RiskState.DISMISSED, ())
    with stores.control.tx("lin") as tx:
        triage.triage_alert(tx, alert_id, status=AlertStatus.NEW, classification=Classification.TRUE_POSITIVE)
    assert (find(stores).level, find(stores).state) == (RiskLevel.MEDIUM, RiskState.AT_RISK)


def test_a_true_alarm_goes_on_counting_after_it_is_resolved(stores: Stores) -> None:
    raise_alert(stores, draft())
    resolve(stores, Classification.TRUE_POSITIVE)
    assert find(stores).level is RiskLevel.MEDIUM


def test_a_false_alarm_that_goes_on_counts_again(stores: Stores) -> None:
    raise_alert(stores, draft())
    resolve(stores, Classification.FALSE_POSITIVE)
    raise_alert(stores, draft(count=2, minutes=0))
    assert find(stores).level is RiskLevel.NONE, "more of the same time is no news"
    raise_alert(stores, draft(count=3, minutes=30))
    assert find(stores).level is RiskLevel.MEDIUM


def test_a_confirmed_compromise_outlasts_the_alert_that_it_came_from(stores: Stores) -> None:
    raise_alert(stores, draft())
    with stores.control.tx("lin") as tx:
        seen = risks.Seen("adminConfirmedUserCompromised", RiskLevel.HIGH, "admin", "phished", "occ_1", tx.now, tx.now)
        risks.confirm(tx, "user", "griffin", seen)
    resolve(stores, Classification.FALSE_POSITIVE)
    assert (find(stores).level, find(stores).state) == (RiskLevel.HIGH, RiskState.CONFIRMED_COMPROMISED)


def test_a_thousand_alerts_are_one_reason_more_than_ten_only_in_number(stores: Stores) -> None:
    raise_alert(stores, *(draft(f"k{n}") for n in range(1000)))
    assert len(find(stores).reasons) == 10
    with stores.control.read() as tx:
        assert len(risks.detections(tx, "user", "griffin", limit=5000)) == 1000


# -- the law ------------------------------------------------------------------------------------------------------

DRAFTS = st.builds(
    draft,
    st.sampled_from("abc"),
    st.sampled_from([Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL]),
    user=st.sampled_from(["griffin", "kim"]),
)


def grown(drafts: list[AlertDraft]) -> list[AlertDraft]:
    """Each finding with one severity and one user, in two stages: as detection would find it, and find more of it."""
    by_key = {d.dedup_key: d for d in drafts}
    stages = []
    for d in by_key.values():
        user = d.entities[0].id
        stages += [
            draft(d.dedup_key, d.severity, user=user), draft(d.dedup_key, d.severity, count=2, minutes=9, user=user)
        ]  # fmt: skip
    return stages


@pytest.mark.claim("risk-alerts")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drafts=st.lists(DRAFTS, min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_late_repeated_and_reordered_alerts_do_not_count_twice(
    tmp_path_factory: pytest.TempPathFactory, drafts: list[AlertDraft], seed: int
) -> None:
    stages = grown(drafts)
    shuffled = [*stages, *stages]
    random.Random(seed).shuffle(shuffled)
    results = []
    for batches in ([stages], [[each] for each in shuffled]):
        with open_stores(tmp_path_factory.mktemp("s"), now=lambda: NOON + timedelta(hours=1)) as opened:
            with opened.control.tx("root") as tx:
                for user in ("griffin", "kim"):
                    people.save_user(tx, User(user, "https://idp.zava.example", user, tx.now, is_enabled=True))
            for batch in batches:
                raise_alert(opened, *batch)
            with opened.control.read() as tx:
                results.append(
                    {
                        user: (
                            risks.find(tx, "user", user).level,
                            sorted((d.level, d.first_at, d.last_at) for d in risks.detections(tx, "user", user)),
                        )
                        for user in ("griffin", "kim")
                    }
                )
    assert results[0] == results[1]
    weighing = {d.dedup_key for d in stages if d.severity in (Severity.HIGH, Severity.CRITICAL)}
    assert sum(len(detections) for _, detections in results[0].values()) == len(weighing)
