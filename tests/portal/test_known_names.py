"""Known names: lists that the guard trusts, by API and by manifest, and who may change them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from portal.house import COMPANY, House
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role


def _put(house: House, names: list[str], role: Role = Role.OWNER) -> Any:
    return house.client(role).put("/api/known-names/partners", json={"names": names})


def test_a_list_reaches_the_gateways_as_it_is_put_and_leaves_them_as_it_is_removed(house: House) -> None:
    answer = _put(house, ["  orders@supplier.example", "#billing", "#billing"])
    assert answer.json() == {"id": "partners", "names": ["#billing", "orders@supplier.example"]}
    assert house.projected(Kind.DIRECTORY, "partners") == {"names": ["#billing", "orders@supplier.example"]}
    client = house.client(Role.OWNER)
    assert client.get("/api/known-names").json()["items"] == [answer.json()]
    assert _put(house, ["#billing"]).json()["names"] == ["#billing"]
    assert client.delete("/api/known-names/partners").status_code == 204
    assert client.delete("/api/known-names/partners").status_code == 204
    assert house.projected(Kind.DIRECTORY, "partners") is None
    assert client.get("/api/known-names/partners").status_code == 404


def test_each_change_is_in_the_audit_log_and_none_leaves_no_entry(house: House) -> None:
    for names in (["a@supplier.example"], ["a@supplier.example"], ["b@supplier.example"]):
        _put(house, names)
    found = house.client(Role.OWNER).get("/api/audit", params={"action": "known-names:update"}).json()["items"]
    assert [(entry["detail"]["added"], entry["detail"]["removed"]) for entry in found] == [
        (["b@supplier.example"], ["a@supplier.example"]),
        (["a@supplier.example"], []),
    ]


@pytest.mark.parametrize("role", [Role.IT_ADMIN, Role.SOC_ANALYST, Role.SOC_OPERATOR, Role.AUDITOR])
def test_who_may_not_change_policies_may_not_loosen_them_by_a_name(house: House, role: Role) -> None:
    assert _put(house, ["drop@evil.example"], role).status_code == 403
    declared = {**COMPANY, "knownNames": [{"id": "partners", "names": ["drop@evil.example"]}]}
    applied = house.client(role).post("/api/manifests/apply", json={"manifest": yaml.safe_dump(declared)})
    assert applied.status_code == 403
    assert house.projected(Kind.DIRECTORY, "partners") is None


@pytest.mark.parametrize("names", [["\u202eevil"], ["x" * 321], [""], ["a\nb\x00"]])
def test_what_is_no_name_is_refused_and_nothing_changes(house: House, names: list[str]) -> None:
    _put(house, ["a@supplier.example"])
    answer = _put(house, names)
    assert (answer.status_code, answer.json()["where"]) == (422, "names")
    assert house.projected(Kind.DIRECTORY, "partners") == {"names": ["a@supplier.example"]}


def test_a_manifest_declares_lists_and_applying_it_again_changes_nothing(house: House) -> None:
    client = house.client(Role.OWNER)
    declared = {**COMPANY, "knownNames": [{"id": "partners", "names": ["b@supplier.example", "a@supplier.example"]}]}

    def apply() -> Any:
        return client.post("/api/manifests/apply", json={"manifest": yaml.safe_dump(declared)}).json()

    apply()
    assert house.projected(Kind.DIRECTORY, "partners") == {"names": ["a@supplier.example", "b@supplier.example"]}
    plan = client.post("/api/manifests/plan", json={"manifest": yaml.safe_dump(declared)}).json()
    assert not [step for step in plan["changes"] if step["kind"] == "known-names"]
    declared["knownNames"] = [{"id": "partners", "names": []}]
    apply()
    assert house.projected(Kind.DIRECTORY, "partners") is None
