"""What adapters make of providers' troubles and of their own particulars, at the level of HTTP, on recorded servers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connectors.identity import recorded
from connectors.identity.cases import ISSUER, Key, entra, make_key
from connectors.identity.recorded import GRIFFIN, MONA, QUINN, Entra, Keycloak, Okta, Trouble
from watchfloor.connectors.identity.entra import EntraConnector
from watchfloor.connectors.identity.keycloak import KeycloakConnector, Realm
from watchfloor.connectors.identity.okta import OktaConnector, Organization
from watchfloor.connectors.identity.throttle import Bucket
from watchfloor.identity.connector import Account, ConnectorRefused
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import RiskLevel

GRIFFIN_THERE = Account(ISSUER, GRIFFIN)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """The connector's key."""
    folder: Path = tmp_path_factory.mktemp("key")
    return make_key(folder)


@pytest.fixture
def graph(key: Key) -> Iterator[Entra]:
    """Entra."""
    server = Entra(key.public)
    with server.serving():
        yield server


@pytest.fixture
def connector(graph: Entra, key: Key) -> Iterator[EntraConnector]:
    """On it."""
    made = entra(graph, key)
    yield made
    made.close()


@pytest.fixture
def realm() -> Iterator[tuple[Keycloak, KeycloakConnector]]:
    """Keycloak, and a connector on it."""
    server = Keycloak()
    with server.serving():
        made = KeycloakConnector(ISSUER, Realm(server.url, "zava", recorded.CLIENT, recorded.SECRET, 5.0))
        yield server, made
        made.close()


# -- Entra ------------------------------------------------------------------------------------------------------------


def test_identity_protection_is_asked_once_a_second_at_most_whoever_asks(
    graph: Entra, connector: EntraConnector, key: Key
) -> None:
    other = entra(graph, key)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(c.read_state, GRIFFIN_THERE) for c in (connector, other, connector, other)]:
            done.result()
    times = sorted(a.at for a in graph.asked if "identityProtection" in a.path)
    assert len(times) == 4
    assert times[-1] - times[0] > 1.5, "four turns take three seconds, less what the first was late"
    other.close()


def test_verdicts_that_wait_for_their_turn_go_in_one_request(graph: Entra, connector: EntraConnector) -> None:
    connector.read_state(GRIFFIN_THERE)  # takes the turn of this second
    accounts = [Account(ISSUER, user) for user in (GRIFFIN, MONA, QUINN)]
    with ThreadPoolExecutor(3) as pool:
        said = [d.result() for d in [pool.submit(connector.set_risk, a, RiskLevel.HIGH) for a in accounts]]
    (sent,) = graph.paths("POST", "confirmCompromised")
    assert sorted(sent.body["userIds"]) == sorted((GRIFFIN, MONA, QUINN))
    assert {found["sent_together"] for found in said} == {"3"}
    assert {found["riskLevel"] for found in graph.risky.values()} == {"high"}


def test_one_account_that_is_none_does_not_take_the_others_along(graph: Entra, connector: EntraConnector) -> None:
    connector.read_state(GRIFFIN_THERE)
    nobody = Account(ISSUER, "55555555-5555-4555-8555-555555555555")
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(connector.set_risk, GRIFFIN_THERE, RiskLevel.HIGH)
        bad = pool.submit(connector.set_risk, nobody, RiskLevel.HIGH)
        good.result()
        with pytest.raises(ConnectorRefused):
            bad.result()
    assert set(graph.risky) == {GRIFFIN}


def test_where_graph_throttles_without_a_time_everybody_is_held_back_longer_each_time(
    graph: Entra, connector: EntraConnector
) -> None:
    waits = []
    for _ in range(2):
        graph.troubles.append(Trouble(429, path="identityProtection"))
        with pytest.raises(Unavailable) as refused:
            connector.set_risk(GRIFFIN_THERE, RiskLevel.HIGH)
        waits.append(refused.value.retry_after)
    assert waits[1] == 2 * waits[0] > 0
    began = time.monotonic()
    connector.set_risk(GRIFFIN_THERE, RiskLevel.NONE)
    assert time.monotonic() - began > waits[1] / 4, "the hold holds for whoever comes next"


