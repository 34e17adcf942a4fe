"""Confirming a compromise at every kind of identity provider: the real ones as they are, the others as recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from connectors.identity.cases import CASES
from portal.house import House
from response.provider import ISSUER, OneIssuer
from response.responding import ask, confirm, outbox, response, steps
from watchfloor.connectors.identity.embedded import EmbeddedConnector
from watchfloor.identity.connector import Ability, Account, IdentityConnector
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.response.ports import Ports
from watchfloor.storage import people

pytestmark = pytest.mark.slow

ASKED = {
    "provider_sessions": Ability.REVOKE_SESSIONS,
    "provider_password": Ability.REQUIRE_PASSWORD_RESET,
    "provider_risk": Ability.SET_RISK,
}


def link(house: House, account: Account) -> None:
    """Griffin signs in with that account."""
    with house.stores.control.tx("test") as tx:
        user = people.find_user(tx, "griffin")
        assert user
        linked = replace(user, issuer=account.issuer, subject=account.subject, upn=account.upn or user.upn)
        people.save_user(tx, linked)


def confirmed(house: House, connector: IdentityConnector, account: Account) -> str:
    """Griffin is confirmed compromised, and what the provider can do is done and read back."""
    response_id = confirm(house)
    outbox(house, Ports(OneIssuer(connector, account.issuer))).run()
    found = steps(house, response_id)
    for name, ability in ASKED.items():
        assert found[name]["state"] == ("done" if ability in connector.abilities else "skipped"), found[name]
    shown = {name: found["read_back"]["evidence"][name] for name in ASKED if found[name]["state"] == "done"}
    assert [name for name, said in shown.items() if said["shown"] is False] == []
    # SCIM shows no password: where a provider says nothing of what was asked, reading back claims nothing.
    said_something = any(said["shown"] for said in shown.values())
    assert said_something or connector.kind == "scim"
    assert found["read_back"]["state"] == ("done" if said_something else "skipped"), found["read_back"]
    assert response(house, response_id)["status"] == "done"
    return response_id


@pytest.mark.claim("story-password-reset")
@pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "embedded"])
def test_a_provider_does_what_it_can_and_is_read_back_and_takes_the_risk_back(
    house: House, tmp_path: Path, kind: str
) -> None:
    (tmp_path / kind).mkdir()
    with CASES[kind](tmp_path / kind) as case:
        link(house, case.griffin)
        confirmed(house, case.connector, case.griffin)
        ask(house, "/api/users/griffin/dismiss-risk", reason="a test")
        outbox(house, Ports(OneIssuer(case.connector, case.griffin.issuer))).run()
        found = house.client(Role.SOC_ANALYST).get("/api/responses?subject=griffin&kind=user_release").json()["items"]
        assert found[0]["status"] == "done", found[0]
        case.connector.close()


def test_our_own_directory_is_a_provider_like_any_other(house: House) -> None:
    connector, griffin = EmbeddedConnector(ISSUER, house.stores.control), Account(ISSUER, "griffin")
    confirmed(house, connector, griffin)
    found = house.projected(Kind.USER, "griffin")
    assert found and (found["risk"], found["must_reset_password"]) == ("high", True)
    assert found["epoch"] == 2, "the response had ended every session, and none could begin since"
    assert connector.revoke_sessions(griffin) == connector.revoke_sessions(griffin)
    assert house.projected(Kind.USER, "griffin") == found
    # Who may have come back meanwhile is sent out again.
    ask(house, "/api/users/griffin/dismiss-risk", reason="a test")
    connector.revoke_sessions(griffin)
    again = house.projected(Kind.USER, "griffin")
    assert again and again["epoch"] == 3
