"""Actions: who may, with which guards, what they change, and the proof that is left."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from portal.house import House
from watchfloor.identity.operators import LOCAL_ADMIN
from watchfloor.model.errors import Conflict, Denied, InputError, NotFound, Unavailable
from watchfloor.model.facts import Kind
from watchfloor.model.people import PERMISSIONS, Permission, Role
from watchfloor.response.catalog import ACTIONS, Order
from watchfloor.response.runner import Operator, Performed, TooOften, perform
from watchfloor.storage import actions

SUBJECTS = {
    "agent": "billing", "user": "griffin", "tool": "mail/lookup", "hold": "hold_none", "server": "mail",
    "response": "rsp_none", "response step": "rsp_none/local", "version": "billing/1",
}  # fmt: skip


def act(
    house: House, action: str, subject: str, *, by: str = "sam", reason: str = "because", **order: Any
) -> Performed:
    everything = frozenset(Permission)
    control, deps = house.stores.control, house.deps
    return perform(control, deps.epoch, deps.now, Operator(by, everything), action, Order(subject, reason, **order))


def test_every_action_that_can_be_undone_names_one_that_exists_and_every_other_says_why_not() -> None:
    for action in ACTIONS.values():
        assert (action.undo in ACTIONS) if action.undo else action.no_undo, action.id


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("action", list(ACTIONS))
def test_only_who_has_the_permission_gets_as_far_as_the_effect(house: House, role: Role, action: str) -> None:
    permissions = PERMISSIONS[role]
    order = Order(SUBJECTS[ACTIONS[action].subject], "because")
    try:
        perform(house.stores.control, house.deps.epoch, house.deps.now, Operator("sam", permissions), action, order)
    except Denied:
        assert ACTIONS[action].permission not in permissions
        with house.stores.control.read() as tx:
            assert actions.list_records(tx) == []
    except (Conflict, NotFound):
        assert ACTIONS[action].permission in permissions
    else:
        assert ACTIONS[action].permission in permissions


@pytest.mark.parametrize("action", [a.id for a in ACTIONS.values() if a.needs_reason])
def test_an_action_without_a_reason_changes_nothing(house: House, action: str) -> None:
    before = house.stores.control.read_projection(0)
    with pytest.raises(InputError, match="a reason is needed"):
        act(house, action, SUBJECTS[ACTIONS[action].subject], reason=" \n")
    assert house.stores.control.read_projection(0) == before


@pytest.mark.asvs("7.4.5", "15.4.2")
@pytest.mark.claim("story-sessions-die-at-once")
def test_a_revoke_is_with_the_workers_before_it_is_acknowledged_and_leaves_proof(house: House) -> None:
    before = house.stores.epoch.revision()
    done = act(house, "revoke_user_sessions", "griffin", reason="stolen")
    assert done.revision == before + 1
    assert done.epoch == house.stores.epoch.revision() == done.revision
    assert done.proof["user_epoch"] == 2
    with house.stores.control.read() as tx:
        (record,) = actions.list_records(tx, subject="user/griffin")
        (entry,) = actions.list_audit(tx, action="user:revoke-sessions")
    assert (record.actor, record.status, record.detail["revision"]) == ("sam", "done", done.revision)
    assert (entry.actor, entry.detail["reason"]) == ("sam", "stolen")
    assert house.projected(Kind.USER, "griffin")["epoch"] == 2


def test_an_action_that_the_workers_were_not_told_of_is_not_called_done(house: House) -> None:
    control, deps = house.stores.control, house.deps
    with pytest.raises(Unavailable, match="have not been told"):
        perform(
            control, lambda: 0, deps.now, Operator("sam", frozenset(Permission)), "block_agent", Order("hr", "leaks")
        )


@pytest.mark.parametrize(
    ("action", "subject"), [("block_agent", "none"), ("revoke_user_sessions", "none"), ("approve_hold", "none"),
                            ("block_tool", "mail/none"), ("approve_tool", "none/none")]
)  # fmt: skip
def test_what_does_not_exist_cannot_be_acted_on(house: House, action: str, subject: str) -> None:
    with pytest.raises(NotFound):
        act(house, action, subject)


def test_an_unknown_action_names_those_there_are(house: House) -> None:
    with pytest.raises(NotFound, match="block_agent"):
        act(house, "explode", "billing")


def test_a_blocked_tool_is_refused_until_it_is_unblocked(house: House) -> None:
    act(house, "block_tool", "mail/lookup")
    _, verdict = house.call("mail", "lookup", {})
    assert verdict.reasons[0].code == "tool_blocked"
    with pytest.raises(Conflict, match="blocked already"):
        act(house, "block_tool", "mail/lookup")
    act(house, "unblock_tool", "mail/lookup")
    _, verdict = house.call("mail", "lookup", {})
    assert verdict.effect.value == "allow"


@pytest.mark.asvs("2.3.2")
def test_an_operator_who_revokes_too_many_is_stopped_and_others_go_on(house: House) -> None:
    limit = ACTIONS["revoke_user_sessions"].rate.count
    for _ in range(limit):
        act(house, "revoke_user_sessions", "griffin")
    with pytest.raises(TooOften) as caught:
        act(house, "revoke_user_sessions", "griffin")
    assert caught.value.retry_after > 0
    assert act(house, "revoke_user_sessions", "griffin", by="other").record_id
    assert act(house, "block_agent", "hr").record_id
    house.clock.forward(minutes=11)
    assert act(house, "revoke_user_sessions", "griffin").record_id


def test_this_machines_own_administrator_is_not_slowed_down(house: House) -> None:
    for _ in range(ACTIONS["revoke_user_sessions"].rate.count + 2):
        act(house, "revoke_user_sessions", "griffin", by=LOCAL_ADMIN)


def test_an_action_belongs_to_an_incident_only_if_there_is_one(house: House) -> None:
    with pytest.raises(NotFound, match="incident"):
        act(house, "revoke_user_sessions", "griffin", incident_id="inc_none")
    assert house.projected(Kind.USER, "griffin")["epoch"] == 1


def test_every_action_is_described(house: House) -> None:
    for action in ACTIONS.values():
        assert action.title and action.says.endswith(".")
        assert {f.name for f in dataclasses.fields(action)} >= {"permission", "effect", "undo"}
