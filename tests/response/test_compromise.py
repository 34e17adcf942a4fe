"""Confirming that a user is compromised: at once here, then at the identity provider, and shown for what it is."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from portal.house import House
from response.provider import ISSUER, HttpConnector, OneIssuer, Provider
from response.responding import ask, confirm, outbox, response, states, steps
from watchfloor.identity.connector import Ability
from watchfloor.jobs import JobContext, Jobs
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.response import outbox_steps
from watchfloor.response.outbox import LONGEST_DELAY, MOST_ATTEMPTS, delay
from watchfloor.response.plans import PLANS
from watchfloor.response.ports import Ports
from watchfloor.storage import actions, people


def incident_of(house: House) -> str:
    """The incident about Griffin, after the thief's attack."""
    house.attack()
    (found,) = house.client(Role.SOC_OPERATOR).get("/api/incidents?user=griffin").json()["items"]
    return str(found["id"])


def test_every_step_that_the_outbox_has_to_do_is_done_by_a_function() -> None:
    planned = {step.name for plan in PLANS.values() for step in plan.steps if not step.is_here}
    assert planned == set(outbox_steps.ASKS) | set(outbox_steps.WRITES)


@pytest.mark.claim("response-local-first")
def test_when_confirming_answers_the_next_call_is_refused_whatever_the_identity_provider_does(
    house: House, provider: Provider
) -> None:
    provider.fail("revoke", 503)
    before = house.call("mail", "lookup", {"key": "1"})[1]
    assert before.effect.value == "allow"
    answer = ask(house, "/api/users/griffin/confirm-compromised")
    assert answer.status_code == 200, answer.text
    assert answer.json()["epoch"] == answer.json()["revision"] == house.stores.epoch.revision()
    user = house.projected(Kind.USER, "griffin")
    assert user and (user["epoch"], user["risk"], user["must_reset_password"]) == (2, "high", True)
    assert provider.asked == []
    assert house.nudged == ["run_responses"]
    verdict = house.call("mail", "lookup", {"key": "1"})[1]
    assert verdict.effect.value == "block"


@pytest.mark.claim("response-read-back")
def test_every_step_is_done_in_order_and_the_provider_is_read_back_as_evidence(
    house: House, provider: Provider
) -> None:
    response_id = confirm(house)
    assert states(house, response_id) == {
        "local": "done", "provider_sessions": "pending", "provider_password": "pending", "provider_risk": "pending",
        "events": "pending", "read_back": "pending", "notify": "pending",
    }  # fmt: skip
    outbox(house, provider).run()
    assert provider.asked == ["revoke griffin", "reset griffin", "risk griffin", "state griffin"]
    found = steps(house, response_id)
    read_back = found["read_back"]
    assert read_back["state"] == "done"
    assert read_back["evidence"]["provider_sessions"] == {"says": "0 live sessions", "shown": True}
    assert read_back["evidence"]["provider_password"] == {"says": "a new password is required", "shown": True}
    assert read_back["evidence"]["provider_risk"] == {"says": "risk high", "shown": True}
    # Nobody is there to be told: that is said, and not called done.
    assert (found["events"]["state"], found["notify"]["state"]) == ("skipped", "skipped")
    assert "nobody is configured" in found["events"]["error"] and "no notifier" in found["notify"]["error"]
    assert response(house, response_id)["status"] == "done"


def test_the_job_does_what_is_left(house: House, provider: Provider) -> None:
    stores, deps = house.stores, house.deps
    connectors = OneIssuer(HttpConnector(provider.url, now=house.clock))
    context = JobContext(
        stores.control, stores.events, stores.compiler, deps.vault, house.log, now=house.clock, connectors=connectors
    )
    response_id = confirm(house)
    jobs = Jobs(context)
    jobs.run_now("run_responses")
    assert {s.last_error for s in jobs.health()} == {""}
    assert states(house, response_id)["read_back"] == "done"


def test_without_a_connector_the_provider_s_steps_are_skipped_and_say_why(house: House) -> None:
    response_id = confirm(house)
    outbox(house, Ports()).run()
    found = steps(house, response_id)
    for name in ("provider_sessions", "provider_password", "provider_risk", "read_back"):
        assert found[name]["state"] == "skipped"
        assert ISSUER in found[name]["error"] and "no connector is configured" in found[name]["error"]


