"""Answers by the deadline: detectors that hang, crowds, and decisions that come too late."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.copilot_studio.studio import MAIL_TOOL, READ_TOOL, Studio, checked, question
from gateway.world import AGENT, eventually
from watchfloor.guard import detectors, judgement
from watchfloor.guard.content import Content
from watchfloor.guard.detectors import Detector
from watchfloor.model.agents import AgentState

# An interrupt may be lost in a callback of the interpreter, which says so; it comes again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

HANG = "HANGWORD"
PATIENCE = 5.0
"""Seconds, where a stall takes twenty: how exactly deadlines are kept is measured by ``bench.webhook``."""


class Stall:
    """A detector that does not come to an end where it reads ``HANG``, in one way or another."""

    def __init__(self) -> None:
        self.how = "sleep"
        self.released = threading.Event()
        self.entered = 0

    def detect(self, content: Content) -> list[Any]:
        """As any detector."""
        if HANG not in content.joined:
            return []
        self.entered += 1
        if self.how == "wait":
            self.released.wait(20)
        elif self.how == "raise":
            raise ValueError("broken")
        elif self.how == "memory":
            raise MemoryError
        else:
            until = time.monotonic() + 20
            while time.monotonic() < until and not self.released.is_set():
                pass
        return []


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """Everything up, with the deadline that it has out there."""
    async with Studio(tmp_path, studio_deadline_seconds=0.7).running() as running:
        yield running


@pytest.fixture
def stall(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stall]:
    """Listed behind the shipped detectors, as somebody's own would be."""
    made = Stall()
    listed = (*detectors.DETECTORS, Detector("stall", made.detect))
    monkeypatch.setattr(judgement, "DETECTORS", listed)
    yield made
    made.released.set()


async def _timed(studio: Studio, body: Any) -> tuple[dict[str, Any], float]:
    began = time.monotonic()
    response = await studio.post("analyze-tool-execution", body)
    assert response.status_code == 200
    return checked(response.json()), time.monotonic() - began


async def _is_well(studio: Studio) -> bool:
    """Whether an honest question is let go; on a busy machine not always the first one, in time."""
    for _ in range(50):
        if (await _timed(studio, question()))[0] == {"blockAction": False}:
            return True
        await asyncio.sleep(0.1)
    return False


def _code(answer: dict[str, Any]) -> str:
    return str(json.loads(answer["diagnostics"])["code"]) if answer["blockAction"] else ""


@pytest.mark.claim("webhook-deadline")
@pytest.mark.parametrize("how", ["loop", "wait"])
async def test_a_stalled_detector_is_answered_for_at_the_deadline_and_the_others_go_on(
    studio: Studio, stall: Stall, how: str
) -> None:
    stall.how = how
    hanging = question(inputValues__body=HANG)
    bodies = [hanging, *(question() for _ in range(10)), hanging, *(question() for _ in range(10))]
    answers = await asyncio.gather(*(_timed(studio, body) for body in bodies))
    for body, (answer, seconds) in zip(bodies, answers, strict=True):
        assert seconds < PATIENCE
        if body is hanging:
            assert _code(answer) == "deadline" and answer["reasonCode"] == 503
    assert stall.entered == 2
    assert await _is_well(studio)
    rows = [row for row in studio.records("ToolCallDecided") if row.get("ReasonCode") == "deadline"]
    assert len(rows) >= sum(_code(answer) == "deadline" for answer, _ in answers)
    assert {row["Verdict"] for row in rows} == {"block"}


async def test_a_decision_that_comes_too_late_is_not_put_on_record_beside_the_answer(
    studio: Studio, stall: Stall
) -> None:
    stall.how = "wait"
    answer, _ = await _timed(studio, question(inputValues__body=HANG))
    assert _code(answer) == "deadline"
    stall.released.set()
    await asyncio.sleep(0.3)
    assert [row["ReasonCode"] for row in studio.records("ToolCallDecided")] == ["deadline"]


