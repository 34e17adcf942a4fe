"""What stands around the alerts of an incident: the agents' cards, names of servers and people, hand-overs.

Above ``storage``, below ``portal``; ``graph`` draws it. Bounded, whatever the incident: cards are made of so many
agents, and what was handed over is asked of so many. Counts of open cases are those that the viewer may see; activity
is read only for viewers who may read decisions, which the caller says by handing in ``activity``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from watchfloor.detection.graph import AgentCard, GrantedTool, HandOver, Surroundings, Tally
from watchfloor.model.agents import CredentialOwner
from watchfloor.model.cases import Alert, EntityKind
from watchfloor.model.people import Permission
from watchfloor.storage import cases, inventory, people
from watchfloor.storage.activity import Activity, literal, moment
from watchfloor.storage.inventory import Agent, Binding

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST_AGENTS: Final = 200
"""Agents of one incident whose cards are made."""
SHOWN_TOOLS: Final = 50
"""Tools on one card; their number is beside them."""
_MOST_NAMES: Final = 500
_MOST_HAND_OVERS: Final = 1_000


def surroundings(
    tx: ControlTx, permissions: Collection[Permission], alerts: Sequence[Alert], activity: Activity | None
) -> Surroundings:
    """What is known around ``alerts``. Without ``activity`` nothing of what was seen is told, only what is declared."""
    found: dict[EntityKind, set[str]] = {kind: set() for kind in EntityKind}
    for each in alerts:
        for entity in each.draft.entities:
            found[entity.kind].add(entity.id)
    of = {kind: sorted(ids) for kind, ids in found.items()}
    agent_ids = of[EntityKind.AGENT][:MOST_AGENTS]
    involved = inventory.find_agents(tx, agent_ids)
    others = sorted({id_ for agent in involved.values() for id_ in agent.manifest.get("connectedAgents", ())})
    connected = inventory.find_agents(tx, [id_ for id_ in others if id_ not in involved][:MOST_AGENTS])
    open_cases = cases.open_cases_by_agent(tx, permissions, [*involved, *connected])
    grants: defaultdict[str, list[Binding]] = defaultdict(list)
    for grant in inventory.list_bindings(tx, agents=involved):
        grants[grant.agent_id].append(grant)
    effects: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for server, name, effect in inventory.list_effects(tx, {g.server_id for some in grants.values() for g in some}):
        effects[server][name] = effect
    none = cases.OpenCases()
    cards = {id_: _card(agent, open_cases.get(id_, none), grants[id_], effects) for id_, agent in involved.items()}
    cards |= {id_: _named(agent, open_cases.get(id_, none)) for id_, agent in connected.items()}
    servers = of[EntityKind.SERVER] + sorted({id_.partition("/")[0] for id_ in of[EntityKind.TOOL]})
    makers = {id_ for card in cards.values() for id_ in card.credentials_of}
    known = people.find_users(tx, sorted(makers | set(of[EntityKind.USER]))[:_MOST_NAMES])
    return Surroundings(
        agents=cards,
        servers={s.id: s.name for s in inventory.find_servers(tx, list(dict.fromkeys(servers))[:_MOST_NAMES]).values()},
        people={user.id: user.upn or user.name for user in known.values()},
        hand_overs=_hand_overs(activity, agent_ids, alerts) if activity and agent_ids and alerts else (),
    )


def _named(agent: Agent, open_cases: cases.OpenCases) -> AgentCard:
    return AgentCard(
        id=agent.id,
        name=agent.name,
        purpose=agent.description,
        state=agent.state.value,
        platform=agent.platform,
        open_alerts=open_cases.alerts,
        open_incidents=open_cases.incidents,
    )


def _card(
    agent: Agent, open_cases: cases.OpenCases, grants: Sequence[Binding], effects: Mapping[str, Mapping[str, str]]
) -> AgentCard:
    tools = {}
    # By name: the binding of a very tool counts before that of every tool, as at the gateway.
    for grant in sorted(grants, key=lambda g: g.tool != "*"):
        known = effects.get(grant.server_id, {})
        for name in (known or ["*"]) if grant.tool == "*" else [grant.tool]:
            tools[grant.server_id, name] = GrantedTool(
                grant.server_id, name, known.get(name, "unknown"), grant.scope.value, grant.credential_owner.value
            )
    uses_makers = any(grant.credential_owner is CredentialOwner.MAKER for grant in grants)
    return replace(
        _named(agent, open_cases),
        tools=tuple(tools[key] for key in sorted(tools)[:SHOWN_TOOLS]),
        tool_count=len(tools),
        connected=tuple(sorted(agent.manifest.get("connectedAgents", ()))),
        children=tuple(sorted(agent.manifest.get("childAgents", ()))),
        credentials_of=(agent.maker_id,) if uses_makers and agent.maker_id else (),
    )


def _hand_overs(activity: Activity, agent_ids: Sequence[str], alerts: Sequence[Alert]) -> list[HandOver]:
    """Hand-overs of these agents while the alerts' activity lasted."""
    start = min(a.draft.first_activity for a in alerts)
    end = max(a.draft.last_activity for a in alerts) + timedelta(microseconds=1)
    table = activity.query(
        f"AgentActivity | where Timestamp >= {moment(start)} and Timestamp < {moment(end)}"
        f" | where AgentId in ({', '.join(literal(id_) for id_ in agent_ids)}) and isnotempty(TargetAgentId)"
        ' | summarize Count = count(), Blocked = countif(Verdict in ("block", "hold")), First = min(Timestamp),'
        " Last = max(Timestamp), Name = take_any(TargetAgentName) by AgentId, TargetAgentId"
        f" | sort by Count desc, AgentId asc, TargetAgentId asc | take {_MOST_HAND_OVERS}",
        _MOST_HAND_OVERS,
    )
    return [
        HandOver(
            source=row["AgentId"],
            target=row["TargetAgentId"],
            target_name=row["Name"] or row["TargetAgentId"],
            tally=Tally(int(row["Count"]), int(row["Blocked"]), 0, _utc(row["First"]), _utc(row["Last"])),
        )
        for row in table.to_pylist()
    ]


def _utc(at: Any) -> datetime | None:
    return at.astimezone(UTC) if isinstance(at, datetime) else None
