"""Foreign tokens: is this one of a trusted identity provider, for us, of a user who signed in when?

Above ``storage.people`` (which issuers are trusted) and a fetcher for key sets; ``identity.sts`` asks. It does not know
what is done with the answer, nor whether the user is welcome.

INVARIANT: the algorithm is RS256 and the key comes from the issuer's registered key set; nothing in a token's own
header chooses either. Key sets are kept: an identity provider that is down stops nobody who has signed in already.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from watchfloor.identity.jwks import FetchedKeySet, fetch_key_set
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import RiskLevel
from watchfloor.storage.people import IdentityProvider

MAX_TOKEN_CHARS: Final = 16_384
CLOCK_SKEW: Final = 30
"""Seconds that an identity provider's clock may be ahead of ours. An expired token is never accepted."""

FRESH_SECONDS: Final = 300.0
STALE_SECONDS: Final = 3600.0
RETRY_SECONDS: Final = 30.0
MIN_RSA_BITS: Final = 2048

_AGENT_ITSELF: Final = "11"
_AGENTS_ACCOUNT: Final = "13"
"""Facets of a subject in Entra's tokens (``xms_sub_fct``): a set of numbers, separated by spaces, in no order."""

_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
FORBIDDEN_HEADERS: Final = ("jwk", "jku", "x5u", "x5c", "crit", "b64", "zip")


class SubjectRefused(Exception):
    """A foreign token is not accepted. The text may be shown to the caller."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a foreign token proved. Times are Unix seconds; ``auth_time`` is the token's ``iat`` where it has none."""

    issuer: str
    subject: str
    auth_time: int
    expires: int
    session_id: str | None
    methods: tuple[str, ...]
    clock_lead: float = 0.0
    """How many seconds the provider's clock may be ahead of ours."""
    client: str = ""
    """Which application of the provider the token was issued to (``azp``, else ``appid``)."""
    is_agent_user: bool = False
    """Whether the user is an agent's own account (Entra's ``xms_sub_fct`` 13)."""
    sign_in_risk: str = RiskLevel.NONE.value
    """How risky the provider found the sign-in, where it tells that in the claim ``sign_in_risk``."""
    takes_claims: bool = False
    """Whether the client declared that it can answer a claims challenge (``xms_cc``: ``cp1``)."""


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def parse_jwks(body: bytes) -> dict[str, RSAKey]:
    """RS256 signing keys by ``kid`` (``""`` for a key without one); what is something else is left out.

    Raises ``ValueError`` if the body is no key set, or if two usable keys share a ``kid``.
    """
    try:
        document = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError("not a JWK set")
    keys: dict[str, RSAKey] = {}
    for jwk in members:
        if not isinstance(jwk, dict) or jwk.get("kty") != "RSA":
            continue
        if jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
            continue
        try:
            if len(_unpadded(jwk["n"]).lstrip(b"\0")) * 8 < MIN_RSA_BITS:
                continue
            key = RSAKey.import_key({m: jwk[m] for m in ("kty", "n", "e")})
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            continue
        kid = jwk.get("kid", "")
        if not isinstance(kid, str):
            continue
        if kid in keys:
            raise ValueError(f"two keys share the kid {kid!r}")
        keys[kid] = key
    return keys


@dataclass(slots=True)
class _Entry:
    keys: Mapping[str, RSAKey]
    fetched_at: float
    tried_at: float
    problem: str = ""
    leads: Mapping[float, float] = field(default_factory=dict)
    """What was seen of the provider's clock: when, and by how many seconds it was ahead."""


