"""Envoy itself before a real tool server, configured as examples/envoy has it; calls are counted at the tool server.

Envoy comes from an environment of its own (`make clients`).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from scenarios.company import TOOL_SECRET, Company, free_port, headers, rpc, running, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-clients"
PORT = "WATCHFLOOR_GATEWAY_EXT_AUTHZ_PORT"
MAIL = {"to": ["mona@testers.example"], "subject": "s", "body": "Hello!"}
EVIL = {"to": ["x@evil.example"], "subject": "s", "body": "Hello!"}


class Proxy:
    """A running Envoy."""

    def __init__(self, company: Company, authorizer: int) -> None:
        self.company, self.port = company, free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp/mail"
        text = (ROOT / "examples" / "envoy" / "envoy.yaml").read_text("utf-8")
        for said, port in ((10000, self.port), (9191, authorizer), (8000, company.tool_port)):
            assert text.count(f"port_value: {said}") == 1
            text = text.replace(f"port_value: {said}", f"port_value: {port}")
        path = company.directory / f"envoy-{self.port}.yaml"
        path.write_text(text, "utf-8")
        self.log = path.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(ENVIRONMENT / "bin" / "envoy"), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id"],
                env={"PATH": os.defpath, "MAIL_CREDENTIAL": TOOL_SECRET},
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_up, 30, "start of Envoy")

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def post(self, content: bytes, tool: str, token: str, **more: str) -> httpx.Response:
        return httpx.post(self.url, content=content, headers=headers(token, tool) | more, timeout=20)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    if not (ENVIRONMENT / "bin" / "envoy").exists():
        if os.environ.get("CI"):
            pytest.fail("Envoy is not installed: make clients")
        pytest.skip("make clients")
    port = str(free_port())
    with running(tmp_path_factory.mktemp("company"), workers=2, environment={PORT: port}) as company:
        yield company


@pytest.fixture(scope="module")
def envoy(company: Company) -> Iterator[Proxy]:
    proxy = Proxy(company, int(company.environment[PORT]))
    yield proxy
    proxy.stop()


def mails(company: Company) -> list[Any]:
    return [call["to"] for call in company.calls_at_the_tool() if call["tool"] == "send_email"]


async def _through(proxy: Proxy, token: str, mode: str, arguments: dict[str, Any]) -> str:
    """What an official client makes of one mail."""
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=20) as http,
        Client(streamable_http_client(proxy.url, http_client=http), mode=mode) as client,
    ):
        assert {tool.name for tool in (await client.list_tools()).tools} == {"send_email", "lookup", "watch"}
        try:
            return "failed" if (await client.call_tool("send_email", arguments)).is_error else "done"
        except MCPError as error:
            return f"{error.error.code} {error.error.data['code']}"


@pytest.mark.claim("ext-authz-refused")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_mcp_client_behind_envoy_is_refused_what_is_not_allowed_and_done_what_is(
    company: Company, envoy: Proxy, mode: str
) -> None:
    before = len(mails(company))
    assert asyncio.run(_through(envoy, company.token("griffin"), mode, EVIL)).startswith("-32090 ")
    assert len(mails(company)) == before
    assert asyncio.run(_through(envoy, company.token("griffin"), mode, MAIL)) == "done"
    assert mails(company)[before:] == [MAIL["to"]]


def test_a_token_is_needed_and_ends_at_envoy(company: Company, envoy: Proxy) -> None:
    before = len(mails(company))
    body = json.dumps(rpc("send_email", MAIL)).encode()
    answer = envoy.post(body, "send_email", "no.such.token")
    assert answer.status_code == 401 and "resource_metadata" in answer.headers["www-authenticate"]
    assert len(mails(company)) == before
    # The tool server takes its own credential only: that it answers shows that Envoy put it in place of the token.
    answer = envoy.post(body, "send_email", company.token("griffin"))
    assert answer.status_code == 200 and answer.headers["watchfloor-invocation"].startswith("inv_")
    assert len(mails(company)) == before + 1


def test_what_is_ambiguous_too_large_or_without_a_body_does_not_pass(company: Company, envoy: Proxy) -> None:
    before, token = len(company.calls_at_the_tool()), company.token("griffin")
    good = json.dumps(rpc("send_email", MAIL)).encode()
    doubled = good.replace(b'"to": [', b'"to": ["x@evil.example"], "to": [', 1)
    mended = good.replace(b"testers.example", b"testers\xff.example")
    assert envoy.post(doubled, "send_email", token).status_code == 400
    assert envoy.post(mended, "send_email", token).status_code == 400
    large = json.dumps(rpc("send_email", MAIL | {"body": "x" * 5_000_000})).encode()
    assert envoy.post(large, "send_email", token).status_code == 413
    bearer = {"authorization": f"Bearer {token}"}
    assert httpx.get(envoy.url, headers=bearer, timeout=20).status_code == 405
    assert httpx.post(f"{envoy.url}?to=x", content=good, headers=headers(token, "send_email")).status_code == 400
    assert httpx.post(f"{envoy.url}/other", content=good, headers=headers(token, "send_email")).status_code == 404
    assert len(company.calls_at_the_tool()) == before
    assert envoy.post(good, "send_email", token).status_code == 200


@pytest.mark.claim("ext-authz-refused")
def test_without_watchfloor_nothing_passes(company: Company) -> None:
    """An Envoy whose authorizer does not answer."""
    before, alone = len(company.calls_at_the_tool()), Proxy(company, free_port())
    try:
        answer = alone.post(json.dumps(rpc("send_email", MAIL)).encode(), "send_email", company.token("griffin"))
        assert answer.status_code == 503 and len(company.calls_at_the_tool()) == before
    finally:
        alone.stop()


@pytest.mark.claim("ext-authz-refused")
def test_a_blocked_agent_does_not_pass_at_its_next_call(company: Company, envoy: Proxy) -> None:
    """The last one here: nobody may unblock an agent that they made."""
    token, body = company.token("mona"), json.dumps(rpc("send_email", MAIL)).encode()
    assert envoy.post(body, "send_email", token).status_code == 200
    before = len(mails(company))
    company.api("POST", "/api/agents/billing/block", json={"reason": "a look at it"})
    answer = envoy.post(body, "send_email", token)
    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (403, "agent_blocked")
    assert len(mails(company)) == before
