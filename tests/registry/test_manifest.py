"""Manifests: what is wrong is said all at once; what is right is applied once; the order of items means nothing."""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity.world import IDP, NOON, SECRET, World, company
from watchfloor.guard.detectors import canary
from watchfloor.guard.problems import Problem as PolicyProblem
from watchfloor.model.agents import AgentState, PinState, ToolEffect
from watchfloor.model.errors import Conflict
from watchfloor.model.facts import (
    AgentFacts,
    BindingFacts,
    CanaryFacts,
    CredentialFacts,
    Kind,
    ServerFacts,
    ToolFacts,
    UserFacts,
)
from watchfloor.registry import inventory as registry
from watchfloor.registry import manifest
from watchfloor.registry.document import read_document
from watchfloor.registry.problems import ManifestInvalid, Problems
from watchfloor.registry.shape import read_company
from watchfloor.registry.state import State, read_state
from watchfloor.registry.steps import build_hash, compute_steps
from watchfloor.storage import versions
from watchfloor.storage.canaries import list_canaries
from watchfloor.storage.secrets import SecretHasher

Edit = Callable[[dict[str, Any]], object]


def edited(*edits: Edit) -> dict[str, Any]:
    """The company, changed."""
    declared = copy.deepcopy(company())
    for edit in edits:
        edit(declared)
    return declared


def problems(world: World, declared: dict[str, Any]) -> dict[str, str]:
    """Everything that is wrong with a manifest, by place."""
    with pytest.raises(ManifestInvalid) as caught:
        world.plan(declared)
    return {p.where: f"{p.message} {p.remedy}".strip() for p in caught.value.problems}


def state_of(world: World) -> State:
    with world.store.read() as tx:
        return read_state(tx)


