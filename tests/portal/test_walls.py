"""What holds for every route: hardened headers, bounded bodies, errors that help, health."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portal.house import House
from watchfloor.model.people import Role


@pytest.mark.asvs("3.4.3", "3.4.4", "3.4.5", "3.4.6", "7.4.1")
def test_every_answer_is_hardened_and_kept_by_nobody(attacked: House) -> None:
    client = attacked.client(Role.OWNER)
    for path in ("/api/agents", "/", "/api/none", "/signin", "/healthz", "/api/alerts/none"):
        answer = client.get(path, follow_redirects=False)
        policy = answer.headers["content-security-policy"]
        for directive in ("default-src", "base-uri", "frame-ancestors"):
            assert f"{directive} 'none'" in policy, path
        assert "unsafe" not in policy and "*" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.asvs("3.4.2")
def test_no_answer_opens_the_api_to_other_origins(attacked: House) -> None:
    answer = attacked.client(Role.OWNER).get("/api/agents", headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_body_past_the_limit_is_refused_with_or_without_its_length(attacked: House) -> None:
    client = attacked.client(Role.OWNER)
    most = attacked.deps.max_body_bytes

    def chunks() -> Iterator[bytes]:
        for _ in range(most // 65_536 + 2):
            yield b"x" * 65_536

    declared = client.post("/api/policies/check", content=b"x" * (most + 1))
    streamed = client.post("/api/policies/check", content=chunks())
    for answer in (declared, streamed):
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/nothing", 404, "not_found"),
        ("DELETE", "/api/agents", 405, "method_not_allowed"),
        ("GET", "/api/agents/none", 404, "not_found"),
        ("GET", "/api/alerts?limit=0", 422, "invalid_input"),
        ("GET", "/api/decisions?verdict=maybe", 422, "invalid_input"),
        ("POST", "/api/agents/billing/unblock", 422, "invalid_input"),
    ],
)
def test_errors_are_problem_details(attacked: House, method: str, path: str, status: int, code: str) -> None:
    answer = attacked.client(Role.OWNER).request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:watchfloor:problem:{code}")
    assert body["title"] and body["detail"] and body["instance"] == path.partition("?")[0]


@pytest.mark.asvs("16.2.5")
def test_what_was_sent_is_never_repeated_in_an_error(attacked: House) -> None:
    answer = attacked.stranger().post("/api/session", json={"name": "x", "password": ["hunter2-hunter2"]})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


@pytest.mark.asvs("16.5.1", "16.5.4")
def test_an_error_nobody_foresaw_says_where_to_look_and_nothing_else(house: House) -> None:
    with house.stores.control.tx(audited=False) as tx:
        tx.connection.exec_driver_sql("UPDATE agent SET state = 'no such state' WHERE id = 'billing'")
    answer = house.client(Role.OWNER).get("/api/agents")
    assert answer.status_code == 500
    body = answer.json()
    assert body["error_id"].startswith("err_")
    assert "no such state" not in answer.text
    assert answer.headers["content-security-policy"]


def test_health_and_readiness_are_public_and_say_what_fails(house: House) -> None:
    stranger = house.stranger()
    assert stranger.get("/healthz").json()["status"] == "ok"
    house.work("record_policy_sets")
    ready = stranger.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert "job run_detection" in {c["name"] for c in ready.json()["checks"]}
    house.stores.events.close()
    broken = stranger.get("/readyz")
    assert (broken.status_code, broken.json()["ready"]) == (503, False)
    assert {c["name"] for c in broken.json()["checks"] if not c["ok"]} == {"events"}
    assert {c["detail"] for c in broken.json()["checks"]} == {""}
    details = house.client(Role.AUDITOR).get("/api/health").json()
    assert [c["detail"] for c in details["checks"] if c["name"] == "events"] != [""]


def test_metrics_count_by_route_and_name_nobody(attacked: House) -> None:
    client = attacked.client(Role.OWNER)
    client.get("/api/agents/billing")
    client.get("/api/agents/hr")
    client.get("/no/such/page")
    text = attacked.stranger().get("/metrics").text
    line = 'watchfloor_http_requests_total{method="GET",route="/api/agents/{agent_id}",status="200"}'
    assert int(text.split(line)[1].split()[0]) >= 2
    assert 'route="other",status="404"' in text
    assert 'watchfloor_up{part="control"} 1' in text
    for name in ("billing", "griffin", "/no/such/page"):
        assert name not in text
