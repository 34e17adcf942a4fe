"""Values that travel through a caller and must come back untouched: session ids and retry tokens.

Nothing is stored: a value carries an HMAC over itself and over whom it was given to, under a key that every worker of
the installation derives from the vault's key. A value of somebody else, or for somebody else, is simply not accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

_MAC_BYTES: Final = 20


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


class Seal:
    """Seals values for one purpose. ``key`` is secret and the same in every worker."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._key = hmac.digest(key, purpose.encode(), hashlib.sha256)

    def _mac(self, value: bytes, holder: tuple[str, ...]) -> bytes:
        # Lengths stand before the parts, so that no two lists of parts are written alike.
        parts = [value, *(h.encode() for h in holder)]
        message = b"".join(len(p).to_bytes(4) + p for p in parts)
        return hmac.digest(self._key, message, hashlib.sha256)[:_MAC_BYTES]

    def seal(self, value: str, *holder: str) -> str:
        """``value`` for ``holder``, as visible ASCII without ``=``."""
        raw = value.encode()
        return f"{_encode(raw)}.{_encode(self._mac(raw, holder))}"

    def open(self, sealed: str, *holder: str) -> str | None:
        """The value that was sealed for exactly this ``holder``, or None."""
        value, _, mac = sealed.partition(".")
        try:
            raw = _decode(value)
            if not hmac.compare_digest(_decode(mac), self._mac(raw, holder)) or _encode(raw) != value:
                return None
            return raw.decode()
        except (binascii.Error, ValueError):
            return None
