"""What-if for policies: the calls of the past days decided again, before anybody publishes anything."""

from __future__ import annotations

import time
from typing import Any

import pytest

from portal.house import House
from watchfloor.model.people import Role

NO_LOOKUPS = {
    "id": "no-lookups",
    "title": "Nobody looks anything up",
    "description": "For a test.",
    "effect": "block",
    "severity": "medium",
    "tactic": "Collection",
    "techniques": ["T1213"],
    "when": 'tool.name == "lookup"',
    "message": "Not today.",
}


def _run(house: House, role: Role = Role.SECURITY_ADMIN, **body: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The run when it has ended, and its rows."""
    client = house.client(role)
    begun = client.post("/api/policies/backtest", json=body)
    assert begun.status_code == 202, begun.text
    address = f"/api/hunting/runs/{begun.json()['id']}"
    deadline = time.monotonic() + 30
    while (run := client.get(address).json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    result = client.get(f"{address}/rows").json()
    names = [column["name"] for column in result["columns"]]
    return run, [dict(zip(names, row, strict=True)) for row in result["rows"]]


@pytest.mark.claim("what-if")
def test_a_policy_is_tried_on_past_calls_and_nothing_changes(house: House) -> None:
    house.attack()
    run, rows = _run(house, policies=[NO_LOOKUPS])
    assert (run["state"], run["rows"]) == ("done", 4)
    assert {(r["ToolName"], r["Was"], r["Now"], r["PolicyId"]) for r in rows} == {
        ("lookup", "allow", "block", "no-lookups")
    }
    assert run["notes"][0] == "10 calls were decided again, 4 of them differently"
    assert "4 would have ended as block instead of allow" in run["notes"]
    assert house.client(Role.OWNER).get("/api/policies/no-lookups").status_code == 404
    listed = house.client(Role.SOC_ANALYST).get("/api/decisions").json()["items"]
    assert {d["Verdict"] for d in listed if d["ToolName"] == "lookup"} == {"allow"}


def test_with_the_policies_in_force_nothing_differs(house: House) -> None:
    house.attack()
    run, rows = _run(house)
    assert rows == []
    assert run["notes"] == ["10 calls were decided again, 0 of them differently"]


def test_a_policy_that_is_left_out_lets_calls_through(house: House) -> None:
    house.attack()
    blocking = {d["PolicyId"] for d in house.client(Role.SOC_ANALYST).get("/api/decisions").json()["items"]} - {""}
    run, rows = _run(house, without=sorted(policy for policy in blocking if policy))
    mails = [row for row in rows if row["ToolName"] == "send_email"]
    assert [(row["Was"], row["Now"]) for row in mails] == [("block", "allow")] * 6
    assert any(note.startswith("6 would have ended as allow instead of block") for note in run["notes"])


def test_a_policy_in_audit_mode_shows_what_it_would_do(house: House) -> None:
    house.call("mail", "lookup", {"key": "42"}, user="mona")
    house.work()
    house.clock.forward(minutes=1)
    run, rows = _run(house, policies=[{**NO_LOOKUPS, "mode": "audit"}])
    assert [(r["Was"], r["Now"], r["WouldHaveBeen"], r["WouldBe"]) for r in rows] == [
        ("allow", "allow", "allow", "block")
    ]
    assert run["notes"] == ["1 calls were decided again, 1 of them differently"]


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"policies": [{**NO_LOOKUPS, "when": "tool.nome == 'x'"}]}, 422, "policies"),
        ({"policies": [{}]}, 422, "policies"),
        ({"without": ["no-such-policy"]}, 404, "without"),
        ({"days": 0}, 422, "days"),
        ({"days": 91}, 422, "days"),
    ],
)
def test_what_cannot_be_tried_is_refused(house: House, body: dict[str, Any], status: int, where: str) -> None:
    answer = house.client(Role.SECURITY_ADMIN).post("/api/policies/backtest", json=body)
    assert answer.status_code == status, answer.text
    assert where in answer.text


def test_calls_whose_input_is_no_longer_kept_are_counted_and_left_out(house: House) -> None:
    house.attack()
    house.clock.forward(days=8)
    run, rows = _run(house, policies=[NO_LOOKUPS], days=7)
    assert rows == []
    assert run["notes"] == ["0 calls were decided again, 0 of them differently"]
    run, rows = _run(house, policies=[NO_LOOKUPS], days=9)
    assert len(rows) == 4
