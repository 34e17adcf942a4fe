"""Blast radius, as the API shows it: what an agent, a user or a credential could reach, and whether it ever did.

Above ``registry.reach``. What is granted is read from the registry; what was used from the activity, for viewers who
may read decisions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel

from watchfloor.detection.steps import clean
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.registry.exposure import Exposure, Level, Reach, Thing, ThingKind, read_holdings, thing_id
from watchfloor.registry.reach import BlastRadius, Reached, blast_radius
from watchfloor.storage.activity import Activity, literal, moment

router = APIRouter(prefix="/api", tags=["registry"])

USED_WITHIN: Final = timedelta(days=30)
_MOST_USES: Final = 50_000
Id = Annotated[str, Query(max_length=600)]


class StepView(BaseModel):
    """One step of the way: ids and names of where it leads from and to, and what refuses it, if anything."""

    source: str
    source_name: str
    link: str
    target: str
    target_name: str
    scope: str
    credential: str
    stopped: str


class ThingView(BaseModel):
    """A thing. ``key`` is its id in the registry."""

    id: str
    kind: ThingKind
    key: str
    name: str
    properties: dict[str, Any]


class ReachedView(ThingView):
    """A thing that can be reached, on which way, and how bad that is. ``stopped``: what refuses it as things stand.

    ``calls`` and ``last_used``: in the last 30 days, through the agents on the way; null where nobody knows.
    """

    effect: str | None
    level: Level | None
    depth: int
    path: list[StepView]
    stopped: str
    calls: int | None
    last_used: datetime | None


class BlastRadiusView(BaseModel):
    """What ``start`` could reach, the worst first. Counts are of everything, ``reached`` is a page of it."""

    start: ThingView
    worst: Level | None
    by_level: dict[Level, int]
    by_kind: dict[ThingKind, int]
    stopped: int
    total: int
    reached: list[ReachedView]
    next: str | None


@dataclass(frozen=True, slots=True)
class _Use:
    calls: int
    last: datetime | None


@router.get("/blast-radius", summary="What an agent, a user or a credential could reach")
def read_blast_radius(
    viewer: Annotated[Viewer, permit(Permission.AGENT_READ)],
    deps: Deps,
    agent: Id = "",
    user: Id = "",
    credential: Id = "",
    after: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> BlastRadiusView:
    """Through bindings, hand-overs, child agents and stored credentials; of exactly one of the three. ``after`` takes
    ``next``. What was used in the last 30 days is told to who may read decisions."""
    given = [
        (kind, key)
        for kind, key in ((ThingKind.AGENT, agent), (ThingKind.USER, user), (ThingKind.CREDENTIAL, credential))
        if key
    ]
    if len(given) != 1:
        where = "agent" if not given else given[1][0].value
        raise InputError("one thing can be asked about.", where=where, remedy="Give agent, user or credential.")
    [(kind, key)] = given
    with deps.control.read() as tx:
        exposure = Exposure(read_holdings(tx))
    start = thing_id(kind, key)
    if not exposure.knows(start):
        raise NotFound(f"there is no {kind.value} {key!r}.", where=kind.value)
    found = blast_radius(exposure, start)
    shown = found.reached[after : after + limit]
    uses = None
    if Permission.DECISION_READ in viewer.permissions:
        uses = _uses(deps.activity, shown, key if kind is ThingKind.USER else "", deps.now() - USED_WITHIN)
    return _view(exposure, found, shown, after, uses)


def _agents_of(reached: Reached) -> list[str]:
    """Through which agents a thing is used: itself, the last one on the way, or those that share the credential."""
    if reached.kind is ThingKind.AGENT:
        return [reached.id.partition(":")[2]]
    if reached.agent:
        return [reached.agent]
    return list(reached.step.properties.get("agents", ()))


def _uses(activity: Activity, shown: Sequence[Reached], user: str, since: datetime) -> dict[tuple[str, str, str], _Use]:
    """Calls that went out since then, by agent, server and tool; of the user alone, if it is about one."""
    kinds = (ThingKind.AGENT, ThingKind.TOOL)
    agents = sorted({agent for reached in shown if reached.kind in kinds for agent in _agents_of(reached)})
    if not agents:
        return {}
    only = f" | where UserId == {literal(user)}" if user else ""
    table = activity.query(
        f"AgentActivity | where Timestamp >= {moment(since)}"
        f' | where ActionType == "ToolCallDecided" and Verdict in ("allow", "redact"){only}'
        f" | where AgentId in ({', '.join(literal(agent) for agent in agents)})"
        " | summarize Calls = count(), Last = max(Timestamp) by AgentId, ServerId, ToolName"
        f" | take {_MOST_USES}",
        _MOST_USES,
    )
    return {
        (row["AgentId"], row["ServerId"], row["ToolName"]): _Use(int(row["Calls"]), row["Last"].astimezone(UTC))
        for row in table.to_pylist()
    }


def _use_of(reached: Reached, uses: Mapping[tuple[str, str, str], _Use]) -> _Use | None:
    agents = set(_agents_of(reached))
    if reached.kind is ThingKind.AGENT:
        found = [use for (agent, _, _), use in uses.items() if agent in agents]
    elif reached.kind is ThingKind.TOOL:
        server, _, tool = reached.id.partition(":")[2].partition("/")
        found = [
            use for (agent, on, name), use in uses.items() if agent in agents and on == server and tool in (name, "*")
        ]
    else:
        return None
    lasts = [use.last for use in found if use.last]
    return _Use(sum(use.calls for use in found), max(lasts, default=None))


def _view(
    exposure: Exposure,
    found: BlastRadius,
    shown: Sequence[Reached],
    after: int,
    uses: Mapping[tuple[str, str, str], _Use] | None,
) -> BlastRadiusView:
    following = after + len(shown)
    names: dict[str, str] = {}

    def name(id_: str) -> str:
        if id_ not in names:
            names[id_] = clean(exposure.thing(id_).name)
        return names[id_]

    is_open = [reached for reached in found.reached if not reached.stopped]
    return BlastRadiusView(
        start=ThingView.model_validate(_told(exposure.thing(found.start))),
        worst=found.worst,
        by_level=dict(Counter(r.level for r in is_open if r.level)),
        by_kind=dict(Counter(r.kind for r in found.reached)),
        stopped=len(found.reached) - len(is_open),
        total=len(found.reached),
        reached=[
            ReachedView.model_validate(
                {
                    **_told(thing),
                    "effect": thing.effect,
                    "level": reached.level,
                    "depth": reached.depth,
                    "path": [_step(step, name(step.source), name(step.target)) for step in found.path(reached.id)],
                    "stopped": reached.stopped,
                    "calls": use.calls if use else None,
                    "last_used": use.last if use else None,
                }
            )
            for reached in shown
            for thing in (exposure.thing(reached.id),)
            for use in ((_use_of(reached, uses) if uses is not None else None),)
        ],
        next=str(following) if following < len(found.reached) else None,
    )


def _told(thing: Thing) -> dict[str, Any]:
    properties = {key: clean(v, 2_000) if isinstance(v, str) else v for key, v in thing.properties.items()}
    return {
        "id": thing.id,
        "kind": thing.kind,
        "key": thing.key,
        "name": clean(thing.name),
        "properties": properties,
    }


def _step(step: Reach, source: str, target: str) -> dict[str, str]:
    return {
        "source": step.source,
        "source_name": source,
        "link": step.link.value,
        "target": step.target,
        "target_name": target,
        "scope": str(step.properties.get("scope", "")),
        "credential": str(step.properties.get("credential", "")),
        "stopped": step.stopped,
    }
