"""Users, operators and what operators may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

BREAK_GLASS: Final = "breakglass"
"""The id of an account for emergencies, or the group of all of them: marked users are in it as policies see them."""


class RiskLevel(StrEnum):
    """Entra's risk levels."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Role(StrEnum):
    """Roles of operators; the bracketed names are Entra's."""

    IT_ADMIN = "it_admin"  # AI Administrator
    SOC_ANALYST = "soc_analyst"  # Security Reader
    SOC_OPERATOR = "soc_operator"  # Security Operator
    SECURITY_ADMIN = "security_admin"  # Security Administrator
    MAKER = "maker"  # Agent ID Developer
    USER = "user"
    ACCESS_ADMIN = "access_admin"  # Conditional Access Administrator
    AUDITOR = "auditor"  # Global Reader
    OWNER = "owner"  # whoever set the installation up: every permission


class Permission(StrEnum):
    """Verbs on objects. A route declares exactly one; a role has a set."""

    PORTAL_USE = "portal.use"
    AGENT_READ = "agent.read"
    AGENT_READ_OWN = "agent.read_own"
    STORE_USE = "store.use"
    AGENT_SUBMIT = "agent.submit"
    AGENT_APPROVE = "agent.approve"
    AGENT_BLOCK = "agent.block"
    REGISTRY_WRITE = "registry.write"
    POSTURE_WRITE = "posture.write"
    SIGHTING_READ = "sighting.read"
    SIGHTING_WRITE = "sighting.write"
    SOURCE_READ = "source.read"
    SOURCE_WRITE = "source.write"
    USER_READ = "user.read"
    USER_REVOKE = "user.revoke"
    USER_CONFIRM_COMPROMISED = "user.confirm_compromised"
    USER_DISMISS_RISK = "user.dismiss_risk"
    AGENT_CONFIRM_COMPROMISED = "agent.confirm_compromised"
    SERVER_BLOCK = "server.block"
    RESPONSE_DECIDE = "response.decide"
    PLAYBOOK_WRITE = "playbook.write"
    CHANNEL_WRITE = "channel.write"
    NOTICE_SEND = "notice.send"
    ALERT_READ_SERIOUS = "alert.read_serious"
    ALERT_READ = "alert.read"
    INCIDENT_TRIAGE = "incident.triage"
    DECISION_READ = "decision.read"
    HUNT_RUN = "hunt.run"
    QUERY_SHARE = "query.share"
    EXPORT_RUN = "export.run"
    LIST_WRITE = "list.write"
    CONTENT_READ = "content.read"
    HOLD_DECIDE = "hold.decide"
    POLICY_READ = "policy.read"
    POLICY_WRITE = "policy.write"
    ACCESS_READ = "access.read"
    ACCESS_WRITE = "access.write"
    AUDIT_READ = "audit.read"
    OPERATOR_WRITE = "operator.write"


_READ_SOC: Final = frozenset(
    {
        Permission.PORTAL_USE,
        Permission.STORE_USE,
        Permission.AGENT_READ,
        Permission.AGENT_READ_OWN,
        Permission.USER_READ,
        Permission.ALERT_READ_SERIOUS,
        Permission.ALERT_READ,
        Permission.DECISION_READ,
        Permission.HUNT_RUN,
        Permission.EXPORT_RUN,
        Permission.POLICY_READ,
        Permission.ACCESS_READ,
        Permission.SIGHTING_READ,
        Permission.SOURCE_READ,
    }
)
_OPERATE: Final = _READ_SOC | {
    Permission.INCIDENT_TRIAGE,
    Permission.USER_REVOKE,
    Permission.USER_CONFIRM_COMPROMISED,
    Permission.USER_DISMISS_RISK,
    Permission.AGENT_CONFIRM_COMPROMISED,
    Permission.RESPONSE_DECIDE,
    Permission.HOLD_DECIDE,
    Permission.CONTENT_READ,
    Permission.LIST_WRITE,
    Permission.QUERY_SHARE,
    Permission.SIGHTING_WRITE,
    Permission.NOTICE_SEND,
}

PERMISSIONS: Final[dict[Role, frozenset[Permission]]] = {
    Role.IT_ADMIN: frozenset(
        {
            Permission.PORTAL_USE,
            Permission.STORE_USE,
            Permission.AGENT_READ,
            Permission.AGENT_READ_OWN,
            Permission.AGENT_SUBMIT,
            Permission.AGENT_APPROVE,
            Permission.AGENT_BLOCK,
            Permission.SERVER_BLOCK,
            Permission.RESPONSE_DECIDE,
            Permission.REGISTRY_WRITE,
            Permission.POSTURE_WRITE,
            Permission.SIGHTING_READ,
            Permission.SIGHTING_WRITE,
            Permission.SOURCE_READ,
            Permission.SOURCE_WRITE,
            Permission.USER_READ,
            Permission.ALERT_READ_SERIOUS,
        }
    ),
    Role.SOC_ANALYST: _READ_SOC,
    Role.SOC_OPERATOR: _OPERATE,
    Role.SECURITY_ADMIN: _OPERATE
    | {
        Permission.POLICY_WRITE,
        Permission.POSTURE_WRITE,
        Permission.ACCESS_WRITE,
        Permission.AGENT_BLOCK,
        Permission.SOURCE_WRITE,
        Permission.SERVER_BLOCK,
        Permission.PLAYBOOK_WRITE,
        Permission.CHANNEL_WRITE,
    },
    Role.ACCESS_ADMIN: frozenset(
        {
            Permission.PORTAL_USE,
            Permission.STORE_USE,
            Permission.AGENT_READ,
            Permission.AGENT_READ_OWN,
            Permission.USER_READ,
            Permission.DECISION_READ,
            Permission.HUNT_RUN,
            Permission.ACCESS_READ,
            Permission.ACCESS_WRITE,
        }
    ),
    Role.MAKER: frozenset(
        {Permission.PORTAL_USE, Permission.STORE_USE, Permission.AGENT_READ_OWN, Permission.AGENT_SUBMIT}
    ),
    Role.USER: frozenset({Permission.STORE_USE}),
    Role.AUDITOR: _READ_SOC | {Permission.AUDIT_READ},
    Role.OWNER: frozenset(Permission),
}
"""What each role may do; what is not listed is refused."""