def test_what_a_provider_cannot_do_is_skipped_and_what_it_can_is_done(house: House, provider: Provider) -> None:
    connector = HttpConnector(provider.url, frozenset({Ability.REVOKE_SESSIONS, Ability.READ_STATE}), house.clock)
    response_id = confirm(house)
    outbox(house, Ports(OneIssuer(connector))).run()
    found = steps(house, response_id)
    assert found["provider_sessions"]["state"] == "done"
    assert "cannot be asked to require a new password" in found["provider_password"]["error"]
    assert found["provider_risk"]["state"] == "skipped"
    assert found["read_back"]["state"] == "done"
    assert set(found["read_back"]["evidence"]) == {"connector", "read_at", "provider_sessions", "provider"}


@pytest.mark.claim("response-retried")
def test_a_provider_that_is_out_of_order_is_asked_again_not_before_it_said(house: House, provider: Provider) -> None:
    provider.fail("revoke", 503, 429, retry_after="40")
    response_id = confirm(house)
    work = outbox(house, provider)
    work.run()
    first = steps(house, response_id)["provider_sessions"]
    assert (first["state"], first["attempts"]) == ("pending", 1)
    assert "answered 503" in first["error"]
    assert provider.count("revoke") == 0
    # What does not depend on it was done meanwhile; what does, waits.
    assert states(house, response_id)["provider_password"] == "done"
    assert states(house, response_id)["read_back"] == "pending"
    house.clock.forward(seconds=39)
    assert work.run() == 0
    house.clock.forward(seconds=2)
    work.run()
    assert steps(house, response_id)["provider_sessions"]["attempts"] == 2
    house.clock.forward(seconds=41)
    work.run()
    assert states(house, response_id)["provider_sessions"] == "done"
    assert states(house, response_id)["read_back"] == "done"
    assert provider.count("revoke") == 1


@pytest.mark.claim("response-never-done")
def test_what_a_provider_refuses_is_shown_as_failed_and_an_operator_can_try_it_again(
    house: House, provider: Provider
) -> None:
    provider.fail("reset", 403)
    response_id = confirm(house)
    work = outbox(house, provider)
    work.run()
    found = steps(house, response_id)
    assert found["provider_password"]["state"] == "failed"
    assert "refused (403): give the client the right" in found["provider_password"]["error"]
    assert found["provider_password"]["finished_at"] and not found["provider_password"]["next_try_at"]
    assert response(house, response_id)["status"] == "failed"
    house.clock.forward(hours=2)
    assert work.run() == 0

    assert ask(house, f"/api/responses/{response_id}/steps/provider_sessions/retry").status_code == 409
    answer = ask(house, f"/api/responses/{response_id}/steps/provider_password/retry", reason="granted")
    assert answer.status_code == 200, answer.text
    assert response(house, response_id)["status"] == "running"
    work.run()
    # What is read back is read anew after it.
    assert steps(house, response_id)["read_back"]["evidence"]["provider_password"]["shown"] is True
    assert provider.count("state") == 2
    assert response(house, response_id)["status"] == "done"


def test_a_step_that_never_works_fails_after_so_many_attempts(house: House, provider: Provider) -> None:
    provider.fail("risk", *[500] * (MOST_ATTEMPTS + 5))
    response_id = confirm(house)
    work = outbox(house, provider)
    for _ in range(MOST_ATTEMPTS + 3):
        work.run()
        house.clock.forward(seconds=LONGEST_DELAY + 1)
    found = steps(house, response_id)["provider_risk"]
    assert (found["state"], found["attempts"]) == ("failed", MOST_ATTEMPTS)
    assert f"tried {MOST_ATTEMPTS} times" in found["error"]
    # Reading back does not claim what was not done.
    assert "provider_risk" not in steps(house, response_id)["read_back"]["evidence"]


def test_a_provider_that_says_yes_and_does_nothing_is_found_out(house: House, provider: Provider) -> None:
    provider.is_deaf = True
    response_id = confirm(house)
    work = outbox(house, provider)
    work.run()
    found = steps(house, response_id)["read_back"]
    assert (found["state"], found["attempts"]) == ("pending", 1)
    assert "3 live sessions" in found["error"] and "no new password is required" in found["error"]
    for _ in range(10):
        house.clock.forward(seconds=LONGEST_DELAY + 1)
        work.run()
    found = steps(house, response_id)["read_back"]
    assert found["state"] == "failed"
    assert found["evidence"]["provider_sessions"] == {"says": "3 live sessions", "shown": False}
    assert response(house, response_id)["status"] == "failed"


