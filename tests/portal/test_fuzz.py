"""Whatever is sent, the answer is never a server error, and never slower to understand than a problem with a code."""

from __future__ import annotations

import json
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
        "/api/policies/{}", "/api/servers/{}", "/agents/{}", "/incidents/{}", "/act/{}", "/static/{}",
        "/api/hunting/runs/{}", "/api/hunting/runs/{}/rows", "/api/hunting/lists/{}"]  # fmt: skip
BODIES = [
    ("POST", "/api/policies/check"), ("PUT", "/api/policies/fuzz"), ("POST", "/api/manifests/plan"),
    ("POST", "/api/session"), ("POST", "/api/setup"), ("PATCH", "/api/incidents/x"), ("POST", "/api/agents/x/block"),
    ("POST", "/api/decisions/contents"), ("POST", "/api/users/x/revoke-sessions"), ("POST", "/api/holds/x/approve"),
    ("POST", "/api/servers/x/tools/y/approve"), ("POST", "/api/hunting/run"), ("POST", "/api/hunting/check"),
    ("PUT", "/api/hunting/lists/fuzz"), ("POST", "/v1/rest/query"), ("POST", "/v1/rest/mgmt"),
    ("POST", "/v2/rest/query"),
    ("POST", "/v1.0/security/runHuntingQuery"), ("POST", "/beta/security/runHuntingQuery"),
]  # fmt: skip
SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _fine(answer: Any) -> None:
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    if answer.status_code >= 400 and answer.headers["content-type"].startswith("application"):
        body = answer.json()
        assert body["code"] if "code" in body else body["error"]["code"]


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


HUNTS = [
    "AgentActivity | take 1", "print x=1", "print h'secret'", ".show tables", ".show database ['x'] schema as json",
    "// a comment\n.show version", "let a = 1;", "union *", "_GetWatchlist('x')", "range x from 1 to 10 step 1",
]  # fmt: skip
PIECES = [*HUNTS, "|", ";", "(", "`", "'", "datetime("]
WORDS = st.one_of(TEXT, st.sampled_from(HUNTS), st.lists(st.sampled_from(PIECES)).map(" ".join))
SPANS = st.none() | TEXT | st.sampled_from(["P1D", "P30D/2026-11-03", "PT1H", "P9999999D", "2026-11-03/P1D", "P1D/P1D"])
OPTIONS = st.none() | JSON | st.fixed_dictionaries(
    {},
    optional={
        "Options": st.dictionaries(st.sampled_from(["servertimeout", "truncationmaxrecords"]), JSON),
        "Parameters": JSON,
    },
)  # fmt: skip


@SETTINGS
@given(
    query=WORDS,
    span=SPANS,
    properties=OPTIONS,
    route=st.sampled_from(["/v1/rest/query", "/v2/rest/query", "/v1/rest/mgmt"]),
    nested=st.booleans(),
)
def test_any_query_can_be_sent_to_every_door(
    attacked: House, query: str, span: str | None, properties: Any, route: str, nested: bool
) -> None:
    client = attacked.client(Role.OWNER)
    options = json.dumps(properties) if nested else properties
    for path, body in (
        (route, {"csl": query, "db": span or "", "properties": options}),
        (route, {"csl": query, "properties": options}),
        ("/v1.0/security/runHuntingQuery", {"Query": query, "Timespan": span}),
        ("/api/hunting/run", {"query": query, "timespan": span, "max_rows": 10}),
        ("/api/hunting/check", {"query": query}),
    ):
        _fine(client.post(path, content=json.dumps(body), headers={"content-type": "application/json"}))


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
    for path in ("/api/policies/check", "/api/manifests/plan", "/api/session", "/api/hunting/run", "/v2/rest/query"):
        _fine(client.post(path, content=body, headers=headers))
