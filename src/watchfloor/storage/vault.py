"""The vault: secrets at rest, sealed with AES-256-GCM under one key file.

Rooms above hand in bytes and get text that is safe to store and to project; gateway workers hold the same key and open
what they need. It knows nothing of what a secret is for: the caller binds a sealed text to its place through ``aad``
(the credential's id), so that a text copied to another row does not open there.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import stat
import tempfile
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from watchfloor.model.errors import Corrupt, Unavailable

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_VERSION: Final = b"\x01"


class Vault:
    """Seals and unseals. Holds the key in memory; it never shows it."""

    __slots__ = ("_cipher", "_root")

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a vault key has {_KEY_BYTES} bytes, not {len(key)}")
        self._cipher = AESGCM(key)
        self._root = hmac.digest(key, b"watchfloor derived keys", hashlib.sha256)

    @classmethod
    def open(cls, key_path: Path | str, *, create: bool = True) -> Self:
        """The vault of the key in ``key_path``; a missing file is made (0600) unless ``create`` is False.

        Raises ``Unavailable`` if the file is missing, unreadable or open to others, ``Corrupt`` if it is no key.
        """
        path = Path(key_path)
        if create:
            create_secret_file(path, os.urandom(_KEY_BYTES))
        key = read_secret_file(path)
        if len(key) != _KEY_BYTES:
            raise Corrupt(f"{path} is no vault key ({len(key)} bytes, not {_KEY_BYTES}). Restore it from your backup.")
        return cls(key)

    def derive(self, purpose: str) -> bytes:
        """32 bytes for ``purpose``: the same in every process that holds this vault's key, and no way back to it."""
        return hmac.digest(self._root, purpose.encode(), hashlib.sha256)

    def seal(self, secret: bytes, aad: str) -> str:
        """``secret`` as base64 text that opens only with this key and this ``aad``."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret, _VERSION + aad.encode())
        return base64.b64encode(_VERSION + nonce + sealed).decode()

    def unseal(self, sealed: str, aad: str) -> bytes:
        """The secret. Raises ``Corrupt`` if the text was altered, belongs elsewhere or was sealed with another key."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            if raw[:1] != _VERSION:
                raise InvalidTag
            nonce, body = raw[1 : 1 + _NONCE_BYTES], raw[1 + _NONCE_BYTES :]
            return self._cipher.decrypt(nonce, body, _VERSION + aad.encode())
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise Corrupt(
                f"the sealed secret {aad!r} does not open: it was altered, or sealed with another key. "
                "Restore keys/vault.key that belongs to this database, or enter the secret again."
            ) from error


def create_secret_file(path: Path, content: bytes) -> bool:
    """Make ``path`` with ``content``, 0600 in a directory of 0700, whole or not at all; False if it was there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            return False
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
            # Linking fails where somebody was faster: then theirs is the key.
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
                return True
            return False
        finally:
            os.close(descriptor)
            Path(name).unlink()
    except OSError as error:
        raise Unavailable(f"cannot make {path}: {error.strerror}") from error


def read_secret_file(path: Path) -> bytes:
    """The content of ``path``. Refuses a file that others may read or change, as ssh does."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o037:
                raise Unavailable(f"{path} holds a secret, but its mode is {mode:04o}. Run: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
