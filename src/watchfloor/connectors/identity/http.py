"""HTTP to identity providers: JSON in, JSON out, within walls, and every failure said in the port's words.

Below the adapters, above httpx. Each request has a time and an answer a size that it must not exceed; redirects are not
followed, proxies of the environment not used, and the address is checked each time (``model.urls``). Bodies are never
quoted in errors, but for the few members that ``explain`` is given: what a provider echoes may hold secrets.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import httpx

from watchfloor.identity import egress
from watchfloor.identity.connector import ConnectorRefused
from watchfloor.model.errors import Unavailable
from watchfloor.model.urls import outbound_problem

MAX_ANSWER: Final = 8 * 1024 * 1024
"""Bytes of one answer."""
_PAUSE: Final = 5.0
"""Seconds to wait where a provider does not say."""
LONGEST_WAIT: Final = 3600.0
"""Seconds; a provider that asks for more is asked again after this."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``body`` is None where there was none."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def member(self, name: str) -> Any:
        """A member of the body if that is an object; else None."""
        return self.body.get(name) if isinstance(self.body, dict) else None

    def items(self, name: str) -> list[Mapping[str, Any]]:
        """The objects of a list in the body. Raises ``Unavailable`` if there is no such list: half is not enough."""
        found = self.member(name)
        if not isinstance(found, list):
            raise Unavailable(f"The answer holds no list {name!r}: this is not the API that was expected.")
        return objects(found)


def objects(found: Any) -> list[Mapping[str, Any]]:
    """The objects in a list. Raises ``Unavailable`` if it is none."""
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Unavailable("The answer is no list of objects: this is not the API that was expected.")
    return found


def text(body: Mapping[str, Any], name: str) -> str:
    """A member as text; empty if it is none."""
    found = body.get(name)
    return found if isinstance(found, str) else ""


class Throttled(Unavailable):
    """The provider says that it is asked too often. ``said``: seconds to wait, None where it did not say."""

    def __init__(self, name: str, said: float | None) -> None:
        self.said = said
        super().__init__(f"{name} is asked too often.", retry_after=_PAUSE if said is None else said)


class Api:
    """One provider's API. ``explain`` makes a short sentence of the body of a refusal; ``authorize`` gives headers."""

    def __init__(
        self,
        name: str,
        *,
        timeout: float,
        authorize: Callable[[], Mapping[str, str]] | None = None,
        explain: Callable[[Any], str] = lambda body: "",
        renew: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.timeout = name, timeout
        self._authorize, self._explain, self._renew = authorize, explain, renew
        self._client = egress.client(timeout)

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def ask(
        self,
        method: str,
        url: str,
        *,
        body: Any = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Iterable[int] = (),
        content_type: str = "application/json",
    ) -> Answer:
        """One question. Answers of success and with a status of ``accept`` are returned.

        Raises ``ConnectorRefused``, ``Unavailable``; of the latter ``Throttled`` for 429.
        """
        accept = tuple(accept)
        answer = self._once(method, url, body, form, params, headers, content_type)
        if answer.status == 401 and 401 not in accept and self._authorize is not None:
            # Tokens end before their time where somebody revokes them: once more with a new one.
            self._renew()
            answer = self._once(method, url, body, form, params, headers, content_type)
        if answer.status < 300 or answer.status in accept:
            return answer
        raise self._failure(answer, method)

    def _once(
        self,
        method: str,
        url: str,
        body: Any,
        form: Mapping[str, str] | None,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str] | None,
        content_type: str,
    ) -> Answer:
        problem = outbound_problem(url, require_tls=True)
        if problem:
            raise ConnectorRefused(f"{self.name} cannot be asked: {problem}")
        sent = {"accept": "application/json", **(headers or {})}
        if self._authorize is not None:
            sent |= self._authorize()
        content: dict[str, Any] = {}
        if body is not None:
            sent["content-type"] = content_type
            content["content"] = json.dumps(body).encode()
        elif form is not None:
            content["data"] = dict(form)
        deadline = time.monotonic() + self.timeout
        try:
            with self._client.stream(method, url, params=params, headers=sent, **content) as response:
                raw = b""
                for chunk in response.iter_bytes(65_536):
                    raw += chunk
                    if len(raw) > MAX_ANSWER:
                        raise Unavailable(f"{self.name} answers with more than {MAX_ANSWER} bytes.")
                    if time.monotonic() > deadline:
                        raise Unavailable(f"{self.name} takes longer than {self.timeout:g} s to answer.")
        except httpx.TimeoutException as error:
            raise Unavailable(f"{self.name} does not answer within {self.timeout:g} s.", retry_after=5.0) from error
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:
            # RuntimeError: closed meanwhile, as the connector's settings have changed.
            raise Unavailable(f"{self.name} cannot be reached: {error or type(error).__name__}.") from error
        return Answer(response.status_code, self._decoded(raw, response.status_code), response.headers)

    def _decoded(self, raw: bytes, status: int) -> Any:
        if not raw.strip():
            return None
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            if status < 300:
                raise Unavailable(f"{self.name} answers {status} with something that is no JSON.") from None
            return None

    def _failure(self, answer: Answer, method: str) -> Exception:
        status, wait = answer.status, retry_after(answer.headers)
        said = self._explain(answer.body)[:300]
        said = f" ({''.join(c if c.isprintable() else ' ' for c in said)})" if said else ""
        if status == 429:
            return Throttled(self.name, wait)
        if status >= 500 or status == 408:
            return Unavailable(f"{self.name} fails with status {status}{said}.", retry_after=wait or 5.0)
        if status == 401:
            return ConnectorRefused(f"{self.name} does not accept the connector's credentials{said}. Give them anew.")
        if status == 403:
            return ConnectorRefused(
                f"{self.name} does not allow the connector to do this{said}. Give its account the right to."
            )
        if status == 404:
            return ConnectorRefused(f"{self.name} does not know what was asked for{said}: no such account?")
        if 300 <= status < 400:
            return ConnectorRefused(f"{self.name} redirects, which is not followed. Correct the connector's URL.")
        return ConnectorRefused(f"{self.name} refuses {method} with status {status}{said}.")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How long to wait, in seconds, by ``Retry-After``; None where it does not say, or nothing sensible."""
    given = headers.get("retry-after", "").strip()
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(given).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None


def moment(value: Any) -> datetime | None:
    """A time in ISO form; None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
