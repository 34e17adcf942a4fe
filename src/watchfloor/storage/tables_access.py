"""Conditional access: the decision log. Written with each call's own record, and by the token service."""

from __future__ import annotations

from typing import Final

from watchfloor.storage.table_shape import COMMON, Column, Table

CONDITIONAL_ACCESS_EVENTS: Final = Table(
    "ConditionalAccessEvents",
    "What conditional access refused, or would refuse if a report-only policy were enabled: one row for each policy "
    "that a call or a sign-in did not satisfy. InvocationId leads to the call's decision in AgentActivity.",
    (
        *COMMON,
        Column("ActionType", "string", "AccessRefused or AccessWouldBeRefused."),
        Column("SourceDoor", "string", "Where it was refused: mcp, decide, sts (the token service), …"),
        Column("InvocationId", "string", "The call that was decided on; empty for a sign-in, or where none was made."),
        Column("SessionId", "string", "The sign-in session."),
        Column("PolicyId", "string", "The policy."),
        Column("PolicyName", "string", "Its display name."),
        Column("PolicyVersion", "long", "Its version."),
        Column("PolicyState", "string", "enabled or enabledForReportingButNotEnforced."),
        Column(
            "Result",
            "string",
            "failure, reportOnlyFailure, or reportOnlyInterrupted where the user could have satisfied it.",
        ),
        Column("Control", "string", "What it demands: block, passwordChange, mfa or reauthenticate."),
        Column("ReasonCode", "string", "The code that the caller is told."),
        Column("ConditionsSatisfied", "dynamic", "Which of its conditions fitted, and why."),
        Column("MaxAgeSeconds", "long", "How old it lets a sign-in be."),
        Column("SignInAgeSeconds", "real", "How old the sign-in was, where that is known."),
        Column("AuthenticationMethods", "dynamic", "How the user signed in (amr)."),
        Column("UserId", "string", "The user."),
        Column("AccountUpn", "string", "The user's principal name."),
        Column("UserRiskLevel", "string", "The user's risk: none, low, medium or high."),
        Column("SignInRiskLevel", "string", "The risk of the sign-in, as the identity provider told it."),
        Column("AgentId", "string", "The agent."),
        Column("AgentName", "string", "Its name."),
        Column("AgentRiskLevel", "string", "The agent's risk."),
        Column("CredentialMode", "string", "obo, agent, agent_user, maker or anonymous."),
        Column("ServerId", "string", "The tool server."),
        Column("ToolName", "string", "The tool; empty where no tool was called."),
        Column("ToolEffect", "string", "What the tool does: read, create, update, delete, send, pay or unknown."),
        Column("IPAddress", "string", "The caller's address."),
        Column("WorkerId", "string", "The gateway worker."),
        Column("SchemaVersion", "long", "Version of this row's shape."),
    ),
)
