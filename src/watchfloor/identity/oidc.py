"""Signing operators in through an identity provider: OpenID Connect, code flow with PKCE, back-channel logout.

Above ``providers`` (whose signature to believe) and ``storage.sign_in``; the portal's doors call it. It knows neither
cookies nor pages.

INVARIANT: a sign-in ends in the browser that began it, once: state, nonce and PKCE verifier are ours, kept by hash or
here, and gone when used.
INVARIANT: a provider signs in only whom an owner has said so of, or who has a role by its claims, where that is
switched on. A local account is never taken over by a provider that uses the same name.

OpenID Connect Core 1.0 (3.1), Discovery 1.0, Back-Channel Logout 1.0; RFC 7636 (S256), RFC 9207 (``iss``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import httpx

from watchfloor.identity import egress, operators
from watchfloor.identity.operators import Origin, SignedIn
from watchfloor.identity.providers import CLOCK_SKEW, KeySets, SubjectRefused, signed_claims
from watchfloor.model.errors import Conflict, Denied, InputError, Unavailable
from watchfloor.model.ids import is_name
from watchfloor.model.people import Role
from watchfloor.model.urls import outbound_problem
from watchfloor.storage import people, sign_in
from watchfloor.storage.people import IdentityProvider
from watchfloor.storage.sign_in import Identity, SignOn

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

SIGN_ON_SECONDS: Final = 600
_MOST_SIGN_ONS: Final = 10_000
_MAX_BYTES: Final = 256 * 1024
_KEEP_METADATA: Final = 3600.0
_TOKEN_AGE: Final = 600
_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_LOGOUT_TYPES: Final = frozenset({"", "jwt", "logout+jwt", "application/logout+jwt"})


class SignOnRefused(Denied):
    """The identity provider, or what it said, does not sign anybody in here; the text may be shown."""

    code = "sign_on_refused"


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """How the provider is reached and what its claims mean. ``roles``: our roles by value of ``roles_claim``."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    scopes: str = "openid profile email"
    name_claim: str = "preferred_username"
    roles_claim: str = "groups"
    roles: Mapping[str, frozenset[Role]] = field(default_factory=dict)
    provisions: bool = False
    """Whether whoever has a role by ``roles`` gets an account at the first sign-in."""


