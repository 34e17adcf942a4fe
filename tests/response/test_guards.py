"""What keeps confirming from being turned against the company; beside each refusal somebody for whom it works."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.house import House
from response.provider import Provider
from response.responding import ask, confirm, outbox, response, states
from watchfloor.identity import operators
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.response.guards import MOST_UNAPPROVED
from watchfloor.storage import actions, people
from watchfloor.storage.people import User

pytestmark = pytest.mark.claim("response-guards")


def change(house: House, user_id: str, **values: object) -> None:
    with house.stores.control.tx("test") as tx:
        user = people.find_user(tx, user_id)
        assert user
        people.save_user(tx, replace(user, **values))


def make_operator(house: House, name: str, *roles: Role) -> None:
    with house.stores.control.tx("test") as tx:
        operators.create(tx, name, None, roles)


def retire(house: House, name: str) -> None:
    with house.stores.control.tx("test") as tx:
        operators.set_enabled(tx, name, False)


def untouched(house: House, user_id: str = "griffin") -> bool:
    """Whether nothing was done to the user."""
    found = house.projected(Kind.USER, user_id)
    assert found
    return (found["epoch"], found["risk"], found["must_reset_password"]) == (1, "none", False)


def refusals(house: House) -> list[tuple[str, str, str]]:
    """What the audit log says of actions that guards refused: who, about whom, why."""
    with house.stores.control.read() as tx:
        found = actions.list_audit(tx, action="action:refuse")
    return [(entry.actor, entry.subject, str(entry.detail["because"])) for entry in found]


# -- who may not be confirmed -------------------------------------------------------------------------------------


def test_a_break_glass_account_is_refused_with_what_to_do_instead_and_the_attempt_is_audited(house: House) -> None:
    change(house, "griffin", is_break_glass=True)
    answer = ask(house, "/api/users/griffin/confirm-compromised")
    assert answer.status_code == 403
    assert answer.json()["code"] == "guarded"
    assert (
        "break-glass" in answer.json()["detail"] and "take breakGlass off it in the manifest" in answer.json()["detail"]
    )
    assert untouched(house)
    ((actor, subject, because),) = refusals(house)
    assert (actor, subject) == ("op-soc-operator", "user/griffin") and "break-glass" in because
    confirm(house, "mona")  # everybody else
    assert not untouched(house, "mona")


def test_a_manifest_says_which_accounts_are_kept_for_emergencies(house: House) -> None:
    manifest = (
        "apiVersion: watchfloor/v1\nkind: Company\nusers:\n"
        "  - {id: griffin, name: Griffin Vale, upn: griffin@zava.example, breakGlass: true}\n"
    )
    answer = house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": manifest})
    assert answer.status_code == 200, answer.text
    assert house.client(Role.OWNER).get("/api/users/griffin").json()["is_break_glass"] is True
    assert ask(house, "/api/users/griffin/confirm-compromised").status_code == 403


@pytest.mark.asvs("2.3.5")
def test_nobody_confirms_their_own_account_and_a_colleague_may(house: House) -> None:
    answer = ask(house, "/api/users/griffin/confirm-compromised", Role.SOC_OPERATOR, "griffin")
    assert answer.status_code == 403
    assert "Ask another operator" in answer.json()["detail"]
    assert untouched(house)
    answer = ask(house, "/api/users/griffin/confirm-compromised")
    assert answer.status_code == 200  # an operator is one of tier 0: the colleague's word waits for another one


def test_the_last_administrator_is_refused_and_one_of_two_is_not(house: House) -> None:
    make_operator(house, "griffin", Role.OWNER)
    response_id = confirm(house)
    assert response(house, response_id)["status"] == "waiting_for_approval"  # op-owner is left
    ask(house, f"/api/responses/{response_id}/decline")
    retire(house, "op-owner")
    answer = ask(house, "/api/users/griffin/confirm-compromised")
    assert answer.status_code == 403
    detail = answer.json()["detail"]
    assert "last administrator" in detail and "Make somebody else an owner first" in detail
    assert untouched(house)


# -- a second operator --------------------------------------------------------------------------------------------


@pytest.mark.asvs("2.3.5", "7.5.3")
def test_an_account_that_everything_depends_on_needs_a_second_operator_and_an_ordinary_one_does_not(
    house: House, provider: Provider
) -> None:
    change(house, "griffin", criticality=0)
    change(house, "mona", criticality=1)
    response_id = confirm(house)
    shown = response(house, response_id)
    assert shown["status"] == "waiting_for_approval"
    assert "criticality 0" in shown["needs_approval"][0]
    assert set(states(house, response_id).values()) == {"waiting_for_approval"}
    assert untouched(house)
    outbox(house, provider).run()
    assert provider.asked == []

    own = ask(house, f"/api/responses/{response_id}/approve")
    assert own.status_code == 403 and "another operator" in own.json()["detail"]
    answer = ask(house, f"/api/responses/{response_id}/approve", Role.SOC_OPERATOR, "colleague", reason="seen it")
    assert answer.status_code == 200, answer.text
    assert answer.json()["proof"]["user_epoch"] == 2 and not untouched(house)
    assert answer.json()["revision"] == house.stores.epoch.revision()
    outbox(house, provider).run()
    shown = response(house, response_id)
    assert (shown["status"], shown["opened_by"], shown["decided_by"]) == ("done", "op-soc-operator", "colleague")

    confirm(house, "mona")
    assert not untouched(house, "mona")


def test_an_operator_s_account_needs_a_second_operator_and_loses_its_sessions_here_too(house: House) -> None:
    token = house.token(Role.SOC_ANALYST, "griffin")
    assert house.client(Role.SOC_ANALYST, "griffin").get("/api/agents").status_code == 200
    response_id = confirm(house)
    assert "is an operator" in response(house, response_id)["needs_approval"][0]
    own = ask(house, f"/api/responses/{response_id}/decline", Role.SOC_OPERATOR, "mona")
    assert own.status_code == 200  # a colleague may decline
    response_id = confirm(house)
    answer = ask(house, f"/api/responses/{response_id}/approve", Role.SECURITY_ADMIN)
    assert answer.json()["proof"]["operator_sessions_ended"] == 1
    assert token and house.client(Role.SOC_ANALYST, "griffin").get("/api/agents").status_code == 401


STEP = st.tuples(st.sampled_from(["olga", "pavel", "rosa"]), st.sampled_from(["ask", "approve", "decline"]))
_NUMBERS = itertools.count()


@pytest.mark.asvs("2.3.5")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(STEP, max_size=7))
def test_in_no_history_does_one_operator_alone_lock_out_an_account_that_everything_depends_on(
    house: House, history: list[tuple[str, str]]
) -> None:
    user_id = f"vital-{next(_NUMBERS)}"
    with house.stores.control.tx("test") as tx:
        people.save_user(tx, User(user_id, "https://login.zava.example", user_id, tx.now, criticality=0))
    house.clock.forward(minutes=11)  # whatever was asked for before does not count towards the rate
    asked_by, approved_by, waiting = "", "", ""
    for who, step in history:
        if step == "ask":
            answer = ask(house, f"/api/users/{user_id}/confirm-compromised", Role.SECURITY_ADMIN, who)
            if answer.status_code == 200 and not approved_by:
                asked_by, waiting = who, answer.json()["proof"]["response"]
        elif waiting:
            answer = ask(house, f"/api/responses/{waiting}/{step}", Role.SECURITY_ADMIN, who)
            if step == "approve" and answer.status_code == 200:
                approved_by = who
            elif step == "decline" and answer.status_code == 200:
                waiting = ""
    assert untouched(house, user_id) is not bool(approved_by)
    assert approved_by == "" or approved_by != asked_by


@pytest.mark.asvs("2.3.5")
def test_whoever_it_is_about_neither_approves_nor_declines_it(house: House) -> None:
    make_operator(house, "griffin", Role.SOC_OPERATOR)
    house._tokens.pop("griffin", None)
    with house.stores.control.tx("test") as tx:
        house._tokens["griffin"] = operators.issue_api_token(tx, "griffin", "tests").token
    response_id = confirm(house)
    for verb in ("approve", "decline"):
        answer = ask(house, f"/api/responses/{response_id}/{verb}", Role.SOC_OPERATOR, "griffin")
        assert answer.status_code == 403, answer.text
    assert response(house, response_id)["status"] == "waiting_for_approval"


def test_what_nobody_approves_in_time_expires_and_can_be_asked_for_again(house: House, provider: Provider) -> None:
    change(house, "griffin", criticality=0)
    response_id = confirm(house)
    house.clock.forward(minutes=59)
    outbox(house, provider).run()
    assert response(house, response_id)["status"] == "waiting_for_approval"
    house.clock.forward(minutes=2)
    late = ask(house, f"/api/responses/{response_id}/approve", Role.SOC_OPERATOR, "colleague")
    assert late.status_code == 409 and "in time" in late.json()["detail"]
    outbox(house, provider).run()
    assert response(house, response_id)["status"] == "expired"
    assert untouched(house)
    assert confirm(house) != response_id


def test_what_was_declined_is_not_done(house: House, provider: Provider) -> None:
    change(house, "griffin", criticality=0)
    response_id = confirm(house)
    ask(house, f"/api/responses/{response_id}/decline", Role.SOC_OPERATOR, "colleague", reason="she is on holiday")
    outbox(house, provider).run()
    shown = response(house, response_id)
    assert (shown["status"], shown["decision"]) == ("declined", "she is on holiday")
    assert untouched(house) and provider.asked == []
    assert ask(house, f"/api/responses/{response_id}/approve", Role.SECURITY_ADMIN).status_code == 409


def test_what_was_asked_for_by_an_account_that_lost_its_role_is_not_approved(house: House) -> None:
    change(house, "griffin", criticality=0)
    response_id = confirm(house, by="thief")
    retire(house, "thief")
    answer = ask(house, f"/api/responses/{response_id}/approve")
    assert answer.status_code == 403
    assert "may no longer do so" in answer.json()["detail"]
    assert untouched(house)


def test_approving_takes_the_permission_for_that_kind_of_response(house: House) -> None:
    change(house, "griffin", criticality=0)
    response_id = confirm(house)
    answer = ask(house, f"/api/responses/{response_id}/approve", Role.IT_ADMIN)  # may approve for tool servers
    assert answer.status_code == 403
    assert "user.confirm_compromised" in answer.json()["detail"]


@pytest.mark.parametrize("role", [Role.IT_ADMIN, Role.SOC_ANALYST, Role.AUDITOR, Role.MAKER, Role.USER])
def test_roles_without_the_permission_confirm_nobody(house: House, role: Role) -> None:
    assert ask(house, "/api/users/griffin/confirm-compromised", role).status_code == 403
    assert untouched(house)


# -- how many -----------------------------------------------------------------------------------------------------


@pytest.mark.asvs("2.3.2")
def test_one_operator_locks_out_twenty_and_no_more_without_a_colleague(house: House, provider: Provider) -> None:
    with house.stores.control.tx("test") as tx:
        griffin = people.find_user(tx, "griffin")
        assert griffin
        for n in range(MOST_UNAPPROVED + 2):
            user = replace(griffin, id=f"u{n}", subject=f"u{n}", upn=f"u{n}@zava.example")
            people.save_user(tx, user)
    proofs = [ask(house, f"/api/users/u{n}/confirm-compromised").json()["proof"] for n in range(MOST_UNAPPROVED + 1)]
    assert [proof["status"] for proof in proofs[:MOST_UNAPPROVED]] == ["running"] * MOST_UNAPPROVED
    assert proofs[MOST_UNAPPROVED]["status"] == "waiting_for_approval"
    assert "within 10 minutes" in proofs[MOST_UNAPPROVED]["needs_approval"]
    assert untouched(house, f"u{MOST_UNAPPROVED}")
    # A colleague may: by approving, or on their own; and so may the first one after a while.
    answer = ask(house, f"/api/responses/{proofs[-1]['response']}/approve", Role.SOC_OPERATOR, "colleague")
    assert answer.status_code == 200, answer.text
    assert response(house, confirm(house, "mona", by="colleague"))["status"] == "running"
    house.clock.forward(minutes=11)
    assert response(house, confirm(house))["status"] == "running"


def test_confirming_needs_a_reason(house: House) -> None:
    assert ask(house, "/api/users/griffin/confirm-compromised", reason="  ").status_code == 422
    assert untouched(house)
