"""Keycloak over its admin API, as a service account with ``manage-users`` and ``view-users`` of realm-management.

Logging a user out sets what Keycloak calls not-before and tells every application that wants to know. Offline tokens
outlive that: they hang on a consent, which is taken back for each client that holds one. Keycloak knows no risk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from watchfloor.connectors.identity.http import Answer, Api, objects, text
from watchfloor.connectors.identity.oauth import Tokens, by_secret, explain
from watchfloor.identity.connector import Ability, Account, AccountState, ConnectorRefused, DirectoryAccount
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import RiskLevel
from watchfloor.storage.control import utc_now

_UPDATE_PASSWORD: Final = "UPDATE_PASSWORD"  # noqa: S105 a required action's name, not a secret
_OFFLINE: Final = "Offline Token"
_PAGE: Final = 100
_MOST_PAGES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Realm:
    """Which realm, and as whom it is asked."""

    url: str
    name: str
    client_id: str
    client_secret: str
    timeout: float = 10.0

    def __repr__(self) -> str:
        return f"Realm({self.url!r}, {self.name!r})"


class KeycloakConnector:
    """See the module."""

    kind = "keycloak"
    abilities = frozenset(Ability) - {Ability.SET_RISK}

    def __init__(self, issuer: str, realm: Realm) -> None:
        self._issuer = issuer
        base, name = realm.url.rstrip("/"), quote(realm.name, safe="")
        self._admin = f"{base}/admin/realms/{name}"
        self._tokens = Tokens(
            "Keycloak",
            f"{base}/realms/{name}/protocol/openid-connect/token",
            by_secret(realm.client_id, realm.client_secret),
            timeout=realm.timeout,
        )
        self._api = Api(
            "Keycloak",
            timeout=realm.timeout,
            authorize=self._tokens.headers,
            explain=explain,
            renew=self._tokens.renew,
        )

    def close(self) -> None:
        """Let go of connections."""
        self._api.close()
        self._tokens.close()

    def revoke_sessions(self, account: Account) -> Mapping[str, str]:
        """See the port."""
        user = self._user(account)
        self._api.ask("POST", f"{user}/logout")
        clients = []
        for consent in objects(self._api.ask("GET", f"{user}/consents").body):
            grants = consent.get("additionalGrants")
            held = objects(grants) if grants else []
            if any(text(grant, "key") == _OFFLINE for grant in held):
                client = text(consent, "clientId")
                self._api.ask("DELETE", f"{user}/consents/{quote(client, safe='')}", accept=(404,))
                clients.append(client)
        return {"logout": "204", "offline_tokens_ended_for": ", ".join(sorted(clients)) or "none"}

    def require_password_reset(self, account: Account) -> Mapping[str, str]:
        """See the port; other required actions stay."""
        found = self._read(account)
        actions = [a for a in found.get("requiredActions") or () if isinstance(a, str)]
        if _UPDATE_PASSWORD not in actions:
            actions.append(_UPDATE_PASSWORD)
            self._api.ask("PUT", self._user(account), body={"requiredActions": actions})
        return {"requiredActions": ", ".join(actions)}

    def set_risk(self, account: Account, level: RiskLevel) -> Mapping[str, str]:
        """Refused: Keycloak knows no risk."""
        raise ConnectorRefused("Keycloak knows no risk of its users.")

    def set_enabled(self, account: Account, is_enabled: bool) -> Mapping[str, str]:
        """See the port; disabling logs out as well, for Keycloak leaves sessions of the disabled where they are."""
        self._api.ask("PUT", self._user(account), body={"enabled": is_enabled})
        ended = {} if is_enabled else self.revoke_sessions(account)
        return {"enabled": str(is_enabled).lower(), **ended}

    def read_state(self, account: Account) -> AccountState:
        """See the port."""
        found = self._read(account)
        user = self._user(account)
        sessions = objects(self._api.ask("GET", f"{user}/sessions").body)
        credentials = objects(self._api.ask("GET", f"{user}/credentials").body)
        actions = [a for a in found.get("requiredActions") or () if isinstance(a, str)]
        enabled, not_before = found.get("enabled"), found.get("notBefore")
        passwords = [c.get("createdDate") for c in credentials if text(c, "type") == "password"]
        return AccountState(
            read_at=utc_now(),
            is_enabled=enabled if isinstance(enabled, bool) else None,
            must_reset_password=_UPDATE_PASSWORD in actions,
            live_sessions=len(sessions),
            sessions_valid_from=_moment(not_before) if not_before else None,
            password_changed_at=_moment(passwords[0], 1000) if passwords else None,
            detail={
                "username": text(found, "username"),
                "requiredActions": ", ".join(actions) or "none",
                "notBefore": str(not_before or 0),
                "sessions": str(len(sessions)),
            },
        )

    def list_accounts(self) -> Iterator[DirectoryAccount]:
        """See the port. Service accounts are no people."""
        groups = self._groups()
        for found in self._pages(f"{self._admin}/users", {"briefRepresentation": "false"}):
            if text(found, "serviceAccountClientId"):
                continue
            user, given = text(found, "id"), found.get("attributes")
            attributes: Mapping[str, Any] = given if isinstance(given, dict) else {}
            yield DirectoryAccount(
                account=Account(self._issuer, user, text(found, "email")),
                name=" ".join(x for x in (text(found, "firstName"), text(found, "lastName")) if x)
                or text(found, "username"),
                email=text(found, "email"),
                is_enabled=found.get("enabled") is not False,
                groups=tuple(sorted(groups.get(user, ()))),
                department=_first(attributes, "department"),
                job_title=_first(attributes, "title"),
            )

    def _groups(self) -> dict[str, set[str]]:
        """Paths of groups by the ids of their members."""
        found: dict[str, set[str]] = {}
        waiting = list(self._pages(f"{self._admin}/groups", {}))
        while waiting:
            group = waiting.pop()
            waiting += objects(group.get("subGroups") or [])
            name = text(group, "path").lstrip("/") or text(group, "name")
            members = f"{self._admin}/groups/{quote(text(group, 'id'), safe='')}/members"
            for member in self._pages(members, {"briefRepresentation": "true"}):
                found.setdefault(text(member, "id"), set()).add(name)
        return found

    def _pages(self, url: str, params: Mapping[str, str | int]) -> Iterator[Mapping[str, Any]]:
        for page in range(_MOST_PAGES):
            asked = {**params, "first": page * _PAGE, "max": _PAGE}
            found = objects(self._api.ask("GET", url, params=asked).body)
            yield from found
            if len(found) < _PAGE:
                return
        raise Unavailable("Keycloak lists without end.")

    def _user(self, account: Account) -> str:
        return f"{self._admin}/users/{quote(account.subject, safe='')}"

    def _read(self, account: Account) -> Mapping[str, Any]:
        answer: Answer = self._api.ask("GET", self._user(account))
        if not isinstance(answer.body, dict):
            raise Unavailable("Keycloak answers with something that is no user.")
        return answer.body


def _first(attributes: Mapping[str, Any], name: str) -> str:
    found = attributes.get(name)
    return str(found[0]) if isinstance(found, list) and found else ""


def _moment(value: Any, per_second: int = 1) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value / per_second < 2**33:
        return None
    return datetime.fromtimestamp(value / per_second, UTC)
