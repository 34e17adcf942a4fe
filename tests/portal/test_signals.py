"""Security events of others: what must not be taken, each beside what is, and what each does."""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from identity.world import handmade, rsa_key
from portal.house import ORIGIN, House, open_house
from portal.shared_signals import CAEP, GRIFFIN, ISSUER, SSF, Idp, Signals, believing
from watchfloor.identity import risk, sessions
from watchfloor.identity.signals import poll
from watchfloor.identity.signals.receive import Receiver
from watchfloor.model.facts import Kind
from watchfloor.model.people import RiskLevel, Role
from watchfloor.model.risk import RiskState
from watchfloor.model.sagas import Outcome, SagaKind
from watchfloor.response import saga
from watchfloor.response.outbox import Outbox
from watchfloor.response.ports import Ports
from watchfloor.storage import signals as storage

PASSWORD = {"credential_type": "password", "change_type": "update"}
HIGH = {"principal": "USER", "current_level": "HIGH", "risk_reason": "impossible travel"}


@pytest.fixture
def world(house: House) -> Signals:
    return believing(house)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signals]:
    """One house for all that must change nothing."""
    with open_house(tmp_path_factory.mktemp("quiet")) as opened:
        yield believing(opened)


# -- what must not be taken ---------------------------------------------------------------------------------------

Forge = Callable[[Idp], str]


def _hs256(idp: Idp) -> str:
    header = {"alg": "HS256", "kid": "idp-1", "typ": "secevent+jwt"}
    unsigned = handmade(header, idp.claims("session-revoked"))
    mac = hmac.digest(idp.key.as_pem(private=False), unsigned.rstrip(".").encode(), "sha256")
    return handmade(header, idp.claims("session-revoked"), mac)


def _two(idp: Idp) -> str:
    claims = idp.claims("session-revoked")
    return idp.sign({**claims, "events": {**claims["events"], CAEP + "risk-level-change": HIGH}})


def _said(**claims: Any) -> Forge:
    return lambda idp: idp.event("session-revoked", **claims)


def _headed(**header: Any) -> Forge:
    return lambda idp: idp.sign(idp.claims("session-revoked"), **header)


def _at(seconds: int) -> Forge:
    return lambda idp: idp.event("session-revoked", iat=idp.now + seconds)


REFUSED: dict[str, tuple[Forge, str]] = {
    "another issuer": (_said(iss="https://mallory.example"), "invalid_issuer"),
    "no issuer": (_said(iss=None), "invalid_request"),
    "another audience": (_said(aud="https://other.example"), "invalid_audience"),
    "no audience": (_said(aud=None), "invalid_audience"),
    "an access token's type": (_headed(typ="at+jwt"), "invalid_request"),
    "an ID token's type": (_headed(typ="JWT"), "invalid_request"),
    "no type": (_headed(typ=None), "invalid_request"),
    "a logout token": (_headed(typ="logout+jwt"), "invalid_request"),
    "no kid": (_headed(kid=None), "invalid_key"),
    "an unknown kid": (lambda i: i.sign(i.claims("session-revoked"), key=rsa_key("mallory")), "invalid_key"),
    "somebody else's key under a known kid": (
        lambda i: i.sign(i.claims("session-revoked"), key=rsa_key("mallory"), kid="idp-1"),
        "authentication_failed",
    ),
    "unsigned": (
        lambda i: handmade({"alg": "none", "typ": "secevent+jwt", "kid": "idp-1"}, i.claims("session-revoked")),
        "invalid_key",
    ),
    "HS256 keyed with the public key": (_hs256, "invalid_key"),
    "two events": (_two, "invalid_request"),
    "no event": (_said(events={}), "invalid_request"),
    "events that are a list": (_said(events=[CAEP + "session-revoked"]), "invalid_request"),
    "an event that is a text": (_said(events={CAEP + "session-revoked": "now"}), "invalid_request"),
    "a sub": (_said(sub="griffin"), "invalid_request"),
    "an exp": (_said(exp=2**33), "invalid_request"),
    "no jti": (_said(jti=None), "invalid_request"),
    "an endless jti": (_said(jti="j" * 201), "invalid_request"),
    "no iat": (_said(iat=None), "invalid_request"),
    "an iat that is a truth": (_said(iat=True), "invalid_request"),
    "issued eight days ago": (_at(-8 * 86_400), "invalid_request"),
    "issued in the future": (_at(120), "invalid_request"),
    "no subject": (_said(sub_id=None), "invalid_request"),
    "a subject that is a text": (_said(sub_id="griffin"), "invalid_request"),
    "a subject without its issuer": (_said(sub_id={"format": "iss_sub", "sub": "griffin"}), "invalid_request"),
    "a user of another issuer": (_said(sub_id={**GRIFFIN, "iss": "https://other.example"}), "access_denied"),
    "a risk level that is none": (
        lambda i: i.event("risk-level-change", {**HIGH, "current_level": "WORST"}),
        "invalid_request",
    ),
    "a password change that does not say which": (
        lambda i: i.event("credential-change", {"change_type": "update"}),
        "invalid_request",
    ),
    "a time that is none": (
        lambda i: i.event("credential-change", {**PASSWORD, "event_timestamp": "now"}),
        "invalid_request",
    ),
    "no token at all": (lambda i: "x", "invalid_request"),
}


