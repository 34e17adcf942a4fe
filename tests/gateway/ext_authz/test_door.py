"""Envoy's questions over gRPC: what passes, what does not, and that whatever fails is a no.

``Envoy`` below does what Envoy does with an answer: it sends the very same bytes on, or it does not. So calls are
counted at the tool server here as well; ``tests/scenarios/test_envoy.py`` does it with Envoy itself.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.world import POLICIES, SERVER, World, request, rpc
from watchfloor import content
from watchfloor.gateway.ext_authz import wire
from watchfloor.model.agents import AgentState
from watchfloor.model.facts import Kind

MAIL = {"to": ["ada@zava.example"], "body": "x"}
PARTNER = "partner@supplier.example"
CHECK = "/envoy.service.auth.v3.Authorization/Check"
JSON = {"content-type": "application/json"}


class Envoy:
    """Asks as Envoy does, and does as it is told."""

    def __init__(self, world: World, channel: Any) -> None:
        self.world = world
        self._ask = channel.unary_unary(CHECK)

    async def ask(self, **http: Any) -> Any:
        """The answer to a question about this HTTP request. ``extensions``, ``route``: what the route says."""
        extensions, route = http.pop("extensions", {"server": SERVER}), http.pop("route", {})
        question = wire.CheckRequest()
        attributes = question.attributes
        attributes.source.address.socket_address.address = "198.51.100.7"
        for name, value in {"method": "POST", "path": "/", **http}.items():
            if name == "headers":
                attributes.request.http.headers.update(value)
            else:
                setattr(attributes.request.http, name, value)
        attributes.context_extensions.update(extensions)
        if route:
            attributes.route_metadata_context.filter_metadata["watchfloor"].update(route)
        return wire.CheckResponse.FromString(await self._ask(question.SerializeToString()))

    async def send(self, body: Any, tool: str | None = None, token: str | None = None, **more: Any) -> tuple[int, Any]:
        """Send ``body`` through: status and JSON of the answer, whoever gave it."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        method = body.get("method", "") if isinstance(body, dict) else "tools/call"
        headers = self.world.headers(method, tool, authorization=f"Bearer {token or self.world.token()}")
        headers |= {"content-length": str(len(raw))} | more.pop("headers", {})
        answer = await self.ask(headers=headers, raw_body=raw, **more)
        if not answer.HasField("ok_response"):
            assert answer.status.code != 0 and answer.HasField("denied_response")
            denied = answer.denied_response
            return denied.status.code, json.loads(denied.body) if denied.body else None
        assert answer.status.code == 0
        for name in answer.ok_response.headers_to_remove:
            headers.pop(name, None)
        headers |= {option.header.key: option.header.value for option in answer.ok_response.headers}
        # What the route adds: Envoy's own credential for the tool server.
        headers |= {"host": "tools", "authorization": "Bearer envoys-own"}
        response = await self.world.client.post(f"{self.world.tool_url}/mcp", content=raw, headers=headers)
        return response.status_code, response.json() if response.content else None

    async def call(self, tool: str, arguments: Any, token: str | None = None, **more: Any) -> str:
        """What came of one call: a code, or that it was done."""
        _, answer = await self.send(rpc(tool, arguments), tool, token, **more)
        return "done" if "result" in answer else str((answer["error"].get("data") or {}).get("code", "malformed"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _running(world: World, port: int) -> AsyncIterator[Envoy]:
    async with world.running(), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Envoy(world, channel)


@pytest.fixture
async def envoy(tmp_path: Path) -> AsyncIterator[Envoy]:
    port = free_port()
    async for running in _running(World(tmp_path, ext_authz_port=port), port):
        yield running


def mails(envoy: Envoy) -> list[Any]:
    return [arguments["to"] for tool, arguments in envoy.world.tools.journal if tool == "send_email"]


# -- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.claim("ext-authz-refused")
async def test_a_blocked_call_does_not_pass_and_its_twin_does(envoy: Envoy) -> None:
    status, answer = await envoy.send(rpc("send_email", {"to": ["x@evil.example"], "body": "x"}), "send_email")
    assert status == 403 and mails(envoy) == []
    assert (answer["id"], answer["error"]["code"], answer["error"]["data"]["code"]) == (1, -32090, "policy")
    assert "evil.example" not in json.dumps(answer)
    assert await envoy.call("send_email", MAIL) == "done" and mails(envoy) == [["ada@zava.example"]]
    blocked, allowed = envoy.world.records("ToolCallDecided")
    assert (blocked["Verdict"], allowed["Verdict"]) == ("block", "allow")
    assert {row["SourceDoor"] for row in (blocked, allowed)} == {"ext-authz"} and blocked["IPAddress"] == "198.51.100.7"


async def test_what_reaches_the_tool_names_the_decision_and_not_the_callers_token(envoy: Envoy) -> None:
    forged = {"watchfloor-invocation": "inv_forged", "cookie": "a=b", "watchfloor-conversation-id": "c-1"}
    assert await envoy.call("lookup", {"key": "k"}, headers=forged) == "done"
    (seen,) = envoy.world.tools.tap.seen
    decided = envoy.world.records("ToolCallDecided")[0]
    assert seen.headers["watchfloor-invocation"] == decided["InvocationId"] and decided["ConversationId"] == "c-1"
    assert seen.headers["authorization"] == "Bearer envoys-own"
    assert not {"cookie", "watchfloor-conversation-id"} & seen.headers.keys()


async def test_no_credential_of_a_tool_server_is_ever_given_to_whoever_asks(envoy: Envoy) -> None:
    body = json.dumps(rpc("lookup", {"key": "k"})).encode()
    answer = await envoy.ask(headers=envoy.world.headers(), raw_body=body)
    assert answer.HasField("ok_response") and b"app-credential" not in answer.SerializeToString()
    assert [o.header.key for o in answer.ok_response.headers] == ["watchfloor-invocation"]
    assert "authorization" in answer.ok_response.headers_to_remove


async def test_a_call_that_would_have_to_be_redacted_is_refused_with_the_reason(envoy: Envoy) -> None:
    changed = {
        "id": "no-secrets",
        "effect": "redact",
        "redact": ["secrets"],
        "when": "'secret' in signals.in_arguments",
    }
    envoy.world.policy({**POLICIES["no-outside-mail"], **changed, "message": "A secret was removed."})
    secret = "AKIA" + "IOSFODNN7" + "ABCDEFG"
    assert await envoy.call("send_email", {**MAIL, "body": f"key {secret} end"}) == "redaction_impossible"
    assert mails(envoy) == [] and envoy.world.records("ToolCallCompleted")[0]["Status"] == "refused"
    assert await envoy.call("send_email", {**MAIL, "body": "key in the safe"}) == "done"


async def test_a_held_call_passes_once_when_an_operator_has_approved_it(envoy: Envoy) -> None:
    payment = {"amount": 5000.0, "to": "x"}
    status, answer = await envoy.send(rpc("pay", payment), "pay")
    hold = answer["error"]["data"]["hold"]
    assert (status, answer["error"]["code"]) == (403, -32091)
    envoy.world.approve(hold)
    again = {"watchfloor-retry-token": hold["retry_token"]}
    assert await envoy.call("pay", payment | {"amount": 5001.0}, headers=again) == "held"
    assert await envoy.call("pay", payment, headers=again) == "done"
    assert await envoy.call("pay", payment, headers=again) == "hold_used"
    assert [tool for tool, _ in envoy.world.tools.journal] == ["pay"]


async def test_a_blocked_agent_does_not_pass_at_the_next_question(envoy: Envoy) -> None:
    token = envoy.world.token()
    assert await envoy.call("lookup", {"key": "k"}, token) == "done"
    envoy.world.agent(state=AgentState.BLOCKED)
    assert await envoy.call("lookup", {"key": "k"}, token) == "agent_blocked"
    assert len(envoy.world.tools.journal) == 1


# -- other messages ---------------------------------------------------------------------------------------------------


async def test_lists_pass_for_those_who_are_admitted(envoy: Envoy) -> None:
    status, answer = await envoy.send(request("tools/list", {}), None, headers={"mcp-name": ""})
    assert status == 200 and answer["result"]["tools"]
    # What is not granted is an empty list, as at the gateway's own door.
    status, answer = await envoy.send(request("resources/list", {}))
    assert (status, answer["result"]["resources"]) == (200, [])
    envoy.world.user(epoch=2)
    status, answer = await envoy.send(request("tools/list", {}))
    assert (status, answer["error"]["code"]) == (401, -32094)


async def test_resources_are_decided_on_and_unknown_methods_do_not_pass(envoy: Envoy) -> None:
    status, answer = await envoy.send(request("resources/read", {"uri": "notes://a"}), "notes://a")
    assert (status, answer["error"]["data"]["code"]) == (403, "not_granted")
    assert (await envoy.send(request("tasks/cancel", {})))[0] == 404
    envoy.world.bind("mcp:resources/read")
    assert (await envoy.send(request("resources/read", {"uri": "notes://a"}), "notes://a"))[0] == 200


# -- what is asked about is what is sent ------------------------------------------------------------------------------

GOOD = json.dumps(rpc("send_email", MAIL)).encode()
EVIL = b'{"to": ["x@evil.example"], "body": "x"}'
AMBIGUOUS: dict[str, bytes] = {
    "doubled arguments": GOOD.replace(b'"arguments": {', b'"arguments": ' + EVIL + b', "arguments": {', 1),
    "doubled argument": GOOD.replace(b'"to": [', b'"to": ["x@evil.example"], "to": [', 1),
    "doubled by an escape": GOOD.replace(b'"to": [', b'"\\u0074o": ["x@evil.example"], "to": [', 1),
    "doubled in another case": GOOD.replace(b'"to": [', b'"To": ["x@evil.example"], "to": [', 1),
    "method in another case": GOOD.replace(b'"method"', b'"Method": "tools/call", "method"', 1),
    "params in another case": GOOD.replace(b'"params"', b'"Params": {"name": "pay"}, "params"', 1),
    "unknown member": GOOD.replace(b'"params"', b'"result": {}, "params"', 1),
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "no UTF-8": GOOD.replace(b'"body": "x"', b'"body": "x\xff"', 1),
    "half a character": GOOD.replace(b'"body": "x"', b'"body": "\\ud800"', 1),
    "not a number": GOOD.replace(b'"body": "x"', b'"body": NaN', 1),
    "endless number": GOOD.replace(b'"body": "x"', b'"body": 1e999', 1),
    "number beyond 64 bits": GOOD.replace(b'"body": "x"', b'"body": 18446744073709551615', 1),
    "two bodies": GOOD + GOOD,
    "a batch": b"[" + GOOD + b"]",
    "a comment": GOOD + b"// x",
    "not JSON": b"to=x@evil.example",
    "cut off": GOOD[:-10],
    "hints that would reach the tool": json.dumps(
        rpc("send_email", MAIL, meta={"dev.watchfloor/user-turns": []})
    ).encode(),
    "nested without end": b'{"a":' * 5000 + b"1" + b"}" * 5000,
}


@pytest.mark.claim("ext-authz-verbatim")
@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_a_body_that_another_parser_could_read_otherwise_does_not_pass(envoy: Envoy, name: str) -> None:
    status, answer = await envoy.send(AMBIGUOUS[name], "send_email", headers={"mcp-method": "tools/call"})
    assert 400 <= status < 500 and "error" in answer
    assert envoy.world.tools.tap.seen == [] and envoy.world.records("ToolCallDecided") == []
    assert (await envoy.send(GOOD, "send_email"))[0] == 200 and mails(envoy) == [["ada@zava.example"]]


HEADERS: dict[str, tuple[int, dict[str, str]]] = {
    "truncated": (413, {"x-envoy-auth-partial-body": "true"}),
    "longer than told": (400, {"content-length": str(len(GOOD) + 1)}),
    "compressed": (415, {"content-encoding": "gzip"}),
    "a form": (415, {"content-type": "application/x-www-form-urlencoded"}),
    "another alphabet": (415, {"content-type": "application/json; charset=utf-16"}),
    "another tool in the header": (400, {"mcp-name": "lookup"}),
    "another method in the header": (400, {"mcp-method": "tools/list"}),
    "a parameter that is no argument": (400, {"mcp-param-to": "x@evil.example"}),
}


@pytest.mark.parametrize("name", HEADERS)
async def test_headers_that_say_otherwise_than_the_body_are_refused(envoy: Envoy, name: str) -> None:
    expected, headers = HEADERS[name]
    assert (await envoy.send(GOOD, "send_email", headers=headers))[0] == expected
    assert envoy.world.tools.tap.seen == []
    fine = {"x-envoy-auth-partial-body": "false", "content-type": "application/json; charset=UTF-8"}
    assert (await envoy.send(GOOD, "send_email", headers=fine))[0] == 200


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS"])
async def test_what_has_no_body_to_judge_does_not_pass(envoy: Envoy, method: str) -> None:
    answer = await envoy.ask(method=method, headers=envoy.world.headers())
    assert answer.denied_response.status.code == 405 and answer.status.code != 0
    answer = await envoy.ask(headers=envoy.world.headers())
    assert answer.denied_response.status.code == 400 and "with_request_body" in answer.denied_response.body
    assert (await envoy.send(GOOD, "send_email", path="/?to=x"))[0] == 400


async def test_a_body_as_text_passes_unless_it_may_have_been_mended(envoy: Envoy) -> None:
    async def ask(body: str) -> Any:
        return await envoy.ask(headers=envoy.world.headers(name="send_email"), body=body)

    assert (await ask(GOOD.decode())).HasField("ok_response")
    answer = await ask(json.dumps(rpc("send_email", {**MAIL, "to": ["ada@zava!.example"]})))
    assert answer.denied_response.status.code == 400 and "pack_as_bytes" in answer.denied_response.body


# -- which server, and who --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ({"extensions": {"server": SERVER}}, True),
        ({"extensions": {}, "route": {"server": SERVER}}, True),
        ({"extensions": {"server": SERVER}, "route": {"server": SERVER}}, True),
        ({"extensions": {}, "path": f"/mcp/{SERVER}"}, True),
        ({"extensions": {"server": SERVER}, "path": "/mcp/mail"}, True),
        ({"extensions": {"server": SERVER}, "route": {"server": "mail"}}, False),
        ({"extensions": {}, "path": f"/other/{SERVER}"}, False),
        ({"extensions": {}, "path": f"/mcp/{SERVER}/more"}, False),
        ({"extensions": {}, "path": "/mcp/%74ools"}, False),
        ({"extensions": {"server": "../x"}}, False),
        ({"extensions": {}}, False),
    ],
)
async def test_the_route_says_which_tool_server_it_is_and_only_without_it_the_path(
    envoy: Envoy, said: dict[str, Any], passes: bool
) -> None:
    status, _ = await envoy.send(GOOD, "send_email", **said)
    assert (status == 200) == passes and len(mails(envoy)) == passes


