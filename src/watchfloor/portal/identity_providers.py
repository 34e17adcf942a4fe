"""Identity providers and their connectors: what is configured, whether it works, what its directory said last.

Above ``identity``'s port and ``storage``; connectors are declared in the manifest. A test asks the provider now, and
says of each step how it went: what a provider answers is a finding here, no failure of this server.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.identity.connector import (
    Account,
    AccountState,
    DirectoryAccount,
    IdentityConnector,
    RevokesTokens,
)
from watchfloor.model.errors import InputError, NotFound, WatchfloorError
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.views import Page
from watchfloor.storage import identity_connectors, people
from watchfloor.storage.identity_connectors import Connector

router = APIRouter(prefix="/api/identity-providers", tags=["registry"])

_SHOWN: Final = 10
"""Accounts that a test shows."""

_T = TypeVar("_T")
Issuer = Annotated[str, Field(min_length=1, max_length=2048)]


class ConnectorView(BaseModel):
    """A connector, without its secrets: ``secrets`` names those that there are."""

    kind: str
    settings: dict[str, Any]
    secrets: list[str]
    updated_at: datetime
    updated_by: str
    synced_at: datetime | None
    accounts: int
    sync_problem: str


class ProviderView(BaseModel):
    """A trusted issuer, and how it is acted upon."""

    issuer: str
    jwks_uri: str
    audience: str
    subject_claim: str
    connector: ConnectorView | None


class ConnectorTestBody(BaseModel):
    """Which provider, and whose state to read there; nobody's unless given."""

    model_config = ConfigDict(extra="forbid")

    issuer: Issuer
    account: str = Field(default="", max_length=500, description="A subject as in the issuer's tokens, or a user's id.")


class ConnectorStepView(BaseModel):
    """One step of a test: what was tried, and what came of it."""

    name: str
    ok: bool
    said: str = ""


class DirectoryAccountView(BaseModel):
    """An account as the directory lists it."""

    subject: str
    upn: str
    name: str
    email: str
    is_enabled: bool
    groups: list[str]
    department: str
    job_title: str
    manager: str


class AccountStateView(BaseModel):
    """What the provider says of an account now. Null: it cannot say."""

    read_at: datetime
    is_enabled: bool | None
    must_reset_password: bool | None
    live_sessions: int | None
    sessions_valid_from: datetime | None
    password_changed_at: datetime | None
    risk: str | None
    detail: dict[str, str]


class ConnectorTestView(BaseModel):
    """How a test went."""

    issuer: str
    kind: str
    ok: bool
    abilities: list[str]
    steps: list[ConnectorStepView]
    state: AccountStateView | None = None
    accounts: list[DirectoryAccountView] = []


class IssuerBody(BaseModel):
    """Which provider."""

    model_config = ConfigDict(extra="forbid")

    issuer: Issuer


class FoundTokenBody(BaseModel):
    """A token that was found where it does not belong."""

    model_config = ConfigDict(extra="forbid")

    issuer: Issuer
    token: str = Field(min_length=1, max_length=16_384, repr=False)
    reason: str = Field(min_length=1, max_length=2000)


def _connector_view(found: Connector) -> ConnectorView:
    return ConnectorView(
        kind=found.kind,
        settings=dict(found.settings),
        secrets=sorted(found.fingerprints),
        updated_at=found.updated_at,
        updated_by=found.updated_by,
        synced_at=found.synced_at,
        accounts=found.accounts,
        sync_problem=found.sync_problem,
    )


def _state_view(state: AccountState) -> AccountStateView:
    return AccountStateView(
        read_at=state.read_at,
        is_enabled=state.is_enabled,
        must_reset_password=state.must_reset_password,
        live_sessions=state.live_sessions,
        sessions_valid_from=state.sessions_valid_from,
        password_changed_at=state.password_changed_at,
        risk=state.risk.value if state.risk is not None else None,
        detail=dict(state.detail),
    )


def _account_view(found: DirectoryAccount) -> DirectoryAccountView:
    return DirectoryAccountView(
        subject=found.account.subject,
        upn=found.account.upn,
        name=found.name,
        email=found.email,
        is_enabled=found.is_enabled,
        groups=list(found.groups),
        department=found.department,
        job_title=found.job_title,
        manager=found.manager,
    )


