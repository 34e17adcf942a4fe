"""What all policies together demand of one attempt: the strictest wins, exclusions win, report-only ones only say.

Pure: facts and the age of the sign-in come in, one ``AccessFacts`` with every policy that applied goes out. The order
of policies does not matter, and one more enabled policy never makes the answer weaker (both tested as laws).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from watchfloor.guard.access.policy import ALL, AccessPolicy, Choice
from watchfloor.model.access import AccessFacts, AccessState, AppliedPolicy, Control
from watchfloor.model.agents import TokenMode, ToolEffect
from watchfloor.model.facts import AgentFacts, AgentProfile, UserFacts
from watchfloor.model.people import RiskLevel

Why = tuple[str, ...]

_KNOWLEDGE: Final = frozenset({"pwd", "pin", "kba"})
_POSSESSION: Final = frozenset({"otp", "sms", "tel", "hwk", "swk", "sc", "fido", "rsa", "wia", "pop"})
_INHERENCE: Final = frozenset({"face", "fpt", "iris", "retina", "vbm"})
_SAID: Final = frozenset({"mfa", "ngcmfa"})


def is_multi_factor(methods: Iterable[str]) -> bool:
    """Whether ``amr`` (RFC 8176) says that a sign-in took several factors, or names methods of two kinds."""
    said = {method.lower() for method in methods}
    return bool(said & _SAID) or sum(bool(said & kind) for kind in (_KNOWLEDGE, _POSSESSION, _INHERENCE)) > 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who wants to do what. ``server_id`` is empty and ``effect`` None where it is about no server, or no tool yet."""

    user: UserFacts | None
    agent_id: str
    agent: AgentFacts | None
    mode: TokenMode
    server_id: str = ""
    effect: ToolEffect | None = None
    sign_in_risk: RiskLevel = RiskLevel.NONE
    profile: AgentProfile | None = None


def evaluate(
    policies: Iterable[AccessPolicy], attempt: Attempt, methods: Sequence[str] = (), age: float | None = None
) -> AccessFacts:
    """The answer of ``policies``. ``methods`` is the sign-in's ``amr``, ``age`` its age in seconds if known."""
    return settle(find_matches(policies, attempt), tuple(methods), attempt.sign_in_risk, age)


def find_matches(policies: Iterable[AccessPolicy], attempt: Attempt) -> tuple[tuple[AccessPolicy, Why], ...]:
    """The policies whose conditions fit, each with why, by id; disabled ones never do."""
    found = []
    for policy in policies:
        if policy.state is not AccessState.DISABLED:
            why = why_it_fits(policy, attempt)
            if why is not None:
                found.append((policy, why))
    found.sort(key=lambda each: each[0].id)
    return tuple(found)


def settle(
    matches: Iterable[tuple[AccessPolicy, Why]], methods: tuple[str, ...], sign_in_risk: RiskLevel, age: float | None
) -> AccessFacts:
    """What policies that fit come to, given what the sign-in proved."""
    has_mfa = is_multi_factor(methods)
    applied = [
        AppliedPolicy(policy.id, policy.version, policy.name, policy.state, demand(policy, has_mfa, age), why,
                      policy.max_age)
        for policy, why in matches
    ]  # fmt: skip
    applied.sort(key=lambda p: (-p.control.strictness, p.id))
    enforced = [p for p in applied if p.state is AccessState.ENABLED]
    control = enforced[0].control if enforced else Control.GRANT
    ages = [p.max_age for p in enforced if p.max_age is not None and (age is None or age > p.max_age)]
    return AccessFacts(control, tuple(applied), min(ages, default=None), methods, sign_in_risk.value)


def demand(policy: AccessPolicy, has_mfa: bool, age: float | None) -> Control:
    """What ``policy`` still demands of a sign-in: the strictest of what must be, the easiest where one is enough."""
    if Control.BLOCK in policy.controls:
        return Control.BLOCK
    # A change of password ends the user's risk, and with it the reason why the policy applies.
    open_ = [c for c in policy.controls if not (c is Control.MFA and has_mfa)]
    wanted = Control.GRANT
    if open_ and (policy.needs_all or len(open_) == len(policy.controls)):
        wanted = (max if policy.needs_all else min)(open_, key=lambda c: c.strictness)
    if policy.max_age is not None and (age is None or age > policy.max_age):
        wanted = max(wanted, Control.REAUTHENTICATE, key=lambda c: c.strictness)
    return wanted


def why_it_fits(policy: AccessPolicy, attempt: Attempt) -> Why | None:
    """Why the conditions of ``policy`` fit, each in a few words; None if one does not."""
    why: list[str] = []
    for _, condition in _CONDITIONS:
        said = condition(policy, attempt)
        if said is None:
            return None
        if said:
            why.append(said)
    return tuple(why)


def why_not(policy: AccessPolicy, attempt: Attempt) -> str | None:
    """The first condition of ``policy`` that does not fit, by its name; None if all do."""
    if policy.state is AccessState.DISABLED:
        return "state"
    return next((name for name, condition in _CONDITIONS if condition(policy, attempt) is None), None)


