"""Blast radius: what could this agent, user or credential reach, and on which way?

Pure, over ``exposure``. A walk in breadth, first over what nothing stops, then over the rest, so that each thing is
told with the shortest way that is open, or else with what stops it. Each thing is entered once: cycles end.

What is entered and what is only named: an agent *runs on* a credential, but the gateway lets it use it for its own
bindings alone, so the walk names the credential and does not go on from there. It goes on from a credential that is
asked about, and from one that the person who is asked about has given: whoever holds the secret can use it for
everything that runs on it. Making or owning an agent is named as well, and gives nobody its tools.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from watchfloor.registry.exposure import Exposure, Level, Link, Reach, ThingKind

NAMED_ONLY: Final = frozenset({Link.RUNS_ON, Link.MADE, Link.OWNS})
"""Links whose target is told of and not entered."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A thing that is reached. ``stopped``: what refuses it as things stand; empty if a way is open.

    ``depth`` is the number of steps, ``agent`` the last agent on the way, empty if there is none; ``level`` what a tool
    can do at worst.
    """

    id: str
    kind: ThingKind
    step: Reach
    depth: int
    stopped: str
    agent: str
    level: Level | None


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """Everything that ``start`` reaches, the worst first: open ways before stopped ones, pay before read."""

    start: str
    reached: Sequence[Reached]
    way: Mapping[str, Reach | None]
    """The last step of the way to each thing."""

    @property
    def worst(self) -> Level | None:
        """The worst that can be done as things stand; None if nothing can be."""
        return max(
            (r.level for r in self.reached if r.level and not r.stopped), key=lambda level: level.rank, default=None
        )

    def path(self, id_: str) -> list[Reach]:
        """The way to a thing that was reached, from the start."""
        steps: list[Reach] = []
        while (step := self.way[id_]) is not None:
            steps.append(step)
            id_ = step.source
        return steps[::-1]


def blast_radius(exposure: Exposure, start: str) -> BlastRadius:
    """What ``start`` (an id of a user, an agent or a credential) could reach."""
    walk = _Walk(exposure, start)
    walk.run(through_stopped=False)
    walk.run(through_stopped=True)
    return BlastRadius(start, sorted(walk.told(), key=_order), walk.way)


_RANKS: Final = {level: level.rank for level in Level}
_KINDS: Final = {kind: place for place, kind in enumerate((
    ThingKind.TOOL, ThingKind.PLATFORM_TOOL, ThingKind.AGENT, ThingKind.CHILD_AGENT, ThingKind.CREDENTIAL,
    ThingKind.SERVER, ThingKind.DATA, ThingKind.GROUP, ThingKind.USER,
))}  # fmt: skip


def _order(reached: Reached) -> tuple[bool, int, int, int, str]:
    rank = _RANKS[reached.level] if reached.level else -1
    return bool(reached.stopped), -rank, _KINDS[reached.kind], reached.depth, reached.id


class _Walk:
    """``way`` has for each thing the step that led to it, None for the start."""

    def __init__(self, exposure: Exposure, start: str) -> None:
        self.exposure = exposure
        self.way: dict[str, Reach | None] = {start: None}
        self.entered: dict[str, list[Reach]] = {}

    def run(self, *, through_stopped: bool) -> None:
        """Enter everything that can be entered. The second time, over steps that something stops."""
        pending = deque(self.entered or self.way)
        again = set(pending)
        while pending:
            id_ = pending.popleft()
            if id_ not in self.entered:
                self.entered[id_] = self.exposure.links(id_)
            elif id_ not in again:
                continue
            again.discard(id_)
            for reach in self.entered[id_]:
                if reach.stopped and not through_stopped:
                    continue
                if reach.target not in self.way:
                    self.way[reach.target] = reach
                if reach.link not in NAMED_ONLY and reach.target not in self.entered:
                    step = self.way[reach.target]
                    if step is not None and step.link in NAMED_ONLY:
                        self.way[reach.target] = reach  # it was only named until now
                    pending.append(reach.target)

    def told(self) -> Iterator[Reached]:
        """Everything that was reached. A thing comes behind the one that leads to it."""
        known: dict[str, tuple[int, str, str]] = {}
        prefix = ThingKind.AGENT + ":"
        for id_ in self.way:
            self._measure(id_, known, prefix)
        for id_, step in self.way.items():
            if step is not None:
                depth, stopped, agent = known[id_]
                kind = ThingKind(id_.partition(":")[0])
                yield Reached(id_, kind, step, depth, stopped, agent, self.exposure.level(id_))

    def _measure(self, id_: str, known: dict[str, tuple[int, str, str]], prefix: str) -> None:
        """Depth, what stops it, and the last agent before it, for a thing and whatever leads to it."""
        waiting: list[str] = []
        while id_ not in known:
            waiting.append(id_)
            step = self.way[id_]
            if step is None:
                break
            id_ = step.source
        for each in reversed(waiting):
            step = self.way[each]
            if step is None:
                known[each] = (0, "", "")
                continue
            depth, stopped, agent = known[step.source]
            agent = step.source.removeprefix(prefix) if step.source.startswith(prefix) else agent
            known[each] = (depth + 1, stopped or step.stopped, agent)
