"""Security event tokens: is this one of a transmitter that we believe, for us, saying one thing; and ours, signed.

Above ``identity.providers``, whose key sets it asks; ``receive`` and ``deliver`` use it. It does not know what an event
does. RFC 8417, and the interoperability rules of CAEP: RS256, ``typ`` secevent+jwt, a ``kid``, one event, no ``sub``
and no ``exp``.

INVARIANT: the algorithm is RS256 and the key is of the key set that operators named; nothing in a token's own header
chooses either. A token of another type (an access token, an ID token, a logout token) is never taken for an event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError

from watchfloor.identity.keys import Signer
from watchfloor.identity.providers import (
    CLOCK_SKEW,
    FORBIDDEN_HEADERS,
    KeySets,
    SubjectRefused,
    header_of,
    unverified_issuer,
)
from watchfloor.identity.signals.events import SecurityEvent, parse_subject
from watchfloor.model.errors import Denied, InputError
from watchfloor.storage.signals import Transmitter

SET_TYPE: Final = "secevent+jwt"
SET_TYPES: Final = frozenset({SET_TYPE, f"application/{SET_TYPE}"})

MAX_AGE: Final = timedelta(days=7)
"""How long after it was issued an event is still taken: outages are long, and a late revocation is better than none.
For longer than this each ``jti`` is remembered."""

_MOST_CHARS: Final = 200


class SetRefused(Denied):
    """A security event token is not taken. ``err`` is the code of RFC 8935; the text may be shown to the sender."""

    code = "set_refused"

    def __init__(self, err: str, description: str) -> None:
        self.err = err
        super().__init__(description)


def claimed_issuer(token: str) -> str:
    """Who ``token`` claims to be from: only to look up whose keys to verify it with. Raises ``SetRefused``."""
    try:
        return unverified_issuer(token)
    except SubjectRefused:
        raise SetRefused("invalid_request", "This is no signed token that names its issuer.") from None


def signed_claims(token: str, transmitter: Transmitter, keys: KeySets, types: Collection[str]) -> dict[str, Any]:
    """What ``transmitter`` signed, of one of ``types``; none of the claims is checked but the issuer.

    Raises ``SetRefused``; ``Unavailable`` without the transmitter's keys.
    """
    if claimed_issuer(token) != transmitter.issuer:
        raise SetRefused("invalid_issuer", "The token is of another issuer.")
    try:
        header = header_of(token)
    except SubjectRefused:
        raise SetRefused("invalid_request", "The token's header cannot be read.") from None
    kind = header.get("typ")
    if not isinstance(kind, str) or kind.lower() not in types:
        raise SetRefused("invalid_request", f"The token is of another type (typ) than {min(types, key=len)}.")
    if header.get("alg") != "RS256":
        raise SetRefused("invalid_key", "The token is not signed with RS256.")
    if any(name in header for name in FORBIDDEN_HEADERS):
        raise SetRefused("invalid_request", "The token's header holds a parameter that is not accepted.")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise SetRefused("invalid_key", "The token names no key (kid).")
    key = keys.find_key(transmitter.jwks_uri, kid)
    if key is None:
        raise SetRefused("invalid_key", "The token is signed with a key that its issuer does not publish.")
    try:
        return dict(jwt.decode(token, key, algorithms=["RS256"]).claims)
    except (JoseError, ValueError, RecursionError):
        raise SetRefused("authentication_failed", "The token's signature is wrong.") from None


def check_audience(claims: Mapping[str, Any], wanted: str) -> None:
    """Raises ``SetRefused`` unless ``wanted`` is among the audiences."""
    audience = claims.get("aud")
    if wanted not in (audience if isinstance(audience, list) else [audience]):
        raise SetRefused("invalid_audience", "The token is for another audience.")


def issued_at(claims: Mapping[str, Any], now: datetime, max_age: timedelta) -> int:
    """``iat``, Unix seconds. Raises ``SetRefused`` if it is none, too old, or later than clocks may differ."""
    issued = claims.get("iat")
    if isinstance(issued, bool) or not isinstance(issued, int | float) or not 0 <= issued < 2**40:
        raise SetRefused("invalid_request", "The token lacks iat.")
    if issued > now.timestamp() + CLOCK_SKEW:
        raise SetRefused("invalid_request", "The token was issued in the future.")
    if issued < (now - max_age).timestamp():
        raise SetRefused("invalid_request", "The token is too old.")
    return int(issued)


def token_id(claims: Mapping[str, Any]) -> str:
    """``jti``. Raises ``SetRefused``."""
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= _MOST_CHARS or not jti.isprintable():
        raise SetRefused("invalid_request", f"The token lacks jti, or it has more than {_MOST_CHARS} characters.")
    return jti


def verify(token: str, transmitter: Transmitter, keys: KeySets, now: datetime) -> SecurityEvent:
    """The one event that ``token`` of ``transmitter`` says. Raises ``SetRefused``; ``Unavailable`` without keys."""
    claims = signed_claims(token, transmitter, keys, SET_TYPES)
    if claims.get("iss") != transmitter.issuer:
        raise SetRefused("invalid_issuer", "The token is of another issuer.")
    check_audience(claims, transmitter.audience)
    issued = issued_at(claims, now, MAX_AGE)
    jti = token_id(claims)
    for name in ("sub", "exp"):
        if name in claims:
            raise SetRefused("invalid_request", f"A security event token has no claim {name}; the subject is sub_id.")
    events = claims.get("events")
    if not isinstance(events, Mapping) or len(events) != 1:
        raise SetRefused("invalid_request", "A security event token says exactly one event.")
    kind, payload = next(iter(events.items()))
    if not isinstance(payload, Mapping) or not isinstance(kind, str) or len(kind) > 300 or not kind.isprintable():
        raise SetRefused("invalid_request", "The event is none.")
    try:
        subject = parse_subject(claims["sub_id"]) if "sub_id" in claims else None
    except InputError as error:
        raise SetRefused("invalid_request", str(error)) from None
    lead = keys.clock_lead(transmitter.jwks_uri, issued - now.timestamp())
    return SecurityEvent(jti, issued, kind, dict(payload), subject, lead)


def build(signer: Signer, claims: Mapping[str, Any]) -> str:
    """``claims`` as a signed security event token."""
    return jwt.encode({"alg": "RS256", "typ": SET_TYPE, "kid": signer.kid}, dict(claims), signer.key)
