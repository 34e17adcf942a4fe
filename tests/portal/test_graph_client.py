"""Microsoft's own Graph client for Python, unmodified, reading, triaging and commenting on our incidents.

A program of its own in an environment of its own (`make clients`), moved here by its base address and a token alone.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portal.conftest import served
from portal.house import House
from watchfloor.model.people import Role

CLIENTS = Path(__file__).parents[2] / ".venv-clients"

PROGRAM = """
import asyncio, json, os, sys

from azure.core.credentials import AccessToken
from kiota_abstractions.base_request_configuration import RequestConfiguration
from msgraph import GraphServiceClient
from msgraph.generated.models.security.alert_comment import AlertComment
from msgraph.generated.models.security.alert_classification import AlertClassification
from msgraph.generated.models.security.alert_determination import AlertDetermination
from msgraph.generated.models.security.incident import Incident
from msgraph.generated.models.security.incident_status import IncidentStatus
from msgraph.generated.security.alerts_v2.alerts_v2_request_builder import Alerts_v2RequestBuilder as Alerts
from msgraph.generated.security.incidents.incidents_request_builder import IncidentsRequestBuilder as Incidents
from msgraph.graph_request_adapter import GraphRequestAdapter
from kiota_abstractions.authentication import AccessTokenProvider, AllowedHostsValidator
from kiota_abstractions.authentication import BaseBearerTokenAuthenticationProvider


class Token(AccessTokenProvider):
    async def get_authorization_token(self, uri, additional_authentication_context={}):
        return os.environ["TOKEN"]

    def get_allowed_hosts_validator(self):
        return AllowedHostsValidator([])


def asked(builder, **options):
    kind = next(v for k, v in vars(builder).items() if k.endswith("GetQueryParameters"))
    return RequestConfiguration(query_parameters=kind(**options))


async def main():
    adapter = GraphRequestAdapter(BaseBearerTokenAuthenticationProvider(Token()))
    adapter.base_url = os.environ["SERVER"] + "/v1.0"
    client = GraphServiceClient(request_adapter=adapter)
    security = client.security
    found = {}
    page = await security.alerts_v2.get(asked(Alerts, filter="severity eq 'high'", top=2))
    alerts = list(page.value)
    while page.odata_next_link:
        page = await security.alerts_v2.with_url(page.odata_next_link).get()
        alerts += page.value
    found["alerts"] = [
        {"severity": a.severity.value, "created": a.created_date_time.isoformat(),
         "evidence": sorted(type(e).__name__ for e in a.evidence)} for a in alerts
    ]
    page = await security.incidents.get(asked(Incidents, expand=["alerts"], filter="status eq 'active'"))
    incident = page.value[0]
    found["incident"] = {"title": incident.display_name, "severity": incident.severity.value}
    found["incident"]["alerts"] = len(incident.alerts)
    if os.environ.get("CHANGE"):
        change = Incident(status=IncidentStatus.Resolved, classification=AlertClassification.TruePositive,
                          determination=AlertDetermination.CompromisedAccount, custom_tags=["by Graph"])
        changed = await security.incidents.by_incident_id(incident.id).patch(change)
        chosen = (changed.status, changed.classification, changed.determination)
        found["changed"] = [*(each.value for each in chosen), changed.custom_tags]
        one = security.alerts_v2.by_alert_id(alerts[0].id)
        found["comments"] = [c.comment for c in await one.comments.post([AlertComment(comment="Seen.")])]
        again = await one.get()
        found["resolved"] = again.resolved_date_time is not None
    try:
        await security.alerts_v2.get(asked(Alerts, filter="colour eq 'red'"))
    except Exception as error:
        found["refused"] = [type(error).__name__, error.error.code, error.error.message]
    print(json.dumps(found))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def environment() -> Iterator[Path]:
    """The clients, installed."""
    if not (CLIENTS / ".complete").exists():
        if os.environ.get("CI"):
            pytest.fail("msgraph-sdk is not installed: make clients")
        pytest.skip("make clients")
    yield CLIENTS


def _said(environment: Path, home: Path, address: str, token: str, **more: str) -> dict[str, Any]:
    env = {"HOME": str(home), "LANG": "C.UTF-8", "TOKEN": token, "SERVER": address, **more}
    done = subprocess.run(
        [environment / "bin" / "python", "-c", PROGRAM],
        env=env, cwd=home, capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_graphs_client_reads_and_triages(environment: Path, tmp_path: Path, attacked: House, address: str) -> None:
    found = _said(environment, tmp_path, address, attacked.token(Role.SOC_ANALYST))
    assert [a["severity"] for a in found["alerts"]] == ["high"] * 3
    assert {"UserEvidence", "AiAgentEvidence", "IpEvidence"} <= set(found["alerts"][0]["evidence"])
    assert found["incident"] == {"title": "Collection incident involving one user", "severity": "high", "alerts": 4}
    kind, code, message = found["refused"]
    assert (kind, code) == ("ODataError", "BadRequest")
    assert "'colour' cannot be asked about" in message


@pytest.mark.claim("graph-client-unmodified")
def test_graphs_client_resolves_and_comments(environment: Path, tmp_path: Path, house: House) -> None:
    house.attack()
    with served(house) as address:
        found = _said(environment, tmp_path, address, house.token(Role.SOC_OPERATOR), CHANGE="1")
    assert found["changed"] == ["resolved", "truePositive", "compromisedAccount", ["by Graph"]]
    assert found["comments"] == ["Seen."]
    assert found["resolved"]