# -- conditions: None where one does not fit, a few words where it was asked and does, "" where it was not asked ------


def _users(policy: AccessPolicy, attempt: Attempt) -> str | None:
    user = attempt.user
    if user is None:
        return None if policy.asks_for_user else ""
    names = {user.id.lower(), user.upn.lower()}
    groups = {group.lower() for group in user.groups}
    if _excludes(policy.users, names) or _excludes(policy.groups, groups) or _excludes(policy.roles, groups):
        return None
    if not policy.asks_for_user:
        return ""
    if ALL in policy.users.include:
        return "users: All"
    for word, chosen, own in (("user", policy.users, names), ("group", policy.groups, groups),
                              ("role", policy.roles, groups)):  # fmt: skip
        if ALL in chosen.include and own:
            return f"{word}s: All"
        if met := sorted(chosen.include & own):
            return f"{word}: {met[0]}"
    return None


def _agents(policy: AccessPolicy, attempt: Attempt) -> str | None:
    profile, agent = attempt.profile, attempt.agent
    own = {attempt.agent_id}
    blueprint = {profile.blueprint.lower()} if profile is not None and profile.blueprint else set()
    said = _attributes_of(agent, profile)
    if (
        _excludes(policy.agents, own)
        or _excludes(policy.blueprints, blueprint)
        or (policy.without_attributes and policy.without_attributes & said)
    ):
        return None
    if policy.attributes and not policy.attributes <= said:
        return None
    met = [f"{name}: {value}" for name, value in sorted(policy.attributes)]
    if not (policy.agents.include or policy.blueprints.include):
        return ", ".join(met)
    if ALL in policy.agents.include:
        return ", ".join(["agents: All", *met])
    if attempt.agent_id in policy.agents.include:
        return ", ".join([f"agent: {attempt.agent_id}", *met])
    if blueprint and (ALL in policy.blueprints.include or policy.blueprints.include & blueprint):
        return ", ".join([f"blueprint: {next(iter(blueprint))}", *met])
    return None


def _attributes_of(agent: AgentFacts | None, profile: AgentProfile | None) -> frozenset[tuple[str, str]]:
    said: list[tuple[str, str | None]] = []
    if agent is not None:
        said += [("platform", agent.platform), ("model", agent.model), ("version", agent.version),
                 ("maker", agent.maker_id), ("owner", agent.owner_id)]  # fmt: skip
    if profile is not None:
        said.append(("environment", profile.environment))
    return frozenset((name, value.lower()) for name, value in said if value)


def _servers(policy: AccessPolicy, attempt: Attempt) -> str | None:
    servers = policy.servers
    if not servers.asks:
        return ""
    if _excludes(servers, {attempt.server_id}):
        return None
    if not servers.include:
        return ""
    if ALL in servers.include:
        return "servers: All"
    return f"server: {attempt.server_id}" if attempt.server_id in servers.include else None


def _effects(policy: AccessPolicy, attempt: Attempt) -> str | None:
    if policy.effects is None:
        return ""
    # What a tool does is known when it is called; until then a policy about tools of a class does not fit.
    if attempt.effect is None or attempt.effect not in policy.effects:
        return None
    return f"tool class: {attempt.effect.value}"


def _user_risk(policy: AccessPolicy, attempt: Attempt) -> str | None:
    if not policy.user_risk:
        return ""
    if attempt.user is None or attempt.user.risk not in policy.user_risk:
        return None
    return f"user risk: {attempt.user.risk.value}"


def _agent_risk(policy: AccessPolicy, attempt: Attempt) -> str | None:
    if not policy.agent_risk:
        return ""
    if attempt.agent is None or attempt.agent.risk not in policy.agent_risk:
        return None
    return f"agent risk: {attempt.agent.risk.value}"


def _sign_in_risk(policy: AccessPolicy, attempt: Attempt) -> str | None:
    if not policy.sign_in_risk:
        return ""
    if attempt.user is None or attempt.sign_in_risk not in policy.sign_in_risk:
        return None
    return f"sign-in risk: {attempt.sign_in_risk.value}"


def _modes(policy: AccessPolicy, attempt: Attempt) -> str | None:
    if policy.modes is None:
        return ""
    return f"credential mode: {attempt.mode.value}" if attempt.mode in policy.modes else None


_CONDITIONS: Final = (
    ("users", _users),
    ("agents", _agents),
    ("resources.servers", _servers),
    ("resources.toolClasses", _effects),
    ("userRiskLevels", _user_risk),
    ("agentIdRiskLevels", _agent_risk),
    ("signInRiskLevels", _sign_in_risk),
    ("credentialModes", _modes),
)


def _excludes(choice: Choice, own: set[str]) -> bool:
    return bool(choice.exclude) and (bool(choice.exclude & own) or (ALL in choice.exclude and bool(own)))
