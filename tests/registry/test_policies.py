"""Publishing through the registry: nothing unchecked is ever in force, and every set is known for replay."""

from __future__ import annotations

from typing import Any

import pytest

from identity.world import World
from watchfloor.content import policies as shipped
from watchfloor.model.errors import InputError, NotFound
from watchfloor.registry import policies


def policy(**members: Any) -> dict[str, Any]:
    found = next(dict(body) for body in shipped() if body["id"] == "external-recipient")
    found.pop("tests", None)
    return {**found, "id": "ours", **members}


def test_a_checked_policy_is_in_force_and_its_set_can_be_replayed(world: World) -> None:
    with world.store.tx("sec") as tx:
        first = policies.publish(tx, policy())
        first_set = policies.current_set(tx).hash
        second = policies.publish(tx, policy(title="Another title"))
        assert (first.version, second.version) == (1, 2)
        old, new = policies.find_set(tx, first_set), policies.find_set(tx, policies.current_set(tx).hash)
        assert old is not None and new is not None
        assert old.policies[0].title != new.policies[0].title == "Another title"
        assert policies.find_set(tx, "unknown") is None


def test_a_policy_with_problems_is_refused_with_all_of_them(world: World) -> None:
    with world.store.tx("sec") as tx:
        with pytest.raises(InputError, match="ours") as caught:
            policies.publish(tx, policy(when="nonsense.name == 1", mode="enforced"))
        assert "mode" in str(caught.value) and "when" in str(caught.value)
        assert policies.current_set(tx).policies == ()


@pytest.mark.parametrize("surface", ["call", "result", "answer"])
def test_a_policy_for_each_surface_can_be_enforced(world: World, surface: str) -> None:
    judged = {"when": '"secret" in signals.categories', "step": "detectors", "effect": "redact", "redact": ["secrets"]}
    with world.store.tx("sec") as tx:
        assert policies.publish(tx, policy(**judged, surface=surface, mode="audit")).version == 1
        assert policies.publish(tx, policy(**judged, surface=surface, mode="enforce")).version == 2


def test_withdrawing_records_the_set_that_is_left(world: World) -> None:
    with world.store.tx("sec") as tx:
        policies.publish(tx, policy())
        policies.withdraw(tx, "ours")
        assert policies.find_set(tx, policies.current_set(tx).hash) is not None
        with pytest.raises(NotFound):
            policies.withdraw(tx, "ours")


def test_the_shipped_policies_are_published_once(world: World) -> None:
    with world.store.tx() as tx:
        changed = policies.publish_defaults(tx, shipped())
        assert len(changed) == len(list(shipped())) > 0
        assert policies.find_set(tx, policies.current_set(tx).hash) is not None
        assert policies.publish_defaults(tx, shipped()) == []


def test_a_shipped_policy_that_is_none_stops_the_start(world: World) -> None:
    with world.store.tx() as tx:
        with pytest.raises(InputError, match="broken"):
            policies.publish_defaults(tx, [{"id": "broken"}])
