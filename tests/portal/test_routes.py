"""The table of routes: what each needs, and that every role is held to it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from portal.house import House
from watchfloor.model.people import PERMISSIONS, Permission, Role
from watchfloor.portal.app import route_table

GOLDEN = Path(__file__).parent.parent / "golden"
DOORS = ("/api", "/v1", "/v2", "/beta")


def _golden(name: str, found: str) -> None:
    """Compare with the golden file; ``GOLDEN=write`` writes it instead, and the difference is for review."""
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(found, "utf-8")
    assert found == path.read_text("utf-8"), f"{name} differs; if it should, run with GOLDEN=write"


def _routes(house: House) -> list[tuple[str, str, str]]:
    return [tuple(line.split(" ", 2)) for line in route_table(house.app)]


def _address(path: str) -> str:
    """The route's path with ids of things that do not exist."""
    return re.sub(r"\{[^}]*\}", "none", path)


def _send(client: TestClient, method: str, path: str) -> int:
    body = {} if method in ("POST", "PUT", "PATCH") else None
    return client.request(method, _address(path), json=body, follow_redirects=False).status_code


def test_every_route_declares_exactly_one_permission_and_the_table_is_as_reviewed(attacked: House) -> None:
    lines = route_table(attacked.app)
    assert [line for line in lines if line.endswith(("NONE", "+"))] == []
    known = {p.value for p in Permission} | {"public", "signed_in"}
    assert {line.rsplit(" ", 1)[1] for line in lines} <= known
    _golden("routes.txt", "\n".join(lines) + "\n")


def test_the_description_of_the_api_is_as_reviewed(attacked: House) -> None:
    answer = attacked.client(Role.OWNER).get("/api/openapi.json")
    assert answer.status_code == 200
    _golden("openapi.json", json.dumps(answer.json(), indent=1, sort_keys=True) + "\n")


def test_nobody_who_is_not_signed_in_gets_past_a_route_that_is_not_public(attacked: House) -> None:
    stranger = attacked.stranger()
    let_in = []
    for method, path, needs in _routes(attacked):
        if needs == "public":
            continue
        status = _send(stranger, method, path)
        # A page sends its visitor to sign in.
        if status != (401 if path.startswith(DOORS) else 303):
            let_in.append((method, path, status))
    assert let_in == []


@pytest.mark.parametrize("role", list(Role))
def test_each_role_gets_exactly_what_it_has_the_permission_for(attacked: House, role: Role) -> None:
    client = attacked.client(role)
    wrong = []
    for method, path, needs in _routes(attacked):
        if needs == "public" or path in ("/api/session", "/signout"):  # these end the very token that is used here
            continue
        allowed = needs == "signed_in" or Permission(needs) in PERMISSIONS[role]
        status = _send(client, method, path)
        if (status == 403) is allowed or status == 401 or status >= 500:
            wrong.append((method, path, needs, status))
    assert wrong == []


def test_a_token_that_is_none_is_refused_whatever_it_looks_like(attacked: House) -> None:
    stranger = attacked.stranger()
    for value in ("Bearer ", "Bearer x", "Bearer " + "x" * 5000, "Basic YTpi", "bearer\twft_", "Bearer wft_\u00e9"):
        answer = stranger.get("/api/me", headers={"authorization": value.encode()})
        assert answer.status_code == 401, value[:40]
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_disabling_an_operator_ends_their_tokens_at_once(house: House) -> None:
    from watchfloor.identity import operators

    client = house.client(Role.SOC_ANALYST, "sam")
    assert client.get("/api/me").status_code == 200
    with house.stores.control.tx("test") as tx:
        operators.set_enabled(tx, "sam", False)
    assert client.get("/api/me").status_code == 401