def agent(declared: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = declared["agents"][0]
    return found


# -- applying -----------------------------------------------------------------------------------------------------


def test_applying_a_company_tells_the_data_plane_all_of_it(world: World) -> None:
    world.apply()
    griffin = UserFacts.from_json(world.facts(Kind.USER)["griffin"])
    assert (griffin.name, griffin.upn, griffin.groups, griffin.is_enabled) == (
        "Griffin Vale",
        "griffin@zava.example",
        ("billing",),
        True,
    )
    assert world.facts(Kind.ORGANIZATION)[""] == {"name": "Zava", "domains": ["zava.example"]}
    mail = ServerFacts.from_json(world.facts(Kind.SERVER)["mail"])
    assert (mail.url, mail.is_trusted, mail.credential_id) == ("http://127.0.0.1:7731/mcp", False, "server/mail")
    send = ToolFacts.from_json(world.facts(Kind.TOOL)["mail/send_email"])
    assert (send.effect, send.pin_state, send.pin) == (ToolEffect.SEND, PinState.UNPINNED, "")
    billing = AgentFacts.from_json(world.facts(Kind.AGENT)["customer-billing"])
    assert (billing.state, billing.version, billing.maker_id, billing.owner_id) == (
        AgentState.PUBLISHED,
        "3",
        "ada",
        "ada",
    )
    bindings = {key: BindingFacts.from_json(body) for key, body in world.facts(Kind.BINDING).items()}
    assert {key: (b.credential_owner.value, b.scope.value, b.credential_id) for key, b in bindings.items()} == {
        "customer-billing/mail/send_email": ("app", "write", None),
        "customer-billing/mail/search_mail": ("app", "read", None),
        "customer-billing/knowledge/*": ("maker", "write", "binding/customer-billing/knowledge/*"),
        "customer-billing/customers/*": ("user", "read", None),
    }


def test_credentials_are_sealed_for_the_workers_and_open_only_in_their_place(world: World) -> None:
    world.apply()
    sealed = {key: CredentialFacts.from_json(body) for key, body in world.facts(Kind.CREDENTIAL).items()}
    assert world.vault.unseal(sealed["server/mail"].sealed, "server/mail") == b"mail-app-credential"
    maker = "binding/customer-billing/knowledge/*"
    assert world.vault.unseal(sealed[maker].sealed, maker) == b"ada-knowledge-credential"


def test_applying_again_changes_nothing_and_bothers_no_worker(world: World) -> None:
    world.apply()
    revision, _ = world.store.read_projection(0)
    before = state_of(world)
    assert world.plan().is_empty
    assert world.apply().plan.is_empty
    assert world.store.read_projection(0)[0] == revision
    assert state_of(world) == before


def test_what_a_manifest_does_not_mention_is_left_alone(world: World) -> None:
    world.apply()
    before = state_of(world)
    head = {"apiVersion": "watchfloor/v1", "kind": "Company"}
    assert world.plan(head).is_empty
    assert world.apply({**head, "users": [{"id": "new"}]}).plan.summary == {"create": 1, "update": 0, "delete": 0}
    after = state_of(world)
    assert after.agents == before.agents and after.bindings == before.bindings and after.servers == before.servers


def test_the_bindings_of_a_listed_agent_are_exactly_those_listed(world: World) -> None:
    world.apply()
    world.apply(edited(lambda d: agent(d).update(tools=[{"server": "mail", "tool": "search_mail"}])))
    assert set(world.facts(Kind.BINDING)) == {"customer-billing/mail/search_mail"}
    # The maker's credential has no use any more, so it is gone too.
    assert set(world.facts(Kind.CREDENTIAL)) == {"server/mail"}
    assert [e["subject"] for e in world.audit("binding:delete")] == [
        "binding/customer-billing/customers/*",
        "binding/customer-billing/knowledge/*",
        "binding/customer-billing/mail/send_email",
    ]


def test_an_absent_secret_is_kept_and_null_removes_it(world: World) -> None:
    world.apply()
    without = edited(lambda d: d["toolServers"][0].pop("credential"), lambda d: agent(d).pop("secret"))
    assert world.plan(without).is_empty
    removed = edited(lambda d: d["toolServers"][0].update(credential=None), lambda d: agent(d).update(secret=None))
    assert "has no secret" in world.plan(removed).warnings[0]
    world.apply(removed)
    assert "server/mail" not in world.facts(Kind.CREDENTIAL)
    assert ServerFacts.from_json(world.facts(Kind.SERVER)["mail"]).credential_id is None
    assert state_of(world).agents["customer-billing"].secret_hash is None


def test_a_changed_secret_shows_as_fingerprints_and_nowhere_in_clear(world: World) -> None:
    world.apply()
    declared = edited(
        lambda d: d["toolServers"][0].update(credential={"value": "another-credential"}),
        lambda d: agent(d).update(secret={"value": "another-" + SECRET}),
    )
    changes = {(c.kind, c.id): c for c in world.plan(declared).changes}
    assert set(changes) == {("credential", "server/mail"), ("agent", "customer-billing")}
    for change in changes.values():
        (field,) = change.fields
        assert field.name == "secret" and field.before.startswith("fingerprint ") and field.before != field.after
    applied = world.apply(declared)
    text = f"{applied.plan} {applied.to_json()} {world.audit()} {state_of(world)}"
    for secret in ("another-credential", SECRET, "mail-app-credential", "ada-knowledge-credential"):
        assert secret not in text
    world.store.close()
    content = b"".join(p.read_bytes() for p in world.directory.glob("control.db*"))
    for secret in ("another-credential", SECRET, "ada-knowledge-credential"):
        assert secret.encode() not in content


def test_the_same_secret_in_two_places_does_not_look_the_same(world: World) -> None:
    world.apply(edited(lambda d: d["toolServers"][1].update(credential={"value": "mail-app-credential"})))
    fingerprints = state_of(world).fingerprints
    assert fingerprints["server/mail"] != fingerprints["server/knowledge"]


def test_a_plan_that_somebody_agreed_to_is_applied_only_if_it_still_is_the_plan(world: World) -> None:
    text = yaml.safe_dump(company())
    agreed = world.plan().digest
    world.apply({"apiVersion": "watchfloor/v1", "kind": "Company", "organization": {"name": "Other"}})
    with pytest.raises(Conflict, match="changed since"), world.store.tx("root") as tx:
        manifest.apply(tx, text, world.vault, expected=agreed)
    with world.store.tx("root") as tx:
        manifest.apply(tx, text, world.vault, expected=world_plan_digest(world))
    assert world.plan().is_empty


def world_plan_digest(world: World) -> str:
    """The digest that a person would have agreed to now."""
    import threading

    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(world.plan().digest))
    reader.start()
    reader.join()
    return found[0]


def test_a_failure_in_the_middle_leaves_nothing_behind(world: World) -> None:
    class Interrupted(Exception):
        pass

    before = state_of(world)
    with pytest.raises(Interrupted), world.store.tx("root") as tx:
        manifest.apply(tx, yaml.safe_dump(company()), world.vault)
        raise Interrupted
    assert state_of(world) == before
    assert world.audit() == []


def test_who_applied_what_is_in_the_audit_log(world: World) -> None:
    world.apply(actor="local-admin")
    assert {e["actor"] for e in world.audit()} == {"local-admin"}
    entry = world.audit("manifest:apply")[-1]
    assert entry["detail"]["create"] == 18
    created = {e["subject"]: e["detail"] for e in world.audit("agent:update")}
    assert created["agent/customer-billing"]["after"]["name"] == "Customer Billing Agent"
    assert created["agent/customer-billing"]["after"]["secret_hash"] == "(secret)"


