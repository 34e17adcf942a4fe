"""msticpy's own alert queries, unmodified, over Graph: what a notebook of an analyst asks first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portal.conftest import served
from portal.house import House
from portal.test_real_clients import CLIENTS, _recipes, _run, home  # noqa: F401  a fixture
from watchfloor.model.people import Role
from watchfloor.storage.events import drain

NOTEBOOK = """
import json
when = {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
mine = hunting.M365D
found = {
    "alerts": mine.list_alerts(**when)[["AlertId", "Title", "Severity", "Category"]],
    "evidence": mine.list_alerts_with_evidence(**when)[["AlertId", "EntityType", "IncidentId"]],
    "address": mine.ip_alerts(ip_address="203.0.113.7", **when)[["AlertId", "RemoteIP"]],
    "nowhere": mine.ip_alerts(ip_address="192.0.2.1", **when),
}
print(json.dumps({name: json.loads(frame.to_json(orient="records")) for name, frame in found.items()}))
"""


@pytest.mark.claim("graph-client-unmodified")
def test_msticpys_alert_queries_find_our_alerts_with_their_evidence(house: House, home: Path) -> None:  # noqa: F811  the fixture's value
    house.attack()
    house.work("publish_alerts")
    drain(house.log, house.stores.events)
    client = house.client(Role.SOC_ANALYST)
    alerts = {alert["id"]: alert for alert in client.get("/api/alerts").json()["items"]}
    assert len(alerts) == 4
    with served(house) as address:
        _, recipe = _recipes("msticpy", "python", address)
        script = "\n".join(("import os", "token = os.environ['TOKEN']", recipe, NOTEBOOK))
        done = _run(home, house.token(Role.SOC_ANALYST), "python", "-c", script)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
    assert {row["AlertId"]: (row["Title"], row["Severity"].lower()) for row in found["alerts"]} == {
        alert_id: (alert["title"], alert["severity"]) for alert_id, alert in alerts.items()
    }
    by_alert: dict[str, set[str]] = {}
    for row in found["evidence"]:
        by_alert.setdefault(row["AlertId"], set()).add(row["EntityType"])
        assert row["IncidentId"] == alerts[row["AlertId"]]["incident_id"]
    assert by_alert.keys() == alerts.keys()
    assert all({"User", "AIAgent", "Ip", "Event"} <= kinds for kinds in by_alert.values())
    assert {row["AlertId"] for row in found["address"]} == alerts.keys()
    assert found["nowhere"] == []