@pytest.mark.asvs("4.1.5", "8.4.1", "9.1.1", "9.1.2", "9.2.1", "9.2.2", "9.2.3")
@pytest.mark.claim("signals-refused")
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_security_event_that_is_not_right_in_every_way_changes_nothing(quiet: Signals, name: str) -> None:
    forge, err = REFUSED[name]
    before = quiet.user()
    answer = quiet.push(forge(quiet.idp))
    assert (answer.status_code, answer.json()["err"]) == (400, err), answer.text
    assert answer.json()["description"]
    assert quiet.user() == before
    assert quiet.outcomes() == []


@pytest.mark.asvs("9.1.3")
@pytest.mark.parametrize("header", [{"crit": ["b64"]}, {"jku": "https://m.example"}, {"jwk": {}}, {"x5u": "https://m"}])
def test_nothing_in_a_header_chooses_the_key(quiet: Signals, header: dict[str, Any]) -> None:
    import base64

    whole = quiet.idp.event("session-revoked").split(".")
    head = {**json.loads(base64.urlsafe_b64decode(whole[0] + "==")), **header}
    encoded = base64.urlsafe_b64encode(json.dumps(head).encode()).rstrip(b"=").decode()
    answer = quiet.push(".".join([encoded, *whole[1:]]))
    assert (answer.status_code, answer.json()["err"]) == (400, "invalid_request")


