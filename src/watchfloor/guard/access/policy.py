"""What an access policy says, and everything that is wrong with one.

``read`` makes an ``AccessPolicy`` of a body; ``check`` says all problems at once. Above are ``registry.access``, which
publishes nothing unchecked, and the gateway, which reads what was published. Members are Graph's wherever it has them
(docs/conditional-access.md); a policy with conditions that nobody here can check may not be enabled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from watchfloor.guard.problems import Problem, did_you_mean
from watchfloor.model.access import AccessState, Control
from watchfloor.model.agents import TokenMode, ToolEffect
from watchfloor.model.errors import InputError
from watchfloor.model.ids import is_name
from watchfloor.model.people import RiskLevel

ALL: Final = "All"
NO_ONE: Final = "None"
ANY_SERVER: Final = "*"
WRITE: Final = "write"
"""The tool class of everything that has side effects; the other classes are effects."""

EVERY_TIME_SECONDS: Final = 300
"""How old a sign-in may be where it is asked for every time: whoever just signed in must get through."""
MAX_FREQUENCY_SECONDS: Final = 365 * 86_400
MOST_NAMES: Final = 10_000

ATTRIBUTES: Final = ("platform", "model", "maker", "owner", "version", "environment")
"""What may be said of an agent besides its id and its blueprint."""

_MEMBERS: Final = ("id", "version", "displayName", "description", "state", "conditions", "grantControls",
                   "sessionControls", "unenforced")  # fmt: skip
_CONDITIONS: Final = ("users", "agents", "resources", "userRiskLevels", "agentIdRiskLevels", "signInRiskLevels",
                      "credentialModes")  # fmt: skip
_USERS: Final = ("include", "exclude", "includeGroups", "excludeGroups", "includeRoles", "excludeRoles")
_AGENTS: Final = ("include", "exclude", "blueprints", "excludeBlueprints", "attributes", "excludeAttributes")
_RESOURCES: Final = ("servers", "excludeServers", "toolClasses")
_GRANT: Final = {c.value: c for c in (Control.BLOCK, Control.MFA, Control.PASSWORD_CHANGE)}
_LEVELS: Final = {level.value: level for level in RiskLevel}
_MODES: Final = {mode.value: mode for mode in TokenMode}
_CLASSES: Final = {WRITE: frozenset(e for e in ToolEffect if e.has_side_effects)} | {
    effect.value: frozenset({effect}) for effect in ToolEffect
}
_UNITS: Final = {"minutes": 60, "hours": 3_600, "days": 86_400}
_ALONE: Final = frozenset({TokenMode.AGENT, TokenMode.MAKER, TokenMode.ANONYMOUS})
"""Modes in which there may be no user behind a call."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is meant: ``exclude`` wins. No ``include`` means that the condition does not ask."""

    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()

    @property
    def asks(self) -> bool:
        """Whether anything is chosen or left out."""
        return bool(self.include or self.exclude)


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """One policy, as evaluated. Names of people are in lower case. ``max_age`` is in seconds.

    ``effects`` and ``modes`` are None where the policy does not ask for them.
    """

    id: str
    version: int
    name: str
    state: AccessState
    users: Choice
    groups: Choice
    roles: Choice
    agents: Choice
    blueprints: Choice
    attributes: frozenset[tuple[str, str]]
    without_attributes: frozenset[tuple[str, str]]
    servers: Choice
    effects: frozenset[ToolEffect] | None
    user_risk: frozenset[RiskLevel]
    agent_risk: frozenset[RiskLevel]
    sign_in_risk: frozenset[RiskLevel]
    modes: frozenset[TokenMode] | None
    needs_all: bool
    controls: frozenset[Control]
    max_age: int | None
    revokes: bool

    @property
    def asks_for_user(self) -> bool:
        """Whether it fits only where there is a user."""
        return bool(self.users.include or self.groups.include or self.roles.include)


def read(policy_id: str, version: int, body: Mapping[str, Any]) -> AccessPolicy:
    """The policy that ``body`` describes. Raises ``InputError`` with every problem."""
    reading = _Reading()
    policy = reading.policy(policy_id, version, body)
    if reading.problems:
        raise InputError("; ".join(map(str, reading.problems)), where=f"access policy/{policy_id}")
    return policy


def check(body: Any) -> list[Problem]:
    """Everything that keeps ``body`` from being published; empty if nothing does."""
    if not isinstance(body, Mapping):
        return [Problem("policy", "it is not an object.")]
    reading = _Reading()
    policy_id = body.get("id")
    if not isinstance(policy_id, str) or not is_name(policy_id):
        reading.wrong("id", f"{policy_id!r} cannot be the id of a policy.", "Use 1 to 64 of a-z, 0-9, '.', '_', '-'.")
    reading.policy(str(policy_id), 0, body)
    return reading.problems


