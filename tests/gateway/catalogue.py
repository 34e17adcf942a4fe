"""The catalogue's attacks and their twins, sent through the doors of a real worker with the shipped policies in force.

Each text goes where such texts stand: the user's words with a call, arguments, what a tool gives back, what a tool says
of itself, what an agent answers (LiteLLM's guardrail). What is counted is what the worker put on record.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from gateway.litellm.test_http import ask
from gateway.world import SERVER, World, request
from guard.detectors.test_catalogue import CASES
from watchfloor import content
from watchfloor.guard.detectors.canary import facts_of
from watchfloor.guard.detectors.catalogue import DETECTIONS
from watchfloor.guard.detectors.hit import Surface
from watchfloor.model.agents import ToolEffect
from watchfloor.model.facts import Kind

CANARY = "zebra-quartz-7741-ledger"
CANARY_CASES = [
    ("ai.canary", Surface.ARGUMENTS, f"The number is {CANARY}.", "The number is zebra-quartz-7742-ledger."),
    ("ai.canary", Surface.RESULT, f"Payroll account: {CANARY}", "Payroll account: zebra-quartz"),
    ("ai.canary", Surface.ANSWER, f"It is {CANARY}.", "It is not in my records."),
]
"""A value that nobody has a reason to touch: known to the workers, and to no detector by itself."""

_CATEGORY = {detection.id: detection.category for detection in DETECTIONS}


class Seen(NamedTuple):
    """What came of one text: categories on record, whether an enforced policy kept it from going on."""

    categories: frozenset[str]
    is_stopped: bool


class Outcome(NamedTuple):
    """``detection``'s attack and twin on ``surface``."""

    detection: str
    surface: Surface
    attack: Seen
    twin: Seen

    @property
    def is_found(self) -> bool:
        """Whether the attack is on record as what it is."""
        return _CATEGORY[self.detection] in self.attack.categories

    @property
    def is_false_alert(self) -> bool:
        """Whether the twin is on record as the attack."""
        return _CATEGORY[self.detection] in self.twin.categories


class Doors:
    """``world``'s doors, with a tool that says what it is asked to say."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._number = 0

        @world.tools.server.tool()
        async def echo(number: int) -> str:
            """Give the text of that number."""
            return self._texts[number]

        self._texts: dict[int, str] = {}
        world.tool("echo", effect=ToolEffect.READ)
        world.bind("echo")
        world.project((Kind.CANARY, "ledger", facts_of("ledger", value=CANARY)))
        for body in content.policies():
            world.policy(body)

    async def send(self, surface: Surface, text: str) -> Seen:
        """``text`` on ``surface``."""
        self._number += 1
        conversation = {"dev.watchfloor/conversation-id": f"catalogue-{self._number}"}
        before = len(self._world.records())
        if surface is Surface.USER:
            turns = {"dev.watchfloor/user-turns": [text]}
            answer = await self._world.call("lookup", {"key": "k"}, meta=conversation | turns)
        elif surface is Surface.ARGUMENTS:
            turns = {"dev.watchfloor/user-turns": ["Send a mail to ada@zava.example, as we said."]}
            arguments = {"to": ["ada@zava.example"], "body": text}
            answer = await self._world.call("send_email", arguments, meta=conversation | turns)
        elif surface is Surface.RESULT:
            self._texts[self._number] = text
            answer = await self._world.call("echo", {"number": self._number}, meta=conversation)
        elif surface is Surface.ANSWER:
            answer = await ask(self._world, "response", texts=[text], litellm_trace_id=f"catalogue-{self._number}")
        else:
            answer = await self._offer(text)
        rows = self._world.records()[before:]
        found = {signal["category"] for row in rows for signal in json.loads(row.get("Signals") or "[]")}
        return Seen(frozenset(found), "error" in answer or answer.get("action") == "BLOCKED")

    async def _offer(self, description: str) -> dict[str, Any]:
        name = f"offered_{self._number}"

        async def offered() -> str:
            return ""

        self._world.tools.server.add_tool(offered, name=name, description=description)
        self._world.tool(name, effect=ToolEffect.READ)
        self._world.bind(name)
        headers = self._world.headers("tools/list", None)
        listed = await self._world.client.post(f"/mcp/{SERVER}", json=request("tools/list", {}), headers=headers)
        self._world.tools.server.remove_tool(name)
        shown = {tool["name"] for tool in listed.json()["result"]["tools"]}
        return {} if name in shown else {"error": "hidden"}


async def outcomes(world: World) -> list[Outcome]:
    """Every case of the catalogue."""
    doors = Doors(world)
    return [
        Outcome(detection, surface, await doors.send(surface, attack), await doors.send(surface, twin))
        for detection, surface, attack, twin in (*CASES, *CANARY_CASES)
    ]
