"""Manifests: what a file says the company looks like, compared with what is, shown as a plan, applied as a whole.

Above the repositories and the guard's check of policies; the portal's API calls it. ``plan`` and ``apply`` read the
same text the same way; applying what was applied changes nothing. What a file does not mention is left alone, except
that an agent's bindings are exactly those that it lists. It does not read files or variables: secrets arrive as values.

INVARIANT: apply never unblocks an agent, never approves a changed tool, never sends a stored secret to another host.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from watchfloor.guard.policy import check_policy as guard_check_policy
from watchfloor.model.agents import AgentState
from watchfloor.model.errors import Conflict
from watchfloor.model.facts import CanaryFacts, Organization
from watchfloor.registry.document import read_document
from watchfloor.registry.policies import record_set
from watchfloor.registry.problems import ManifestInvalid, Problem, Problems
from watchfloor.registry.readers import WHERE
from watchfloor.registry.references import CheckPolicy, Values, check_references, items
from watchfloor.registry.shape import DESCRIPTIVE, read_company
from watchfloor.registry.state import State, read_state
from watchfloor.registry.steps import TIMES, DeclaredConnector, PolicyBody, Record, SealedSecret, Step, compute_steps
from watchfloor.storage import inventory, people
from watchfloor.storage.canaries import delete_canary, save_canary
from watchfloor.storage.changes import fields_of
from watchfloor.storage.identity_connectors import Connector, find_connector, save_connector, secret_place
from watchfloor.storage.inventory import Agent, Binding, Credential, Tool, ToolServer
from watchfloor.storage.known_names import KnownNames, save_known_names
from watchfloor.storage.people import IdentityProvider, User
from watchfloor.storage.policies import publish_policy
from watchfloor.storage.secrets import SecretHasher, ensure_secret_hasher, secret_hasher
from watchfloor.storage.versions import AgentVersion, add_version

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.vault import Vault

__all__ = ["Applied", "Change", "FieldChange", "ManifestInvalid", "Plan", "Problem", "apply", "plan"]

_HIDDEN: Final = frozenset({*TIMES, "id", "agent_id", "server_id", "tools_listed_at", "tools_list_error", "definition"})
_SHOWN_OF_MANIFEST: Final = ("instructions", "triggers", "connectedAgents", *DESCRIPTIVE)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field, as JSON. Secrets show as fingerprints."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """What would happen to one thing. ``action``: create, update or delete."""

    action: str
    kind: str
    id: str
    fields: tuple[FieldChange, ...] = ()

    @property
    def sign(self) -> str:
        """``+``, ``~`` or ``-``."""
        return {"create": "+", "update": "~", "delete": "-"}[self.action]

    def to_json(self) -> dict[str, Any]:
        """For the API."""
        fields = [{"name": f.name, "before": f.before, "after": f.after} for f in self.fields]
        return {"action": self.action, "sign": self.sign, "kind": self.kind, "id": self.id, "fields": fields}


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a manifest would change now. ``digest`` names these very changes: hand it to ``apply``."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    digest: str
    steps: tuple[Step, ...] = field(default=(), repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return not self.changes

    @property
    def summary(self) -> Mapping[str, int]:
        """How many things would be created, updated and deleted."""
        return {action: sum(c.action == action for c in self.changes) for action in ("create", "update", "delete")}

    def to_json(self) -> dict[str, Any]:
        """For the API and the command line."""
        return {
            "changes": [change.to_json() for change in self.changes],
            "warnings": list(self.warnings),
            "summary": dict(self.summary),
            "digest": self.digest,
        }


@dataclass(frozen=True, slots=True)
class Applied:
    """What was changed. ``policy_set`` is the hash of the policies in force, if policies changed."""

    plan: Plan
    policy_set: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the plan, plus ``applied``."""
        return {**self.plan.to_json(), "applied": True, "policy_set": self.policy_set}


def plan(tx: ControlTx, text: str, vault: Vault, *, check_policy: CheckPolicy = guard_check_policy) -> Plan:
    """What applying ``text`` would change; a reading transaction is enough.

    Raises ``ManifestInvalid`` with everything that is wrong with ``text``.
    """
    # Before the first secret is stored there is no key to hash with; then every secret is new, whatever the hash.
    hasher = secret_hasher(tx, vault) or SecretHasher(os.urandom(32))
    return _plan(tx, text, hasher, check_policy)


