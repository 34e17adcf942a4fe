"""Tools that no longer are what was approved, as the registry knows them: an alert for each, once.

The gateway reports a changed definition as an event, which a rule turns into an alert; but the registry's own listing
may see it first, or alone. This looks at what is (tools whose pin does not hold) and raises what should be there. Above
``evaluate`` (the same rule writes the alert) and ``keep``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from watchfloor.detection.evaluate import draft_alert
from watchfloor.detection.keep import keep
from watchfloor.detection.rules import Ruleset
from watchfloor.detection.steps import Step
from watchfloor.guard.definitions import inspect
from watchfloor.model.agents import PinState
from watchfloor.model.cases import EntityKind
from watchfloor.storage import findings, inventory, rules
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.inventory import Tool

RULE: Final = "tool-definition-changed"
POISONED: Final = "tool-poisoned"
ACTOR: Final = "system:detection"
_EARLIER: Final = timedelta(hours=1)
"""How much before the registry's own look a gateway may have reported the very same change."""


def _step(tool: Tool, tenant: str) -> Step:
    found = inspect(tool.definition.get("observed") or {})
    message = f"Approved was {tool.pin[:12]}, listed now is {tool.observed_hash[:12]}."
    if found:
        message = f"{found[0].path}: {found[0].excerpt}"
    return Step(
        report_id=f"tool/{tool.key}/{tool.observed_hash[:16]}",
        seq=0,
        at=tool.updated_at,
        tenant=tenant,
        action="ToolFlagged" if found else "ToolChanged",
        invocation_id="",
        session_id="",
        agent_id="",
        agent_name="",
        user_id="",
        upn="",
        server_id=tool.server_id,
        tool=tool.name,
        verdict="",
        would_be="",
        reason_code="",
        reasons=({"message": message},),
        signals=frozenset(),
        policy_id="",
        address="",
    )


def _rule_of(tool: Tool) -> str:
    return POISONED if inspect(tool.definition.get("observed") or {}) else RULE


def _unreported(tx: ControlTx) -> list[Tool]:
    off = rules.switched_off(tx)
    return [
        tool
        for tool in inventory.list_tools(tx)
        if tool.pin_state is PinState.CHANGED
        and _rule_of(tool) not in off
        and not findings.has_alert_since(tx, _rule_of(tool), EntityKind.TOOL, tool.key, tool.updated_at - _EARLIER)
    ]


def report_changed_tools(control: SqlControlStore, ruleset: Ruleset, tenant: str = "default") -> int:
    """Raise what is missing; how many alerts. Safe to run at any time, any number of times."""
    known = {rule.id: rule for rule in ruleset.rules}
    if RULE not in known or POISONED not in known:
        return 0
    with control.read() as tx:
        if not _unreported(tx):
            return 0
    with control.tx(ACTOR, audited=False) as tx:
        drafts = [
            draft_alert(known[_rule_of(tool)], [_step(tool, tenant)], ruleset.reasons) for tool in _unreported(tx)
        ]
        return len(keep(tx, drafts, "tools").raised)