@pytest.mark.asvs("9.2.2")
def test_a_security_event_is_no_token_of_a_user_and_opens_no_other_door(world: Signals) -> None:
    token = world.idp.event("session-revoked", aud="watchfloor", sub_id=GRIFFIN)
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "resource": "http://127.0.0.1:7701/mcp/mail",
        "client_id": "billing", "client_secret": "agent-secret-0123456789-0123456789-abcdef",
    }  # fmt: skip
    refused = world.door.post("/sts/token", data=form)
    assert refused.status_code == 400
    assert "typ" in refused.json()["error_description"]
    answer = world.door.get("/api/me", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401


@pytest.mark.asvs("4.1.5")
def test_the_secret_that_both_sides_share_is_asked_for(world: Signals) -> None:
    token = world.idp.event("session-revoked")
    for secret in (None, "wrong"):
        answer = world.push(token, secret=secret)
        assert (answer.status_code, answer.json()["err"]) == (400, "authentication_failed")
    assert world.push(token).status_code == 202
    world.believe(secret="")
    assert world.push(world.idp.event("session-revoked"), secret=None).status_code == 202


@pytest.mark.parametrize("kind", ["application/json", "", "application/jwt"])
def test_a_token_comes_as_a_security_event_token(quiet: Signals, kind: str) -> None:
    answer = quiet.push(quiet.idp.event("session-revoked"), kind=kind)
    assert (answer.status_code, answer.json()["err"]) == (400, "invalid_request")


def test_whom_nobody_believes_any_more_is_refused(world: Signals) -> None:
    assert world.believe(is_enabled=False).status_code == 200
    assert world.push(world.idp.event("session-revoked")).json()["err"] == "invalid_issuer"
    assert world.house.client(Role.OWNER).delete("/api/signals/transmitters/zava").status_code == 204
    assert world.push(world.idp.event("session-revoked")).json()["err"] == "invalid_issuer"


# -- what is taken ------------------------------------------------------------------------------------------------


@pytest.mark.claim("signals-revoke")
@pytest.mark.parametrize(
    "subject",
    [
        GRIFFIN,
        {"format": "email", "email": "Griffin@Zava.example"},
        {"format": "complex", "user": GRIFFIN, "session": {"format": "opaque", "id": "s-1"}},
    ],
)
def test_a_session_that_its_provider_revokes_is_over_here_at_once(world: Signals, subject: dict[str, Any]) -> None:
    before = world.user()
    answer = world.push(world.idp.event("session-revoked", {"reason_admin": {"en": "stolen"}}, sub_id=subject))
    assert (answer.status_code, answer.content) == (202, b"")
    after = world.user()
    assert after.epoch == before.epoch + 1
    assert after.not_before is not None
    facts = world.house.projected(Kind.USER, "griffin")
    assert facts is not None
    assert facts["epoch"] == after.epoch
    assert world.user("mona").epoch == 1
    audit = world.house.client(Role.AUDITOR).get("/api/audit", params={"limit": 5}).json()["items"]
    assert {(e["actor"], e["action"]) for e in audit} >= {
        ("signals:zava", "user:revoke-sessions"),
        ("signals:zava", "signal:take"),
    }
    assert "stolen" in json.dumps(audit)


@pytest.mark.asvs("4.1.5")
def test_an_event_that_is_sent_again_is_acknowledged_and_changes_nothing(world: Signals) -> None:
    token = world.idp.event("session-revoked")
    assert [world.push(token).status_code for _ in range(3)] == [202, 202, 202]
    assert world.user().epoch == 2
    assert len(world.outcomes()) == 1


def test_an_operator_who_is_that_user_is_signed_out_too(world: Signals) -> None:
    client = world.house.client(Role.SOC_ANALYST, "griffin")
    other = world.house.client(Role.SOC_ANALYST, "mona")
    assert client.get("/api/me").status_code == 200
    world.push(world.idp.event("session-revoked"))
    assert client.get("/api/me").status_code == 401
    assert other.get("/api/me").status_code == 200


@pytest.mark.parametrize(
    ("token", "outcome"),
    [
        (lambda i: i.event("session-revoked", sub_id={**GRIFFIN, "sub": "nobody"}), "nobody"),
        (lambda i: i.event("session-revoked", sub_id={"format": "email", "email": "x@zava.example"}), "nobody"),
        (lambda i: i.event("session-revoked", sub_id={"format": "opaque", "id": "griffin"}), "nobody"),
        (lambda i: i.event("session-revoked", sub_id={"format": "phone_number", "phone_number": "+1"}), "nobody"),
        (lambda i: i.event("device-compliance-change", {"current_status": "compliant"}), "means nothing"),
        (lambda i: i.event("https://elsewhere.example/event"), "means nothing"),
        (lambda i: i.event("risk-level-change", {**HIGH, "principal": "DEVICE"}), "not about a user"),
        (lambda i: i.event("credential-change", {**PASSWORD, "credential_type": "pin"}), "nothing to do"),
        (lambda i: i.event("credential-change", {**PASSWORD, "change_type": "revoke"}), "nothing to do"),
        (lambda i: i.event("credential-change", PASSWORD), "no new password was asked for"),
    ],
)
def test_what_means_nothing_here_is_acknowledged_and_noted(world: Signals, token: Forge, outcome: str) -> None:
    before = world.user()
    assert world.push(token(world.idp)).status_code == 202
    assert world.user() == before
    assert outcome in world.outcomes()[0]


def test_a_provider_that_says_high_suspends_and_takes_it_back_with_low(world: Signals) -> None:
    idp = world.idp
    earlier = idp.event("risk-level-change", {**HIGH, "current_level": "MEDIUM"})
    world.house.clock.forward(seconds=5)
    assert world.push(idp.event("risk-level-change", HIGH)).status_code == 202
    assert world.user().risk is RiskLevel.HIGH
    assert world.push(earlier).status_code == 202  # late: what was said last counts
    assert world.user().risk is RiskLevel.HIGH
    with world.house.stores.control.read() as tx:
        found = risk.find(tx, "user", "griffin")
        assert [d.source for d in risk.detections(tx, "user", "griffin")] == [ISSUER]
    assert found.state is RiskState.AT_RISK
    assert "impossible travel" in found.reasons[0]
    world.house.clock.forward(seconds=5)
    world.push(idp.event("risk-level-change", {**HIGH, "current_level": "LOW"}))
    assert world.user().risk is RiskLevel.LOW


def _compromise(world: Signals) -> None:
    with world.house.stores.control.tx("test") as tx:
        risk.confirm_compromised(tx, "user", "griffin", "stolen session")
        sessions.revoke_user(tx, "griffin", "stolen session", require_password_reset=True)


@pytest.mark.claim("signals-remediate")
def test_a_new_password_that_was_set_after_the_revoke_ends_the_compromise(world: Signals) -> None:
    _compromise(world)
    world.house.clock.forward(seconds=5)
    assert world.push(world.idp.event("credential-change", PASSWORD)).status_code == 202
    user = world.user()
    assert (user.risk, user.must_reset_password) == (RiskLevel.NONE, False)
    with world.house.stores.control.read() as tx:
        assert risk.find(tx, "user", "griffin").state is RiskState.REMEDIATED
    facts = world.house.projected(Kind.USER, "griffin")
    assert facts is not None
    assert (facts["risk"], facts["must_reset_password"]) == ("none", False)
    assert user.epoch == 2, "old sessions stay dead"


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(lambda i, before: i.event("credential-change", PASSWORD, iat=before - 10), id="issued before"),
        pytest.param(
            lambda i, before: i.event("credential-change", {**PASSWORD, "event_timestamp": before - 1}),
            id="happened before",
        ),
        pytest.param(
            lambda i, before: i.event("credential-change", {**PASSWORD, "event_timestamp": before}), id="same second"
        ),
        pytest.param(lambda i, before: i.event("credential-change", {**PASSWORD, "change_type": "delete"}), id="none"),
    ],
)
def test_a_password_of_before_the_revoke_does_not_end_a_compromise(
    world: Signals, told: Callable[[Idp, int], str]
) -> None:
    at = world.idp.now
    _compromise(world)
    world.house.clock.forward(seconds=5)
    assert world.push(told(world.idp, at)).status_code == 202
    assert (world.user().risk, world.user().must_reset_password) == (RiskLevel.HIGH, True)


