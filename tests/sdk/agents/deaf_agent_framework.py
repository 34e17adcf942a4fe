"""An agent whose middleware does not hear the user."""

from __future__ import annotations

import asyncio
import json

from common import READ

import office  # isort: skip
from agent_framework import Agent
from agent_framework_agent import ListClient

from watchfloor_sdk.adapters.agent_framework import WatchfloorMiddleware


async def main() -> None:
    client, failed = ListClient(), ""
    client._steps = iter([READ])
    agent = Agent(client=client, name="office", tools=office.TOOLS, middleware=[WatchfloorMiddleware(office.guard())])
    try:
        await agent.run("Read my mail")
    except Exception as error:
        failed = str(error)
    print(json.dumps({"ran": office.RAN, "failed": failed}))


asyncio.run(main())
