"""The calls that go out to transmitters, receivers and channels, within walls: no redirects, bounded, over TLS.

Below ``poll``, ``deliver``, ``transmitters`` and ``connectors.channels``. It does not know what is said.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from watchfloor.identity import egress
from watchfloor.model.errors import Unavailable
from watchfloor.model.urls import outbound_problem

_SECONDS: Final = 10.0
_MOST_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``retry_after``: seconds that the other side asks us to wait, 0 if it does not."""

    status: int
    body: bytes
    retry_after: float = 0.0


def post(
    url: str,
    body: bytes,
    *,
    kind: str,
    authorization: str = "",
    more: Mapping[str, str] | None = None,
    timeout: float = _SECONDS,
    shown: str = "",
    public_only: bool = False,
) -> Answer:
    """POST ``body`` of media type ``kind``, with ``more`` headers; ``shown`` is what errors call a URL that is secret.

    Raises ``Unavailable`` if no answer comes, or one that is too long.
    """
    problem, shown = outbound_problem(url, require_tls=True, public_only=public_only), shown or url
    if problem:
        raise Unavailable(f"{shown} cannot be called. {problem}")
    headers = {"content-type": kind, "accept": "application/json", **(more or {})}
    if authorization:
        headers["authorization"] = authorization
    deadline = time.monotonic() + 2 * timeout
    try:
        with (
            egress.client(timeout, public_only=public_only) as client,
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            received = b""
            for chunk in response.iter_bytes(65_536):
                received += chunk
                if len(received) > _MOST_BYTES or time.monotonic() > deadline:
                    raise Unavailable(f"{shown} answers with too much, or too slowly.")
            return Answer(response.status_code, received, _seconds(response.headers.get("retry-after", "")))
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise Unavailable(f"{shown} does not answer: {error or type(error).__name__}.") from error


def _seconds(text: str) -> float:
    return min(float(text), 3600.0) if text.isascii() and text.isdigit() else 0.0
