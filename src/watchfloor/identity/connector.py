"""What we ask of an identity provider: end sessions, force a password reset, say a risk, and say what is so now.

The port; adapters are in ``connectors/identity``, ``app`` builds them, response's saga calls them after our own state
has been changed and acknowledged. No call here is what stops an agent: that is the epoch. An adapter promises:

- every change may be asked for twice: the second time changes nothing that matters and is no error;
- what it cannot do is missing from ``abilities``; asking for it raises ``ConnectorRefused``, never succeeds silently;
- ``Unavailable`` (with ``retry_after`` where the provider said when) for what may work later, ``ConnectorRefused`` for
  what will not: no such account, missing permission, wrong credentials;
- ``read_state`` asks the provider anew; a change counts as done only when it was read back;
- no secret and no password ever is in an answer, an error or a log.

Calls block, for at most ``timeout`` of the adapter's settings; they may come from any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from watchfloor.model.errors import Denied
from watchfloor.model.people import RiskLevel


class ConnectorRefused(Denied):
    """The identity provider will not do it, now or later; the text says why and what to change, for operators."""

    code = "connector_refused"


class Ability(StrEnum):
    """What a provider can be asked for."""

    REVOKE_SESSIONS = "revoke_sessions"
    REQUIRE_PASSWORD_RESET = "require_password_reset"  # noqa: S105 a name, not a secret
    SET_RISK = "set_risk"
    SET_ENABLED = "set_enabled"
    READ_STATE = "read_state"
    LIST_ACCOUNTS = "list_accounts"


@dataclass(frozen=True, slots=True)
class Account:
    """Whom it is about: ``subject`` is what the issuer's tokens call the user, ``upn`` the name to sign in with."""

    issuer: str
    subject: str
    upn: str = ""


@dataclass(frozen=True, slots=True)
class AccountState:
    """What the provider says of an account, read back at ``read_at``. None: this provider cannot say.

    ``detail`` holds the provider's own names and values behind it, to be shown as evidence.
    """

    read_at: datetime
    is_enabled: bool | None = None
    must_reset_password: bool | None = None
    live_sessions: int | None = None
    sessions_valid_from: datetime | None = None
    password_changed_at: datetime | None = None
    risk: RiskLevel | None = None
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DirectoryAccount:
    """An account as the provider's directory lists it, for the guard's directory and the registry of users."""

    account: Account
    name: str = ""
    email: str = ""
    is_enabled: bool = True
    groups: tuple[str, ...] = ()
    department: str = ""
    job_title: str = ""
    manager: str = ""  # the manager's ``subject``


@dataclass(frozen=True, slots=True)
class RiskyAccount:
    """An account that the provider itself sees at risk. ``at``: when it came to that; ``why``: its word for it."""

    account: Account
    level: RiskLevel
    at: datetime
    why: str = ""


class IdentityConnector(Protocol):
    """An identity provider that can be acted upon. Changes return what the provider answered, as evidence."""

    @property
    def kind(self) -> str:
        """Which adapter this is: ``embedded``, ``ldap``, ``scim``, ``entra``, ``keycloak``, ``okta``."""
        ...

    @property
    def abilities(self) -> frozenset[Ability]:
        """What can be asked for."""
        ...

    def revoke_sessions(self, account: Account) -> Mapping[str, str]:
        """End every session and refresh token of the account."""
        ...

    def require_password_reset(self, account: Account) -> Mapping[str, str]:
        """Hold the account to a new password at its next sign-in."""
        ...

    def set_risk(self, account: Account, level: RiskLevel) -> Mapping[str, str]:
        """Tell the provider what risk we see; ``RiskLevel.NONE`` takes it back (dismissed)."""
        ...

    def set_enabled(self, account: Account, is_enabled: bool) -> Mapping[str, str]:
        """Let the account sign in, or do not."""
        ...

    def read_state(self, account: Account) -> AccountState:
        """What is so now."""
        ...

    def list_accounts(self) -> Iterator[DirectoryAccount]:
        """Every account of the directory, in pages behind the scenes. Raises in the middle rather than end early."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Connectors(Protocol):
    """The connectors that are configured."""

    def find(self, issuer: str) -> IdentityConnector | None:
        """The one for users of ``issuer``, or None: then nothing outside can be asked, and the saga says so."""
        ...


@runtime_checkable
class RevokesTokens(Protocol):
    """A connector that can end a single token that is at hand, too (RFC 7009)."""

    def revoke_token(self, token: str) -> None:
        """End an access or refresh token; one that is none is no error. Raises as the other calls."""
        ...


@runtime_checkable
class SeesRisk(Protocol):
    """A connector whose provider watches sign-ins by itself, and lists the accounts that it sees at risk."""

    def list_risky(self) -> Iterator[RiskyAccount] | None:
        """Every account at risk for what the provider saw, not for what somebody confirmed: that may be our own word
        come back. Raises in the middle rather than end early. None: it is not to be asked."""
        ...


class NoConnectors:
    """None is configured."""

    def find(self, issuer: str) -> IdentityConnector | None:
        """None."""
        return None
