"""Telemetry sources through the API: made by who may, shown without their tokens, in the audit log."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from portal.house import House
from watchfloor.gateway.telemetry.sources import SourceRefused, Sources
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.projection import ProjectionReader

NEW = {"id": "crm", "name": "CRM collector", "agents": ["billing", "hr"], "events_per_second": 50}


def receiver(house: House) -> Sources:
    """A receiver on the same host."""
    house.stores.epoch.beat()
    return Sources(
        open_reader=lambda: ProjectionReader.open(f"sqlite:///{house.stores.control.label}"),
        open_epoch=lambda: EpochFile.open(house.stores.epoch.path),
        lease_seconds=60.0,
    )


def test_a_new_source_has_a_token_that_the_receivers_take_and_nobody_can_read_again(house: House) -> None:
    owner = house.client(Role.OWNER)
    answer = owner.post("/api/sources", json=NEW)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["token"].startswith("wfsrc_") and len(made["token"]) == 49
    assert {k: made[k] for k in NEW} == NEW
    assert (made["is_enabled"], made["updated_by"]) == (True, "op-owner")
    source = receiver(house).authenticate(made["token"])
    assert (source.id, source.may_speak_for("hr"), source.may_speak_for("payroll")) == ("crm", True, False)
    hashed = hashlib.sha256(made["token"].encode()).hexdigest()
    for path in ("/api/sources", "/api/sources/crm", "/api/audit"):
        text = owner.get(path).text
        assert made["token"] not in text and hashed not in text
    facts = house.projected(Kind.SOURCE, "crm")
    assert facts is not None and facts["token_hash"] == hashed


def test_a_new_token_ends_the_old_one_and_both_are_in_the_audit_log_without_being_shown(house: House) -> None:
    owner = house.client(Role.OWNER)
    old = owner.post("/api/sources", json=NEW).json()["token"]
    sources = receiver(house)
    assert sources.authenticate(old).id == "crm"
    new = owner.post("/api/sources/crm/token").json()["token"]
    assert sources.authenticate(new).id == "crm"
    with pytest.raises(SourceRefused):
        sources.authenticate(old)
    entry = owner.get("/api/audit", params={"subject": "source/crm"}).json()["items"][0]
    assert (entry["action"], entry["actor"], entry["detail"]) == (
        "source:update", "op-owner", {"before": {"token_hash": "(secret)"}, "after": {"token_hash": "(secret)"}},
    )  # fmt: skip


def test_a_change_names_what_differs_and_leaves_the_rest(house: House) -> None:
    owner = house.client(Role.OWNER)
    token = owner.post("/api/sources", json=NEW).json()["token"]
    changed = owner.patch("/api/sources/crm", json={"events_per_second": 75, "agents": ["*"]}).json()
    assert (changed["events_per_second"], changed["agents"], changed["name"]) == (75, ["*"], "CRM collector")
    assert "token" not in changed
    assert receiver(house).authenticate(token).events_per_second == 75
    entry = owner.get("/api/audit", params={"subject": "source/crm"}).json()["items"][0]
    assert entry["detail"]["after"] == {"agents": ["*"], "events_per_second": 75}


def test_a_disabled_and_a_deleted_source_are_refused_at_once(house: House) -> None:
    owner = house.client(Role.OWNER)
    token, other = (owner.post("/api/sources", json={**NEW, "id": i}).json()["token"] for i in ("crm", "other"))
    sources = receiver(house)
    assert {sources.authenticate(t).id for t in (token, other)} == {"crm", "other"}
    assert owner.patch("/api/sources/crm", json={"is_enabled": False}).json()["is_enabled"] is False
    assert owner.delete("/api/sources/other").status_code == 204
    for refused in (token, other):
        with pytest.raises(SourceRefused):
            sources.authenticate(refused)
    assert [s["id"] for s in owner.get("/api/sources").json()["items"]] == ["crm"]
    assert owner.delete("/api/sources/other").status_code == 404


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"id": "No Name"}, "id"),
        ({"id": "x" * 65}, "body.id"),
        ({"agents": []}, "body.agents"),
        ({"agents": ["*", "billing"]}, "agents"),
        ({"agents": ["bill\u0000ing"]}, "agents"),
        ({"agents": [""]}, "agents"),
        ({"events_per_second": 0}, "body.events_per_second"),
        ({"events_per_second": 10**9}, "body.events_per_second"),
        ({"name": "a\u0007b"}, "name"),
        ({"token": "wfsrc_mine"}, "body.token"),
    ],
)
def test_what_is_no_source_is_refused_with_its_place(house: House, body: dict[str, Any], where: str) -> None:
    answer = house.client(Role.OWNER).post("/api/sources", json={**NEW, **body})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert where.split(".")[-1] in answer.json()["where"]
    assert house.client(Role.OWNER).get("/api/sources").json()["items"] == []


def test_whom_it_may_speak_for_must_be_said(house: House) -> None:
    answer = house.client(Role.OWNER).post("/api/sources", json={"id": "crm"})
    assert (answer.status_code, "agents" in answer.json()["where"]) == (422, True)


def test_what_is_there_already_what_is_not_there_and_nothing_to_change_are_told_apart(house: House) -> None:
    owner = house.client(Role.OWNER)
    assert owner.post("/api/sources", json=NEW).status_code == 201
    assert owner.post("/api/sources", json=NEW).status_code == 409
    assert owner.patch("/api/sources/crm", json={}).status_code == 422
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/token")):
        assert owner.request(method, f"/api/sources/nobody{path}").status_code == 404
    assert owner.patch("/api/sources/nobody", json={"name": "x"}).status_code == 404


WRITERS = {Role.OWNER, Role.IT_ADMIN, Role.SECURITY_ADMIN}
READERS = {*WRITERS, Role.SOC_ANALYST, Role.SOC_OPERATOR, Role.AUDITOR}


@pytest.mark.parametrize("role", list(Role))
def test_who_may_not_add_sources_gets_no_token_and_who_may_not_see_them_no_list(house: House, role: Role) -> None:
    client = house.client(role)
    assert (client.get("/api/sources").status_code == 200) is (role in READERS)
    assert (client.post("/api/sources", json=NEW).status_code == 201) is (role in WRITERS)
    house.client(Role.OWNER).post("/api/sources", json=NEW)
    assert (client.post("/api/sources/crm/token").status_code == 200) is (role in WRITERS)
    assert (client.delete("/api/sources/crm").status_code == 204) is (role in WRITERS)