BAD_TOKENS: dict[str, dict[str, Any]] = {
    "for another server": {"aud": "http://gateway.example/mcp/mail"},
    "expired": {"iat": 1_700_000_000, "exp": 1_700_000_600},
    "of another issuer": {"iss": "https://elsewhere.example"},
    "without its actor": {"act": None},
}


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_without_a_good_token_nothing_passes(envoy: Envoy, name: str) -> None:
    status, answer = await envoy.send(GOOD, "send_email", envoy.world.token(**BAD_TOKENS[name]))
    assert (status, answer["error"]["code"]) == (401, -32094)
    headers = {k: v for k, v in envoy.world.headers(name="send_email").items() if k != "authorization"}
    answer = await envoy.ask(headers=headers, raw_body=GOOD)
    assert answer.denied_response.status.code == 401
    challenges = [o.header.value for o in answer.denied_response.headers if o.header.key == "www-authenticate"]
    assert challenges == [
        f'Bearer resource_metadata="{envoy.world.url}/.well-known/oauth-protected-resource/mcp/{SERVER}"'
    ]
    assert envoy.world.tools.tap.seen == []
    assert envoy.world.records("RequestRefused")[0]["SourceDoor"] == "ext-authz"


# -- what cannot be seen ----------------------------------------------------------------------------------------------


