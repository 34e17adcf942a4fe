"""What a LiteLLM proxy does with its generic guardrail: the package's own class, configured as its documentation says.

``TASK``: ``{"headers", "asked": [{"inputs", "input_type"}]}``. Prints, as JSON, what came of each: the texts that
go on, or why it was blocked.
"""

from __future__ import annotations

import asyncio
import json
import os

from litellm.proxy.guardrails.guardrail_hooks.generic_guardrail_api.generic_guardrail_api import GenericGuardrailAPI

TASK = json.loads(os.environ["TASK"])


async def main() -> None:
    guardrail = GenericGuardrailAPI(
        api_base=os.environ["GENERIC_GUARDRAIL_API_BASE"],
        extra_headers=["x-watchfloor-token", "x-watchfloor-conversation-id"],
        guardrail_name="watchfloor",
        event_hook="pre_call",
        default_on=True,
        # The most careless configuration there is: only an answer can block.
        unreachable_fallback="fail_open",
        fail_on_error=False,
    )
    outcomes = []
    for asked in TASK["asked"]:
        request = {"proxy_server_request": {"headers": {**TASK["headers"], "authorization": "Bearer sk-1"}}}
        try:
            passed = await guardrail.apply_guardrail(asked["inputs"], request, asked["input_type"])
            outcomes.append({"texts": passed["texts"]})
        except Exception as error:
            outcomes.append({"blocked": str(error)})
    print(json.dumps(outcomes))


asyncio.run(main())
