"""What the registry holds at one moment, as plain values: what a manifest is compared with.

Above the repositories. A snapshot, read in the caller's transaction; it holds hashes and fingerprints, no secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from watchfloor.model.facts import CanaryFacts, Organization
from watchfloor.storage import inventory, people, policies, provisioning, versions
from watchfloor.storage.canaries import list_canaries
from watchfloor.storage.identity_connectors import Connector, list_connectors
from watchfloor.storage.inventory import Agent, Binding, Tool, ToolServer
from watchfloor.storage.known_names import KnownNames, list_known_names
from watchfloor.storage.people import IdentityProvider, User
from watchfloor.storage.policies import PolicyVersion
from watchfloor.storage.versions import KnownVersions

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a manifest can declare, by id.

    ``versions``: what is known of an agent's versions. ``provisioned``: users that a provider told of by SCIM;
    ``told_groups``: the groups that it put users in.
    """

    organization: Organization = field(default_factory=Organization)
    providers: Mapping[str, IdentityProvider] = field(default_factory=dict)
    connectors: Mapping[str, Connector] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    provisioned: Set[str] = frozenset()
    told_groups: Mapping[str, Set[str]] = field(default_factory=dict)
    known_names: Mapping[str, KnownNames] = field(default_factory=dict)
    canaries: Mapping[str, CanaryFacts] = field(default_factory=dict)
    servers: Mapping[str, ToolServer] = field(default_factory=dict)
    tools: Mapping[tuple[str, str], Tool] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    bindings: Mapping[tuple[str, str, str], Binding] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, KnownVersions] = field(default_factory=dict)
    policies: Mapping[str, PolicyVersion] = field(default_factory=dict)


def read_state(tx: ControlTx) -> State:
    """The state that ``tx`` sees."""
    return State(
        organization=inventory.find_organization(tx),
        providers={p.issuer: p for p in people.list_identity_providers(tx)},
        connectors={c.issuer: c for c in list_connectors(tx)},
        users={u.id: u for u in people.list_users(tx)},
        provisioned=provisioning.list_provisioned(tx),
        told_groups=provisioning.list_group_names(tx),
        known_names={known.id: known for known in list_known_names(tx)},
        canaries={canary.id: canary for canary in list_canaries(tx)},
        servers={s.id: s for s in inventory.list_servers(tx)},
        tools={(t.server_id, t.name): t for t in inventory.list_tools(tx)},
        agents={a.id: a for a in inventory.list_agents(tx)},
        bindings={(b.agent_id, b.server_id, b.tool): b for b in inventory.list_bindings(tx)},
        fingerprints=inventory.list_fingerprints(tx),
        versions=versions.list_known(tx),
        policies={p.id: p for p in policies.current_policies(tx)},
    )
