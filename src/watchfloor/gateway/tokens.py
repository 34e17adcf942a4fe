"""Gateway tokens: is this one of ours, for this tool server, and what does it prove?

Only RS256 under a published key of our token service is accepted; nothing in the token's own header chooses key or
algorithm. A verified token is kept by its SHA-256, so that the signature is checked once. Epochs (revocation) are not
looked at here: the guard compares them with the state of this very moment.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from watchfloor.model.access import NO_PROOF, Proof
from watchfloor.model.agents import PROOF_CLAIM, TokenMode
from watchfloor.model.facts import MAX_HANDOVERS, Actor, SigningKey, TokenFacts
from watchfloor.model.people import RiskLevel

MAX_LIFETIME_SECONDS: Final = 600
MAX_TOKEN_BYTES: Final = 8192
CLOCK_SKEW_SECONDS: Final = 30
"""How far the token service's clock may be ahead of ours; a token that has expired is never let through."""

NO_SERVER: Final = ""
"""The ``server_id`` of a token that is for the agent's own affairs (``{base_url}/agents``) and for no tool server."""

CLAIMS_CAPABLE: Final = "cp1"
"""The client capability (``xms_cc``) of answering a claims challenge; Entra's word."""

_LEVELS: Final = frozenset(level.value for level in RiskLevel)
_CACHE_SIZE: Final = 20_000
_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_-]+")
FORBIDDEN_HEADERS: Final = ("jwk", "jku", "x5u", "x5c", "crit", "b64", "zip")


class TokenError(Exception):
    """The token is not accepted. ``code`` is RFC 6750's, ``reason`` ours; the text may be shown to the caller.

    ``token`` is there where the token is genuine, and of no use all the same.
    """

    def __init__(
        self,
        description: str,
        code: str = "invalid_token",
        *,
        reason: str = "invalid_token",
        token: Token | None = None,
    ) -> None:
        self.code, self.description, self.reason, self.token = code, description, reason, token
        super().__init__(description)


@dataclass(frozen=True, slots=True)
class Token:
    """What a gateway token proves. ``expires`` is in Unix seconds."""

    id: str
    server_id: str
    agent_id: str
    user_id: str | None
    mode: TokenMode
    session_id: str
    expires: int
    facts: TokenFacts
    may_write: bool = False
    """Whether the token's scope goes beyond reading; a binding that allows less is not widened by it."""
    proof: Proof = NO_PROOF
    """How the user signed in."""
    takes_claims: bool = False
    """Whether the client declared that it can answer a claims challenge (``xms_cc``: ``cp1``)."""
    is_proof: bool = False
    """Whether the control plane asks, to see that it is refused (``identity.proving``): nothing goes out with it."""

    @property
    def parent_agent_id(self) -> str | None:
        """The agent that handed over to this one."""
        before = self.facts.handed_over_by
        return before[0].agent_id if before else None


def _decode(part: bytes) -> bytes:
    if not _BASE64URL.fullmatch(part):
        raise TokenError("The token is not a JWT.")
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise TokenError("The token is not a JWT.") from None


