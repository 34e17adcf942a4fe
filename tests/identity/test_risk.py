"""The risk of users and agents: what raises it, what it does, how it fades and how it is settled."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchfloor.identity import risk, sessions
from watchfloor.identity.risk import Risk
from watchfloor.identity.sts import TokenRefused
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.facts import AgentFacts, Kind, UserFacts
from watchfloor.model.people import RiskLevel
from watchfloor.model.risk import FADES, RANK, RiskState, add_up, faded
from watchfloor.storage import risks

from .test_sessions import user_facts
from .world import NOON, World

AGENT = "customer-billing"
LEVELS = st.sampled_from([RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH])


def find(world: World, kind: str = "user", subject_id: str = "griffin") -> Risk:
    with world.store.read() as tx:
        return risk.find(tx, kind, subject_id)


def note(world: World, level: RiskLevel, detection: str = "anonymizedIPAddress", **how: object) -> Risk:
    with world.store.tx("idp") as tx:
        return risk.note(tx, "user", "griffin", detection, level, source="idp", detail="seen by the provider", **how)  # type: ignore[arg-type]  # keywords of note, as each test needs them


def agent_facts(world: World) -> AgentFacts:
    return AgentFacts.from_json(world.facts(Kind.AGENT)[AGENT])


def test_a_detection_raises_the_level_that_gateways_know_and_says_why(zava: World) -> None:
    assert find(zava) == Risk()
    found = note(zava, RiskLevel.MEDIUM)
    assert (found.level, found.state) == (RiskLevel.MEDIUM, RiskState.AT_RISK)
    assert found.reasons == (
        "anonymizedIPAddress: seen by the provider (anonymizedIPAddress, medium, 2026-03-02 12:00 UTC)",
    )
    assert user_facts(zava).risk is RiskLevel.MEDIUM
    assert zava.service.issue(zava.request()).access_token, "medium suspends nobody"
    assert [entry["action"] for entry in zava.audit()][-2:] == ["risk:detect", "user:set-risk"]


def test_the_gravest_detection_decides_and_many_faint_ones_add_up_to_no_grave_one(zava: World) -> None:
    for _ in range(20):
        note(zava, RiskLevel.LOW)
    assert find(zava).level is RiskLevel.LOW
    note(zava, RiskLevel.HIGH)
    assert find(zava).level is RiskLevel.HIGH
    with pytest.raises(TokenRefused) as caught:
        zava.service.issue(zava.request())
    assert caught.value.reason == "user_risk"


def test_a_detection_weighs_no_more_than_its_name_allows(zava: World) -> None:
    with zava.store.tx("rules") as tx:
        found = risk.note(tx, "agent", AGENT, "riskyUserSignIn", RiskLevel.HIGH, source="rule", detail="griffin")
    assert (found.level, found.state) == (RiskLevel.NONE, RiskState.NONE)
    assert "does not raise the level" in found.reasons[0]
    assert agent_facts(zava).risk is RiskLevel.NONE


def test_the_same_occurrence_noted_again_counts_once_with_all_of_its_time(zava: World) -> None:
    note(zava, RiskLevel.MEDIUM, key="campaign-7", at=NOON)
    before = len(zava.audit())
    note(zava, RiskLevel.MEDIUM, key="campaign-7", at=NOON)
    assert len(zava.audit()) == before, "nothing was changed"
    note(zava, RiskLevel.LOW, key="campaign-7", at=NOON + timedelta(hours=1))
    with zava.store.read() as tx:
        (only,) = risk.detections(tx, "user", "griffin")
    assert (only.level, only.last_at) == (RiskLevel.MEDIUM, NOON + timedelta(hours=1))


@pytest.mark.claim("risk-confirmed")
def test_a_confirmed_compromise_stays_high_whatever_fades_until_it_is_dismissed(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        found = risk.confirm_compromised(tx, "user", "griffin", "the phone was stolen")
    assert (found.level, found.state) == (RiskLevel.HIGH, RiskState.CONFIRMED_COMPROMISED)
    zava.clock.pass_seconds(timedelta(days=400).total_seconds())
    note(zava, RiskLevel.LOW)
    with zava.store.tx("system:risk", audited=False) as tx:
        risks.fade(tx)
    assert find(zava).level is RiskLevel.HIGH
    with zava.store.tx("soc") as tx:
        found = risk.dismiss(tx, "user", "griffin", "it was found again")
    assert (found.level, found.state, found.reasons) == (RiskLevel.NONE, RiskState.DISMISSED, ())
    assert user_facts(zava).risk is RiskLevel.NONE
    with zava.store.read() as tx:
        told = [(c.activity, c.level.value, c.state.value, c.actor) for c in risk.history(tx, "user", "griffin")]
    assert told == [
        ("risk:dismiss", "none", "dismissed", "soc"),
        ("risk:confirm-compromised", "high", "confirmedCompromised", "soc"),
    ]


def test_confirming_twice_changes_nothing_the_second_time(zava: World) -> None:
    for _ in range(2):
        with zava.store.tx("soc", audited=False) as tx:
            risk.confirm_compromised(tx, "agent", AGENT, "it mailed strangers")
    with zava.store.read() as tx:
        assert [d.detection for d in risk.detections(tx, "agent", AGENT)] == ["adminConfirmedAgentCompromised"]
    assert agent_facts(zava).risk is RiskLevel.HIGH


def test_what_is_seen_after_a_dismissal_counts_again(zava: World) -> None:
    note(zava, RiskLevel.MEDIUM, key="a")
    with zava.store.tx("soc") as tx:
        risk.dismiss(tx, "user", "griffin", "a new phone")
    note(zava, RiskLevel.LOW, key="b")
    assert (find(zava).level, find(zava).state) == (RiskLevel.LOW, RiskState.AT_RISK)


def test_what_happened_before_a_new_password_is_over_also_where_it_is_reported_later(zava: World) -> None:
    stolen = zava.clock.at
    with zava.store.tx("soc") as tx:
        risk.confirm_compromised(tx, "user", "griffin", "phished")
    zava.clock.pass_seconds(3600)
    with zava.store.tx("idp") as tx:
        found = risk.remediate(tx, "user", "griffin", "a new password")
    assert (found.level, found.state) == (RiskLevel.NONE, RiskState.REMEDIATED)
    late = note(zava, RiskLevel.HIGH, key="late", at=stolen + timedelta(minutes=5))
    assert (late.level, late.state) == (RiskLevel.NONE, RiskState.REMEDIATED)
    zava.clock.pass_seconds(60)
    assert note(zava, RiskLevel.MEDIUM, key="late").level is RiskLevel.HIGH, "it went on after the new password"


def test_confirmed_safe_is_told_from_dismissed(zava: World) -> None:
    note(zava, RiskLevel.HIGH)
    with zava.store.tx("soc") as tx:
        found = risk.confirm_safe(tx, "user", "griffin", "a journey")
    assert (found.level, found.state, found.detail) == (
        RiskLevel.NONE,
        RiskState.CONFIRMED_SAFE,
        "adminConfirmedAccountSafe",
    )


def test_a_risk_fades_level_by_level_and_gateways_are_told(zava: World) -> None:
    note(zava, RiskLevel.HIGH)
    seen = []
    for days in (29, 2, 14, 7):
        zava.clock.pass_seconds(timedelta(days=days).total_seconds())
        with zava.store.tx("system:risk", audited=False) as tx:
            risks.fade(tx)
        seen.append(user_facts(zava).risk.value)
    assert seen == ["high", "medium", "low", "none"]
    assert find(zava).state is RiskState.NONE


def test_dismissing_what_nobody_saw_changes_nothing(zava: World) -> None:
    before = len(zava.audit())
    with zava.store.tx("soc", audited=False) as tx:
        assert risk.dismiss(tx, "user", "ada", "for good measure") == Risk()
    assert len(zava.audit()) == before


def test_reinstating_a_user_remediates_the_risk(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        risk.confirm_compromised(tx, "user", "griffin", "phished")
        sessions.revoke_user(tx, "griffin", "phished", require_password_reset=True)
    with zava.store.tx("soc") as tx:
        sessions.reinstate_user(tx, "griffin", "password changed")
    assert find(zava).state is RiskState.REMEDIATED
    assert not user_facts(zava).must_reset_password


def test_nobody_and_no_reason_are_refused(zava: World) -> None:
    with pytest.raises(NotFound), zava.store.tx("soc") as tx:
        risk.confirm_compromised(tx, "user", "nobody", "because")
    with pytest.raises(NotFound), zava.store.tx("soc") as tx:
        risk.note(tx, "agent", "nobody", "signInSpike", RiskLevel.LOW, source="rule", detail="")
    for act in (risk.confirm_compromised, risk.dismiss, risk.confirm_safe, risk.remediate):
        with pytest.raises(InputError, match="reason"), zava.store.tx("soc") as tx:
            act(tx, "user", "griffin", "  ")
    with pytest.raises(InputError, match="no risk"), zava.store.read() as tx:
        risk.find(tx, "server", "mail")


# -- laws ---------------------------------------------------------------------------------------------------------


@given(LEVELS, st.integers(0, 100), st.integers(0, 100))
def test_no_risk_grows_with_age(level: RiskLevel, days: int, more: int) -> None:
    now, later = faded(level, timedelta(days=days))[0], faded(level, timedelta(days=days + more))[0]
    assert RANK[later] <= RANK[now] <= RANK[level]
    assert faded(level, sum(FADES.values(), timedelta(0)))[0] is RiskLevel.NONE


@settings(max_examples=20, deadline=None)
@given(
    seen=st.lists(st.tuples(st.sampled_from("abcd"), LEVELS, st.integers(0, 60)), min_size=1, max_size=8),
    random=st.randoms(use_true_random=False),
)
def test_the_order_and_the_repetition_of_what_is_noted_make_no_difference(
    seen: list[tuple[str, RiskLevel, int]], random: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shuffled = [*seen, *seen[: len(seen) // 2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' stand-in for random.Random
    found: list[tuple[RiskLevel, RiskState, UserFacts]] = []
    for order in (seen, shuffled):
        world = World.with_company(tmp_path_factory.mktemp("risk"))
        for key, level, days in order:
            note(world, level, key=key, at=NOON - timedelta(days=days))
        with world.store.read() as tx:
            now = risk.find(tx, "user", "griffin")
            everything = risk.detections(tx, "user", "griffin")
            assert add_up([(d.level, d.last_at) for d in everything], tx.now)[0] is now.level
        assert len(everything) == len({key for key, _, _ in seen})
        found.append((now.level, now.state, user_facts(world)))
        world.close()
    assert found[0] == found[1]