# -- agents: versions and state -----------------------------------------------------------------------------------


def test_a_changed_agent_is_a_new_version_and_the_old_one_is_kept(world: World) -> None:
    world.apply()
    world.apply(edited(lambda d: agent(d).update(version="4", instructions="Be polite.")))
    with world.store.read() as tx:
        assert [(v.number, v.version, v.state) for v in versions.list_versions(tx, "customer-billing")] == [
            (1, "3", "superseded"),
            (2, "4", "live"),
        ]
    assert AgentFacts.from_json(world.facts(Kind.AGENT)["customer-billing"]).version == "4"


def test_a_change_under_the_same_version_is_told_apart(world: World) -> None:
    world.apply()
    changed = edited(lambda d: agent(d).update(instructions="Be polite."))
    world.apply(changed)
    label = AgentFacts.from_json(world.facts(Kind.AGENT)["customer-billing"]).version
    assert label.startswith("3+") and len(label) == 14
    assert world.plan(changed).is_empty
    world.apply()  # and back
    assert AgentFacts.from_json(world.facts(Kind.AGENT)["customer-billing"]).version == "3"
    with world.store.read() as tx:
        found = versions.list_versions(tx, "customer-billing")
    assert [(v.number, v.version) for v in found] == [(1, "3"), (2, label), (3, "3")]
    assert [v.state for v in found] == ["superseded", "superseded", "live"]


def test_another_owner_state_or_secret_is_no_new_version(world: World) -> None:
    world.apply()
    world.apply(
        edited(lambda d: agent(d).update(owner="lin", sponsor="ada", state="draft", secret={"value": "new-" + SECRET}))
    )
    facts = AgentFacts.from_json(world.facts(Kind.AGENT)["customer-billing"])
    assert (facts.version, facts.owner_id, facts.state) == ("3", "lin", AgentState.DRAFT)


DESCRIBED: dict[str, Any] = {
    "sharedWith": ["griffin", "group:billing", "*"],
    "signIn": {"users": "integrated", "when": "as-needed"},
    "channels": ["Teams", "Web"],
    "generativeOrchestration": False,
    "knowledge": [{"name": "Handbook", "url": "https://zava.example/handbook"}, {"name": "Archive"}],
    "topics": [
        {"name": "Rates", "requests": ["https://rates.example"], "tools": [{"name": "Mail", "credential": "maker"}]}
    ],
    "platformTools": [{"name": "Orders", "kind": "mcp", "tools": ["b", "a"], "inputs": [{"name": "to", "value": "x"}]}],
    "childAgents": ["Wording"],
    "instances": 3,
    "platformIds": {"environment": "production"},
}
"""Members that describe an agent, in no order."""


def test_what_describes_an_agent_is_kept_in_one_order_without_what_says_nothing(world: World) -> None:
    declared = edited(lambda d: agent(d).update(copy.deepcopy(DESCRIBED)))
    world.apply(declared)
    assert world.plan(declared).is_empty
    stored = state_of(world).agents["customer-billing"].manifest
    assert stored["sharedWith"] == ["*", "griffin", "group:billing"]
    assert [k["name"] for k in stored["knowledge"]] == ["Archive", "Handbook"] and "kind" not in stored["knowledge"][0]
    assert stored["platformTools"] == [
        {"name": "Orders", "kind": "mcp", "tools": ["a", "b"], "inputs": [{"name": "to", "value": "x"}]}
    ]
    assert (stored["generativeOrchestration"], stored["platformIds"]) == (False, {"environment": "production"})
    assert "skills" not in stored

    def reversed_lists(declared: dict[str, Any]) -> None:
        for member in ("sharedWith", "channels", "knowledge"):
            agent(declared)[member].reverse()

    assert world.plan(edited(lambda d: agent(d).update(copy.deepcopy(DESCRIBED)), reversed_lists)).is_empty


def test_whom_an_agent_is_shared_with_is_no_new_version_and_what_it_knows_is(world: World) -> None:
    world.apply()
    world.apply(edited(lambda d: agent(d).update(sharedWith=["*"], instances=2)))
    assert AgentFacts.from_json(world.facts(Kind.AGENT)["customer-billing"]).version == "3"
    changed = edited(lambda d: agent(d).update(knowledge=[{"name": "Handbook"}]))
    (shown,) = (c for c in world.plan(changed).changes if c.kind == "agent")
    assert {f.name for f in shown.fields} >= {"knowledge", "sharedWith"}
    world.apply(changed)
    assert AgentFacts.from_json(world.facts(Kind.AGENT)["customer-billing"]).version.startswith("3+")


