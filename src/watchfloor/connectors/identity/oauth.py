"""The connector's own token at a provider: client credentials (RFC 6749), by secret or by signed assertion (RFC 7523).

Below the adapters, above ``http``. A token is kept until shortly before it ends, and got again when the provider no
longer takes it. Assertions are RS256, made for one request, and live for a minute.
"""

from __future__ import annotations

import threading
import time
import uuid
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from watchfloor.connectors.identity.http import Answer, Api, text
from watchfloor.identity.connector import ConnectorRefused
from watchfloor.model.errors import InputError, Unavailable

_EARLY: Final = 60.0
"""Seconds before its end at which a token is replaced."""
_ASSERTION_SECONDS: Final = 60
_ASSERTED: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves who the client is: members of the form, headers."""

    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


Proof = Callable[[], Credentials]


def by_secret(client_id: str, secret: str) -> Proof:
    """``client_secret_basic``, which every server must take (RFC 6749, 2.3.1)."""
    both = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
    found = Credentials(headers={"authorization": "Basic " + b64encode(both).decode()})
    return lambda: found


def by_assertion(client_id: str, audience: str, private_key: str, header: Mapping[str, str]) -> Proof:
    """``private_key_jwt``. ``header`` names the key. Raises ``InputError`` for a key that is none."""
    try:
        key = RSAKey.import_key(private_key)
    except (JoseError, ValueError, TypeError) as error:
        raise InputError(
            "this is no RSA private key in PEM.", where="privateKey", remedy="Give it without a passphrase."
        ) from error

    def prove() -> Credentials:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": str(uuid.uuid4()),
            "iat": now,
            "nbf": now,
            "exp": now + _ASSERTION_SECONDS,
        }
        assertion = jwt.encode({"alg": "RS256", "typ": "JWT", **header}, claims, key, algorithms=["RS256"])
        form = {"client_id": client_id, "client_assertion_type": _ASSERTED, "client_assertion": assertion}
        return Credentials(form)

    return prove


def thumbprint(certificate: str) -> str:
    """``x5t#S256`` of a certificate in PEM. Raises ``InputError``."""
    try:
        digest = x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA256())
    except ValueError as error:
        raise InputError("this is no certificate in PEM.", where="certificate") from error
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


class Tokens:
    """Bearer tokens by client credentials. May be asked from any thread."""

    def __init__(self, name: str, url: str, prove: Proof, *, scope: str = "", timeout: float) -> None:
        self._name, self._url, self._prove, self._scope = name, url, prove, scope
        self._api = Api(name, timeout=timeout, explain=explain)
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    def close(self) -> None:
        """Let go of connections."""
        self._api.close()

    def headers(self) -> Mapping[str, str]:
        """What to send along. Raises ``ConnectorRefused`` where the credentials are wrong; ``Unavailable``."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._get()
            return {"authorization": f"Bearer {self._token}"}

    def renew(self) -> None:
        """Forget the token: the next is a new one."""
        with self._lock:
            self._until = 0.0

    def _get(self) -> None:
        proof = self._prove()
        form = {"grant_type": "client_credentials", **({"scope": self._scope} if self._scope else {}), **proof.form}
        answer = self._api.ask("POST", self._url, form=form, headers=proof.headers, accept=(400, 401))
        if answer.status >= 400:
            raise ConnectorRefused(
                f"{self._name} gives the connector no token ({explain(answer.body) or answer.status}). "
                "Check its client, its credentials and their end."
            )
        self._keep(answer)

    def _keep(self, answer: Answer) -> None:
        token, seconds = answer.member("access_token"), answer.member("expires_in")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise Unavailable(f"{self._name} answers the request for a token without one.")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        lasting = float(seconds) if is_number else _EARLY
        self._token, self._until = token, time.monotonic() + max(lasting - _EARLY, lasting / 2, 1.0)


def explain(body: Any) -> str:
    """The code of an OAuth error; its description may quote what was sent."""
    return text(body, "error")[:60] if isinstance(body, dict) else ""
