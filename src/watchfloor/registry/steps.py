"""What would be different: the state that a manifest declares, record by record, against the state that is.

Pure: values, state, a hasher for secrets, the time and the actor in; steps out. A step holds a record as it is and as
it would be; ``registry.manifest`` shows steps as a plan, or writes them. One computation for both, so that what was
shown is what is done.

Laws (tested): a manifest that was applied gives no steps; the order of items in it makes no difference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from watchfloor.guard.definitions import inspect
from watchfloor.guard.detectors import canary
from watchfloor.model.agents import AgentState, CredentialOwner, PinState, ToolEffect
from watchfloor.model.facts import CanaryFacts, Organization
from watchfloor.registry.cards import with_card
from watchfloor.registry.connector_shape import declared_kind, secrets_of, settings_of
from watchfloor.registry.credentials import maker_credential_id, server_credential_id
from watchfloor.registry.lifecycle import state_after_manifest
from watchfloor.registry.readers import WHERE, Absent
from watchfloor.registry.references import Values, items
from watchfloor.registry.shape import DESCRIPTIVE
from watchfloor.registry.state import State
from watchfloor.storage.changes import differences
from watchfloor.storage.identity_connectors import secret_place
from watchfloor.storage.inventory import Agent, Binding, Tool, ToolServer
from watchfloor.storage.known_names import KnownNames
from watchfloor.storage.people import IdentityProvider, User, without_sessions
from watchfloor.storage.policies import same_policy
from watchfloor.storage.secrets import SecretHasher, agent_secret_purpose
from watchfloor.storage.versions import AgentVersion, KnownVersions

TIMES: Final = ("created_at", "updated_at", "updated_by")
_NOT_PART_OF_A_BUILD: Final = ("state", "owner", "sponsor", "sharedWith", "instances")


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A credential as a plan knows it; ``secret`` is only there while it is to be stored."""

    id: str
    fingerprint: str
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DeclaredConnector:
    """A connector as a plan knows it; ``secrets`` are only those that are to be stored."""

    issuer: str
    kind: str
    settings: Mapping[str, Any]
    fingerprints: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PolicyBody:
    """A policy as declared."""

    id: str
    body: Mapping[str, Any]


Record = (
    Organization
    | IdentityProvider
    | DeclaredConnector
    | User
    | KnownNames
    | CanaryFacts
    | SealedSecret
    | ToolServer
    | Tool
    | Agent
    | AgentVersion
    | Binding
    | PolicyBody
)


@dataclass(frozen=True, slots=True)
class Step:
    """One record that would be created (no ``before``), changed, or deleted (no ``after``)."""

    kind: str
    id: str
    before: Record | None
    after: Record | None


def compute_steps(company: Values, state: State, hasher: SecretHasher, now: datetime, actor: str) -> list[Step]:
    """Steps in the order in which they can be written. ``company`` must be free of problems."""
    return [
        *_organization(company, state),
        *_providers(company, state),
        *_connectors(company, state, hasher),
        *_users(company, state, now),
        *_known_names(company, state),
        *_canaries(company, state),
        *_servers(company, state, hasher, now),
        *_agents(company, state, hasher, now, actor),
        *_policies(company, state),
    ]


def _step(kind: str, record_id: str, before: Record | None, after: Record | None) -> Iterable[Step]:
    if differences(before, after, ignore=TIMES):
        yield Step(kind, record_id, before, after)


def _organization(company: Values, state: State) -> Iterable[Step]:
    declared = company["organization"]
    if declared is not None:
        after = Organization(name=declared["name"], domains=declared["domains"])
        before = state.organization if state.organization != Organization() else None
        yield from _step("organization", "organization", before, after)


def _providers(company: Values, state: State) -> Iterable[Step]:
    for declared in _sorted(company, "identityProviders", "issuer"):
        after = IdentityProvider(
            issuer=declared["issuer"],
            jwks_uri=declared["jwksUri"],
            audience=declared["audience"],
            subject_claim=declared["subjectClaim"],
        )
        yield from _step("provider", after.issuer, state.providers.get(after.issuer), after)