class KeySets:
    """Key sets of identity providers, by URL.

    Fresh for ``FRESH_SECONDS``; then still used for ``STALE_SECONDS`` while ``refresh_due`` (a background job) fetches
    anew. A ``kid`` that is not known makes it fetch at once, but each URL at most every ``RETRY_SECONDS``: tokens with
    made-up kids must not turn us against an identity provider.
    """

    def __init__(
        self, fetch: Callable[[str], FetchedKeySet] = fetch_key_set, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch, self._clock = fetch, clock
        self._entries: dict[str, _Entry] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def find_key(self, url: str, kid: str) -> RSAKey | None:
        """The key, or None if the set at ``url`` has none of this ``kid``. Raises ``Unavailable`` if nobody knows."""
        entry = self._entries.get(url)
        if entry is None or (key := self._pick(entry, kid)) is None or self._age(entry) > STALE_SECONDS:
            entry = self._refresh(url)
            key = self._pick(entry, kid)
        if self._age(entry) > STALE_SECONDS:
            raise Unavailable(f"The identity provider's keys are too old: {entry.problem}", retry_after=RETRY_SECONDS)
        return key

    def clock_lead(self, url: str, seen: float = 0.0) -> float:
        """How many seconds the clock behind ``url`` was ahead of ours, at most, of late; ``seen`` is one more reading.

        Revocation compares their times with ours. A clock that was set back is remembered for as long as what it
        signed may live.
        """
        now = self._clock()
        with self._guard:
            entry = self._entries.get(url)
            if entry is None:
                return max(0.0, seen)
            kept = {at: lead for at, lead in entry.leads.items() if now - at <= STALE_SECONDS}
            longest = max(kept.values(), default=0.0)
            if seen > longest:
                kept[now] = longest = seen
            entry.leads = kept
        return longest

    def refresh_due(self) -> int:
        """Fetch again what is no longer fresh; how many key sets were asked for. Never raises for what it finds."""
        due = [url for url, entry in list(self._entries.items()) if self._age(entry) > FRESH_SECONDS]
        for url in due:
            self._refresh(url)
        return len(due)

    @staticmethod
    def _pick(entry: _Entry, kid: str) -> RSAKey | None:
        if kid:
            return entry.keys.get(kid)
        # A token without kid is only unambiguous where there is one key.
        return next(iter(entry.keys.values())) if len(entry.keys) == 1 else None

    def _age(self, entry: _Entry) -> float:
        return self._clock() - entry.fetched_at

    def _refresh(self, url: str) -> _Entry:
        with self._guard:
            lock = self._locks.setdefault(url, threading.Lock())
        with lock:
            known = self._entries.get(url)
            now = self._clock()
            if known is not None and now - known.tried_at < RETRY_SECONDS:
                return known
            leads = known.leads if known else {}
            try:
                fetched = self._fetch(url)
                entry = _Entry(parse_jwks(fetched.body), now, now, leads={**leads, now: fetched.lead})
            except (Unavailable, ValueError) as error:
                problem = str(error) if isinstance(error, Unavailable) else f"The key set {url} is broken: {error}."
                # Never fetched counts as infinitely old, and is not tried again at once either.
                entry = (
                    _Entry(known.keys, known.fetched_at, now, problem, leads)
                    if known
                    else _Entry({}, -1e18, now, problem)
                )
            with self._guard:
                self._entries[url] = entry
            return entry


def _json_part(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_unpadded(part))
    except (binascii.Error, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SubjectRefused("The subject token is not a JWT.")
    return value


def unverified_issuer(token: str) -> str:
    """Who ``token`` claims to be from: only to look up whose keys to verify it with."""
    parts = token.split(".")
    if len(token) > MAX_TOKEN_CHARS or len(parts) != 3:
        raise SubjectRefused("The subject token is not a JWT.")
    issuer = _json_part(parts[1]).get("iss")
    if not isinstance(issuer, str):
        raise SubjectRefused("The subject token names no issuer.")
    return issuer


def header_of(token: str) -> dict[str, Any]:
    """What stands in the header of ``token``; nothing of it is verified. Raises ``SubjectRefused``."""
    return _json_part(token.split(".")[0])


def _seconds(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise SubjectRefused(f"The subject token's claim {name!r} is no time.")
    return int(value)


def verify_subject(
    token: str, provider: IdentityProvider, keys: KeySets, *, now: datetime, max_age_seconds: int
) -> Subject:
    """What ``token`` of ``provider`` proves. Raises ``SubjectRefused``; ``Unavailable`` without the provider's keys."""
    claims = signed_claims(token, provider, keys)
    issued = _seconds(claims, "iat") or 0
    lead = keys.clock_lead(provider.jwks_uri, issued - now.timestamp())
    return replace(_check_claims(claims, provider, now.timestamp(), max_age_seconds), clock_lead=lead)


def signed_claims(
    token: str, provider: IdentityProvider, keys: KeySets, *, types: Collection[str] = _TYPES
) -> dict[str, Any]:
    """What stands in ``token``, once its signature by ``provider`` was verified; none of the claims is checked.

    Raises ``SubjectRefused``; ``Unavailable`` without the provider's keys.
    """
    unverified_issuer(token)
    header = header_of(token)
    if header.get("alg") != "RS256":
        raise SubjectRefused("The subject token is not signed with RS256.")
    if str(header.get("typ", "")).lower() not in types:
        raise SubjectRefused("The subject token is of another type (typ) than an ID or access token.")
    if any(name in header for name in FORBIDDEN_HEADERS):
        raise SubjectRefused("The subject token's header holds a parameter that is not accepted.")
    kid = header.get("kid", "")
    key = keys.find_key(provider.jwks_uri, kid) if isinstance(kid, str) else None
    if key is None:
        raise SubjectRefused("The subject token is signed with a key that its issuer does not publish.")
    try:
        return dict(jwt.decode(token, key, algorithms=["RS256"]).claims)
    except (JoseError, ValueError, RecursionError):
        raise SubjectRefused("The subject token's signature is wrong.") from None


def _check_claims(claims: Mapping[str, Any], provider: IdentityProvider, now: float, max_age: int) -> Subject:
    if claims.get("iss") != provider.issuer:
        raise SubjectRefused("The subject token is of another issuer.")
    audience = claims.get("aud")
    if provider.audience not in (audience if isinstance(audience, list) else [audience]):
        raise SubjectRefused("The subject token is for another audience.")
    if "events" in claims:  # a logout token or security event, signed by the same key
        raise SubjectRefused("The subject token is of another type than an ID or access token.")
    expires, issued = _seconds(claims, "exp"), _seconds(claims, "iat")
    if expires is None or issued is None:
        raise SubjectRefused("The subject token lacks exp or iat.")
    auth_time = _seconds(claims, "auth_time")
    auth_time = issued if auth_time is None else auth_time
    if expires <= now:
        raise SubjectRefused("The subject token has expired.")
    if max(issued, auth_time, _seconds(claims, "nbf") or 0) > now + CLOCK_SKEW:
        raise SubjectRefused("The subject token is not valid yet.")
    if now - issued > max_age:
        raise SubjectRefused("The subject token is too old. Get a fresh one from the identity provider.")
    subject = claims.get(provider.subject_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= 500:
        raise SubjectRefused(f"The subject token's claim {provider.subject_claim!r} names no user.")
    facets = str(claims.get("xms_sub_fct", "")).split()
    if claims.get("idtyp") == "app" or _AGENT_ITSELF in facets:
        raise SubjectRefused("The subject token is an application's own and names no user. Use client_credentials.")
    client = claims.get("azp", claims.get("appid"))
    session = claims.get("sid")
    methods, capabilities = claims.get("amr"), claims.get("xms_cc")
    return Subject(
        issuer=provider.issuer,
        subject=subject,
        auth_time=auth_time,
        expires=expires,
        session_id=session if isinstance(session, str) and 0 < len(session) <= 200 else None,
        methods=tuple(str(m)[:40] for m in methods[:10]) if isinstance(methods, list) else (),
        client=client[:200] if isinstance(client, str) else "",
        is_agent_user=_AGENTS_ACCOUNT in facets,
        sign_in_risk=_risk(claims.get("sign_in_risk")),
        takes_claims=isinstance(capabilities, list) and "cp1" in capabilities,
    )


def _risk(said: Any) -> str:
    if said is None:
        return RiskLevel.NONE.value
    try:
        return RiskLevel(said).value
    except ValueError:
        raise SubjectRefused("The subject token's claim 'sign_in_risk' is none, low, medium or high.") from None


def auth_time_of(subject: Subject) -> datetime:
    """When the user signed in, aware UTC and by our clock: at the earliest, where the provider's clock is ahead."""
    return datetime.fromtimestamp(subject.auth_time - subject.clock_lead, UTC)