@pytest.mark.claim("ext-authz-unseen")
async def test_after_an_answer_that_nobody_told_only_known_addresses_pass(envoy: Envoy) -> None:
    for body in content.policies():
        if body.get("step") == "provenance":
            envoy.world.policy(body)
    world, conversation = envoy.world, {"watchfloor-conversation-id": "c-1"}
    body = rpc("lookup", {"key": "new"})
    answer = await envoy.ask(headers=world.headers() | conversation, raw_body=json.dumps(body).encode())
    invocation = answer.ok_response.response_headers_to_add[0].header.value
    outside = {"to": [PARTNER], "body": "x"}
    assert await envoy.call("send_email", outside, headers=conversation) == "untraced_argument"
    said = conversation | {"watchfloor-user-turns": json.dumps([f"Write to {PARTNER}"])}
    assert await envoy.call("send_email", outside, headers=said) == "done"
    other = {"to": ["drop@elsewhere.example"], "body": "x"}
    # Told what the tool answered, values that it does not hold are judged as at any other door.
    assert await envoy.call("send_email", other, headers=conversation) == "untraced_argument"
    told = {"server": SERVER, "tool": "lookup", "conversation_id": "c-1", "invocation": invocation, "status": "ok"}
    bearer = {"authorization": f"Bearer {world.token()}"}
    response = await world.client.post("/guard/v1/complete", json=told | {"result": "record"}, headers=bearer)
    assert response.json()["recorded"] is True
    assert mails(envoy) == [[PARTNER]]


