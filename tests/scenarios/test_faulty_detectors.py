"""A detector that raises, hangs or eats memory, in real worker processes: no call goes through, and nobody else waits.

Honest calls are made all the while; each must be answered within ``BOUND`` seconds, whatever its neighbour does. A call
whose worker ended under it sees a broken connection, which is no answer: it is made again, as agents do.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scenarios.company import Company, headers, rpc, running, wait_until

pytestmark = pytest.mark.slow

BOUND = 20.0
"""Seconds, on a machine that is busy with other tests, too. On an idle one the slowest takes three."""

WITHHOLD = {
    "id": "no-cards-back",
    "title": "Cards in results",
    "description": "x",
    "effect": "block",
    "severity": "high",
    "surface": "result",
    "step": "detectors",
    "when": '"credit_card" in signals.confident',
    "message": "a card",
}

REFUSED = {
    "fault:raise": "internal_error",
    "fault:nonsense": "internal_error",
    "fault:exit": "internal_error",
    "fault:hang": "decision_timeout",
    "fault:sleep": "decision_timeout",
    "fault:at-once": "internal_error",
    "fault:condition-raises": "internal_error",
    "fault:condition-hangs": "decision_timeout",
}
"""The worker survives, and says why."""

EITHER = ("fault:eat", "fault:small")
"""Refused for one reason or the other: what is used up first, memory or time, is the machine's affair."""

ENDED = ("fault:swallow", "fault:c", "fault:foreign", "fault:condition-in-c")
"""Nothing in the process can stop these: the process ends, and starts again."""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    directory = tmp_path_factory.mktemp("faulty")
    path = directory / "path"
    path.mkdir()
    shutil.copy(Path(__file__).with_name("faulty_detector.py"), path)
    (path / "sitecustomize.py").write_text("import faulty_detector\n")
    environment = {"PYTHONPATH": str(path), "WATCHFLOOR_WORKER_MEMORY_BYTES": str(384 << 20)}
    with running(directory, environment=environment) as company:
        yield company


def _call(company: Company, token: str, key: str) -> dict[str, Any] | None:
    """The answer; None where there was none."""
    try:
        response = httpx.post(
            f"{company.gateway}/mcp/mail",
            json=rpc("lookup", {"key": key}),
            headers=headers(token, "lookup"),
            timeout=30,
        )
    except httpx.TransportError:
        return None
    answer: dict[str, Any] = response.json()
    return answer


class Honest:
    """Somebody who calls again and again, and notes how long each answer took."""

    def __init__(self, company: Company, token: str, name: str) -> None:
        self.waits: list[float] = []
        self.wrong: list[Any] = []
        self._company, self._token, self._name = company, token, name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Honest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            before = time.monotonic()
            answer = None
            while answer is None and time.monotonic() - before < BOUND:
                answer = _call(self._company, self._token, f"honest-{self._name}-{number}")
                if answer is None:
                    time.sleep(0.02)
            self.waits.append(time.monotonic() - before)
            if answer is None or "result" not in answer:
                self.wrong.append(answer)
            time.sleep(0.01)


def _reached(company: Company) -> set[str]:
    return {call["key"] for call in company.calls_at_the_tool()}


def _break(company: Company, token: str, fault: str) -> dict[str, Any] | None:
    """A call with the fault, honest ones beside it before, during and after."""
    with Honest(company, token, fault) as one, Honest(company, token, f"{fault}-too") as other:
        wait_until(lambda: len(one.waits) > 2 and len(other.waits) > 2, what="honest calls")
        answer = _call(company, token, fault)
        after = len(one.waits), len(other.waits)
        wait_until(lambda: len(one.waits) > after[0] + 2 and len(other.waits) > after[1] + 2, 120, "honest calls after")
    assert one.wrong == other.wrong == []
    assert max(one.waits + other.waits) < BOUND
    assert not [key for key in _reached(company) if key.startswith("fault")]
    return answer


