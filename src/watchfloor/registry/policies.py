"""Publishing policies: checked by the guard, stored with a version, and the set in force recorded for replay.

Above ``guard.policy`` (what a policy may say) and ``storage.policies``; manifests, the portal's API and the server's
start go through here, so that nothing unchecked is ever in force. It does not know what a policy does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from watchfloor.guard.policy import PolicySet, check_policy
from watchfloor.model.errors import InputError
from watchfloor.storage import policies
from watchfloor.storage.policies import PolicyVersion

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


def publish(tx: ControlTx, body: Mapping[str, Any]) -> PolicyVersion:
    """Put ``body`` in force; one equal to what is there changes nothing. Raises ``InputError`` with every problem."""
    problems = check_policy(body)
    if problems:
        raise InputError("; ".join(str(problem) for problem in problems), where=f"policy/{body.get('id', '?')}")
    policies.publish_policy(tx, body)
    record_set(tx)
    published = policies.find_policy(tx, str(body["id"]))
    assert published is not None
    return published


def withdraw(tx: ControlTx, policy_id: str) -> None:
    """Take a policy out of force. Raises ``NotFound``."""
    policies.withdraw_policy(tx, policy_id)
    record_set(tx)


def publish_defaults(tx: ControlTx, bodies: Iterable[Mapping[str, Any]]) -> list[str]:
    """Put the policies that come with the product in force; ids of those that changed.

    What an administrator replaced or withdrew stays that way. Raises ``InputError`` if one of them is no policy.
    """
    shipped = list(bodies)
    for body in shipped:
        if problems := check_policy(body):
            raise InputError("; ".join(str(p) for p in problems), where=f"policy/{body.get('id', '?')}")
    changed = policies.load_defaults(tx, shipped)
    if changed:
        record_set(tx)
    return changed


def current_set(tx: ControlTx) -> PolicySet:
    """The policies in force, compiled."""
    return PolicySet.build(p.facts for p in policies.current_policies(tx))


def record_set(tx: ControlTx) -> str:
    """Remember which policies the set in force consists of; its hash. Every change of policies ends with this."""
    current = policies.current_policies(tx)
    compiled = PolicySet.build(p.facts for p in current)
    policies.record_policy_set(tx, compiled.hash, [(p.id, p.version) for p in current])
    return compiled.hash


def find_set(tx: ControlTx, set_hash: str) -> PolicySet | None:
    """The policies that a recorded decision was made with, compiled; None if they are not known."""
    members = policies.find_policy_set(tx, set_hash)
    return None if members is None else PolicySet.build(p.facts for p in members)
