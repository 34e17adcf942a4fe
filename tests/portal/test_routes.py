"""The table of routes: what each needs, and that every role is held to it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from portal.house import House
from watchfloor.model.people import Permission, Role
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


@pytest.mark.asvs("8.3.1")
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


@pytest.mark.asvs("8.2.1")
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


@pytest.mark.asvs("7.2.1")
def test_a_token_that_is_none_is_refused_whatever_it_looks_like(attacked: House) -> None:
    stranger = attacked.stranger()
    for value in ("Bearer ", "Bearer x", "Bearer " + "x" * 5000, "Basic YTpi", "bearer\twft_", "Bearer wft_\u00e9"):
        answer = stranger.get("/api/me", headers={"authorization": value.encode()})
        assert answer.status_code == 401, value[:40]
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.asvs("7.4.2")
def test_disabling_an_operator_ends_their_tokens_at_once(house: House) -> None:
    from watchfloor.identity import operators

    client = house.client(Role.SOC_ANALYST, "sam")
    assert client.get("/api/me").status_code == 200
    with house.stores.control.tx("test") as tx:
        operators.set_enabled(tx, "sam", False)
    assert client.get("/api/me").status_code == 401


@pytest.mark.asvs("15.3.3")
def test_a_member_that_nobody_asked_for_is_refused_on_every_route(attacked: House) -> None:
    client = attacked.client(Role.OWNER)
    # Foreign documents, whose other members are kept or told of: Graph's, and manifests, which are checked as a whole.
    lenient, taken = ("/v1", "/v2", "/beta", "/api/access", "/api/rules", "/api/playbooks", "/api/policies"), []
    asked = 0
    for path, operations in client.get("/api/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            if "requestBody" not in operation or not path.startswith("/api") or path.startswith(lenient):
                continue
            if "application/json" not in operation["requestBody"]["content"]:
                continue
            asked += 1
            for member in ("roles", "role", "owner_id", "is_enabled", "state", "id_"):
                answer = client.request(method, _address(path), json={member: ["owner"]})
                if answer.status_code != 422 or member not in answer.text:
                    taken.append((method, path, member, answer.status_code))
    assert asked > 30
    assert [each for each in taken if each[2] not in ("roles", "is_enabled")] == []
    # Two members of that name there are, where they belong.
    assert {path for _, path, _, _ in taken} <= {
        "/api/operators",
        "/api/operators/{operator_id}",
        "/api/sources/{source_id}",
    }


@pytest.mark.asvs("16.3.2", "16.4.1")
def test_whoever_tries_a_door_that_is_not_theirs_is_logged_with_it_in_one_line(
    attacked: House, caplog: pytest.LogCaptureFixture
) -> None:
    maker = attacked.client(Role.MAKER)
    with caplog.at_level("WARNING", logger="watchfloor.portal.auth"):
        assert maker.get("/api/holds").status_code == 200
        assert caplog.messages == []
        assert maker.get("/api/agents/a%0a2026-11-03 owner was let in").status_code == 403
    (line,) = caplog.messages
    assert line.startswith("op-maker was refused GET '/api/agents/a\\n2026") and line.endswith("agent.read")
    assert "\n" not in line
