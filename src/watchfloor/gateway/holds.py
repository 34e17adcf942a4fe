"""Holds: a call that waits for an operator, how it is named, and that an approval lets it out once.

The gateway makes the hold (id, payload hash, expiry) and records it with its decision; the control plane asks an
operator and projects the answer. The caller keeps a sealed retry token; presenting it with the very same payload finds
the hold again. A claim file makes an approval usable once among all workers of a host.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from watchfloor.gateway.seals import Seal
from watchfloor.model.errors import Unavailable
from watchfloor.model.ids import new_id


@dataclass(frozen=True, slots=True)
class Hold:
    """A held call."""

    id: str
    payload_hash: str
    expires_at: datetime
    retry_token: str

    def to_json(self) -> dict[str, Any]:
        """As the caller is told; with it in hand the call can be made again."""
        return {
            "id": self.id,
            "retry_token": self.retry_token,
            "expires_at": self.expires_at.isoformat(),
            "payload_hash": self.payload_hash,
        }


class Holds:
    """Makes and recognises holds. ``directory`` is shared by the workers of this host."""

    def __init__(self, seal: Seal, directory: Path, lifetime: timedelta) -> None:
        self._seal, self._directory, self._lifetime = seal, directory, lifetime

    def create(self, payload_hash: str, agent_id: str, user_id: str | None, now: datetime) -> Hold:
        """A new hold for this payload of this agent and user."""
        expires = (now + self._lifetime).replace(microsecond=0)
        hold_id = new_id("hold")
        token = self._seal.seal(f"{hold_id}/{int(expires.timestamp())}", payload_hash, agent_id, user_id or "")
        return Hold(hold_id, payload_hash, expires, token)

    def find(self, retry_token: str, payload_hash: str, agent_id: str, user_id: str | None) -> Hold | None:
        """The hold that ``retry_token`` was given out for, if payload, agent and user are the same."""
        value = self._seal.open(retry_token, payload_hash, agent_id, user_id or "")
        if value is None:
            return None
        hold_id, _, expires = value.partition("/")
        return Hold(hold_id, payload_hash, datetime.fromtimestamp(int(expires), UTC), retry_token)

    def claim(self, hold_id: str) -> bool:
        """Take the one use of an approval; False when it was taken before. Raises ``Unavailable``."""
        path = self._directory / hold_id
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        except OSError as error:
            raise Unavailable(f"cannot claim an approval in {self._directory}: {error.strerror}") from error
        return True

    def give_back(self, hold_id: str) -> None:
        """The claimed call never went out: its approval may be used after all."""
        with contextlib.suppress(OSError):
            (self._directory / hold_id).unlink()

    def sweep(self, now: datetime) -> None:
        """Forget claims that are far past any expiry."""
        limit = (now - self._lifetime - timedelta(days=2)).timestamp()
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < limit:
                        path.unlink()
