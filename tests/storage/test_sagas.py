"""The outbox in the tables, on every engine: what is due, in which order, to whom it belongs."""

# ruff: noqa: F811 - fixtures that are imported are named again as parameters
from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from watchfloor.model.sagas import SagaKind, SagaStatus, StepState
from watchfloor.storage import playbooks, sagas
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.playbooks import Item, Run, StoredPlaybook
from watchfloor.storage.sagas import Saga, Step

from .contract_control import postgres_url, site, store  # noqa: F401  fixtures: every engine


def begin(store: SqlControlStore, saga_id: str, subject: str, steps: Sequence[tuple[str, Sequence[str]]]) -> None:
    """A response whose steps, each with what it comes after, are to be done now."""
    with store.tx("test") as tx:
        saga = Saga(
            saga_id, SagaKind.USER_COMPROMISE, subject, "stolen", SagaStatus.RUNNING, "sam", tx.now, tx.now,
            incident_id="inc_1", parameters={"issuer": "https://x"}, needs_approval=("ünïcode",),
        )  # fmt: skip
        rows = [
            Step(saga_id, name, n, StepState.PENDING, tuple(after), next_try_at=tx.now)
            for n, (name, after) in enumerate(steps)
        ]
        sagas.add(tx, saga, rows)
        tx.audit("response:begin", f"response/{saga_id}", {})


def claim(store: SqlControlStore, holder: str, seconds: float = 60) -> list[tuple[str, str]]:
    with store.tx(audited=False) as tx:
        found = sagas.claim(tx, holder, tx.now + timedelta(seconds=seconds), 10)
        return [(saga.id, step.name) for saga, step in found]


def finish(store: SqlControlStore, saga_id: str, name: str) -> None:
    with store.tx(audited=False) as tx:
        step = sagas.find_step(tx, saga_id, name)
        assert step
        sagas.change_step(tx, step, state=StepState.DONE, holder=None, held_until=None, evidence={"shown": True})


def test_a_response_comes_back_as_it_was_stored(store: SqlControlStore) -> None:
    begin(store, "rsp_1", "griffin", [("one", ()), ("two", ("one",))])
    with store.read() as tx:
        found = sagas.find(tx, "rsp_1")
        steps = sagas.steps_of(tx, ["rsp_1"])["rsp_1"]
        assert sagas.find(tx, "rsp_2") is None and sagas.find_step(tx, "rsp_1", "three") is None
    assert found and (found.kind, list(found.needs_approval)) == (SagaKind.USER_COMPROMISE, ["ünïcode"])
    assert [(s.name, list(s.after), s.key) for s in steps] == [("one", [], "rsp_1/one"), ("two", ["one"], "rsp_1/two")]


def test_steps_are_claimed_in_order_one_for_each_subject_and_after_what_they_come_after(
    store: SqlControlStore,
) -> None:
    begin(store, "rsp_1", "griffin", [("one", ()), ("one_more", ()), ("last", ("one", "one_more"))])
    begin(store, "rsp_2", "griffin", [("one", ())])
    begin(store, "rsp_3", "mona", [("one", ())])
    assert claim(store, "a") == [("rsp_1", "one"), ("rsp_3", "one")]
    assert claim(store, "b") == [], "each subject has a step under way"
    finish(store, "rsp_1", "one")
    assert claim(store, "b") == [("rsp_1", "one_more")]
    finish(store, "rsp_1", "one_more")
    assert claim(store, "b") == [("rsp_1", "last")]
    finish(store, "rsp_1", "last")
    assert claim(store, "b") == [("rsp_2", "one")]


def test_a_claim_that_ran_out_is_taken_by_another_and_no_longer_holds(store: SqlControlStore) -> None:
    begin(store, "rsp_1", "griffin", [("one", ())])
    assert claim(store, "gone", seconds=-1) == [("rsp_1", "one")]
    with store.read() as tx:
        before = sagas.find_step(tx, "rsp_1", "one")
        assert before and not sagas.is_held(tx, before)
        assert sagas.has_due(tx)
    assert claim(store, "next") == [("rsp_1", "one")]
    with store.read() as tx:
        after = sagas.find_step(tx, "rsp_1", "one")
        assert after and after.attempts == 2 and sagas.is_held(tx, after) and not sagas.is_held(tx, before)
        assert not sagas.has_due(tx)


def test_a_response_has_the_status_that_its_steps_have(store: SqlControlStore) -> None:
    begin(store, "rsp_1", "griffin", [("one", ()), ("two", ())])
    finish(store, "rsp_1", "one")
    with store.tx(audited=False) as tx:
        assert sagas.settle(tx, "rsp_1").status is SagaStatus.RUNNING
        two = sagas.find_step(tx, "rsp_1", "two")
        assert two
        sagas.change_step(tx, two, state=StepState.FAILED)
        assert sagas.settle(tx, "rsp_1").status is SagaStatus.FAILED
        sagas.change_step(tx, two, state=StepState.SKIPPED)
        ended = sagas.settle(tx, "rsp_1")
        assert ended.status is SagaStatus.DONE and ended.finished_at == tx.now
        assert [s.id for s in sagas.list_sagas(tx, incident_id="inc_1")] == ["rsp_1"]
        assert sagas.list_sagas(tx, statuses=[SagaStatus.RUNNING]) == []


def test_playbooks_and_their_runs_come_back_as_they_were_stored(store: SqlControlStore) -> None:
    with store.tx("test") as tx:
        stored = StoredPlaybook("mine", {"id": "mine"}, True, "required", tx.now, tx.now, "sam")
        playbooks.save_playbook(tx, stored)
        switched = StoredPlaybook("shipped", None, False, "required", tx.now, tx.now, "sam")
        playbooks.save_playbook(tx, switched)
        run = Run("pbr_1", "mine", "inc_1", "proposed", (Item("act", "griffin", "proposed", ("x",)),), tx.now, tx.now)
        playbooks.add_run(tx, run)
        tx.audit("playbook:run", "playbook/mine", {})
    with store.read() as tx:
        assert playbooks.list_playbooks(tx) == [stored, switched]
        assert playbooks.find_run(tx, "pbr_1") == playbooks.find_run_of(tx, "mine", "inc_1") == run
        assert playbooks.list_runs(tx, statuses=["done"]) == []
    with store.tx("test") as tx:
        assert playbooks.delete_playbook(tx, "mine") and not playbooks.delete_playbook(tx, "mine")
        tx.audit("playbook:delete", "playbook/mine", {})
