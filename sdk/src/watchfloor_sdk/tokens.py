"""Where an agent's gateway token comes from.

A gateway token is for one agent, at one tool server, for ten minutes at most; with ``TokenExchange`` (RFC 8693) it is
for a user as well. ``ClientCredentials`` and ``TokenExchange`` ask the token service that the gateway names (RFC 9728)
and renew in time. They do no I/O of their own: see ``protocol.py``. No token or secret shows in a ``repr``.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, urlencode

from watchfloor_sdk.errors import Unavailable
from watchfloor_sdk.protocol import Ask, NoAnswer, Request, Response, Steps, TokenSource

_RENEW_SECONDS: Final = 60.0
_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_TYPES: Final = "urn:ietf:params:oauth:token-type:"

Text = str | Callable[[], "str | Awaitable[str]"]


def token_source(token: Text | TokenSource) -> TokenSource:
    """``token`` as a source: a token, a function that gives one, or a source already."""
    if not isinstance(token, str) and hasattr(token, "forget"):
        return cast("TokenSource", token)
    return GivenToken(token)


def _good(token: object, what: str) -> str:
    if not isinstance(token, str) or not token or not token.isascii() or any(c.isspace() for c in token):
        raise Unavailable("invalid_token", f"{what} is no token.")
    return token


class GivenToken:
    """A token that somebody else keeps fresh. ``token`` may be a function, asked for every use."""

    def __init__(self, token: Text) -> None:
        self._token = token

    def token(self, gateway: str, server: str) -> Steps[str]:
        """See ``TokenSource``."""
        given = self._token if isinstance(self._token, str) else (yield from _asked(self._token, "The token"))
        return _good(given, "What was given")

    def forget(self, gateway: str, server: str) -> None:
        """Nothing is kept."""


class TokenFile:
    """A token in a file that somebody else keeps fresh, read for every use. ``{server}`` in the path is replaced."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)

    def __repr__(self) -> str:
        return f"TokenFile({self._path!r})"

    def token(self, gateway: str, server: str) -> Steps[str]:
        """See ``TokenSource``."""
        path = Path(self._path.replace("{server}", server))
        text = yield from _asked(lambda: path.read_text("ascii").strip(), f"The token in the file {path}")
        return _good(text, f"What the file {path} holds")

    def forget(self, gateway: str, server: str) -> None:
        """Nothing is kept."""


class _Issued:
    """Tokens of the token service, kept until shortly before they end; for a user if there is a subject."""

    _subject: Text | None = None
    _subject_type = ""

    def __init__(self, agent: str, secret: str, token_url: str, clock: Callable[[], float]) -> None:
        if not agent or not secret:
            raise ValueError("Give the agent's id and secret.")
        self.agent, self._token_url, self._clock = agent, token_url, clock
        pair = f"{quote(agent, safe='')}:{quote(secret, safe='')}"
        self._basic = "Basic " + base64.b64encode(pair.encode()).decode()
        self._kept: dict[tuple[str, str], tuple[str, float]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.agent!r})"

    def token(self, gateway: str, server: str) -> Steps[str]:
        """See ``TokenSource``."""
        token, renew_at = self._kept.get((gateway, server), ("", 0.0))
        if not token or self._clock() >= renew_at:
            token, lifetime = yield from self._fetch(gateway, server)
            self._kept[gateway, server] = token, self._clock() + max(lifetime - _RENEW_SECONDS, lifetime / 2)
        return token

    def forget(self, gateway: str, server: str) -> None:
        """Fetch a new one next time."""
        self._kept.pop((gateway, server), None)

    def _form(self) -> Steps[dict[str, str]]:
        if self._subject is None:
            return {"grant_type": "client_credentials"}
        subject = self._subject
        given = subject if isinstance(subject, str) else (yield from _asked(subject, "The user's token"))
        return {
            "grant_type": _EXCHANGE,
            "subject_token": _good(given, "The user's token"),
            "subject_token_type": self._subject_type,
        }

    def _fetch(self, gateway: str, server: str) -> Steps[tuple[str, float]]:
        url = self._token_url
        if not url:
            metadata = yield from _json(
                Request("GET", f"{gateway}/.well-known/oauth-protected-resource/mcp/{server}", {}), "The gateway"
            )
            try:
                url = f"{str(metadata['authorization_servers'][0]).rstrip('/')}/token"
            except (KeyError, IndexError, TypeError):
                raise Unavailable("invalid_token", "The gateway does not name its token service.") from None
        form = yield from self._form()
        headers = {"authorization": self._basic, "content-type": "application/x-www-form-urlencoded"}
        body = urlencode({"resource": f"{gateway}/mcp/{server}", **form}).encode("ascii")
        answer = yield from _json(Request("POST", url, headers, body), "The token service")
        token, lifetime = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(lifetime, (int, float)) or isinstance(lifetime, bool):
            raise Unavailable("invalid_token", "The token service does not say how long its token lives.")
        return _good(token, "What the token service gave"), float(lifetime)


class ClientCredentials(_Issued):
    """Tokens for the agent itself, by its id and secret. ``token_url``: instead of the one that the gateway names."""

    def __init__(
        self, agent: str, secret: str, *, token_url: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(agent, secret, token_url, clock)


class TokenExchange(_Issued):
    """Tokens for the agent on behalf of a user (RFC 8693).

    ``subject_token`` is the user's token of a registered identity provider, or a function that gives the current one;
    ``subject_type`` is ``id_token``, ``access_token`` or ``jwt``. One instance is for one user.
    """

    def __init__(
        self,
        agent: str,
        secret: str,
        subject_token: Text,
        *,
        subject_type: str = "id_token",
        token_url: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(agent, secret, token_url, clock)
        if subject_type not in ("id_token", "access_token", "jwt"):
            raise ValueError(f"subject_type must be id_token, access_token or jwt, not {subject_type!r}.")
        self._subject, self._subject_type = subject_token, _TYPES + subject_type


def _asked(function: Callable[[], Any], what: str) -> Steps[Any]:
    try:
        return (yield Ask(function))
    except NoAnswer as error:
        raise Unavailable("no_answer", f"{what} was not given in time.", no_answer=True) from error
    except Exception as error:
        raise Unavailable("invalid_token", f"{what} could not be had: {type(error).__name__}.") from error


def _json(request: Request, who: str) -> Steps[dict[str, Any]]:
    try:
        response = yield request
    except NoAnswer as error:
        raise Unavailable("no_answer", f"{who} does not answer: {error}.", no_answer=True) from error
    assert isinstance(response, Response)
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        body = None
    if response.status == 200 and isinstance(body, dict):
        return body
    said = body if isinstance(body, dict) else {}
    if response.status >= 500 and "error" not in said:
        raise Unavailable("no_answer", f"{who} does not answer: HTTP status {response.status}.", no_answer=True)
    text = said.get("error_description") or said.get("error") or f"HTTP status {response.status}"
    code = said.get("reason") or "invalid_token"
    raise Unavailable(str(code), f"{who} gives the agent no token: {text}")
