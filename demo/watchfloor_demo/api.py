"""The product's API, as far as the demo uses it: a bearer token and JSON. Errors carry the product's own words."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx


class ApiError(Exception):
    """The product refused a request, or did not answer."""

    def __init__(self, what: str, status: int, body: str) -> None:
        self.status, self.body = status, body
        super().__init__(f"{what}: HTTP {status}: {body[:500]}" if status else f"{what}: {body}")


class Api:
    """One operator's access."""

    def __init__(self, server: str, token: str, http: httpx.AsyncClient) -> None:
        self._server, self._http = server.rstrip("/"), http
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    async def sign_in(self, name: str, password: str) -> httpx.Response:
        """As a browser does: the session is a cookie, and what changes something carries its token."""
        answer = await self.raw("POST", "/api/session", json={"name": name, "password": password})
        if answer.status_code == 200:
            self._headers["x-csrf-token"] = answer.json()["csrf_token"]
        return answer

    async def raw(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Any answer, whatever its status. Raises ``ApiError`` if there is none."""
        headers = {**self._headers, **arguments.pop("headers", {})}
        try:
            return await self._http.request(method, f"{self._server}{path}", headers=headers, **arguments)
        except httpx.HTTPError as error:
            raise ApiError(f"{method} {path}", 0, f"{type(error).__name__}: {error}") from error

    async def request(self, method: str, path: str, **arguments: Any) -> Any:
        """The JSON of a successful answer. Raises ``ApiError``."""
        answer = await self.raw(method, path, **arguments)
        if answer.status_code >= 400:
            raise ApiError(f"{method} {path}", answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def get(self, path: str, **query: Any) -> Any:
        """GET."""
        return await self.request("GET", path, params={k: v for k, v in query.items() if v is not None})

    async def post(self, path: str, body: Any = None) -> Any:
        """POST of JSON."""
        return await self.request("POST", path, json=body if body is not None else {})

    async def apply(self, manifest: str) -> Any:
        """Apply a company manifest."""
        return await self.post("/api/manifests/apply", {"manifest": manifest})

    async def wait_until_ready(self, seconds: float) -> None:
        """Until the server answers. Raises ``ApiError`` with its last words."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                await self.request("GET", "/healthz")
                return
            except ApiError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)