def test_a_thief_who_comes_back_between_the_steps_is_thrown_out_again(house: House, provider: Provider) -> None:
    response_id = confirm(house)
    work = outbox(house, provider)

    def thief(operation: str, when: str) -> None:
        if (operation, when) == ("reset", "before"):
            provider.of().live_sessions = 1

    provider.on_request = thief
    work.run()
    assert states(house, response_id)["read_back"] == "pending"
    house.clock.forward(seconds=5)
    work.run()
    found = steps(house, response_id)["read_back"]
    assert found["state"] == "done"
    assert found["evidence"]["asked_again"] == "provider_sessions"
    assert provider.count("revoke") == 2


def test_confirming_twice_begins_one_response_and_names_it(house: House, provider: Provider) -> None:
    response_id = confirm(house)
    again = ask(house, "/api/users/griffin/confirm-compromised")
    assert again.status_code == 409
    assert response_id in again.json()["detail"]
    outbox(house, provider).run()
    assert confirm(house) != response_id  # a new one, once the first is over


@pytest.mark.asvs("2.3.4")
def test_two_servers_never_run_one_step_at_once(house: House, provider: Provider) -> None:
    response_id = confirm(house)
    second = outbox(house, provider)
    seen: list[int] = []

    def meanwhile(operation: str, when: str) -> None:
        if when == "before" and operation == "revoke":
            seen.append(second.run())

    provider.on_request = meanwhile
    outbox(house, provider).run()
    assert seen == [0]
    assert provider.count("revoke") == 1
    assert states(house, response_id)["provider_sessions"] == "done"


def test_a_claim_that_ran_out_is_taken_over_and_what_came_too_late_does_not_count(
    house: House, provider: Provider
) -> None:
    response_id = confirm(house)
    second = outbox(house, provider)

    def slow(operation: str, when: str) -> None:
        if when == "before" and operation == "revoke" and provider.count("revoke") == 0 and not taken:
            taken.append(True)
            house.clock.forward(seconds=91)
            provider.fail("revoke", 403)  # what the second one is told
            second.run(most=1)

    taken: list[bool] = []
    provider.on_request = slow
    outbox(house, provider).run(most=1)
    found = steps(house, response_id)["provider_sessions"]
    assert (found["state"], found["attempts"]) == ("failed", 2)


def test_delays_double_are_spread_by_half_and_respect_what_the_provider_said() -> None:
    spread = [(delay(n, 0, lambda: 0.0), delay(n, 0, lambda: 1.0)) for n in (1, 2, 3, 20)]
    assert spread == [(1, 2), (2, 4), (4, 8), (LONGEST_DELAY / 2, LONGEST_DELAY)]
    assert delay(1, 120.0, lambda: 0.5) == 120.0
    assert delay(10_000, 0, lambda: 1.0) == LONGEST_DELAY


@pytest.mark.claim("response-on-incident")
def test_the_incident_shows_every_step_and_tells_of_it_in_its_activity(house: House, provider: Provider) -> None:
    incident = incident_of(house)
    response_id = confirm(house, incident_id=incident)
    outbox(house, provider).run()
    analyst = house.client(Role.SOC_ANALYST)
    (shown,) = analyst.get(f"/api/incidents/{incident}").json()["responses"]
    assert shown["id"] == response_id
    activity = analyst.get(f"/api/incidents/{incident}/activity").json()["items"]
    told = [entry for entry in activity if entry["kind"] == "responded"]
    assert [entry["detail"].get("step") for entry in reversed(told) if entry["detail"]["verb"] == "step"] == [
        "local", "provider_sessions", "provider_password", "provider_risk", "events", "read_back", "notify",
    ]  # fmt: skip
    text = analyst.get(f"/incidents/{incident}").text
    for words in ("0 live sessions", "a new password is required", "Read back what", "Provider confirms"):
        assert words in text


def test_the_it_role_sees_no_responses(house: House, provider: Provider) -> None:
    incident = incident_of(house)
    response_id = confirm(house, incident_id=incident)
    client = house.client(Role.IT_ADMIN)
    assert client.get("/api/responses").status_code == 403
    assert client.get(f"/api/responses/{response_id}").status_code == 403
    assert client.get(f"/api/incidents/{incident}").json()["responses"] == []