@router.get("", summary="Identity providers and their connectors")
def list_providers(viewer: Annotated[Viewer, permit(Permission.USER_READ)], deps: Deps) -> Page[ProviderView]:
    """All of them, by issuer."""
    with deps.control.read() as tx:
        connectors = {c.issuer: c for c in identity_connectors.list_connectors(tx)}
        providers = people.list_identity_providers(tx)
    return Page(
        items=[
            ProviderView(
                issuer=p.issuer,
                jwks_uri=p.jwks_uri,
                audience=p.audience,
                subject_claim=p.subject_claim,
                connector=_connector_view(connectors[p.issuer]) if p.issuer in connectors else None,
            )
            for p in providers
        ]
    )


@router.post("/test", summary="Try an identity provider's connector")
def test_connector(
    body: ConnectorTestBody, viewer: Annotated[Viewer, permit(Permission.REGISTRY_WRITE)], deps: Deps
) -> ConnectorTestView:
    """Reads the state of an account, and lists the first accounts. Changes nothing there."""
    try:
        connector = _connector(deps, body.issuer)
    except InputError:
        raise
    except WatchfloorError as error:
        step = ConnectorStepView(name="build", ok=False, said=str(error))
        return ConnectorTestView(issuer=body.issuer, kind="", ok=False, abilities=[], steps=[step])
    steps: list[ConnectorStepView] = []
    state = None
    if body.account:
        account = _account(deps, body.issuer, body.account)
        state = _step(steps, "read_state", lambda: _state_view(connector.read_state(account)))
    accounts = _step(
        steps, "list_accounts", lambda: [_account_view(a) for a in islice(connector.list_accounts(), _SHOWN)]
    )
    return ConnectorTestView(
        issuer=body.issuer,
        kind=connector.kind,
        ok=all(step.ok for step in steps),
        abilities=sorted(connector.abilities),
        steps=steps,
        state=state,
        accounts=accounts or [],
    )


@router.post("/sync", status_code=202, summary="Read an identity provider's directory now")
def sync_directory(
    body: IssuerBody, viewer: Annotated[Viewer, permit(Permission.REGISTRY_WRITE)], deps: Deps
) -> ConnectorStepView:
    """Wakes the job that reads every directory; how it went is in the list of providers."""
    _connector(deps, body.issuer)
    deps.nudge("sync_directories")
    return ConnectorStepView(name="sync", ok=True, said="The directories are being read.")


@router.post("/remove-connector", status_code=204, summary="Forget an identity provider's connector")
def remove_connector(
    body: IssuerBody, viewer: Annotated[Viewer, permit(Permission.REGISTRY_WRITE)], deps: Deps
) -> None:
    """With its secrets. The provider stays trusted, and its users stay as they are."""
    with deps.control.tx(viewer.id) as tx:
        if not identity_connectors.delete_connector(tx, body.issuer):
            raise NotFound(f"{body.issuer} has no connector.", where="issuer")


@router.post("/revoke-token", status_code=204, summary="End a token that was found")
def revoke_token(body: FoundTokenBody, viewer: Annotated[Viewer, permit(Permission.USER_REVOKE)], deps: Deps) -> None:
    """At the identity provider that gave it out (RFC 7009). The token is neither stored nor logged."""
    connector = _connector(deps, body.issuer)
    if not isinstance(connector, RevokesTokens):
        raise InputError(
            f"the connector of {body.issuer} cannot end single tokens.",
            where="issuer",
            remedy="End the sessions of its user.",
        )
    connector.revoke_token(body.token)
    with deps.control.tx(viewer.id) as tx:
        tx.audit("token:revoke", f"provider/{body.issuer}", {"reason": body.reason.strip()})


def _connector(deps: PortalDeps, issuer: str) -> IdentityConnector:
    found = deps.connectors.find(issuer)
    if found is None:
        raise NotFound(
            f"{issuer} has no connector.", where="issuer", remedy="Declare one in the manifest: identityProviders."
        )
    return found


def _account(deps: PortalDeps, issuer: str, name: str) -> Account:
    with deps.control.read() as tx:
        user = people.find_user_by_subject(tx, issuer, name) or people.find_user(tx, name)
    if user is not None and user.issuer == issuer:
        return Account(issuer, user.subject, user.upn)
    return Account(issuer, name, name if "@" in name else "")


def _step(steps: list[ConnectorStepView], name: str, act: Callable[[], _T]) -> _T | None:
    try:
        found = act()
    except WatchfloorError as error:
        steps.append(ConnectorStepView(name=name, ok=False, said=str(error)))
        return None
    steps.append(ConnectorStepView(name=name, ok=True))
    return found
