"""After a confirmed compromise: dismissed, remediated by hand or by a new password; old sessions stay dead."""

from __future__ import annotations

from datetime import timedelta

import pytest

from portal.house import House
from response.provider import ISSUER, Provider
from response.responding import ask, confirm, outbox, response, states, steps
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.response.recovery import check_soon


def user(house: House) -> dict[str, object]:
    found = house.projected(Kind.USER, "griffin")
    assert found
    return found


def begun_by(house: House, kind: str) -> str:
    """The newest response of that kind to Griffin."""
    found = house.client(Role.SOC_ANALYST).get(f"/api/responses?subject=griffin&kind={kind}").json()["items"]
    return str(found[0]["id"])


@pytest.mark.claim("response-undone")
@pytest.mark.parametrize("verb", ["dismiss-risk", "remediate-risk"])
def test_lifting_the_risk_lets_the_user_work_again_and_no_old_session(
    house: House, provider: Provider, verb: str
) -> None:
    response_id = confirm(house)
    work = outbox(house, provider)
    work.run()
    before = user(house)
    answer = ask(house, f"/api/users/griffin/{verb}", reason="it was a test of ours")
    assert answer.status_code == 200, answer.text
    after = user(house)
    assert (after["risk"], after["must_reset_password"]) == ("none", False)
    assert (after["epoch"], after["not_before"]) == (before["epoch"], before["not_before"])
    # The outbox asks the provider to take the risk back, and reads that back.
    work.run()
    lifted = begun_by(house, "user_release")
    assert states(house, lifted) == {
        "local": "done", "provider_risk": "done", "events": "skipped", "read_back": "done", "notify": "skipped",
    }  # fmt: skip
    assert provider.of().risk == "none"
    outcome = response(house, response_id)["outcome"]
    assert outcome == ("dismissed" if verb == "dismiss-risk" else "remediated")
    house.clock.forward(seconds=5)
    assert house.call("mail", "lookup", {"key": "1"})[1].effect.value == "allow"  # a session that began afterwards
    assert ask(house, f"/api/users/griffin/{verb}").status_code == 409


def test_dismissing_needs_a_reason_somebody_else_and_something_to_dismiss(house: House) -> None:
    assert ask(house, "/api/users/griffin/dismiss-risk").status_code == 409
    confirm(house)
    assert ask(house, "/api/users/griffin/dismiss-risk", reason=" ").status_code == 422
    own = ask(house, "/api/users/griffin/dismiss-risk", Role.SOC_OPERATOR, "griffin")
    assert own.status_code == 403 and "your own account" in own.json()["detail"]
    assert user(house)["risk"] == "high"


def test_a_response_that_is_dismissed_half_way_does_nothing_more(house: House, provider: Provider) -> None:
    response_id = confirm(house)
    work = outbox(house, provider)
    work.run(most=1)
    ask(house, "/api/users/griffin/dismiss-risk", reason="wrong Griffin")
    work.run()
    assert provider.asked == ["revoke griffin", "risk griffin", "state griffin"]
    assert provider.of().risk == "none"
    found = steps(house, response_id)
    assert found["provider_password"]["state"] == "skipped"
    assert "dismissed by op-soc-operator: wrong Griffin" in found["provider_password"]["error"]
    assert ask(house, f"/api/responses/{response_id}/steps/provider_password/retry").status_code == 409


def test_what_is_dismissed_while_a_step_is_under_way_ends_as_dismissed(house: House, provider: Provider) -> None:
    """Setting the risk is on its way as the operator dismisses: taking it back waits for that, and is the last word."""
    confirm(house)
    second = outbox(house, provider)

    def operator(operation: str, when: str) -> None:
        if (operation, when) == ("risk", "before") and not dismissed:
            dismissed.append(ask(house, "/api/users/griffin/dismiss-risk", reason="wrong Griffin").status_code)
            assert second.run() == 0  # another server does not overtake it

    dismissed: list[int] = []
    provider.on_request = operator
    outbox(house, provider).run()
    assert dismissed == [200]
    assert provider.of().risk == "none"
    assert response(house, begun_by(house, "user_release"))["status"] == "done"


@pytest.mark.claim("response-remediated")
def test_a_new_password_after_the_revocation_remediates_the_risk(house: House, provider: Provider) -> None:
    response_id = confirm(house)
    work = outbox(house, provider)
    work.run()
    work.check_recoveries()
    assert user(house)["risk"] == "high"  # too early to ask
    house.clock.forward(seconds=1)  # the first second in which a sign-in counts
    provider.change_password(house.clock())
    house.clock.forward(minutes=5)
    assert work.check_recoveries() == 1
    found = user(house)
    assert (found["risk"], found["must_reset_password"]) == ("none", False)
    shown = response(house, response_id)
    assert shown["outcome"] == "remediated"
    work.run()
    lifted = response(house, begun_by(house, "user_release"))
    assert "the password was changed at" in lifted["reason"]
    assert work.check_recoveries() == 0


def test_a_password_from_before_the_revocation_remediates_nothing(house: House, provider: Provider) -> None:
    provider.change_password(house.clock() - timedelta(seconds=1))
    confirm(house)
    work = outbox(house, provider)
    work.run()
    for _ in range(5):
        house.clock.forward(minutes=20)
        assert work.check_recoveries() == 1
    assert user(house)["risk"] == "high"


def test_a_password_that_an_administrator_set_and_the_user_has_yet_to_change_remediates_nothing(
    house: House, provider: Provider
) -> None:
    confirm(house)
    work = outbox(house, provider)
    work.run()
    house.clock.forward(minutes=5)
    provider.change_password(house.clock())
    provider.of().must_reset_password = True
    work.check_recoveries()
    assert user(house)["risk"] == "high"


def test_a_provider_that_does_not_answer_when_asked_is_asked_again_later(house: House, provider: Provider) -> None:
    confirm(house)
    work = outbox(house, provider)
    work.run()
    house.clock.forward(minutes=5)
    provider.change_password(house.clock())
    provider.fail("state", 503)
    assert work.check_recoveries() == 1
    assert user(house)["risk"] == "high"
    assert work.check_recoveries() == 0
    house.clock.forward(minutes=2)
    assert work.check_recoveries() == 1
    assert user(house)["risk"] == "none"


@pytest.mark.claim("response-remediated")
def test_whoever_comes_back_with_a_new_sign_in_is_asked_about_at_once_and_not_all_the_time(
    house: House, provider: Provider
) -> None:
    control = house.stores.control
    confirm(house)
    work = outbox(house, provider)
    work.run()
    house.clock.forward(seconds=20)
    asked = provider.count("state")
    assert not check_soon(control, ISSUER, "mona") and not check_soon(control, ISSUER, "nobody")
    assert check_soon(control, ISSUER, "griffin")
    assert work.check_recoveries() == 1 and user(house)["risk"] == "high"
    assert not check_soon(control, ISSUER, "griffin"), "a thief who tries all the time gets nobody to work"
    house.clock.forward(seconds=6)
    provider.change_password(house.clock())
    assert check_soon(control, ISSUER, "griffin")
    assert work.check_recoveries() == 1 and user(house)["risk"] == "none"
    assert provider.count("state") == asked + 2
    assert not check_soon(control, ISSUER, "griffin")


def test_confirming_again_after_dismissing_begins_anew(house: House, provider: Provider) -> None:
    first = confirm(house)
    outbox(house, provider).run()
    ask(house, "/api/users/griffin/dismiss-risk")
    second = confirm(house)
    outbox(house, provider).run()
    assert response(house, second)["status"] == "done" and second != first
    assert provider.of().risk == "high" and user(house)["risk"] == "high"