@pytest.mark.claim("faulty-detector")
@pytest.mark.parametrize("fault", REFUSED)
def test_a_faulty_detector_refuses_its_call_and_the_worker_goes_on(company: Company, fault: str) -> None:
    token = company.token("griffin")
    workers = _workers(company)
    answer = _break(company, token, fault)
    assert answer is not None
    assert answer["error"]["data"]["code"] == REFUSED[fault]
    assert _workers(company) == workers
    wait_until(lambda: _decided(company, answer["error"]["data"]["invocation"]) == "block", what="the record")


@pytest.mark.claim("results-judged")
@pytest.mark.parametrize("fault", ["raise", "hang", "at-once"])
def test_a_result_that_cannot_be_judged_is_withheld_where_it_must_be_and_stalls_nobody(
    company: Company, fault: str
) -> None:
    token, key = company.token("griffin"), f"result:{fault}"
    workers = _workers(company)
    with Honest(company, token, fault) as one:
        wait_until(lambda: len(one.waits) > 2, what="honest calls")
        passed = _call(company, token, key)
        assert passed is not None and "result" in passed, "nobody wants it judged: it has passed before it is looked at"
        company.api("PUT", f"/api/policies/{WITHHOLD['id']}", json=WITHHOLD)
        try:
            withheld = _call(company, token, key)
            assert withheld is not None and withheld["error"]["data"]["withheld"] is True
            assert withheld["error"]["data"]["code"] in ("decision_timeout", "internal_error")
            after = len(one.waits)
            wait_until(lambda: len(one.waits) > after + 2, 120, "honest calls after")
        finally:
            company.api("DELETE", f"/api/policies/{WITHHOLD['id']}")
    assert one.wrong == [] and max(one.waits) < BOUND
    assert _workers(company) == workers


@pytest.mark.claim("faulty-detector")
@pytest.mark.parametrize("fault", EITHER)
def test_a_detector_that_eats_memory_refuses_its_call(company: Company, fault: str) -> None:
    answer = _break(company, company.token("griffin"), fault)
    # None: what was left was too little even to refuse, and the worker ended.
    assert answer is None or answer["error"]["data"]["code"] in ("internal_error", "decision_timeout")
    assert all(_peak(worker) < 512 << 20 for worker in _workers(company))


@pytest.mark.claim("faulty-detector")
@pytest.mark.parametrize("fault", ENDED)
def test_what_cannot_be_interrupted_ends_its_worker_and_no_other(company: Company, fault: str) -> None:
    workers = _workers(company)
    assert _break(company, company.token("griffin"), fault) is None
    wait_until(lambda: len(_workers(company) & workers) == 1 and len(_workers(company)) == 2, 60, "another worker")
    ended = "\n".join(path.read_text() for path in (company.data / "logs").glob("gateway-*.log"))
    assert "faulty_detector.py" in ended, "the log says where the worker was"


@pytest.mark.claim("faulty-detector")
def test_a_worker_whose_memory_stays_full_ends_and_is_replaced(company: Company) -> None:
    token = company.token("griffin")
    workers = _workers(company)
    for _ in range(20):
        _call(company, token, "fault:hoard")
        if _workers(company) != workers:
            break
        time.sleep(0.2)
    wait_until(lambda: _workers(company) - workers, 60, "another worker")
    wait_until(lambda: "result" in (_call(company, token, "after the hoard") or {}), 60, "an honest answer")
    assert not [key for key in _reached(company) if key.startswith("fault")]


def _workers(company: Company) -> set[int]:
    """Process ids of the workers that are there."""
    pids = json.loads((company.data / "run" / "up.json").read_text())["pids"]
    return {pid for name, pid in pids.items() if name.startswith("gateway-") and pid is not None}


def _decided(company: Company, invocation: str) -> str:
    found = [r for r in company.api("GET", "/api/decisions?limit=100")["items"] if r["InvocationId"] == invocation]
    return str(found[0]["Verdict"]) if found else ""


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
