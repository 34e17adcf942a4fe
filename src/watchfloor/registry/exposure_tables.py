"""Exposure as hunting sees it: rows of ExposureSnapshots, of which ExposureGraphNodes and ExposureGraphEdges are made.

Above ``exposure`` and ``storage.snapshots``; a job calls it. The rows say what the blast radius walks over, no more and
no less. Nothing of alerts is in them, so whoever may hunt may read them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from watchfloor.registry.exposure import Exposure, Reach, Thing, ThingKind, read_holdings
from watchfloor.storage import snapshots
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.ports import EventLog
from watchfloor.storage.snapshots import Pace, Subject

KIND: Final = "exposure"
DAILY: Final = Pace(again=timedelta(hours=24))
_LONGEST_KEY: Final = 300

CATEGORIES: Final[dict[ThingKind, list[str]]] = {
    ThingKind.USER: ["identity"],
    ThingKind.GROUP: ["identity", "group"],
    ThingKind.AGENT: ["ai_agent"],
    ThingKind.CHILD_AGENT: ["ai_agent"],
    ThingKind.CREDENTIAL: ["credential"],
    ThingKind.TOOL: ["tool"],
    ThingKind.PLATFORM_TOOL: ["tool"],
    ThingKind.SERVER: ["tool_server"],
    ThingKind.DATA: ["data"],
}
_ID_TYPES: Final = {
    ThingKind.USER: "AccountObjectId",
    ThingKind.GROUP: "Group",
    ThingKind.AGENT: "AgentId",
    ThingKind.CHILD_AGENT: "ChildAgent",
    ThingKind.CREDENTIAL: "CredentialId",
    ThingKind.TOOL: "Tool",
    ThingKind.PLATFORM_TOOL: "PlatformTool",
    ThingKind.SERVER: "ServerId",
    ThingKind.DATA: "DataSource",
}


def publish_exposure(control: SqlControlStore, log: EventLog, tenant: str, now: datetime) -> int:
    """Append the row of everything whose properties or edges changed, or that was last shown a day ago; how many.

    What is there no more is shown once, as gone. Safe to run at any time, any number of times, by any number of
    servers. Raises ``Unavailable``; the next run does the rest.
    """
    with control.read() as tx:
        if snapshots.is_published(tx, (KIND,), now):
            return 0
        upto = snapshots.position(tx, now)
        exposure = Exposure(read_holdings(tx))
        known = snapshots.list_snapshots(tx, KIND)
    found = list(subjects(exposure, known))
    done = snapshots.publish(control, log, KIND, found, known, tenant=tenant, now=now, pace=DAILY)
    if done.is_complete:
        snapshots.note_published(control, (KIND,), upto)
    return done.published


def subjects(exposure: Exposure, known: Iterable[str]) -> Iterator[Subject]:
    """A row for each thing; behind them one for each that was ``known`` and is gone."""
    seen = set[str]()
    for thing in exposure.things():
        key = short(thing.id)
        seen.add(key)
        yield Subject(key, {"ExposureSnapshots": [snapshot_row(exposure, thing)]})
    for gone in sorted(set(known) - seen):
        yield Subject(gone, {"ExposureSnapshots": [{"NodeId": gone, "IsGone": True}]}, is_gone=True)


def short(id_: str) -> str:
    """The id of a node; a hash of it where it is longer than what is remembered of it can be."""
    if len(id_) <= _LONGEST_KEY:
        return id_
    return f"{id_.partition(':')[0]}:sha256-{hashlib.sha256(id_.encode('utf-8', 'surrogatepass')).hexdigest()}"


def snapshot_row(exposure: Exposure, thing: Thing) -> dict[str, Any]:
    """Every column but time, tenant and the row's own id."""
    return {
        "NodeId": short(thing.id),
        "NodeLabel": thing.kind.value,
        "NodeName": thing.name,
        "Categories": _json(CATEGORIES[thing.kind]),
        "NodeProperties": _json({"rawData": dict(thing.properties)}),
        "EntityIds": _json([{"type": _ID_TYPES[thing.kind], "id": thing.key}]),
        "Edges": _json([_edge(exposure, reach) for reach in exposure.links(thing.id)]),
        "IsGone": False,
    }


def _edge(exposure: Exposure, reach: Reach) -> dict[str, Any]:
    target = exposure.thing(reach.target)
    source_id, target_id = short(reach.source), short(reach.target)
    return {
        "id": f"{source_id}|{reach.link.value}|{target_id}",
        "label": reach.link.value,
        "target": target_id,
        "targetName": target.name,
        "targetLabel": target.kind.value,
        "targetCategories": CATEGORIES[target.kind],
        "properties": {**reach.properties, "stopped": reach.stopped},
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