def test_a_response_ends_with_the_new_password_that_was_told(world: Signals) -> None:
    control = world.house.stores.control
    with control.tx("sam") as tx:
        begun = saga.confirm(tx, SagaKind.USER_COMPROMISE, "griffin", "stolen session")
    work = Outbox(control, Ports())
    world.house.clock.forward(minutes=2)
    work.check_recoveries()
    with control.read() as tx:
        assert saga.require(tx, begun.id).outcome is Outcome.OPEN
    assert world.push(world.idp.event("credential-change", PASSWORD)).status_code == 202
    world.house.clock.forward(minutes=2)
    work.check_recoveries()
    with control.read() as tx:
        assert saga.require(tx, begun.id).outcome is Outcome.REMEDIATED
    assert world.user().risk is RiskLevel.NONE


def test_a_clock_that_is_ahead_does_not_make_an_old_password_new(world: Signals) -> None:
    world.idp.lead = 60.0
    _compromise(world)
    world.house.clock.forward(seconds=5)
    world.push(world.idp.event("credential-change", PASSWORD))
    assert world.user().risk is RiskLevel.HIGH
    world.house.clock.forward(seconds=70)
    world.push(world.idp.event("credential-change", PASSWORD))
    assert world.user().risk is RiskLevel.NONE


def test_a_risk_that_nobody_confirmed_is_not_lifted_by_a_new_password(world: Signals) -> None:
    with world.house.stores.control.tx("test") as tx:
        risk.note(tx, "user", "griffin", "securityAlert", RiskLevel.MEDIUM, source="alert", detail="x")
    world.house.clock.forward(seconds=5)
    world.push(world.idp.event("credential-change", PASSWORD))
    assert world.user().risk is RiskLevel.MEDIUM


