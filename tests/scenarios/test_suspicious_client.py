"""A scanner at the gateway's door is an alert, with a token and without one; an agent's own library is none."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from scenarios.company import headers, rpc, running, wait_until

pytestmark = pytest.mark.slow


def test_a_scanner_at_the_door_is_in_an_alert_and_an_ordinary_client_in_none(tmp_path: Any) -> None:
    with running(tmp_path, workers=1) as company:

        def call(user: str, client: str) -> httpx.Response:
            asked = headers(company.token(user), "lookup") | {"user-agent": client}
            return httpx.post(
                f"{company.gateway}/mcp/mail", json=rpc("lookup", {"key": "a"}), headers=asked, timeout=20
            )

        assert "record of a" in call("mona", "python-httpx/0.28.1").text
        assert "record of a" in call("griffin", "sqlmap/1.8#stable (https://sqlmap.org)").text
        strange = {"user-agent": "Nuclei - Open-source project (github.com/projectdiscovery/nuclei)"}
        assert httpx.post(f"{company.gateway}/mcp/mail", json={}, headers=strange, timeout=20).status_code == 401

        def found() -> list[dict[str, Any]]:
            items = company.api("GET", "/api/alerts", params={"limit": 200})["items"]
            return [alert for alert in items if alert["rule_id"] == "access-from-suspicious-client"]

        wait_until(lambda: len(found()) >= 2, 30, "an alert with a user and one without")
        users = sorted(e["id"] for alert in found() for e in alert["entities"] if e["kind"] == "user")
        assert users == ["griffin"] and {alert["severity"] for alert in found()} == {"medium"}