def test_a_build_from_before_these_members_keeps_its_hash() -> None:
    before = {
        "name": "A", "description": "", "version": "1", "state": "published", "maker": None, "owner": None,
        "sponsor": None, "platform": "", "model": "", "instructions": "", "triggers": [], "connectedAgents": [],
        "tools": [],
    }  # fmt: skip
    text = yaml.safe_dump({"apiVersion": "watchfloor/v1", "kind": "Company", "agents": [{"id": "a", "name": "A"}]})
    values = read_company(read_document(text), Problems())
    steps = list(compute_steps(values, State(), SecretHasher(b"k" * 32), NOON, "root"))
    (version,) = (step.after for step in steps if isinstance(step.after, versions.AgentVersion))
    assert (version.manifest, version.manifest_hash) == (before, build_hash(before))


def test_a_server_that_a_command_starts_has_no_address(world: World) -> None:
    declared = edited(lambda d: d["toolServers"].append({"id": "files", "url": "stdio:files"}))
    world.apply(declared)
    assert world.plan(declared).is_empty
    assert ServerFacts.from_json(world.facts(Kind.SERVER)["files"]).url == "stdio:files"


def test_a_blocked_agent_stays_blocked_whatever_is_applied(world: World) -> None:
    world.apply()
    with world.store.tx("soc") as tx:
        registry.block(tx, "customer-billing", "jailbreak")
    changed = edited(lambda d: agent(d).update(version="4"))
    assert any("is blocked and stays so" in w for w in world.plan(changed).warnings)
    for declared in (changed, edited(lambda d: agent(d).update(state="draft")), company()):
        world.apply(declared)
        assert AgentFacts.from_json(world.facts(Kind.AGENT)["customer-billing"]).state is AgentState.BLOCKED
    assert world.plan().is_empty


def test_an_agent_goes_from_draft_to_published_and_back(world: World) -> None:
    draft = edited(lambda d: agent(d).update(state="draft"))
    for declared, state in ((draft, AgentState.DRAFT), (company(), AgentState.PUBLISHED), (draft, AgentState.DRAFT)):
        world.apply(declared)
        assert AgentFacts.from_json(world.facts(Kind.AGENT)["customer-billing"]).state is state


# -- users --------------------------------------------------------------------------------------------------------


def test_disabling_a_user_or_giving_the_sign_in_to_another_ends_the_sessions(world: World) -> None:
    world.apply()
    world.apply(edited(lambda d: d["users"][0].update(enabled=False)))
    facts = UserFacts.from_json(world.facts(Kind.USER)["griffin"])
    assert (facts.is_enabled, facts.epoch) == (False, 2) and facts.not_before is not None
    world.apply()
    facts = UserFacts.from_json(world.facts(Kind.USER)["griffin"])
    assert (facts.is_enabled, facts.epoch) == (True, 2)
    world.apply(edited(lambda d: d["users"][0].update(subject="someone-else")))
    assert UserFacts.from_json(world.facts(Kind.USER)["griffin"]).epoch == 3
    world.apply(edited(lambda d: d["users"][0].update(subject="someone-else", name="G. Vale")))
    assert UserFacts.from_json(world.facts(Kind.USER)["griffin"]).epoch == 3


def test_applying_does_not_undo_a_revocation(world: World) -> None:
    from watchfloor.identity import sessions

    world.apply()
    with world.store.tx("soc") as tx:
        sessions.revoke_user(tx, "griffin", "stolen", require_password_reset=True)
    world.apply(edited(lambda d: d["users"][0].update(name="G. Vale")))
    facts = UserFacts.from_json(world.facts(Kind.USER)["griffin"])
    assert (facts.epoch, facts.must_reset_password, facts.name) == (2, True, "G. Vale")


# -- a stored secret goes nowhere else ----------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1], ids=["app credential", "maker's credential"])
def test_a_server_with_a_stored_secret_does_not_move_to_another_host(world: World, index: int) -> None:
    world.apply()

    def move(declared: dict[str, Any]) -> None:
        declared["toolServers"][index]["url"] = "https://mallory.example/mcp"
        declared["toolServers"][index].pop("credential", None)
        for grant in agent(declared)["tools"]:
            grant.pop("makerCredential", None)

    found = problems(world, edited(move))
    assert f"toolServers[{index}].url" in found
    assert "moves to another host" in found[f"toolServers[{index}].url"]


def test_a_server_moves_when_its_secret_is_given_again_or_removed(world: World) -> None:
    world.apply()
    world.apply(edited(lambda d: d["toolServers"][0].update(url="https://mail.zava.example/mcp")))
    world.apply(edited(lambda d: d["toolServers"][0].update(url="https://mail2.zava.example/mcp", credential=None)))
    world.apply(edited(lambda d: d["toolServers"][0].update(url="https://mail3.zava.example/mcp", credential=None)))
    assert ServerFacts.from_json(world.facts(Kind.SERVER)["mail"]).url == "https://mail3.zava.example/mcp"


