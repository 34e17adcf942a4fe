"""Held calls through the doors: let out once, never twice, and only as they were approved. Calls are counted at the
tool server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.world import AGENT, SERVER, USER, World
from watchfloor.gateway.app import Gateway
from watchfloor.model.errors import Unavailable
from watchfloor.model.facts import ApprovalFacts, HoldLimit, Kind
from watchfloor.storage.claims import Claims

TOKEN = "dev.watchfloor/retry-token"
PAYMENT = {"amount": 5000.0, "to": "supplier"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path).running() as made:
        yield made


async def hold(world: World, arguments: dict[str, Any] = PAYMENT, **more: Any) -> dict[str, Any]:
    """The hold that the call is told."""
    error = (await world.call("pay", arguments, **more))["error"]
    assert error["code"] == -32091, error
    found: dict[str, Any] = error["data"]["hold"]
    return found


async def retry(world: World, held: dict[str, Any], arguments: dict[str, Any] = PAYMENT, **more: Any) -> str:
    """``out``, or the code that it is refused with."""
    answer = await world.call("pay", arguments, meta={TOKEN: held["retry_token"]}, **more)
    return "out" if "result" in answer else str(answer["error"]["data"]["code"])


def answer(world: World, held: dict[str, Any], answer: str, *, expires: datetime | None = None, root: str = "") -> None:
    """As the control plane projects what became of a hold."""
    expires = expires or datetime.fromisoformat(held["expires_at"])
    facts = ApprovalFacts(held["id"], held["payload_hash"], expires, answer == "approved", answer, root)
    world.project((Kind.APPROVAL, held["id"], facts))


async def test_the_caller_is_told_how_to_make_the_call_again_and_the_record_keeps_no_token(world: World) -> None:
    held = await hold(world)
    assert set(held) == {"id", "status", "retry_token", "retry_after_seconds", "expires_at", "payload_hash"}
    await retry(world, held)
    world.approve(held)
    assert await retry(world, held) == "out"
    assert world.tools.journal == [("pay", PAYMENT)]
    assert held["retry_token"] not in str(world.records())


async def test_the_very_same_call_made_again_waits_for_the_same_answer(world: World) -> None:
    first = await hold(world)
    assert await hold(world) == first
    assert (await hold(world, {**PAYMENT, "amount": 6000.0}))["id"] != first["id"]


async def test_a_call_that_waits_at_another_worker_is_not_asked_about_again(world: World) -> None:
    held = await hold(world)
    elsewhere = held | {"id": "hold_made_elsewhere"}
    world.gateway = world.build()  # it has made no hold itself
    answer(world, elsewhere, "pending")
    async with other_worker(world) as call:
        error = (await call("pay", PAYMENT))["error"]
        assert error["data"]["hold"]["id"] == "hold_made_elsewhere"
        answer(world, elsewhere, "approved")
        assert "result" in await call("pay", PAYMENT, meta={TOKEN: error["data"]["hold"]["retry_token"]})
    assert len(world.tools.journal) == 1


@contextlib.asynccontextmanager
async def other_worker(world: World) -> AsyncIterator[Any]:
    """``world.call``, answered by ``world.gateway`` as it is now instead of the one that serves the port."""
    import httpx

    from gateway.world import rpc

    gateway: Gateway = world.gateway
    gateway._upstreams.start()
    transport = httpx.ASGITransport(app=gateway)
    async with httpx.AsyncClient(transport=transport, base_url=world.url) as client:

        async def call(tool: str, arguments: dict[str, Any], *, meta: dict[str, Any] | None = None) -> Any:
            body = rpc(tool, arguments, meta=meta)
            return (await client.post(f"/mcp/{SERVER}", json=body, headers=world.headers(name=tool))).json()

        yield call
    gateway._upstreams.close()


async def test_calls_that_share_an_answer_share_its_one_use(world: World) -> None:
    held = await hold(world)
    world.gateway = world.build()
    async with other_worker(world) as call:
        other = (await call("pay", PAYMENT))["error"]["data"]["hold"]
        assert other["id"] != held["id"]
        answer(world, held, "approved")
        answer(world, other, "approved", root=held["id"])
        assert "result" in await call("pay", PAYMENT, meta={TOKEN: other["retry_token"]})
    assert await retry(world, held) == "hold_used"
    assert len(world.tools.journal) == 1


@pytest.mark.claim("hold-exact")
async def test_another_call_is_held_anew_and_the_token_stays_good_for_its_own(world: World) -> None:
    held = await hold(world)
    world.approve(held)
    assert await retry(world, held, {**PAYMENT, "to": "somebody else"}) == "held"
    assert await retry(world, held) == "out"


async def test_a_token_is_worth_nothing_to_another_user_agent_or_as_a_guess(world: World) -> None:
    held = await hold(world)
    world.approve(held)
    no_user = world.token(sub=f"agent:{AGENT}", mode="agent", act=None, sev=None, auth_time=None)
    assert await retry(world, held, token=no_user) == "retry_token_invalid"
    assert await retry(world, held | {"retry_token": held["retry_token"][:-1] + "A"}) == "retry_token_invalid"
    assert await retry(world, held | {"retry_token": "x"}) == "retry_token_invalid"
    assert world.tools.journal == []
    assert await retry(world, held) == "out"


@pytest.mark.claim("hold-exact")
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("declined", "held"),
        ("revoked", "hold_revoked"),
        ("used", "hold_used"),
        ("limited", "hold_limit"),
        ("nonsense", "held"),
    ],
)
async def test_an_answer_that_is_no_approval_lets_nothing_out(world: World, said: str, code: str) -> None:
    held = await hold(world)
    answer(world, held, said)
    assert await retry(world, held) == code
    assert world.tools.journal == []


async def test_an_approval_that_has_expired_lets_nothing_out_and_is_asked_for_anew(world: World) -> None:
    held = await hold(world)
    answer(world, held, "approved", expires=datetime.now(UTC) - timedelta(seconds=1))
    assert await retry(world, held) == "hold_expired"
    assert world.tools.journal == []


async def test_an_approval_taken_back_between_two_attempts_lets_nothing_out(world: World) -> None:
    held = await hold(world)
    answer(world, held, "approved")
    answer(world, held, "revoked")
    assert await retry(world, held) == "hold_revoked"
    assert world.tools.journal == []


@pytest.mark.asvs("2.3.4")
@pytest.mark.claim("hold-once")
async def test_of_many_attempts_at_once_one_goes_out(world: World) -> None:
    held = await hold(world)
    world.approve(held)
    got = await asyncio.gather(*(retry(world, held) for _ in range(20)))
    assert sorted(got) == ["hold_used"] * 19 + ["out"]
    assert world.tools.journal == [("pay", PAYMENT)]


async def test_a_used_approval_is_used_even_where_the_policy_would_let_the_call_out_by_now(world: World) -> None:
    held = await hold(world)
    world.approve(held)
    assert await retry(world, held) == "out"
    world.withdraw("big-payments")
    assert await retry(world, held) == "hold_used"
    assert "result" in await world.call("pay", PAYMENT)
    assert len(world.tools.journal) == 2


async def test_a_call_that_is_blocked_for_another_reason_does_not_use_its_approval_up(world: World) -> None:
    held = await hold(world)
    world.approve(held)
    world.agent(state="blocked")
    assert await retry(world, held) == "agent_blocked"
    world.agent()
    assert await retry(world, held) == "out"


class Broken(Claims):
    """A database that does not answer."""

    def take(self, hold_id: str, taken_by: str, at: int) -> bool:
        raise Unavailable("no answer")

    def give_back(self, hold_id: str, taken_by: str) -> None:
        raise Unavailable("no answer")


async def test_where_the_use_cannot_be_taken_nothing_goes_out_and_it_may_be_tried_again(world: World) -> None:
    held = await hold(world)
    world.approve(held)
    approvals = world.gateway.enforcer._approvals
    good, approvals._claims = approvals._claims, Broken()
    assert await retry(world, held) == "not_recorded"
    assert world.tools.journal == []
    approvals._claims = good
    assert await retry(world, held) == "out"


async def test_a_caller_that_goes_while_the_use_is_taken_leaves_the_approval_unused(world: World) -> None:
    held = await hold(world)
    world.approve(held)
    approvals = world.gateway.enforcer._approvals
    good, entered, proceed = approvals._claims, asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Slow(Claims):
        def take(self, hold_id: str, taken_by: str, at: int) -> bool:
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(proceed.wait(), loop).result(10)
            return good.take(hold_id, taken_by, at)

        def give_back(self, hold_id: str, taken_by: str) -> None:
            good.give_back(hold_id, taken_by)

    approvals._claims = Slow()
    waiting = asyncio.ensure_future(approvals.present(held["retry_token"], lambda: _invocation(world)))
    await entered.wait()
    waiting.cancel()
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    while approvals._giving_back:
        await asyncio.sleep(0.01)
    approvals._claims = good
    assert await retry(world, held) == "out"


def _invocation(world: World) -> Any:
    from watchfloor.gateway.calls import CallRequest

    enforcer = world.gateway.enforcer
    token = enforcer.authenticate(f"Bearer {world.token()}".encode(), SERVER)
    return enforcer._invocation(CallRequest("mcp", token, "pay", PAYMENT), "", datetime.now(UTC))


# -- asking too often ---------------------------------------------------------------------------------------------


@pytest.mark.claim("hold-fatigue")
async def test_an_agent_that_asks_too_often_is_refused_and_what_waits_already_goes_on_waiting(tmp_path: Path) -> None:
    async with World(tmp_path, holds_per_agent_hour=3).running() as world:
        held = [await hold(world, {**PAYMENT, "amount": 2000.0 + n}) for n in range(3)]
        over = await world.call("pay", {**PAYMENT, "amount": 9000.0})
        assert (over["error"]["code"], over["error"]["data"]["code"]) == (-32090, "hold_limit")
        assert await hold(world, {**PAYMENT, "amount": 2000.0}) == held[0]
        world.approve(held[0])
        assert await retry(world, held[0], {**PAYMENT, "amount": 2000.0}) == "out"
        # What needs no approval is not limited, and a policy that blocks says so itself.
        assert "result" in await world.call("pay", {**PAYMENT, "amount": 10.0})
        rows = [r for r in world.records("ToolCallDecided") if r.get("ReasonCode") == "hold_limit"]
        assert [r["Verdict"] for r in rows] == ["block"]


async def test_a_limit_set_by_the_control_plane_counts_at_every_worker_until_it_ends(world: World) -> None:
    until = datetime.now(UTC) + timedelta(minutes=5)
    world.project((Kind.HOLD_LIMIT, f"{AGENT}/{USER}", HoldLimit(AGENT, USER, until)))
    assert (await world.call("pay", PAYMENT))["error"]["data"]["code"] == "hold_limit"
    assert "result" in await world.call("pay", {**PAYMENT, "amount": 1.0})
    world.project((Kind.HOLD_LIMIT, f"{AGENT}/{USER}", HoldLimit(AGENT, USER, datetime.now(UTC))))
    await hold(world)


# -- any history --------------------------------------------------------------------------------------------------


class Histories(RuleBasedStateMachine):
    """Any order of calls, retries and answers: a payment goes out at most once for each approval, and never without."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = contextlib.AsyncExitStack()
        self.held: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.approved: dict[str, int] = {}
        self.state: dict[str, str] = {}

    @initialize()
    def start(self) -> None:
        import tempfile

        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.world = self.loop.run_until_complete(self.stack.enter_async_context(World(directory).running()))

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @rule(amount=st.sampled_from([2000.0, 3000.0]), to=st.sampled_from(["a", "b"]))
    def call(self, amount: float, to: str) -> None:
        arguments = {"amount": amount, "to": to}
        data = self.run(self.world.call("pay", arguments))["error"]["data"]
        assert data["code"] == "held"
        self.held.append((arguments, data["hold"]))

    @rule(pick=st.integers(0, 99), said=st.sampled_from(["approved", "approved", "declined", "revoked"]))
    def say(self, pick: int, said: str) -> None:
        if not self.held:
            return
        arguments, held = self.held[pick % len(self.held)]
        before = self.state.get(held["id"])
        allowed = {None: {"approved", "declined"}, "approved": {"revoked"}}.get(before, set())
        if said not in allowed:
            return
        if said == "revoked":  # as the control plane does it: it takes the use, or it is too late
            claims = Claims.open(f"sqlite:///{self.world.data / 'control.db'}")
            if not claims.take(held["id"], "operator", 1):
                return
        answer(self.world, held, said)
        self.state[held["id"]] = said
        if said == "approved":
            key = f"{arguments['amount']}/{arguments['to']}"
            self.approved[key] = self.approved.get(key, 0) + 1

    @rule(pick=st.integers(0, 99), swap=st.booleans(), times=st.integers(1, 3))
    def again(self, pick: int, swap: bool, times: int) -> None:
        if not self.held:
            return
        arguments, held = self.held[pick % len(self.held)]
        sent = {**arguments, "to": "b" if arguments["to"] == "a" else "a"} if swap else arguments

        async def all_at_once() -> list[str]:
            return list(await asyncio.gather(*(retry(self.world, held, sent) for _ in range(times))))

        before = len(self.world.tools.journal)
        got = self.run(all_at_once())
        assert got.count("out") == len(self.world.tools.journal) - before <= 1
        if swap or self.state.get(held["id"]) != "approved":
            assert "out" not in got

    @invariant()
    def no_more_than_approved(self) -> None:
        if not self.held:
            return
        paid = [f"{a['amount']}/{a['to']}" for _, a in self.world.tools.journal]
        for key, group in itertools.groupby(sorted(paid)):
            assert len(list(group)) <= self.approved.get(key, 0)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.close()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