def _connectors(company: Values, state: State, hasher: SecretHasher) -> Iterable[Step]:
    for declared in _sorted(company, "identityProviders", "issuer"):
        kind = declared_kind(declared["connector"]) if declared["connector"] is not None else None
        if kind is None:
            continue
        issuer, values = declared["issuer"], declared["connector"][kind]
        stored = state.connectors.get(issuer)
        kept = stored.fingerprints if stored is not None and stored.kind == kind else {}
        fingerprints: dict[str, str] = {}
        secrets: dict[str, str] = {}
        for name in secrets_of(kind):
            if values[name] is Absent.KEEP:
                fingerprints |= {name: kept[name]} if name in kept else {}
            elif values[name] is not Absent.REMOVE:
                secrets[name] = values[name]
                fingerprints[name] = hasher.hash(secret_place(issuer, name), values[name])
        after = DeclaredConnector(issuer, kind, settings_of(kind, values), fingerprints, secrets)
        before = None
        if stored is not None:
            before = DeclaredConnector(issuer, stored.kind, stored.settings, stored.fingerprints)
        if differences(before, after, ignore=("secrets",)):
            yield Step("connector", issuer, before, after)


def _users(company: Values, state: State, now: datetime) -> Iterable[Step]:
    issuers = {p["issuer"] for p in items(company, "identityProviders")} | set(state.providers)
    for declared in _sorted(company, "users", "id"):
        user_id = declared["id"]
        before = state.users.get(user_id)
        issuer = declared["issuer"] or next(iter(issuers))
        subject = declared["subject"] or user_id
        after = replace(
            before or User(id=user_id, issuer=issuer, subject=subject, updated_at=now),
            issuer=issuer,
            subject=subject,
            name=declared["name"] or user_id,
            upn=declared["upn"],
            groups=declared["groups"],
            department=declared["department"],
            job_title=declared["jobTitle"],
            manager=declared["manager"] or "",
            criticality=declared["criticality"],
            is_break_glass=declared["breakGlass"],
            is_enabled=declared["enabled"],
            updated_at=now,
        )
        connector = state.connectors.get(issuer)
        is_listed = connector is not None and connector.synced_at is not None
        if before is not None and (is_listed or user_id in state.provisioned):
            after = _with_directory(before, after, declared)
        if told := state.told_groups.get(user_id, frozenset()) - {*after.groups}:
            after = replace(after, groups=(*after.groups, *sorted(told)))
        # Somebody who is disabled, or from now on is somebody else's sign-in, keeps no session.
        is_relinked = before is not None and (before.issuer, before.subject) != (issuer, subject)
        if before is not None and (is_relinked or (before.is_enabled and not after.is_enabled)):
            after = without_sessions(after, now)
        yield from _step("user", user_id, before, after)


def _with_directory(before: User, after: User, declared: Values) -> User:
    """``after`` with what the user's identity provider says (its directory, or SCIM), where the manifest says nothing.

    A manifest does not enable whom the provider, or somebody of the SOC, has disabled.
    """
    return replace(
        after,
        name=after.name if declared["name"] else before.name,
        upn=after.upn or before.upn,
        groups=after.groups or before.groups,
        department=after.department or before.department,
        job_title=after.job_title or before.job_title,
        manager=after.manager or before.manager,
        is_enabled=after.is_enabled and before.is_enabled,
    )


def _known_names(company: Values, state: State) -> Iterable[Step]:
    for declared in _sorted(company, "knownNames", "id"):
        after = KnownNames(declared["id"], declared["names"])
        before = state.known_names.get(after.id)
        if before is not None or after.names:
            yield from _step("known-names", after.id, before, after)


def _canaries(company: Values, state: State) -> Iterable[Step]:
    for declared in _sorted(company, "canaries", "id"):
        before, value = state.canaries.get(declared["id"]), declared["value"]
        after = before
        if value is Absent.REMOVE:
            after = None
        elif declared["tool"]:
            after = canary.facts_of(declared["id"], tool=declared["tool"])
        elif value is not Absent.KEEP:
            after = canary.facts_of(declared["id"], value=value)
        if before is not None or after is not None:
            yield from _step("canary", declared["id"], before, after)


# -- tool servers -------------------------------------------------------------------------------------------------


def _credential(
    given: str | Absent, credential_id: str, state: State, hasher: SecretHasher
) -> tuple[str | None, list[Step]]:
    """The id that the credential will be known by (None: there is none), and the step that leads there."""
    stored = state.fingerprints.get(credential_id)
    before = SealedSecret(credential_id, stored) if stored is not None else None
    if given is Absent.KEEP:
        return (credential_id if before else None), []
    if given is Absent.REMOVE:
        return None, [Step("credential", credential_id, before, None)] if before else []
    fingerprint = hasher.hash(credential_id, given)
    if fingerprint == stored:
        return credential_id, []
    return credential_id, [Step("credential", credential_id, before, SealedSecret(credential_id, fingerprint, given))]


