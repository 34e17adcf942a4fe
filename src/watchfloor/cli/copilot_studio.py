"""``watchfloor copilot-studio``: what to enter at Microsoft, so that Copilot Studio asks here before tool calls."""

from __future__ import annotations

import json
import uuid

import click

from watchfloor.model.errors import InputError
from watchfloor.model.urls import outbound_problem


@click.group("copilot-studio")
def copilot_studio() -> None:
    """Connect Copilot Studio's external threat detection."""


@copilot_studio.command()
@click.option("--tenant", required=True, help="Your tenant's id, a GUID.")
@click.option("--url", required=True, help="The endpoint link, exactly as you enter it in Power Platform.")
@click.option("--json", "as_json", is_flag=True, help="Print all of the credential as JSON, as Graph takes it.")
def subject(tenant: str, url: str, as_json: bool) -> None:
    """Print the subject of the federated credential that the Entra app needs."""
    from watchfloor.gateway.copilot_studio.subject import AUDIENCE, issuer
    from watchfloor.gateway.copilot_studio.subject import subject as subject_of

    try:
        tenant_id = uuid.UUID(tenant)
    except ValueError:
        raise InputError(
            f"{tenant[:80]!r} is no GUID.", where="--tenant", remedy="Copy it from Entra's overview page."
        ) from None
    problem = outbound_problem(url, require_tls=True)
    if problem:
        raise InputError(problem, where="--url")
    found = subject_of(tenant_id, url)
    if as_json:
        credential = {
            "name": "copilot-studio-threat-detection",
            "issuer": issuer(tenant_id),
            "subject": found,
            "audiences": [AUDIENCE],
        }
        click.echo(json.dumps(credential, indent=2))
    else:
        click.echo(found)