# -- verification -------------------------------------------------------------------------------------------------


def test_a_verification_event_shows_that_the_way_works(world: Signals) -> None:
    about = {"format": "opaque", "id": "stream-1"}
    client = world.house.client(Role.OWNER)
    assert world.push(world.idp.event(SSF + "verification", {}, sub_id=about)).status_code == 202
    assert client.get("/api/signals/transmitters/zava").json()["verified_at"] is not None
    wrong = world.push(world.idp.event(SSF + "verification", {"state": "guessed"}, sub_id=about))
    assert (wrong.status_code, wrong.json()["err"]) == (400, "invalid_state")


# -- fetching -----------------------------------------------------------------------------------------------------


class Transmitter:
    """A transmitter that is polled, over a real socket."""

    def __init__(self, sets: dict[str, str]) -> None:
        self.sets, self.asked, self.tokens, self.errors = dict(sets), list[dict[str, Any]](), set[str](), {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append(asked)
                outer.tokens.add(self.headers.get("authorization", ""))
                if "state" in asked:
                    self._answer({})
                    return
                outer.errors |= asked.get("setErrs", {})
                for jti in [*asked.get("ack", []), *asked.get("setErrs", {})]:
                    outer.sets.pop(jti, None)
                sent = dict(list(outer.sets.items())[: min(2, asked["maxEvents"])])
                self._answer({"sets": sent, "moreAvailable": len(outer.sets) > len(sent)})

            def _answer(self, value: dict[str, Any]) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(value).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/poll"


@pytest.fixture
def transmitter() -> Iterator[Callable[[dict[str, str]], Transmitter]]:
    made: list[Transmitter] = []

    def make(sets: dict[str, str]) -> Transmitter:
        made.append(Transmitter(sets))
        return made[-1]

    yield make
    for each in made:
        each.server.shutdown()
        each.server.server_close()


def _poll(world: Signals) -> int:
    deps = world.house.deps
    return poll.poll_all(deps.control, deps.vault, Receiver(deps.control, deps.vault, world.keys))


@pytest.mark.claim("signals-poll")
def test_events_are_fetched_taken_once_and_acknowledged_and_what_is_wrong_is_reported(
    world: Signals, transmitter: Callable[[dict[str, str]], Transmitter]
) -> None:
    idp = world.idp
    good = {f"j{n}": idp.event("session-revoked", jti=f"j{n}") for n in range(5)}
    served = transmitter({**good, "bad": idp.event("session-revoked", jti="bad", aud="https://other.example")})
    world.believe(poll_url=served.url)
    assert _poll(world) == 5
    assert served.sets == {}
    assert served.errors["bad"]["err"] == "invalid_audience"
    assert served.tokens == {"Bearer a-secret-of-both-sides"}
    assert world.user().epoch == 6
    served.sets = good  # the acknowledgement got lost
    assert _poll(world) == 0
    assert served.sets == {}
    assert world.user().epoch == 6


def test_a_transmitter_that_does_not_answer_is_noted_and_holds_up_nobody(
    world: Signals, transmitter: Callable[[dict[str, str]], Transmitter]
) -> None:
    owner = world.house.client(Role.OWNER)
    served = transmitter({"j": world.idp.event("session-revoked", jti="j")})
    other = {"issuer": "https://a.example", "jwks_uri": "https://a.example/j", "audience": "x", "speaks_for": [ISSUER]}
    dead = owner.put("/api/signals/transmitters/a", json={**other, "poll_url": "http://127.0.0.1:9/poll"})
    assert dead.status_code == 200
    world.believe(poll_url=served.url)
    assert _poll(world) == 1
    assert "does not answer" in owner.get("/api/signals/transmitters/a").json()["problem"]
    assert owner.get("/api/signals/transmitters/zava").json()["problem"] == ""


def test_an_operator_asks_for_a_verification_and_only_its_state_is_taken(
    world: Signals, transmitter: Callable[[dict[str, str]], Transmitter]
) -> None:
    owner = world.house.client(Role.OWNER)
    assert owner.post("/api/signals/transmitters/zava/verification").status_code == 422
    served = transmitter({})
    world.believe(verification_url=served.url, stream_id="stream-1")
    asked = owner.post("/api/signals/transmitters/zava/verification")
    assert asked.status_code == 202
    assert served.asked == [{"stream_id": "stream-1", "state": asked.json()["state"]}]
    about = {"format": "opaque", "id": "stream-1"}
    answer = world.push(world.idp.event(SSF + "verification", {"state": asked.json()["state"]}, sub_id=about))
    assert answer.status_code == 202
    again = world.push(world.idp.event(SSF + "verification", {"state": asked.json()["state"]}, sub_id=about))
    assert again.json()["err"] == "invalid_state"


# -- who is believed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"jwks_uri": "http://elsewhere.example/jwks"}, "jwks_uri"),
        ({"jwks_uri": "https://169.254.169.254/jwks"}, "jwks_uri"),
        ({"poll_url": "https://[fe80::1]/poll"}, "poll_url"),
        ({"poll_url": "ftp://a.example/"}, "poll_url"),
        ({"verification_url": "https://2130706433/"}, "verification_url"),
        ({"speaks_for": ["https://unknown.example"]}, "speaks_for"),
        ({"audience": " "}, "audience"),
        ({"secret": "short"}, "secret"),
    ],
)
def test_terms_that_cannot_be_are_refused_with_their_place(quiet: Signals, change: dict[str, Any], where: str) -> None:
    answer = quiet.believe(**change)
    assert (answer.status_code, answer.json()["where"]) == (422, where), answer.text


