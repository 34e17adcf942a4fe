"""What docs/copilot-studio.md says to register is what the door then knows, from the manifest to the answer."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.copilot_studio.studio import BOT, MAIL_TOOL, OBJECT_ID, READ_TOOL, STUDIO, TENANT, Studio, question
from watchfloor.model.facts import Kind
from watchfloor.registry import inventory, manifest

PAGE = Path(__file__).parents[3] / "docs" / "copilot-studio.md"
REST = f"""
apiVersion: watchfloor/v1
kind: Company
organization: {{name: Zava, domains: [zava.example]}}
identityProviders:
  - issuer: https://login.microsoftonline.com/{TENANT}/v2.0
    jwksUri: https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys
    audience: watchfloor
    subjectClaim: oid
"""


def company() -> str:
    """The page's manifest, with what it leaves out."""
    (shown,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return REST + shown.replace("- id: customer-billing", "- id: customer-billing\n    name: Customer Billing Agent")


async def test_what_the_page_registers_is_let_go_and_blocked_when_it_is_blocked(tmp_path: Path) -> None:
    async with Studio(tmp_path).running() as studio:
        # None of what the other tests project: only what the registry itself tells the workers.
        for kind, key in ((Kind.ALIASES, "agent/billing"), (Kind.ALIASES, "user/griffin")):
            studio.project((kind, key, None))
        unknown = await studio.analyze(question())
        assert unknown["blockAction"] is True
        with studio.control.tx("root") as tx:
            manifest.apply(tx, company(), studio.vault)
        assert BOT in company() and OBJECT_ID in company() and MAIL_TOOL in company()
        assert await studio.analyze(question()) == {"blockAction": False}
        row = studio.records("ToolCallDecided")[-1]
        assert (row["AgentId"], row["UserId"], row["ServerId"]) == ("customer-billing", "griffin", STUDIO)
        reading = question(toolDefinition__id=READ_TOOL, inputValues={})
        assert (await studio.analyze(reading))["reasonCode"] == 305, "it was not granted"
        with studio.control.tx("root") as tx:
            inventory.block(tx, "customer-billing", "for a test")
        assert (await studio.analyze(question()))["reasonCode"] == 202
