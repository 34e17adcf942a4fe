"""What this worker knows: every fact that a decision may need, in memory, as new as the epoch file demands.

Filled from the control plane's projection; asked by ``enforce.py`` for each call. ``check`` is the one gate: it reads
what changed *before* a decision whenever the epoch has moved, and says when nothing may be decided at all. It does not
decide, and it never shows a secret that it opened.

INVARIANT: no decision is taken on state that is known to be behind the epoch. If what changed cannot be read, or a
policy set cannot be built, every call is refused until it can: older rules might allow what the newer ones forbid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from watchfloor.gateway.access import Access
from watchfloor.guard.policy import PolicySet
from watchfloor.guard.provenance.directory import Directory
from watchfloor.model.access import NO_PROOF, Proof
from watchfloor.model.activity import Answer, Approval, Counters
from watchfloor.model.agents import PinState, Scope
from watchfloor.model.errors import WatchfloorError
from watchfloor.model.facts import (
    AgentFacts,
    Aliases,
    ApprovalFacts,
    BindingFacts,
    CanaryFacts,
    CredentialFacts,
    DirectoryNames,
    Facts,
    HoldLimit,
    Kind,
    Organization,
    PolicyFacts,
    Projected,
    ServerFacts,
    SigningKey,
    TokenFacts,
    ToolCard,
    ToolFacts,
    UserFacts,
)

ANY_TOOL: Final = "*"
PENDING: Final = "pending"
"""The answer of a hold that has none yet."""
_RETRY_SECONDS: Final = 0.1
"""How long a failed reading of the projection is not tried again: a broken database must not stall every call."""


class Reader(Protocol):
    """Reads the projection; ``storage.projection.ProjectionReader`` is one."""

    def read(self, after: int) -> tuple[int, list[tuple[Kind, str, dict[str, Any] | None]]]:
        """The revision of the snapshot and the rows behind ``after``."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class Epoch(Protocol):
    """The part of ``storage.epoch.EpochFile`` that is needed here."""

    def revision(self) -> int:
        """The newest acknowledged change."""
        ...

    def age_seconds(self) -> float:
        """Seconds since the control plane's last beat."""
        ...


class Unusable(WatchfloorError):
    """Nothing may be decided now: state was never loaded, is known to be behind, or its policies cannot be used."""

    code = "state_stale"


class PoliciesUnusable(Unusable):
    """There are no policies, or they cannot be built: what is forbidden is not known."""

    code = "policy_error"


