"""The tool servers: who may come in, what they do, what they count."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import RSAKey
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from watchfloor_demo.headquarters import Headquarters, credentials
from watchfloor_demo.manifest import TOOLS
from watchfloor_demo.runtime import TOOL_SERVERS
from watchfloor_demo.serving import listen, serve
from watchfloor_demo.toolservers.door import digest

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROTOCOLS = ["2026-07-28", "legacy"]


@contextlib.asynccontextmanager
async def connected(hq: Headquarters, server: str, token: str, mode: str = "2026-07-28") -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as http:
        transport = streamable_http_client(f"{hq.runtime.url(server)}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


async def report(hq: Headquarters, http: httpx.AsyncClient, server: str, after: int = 0) -> dict[str, Any]:
    body: dict[str, Any] = (await http.get(f"{hq.runtime.url(server)}/_calls", params={"after": after})).json()
    return body


@pytest.mark.parametrize("server", TOOL_SERVERS)
@pytest.mark.parametrize("token", ["", "guess", "a.b.c"])
async def test_nobody_comes_in_without_a_credential(
    hq: Headquarters, http: httpx.AsyncClient, server: str, token: str
) -> None:
    before = await report(hq, http, server)
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": next(iter(TOOLS[server]))}}
    headers = {"accept": "application/json, text/event-stream"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    answer = await http.post(f"{hq.runtime.url(server)}/mcp", json=call, headers=headers)
    after = await report(hq, http, server)
    assert answer.status_code == 401
    assert (after["total"], after["refused"]) == (before["total"], before["refused"] + 1)


async def test_the_credential_of_one_server_does_not_open_another(hq: Headquarters, http: httpx.AsyncClient) -> None:
    token = credentials(hq.runtime, "mail")["app"]
    headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
    answer = await http.post(f"{hq.runtime.url('customers')}/mcp", json={}, headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize("server", TOOL_SERVERS)
@pytest.mark.parametrize("mode", PROTOCOLS)
async def test_every_server_lists_the_tools_that_the_manifest_names(hq: Headquarters, server: str, mode: str) -> None:
    async with connected(hq, server, credentials(hq.runtime, server)["app"], mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == set(TOOLS[server])
    for name, tool in tools.items():
        assert tool.description and len(tool.description) > 15
        assert all("description" in p for p in tool.input_schema.get("properties", {}).values())
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is (TOOLS[server][name] == "read")


@pytest.mark.parametrize("mode", PROTOCOLS)
async def test_calls_are_counted_with_the_digest_of_their_arguments(
    hq: Headquarters, http: httpx.AsyncClient, mode: str
) -> None:
    before = await report(hq, http, "customers")
    began = time.monotonic()
    arguments = {"query": "Zürich", "limit": 3}
    async with connected(hq, "customers", credentials(hq.runtime, "customers")["app"], mode) as client:
        result = await client.call_tool("search_customers", arguments)
    after = await report(hq, http, "customers", before["total"])
    assert result.structured_content is not None and result.structured_content["count"] == 1
    assert after["total"] == before["total"] + 1
    [call] = after["calls"]
    assert (call["tool"], call["digest"], call["caller"]) == ("search_customers", digest(arguments), "app")
    assert began <= call["at"] <= time.monotonic()


async def test_a_makers_credential_is_told_from_the_apps(hq: Headquarters, http: httpx.AsyncClient) -> None:
    before = await report(hq, http, "knowledge")
    async with connected(hq, "knowledge", credentials(hq.runtime, "knowledge")["maker:ada"]) as client:
        await client.call_tool("read_article", {"article_id": "kb-101"})
    [call] = (await report(hq, http, "knowledge", before["total"]))["calls"]
    assert call["caller"] == "maker:ada"


@pytest.mark.parametrize("mode", PROTOCOLS)
async def test_a_long_call_reports_its_progress(hq: Headquarters, mode: str) -> None:
    seen: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with connected(hq, "invoices", credentials(hq.runtime, "invoices")["app"], mode) as client:
        result = await client.call_tool("reconcile", {"month": "2026-09", "seconds": 0.1}, progress_callback=note)
    assert not result.is_error and seen == sorted(seen) and len(seen) == 10


async def test_mail_really_arrives(hq: Headquarters, http: httpx.AsyncClient) -> None:
    async with connected(hq, "mail", credentials(hq.runtime, "mail")["app"]) as client:
        message = {"to": ["nina@zava.example"], "cc": ["hugo@zava.example"], "subject": "Grüße", "body": "Zwölf."}
        assert not (await client.call_tool("send_email", message)).is_error
    found = (await http.get(f"{hq.runtime.url('mailbox')}/_messages", params={"to": "hugo@zava"})).json()["messages"]
    assert (found[-1]["subject"], found[-1]["text"].strip()) == ("Grüße", "Zwölf.")
    assert found[-1]["to"] == ["nina@zava.example", "hugo@zava.example"]


async def test_a_header_cannot_be_smuggled_through_the_subject(hq: Headquarters) -> None:
    async with connected(hq, "mail", credentials(hq.runtime, "mail")["app"]) as client:
        message = {"to": ["nina@zava.example"], "subject": "x\r\nBcc: thief@outside.example", "body": "y"}
        await client.call_tool("send_email", message)
    assert hq.sink.messages("thief@outside.example") == []


async def test_the_shared_drive_keeps_to_itself(hq: Headquarters) -> None:
    async with connected(hq, "files", credentials(hq.runtime, "files")["app"]) as client:
        for path in ("../etc/passwd", "a/../../b", "", "/"):
            assert (await client.call_tool("read_file", {"path": path})).is_error


async def test_the_web_reader_keeps_to_its_site(hq: Headquarters) -> None:
    async with connected(hq, "web", credentials(hq.runtime, "web")["app"]) as client:
        page = await client.call_tool("fetch_page", {"url": "/news/port-delays"})
        assert page.structured_content is not None and "Rotterdam" in page.structured_content["text"]
        for url in (f"{hq.runtime.url('mail')}/_calls", "http://127.0.0.1/", "file:///etc/passwd", "//evil.example/"):
            assert (await client.call_tool("fetch_page", {"url": url})).is_error


class TokenService:
    """Publishes a key and signs user tokens, as the product's token service does."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.key = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"})

    def app(self) -> Starlette:
        async def jwks(request: Request) -> Response:
            return JSONResponse({"keys": [self.key.as_dict(private=False)]})

        return Starlette(routes=[Route("/sts/jwks", jwks)])

    def token(self, user: str, audience: str, **changes: Any) -> str:
        claims = {"iss": self.issuer, "aud": audience, "sub": f"user:{user}", "exp": int(time.time()) + 60, **changes}
        return jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": "k1"}, claims, self.key, algorithms=["RS256"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tokens(hq: Headquarters) -> AsyncIterator[TokenService]:
    listening = listen("token service", 0)
    hq.runtime.server = f"http://127.0.0.1:{listening.port}"
    service = TokenService(f"{hq.runtime.server}/sts")
    async with serve([(listening, service.app())]):
        yield service
    hq.runtime.server = ""


