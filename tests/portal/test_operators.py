"""Operators through the API: owners manage them, nobody makes themselves one."""

from __future__ import annotations

import pytest

from portal.house import PASSWORD, House
from watchfloor.model.people import Role

NEW = {"id": "nina", "name": "Nina", "roles": ["soc_operator"], "password": PASSWORD}


def test_a_new_operator_can_sign_in_with_exactly_the_roles_given(house: House) -> None:
    owner = house.client(Role.OWNER)
    made = owner.post("/api/operators", json=NEW)
    assert made.status_code == 201, made.text
    assert PASSWORD not in made.text
    browser = house.stranger()
    assert browser.post("/api/session", json={"name": "nina", "password": PASSWORD}).json()["roles"] == ["soc_operator"]
    assert owner.post("/api/operators", json=NEW).status_code == 409


@pytest.mark.parametrize("role", [r for r in Role if r is not Role.OWNER])
def test_nobody_but_an_owner_makes_or_changes_operators(house: House, role: Role) -> None:
    client = house.client(role)
    me = client.get("/api/me").json()["id"]
    assert client.post("/api/operators", json={**NEW, "roles": ["owner"]}).status_code == 403
    assert client.patch(f"/api/operators/{me}", json={"roles": ["owner"]}).status_code == 403
    assert client.get("/api/me").json()["roles"] == [role.value]


@pytest.mark.asvs("15.3.3")
def test_a_name_that_is_none_or_a_member_nobody_asked_for_is_refused(house: House) -> None:
    owner = house.client(Role.OWNER)
    assert owner.post("/api/operators", json={**NEW, "id": "../x"}).status_code == 422
    assert owner.post("/api/operators", json={**NEW, "permissions": ["audit.read"]}).status_code == 422
    assert owner.post("/api/operators", json={**NEW, "password": "short"}).status_code == 422