def apply(
    tx: ControlTx,
    text: str,
    vault: Vault,
    *,
    expected: str | None = None,
    check_policy: CheckPolicy = guard_check_policy,
) -> Applied:
    """Make the state what ``text`` declares, in the caller's transaction: all of it or, on an exception, none.

    ``expected`` is the digest of a plan that somebody agreed to: ``Conflict`` if the changes would be others by now.
    Raises ``ManifestInvalid``.
    """
    hasher = ensure_secret_hasher(tx, vault)
    planned = _plan(tx, text, hasher, check_policy)
    if expected is not None and expected != planned.digest:
        raise Conflict(
            "the state has changed since this was planned.",
            where="manifest",
            remedy="Look at the new plan, then apply.",
        )
    for step in planned.steps:
        write_step(tx, step, vault)
    policy_set = record_set(tx) if any(step.kind == "policy" for step in planned.steps) else None
    counts = dict(planned.summary)
    tx.audit("manifest:apply", "manifest", {**counts, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    return Applied(planned, policy_set)


def _plan(tx: ControlTx, text: str, hasher: SecretHasher, check_policy: CheckPolicy) -> Plan:
    state = read_state(tx)
    company, warnings = _read(text, state, check_policy)
    steps = tuple(compute_steps(company, state, hasher, tx.now, tx.actor))
    changes = tuple(change for step in steps for change in (_shown(step),) if change)
    # Fingerprints are left out: they differ between a plan and the apply that makes the key they are hashed with.
    named = [[c.action, c.kind, c.id, [[f.name, _digestible(f)] for f in c.fields]] for c in changes]
    digest = hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()
    return Plan(changes, tuple(warnings), digest, steps)


def _read(text: str, state: State, check_policy: CheckPolicy) -> tuple[Values, list[str]]:
    problems = Problems()
    company = read_company(read_document(text), problems)
    warnings = check_references(company, state, problems, check_policy)
    problems.raise_if_any()
    return company, [*warnings, *_stays(company, state)]


def _stays(company: Values, state: State) -> Iterator[str]:
    for agent in items(company, "agents"):
        before = state.agents.get(agent["id"])
        if before is not None and before.state in (AgentState.BLOCKED, AgentState.SUBMITTED, AgentState.RETIRED):
            yield f"{agent[WHERE]}: agent {before.id} is {before.state.value} and stays so."


# -- showing ------------------------------------------------------------------------------------------------------


def _fingerprint(value: str | None) -> str | None:
    return None if value is None else f"fingerprint {value[:12]}"


def _visible(record: Record | None) -> dict[str, Any]:
    """The fields of a record that a person is shown, secrets as fingerprints."""
    if record is None:
        return {}
    if isinstance(record, SealedSecret):
        return {"secret": _fingerprint(record.fingerprint)}
    if isinstance(record, CanaryFacts):
        return {"tool": record.tool, "value": _fingerprint(record.digest or None)}
    if isinstance(record, DeclaredConnector):
        shown = [f"{name} {_fingerprint(found)}" for name, found in sorted(record.fingerprints.items())]
        return {"kind": record.kind, **record.settings, "secret": ", ".join(shown) or None}
    if isinstance(record, PolicyBody):
        return {k: v for k, v in record.body.items() if k != "version"}
    if isinstance(record, AgentVersion):
        return {"version": record.version, "manifest_hash": record.manifest_hash[:12]}
    fields = {k: v for k, v in fields_of(record).items() if k not in _HIDDEN}
    if isinstance(record, User):
        del fields["not_before"]
    if isinstance(record, Tool):
        for name in ("pin", "observed_hash"):
            fields[name] = fields[name][:12]
    if isinstance(record, Agent):
        manifest = fields.pop("manifest")
        fields["secret"] = _fingerprint(fields.pop("secret_hash"))
        fields |= {name: manifest.get(name) for name in _SHOWN_OF_MANIFEST}
        fields["declared_state"] = manifest.get("state")
    return fields


def _shown(step: Step) -> Change | None:
    before, after = _visible(step.before), _visible(step.after)
    action = "create" if step.before is None else "delete" if step.after is None else "update"
    empty: tuple[Any, ...] = (None, "", [], {}, False)
    fields = tuple(
        FieldChange(name, before.get(name), after.get(name))
        for name in {**before, **after}
        if before.get(name) != after.get(name) and (action == "update" or (after or before)[name] not in empty)
    )
    if action == "update" and not fields:
        # Only what people are not shown differs, such as a maker's credential that became another of its fields.
        fields = (FieldChange("details", None, None),)
    return Change(action, step.kind, step.id, fields)


def _digestible(change: FieldChange) -> Any:
    return None if change.name == "secret" else [change.before, change.after]


# -- writing ------------------------------------------------------------------------------------------------------


def _write_credential(tx: ControlTx, record: SealedSecret, vault: Vault) -> None:
    assert record.secret is not None
    sealed = vault.seal(record.secret.encode(), record.id)
    inventory.save_credential(tx, Credential(record.id, "bearer", sealed, record.fingerprint, tx.now))


def _write_connector(tx: ControlTx, record: DeclaredConnector, vault: Vault) -> None:
    stored = find_connector(tx, record.issuer)
    sealed = {name: text for name, text in (stored.sealed if stored else {}).items() if name in record.fingerprints}
    sealed |= {
        name: vault.seal(secret.encode(), secret_place(record.issuer, name)) for name, secret in record.secrets.items()
    }
    made = Connector(record.issuer, record.kind, record.settings, tx.now, tx.actor, sealed, record.fingerprints)
    save_connector(tx, made)


_WRITERS: Final[Mapping[type, Callable[[Any, Any], object]]] = {
    Organization: inventory.save_organization,
    IdentityProvider: people.save_identity_provider,
    User: people.save_user,
    KnownNames: save_known_names,
    CanaryFacts: save_canary,
    ToolServer: inventory.save_server,
    Tool: inventory.save_tool,
    Agent: inventory.save_agent,
    AgentVersion: add_version,
    Binding: inventory.save_binding,
    PolicyBody: lambda tx, record: publish_policy(tx, record.body),
}


def write_step(tx: ControlTx, step: Step, vault: Vault | None = None) -> None:
    """Store what ``step`` leads to. A step that holds a secret needs the ``vault``."""
    if isinstance(step.after, SealedSecret):
        assert vault is not None
        _write_credential(tx, step.after, vault)
    elif isinstance(step.after, DeclaredConnector):
        assert vault is not None
        _write_connector(tx, step.after, vault)
    elif step.after is not None:
        _WRITERS[type(step.after)](tx, step.after)
    elif isinstance(step.before, CanaryFacts):
        delete_canary(tx, step.before.id)
    elif isinstance(step.before, Binding):
        inventory.delete_binding(tx, step.before.agent_id, step.before.server_id, step.before.tool)
    else:
        inventory.delete_credential(tx, cast(SealedSecret, step.before).id)
