"""Whatever fails, the tool did not run: counted at the tool server, with the same call succeeding beside it.

Each test breaks one thing, shows that nothing reached the tool and that the caller was told why with a stable code,
mends it, and shows that the very same call goes through.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.test_tokens import part
from gateway.world import APP_SECRET, POLICIES, SERVER, USER, World, eventually, make_key, rpc
from resolver import FORBIDDEN, Resolver
from watchfloor.model.agents import AgentState, CredentialOwner, PinState, Scope, ServerState
from watchfloor.model.facts import Kind
from watchfloor.model.people import RiskLevel

pytestmark = pytest.mark.claim("invariant-2")

MAIL = {"to": ["ada@zava.example"], "body": "hello"}


def code_of(answer: dict[str, Any]) -> tuple[int, str]:
    assert "error" in answer, answer
    return answer["error"]["code"], answer["error"]["data"]["code"]


async def refused_with(world: World, rpc_code: int, code: str, tool: str = "lookup", arguments: Any = None) -> None:
    """The call is refused, says why, and the tool server heard nothing of it."""
    before = len(world.tools.tap.calls), len(world.tools.journal)
    assert code_of(await world.call(tool, arguments)) == (rpc_code, code)
    assert (len(world.tools.tap.calls), len(world.tools.journal)) == before


async def allowed(world: World, tool: str = "lookup", arguments: Any = None) -> None:
    """The same call succeeds, and reached the tool once."""
    before = len(world.tools.journal)
    answer = await world.call(tool, arguments)
    assert "result" in answer and not answer["result"].get("isError"), answer
    assert len(world.tools.journal) == before + 1


# -- policies ---------------------------------------------------------------------------------------------------------


@pytest.mark.asvs("16.5.3")
async def test_a_policy_that_raises_blocks_the_call(world: World) -> None:
    await allowed(world, "send_email", MAIL)
    world.policy({**POLICIES["no-outside-mail"], "when": "args.priority > 3"})
    await refused_with(world, -32090, "policy_error", "send_email", MAIL)
    world.policy(POLICIES["no-outside-mail"])
    await allowed(world, "send_email", MAIL)


async def test_without_any_policy_nothing_goes_out(world: World) -> None:
    for name in POLICIES:
        world.withdraw(name)
    await refused_with(world, -32092, "policy_error")
    assert (await world.client.get("/readyz")).status_code == 503
    world.policy(POLICIES["big-payments"])
    await allowed(world)
    assert (await world.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"id": "broken", "version": 1, "body": {"id": "broken", "when": "args.("}}),
        json.dumps({"id": "broken", "version": 1, "body": {}}),
        json.dumps({"id": "broken", "version": 1, "body": "not a policy"}),
        json.dumps({"version": "one"}),
        json.dumps([1, 2]),
        "this is not JSON",
    ],
)
async def test_a_policy_set_that_cannot_be_used_refuses_every_call_until_it_is_mended(world: World, body: str) -> None:
    await allowed(world)
    world.write_raw(Kind.POLICY, "broken", body)
    answer = await world.call()
    assert answer["error"]["code"] == -32092 and len(world.tools.journal) == 1
    assert (await world.client.get("/readyz")).status_code == 503
    world.withdraw("broken")
    await eventually(lambda: world.gateway.problems() == [], "recovery by itself")
    await allowed(world)


@pytest.mark.parametrize("kind", [Kind.AGENT, Kind.USER, Kind.SERVER, Kind.TOOL, Kind.BINDING])
async def test_a_fact_that_cannot_be_read_counts_as_missing(world: World, kind: Kind) -> None:
    keys = {
        Kind.AGENT: "billing",
        Kind.USER: USER,
        Kind.SERVER: SERVER,
        Kind.TOOL: f"{SERVER}/lookup",
        Kind.BINDING: f"billing/{SERVER}/lookup",
    }
    await allowed(world)
    world.write_raw(kind, keys[kind], json.dumps({"nonsense": True}))
    answer = await world.call()
    assert answer["error"]["code"] == -32090
    assert answer["error"]["data"]["code"].endswith(("_unknown", "not_granted"))
    assert len(world.tools.journal) == 1


# -- the control plane ------------------------------------------------------------------------------------------------


@pytest.mark.asvs("16.5.3")
async def test_past_the_lease_every_call_is_refused_but_reads_that_an_admin_exempted(tmp_path: Path) -> None:
    async with World(tmp_path, lease_seconds=0.3).running() as world:
        world.tool("count", allow_when_stale=True)
        world.tool("send_email", allow_when_stale=True)
        world.epoch.beat()
        await allowed(world)
        await eventually(lambda: world.epoch.age_seconds() > 0.4, "the lease to run out")
        await refused_with(world, -32092, "state_stale")
        await refused_with(world, -32092, "state_stale", "send_email", MAIL)
        await allowed(world, "count", {"to": 1})
        assert (await world.client.get("/readyz")).status_code == 503
        world.epoch.beat()
        await allowed(world)


async def test_a_change_that_cannot_be_read_refuses_even_exempted_reads(world: World) -> None:
    world.tool("count", allow_when_stale=True)
    await allowed(world, "count", {"to": 1})
    database = world.data / "control.db"
    moved = database.rename(world.data / "gone.db")
    # Something was revoked and acknowledged; this worker cannot know what.
    world.epoch.raise_to(world.epoch.revision() + 1)
    await refused_with(world, -32092, "state_stale", "count", {"to": 1})
    moved.rename(database)
    await refused_with(world, -32092, "state_stale", "count", {"to": 1})
    world.agent()
    await eventually(lambda: world.gateway.problems() == [], "recovery by itself")
    await allowed(world, "count", {"to": 1})


async def test_a_worker_that_never_saw_the_control_plane_refuses_and_recovers(tmp_path: Path) -> None:
    made = World(tmp_path)
    made.control.close()
    database = made.data / "control.db"
    hidden = database.rename(tmp_path / "elsewhere.db")
    async with made.running(founded=False) as world:
        await refused_with(world, -32092, "state_stale")
        assert (await world.client.get("/readyz")).status_code == 503
        assert (await world.client.get("/healthz")).status_code == 200
        hidden.rename(database)
        from watchfloor.storage.control import SqlControlStore

        world.control = SqlControlStore.open(f"sqlite:///{database}", epoch=world.epoch)
        world.found_company()
        await eventually(lambda: world.gateway.problems() == [], "recovery by itself")
        await allowed(world)


# -- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.asvs("16.5.3")
async def test_what_cannot_be_recorded_does_not_go_out(tmp_path: Path) -> None:
    async with World(tmp_path, spool_bytes=6000).running() as world:
        await allowed(world)
        for _ in range(10):
            answer = await world.call()
        assert code_of(answer) == (-32092, "not_recorded")
        calls = len(world.tools.journal)
        await refused_with(world, -32092, "not_recorded")
        await refused_with(world, -32092, "not_recorded", "send_email", {"to": ["x@evil.example"]})
        recorded = [r for r in world.records("ToolCallDecided") if r["Verdict"] == "allow"]
        assert len(recorded) == calls
        # Room again: what was shipped is gone.
        assert world.spool.seal() is not None
        segment = world.spool.sealed()
        assert segment is not None
        world.spool.release(segment)
        await allowed(world)


async def test_an_approval_that_was_claimed_for_an_unrecorded_call_is_given_back(tmp_path: Path) -> None:
    async with World(tmp_path, spool_bytes=9000).running() as world:
        payment = {"amount": 5000.0, "to": "x"}
        hold = (await world.call("pay", payment))["error"]["data"]["hold"]
        meta = {"dev.watchfloor/retry-token": hold["retry_token"]}
        world.approve(hold)
        filler = 0
        while code_of(await world.call("send_email", {"to": ["x@evil.example"], "body": "x" * 500}))[1] == "policy":
            filler += 1
        answer = await world.call("pay", payment, meta=meta)
        assert code_of(answer)[1] == "not_recorded" and world.tools.journal == []
        assert world.spool.seal() is not None
        segment = world.spool.sealed()
        assert segment is not None
        world.spool.release(segment)
        assert "result" in await world.call("pay", payment, meta=meta)
        assert world.tools.journal == [("pay", payment)]


async def test_side_effects_wait_for_the_disk_where_that_is_wanted(tmp_path: Path) -> None:
    from watchfloor.model.errors import Unavailable

    synced: list[str] = []
    disk_is_good = True

    async def wait_durable() -> None:
        if not disk_is_good:
            raise Unavailable("the log does not answer")
        synced.append("yes")

    made = World(tmp_path)
    made.wait_durable = wait_durable
    async with made.running() as world:
        await allowed(world)
        assert synced == []
        await allowed(world, "send_email", MAIL)
        assert synced == ["yes"]
        disk_is_good = False
        await refused_with(world, -32092, "not_recorded", "send_email", MAIL)
        await allowed(world)


# -- what callers send ------------------------------------------------------------------------------------------------

MALFORMED: list[bytes] = [
    b"",
    b" ",
    b"{",
    b"}",
    b"[]",
    b"null",
    b"0",
    b'"tools/call"',
    b"\xff\xfe\x00",
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"lookup","arguments":{"key":"\\ud800"}}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"lookup","arguments":{"key":NaN}}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"lookup","arguments":{"key":1e999}}}',
    b"{'jsonrpc':'2.0'}",
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call"} trailing',
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b'[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"lookup","arguments":{"key":"k"}}}]',
    b'{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{"name":"lookup","arguments":{"key":"k"}}}',
    b'{"jsonrpc":"2.0","id":1,"method":["tools/call"],"params":{"name":"lookup","arguments":{"key":"k"}}}',
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
async def test_a_malformed_request_is_answered_with_an_error_and_goes_nowhere(world: World, body: bytes) -> None:
    response = await world.client.post(f"/mcp/{SERVER}", content=body, headers=world.headers())
    assert response.status_code in (400, 404) and response.json()["error"]["code"] in (-32700, -32600, -32602, -32020)
    assert world.tools.tap.seen == []
    assert world.records("RequestRefused")[0]["ReasonCode"] == "malformed"
    await allowed(world)


async def test_no_garbage_reaches_the_tool_server(world: World) -> None:
    good = json.dumps(rpc("lookup", {"key": "k"})).encode()

    async def attempt(body: bytes) -> None:
        before = len(world.tools.tap.calls)
        response = await world.client.post(f"/mcp/{SERVER}", content=body, headers=world.headers())
        if len(world.tools.tap.calls) != before:
            # It went out: then it was one good call, and it arrived as it was read.
            sent = world.tools.tap.calls[-1]
            assert sent["method"] == "tools/call" and sent["params"]["name"] == "lookup"
            assert response.status_code in (200, 400)  # the tool server may still find fault with its envelope
        else:
            assert "error" in response.json()

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(at=st.integers(0, len(good)), cut=st.integers(0, 20), put=st.binary(max_size=12))
    def fuzz(at: int, cut: int, put: bytes) -> None:
        asyncio.run_coroutine_threadsafe(attempt(good[:at] + put + good[at + cut :]), loop).result(20)

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(fuzz)
    await allowed(world)


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with World(tmp_path, max_body_bytes=4000).running() as world:
        large = await world.client.post(
            f"/mcp/{SERVER}", json=rpc("lookup", {"key": "x" * 4000}), headers=world.headers()
        )
        assert large.status_code == 413 and "4000" in large.json()["error"]["message"]

        async def drops() -> Any:
            for _ in range(100):
                yield b"x" * 100

        chunked = await world.client.post(f"/mcp/{SERVER}", content=drops(), headers=world.headers())
        assert chunked.status_code == 413
        assert world.tools.tap.seen == []
        await allowed(world, arguments={"key": "x" * 2000})


@pytest.mark.parametrize(
    ("raw", "judged"),
    [
        ('"arguments":{"to":["x@evil.example"],"to":["ada@zava.example"]}', "allow"),
        ('"arguments":{"to":["ada@zava.example"],"to":["x@evil.example"]}', "block"),
        ('"arguments":{"to":["x@evil.example"]},"arguments":{"to":["ada@zava.example"]}', "allow"),
        ('"arguments":{"to":["ada@zava.example"]},"arguments":{"to":["x@evil.example"]}', "block"),
        ('"arguments":{"to":["ada@zava.example"],"t\\u006f":["x@evil.example"]}', "block"),
    ],
)
async def test_with_doubled_keys_the_tool_sees_what_the_guard_judged(world: World, raw: str, judged: str) -> None:
    meta = json.dumps(rpc("x", {})["params"]["_meta"])
    body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"send_email",{raw},"_meta":{meta}}}}}'
    answer = await world.client.post(f"/mcp/{SERVER}", content=body, headers=world.headers(name="send_email"))
    if judged == "block":
        assert code_of(answer.json()) == (-32090, "policy") and world.tools.tap.calls == []
    else:
        assert world.tools.journal == [("send_email", {"to": ["ada@zava.example"], "body": ""})]
        assert world.tools.tap.seen[-1].body.count(b'"to"') == 1 and b"evil" not in world.tools.tap.seen[-1].body


async def test_a_doubled_tool_name_is_read_once_and_must_match_its_header(world: World) -> None:
    meta = json.dumps(rpc("x", {})["params"]["_meta"])
    body = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
        f'{{"name":"lookup","name":"send_email","arguments":{{"to":["x@evil.example"]}},"_meta":{meta}}}}}'
    )
    hidden = await world.client.post(f"/mcp/{SERVER}", content=body, headers=world.headers(name="lookup"))
    assert hidden.json()["error"]["code"] == -32020
    open_ = await world.client.post(f"/mcp/{SERVER}", content=body, headers=world.headers(name="send_email"))
    assert code_of(open_.json()) == (-32090, "policy")
    assert world.tools.tap.calls == []


@pytest.mark.asvs("4.1.3")
async def test_headers_of_the_caller_do_not_reach_the_tool_server(world: World) -> None:
    spoofed = {
        "x-user": "admin", "x-user-id": "admin", "x-agent-id": "root", "x-forwarded-for": "127.0.0.1",
        "x-forwarded-user": "admin", "forwarded": "for=127.0.0.1", "cookie": "session=admin",
        "proxy-authorization": "Basic YWRtaW46", "x-watchfloor-agent": "root", "te": "trailers", "via": "1.1 x",
        "mcp-session-id": "stolen", "x-real-ip": "127.0.0.1", "watchfloor-invocation": "inv_forged",
    }  # fmt: skip
    response = await world.client.post(
        f"/mcp/{SERVER}", json=rpc("lookup", {"key": "k"}), headers=world.headers() | spoofed
    )
    assert "result" in response.json()
    sent = world.tools.tap.seen[-1]
    assert set(sent.headers) == {
        "host", "accept", "accept-encoding", "content-type", "content-length", "authorization",
        "mcp-protocol-version", "mcp-method", "mcp-name", "watchfloor-invocation",
    }  # fmt: skip
    assert sent.headers["authorization"] == f"Bearer {APP_SECRET}"
    row = world.records("ToolCallDecided")[0]
    assert (row["AgentId"], row["UserId"], row["IPAddress"]) == ("billing", USER, "127.0.0.1")
    assert sent.headers["watchfloor-invocation"] == row["InvocationId"]


async def test_a_page_in_a_browser_cannot_call(world: World) -> None:
    response = await world.client.post(
        f"/mcp/{SERVER}", json=rpc("lookup", {"key": "k"}), headers=world.headers(origin="http://evil.example")
    )
    assert response.status_code == 403 and world.tools.tap.seen == []
    await allowed(world)


# -- tokens -----------------------------------------------------------------------------------------------------------


WRONG_TOKENS: dict[str, Callable[[World], str]] = {
    "alg none": lambda w: unsigned(w.claims()),
    "another key": lambda w: w.token(key=make_key()[0]),
    "another audience": lambda w: w.token(aud=f"{w.url}/mcp/files"),
    "expired": lambda w: w.token(iat=1_700_000_000, exp=1_700_000_500),
    "lives too long": lambda w: w.token(exp=int(time.time()) + 3600),
    "of another type": lambda w: w.token(header={"typ": "JWT"}),
    "not yet valid": lambda w: w.token(nbf=int(time.time()) + 300),
    "without epochs": lambda w: w.token(sev=None),
    "no token": lambda w: "x",
}


def unsigned(claims: dict[str, Any]) -> str:
    return (part({"alg": "none", "typ": "at+jwt"}) + b"." + part(claims) + b".").decode()


@pytest.mark.parametrize("name", WRONG_TOKENS)
async def test_a_wrong_token_reaches_nothing_and_is_told_where_to_get_a_right_one(world: World, name: str) -> None:
    """What exactly is refused is in ``test_tokens.py``; here, that the door asks."""
    response = await world.client.post(
        f"/mcp/{SERVER}",
        json=rpc("lookup", {"key": "k"}),
        headers=world.headers(authorization=f"Bearer {WRONG_TOKENS[name](world)}"),
    )
    assert response.status_code == 401
    challenge = response.headers["www-authenticate"]
    assert 'error="invalid_token"' in challenge
    assert f'resource_metadata="{world.url}/.well-known/oauth-protected-resource/mcp/{SERVER}"' in challenge
    assert world.tools.tap.seen == []
    row = world.records("RequestRefused")[0]
    assert row["ReasonCode"] == ("token_expired" if name == "expired" else "invalid_token")
    assert row.get("AgentId", "") == ("billing" if name in ("expired", "another audience") else "")
    await allowed(world)


async def test_no_token_at_all_is_asked_for(world: World) -> None:
    response = await world.client.post(f"/mcp/{SERVER}", json={}, headers={"content-type": "application/json"})
    assert response.status_code == 401 and "error=" not in response.headers["www-authenticate"]
    metadata = await world.client.get(f"/.well-known/oauth-protected-resource/mcp/{SERVER}")
    assert metadata.json()["resource"] == f"{world.url}/mcp/{SERVER}"
    assert world.records("RequestRefused")[0]["ReasonCode"] == "token_missing"


async def test_an_attacker_cannot_fill_the_disk_with_refusals(world: World) -> None:
    for _ in range(50):
        await world.client.post(f"/mcp/{SERVER}", json={}, headers={"authorization": "Bearer x.y.z"})
    assert len(world.records("RequestRefused")) <= 12
    metrics = (await world.client.get("/metrics")).text
    assert 'requests_refused_total{code="invalid_token"} 50' in metrics
    suppressed = next(x for x in metrics.splitlines() if x.startswith("watchfloor_gateway_refusals_suppressed_total"))
    assert int(suppressed.split()[1]) >= 38


@pytest.mark.asvs("10.3.2")
async def test_a_token_that_may_only_read_cannot_send(world: World) -> None:
    reading = world.token(scope="read")
    assert "result" in await world.call(token=reading)
    assert code_of(await world.call("send_email", MAIL, token=reading)) == (-32090, "scope_exceeded")
    assert len(world.tools.journal) == 1
    assert "result" in await world.call("send_email", MAIL)


# -- state of things --------------------------------------------------------------------------------------------------

BREAKS: dict[str, tuple[Callable[[World], None], Callable[[World], None], str]] = {
    "agent blocked": (lambda w: w.agent(state=AgentState.BLOCKED), lambda w: w.agent(), "agent_blocked"),
    "agent draft": (lambda w: w.agent(state=AgentState.DRAFT), lambda w: w.agent(), "agent_not_published"),
    "agent's tokens revoked": (lambda w: w.agent(epoch=2), lambda w: w.agent(), "agent_revoked"),
    "agent at risk": (lambda w: w.agent(risk=RiskLevel.HIGH), lambda w: w.agent(), "agent_risk"),
    "agent gone": (lambda w: w.project((Kind.AGENT, "billing", None)), lambda w: w.agent(), "agent_unknown"),
    "user revoked": (lambda w: w.user(epoch=2), lambda w: w.user(), "session_revoked"),
    "user disabled": (lambda w: w.user(is_enabled=False), lambda w: w.user(), "user_disabled"),
    "user at risk": (lambda w: w.user(risk=RiskLevel.HIGH), lambda w: w.user(), "user_risk"),
    "user must reset": (
        lambda w: w.user(must_reset_password=True),
        lambda w: w.user(),
        "password_reset_required",
    ),
    "user gone": (lambda w: w.project((Kind.USER, USER, None)), lambda w: w.user(), "user_unknown"),
    "server blocked": (lambda w: w.server(state=ServerState.BLOCKED), lambda w: w.server(), "server_blocked"),
    "server gone": (lambda w: w.project((Kind.SERVER, SERVER, None)), lambda w: w.server(), "server_unknown"),
    "tool unknown": (
        lambda w: w.project((Kind.TOOL, f"{SERVER}/lookup", None)),
        lambda w: w.tool("lookup"),
        "tool_unknown",
    ),
    "tool blocked": (lambda w: w.tool("lookup", is_blocked=True), lambda w: w.tool("lookup"), "tool_blocked"),
    "tool changed": (
        lambda w: w.tool("lookup", pin_state=PinState.CHANGED),
        lambda w: w.tool("lookup"),
        "tool_changed",
    ),
    "tool not granted": (lambda w: w.unbind("lookup"), lambda w: w.bind("lookup"), "not_granted"),
    "credential gone": (
        lambda w: w.project((Kind.CREDENTIAL, "app", None)),
        lambda w: w.credential("app", APP_SECRET),
        "internal_error",
    ),
    "credential of another place": (
        lambda w: w.write_raw(
            Kind.CREDENTIAL, "app", json.dumps({"id": "app", "sealed": w.vault.seal(b"x", "elsewhere")})
        ),
        lambda w: w.credential("app", APP_SECRET),
        "internal_error",
    ),
    "credential breaks headers": (
        lambda w: w.credential("app", "x\r\nx-admin: yes"),
        lambda w: w.credential("app", APP_SECRET),
        "internal_error",
    ),
    "user credential without a key": (
        lambda w: w.bind("lookup", credential_owner=CredentialOwner.USER),
        lambda w: w.bind("lookup"),
        "internal_error",
    ),
    "maker credential not stored": (
        lambda w: w.bind("lookup", credential_owner=CredentialOwner.MAKER),
        lambda w: w.bind("lookup"),
        "internal_error",
    ),
}


@pytest.mark.claim("invariant-1")
@pytest.mark.parametrize("name", BREAKS)
async def test_what_is_not_in_order_does_not_go_out_and_mended_it_does(world: World, name: str) -> None:
    break_it, mend_it, code = BREAKS[name]
    await allowed(world)
    break_it(world)
    await refused_with(world, -32090, code)
    row = [r for r in world.records("ToolCallDecided") if r["Verdict"] == "block"][-1]
    assert row["ReasonCode"] == code
    mend_it(world)
    await allowed(world)


async def test_a_read_only_grant_does_not_reach_a_tool_with_side_effects(world: World) -> None:
    world.bind("send_email", scope=Scope.READ)
    await refused_with(world, -32090, "scope_exceeded", "send_email", MAIL)
    world.bind("send_email")
    await allowed(world, "send_email", MAIL)


async def test_a_tool_that_nobody_registered_is_refused_although_the_server_has_it(world: World) -> None:
    world.bind("*")
    await refused_with(world, -32090, "tool_unknown", "secret_tool", {})
    await allowed(world)


# -- the tool server --------------------------------------------------------------------------------------------------


async def test_a_slow_tool_server_is_a_clear_error_that_says_the_call_went_out(world: World) -> None:
    world.server(timeout_seconds=0.2)
    answer = await world.call("wait", {})
    assert code_of(answer) == (-32093, "tool_server_timeout")
    assert answer["error"]["data"]["went_out"] is True and "did go out" in answer["error"]["message"]
    assert world.tools.journal == [("wait", {})]
    assert world.records("ToolCallCompleted")[0]["Status"] == "timeout"
    world.tools.release.set()
    await allowed(world, "wait", {})


async def test_a_tool_server_that_is_down_is_a_clear_error(world: World) -> None:
    world.server(url="http://127.0.0.1:1/mcp")
    answer = await world.call()
    assert code_of(answer) == (-32093, "tool_server_unreachable") and answer["error"]["data"]["went_out"] is False
    assert world.records("ToolCallCompleted")[0]["Status"] == "error"
    world.server()
    await allowed(world)


@pytest.mark.asvs("1.3.6")
@pytest.mark.parametrize("url", ["ftp://x/", "http://169.254.169.254/mcp", "http://u:p@127.0.0.1/", "stdio:files", ""])
async def test_an_address_that_must_not_be_called_is_not(world: World, url: str) -> None:
    world.server(url=url)
    assert code_of(await world.call()) == (-32093, "tool_server_address")
    world.server()
    await allowed(world)


@pytest.mark.asvs("1.3.6")
async def test_a_name_that_stands_for_a_forbidden_address_is_not_called_and_another_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    Resolver({**FORBIDDEN, "honest.example": ["127.0.0.1"]}).install(monkeypatch)
    for name in FORBIDDEN:
        world.server(url=f"http://{name}/mcp")
        answer = await world.call()
        assert code_of(answer) == (-32093, "tool_server_unreachable") and answer["error"]["data"]["went_out"] is False
    assert world.tools.journal == []
    world.server(url=world.tool_url.replace("127.0.0.1", "honest.example") + "/mcp")
    await allowed(world)


@pytest.mark.asvs("15.3.2")
async def test_a_redirect_is_not_followed(world: World) -> None:
    elsewhere = world.tool_url.replace("127.0.0.1", "localhost") + "/mcp"
    for status in (301, 302, 307, 308):
        world.tools.tap.refuse_with = (status, [(b"location", elsewhere.encode())])
        assert code_of(await world.call()) == (-32093, "tool_server_redirected")
    assert len(world.tools.tap.seen) == 4 and world.tools.journal == []
    world.tools.tap.refuse_with = None
    await allowed(world)


async def test_a_credential_that_the_tool_server_refuses_is_not_the_callers_affair(world: World) -> None:
    world.tools.tap.refuse_with = (401, [(b"www-authenticate", b'Bearer resource_metadata="http://evil.example"')])
    headers = world.headers()
    response = await world.client.post(f"/mcp/{SERVER}", json=rpc("lookup", {"key": "k"}), headers=headers)
    assert response.status_code == 200 and "www-authenticate" not in response.headers
    assert code_of(response.json()) == (-32093, "tool_server_refused_credential")
    world.tools.tap.refuse_with = None
    await allowed(world)


async def test_a_lost_record_of_the_end_does_not_keep_the_answer_from_its_caller(tmp_path: Path) -> None:
    async with World(tmp_path, spool_bytes=3600).running() as world:
        await allowed(world)
        world.gateway.enforcer.flush()
        assert len(world.tools.journal) == 1


@pytest.mark.claim("invariant-3")
async def test_a_decision_is_on_record_before_the_tool_hears_of_the_call(world: World) -> None:
    call = asyncio.create_task(world.call("wait", {}))
    await eventually(lambda: world.tools.journal, "arrival at the tool")
    rows = world.records("ToolCallDecided")
    assert [(r["ToolName"], r["Verdict"]) for r in rows] == [("wait", "allow")]
    assert world.records("ToolCallCompleted") == []
    world.tools.release.set()
    await call


@pytest.mark.asvs("8.3.2", "15.4.2")
@pytest.mark.claim("invariant-4")
async def test_a_revoke_is_in_force_when_its_commit_returns(world: World) -> None:
    for epoch in range(2, 12):
        await allowed(world)
        world.user(epoch=epoch)
        started = time.monotonic()
        await refused_with(world, -32090, "session_revoked")
        assert time.monotonic() - started < 5
        world.user()
