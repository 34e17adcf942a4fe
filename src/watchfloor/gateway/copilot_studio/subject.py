"""The federated credential under which Copilot Studio asks: what its subject is for a tenant and an endpoint. Pure."""

from __future__ import annotations

import base64
import uuid
from typing import Final

AUDIENCE: Final = "api://AzureADTokenExchange"
_ASKING_APP: Final = "m1WPnYRZpEaQKq1Cceg--g"
"""Microsoft's own first-party application, as it stands in every such subject."""


def subject(tenant: uuid.UUID, url: str) -> str:
    """The subject claim. The tenant's bytes are in the order that .NET gives them: its first three parts reversed."""
    return f"/eid1/c/pub/t/{_part(tenant.bytes_le)}/a/{_ASKING_APP}/{_part(url.encode())}"


def issuer(tenant: uuid.UUID) -> str:
    """The issuer of the credential."""
    return f"https://login.microsoftonline.com/{tenant}/v2.0"


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
