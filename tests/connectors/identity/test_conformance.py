"""What the port promises, held against every adapter on a provider: slapd with LemonLDAP::NG and canaille as they are,
Entra, Keycloak and Okta as recorded, our own directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from connectors.identity.cases import CASES, Case
from watchfloor.connectors.identity.registry import BUILDERS
from watchfloor.identity.connector import Ability, Account, AccountState, ConnectorRefused, IdentityConnector
from watchfloor.model.errors import Unavailable, WatchfloorError
from watchfloor.model.people import RiskLevel

REAL = ("ldap", "scim")
"""Providers that are real, and take their time to start."""


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow if name in REAL else ()) for name in CASES]
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """A connector; its provider runs as long as the module's tests for it do."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    with CASES[request.param](folder) as made:
        yield made
        made.connector.close()


Do = Callable[[IdentityConnector, Account], Mapping[str, str]]

ACTS: dict[Ability, tuple[Do, Callable[[AccountState], bool | None]]] = {
    Ability.REVOKE_SESSIONS: (
        lambda c, a: c.revoke_sessions(a),
        lambda s: True if s.live_sessions is None else s.live_sessions == 0,
    ),
    Ability.REQUIRE_PASSWORD_RESET: (
        lambda c, a: c.require_password_reset(a),
        lambda s: s.must_reset_password,
    ),
    Ability.SET_RISK: (
        lambda c, a: c.set_risk(a, RiskLevel.HIGH),
        lambda s: s.risk is RiskLevel.HIGH,
    ),
    Ability.SET_ENABLED: (
        lambda c, a: c.set_enabled(a, False),
        lambda s: s.is_enabled is False,
    ),
}
"""How each ability is used, and what must be read back; None where the provider cannot say."""


def restore(case: Case) -> None:
    """Everybody may sign in, nobody is risky."""
    case.connector.set_enabled(case.griffin, True)
    if Ability.SET_RISK in case.connector.abilities:
        case.connector.set_risk(case.griffin, RiskLevel.NONE)


def test_every_kind_of_connector_is_held_to_this() -> None:
    assert set(CASES) == set(BUILDERS)


def test_accounts_are_listed_with_what_is_known_of_them(case: Case) -> None:
    found = {a.account.subject: a for a in case.connector.list_accounts()}
    griffin = found[case.griffin.subject]
    assert griffin.is_enabled and "Griffin" in griffin.name and len(found) >= 2
    assert all(a.account.issuer == case.griffin.issuer for a in found.values())
    assert griffin.manager == "" or griffin.manager in found, "a manager is named by the subject"


@pytest.mark.parametrize("ability", ACTS, ids=str)
@pytest.mark.claim("idp-connectors")
def test_a_change_is_read_back_and_may_be_asked_for_twice(case: Case, ability: Ability) -> None:
    act, holds = ACTS[ability]
    if ability not in case.connector.abilities:
        before = case.connector.read_state(case.griffin)
        with pytest.raises(ConnectorRefused):
            act(case.connector, case.griffin)
        after = case.connector.read_state(case.griffin)
        assert (after.is_enabled, after.must_reset_password) == (before.is_enabled, before.must_reset_password)
        return
    try:
        for _ in range(2):
            assert act(case.connector, case.griffin), "what the provider answered is evidence"
            assert holds(case.connector.read_state(case.griffin)) in (True, None)
    finally:
        restore(case)


def test_enabling_again_is_read_back_too(case: Case) -> None:
    for _ in range(2):
        case.connector.set_enabled(case.griffin, False)
        assert case.connector.read_state(case.griffin).is_enabled is False
        for _ in range(2):
            case.connector.set_enabled(case.griffin, True)
            assert case.connector.read_state(case.griffin).is_enabled is True


def test_a_risk_is_taken_back(case: Case) -> None:
    if Ability.SET_RISK not in case.connector.abilities:
        pytest.skip("this provider knows no risk")
    case.connector.set_risk(case.griffin, RiskLevel.HIGH)
    case.connector.set_risk(case.griffin, RiskLevel.NONE)
    assert case.connector.read_state(case.griffin).risk in (RiskLevel.NONE, RiskLevel.LOW)


@pytest.mark.parametrize("ability", ACTS, ids=str)
def test_an_account_that_is_none_is_refused_and_never_counts_as_done(case: Case, ability: Ability) -> None:
    with pytest.raises(ConnectorRefused):
        ACTS[ability][0](case.connector, case.nobody)
    with pytest.raises(ConnectorRefused):
        case.connector.read_state(case.nobody)


def test_wrong_credentials_are_refused_without_being_repeated(case: Case) -> None:
    if case.wrong is None:
        pytest.skip("our own directory has no credentials")
    connector = case.wrong()
    with pytest.raises(ConnectorRefused, match=r"(?i)credentials|gives the connector no token") as refused:
        connector.read_state(case.griffin)
    assert not any(secret in str(refused.value) for secret in (*case.secrets, "wrong-secret-1", "wrong-password-1"))
    with pytest.raises(ConnectorRefused):
        list(connector.list_accounts())
    connector.close()


def test_where_nobody_answers_it_may_work_later(case: Case) -> None:
    if case.gone is None:
        pytest.skip("our own directory is always there")
    connector = case.gone()
    for act in (lambda: connector.read_state(case.griffin), lambda: list(connector.list_accounts())):
        with pytest.raises(Unavailable) as unavailable:
            act()
        assert unavailable.value.retry_after > 0
    connector.close()


def test_no_secret_is_in_what_is_said(case: Case) -> None:
    said = [repr(case.connector), repr(case.connector.read_state(case.griffin)), repr(vars(case.connector))]
    for ability, (act, _) in ACTS.items():
        try:
            said.append(repr(act(case.connector, case.griffin)))
        except WatchfloorError as error:
            said.append(f"{ability}: {error!r}")
    restore(case)
    assert not any(secret in text for secret in case.secrets for text in said)