@pytest.mark.parametrize("said", ["7", "Wed, 01 Jan 2070 00:00:00 GMT"])
def test_where_a_provider_says_when_to_come_back_that_is_when(
    graph: Entra, connector: EntraConnector, said: str
) -> None:
    graph.troubles.append(Trouble(429, {"retry-after": said}, path="revokeSignInSessions"))
    with pytest.raises(Unavailable) as refused:
        connector.revoke_sessions(GRIFFIN_THERE)
    assert refused.value.retry_after == (7.0 if said == "7" else 3600.0)


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        (Trouble(503, {"retry-after": "30"}), Unavailable, "503"),
        (Trouble(200, body=b"<html>maintenance</html>"), Unavailable, "no JSON"),
        (Trouble(200, body=b'{"value": "' + b"x" * 9_000_000 + b'"}'), Unavailable, "bytes"),
        (Trouble(302, {"location": "http://169.254.169.254/"}), ConnectorRefused, "redirects"),
        (Trouble(403, body=b'{"error": {"code": "Authorization_RequestDenied", "message": "x"}}'), ConnectorRefused,
         "Authorization_RequestDenied"),
        (Trouble(200, body=b'{"value": false}'), Unavailable, "not revoked"),
        (Trouble(200, body=b"[" * 100_000), Unavailable, "no JSON"),
    ],
    ids=["outage", "no json", "too long", "redirect", "forbidden", "not done", "nested"],
)  # fmt: skip
def test_troubles_are_said_for_what_they_are_and_nothing_counts_as_done(
    graph: Entra, connector: EntraConnector, trouble: Trouble, kind: type[Exception], words: str
) -> None:
    trouble.path = "revokeSignInSessions"
    graph.troubles.append(trouble)
    with pytest.raises(kind, match=words):
        connector.revoke_sessions(GRIFFIN_THERE)
    assert connector.revoke_sessions(GRIFFIN_THERE), "and afterwards it works"


def test_a_provider_that_is_slow_is_given_up_in_time(realm: tuple[Keycloak, KeycloakConnector]) -> None:
    server, _ = realm
    hasty = KeycloakConnector(ISSUER, Realm(server.url, "zava", recorded.CLIENT, recorded.SECRET, 0.5))
    server.troubles.append(Trouble(200, seconds=3.0, path="/users"))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer within"):
        hasty.read_state(GRIFFIN_THERE)
    assert time.monotonic() - began < 2.5
    hasty.close()


def test_a_token_that_was_revoked_is_got_anew_once(graph: Entra, connector: EntraConnector) -> None:
    connector.revoke_sessions(GRIFFIN_THERE)
    graph.tokens.clear()
    connector.revoke_sessions(GRIFFIN_THERE)
    assert len(graph.paths("POST", "/token$")) == 2
    assertions = {a.body["client_assertion"] for a in graph.paths("POST", "/token$")}
    assert len(assertions) == 2, "each assertion is used once"


@pytest.mark.asvs("1.3.6")
def test_the_connectors_token_goes_to_no_other_host_for_the_next_page(graph: Entra, connector: EntraConnector) -> None:
    body = json.dumps({"value": [], "@odata.nextLink": "https://evil.example/v1.0/users?$skiptoken=2"}).encode()
    graph.troubles.append(Trouble(200, body=body, path="/users"))
    with pytest.raises(Unavailable, match="another host"):
        list(connector.list_accounts())


def test_a_listing_that_breaks_off_raises_and_does_not_end_early(graph: Entra, connector: EntraConnector) -> None:
    listed = connector.list_accounts()
    next(listed)
    graph.troubles.append(Trouble(503, path="/users"))
    with pytest.raises(Unavailable):
        list(listed)


def test_all_pages_groups_and_managers_are_listed(connector: EntraConnector) -> None:
    found = {a.account.subject: a for a in connector.list_accounts()}
    assert set(found) == {GRIFFIN, MONA, QUINN}
    assert found[GRIFFIN].manager == MONA and found[GRIFFIN].groups == ("Billing team",)
    assert found[GRIFFIN].department == "Billing" and found[QUINN].groups == ()


@pytest.mark.claim("idp-risk")
def test_whom_entra_sees_at_risk_is_listed_in_pages_and_nobody_whom_somebody_confirmed(
    graph: Entra, connector: EntraConnector
) -> None:
    graph.see(GRIFFIN, "high")
    graph.see(MONA, "low")
    graph.see(QUINN, "hidden")
    listed = connector.list_risky()
    assert listed is not None
    assert {(r.account.subject, r.level) for r in listed} == {(GRIFFIN, RiskLevel.HIGH), (MONA, RiskLevel.LOW)}
    assert len(graph.paths("GET", r"/riskyUsers$")) == 2
    graph.see(GRIFFIN, "high", state="confirmedCompromised")
    listed = connector.list_risky()
    assert listed is not None
    assert [risky.account.subject for risky in listed] == [MONA]


def test_a_list_of_risks_that_breaks_off_raises(graph: Entra, connector: EntraConnector) -> None:
    for user in (GRIFFIN, MONA, QUINN):
        graph.see(user, "low")
    listed = connector.list_risky()
    assert listed is not None
    next(listed)
    graph.troubles.append(Trouble(503, path="riskyUsers"))
    with pytest.raises(Unavailable):
        list(listed)


def test_a_forced_reset_asks_for_a_second_factor_or_leaves_a_password_that_nobody_knows(
    graph: Entra, connector: EntraConnector, key: Key
) -> None:
    connector.require_password_reset(GRIFFIN_THERE)
    assert graph.users[GRIFFIN]["passwordProfile"] == {
        "forceChangePasswordNextSignIn": True,
        "forceChangePasswordNextSignInWithMfa": True,
    }
    random = entra(graph, key, reset="random")
    said = random.require_password_reset(GRIFFIN_THERE)
    password = graph.users[GRIFFIN]["passwordProfile"]["password"]
    assert len(password) >= 32 and password not in repr(said)
    random.close()


