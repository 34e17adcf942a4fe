"""What a decision may know: the state of agents, users and tools as the data plane holds it in memory.

The control plane projects these values from its tables (kind, key, JSON body, revision); gateway workers keep them by
key. They hold no secrets in clear. ``from_json`` ignores members that it does not know, so that an old worker survives
a newer control plane; a member that is missing takes its default, which is always the strict one.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from functools import cache
from typing import Any, Final, Self

from watchfloor.model.access import AccessFacts
from watchfloor.model.activity import Approval, Counters
from watchfloor.model.agents import AgentState, CredentialOwner, PinState, Scope, ServerState, TokenMode, ToolEffect
from watchfloor.model.people import RiskLevel


class Kind(StrEnum):
    """Kinds of projected values; the key is given in brackets."""

    ORGANIZATION = "organization"  # ["" : one a tenant]
    AGENT = "agent"  # [agent id]
    USER = "user"  # [user id]
    SERVER = "server"  # [server id]
    TOOL = "tool"  # [server id/tool name]
    BINDING = "binding"  # [agent id/server id/tool name or *]
    CREDENTIAL = "credential"  # [credential id]
    POLICY = "policy"  # [policy id]
    APPROVAL = "approval"  # [hold id]
    HOLD_LIMIT = "hold_limit"  # [agent id/user id]
    SIGNING_KEY = "signing_key"  # [kid]
    SOURCE = "source"  # [telemetry source id]
    TOOL_CARD = "tool_card"  # [server id/tool name]
    DIRECTORY = "directory"  # [name of the list]
    CANARY = "canary"  # [id of the canary]
    ALIASES = "aliases"  # [agent/agent id or user/user id]
    ACCESS_POLICY = "access_policy"  # [access policy id]
    AGENT_PROFILE = "agent_profile"  # [agent id]


@cache
def _converters(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _convert(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
        origin = typing.get_origin(hint)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, v) for v in value)
    if isinstance(hint, type):
        if dataclasses.is_dataclass(hint):
            return hint(**{n: _convert(h, value[n]) for n, h in _converters(hint).items() if n in value})
        if issubclass(hint, Enum):
            return hint(value)
        if issubclass(hint, datetime):
            return datetime.fromisoformat(value) if isinstance(value, str) else value
    return value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


class Projected:
    """Base of values that travel as JSON; ``from_json(to_json(x)) == x``."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-compatible dictionary."""
        plain: dict[str, Any] = _plain(self)
        return plain

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """The value that ``body`` describes. Raises ``ValueError`` or ``TypeError`` if it does not fit."""
        value: Self = _convert(cls, body)
        return value


@dataclass(frozen=True, slots=True)
class Organization(Projected):
    """The company as a whole: names that belong to it."""

    name: str = ""
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentFacts(Projected):
    """An agent. ``epoch`` is raised by block and revoke: a token with a lower one is dead."""

    id: str
    name: str = ""
    state: AgentState = AgentState.DRAFT
    version: str = ""
    epoch: int = 1
    risk: RiskLevel = RiskLevel.NONE
    maker_id: str | None = None
    owner_id: str | None = None
    platform: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class UserFacts(Projected):
    """A user. ``epoch`` is raised by every revoke: a token with a lower one is dead.

    ``not_before``: sign-ins older than this are not exchanged for tokens.
    """

    id: str
    upn: str = ""
    name: str = ""
    is_enabled: bool = False
    epoch: int = 1
    risk: RiskLevel = RiskLevel.NONE
    must_reset_password: bool = False
    not_before: datetime | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerFacts(Projected):
    """A tool server. ``credential_id`` names its app credential in the vault."""

    id: str
    name: str = ""
    url: str = ""
    state: ServerState = ServerState.BLOCKED
    is_trusted: bool = False
    credential_id: str | None = None
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class ToolFacts(Projected):
    """A tool as approved. ``pin`` is ``model.pins.tool_hash`` of its definition; empty until it was first listed."""

    server_id: str
    name: str
    effect: ToolEffect = ToolEffect.UNKNOWN
    pin_state: PinState = PinState.UNPINNED
    pin: str = ""
    is_blocked: bool = False
    allow_when_stale: bool = False
    """Admin's choice for read-only tools: allow and flag when the worker's state is older than its lease."""