def test_another_path_on_the_same_host_needs_no_secret(world: World) -> None:
    world.apply()

    def elsewhere(declared: dict[str, Any]) -> None:
        declared["toolServers"][0]["url"] = "http://127.0.0.1:7731/v2/mcp"
        del declared["toolServers"][0]["credential"]

    world.apply(edited(elsewhere))
    assert ServerFacts.from_json(world.facts(Kind.SERVER)["mail"]).url.endswith("/v2/mcp")


# -- problems -----------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_said_at_once_with_line_and_nearest_name(world: World) -> None:
    text = """\
apiVersion: watchfloor/v1
kind: Compny
identityProviders:
  - {issuer: "https://login.zava.example", jwksUri: "https://login.zava.example/jwks", audience: watchfloor}
users:
  - {id: ada, fullname: Ada}
  - {id: Ada Byrne}
toolServers:
  - id: mail
    url: http://127.0.0.1:7731/mcp
    tools:
      - {name: send_email, effect: sned}
agents:
  - id: billing
    name: Billing
    maker: adda
    tools:
      - server: mial
        tool: send_email
      - {server: mail, tool: send_mail, scope: write}
"""
    with pytest.raises(ManifestInvalid) as caught, world.store.read() as tx:
        manifest.plan(tx, text, world.vault)
    assert [str(p) for p in caught.value.problems] == [
        "kind (line 2): 'Compny' is not known. Write Company.",
        "users[0].fullname (line 6): user has no such member. Did you mean 'name'?",
        "users[1].id (line 7): 'Ada Byrne' cannot be an id. Use 1 to 64 lower-case letters, digits, '.', '_' and '-'.",
        "toolServers[0].tools[0].effect (line 12): 'sned' is not possible here. "
        "Possible: read, create, update, delete, send, pay.",
        "agents[0].maker (line 16): there is no user 'adda'. Did you mean 'ada'?",
        "agents[0].tools[0].server (line 18): there is no tool server 'mial'. Did you mean 'mail'?",
        "agents[0].tools[1].tool (line 20): tool server 'mail' has no tool 'send_mail'. Did you mean 'send_email'?",
    ]
    assert str(caught.value).startswith("manifest: 7 problems:\n  kind (line 2)")
    assert caught.value.problems[0].to_json()["line"] == 2