def _object(part: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(_decode(part))
    except orjson.JSONDecodeError:
        raise TokenError("The token is not a JWT.") from None
    if not isinstance(value, dict):
        raise TokenError("The token is not a JWT.")
    return value


def take_apart(token: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, what is signed, and the signature of a JWT; nothing of it is verified. Raises ``TokenError``."""
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenError("The token is too long.")
    parts = token.split(b".")
    if len(parts) != 3:
        raise TokenError("The token is not a JWT.")
    signature = _decode(parts[2]) if parts[2] else b""
    return _object(parts[0]), _object(parts[1]), parts[0] + b"." + parts[1], signature


def _principal(value: Any, kind: str) -> str:
    if not isinstance(value, str) or not value.startswith(f"{kind}:") or len(value) <= len(kind) + 1:
        raise TokenError(f"The token names no {kind}.")
    return value.removeprefix(f"{kind}:")


def _integer(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise TokenError(f"The token's claim {name!r} is missing or not a number.")
    return value


def _string(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise TokenError(f"The token's claim {name!r} is missing.")
    return value


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _proof(claims: Mapping[str, Any]) -> Proof:
    risk = claims.get("sign_in_risk", RiskLevel.NONE.value)
    if risk not in _LEVELS:
        raise TokenError("The token's claim 'sign_in_risk' is unknown.")
    methods = _strings(claims.get("amr"))
    return Proof(methods, risk) if methods or risk != RiskLevel.NONE.value else NO_PROOF


def public_key(jwk: Mapping[str, Any]) -> rsa.RSAPublicKey:
    """The key that ``jwk`` describes. Raises ``ValueError`` unless it is an RSA signing key of at least 2,048 bits."""
    if jwk.get("kty") != "RSA" or jwk.get("alg", "RS256") != "RS256" or jwk.get("use", "sig") != "sig":
        raise ValueError("not an RS256 signing key")
    n, e = (int.from_bytes(base64.urlsafe_b64decode(str(jwk[m]) + "==")) for m in ("n", "e"))
    if n.bit_length() < 2048:
        raise ValueError("shorter than 2,048 bits")
    return rsa.RSAPublicNumbers(e, n).public_key()


class TokenVerifier:
    """Verifies tokens of one issuer for the tool servers behind ``base_url``.

    ``use_keys`` replaces the accepted keys and forgets every token: call it whenever they may have changed.
    """

    def __init__(self, issuer: str, base_url: str) -> None:
        self._issuer = issuer
        self._audience = f"{base_url.rstrip('/')}/mcp/"
        self._own_audience = f"{base_url.rstrip('/')}/agents"
        self._keys: dict[str, rsa.RSAPublicKey] = {}
        self._accepted: dict[bytes, Token] = {}

    def use_keys(self, keys: Mapping[str, SigningKey]) -> None:
        """Accept exactly ``keys``; one that is no RS256 key is left out, so that its tokens are refused."""
        usable = {}
        for kid, key in keys.items():
            try:
                usable[kid] = public_key(key.jwk)
            except (ValueError, KeyError, TypeError, binascii.Error):
                continue
        self._keys = usable
        self._accepted.clear()

    def verify(self, token: bytes, server_id: str, now: float) -> Token:
        """What ``token`` proves at ``server_id``. ``now`` is in Unix seconds. Raises ``TokenError``."""
        found = self.verify_any(token, now)
        if found.server_id != server_id:
            raise TokenError("The token is for another audience.", token=found)
        return found

    def verify_any(self, token: bytes, now: float) -> Token:
        """What ``token`` proves, whichever audience of this gateway it is for. Raises ``TokenError``."""
        digest = hashlib.sha256(token).digest()
        found = self._accepted.get(digest)
        if found is None:
            found = self._verify(token, now)
            if len(self._accepted) >= _CACHE_SIZE:
                del self._accepted[next(iter(self._accepted))]
            self._accepted[digest] = found
        if found.expires <= now:
            raise TokenError("The token has expired.", reason="token_expired", token=found)
        return found

    def _verify(self, token: bytes, now: float) -> Token:
        header, claims, signed, signature = take_apart(token)
        # INVARIANT: one algorithm, keys from our own state; what the header asks for beyond a kid is refused.
        if header.get("alg") != "RS256":
            raise TokenError("The token is not signed with RS256.")
        if header.get("typ") != "at+jwt":
            raise TokenError("The token is not an access token (typ at+jwt).")
        if any(name in header for name in FORBIDDEN_HEADERS):
            raise TokenError("The token's header holds a parameter that is not accepted.")
        kid = header.get("kid")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise TokenError("The token is signed with an unknown key.")
        try:
            key.verify(signature, signed, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            raise TokenError("The token's signature is wrong.") from None
        return self._read(claims, now)

    def _read(self, claims: dict[str, Any], now: float) -> Token:
        if claims.get("iss") != self._issuer:
            raise TokenError("The token is of another issuer.")
        server = self._server(claims.get("aud"))
        issued, expires = _integer(claims, "iat"), _integer(claims, "exp")
        if expires - issued > MAX_LIFETIME_SECONDS:
            raise TokenError("The token lives longer than is accepted.")
        if issued > now + CLOCK_SKEW_SECONDS or (
            "nbf" in claims and _integer(claims, "nbf") > now + CLOCK_SKEW_SECONDS
        ):
            raise TokenError("The token is not valid yet.")
        agent = _principal(claims.get("azp"), "agent")
        try:
            mode = TokenMode(str(claims.get("mode")))
        except ValueError:
            raise TokenError("The token's claim 'mode' is missing or unknown.") from None
        user = self._subject(claims, agent, mode)
        auth_time = _integer(claims, "auth_time") if claims.get("auth_time") is not None else None
        session = _string(claims, "sid")
        return Token(
            id=_string(claims, "jti"),
            server_id=server,
            agent_id=agent,
            user_id=user,
            mode=mode,
            session_id=session,
            expires=expires,
            facts=TokenFacts(
                session_id=session,
                mode=mode,
                user_epoch=_integer(claims, "sev") if user is not None else 0,
                agent_epoch=_integer(claims, "aev"),
                expires_at=datetime.fromtimestamp(expires, UTC),
                auth_time=None if auth_time is None else datetime.fromtimestamp(auth_time, UTC),
                handed_over_by=actors_before(claims.get("act")),
            ),
            may_write="write" in str(claims.get("scope", "")).split(),
            proof=_proof(claims),
            takes_claims=CLAIMS_CAPABLE in _strings(claims.get("xms_cc")),
            is_proof=PROOF_CLAIM in claims,
        )

    def _server(self, audience: Any) -> str:
        if audience == self._own_audience:
            return NO_SERVER
        server = audience.removeprefix(self._audience) if isinstance(audience, str) else ""
        if not server or server == audience:
            raise TokenError("The token is for another audience.")
        return server

    @staticmethod
    def _subject(claims: Mapping[str, Any], agent: str, mode: TokenMode) -> str | None:
        """The user that the token speaks for, if any: then it must name the agent as its actor."""
        subject = claims.get("sub")
        actor = claims.get("act")
        if isinstance(subject, str) and subject.startswith("agent:"):
            if _principal(subject, "agent") != agent or mode in (TokenMode.OBO, TokenMode.AGENT_USER):
                raise TokenError("The token's subject does not fit its mode.")
            return None
        user = _principal(subject, "user")
        if mode in (TokenMode.AGENT, TokenMode.ANONYMOUS):
            raise TokenError("The token's subject does not fit its mode.")
        if not isinstance(actor, dict) or actor.get("sub") != f"agent:{agent}":
            raise TokenError("The token does not name the agent as its actor.")
        return user


def actors_before(actor: Any) -> tuple[Actor, ...]:
    """Who handed over to the present ``actor`` (RFC 8693 4.1), nearest first. Raises ``TokenError``."""
    found: list[Actor] = []
    before = actor.get("act") if isinstance(actor, dict) else None
    while before is not None:
        if not isinstance(before, dict) or len(found) == MAX_HANDOVERS:
            raise TokenError("The token's actors are not a chain of at most four agents that handed over.")
        found.append(Actor(_principal(before.get("sub"), "agent"), _integer(before, "aev")))
        before = before.get("act")
    return tuple(found)
