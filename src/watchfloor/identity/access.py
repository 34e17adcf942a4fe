"""Conditional access, as it is published and as the token service asks it.

Above ``guard.access`` (what a policy says, what it comes to) and ``storage.access``; the portal, the server's start
and ``identity.sts`` go through here, so that nothing unchecked ever counts, and nobody locks everybody out unasked. It
knows no HTTP. The gateways read what was published here from the projection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from watchfloor.guard.access.lockout import lock_out
from watchfloor.guard.access.policy import ALL, NO_ONE, AccessPolicy, check, read
from watchfloor.guard.access.table import AccessTable
from watchfloor.model.access import AccessFacts, AccessState, Control, Proof
from watchfloor.model.agents import TokenMode, ToolEffect
from watchfloor.model.errors import Conflict, InputError
from watchfloor.storage import access, inventory, people
from watchfloor.storage.access import AccessPolicyVersion
from watchfloor.storage.profiles import agent_profile

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.inventory import Agent
    from watchfloor.storage.people import User

PASSWORD_ACTION: Final = "access:require-password-change"  # noqa: S105 an entry of the audit log, not a secret
_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Published:
    """A policy that counts now, and what whoever published it should know."""

    policy: AccessPolicyVersion
    warnings: tuple[str, ...] = ()


def publish(tx: ControlTx, body: Mapping[str, Any], *, confirm: bool = False) -> Published:
    """Let ``body`` count; one equal to what is there changes nothing.

    Raises ``InputError`` with every problem, ``Conflict`` for one that would lock people out and is not confirmed.
    """
    if problems := check(body):
        raise InputError("; ".join(map(str, problems)), where=f"access policy/{body.get('id', '?')}")
    policy = read(str(body["id"]), 0, body)
    danger = find_lock_out(tx, policy)
    if danger is not None and not confirm:
        raise Conflict(danger, where="confirm", remedy="If that is what you want, send it again with confirm.")
    access.publish_policy(tx, body)
    published = access.find_policy(tx, policy.id)
    assert published is not None
    warnings = [danger] if danger is not None else []
    return Published(published, (*warnings, *unknown_names(tx, policy)))


def find_lock_out(tx: ControlTx, policy: AccessPolicy) -> str | None:
    """What ``policy`` would do to people that it must not do by mistake, or None."""
    users = [people.user_facts(user) for user in people.list_users(tx)]
    return lock_out(policy, users, {operator.id for operator in people.list_operators(tx) if operator.is_enabled})


def unknown_names(tx: ControlTx, policy: AccessPolicy) -> list[str]:
    """What ``policy`` names and nobody here knows: it may come later, or be a slip of the pen."""
    users = people.list_users(tx)
    groups = {group.lower() for user in users for group in user.groups}
    names = {name for user in users for name in (user.id.lower(), user.upn.lower())}
    known: tuple[tuple[str, frozenset[str], set[str]], ...] = (
        ("user", policy.users.include | policy.users.exclude, names),
        ("group", policy.groups.include | policy.groups.exclude, groups),
        ("role", policy.roles.include | policy.roles.exclude, groups),
        ("agent", policy.agents.include | policy.agents.exclude, {a.id for a in inventory.list_agents(tx)}),
        ("tool server", policy.servers.include | policy.servers.exclude, {s.id for s in inventory.list_servers(tx)}),
    )
    found = []
    for what, named, there in known:
        if missing := sorted(named - there - {ALL, NO_ONE}):
            more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
            found.append(f"Nobody here knows the {what} {', '.join(missing[:_MOST_NAMED])}{more}.")
    return found


def set_state(tx: ControlTx, policy_id: str, state: AccessState, *, confirm: bool = False) -> Published:
    """Enable, disable, or only report. Raises as ``publish`` does, and ``InputError`` if there is no such policy."""
    found = access.find_policy(tx, policy_id)
    if found is None:
        raise InputError(f"there is no access policy {policy_id!r}.", where="id")
    return publish(tx, {**found.body, "state": state.value}, confirm=confirm)


def publish_defaults(tx: ControlTx, bodies: Iterable[Mapping[str, Any]]) -> list[str]:
    """Let the policies that come with the product count; ids of those that changed.

    What an administrator replaced or withdrew stays that way. Raises ``InputError`` if one of them is no policy.
    """
    shipped = list(bodies)
    for body in shipped:
        if problems := check(body):
            raise InputError("; ".join(map(str, problems)), where=f"access policy/{body.get('id', '?')}")
    return access.load_defaults(tx, shipped)


def current_table(tx: ControlTx) -> AccessTable:
    """The published policies, compiled."""
    return AccessTable.build({p.id: p.facts for p in access.current_policies(tx)})


class Gatekeeper:
    """Asks conditional access where tokens are issued. Compiled policies are kept until others are published."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: tuple[tuple[str, int], ...] | None = None
        self._table = AccessTable()

    def answer(
        self,
        tx: ControlTx,
        user: User | None,
        agent: Agent,
        mode: TokenMode,
        server_id: str,
        proof: Proof,
        auth_time: datetime | None,
    ) -> AccessFacts | None:
        """What is demanded of a sign-in; policies about tools of a class are for the gateway, which sees the tool."""
        return ask(self._current(tx), tx, user, agent, mode, server_id, None, proof, auth_time)

    def _current(self, tx: ControlTx) -> AccessTable:
        published = access.current_policies(tx)
        versions = tuple((policy.id, policy.version) for policy in published)
        with self._lock:
            if versions != self._known:
                self._table = AccessTable.build({policy.id: policy.facts for policy in published})
                self._known = versions
            return self._table


