"""What the door must be told, checked once at the start: a door that is half set up does not open."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from watchfloor.model.errors import InputError
from watchfloor.model.ids import is_name
from watchfloor.model.urls import outbound_problem

PATH: Final = "/copilot-studio"
_LOGIN: Final = "https://login.microsoftonline.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class CopilotStudioConfig:
    """``url`` is what was entered as the endpoint. ``tenant`` and ``callers`` (app ids) are in lower case.

    ``session_seconds``: the longest that a sign-in may go on after its sessions were revoked at the directory.
    ``deadline_seconds`` are counted from the request's arrival.
    """

    tenant: str
    url: str
    callers: frozenset[str]
    audiences: frozenset[str]
    issuers: frozenset[str]
    jwks_url: str
    is_audit: bool = False
    server: str = "copilot-studio"
    deadline_seconds: float = 0.7
    session_seconds: float = 5400.0
    max_body_bytes: int = 4 * 1024 * 1024


def configure(
    *,
    tenant: str,
    url: str,
    callers: str,
    audiences: str,
    issuers: str,
    jwks_url: str,
    mode: str,
    server: str,
    deadline_seconds: float,
    session_seconds: float,
    max_body_bytes: int,
) -> CopilotStudioConfig | None:
    """The door that settings describe; lists are separated by spaces. None: it stays closed, for no tenant is named.

    Raises ``InputError`` that names the setting.
    """
    if not tenant:
        return None
    tenant = _guid(tenant, "copilot_studio_tenant")
    apps = frozenset(_guid(app, "copilot_studio_callers") for app in callers.split())
    if not apps:
        raise InputError(
            "no app may ask.", where="copilot_studio_callers", remedy="Enter the app id of the Entra app that you made."
        )
    url = url.rstrip("/")
    _check(url, "copilot_studio_url")
    jwks_url = jwks_url or f"{_LOGIN}/{tenant}/discovery/v2.0/keys"
    _check(jwks_url, "copilot_studio_jwks_url")
    if mode not in ("enforce", "audit"):
        raise InputError(f"{mode!r} is not possible here.", where="copilot_studio_mode", remedy="enforce or audit.")
    if not is_name(server):
        raise InputError(f"{server!r} cannot be the id of a tool server.", where="copilot_studio_server")
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    return CopilotStudioConfig(
        tenant=tenant,
        url=url,
        callers=apps,
        audiences=frozenset({url, f"{url}/", origin, f"{origin}/", *apps, *audiences.split()}),
        issuers=frozenset(issuers.split())
        or frozenset({f"{_LOGIN}/{tenant}/v2.0", f"https://sts.windows.net/{tenant}/"}),
        jwks_url=jwks_url,
        is_audit=mode == "audit",
        server=server,
        deadline_seconds=deadline_seconds,
        session_seconds=session_seconds,
        max_body_bytes=max_body_bytes,
    )


def _guid(text: str, where: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InputError(f"{text[:80]!r} is no GUID.", where=where) from None


def _check(url: str, where: str) -> None:
    problem = outbound_problem(url, require_tls=True)
    if problem:
        raise InputError(problem, where=where, remedy="Tokens travel over TLS; plain HTTP only on this machine.")