@pytest.mark.parametrize("how", ["raise", "memory"])
async def test_a_detector_that_breaks_blocks_its_own_call_only(studio: Studio, stall: Stall, how: str) -> None:
    stall.how = how
    broken, _ = await _timed(studio, question(inputValues__body=HANG))
    # Making room after a lack of memory takes time, and more of it in a process full of tests.
    assert _code(broken) == "internal_error" or (how == "memory" and _code(broken) == "deadline")
    assert await _is_well(studio)


async def test_a_tool_that_only_reads_may_be_let_go_at_the_deadline_where_an_administrator_has_said_so(
    studio: Studio, stall: Stall
) -> None:
    stall.how = "wait"
    reading = question(toolDefinition__id=READ_TOOL, inputValues={"filter": HANG})
    assert _code((await _timed(studio, reading))[0]) == "deadline"
    studio.studio_tool(READ_TOOL, allow_when_stale=True)
    assert (await _timed(studio, reading))[0] == {"blockAction": False}
    row = studio.records("ToolCallDecided")[-1]
    assert (row["Verdict"], row["WouldBe"]) == ("allow", "block")
    assert [(r["code"], r["mode"]) for r in json.loads(row["Reasons"])] == [("deadline", "audit")]
    studio.studio_tool(MAIL_TOOL, allow_when_stale=True)
    assert _code((await _timed(studio, question(inputValues__body=HANG)))[0]) == "deadline"
    studio.agent(state=AgentState.BLOCKED)
    assert _code((await _timed(studio, reading))[0]) == "agent_blocked"


async def test_when_every_lane_is_stuck_questions_are_answered_all_the_same(studio: Studio, stall: Stall) -> None:
    stall.how = "wait"
    for number in range(6):
        body = question(inputValues__body=HANG, conversationMetadata__conversationId=f"c-{number}")
        answer, seconds = await _timed(studio, body)
        assert _code(answer) == "deadline" and seconds < PATIENCE
    stall.released.set()
    assert await _is_well(studio)


async def test_a_thread_that_is_stuck_in_python_comes_to_an_end(studio: Studio, stall: Stall) -> None:
    stall.how = "loop"
    await _timed(studio, question(inputValues__body=HANG))

    def lanes() -> int:
        return sum(thread.name == "copilot-studio-lane" for thread in threading.enumerate())

    await eventually(lambda: lanes() == 1, "the end of the stuck lane", timeout=5)


async def test_a_body_that_does_not_arrive_is_answered_with_a_block(studio: Studio) -> None:
    body = json.dumps(question()).encode()

    async def drip() -> Any:
        yield body[:20]
        await asyncio.sleep(2)
        yield body[20:]

    began = time.monotonic()
    response = await studio.client.post(
        "/copilot-studio/analyze-tool-execution?api-version=2025-05-01",
        content=drip(),
        headers={"authorization": f"Bearer {studio.entra_token()}"},
    )
    assert _code(checked(response.json())) == "deadline"
    assert time.monotonic() - began < PATIENCE


async def test_a_crowd_is_answered_and_each_answer_is_its_own(tmp_path: Path) -> None:
    async with Studio(tmp_path).running() as studio:
        await _crowd(studio)


async def _crowd(studio: Studio) -> None:
    bodies = [
        question(
            inputValues__to="collector@evil.example" if number % 3 == 0 else "ada@zava.example",
            conversationMetadata__conversationId=f"c-{number}",
        )
        for number in range(60)
    ]
    answers = await asyncio.gather(*(_timed(studio, body) for body in bodies))
    for number, (answer, _) in enumerate(answers):
        assert answer["blockAction"] is (number % 3 == 0)
    assert len(studio.records("ToolCallDecided")) == 60
    assert {row["AgentId"] for row in studio.records("ToolCallDecided")} == {AGENT}


async def test_a_shorter_deadline_is_kept_too(tmp_path: Path, stall: Stall) -> None:
    stall.how = "wait"
    async with Studio(tmp_path, studio_deadline_seconds=0.15).running() as studio:
        await _timed(studio, question())
        answer, seconds = await _timed(studio, question(inputValues__body=HANG))
        assert _code(answer) == "deadline" and seconds < PATIENCE
