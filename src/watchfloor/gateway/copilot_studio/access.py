"""Who asks? A token of our tenant, for this endpoint, of an app that we allow; each refusal with a reason of its own.

Pure but for its memory: tokens that were verified are kept by their SHA-256, so that a signature is checked once. Keys
come from ``keys``, which never fetches here.

INVARIANT: the algorithm is RS256 and the key comes from the tenant's key set; nothing in a token's header chooses
either. No keys is no answer (503), never a token taken on trust.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from watchfloor.gateway import tokens
from watchfloor.gateway.copilot_studio.config import CopilotStudioConfig

LEEWAY_SECONDS: Final = 60
_CACHE_SIZE: Final = 10_000
_STATUS: Final = {"keys_unavailable": 503, "wrong_caller": 403, "wrong_tenant": 403, "tls_required": 403}


class AccessRefused(Exception):
    """Who asks is not let in. ``reason`` is one of our own words, the text may be shown to the caller."""

    def __init__(self, reason: str, description: str) -> None:
        self.reason, self.description = reason, description
        super().__init__(description)

    @property
    def status(self) -> int:
        """HTTP's."""
        return _STATUS.get(self.reason, 401)


@dataclass(frozen=True, slots=True)
class Caller:
    """What a token proved. Times are Unix seconds; ``not_before`` is 0 where the token says nothing."""

    app_id: str
    token_id: str
    expires: int
    not_before: int
    agent_id: str = ""
    """The one agent that may be asked about; set where the control plane asks, to see that it is refused."""


class Keys(Protocol):
    """The tenant's keys; ``keys.TenantKeys`` is one."""

    @property
    def is_cold(self) -> bool:
        """Whether there are no keys that could be relied on."""
        ...

    @property
    def generation(self) -> int:
        """Raised whenever the keys have changed."""
        ...

    def find(self, kid: str) -> rsa.RSAPublicKey | None:
        """The key of that name; where there is none, it is looked for in the background."""
        ...


class Access:
    """Verifies the tokens of one tenant."""

    def __init__(self, config: CopilotStudioConfig, keys: Keys) -> None:
        self._config, self._keys = config, keys
        self._accepted: dict[bytes, Caller] = {}
        self._generation = -1

    def verify(self, authorization: bytes | None, now: float) -> Caller:
        """Who asks. ``now`` is in Unix seconds. Raises ``AccessRefused``."""
        if authorization is None:
            raise AccessRefused("token_missing", "A bearer token is needed.")
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token or b" " in token:
            raise AccessRefused("token_missing", "The Authorization header must be a bearer token.")
        if self._keys.is_cold:
            raise AccessRefused("keys_unavailable", "The tenant's signing keys are not known yet. Ask again.")
        if self._generation != self._keys.generation:
            self._generation = self._keys.generation
            self._accepted.clear()
        digest = hashlib.sha256(token).digest()
        caller = self._accepted.get(digest)
        if caller is None:
            caller = self._open(token)
            if len(self._accepted) >= _CACHE_SIZE:
                del self._accepted[next(iter(self._accepted))]
            self._accepted[digest] = caller
        if caller.expires + LEEWAY_SECONDS <= now:
            raise AccessRefused("token_expired", "The token has expired.")
        if caller.not_before - LEEWAY_SECONDS > now:
            raise AccessRefused("token_not_yet_valid", "The token is not valid yet.")
        return caller

    def _open(self, token: bytes) -> Caller:
        try:
            header, claims, signed, signature = tokens.take_apart(token)
        except tokens.TokenError as error:
            raise AccessRefused("invalid_token", error.description) from None
        if header.get("alg") != "RS256":
            raise AccessRefused("wrong_algorithm", "The token is not signed with RS256.")
        if any(name in header for name in tokens.FORBIDDEN_HEADERS):
            raise AccessRefused("invalid_token", "The token's header holds a parameter that is not accepted.")
        kid = header.get("kid")
        key = self._keys.find(kid) if isinstance(kid, str) else None
        if key is None:
            raise AccessRefused("unknown_key", "The token is signed with a key that is not in the tenant's key set.")
        try:
            key.verify(signature, signed, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            raise AccessRefused("wrong_signature", "The token's signature is wrong.") from None
        return self._read(claims)

    def _read(self, claims: Mapping[str, Any]) -> Caller:
        config = self._config
        if str(claims.get("iss")) not in config.issuers:
            raise AccessRefused("wrong_issuer", "The token is of another issuer.")
        if str(claims.get("tid", "")).lower() != config.tenant:
            raise AccessRefused("wrong_tenant", "The token is of another tenant.")
        if str(claims.get("aud")) not in config.audiences:
            raise AccessRefused("wrong_audience", "The token is for another audience.")
        # v1 tokens say appid, v2 tokens azp; who says both must be allowed under both names.
        apps = [str(claims[name]).lower() for name in ("appid", "azp") if name in claims]
        if not apps or not config.callers.issuperset(apps):
            raise AccessRefused("wrong_caller", "The token's app is not one of those that may ask.")
        return Caller(apps[0], _text(claims, "uti", "jti"), _time(claims, "exp"), _time(claims, "nbf", default=0))


def _text(claims: Mapping[str, Any], *names: str) -> str:
    return next((claims[name][:100] for name in names if isinstance(claims.get(name), str)), "")


def _time(claims: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = claims.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise AccessRefused("invalid_token", f"The token's claim {name!r} is missing or not a number.")
    return int(value)
