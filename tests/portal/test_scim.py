"""Provisioning by SCIM: what identity providers really send, what they may not do, and what ends with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.house import ORIGIN, House
from portal.scim import BARBARA, CORE, ENTERPRISE, ERROR, GROUP, ISSUER, JSON, Provider, provider
from watchfloor.identity import sessions
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role


@pytest.fixture
def entra(house: House) -> Provider:
    return provider(house)


@pytest.mark.claim("scim-users")
def test_a_user_that_is_told_of_is_a_user_here_and_read_back_as_told(entra: Provider) -> None:
    made = entra.make()
    assert made.status_code == 201
    assert made.headers["content-type"].startswith("application/scim+json")
    found = made.json()
    assert made.headers["location"] == found["meta"]["location"] == f"{ORIGIN}/scim/v2/Users/{found['id']}"
    assert {n: found[n] for n in ("userName", "externalId", "name", "displayName", "title", "emails", "active")} == {
        n: BARBARA[n] for n in ("userName", "externalId", "name", "displayName", "title", "emails", "active")
    }
    assert found[ENTERPRISE]["manager"]["displayName"] == "Mona Reyes"
    assert "phoneNumbers" not in found
    user = entra.user(found["id"])
    assert (user.issuer, user.subject, user.upn) == (ISSUER, "701984", "bjensen@zava.example")
    assert (user.name, user.job_title, user.department) == ("Babs Jensen", "Tour Guide", "Tour Operations")
    assert (user.manager, user.is_enabled) == ("mona", True)
    assert entra.send("GET", f"/Users/{found['id']}").json() == found
    facts = entra.house.projected(Kind.USER, found["id"])
    assert facts is not None
    audit = entra.house.client(Role.AUDITOR).get("/api/audit", params={"limit": 3}).json()["items"]
    assert ("scim:entra", "user:provision") in {(e["actor"], e["action"]) for e in audit}


@pytest.mark.asvs("7.4.2")
@pytest.mark.claim("scim-deprovision")
@pytest.mark.parametrize(
    "off",
    [
        pytest.param({"op": "replace", "path": "active", "value": False}, id="RFC 7644"),
        pytest.param({"op": "Replace", "path": "active", "value": "False"}, id="as Entra sends it"),
        pytest.param({"op": "replace", "value": {"active": False}}, id="without a path, as Okta does"),
        pytest.param({"op": "Add", "path": f"{CORE}:active", "value": False}, id="by its whole name"),
    ],
)
def test_switching_a_user_off_ends_every_session_at_once(entra: Provider, off: dict[str, Any]) -> None:
    before = entra.user("griffin")
    answer = entra.patch("griffin", off)
    assert answer.status_code == 200, answer.text
    assert answer.json()["active"] is False
    after = entra.user("griffin")
    assert (after.is_enabled, after.epoch, after.not_before is not None) == (False, before.epoch + 1, True)
    facts = entra.house.projected(Kind.USER, "griffin")
    assert facts is not None
    assert facts["is_enabled"] is False
    again = entra.patch("griffin", {"op": "replace", "path": "active", "value": True})
    assert again.json()["active"] is True
    assert entra.user("griffin").epoch == after.epoch, "old sessions stay dead"


def test_deleting_disables_for_good_and_the_same_user_may_come_back(entra: Provider) -> None:
    user_id = entra.make().json()["id"]
    assert entra.send("DELETE", f"/Users/{user_id}").status_code == 204
    assert (entra.user(user_id).is_enabled, entra.user(user_id).epoch) == (False, 2)
    for method in ("GET", "DELETE"):
        gone = entra.send(method, f"/Users/{user_id}")
        assert (gone.status_code, gone.json()["schemas"]) == (404, [ERROR])
    assert entra.patch(user_id, {"op": "replace", "path": "active", "value": True}).status_code == 404
    assert entra.find('userName eq "bjensen@zava.example"') == []
    back = entra.make()
    assert (back.status_code, back.json()["id"], back.json()["active"]) == (201, user_id, True)


def test_a_provider_enables_nobody_whom_an_operator_disabled(entra: Provider) -> None:
    with entra.house.stores.control.tx("test") as tx:
        sessions.set_user_enabled(tx, "griffin", False, "under investigation")
    for body in ({"op": "replace", "path": "active", "value": True}, {"op": "replace", "path": "title", "value": "x"}):
        assert entra.patch("griffin", body).json()["active"] is False
    entra.patch("griffin", {"op": "replace", "path": "active", "value": False})
    assert entra.patch("griffin", {"op": "replace", "path": "active", "value": True}).json()["active"] is False
    assert entra.user("griffin").is_enabled is False


@pytest.mark.asvs("8.2.2", "8.4.1")
@pytest.mark.claim("scim-own-users")
def test_a_provider_sees_and_changes_users_of_its_own_issuer_only(house: House) -> None:
    manifest = {
        "apiVersion": "watchfloor/v1", "kind": "Company",
        "identityProviders": [{"issuer": i, "jwksUri": f"{i}/jwks", "audience": "w", "subjectClaim": "sub"}
                              for i in (ISSUER, "https://other.example")],
    }  # fmt: skip
    applied = house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": json.dumps(manifest)})
    assert applied.status_code == 200, applied.text
    other = provider(house, "other", "https://other.example")
    assert other.send("GET", "/Users").json()["totalResults"] == 0
    for path in ("/Users/griffin", "/Users/mona"):
        assert other.send("GET", path).status_code == 404
        assert other.send("DELETE", path).status_code == 404
        assert other.send("PUT", path, BARBARA).status_code == 404
    mine = other.make(**{ENTERPRISE: {"department": "x"}})
    assert mine.status_code == 201
    refused = other.patch(mine.json()["id"], {"op": "add", "path": f"{ENTERPRISE}:manager", "value": "griffin"})
    assert (refused.status_code, refused.json()["scimType"]) == (400, "invalidValue")
    assert house.client(Role.OWNER).get("/api/users/griffin").json()["is_enabled"] is True


def test_what_tokens_call_a_user_cannot_be_changed(entra: Provider) -> None:
    user_id = entra.make().json()["id"]
    answers = [
        entra.patch(user_id, {"op": "replace", "path": "externalId", "value": "griffin"}),
        entra.patch("griffin", {"op": "replace", "value": {"externalId": "701984"}}),
        entra.send("PUT", f"/Users/{user_id}", {**BARBARA, "externalId": "other"}),
    ]
    assert [(a.status_code, a.json()["scimType"]) for a in answers] == [(400, "mutability")] * 3
    assert entra.user(user_id).subject == "701984"
    renamed = entra.patch(user_id, {"op": "replace", "path": "userName", "value": "babs@zava.example"})
    assert renamed.status_code == 200
    assert entra.user(user_id).upn == "babs@zava.example"


def test_a_name_is_taken_once(entra: Provider) -> None:
    for changes in ({"userName": "GRIFFIN@zava.example"}, {"externalId": "griffin"}):
        answer = entra.make(**changes)
        assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness")
    user_id = entra.make().json()["id"]
    answer = entra.patch(user_id, {"op": "replace", "path": "userName", "value": "griffin@zava.example"})
    assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness")


def test_what_a_user_calls_itself_makes_no_destination_trusted(entra: Provider) -> None:
    made = entra.make(
        userName="drop@evil.example", displayName="drop@evil.example", name=None, emails=[{"value": "d@evil.example"}]
    ).json()
    user = entra.user(made["id"])
    assert (made["userName"], made["displayName"]) == ("drop@evil.example", "drop@evil.example")
    assert (user.upn, user.name) == ("", user.id)
    honest = entra.user(entra.make(userName="ann@zava.example", displayName="Ann Lee", externalId="2").json()["id"])
    assert (honest.upn, honest.name) == ("ann@zava.example", "Ann Lee")


def test_users_are_found_by_name_and_id_in_pages(entra: Provider) -> None:
    user_id = entra.make().json()["id"]
    assert entra.find('userName eq "BJensen@zava.example"') == [user_id]
    assert entra.find('externalId eq "701984"') == [user_id]
    assert entra.find('externalId eq "griffin"') == ["griffin"]
    assert entra.find(f'{CORE}:userName Eq "griffin@zava.example"') == ["griffin"]
    assert entra.find('userName eq "bjensen@zava.example" and active eq true') == [user_id]
    assert entra.find('userName eq "bjensen@zava.example" and active eq false') == []
    assert entra.find('userName eq "nobody"') == []
    assert entra.find('userName eq "x\\" or id pr"') == []
    everybody = entra.send("GET", "/Users").json()
    assert everybody["totalResults"] == 4
    pages = [entra.send("GET", "/Users", params={"startIndex": n, "count": 3}).json() for n in (1, 4)]
    assert [len(page["Resources"]) for page in pages] == [3, 1]
    assert [r["id"] for page in pages for r in page["Resources"]] == [r["id"] for r in everybody["Resources"]]
    assert entra.send("GET", "/Users", params={"count": 0}).json()["Resources"] == []
    short = entra.send("GET", f"/Users/{user_id}", params={"attributes": "userName"}).json()
    assert set(short) == {"schemas", "id", "userName"}
    assert "emails" not in entra.send("GET", f"/Users/{user_id}", params={"excludedAttributes": "emails"}).json()


@pytest.mark.parametrize(
    "text",
    ["userName", 'userName co "x"', 'password eq "x"', 'userName eq "a" or userName eq "b"', "userName eq",
     'userName eq "a" and', 'active eq "true"', "userName eq true", 'userName eq "a" and userName eq "b"',
     'userName eq "\\u0000"', 'userName eq "\\q"', "(" * 500, "x" * 3000],
)  # fmt: skip
def test_a_filter_that_is_not_offered_is_refused(entra: Provider, text: str) -> None:
    answer = entra.send("GET", "/Users", params={"filter": text})
    assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidFilter")


def test_patches_change_what_they_name(entra: Provider) -> None:
    user_id = entra.make().json()["id"]
    answer = entra.patch(
        user_id,
        {"op": "replace", "path": "title", "value": "Director"},
        {"op": "replace", "path": f"{ENTERPRISE}:department", "value": "Board"},
        {"op": "Add", "path": f"{ENTERPRISE}:manager", "value": "ada"},
        {"op": "replace", "path": 'emails[type eq "work"].value', "value": "boss@zava.example"},
        {"op": "add", "path": 'emails[type eq "other"].value', "value": "o@zava.example"},
        {"op": "remove", "path": 'emails[type eq "home"]'},
        {"op": "replace", "path": "name.familyName", "value": "Smith"},
        {"op": "replace", "value": {"displayName": "Babs Smith", "name.givenName": "Babs", "nickName": "B"}},
        {"op": "add", "path": "phoneNumbers", "value": [{"value": "1"}]},
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["title"], found["displayName"]) == ("Director", "Babs Smith")
    assert (found["name"]["familyName"], found["name"]["givenName"]) == ("Smith", "Babs")
    assert found[ENTERPRISE]["department"] == "Board"
    assert found[ENTERPRISE]["manager"]["value"] == "ada"
    assert {each["type"]: each["value"] for each in found["emails"]} == {
        "work": "boss@zava.example",
        "other": "o@zava.example",
    }
    user = entra.user(user_id)
    assert (user.name, user.job_title, user.department, user.manager) == ("Babs Smith", "Director", "Board", "ada")
    gone = entra.patch(user_id, {"op": "remove", "path": "title"}, {"op": "remove", "path": f"{ENTERPRISE}:manager"})
    assert "title" not in gone.json()
    assert (entra.user(user_id).manager, entra.user(user_id).job_title) == ("", "")
    assert entra.patch(user_id, {"op": "remove", "path": "active"}).json()["active"] is True


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ({"op": "replace", "path": "shoeSize", "value": "9"}, "invalidPath"),
        ({"op": "replace", "path": "emails[", "value": "9"}, "invalidPath"),
        ({"op": "replace", "path": "title.x", "value": "9"}, "invalidPath"),
        ({"op": "replace", "path": 'title[type eq "x"]', "value": "9"}, "invalidPath"),
        ({"op": "replace", "path": "title"}, "invalidValue"),
        ({"op": "replace", "path": "title", "value": ["x"]}, "invalidValue"),
        ({"op": "replace", "path": "active", "value": "perhaps"}, "invalidValue"),
        ({"op": "replace", "path": f"{ENTERPRISE}:manager", "value": "nobody"}, "invalidValue"),
        ({"op": "replace", "value": "x"}, "invalidValue"),
        ({"op": "remove"}, "noTarget"),
        ({"op": "replace", "path": 'emails[type eq "none"].value', "value": "x"}, "noTarget"),
        ({"op": "remove", "path": "userName"}, "invalidValue"),
        ({"op": "explode", "path": "title", "value": "x"}, "invalidSyntax"),
        ("replace", "invalidSyntax"),
    ],
)
def test_a_patch_with_one_wrong_operation_changes_nothing(entra: Provider, operation: Any, kind: str) -> None:
    before = entra.user("griffin")
    answer = entra.patch("griffin", {"op": "replace", "path": "title", "value": "Changed"}, operation)
    assert (answer.status_code, answer.json().get("scimType")) == (400, kind), answer.text
    assert entra.user("griffin") == before


@pytest.mark.parametrize(
    "changes",
    [{"userName": None}, {"externalId": None}, {"userName": 7}, {"displayName": "a\nb"}, {"emails": "x"},
     {"emails": [1]}, {"active": "x"}, {"name": [1]}, {"title": "x" * 501}, {ENTERPRISE: 1}, {"shoeSize": 9},
     {"emails": [{"value": "x"}] * 21}],
)  # fmt: skip
def test_a_user_that_cannot_be_is_refused_and_not_made(entra: Provider, changes: dict[str, Any]) -> None:
    answer = entra.make(**changes)
    assert (answer.status_code, answer.json()["schemas"]) == (400, [ERROR])
    assert entra.send("GET", "/Users").json()["totalResults"] == 3


def test_replacing_takes_away_what_is_left_out_but_enables_nobody(entra: Provider) -> None:
    user_id = entra.make(active=False).json()["id"]
    body = {"userName": "bjensen@zava.example", "externalId": "701984", "displayName": "B Jensen"}
    found = entra.send("PUT", f"/Users/{user_id}", body).json()
    assert (found["displayName"], "title" in found, found["active"]) == ("B Jensen", False, False)
    assert entra.user(user_id).department == ""
    assert entra.send("PUT", f"/Users/{user_id}", {**body, "active": True}).json()["active"] is True


def test_saying_the_same_twice_changes_nothing(entra: Provider) -> None:
    user_id = entra.make().json()["id"]
    before = entra.user(user_id)
    entra.house.clock.forward(seconds=5)
    off = {"op": "replace", "path": "title", "value": "Tour Guide"}
    assert entra.patch(user_id, off).status_code == 200
    assert entra.user(user_id) == before


@pytest.mark.asvs("9.2.2")
@pytest.mark.claim("scim-own-users")
def test_the_token_is_asked_for_everywhere_and_opens_nothing_else(entra: Provider) -> None:
    stranger = entra.house.stranger()
    owner = entra.house.token(Role.OWNER)
    paths = [p for p in entra.house.app.openapi()["paths"] if p.startswith("/scim/v2")]
    assert len(paths) >= 7
    for path in paths:
        for headers in ({}, {"authorization": f"Bearer {owner}"}, {"authorization": "Bearer wfscim_x"}):
            answer = stranger.get(
                path.replace("{user_id}", "griffin").replace("{group_id}", "g").replace("{urn}", CORE), headers=headers
            )
            assert (answer.status_code, answer.json()["status"]) == (401, "401")
    assert stranger.get("/api/me", headers={"authorization": f"Bearer {entra.token}"}).status_code == 401
    old = entra.token
    entra.token = entra.house.client(Role.OWNER).post("/api/scim/providers/entra/token").json()["token"]
    assert entra.send("GET", "/Users").status_code == 200
    assert Provider(entra.house, old).send("GET", "/Users").status_code == 401
    assert entra.house.client(Role.OWNER).delete("/api/scim/providers/entra").status_code == 204
    assert entra.send("GET", "/Users").status_code == 401


def test_a_provider_whose_tokens_name_users_by_user_name(house: House) -> None:
    okta = provider(house, subject="userName")
    assert okta.find('userName eq "griffin"') == ["griffin"]
    made = okta.make(externalId=None, userName="ann@zava.example")
    assert made.status_code == 201
    assert okta.user(made.json()["id"]).subject == "ann@zava.example"
    refused = okta.patch(made.json()["id"], {"op": "replace", "path": "userName", "value": "griffin"})
    assert refused.json()["scimType"] == "mutability"


@pytest.mark.parametrize(
    ("change", "status"),
    [({"issuer": "https://unknown.example"}, 422), ({"id": "Not A Name"}, 422), ({"subject": "email"}, 422),
     ({"id": "entra"}, 409), ({"id": "second"}, 409)],
)  # fmt: skip
def test_a_provider_that_cannot_be_is_refused(entra: Provider, change: dict[str, str], status: int) -> None:
    body = {"id": "new", "issuer": ISSUER, **change}
    assert entra.house.client(Role.OWNER).post("/api/scim/providers", json=body).status_code == status


def test_the_service_says_what_it_can_do(entra: Provider) -> None:
    config = entra.send("GET", "/ServiceProviderConfig").json()
    assert (config["patch"]["supported"], config["bulk"]["supported"]) == (True, False)
    types = entra.send("GET", "/ResourceTypes").json()["Resources"]
    assert [(t["id"], t["endpoint"], t["schema"]) for t in types] == [
        ("User", "/Users", CORE),
        ("Group", "/Groups", GROUP),
    ]
    assert [entra.send("GET", f"/ResourceTypes/{t['id']}").json() for t in types] == types
    schemas = entra.send("GET", "/Schemas").json()["Resources"]
    assert [s["id"] for s in schemas] == [CORE, ENTERPRISE, GROUP]
    assert entra.send("GET", f"/Schemas/{ENTERPRISE}").json() == schemas[1]
    assert entra.send("GET", "/Schemas/none").status_code == 404
    assert entra.send("POST", "/Users").status_code == 400


OPERATION = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "replace", "remove"]), "value": JSON},
    optional={
        "path": st.sampled_from(
            ["emails", 'emails[type eq "work"].value', "emails[primary eq true]", "name", "name.givenName", "active",
             f"{ENTERPRISE}:manager", f"{ENTERPRISE}:manager.value", CORE, "meta.x", 'x[y eq "z"].w']
        )
        | st.text(max_size=20)
    },
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=JSON, operations=st.lists(OPERATION, max_size=3))
def test_whatever_is_sent_the_answer_is_none_of_a_server_that_failed(
    entra: Provider, body: Any, operations: list[Any]
) -> None:
    for answer in (
        entra.send("POST", "/Users", body),
        entra.send("PUT", "/Users/mona", body),
        entra.send("PATCH", "/Users/mona", body),
        entra.patch("mona", *operations),
    ):
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.json()["schemas"] == [ERROR]