def _servers(company: Values, state: State, hasher: SecretHasher, now: datetime) -> Iterable[Step]:
    for declared in _sorted(company, "toolServers", "id"):
        server_id = declared["id"]
        before = state.servers.get(server_id)
        credential_id, credential_steps = _credential(
            declared["credential"], server_credential_id(server_id), state, hasher
        )
        after = replace(
            before or ToolServer(id=server_id, name="", url="", created_at=now, updated_at=now),
            name=declared["name"] or server_id,
            description=declared["description"],
            url=declared["url"],
            is_trusted=declared["trusted"],
            timeout_seconds=declared["timeoutSeconds"],
            credential_id=credential_id,
            updated_at=now,
        )
        yield from credential_steps
        yield from _step("server", server_id, before, after)
        for tool in _sorted(declared, "tools", "name"):
            yield from _tool(server_id, tool, state, now, is_trusted=declared["trusted"])


def _tool(server_id: str, declared: Values, state: State, now: datetime, *, is_trusted: bool) -> Iterable[Step]:
    before = state.tools.get((server_id, declared["name"]))
    after = before or Tool(server_id=server_id, name=declared["name"], updated_at=now)
    if declared["effect"] is not None:
        after = replace(after, effect=ToolEffect(declared["effect"].value))
    after = replace(after, allow_when_stale=declared["allowWhenStale"], updated_at=now)
    if after.pin_state is PinState.UNPINNED and after.observed_hash and inspect(after.definition.get("observed") or {}):
        after = replace(after, pin_state=PinState.CHANGED)  # poisoned, whoever declares it: see ``pinning``
    if after.pin_state is PinState.UNPINNED and after.observed_hash:
        # Found by listing, and now declared: approved as it was listed last. A changed tool stays changed: somebody
        # must have looked at the difference (``pinning.approve_tool``).
        observed = after.definition.get("observed")
        definition = {**after.definition, "approved": observed, "observed": observed}
        after = replace(after, pin=after.observed_hash, pin_state=PinState.PINNED, definition=definition)
    wanted: dict[str, Any] = {}
    if declared["provenance"] is not None:
        wanted["strictness"] = declared["provenance"].value
    if declared["roles"]:
        wanted["roles"] = dict(declared["roles"])
    if declared["trustedFields"]:
        wanted["trusted_fields"] = list(declared["trustedFields"])
    definition = {name: value for name, value in after.definition.items() if name != "wanted"}
    after = replace(after, definition={**definition, "wanted": wanted} if wanted else definition)
    after = with_card(after, is_trusted=is_trusted)
    yield from _step("tool", after.key, before, after)


# -- agents -------------------------------------------------------------------------------------------------------


def _agents(company: Values, state: State, hasher: SecretHasher, now: datetime, actor: str) -> Iterable[Step]:
    for declared in _sorted(company, "agents", "id"):
        known = state.versions.get(declared["id"], KnownVersions())
        version = next_version(declared, known, now, actor)
        before = state.agents.get(declared["id"])
        yield from _step("agent", declared["id"], before, _agent(declared, before, version, hasher, now, actor))
        if version.version != known.live:
            yield Step("version", f"{version.agent_id}/{version.number}", None, version)
        yield from _bindings(declared, state, hasher, now)


def next_version(declared: Values, known: KnownVersions, now: datetime, actor: str) -> AgentVersion:
    """The version that the agent's section ``declared`` makes, as it is numbered and called after those there are."""
    manifest = _normalised(declared)
    build = build_hash(manifest)
    label = _version_label(declared["version"], build, known.hashes)
    return AgentVersion(declared["id"], known.newest + 1, label, build, manifest, now, actor)


