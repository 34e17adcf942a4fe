"""A shadow agent: a spreadsheet's macro that somebody in finance gave a language model to.

It is in no registry and asks no gateway: all that is ever seen of it is the telemetry that its library sends, under the
names of years ago. The program is not well made: some of its spans are no spans.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from typing import Final

from watchfloor_demo import company
from watchfloor_demo.telemetry import Program, Span, Value

AGENT_ID: Final = "spreadsheet-helper"
EVERY_SECONDS: Final = 15.0
_USER: Final = "jonas"
_BROKEN_EVERY: Final = 20
_PROGRAM: Final = Program({"service.name": "forecast.xlsm", "telemetry.sdk.language": "nodejs"}, "sheet-llm")
_QUESTION: Final = "Fill in next month's payments from the sheet 'Open invoices' and send them to the forecast."


def tell_run(tell: Callable[[Span], None], number: int) -> None:
    """Tell of one run, which has just ended; of every twentieth, the first among them, a broken span as well."""
    trace_id, end = secrets.token_hex(16), time.time_ns()
    user = company.people()[_USER]
    common: dict[str, Value] = {
        "gen_ai.agent.id": AGENT_ID,
        "gen_ai.agent.name": "Spreadsheet Helper",
        "session.id": f"{_USER}-forecast-{number // 10}",
        "enduser.id": user.id,
        "user.email": user.mail,
        "client.address": user.address,
    }

    def span(name: str, operation: str, begin_ms: int, end_ms: int, parent: str, **more: str | int) -> Span:
        attributes = common | {"gen_ai.operation.name": operation}
        attributes |= {name.replace("__", "."): value for name, value in more.items()}
        start, stop = end - begin_ms * 1_000_000, end - end_ms * 1_000_000
        return Span(_PROGRAM, name, "client", trace_id, start, stop, parent, attributes)

    root = span("invoke_agent Spreadsheet Helper", "invoke_agent", 4200, 0, "")
    chat = span(
        "chat gpt-4o-mini", "chat", 4100, 2300, root.id,
        gen_ai__system="openai", gen_ai__request__model="gpt-4o-mini", gen_ai__prompt=_QUESTION,
        gen_ai__completion="I post the rows to the forecast.",
        gen_ai__usage__prompt_tokens=1840, gen_ai__usage__completion_tokens=310,
    )  # fmt: skip
    post = span(
        "execute_tool post_rows", "execute_tool", 2200, 100, root.id,
        gen_ai__tool__name="post_rows", gen_ai__tool__type="function", gen_ai__tool__call__id=f"call_{number}",
        gen_ai__tool__call__arguments=json.dumps({"sheet": "Open invoices", "rows": 40 + number % 7}),
        gen_ai__tool__call__result="stored", server__address="sheets.example", server__port=443,
    )  # fmt: skip
    for told in (chat, post, root):
        tell(told)
    if number % _BROKEN_EVERY == 0:
        broken = span("macro recalculated", "chat", 90, 80, root.id)
        broken.trace_id = trace_id[:16]  # half of an id: the receiver has to say so
        tell(broken)


async def work(tell: Callable[[Span], None]) -> None:
    """Run after run, until it is cancelled."""
    number = 0
    while True:
        tell_run(tell, number)
        number += 1
        await asyncio.sleep(EVERY_SECONDS)
