"""Background jobs: safe to run twice, woken by a nudge, alive after a failure; and the ones that no room tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from portal.house import House, open_house
from watchfloor.jobs import JOBS, Job, JobContext, Jobs
from watchfloor.model.agents import PinState
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import Permission, Role
from watchfloor.registry import policies
from watchfloor.storage import cases, inventory
from watchfloor.storage.policies import find_policy_set, publish_policy


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        yield opened


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Bounded."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.005)


def context_of(house: House) -> JobContext:
    stores = house.stores
    return JobContext(stores.control, stores.events, stores.compiler, house.deps.vault, house.log, now=house.clock)


def change_tool(house: House, name: str = "send_email") -> None:
    """As the registry's listing leaves a tool that is no longer what was approved."""
    with house.stores.control.tx("system") as tx:
        tool = inventory.find_tool(tx, "mail", name)
        assert tool
        changed = replace(
            tool, pin="a" * 64, observed_hash="b" * 64, pin_state=PinState.CHANGED, updated_at=house.clock()
        )
        inventory.save_tool(tx, changed, "tool:change")


@pytest.mark.parametrize("name", [job.name for job in JOBS if job.name != "refresh_tool_lists"])
def test_running_a_job_twice_does_what_running_it_once_does(house: House, name: str) -> None:
    house.call("mail", "send_email", {"to": ["x@evil.example"]})
    house.call("bank", "pay", {"amount": 25_000})
    change_tool(house)
    house.work(name)
    with house.stores.control.read() as tx:
        before = cases.list_alerts(tx, frozenset(Permission)), tx.revision
    house.work(name)
    with house.stores.control.read() as tx:
        assert (cases.list_alerts(tx, frozenset(Permission)), tx.revision) == before


def test_policies_in_force_are_remembered_by_the_hash_that_decisions_name(house: House) -> None:
    with house.stores.control.tx("test") as tx:
        publish_policy(tx, {**policies.policies.current_policies(tx)[0].body, "title": "Another title"})
        current = policies.current_set(tx).hash
        assert find_policy_set(tx, current) is None
    house.work("record_policy_sets")
    with house.stores.control.read() as tx:
        assert policies.find_set(tx, current) is not None


def test_a_changed_tool_raises_one_alert_however_often_it_is_looked_at(house: House) -> None:
    house.work("watch_tools")
    analyst = house.client(Role.SOC_ANALYST)
    assert analyst.get("/api/alerts").json()["items"] == []
    change_tool(house)
    for _ in range(3):
        house.clock.forward(hours=5)
        house.work("watch_tools")
    (alert,) = analyst.get("/api/alerts").json()["items"]
    assert (alert["rule_id"], alert["severity"]) == ("tool-definition-changed", "medium")
    assert "mail/send_email no longer is what was approved" in alert["description"]
    (incident,) = analyst.get("/api/incidents").json()["items"]
    assert incident["title"] == "Initial Access incident on one tool server"


def test_a_change_that_a_gateway_has_reported_is_not_reported_again(house: House) -> None:
    row = {
        "Timestamp": house.clock(), "TenantId": "default", "ReportId": "evt_c", "ActionType": "ToolChanged",
        "ServerId": "mail", "ToolName": "send_email", "SourceDoor": "mcp",
    }  # fmt: skip
    house.stores.write("AgentActivity", [row])
    house.work()
    house.clock.forward(minutes=2)
    change_tool(house)
    house.work("watch_tools")
    assert len(house.client(Role.SOC_ANALYST).get("/api/alerts").json()["items"]) == 1


def test_a_tool_server_that_does_not_answer_makes_no_job_fail(house: House) -> None:
    house.work("refresh_tool_lists")
    servers = house.client(Role.OWNER).get("/api/servers").json()["items"]
    assert all(s["tools_list_error"] for s in servers)


def test_a_nudge_runs_a_job_at_once_and_the_timer_runs_it_anyway(house: House) -> None:
    ran = threading.Semaphore(0)
    slow = Job(lambda context: ran.release() and None, 3600)
    fast = Job(_named("tick", lambda context: ran.release()), 0.01)
    jobs = Jobs(context_of(house), [slow])
    jobs.start()
    try:
        assert ran.acquire(timeout=10)
        jobs.nudge("no such job")
        jobs.nudge(slow.name)
        assert ran.acquire(timeout=10)
    finally:
        jobs.stop()
    ticking = Jobs(context_of(house), [fast])
    ticking.start()
    try:
        for _ in range(5):
            assert ran.acquire(timeout=10)
    finally:
        ticking.stop()
    assert ticking.health()[0].runs >= 5


def _named(name: str, run: Callable[[JobContext], None]) -> Callable[[JobContext], None]:
    run.__name__ = name
    return run


@pytest.mark.parametrize("error", [Unavailable("the database is away"), ZeroDivisionError()])
def test_a_job_that_fails_is_shown_and_runs_again(house: House, error: Exception) -> None:
    failing = threading.Event()
    failing.set()

    def flaky(context: JobContext) -> None:
        if failing.is_set():
            raise error

    jobs = Jobs(context_of(house), [Job(flaky, 0.01)])
    jobs.start()
    try:
        wait_until(lambda: jobs.health()[0].failures >= 2)
        assert jobs.health()[0].last_error
        assert jobs.health()[0].last_success is None
        failing.clear()
        wait_until(lambda: jobs.health()[0].last_success is not None)
        assert jobs.health()[0].last_error == ""
    finally:
        jobs.stop()


def test_a_slow_job_delays_no_other_and_stopping_is_bounded(house: House) -> None:
    release, ticks = threading.Event(), threading.Semaphore(0)
    jobs = Jobs(
        context_of(house),
        [
            Job(_named("stuck", lambda context: release.wait(30) and None), 1),
            Job(_named("tick", lambda context: ticks.release()), 0.01),
        ],
    )
    jobs.start()
    for _ in range(3):
        assert ticks.acquire(timeout=10)
    started = time.monotonic()
    jobs.stop(timeout=0.2)
    assert time.monotonic() - started < 5
    release.set()


def test_an_event_becomes_an_alert_in_an_incident_by_the_running_jobs(house: House) -> None:
    house.jobs.start()
    try:
        house.call("mail", "send_email", {"to": ["x@evil.example"]})
        house.jobs.nudge("run_detection")
        analyst = house.client(Role.SOC_ANALYST)
        wait_until(lambda: bool(analyst.get("/api/incidents").json()["items"]))
    finally:
        house.jobs.stop()