async def test_a_user_token_opens_the_users_own_mailbox_only(hq: Headquarters, tokens: TokenService) -> None:
    async with connected(hq, "mail", tokens.token("mara", f"{hq.runtime.url('mail')}/mcp")) as client:
        own = await client.call_tool("search_mail", {})
        other = await client.call_tool("search_mail", {"mailbox": "lin@zava.example"})
        foreign = await client.call_tool("read_mail", {"message_id": "msg-0017"})
    assert own.structured_content is not None and own.structured_content["count"] == 2
    assert other.is_error and foreign.is_error


@pytest.mark.parametrize(
    "changes",
    [{"aud": "http://127.0.0.1:1/mcp"}, {"iss": "http://evil.example/sts"}, {"exp": 1000}, {"aud": ["x"]}],
    ids=str,
)
async def test_a_user_token_for_somebody_else_is_refused(
    hq: Headquarters, http: httpx.AsyncClient, tokens: TokenService, changes: dict[str, Any]
) -> None:
    token = tokens.token("mara", f"{hq.runtime.url('mail')}/mcp", **changes)
    answer = await http.post(f"{hq.runtime.url('mail')}/mcp", json={}, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_a_user_token_of_another_key_is_refused(
    hq: Headquarters, http: httpx.AsyncClient, tokens: TokenService
) -> None:
    forger = TokenService(tokens.issuer)
    token = forger.token("mara", f"{hq.runtime.url('mail')}/mcp")
    answer = await http.post(f"{hq.runtime.url('mail')}/mcp", json={}, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401
