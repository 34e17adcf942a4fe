"""kill -9 at every boundary of every step: what is left is done, once, and nothing is called done that is not."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import pytest

from portal.house import open_house
from response.provider import HttpConnector, OneIssuer, Provider
from watchfloor.model.people import Permission
from watchfloor.model.sagas import SagaKind, SagaStatus, StepState
from watchfloor.response.catalog import Order
from watchfloor.response.outbox import Outbox
from watchfloor.response.ports import Notice, Ports, SecurityEvent
from watchfloor.response.runner import Operator, perform
from watchfloor.storage import people, sagas
from watchfloor.storage.changes import read_setting, write_setting
from watchfloor.storage.control import ControlTx, SqlControlStore, utc_now

pytestmark = pytest.mark.slow

HOLD: Final = timedelta(seconds=4)
ASKED: Final = {
    "revoke": "provider_sessions",
    "reset": "provider_password",
    "risk": "provider_risk",
    "state": "read_back",
}


class Rows:
    """Somebody who tells others, by an outbox of rows; ``dies`` says when this process is killed while telling."""

    def __init__(self, dies: str) -> None:
        self._dies = dies

    def _write(self, tx: ControlTx, name: str, key: str) -> Mapping[str, str]:
        if self._dies == f"{name} before":
            os.kill(os.getpid(), signal.SIGKILL)
        row = f"told/{key}"
        write_setting(tx, row, (read_setting(tx, row) or 0) + 1)
        if self._dies == f"{name} after":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"key": key}

    def emit(self, tx: ControlTx, key: str, event: SecurityEvent) -> Mapping[str, str]:
        return self._write(tx, "events", key)

    def notify(self, tx: ControlTx, key: str, notice: Notice) -> Mapping[str, str]:
        return self._write(tx, "notify", key)


def opened(directory: Path) -> SqlControlStore:
    return SqlControlStore.open(f"sqlite:///{directory / 'control.db'}", epoch=None)


def ports(url: str, dies: str = "") -> Ports:
    rows = Rows(dies)
    return Ports(OneIssuer(HttpConnector(url)), emitter=rows, notifier=rows)


def server(directory: Path, url: str, dies: str, most: int, told: Connection) -> None:
    """A server that carries out what is due, and dies where it is told to."""
    control = opened(directory)
    told.send("ready")
    Outbox(control, ports(url, dies), hold=HOLD).run(most)
    told.send("done")
    time.sleep(60)


def confirming(directory: Path, told: Connection) -> None:
    """A server that is killed between the commit and the acknowledgement."""

    def dies() -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    told.send("ready")
    order = Order("griffin", "stolen")
    everything = Operator("sam", frozenset(Permission))
    perform(opened(directory), dies, utc_now, everything, "confirm_user_compromised", order)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Control state with a company in it, in which nothing has happened."""
    with open_house(tmp_path):
        return tmp_path


def start(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["portal.house", "response.provider", "watchfloor.response.outbox"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, theirs))
    process.start()
    theirs.close()
    assert ours.recv() == "ready"
    return process, ours


def confirm(directory: Path) -> None:
    control = opened(directory)
    order = Order("griffin", "stolen")
    perform(
        control, lambda: 1 << 40, utc_now, Operator("sam", frozenset(Permission)), "confirm_user_compromised", order
    )
    control.close()


def finish(directory: Path, provider: Provider) -> None:
    """Another server does the rest; then everything is done, told once, and ended once."""
    control = opened(directory)
    outbox = Outbox(control, ports(provider.url), hold=HOLD, jitter=lambda: 0.0)
    deadline = time.monotonic() + 120
    while True:
        outbox.run()
        with control.read() as tx:
            (saga,) = sagas.list_sagas(tx, kinds=[SagaKind.USER_COMPROMISE])
            steps = sagas.steps_of(tx, [saga.id])[saga.id]
        if saga.status is not SagaStatus.RUNNING:
            break
        assert time.monotonic() < deadline, steps
        time.sleep(0.05)
    assert {step.name: step.state for step in steps if step.state is not StepState.DONE} == {}
    assert saga.status is SagaStatus.DONE
    told = ("events/session-revoked", "events/credential-change", "events/risk-level-change", "notify")
    with control.read() as tx:
        assert [read_setting(tx, f"told/{saga.id}/{name}") for name in told] == [1, 1, 1, 1]
        user = people.find_user(tx, "griffin")
    assert user and user.epoch == 2, "sessions were ended once"
    state = provider.of()
    assert (state.live_sessions, state.must_reset_password, state.risk) == (0, True, "high")
    control.close()


def killed(process: BaseProcess) -> None:
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, process.exitcode


@pytest.mark.claim("response-survives-crash")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", list(ASKED))
def test_a_server_killed_while_it_asks_the_provider_leaves_a_step_that_another_one_takes_over(
    directory: Path, provider: Provider, operation: str, when: str
) -> None:
    confirm(directory)
    victims: list[BaseProcess] = []

    def kill(asked: str, moment: str) -> None:
        if victims and (asked, moment) == (operation, when):
            victims.pop().kill()

    provider.on_request = kill
    process, told = start(server, directory, provider.url, "", 100)
    victims.append(process)
    killed(process)
    control = opened(directory)
    with control.read() as tx:
        (saga,) = sagas.list_sagas(tx, kinds=[SagaKind.USER_COMPROMISE])
        step = sagas.find_step(tx, saga.id, ASKED[operation])
    assert step and step.state is StepState.RUNNING, "not done, as nobody knows whether it was"
    control.close()
    finish(directory, provider)
    with opened(directory).read() as tx:
        after = sagas.find_step(tx, saga.id, ASKED[operation])
    assert after and after.attempts >= 2
    told.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["events", "notify"])
def test_a_server_killed_while_it_tells_others_has_told_them_nothing_and_another_one_tells_them_once(
    directory: Path, provider: Provider, name: str, when: str
) -> None:
    confirm(directory)
    process, told = start(server, directory, provider.url, f"{name} {when}", 100)
    killed(process)
    finish(directory, provider)
    told.close()


@pytest.mark.parametrize("done", range(1, 6))
def test_a_server_killed_between_two_steps_leaves_the_rest_to_another_one(
    directory: Path, provider: Provider, done: int
) -> None:
    confirm(directory)
    process, told = start(server, directory, provider.url, "", done)
    assert told.recv() == "done"
    process.kill()
    killed(process)
    before = dict.fromkeys(provider.asked)
    finish(directory, provider)
    # What was finished before is not done again.
    assert [operation for operation in before if provider.asked.count(operation) != 1] == []


def test_a_server_killed_before_it_acknowledged_a_confirmation_has_begun_it(
    directory: Path, provider: Provider
) -> None:
    process, told = start(confirming, directory)
    killed(process)
    finish(directory, provider)
    told.close()
