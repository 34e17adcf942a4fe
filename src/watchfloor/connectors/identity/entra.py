"""Microsoft Entra over Graph v1.0.

Revoking sessions takes Entra minutes to carry through; the gateway does not wait for it. Identity protection allows one
request a second for a whole tenant, whoever asks, and does not say when to come back: all connectors of a tenant in
this process share one bucket, and what waits for the same verdict is sent in one request. Tokens should name users by
``oid`` (``subjectClaim: oid``): other claims of Entra are names that Graph does not know.

A forced reset asks for a second factor first, so that whoever stole the password does not choose the next one; or
(``random``) the password becomes one that nobody knows, and its user takes the way of the forgotten password.
"""

from __future__ import annotations

import re
import secrets
import string
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlsplit

from watchfloor.connectors.identity.http import Answer, Api, Throttled, moment, text
from watchfloor.connectors.identity.oauth import Tokens, by_assertion, thumbprint
from watchfloor.connectors.identity.throttle import Batch, Bucket
from watchfloor.identity.connector import (
    Ability,
    Account,
    AccountState,
    ConnectorRefused,
    DirectoryAccount,
    RiskyAccount,
)
from watchfloor.model.errors import Unavailable, WatchfloorError
from watchfloor.model.people import RiskLevel
from watchfloor.storage.control import utc_now

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MOST_AT_ONCE: Final = 60
"""Users in one verdict."""
PROTECTION_SECONDS: Final = 1.0
_PAGE: Final = 500
_STATE: Final = (
    "id,userPrincipalName,accountEnabled,signInSessionsValidFromDateTime,lastPasswordChangeDateTime,passwordProfile"
)
_PERSON: Final = "id,userPrincipalName,displayName,mail,accountEnabled,department,jobTitle"
_LEVELS: Final = {"none": RiskLevel.NONE, "low": RiskLevel.LOW, "medium": RiskLevel.MEDIUM, "high": RiskLevel.HIGH}
_VERDICTS: Final = {RiskLevel.HIGH: "confirmCompromised", RiskLevel.NONE: "dismiss"}

_buckets: dict[str, Bucket] = {}
_buckets_lock: Final = threading.Lock()


def _bucket(tenant: str) -> Bucket:
    with _buckets_lock:
        return _buckets.setdefault(tenant.lower(), Bucket(PROTECTION_SECONDS))