@pytest.mark.asvs("16.2.5")
def test_the_secret_is_sealed_and_shown_to_nobody(world: Signals) -> None:
    owner = world.house.client(Role.OWNER)
    with world.house.stores.control.read() as tx:
        stored = storage.find_transmitter(tx, "zava")
    assert stored is not None
    assert "a-secret" not in str(stored.sealed)
    shown = owner.get("/api/signals/transmitters/zava").text + owner.get("/api/audit").text
    assert "a-secret" not in shown
    assert stored.sealed not in shown
    assert world.believe(issuer="https://login.zava.example", secret=None).json()["has_secret"] is True


# -- global token revocation --------------------------------------------------------------------------------------

DOOR = f"{ORIGIN}/global-token-revocation"


def _order(world: Signals, token: str, sub_id: Any = GRIFFIN) -> Any:
    return world.door.post(DOOR, json={"sub_id": sub_id}, headers={"authorization": f"Bearer {token}"})


def _jwt(idp: Idp, **changes: Any) -> str:
    header = {"typ": changes.pop("typ", "global-token-revocation+jwt")}
    claims = {"iss": ISSUER, "aud": DOOR, "iat": idp.now, "exp": idp.now + 60, "jti": f"g-{next(idp._ids)}", **changes}
    return idp.sign({n: v for n, v in claims.items() if v is not None}, **header)


