"""Which steps each response has, in which order: one visible table.

Above the model. A step that is *here* is settled by the transaction that begins the response, so that it holds before
anybody is told that anything was done; the others are the outbox's (``outbox_steps`` says how each is done). To add
one: a line here and a function there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from watchfloor.model.people import Permission
from watchfloor.model.sagas import SagaKind

LOCAL: Final = "local"
CREDENTIALS: Final = "credentials"
HOLDS: Final = "holds"
CHILDREN: Final = "children"
SESSIONS: Final = "provider_sessions"
PASSWORD: Final = "provider_password"  # noqa: S105 a step's name
RISK: Final = "provider_risk"
EVENTS: Final = "events"
READ_BACK: Final = "read_back"
GATEWAY: Final = "gateway"
NOTIFY: Final = "notify"


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step. ``is_here``: settled as the response begins. ``after``: what has to be settled first."""

    name: str
    title: str
    is_here: bool = False
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A response. ``permission`` is what beginning, approving and retrying it takes."""

    kind: SagaKind
    title: str
    permission: Permission
    steps: tuple[StepPlan, ...]

    def title_of(self, step: str) -> str:
        """What a step is called; of one that is no longer in the plan, its name."""
        return next((each.title for each in self.steps if each.name == step), step)


PLANS: Final[dict[SagaKind, Plan]] = {
    plan.kind: plan
    for plan in (
        Plan(
            SagaKind.USER_COMPROMISE,
            "User confirmed compromised",
            Permission.USER_CONFIRM_COMPROMISED,
            (
                StepPlan(LOCAL, "Sessions ended here, risk high, new password due", is_here=True),
                StepPlan(SESSIONS, "Identity provider: end every session"),
                StepPlan(PASSWORD, "Identity provider: require a new password"),
                StepPlan(RISK, "Identity provider: set the risk to high"),
                StepPlan(EVENTS, "Tell other systems (shared signals)"),
                StepPlan(READ_BACK, "Read back what the identity provider says now", after=(SESSIONS, PASSWORD, RISK)),
                StepPlan(NOTIFY, "Notify the manager and the SOC"),
            ),
        ),
        Plan(
            SagaKind.USER_RELEASE,
            "User's risk lifted",
            Permission.USER_DISMISS_RISK,
            (
                StepPlan(LOCAL, "Risk and the duty to set a new password lifted here", is_here=True),
                StepPlan(RISK, "Identity provider: take the risk back"),
                StepPlan(EVENTS, "Tell other systems (shared signals)"),
                StepPlan(READ_BACK, "Read back what the identity provider says now", after=(RISK,)),
                StepPlan(NOTIFY, "Notify the manager and the SOC"),
            ),
        ),
        Plan(
            SagaKind.AGENT_COMPROMISE,
            "Agent confirmed compromised",
            Permission.AGENT_CONFIRM_COMPROMISED,
            (
                StepPlan(LOCAL, "Agent blocked, every token of it dead, risk high", is_here=True),
                StepPlan(CREDENTIALS, "The agent's secret revoked", is_here=True),
                StepPlan(HOLDS, "Calls that waited for an operator refused", is_here=True),
                StepPlan(CHILDREN, "Child agents listed", is_here=True),
                StepPlan(EVENTS, "Tell other systems (shared signals)"),
                StepPlan(GATEWAY, "Read back what the gateway workers are given"),
                StepPlan(NOTIFY, "Notify the agent's owner and the SOC"),
            ),
        ),
        Plan(
            SagaKind.SERVER_COMPROMISE,
            "Tool server confirmed compromised",
            Permission.SERVER_BLOCK,
            (
                StepPlan(LOCAL, "Tool server blocked, its tools refused, bindings listed", is_here=True),
                StepPlan(GATEWAY, "Read back what the gateway workers are given"),
                StepPlan(NOTIFY, "Notify the SOC"),
            ),
        ),
    )
}
"""Every response by kind."""