BAD: dict[str, tuple[Edit, str, str]] = {
    "no apiVersion": (lambda d: d.pop("apiVersion"), "apiVersion", "is missing"),
    "future apiVersion": (lambda d: d.update(apiVersion="watchfloor/v2"), "apiVersion", "Write watchfloor/v1"),
    "unknown section": (lambda d: d.update(tolServers=[]), "tolServers", "Did you mean 'toolServers'?"),
    "list expected": (lambda d: d.update(users={"id": "x"}), "users", "must be a list"),
    "mapping expected": (lambda d: d.update(users=["x"]), "users[0]", "must be a mapping"),
    "user twice": (lambda d: d["users"].append({"id": "ada"}), "users[3].id", "stands in users[1] already"),
    "agent twice": (lambda d: d["agents"].append(dict(agent(d))), "agents[1].id", "stands in agents[0] already"),
    "sign-in twice": (lambda d: d["users"][1].update(subject="griffin"), "users[1].subject", "One sign-in is one user"),
    "provider unknown": (
        lambda d: d["users"][0].update(issuer="https://login.zava.exampel"),
        "users[0].issuer",
        f"Did you mean '{IDP}'?",
    ),
    "no provider": (lambda d: d.pop("identityProviders"), "users[0].issuer", "Add one to identityProviders"),
    "name that is a boolean": (lambda d: d["users"][0].update(name=True), "users[0].name", "must be text"),
    "name too long": (lambda d: d["users"][0].update(name="x" * 201), "users[0].name", "200 is the most"),
    "enabled that is text": (lambda d: d["users"][0].update(enabled="sure"), "users[0].enabled", "true or false"),
    "domain": (lambda d: d["organization"].update(domains=["a b"]), "organization.domains[0]", "must be a domain"),
    "server without url": (lambda d: d["toolServers"][0].pop("url"), "toolServers[0].url", "is missing"),
    "metadata service": (
        lambda d: d["toolServers"][1].update(url="http://169.254.169.254/mcp"),
        "toolServers[1].url",
        "must not be called",
    ),
    "file url": (lambda d: d["toolServers"][1].update(url="file:///etc/passwd"), "toolServers[1].url", "http://"),
    "url with password": (
        lambda d: d["toolServers"][1].update(url="https://a:b@c/"),
        "toolServers[1].url",
        "credentials",
    ),
    "keys over plain http": (
        lambda d: d["identityProviders"][0].update(jwksUri="http://login.zava.example/jwks"),
        "identityProviders[0].jwksUri",
        "https://",
    ),
    "timeout": (
        lambda d: d["toolServers"][0].update(timeoutSeconds=0),
        "toolServers[0].timeoutSeconds",
        "between 1 and 600",
    ),
    "tool twice": (
        lambda d: d["toolServers"][0]["tools"].append({"name": "send_email"}),
        "toolServers[0].tools[2].name",
        "already",
    ),
    "stale send": (
        lambda d: d["toolServers"][0]["tools"][0].update(allowWhenStale=True),
        "toolServers[0].tools[0].allowWhenStale",
        "only read",
    ),
    "effect unknown": (
        lambda d: d["toolServers"][0]["tools"][0].update(effect="unknown"),
        "toolServers[0].tools[0].effect",
        "Possible: read",
    ),
    "short secret": (
        lambda d: agent(d).update(secret={"value": "short"}),
        "agents[0].secret",
        "at least 32 characters",
    ),
    "secret as text": (lambda d: agent(d).update(secret=SECRET), "agents[0].secret", "{value: …}"),
    "secret from env": (lambda d: agent(d).update(secret={"env": "X"}), "agents[0].secret", "watchfloor apply"),
    "secret of two lines": (
        lambda d: d["toolServers"][0].update(credential={"value": "a\nb"}),
        "toolServers[0].credential",
        "one line",
    ),
    "state blocked": (lambda d: agent(d).update(state="blocked"), "agents[0].state", "Possible: published, draft"),
    "owner unknown": (lambda d: agent(d).update(owner="linn"), "agents[0].owner", "Did you mean 'lin'?"),
    "connected to nobody": (
        lambda d: agent(d).update(connectedAgents=["customer-biling"]),
        "agents[0].connectedAgents",
        "Did you mean 'customer-billing'?",
    ),
    "binding twice": (
        lambda d: agent(d)["tools"].append({"server": "mail", "tool": "send_email"}),
        "agents[0].tools[4]",
        "already",
    ),
    "credential of nobody": (
        lambda d: agent(d)["tools"][0].update(credential="mine"),
        "agents[0].tools[0].credential",
        "Possible: user, maker, app",
    ),
    "maker without credential": (
        lambda d: agent(d)["tools"][2].pop("makerCredential"),
        "agents[0].tools[2].makerCredential",
        "is missing",
    ),
    "credential without maker": (
        lambda d: agent(d)["tools"][0].update(makerCredential={"value": "x"}),
        "agents[0].tools[0].makerCredential",
        "has no use with credential: app",
    ),
    "tool with spaces": (
        lambda d: agent(d)["tools"][0].update(tool="send email"),
        "agents[0].tools[0].tool",
        "no spaces",
    ),
    "policy that is none": (lambda d: d.update(policies=[3]), "policies[0]", "must be a mapping"),
    "shared with a typo": (
        lambda d: agent(d).update(sharedWith=["grifin"]),
        "agents[0].sharedWith",
        "Did you mean 'griffin'?",
    ),
    "shared with nobody": (lambda d: agent(d).update(sharedWith=["group:"]), "agents[0].sharedWith[0]", "group:NAME"),
    "sign-in of no kind": (
        lambda d: agent(d).update(signIn={"when": "always"}),
        "agents[0].signIn.users",
        "is missing",
    ),
    "platform tool without a name": (
        lambda d: agent(d).update(platformTools=[{"kind": "flow"}]),
        "agents[0].platformTools[0].name",
        "is missing",
    ),
    "half an instance": (lambda d: agent(d).update(instances=0.5), "agents[0].instances", "whole number"),
    "canary that is nothing": (
        lambda d: d.update(canaries=[{"id": "page"}]),
        "canaries[0]",
        "needs a value or a tool",
    ),
    "canary that is two things": (
        lambda d: d.update(canaries=[{"id": "page", "tool": "mail/x", "value": {"value": "Zebra-7f3a-Lagoon"}}]),
        "canaries[0]",
        "not both",
    ),
    "canary that may stand anywhere": (
        lambda d: d.update(canaries=[{"id": "page", "value": {"value": "xxxxxxxxxxxxxxxx"}}]),
        "canaries[0].value",
        "6 different characters",
    ),
    "canary that is too short": (
        lambda d: d.update(canaries=[{"id": "page", "value": {"value": "a1b2c3"}}]),
        "canaries[0].value",
        "at least 12 characters",
    ),
    "canary twice": (
        lambda d: d.update(canaries=[{"id": "page", "tool": "mail/x"}, {"id": "page", "tool": "mail/y"}]),
        "canaries[1].id",
        "stands in canaries[0] already",
    ),
    "canary of no server": (
        lambda d: d.update(canaries=[{"id": "page", "tool": "mial/x"}]),
        "canaries[0].tool",
        "Did you mean 'mail'?",
    ),
    "standard input without a name": (
        lambda d: d["toolServers"][1].update(url="stdio:"),
        "toolServers[1].url",
        "http://",
    ),
}


