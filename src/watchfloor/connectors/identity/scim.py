"""Any identity provider that speaks SCIM 2 (RFC 7643, 7644).

SCIM knows accounts, not sessions: what is out already lives until the provider ends it. So ``revoke_sessions`` is none
of the abilities, and locking an account (``active: false``) stops new sign-ins and, at most providers, refreshes;
whether it stops access tokens and cookies is the provider's to say. canaille 0.3.6, for one, still vouches for access
tokens of the locked, and lets a cookie from before work again after unlocking, new password or not: there, end tokens
that are at hand with ``revoke_token`` (RFC 7009), and rely on the gateway, which refuses sign-ins from before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from watchfloor.connectors.identity.http import Api, moment, text
from watchfloor.connectors.identity.oauth import Tokens, by_secret
from watchfloor.identity.connector import Ability, Account, AccountState, ConnectorRefused, DirectoryAccount
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import RiskLevel
from watchfloor.storage.control import utc_now

_PATCH: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
_TYPE: Final = "application/scim+json"
_ACCEPT: Final = {"accept": "application/scim+json, application/json"}
_MOST_PAGES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Provider:
    """Where its SCIM is and how it is asked: by client credentials at ``token_url``, or with ``bearer``."""

    url: str
    token_url: str = ""
    client_id: str = ""
    client_secret: str = ""
    bearer: str = ""
    subject: str = "userName"
    timeout: float = 10.0
    revocation_url: str = ""
    revocation_client_id: str = ""
    revocation_client_secret: str = ""

    def __repr__(self) -> str:
        return f"Provider({self.url!r})"


def _explain(body: Any) -> str:
    return text(body, "scimType") if isinstance(body, dict) else ""


class ScimConnector:
    """See the module. ``reset``: whether taking the password away makes the provider ask for a new one."""

    kind = "scim"

    def __init__(self, issuer: str, provider: Provider, *, reset: bool = False) -> None:
        self._issuer, self._provider, self._reset = issuer, provider, reset
        self._url = provider.url.rstrip("/")
        self._tokens = None
        if provider.token_url:
            prove = by_secret(provider.client_id, provider.client_secret)
            self._tokens = Tokens("The provider", provider.token_url, prove, timeout=provider.timeout)
        self._api = Api(
            "The provider's SCIM",
            timeout=provider.timeout,
            authorize=self._tokens.headers if self._tokens else self._bearer,
            explain=_explain,
            renew=self._tokens.renew if self._tokens else lambda: None,
        )
        self._oauth = Api("The provider", timeout=provider.timeout)

    @property
    def abilities(self) -> frozenset[Ability]:
        """What SCIM can, and a reset where the provider is one that asks for a new password."""
        known = {Ability.SET_ENABLED, Ability.READ_STATE, Ability.LIST_ACCOUNTS}
        return frozenset(known | ({Ability.REQUIRE_PASSWORD_RESET} if self._reset else set()))

    def close(self) -> None:
        """Let go of connections."""
        self._api.close()
        self._oauth.close()
        if self._tokens is not None:
            self._tokens.close()

    def revoke_sessions(self, account: Account) -> Mapping[str, str]:
        """Refused: SCIM knows no sessions."""
        raise ConnectorRefused("SCIM knows no sessions. Disable the account: then none is renewed or made.")

    def require_password_reset(self, account: Account) -> Mapping[str, str]:
        """See the port: takes the password away."""
        if not self._reset:
            raise ConnectorRefused(
                "SCIM has no word for a forced reset. If the provider asks those without a password to set one, "
                "set passwordReset: remove."
            )
        self._patch(account, {"op": "remove", "path": "password"})
        return {"password": "removed"}

    def set_risk(self, account: Account, level: RiskLevel) -> Mapping[str, str]:
        """Refused: SCIM knows no risk."""
        raise ConnectorRefused("SCIM knows no risk of accounts.")

    def set_enabled(self, account: Account, is_enabled: bool) -> Mapping[str, str]:
        """See the port."""
        self._patch(account, {"op": "replace", "path": "active", "value": is_enabled})
        return {"active": str(is_enabled).lower()}

    def revoke_token(self, token: str) -> None:
        """End one token that is at hand, access or refresh (RFC 7009); one that is none is no error there.

        Raises ``ConnectorRefused`` where no ``revocationUrl`` is set.
        """
        provider = self._provider
        if not provider.revocation_url:
            raise ConnectorRefused("The connector has no revocationUrl.")
        proof = by_secret(provider.revocation_client_id, provider.revocation_client_secret)()
        self._oauth.ask("POST", provider.revocation_url, form={"token": token}, headers=proof.headers)

    def read_state(self, account: Account) -> AccountState:
        """See the port. SCIM never shows passwords: whether one must be set is not known."""
        found = self._find(account)
        active, meta = found.get("active"), found.get("meta")
        changed = text(meta, "lastModified") if isinstance(meta, dict) else ""
        detail = {"id": text(found, "id"), "userName": text(found, "userName"), "active": str(active).lower()}
        return AccountState(
            read_at=utc_now(),
            # RFC 7643 leaves open what a missing member means; a provider that says nothing has not locked.
            is_enabled=active if isinstance(active, bool) else None,
            detail={**detail, **({"lastModified": changed} if moment(changed) else {})},
        )

    def list_accounts(self) -> Iterator[DirectoryAccount]:
        """See the port."""
        found = list(self._pages())
        subjects = {text(user, "id"): text(user, self._provider.subject) for user in found}
        for user in found:
            subject = text(user, self._provider.subject)
            if not subject:
                continue
            given = user.get(_ENTERPRISE)
            enterprise: Mapping[str, Any] = given if isinstance(given, dict) else {}
            manager = enterprise.get("manager")
            mail = _primary(user.get("emails"))
            yield DirectoryAccount(
                account=Account(
                    self._issuer, subject, text(user, "userName") if "@" in text(user, "userName") else mail
                ),
                name=_name(user),
                email=mail,
                is_enabled=user.get("active") is not False,
                groups=tuple(sorted(_groups(user.get("groups")))),
                department=text(enterprise, "department"),
                job_title=text(user, "title"),
                manager=subjects.get(text(manager, "value"), "") if isinstance(manager, dict) else "",
            )

    def _bearer(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self._provider.bearer}"}

    def _patch(self, account: Account, operation: Mapping[str, Any]) -> None:
        user = quote(text(self._find(account), "id"), safe="")
        body = {"schemas": [_PATCH], "Operations": [operation]}
        self._api.ask("PATCH", f"{self._url}/Users/{user}", body=body, headers=_ACCEPT, content_type=_TYPE)

    def _find(self, account: Account) -> Mapping[str, Any]:
        if self._provider.subject == "id":
            answer = self._api.ask("GET", f"{self._url}/Users/{quote(account.subject, safe='')}", headers=_ACCEPT)
            found: list[Mapping[str, Any]] = [answer.body] if isinstance(answer.body, dict) else []
        else:
            value = account.subject.replace("\\", "\\\\").replace('"', '\\"')
            params: dict[str, str | int] = {"filter": f'{self._provider.subject} eq "{value}"'}
            answer = self._api.ask("GET", f"{self._url}/Users", params=params, headers=_ACCEPT)
            given = answer.items("Resources") if answer.member("totalResults") else []
            found = [user for user in given if self._is(user, account)]
            if not found and given:
                # It ignored the filter, as some do, and this is only its first page.
                found = [user for user in self._pages() if self._is(user, account)]
        if len(found) != 1 or not text(found[0], "id"):
            raise ConnectorRefused(
                f"The provider has {len(found) or 'no'} accounts with {self._provider.subject} {account.subject!r}."
            )
        return found[0]

    def _is(self, user: Mapping[str, Any], account: Account) -> bool:
        return text(user, self._provider.subject).lower() == account.subject.lower()

    def _pages(self) -> Iterator[Mapping[str, Any]]:
        start, seen = 1, 0
        for _ in range(_MOST_PAGES):
            # Without a wish how many: canaille 0.3.6 fails on one, and every provider has a number of its own.
            params: dict[str, str | int] = {"startIndex": start} if start > 1 else {}
            answer = self._api.ask("GET", f"{self._url}/Users", params=params, headers=_ACCEPT)
            total = answer.member("totalResults")
            if isinstance(total, bool) or not isinstance(total, int):
                raise Unavailable("The provider's SCIM does not say how many accounts there are.")
            found = answer.items("Resources") if total else []
            yield from found
            seen += len(found)
            start += len(found)
            if seen >= total:
                return
            if not found:
                raise Unavailable(f"The provider's SCIM lists {seen} of {total} accounts.")
        raise Unavailable("The provider's SCIM lists without end.")


def _name(user: Mapping[str, Any]) -> str:
    given = user.get("name")
    name: Mapping[str, Any] = given if isinstance(given, dict) else {}
    parts = " ".join(x for x in (text(name, "givenName"), text(name, "familyName")) if x)
    return text(name, "formatted") or parts or text(user, "displayName") or text(user, "userName")


def _primary(values: Any) -> str:
    """The value that is marked as primary, or else the first."""
    found = [v for v in values if isinstance(v, dict) and text(v, "value")] if isinstance(values, list) else []
    first = next((v for v in found if v.get("primary") is True), found[0] if found else None)
    return text(first, "value") if first else ""


def _groups(values: Any) -> set[str]:
    found = [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []
    return {text(v, "display") or text(v, "value") for v in found} - {""}
