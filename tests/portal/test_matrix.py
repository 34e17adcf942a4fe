"""Every role at every route, with what is its own and what is somebody else's: let in exactly where it may be.

Generated from the table of routes. What depends on whose a thing is, beyond the permission, stands in two tables here;
a route that is in neither must not care.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from fastapi.testclient import TestClient

from portal.house import House, open_house
from watchfloor.identity import operators
from watchfloor.model.people import PERMISSIONS, Permission, Role
from watchfloor.portal.app import route_table
from watchfloor.response.catalog import Order
from watchfloor.response.holds import AskLimits, create_holds
from watchfloor.response.runner import Operator, perform
from watchfloor.storage import holds
from watchfloor.storage.actions import list_audit

DOORS: Final = ("/api", "/v1", "/v2", "/beta")
OWN, OTHER = "own", "other"

NOT_ONES_OWN: Final = {
    ("POST", "/api/agents/{agent_id}/release"),
    ("POST", "/api/agents/{agent_id}/unblock"),
    ("POST", "/api/holds/{hold_id}/approve"),
    ("POST", "/api/holds/{hold_id}/decline"),
    ("POST", "/api/holds/{hold_id}/revoke"),
    ("POST", "/api/requests/{agent_id}/{number}/approve"),
    ("POST", "/api/responses/{response_id}/approve"),
    ("POST", "/api/risk/agent/{agent_id}/dismiss"),
    ("POST", "/api/risk/user/{user_id}/dismiss"),
    ("POST", "/api/users/{user_id}/confirm-compromised"),
    ("POST", "/api/users/{user_id}/dismiss-risk"),
    ("POST", "/api/users/{user_id}/remediate-risk"),
    ("POST", "/beta/copilot/admin/catalog/packages/{package_id}/unblock"),
}
"""What nobody does to what is their own: somebody else has to."""

ONLY_ONES_OWN: Final[dict[tuple[str, str], Permission | None]] = {
    ("DELETE", "/api/account/sessions/{session_id}"): None,
    ("POST", "/account/sessions/{session_id}"): None,
    ("DELETE", "/api/hunting/runs/{run_id}"): None,
    ("GET", "/api/agents/{agent_id}/least-privilege"): Permission.AGENT_READ,
    ("GET", "/api/agents/{agent_id}/versions"): Permission.AGENT_READ,
    ("GET", "/api/agents/{agent_id}/versions/{number}"): Permission.AGENT_READ,
    ("GET", "/api/agents/{agent_id}/versions/{number}/diff"): Permission.AGENT_READ,
    ("GET", "/api/hunting/runs/{run_id}"): None,
    ("GET", "/api/hunting/runs/{run_id}/rows"): None,
    ("DELETE", "/api/hunting/queries/{query_id}"): None,
    ("GET", "/api/hunting/queries/{query_id}"): None,
    ("POST", "/api/hunting/queries/{query_id}/share"): None,
    ("POST", "/api/hunting/queries/{query_id}/unshare"): None,
    ("PUT", "/api/hunting/queries/{query_id}"): None,
    ("PUT", "/api/hunting/queries/{query_id}/favourite"): None,
    ("GET", "/api/holds/{hold_id}"): Permission.DECISION_READ,
    ("GET", "/api/requests/{agent_id}/{number}"): Permission.AGENT_READ,
    ("POST", "/api/requests/{agent_id}/{number}/withdraw"): Permission.REGISTRY_WRITE,
    ("POST", "/api/holds/delegations/{delegation_id}/end"): Permission.OPERATOR_WRITE,
    ("POST", "/api/notices/{notice_id}/acknowledge"): None,
}
"""What is somebody else's is not there, but for those who have this permission besides."""

TAKES_MORE: Final = {
    ("POST", "/api/responses/{response_id}/approve"): Permission.USER_CONFIRM_COMPROMISED,
    ("POST", "/api/responses/{response_id}/decline"): Permission.USER_CONFIRM_COMPROMISED,
    ("POST", "/api/responses/{response_id}/steps/{name}/retry"): Permission.USER_CONFIRM_COMPROMISED,
}
"""Whoever decides about a response has to be able to begin one of its kind: those here are about users."""

ASKS_GATEWAYS: Final = {("POST", "/agents/{agent_id}/proof"), ("POST", "/api/agents/{agent_id}/proof")}
"""There are none here, which is no fault of the server: 503."""

LEAVES_A_RECORD: Final = {
    "/api/audit",
    "/api/decisions/{invocation_id}/content",
    "/api/exports/{table}",
    "/api/holds/{hold_id}/content",
    "/api/incidents/{incident_id}/case-file",
    "/api/pipeline/rejects/{reject_id}/content",
    "/api/traces/{trace_id:path}",
    "/holds",
}
"""Looking at these is written down, and nothing else happens."""

