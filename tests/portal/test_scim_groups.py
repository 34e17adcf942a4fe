"""Groups by SCIM: who is in one has its name here, policies and people see it at once, and nothing leaks over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.house import ORIGIN, House
from portal.scim import ERROR, GROUP, ISSUER, JSON, Provider, provider
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role


@pytest.fixture
def entra(house: House) -> Provider:
    return provider(house)


def members(answer: Any) -> list[str]:
    return [each["value"] for each in answer.json().get("members", [])]


@pytest.mark.claim("scim-groups")
def test_a_group_that_is_told_of_is_read_back_and_its_members_are_in_it_for_the_guard(entra: Provider) -> None:
    made = entra.group("Finance", "griffin", "mona", externalId="f-1")
    assert made.status_code == 201, made.text
    found = made.json()
    assert made.headers["location"] == found["meta"]["location"] == f"{ORIGIN}/scim/v2/Groups/{found['id']}"
    assert (found["schemas"], found["displayName"], found["externalId"]) == ([GROUP], "Finance", "f-1")
    assert found["members"][0] == {"value": "griffin", "$ref": f"{ORIGIN}/scim/v2/Users/griffin", "type": "User"}
    assert entra.send("GET", f"/Groups/{found['id']}").json() == found
    for user_id, groups in (("griffin", ["Finance"]), ("mona", ["Finance"]), ("ada", [])):
        facts = entra.house.projected(Kind.USER, user_id)
        assert facts is not None
        assert list(facts.get("groups", ())) == groups
    (shown,) = entra.send("GET", "/Users/griffin").json()["groups"]
    assert (shown["value"], shown["display"]) == (found["id"], "Finance")
    audit = entra.house.client(Role.AUDITOR).get("/api/audit", params={"limit": 5}).json()["items"]
    assert {("scim:entra", "group:create"), ("scim:entra", "user:provision")} <= {
        (e["actor"], e["action"]) for e in audit
    }


@pytest.mark.claim("scim-groups")
def test_conditional_access_fits_whom_a_provider_puts_in_a_group_and_nobody_else(entra: Provider) -> None:
    policy = {
        "id": "no-finance", "displayName": "No mail for finance", "state": "enabled",
        "conditions": {"users": {"includeGroups": ["Finance"]}, "resources": {"servers": ["mail"]}},
        "grantControls": {"operator": "OR", "builtInControls": ["block"]},
    }  # fmt: skip

    def control(user: str) -> str:
        asked = {"user": user, "agent": "billing", "server": "mail", "tool": "send_email", "policies": [policy]}
        answer = entra.house.client(Role.SOC_ANALYST).post("/api/access/evaluate", json=asked)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["control"])

    group_id = entra.group("Finance", "griffin").json()["id"]
    assert (control("griffin"), control("mona")) == ("block", "grant")
    entra.regroup(group_id, {"op": "remove", "path": 'members[value eq "griffin"]'})
    assert control("griffin") == "grant"


@pytest.mark.parametrize(
    ("operations", "left"),
    [
        ([{"op": "Add", "path": "members", "value": [{"value": "ada"}]}], {"ada", "griffin", "mona"}),
        ([{"op": "Remove", "path": "members", "value": [{"value": "mona"}]}], {"griffin"}),
        ([{"op": "remove", "path": 'members[value eq "mona"]'}], {"griffin"}),
        ([{"op": "remove", "path": "members"}], set()),
        ([{"op": "replace", "path": "members", "value": [{"value": "ada", "display": "Ada"}]}], {"ada"}),
        ([{"op": "replace", "value": {"id": "x", "displayName": "Money", "members": []}}], set()),
        ([{"op": "add", "value": {"members": [{"value": "ada"}]}}], {"ada", "griffin", "mona"}),
        ([{"op": "replace", "path": f"{GROUP}:displayName", "value": "Money"}], {"griffin", "mona"}),
        ([{"op": "remove", "path": "members"}, {"op": "add", "path": "members", "value": {"value": "ada"}}], {"ada"}),
        ([{"op": "remove", "path": 'members[value eq "ada"]'}], {"griffin", "mona"}),
    ],
)
def test_patches_change_who_is_in_a_group_and_what_it_is_called(
    entra: Provider, operations: list[Any], left: set[str]
) -> None:
    group_id = entra.group("Finance", "griffin", "mona").json()["id"]
    answer = entra.regroup(group_id, *operations)
    assert answer.status_code == 200, answer.text
    assert set(members(answer)) == left
    name = answer.json()["displayName"]
    for user_id in ("griffin", "mona", "ada"):
        assert entra.user(user_id).groups == ((name,) if user_id in left else ())


def test_what_was_said_of_groups_elsewhere_stays_and_a_manifest_takes_nobody_out(entra: Provider) -> None:
    company = {
        "apiVersion": "watchfloor/v1", "kind": "Company",
        "users": [{"id": "griffin", "name": "Griffin Vale", "upn": "griffin@zava.example", "groups": ["billing"]}],
    }  # fmt: skip

    def apply() -> None:
        body = {"manifest": json.dumps(company)}
        answer = entra.house.client(Role.OWNER).post("/api/manifests/apply", json=body)
        assert answer.status_code == 200, answer.text

    apply()
    group_id = entra.group("Finance", "griffin").json()["id"]
    assert entra.user("griffin").groups == ("Finance", "billing")
    apply()
    assert set(entra.user("griffin").groups) == {"Finance", "billing"}
    assert entra.send("DELETE", f"/Groups/{group_id}").status_code == 204
    assert entra.user("griffin").groups == ("billing",)
    entra.patch("griffin", {"op": "replace", "path": "active", "value": False})
    apply()
    assert entra.user("griffin").is_enabled is False, "a manifest enables nobody whom the provider switched off"


def test_who_is_deleted_is_in_no_group_any_more(entra: Provider) -> None:
    user_id = entra.make().json()["id"]
    group_id = entra.group("Finance", user_id, "mona").json()["id"]
    assert entra.send("DELETE", f"/Users/{user_id}").status_code == 204
    assert members(entra.send("GET", f"/Groups/{group_id}")) == ["mona"]
    assert entra.make().json().get("groups") is None
    assert entra.user(user_id).groups == ()


def test_groups_are_found_by_name_id_and_member_in_pages(entra: Provider) -> None:
    ids = {
        name: entra.group(name, *who).json()["id"] for name, who in (("A", ["mona"]), ("B", ["mona", "ada"]), ("C", []))
    }
    assert entra.find('displayName eq "b"', "Groups") == [ids["B"]]
    assert entra.find(f'id eq "{ids["A"]}" and members.value eq "mona"', "Groups") == [ids["A"]]
    assert entra.find(f'id eq "{ids["A"]}" and members eq "ada"', "Groups") == []
    assert entra.find('externalId eq "x"', "Groups") == []
    whole = entra.send("GET", "/Groups").json()
    assert whole["totalResults"] == 3
    pages = [entra.send("GET", "/Groups", params={"startIndex": n, "count": 2}).json() for n in (1, 3)]
    assert [r["id"] for page in pages for r in page["Resources"]] == [r["id"] for r in whole["Resources"]]
    short = entra.send("GET", "/Groups", params={"excludedAttributes": "members"}).json()
    assert not [each for each in short["Resources"] if "members" in each]
    (named,) = entra.send(
        "GET", "/Groups", params={"attributes": "displayName", "filter": 'displayName eq "A"'}
    ).json()["Resources"]
    assert set(named) == {"schemas", "id", "displayName"}
    refused = entra.send("GET", "/Groups", params={"filter": 'userName eq "mona"'})
    assert (refused.status_code, refused.json()["scimType"]) == (400, "invalidFilter")


@pytest.mark.claim("scim-own-users")
def test_a_provider_sees_and_fills_groups_of_its_own_issuer_only(entra: Provider) -> None:
    others = "https://other.example"
    company = {
        "apiVersion": "watchfloor/v1", "kind": "Company",
        "identityProviders": [{"issuer": i, "jwksUri": f"{i}/jwks", "audience": "w", "subjectClaim": "sub"}
                              for i in (ISSUER, others)],
    }  # fmt: skip
    applied = entra.house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": json.dumps(company)})
    assert applied.status_code == 200, applied.text
    other = provider(entra.house, "other", others)
    group_id = entra.group("Finance", "griffin").json()["id"]
    assert other.send("GET", "/Groups").json()["totalResults"] == 0
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"displayName": "Finance"})):
        assert other.send(method, f"/Groups/{group_id}", body).status_code == 404
    assert other.regroup(group_id, {"op": "remove", "path": "members"}).status_code == 404
    stolen = other.group("Finance", "griffin")
    assert (stolen.status_code, stolen.json()["scimType"]) == (400, "invalidValue")
    assert other.group("Finance").status_code == 201, "each issuer has names of its own"
    assert entra.user("griffin").groups == ("Finance",)


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"displayName": None}, 400, "invalidValue"),
        ({"displayName": "x" * 201}, 400, "invalidValue"),
        ({"displayName": "a\nb"}, 400, "invalidValue"),
        ({"displayName": "BreakGlass"}, 400, "invalidValue"),
        ({"displayName": "finance"}, 409, "uniqueness"),
        ({"members": [{"value": "nobody"}]}, 400, "invalidValue"),
        ({"members": ["griffin"]}, 400, "invalidValue"),
        ({"members": [{"value": "g", "type": "Group"}]}, 400, "invalidValue"),
        ({"shoeSize": 9}, 400, "invalidPath"),
    ],
)
def test_a_group_that_cannot_be_is_refused_and_not_made(
    entra: Provider, change: dict[str, Any], status: int, kind: str
) -> None:
    assert entra.group("Finance").status_code == 201
    answer = entra.send("POST", "/Groups", {"displayName": "New", **change})
    assert (answer.status_code, answer.json().get("scimType")) == (status, kind), answer.text
    assert entra.send("GET", "/Groups").json()["totalResults"] == 1


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "displayName", "value": "breakglass"},
        {"op": "remove", "path": "displayName"},
        {"op": "add", "path": "members", "value": [{"value": "nobody"}]},
        {"op": "add", "path": "members"},
        {"op": "replace", "path": 'members[value eq "mona"]', "value": {"value": "ada"}},
        {"op": "replace", "path": "members.value", "value": "ada"},
        {"op": "remove", "path": 'members[type eq "User"]'},
        {"op": "remove"},
    ],
)
def test_a_patch_with_one_wrong_operation_changes_nothing(entra: Provider, operation: dict[str, Any]) -> None:
    made = entra.group("Finance", "griffin").json()
    answer = entra.regroup(made["id"], {"op": "add", "path": "members", "value": [{"value": "mona"}]}, operation)
    assert (answer.status_code, answer.json()["schemas"]) == (400, [ERROR])
    assert entra.send("GET", f"/Groups/{made['id']}").json() == made
    assert entra.user("mona").groups == ()


def test_saying_the_same_twice_changes_nothing(entra: Provider) -> None:
    made = entra.group("Finance", "griffin").json()
    before = entra.user("griffin")
    entra.house.clock.forward(seconds=5)
    again = entra.send("PUT", f"/Groups/{made['id']}", {"displayName": "Finance", "members": [{"value": "griffin"}]})
    assert again.json() == made
    assert entra.user("griffin") == before


def test_a_thousand_members_are_told_of_at_once(entra: Provider) -> None:
    from watchfloor.storage import people
    from watchfloor.storage.people import User

    ids = [f"u{n:04}" for n in range(1000)]
    with entra.house.stores.control.tx("test") as tx:
        for user_id in ids:
            people.save_user(tx, User(id=user_id, issuer=ISSUER, subject=user_id, updated_at=tx.now))
    made = entra.group("All", *ids)
    assert made.status_code == 201, made.text
    assert len(members(made)) == 1000


OPERATION = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "replace", "remove"]), "value": JSON},
    optional={
        "path": st.sampled_from(
            ["members", 'members[value eq "mona"]', "members[value eq true]", "displayName", "externalId", GROUP, "x[y"]
        )
        | st.text(max_size=20)
    },
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=JSON, operations=st.lists(OPERATION, max_size=3))
def test_whatever_is_sent_the_answer_is_none_of_a_server_that_failed(
    entra: Provider, body: Any, operations: list[Any]
) -> None:
    group_id = (entra.find('displayName eq "Fuzz"', "Groups") or [entra.group("Fuzz").json().get("id", "gone")])[0]
    for answer in (
        entra.send("POST", "/Groups", body),
        entra.send("PUT", f"/Groups/{group_id}", body),
        entra.regroup(group_id, *operations),
    ):
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.json()["schemas"] == [ERROR]
