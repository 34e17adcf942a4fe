"""What stands before every tool server: who may come in, and what did come in.

A caller needs one of the credentials that this server was given (the app credential, a maker's) or a user token that
the product's token service minted for exactly this server; so nobody goes around the gateway. Every tool call that gets
here is counted with a digest of its arguments: the far end of the proof that a refused call never arrived. Knows
nothing of what the tools do.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_KEPT_CALLS: Final = 20_000
_KEY_SECONDS: Final = 300.0
_CLOCK_SKEW_SECONDS: Final = 5
_INVOCATION_HEADERS: Final = ("watchfloor-invocation", "x-watchfloor-invocation")

caller: ContextVar[str] = ContextVar("caller", default="")
"""Who the current request comes from: ``app``, ``maker:ada`` or ``user:griffin``."""


def digest(arguments: Mapping[str, Any]) -> str:
    """SHA-256 of arguments as canonical JSON, to recognise a call without keeping what it said."""
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(slots=True)
class CallLog:
    """Tool calls that arrived at one server, counted for good, the latest kept with their digests.

    ``at`` is ``time.monotonic()``, which all processes of this machine share: comparable with a caller's own clock.
    """

    server: str
    total: int = 0
    tools: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    latest: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_KEPT_CALLS))

    def add(self, tool: str, arguments: Mapping[str, Any], who: str, invocation: str) -> None:
        """Count one call, before the tool runs."""
        self.total += 1
        self.tools[tool] += 1
        entry = {"seq": self.total, "at": time.monotonic(), "tool": tool, "digest": digest(arguments), "caller": who}
        if invocation:
            entry["invocation"] = invocation
        self.latest.append(entry)

    async def watch(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Middleware of the MCP server: sees each request before any tool does."""
        if ctx.method == "tools/call" and ctx.params is not None:
            headers: Mapping[str, str] = getattr(ctx.request, "headers", None) or {}
            invocation = next((headers[name] for name in _INVOCATION_HEADERS if name in headers), "")
            # The caller's name travels in the request's own scope: a session's task outlives the request that began it.
            scope: Mapping[str, Any] = getattr(ctx.request, "scope", None) or {}
            who = str(scope.get("zava.caller", ""))
            caller.set(who)
            self.add(str(ctx.params.get("name", "")), ctx.params.get("arguments") or {}, who, invocation)
        return await call_next(ctx)

    def report(self, after: int = 0) -> dict[str, Any]:
        """What ``GET /_calls`` answers."""
        return {
            "server": self.server,
            "total": self.total,
            "tools": dict(self.tools),
            "refused": self.refused,
            "calls": [entry for entry in self.latest if entry["seq"] > after],
        }


class UserTokens:
    """Verifies user tokens of the product's token service against its published keys."""

    def __init__(self, issuer: Callable[[], str], audience: str) -> None:
        self._issuer, self._audience = issuer, audience
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()

    async def _key_set(self, kid: str) -> KeySet | None:
        def is_known() -> bool:
            return self._keys is not None and any(key.kid == kid for key in self._keys.keys)

        age = time.monotonic() - self._fetched_at
        if (is_known() and age < _KEY_SECONDS) or age < 1.0:
            return self._keys
        async with self._lock:
            if time.monotonic() - self._fetched_at < 1.0:
                return self._keys
            self._fetched_at = time.monotonic()
            try:
                async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
                    answer = await client.get(f"{self._issuer()}/jwks")
                    answer.raise_for_status()
                    self._keys = KeySet.import_key_set(answer.json())
            except (httpx.HTTPError, ValueError, JoseError):
                return self._keys
        return self._keys

    async def subject(self, token: str) -> str | None:
        """``user:…`` if the token is good for this server, else None."""
        if token.count(".") != 2 or not self._issuer():
            return None
        try:
            header = json.loads(_unpadded(token.split(".", 1)[0]))
            keys = await self._key_set(str(header.get("kid", "")))
            if keys is None:
                return None
            claims = jwt.decode(token, keys, algorithms=["RS256"]).claims
            registry = jwt.JWTClaimsRegistry(
                leeway=_CLOCK_SKEW_SECONDS,
                iss={"essential": True, "value": self._issuer()},
                aud={"essential": True, "value": self._audience},
                exp={"essential": True},
                sub={"essential": True},
            )
            registry.validate(claims)
        except (JoseError, ValueError):
            return None
        return str(claims["sub"])


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Door:
    """ASGI wrapper of one tool server: checks the bearer, serves ``/_calls`` to this machine."""

    def __init__(self, app: ASGIApp, log: CallLog, credentials: Mapping[str, str], users: UserTokens) -> None:
        """``credentials``: who -> secret."""
        self._app, self._log, self._users = app, log, users
        self._credentials = {hashlib.sha256(secret.encode()).digest(): who for who, secret in credentials.items()}

    async def _who(self, authorization: str) -> str | None:
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return None
        presented = hashlib.sha256(token.encode()).digest()
        for known, who in self._credentials.items():
            if hmac.compare_digest(known, presented):
                return who
        return await self._users.subject(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        if request.url.path == "/_calls":
            host = request.client.host if request.client else ""
            if not host.startswith("127."):
                await JSONResponse({"error": "only from this machine"}, 403)(scope, receive, send)
                return
            await JSONResponse(self._log.report(int(request.query_params.get("after", "0"))))(scope, receive, send)
            return
        who = await self._who(request.headers.get("authorization", ""))
        if who is None:
            self._log.refused += 1
            answer = JSONResponse(
                {"error": "invalid_token", "error_description": "this server takes calls from its gateway only"},
                401,
                {"www-authenticate": 'Bearer error="invalid_token"'},
            )
            await answer(scope, receive, send)
            return
        scope["zava.caller"] = who
        await self._app(scope, receive, send)