ENDS_ITSELF: Final = {("DELETE", "/api/session"), ("POST", "/signout")}
"""These end the very token that asks."""


@dataclass
class Peopled:
    """A house in which each role has things of its own, beside those of others."""

    house: House
    things: dict[tuple[str, Role, str], str] = field(default_factory=dict)
    """Ids by the parameter of a route, whose role and whose."""

    def address(self, path: str, role: Role, whose: str) -> str:
        """The address of a route for what is ``role``'s own, or not; what has no owner does not exist."""
        named = path.replace("{operator_id}", "{user_id}")
        named = named.replace("{package_id}", "P_{agent_id}")
        named = named.replace("{number}", "2" if path.startswith("/api/requests") else "1")
        return re.sub(r"\{(\w+)(:path)?\}", lambda m: self.things.get((m[1], role, whose), "none"), named)


def _name(role: Role) -> str:
    return f"op-{role}".replace("_", "-")


@pytest.fixture(scope="module")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peopled]:
    with open_house(tmp_path_factory.mktemp("peopled")) as house:
        house.attack()
        made = Peopled(house)
        _populate(made)
        yield made


def _populate(made: Peopled) -> None:
    """For each role an agent, an account, a held call, a response, a session, a run, a query and a delegation."""
    house = made.house
    users = [{"id": _name(r), "name": _name(r), "upn": f"{_name(r)}@zava.example"} for r in Role]
    users += [{"id": f"{w}-victim-{_name(r)}", "criticality": 0} for r in Role for w in (OWN, OTHER)]
    tools = [{"server": "bank", "tool": "pay", "credential": "app", "scope": "write"}]
    agents = [
        {"id": f"{whose}-{_name(role)}", "name": "x", "version": "1", "tools": tools, "sharedWith": ["*"],
         "maker": _name(role) if whose == OWN else "ada", "owner": "mona"}
        for role in Role for whose in (OWN, OTHER)
    ]  # fmt: skip
    company = {"apiVersion": "watchfloor/v1", "kind": "Company", "users": users, "agents": agents}
    # By somebody who is in no other part of the play: whoever last changed an agent counts as one who built it.
    applied = house.client(Role.OWNER, "mason").post("/api/manifests/apply", json={"manifest": json.dumps(company)})
    assert applied.status_code == 200, applied.text
    for agent in agents:
        mended = {n: v for n, v in agent.items() if n not in ("maker", "owner")} | {"version": "2"}
        body = {"manifest": json.dumps({**company, "users": [], "agents": [mended]})}
        submitted = house.client(Role.OWNER, "mason").post("/api/requests", json=body)
        assert submitted.status_code == 201, submitted.text
    for n, agent in enumerate(agents):
        house.call("bank", "pay", {"amount": 20_000 + n, "payee": "x"}, agent=str(agent["id"]))
    create_holds(house.stores.control, house.deps.activity, AskLimits(per_agent=100, per_approver=100))
    with house.stores.control.read() as tx:
        held = {hold.agent_id: hold.id for hold in holds.list_holds(tx, limit=200)}
    for role in Role:
        somebody_else = Role.SECURITY_ADMIN if role is Role.OWNER else Role.OWNER
        for whose, by in ((OWN, role), (OTHER, somebody_else)):
            made.things |= {
                ("agent_id", role, whose): f"{whose}-{_name(role)}",
                ("user_id", role, whose): _name(role) if whose == OWN else "griffin",
                ("hold_id", role, whose): held[f"{whose}-{_name(role)}"],
                ("response_id", role, whose): _response(house, _name(by), f"{whose}-victim-{_name(role)}"),
                ("session_id", role, whose): _session(house, by),
            }
            if Permission.HUNT_RUN in PERMISSIONS[by]:
                run = house.client(by).post("/api/hunting/run", json={"query": "print 1", "wait": False})
                assert run.status_code == 200, run.text
                made.things["run_id", role, whose] = run.json()["id"]
                body = {"name": f"of {_name(by)} for {_name(role)}", "query": "print 1"}
                kept = house.client(by).post("/api/hunting/queries", json=body)
                assert kept.status_code == 201, kept.text
                made.things["query_id", role, whose] = kept.json()["id"]
            if Permission.HOLD_DECIDE in PERMISSIONS[by]:
                body = {"to_operator": "mason", "ends_at": "2026-12-01T00:00:00Z"}
                lent = house.client(by).post("/api/holds/delegations", json=body)
                assert lent.status_code == 200, lent.text
                made.things["delegation_id", role, whose] = lent.json()["id"]


def _response(house: House, by: str, user: str) -> str:
    """A response that waits for a second operator; ``by`` asked for it, who need not have been allowed to."""
    asked = Operator(by, frozenset(Permission))
    order = Order(user, "matrix", "")
    done = perform(house.deps.control, house.deps.epoch, house.deps.now, asked, "confirm_user_compromised", order)
    return str(done.proof["response"])