def test_who_is_only_known_by_name_is_looked_up_and_nobody_else_is_meant(
    graph: Entra, connector: EntraConnector
) -> None:
    connector.set_risk(Account(ISSUER, "pairwise-subject", "griffin@zava.example"), RiskLevel.HIGH)
    assert set(graph.risky) == {GRIFFIN}
    with pytest.raises(ConnectorRefused, match="subjectClaim: oid"):
        connector.revoke_sessions(Account(ISSUER, "pairwise-subject"))


@pytest.mark.parametrize("level", [RiskLevel.LOW, RiskLevel.MEDIUM])
def test_a_risk_that_a_provider_has_no_word_for_is_refused(connector: EntraConnector, level: RiskLevel) -> None:
    with pytest.raises(ConnectorRefused, match="high and none"):
        connector.set_risk(GRIFFIN_THERE, level)


def test_without_identity_protection_nothing_of_it_is_asked(graph: Entra, key: Key) -> None:
    plain = entra(graph, key, protection=False)
    assert plain.read_state(GRIFFIN_THERE).risk is None
    with pytest.raises(ConnectorRefused):
        plain.set_risk(GRIFFIN_THERE, RiskLevel.HIGH)
    assert not [a for a in graph.asked if "identityProtection" in a.path]
    plain.close()


# -- Keycloak and Okta ------------------------------------------------------------------------------------------------


def test_keycloak_loses_offline_tokens_as_well(realm: tuple[Keycloak, KeycloakConnector]) -> None:
    server, connector = realm
    assert connector.revoke_sessions(GRIFFIN_THERE)["offline_tokens_ended_for"] == "mail-app"
    assert server.offline[GRIFFIN] == [] and server.sessions[GRIFFIN] == []
    assert connector.read_state(GRIFFIN_THERE).sessions_valid_from is not None


def test_keycloak_keeps_other_required_actions(realm: tuple[Keycloak, KeycloakConnector]) -> None:
    server, connector = realm
    server.users[GRIFFIN]["requiredActions"] = ["VERIFY_EMAIL"]
    connector.require_password_reset(GRIFFIN_THERE)
    assert server.users[GRIFFIN]["requiredActions"] == ["VERIFY_EMAIL", "UPDATE_PASSWORD"]


def test_keycloak_lists_people_and_no_service_accounts(realm: tuple[Keycloak, KeycloakConnector]) -> None:
    _, connector = realm
    found = {a.account.subject: a for a in connector.list_accounts()}
    assert set(found) == {GRIFFIN, MONA, QUINN}
    assert found[GRIFFIN].groups == ("billing",) and found[GRIFFIN].job_title == "Clerk"


def test_okta_lists_pages_groups_and_managers_and_clears_tokens(key: Key) -> None:
    server = Okta(key.public)
    with server.serving():
        connector = OktaConnector(ISSUER, Organization(server.url, recorded.CLIENT, "key-1", key.private, 5.0))
        found = {a.account.subject: a for a in connector.list_accounts()}
        assert set(found) == {GRIFFIN, MONA, QUINN}
        assert found[GRIFFIN].manager == MONA and found[GRIFFIN].groups == ("Billing team",)
        connector.set_enabled(GRIFFIN_THERE, False)
        assert server.cleared == [GRIFFIN], "who is suspended keeps no session"
        server.users[GRIFFIN]["status"] = "DEPROVISIONED"
        with pytest.raises(ConnectorRefused, match="deactivated"):
            connector.set_enabled(GRIFFIN_THERE, True)
        connector.close()


# -- the bucket -------------------------------------------------------------------------------------------------------


def test_who_would_wait_too_long_is_told_how_long_at_once() -> None:
    now, slept = [100.0], list[float]()
    bucket = Bucket(1.0, lambda: now[0])
    for _ in range(3):
        bucket.take(10.0, slept.append)
    assert slept == [0.0, 1.0, 2.0]
    with pytest.raises(Unavailable) as refused:
        bucket.take(2.5, slept.append)
    assert refused.value.retry_after == pytest.approx(3.0)
    now[0] = 103.0
    bucket.take(0.0, slept.append)
    assert bucket.hold(None) == 2.0 and bucket.hold(None) == 4.0
    bucket.went_well()
    assert bucket.hold(None) == 2.0 and bucket.hold(30.0) == 30.0


def test_many_threads_never_share_a_turn() -> None:
    bucket, turns, lock = Bucket(1.0, lambda: 0.0), list[float](), threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            turns.append(seconds)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: bucket.take(1000.0, sleep), range(50)))
    assert sorted(turns) == [float(n) for n in range(50)]
