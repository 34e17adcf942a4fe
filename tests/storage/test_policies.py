"""Policies: versions, what is in force, what a set's hash stands for."""

from __future__ import annotations

from typing import Any

import pytest

from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.facts import Kind
from watchfloor.storage import policies
from watchfloor.storage.control import SqlControlStore

from .contract_control import postgres_url, site, store  # noqa: F401  fixtures: every engine
from .lite import lite, migrated  # noqa: F401  fixtures: one engine, fast
from .test_inventory import audit, projected


def body(title: str = "One", **members: Any) -> dict[str, Any]:
    return {"id": "no-mail", "title": title, **members}


def test_publishing_makes_versions_and_only_the_newest_is_in_force(store: SqlControlStore) -> None:
    with store.tx("sec") as tx:
        assert policies.publish_policy(tx, body()) == 1
        assert policies.publish_policy(tx, body("Two")) == 2
        assert [(p.id, p.version, p.published_by) for p in policies.current_policies(tx)] == [("no-mail", 2, "sec")]
        first = policies.find_policy(tx, "no-mail", 1)
        assert first is not None and first.body == body(version=1) and not first.is_current
        assert [p.version for p in policies.list_policy_versions(tx, "no-mail")] == [2, 1]
    assert projected(store, Kind.POLICY)["no-mail"] == {"id": "no-mail", "version": 2, "body": body("Two", version=2)}
    assert audit(store)[-1]["detail"] == {"version": 2, "changed": ["title"]}


def test_publishing_what_is_in_force_changes_nothing(lite: SqlControlStore) -> None:
    with lite.tx("sec") as tx:
        policies.publish_policy(tx, body())
    before = audit(lite)
    with lite.tx("sec") as tx:
        assert policies.publish_policy(tx, body(version=7)) == 1
    assert audit(lite) == before


def test_a_withdrawn_policy_is_gone_from_the_workers_and_kept_for_replay(lite: SqlControlStore) -> None:
    with lite.tx("sec") as tx:
        policies.publish_policy(tx, body())
        policies.withdraw_policy(tx, "no-mail")
        assert policies.current_policies(tx) == []
        assert policies.find_policy(tx, "no-mail") is None
        assert policies.find_policy(tx, "no-mail", 1) is not None
        with pytest.raises(NotFound):
            policies.withdraw_policy(tx, "no-mail")
        assert policies.publish_policy(tx, body()) == 2
    assert projected(lite, Kind.POLICY)["no-mail"] is not None


def test_shipped_policies_follow_the_product_until_somebody_changes_them(lite: SqlControlStore) -> None:
    with lite.tx() as tx:
        assert policies.load_defaults(tx, [body()]) == ["no-mail"]
        assert policies.load_defaults(tx, [body()]) == []
        assert policies.load_defaults(tx, [body("Two")]) == ["no-mail"]
    with lite.tx("sec") as tx:
        policies.publish_policy(tx, body("Ours"))
        assert policies.load_defaults(tx, [body("Three")]) == []
        policies.withdraw_policy(tx, "no-mail")
        assert policies.load_defaults(tx, [body("Three")]) == []
        assert policies.current_policies(tx) == []


def test_a_set_stands_for_its_members_even_after_they_were_replaced(store: SqlControlStore) -> None:
    with store.tx("sec") as tx:
        policies.publish_policy(tx, body())
        policies.publish_policy(tx, {"id": "another"})
        assert policies.record_policy_set(tx, "hash-1", [("no-mail", 1), ("another", 1)])
        assert not policies.record_policy_set(tx, "hash-1", [("no-mail", 1)])
        policies.publish_policy(tx, body("Two"))
        found = policies.find_policy_set(tx, "hash-1")
        assert found is not None and [(p.id, p.version) for p in found] == [("another", 1), ("no-mail", 1)]
        assert policies.find_policy_set(tx, "hash-2") is None


@pytest.mark.parametrize("policy_id", [None, "", "No Mail", 3, "x" * 65])
def test_a_policy_needs_a_proper_id(lite: SqlControlStore, policy_id: Any) -> None:
    with lite.tx("sec") as tx:
        with pytest.raises(InputError, match="id of a policy"):
            policies.publish_policy(tx, {"id": policy_id})
