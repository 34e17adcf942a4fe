"""Who signed in, who was refused, and who was given a token: the table that the server fills.

``IdentityLogonEvents`` and ``EntraIdSignInEvents`` are views of it, in the shapes that others know.
"""

from __future__ import annotations

from typing import Final

from watchfloor.storage.table_shape import COMMON, Column, Table

SIGN_IN_EVENTS: Final = Table(
    "SignInEvents",
    "Sign-ins to the portal, and tokens that agents asked for: one row for each that succeeded, failed or ended. "
    "Never a password, a secret or a token.",
    (
        *COMMON,
        Column(
            "ActionType",
            "string",
            "LogonSuccess, LogonFailed, LogonEnded (signed out), SessionsEnded (by whom: EndedBy); of the token "
            "service: TokenIssued, TokenRefused.",
        ),
        Column("Application", "string", "What was signed in to: Watchfloor portal, or Watchfloor token service."),
        Column("LogonType", "string", "interactiveUser, nonInteractiveUser (an agent for a user) or servicePrincipal."),
        Column("Protocol", "string", "password, session, token-exchange or client-credentials."),
        Column("AccountId", "string", "The operator or user; empty where nobody is known."),
        Column("AccountUpn", "string", "The user's principal name."),
        Column("AccountName", "string", "Their name at the time."),
        Column("AgentId", "string", "The agent that asked for a token; empty if it is not in the registry."),
        Column("AgentName", "string", "Its name at the time."),
        Column("ServerId", "string", "The tool server that the token is for."),
        Column("Resource", "string", "The whole resource that was asked for, if it is one of ours."),
        Column("Scope", "string", "What the token allows: read, write."),
        Column("Mode", "string", "Whose credentials count: obo, agent or maker."),
        Column("SessionId", "string", "The user's sign-in session at the identity provider."),
        Column("IPAddress", "string", "The caller's address, as the server saw it."),
        Column("FailureReason", "string", "Why not: a stable code; empty if it succeeded."),
        Column("ErrorCode", "long", "The same as Entra's number where it has one; 0 if it succeeded, 1 for others."),
        Column("UserRiskLevel", "string", "The user's risk at that moment: none, low, medium or high."),
        Column("UserRiskState", "string", "Its state at that moment."),
        Column("AgentRiskLevel", "string", "The agent's risk at that moment."),
        Column("AgentRiskState", "string", "Its state at that moment."),
        Column("EndedBy", "string", "Who ended a session: the account itself, or an operator."),
        Column("MoreLikeIt", "long", "Refusals since the row before that were too many to write down."),
        Column("SchemaVersion", "long", "Version of this row's shape."),
        Column("AdditionalFields", "dynamic", "Anything else."),
    ),
)