@dataclass(frozen=True, slots=True)
class ToolCard(Projected):
    """What a tool's arguments are for (``guard.provenance.labels.Role`` by name), and how much is asked of them.

    ``strictness``: balanced, careful or strict; empty means careful. ``trusted_fields``: patterns of field names in
    its results that an administrator vouches for. ``purpose``: how the approved definition's description begins.
    """

    roles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    strictness: str = ""
    is_open_world: bool = True
    trusted_fields: tuple[str, ...] = ()
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class DirectoryNames(Projected):
    """Names that the organisation knows by itself besides its users and domains: accounts, channels, partners."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CanaryFacts(Projected):
    """Something that nobody has a reason to touch: a tool (``server/tool``), or a value that stands in a document.

    Of a value only this is known: how it begins (``start``, lower case), how many characters it has, and the keyless
    BLAKE2b (16 bytes, hex) of it in lower case. Enough to know it again, too little to say it.
    """

    id: str
    tool: str = ""
    start: str = ""
    length: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Aliases(Projected):
    """The ids, in lower case, by which a platform or a directory calls an agent or a user."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BindingFacts(Projected):
    """An agent may use a tool (``tool == "*"``: every tool of the server), with whose credentials, how far."""

    agent_id: str
    server_id: str
    tool: str
    credential_owner: CredentialOwner = CredentialOwner.APP
    scope: Scope = Scope.READ
    credential_id: str | None = None
    """The maker's stored credential, where ``credential_owner`` is maker."""


def granted(bindings: Iterable[BindingFacts], server_id: str, tool: str) -> BindingFacts | None:
    """The binding of one agent's that a call of ``tool`` goes by: that of this very tool, else of every tool."""
    found = {binding.tool: binding for binding in bindings if binding.server_id == server_id}
    return found.get(tool) or found.get("*")


@dataclass(frozen=True, slots=True)
class CredentialFacts(Projected):
    """A sealed upstream credential: only the vault's key opens ``sealed`` (base64)."""

    id: str
    kind: str = "bearer"
    sealed: str = ""


@dataclass(frozen=True, slots=True)
class PolicyFacts(Projected):
    """A published policy, as its content file: ``body`` is parsed by the guard."""

    id: str
    version: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AccessPolicyFacts(Projected):
    """A published policy of conditional access: ``body`` is parsed by ``guard.access``."""

    id: str
    version: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AgentProfile(Projected):
    """What conditional access may ask of an agent beyond its facts: the blueprint and the environment it is from."""

    blueprint: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalFacts(Projected):
    """Where a hold stands, as projected; the key is ``hold_id``. Becomes an ``Approval`` once it is answered.

    ``answer`` says more where it is not approved: ``pending``, or a value of ``model.activity.Answer``. ``root`` is the
    hold whose one use this one shares, where the same call was held more than once before anybody knew.
    """

    hold_id: str
    payload_hash: str
    expires_at: datetime
    approved: bool = False
    answer: str = ""
    root: str = ""


@dataclass(frozen=True, slots=True)
class HoldLimit(Projected):
    """An agent that has asked operators too often for a user: until then its calls are refused instead of held."""

    agent_id: str
    user_id: str | None
    until: datetime


@dataclass(frozen=True, slots=True)
class SigningKey(Projected):
    """A public key of the token service (JWK)."""

    kid: str
    jwk: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SourceFacts(Projected):
    """Who may send telemetry. ``token_hash``: SHA-256 of its token in hex; ``agents``: the ids that it may speak for,
    or ``*``; ``events_per_second``: its quota."""

    id: str
    token_hash: str
    agents: tuple[str, ...]
    events_per_second: int
    is_enabled: bool = True


MAX_HANDOVERS: Final = 4
"""How many agents may have handed over to one another before the one that acts."""


@dataclass(frozen=True, slots=True)
class Actor(Projected):
    """An agent that handed work over, and its epoch at that time."""

    agent_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class TokenFacts(Projected):
    """What the caller's gateway token proved. ``handed_over_by``: the agents before this one, nearest first."""

    session_id: str
    mode: TokenMode
    user_epoch: int
    agent_epoch: int
    expires_at: datetime
    auth_time: datetime | None = None
    handed_over_by: tuple[Actor, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts(Projected):
    """Everything but the invocation and the policies that a decision depends on. ``None`` means: not known.

    ``now`` is aware UTC. ``state_is_current`` is False when the worker has lost the control plane for longer than its
    lease. ``parents``: those of ``token.handed_over_by`` that are known.
    """

    now: datetime
    state_is_current: bool
    organization: Organization
    token: TokenFacts
    agent: AgentFacts | None = None
    user: UserFacts | None = None
    server: ServerFacts | None = None
    tool: ToolFacts | None = None
    binding: BindingFacts | None = None
    counters: Counters = Counters()
    approval: Approval | None = None
    parents: tuple[AgentFacts, ...] = ()
    canaries: tuple[CanaryFacts, ...] = ()
    access: AccessFacts | None = None
    """What conditional access says; None where no policy of it was ever published."""