async def test_an_answer_that_was_told_at_another_worker_is_known(envoy: Envoy) -> None:
    world = envoy.world
    headers = world.headers() | {"watchfloor-conversation-id": "c-1"}
    answer = await envoy.ask(headers=headers, raw_body=json.dumps(rpc("lookup", {"key": "new"})).encode())
    invocation = answer.ok_response.response_headers_to_add[0].header.value
    name = "\n".join(("default", "billing", "griffin", "c:c-1"))
    conversation = world.gateway.enforcer._conversations.at(name)
    assert conversation.is_partial
    world.gateway._decide._open.clear()  # as if another worker had permitted it
    told = {"server": SERVER, "tool": "lookup", "conversation_id": "c-1", "invocation": invocation, "status": "ok"}
    bearer = {"authorization": f"Bearer {world.token()}"}
    await world.client.post("/guard/v1/complete", json=told | {"result": "record"}, headers=bearer)
    assert not world.gateway.enforcer._conversations.at(name).is_partial


# -- when something is wrong ------------------------------------------------------------------------------------------


async def test_a_worker_that_has_lost_the_control_plane_lets_nothing_pass(tmp_path: Path) -> None:
    port = free_port()
    async for envoy in _running(World(tmp_path, ext_authz_port=port, lease_seconds=0.3), port):
        assert await envoy.call("send_email", MAIL) == "done"
        await asyncio.sleep(0.4)
        status, answer = await envoy.send(GOOD, "send_email")
        assert (status, answer["error"]["code"]) == (503, -32092)
        assert len(mails(envoy)) == 1
        envoy.world.epoch.beat()
        assert await envoy.call("send_email", MAIL) == "done"


