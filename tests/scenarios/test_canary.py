"""A canary is touched through the real gateway, and an alert says who did; ordinary work beside it raises none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from scenarios.company import Company, headers, rpc, running, wait_until

pytestmark = pytest.mark.slow

PAGE = "record of salaries-2019"
"""What the tool server says of a record that nobody has a reason to look up."""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with running(tmp_path_factory.mktemp("canary"), workers=1) as up:
        canaries = [{"id": "salaries", "value": {"value": PAGE}}, {"id": "bait", "tool": "mail/send_email"}]
        up.apply({**up.manifest(), "canaries": canaries})
        yield up


def call(company: Company, user: str, tool: str, arguments: dict[str, Any]) -> str:
    """What comes back for a call of the user's agent."""
    asked = headers(company.token(user), tool)
    return httpx.post(f"{company.gateway}/mcp/mail", json=rpc(tool, arguments), headers=asked, timeout=20).text


def alerts(company: Company) -> dict[tuple[str, str], dict[str, Any]]:
    """Alerts about canaries, by user and title."""
    found = company.api("GET", "/api/alerts", params={"limit": 200})["items"]
    return {
        (e["id"], alert["title"].split()[1]): alert
        for alert in found
        if alert["rule_id"] == "canary-touched"
        for e in alert["entities"]
        if e["kind"] == "user"
    }


@pytest.mark.claim("canary")
def test_whoever_touches_a_canary_is_in_a_high_alert_and_ordinary_work_is_in_none(company: Company) -> None:
    assert "record of c-1" in call(company, "mona", "lookup", {"key": "c-1"})
    assert PAGE in call(company, "griffin", "lookup", {"key": "salaries-2019"}), "a canary tells; it blocks nothing"
    wait_until(lambda: alerts(company), 20, "an alert about what came back")
    call(company, "griffin", "send_email", {"to": ["mona@testers.example"], "subject": "hello", "body": "see you"})
    wait_until(lambda: len(alerts(company)) >= 2, 20, "an alert about the tool")
    found = alerts(company)
    assert set(found) == {("griffin", "salaries"), ("griffin", "bait")}
    assert {alert["severity"] for alert in found.values()} == {"high"}
    assert "in what a tool gave back" in found["griffin", "salaries"]["description"]


@pytest.mark.claim("canary")
def test_neither_alerts_nor_records_say_the_value(company: Company) -> None:
    query = "AgentActivity | where Signals contains 'canary' | project Signals, Facts"
    body = company.api("POST", "/api/hunting/run", json={"query": query, "max_rows": 100})
    assert body["rows"] and PAGE not in str(body)
    assert PAGE not in str(alerts(company))
    assert PAGE not in str(company.api("GET", "/api/audit", params={"limit": 100}))
