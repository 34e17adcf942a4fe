"""Would a policy lock everybody out? Asked before one is enabled, so that nobody does it by mistake.

Pure. A policy counts that demands what nobody can satisfy while signing in, and that no condition on agents, servers,
tools or modes keeps to a part of the work.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from watchfloor.guard.access.evaluate import Attempt, find_matches
from watchfloor.guard.access.policy import ALL, AccessPolicy
from watchfloor.model.access import AccessState, Control
from watchfloor.model.agents import TokenMode, ToolEffect
from watchfloor.model.facts import UserFacts
from watchfloor.model.people import BREAK_GLASS

_HARD: Final = frozenset({Control.BLOCK, Control.PASSWORD_CHANGE})
_ANY: Final = "\0any"
_MOST_NAMED: Final = 5


def is_break_glass(user: UserFacts) -> bool:
    """Whether the account is kept for emergencies."""
    return user.id.lower() == BREAK_GLASS or any(group.lower() == BREAK_GLASS for group in user.groups)


def lock_out(policy: AccessPolicy, users: Sequence[UserFacts], operators: Collection[str] = ()) -> str | None:
    """What an enabled ``policy`` would do to people that it must not do by mistake, as a sentence; None if nothing.

    ``users`` are all that there are, ``operators`` the ids of those who run the portals.
    """
    if policy.state is not AccessState.ENABLED or not policy.controls & _HARD or _is_narrow(policy):
        return None
    enabled = [user for user in users if user.is_enabled]
    hit = [user for user in enabled if find_matches((policy,), _anything(user))]
    if len(hit) == len(enabled) and (hit or policy.asks_for_user or ALL in policy.agents.include):
        return f"It would lock out every user ({len(hit)})." if hit else "It would lock out every user there will be."
    if spared := [user.id for user in hit if is_break_glass(user)]:
        return f"It would lock out accounts kept for emergencies: {_named(spared)}."
    acting = {user.id for user in enabled} & set(operators)
    if acting and acting <= {user.id for user in hit}:
        return f"It would lock out every operator who is a user: {_named(sorted(acting))}."
    return None


def _anything(user: UserFacts) -> Attempt:
    return Attempt(user, _ANY, None, TokenMode.OBO, _ANY, ToolEffect.UNKNOWN)


def _is_narrow(policy: AccessPolicy) -> bool:
    agents = policy.agents.include or policy.blueprints.include
    return bool(
        (agents and ALL not in policy.agents.include)
        or policy.attributes
        or (policy.servers.include and ALL not in policy.servers.include)
        or (policy.effects is not None and policy.effects != frozenset(ToolEffect))
        or (policy.modes is not None and TokenMode.OBO not in policy.modes)
        or policy.agent_risk
        or policy.sign_in_risk
    )


def _named(ids: Sequence[str]) -> str:
    more = len(ids) - _MOST_NAMED
    return ", ".join(ids[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
