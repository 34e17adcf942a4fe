"""Agents, their tools, and what one may do with another."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class AgentState(StrEnum):
    """Where an agent stands in its life; ``registry/lifecycle.py`` holds the allowed transitions."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    PUBLISHED = "published"
    BLOCKED = "blocked"
    RETIRED = "retired"


class VersionState(StrEnum):
    """Where a version of an agent stands."""

    SUBMITTED = "submitted"  # waits for somebody to decide
    APPROVED = "approved"  # waits for its agent to be unblocked
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"  # by its maker, or because a newer one was submitted
    LIVE = "live"  # what its agent is, whenever it may be used
    SUPERSEDED = "superseded"
    BLOCKED = "blocked"  # ruled out: its build does not come back


VERSION_MOVES: Final[dict[VersionState, frozenset[VersionState]]] = {
    VersionState.SUBMITTED: frozenset(
        {VersionState.LIVE, VersionState.APPROVED, VersionState.DECLINED, VersionState.WITHDRAWN}
    ),
    VersionState.APPROVED: frozenset({VersionState.LIVE, VersionState.SUPERSEDED, VersionState.BLOCKED}),
    VersionState.LIVE: frozenset({VersionState.SUPERSEDED, VersionState.BLOCKED}),
    VersionState.DECLINED: frozenset(),
    VersionState.WITHDRAWN: frozenset(),
    VersionState.SUPERSEDED: frozenset(),
    VersionState.BLOCKED: frozenset(),
}
"""What can become of a version. What was declined or superseded comes back only as another version."""


class ServerState(StrEnum):
    """Whether tools of a tool server may be called at all."""

    AVAILABLE = "available"
    BLOCKED = "blocked"


class ToolEffect(StrEnum):
    """What a tool does to the world; everything but ``read`` has side effects."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    SEND = "send"
    PAY = "pay"
    UNKNOWN = "unknown"

    @property
    def has_side_effects(self) -> bool:
        """True for everything but ``read``: what is not known to be harmless is not."""
        return self is not ToolEffect.READ


class PinState(StrEnum):
    """Whether a tool still is what was approved: its name, description and schema hash to the pinned value."""

    UNPINNED = "unpinned"
    PINNED = "pinned"
    CHANGED = "changed"


class CredentialOwner(StrEnum):
    """Whose credentials a binding uses upstream."""

    USER = "user"
    MAKER = "maker"
    APP = "app"


class Scope(StrEnum):
    """What a binding allows: ``read`` covers tools without side effects only."""

    READ = "read"
    WRITE = "write"


class ActingMode(StrEnum):
    """On whose behalf a step was taken."""

    HUMAN = "human"
    AGENT = "agent"
    ON_BEHALF_OF = "on-behalf-of"


PROOF_CLAIM: Final = "watchfloor_proof"
"""The claim of gateway tokens with which the control plane asks, to see that it is refused: nothing goes out."""


class TokenMode(StrEnum):
    """``mode`` of a gateway token, set by the token service from the registry, never by the caller."""

    OBO = "obo"
    AGENT = "agent"
    AGENT_USER = "agent_user"
    MAKER = "maker"
    ANONYMOUS = "anonymous"

    @property
    def acting_mode(self) -> ActingMode:
        """How events of this token are attributed."""
        return ActingMode.ON_BEHALF_OF if self in (TokenMode.OBO, TokenMode.AGENT_USER) else ActingMode.AGENT
