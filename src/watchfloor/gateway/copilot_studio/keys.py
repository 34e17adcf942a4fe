"""The tenant's signing keys: fetched ahead of time and kept fresh by a thread; asked on the request's path.

Fetching takes seconds at times, and a request has one: so ``find`` never waits. A name that is not known makes the
thread look again, but not more often than every ``NUDGE_SECONDS``: tokens with invented names must not make us fetch.
Keys that could not be confirmed for a day count as unknown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa

from watchfloor.gateway.tokens import public_key
from watchfloor.model.errors import Unavailable

_LOG: Final = logging.getLogger(__name__)
FRESH_SECONDS: Final = 900.0
NUDGE_SECONDS: Final = 30.0
STALE_SECONDS: Final = 24 * 3600.0
_FIRST_RETRY: Final = 1.0
_LONGEST_RETRY: Final = 60.0
_MOST_KEYS: Final = 100


def parse_keys(body: bytes) -> dict[str, rsa.RSAPublicKey]:
    """RS256 signing keys by ``kid``; what is something else is left out. Raises ``ValueError`` if it is no key set."""
    document = orjson.loads(body)
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or len(members) > _MOST_KEYS:
        raise ValueError("not a JWK set")
    keys: dict[str, rsa.RSAPublicKey] = {}
    for jwk in members:
        kid = jwk.get("kid") if isinstance(jwk, dict) else None
        if not isinstance(kid, str) or not kid:
            continue
        try:
            key = public_key(jwk)
        except (ValueError, KeyError, TypeError):
            continue
        if kid in keys:
            raise ValueError(f"two keys share the kid {kid[:80]!r}")
        keys[kid] = key
    return keys


class TenantKeys:
    """Keys at ``url``, as ``fetch`` gets them. ``start`` sets the thread going; until its first success all is cold."""

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], bytes],
        *,
        nudge_seconds: float = NUDGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._fetch, self._nudge_seconds, self._clock = url, fetch, nudge_seconds, clock
        self._keys: dict[str, rsa.RSAPublicKey] = {}
        self._confirmed = float("-inf")
        self._nudge, self._stopped = threading.Event(), threading.Event()
        self.generation = 0
        self.problem = "They were not fetched yet."
        """Why the last try failed; empty if it did not."""

    @property
    def is_cold(self) -> bool:
        """Whether there are no keys, or none that were confirmed within a day."""
        return not self._keys or self._clock() - self._confirmed > STALE_SECONDS

    def find(self, kid: str) -> rsa.RSAPublicKey | None:
        """The key of that name; where there is none, the thread looks again."""
        key = self._keys.get(kid)
        if key is None:
            self._nudge.set()
        return key

    def start(self) -> None:
        """Fetch, and go on fetching."""
        threading.Thread(target=self._run, name="copilot-studio-keys", daemon=True).start()

    def stop(self) -> None:
        """Fetch no more."""
        self._stopped.set()
        self._nudge.set()

    def _run(self) -> None:
        retry = _FIRST_RETRY
        while not self._stopped.is_set():
            self._nudge.clear()
            begun = self._clock()
            if self.refresh():
                retry = _FIRST_RETRY
                self._nudge.wait(FRESH_SECONDS)
                self._stopped.wait(max(0.0, begun + self._nudge_seconds - self._clock()))
            else:
                self._stopped.wait(retry)
                retry = min(2 * retry, _LONGEST_RETRY)

    def refresh(self) -> bool:
        """Fetch once; whether that gave keys."""
        try:
            keys = parse_keys(self._fetch(self._url))
            if not keys:
                raise ValueError("it holds no RS256 signing key")
        except (Unavailable, ValueError) as error:
            problem = str(error)
        except Exception as error:  # whatever a fetcher raises, the keys that are known stay
            problem = f"{type(error).__name__}: {error}"
        else:
            if _named(keys) != _named(self._keys):
                self._keys = keys
                self.generation += 1
            self._confirmed = self._clock()
            self.problem = ""
            return True
        if problem != self.problem:
            self.problem = problem
            _LOG.warning("the signing keys of Copilot Studio's tenant cannot be fetched: %s", problem)
        return False


def _named(keys: dict[str, rsa.RSAPublicKey]) -> dict[str, Any]:
    return {kid: key.public_numbers() for kid, key in keys.items()}
