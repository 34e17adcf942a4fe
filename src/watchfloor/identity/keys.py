"""The token service's signing keys: made here, sealed in the database, replaced without anybody noticing.

Above ``storage.people``; ``identity.sts`` signs with the newest, gateways and tool servers verify with every one that
is published. Two are published after a rotation: what the old one signed verifies until it has expired. It does not
know what is signed.

The newest private key is also sealed as credential ``sts-signing`` (PKCS #8 PEM), for gateway workers, who sign the
tokens that tool servers receive. A key's ``kid`` is its RFC 7638 thumbprint, so that the PEM alone tells it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import RSAKey

from watchfloor.model.errors import Unavailable
from watchfloor.storage import inventory, people
from watchfloor.storage.inventory import Credential
from watchfloor.storage.people import SigningKeyPair

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.vault import Vault

KEY_BITS: Final = 2048
SIGNING_CREDENTIAL: Final = "sts-signing"

SETTLE: Final = timedelta(seconds=5)
"""A new key is published for this long before it signs, so that gateways on other hosts know it."""

GRACE: Final = timedelta(minutes=15)
"""A replaced key verifies for this long: longer than any token lives."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key ready to sign."""

    kid: str
    key: RSAKey


def _aad(kid: str) -> str:
    return f"signing-key/{kid}"


def make_key_pair() -> tuple[bytes, dict[str, Any]]:
    """A new private key (PEM) and its public JWK."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = RSAKey.import_key(pem)
    jwk = {m: v for m, v in key.as_dict(private=False).items() if m in ("kty", "n", "e")}
    return pem, {**jwk, "kid": key.thumbprint(), "use": "sig", "alg": "RS256"}


def ensure_signing_key(tx: ControlTx, vault: Vault) -> bool:
    """Make the first key if there is none, and forget those whose time is over; whether it made one."""
    drop_retired(tx)
    if any(key.retired_at is None for key in people.list_signing_keys(tx)):
        return False
    _add_key(tx, vault)
    return True


def rotate(tx: ControlTx, vault: Vault) -> str:
    """Replace the signing key; the ``kid`` of the new one. The old one verifies for ``GRACE`` from now.

    ``drop_retired`` takes it away then; gateways go by what is projected, so a job should run that every few minutes.
    """
    for key in people.list_signing_keys(tx):
        if key.retired_at is None:
            people.save_signing_key(tx, replace(key, retired_at=tx.now + GRACE), "signing-key:retire")
    return _add_key(tx, vault)


def drop_retired(tx: ControlTx) -> int:
    """Forget keys whose time is over; how many. Safe to run at any time."""
    over = [k for k in people.list_signing_keys(tx) if k.retired_at is not None and k.retired_at <= tx.now]
    for key in over:
        people.delete_signing_key(tx, key.kid)
    return len(over)


def public_keys(tx: ControlTx) -> list[dict[str, Any]]:
    """The published keys, as JWKs, newest first."""
    return [
        dict(key.public_jwk)
        for key in people.list_signing_keys(tx)
        if key.retired_at is None or key.retired_at > tx.now
    ]


def current_key(tx: ControlTx) -> SigningKeyPair:
    """The key to sign with: the newest that everybody knows by now. Raises ``Unavailable`` if there is none."""
    keys = [k for k in people.list_signing_keys(tx) if k.retired_at is None or k.retired_at > tx.now]
    settled = [k for k in keys if k.created_at + SETTLE <= tx.now] or keys
    if not settled:
        raise Unavailable("The token service has no signing key yet.")
    return settled[0]


def open_key(pair: SigningKeyPair, vault: Vault) -> Signer:
    """The private key of ``pair``. Raises ``Corrupt`` if the vault's key is another."""
    return Signer(pair.kid, RSAKey.import_key(vault.unseal(pair.sealed, _aad(pair.kid)), {"kid": pair.kid}))


def _add_key(tx: ControlTx, vault: Vault) -> str:
    pem, jwk = make_key_pair()
    kid = str(jwk["kid"])
    pair = SigningKeyPair(kid=kid, public_jwk=jwk, sealed=vault.seal(pem, _aad(kid)), created_at=tx.now)
    people.save_signing_key(tx, pair, "signing-key:create")
    credential = Credential(
        id=SIGNING_CREDENTIAL,
        kind="rsa-pem",
        sealed=vault.seal(pem, SIGNING_CREDENTIAL),
        fingerprint=kid,
        updated_at=tx.now,
    )
    inventory.save_credential(tx, credential)
    return kid
