"""Plans: what agents do when somebody asks, as data (``data/plans.yaml``), checked when read.

A plan is a list of steps; each step is one of ``call``, ``each``, ``when``, ``hand``, ``obey``, ``say``. This file
knows their shape, ``planner`` what they mean.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from watchfloor_demo import company
from watchfloor_demo.agents.language import PlanError, fill

Step = Mapping[str, Any]

SHAPES: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "call": (frozenset({"call"}), frozenset({"with", "as", "may_fail"})),
    "each": (frozenset({"each", "as", "steps"}), frozenset({"most"})),
    "when": (frozenset({"when", "steps"}), frozenset({"else"})),
    "hand": (frozenset({"hand", "plan"}), frozenset({"with", "as"})),
    "obey": (frozenset({"obey"}), frozenset()),
    "say": (frozenset({"say"}), frozenset()),
}
"""Kind of step -> (members that it must have, members that it may have)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one agent serves one kind of request.

    ``weight`` is how often background traffic plays it (0: never). ``choices`` are values of which one is drawn for
    each conversation; ``asks`` are the user's words, with slots for them.
    """

    id: str
    agent: str
    groups: tuple[str, ...]
    weight: int
    asks: tuple[str, ...]
    choices: Mapping[str, Sequence[Any]]
    steps: tuple[Step, ...]

    def draw(self, rng: random.Random) -> dict[str, Any]:
        """One value for each choice."""
        return {name: rng.choice(list(values)) for name, values in sorted(self.choices.items())}

    def request(self, rng: random.Random, memory: Mapping[str, Any]) -> str:
        """The user's words, empty if nobody asks."""
        return str(fill(rng.choice(self.asks), memory)) if self.asks else ""


def check_steps(steps: Any, where: str) -> tuple[Step, ...]:
    """``steps`` if they are well formed. Raises ``PlanError`` that names the place."""
    if not isinstance(steps, list) or not steps:
        raise PlanError(f"{where}: a list of steps is needed")
    for index, step in enumerate(steps):
        place = f"{where}[{index}]"
        kind = next((k for k in SHAPES if k in step), None) if isinstance(step, Mapping) else None
        if kind is None:
            raise PlanError(f"{place}: a step is one of {', '.join(SHAPES)}")
        needed, allowed = SHAPES[kind]
        wrong = sorted(set(step) - needed - allowed) or sorted(needed - set(step))
        if wrong:
            raise PlanError(f"{place}: {kind} has no business with, or lacks: {', '.join(wrong)}")
        if kind == "call" and step["call"].count(".") != 1:
            raise PlanError(f"{place}: a call names server.tool, not {step['call']!r}")
        for nested in ("steps", "else"):
            if nested in step:
                check_steps(step[nested], f"{place}.{nested}")
    return tuple(steps)


@cache
def plans() -> Mapping[str, Plan]:
    """All plans, by id. Raises ``PlanError``."""
    agents, found = company.agents(), {}
    for plan_id, body in company.read("plans.yaml").items():
        if body["agent"] not in agents:
            raise PlanError(f"{plan_id}: there is no agent {body['agent']}")
        found[plan_id] = Plan(
            id=plan_id,
            agent=body["agent"],
            groups=tuple(body.get("groups", ())),
            weight=int(body.get("weight", 0)),
            asks=tuple(body.get("asks", ())),
            choices=body.get("choices", {}),
            steps=check_steps(body["steps"], f"{plan_id}.steps"),
        )
    return found
