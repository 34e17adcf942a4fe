"""Policies: what the organisation does not want, as checked values, and the set of all that are published.

``PolicySet.build`` parses, checks and compiles; the engine asks it which policies a call has to answer to. Conditions
are ``expression.py``'s business, reading a body is ``policy_body.py``'s. Nothing here decides about a call.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from watchfloor.guard import expression, names, policy_body
from watchfloor.guard.codec import Fragments
from watchfloor.guard.content import Limits
from watchfloor.guard.expression import Condition
from watchfloor.guard.problems import Problem
from watchfloor.model.agents import ToolEffect
from watchfloor.model.errors import InputError
from watchfloor.model.facts import Facts, PolicyFacts
from watchfloor.model.verdicts import Effect, Mode, Severity

if TYPE_CHECKING:
    from watchfloor.guard.case import Case

SEMANTICS: Final = 2
"""Part of every policy set's hash; raised when the same policies and inputs would be decided differently."""

_MOST_SELECTIONS: Final = 32_768
_MOST_FUSED: Final = 512


@dataclass(frozen=True, slots=True)
class Scope:
    """Which calls a policy looks at. ``*`` in servers, tools and agents stands for any characters."""

    servers: tuple[str, ...] = ("*",)
    tools: tuple[str, ...] = ("*",)
    agents: tuple[str, ...] = ("*",)
    effects: frozenset[ToolEffect] = frozenset(ToolEffect)

    def covers(self, agent: str, server: str, tool: str, effect: ToolEffect) -> bool:
        """Whether a call of ``tool`` at ``server`` by ``agent`` is looked at."""
        return (
            effect in self.effects
            and any(fnmatchcase(tool, pattern) for pattern in self.tools)
            and any(fnmatchcase(server, pattern) for pattern in self.servers)
            and any(fnmatchcase(agent, pattern) for pattern in self.agents)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """A published policy, checked and compiled."""

    id: str
    version: int
    title: str
    description: str
    mode: Mode
    effect: Effect
    severity: Severity
    tactic: str
    techniques: tuple[str, ...]
    step: str
    """The step that its reasons belong to: ``detectors``, ``policies`` or ``budget``."""
    on_error: str
    """``block`` or ``flag``: what an evaluation without an answer means."""
    scope: Scope
    when: str
    message: str
    redact: tuple[str, ...]
    """Detectors whose redactions an ``effect: redact`` policy applies."""
    blind_spots: str
    surface: str
    """``call``, ``result`` or ``answer``."""
    condition: Condition = field(compare=False, repr=False)
    detail: Mapping[str, Any] = field(compare=False, repr=False)
    """What every reason of this policy carries for alerts and holds: title, tactic, techniques, who may approve."""

    @property
    def asks_alignment(self) -> bool:
        """Whether it wants to know if a call fits what the user asked."""
        return any(name.startswith("alignment.") for name in self.condition.names)


class Reach(NamedTuple):
    """How much a comprehension can meet in one call: items to loop over, characters of the longest string."""

    items: int
    longest: int

    def allows(self, condition: Condition) -> bool:
        """Whether ``condition`` may be evaluated over so much."""
        longest = self.longest if condition.searches else 0
        return expression.cost(condition.depth, self.items, longest) <= expression.MAX_COST


class Group(NamedTuple):
    """Some policies and the programs that are true when any of theirs is."""

    policies: tuple[Policy, ...]
    programs: tuple[Any, ...]
    depth: int

    def is_within(self, reach: Reach) -> bool:
        """Whether all of them together may be evaluated over so much."""
        return not self.depth or all(reach.allows(policy.condition) for policy in self.policies)


class Selection:
    """The policies that calls of one kind answer to, joined.

    ``every`` is all of them, ``groups`` the same in handfuls: when something applies, most handfuls are still ruled out
    by one evaluation each. ``readers`` are the variables that they need.
    """

    __slots__ = ("every", "groups", "readers")

    def __init__(self, policies: tuple[Policy, ...]) -> None:
        self.every = _group(policies)
        size = max(4, math.isqrt(len(policies)))
        handfuls = [policies[start : start + size] for start in range(0, len(policies), size)]
        self.groups = [_group(each) for each in handfuls] if len(handfuls) > 1 else [self.every]
        used = frozenset[str]().union(*(policy.condition.names for policy in policies))
        self.readers = tuple((name, names.BY_NAME[name].read) for name in sorted(used))


def _group(policies: tuple[Policy, ...]) -> Group:
    conditions = [policy.condition for policy in policies]
    depth = max((condition.depth for condition in conditions), default=0)
    return Group(policies, expression.fuse(conditions), depth)


class PolicySet:
    """All published policies at one moment. Immutable; equal sets have equal hashes.

    Which policies concern a kind of calls (the same agent, server, tool, binding) is worked out at the first such call
    and remembered; the memory is bounded and changes no answer.
    """

    __slots__ = (
        "_fused", "_kind", "_on", "_relevant", "_selections", "_settled", "alignment_mode", "fragments", "hash",
        "limits", "members", "policies",
    )  # fmt: skip

    def __init__(self, policies: tuple[Policy, ...], set_hash: str, limits: Limits, surface: str = "call") -> None:
        self.policies = policies
        self._relevant = tuple(policy for policy in policies if policy.surface == surface)
        others = {policy.surface for policy in policies} - {"call"} if surface == "call" else frozenset[str]()
        self._on = {other: PolicySet(policies, set_hash, limits, other) for other in sorted(others)}
        self.hash = set_hash
        self.limits = limits
        modes = {policy.mode for policy in self._relevant if policy.asks_alignment}
        self.alignment_mode = Mode.ENFORCE if Mode.ENFORCE in modes else Mode.AUDIT if modes else None
        """The strictest mode of a policy that asks whether calls fit what the user asked; None: no policy does."""
        self.members: Mapping[str, int] = {policy.id: policy.version for policy in policies}
        self.fragments = Fragments()
        premises = [policy.condition.premise for policy in self._relevant]
        self._settled = sorted(frozenset[str]().union(*(premise.names for premise in premises if premise)))
        facts = {"agent.id", "server.id", "tool.name", "tool.effect", *(names.BY_NAME[n].fact for n in self._settled)}
        self._kind: Callable[[Facts], tuple[Any, ...]] = attrgetter(*sorted(facts))
        self._selections: dict[tuple[Any, ...], Selection] = {}
        self._fused: dict[tuple[str, ...], Selection] = {}

    @classmethod
    def build(cls, published: Iterable[PolicyFacts], limits: Limits = Limits()) -> PolicySet:  # noqa: B008 (frozen)
        """The set of ``published``, in any order. Raises ``InputError`` that lists every problem of every policy."""
        ordered = sorted(published, key=lambda facts: (facts.id, facts.version))
        problems: list[str] = []
        policies: list[Policy] = []
        seen: set[str] = set()
        for facts in ordered:
            if facts.id in seen:
                problems.append(f"policy {facts.id}: is there twice. Publish one version of it.")
                continue
            seen.add(facts.id)
            found = check_policy(facts.body)
            if isinstance(facts.body, Mapping) and not found and facts.body.get("id") != facts.id:
                found = [Problem("id", f"the body says `{facts.body.get('id')}`.", f"It must say `{facts.id}`.")]
            if found:
                problems += [f"policy {facts.id}: {problem}" for problem in found]
            else:
                policies.append(_compile(facts))
        if problems:
            first = problems[0].partition(": ")[0] if len(problems) == 1 else "policies"
            text = problems[0].partition(": ")[2] if len(problems) == 1 else "\n".join(["", *problems])
            raise InputError(text, where=first)
        return cls(tuple(policies), _hash(ordered, limits), limits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PolicySet) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"PolicySet({self.hash[:12]}, {len(self.policies)} policies)"

    def on(self, surface: str) -> PolicySet | None:
        """The same policies, of which those for ``surface`` count; ``None`` where there are none."""
        return self._on.get(surface)

    def select(self, case: Case) -> Selection:
        """The policies that a call answers to, ordered by id. Agent, server, tool and binding must be known.

        Left out are those whose scope does not cover it and those that its agent, server, tool, binding and company
        make false whatever else it says.
        """
        key = self._kind(case.facts)
        selection = self._selections.get(key)
        if selection is None:
            selection = self._choose(case)
            if len(self._selections) >= _MOST_SELECTIONS:
                self._selections.clear()
            self._selections[key] = selection
        return selection

    def _choose(self, case: Case) -> Selection:
        agent, server, tool = case.facts.agent, case.facts.server, case.facts.tool
        assert agent is not None and server is not None and tool is not None, "see judgement.matches"
        settled = {name: names.BY_NAME[name].read(case) for name in self._settled}
        relevant = tuple(
            policy
            for policy in self._relevant
            if policy.scope.covers(agent.id, server.id, tool.name, tool.effect)
            and expression.may_hold(policy.condition.premise, settled)
        )
        ids = tuple(policy.id for policy in relevant)
        selection = self._fused.get(ids)
        if selection is None:
            if len(self._fused) >= _MOST_FUSED:
                self._fused.clear()
            selection = self._fused[ids] = Selection(relevant)
        return selection


def check_policy(body: Any) -> list[Problem]:
    """Everything that keeps ``body`` from being published, at once; empty means that it can be."""
    return policy_body.check(body)


def _hash(ordered: Sequence[PolicyFacts], limits: Limits) -> str:
    content = [SEMANTICS, limits, [[facts.id, facts.version, facts.body] for facts in ordered]]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()


def _compile(facts: PolicyFacts) -> Policy:
    body = facts.body
    scope = body.get("scope") or {}
    title = body["title"]
    tactic = body.get("tactic", "")
    techniques = tuple(body.get("techniques", ()))
    return Policy(
        id=facts.id,
        version=facts.version,
        title=title,
        description=body.get("description", ""),
        mode=Mode(body.get("mode", Mode.ENFORCE)),
        effect=Effect(body["effect"]),
        severity=Severity(body.get("severity", Severity.MEDIUM)),
        tactic=tactic,
        techniques=techniques,
        step=body.get("step", "policies"),
        on_error=body.get("on_error", "block"),
        scope=Scope(
            servers=tuple(scope.get("servers", ("*",))),
            tools=tuple(scope.get("tools", ("*",))),
            agents=tuple(scope.get("agents", ("*",))),
            effects=policy_body.effects(scope.get("effects", ("*",))),
        ),
        when=body["when"],
        message=body["message"],
        redact=tuple(body.get("redact", ())),
        blind_spots=body.get("blind_spots", ""),
        surface=body.get("surface", "call"),
        condition=expression.compile_condition(body["when"]),
        detail={
            "title": title,
            "tactic": tactic,
            "techniques": list(techniques),
            **{name: body[name] for name in ("approvers", "approvals") if name in body},
        },
    )
