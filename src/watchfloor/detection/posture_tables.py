"""Posture as hunting sees it: rows of PostureSnapshots, of which PostureFindings is made.

Above ``storage.posture``, where scans leave what they found, and ``storage.snapshots``; a job calls it. It judges
nothing: the rows say what the API says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from watchfloor.storage import posture, snapshots
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.ports import EventLog
from watchfloor.storage.posture import AgentPosture, Exemption, Finding, Key
from watchfloor.storage.snapshots import Pace, Subject

KIND: Final = "posture"
DAILY: Final = Pace(again=timedelta(hours=24))


def publish_posture(control: SqlControlStore, log: EventLog, tenant: str, now: datetime) -> int:
    """Append the row of every agent whose posture changed, or was last shown a day ago; how many.

    An agent that is there no more is shown once, as gone. Safe to run at any time, any number of times, by any number
    of servers. Raises ``Unavailable``; the next run does the rest.
    """
    with control.read() as tx:
        if snapshots.is_published(tx, (KIND,), now):
            return 0
        upto = snapshots.position(tx, now)
        names, agents, findings = posture.registered(tx), posture.list_agents(tx), posture.list_findings(tx)
        accepted = {key: one for key, one in posture.list_exceptions(tx).items() if one.expires_at > now}
        known = snapshots.list_snapshots(tx, KIND)
    found = list(_subjects(names, agents, findings.values(), accepted, known))
    done = snapshots.publish(control, log, KIND, found, known, tenant=tenant, now=now, pace=DAILY)
    if done.is_complete:
        snapshots.note_published(control, (KIND,), upto)
    return done.published


def _subjects(
    names: Mapping[str, str],
    agents: Mapping[str, AgentPosture],
    findings: Iterable[Finding],
    accepted: Mapping[Key, Exemption],
    known: Iterable[str],
) -> Iterator[Subject]:
    active: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in findings:
        if one.ended_at is None:
            active[one.agent_id].append(_told(one, accepted.get(one.key)))
    shown = agents.keys() & names.keys()
    for agent_id in sorted(shown):
        row = _row(agents[agent_id], names[agent_id], sorted(active[agent_id], key=lambda told: str(told["indicator"])))
        yield Subject(agent_id, {"PostureSnapshots": [row]})
    for gone in sorted(set(known) - shown):
        yield Subject(gone, {"PostureSnapshots": [{"AgentId": gone, "IsGone": True}]}, is_gone=True)


def _row(one: AgentPosture, name: str, findings: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "AgentId": one.agent_id,
        "AgentName": name,
        "RiskLevel": one.band.value,
        "Likelihood": one.likelihood.value if one.likelihood else "",
        "Impact": one.impact.value if one.impact else "",
        "Reasons": _json(one.reasons),
        "NotAssessed": _json(one.not_assessed),
        "Findings": _json(findings),
        "IsGone": False,
    }


def _told(one: Finding, accepted: Exemption | None) -> dict[str, Any]:
    until = {"exceptedUntil": accepted.expires_at.isoformat()} if accepted else {}
    return {
        "indicator": one.indicator,
        "level": one.level.value,
        "evidence": orjson.loads(one.evidence),
        "since": one.since.isoformat(),
        **until,
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
