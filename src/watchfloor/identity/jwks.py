"""Fetching key sets: the one call that goes out to an identity provider, within walls.

Light on purpose: gateway workers use it as well as the token service. It does not know what the keys are for.
"""

from __future__ import annotations

import time
from typing import Final

import httpx

from watchfloor.model.errors import Unavailable
from watchfloor.model.urls import outbound_problem

MAX_JWKS_BYTES: Final = 256 * 1024


def fetch_jwks(url: str, *, timeout: float = 5.0) -> bytes:
    """The body at ``url``, at most ``MAX_JWKS_BYTES``; no redirects. Raises ``Unavailable``."""
    problem = outbound_problem(url, require_tls=True)
    if problem:
        raise Unavailable(f"The key set {url} cannot be fetched. {problem}")
    deadline = time.monotonic() + 2 * timeout
    try:
        with (
            httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client,
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
            return body
    except httpx.HTTPError as error:
        raise Unavailable(f"The key set {url} cannot be fetched: {error}.") from error
