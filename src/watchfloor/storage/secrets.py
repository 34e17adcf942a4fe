"""Keyed hashes of secrets: equal secrets compare equal, and the database alone gives nobody anything to guess against.

The key is 32 random bytes, sealed by the vault, kept with the settings; so it survives a change of the vault's key.
Used for the secrets of agents (which are only ever compared) and for fingerprints of sealed credentials (so that an
unchanged one gives no difference). It does not know who presents a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Final

from watchfloor.storage.changes import read_setting, write_setting

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.vault import Vault

_SETTING: Final = "secret-hash-key"
_AAD: Final = "setting/secret-hash-key"


class SecretHasher:
    """Hashes secrets under one key. ``purpose`` keeps the same secret in two places from looking the same."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def hash(self, purpose: str, secret: str) -> str:
        """64 hex digits."""
        return hmac.new(self._key, f"{purpose}\0{secret}".encode(), hashlib.sha256).hexdigest()

    def matches(self, purpose: str, secret: str, stored: str) -> bool:
        """Whether ``stored`` is the hash of ``secret``; takes as long whether it is or not."""
        return hmac.compare_digest(self.hash(purpose, secret).encode(), stored.encode())


def secret_hasher(tx: ControlTx, vault: Vault) -> SecretHasher | None:
    """The installation's hasher, or None as long as nothing was ever hashed."""
    sealed = read_setting(tx, _SETTING)
    return SecretHasher(vault.unseal(sealed, _AAD)) if sealed else None


def ensure_secret_hasher(tx: ControlTx, vault: Vault) -> SecretHasher:
    """The installation's hasher, made on first use; needs a write transaction."""
    known = secret_hasher(tx, vault)
    if known is not None:
        return known
    key = os.urandom(32)
    write_setting(tx, _SETTING, vault.seal(key, _AAD))
    return SecretHasher(key)


def agent_secret_purpose(agent_id: str) -> str:
    """What the hash of an agent's client secret is made for: both who sets and who checks it must say the same."""
    return f"agent/{agent_id}"
