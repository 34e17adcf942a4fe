"""Does everything that a manifest names exist? Duplicates, unknown names, members that contradict each other.

Pure: values as ``registry.shape`` read them, and the state, in; problems (which refuse the manifest) and warnings
(which are only shown) out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from watchfloor.guard.detectors.canary import problem_of as problem_of_canary
from watchfloor.model.agents import CredentialOwner, Scope, ToolEffect
from watchfloor.registry.connector_shape import check_connector
from watchfloor.registry.credentials import maker_credential_id
from watchfloor.registry.problems import Problems, did_you_mean
from watchfloor.registry.readers import ANY_TENANT, BAD, EVERYONE, GROUP, WHERE, Absent
from watchfloor.registry.shape import DeclaredEffect
from watchfloor.registry.state import State
from watchfloor.storage.canaries import MOST as MOST_CANARIES

Values = Mapping[str, Any]
CheckPolicy = Callable[[Any], Iterable[Any]]


def items(values: Values, name: str) -> list[Values]:
    """The readable items of a list member."""
    found = values[name]
    return [item for item in found if item is not BAD] if found not in (None, BAD) else []


class ReferenceCheck:
    """One run over one manifest; see ``check_references``."""

    def __init__(self, company: Values, state: State, problems: Problems) -> None:
        self.company, self.state, self.problems = company, state, problems
        self.warnings: list[str] = []
        self.users = _ids(items(company, "users"), "id") | set(state.users)
        self.servers = _ids(items(company, "toolServers"), "id") | set(state.servers)
        self.agents = _ids(items(company, "agents"), "id") | set(state.agents)
        self.providers = _ids(items(company, "identityProviders"), "issuer") | set(state.providers)

    def run(self, check_policy: CheckPolicy) -> None:
        """Everything, in the order of the manifest."""
        for name, key in (
            ("identityProviders", "issuer"),
            ("users", "id"),
            ("canaries", "id"),
            ("toolServers", "id"),
            ("agents", "id"),
        ):
            self._no_doubles(items(self.company, name), key)
        for provider in items(self.company, "identityProviders"):
            known = self.state.connectors.get(provider["issuer"]) if provider["issuer"] is not BAD else None
            check_connector(provider, known, self.problems)
        self._users()
        self._canaries()
        for server in items(self.company, "toolServers"):
            self._server(server)
        for agent in items(self.company, "agents"):
            self._agent(agent)
        self._policies(check_policy)

    def _no_doubles(self, found: list[Values], key: str) -> None:
        first: dict[str, str] = {}
        for item in found:
            value = item[key]
            if value is BAD:
                continue
            if value in first:
                self.problems.add(f"{item[WHERE]}.{key}", f"{value!r} stands in {first[value]} already.", "Remove one.")
            first.setdefault(value, item[WHERE])

    def _known(self, value: Any, known: Collection[str], where: str, what: str) -> bool:
        if value in (None, BAD) or value in known:
            return value not in (None, BAD)
        self.problems.add(where, f"there is no {what} {value!r}.", did_you_mean(value, known))
        return False

    # -- people ---------------------------------------------------------------------------------------------------

    def _users(self) -> None:
        declared = {u["id"] for u in items(self.company, "users")}
        subjects = {(u.issuer, u.subject): f"user {u.id}" for u in self.state.users.values() if u.id not in declared}
        for user in items(self.company, "users"):
            where = user[WHERE]
            if user["manager"] is not None:
                self._known(user["manager"], self.users, f"{where}.manager", "user")
            issuer = user["issuer"]
            if issuer is None:
                if len(self.providers) != 1:
                    self.problems.add(
                        f"{where}.issuer",
                        f"is missing, and there are {len(self.providers)} identity providers.",
                        "Name the one that signs this user in." if self.providers else "Add one to identityProviders.",
                    )
                    continue
                issuer = next(iter(self.providers))
            elif not self._known(issuer, self.providers, f"{where}.issuer", "identity provider"):
                continue
            subject = user["id"] if user["subject"] is None else user["subject"]
            if BAD in (issuer, subject):
                continue
            if (issuer, subject) in subjects:
                self.problems.add(
                    f"{where}.subject",
                    f"{subject!r} at {issuer} is {subjects[issuer, subject]} already.",
                    "One sign-in is one user.",
                )
            subjects[issuer, subject] = where

    # -- canaries -------------------------------------------------------------------------------------------------

    def _canaries(self) -> None:
        kept = {canary["id"] for canary in items(self.company, "canaries") if canary["value"] is not Absent.REMOVE}
        if len(kept | set(self.state.canaries)) > MOST_CANARIES:
            message = f"there would be more than {MOST_CANARIES}."
            self.problems.add("canaries", message, "Each is looked for in every call; remove some.")
        for canary in items(self.company, "canaries"):
            where, value, tool = canary[WHERE], canary["value"], canary["tool"]
            if BAD in (value, tool, canary["id"]):
                continue
            is_value = not isinstance(value, Absent)
            if tool is not None and value is not Absent.KEEP:
                self.problems.add(where, "is a value or a tool, not both.", "Make two canaries.")
            elif tool is not None and (server := tool.partition("/")[0]) == tool:
                self.problems.add(f"{where}.tool", f"{tool!r} names no tool.", "Write server/tool.")
            elif tool is not None:
                self._known(server, self.servers, f"{where}.tool", "tool server")
            elif value is Absent.KEEP and canary["id"] not in self.state.canaries:
                self.problems.add(where, "needs a value or a tool.", "For a value: {env: NAME}, {file: PATH}.")
            elif is_value and (problem := problem_of_canary(value)):
                self.problems.add(f"{where}.value", problem, "Make one with: openssl rand -hex 16")

    # -- tool servers ---------------------------------------------------------------------------------------------

    def _server(self, server: Values) -> None:
        where = server[WHERE]
        self._no_doubles(items(server, "tools"), "name")
        for tool in items(server, "tools"):
            if tool["allowWhenStale"] is True and tool["effect"] not in (DeclaredEffect.READ, BAD):
                self.problems.add(
                    f"{tool[WHERE]}.allowWhenStale", "is for tools that only read.", "Add effect: read, or remove it."
                )
        before = self.state.servers.get(server["id"]) if server["id"] is not BAD else None
        if before is None or server["url"] is BAD or _origin(before.url) == _origin(server["url"]):
            return
        # INVARIANT: a stored secret goes only where it was meant to go when it was given. Otherwise whoever may edit
        # a URL could have it sent to a machine of their own.
        kept = []
        if before.credential_id and server["credential"] is Absent.KEEP:
            kept.append("its credential")
        kept += [
            f"makerCredential of agent {agent} for {tool}"
            for (agent, on, tool), binding in sorted(self.state.bindings.items())
            if on == before.id and binding.credential_id and not self._is_given_anew(agent, on, tool)
        ]
        if kept:
            self.problems.add(
                f"{where}.url",
                f"moves to another host, but {'; '.join(kept)} was given for {_origin(before.url)}.",
                "Give it again in this manifest (or null, to remove it).",
            )

    def _is_given_anew(self, agent_id: str, server_id: str, tool: str) -> bool:
        for agent in items(self.company, "agents"):
            if agent["id"] == agent_id:
                for grant in items(agent, "tools"):
                    if (grant["server"], grant["tool"]) == (server_id, tool):
                        return grant["makerCredential"] is not Absent.KEEP
                return True  # not listed any more: it is removed
        return False

    # -- agents ---------------------------------------------------------------------------------------------------

    def _agent(self, agent: Values) -> None:
        where = agent[WHERE]
        for person in ("maker", "owner", "sponsor"):
            self._known(agent[person], self.users, f"{where}.{person}", "user")
        for other in agent["connectedAgents"] if agent["connectedAgents"] is not BAD else ():
            self._known(other, self.agents, f"{where}.connectedAgents", "agent")
        for somebody in agent["sharedWith"] if agent["sharedWith"] is not BAD else ():
            if somebody not in (EVERYONE, ANY_TENANT) and not somebody.startswith(GROUP):
                self._known(somebody, self.users, f"{where}.sharedWith", "user")
        before = self.state.agents.get(agent["id"]) if agent["id"] is not BAD else None
        secret = agent["secret"]
        if secret is Absent.REMOVE or (secret is Absent.KEEP and (before is None or before.secret_hash is None)):
            self.warnings.append(f"{where}: agent {agent['id']} has no secret, so it gets no tokens.")
        seen: dict[tuple[Any, Any], str] = {}
        for grant in items(agent, "tools"):
            pair = (grant["server"], grant["tool"])
            if BAD not in pair and pair in seen:
                self.problems.add(grant[WHERE], f"{pair[0]}/{pair[1]} stands in {seen[pair]} already.", "Remove one.")
            seen.setdefault(pair, grant[WHERE])
            self._grant(agent, grant)

    def _grant(self, agent: Values, grant: Values) -> None:
        where, server_id, tool = grant[WHERE], grant["server"], grant["tool"]
        if self._known(server_id, self.servers, f"{where}.server", "tool server") and tool not in (BAD, "*"):
            self._tool(server_id, tool, grant["scope"], where)
        given = grant["makerCredential"]
        if BAD in (given, grant["credential"], agent["id"], server_id, tool):
            return
        if grant["credential"] is not CredentialOwner.MAKER:
            if given not in (Absent.KEEP, Absent.REMOVE):
                self.problems.add(
                    f"{where}.makerCredential",
                    f"has no use with credential: {grant['credential'].value}.",
                    "Write credential: maker, or remove it.",
                )
            return
        stored = self.state.fingerprints.get(maker_credential_id(agent["id"], server_id, tool))
        if given is Absent.REMOVE or (given is Absent.KEEP and stored is None):
            self.problems.add(f"{where}.makerCredential", "is missing.", "credential: maker needs it.")

    def _tool(self, server_id: str, tool: str, scope: Any, where: str) -> None:
        declared = self._declared_tools(server_id)
        stored = {name for on, name in self.state.tools if on == server_id}
        known = (set(declared) if declared is not None else set()) | stored
        if tool not in known and known:
            message = f"tool server {server_id!r} has no tool {tool!r}."
            if declared is not None:
                self.problems.add(f"{where}.tool", message, did_you_mean(tool, known))
            else:
                self.warnings.append(f"{where}.tool: {message} {did_you_mean(tool, known)}".rstrip())
            return
        effect = (declared or {}).get(tool)
        if effect is None and (found := self.state.tools.get((server_id, tool))):
            effect = found.effect
        if scope is Scope.READ and effect not in (None, ToolEffect.READ, ToolEffect.UNKNOWN):
            self.warnings.append(
                f"{where}.scope: {server_id}/{tool} has side effects ({effect.value}); with scope read it is refused."
            )

    def _declared_tools(self, server_id: str) -> dict[str, ToolEffect | None] | None:
        for server in items(self.company, "toolServers"):
            if server["id"] == server_id and server["tools"] not in (None, BAD):
                return {
                    t["name"]: None if t["effect"] in (None, BAD) else ToolEffect(t["effect"].value)
                    for t in items(server, "tools")
                    if t["name"] is not BAD
                }
        return None

    # -- policies -------------------------------------------------------------------------------------------------

    def _policies(self, check_policy: CheckPolicy) -> None:
        first: dict[str, str] = {}
        for index, body in enumerate(self.company["policies"] if self.company["policies"] is not BAD else ()):
            if body is BAD:
                continue
            where = f"policies[{index}]"
            for problem in check_policy(body):
                place = getattr(problem, "where", "")
                message = getattr(problem, "message", str(problem))
                inside = f"{where}.{place}" if place and place != "policy" else where
                self.problems.add(inside, message, getattr(problem, "remedy", ""))
            policy_id = body.get("id")
            if isinstance(policy_id, str) and policy_id in first:
                self.problems.add(f"{where}.id", f"{policy_id!r} stands in {first[policy_id]} already.", "Remove one.")
            first.setdefault(str(policy_id), where)


def check_references(company: Values, state: State, problems: Problems, check_policy: CheckPolicy) -> list[str]:
    """Adds what is wrong to ``problems``; returns warnings."""
    check = ReferenceCheck(company, state, problems)
    check.run(check_policy)
    return check.warnings


def _ids(found: list[Values], key: str) -> set[str]:
    return {item[key] for item in found if item[key] is not BAD}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"