class _Reading:
    """Reads one body and gathers what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def wrong(self, where: str, message: str, remedy: str = "") -> None:
        self.problems.append(Problem(where, message, remedy))

    def policy(self, policy_id: str, version: int, body: Mapping[str, Any]) -> AccessPolicy:
        self._known(body, _MEMBERS, "")
        name = body.get("displayName")
        if not isinstance(name, str) or not 0 < len(name) <= 256:
            self.wrong("displayName", "it must be a text of 1 to 256 characters.")
        state = self._one_of(body.get("state"), {s.value: s for s in AccessState}, "state") or AccessState.DISABLED
        conditions = self._object(body.get("conditions"), "conditions", _CONDITIONS)
        users = self._object(conditions.get("users"), "conditions.users", _USERS)
        agents = self._object(conditions.get("agents"), "conditions.agents", _AGENTS)
        resources = self._object(conditions.get("resources"), "conditions.resources", _RESOURCES)

        def choice(of: Mapping[str, Any], where: str, include: str, exclude: str, *, fold: bool = True) -> Choice:
            return Choice(
                self._names(of.get(include), f"{where}.{include}", fold=fold),
                self._names(of.get(exclude), f"{where}.{exclude}", fold=fold),
            )

        modes = self._set(conditions.get("credentialModes"), _MODES, "conditions.credentialModes")
        classes = self._set(resources.get("toolClasses"), _CLASSES, "conditions.resources.toolClasses")
        needs_all, controls = self._grant(body.get("grantControls"))
        max_age, revokes = self._session(body.get("sessionControls"))
        policy = AccessPolicy(
            id=policy_id,
            version=version,
            name=name if isinstance(name, str) else "",
            state=state,
            users=choice(users, "conditions.users", "include", "exclude"),
            groups=choice(users, "conditions.users", "includeGroups", "excludeGroups"),
            roles=choice(users, "conditions.users", "includeRoles", "excludeRoles"),
            agents=choice(agents, "conditions.agents", "include", "exclude", fold=False),
            blueprints=choice(agents, "conditions.agents", "blueprints", "excludeBlueprints"),
            attributes=self._attributes(agents.get("attributes"), "conditions.agents.attributes"),
            without_attributes=self._attributes(agents.get("excludeAttributes"), "conditions.agents.excludeAttributes"),
            servers=choice(resources, "conditions.resources", "servers", "excludeServers", fold=False),
            effects=frozenset().union(*classes) if classes else None,
            user_risk=self._set(conditions.get("userRiskLevels"), _LEVELS, "conditions.userRiskLevels"),
            agent_risk=self._set(conditions.get("agentIdRiskLevels"), _LEVELS, "conditions.agentIdRiskLevels"),
            sign_in_risk=self._set(conditions.get("signInRiskLevels"), _LEVELS, "conditions.signInRiskLevels"),
            modes=modes or None,
            needs_all=needs_all,
            controls=controls,
            max_age=max_age,
            revokes=revokes,
        )
        self._rules(policy, body)
        return policy

    # -- parts ----------------------------------------------------------------------------------------------------

    def _known(self, body: Mapping[str, Any], members: Iterable[str], where: str) -> None:
        for name in body:
            if name not in members:
                path = f"{where}.{name}" if where else str(name)
                self.wrong(path, "there is no such member.", did_you_mean(str(name), members))

    def _object(self, value: Any, where: str, members: Iterable[str]) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(where, "it must be an object.")
            return {}
        self._known(value, members, where)
        return value

    def _list(self, value: Any, where: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list | tuple) or len(value) > MOST_NAMES:
            self.wrong(where, f"it must be a list of at most {MOST_NAMES:,}.")
            return []
        return list(value)

    def _names(self, value: Any, where: str, *, fold: bool) -> frozenset[str]:
        found = set()
        for item in self._list(value, where):
            if not isinstance(item, str) or not 0 < len(item) <= 300:
                self.wrong(where, "it must hold names of 1 to 300 characters.")
            elif item.lower() == "all" or item == ANY_SERVER:
                found.add(ALL)
            elif item.lower() != "none":
                found.add(item.lower() if fold else item)
            else:
                found.add(NO_ONE)
        return frozenset(found)

    def _one_of(self, value: Any, known: Mapping[str, Any], where: str) -> Any:
        if isinstance(value, str) and value in known:
            return known[value]
        self.wrong(where, f"{value!r} is none of {', '.join(known)}.", did_you_mean(str(value), known))
        return None

    def _set(self, value: Any, known: Mapping[str, Any], where: str) -> frozenset[Any]:
        found = (self._one_of(item, known, where) for item in self._list(value, where))
        return frozenset(item for item in found if item is not None)

    def _attributes(self, value: Any, where: str) -> frozenset[tuple[str, str]]:
        found = set()
        for item in self._list(value, where):
            name = item.get("name") if isinstance(item, Mapping) else None
            wanted = item.get("value") if isinstance(item, Mapping) else None
            if name not in ATTRIBUTES or not isinstance(wanted, str) or set(item) != {"name", "value"}:
                self.wrong(where, f"{item!r} is no attribute.", f"name: {' | '.join(ATTRIBUTES)}, value: TEXT")
            else:
                found.add((str(name), wanted.lower()))
        return frozenset(found)

    def _grant(self, value: Any) -> tuple[bool, frozenset[Control]]:
        where = "grantControls"
        grant = self._object(value, where, ("operator", "builtInControls"))
        controls = self._set(grant.get("builtInControls"), _GRANT, f"{where}.builtInControls")
        operator = grant.get("operator", "AND")
        if operator not in ("AND", "OR"):
            self.wrong(f"{where}.operator", f"{operator!r} is neither AND nor OR.")
        return operator != "OR", controls

    def _session(self, value: Any) -> tuple[int | None, bool]:
        where = "sessionControls"
        session = self._object(value, where, ("signInFrequency", "revoke"))
        revokes = session.get("revoke", False)
        if not isinstance(revokes, bool):
            self.wrong(f"{where}.revoke", "it must be true or false.")
        where += ".signInFrequency"
        known = ("value", "type", "frequencyInterval", "authenticationType", "isEnabled")
        frequency = self._object(session.get("signInFrequency"), where, known)
        if not frequency or frequency.get("isEnabled") is False:
            return None, revokes is True
        if frequency.get("frequencyInterval") == "everyTime":
            return EVERY_TIME_SECONDS, revokes is True
        unit = self._one_of(frequency.get("type"), _UNITS, f"{where}.type") or 1
        number = frequency.get("value")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number * unit <= MAX_FREQUENCY_SECONDS:
            self.wrong(f"{where}.value", f"{number!r} is no number of {frequency.get('type')} up to a year.")
            number = 1
        return number * unit, revokes is True

    # -- what does not go together ----------------------------------------------------------------------------------

    def _rules(self, policy: AccessPolicy, body: Mapping[str, Any]) -> None:
        controls = policy.controls
        if not controls and policy.max_age is None:
            self.wrong("grantControls", "the policy demands nothing.", "Name a control, or sessionControls.")
        if Control.BLOCK in controls and (len(controls) > 1 or policy.max_age is not None):
            self.wrong("grantControls", "block stands alone: nothing can satisfy it.", "Remove the other controls.")
        if Control.PASSWORD_CHANGE in controls:
            if Control.MFA not in controls or not policy.needs_all:
                self.wrong("grantControls", "passwordChange needs mfa beside it, with the operator AND.")
            if not policy.user_risk - {RiskLevel.NONE}:
                self.wrong("conditions.userRiskLevels", "passwordChange needs them: a change ends the user's risk.")
        elif policy.revokes:
            self.wrong("sessionControls.revoke", "it needs passwordChange: sessions end when the change is asked for.")
        if policy.revokes and not policy.asks_for_user:
            self.wrong("conditions.users", "sessions are ended of users only.", 'include: ["All"]')
        comes_alone = not policy.asks_for_user and (policy.modes is None or policy.modes & _ALONE)
        if comes_alone and (controls - {Control.BLOCK} or policy.max_age is not None):
            self.wrong(
                "grantControls",
                "for an agent that acts as itself block is the only control.",
                "Choose users (conditions.users), or credentialModes with a user behind them: obo, agent_user.",
            )
        for level, asks in (("userRiskLevels", policy.user_risk), ("signInRiskLevels", policy.sign_in_risk)):
            if asks and not policy.asks_for_user and policy.state is AccessState.ENABLED:
                self.wrong(f"conditions.{level}", "only users have it.", 'Choose users: include: ["All"].')
        if not any((policy.asks_for_user, policy.agents.include, policy.blueprints.include, policy.attributes)):
            self.wrong("conditions", "the policy is for nobody.", 'Choose users or agents: include: ["All"].')
        unenforced = body.get("unenforced")
        if unenforced is not None and not isinstance(unenforced, Mapping):
            self.wrong("unenforced", "it must be an object.")
        elif unenforced and policy.state is AccessState.ENABLED:
            self.wrong(
                "state",
                f"what the policy says of {', '.join(sorted(map(str, unenforced)))} cannot be enforced here.",
                f"Remove it, or use the state {AccessState.REPORT_ONLY.value} or disabled.",
            )