def ask(
    table: AccessTable,
    tx: ControlTx,
    user: User | None,
    agent: Agent,
    mode: TokenMode,
    server_id: str,
    effect: ToolEffect | None,
    proof: Proof,
    auth_time: datetime | None,
) -> AccessFacts | None:
    """The answer of ``table`` on people and agents as they are stored; None where there are no policies."""
    if table.is_empty:
        return None
    return table.answer(
        people.user_facts(user) if user is not None else None,
        agent.id,
        inventory.agent_facts(agent),
        agent_profile(agent),
        mode,
        server_id,
        effect,
        proof.sign_in_risk,
        proof.methods,
        auth_time,
        tx.now,
    )


def require_password_change(tx: ControlTx, user_id: str, answer: AccessFacts) -> bool:
    """Do to the user what policies that ask for a new password say; whether anything was to be done.

    The user has to reset the password before anything else, and where a policy revokes, every session ends.
    """
    asking = [p for p in answer.refusing if p.control is Control.PASSWORD_CHANGE]
    user = people.find_user(tx, user_id)
    if not asking or user is None or user.must_reset_password:
        return False
    bodies = [found.body for p in asking if (found := access.find_policy(tx, p.id, p.version)) is not None]
    revokes = any((body.get("sessionControls") or {}).get("revoke") for body in bodies)
    changed = people.without_sessions(user, tx.now) if revokes else user
    reason = ", ".join(p.name for p in asking)
    return people.save_user(
        tx,
        replace(changed, must_reset_password=True, updated_at=tx.now),
        PASSWORD_ACTION,
        f"conditional access: {reason}",
    )


def require_password_changes(store: SqlControlStore) -> int:
    """Ask every user for a new password to whom such a policy applies whatever the agent and the tool; how many.

    Background work: the gateways refuse such a user at once, by the policy itself; this is what ends the sessions and
    what the identity provider can be told.
    """
    with store.read() as tx:
        due = [(user.id, answer) for user, answer in _due(tx) if answer.control is Control.PASSWORD_CHANGE]
    if not due:
        return 0
    with store.tx("system:access") as tx:
        return sum(require_password_change(tx, user.id, answer) for user, answer in _due(tx))


def _due(tx: ControlTx) -> list[tuple[User, AccessFacts]]:
    table = current_table(tx)
    wanted = [p for p in table.policies if p.state is AccessState.ENABLED and Control.PASSWORD_CHANGE in p.controls]
    if not wanted:
        return []
    asking, nobody = AccessTable(wanted), ("", None, None, TokenMode.OBO, "", None, "none", (), None, tx.now)
    users = [user for user in people.list_users(tx) if user.is_enabled and not user.must_reset_password]
    return [(user, asking.answer(people.user_facts(user), *nobody)) for user in users]


Names = Callable[[str], str]


def directory_names(tx: ControlTx) -> tuple[Names, Names, Names, Names]:
    """How ids of the directory become ours, of users and of agents, and how ours become the directory's."""
    to_user: dict[str, str] = {}
    from_user: dict[str, str] = {}
    for user in people.list_users(tx):
        to_user |= {user.id.lower(): user.id, user.upn.lower(): user.id, user.subject.lower(): user.id}
        from_user[user.id] = user.subject or user.id
    to_agent: dict[str, str] = {}
    from_agent: dict[str, str] = {}
    for agent in inventory.list_agents(tx):
        directory = str((agent.manifest.get("platformIds") or {}).get("directory") or "")
        to_agent[agent.id.lower()] = agent.id
        if directory:
            to_agent[directory.lower()] = agent.id
        from_agent[agent.id] = directory or agent.id
    return (
        lambda name: to_user.get(name.lower(), name),
        lambda name: to_agent.get(name.lower(), name),
        lambda name: from_user.get(name, name),
        lambda name: from_agent.get(name, name),
    )
