"""Whose credential goes upstream: the stored one of the app or the maker, or a fresh token for the user.

A user's own credential never passes through here. Where a binding says ``user``, the tool server gets a short-lived
RS256 token of ours that names the user, the agent that acts, and this one server as its audience. The caller's own
token ends at the gateway, always.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from watchfloor.gateway.tokens import Token
from watchfloor.model.agents import CredentialOwner
from watchfloor.model.facts import BindingFacts, ServerFacts
from watchfloor.model.ids import new_id

SIGNING_CREDENTIAL: Final = "sts-signing"
"""The credential under which the token service gives workers its signing key (PKCS #8 PEM)."""

LIFETIME_SECONDS: Final = 300
_RENEW_SECONDS: Final = 60
_MAX_TOKENS: Final = 10_000


class NoCredential(Exception):
    """The credential that a binding asks for is not there or does not open: the call must not go out without it."""


def _part(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


class _Signer:
    """The signing key and its name: the RFC 7638 thumbprint, as the published key set has it."""

    def __init__(self, pem: bytes) -> None:
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise NoCredential("the signing key is no RSA key")
        self._key = key
        numbers = key.public_key().public_numbers()
        n, e = (_part(v.to_bytes((v.bit_length() + 7) // 8)).decode() for v in (numbers.n, numbers.e))
        thumbprint = hashlib.sha256(f'{{"e":"{e}","kty":"RSA","n":"{n}"}}'.encode()).digest()
        self._header = _part(orjson.dumps({"alg": "RS256", "typ": "at+jwt", "kid": _part(thumbprint).decode()}))

    def sign(self, claims: dict[str, Any]) -> str:
        signed = self._header + b"." + _part(orjson.dumps(claims))
        signature = self._key.sign(signed, padding.PKCS1v15(), SHA256())
        return (signed + b"." + _part(signature)).decode("ascii")


class Credentials:
    """The ``Authorization`` header that a call carries upstream. ``secret`` opens a stored credential by id."""

    def __init__(self, issuer: str, secret: Callable[[str], bytes | None]) -> None:
        self._issuer, self._secret = issuer, secret
        self._pem = b""
        self._signer: _Signer | None = None
        self._minted: OrderedDict[tuple[str | int, ...], tuple[str, float]] = OrderedDict()

    def authorization(self, token: Token, server: ServerFacts, binding: BindingFacts, now: datetime) -> str | None:
        """The header's value, or None where the server takes none. Raises ``NoCredential``."""
        if binding.credential_owner is CredentialOwner.USER:
            return self._for_user(token, server, now.timestamp())
        credential = binding.credential_id
        if binding.credential_owner is CredentialOwner.APP:
            credential = credential or server.credential_id
            if credential is None:
                return None
        if credential is None:
            raise NoCredential("the binding names no credential of its maker")
        secret = self._secret(credential)
        if secret is None:
            raise NoCredential(f"the credential {credential!r} is not there or does not open")
        try:
            text = secret.decode("ascii")
        except UnicodeDecodeError:
            text = ""
        if not text or not text.isprintable():
            raise NoCredential(f"the credential {credential!r} cannot stand in an HTTP header")
        return f"Bearer {text}"

    def _for_user(self, token: Token, server: ServerFacts, now: float) -> str:
        if token.user_id is None:
            raise NoCredential("the binding uses the user's credential, and the call is made for no user")
        epochs = (token.facts.user_epoch, token.facts.agent_epoch)
        agents = (token.agent_id, *(actor.agent_id for actor in token.facts.handed_over_by))
        key = (token.user_id, "/".join(agents), token.session_id, server.url, *epochs)
        found = self._minted.get(key)
        if found is not None and found[1] - _RENEW_SECONDS > now:
            return found[0]
        signer = self._current_signer()
        expires = int(now) + LIFETIME_SECONDS
        claims = {
            "iss": self._issuer,
            "aud": server.url,
            "sub": f"user:{token.user_id}",
            "azp": f"agent:{token.agent_id}",
            "act": _chain(agents),
            "sid": token.session_id,
            "jti": new_id("tok"),
            "iat": int(now),
            "exp": expires,
        }
        value = f"Bearer {signer.sign(claims)}"
        self._minted[key] = (value, expires)
        self._minted.move_to_end(key)
        while len(self._minted) > _MAX_TOKENS:
            self._minted.popitem(last=False)
        return value

    def _current_signer(self) -> _Signer:
        pem = self._secret(SIGNING_CREDENTIAL)
        if pem is None:
            raise NoCredential("the token service has not given this worker its signing key")
        if self._signer is None or pem != self._pem:
            try:
                self._signer, self._pem = _Signer(pem), pem
            except ValueError as error:
                raise NoCredential("the signing key cannot be read") from error
            self._minted.clear()
        return self._signer


def _chain(agents: Sequence[str]) -> dict[str, Any]:
    """RFC 8693 4.1: who acts, and in it who handed over; ``agents`` begins with the one that acts."""
    chain: dict[str, Any] = {}
    for agent in reversed(agents):
        chain = {"sub": f"agent:{agent}", **({"act": chain} if chain else {})}
    return chain
