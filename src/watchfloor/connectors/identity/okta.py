"""Okta over its management API, as a service app with ``okta.users.manage`` and ``okta.groups.read``.

Clearing sessions with ``oauthTokens=true`` revokes refresh tokens as well; sessions that native apps made by
themselves live on, as Okta says. An expired password is good for one thing: to set a new one at the next sign-in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from watchfloor.connectors.identity.http import Answer, Api, moment, objects, text
from watchfloor.connectors.identity.oauth import Tokens, by_assertion
from watchfloor.identity.connector import Ability, Account, AccountState, ConnectorRefused, DirectoryAccount
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import RiskLevel
from watchfloor.storage.control import utc_now

_PAGE: Final = 200
_EXPIRED: Final = "PASSWORD_EXPIRED"
_DISABLED: Final = frozenset({"SUSPENDED", "DEPROVISIONED"})
_LEVELS: Final = {RiskLevel.HIGH: "HIGH", RiskLevel.NONE: "LOW", RiskLevel.LOW: "LOW"}
_RISKS: Final = {"HIGH": RiskLevel.HIGH, "LOW": RiskLevel.LOW, "MEDIUM": RiskLevel.MEDIUM, "NONE": RiskLevel.NONE}
_SCOPE: Final = "okta.users.manage okta.groups.read"


@dataclass(frozen=True, slots=True)
class Organization:
    """Which organisation, and as whom it is asked."""

    url: str
    client_id: str
    key_id: str
    private_key: str
    timeout: float = 10.0

    def __repr__(self) -> str:
        return f"Organization({self.url!r})"


def _explain(body: Any) -> str:
    return text(body, "errorCode") if isinstance(body, dict) else ""


class OktaConnector:
    """See the module. ``risk``: whether Okta's risk API is there."""

    kind = "okta"

    def __init__(self, issuer: str, organization: Organization, *, risk: bool = False) -> None:
        self._issuer, self._risk = issuer, risk
        base = organization.url.rstrip("/")
        self._base, self._users = base, f"{base}/api/v1/users"
        token_url = f"{base}/oauth2/v1/token"
        prove = by_assertion(organization.client_id, token_url, organization.private_key, {"kid": organization.key_id})
        scope = f"{_SCOPE} okta.userRisk.manage" if risk else _SCOPE
        self._tokens = Tokens("Okta", token_url, prove, scope=scope, timeout=organization.timeout)
        self._api = Api(
            "Okta",
            timeout=organization.timeout,
            authorize=self._tokens.headers,
            explain=_explain,
            renew=self._tokens.renew,
        )

    @property
    def abilities(self) -> frozenset[Ability]:
        """All; without the risk API, all but saying a risk."""
        return frozenset(Ability) - (frozenset() if self._risk else {Ability.SET_RISK})

    def close(self) -> None:
        """Let go of connections."""
        self._api.close()
        self._tokens.close()

    def revoke_sessions(self, account: Account) -> Mapping[str, str]:
        """See the port."""
        params: dict[str, str | int] = {"oauthTokens": "true", "forgetDevices": "true"}
        self._api.ask("DELETE", f"{self._user(account)}/sessions", params=params)
        return {"sessions": "cleared", "oauthTokens": "revoked"}

    def require_password_reset(self, account: Account) -> Mapping[str, str]:
        """See the port."""
        status = text(self._read(account), "status")
        if status != _EXPIRED:
            answer = self._api.ask("POST", f"{self._user(account)}/lifecycle/expire_password")
            status = text(answer.body, "status") if isinstance(answer.body, dict) else ""
        return {"status": status}

    def set_risk(self, account: Account, level: RiskLevel) -> Mapping[str, str]:
        """See the port. Okta takes high and low; taking a risk back says low."""
        if not self._risk:
            raise ConnectorRefused("Okta's risk API is switched off for this connector (risk: false).")
        if level not in _LEVELS:
            raise ConnectorRefused(f"Okta takes the risks high and low, not {level.value}.")
        self._api.ask("PUT", f"{self._user(account)}/risk", body={"riskLevel": _LEVELS[level]})
        return {"riskLevel": _LEVELS[level]}

    def set_enabled(self, account: Account, is_enabled: bool) -> Mapping[str, str]:
        """See the port: suspends and unsuspends, and clears sessions of the suspended."""
        status = text(self._read(account), "status")
        if status == "DEPROVISIONED" and is_enabled:
            raise ConnectorRefused("The account is deactivated in Okta: activate it there.")
        if (status in _DISABLED) == is_enabled:
            verb = "unsuspend" if is_enabled else "suspend"
            self._api.ask("POST", f"{self._user(account)}/lifecycle/{verb}")
        ended = {} if is_enabled else self.revoke_sessions(account)
        return {"suspended": str(not is_enabled).lower(), **ended}

    def read_state(self, account: Account) -> AccountState:
        """See the port. Okta does not list sessions."""
        found = self._read(account)
        status = text(found, "status")
        detail = {name: text(found, name) for name in ("status", "statusChanged", "passwordChanged", "lastLogin")}
        risk = None
        if self._risk:
            answer = self._api.ask("GET", f"{self._user(account)}/risk", accept=(404,))
            level = str(answer.member("riskLevel") or "NONE")
            detail["riskLevel"], risk = level, _RISKS.get(level)
        return AccountState(
            read_at=utc_now(),
            is_enabled=status not in _DISABLED if status else None,
            must_reset_password=status == _EXPIRED if status else None,
            password_changed_at=moment(found.get("passwordChanged")),
            risk=risk,
            detail={name: value for name, value in detail.items() if value},
        )

    def list_accounts(self) -> Iterator[DirectoryAccount]:
        """See the port. Okta leaves deactivated accounts out of a listing: they count as gone."""
        groups = self._groups()
        found = list(self._pages(self._users))
        by_login = {_profile(user, "login"): text(user, "id") for user in found}
        for user in found:
            yield DirectoryAccount(
                account=Account(self._issuer, text(user, "id"), _profile(user, "login")),
                name=_profile(user, "displayName")
                or " ".join(x for x in (_profile(user, "firstName"), _profile(user, "lastName")) if x),
                email=_profile(user, "email"),
                is_enabled=text(user, "status") not in _DISABLED,
                groups=tuple(sorted(groups.get(text(user, "id"), ()))),
                department=_profile(user, "department"),
                job_title=_profile(user, "title"),
                manager=by_login.get(_profile(user, "managerId"), ""),
            )

    def _groups(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for group in self._pages(f"{self._base}/api/v1/groups"):
            if text(group, "type") == "BUILT_IN":
                continue  # everyone: says nothing
            for member in self._pages(f"{self._base}/api/v1/groups/{quote(text(group, 'id'), safe='')}/users"):
                found.setdefault(text(member, "id"), set()).add(_profile(group, "name"))
        return found

    def _pages(self, url: str) -> Iterator[Mapping[str, Any]]:
        params: Mapping[str, str | int] | None = {"limit": _PAGE}
        while url:
            answer = self._api.ask("GET", url, params=params)
            yield from objects(answer.body)
            url, params = self._next(answer), None

    def _next(self, answer: Answer) -> str:
        links = httpx.Response(200, headers=dict(answer.headers)).links
        url = links.get("next", {}).get("url", "")
        if url and urlsplit(url)[:2] != urlsplit(self._base)[:2]:
            # The token goes where the connector was told to send it, not where an answer says.
            raise Unavailable("Okta names a next page on another host.")
        return url

    def _user(self, account: Account) -> str:
        return f"{self._users}/{quote(account.subject, safe='')}"

    def _read(self, account: Account) -> Mapping[str, Any]:
        answer = self._api.ask("GET", self._user(account))
        if not isinstance(answer.body, dict):
            raise Unavailable("Okta answers with something that is no user.")
        return answer.body


def _profile(found: Mapping[str, Any], name: str) -> str:
    profile = found.get("profile")
    return text(profile, name) if isinstance(profile, dict) else ""
