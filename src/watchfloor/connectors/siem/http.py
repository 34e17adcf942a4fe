"""A sink over HTTP: events as JSON lines in one POST. Any answer of success acknowledges all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import httpx
import orjson

from watchfloor.identity import egress
from watchfloor.model import ocsf
from watchfloor.model.errors import Unavailable

_SECONDS: Final = 30.0


class HttpSink:
    """Posts to ``url``, with ``token`` as a bearer token where there is one. Follows no redirect."""

    def __init__(self, name: str, url: str, *, token: str = "") -> None:
        self.name, self._url = name, url
        self._headers = {"content-type": "application/x-ndjson"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"

    def send(self, events: Sequence[ocsf.Event]) -> None:
        """See ``Sink.send``."""
        body = b"".join(orjson.dumps(event) + b"\n" for event in events)
        try:
            with egress.client(_SECONDS) as client:
                answer = client.post(self._url, content=body, headers=self._headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.name} does not take events: {error or type(error).__name__}.") from error
        if not answer.is_success:
            raise Unavailable(f"{self.name} does not take events: it answers with status {answer.status_code}.")