@pytest.mark.parametrize(("edit", "where", "words"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_named_with_its_place_and_its_remedy(world: World, edit: Edit, where: str, words: str) -> None:
    found = problems(world, edited(edit))
    assert where in found, found
    assert words in found[where]


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: agent(d).update(version=4),
        lambda d: agent(d).update(description=None),
        lambda d: d["users"][0].update(enabled=False),
        lambda d: d["toolServers"][0].update(timeoutSeconds=2.5),
        lambda d: d.update(policies=[]),
        lambda d: d.update(agents=[]),
        lambda d: d["toolServers"][0]["tools"][1].update(allowWhenStale=True),
        lambda d: agent(d)["tools"].append({"server": "customers", "tool": "get_customer"}),
        lambda d: agent(d).update(connectedAgents=["customer-billing"]),
    ],
)
def test_what_is_unusual_but_right_is_taken(world: World, edit: Edit) -> None:
    world.apply(edited(edit))
    assert world.plan(edited(edit)).is_empty


def test_a_canary_is_kept_changed_and_removed_and_no_plan_says_its_value(world: World) -> None:
    value = "Zebra-7f3a-Lagoon"

    def with_canary(**members: Any) -> dict[str, Any]:
        return edited(lambda d: d.update(canaries=[{"id": "page", **members}]))

    def known() -> list[CanaryFacts]:
        with world.store.read() as tx:
            return list_canaries(tx)

    planned = world.plan(with_canary(value={"value": value}))
    assert planned.summary["create"] > 0 and value.lower() not in str(planned).lower()
    world.apply(with_canary(value={"value": value}))
    assert known() == [canary.facts_of("page", value=value)]
    assert world.plan(with_canary(value={"value": value})).is_empty
    assert world.plan(with_canary()).is_empty, "a value that is left out is kept"
    assert world.plan(edited(lambda d: d)).is_empty, "what a manifest does not mention is left alone"
    world.apply(with_canary(tool="mail/send_email"))
    assert known() == [canary.facts_of("page", tool="mail/send_email")]
    world.apply(with_canary(value=None))
    assert known() == [] and world.plan(with_canary(value=None)).is_empty


def test_references_may_point_to_what_an_earlier_manifest_made(world: World) -> None:
    world.apply()
    later = {
        "apiVersion": "watchfloor/v1",
        "kind": "Company",
        "users": [{"id": "mona"}],
        "agents": [
            {
                "id": "reader",
                "name": "Reader",
                "maker": "ada",
                "connectedAgents": ["customer-billing"],
                "tools": [{"server": "mail", "tool": "search_mail"}],
            }
        ],
    }
    assert world.apply(later).plan.summary["create"] == 4  # user, agent, version, binding
    wrong = copy.deepcopy(later)
    wrong["agents"][0]["tools"][0]["tool"] = "serch_mail"
    # The server does not list its tools in this manifest, so this is only a warning.
    assert "Did you mean 'search_mail'?" in world.plan(wrong).warnings[-1]


def test_a_read_binding_of_a_tool_with_side_effects_is_pointed_out(world: World) -> None:
    warnings = world.plan(edited(lambda d: agent(d)["tools"][0].update(scope="read"))).warnings
    assert any("mail/send_email has side effects (send)" in w for w in warnings)
    assert not any("side effects" in w for w in world.plan().warnings)


# -- policies -----------------------------------------------------------------------------------------------------

POLICY: dict[str, Any] = {
    "id": "no-outside-mail",
    "title": "No mail outside",
    "mode": "enforce",
    "effect": "block",
    "severity": "high",
    "when": "true",
}


def accept(body: Any) -> list[PolicyProblem]:
    return []


def refuse(body: Any) -> list[PolicyProblem]:
    return [PolicyProblem("when: line 1, column 1", "unknown name `foo`.", "Did you mean `args`?")]


def test_policies_are_checked_by_the_guard_and_its_problems_get_a_place(world: World) -> None:
    text = yaml.safe_dump({"apiVersion": "watchfloor/v1", "kind": "Company", "policies": [POLICY]})
    with world.store.read() as tx:
        with pytest.raises(ManifestInvalid, match=r"policies\[0\]\.when.*unknown name `foo`.*Did you mean `args`"):
            manifest.plan(tx, text, world.vault, check_policy=refuse)
        (change,) = manifest.plan(tx, text, world.vault, check_policy=accept).changes
    assert (change.action, change.kind, change.id) == ("create", "policy", "no-outside-mail")


