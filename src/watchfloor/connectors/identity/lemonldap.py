"""LemonLDAP::NG's sessions: found and ended through the portal's REST server (``restSessionServer``).

Below the ``ldap`` connector. The portal asks no password for this, but wants proof of its own key: the time of day,
encrypted as its handlers do. Offline refresh tokens stand among the sessions with their user's name, so that they are
found and ended as well; online ones, codes and access tokens hang on the session and die with it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from watchfloor.connectors.identity.http import Api
from watchfloor.model.errors import Unavailable

_BLOCK: Final = 16
_ROUNDS: Final = 3
"""Looks at the sessions: one that was being made while others ended is found by the next."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,256}")
_FIELDS: Final = ("_session_kind", "_type", "_whatToTrace")


class Portal:
    """The sessions of one portal. ``attribute`` is the member of a session that holds the user's name."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float,
        attribute: str = "_whatToTrace",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url, self._key, self._clock = url.rstrip("/"), key, clock
        self._attribute = attribute
        self._api = Api(f"The portal {self._url}", timeout=timeout)

    def close(self) -> None:
        """Let go of connections."""
        self._api.close()

    def find_sessions(self, user: str) -> dict[str, str]:
        """Ids of the user's sessions with their kinds (``SSO``; ``OIDCI`` for an offline token).

        Raises ``ConnectorRefused`` where the portal does not take the key or has no REST server; ``Unavailable``.
        """
        answer = self._api.ask(
            "POST",
            f"{self._url}/sessions/global",
            params={"all": 1, "search": f"{self._attribute},{user}"},
            body={"__secret": self._proof(), "data": [*_FIELDS, self._attribute]},
        )
        if not isinstance(answer.body, dict):
            # An empty result is an object as well; anything else is not this API.
            raise Unavailable(f"The portal {self._url} does not answer as its REST server would.")
        return {session: self._kind(found) for session, found in answer.body.items() if self._is_of(found, user)}

    def end_sessions(self, user: str) -> dict[str, str]:
        """End every session of the user. Returns when a look finds none; raises ``Unavailable`` if some stay."""
        ended: dict[str, str] = {}
        for _ in range(_ROUNDS):
            found = self.find_sessions(user)
            if not found:
                return ended
            for session, kind in found.items():
                if not _ID.fullmatch(session):
                    raise Unavailable(f"The portal {self._url} names a session in an unknown way.")
                # 400: it ended by itself in the meantime.
                self._api.ask("DELETE", f"{self._url}/sessions/global/{quote(session, safe='')}", accept=(400,))
                ended[session] = kind
        raise Unavailable(f"The portal {self._url} still has sessions of the user after {_ROUNDS} rounds.")

    def _is_of(self, found: Any, user: str) -> bool:
        # Asked for one user, and looked at again: another's session is never ended on the word of a search.
        return isinstance(found, dict) and str(found.get(self._attribute, "")).lower() == user.lower()

    @staticmethod
    def _kind(found: Mapping[str, Any]) -> str:
        return str(found.get("_session_kind") or "session")[:40]

    def _proof(self) -> str:
        """The time under the portal's key: AES-256-CBC over its SHA-256 and itself (Lemonldap::NG::Common::Crypto)."""
        text = str(int(self._clock())).encode()
        text += b"\0" * (-len(text) % _BLOCK)
        start = os.urandom(_BLOCK)
        cipher = Cipher(algorithms.AES(hashlib.sha256(self._key.encode()).digest()), modes.CBC(start)).encryptor()
        sealed = cipher.update(hashlib.sha256(text).digest() + text) + cipher.finalize()
        return base64.b64encode(start + sealed).decode()