async def test_without_policies_and_without_a_record_nothing_passes(tmp_path: Path) -> None:
    port = free_port()
    async for envoy in _running(World(tmp_path, ext_authz_port=port), port):
        for policy_id in POLICIES:
            envoy.world.withdraw(policy_id)
        assert await envoy.call("send_email", MAIL) == "policy_error"
        for body in POLICIES.values():
            envoy.world.policy(body)
        envoy.world.write_raw(Kind.POLICY, "broken", "{}")
        assert await envoy.call("send_email", MAIL) == "policy_error"
        assert mails(envoy) == []


async def test_whatever_is_asked_is_answered_and_only_the_good_call_passes(envoy: Envoy) -> None:
    world = envoy.world
    headers = world.headers(name="send_email")
    good = wire.CheckRequest()
    good.attributes.request.http.method = "POST"
    good.attributes.request.http.headers.update(headers)
    good.attributes.request.http.raw_body = GOOD
    good.attributes.context_extensions["server"] = SERVER
    question = good.SerializeToString(deterministic=True)

    async def ask(message: bytes) -> None:
        answer = wire.CheckResponse.FromString(await envoy._ask(message))
        assert answer.HasField("ok_response") == (answer.status.code == 0)
        if answer.HasField("ok_response"):
            asked = wire.decode(message)
            assert asked.body is not None
            called = json.loads(asked.body)["params"]
            assert "evil.example" not in json.dumps(called) and called["name"] in ("send_email",)
        else:
            assert answer.denied_response.status.code >= 400

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(at=st.integers(0, len(question)), cut=st.integers(0, 20), put=st.binary(max_size=12))
    def damaged(at: int, cut: int, put: bytes) -> None:
        message = question[:at] + put + question[at + cut :]
        asyncio.run_coroutine_threadsafe(ask(message), loop).result(20)

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        headers=st.dictionaries(st.sampled_from([*headers, "content-encoding", "x-y"]), st.text(max_size=12)),
        body=st.binary(max_size=40),
        path=st.text(max_size=12),
    )
    def odd(headers: Mapping[str, str], body: bytes, path: str) -> None:
        asked = wire.CheckRequest()
        http = asked.attributes.request.http
        http.method, http.path, http.raw_body = "POST", path, body
        http.headers.update({**world.headers(), **headers})
        asked.attributes.context_extensions["server"] = SERVER
        asyncio.run_coroutine_threadsafe(ask(asked.SerializeToString()), loop).result(20)

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(damaged)
    await asyncio.to_thread(odd)
    assert await envoy.call("send_email", MAIL) == "done"