def _explain(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return text(error, "code") if isinstance(error, dict) else ""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Which tenant, and as whom it is asked."""

    id: str
    client_id: str
    certificate: str
    private_key: str
    graph_url: str = "https://graph.microsoft.com"
    login_url: str = "https://login.microsoftonline.com"
    timeout: float = 10.0

    def __repr__(self) -> str:
        return f"Tenant({self.id!r})"


class EntraConnector:
    """See the module."""

    kind = "entra"

    def __init__(self, issuer: str, tenant: Tenant, *, protection: bool = True, reset: str = "mfa") -> None:
        self._issuer, self._timeout = issuer, tenant.timeout
        self._graph = f"{tenant.graph_url.rstrip('/')}/v1.0"
        self._protection, self._reset = protection, reset
        token_url = f"{tenant.login_url.rstrip('/')}/{quote(tenant.id, safe='')}/oauth2/v2.0/token"
        prove = by_assertion(
            tenant.client_id, token_url, tenant.private_key, {"x5t#S256": thumbprint(tenant.certificate)}
        )
        scope = f"{tenant.graph_url.rstrip('/')}/.default"
        self._tokens = Tokens("Entra", token_url, prove, scope=scope, timeout=tenant.timeout)
        self._api = Api(
            "Graph",
            timeout=tenant.timeout,
            authorize=self._tokens.headers,
            explain=_explain,
            renew=self._tokens.renew,
        )
        self._turn = _bucket(tenant.id)
        self._batches = {
            level: Batch(partial(self._judge, name), self._wait_turn, _MOST_AT_ONCE)
            for level, name in _VERDICTS.items()
        }

    @property
    def abilities(self) -> frozenset[Ability]:
        """All; without identity protection, all but saying a risk."""
        return frozenset(Ability) - (frozenset() if self._protection else {Ability.SET_RISK})

    def close(self) -> None:
        """Let go of connections."""
        self._api.close()
        self._tokens.close()

    def revoke_sessions(self, account: Account) -> Mapping[str, str]:
        """See the port. Not for guests: their sessions are their own tenant's."""
        answer = self._api.ask("POST", f"{self._user(account)}/revokeSignInSessions", headers=_URGENT)
        if answer.member("value") is not True:
            raise Unavailable("Graph answers that the sessions were not revoked.", retry_after=30.0)
        return {"revokeSignInSessions": "true"}

    def require_password_reset(self, account: Account) -> Mapping[str, str]:
        """See the port."""
        profile: dict[str, Any] = {"forceChangePasswordNextSignIn": True}
        if self._reset == "random":
            profile["password"] = _password()
        else:
            profile["forceChangePasswordNextSignInWithMfa"] = True
        self._api.ask("PATCH", self._user(account), body={"passwordProfile": profile}, headers=_URGENT)
        return {"passwordProfile.forceChangePasswordNextSignIn": "true", "password": self._reset}

    def set_risk(self, account: Account, level: RiskLevel) -> Mapping[str, str]:
        """See the port. Entra takes two verdicts: compromised (high) and dismissed (none)."""
        if not self._protection:
            raise ConnectorRefused("Identity protection is switched off for this connector.")
        batch = self._batches.get(level)
        if batch is None:
            raise ConnectorRefused(f"Entra takes the risks high and none, not {level.value}.")
        sent = batch.add(self._id(account), self._timeout)
        return {_VERDICTS[level]: "204", "sent_together": str(sent)}

    def set_enabled(self, account: Account, is_enabled: bool) -> Mapping[str, str]:
        """See the port."""
        self._api.ask("PATCH", self._user(account), body={"accountEnabled": is_enabled}, headers=_URGENT)
        return {"accountEnabled": str(is_enabled).lower()}

    def read_state(self, account: Account) -> AccountState:
        """See the port. A user whom identity protection has never noted has no risk."""
        found = self._object(self._api.ask("GET", self._user(account), params={"$select": _STATE}))
        profile = found.get("passwordProfile")
        must_reset = profile.get("forceChangePasswordNextSignIn") if isinstance(profile, dict) else None
        detail = {name: str(found[name]) for name in _STATE.split(",")[:-1] if found.get(name) is not None}
        risk = self._risk(text(found, "id"), detail) if self._protection else None
        enabled = found.get("accountEnabled")
        return AccountState(
            read_at=utc_now(),
            is_enabled=enabled if isinstance(enabled, bool) else None,
            must_reset_password=must_reset if isinstance(must_reset, bool) else None,
            sessions_valid_from=moment(found.get("signInSessionsValidFromDateTime")),
            password_changed_at=moment(found.get("lastPasswordChangeDateTime")),
            risk=risk,
            detail=detail,
        )

    def list_accounts(self) -> Iterator[DirectoryAccount]:
        """See the port; with managers and the groups that users are in, which takes a page of groups each."""
        groups = self._groups()
        params: dict[str, str | int] = {"$select": _PERSON, "$expand": "manager($select=id)", "$top": _PAGE}
        for found in self._pages(f"{self._graph}/users", params):
            manager = found.get("manager")
            user = text(found, "id")
            yield DirectoryAccount(
                account=Account(self._issuer, user, text(found, "userPrincipalName")),
                name=text(found, "displayName"),
                email=text(found, "mail"),
                is_enabled=found.get("accountEnabled") is not False,
                groups=tuple(sorted(groups.get(user, ()))),
                department=text(found, "department"),
                job_title=text(found, "jobTitle"),
                manager=text(manager, "id") if isinstance(manager, dict) else "",
            )

    def list_risky(self) -> Iterator[RiskyAccount] | None:
        """See ``SeesRisk``. Whose level Entra hides, for want of a licence, is left out."""
        return self._risky() if self._protection else None

    def _risky(self) -> Iterator[RiskyAccount]:
        params: dict[str, str | int] = {"$filter": "riskState eq 'atRisk'", "$top": _PAGE}
        url = f"{self._graph}/identityProtection/riskyUsers"
        for found in self._pages(url, params, self._in_turn):
            level, at = _LEVELS.get(text(found, "riskLevel")), moment(found.get("riskLastUpdatedDateTime"))
            if level is not None and at is not None and text(found, "riskState") == "atRisk":
                account = Account(self._issuer, text(found, "id"), text(found, "userPrincipalName"))
                yield RiskyAccount(account, level, at, text(found, "riskDetail"))

    def _in_turn(self, url: str, params: Mapping[str, str | int] | None) -> Answer:
        self._wait_turn()
        return self._protected("GET", url, params=params)

    def _groups(self) -> dict[str, set[str]]:
        """Names of groups by the ids of their members."""
        found: dict[str, set[str]] = {}
        for group in self._pages(f"{self._graph}/groups", {"$select": "id,displayName", "$top": _PAGE}):
            members = f"{self._graph}/groups/{quote(text(group, 'id'), safe='')}/members"
            for member in self._pages(members, {"$select": "id", "$top": _PAGE}):
                found.setdefault(text(member, "id"), set()).add(text(group, "displayName"))
        return found

    def _pages(
        self,
        url: str,
        params: Mapping[str, str | int] | None,
        ask: Callable[[str, Mapping[str, str | int] | None], Answer] | None = None,
    ) -> Iterator[Mapping[str, Any]]:
        while url:
            answer = ask(url, params) if ask is not None else self._api.ask("GET", url, params=params)
            yield from answer.items("value")
            following, params = answer.member("@odata.nextLink"), None
            url = following if isinstance(following, str) else ""
            if url and _origin(url) != _origin(self._graph):
                # The token goes where the connector was told to send it, not where an answer says.
                raise Unavailable("Graph names a next page on another host.")

    def _risk(self, user: str, detail: dict[str, str]) -> RiskLevel | None:
        self._wait_turn()
        url = f"{self._graph}/identityProtection/riskyUsers/{quote(user, safe='')}"
        answer = self._protected("GET", url, accept=(404,))
        if answer.status == 404:
            detail["riskState"] = "none"
            return RiskLevel.NONE
        found = self._object(answer)
        detail |= {n: text(found, n) for n in ("riskLevel", "riskState", "riskDetail") if text(found, n)}
        return _LEVELS.get(text(found, "riskLevel"))

    def _judge(self, verdict: str, ids: Sequence[str]) -> Mapping[str, WatchfloorError]:
        """One verdict on several users; where Graph refuses all of them, each again, for an answer of its own."""
        url = f"{self._graph}/identityProtection/riskyUsers/{verdict}"
        try:
            self._protected("POST", url, body={"userIds": list(ids)})
        except ConnectorRefused as error:
            if len(ids) == 1:
                return {ids[0]: error}
            failed: dict[str, WatchfloorError] = {}
            for user in ids:
                try:
                    self._wait_turn()
                    failed |= self._judge(verdict, [user])
                except Unavailable as later:
                    failed[user] = later
            return failed
        return {}

    def _protected(self, method: str, url: str, **asked: Any) -> Answer:
        try:
            answer = self._api.ask(method, url, headers=_URGENT, **asked)
        except Throttled as error:
            wait = self._turn.hold(error.said)
            raise Unavailable("Graph's identity protection is asked too often.", retry_after=wait) from None
        self._turn.went_well()
        return answer

    def _wait_turn(self) -> None:
        self._turn.take(self._timeout)

    def _user(self, account: Account) -> str:
        name = account.subject if _GUID.fullmatch(account.subject) else account.upn
        if not name:
            raise ConnectorRefused(
                f"{account.subject!r} is no object id of Entra, and there is no user principal name to go by. "
                "Set subjectClaim: oid."
            )
        return f"{self._graph}/users/{quote(name, safe='')}"

    def _id(self, account: Account) -> str:
        if _GUID.fullmatch(account.subject):
            return account.subject
        return text(self._object(self._api.ask("GET", self._user(account), params={"$select": "id"})), "id")

    @staticmethod
    def _object(answer: Answer) -> Mapping[str, Any]:
        if not isinstance(answer.body, dict):
            raise Unavailable("Graph answers with something that is no object.")
        return answer.body


_URGENT: Final = {"x-ms-throttle-priority": "High"}


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _password() -> str:
    """A password that nobody knows, of every kind of character that a policy may ask for."""
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(28)) + "aZ7!"
