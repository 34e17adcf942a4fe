"""Telling others: streams as receivers manage them, what is pushed and fetched, and who may not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import KeySet

from portal.conftest import served
from portal.house import ORIGIN, House, open_house
from portal.shared_signals import CAEP, GRIFFIN, ISSUER, SSF
from response.provider import ports_to, serving
from watchfloor.identity import keys
from watchfloor.identity.providers import KeySets
from watchfloor.identity.signals import deliver, outbox, poll
from watchfloor.identity.signals.receive import Receiver
from watchfloor.identity.signals.streams import POLL, PUSH, Us
from watchfloor.model.people import RiskLevel, Role
from watchfloor.response.outbox import Outbox
from watchfloor.response.ports import SecurityEvent
from watchfloor.storage import people

ALL = [CAEP + name for name in ("session-revoked", "credential-change", "risk-level-change")]
WHY = {"reason": "stolen session"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        with opened.stores.control.tx("test") as tx:
            keys.ensure_signing_key(tx, opened.deps.vault)
        yield opened


@dataclass
class Party:
    """A receiver, with its token."""

    house: House
    token: str
    stream: dict[str, Any]

    def send(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {self.token}"}
        return self.house.stranger().request(method, path, json=body, headers=headers)

    def make(self, **body: Any) -> Any:
        answer = self.send("POST", "/ssf/streams", {"delivery": {"method": POLL}, **body})
        if answer.status_code == 201:
            self.stream = answer.json()
        return answer

    def fetch(self, **body: Any) -> dict[str, Any]:
        path = self.stream["delivery"]["endpoint_url"].removeprefix(ORIGIN)
        answer = self.send("POST", path, {"returnImmediately": True, **body})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def claims(self, token: str) -> dict[str, Any]:
        published = KeySet.import_key_set(self.house.stranger().get("/sts/jwks").json())
        found = jwt.decode(token, published, algorithms=["RS256"])
        assert found.header["typ"] == "secevent+jwt"
        return dict(found.claims)


def party(house: House, name: str = "siem", **body: Any) -> Party:
    answer = house.client(Role.OWNER).post("/api/signals/receivers", json={"id": name, **body})
    assert answer.status_code == 201, answer.text
    return Party(house, answer.json()["token"], {})


def revoke(house: House, user: str = "griffin") -> None:
    answer = house.client(Role.SOC_OPERATOR).post(f"/api/users/{user}/revoke-sessions", json=WHY)
    assert answer.status_code == 200, answer.text


def push_all(house: House) -> int:
    return deliver.deliver_all(house.stores.control, house.deps.vault, Us(ORIGIN, f"{ORIGIN}/sts"))


# -- what is told -------------------------------------------------------------------------------------------------


def test_the_configuration_says_where_everything_is(house: House) -> None:
    found = house.stranger().get("/.well-known/ssf-configuration").json()
    assert found["issuer"] == ORIGIN
    assert found["delivery_methods_supported"] == [PUSH, POLL]
    paths = house.app.openapi()["paths"]
    for name, url in found.items():
        if name.endswith(("_endpoint", "_uri")):
            assert url.removeprefix(ORIGIN) in paths, name


@pytest.mark.claim("signals-told")
def test_a_revoke_is_told_once_signed_and_acknowledged(house: House) -> None:
    siem = party(house, audience="https://siem.zava.example")
    made = siem.make(events_requested=[*ALL, "https://elsewhere.example/event"], description="the SIEM")
    assert made.status_code == 201
    assert (made.json()["events_requested"], made.json()["events_delivered"]) == (ALL, ALL)
    assert siem.fetch() == {"sets": {}}
    revoke(house)
    found = siem.fetch()["sets"]
    assert len(found) == 1
    [(jti, token)] = found.items()
    claims = siem.claims(token)
    event = claims["events"][CAEP + "session-revoked"]
    assert (claims["iss"], claims["aud"], claims["jti"]) == (ORIGIN, "https://siem.zava.example", jti)
    assert claims["sub_id"] == GRIFFIN
    assert not {"sub", "exp"} & set(claims)
    assert event["reason_admin"] == {"en": "stolen session"}
    assert event["event_timestamp"] == int(house.clock.at.timestamp())
    assert siem.fetch()["sets"] == found, "what is not acknowledged comes again, the same"
    assert siem.fetch(ack=[jti]) == {"sets": {}}
    assert siem.fetch(ack=[jti], maxEvents=0) == {"sets": {}}


def test_what_happens_to_risk_and_passwords_is_told_in_caeps_words(house: House) -> None:
    siem = party(house)
    siem.make()
    with house.stores.control.tx("test") as tx:
        user = people.find_user(tx, "griffin")
        assert user is not None
        whom = ("user", user.id, tx.now)
        named = {"issuer": user.issuer, "subject": user.subject, "upn": user.upn, "transaction": "rsp_1"}
        levels = {"level": RiskLevel.HIGH, "previous_level": RiskLevel.NONE}
        told = SecurityEvent("risk-level-change", *whom, "stolen", **named, **levels)
        first = outbox.emit(tx, "rsp_1/risk", told)
        assert outbox.emit(tx, "rsp_1/risk", told) == first, "one key is told once"
        outbox.emit(tx, "rsp_1/password", SecurityEvent("credential-change", *whom, "", **named))
        tx.audit("test:emit", "user/griffin", {})
    claims = [siem.claims(token) for token in siem.fetch()["sets"].values()]
    events = {kind: event for each in claims for kind, event in each["events"].items()}
    assert len(claims) == 2
    risk = events[CAEP + "risk-level-change"]
    assert (risk["principal"], risk["current_level"], risk["previous_level"]) == ("USER", "HIGH", "LOW")
    assert claims[0]["txn"] == "rsp_1"
    password = events[CAEP + "credential-change"]
    assert (password["credential_type"], password["change_type"]) == ("password", "revoke")
    assert password["reason_admin"]["en"]


def test_a_revoke_that_does_not_commit_is_told_to_nobody(house: House) -> None:
    siem = party(house)
    siem.make()
    assert house.client(Role.SOC_OPERATOR).post("/api/users/griffin/revoke-sessions", json={"reason": ""}).is_error
    assert siem.fetch()["sets"] == {}


def test_an_event_that_was_not_asked_for_or_is_about_somebody_else_is_not_told(house: House) -> None:
    siem, other = party(house), party(house, "other")
    siem.make()
    other.make(events_requested=[CAEP + "risk-level-change"])
    subject = {"stream_id": siem.stream["stream_id"], "subject": {"format": "email", "email": "GRIFFIN@zava.example"}}
    assert siem.send("POST", "/ssf/subjects/remove", subject).status_code == 204
    revoke(house)
    revoke(house, "mona")
    assert [siem.claims(t)["sub_id"]["sub"] for t in siem.fetch()["sets"].values()] == ["mona"]
    assert other.fetch()["sets"] == {}
    assert siem.send("POST", "/ssf/subjects/add", subject).status_code == 200
    revoke(house)
    assert len(siem.fetch()["sets"]) == 2


def test_a_receiver_reports_what_it_cannot_take_and_operators_see_it(house: House) -> None:
    siem = party(house)
    siem.make()
    revoke(house)
    [jti] = siem.fetch()["sets"]
    assert siem.fetch(setErrs={jti: {"err": "invalid_key", "description": "who are you?"}})["sets"] == {}
    shown = house.client(Role.OWNER).get("/api/signals/receivers").json()["items"][0]["stream"]
    assert (shown["waiting"], shown["problem"]) == (0, "refused: invalid_key: who are you?")


def test_a_paused_stream_waits_and_a_disabled_one_keeps_nothing(house: House) -> None:
    siem = party(house)
    siem.make()
    status = {"stream_id": siem.stream["stream_id"], "status": "paused", "reason": "maintenance"}
    assert siem.send("POST", "/ssf/status", status).json() == status
    assert siem.send("GET", f"/ssf/status?stream_id={siem.stream['stream_id']}").json() == status
    revoke(house)
    assert siem.fetch()["sets"] == {}
    siem.send("POST", "/ssf/status", {**status, "status": "enabled"})
    assert len(siem.fetch()["sets"]) == 1
    siem.send("POST", "/ssf/status", {**status, "status": "disabled"})
    revoke(house)
    siem.send("POST", "/ssf/status", {**status, "status": "enabled"})
    assert len(siem.fetch()["sets"]) == 1


def test_a_verification_event_echoes_the_state_and_may_not_be_asked_for_all_the_time(house: House) -> None:
    siem = party(house)
    siem.make(events_requested=[])
    asked = {"stream_id": siem.stream["stream_id"], "state": "VGhpcw"}
    assert siem.send("POST", "/ssf/verification", asked).status_code == 204
    [token] = siem.fetch()["sets"].values()
    claims = siem.claims(token)
    assert claims["events"] == {SSF + "verification": {"state": "VGhpcw"}}
    assert claims["sub_id"] == {"format": "opaque", "id": siem.stream["stream_id"]}
    again = siem.send("POST", "/ssf/verification", asked)
    assert (again.status_code, "retry-after" in again.headers) == (429, True)


# -- managing streams ---------------------------------------------------------------------------------------------


def test_a_stream_is_made_read_changed_and_deleted(house: House) -> None:
    siem = party(house, push_hosts=["siem.example"])
    assert siem.make(description="one").status_code == 201
    stream_id = siem.stream["stream_id"]
    assert siem.make().status_code == 409
    assert siem.send("GET", "/ssf/streams").json() == [siem.stream]
    assert siem.send("GET", f"/ssf/streams?stream_id={stream_id}").json() == siem.stream
    changed = siem.send("PATCH", "/ssf/streams", {"stream_id": stream_id, "events_requested": ALL[:1]}).json()
    assert (changed["events_requested"], changed["description"]) == (ALL[:1], "one")
    push = {"method": PUSH, "endpoint_url": "https://siem.example/in", "authorization_header": "Bearer sesame-secret"}
    replaced = siem.send("PUT", "/ssf/streams", {"stream_id": stream_id, "delivery": push}).json()
    assert replaced["delivery"] == {"method": PUSH, "endpoint_url": "https://siem.example/in"}
    assert (replaced["events_requested"], "description" in replaced) == (ALL, False)
    assert "sesame" not in house.client(Role.OWNER).get("/api/audit").text
    assert siem.send("DELETE", f"/ssf/streams?stream_id={stream_id}").status_code == 204
    assert siem.send("GET", "/ssf/streams").json() == []
    assert siem.send("GET", f"/ssf/streams?stream_id={stream_id}").status_code == 404


@pytest.mark.asvs("13.2.4")
@pytest.mark.claim("signals-receivers")
@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/in",
        "https://siem.example.evil.example/in",
        "https://siem.example@evil.example/in",
        "http://siem.example/in",
        "https://169.254.169.254/latest",
        "https://[::ffff:169.254.169.254]/",
        "https://127.0.0.1/in",
        "file:///etc/passwd",
        "",
    ],
)
def test_events_are_pushed_only_where_an_operator_said(house: House, url: str) -> None:
    siem = party(house, push_hosts=["siem.example"])
    answer = siem.make(delivery={"method": PUSH, "endpoint_url": url})
    assert (answer.status_code, answer.json()["err"]) == (400, "invalid_request")
    assert siem.make(delivery={"method": PUSH, "endpoint_url": "https://siem.example/in"}).status_code == 201


@pytest.mark.asvs("8.2.2")
def test_one_receiver_sees_nothing_of_another(house: House) -> None:
    siem, other = party(house), party(house, "other")
    siem.make()
    stream_id = siem.stream["stream_id"]
    revoke(house)
    other.stream = siem.stream
    path = f"/ssf/streams/{stream_id}/poll"
    assert other.send("POST", path, {"returnImmediately": True}).status_code == 404
    assert other.send("GET", f"/ssf/streams?stream_id={stream_id}").status_code == 404
    assert other.send("PATCH", "/ssf/streams", {"stream_id": stream_id, "description": "mine"}).status_code == 404
    assert other.send("POST", "/ssf/status", {"stream_id": stream_id, "status": "disabled"}).status_code == 404
    assert other.send("DELETE", f"/ssf/streams?stream_id={stream_id}").status_code == 404
    assert other.send("GET", "/ssf/streams").json() == []
    other.make()
    [mine] = siem.fetch()["sets"]
    other.fetch(ack=[mine])
    assert list(siem.fetch()["sets"]) == [mine]


@pytest.mark.parametrize("path", ["/ssf/streams", "/ssf/status", "/ssf/subjects/add", "/ssf/verification"])
def test_a_door_for_receivers_asks_for_the_token_and_its_scope(house: House, path: str) -> None:
    reader = party(house, "reader", scopes=["ssf.read"])
    refused = reader.send("POST", path, {"stream_id": "x"})
    assert (refused.status_code, refused.json()["err"]) == (403, "insufficient_scope")
    stranger = house.stranger()
    for headers in ({}, {"authorization": "Bearer wfssf_x"}, {"authorization": f"Basic {reader.token}"}):
        assert stranger.post(path, json={}, headers=headers).status_code == 401
    operator = house.token(Role.OWNER)
    assert stranger.post(path, json={}, headers={"authorization": f"Bearer {operator}"}).status_code == 401
    opened = stranger.get("/api/me", headers={"authorization": f"Bearer {reader.token}"})
    assert opened.status_code == 401


def test_a_receiver_that_is_deleted_or_has_a_new_token_is_let_in_no_more(house: House) -> None:
    siem = party(house)
    siem.make()
    owner = house.client(Role.OWNER)
    old = siem.token
    siem.token = owner.post("/api/signals/receivers/siem/token").json()["token"]
    assert siem.send("GET", "/ssf/streams").status_code == 200
    assert Party(house, old, {}).send("GET", "/ssf/streams").status_code == 401
    assert owner.delete("/api/signals/receivers/siem").status_code == 204
    assert siem.send("GET", "/ssf/streams").status_code == 401
    revoke(house)


@pytest.mark.parametrize(
    "body",
    [
        {"delivery": {"method": "carrier-pigeon"}},
        {"delivery": []},
        {"delivery": {"method": POLL}, "events_requested": "all"},
        {"delivery": {"method": POLL}, "events_requested": [1]},
        {"delivery": {"method": POLL}, "description": "x" * 501},
        {"delivery": {"method": POLL}, "description": "\n"},
    ],
)
def test_a_stream_that_cannot_be_is_refused_with_its_place(house: House, body: dict[str, Any]) -> None:
    answer = party(house).make(**body)
    assert (answer.status_code, answer.json()["err"]) == (400, "invalid_request")


# -- pushing ------------------------------------------------------------------------------------------------------


class Hook:
    """A receiver's address; answers what it is told to."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, dict[str, str]]] = []
        self.taken: list[tuple[str, str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                outer.taken.append((self.headers["content-type"], self.headers.get("authorization", ""), body))
                status, answer, headers = outer.answers.pop(0) if outer.answers else (202, b"", {})
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/in"


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


def _pushed(house: House, hook: Hook) -> Party:
    siem = party(house, push_hosts=["127.0.0.1"])
    delivery = {"method": PUSH, "endpoint_url": hook.url, "authorization_header": "Bearer sesame"}
    assert siem.make(delivery=delivery).status_code == 201
    return siem


def test_an_event_is_pushed_once_with_the_header_that_was_agreed_on(house: House, hook: Hook) -> None:
    siem = _pushed(house, hook)
    revoke(house)
    assert push_all(house) == 1
    assert push_all(house) == 0
    [(kind, header, token)] = hook.taken
    assert (kind, header) == ("application/secevent+jwt", "Bearer sesame")
    assert siem.claims(token)["sub_id"] == GRIFFIN


@pytest.mark.claim("signals-told")
def test_a_receiver_that_is_down_gets_every_event_later_in_order_and_the_same(house: House, hook: Hook) -> None:
    siem = _pushed(house, hook)
    revoke(house)
    revoke(house, "mona")
    hook.answers = [(503, b"", {"retry-after": "30"}), (401, b"", {})]
    assert push_all(house) == 0
    assert push_all(house) == 0, "not before it is due"
    assert len(hook.taken) == 1
    house.clock.forward(seconds=29)
    assert push_all(house) == 0
    assert len(hook.taken) == 1
    house.clock.forward(seconds=2)
    assert push_all(house) == 0
    assert len(hook.taken) == 2
    shown = house.client(Role.OWNER).get("/api/signals/receivers").json()["items"][0]["stream"]
    assert (shown["waiting"], shown["failures"], shown["problem"]) == (2, 2, "the receiver answers 401.")
    house.clock.forward(seconds=11)
    assert push_all(house) == 2
    told = [siem.claims(token) for _, _, token in hook.taken]
    assert [each["sub_id"]["sub"] for each in told] == ["griffin", "griffin", "griffin", "mona"]
    assert len({each["jti"] for each in told}) == 2


def test_what_a_receiver_will_never_take_does_not_hold_up_what_comes_after(house: House, hook: Hook) -> None:
    _pushed(house, hook)
    revoke(house)
    revoke(house, "mona")
    hook.answers = [(400, json.dumps({"err": "invalid_audience", "description": "not me"}).encode(), {})]
    assert push_all(house) == 1
    assert len(hook.taken) == 2
    assert push_all(house) == 0


def test_an_event_that_nobody_takes_for_a_week_is_given_up(house: House, hook: Hook) -> None:
    _pushed(house, hook)
    revoke(house)
    house.clock.forward(days=7)
    hook.answers = [(500, b"", {})] * 2
    push_all(house)
    shown = house.client(Role.OWNER).get("/api/signals/receivers").json()["items"][0]["stream"]
    assert shown["waiting"] == 0


@pytest.mark.asvs("15.3.2")
def test_a_redirect_is_not_followed(house: House, hook: Hook) -> None:
    _pushed(house, hook)
    revoke(house)
    hook.answers = [(307, b"", {"location": hook.url})]
    assert push_all(house) == 0
    assert len(hook.taken) == 1


# -- what responses tell ------------------------------------------------------------------------------------------


def _told(siem: Party, tokens: Iterable[str]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(kind, event, claims) of each, in order."""
    found = []
    for token in tokens:
        claims = siem.claims(token)
        [(kind, event)] = claims["events"].items()
        found.append((kind.removeprefix(CAEP), event, claims))
    return found


@pytest.mark.claim("signals-response")
def test_a_confirmed_compromise_is_told_pushed_and_fetched_and_its_dismissal_ends_no_session(
    house: House, hook: Hook
) -> None:
    pushed, fetched = _pushed(house, hook), party(house, "soar")
    fetched.make()
    operator = house.client(Role.SOC_OPERATOR)
    begun = operator.post("/api/users/griffin/confirm-compromised", json=WHY).json()["proof"]["response"]
    house.work("run_responses", "deliver_signals")
    by_push = _told(pushed, [token for _, _, token in hook.taken])
    by_poll = _told(fetched, fetched.fetch()["sets"].values())
    for told in (by_push, by_poll):
        assert [kind for kind, _, _ in told] == ["session-revoked", "credential-change", "risk-level-change"]
        password, risk = told[1][1], told[2][1]
        assert (password["credential_type"], password["change_type"]) == ("password", "revoke")
        assert (risk["principal"], risk["current_level"]) == ("USER", "HIGH")
        for _, event, claims in told:
            assert (claims["iss"], claims["sub_id"], claims["txn"]) == (ORIGIN, GRIFFIN, begun)
            assert event["event_timestamp"] == int(house.clock.at.timestamp())
            assert (event["initiating_entity"], event["reason_admin"]) == ("admin", {"en": "stolen session"})
    found = {step["name"]: step for step in operator.get(f"/api/responses/{begun}").json()["steps"]}["events"]
    shown = set(found["evidence"]["credential-change"].values())
    assert found["state"] == "done" and shown == {told[1][2]["jti"] for told in (by_push, by_poll)}

    fetched.fetch(ack=[claims["jti"] for _, _, claims in by_poll])
    operator.post("/api/users/griffin/dismiss-risk", json={"reason": "a test of ours"})
    house.work("run_responses", "deliver_signals")
    assert len(hook.taken) == 4
    [(kind, event, _)] = _told(fetched, fetched.fetch()["sets"].values())
    assert (kind, event["current_level"], event["previous_level"]) == ("risk-level-change", "LOW", "HIGH")


def test_a_new_password_that_the_identity_provider_shows_is_told_as_the_users_own_change(house: House) -> None:
    siem = party(house)
    siem.make(events_requested=[CAEP + "credential-change"])
    with serving() as provider:
        work = Outbox(house.stores.control, ports_to(provider, house.clock, emitter=outbox.SignalEmitter()))
        house.client(Role.SOC_OPERATOR).post("/api/users/griffin/confirm-compromised", json=WHY)
        work.run()
        house.clock.forward(minutes=5)
        provider.change_password(house.clock())
        set_at = int(house.clock.at.timestamp())
        house.clock.forward(minutes=1)
        work.check_recoveries()
        work.run()
    revoked, updated = (event for _, event, _ in _told(siem, siem.fetch()["sets"].values()))
    assert revoked["change_type"] == "revoke"
    assert (updated["change_type"], updated["initiating_entity"]) == ("update", "user")
    assert updated["event_timestamp"] == set_at


def test_a_response_says_that_nobody_was_told_where_nobody_asked(house: House) -> None:
    siem = party(house)
    operator = house.client(Role.SOC_OPERATOR)
    begun = operator.post("/api/agents/billing/confirm-compromised", json=WHY).json()["proof"]["response"]
    house.work("run_responses")
    found = {step["name"]: step for step in operator.get(f"/api/responses/{begun}").json()["steps"]}["events"]
    assert (found["state"], found["error"]) == ("skipped", "nobody has asked to be told of it.")
    siem.make()
    assert operator.post(f"/api/responses/{begun}/steps/events/retry", json=WHY).status_code == 200
    house.work("run_responses")
    told = _told(siem, siem.fetch()["sets"].values())
    assert [kind for kind, _, _ in told] == ["session-revoked", "risk-level-change"]
    assert (told[1][1]["principal"], told[1][2]["sub_id"]["sub"]) == ("APPLICATION", "agent:billing")


# -- both ends ----------------------------------------------------------------------------------------------------


@pytest.mark.claim("signals-told")
def test_one_watchfloor_tells_another_and_the_sessions_end_there(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    siem = party(house, audience="https://other.zava.example")
    siem.make()
    with served(house) as address, open_house(Path(tmp_path_factory.mktemp("other"))) as other:
        revoke(house)
        terms = {
            "issuer": address, "jwks_uri": f"{address}/sts/jwks", "audience": "https://other.zava.example",
            "speaks_for": [ISSUER], "secret": siem.token,
            "poll_url": f"{address}/ssf/streams/{siem.stream['stream_id']}/poll",
        }  # fmt: skip
        put = other.client(Role.OWNER).put("/api/signals/transmitters/head-office", json=terms)
        assert put.status_code == 200, put.text
        receiver = Receiver(other.stores.control, other.deps.vault, KeySets())
        assert poll.poll_all(other.stores.control, other.deps.vault, receiver) == 1
        assert poll.poll_all(other.stores.control, other.deps.vault, receiver) == 0
        with other.stores.control.read() as tx:
            griffin = people.find_user(tx, "griffin")
        assert griffin is not None
        assert griffin.epoch == 2
    assert siem.fetch()["sets"] == {}


def test_the_doors_of_the_transmitter_answer_whatever_is_sent(house: House) -> None:
    siem = party(house)
    siem.make()
    client: TestClient = house.stranger()
    headers = {"authorization": f"Bearer {siem.token}", "content-type": "application/json"}
    poll_path = f"/ssf/streams/{siem.stream['stream_id']}/poll"
    bodies: list[bytes] = [b"", b"[]", b"{", b"null", b'{"stream_id": 1}', b'{"stream_id": {}}', b"\xff", b"x" * 70_000]
    stream_id = siem.stream["stream_id"]
    for extra in ({"ack": 1}, {"ack": [1]}, {"setErrs": []}, {"setErrs": {"a": 1}}, {"maxEvents": -1},
                  {"maxEvents": True}, {"subject": []}, {"subject": {"format": "x"}}, {"state": 1}, {"status": []},
                  {"delivery": {"method": PUSH, "endpoint_url": 1}}, {"reason": {}}, {"description": []}):  # fmt: skip
        bodies.append(json.dumps({"stream_id": stream_id, **extra, "returnImmediately": True}).encode())
    send: Callable[..., Any] = client.request
    for method, path in [
        ("POST", "/ssf/streams"), ("PATCH", "/ssf/streams"), ("PUT", "/ssf/streams"), ("POST", "/ssf/status"),
        ("POST", "/ssf/subjects/add"), ("POST", "/ssf/subjects/remove"), ("POST", "/ssf/verification"),
        ("POST", poll_path), ("POST", "/ssf/receive"), ("POST", "/global-token-revocation"),
    ]:  # fmt: skip
        for body in bodies:
            answer = send(method, path, content=body, headers=headers)
            assert answer.status_code < 500, (method, path, body[:80], answer.text)
