"""Whatever is sent, the answer is never a server error, and never slower to understand than a problem with a code."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.house import House
from watchfloor.model.people import Role

TEXT = st.text(max_size=60) | st.sampled_from(
    ["", "0", "-1", "null", "'; DROP TABLE alert;--", '" or 1==1 | take 5', "\\", "\x00", "..", "%2e%2e", "\ud7ff",
     "9" * 30, "\U0001d518", "inc_" + "0" * 26, "2026-11-03", "NaN", "*/*", "datetime(now)"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
LISTS = [
    "/api/alerts",
    "/api/incidents",
    "/api/decisions",
    "/api/holds",
    "/api/audit",
    "/api/agents",
    "/incidents",
    "/",
]
PARAMETERS = ["agent", "user", "severity", "status", "before", "after", "limit", "since", "verdict", "actor", "action",
              "subject", "state", "reason"]  # fmt: skip
ONES = ["/api/alerts/{}", "/api/incidents/{}", "/api/decisions/{}", "/api/agents/{}", "/api/users/{}", "/api/holds/{}",
        "/api/policies/{}", "/api/servers/{}", "/agents/{}", "/incidents/{}", "/act/{}", "/static/{}"]  # fmt: skip
BODIES = [
    ("POST", "/api/policies/check"), ("PUT", "/api/policies/fuzz"), ("POST", "/api/manifests/plan"),
    ("POST", "/api/session"), ("POST", "/api/setup"), ("PATCH", "/api/incidents/x"), ("POST", "/api/agents/x/block"),
    ("POST", "/api/decisions/contents"), ("POST", "/api/users/x/revoke-sessions"), ("POST", "/api/holds/x/approve"),
    ("POST", "/api/servers/x/tools/y/approve"),
]  # fmt: skip
SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _fine(answer: Any) -> None:
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    if answer.status_code >= 400 and answer.headers["content-type"].startswith("application"):
        assert answer.json()["code"]


@SETTINGS
@given(path=st.sampled_from(LISTS), params=st.dictionaries(st.sampled_from(PARAMETERS), TEXT, max_size=4))
def test_lists_take_any_parameter(attacked: House, path: str, params: dict[str, str]) -> None:
    _fine(attacked.client(Role.OWNER).get(path, params=params))


@SETTINGS
@given(path=st.sampled_from(ONES), name=TEXT)
def test_any_id_can_be_asked_for(attacked: House, path: str, name: str) -> None:
    _fine(attacked.client(Role.OWNER).get(path.format(_quoted(name))))


@SETTINGS
@given(route=st.sampled_from(BODIES), body=JSON)
def test_any_json_can_be_sent(attacked: House, route: tuple[str, str], body: Any) -> None:
    _fine(attacked.client(Role.OWNER).request(*route, json=body))


@SETTINGS
@given(
    route=st.sampled_from(BODIES),
    body=st.binary(max_size=200),
    kind=st.sampled_from(["application/json", "text/x", ""]),
)
def test_any_bytes_can_be_sent(attacked: House, route: tuple[str, str], body: bytes, kind: str) -> None:
    _fine(attacked.client(Role.OWNER).request(*route, content=body, headers={"content-type": kind}))


@SETTINGS
@given(
    text=st.text(max_size=300) | st.sampled_from(["a: &a [*a]", "!!python/object:os.system {}", "- " * 100, "{" * 50])
)
def test_any_text_can_be_planned_as_a_manifest(attacked: House, text: str) -> None:
    _fine(attacked.client(Role.OWNER).post("/api/manifests/plan", json={"manifest": text}))


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 50_000, b'"' + b"\\ud800" + b'"', b"1e999", b"NaN"])
def test_json_that_is_meant_to_hurt_does_not(attacked: House, body: bytes) -> None:
    client = attacked.client(Role.OWNER)
    headers = {"content-type": "application/json"}
    for path in ("/api/policies/check", "/api/manifests/plan", "/api/session"):
        _fine(client.post(path, content=body, headers=headers))
