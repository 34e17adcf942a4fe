"""Fetching key sets: the one call that goes out to an identity provider, within walls.

Light on purpose: gateway workers use it as well as the token service. It does not know what the keys are for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from watchfloor.identity import egress
from watchfloor.model.errors import Unavailable
from watchfloor.model.urls import outbound_problem

MAX_JWKS_BYTES: Final = 256 * 1024


_SAME_TIME: Final = 1.5
"""Seconds within which two clocks count as one: ``Date`` has whole seconds, and the answer was under way."""


@dataclass(frozen=True, slots=True)
class FetchedKeySet:
    """A key set as it came. ``lead``: how many seconds, at most, its server's clock is ahead of ours; 0 if it is not,
    or does not say."""

    body: bytes
    lead: float = 0.0


def fetch_jwks(url: str, *, timeout: float = 5.0) -> bytes:
    """The body at ``url``; see ``fetch_key_set``."""
    return fetch_key_set(url, timeout=timeout).body


def fetch_key_set(url: str, *, timeout: float = 5.0) -> FetchedKeySet:
    """What ``url`` answers, at most ``MAX_JWKS_BYTES``; no redirects. Raises ``Unavailable``."""
    problem = outbound_problem(url, require_tls=True)
    if problem:
        raise Unavailable(f"The key set {url} cannot be fetched. {problem}")
    deadline = time.monotonic() + 2 * timeout
    asked_at = time.time()
    try:
        with (
            egress.client(timeout) as client,
            client.stream("GET", url, headers={"accept": "application/json"}) as response,
        ):
            if response.status_code != 200:
                raise Unavailable(f"The key set {url} answers {response.status_code}.")
            body = b""
            for chunk in response.iter_bytes(65_536):
                body += chunk
                if len(body) > MAX_JWKS_BYTES:
                    raise Unavailable(f"The key set {url} is longer than {MAX_JWKS_BYTES} bytes.")
                if time.monotonic() > deadline:
                    raise Unavailable(f"The key set {url} takes too long.")
            return FetchedKeySet(body, clock_lead(response.headers.get("date", ""), asked_at))
    except httpx.HTTPError as error:
        raise Unavailable(f"The key set {url} cannot be fetched: {error}.") from error


def clock_lead(date: str, asked_at: float) -> float:
    """How far a clock that wrote ``date`` (an HTTP date) after ``asked_at`` (Unix seconds) may be ahead, in seconds."""
    try:
        lead = parsedate_to_datetime(date).timestamp() + 1 - asked_at
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return lead if lead > _SAME_TIME else 0.0