def test_the_page_of_a_response_comes_anew_until_it_is_over(house: House, provider: Provider) -> None:
    response_id = confirm(house)
    client = house.client(Role.SOC_ANALYST)
    page = client.get(f"/responses/{response_id}")
    assert page.headers["refresh"] == "2"
    assert "To be done" in page.text
    outbox(house, provider).run()
    page = client.get(f"/responses/{response_id}")
    assert "refresh" not in page.headers
    assert "0 live sessions" in page.text and "To be done" not in page.text


def test_the_page_of_a_response_has_one_heading_and_evidence_in_words(house: House, provider: Provider) -> None:
    response_id = confirm(house)
    outbox(house, provider).run()
    page = house.client(Role.SOC_ANALYST).get(f"/responses/{response_id}").text
    assert len(re.findall(r"<h[1-6]>[^<]*User confirmed compromised", page)) == 1
    shown = re.sub(r"<[^>]+>", "|", page)
    assert "new password due||yes|" in shown and "sign-ins count from|||2026-11-03 12:05:01|" in shown
    assert not re.search(r"\bTrue\b|\d\d-\d\dT\d\d:", shown)


def test_the_page_of_a_user_shows_risk_and_responses_and_offers_what_can_be_done(
    house: House, provider: Provider
) -> None:
    analyst, operator = house.client(Role.SOC_ANALYST), house.client(Role.SOC_OPERATOR)
    before = operator.get("/users/griffin")
    assert before.status_code == 200
    assert "Risk none" in before.text and "/act/confirm_user_compromised?subject=griffin" in before.text
    assert "/act/dismiss_user_risk" not in before.text and "/act/" not in analyst.get("/users/griffin").text
    confirm(house)
    outbox(house, provider).run()
    after = operator.get("/users/griffin").text
    for words in ("Risk high", "New password due", "/act/dismiss_user_risk", "0 live sessions"):
        assert words in after
    assert operator.get("/users/none").status_code == 404


def test_containment_counts_what_the_provider_confirms_and_warns_of_what_it_does_not(
    house: House, provider: Provider
) -> None:
    incident = incident_of(house)

    def containment() -> dict[str, Any]:
        found = house.client(Role.SOC_ANALYST).get(f"/api/incidents/{incident}").json()
        assert [c["kind"] for c in found["containment"]] == ["user"]
        return {**found["containment"][0], "warnings": found["warnings"]}

    assert containment()["provider"] == "not_asked"
    provider.fail("reset", 403)
    response_id = confirm(house, incident_id=incident)
    assert (containment()["is_contained"], containment()["provider"]) == (True, "pending")
    work = outbox(house, provider)
    work.run()
    assert containment()["provider"] == "failed"
    assert "not at the identity provider" in containment()["warnings"][0]
    ask(house, f"/api/responses/{response_id}/steps/provider_password/retry")
    work.run()
    assert containment()["provider"] == "confirmed"
    assert "0 live sessions" in containment()["provider_says"]
    assert containment()["warnings"] == []


def test_every_settled_step_is_in_the_audit_log_and_the_chain_holds(house: House, provider: Provider) -> None:
    response_id = confirm(house)
    outbox(house, provider).run()
    with house.stores.control.read() as tx:
        entries = actions.list_audit(tx, subject=f"response/{response_id}")
    assert [e.action for e in reversed(entries)] == ["response:begin", *["response:step"] * 7, "response:end"]
    assert {e.actor for e in entries} == {"op-soc-operator", "system:responses"}


def test_the_provider_is_asked_about_the_account_that_was_meant(house: House, provider: Provider) -> None:
    confirm(house)
    with house.stores.control.tx("test") as tx:  # linked to somebody else's sign-in before the outbox gets to it
        user = people.find_user(tx, "griffin")
        assert user
        people.save_user(tx, replace(user, subject="somebody-else"))
    outbox(house, provider).run()
    assert {line.partition(" ")[2] for line in provider.asked} == {"griffin"}


def test_responses_about_several_users_are_carried_out_side_by_side(house: House, provider: Provider) -> None:
    ids = [confirm(house, user) for user in ("griffin", "mona", "ada")]
    assert outbox(house, provider).run() == 18
    assert {response(house, each)["status"] for each in ids} == {"done"}