def read_roles(text: str) -> dict[str, frozenset[Role]]:
    """``group=role group=role …`` as a mapping. Raises ``InputError``."""
    found: dict[str, set[Role]] = {}
    for pair in text.split():
        value, _, role = pair.rpartition("=")
        try:
            found.setdefault(value, set()).add(Role(role))
        except ValueError:
            raise InputError(
                f"{pair!r} is no GROUP=ROLE.", where="oidc_roles", remedy=f"Roles: {', '.join(Role)}."
            ) from None
        if not value:
            raise InputError(f"{pair!r} names no group.", where="oidc_roles", remedy="Write GROUP=ROLE.")
    return {value: frozenset(roles) for value, roles in found.items()}


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and what it has to bring back: ``browser`` is for a cookie."""

    url: str
    browser: str = field(repr=False)


class SignOns:
    """Sign-ins through one identity provider; safe between threads; blocks on it."""

    def __init__(
        self,
        store: SqlControlStore,
        party: RelyingParty,
        keys: KeySets,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self.party, self._keys, self._clock = store, party, keys, clock
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._lock = threading.Lock()

    # -- there ----------------------------------------------------------------------------------------------------

    def begin(self, target: str) -> Begun:
        """Begin a sign-in that ends at ``target``, a path of ours. Raises ``Unavailable``."""
        endpoint = self._endpoint("authorization_endpoint")
        state, nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(4))
        with self._store.tx(audited=False) as tx:
            now = int(tx.now.timestamp())
            begun = SignOn(_hash(state), _hash(browser), nonce, verifier, target, now + SIGN_ON_SECONDS)
            if not sign_in.add_sign_on(tx, begun, now, _MOST_SIGN_ONS):
                raise Unavailable("Too many sign-ins are under way. Try again in a minute.", retry_after=60)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.party.client_id,
            "redirect_uri": self.party.redirect_uri,
            "scope": self.party.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return Begun(f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", browser)

    # -- and back -------------------------------------------------------------------------------------------------

    def finish(
        self, answer: Mapping[str, str], browser: str, address: str, *, label: str = "browser"
    ) -> tuple[SignedIn, str]:
        """The fresh session and where to go, for what came back with the browser. Raises ``SignOnRefused``,
        ``Unavailable``."""
        with self._store.tx(audited=False) as tx:
            begun = sign_in.take_sign_on(tx, _hash(answer.get("state", "")), int(tx.now.timestamp()))
        if begun is None or not hmac.compare_digest(begun.browser_hash, _hash(browser)):
            raise SignOnRefused("This sign-in was not begun in this browser, or too long ago. Begin again.")
        issuer = answer.get("iss", "")
        if (issuer or self._discover().get("authorization_response_iss_parameter_supported")) and (
            issuer != self.party.issuer
        ):
            raise SignOnRefused("The answer comes from another identity provider than the one that was asked.")
        if answer.get("error"):
            said = answer.get("error_description") or answer["error"]
            raise SignOnRefused(f"The identity provider refused: {_printable(said)}.")
        claims = self._identify(answer.get("code", ""), begun)
        refusal, signed_in = "", None
        with self._store.tx("system:sign-on") as tx:
            try:
                operator = self._operator(tx, claims)
                tx.actor = operator.id
                origin = Origin(self.party.issuer, str(claims["sub"]), _text(claims.get("sid")))
                signed_in = operators.open_session(tx, operator, label, address, origin)
            except SignOnRefused as refused:
                refusal = str(refused)
                told = {"address": address, "reason": "sign_on_refused", "protocol": "openid"}
                tx.audit("operator:sign-in-failed", "operator/unknown", told)
        if signed_in is None:
            raise SignOnRefused(refusal)
        return signed_in, begun.target

    def _identify(self, code: str, begun: SignOn) -> dict[str, Any]:
        """The claims of the ID token that ``code`` is good for, checked."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.party.redirect_uri,
            "code_verifier": begun.verifier,
        }
        # RFC 6749 2.3.1: both parts are form-encoded before they become a Basic header.
        credentials = (quote(self.party.client_id, safe=""), quote(self.party.client_secret, safe=""))
        answer = self._ask("POST", self._endpoint("token_endpoint"), data=form, auth=credentials)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise SignOnRefused("The identity provider answered without an ID token.")
        try:
            claims = signed_claims(token, self._provider(), self._keys)
        except SubjectRefused as refused:
            raise SignOnRefused(str(refused).replace("subject token", "ID token")) from None
        problem = self._problem(claims)
        if problem is None and not hmac.compare_digest(str(claims.get("nonce", "")).encode(), begun.nonce.encode()):
            problem = "it answers another sign-in than this (nonce)"
        if problem is None and _text(claims.get("sub")) is None:
            problem = "it does not say who this is (sub)"
        if problem is not None:
            raise SignOnRefused(f"The ID token is not accepted: {problem}.")
        return claims

    def _problem(self, claims: Mapping[str, Any], *, needs_expiry: bool = True) -> str | None:
        """What is wrong with a token for us, whichever kind it is."""
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        with self._store.read() as tx:
            now = tx.now.timestamp()
        issued, expires = claims.get("iat"), claims.get("exp")
        if claims.get("iss") != self.party.issuer:
            return "it is of another issuer"
        if self.party.client_id not in audiences:
            return "it is for another audience"
        if claims.get("azp", None if len(audiences) > 1 else self.party.client_id) != self.party.client_id:
            return "it was issued to another client (azp)"
        if not _is_time(issued) or not (_is_time(expires) or (expires is None and not needs_expiry)):
            return "it lacks iat or exp"
        assert isinstance(issued, int | float)
        if expires is not None and expires <= now:
            return "it has expired"
        if not -_TOKEN_AGE <= issued - now <= CLOCK_SKEW:
            return "it was not issued just now; compare the clocks"
        return None

    # -- who that is ----------------------------------------------------------------------------------------------

    def _operator(self, tx: ControlTx, claims: Mapping[str, Any]) -> people.Operator:
        subject = str(claims["sub"])
        known = sign_in.find_identity_of(tx, self.party.issuer, subject)
        operator = people.find_operator(tx, known.operator_id) if known else self._first_time(tx, subject, claims)
        if operator is None or not operator.is_enabled:
            raise SignOnRefused("Your account here is disabled.")
        if not self.party.roles:
            return operator
        roles = self._roles(claims)
        if not roles:
            raise SignOnRefused("The identity provider gives you no role here. Ask an owner.")
        if roles == operator.roles:
            return operator
        try:
            return operators.set_roles(tx, operator.id, roles)
        except Conflict:
            # The last owner stays one, whatever a group in the directory has become.
            return operator

    def _first_time(self, tx: ControlTx, subject: str, claims: Mapping[str, Any]) -> people.Operator:
        name = (_text(claims.get(self.party.name_claim)) or "").strip().lower()
        if self.party.name_claim == "email" and claims.get("email_verified") is False:
            raise SignOnRefused("The identity provider has not verified your e-mail address.")
        operator_id = name if is_name(name) else name.partition("@")[0]
        identity = sign_in.find_identity(tx, operator_id) if is_name(operator_id) else None
        operator = people.find_operator(tx, operator_id) if identity is not None else None
        if identity is not None and identity.issuer == self.party.issuer and identity.subject is None and operator:
            sign_in.save_identity(tx, replace(identity, subject=subject), "operator:link")
            return operator
        if not self.party.provisions or identity is not None:
            raise SignOnRefused(f"Nobody here signs in as {_printable(name) or 'you'}. Ask an owner to add you.")
        roles = self._roles(claims)
        if not roles:
            raise SignOnRefused("The identity provider gives you no role here. Ask an owner.")
        try:
            created = operators.create(tx, operator_id, None, roles, display_name=_text(claims.get("name")) or "")
        except (Conflict, InputError) as error:
            raise SignOnRefused(f"No account can be made for you: {error}") from None
        sign_in.save_identity(tx, Identity(created.id, self.party.issuer, subject), "operator:link")
        return created

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        said = claims.get(self.party.roles_claim)
        values: Collection[Any] = said if isinstance(said, list) else str(said or "").split()
        found = (self.party.roles.get(value, frozenset()) for value in values if isinstance(value, str))
        return frozenset[Role]().union(*found)

    # -- the end --------------------------------------------------------------------------------------------------

    def log_out(self, logout_token: str) -> int:
        """End the sessions that a back-channel ``logout_token`` names; how many. Raises ``SignOnRefused``."""
        try:
            claims = signed_claims(logout_token, self._provider(), self._keys, types=_LOGOUT_TYPES)
        except SubjectRefused as refused:
            raise SignOnRefused(str(refused).replace("subject token", "logout token")) from None
        problem = self._problem(claims, needs_expiry=False)
        events, jti = claims.get("events"), _text(claims.get("jti"))
        subject, session = _text(claims.get("sub")), _text(claims.get("sid"))
        if problem is None and (not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict)):
            problem = "it is none"
        if problem is None and "nonce" in claims:
            problem = "it holds a nonce, as an ID token does"
        if problem is None and (not jti or not (subject or session)):
            problem = "it lacks jti, or both sub and sid"
        if problem is not None:
            raise SignOnRefused(f"The logout token is not accepted: {problem}.")
        with self._store.tx("system:sign-on") as tx:
            now = int(tx.now.timestamp())
            is_first = sign_in.use_token(tx, f"logout/{_hash(f'{self.party.issuer} {jti}')}", now + 2 * _TOKEN_AGE, now)
            ended = (
                sign_in.end_sessions_of(
                    tx, self.party.issuer, subject=subject, session_id=session, action="operator:back-channel-logout"
                )
                if is_first
                else 0
            )
            tx.audit("sign-on:logout", "sign-on", {"ended": ended, "repeated": not is_first})
        if not is_first:
            raise SignOnRefused("The logout token was used before.")
        return ended

    # -- the provider ---------------------------------------------------------------------------------------------

    def _provider(self) -> IdentityProvider:
        return IdentityProvider(self.party.issuer, self._endpoint("jwks_uri"), self.party.client_id)

    def _endpoint(self, name: str) -> str:
        url = self._discover().get(name)
        problem = outbound_problem(url, require_tls=True) if isinstance(url, str) else f"It does not say its {name}."
        if problem:
            raise Unavailable(f"The identity provider cannot be used. {problem}")
        return str(url)

    def _discover(self) -> dict[str, Any]:
        with self._lock:
            now = self._clock()
            if self._metadata is not None and now - self._metadata[0] < _KEEP_METADATA:
                return self._metadata[1]
            url = f"{self.party.issuer.rstrip('/')}/.well-known/openid-configuration"
            try:
                found = self._ask("GET", url)
            except (Unavailable, SignOnRefused) as error:
                if self._metadata is not None:
                    return self._metadata[1]
                raise Unavailable(f"The identity provider does not answer: {error}", retry_after=30) from error
            if found.get("issuer") != self.party.issuer:
                raise Unavailable("The identity provider calls itself by another issuer than the one that is set.")
            methods = found.get("code_challenge_methods_supported")
            if isinstance(methods, list) and "S256" not in methods:
                raise Unavailable("The identity provider does not know PKCE with S256.")
            self._metadata = (now, found)
            return found

    def _ask(self, method: str, url: str, **kwargs: Any) -> dict[str, Any]:
        problem = outbound_problem(url, require_tls=True)
        if problem:
            raise Unavailable(f"{url} cannot be asked. {problem}")
        try:
            with (
                # One each time: whatever cookies the provider sets, they are not the next person's.
                egress.client(10) as client,
                client.stream(method, url, headers={"accept": "application/json"}, **kwargs) as response,
            ):
                body = b""
                for chunk in response.iter_bytes(65_536):
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise Unavailable("The identity provider's answer is too long.")
            found = json.loads(body)
        except httpx.HTTPError as error:
            raise Unavailable(f"The identity provider does not answer: {type(error).__name__}.") from error
        except (ValueError, RecursionError):
            found = None
        if response.status_code >= 500:
            raise Unavailable(f"The identity provider answers {response.status_code}.")
        if not isinstance(found, dict) or response.status_code != 200:
            said = _printable(str(found.get("error", ""))) if isinstance(found, dict) else ""
            raise SignOnRefused(f"The identity provider answers {response.status_code} {said}".strip() + ".")
        return found


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 300 else None


def _printable(text: str) -> str:
    """What a stranger said, fit to be shown: one short line."""
    return "".join(c if c.isprintable() else " " for c in text[:200]).strip()