class State:
    """The facts, by key. ``check`` before every decision; lookups after it, without waiting in between."""

    def __init__(
        self,
        *,
        open_reader: Callable[[], Reader],
        open_epoch: Callable[[], Epoch],
        unseal: Callable[[str, str], bytes],
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_reader, self._open_epoch, self._unseal = open_reader, open_epoch, unseal
        self._lease, self._clock = lease_seconds, clock
        self._reader: Reader | None = None
        self._epoch: Epoch | None = None
        self._not_before = 0.0
        self._failure = "State was not loaded yet."
        self.is_stale = True
        """Whether the control plane has been silent for longer than the lease, as of the last ``check``."""
        self.revision = 0
        self.on_keys: list[Callable[[Mapping[str, SigningKey]], None]] = []
        """Told whenever the token service's keys may have changed."""
        self._clear()

    def _clear(self) -> None:
        self.revision = 0
        self.organization = Organization()
        self.agents: dict[str, AgentFacts] = {}
        self.users: dict[str, UserFacts] = {}
        self.servers: dict[str, ServerFacts] = {}
        self.tools: dict[tuple[str, str], ToolFacts] = {}
        self._offering: dict[str, set[str]] = {}
        self.cards: dict[tuple[str, str], ToolCard] = {}
        self.directory = Directory()
        self.canaries: tuple[CanaryFacts, ...] = ()
        self._canaries: dict[str, CanaryFacts] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._aliased: dict[tuple[str, str], set[str]] = {}
        self.bindings: dict[tuple[str, str], dict[str, BindingFacts]] = {}
        self.approvals: dict[str, Approval] = {}
        """Answers by hold."""
        self.waiting: dict[str, tuple[str, datetime]] = {}
        """Holds that nobody has answered yet, by payload: id and expiry."""
        self.roots: dict[str, str] = {}
        """The holds whose one use others share."""
        self._payloads: dict[str, str] = {}
        self.hold_limits: dict[str, HoldLimit] = {}
        self.keys: dict[str, SigningKey] = {}
        self.policies: PolicySet | None = None
        self._policy_facts: dict[str, PolicyFacts] = {}
        self._policy_problem = "No policies are published."
        self._secrets: dict[str, bytes] = {}
        self._observed: dict[tuple[str, str], str] = {}
        self._distrusted: dict[tuple[str, str], str] = {}
        self.access = Access()
        self.problems: dict[str, str] = {}

    # -- freshness ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Make state as new as the epoch demands. Raises ``Unusable`` when nothing may be decided.

        Waits for the database, so nothing that could change runs between this and the decision that follows.
        """
        epoch = self._epoch
        if epoch is None or not self.revision or epoch.revision() > self.revision:
            self._refresh()
            epoch = self._epoch
        if self.policies is None:
            raise PoliciesUnusable(self._policy_problem)
        assert epoch is not None, "a refresh that succeeds has opened the epoch file"
        self.is_stale = epoch.age_seconds() > self._lease

    def _refresh(self) -> None:
        now = self._clock()
        if now < self._not_before:
            raise Unusable(self._failure)
        try:
            if self._epoch is None:
                self._epoch = self._open_epoch()
            # Read before the database, not after: a commit in between must leave us behind, never ahead.
            wanted = self._epoch.revision()
            if self._reader is None:
                self._reader = self._open_reader()
            revision, rows = self._reader.read(self.revision)
        except Exception as error:  # a projection that cannot even be parsed included
            self._not_before = now + _RETRY_SECONDS
            self._failure = f"State cannot be read: {error}"
            raise Unusable(self._failure) from error
        self._apply(revision, rows)
        if revision < wanted or revision == 0:
            self._not_before = now + _RETRY_SECONDS
            self._failure = f"Control state is at revision {revision}; revision {wanted} was acknowledged."
            raise Unusable(self._failure)

    def problem(self) -> str | None:
        """Why this worker should get no calls, or None. Refreshes state as a call would."""
        try:
            self.check()
        except Unusable as error:
            return str(error)
        return "The control plane has been silent for longer than the lease." if self.is_stale else None

    # -- reading the projection -----------------------------------------------------------------------------------

    def _apply(self, revision: int, rows: list[tuple[Kind, str, dict[str, Any] | None]]) -> None:
        kinds = set()
        for kind, key, body in rows:
            kinds.add(kind)
            name = f"{kind}/{key}"
            self.problems.pop(name, None)
            try:
                self._set(kind, key, body)
            except (ValueError, TypeError, KeyError, AttributeError, WatchfloorError) as error:
                # INVARIANT: a value that cannot be read is a value that is not there: what depends on it is refused.
                # A policy stays, as one that no policy set accepts: losing a rule is no way to be strict.
                if kind not in (Kind.POLICY, Kind.ACCESS_POLICY):
                    self._set(kind, key, None)
                self.problems[name] = f"{type(error).__name__}: {error}"
        if Kind.POLICY in kinds:
            self._build_policies()
        if Kind.SIGNING_KEY in kinds:
            for tell in self.on_keys:
                tell(self.keys)
        self.revision = revision

    def _set(self, kind: Kind, key: str, body: dict[str, Any] | None) -> None:
        if kind is Kind.TOOL:
            server, _, tool = key.partition("/")
            _put(self.tools, (server, tool), ToolFacts, body)
            self._offering.setdefault(tool, set()).discard(server)
            if (server, tool) in self.tools:
                self._offering[tool].add(server)
        elif kind is Kind.BINDING:
            agent, server, tool = key.split("/", 2)
            _put(self.bindings.setdefault((agent, server), {}), tool, BindingFacts, body)
        elif kind is Kind.TOOL_CARD:
            server, _, tool = key.partition("/")
            _put(self.cards, (server, tool), ToolCard, body)
        elif kind is Kind.DIRECTORY:
            self._know(f"list/{key}", DirectoryNames.from_json(body).names if body is not None else ())
        elif kind is Kind.CANARY:
            self._canaries.pop(key, None)
            if body is not None:
                self._canaries[key] = CanaryFacts.from_json(body)
            self.canaries = tuple(self._canaries[key] for key in sorted(self._canaries))
        elif kind is Kind.ALIASES:
            self._call(key, Aliases.from_json(body).names if body is not None else ())
        elif kind is Kind.CREDENTIAL:
            self._secrets.pop(key, None)
            if body is not None:
                self._secrets[key] = self._unseal(CredentialFacts.from_json(body).sealed, key)
        elif kind is Kind.POLICY:
            self._policy_facts.pop(key, None)
            if body is not None:
                self._policy_facts[key] = PolicyFacts(key, 0, {})
                self._policy_facts[key] = PolicyFacts.from_json(body)
        elif kind is Kind.APPROVAL:
            self._forget_hold(key)
            if body is not None:
                self._learn(key, ApprovalFacts.from_json(body))
        elif kind is Kind.ORGANIZATION:
            self.organization = Organization.from_json(body) if body is not None else Organization()
            self.directory.use_domains(self.organization.domains)
        elif kind is Kind.ACCESS_POLICY:
            self.access.learn_policy(key, body)
        elif kind is Kind.AGENT_PROFILE:
            self.access.learn_profile(key, body)
        elif kind is not Kind.SOURCE:  # telemetry is the receivers' business
            table, cls = _TABLES[kind]
            _put(getattr(self, table), key, cls, body)
            if kind is Kind.USER:
                user = self.users.get(key)
                self._know(f"user/{key}", (user.upn, user.name) if user is not None and user.is_enabled else ())

    def _forget_hold(self, hold_id: str) -> None:
        self.approvals.pop(hold_id, None)
        self.roots.pop(hold_id, None)
        payload_hash = self._payloads.pop(hold_id, None)
        if payload_hash is not None and self.waiting.get(payload_hash, ("",))[0] == hold_id:
            del self.waiting[payload_hash]

    def _learn(self, hold_id: str, found: ApprovalFacts) -> None:
        if found.root:
            self.roots[hold_id] = found.root
        if found.answer == PENDING:
            self.waiting[found.payload_hash] = (hold_id, found.expires_at)
            self._payloads[hold_id] = found.payload_hash
        elif found.approved is True:
            self.approvals[hold_id] = Approval(hold_id, found.payload_hash, found.expires_at, True)
        else:
            why = Answer(found.answer or Answer.DECLINED)
            self.approvals[hold_id] = Approval.refused(why, hold_id, found.payload_hash, found.expires_at)

    def _call(self, key: str, names: tuple[str, ...]) -> None:
        """Let an agent or a user go by ``names``, in place of the names that it had."""
        kind, _, own_id = key.partition("/")
        for name in self._aliases.pop(key, ()):
            self._aliased[(kind, name)].discard(own_id)
        if names:
            self._aliases[key] = names
            for name in names:
                self._aliased.setdefault((kind, name), set()).add(own_id)

    def _know(self, source: str, names: tuple[str, ...]) -> None:
        """Put ``names`` into the directory, in place of what ``source`` had there."""
        for name in self._names.pop(source, ()):
            self.directory.remove(name)
        if names:
            self._names[source] = names
            for name in names:
                self.directory.add(name)

    def _build_policies(self) -> None:
        self.policies = None
        self._policy_problem = "No policies are published."
        if not self._policy_facts:
            return
        try:
            self.policies = PolicySet.build([self._policy_facts[key] for key in sorted(self._policy_facts)])
        except Exception as error:  # whatever the reason, these policies cannot be enforced
            self._policy_problem = f"The published policies cannot be used: {error}"

    # -- lookups --------------------------------------------------------------------------------------------------

    def facts(
        self,
        token: TokenFacts,
        agent_id: str,
        user_id: str | None,
        server_id: str,
        tool: str,
        now: datetime,
        counters: Counters,
        approval: Approval | None = None,
        pseudo_tool: ToolFacts | None = None,
        may_write: bool = True,
        proof: Proof = NO_PROOF,
    ) -> Facts:
        """Everything that the guard needs to know about one call. ``may_write``: the token goes beyond reading."""
        binding = self.binding(agent_id, server_id, tool)
        if binding is not None and not may_write and binding.scope is not Scope.READ:
            binding = replace(binding, scope=Scope.READ)
        agent, user = self.agents.get(agent_id), self.users.get(user_id) if user_id is not None else None
        known_tool = pseudo_tool if pseudo_tool is not None else self.tool(server_id, tool)
        return Facts(
            now=now,
            state_is_current=not self.is_stale,
            organization=self.organization,
            token=token,
            agent=agent,
            user=user,
            server=self.servers.get(server_id),
            tool=known_tool,
            binding=binding,
            counters=counters,
            approval=approval,
            parents=self._parents(token) if token.handed_over_by else (),
            canaries=self.canaries,
            access=self.access.answer(token, proof, user, agent_id, agent, server_id, tool, known_tool, now),
        )

    def _parents(self, token: TokenFacts) -> tuple[AgentFacts, ...]:
        found = (self.agents.get(before.agent_id) for before in token.handed_over_by)
        return tuple(parent for parent in found if parent is not None)

    def tool(self, server_id: str, name: str) -> ToolFacts | None:
        """A tool; one that was seen changed on the wire counts as changed before the control plane has said so."""
        tool = self.tools.get((server_id, name))
        if tool is not None and self._distrusted and tool.pin_state is PinState.UNPINNED:
            if (server_id, name) in self._distrusted:
                return replace(tool, pin_state=PinState.CHANGED)
        elif tool is not None and self._observed and tool.pin_state is PinState.PINNED:
            seen = self._observed.get((server_id, name))
            if seen is not None and seen != tool.pin:
                return replace(tool, pin_state=PinState.CHANGED)
        return tool

    def servers_of(self, name: str) -> list[str]:
        """The tool servers that have a tool of this name."""
        return sorted(self._offering.get(name, ()))

    def binding(self, agent_id: str, server_id: str, tool: str) -> BindingFacts | None:
        """What lets this agent use this tool: the binding of this very tool, else that of every tool."""
        bindings = self.bindings.get((agent_id, server_id))
        if not bindings:
            return None
        return bindings.get(tool) or bindings.get(ANY_TOOL)

    def hold_limit(self, agent_id: str, user_id: str | None, now: datetime) -> datetime | None:
        """Until when no operator is asked about calls of this agent for this user, if that is so."""
        limit = self.hold_limits.get(f"{agent_id}/{user_id or ''}") if self.hold_limits else None
        return limit.until if limit is not None and limit.until > now else None

    def agent_called(self, name: str) -> str | None:
        """The id of the one agent that a platform or a directory calls ``name`` (lower case); of two it is neither."""
        return self._called("agent", name, self.agents)

    def user_called(self, name: str) -> str | None:
        """The id of the one user whom a directory calls ``name`` (lower case)."""
        return self._called("user", name, self.users)

    def _called(self, kind: str, name: str, known: Mapping[str, Any]) -> str | None:
        found = self._aliased.get((kind, name)) or set()
        found = found | {name} if name in known else found
        return next(iter(found)) if len(found) == 1 else None

    def is_bound(self, agent_id: str, server_id: str) -> bool:
        """Whether this agent may use any tool of this server."""
        return bool(self.bindings.get((agent_id, server_id)))

    def secret(self, credential_id: str) -> bytes | None:
        """An opened upstream credential, for sending it upstream and nothing else."""
        return self._secrets.get(credential_id)

    def observe(self, server_id: str, name: str, definition_hash: str) -> bool:
        """Note how a tool looks on the wire; True the first time that it is not what was pinned."""
        tool = self.tools.get((server_id, name))
        key = (server_id, name)
        if self._distrusted.get(key, definition_hash) != definition_hash:
            del self._distrusted[key]
        if tool is None or tool.pin_state is PinState.UNPINNED or definition_hash == tool.pin:
            self._observed.pop(key, None)
            return False
        is_news = self._observed.get(key) != definition_hash
        self._observed[key] = definition_hash
        return is_news

    def distrust(self, server_id: str, name: str, definition_hash: str) -> bool:
        """Let a tool count as changed as long as it looks like this and nobody approves it; True if that is news."""
        is_news = self._distrusted.get((server_id, name)) != definition_hash
        self._distrusted[(server_id, name)] = definition_hash
        return is_news


_TABLES: Final[Mapping[Kind, tuple[str, type[Projected]]]] = {
    Kind.AGENT: ("agents", AgentFacts),
    Kind.USER: ("users", UserFacts),
    Kind.SERVER: ("servers", ServerFacts),
    Kind.SIGNING_KEY: ("keys", SigningKey),
    Kind.HOLD_LIMIT: ("hold_limits", HoldLimit),
}


def _put(table: dict[Any, Any], key: Any, cls: type[Projected], body: dict[str, Any] | None) -> None:
    table.pop(key, None)
    if body is not None:
        table[key] = cls.from_json(body)


def utc_now() -> datetime:
    """Now, aware UTC."""
    return datetime.now(UTC)