def test_the_guard_itself_refuses_a_policy_with_unknown_names(world: World) -> None:
    broken = {**POLICY, "when": "nonsense.name == 1"}
    found = problems(world, {"apiVersion": "watchfloor/v1", "kind": "Company", "policies": [broken]})
    assert any(place.startswith("policies[0]") for place in found)


# -- laws ---------------------------------------------------------------------------------------------------------


def shuffled(value: Any, rng: random.Random) -> Any:
    """``value`` with every list in another order, and every mapping too."""
    if isinstance(value, list):
        return rng.sample([shuffled(v, rng) for v in value], len(value))
    if isinstance(value, dict):
        return {k: shuffled(value[k], rng) for k in rng.sample(list(value), len(value))}
    return value


_names = st.sampled_from(["a", "b", "c", "d"])
_short = st.text("abc ", max_size=5)


@st.composite
def companies(draw: st.DrawFn) -> dict[str, Any]:
    """Small companies without mistakes."""
    users = draw(st.lists(_names, unique=True, min_size=1))
    servers = draw(st.lists(_names, unique=True, min_size=1))
    declared: dict[str, Any] = {
        "apiVersion": "watchfloor/v1",
        "kind": "Company",
        "identityProviders": [{"issuer": IDP, "jwksUri": f"{IDP}/jwks", "audience": "watchfloor"}],
        "users": [
            {"id": u, "name": draw(_short), "groups": draw(st.lists(_names)), "enabled": draw(st.booleans())}
            for u in users
        ],
        "toolServers": [
            {
                "id": s,
                "url": f"https://{s}.example/mcp",
                "trusted": draw(st.booleans()),
                **draw(st.sampled_from([{}, {"credential": {"value": "one"}}, {"credential": {"value": "two"}}])),
                "tools": [
                    {"name": t, **draw(st.sampled_from([{}, {"effect": "read"}, {"effect": "send"}]))}
                    for t in draw(st.lists(_names, unique=True))
                ],
            }
            for s in servers
        ],
    }
    if draw(st.booleans()):
        declared["organization"] = {
            "name": "Zava",
            "domains": draw(st.lists(st.sampled_from(["a.example", "b.example"]))),
        }
    declared["agents"] = []
    for name in draw(st.lists(_names, unique=True)):
        grants = []
        for server in draw(st.lists(st.sampled_from(servers), unique=True)):
            tools = next(s["tools"] for s in declared["toolServers"] if s["id"] == server)
            for tool in draw(st.lists(st.sampled_from(["*", *(t["name"] for t in tools)]), unique=True)):
                owner = draw(st.sampled_from(["user", "app", "maker"]))
                grant = {
                    "server": server,
                    "tool": tool,
                    "credential": owner,
                    "scope": draw(st.sampled_from(["read", "write"])),
                }
                if owner == "maker":
                    grant["makerCredential"] = {"value": draw(st.sampled_from(["x", "y"]))}
                grants.append(grant)
        declared["agents"].append(
            {
                "id": name,
                "name": f"Agent {name}",
                "version": draw(st.sampled_from(["1", "2"])),
                "state": draw(st.sampled_from(["draft", "published"])),
                "maker": draw(st.sampled_from(users)),
                "triggers": draw(st.lists(_names)),
                "tools": grants,
                **draw(st.sampled_from([{}, {"secret": {"value": "s" * 40}}, {"secret": {"value": "t" * 40}}])),
            }
        )
    return declared


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=companies(), second=companies(), seed=st.integers(0, 10**6))
def test_any_manifest_applied_twice_changes_nothing_and_its_order_means_nothing(
    first: dict[str, Any], second: dict[str, Any], seed: int
) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        left, right = World(Path(one)), World(Path(two))
        try:
            for declared in (first, second):
                # What was declared stays until something else is: give each credential again, as hosts do not move.
                left.apply(declared)
                right.apply(shuffled(declared, rng))
                assert left.plan(declared).is_empty
                assert left.plan(shuffled(declared, rng)).is_empty
            assert comparable(left) == comparable(right)
        finally:
            left.close()
            right.close()


def comparable(world: World) -> Any:
    """State without what differs between two installations: hashes under their own keys."""
    found = state_of(world)
    agents = {
        key: {
            name: getattr(value, name)
            for name in ("name", "state", "version", "maker_id", "owner_id", "manifest", "epoch")
        }
        | {"has_secret": value.secret_hash is not None}
        for key, value in found.agents.items()
    }
    return (
        found.organization,
        found.providers,
        found.users,
        found.servers,
        found.tools,
        agents,
        found.bindings,
        set(found.fingerprints),
        found.versions,
        world.facts(Kind.BINDING),
    )