def _session(house: House, role: Role) -> str:
    """A second session of the operator with this role."""
    with house.stores.control.tx("test") as tx:
        operators.issue_api_token(tx, _name(role), "spare")
    listed = house.client(role).get("/api/account").json()["sessions"]
    return str(next(s["id"] for s in reversed(listed) if not s["is_this"]))


def _send(client: TestClient, method: str, path: str, address: str) -> int:
    body: dict[str, Any] = {"headers": {"if-match": '"1"'}}
    if method in ("POST", "PUT", "PATCH"):
        content = {"reason": "matrix"} if re.search(r"\{(agent|user|hold|response)_id\}", path) else {}
        content = {"name": "matrix", "query": "print 2"} if path.endswith("/queries/{query_id}") else content
        body |= {"json": content} if path.startswith(DOORS) else {"data": content or {"a": "b"}}
    return client.request(method, address, follow_redirects=False, **body).status_code


def _routes(house: House) -> list[tuple[str, str, str]]:
    """Routes that want somebody to be signed in; those that read come first, while things are as they were."""
    routes = [line.split(" ", 2) for line in route_table(house.app)]
    found = [(m, p, needs) for m, p, needs in routes if needs != "public" and (m, p) not in ENDS_ITSELF]
    return sorted(found, key=lambda route: route[0] != "GET")


def _expected(role: Role, method: str, path: str, needs: str, whose: str) -> Callable[[int], bool]:
    """What the answer's status must be."""
    if needs != "signed_in" and Permission(needs) not in PERMISSIONS[role]:
        return lambda status: status == 403
    if (method, path) in TAKES_MORE and TAKES_MORE[method, path] not in PERMISSIONS[role]:
        return lambda status: status == 403
    if whose == OWN and (method, path) in NOT_ONES_OWN:
        return lambda status: status == 403
    if whose == OTHER and (method, path) in ONLY_ONES_OWN:
        besides = ONLY_ONES_OWN[method, path]
        if besides is None or besides not in PERMISSIONS[role]:
            return lambda status: status in (403, 404)
    if method == "GET" and re.search(r"\{(agent|user|hold|response|run)_id\}", path) and path[:2] not in ("/v", "/b"):
        return lambda status: status == 200
    if (method, path) in NOT_ONES_OWN or (method, path) in ONLY_ONES_OWN:
        conflict = 400 if path.startswith("/beta") else 409  # as Graph says it
        return lambda status: status in (200, 204, 303, 404, conflict)  # it got as far as the thing itself
    if (method, path) in ASKS_GATEWAYS:
        return lambda status: status == 503
    return lambda status: status < 500 and status not in (401, 403)


@pytest.mark.asvs("8.2.1", "8.2.2", "8.3.1")
@pytest.mark.claim("matrix")
@pytest.mark.parametrize("role", list(Role))
def test_each_role_gets_exactly_what_it_may_of_its_own_and_of_what_is_others(peopled: Peopled, role: Role) -> None:
    client, wrong = peopled.house.client(role), []
    for method, path, needs in _routes(peopled.house):
        for whose in (OWN, OTHER):
            address = peopled.address(path, role, whose)
            if address == peopled.address(path, role, OWN) and whose == OTHER:
                continue  # nothing in it belongs to anybody
            if whose == OWN and path == "/api/operators/{operator_id}/end-sessions":
                continue  # the token that asks would end with them
            status = _send(client, method, path, address)
            if not _expected(role, method, path, needs, whose)(status):
                wrong.append((method, path, needs, whose, status))
    assert wrong == []


@pytest.mark.asvs("3.5.3")
def test_reading_changes_nothing_but_that_it_is_on_record(peopled: Peopled) -> None:
    house, client, changed = peopled.house, peopled.house.client(Role.OWNER), []
    for method, path, _ in _routes(house):
        if method != "GET":
            continue
        before = _state(house)
        client.get(peopled.address(path, Role.OWNER, OTHER), follow_redirects=False)
        after = _state(house)
        if after != before and not (after[0] == before[0] and path in LEAVES_A_RECORD):
            changed.append((path, before, after))
    assert changed == []


def _state(house: House) -> tuple[int, list[str]]:
    """What workers know, by its revision, and the newest entry of the audit log."""
    with house.stores.control.read() as tx:
        newest = list_audit(tx, limit=1)
    return house.stores.epoch.revision(), [entry.hash for entry in newest]


def test_what_the_matrix_says_of_routes_is_said_of_routes_that_exist(peopled: Peopled) -> None:
    there = {(method, path) for method, path, _ in _routes(peopled.house)}
    assert (NOT_ONES_OWN | set(ONLY_ONES_OWN) | set(TAKES_MORE) | ASKS_GATEWAYS) - there == set()
    assert {path for path in LEAVES_A_RECORD if ("GET", path) not in there} == set()
