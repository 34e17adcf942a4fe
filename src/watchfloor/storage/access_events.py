"""Rows of the decision log ``ConditionalAccessEvents``: one for each policy that refuses an access, or would.

The gateway and the token service bring what they recorded of the call or sign-in, and write the rows. Names are those
of ``tables_access``; words of ``Result`` are Graph's (``appliedConditionalAccessPolicy``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from watchfloor.model.access import AccessFacts, AccessState, AppliedPolicy, Control
from watchfloor.model.facts import AgentFacts, TokenFacts, UserFacts
from watchfloor.model.ids import new_id

TABLE: Final = "ConditionalAccessEvents"
REFUSED: Final = "AccessRefused"
WOULD_REFUSE: Final = "AccessWouldBeRefused"
_SAME: Final = (
    "Timestamp", "TenantId", "SourceDoor", "IPAddress", "WorkerId", "SchemaVersion", "InvocationId", "SessionId",
    "UserId", "AccountUpn", "AgentId", "AgentName", "ServerId", "ToolName", "ToolEffect", "CredentialMode",
)  # fmt: skip
_FINAL: Final = frozenset({Control.BLOCK, Control.PASSWORD_CHANGE})
"""Controls that nobody can satisfy while signing in."""


def result_of(applied: AppliedPolicy) -> str:
    """What became of a policy, as Graph says it."""
    is_report = applied.state is AccessState.REPORT_ONLY
    if applied.control is Control.GRANT:
        return "reportOnlySuccess" if is_report else "success"
    if not is_report:
        return "failure"
    return "reportOnlyFailure" if applied.control in _FINAL else "reportOnlyInterrupted"


def rows_of(
    row: Mapping[str, Any],
    access: AccessFacts,
    user: UserFacts | None,
    agent: AgentFacts | None,
    token: TokenFacts | None,
) -> Iterator[dict[str, Any]]:
    """One row for each policy that is not satisfied. ``row`` gives what the call's own row says already."""
    at = row["Timestamp"]
    common = {name: row[name] for name in _SAME if name in row}
    common |= {
        "SignInRiskLevel": access.sign_in_risk,
        "AuthenticationMethods": json.dumps(list(access.methods)),
        "UserRiskLevel": user.risk.value if user is not None else "",
        "AgentRiskLevel": agent.risk.value if agent is not None else "",
    }
    if token is not None:
        common["CredentialMode"] = token.mode.value
        if token.auth_time is not None:
            common["SignInAgeSeconds"] = round(_seconds(at) - token.auth_time.timestamp(), 3)
    if access.problem:
        yield common | {
            "ReportId": new_id("evt"), "ActionType": REFUSED, "Control": Control.BLOCK.value, "Result": "failure",
            "ReasonCode": "policy_error", "ConditionsSatisfied": json.dumps([access.problem]),
        }  # fmt: skip
    for applied in (*access.refusing, *access.would_refuse):
        yield common | {
            "ReportId": new_id("evt"),
            "ActionType": WOULD_REFUSE if applied.state is AccessState.REPORT_ONLY else REFUSED,
            "PolicyId": applied.id,
            "PolicyName": applied.name,
            "PolicyVersion": applied.version,
            "PolicyState": applied.state.value,
            "Result": result_of(applied),
            "Control": applied.control.value,
            "ReasonCode": applied.control.refusal_code,
            "ConditionsSatisfied": json.dumps(list(applied.because), ensure_ascii=False),
            "MaxAgeSeconds": applied.max_age,
        }


def _seconds(at: Any) -> float:
    """Unix seconds of a row's time, which is a moment or microseconds."""
    return at.astimezone(UTC).timestamp() if isinstance(at, datetime) else at / 1e6