@pytest.mark.claim("global-revocation")
@pytest.mark.parametrize("sub_id", [GRIFFIN, {"format": "email", "email": "griffin@zava.example"}])
def test_a_registered_issuer_ends_everything_of_a_user(world: Signals, sub_id: dict[str, str]) -> None:
    operator = world.house.client(Role.SOC_ANALYST, "griffin")
    answer = _order(world, _jwt(world.idp), sub_id)
    assert (answer.status_code, answer.content) == (204, b"")
    user = world.user()
    assert (user.epoch, user.not_before is not None, user.is_enabled) == (2, True, True)
    assert operator.get("/api/me").status_code == 401
    assert world.user("mona").epoch == 1


@pytest.mark.asvs("8.4.1", "9.2.2")
@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda i: "x", id="no token"),
        pytest.param(lambda i: _jwt(i, iss="https://mallory.example"), id="issuer"),
        pytest.param(lambda i: _jwt(i, aud="https://other.example"), id="audience"),
        pytest.param(lambda i: _jwt(i, exp=i.now - 1), id="expired"),
        pytest.param(lambda i: _jwt(i, exp=None), id="no exp"),
        pytest.param(lambda i: _jwt(i, iat=i.now - 600, exp=i.now + 60), id="old"),
        pytest.param(lambda i: _jwt(i, jti=None), id="no jti"),
        pytest.param(lambda i: _jwt(i, typ="at+jwt"), id="access token"),
        pytest.param(lambda i: _jwt(i, typ="secevent+jwt"), id="security event"),
        pytest.param(lambda i: _jwt(i, nonce="n"), id="ID token"),
        pytest.param(lambda i: _jwt(i, events={}), id="event"),
        pytest.param(
            lambda i: i.sign({"iss": ISSUER, "aud": DOOR, "iat": i.now, "exp": i.now + 9, "jti": "k"},
                             key=rsa_key("mallory"), kid="idp-1", typ="JWT"), id="key"),
    ],
)  # fmt: skip
def test_global_revocation_takes_no_other_token(quiet: Signals, token: Forge) -> None:
    answer = _order(quiet, token(quiet.idp))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert quiet.user().epoch == 1


@pytest.mark.asvs("4.1.5")
def test_a_token_for_global_revocation_counts_once(world: Signals) -> None:
    token = _jwt(world.idp)
    assert [_order(world, token).status_code, _order(world, token).status_code] == [204, 401]
    assert world.user().epoch == 2


@pytest.mark.parametrize(
    ("sub_id", "status"),
    [
        ({**GRIFFIN, "sub": "nobody"}, 404),
        ({**GRIFFIN, "iss": "https://other.example"}, 403),
        ({"format": "opaque", "id": "griffin"}, 400),
        ({"format": "iss_sub", "iss": ISSUER}, 400),
        (None, 400),
        ("griffin", 400),
    ],
)
def test_global_revocation_says_what_is_wrong_with_its_subject(quiet: Signals, sub_id: Any, status: int) -> None:
    assert _order(quiet, _jwt(quiet.idp), sub_id).status_code == status
    assert quiet.user().epoch == 1


def test_global_revocation_needs_a_token_and_a_body_that_can_be_read(quiet: Signals) -> None:
    assert quiet.door.post(DOOR, json={"sub_id": GRIFFIN}).status_code == 401
    for body in (b"", b"[]", b"{", b"x" * 70_000):
        headers = {"authorization": f"Bearer {_jwt(quiet.idp)}", "content-type": "application/json"}
        assert quiet.door.post(DOOR, content=body, headers=headers).status_code == 400
