"""``watchfloor copilot-studio``: what is entered at Microsoft."""

from __future__ import annotations

import base64
import json
import uuid

from click.testing import CliRunner

from watchfloor.cli import main

TENANT = "00112233-4455-6677-8899-aabbccddeeff"
URL = "https://gw.zava.example/copilot-studio"


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and everything printed."""
    result = CliRunner().invoke(main, ["copilot-studio", "subject", *arguments])
    return result.exit_code, result.output


def test_the_subject_holds_the_tenants_bytes_as_dotnet_orders_them_and_the_endpoint() -> None:
    status, printed = run("--tenant", TENANT, "--url", URL)
    assert status == 0
    assert printed.strip() == (
        "/eid1/c/pub/t/MyIRAFVEd2aImaq7zN3u_w/a/m1WPnYRZpEaQKq1Cceg--g/"
        "aHR0cHM6Ly9ndy56YXZhLmV4YW1wbGUvY29waWxvdC1zdHVkaW8"
    )
    tenant = base64.urlsafe_b64decode(printed.split("/")[5] + "==")
    assert tenant.hex() == "33221100554477668899aabbccddeeff" == uuid.UUID(TENANT).bytes_le.hex()


def test_the_whole_credential_is_as_graph_takes_it() -> None:
    status, printed = run("--tenant", TENANT.upper(), "--url", URL, "--json")
    credential = json.loads(printed)
    assert status == 0
    assert credential["issuer"] == f"https://login.microsoftonline.com/{TENANT}/v2.0"
    assert credential["audiences"] == ["api://AzureADTokenExchange"]


def test_what_is_no_tenant_or_no_endpoint_is_said() -> None:
    assert run("--tenant", "zava", "--url", URL)[0] == 1
    status, printed = run("--tenant", TENANT, "--url", "http://gw.zava.example/copilot-studio")
    assert status == 1 and "https" in printed