def _agent(
    declared: Values,
    before: Agent | None,
    version: AgentVersion,
    hasher: SecretHasher,
    now: datetime,
    actor: str,
) -> Agent:
    secret = declared["secret"]
    secret_hash = before.secret_hash if before else None
    if secret is Absent.REMOVE:
        secret_hash = None
    elif secret is not Absent.KEEP:
        secret_hash = hasher.hash(agent_secret_purpose(declared["id"]), secret)
    new = Agent(
        id=declared["id"], name="", state=AgentState.DRAFT, version="", created_at=now, updated_at=now, updated_by=actor
    )
    return replace(
        before or new,
        name=declared["name"],
        description=declared["description"],
        state=state_after_manifest(before.state if before else None, AgentState(declared["state"].value)),
        version=version.version,
        maker_id=declared["maker"],
        owner_id=declared["owner"] or declared["maker"],
        sponsor_id=declared["sponsor"],
        platform=declared["platform"],
        model=declared["model"],
        secret_hash=secret_hash,
        manifest=version.manifest,
        updated_at=now,
        updated_by=actor,
    )


def _normalised(declared: Values) -> dict[str, Any]:
    """The agent's section without secrets, in one order: what is stored, hashed and compared."""
    return {
        "name": declared["name"],
        "description": declared["description"],
        "version": declared["version"],
        "state": declared["state"].value,
        "maker": declared["maker"],
        "owner": declared["owner"],
        "sponsor": declared["sponsor"],
        "platform": declared["platform"],
        "model": declared["model"],
        "instructions": declared["instructions"],
        "triggers": list(declared["triggers"]),
        "connectedAgents": list(declared["connectedAgents"]),
        "tools": [
            {
                "server": grant["server"],
                "tool": grant["tool"],
                "credential": grant["credential"].value,
                "scope": grant["scope"].value,
            }
            for grant in _sorted(declared, "tools", "server", "tool")
        ],
        # Only what was given, so that builds from before these members existed keep their hash.
        **{name: value for name in DESCRIPTIVE if (value := _described(declared[name])) is not None},
    }


def _described(value: Any) -> Any:
    """A descriptive member as JSON, in one order; None if it says nothing."""
    if isinstance(value, Mapping):
        members = {k: found for k, v in value.items() if k != WHERE and (found := _described(v)) is not None}
        return members or None
    if isinstance(value, tuple):
        found = [described for item in value if (described := _described(item)) is not None]
        return sorted(found, key=lambda item: json.dumps(item, sort_keys=True)) or None
    if isinstance(value, StrEnum):
        return value.value
    return None if value == "" else value


def build_hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of what makes a build: all of the manifest but who answers for it and whether it may be used."""
    build = {k: v for k, v in manifest.items() if k not in _NOT_PART_OF_A_BUILD}
    return hashlib.sha256(json.dumps(build, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _version_label(declared: str, build: str, stored: Mapping[str, str]) -> str:
    """``declared``, unless that names another build already: then with the build's hash, as semantic versions do."""
    return declared if stored.get(declared, build) == build else f"{declared}+{build[:12]}"


def _bindings(declared: Values, state: State, hasher: SecretHasher, now: datetime) -> Iterable[Step]:
    agent_id = declared["id"]
    grants = {(g["server"], g["tool"]): g for g in _sorted(declared, "tools", "server", "tool")}
    for key, binding in sorted(state.bindings.items()):
        if binding.agent_id == agent_id and key[1:] not in grants:
            yield Step("binding", binding.key, binding, None)
            yield from _credential(Absent.REMOVE, maker_credential_id(*key), state, hasher)[1]
    for (server_id, tool), grant in grants.items():
        is_maker = grant["credential"] is CredentialOwner.MAKER
        given = grant["makerCredential"] if is_maker else Absent.REMOVE
        credential_id, credential_steps = _credential(
            given, maker_credential_id(agent_id, server_id, tool), state, hasher
        )
        before = state.bindings.get((agent_id, server_id, tool))
        after = Binding(
            agent_id=agent_id,
            server_id=server_id,
            tool=tool,
            created_at=before.created_at if before else now,
            credential_owner=grant["credential"],
            scope=grant["scope"],
            credential_id=credential_id,
        )
        yield from credential_steps
        yield from _step("binding", after.key, before, after)


def _policies(company: Values, state: State) -> Iterable[Step]:
    for body in sorted(company["policies"], key=lambda b: str(b["id"])):
        current = state.policies.get(body["id"])
        if current is None or not same_policy(current.body, body):
            before = PolicyBody(current.id, current.body) if current else None
            yield Step("policy", body["id"], before, PolicyBody(body["id"], body))


def _sorted(values: Values, name: str, *keys: str) -> list[Values]:
    return sorted(items(values, name), key=lambda item: tuple(item[k] for k in keys))
