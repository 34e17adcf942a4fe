"""The story from beginning to end: ``STEPS`` in order, each told, the first that fails ends it, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from watchfloor_demo.api import ApiError
from watchfloor_demo.running import http_client
from watchfloor_demo.runtime import Runtime
from watchfloor_demo.serving import PortTaken
from watchfloor_demo.story import assault, governing, holding, opening, response, seeing
from watchfloor_demo.story.product import Product, ProductFailed
from watchfloor_demo.story.show import Show
from watchfloor_demo.story.stage import Facts, Stage, StepFailed

SUMMARY: Final = (
    "attack_calls",
    "attack_blocked",
    "attack_reached_tool",
    "benign_calls",
    "benign_succeeded",
    "alerts",
    "incidents",
    "incident_title",
    "revoke_to_refusal_ms",
    "allowed_after_revoke",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name on the command line, its title, what it does."""

    name: str
    title: str
    run: Callable[[Stage], Awaitable[Facts]]


STEPS: Final = (
    Step("start", "Watchfloor starts from nothing", opening.start),
    Step("company", "Zava opens its doors and is registered", opening.open_company),
    Step("tools", "Every tool is pinned; the gateway is the only way to them", opening.pin_tools),
    Step("work", "People work with their agents", opening.work),
    Step("attack", "Somebody with Griffin's stolen session attacks", assault.assault),
    Step("far-end", "Nothing arrived at the mail server", assault.far_end),
    Step("poison", "Web pages give orders to the agents that read them", assault.poison),
    Step("records", "Every attempt is on record", seeing.records),
    Step("alerts", "The attack raises alerts", seeing.alerts),
    Step("incident", "The alerts become one incident", seeing.incident),
    Step("hold", "Calls wait for a person", holding.hold),
    Step("roles", "Each role sees what it should, and no more", seeing.roles),
    Step("replay", "A recorded decision can be decided again", seeing.replay),
    Step("revoke", "Griffin's sessions are revoked under load", response.revoke),
    Step("sign-in", "Griffin signs in anew", response.sign_in_again),
    Step("work-ends", "Ordinary work was never disturbed", opening.end_work),
    Step("block", "The agent is blocked under load", response.block),
    Step("proof", "The block is proved at every door", governing.prove),
    Step("resolve", "The incident is resolved", response.resolve),
    Step("hunt", "The analyst hunts for others like it", governing.hunt),
    Step("notify", "Their makers are told", governing.notify),
    Step("resubmit", "A corrected version is approved", governing.resubmit),
    Step("audit", "The audit log is verified", response.audit),
    Step("shutdown", "Everything stops cleanly", response.shut_down),
)
"""Every step, in order. Adding one: a function and a line here."""

_FAILURES: Final = (StepFailed, ProductFailed, ApiError, PortTaken, TimeoutError, OSError)


async def play(
    show: Show, *, until: str = "", attempts: int = 12, rate: float = 12.0, keep: Path | None = None
) -> bool:
    """Play the steps up to ``until`` (all if empty). True if every one went as it must."""
    summary: dict[str, Any] = dict.fromkeys(SUMMARY)
    ok = True
    async with contextlib.AsyncExitStack() as stack:
        directory = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="watchfloor-story-")))
        http = await stack.enter_async_context(http_client())
        product, runtime = Product(directory / "data"), Runtime.open(directory / "company")
        stage = Stage(
            directory, http, stack, show.tell, product, runtime, attempts=attempts, rate=rate, summary=summary
        )
        for step in STEPS:
            ok = await _play(show, stage, step)
            if not ok or step.name == until:
                break
    summary["ok"] = ok
    show.close(summary)
    return ok


async def _play(show: Show, stage: Stage, step: Step) -> bool:
    began = time.monotonic()
    show.begin(step.name, step.title)
    facts: Facts
    try:
        facts, ok = await step.run(stage), True
    except asyncio.CancelledError:
        show.end(step.name, False, {"error": "stopped"}, time.monotonic() - began)
        raise
    except _FAILURES as error:
        facts, ok = {"error": str(error) or type(error).__name__, **getattr(error, "facts", {})}, False
    except (KeyError, TypeError, ValueError, IndexError) as error:
        # An answer of the product does not have the shape that its contract says.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        facts, ok = {"error": f"an answer could not be read ({where}): {type(error).__name__}: {error}"}, False
    if not ok:
        facts["logs"] = stage.product.logs()
    show.end(step.name, ok, facts, time.monotonic() - began)
    return ok


def run(show: Show, **options: Any) -> int:
    """Play, and clean up whatever happens. 0 if the story holds, 1 if not, 130 if it was interrupted."""

    async def main() -> int:
        playing = asyncio.ensure_future(play(show, **options))
        interrupted = asyncio.Event()

        def stop() -> None:
            if not interrupted.is_set():  # a second Ctrl-C must not cut the cleaning up short
                interrupted.set()
                playing.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        try:
            return 0 if await playing else 1
        except asyncio.CancelledError:
            show.close({**dict.fromkeys(SUMMARY), "ok": False})
            return 130

    return asyncio.run(main())
